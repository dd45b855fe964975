"""A fault is held from outside of the proxy and outlives nobody: taken back, healed by its lease, or undone by another."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from pathlib import Path

import pytest

from stormwatch.chaos.catalog import FAULTS
from stormwatch.chaos.control import controlling
from stormwatch.chaos.fault import FaultLost, FaultNotInjected, FaultNotReverted, FaultSpec, Step
from stormwatch.chaos.http_options import HttpStatus
from stormwatch.chaos.process import ProcessId
from stormwatch.chaos.proxy import Proxy
from stormwatch.chaos.proxy_control import undo_proxy_fault
from stormwatch.chaos.proxy_fault import ProxyFault
from stormwatch.chaos.tcp_options import TcpBlackhole, TcpLatency
from stormwatch.chaos.undo import UndoJournal, UndoRecord, UndoState
from stormwatch.probes.clock import SystemClock
from tests.chaos.examples import ON_ROUTES, example, route_for
from tests.servers import owner
from tests.servers.process import free_port
from tests.servers.proxied import Proxied, proxied, route_to
from tests.servers.upstream import Upstream, echoing

SPEC = FaultSpec(kind="tcp-blackhole", target="shop", options=TcpBlackhole())


@contextlib.asynccontextmanager
async def shop() -> AsyncGenerator[tuple[Proxied, Upstream]]:
    """An echo server behind the route `shop`."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        yield proxy, upstream


async def faults(proxy: Proxied, route: str = "shop") -> list[str]:
    """What is in place on a route."""
    return [fault["kind"] for fault in (await proxy.api.get(f"/routes/{route}")).json()["faults"]]


async def passes(proxy: Proxied, route: str = "shop", *, seconds: float = 30) -> bool:
    """Whether traffic comes through."""
    reader, writer = await proxy.open(route)
    writer.write(b"x")
    with contextlib.suppress(TimeoutError):
        return await asyncio.wait_for(reader.readexactly(1), seconds) == b"x"
    return False


async def test_the_fault_is_in_place_while_the_block_lasts(tmp_path: Path) -> None:
    """Recorded before, injected, touched by traffic, taken back, proved gone, forgotten: in this order."""
    journal = UndoJournal(tmp_path / "undo")
    steps: list[str] = []
    async with shop() as (proxy, _):
        fault = ProxyFault(
            SPEC, control=proxy.control, journal=journal, on_step=lambda step: steps.append(step.value), drill="mine"
        )
        async with fault:
            assert await faults(proxy) == ["tcp-blackhole"]
            (record,) = journal.pending()
            assert isinstance(record, UndoRecord)
            assert (record.what, record.drill) == ("tcp-blackhole on shop", "mine")
            assert not (await fault.evidence()).touched
            assert not await passes(proxy, seconds=0.2)
            assert (await fault.evidence()).connections == 1
        assert await faults(proxy) == []
        assert await passes(proxy)
        assert (await fault.evidence()).connections == 1
    assert journal.pending() == []
    assert steps == [step.value for step in Step]


async def test_the_lease_is_renewed_as_long_as_the_block_lasts(tmp_path: Path) -> None:
    """Two leases later it is still there."""
    async with shop() as (proxy, _):
        fault = ProxyFault(SPEC, control=proxy.control, journal=UndoJournal(tmp_path), lease=2.0)
        async with fault:
            await asyncio.sleep(4.0)
            assert await faults(proxy) == ["tcp-blackhole"]


async def test_cancelling_takes_the_fault_back_first(tmp_path: Path) -> None:
    """Cancelled in the block, and again and again while it is reverting: gone, forgotten, and then cancelled."""
    journal = UndoJournal(tmp_path)
    async with shop() as (proxy, _):
        inside = asyncio.Event()

        async def hold() -> None:
            async with ProxyFault(SPEC, control=proxy.control, journal=journal):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(hold())
        await inside.wait()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await faults(proxy) == []
    assert journal.pending() == []


@pytest.mark.parametrize("at", [Step.BEGUN, Step.RECORDED, Step.INJECTED, Step.HELD])
async def test_cancelling_the_injection_leaves_nothing(tmp_path: Path, at: Step) -> None:
    """Cancelled at each step of entering: neither fault nor record is left."""
    journal = UndoJournal(tmp_path)
    async with shop() as (proxy, _):

        def cancel(step: Step) -> None:
            if step is at:
                task.cancel()

        async def enter_and_stay() -> None:
            async with ProxyFault(SPEC, control=proxy.control, journal=journal, on_step=cancel):
                await asyncio.Event().wait()

        task = asyncio.create_task(enter_and_stay())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await faults(proxy) == []
    assert journal.pending() == []


async def test_leaving_twice_is_leaving_once(tmp_path: Path) -> None:
    """Idempotent."""
    async with shop() as (proxy, _):
        fault = ProxyFault(SPEC, control=proxy.control, journal=UndoJournal(tmp_path))
        async with fault:
            pass
        await fault.__aexit__(None, None, None)
        assert await faults(proxy) == []


async def test_a_proxy_that_does_not_answer_gets_no_fault(tmp_path: Path) -> None:
    """And no record, because nothing can be in place."""
    journal = UndoJournal(tmp_path)
    with pytest.raises(FaultNotInjected, match=r"tcp-blackhole on shop: http://127\.0\.0\.1:\d+ does not answer"):
        async with ProxyFault(SPEC, control=f"http://127.0.0.1:{free_port()}", journal=journal):
            pass
    assert journal.pending() == []


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            FaultSpec(kind="tcp-blackhole", target="shoq", options=TcpBlackhole()),
            "there is no route shoq; there are shop",
        ),
        (
            FaultSpec(kind="http-status", target="shop", options=HttpStatus()),
            "http-status needs to see requests, and route shop is not looked into: give it `tls` or `http: true`",
        ),
    ],
)
async def test_a_fault_that_the_proxy_refuses_says_why(tmp_path: Path, spec: FaultSpec, said: str) -> None:
    """The proxy's own sentence, and nothing left behind."""
    journal = UndoJournal(tmp_path)
    async with shop() as (proxy, _):
        with pytest.raises(FaultNotInjected) as refused:
            async with ProxyFault(spec, control=proxy.control, journal=journal):
                pass
    assert str(refused.value) == f"{spec.kind} on {spec.target}: {proxy.control} refused the fault: {said}"
    assert journal.pending() == []


async def test_a_fault_that_somebody_else_took_away_is_lost(tmp_path: Path) -> None:
    """It says so with its last evidence, and leaving is no error: nothing is in place."""
    journal = UndoJournal(tmp_path)
    async with shop() as (proxy, _):
        fault = ProxyFault(SPEC, control=proxy.control, journal=journal)
        async with fault:
            assert not await passes(proxy, seconds=0.1)
            await proxy.delete(fault=fault.id)
            with pytest.raises(
                FaultLost, match="tcp-blackhole on shop ended before it was taken back: reverted"
            ) as lost:
                await fault.evidence()
            assert lost.value.evidence is not None
            assert lost.value.evidence.connections == 1
    assert journal.pending() == []


async def test_a_control_api_that_hangs_is_unsafe_and_keeps_the_record(tmp_path: Path) -> None:
    """The proxy lives and does not answer: absence cannot be proved, so nobody says that it is."""
    journal = UndoJournal(tmp_path)
    process, control = await _proxy_process()
    try:
        fault = ProxyFault(
            FaultSpec(kind="tcp-latency", target="r0", options=TcpLatency(delay=1)),
            control=control,
            journal=journal,
            patience=0.2,
        )
        with pytest.raises(FaultNotReverted, match=r"tcp-latency on r0 may still be in place: .* does not answer"):
            async with fault:
                process.send_signal(signal.SIGSTOP)
        assert len(journal.pending()) == 1
        once = {"proxy": partial(undo_proxy_fault, tries=1)}
        (outcome,) = await journal.undo_all(force=True, undoers=once)
        assert outcome.state is UndoState.FAILED
        assert f"process {process.pid} may still hold the fault: stop it, or wait for the lease" in outcome.why
        process.send_signal(signal.SIGCONT)
        (outcome,) = await journal.undo_all(force=True)
        assert outcome.state in (UndoState.UNDONE, UndoState.ALREADY_GONE)
    finally:
        await _end(process)
    assert journal.pending() == []


async def test_a_proxy_that_died_took_its_faults_with_it(tmp_path: Path) -> None:
    """Killed while the fault is in place: leaving is proved by the death of its process, and so is undoing."""
    journal = UndoJournal(tmp_path)
    process, control = await _proxy_process()
    spec = FaultSpec(kind="tcp-latency", target="r0", options=TcpLatency(delay=1))
    async with ProxyFault(spec, control=control, journal=journal):
        (record,) = journal.pending()
        assert isinstance(record, UndoRecord)
        await _end(process)
    assert journal.pending() == []
    journal.record(record)
    (outcome,) = await journal.undo_all(force=True)
    assert outcome.state is UndoState.ALREADY_GONE
    assert outcome.why == f"the proxy that held it (process {process.pid}) is gone, and the fault with it"


STEPS = [*(step.value for step in Step), "holding"]


IN_PLACE = ("injected", "held", "reverting", "holding")
"""The steps at which the proxy has the fault."""
DEATHS = [(SPEC.kind, step) for step in STEPS if step not in IN_PLACE] + [
    (kind, step) for kind in ON_ROUTES for step in IN_PLACE
]
"""(kind, step): every fault wherever it is in place. Where none is, nothing depends on which."""


@pytest.mark.timeout(300)
async def test_killed_at_any_step_the_lease_alone_heals(tmp_path: Path) -> None:
    """Owners with routes of their own, killed with SIGKILL at every step, and with every fault: then every route passes."""
    deaths = [(SPEC.kind, step) for step in STEPS] + [(kind, "holding") for kind in ON_ROUTES if kind != SPEC.kind]
    lease = 3.0
    async with _many_routes(deaths) as proxy:
        await _kill_at_each_step(proxy, tmp_path, deaths, lease=lease)
        killed = time.monotonic()
        while left := await _in_place(proxy):
            assert time.monotonic() < killed + lease + 60, left
            await asyncio.sleep(0.05)
        await _all_pass(proxy, deaths)


@pytest.mark.timeout(300)
async def test_killed_at_any_step_with_any_fault_undo_heals_at_once(tmp_path: Path) -> None:
    """With a lease of ten minutes it is the records that heal: all routes pass, no record is left, none failed."""
    journal = UndoJournal(tmp_path)
    async with _many_routes(DEATHS) as proxy:
        await _kill_at_each_step(proxy, tmp_path, DEATHS, lease=600)
        stuck = sorted((kind, DEATHS[int(route[1:])][1]) for route, kind in await _in_place(proxy))
        assert stuck == sorted((kind, step) for kind in ON_ROUTES for step in IN_PLACE)
        outcomes = await journal.undo_all()
        assert await _in_place(proxy) == []
        await _all_pass(proxy, DEATHS)
    assert {UndoState.UNDONE, UndoState.ALREADY_GONE} == {outcome.state for outcome in outcomes}
    assert len(stuck) == [outcome.state for outcome in outcomes].count(UndoState.UNDONE)
    assert journal.pending() == []


async def test_a_fault_is_in_place_only_while_its_record_is_on_disk(tmp_path: Path) -> None:
    """The order that all the rest depends on: before the record nothing is injected, after forgetting nothing is left."""
    journal = UndoJournal(tmp_path)
    seen: dict[str, tuple[int, int]] = {}
    async with (
        echoing() as upstream,
        Proxy([route_to(upstream.port)], SystemClock()) as proxy,
        controlling(proxy, "127.0.0.1:0") as url,
    ):

        def look(step: Step) -> None:
            seen[step.value] = (len(journal.pending()), len(proxy.gate("shop").faults))

        async with ProxyFault(SPEC, control=url, journal=journal, on_step=look):
            pass
    assert seen == {
        "begun": (0, 0),
        "recorded": (1, 0),
        "injected": (1, 1),
        "held": (1, 1),
        "reverting": (1, 1),
        "reverted": (1, 0),
        "forgotten": (0, 0),
    }


async def test_a_running_drill_is_left_alone_unless_forced(tmp_path: Path) -> None:
    """Its owner lives, so its fault is in good hands; `force` takes it away all the same."""
    journal = UndoJournal(tmp_path)
    async with shop() as (proxy, _), ProxyFault(SPEC, control=proxy.control, journal=journal):
        (outcome,) = await journal.undo_all()
        assert outcome.state is UndoState.LEFT_ALONE
        assert await faults(proxy) == ["tcp-blackhole"]
        (outcome,) = await journal.undo_all(force=True)
        assert outcome.state is UndoState.UNDONE
        assert await faults(proxy) == []


async def test_a_process_id_that_was_given_again_is_not_the_owner() -> None:
    """Same number, another start: dead."""
    from stormwatch.chaos.process import identify

    me = identify()
    assert me.alive()
    assert not ProcessId(me.pid, "1@another-boot").alive()
    child = await asyncio.create_subprocess_exec("sleep", "60")
    theirs = identify(child.pid)
    assert theirs.alive()
    child.kill()
    await child.wait()
    assert not theirs.alive()


async def test_sigterm_ends_a_proxy_cleanly() -> None:
    """Exit code 0, its ports free again."""
    process, control = await _proxy_process()
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) == 0
    port = int(control.rpartition(":")[2])
    async with await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", port):
        pass


# A proxy and owners in processes of their own.


@contextlib.asynccontextmanager
async def _many_routes(deaths: Sequence[tuple[str, str]]) -> AsyncGenerator[Proxied]:
    async with echoing() as upstream:
        routes = [route_for(kind, f"r{number}", upstream.address) for number, (kind, _) in enumerate(deaths)]
        async with proxied(*routes) as proxy:
            yield proxy


async def _in_place(proxy: Proxied) -> list[tuple[str, str]]:
    """(route, kind) of every fault."""
    routes = (await proxy.api.get("/routes")).json()
    return [(route["name"], fault["kind"]) for route in routes for fault in route["faults"]]


async def _all_pass(proxy: Proxied, deaths: Sequence[tuple[str, str]]) -> None:
    """Bytes come through each route, but for those of name servers: behind them is none, only that they are free is known."""
    streams = [f"r{number}" for number, (kind, _) in enumerate(deaths) if not FAULTS[kind].of_names]
    assert all(await asyncio.gather(*(passes(proxy, route) for route in streams)))


async def _kill_at_each_step(
    proxy: Proxied, directory: Path, deaths: Sequence[tuple[str, str]], *, lease: float
) -> None:
    """Start an owner for each, wait until it is at its step, kill it."""
    faults = [
        {"fault": example(kind, f"r{number}").as_json(), "stop": step} for number, (kind, step) in enumerate(deaths)
    ]
    nursery = await asyncio.create_subprocess_exec(
        sys.executable,
        owner.__file__,
        proxy.control,
        str(directory),
        str(lease),
        json.dumps(faults),
        stdout=asyncio.subprocess.PIPE,
    )
    assert nursery.stdout is not None
    alive = set(range(len(deaths)))
    while alive:
        line = (await asyncio.wait_for(nursery.stdout.readline(), 60)).decode()
        assert line, f"the owners ended before {[deaths[number] for number in alive]}"
        number, pid, step = line.split()
        if step == deaths[int(number)][1]:
            os.kill(int(pid), signal.SIGKILL)
            alive.discard(int(number))
    assert await asyncio.wait_for(nursery.wait(), 60) == 0


async def _proxy_process() -> tuple[asyncio.subprocess.Process, str]:
    code = (
        "import asyncio, signal\n"
        "from stormwatch.chaos.control import serve_proxy\n"
        "from stormwatch.chaos.route import Route\n"
        "async def main():\n"
        "    stop = asyncio.Event()\n"
        "    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)\n"
        "    route = Route(name='r0', listen='127.0.0.1:0', upstream='127.0.0.1:1')\n"
        "    await serve_proxy([route], '127.0.0.1:0', stop=stop, ready=lambda at: print(at.control, flush=True))\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    control = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
    return process, control


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
