"""Cells carried out: a real proxy and real connections; what the monitoring says is told from here, to the moment."""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import pytest

from stormwatch.chaos.audit import AuditJournal, read, verify
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault import Fault, FaultNotReverted, FaultSpec
from stormwatch.chaos.feed import Feed
from stormwatch.chaos.matrix import Control, Outcome
from stormwatch.chaos.matrix_cell import Cell, State
from stormwatch.chaos.matrix_run import Chamber, run_matrix
from stormwatch.chaos.proxy_fault import ProxyFault
from stormwatch.chaos.route import Route
from stormwatch.chaos.undo import UndoJournal
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.result import Outcome as RunOutcome
from stormwatch.probes.result import Reason, Result
from stormwatch.slo.alert import Alert, AlertState, Transition
from tests.chaos.cells import cell as made
from tests.chaos.cells import labels
from tests.servers.proxied import Proxied, proxied
from tests.servers.upstream import keeping_alive

CLOCK = SystemClock()
SHORT = 1.5
"""Seconds that a cell is given that is not to be told of; the others end when they are."""


def cell(route: str = "shop", *, kind: str = "tcp-blackhole", probes: tuple[str, ...] = (), **more: Any) -> Cell:
    """What depends on a route is a probe of its name."""
    return made(kind, route, probes=probes or (route,), **{"limit": 30.0, "recovers": 20.0, **more})


@dataclass
class Told:
    """The monitoring as the matrix knows it, and what became of its cells."""

    feed: Feed
    proxy: Proxied
    chamber: Chamber
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    controls: list[Control] = field(default_factory=list[Control])
    news: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    reactions: dict[tuple[str, str], Callable[[], None]] = field(
        default_factory=dict[tuple[str, str], Callable[[], None]]
    )
    """What happens when a cell gets somewhere: `("shop/tcp-reset", "injected")`."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    def run_of(self, probe: str, *, down: bool = False, started: float | None = None) -> None:
        """A run of a probe was decided."""
        now = CLOCK.now()
        self.feed(
            Result(
                probe=probe,
                kind="test",
                target="x",
                location="here",
                started=now if started is None else started,
                seconds=0.0 if started is None else now - started,
                outcome=RunOutcome.DOWN if down else RunOutcome.UP,
                reason=Reason.TIMEOUT if down else Reason.NONE,
            )
        )

    def down(self, probe: str, *, started: float | None = None) -> None:
        """A probe is down, and its alert fires."""
        self.run_of(probe, down=True, started=started)
        self.alert(probe, AlertState.FIRING)

    def up(self, probe: str) -> None:
        """It is well again."""
        self.run_of(probe)
        self.alert(probe, AlertState.RESOLVED)

    def alert(self, probe: str, after: AlertState) -> None:
        now = CLOCK.now()
        self.feed.transition(
            Transition(
                alert=Alert(labels=labels(probe)),
                before=AlertState.INACTIVE,
                after=after,
                at=now,
                since=now,
                value=1.0,
                probe=probe,
            )
        )

    def noticed(self, *cells: Cell) -> None:
        """The alert of each cell's first probe fires while it is broken, and resolves afterwards."""
        for one in cells:
            probe = one.probes[0]
            self.reactions[one.name, "injected"] = lambda probe=probe: self.down(probe)
            self.reactions[one.name, "reverted"] = lambda probe=probe: self.up(probe)

    async def run(self, *cells: Cell, **more: Any) -> None:
        """All of them."""

        async def take(outcome: Outcome) -> None:
            self.outcomes[outcome.cell.name] = outcome

        async def take_control(control: Control) -> None:
            self.controls.append(control)

        def hear(name: str, line: str) -> None:
            self.news.append((name, line))
            if line == "injected":
                task = asyncio.create_task(self._visit(name.partition("/")[0]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if react := self.reactions.get((name, line)):
                react()

        asked = {"take": take, "take_control": take_control, "controls_every": 0, "news": hear, **more}
        await run_matrix(cells, self.chamber, **asked)

    async def _visit(self, route: str) -> None:
        with contextlib.suppress(OSError, KeyError):
            _, writer = await self.proxy.open(route)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")

    def state(self, one: Cell) -> State:
        return self.outcomes[one.name].state

    async def left(self) -> list[Any]:
        """Faults that are in place."""
        routes = (await self.proxy.api.get("/routes")).json()
        return [fault for route in routes for fault in route["faults"]]


@contextlib.asynccontextmanager
async def told(tmp_path: Path, *routes: str) -> AsyncGenerator[Told]:
    """All is well to begin with."""
    feed = Feed()
    async with keeping_alive() as upstream:
        names = routes or ("shop",)
        opened = [Route(name=name, listen="127.0.0.1:0", upstream=upstream.address) for name in names]
        async with proxied(*opened) as proxy:
            undo = UndoJournal(tmp_path / "undo")

            def fault_of(one: Cell) -> Fault:
                return ProxyFault(one.fault, control=proxy.control, journal=undo, lease=5.0, patience=10.0)

            chamber = Chamber(feed=feed, clock=CLOCK, fault_of=fault_of, patience=5.0)
            here = Told(feed, proxy, chamber)
            for name in names:
                here.run_of(name)
            yield here
            assert await here.left() == []
            assert undo.pending() == []


async def test_a_cell_that_is_told_of_is_killed_and_audited(tmp_path: Path) -> None:
    """It ends soon after the alert; injection and undo are in the journal, with what the fault touched."""
    async with told(tmp_path) as here:
        here.chamber.journal = AuditJournal(tmp_path / "audit.jsonl", clock=CLOCK, actor="tester")
        here.noticed(one := cell())
        await here.run(one)

    seen = here.outcomes[one.name].sight
    assert here.state(one) is State.KILLED
    assert seen.held is not None
    assert seen.recovered is not None
    assert [red.probe for red in seen.reds] == ["shop"]
    assert verify(tmp_path / "audit.jsonl") == []
    lines = read(tmp_path / "audit.jsonl").entries
    assert len(lines) == 2


async def test_a_cell_that_nobody_tells_of_survives_when_its_time_is_over(tmp_path: Path) -> None:
    """Not before."""
    async with told(tmp_path) as here:
        await here.run(one := cell(limit=SHORT))

    held = here.outcomes[one.name].sight.held
    assert here.state(one) is State.SURVIVED
    assert held is not None
    assert held >= SHORT


async def test_listening_to_the_end_hears_every_alert(tmp_path: Path) -> None:
    """Also one that comes long after the first."""
    async with told(tmp_path) as here:
        here.chamber.settle = math.inf
        here.noticed(one := cell(probes=("shop", "journey"), slow=("journey",), limit=4.0))
        here.run_of("journey")
        inner = here.reactions[one.name, "injected"]

        def later() -> None:
            inner()
            asyncio.get_running_loop().call_later(2.0, here.down, "journey")

        def well() -> None:
            here.up("shop")
            here.up("journey")

        here.reactions[one.name, "injected"] = later
        here.reactions[one.name, "reverted"] = well
        await here.run(one)

    assert {dict(alarm.labels)["probe"] for alarm in here.outcomes[one.name].caught} == {"shop", "journey"}


async def test_what_an_alert_may_still_begin_to_say_is_waited_for(tmp_path: Path) -> None:
    """Of who evaluates what he reads of us later: the next cell that the probe depends on begins after that, all well or not."""
    async with told(tmp_path) as here:
        here.chamber.lag = 0.8
        one, other = cell(), cell(kind="tcp-reset")
        at: dict[tuple[str, str], float] = {}
        here.noticed(one, other)
        for key, react in list(here.reactions.items()):

            def noted(key: tuple[str, str] = key, react: Callable[[], None] = react) -> None:
                at[key] = CLOCK.now()
                react()

            here.reactions[key] = noted
        await here.run(one, other)

    assert at[other.name, "injected"] - at[one.name, "reverted"] >= 0.7
    assert (here.state(one), here.state(other)) == (State.KILLED, State.KILLED)


async def test_a_red_probe_without_an_alert_is_noticed_only(tmp_path: Path) -> None:
    """Somebody could have seen it, and nobody was told."""
    async with told(tmp_path) as here:
        one = cell(limit=SHORT)
        here.reactions[one.name, "injected"] = lambda: here.run_of("shop", down=True)
        here.reactions[one.name, "reverted"] = lambda: here.run_of("shop")
        await here.run(one)

    assert here.state(one) is State.NOTICED


async def test_nothing_is_injected_while_not_all_is_well(tmp_path: Path) -> None:
    """A probe that is down already would prove nothing."""
    async with told(tmp_path) as here:
        here.chamber.patience = 0.2
        here.run_of("shop", down=True)
        await here.run(one := cell())

    assert here.state(one) is State.INCONCLUSIVE
    assert here.outcomes[one.name].sight.trouble == "nothing was injected: shop is down: timeout: "
    assert (one.name, "injected") not in here.news


async def test_what_does_not_recover_is_said(tmp_path: Path) -> None:
    """The alert goes on firing after the fault is gone."""
    async with told(tmp_path) as here:
        one = cell(recovers=0.3, catchers=tuple(replace(each, recovers=0.2) for each in cell().catchers))
        here.reactions[one.name, "injected"] = lambda: here.down("shop")
        await here.run(one)

    assert here.state(one) is State.NOT_RESOLVED


async def test_cells_that_nobody_depends_on_both_overlap_and_know_each_others_alerts(tmp_path: Path) -> None:
    """Each is killed by its own alert, and the other's is no noise: neither is run again."""
    async with told(tmp_path, "shop", "hotel") as here:
        here.noticed(shop := cell("shop"), hotel := cell("hotel"))
        await here.run(shop, hotel)

    assert (here.state(shop), here.state(hotel)) == (State.KILLED, State.KILLED)
    assert here.outcomes[shop.name].sight.company == (hotel.name,)
    assert [line for _, line in here.news].count("injected") == 2


async def test_cells_that_somebody_depends_on_both_run_one_after_the_other(tmp_path: Path) -> None:
    """Otherwise it would not be certain of which of them his alert speaks."""
    async with told(tmp_path, "shop", "hotel") as here:
        here.noticed(shop := cell("shop"), hotel := cell("hotel", probes=("hotel", "shop")))
        await here.run(shop, hotel)

    steps = [(name, line) for name, line in here.news if line in {"injected", "reverted"}]
    assert steps == [
        (shop.name, "injected"),
        (shop.name, "reverted"),
        (hotel.name, "injected"),
        (hotel.name, "reverted"),
    ]


async def test_an_alert_of_nobody_concerned_in_company_runs_both_again_alone(tmp_path: Path) -> None:
    """Of which of the two it spoke cannot be known: alone, it is."""
    async with told(tmp_path, "shop", "hotel") as here:
        here.noticed(shop := cell("shop"), hotel := cell("hotel"))
        inner = here.reactions[hotel.name, "injected"]

        def strange() -> None:
            inner()
            here.down("somebody")
            here.up("somebody")

        here.reactions[hotel.name, "injected"] = strange
        await here.run(shop, hotel)

    assert (here.state(shop), here.state(hotel)) == (State.KILLED, State.NOISY)
    again = [name for name, line in here.news if line.startswith("is run again, alone")]
    assert hotel.name in again
    assert here.outcomes[hotel.name].sight.company == ()


async def test_an_alert_of_a_run_that_began_under_the_last_fault_proves_nothing(tmp_path: Path) -> None:
    """It is left out; the cell is run again, and then nobody tells of it."""
    async with told(tmp_path) as here:
        before = CLOCK.now()
        here.noticed(first := cell(kind="tcp-reset"))
        second = cell(limit=SHORT)

        def late() -> None:
            if here.news.count((second.name, "injected")) == 1:
                here.down("shop", started=before)

        here.reactions[second.name, "injected"] = late
        here.reactions[second.name, "reverted"] = lambda: here.up("shop")
        await here.run(first, second)

    assert here.state(first) is State.KILLED
    assert here.news.count((second.name, "injected")) == 2
    assert here.state(second) is State.SURVIVED


async def test_the_late_end_of_what_an_earlier_cell_broke_is_no_noise(tmp_path: Path) -> None:
    """Somebody who does not depend on this one tells of a run that began under the last fault."""
    async with told(tmp_path, "shop", "hotel") as here:
        before = CLOCK.now()
        here.noticed(first := cell("shop", probes=("shop", "hotel")), second := cell("hotel"))
        inner = here.reactions[second.name, "injected"]

        def late() -> None:
            here.down("shop", started=before)
            inner()

        here.reactions[second.name, "injected"] = late
        await here.run(first, second)

    assert here.state(second) is State.KILLED
    assert [alarm.stale for alarm in here.outcomes[second.name].sight.alarms] == [True, False]


async def test_who_takes_long_to_be_well_is_not_waited_for_where_others_can_tell(tmp_path: Path) -> None:
    """A journey that is still red holds up nothing."""
    async with told(tmp_path) as here:
        here.down("journey")
        here.noticed(one := cell(probes=("shop", "journey"), slow=("journey",)))
        await here.run(one)

    assert here.state(one) is State.KILLED


async def test_a_survivor_whom_a_busy_alert_might_have_told_of_runs_again_when_all_are_well(tmp_path: Path) -> None:
    """The journey fired already, and failed of this fault, too: the second time it is silent before, and tells."""
    async with told(tmp_path) as here:
        here.down("journey")
        one = cell(probes=("shop", "journey"), slow=("journey",), limit=SHORT)

        def journey() -> None:
            if here.news.count((one.name, "injected")) == 1:
                here.run_of("journey", down=True)
            else:
                here.down("journey")

        here.reactions[one.name, "injected"] = journey
        here.reactions[one.name, "reverted"] = lambda: here.up("journey")
        await here.run(one)

    assert here.news.count((one.name, "injected")) == 2
    assert here.state(one) is State.KILLED


async def test_a_control_tells_what_fires_for_nothing(tmp_path: Path) -> None:
    """Before the first cell and at the end; what tells of a run under the last fault is no false alarm."""
    async with told(tmp_path) as here:
        here.noticed(one := cell(limit=3.0))
        heard = iter([lambda: here.alert("somebody", AlertState.FIRING), lambda: None])
        here.reactions["control", "nothing is broken: what fires now is a false alarm"] = lambda: (
            asyncio.get_running_loop().call_later(0.3, next(heard)) and None
        )
        await here.run(one, controls_every=5)

    assert [[dict(alarm.labels)["probe"] for alarm in control.alarms] for control in here.controls] == [
        ["somebody"],
        [],
    ]
    assert all(control.seconds >= 1.5 for control in here.controls)


async def test_cancelling_takes_every_fault_back_first(tmp_path: Path) -> None:
    """Two are in place when it comes; none is when it is out."""
    async with told(tmp_path, "shop", "hotel") as here:
        shop, hotel = cell("shop", limit=60.0), cell("hotel", limit=60.0)
        both = asyncio.Event()
        here.reactions[hotel.name, "injected"] = both.set
        running = asyncio.create_task(here.run(shop, hotel))
        await asyncio.wait_for(both.wait(), 20)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert await here.left() == []
        assert here.outcomes == {}


class Stuck:
    """A fault that cannot be taken back."""

    def __init__(self, spec: FaultSpec) -> None:
        self.spec = spec

    async def __aenter__(self) -> Self:
        """In place at once."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """And for ever."""
        raise FaultNotReverted("it may still be in place")

    async def evidence(self) -> Evidence:
        """Of traffic."""
        return Evidence(connections=1, first=CLOCK.now(), last=CLOCK.now())


async def test_after_a_fault_that_may_be_in_place_nothing_more_is_broken(tmp_path: Path) -> None:
    """The rest is not run; it is not known what it would show."""
    async with told(tmp_path) as here:
        here.chamber.fault_of = lambda one: Stuck(one.fault)
        first, second = cell(kind="tcp-reset", limit=SHORT), cell(limit=SHORT)
        await here.run(first, second, controls_every=5)

    assert here.state(first) is State.UNSAFE
    assert second.name not in here.outcomes
