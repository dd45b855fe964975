"""Whole drills: a real proxy, real HTTP traffic, a small real prober, and the feed in between. Nothing is pretended."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.audit import AuditJournal, read, verify
from stormwatch.chaos.drill import Drill, ExpectedAlert, ExpectedProbe
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.feed import Feed
from stormwatch.chaos.guard import Guard
from stormwatch.chaos.http_options import HttpStatus
from stormwatch.chaos.proxy_fault import ProxyFault
from stormwatch.chaos.replay import replay
from stormwatch.chaos.report import Report
from stormwatch.chaos.run import OTHERS, Baseline, look_before, run_drill
from stormwatch.chaos.tcp_options import TcpBlackhole, TcpLatency, TcpReset
from stormwatch.chaos.undo import UndoJournal
from stormwatch.chaos.verdict import Verdict
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.run import run_once
from stormwatch.probes.watch import Watch
from stormwatch.slo.alert import Alert, AlertState, Severity, Transition
from tests.servers.proxied import Proxied, proxied, route_to, until
from tests.servers.upstream import keeping_alive

CLOCK = SystemClock()
PAGE = {"alertname": "ProbeDown", "probe": "checkout", "severity": "page"}
NOISE = {"alertname": "ProbeDown", "probe": "front", "severity": "page"}
EVERY = 0.1


@dataclass
class Monitoring:
    """A prober of one route and an alert rule as simple as can be: down fires after `lasting` seconds, up resolves."""

    feed: Feed
    port: int
    timeout: float = 0.5
    lasting: float = 0.0
    deaf: bool = False
    """Whether its alert never fires."""
    labels: Mapping[str, str] = None  # type: ignore[assignment]  # set below
    resolves: bool = True

    async def check(self, watch: Watch) -> None:
        """One GET over a fresh connection."""
        with watch.phase("connect"):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            with watch.phase("processing"):
                writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                head = await reader.readuntil(b"\r\n")
            if b" 200 " not in head:
                raise ProbeFailed(Reason.STATUS, f"{head.decode().strip()}, wanted 200")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def watch(self) -> None:
        """Probe for ever."""
        probe = Probe(name="checkout", kind="test", target="shop", check=self.check, timeout=self.timeout)
        since: float | None = None
        firing = False
        async with Resources() as resources:
            while True:
                result = await run_once(probe, clock=CLOCK, resources=resources)
                self.feed(result)
                now = CLOCK.now()
                if result.outcome is Outcome.DOWN:
                    if since is None:
                        since = now
                        self.tell(AlertState.PENDING, now, since)
                    if not firing and not self.deaf and now - since >= self.lasting:
                        firing = True
                        self.tell(AlertState.FIRING, now, since)
                        self.feed.notified(self.labels, CLOCK.now())
                elif since is not None:
                    if firing and self.resolves:
                        self.tell(AlertState.RESOLVED, now, since)
                        firing = False
                    since = None
                await asyncio.sleep(EVERY)

    def tell(self, after: AlertState, at: float, since: float, labels: Mapping[str, str] | None = None) -> None:
        """An alert changed its state."""
        self.feed.transition(
            Transition(
                alert=Alert(labels=labels or self.labels),
                before=AlertState.INACTIVE,
                after=after,
                at=at,
                since=since,
                value=1.0,
            )
        )


@dataclass
class World:
    """All that a drill needs."""

    proxy: Proxied
    feed: Feed
    monitoring: Monitoring
    undo: UndoJournal
    audit: AuditJournal

    async def run(self, drill: Drill, **more: Any) -> Report:
        """Run a drill on the route `shop`; what its journal says of it is what came back."""
        report = await self.run_unchecked(drill, **more)
        replayed = replay(read(self.audit.path).entries)[-1]
        assert (replayed.ended, replayed.report) == (True, report)
        return report

    async def run_unchecked(self, drill: Drill, **more: Any) -> Report:
        """The same without a look at the journal."""
        fault = ProxyFault(
            drill.fault, control=self.proxy.control, journal=self.undo, lease=3.0, drill=drill.name, patience=10.0
        )
        return await run_drill(
            drill,
            fault,
            self.feed,
            journal=self.audit,
            **{"clock": CLOCK, "settle": 0.2, "late": lambda _within: 0.5, "baseline": Baseline(patience=5), **more},
        )

    async def left(self) -> list[Any]:
        """Faults that are in place."""
        return (await self.proxy.api.get("/routes/shop")).json()["faults"]


@contextlib.asynccontextmanager
async def world(tmp_path: Path, *, watched: bool = True, **monitoring: Any) -> AsyncGenerator[World]:
    """A service behind a route, watched through it."""
    feed = Feed()
    async with keeping_alive() as upstream, proxied(route_to(upstream.port, http=True)) as proxy:
        monitor = Monitoring(feed, proxy.port(), **{"labels": PAGE, **monitoring})
        task = asyncio.create_task(monitor.watch()) if watched else None
        try:
            audit = AuditJournal(tmp_path / "audit.jsonl", clock=CLOCK, actor="tester")
            yield World(proxy, feed, monitor, UndoJournal(tmp_path / "undo"), audit)
            assert (await proxy.api.get("/routes/shop")).json()["faults"] == []
        finally:
            if task:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def drill(
    kind: str = "tcp-blackhole", options: Any = None, reason: Reason | None = Reason.TIMEOUT, **more: Any
) -> Drill:
    """The probe is red for this reason and pages, within some seconds."""
    expected: dict[str, Any] = {
        "name": "payments",
        "fault": FaultSpec(kind=kind, target="shop", options=options or TcpBlackhole()),
        "probe": ExpectedProbe(name="checkout", reason=reason, within=6),
        "alert": ExpectedAlert(labels=PAGE, within=8),
        "resolves_within": 8,
    }
    return Drill(**{**expected, **more})


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("tcp-blackhole", TcpBlackhole(), Reason.TIMEOUT),
        ("tcp-latency", TcpLatency(delay=5), Reason.TIMEOUT),
        ("tcp-reset", TcpReset(), Reason.RESET),
        ("http-status", HttpStatus(status=500, path="/health"), Reason.STATUS),
    ],
)
async def test_every_fault_is_proved_to_be_detected_and_recovered_from(
    tmp_path: Path, kind: str, options: Any, reason: Reason
) -> None:
    """Each with its reason; the whole chain has its moments, in order; report, audit and undo journal are in order."""
    asked = drill(kind, options, reason)
    async with world(tmp_path) as here:
        report = await here.run(asked)
    assert report.verdict is Verdict.PROVED, "\n".join(report.lines())
    seen = report.detection
    detected = [seen.injected, seen.touched, seen.first_red, seen.pending, seen.firing, seen.notified]
    recovered = [seen.reverted, seen.green, seen.resolved]
    moments = [at for at in (*detected, *recovered) if at is not None]
    assert len(moments) == 9
    assert moments == sorted(moments)
    assert here.undo.pending() == []
    assert verify(here.audit.path) == []
    steps = [step.step for step in report.steps]
    assert steps == [
        "baseline",
        "injecting",
        "injected",
        "touched",
        "first_red",
        "pending",
        "firing",
        "notified",
        "reverting",
        "reverted",
        "green",
        "resolved",
        "verdict",
    ]
    assert Report.from_json(report.as_json()) == report


async def test_a_deaf_alert_is_missed(tmp_path: Path) -> None:
    """The probe is red and nobody is told. The drill waits for what is late, and not for ever."""
    asked = drill(alert=ExpectedAlert(labels=PAGE, within=3), probe=ExpectedProbe(name="checkout", within=3))
    async with world(tmp_path, deaf=True) as here:
        report = await here.run(asked)
    assert report.verdict is Verdict.MISSED
    assert {clause.name: clause.answer.value for clause in report.judgement.clauses}["probe"] == "yes"


async def test_a_slow_alert_is_late(tmp_path: Path) -> None:
    """It comes after it was asked for, and is seen."""
    asked = drill(alert=ExpectedAlert(labels=PAGE, within=1))
    async with world(tmp_path, lasting=1.5) as here:
        report = await here.run(asked, late=lambda _within: 5.0)
    assert report.verdict is Verdict.LATE


async def test_another_alert_instead_is_misattributed(tmp_path: Path) -> None:
    """Somebody is told, of something else."""
    asked = drill(alert=ExpectedAlert(labels=PAGE, within=3), probe=ExpectedProbe(name="checkout", within=3))
    async with world(tmp_path, labels=NOISE) as here:
        report = await here.run(asked)
    assert report.verdict is Verdict.MISATTRIBUTED


@pytest.mark.parametrize("abort", [False, True])
async def test_another_alert_beside_it_is_noisy_and_may_end_the_drill(tmp_path: Path, abort: bool) -> None:
    """An unexpected page while the fault is in place; with `abort_on_unexpected` the fault is taken back at once."""
    asked = drill(abort_on_unexpected=abort)
    async with world(tmp_path, lasting=1.5) as here:

        async def shout() -> None:
            await until(lambda: here.feed.pending != {}, what="the probe to be red")
            now = CLOCK.now()
            here.monitoring.tell(AlertState.FIRING, now, now, NOISE)

        shouting = asyncio.create_task(shout())
        report = await here.run(asked)
        await shouting
    assert report.verdict is Verdict.NOISY
    assert (report.detection.firing is None) == abort


@pytest.fixture
def long_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a minute between two looks: what is done sooner was not waited for, however slow the machine is."""
    monkeypatch.setattr("stormwatch.chaos.run.TICK", 30.0)


@pytest.mark.usefixtures("long_ticks")
@pytest.mark.parametrize("settle", [0.0, 60.0])
async def test_an_alert_that_the_guard_does_not_let_pass_ends_the_drill_at_once(tmp_path: Path, settle: float) -> None:
    """From the alert until the fault is proved to be gone; before all that is expected was seen, and while it looks for noise."""
    async with world(tmp_path, deaf=not settle) as here:
        heard = 0.0

        async def shout() -> None:
            nonlocal heard
            awaited = here.feed.firing if settle else here.feed.pending
            await until(lambda: awaited != {}, what="the alert")
            await asyncio.sleep(0.2)
            heard = CLOCK.now()
            here.monitoring.tell(AlertState.FIRING, heard, heard, NOISE)

        shouting = asyncio.create_task(shout())
        report = await here.run(drill(), guard=Guard(abort_on=Severity.HIGH), settle=settle)
        await shouting
    assert report.verdict is Verdict.NOISY
    assert report.detection.observed.trouble == "ended early, because ProbeDown{probe=front, severity=page} fired"
    gone = next(step.at for step in report.steps if step.step == "reverted")
    # Some hundredths of a second when the machine has nothing else to do.
    assert gone - heard < 15


async def test_an_alert_below_the_severity_of_the_guard_ends_nothing(tmp_path: Path) -> None:
    """It is noise, which the verdict tells."""
    async with world(tmp_path, lasting=1.0) as here:

        async def whisper() -> None:
            await until(lambda: here.feed.pending != {}, what="the probe to be red")
            now = CLOCK.now()
            here.monitoring.tell(AlertState.FIRING, now, now, {**NOISE, "severity": "ticket"})

        whispering = asyncio.create_task(whisper())
        report = await here.run(drill(), guard=Guard(abort_on=Severity.HIGH))
        await whispering
    assert report.verdict is Verdict.NOISY
    assert report.detection.observed.trouble == ""
    assert report.detection.firing is not None


@pytest.mark.usefixtures("long_ticks")
async def test_a_protected_probe_that_turns_red_ends_the_drill_at_once(tmp_path: Path) -> None:
    """What was outside of the guard is hit: nothing is proved, and the fault is gone. Red before, nothing is injected."""
    guard = Guard(protect=("fro*",))
    async with world(tmp_path, deaf=True) as here:

        async def hit() -> None:
            await until(lambda: here.feed.pending != {}, what="the probe to be red")
            here.feed(replace(_result(Outcome.DOWN, CLOCK.now()), probe="front"))

        hitting = asyncio.create_task(hit())
        report = await here.run(drill(), guard=guard)
        await hitting
        assert report.verdict is Verdict.INCONCLUSIVE
        assert report.detection.observed.trouble == "ended early, because front turned red, which the guard protects"
        before = await here.run(drill(alert=None), guard=guard, baseline=Baseline(patience=0.1))
    assert before.judgement.clauses[0].seen == (
        "nothing was injected: front, which the guard protects, is down: status: 500"
    )


async def test_a_look_before_says_what_a_drill_would_say_and_touches_nothing(tmp_path: Path) -> None:
    """Empty when all is well, and the reason otherwise; nothing stands in the journal."""
    async with world(tmp_path, watched=False) as here:
        impatient = Baseline(patience=0.1)
        why = await look_before(drill(), here.feed, clock=CLOCK, baseline=impatient)
        assert why == "no result of checkout has come yet"
        here.feed(_result(Outcome.UP, CLOCK.now()))
        assert await look_before(drill(), here.feed, clock=CLOCK, baseline=impatient) == ""
        assert not here.audit.path.exists()
        assert here.undo.pending() == []


class Settable(SystemClock):
    """A wall clock that somebody sets; the monotonic one goes on."""

    by = 0.0

    def now(self) -> float:
        """As it was set."""
        return super().now() + self.by


@pytest.mark.parametrize("by", [-3600.0, 3600.0, 1.0])
async def test_a_clock_that_is_set_meanwhile_leaves_no_verdict(tmp_path: Path, by: float) -> None:
    """Neither late nor missed: what was seen before and after cannot be compared. Slewing is no setting."""
    clock = Settable()
    async with world(tmp_path, lasting=0.5) as here:

        async def set_it() -> None:
            await until(lambda: here.feed.pending != {}, what="the probe to be red")
            clock.by = by

        setting = asyncio.create_task(set_it())
        report = await here.run(drill(), clock=clock)
        await setting
    if abs(by) < 2:
        assert report.verdict is Verdict.PROVED, "\n".join(report.lines())
    else:
        assert report.verdict is Verdict.INCONCLUSIVE
        assert report.detection.observed.clock_step == pytest.approx(by, abs=1)
        assert report.judgement.clauses[-1].name == "clock"


async def test_a_storm_of_other_failures_is_kept_within_bounds(tmp_path: Path) -> None:
    """Of the expected probe every result is kept, of all others so many; the journal has the same."""
    async with world(tmp_path, deaf=True) as here:

        async def storm() -> None:
            await until(lambda: here.feed.pending != {}, what="the probe to be red")
            for number in range(2 * OTHERS):
                here.feed(replace(_result(Outcome.DOWN, CLOCK.now()), probe=f"other-{number}"))

        storming = asyncio.create_task(storm())
        quick = drill(alert=ExpectedAlert(labels=PAGE, within=1), probe=ExpectedProbe(name="checkout", within=1))
        report = await here.run(quick)
        await storming
    kept = [one.probe for one in report.detection.observed.sightings]
    assert sum(name != "checkout" for name in kept) == OTHERS
    assert kept[-1] == "checkout"
    assert max(map(len, here.audit.path.read_bytes().splitlines())) < 100_000


async def test_an_alert_that_fires_on_is_not_resolved(tmp_path: Path) -> None:
    """The fault is gone, the probe is green, and the page stays."""
    async with world(tmp_path, resolves=False) as here:
        report = await here.run(drill(resolves_within=2))
    assert report.verdict is Verdict.NOT_RESOLVED


async def test_a_fault_that_meets_no_traffic_is_inconclusive(tmp_path: Path) -> None:
    """A status for a path that nobody asks for: the monitoring is not blamed."""
    asked = drill(
        "http-status",
        HttpStatus(path="/nobody"),
        Reason.STATUS,
        probe=ExpectedProbe(name="checkout", within=0.5),
        alert=None,
    )
    async with world(tmp_path) as here:
        report = await here.run(asked)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.judgement.clauses[1].seen == "no traffic met it: it proves nothing about the monitoring"


async def test_nothing_is_injected_unless_all_is_well(tmp_path: Path) -> None:
    """Probe never seen, probe red, result too old, alert firing already, feed dead: each is named, and nothing is done."""
    async with world(tmp_path, watched=False) as here:

        async def why(**baseline: float) -> str:
            report = await here.run(drill(), baseline=Baseline(**{"patience": 0.1, **baseline}))
            assert report.verdict is Verdict.INCONCLUSIVE
            assert report.detection.injected is None
            return report.judgement.clauses[0].seen

        assert await why() == "nothing was injected: no result of checkout has come yet"
        here.feed(_result(Outcome.DOWN, CLOCK.now()))
        assert await why() == "nothing was injected: checkout is down: status: 500"
        here.feed(_result(Outcome.UP, CLOCK.now() - 100))
        assert await why(fresh=30) == "nothing was injected: the last result of checkout is 100 s old"
        here.feed(_result(Outcome.UP, CLOCK.now()))
        here.monitoring.tell(AlertState.FIRING, CLOCK.now(), CLOCK.now())
        assert await why() == ("nothing was injected: ProbeDown{probe=checkout, severity=page} is firing already")
        here.monitoring.tell(AlertState.RESOLVED, CLOCK.now(), CLOCK.now())
        here.feed.fail("the service stopped")
        assert await why() == "nothing was injected: the monitoring cannot be watched: the service stopped"
        accepted = (await here.proxy.api.get("/routes/shop")).json()
        assert accepted["faults"] == []


async def test_a_feed_that_dies_ends_the_drill_without_a_verdict(tmp_path: Path) -> None:
    """From then on silence proves nothing: the fault is taken back at once."""
    async with world(tmp_path, deaf=True) as here:

        async def die() -> None:
            await until(lambda: here.feed.pending != {}, what="the probe to be red")
            here.feed.fail("it does not answer any more")

        dying = asyncio.create_task(die())
        report = await here.run(drill())
        await dying
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.detection.observed.trouble == "the monitoring could not be watched: it does not answer any more"


async def test_a_fault_that_ends_by_itself_is_inconclusive(tmp_path: Path) -> None:
    """Somebody takes it away before the alert could fire."""
    async with world(tmp_path, deaf=True) as here:

        async def steal() -> None:
            await until(lambda: here.feed.pending != {}, what="the probe to be red")
            (fault,) = await here.left()
            await here.proxy.delete(fault=fault["id"])

        stealing = asyncio.create_task(steal())
        report = await here.run(drill())
        await stealing
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.detection.observed.trouble == ("tcp-blackhole on shop ended before it was taken back: reverted")


async def test_a_fault_that_cannot_be_injected_is_inconclusive(tmp_path: Path) -> None:
    """The route is not there: nothing is in place, nothing is judged."""
    async with world(tmp_path) as here:
        asked = drill()
        report = await here.run(replace(asked, fault=replace(asked.fault, target="shoq")))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "there is no route shoq; there are shop" in report.judgement.clauses[0].seen


async def test_a_fault_that_cannot_be_taken_back_is_unsafe(tmp_path: Path) -> None:
    """The proxy hangs with the fault in it: exit code 4, and the record is kept for `stormwatch undo`."""
    feed, undo = Feed(), UndoJournal(tmp_path / "undo")
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", HANGING_PROXY, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    try:
        control = (await asyncio.wait_for(child.stdout.readline(), 60)).decode().strip()
        feed(_result(Outcome.UP, CLOCK.now()))
        asked = drill(probe=ExpectedProbe(name="checkout", within=0.5), alert=None)
        fault = ProxyFault(asked.fault, control=control, journal=undo, lease=60, patience=0.2)

        def hang(step: object) -> None:
            if getattr(step, "step", "") == "injected":
                os.kill(child.pid, signal.SIGSTOP)

        report = await run_drill(
            asked, fault, feed, clock=CLOCK, on_progress=hang, settle=0.1, late=lambda _within: 0.1
        )
        assert report.verdict is Verdict.UNSAFE
        assert report.verdict.exit_code == 4
        assert len(undo.pending()) == 1
    finally:
        child.kill()
        await child.wait()


async def test_ctrl_c_takes_the_fault_back_and_is_written_down(tmp_path: Path) -> None:
    """Cancelled while it watches: nothing is left, the audit says so, and the cancellation goes on."""
    async with world(tmp_path, deaf=True) as here:
        running = asyncio.create_task(here.run(drill()))
        await until(lambda: here.feed.pending != {}, what="the probe to be red")
        assert await here.left()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await here.left() == []
    assert here.undo.pending() == []
    assert "interrupted" in here.audit.path.read_text().splitlines()[-1]
    assert verify(here.audit.path) == []
    (replayed,) = replay(read(here.audit.path).entries)
    assert not replayed.ended
    assert replayed.report.verdict is Verdict.INCONCLUSIVE
    assert replayed.report.detection.observed.trouble == "the drill was interrupted"


async def test_a_journal_that_is_cut_off_anywhere_is_replayed_as_far_as_it_goes(tmp_path: Path) -> None:
    """Killed after any line: unsafe from the injection until the fault is known to be gone, no verdict around it."""
    async with world(tmp_path, lasting=1.5) as here:
        whole = await here.run(drill())
    entries = read(here.audit.path).entries
    events = [entry["event"] for entry in entries]
    # What came while nothing else happened stands there too, not only at the next step.
    assert events.index("first_red") < events.index("seen") < events.index("firing")
    verdicts = [replay(entries[:length])[0].report.verdict for length in range(1, len(entries) + 1)]
    begun, gone = events.index("injecting"), events.index("reverted")
    assert set(verdicts[:begun]) == {Verdict.INCONCLUSIVE}
    assert set(verdicts[begun:gone]) == {Verdict.UNSAFE}
    assert set(verdicts[gone:-1]) == {Verdict.INCONCLUSIVE}
    assert verdicts[-1] is whole.verdict is Verdict.PROVED
    # `stormwatch undo` found it later, and says so.
    undone = {"event": "undone", "data": {"what": "tcp-blackhole on shop", "state": "undone", "gone": True}}
    for length, verdict in ((begun + 1, Verdict.INCONCLUSIVE), (len(entries), Verdict.PROVED)):
        (later,) = replay([*entries[:length], undone])
        assert later.report.verdict is verdict


HANGING_PROXY = """
import asyncio
from stormwatch.chaos.control import serve_proxy
from stormwatch.chaos.route import Route
route = Route(name='shop', listen='127.0.0.1:0', upstream='127.0.0.1:1')
async def main():
    await serve_proxy([route], '127.0.0.1:0', stop=asyncio.Event(), ready=lambda at: print(at.control, flush=True))
asyncio.run(main())
"""


def _result(outcome: Outcome, at: float) -> Result:
    down = outcome is Outcome.DOWN
    return Result(
        probe="checkout",
        kind="test",
        target="shop",
        location="",
        started=at,
        seconds=0.0,
        outcome=outcome,
        reason=Reason.STATUS if down else Reason.NONE,
        message="500" if down else "",
    )
