"""Faults of a process as its clients see them: killed, stopped, restarted, without descriptors, with another clock."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.catalog import FAULTS, read_options
from stormwatch.chaos.fault import FaultLost, FaultNotInjected, FaultNotReverted, FaultSpec, Step
from stormwatch.chaos.held_fault import HeldFault
from stormwatch.chaos.host_descriptors import descriptors, lowest
from stormwatch.chaos.host_process import Daemon
from stormwatch.chaos.process import ProcessId, identify
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from stormwatch.chaos.undo import UndoJournal, UndoState
from stormwatch.chaos.undoers import UNDOERS
from stormwatch.probes.procfs import command_line, running
from tests.chaos.host_examples import reapers
from tests.program import program
from tests.servers import daemon
from tests.servers.process import free_port


@dataclass(frozen=True, slots=True)
class Service:
    """A daemon under test."""

    port: int
    target: Target
    pid_file: Path
    directory: Path

    @property
    def pid(self) -> int:
        """Its process now."""
        return int(self.pid_file.read_text())

    async def ask(self, seconds: float = 10) -> dict[str, Any]:
        """What it says. Raises OSError, TimeoutError."""
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                return json.loads(await reader.readline())
            finally:
                writer.close()

    async def idle(self) -> None:
        """Until it waits for a connection, with nothing open but its outputs and its port."""
        while len(descriptors(self.pid)) > 4 or _state(self.pid) != "S":
            await asyncio.sleep(0.005)

    def fault(self, kind: str, *, journal: Path, lease: float = 600, **more: Any) -> HeldFault:
        """A fault on it. `patience` and `on_step` are for the fault; all else are its options."""
        held = {key: more.pop(key) for key in ("patience", "on_step") if key in more}
        return held_fault(kind, self.target, journal=journal, lease=lease, options=more, **held)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def held_fault(kind: str, target: Target, *, journal: Path, options: dict[str, Any], **held: Any) -> HeldFault:
    """A fault on a target."""
    spec = FaultSpec(kind=kind, target=target.name, options=read_options(kind, options))
    make = FAULTS[kind].breakage
    assert make is not None
    return HeldFault(spec, lambda identity: make(identity, spec.options, target), journal=UndoJournal(journal), **held)


@contextlib.asynccontextmanager
async def serving(directory: Path, **more: Any) -> AsyncGenerator[Service]:
    """A daemon that answers; afterwards none."""
    port, pid_file = free_port(), directory / "daemon.pid"
    start = [sys.executable, "-I", "-S", daemon.__file__, str(port), str(pid_file), str(directory)]
    document = {"pid_file": str(pid_file), "command": r"daemon\.py", "start": start, **more}
    target = Target.from_json({"name": "shop", "process": document}, TARGETS)
    service = Service(port, target, pid_file, directory)
    Daemon(start=tuple(start)).begin("nothing-yet")
    try:
        await Daemon(pid_file=str(pid_file)).found_within(30)
        yield service
    finally:
        for pid in running():
            if str(pid_file) in command_line(pid) and command_line(pid)[0] == sys.executable:
                identify(pid).send(signal.SIGKILL)


async def test_killed_it_is_refused_and_afterwards_another_process_answers(tmp_path: Path) -> None:
    """Nothing listens while the fault lasts; the undoing starts it once."""
    async with serving(tmp_path) as service:
        before = (await service.ask())["pid"]
        async with service.fault("process-kill", journal=tmp_path / "undo") as fault:
            with pytest.raises(ConnectionRefusedError):
                await service.ask()
            seen = await fault.evidence()
            assert seen.touched
            assert seen.what == f"process {before} ended by SIGKILL"
        after = (await service.ask())["pid"]
        assert after not in (before, os.getpid())
        assert (await fault.evidence()).what == f"process {before} ended by SIGKILL"
    assert list((tmp_path / "undo").iterdir()) == []


async def test_a_supervisor_that_is_quicker_is_not_disturbed(tmp_path: Path) -> None:
    """It is back before the drill is over: nothing is started, and the evidence says who runs in its place."""
    async with serving(tmp_path, supervised=True) as service:
        before = service.pid
        async with service.fault("process-kill", journal=tmp_path / "undo", signal="TERM") as fault:
            Daemon(start=service.target.options.start).begin("by its supervisor")  # pyright: ignore[reportAttributeAccessIssue]
            while service.pid == before:
                await asyncio.sleep(0.01)
            now = service.pid
            assert (
                await fault.evidence()
            ).what == f"process {before} ended by SIGTERM, process {now} runs in its place"
        assert (await service.ask())["pid"] == now


async def test_a_process_that_does_not_come_back_is_unsafe_and_keeps_its_record(tmp_path: Path) -> None:
    """Nobody says that it is mended; when it is, undo finds that out."""
    async with serving(tmp_path, start=["false"], back="100ms") as service:
        journal = UndoJournal(tmp_path / "undo")
        with pytest.raises(
            FaultNotReverted, match=r"may still be in place: it is not back 0\.1 s after `false` should"
        ):
            async with service.fault("process-kill", journal=journal.directory, patience=0.0):
                pass
        (outcome,) = await journal.undo_all(force=True)
        assert outcome.state is UndoState.FAILED
        script = [sys.executable, "-I", "-S", daemon.__file__, str(service.port), str(service.pid_file), str(tmp_path)]
        Daemon(start=tuple(script)).begin("by hand")
        while (outcomes := await journal.undo_all(force=True)) and outcomes[0].state is UndoState.FAILED:
            await asyncio.sleep(0.05)
    assert journal.pending() == []


async def test_paused_it_accepts_and_says_nothing_then_it_goes_on(tmp_path: Path) -> None:
    """The same process, before and after; what was asked meanwhile is answered."""
    async with serving(tmp_path) as service:
        async with service.fault("process-pause", journal=tmp_path / "undo") as fault:
            with pytest.raises(TimeoutError):
                await service.ask(0.3)
            asked = asyncio.create_task(service.ask(30))
            assert (await fault.evidence()).what == f"process {service.pid} stopped by SIGSTOP"
        assert (await asked)["pid"] == service.pid


async def test_a_pause_that_somebody_else_ended_is_lost(tmp_path: Path) -> None:
    """The drill is told; leaving is no error."""
    async with serving(tmp_path) as service, service.fault("process-pause", journal=tmp_path / "undo") as fault:
        os.kill(service.pid, signal.SIGCONT)
        while identify(service.pid).stopped():
            await asyncio.sleep(0.005)
        with pytest.raises(FaultLost, match=r"process \d+ runs: somebody else took it out of its stop"):
            await fault.evidence()


async def test_a_stop_that_is_on_its_way_is_taken_back(tmp_path: Path) -> None:
    """Whoever sent it died before it arrived: undoing sends SIGCONT to a process that seems to run, too."""
    script = f'trap "echo told >> {tmp_path}/told" CONT; echo ready; while :; do sleep 0.02; done'
    child = await asyncio.create_subprocess_exec("sh", "-c", script, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    try:
        assert await child.stdout.readline() == b"ready\n"
        absence = await UNDOERS["pause"]({"hit": [identify(child.pid).as_json()]})
        assert (absence.was_there, absence.why) == (False, f"process {child.pid} runs")
        while not (tmp_path / "told").exists():
            await asyncio.sleep(0.01)
    finally:
        child.kill()
        await child.communicate()


async def test_what_was_stopped_before_is_left_to_whoever_stopped_it(tmp_path: Path) -> None:
    """Refused with nothing left behind, and it stays stopped."""
    async with serving(tmp_path) as service:
        os.kill(service.pid, signal.SIGSTOP)
        while not identify(service.pid).stopped():
            await asyncio.sleep(0.005)
        with pytest.raises(
            FaultNotInjected, match=r"process-pause on shop: process \d+ is stopped already; `kill -CONT"
        ):
            await service.fault("process-pause", journal=tmp_path / "undo").__aenter__()
        assert identify(service.pid).stopped()
        assert not (tmp_path / "undo").exists()


async def test_restarted_it_is_another_process_at_once(tmp_path: Path) -> None:
    """Answering while the fault is in place already."""
    async with serving(tmp_path) as service:
        before = service.pid
        async with service.fault("process-restart", journal=tmp_path / "undo") as fault:
            now = (await service.ask())["pid"]
            assert now != before
            assert (
                await fault.evidence()
            ).what == f"process {before} ended by SIGTERM, process {now} runs in its place"
        assert (await service.ask())["pid"] == now


async def test_without_descriptors_it_does_not_accept_and_afterwards_it_does(tmp_path: Path) -> None:
    """With `leave: 1` it accepts, and cannot open its file beside that."""
    async with serving(tmp_path) as service:
        limit = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
        await service.idle()
        async with service.fault("fd-exhaust", journal=tmp_path / "undo"):
            # Linux sets a number aside before it waits in accept(2): one more comes in.
            assert (await service.ask())["write"] == "Too many open files"
            with pytest.raises(TimeoutError):
                await service.ask(0.3)
        assert (await service.ask())["write"] == ""
        await service.idle()
        async with service.fault("fd-exhaust", journal=tmp_path / "undo", leave=1) as fault:
            assert (await service.ask())["write"] == "Too many open files"
            assert f"before {limit[0]}" in (await fault.evidence()).what
        assert resource.prlimit(service.pid, resource.RLIMIT_NOFILE) == limit
        assert (await service.ask())["write"] == ""


async def test_a_limit_that_was_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    """Lost, and not undone into what nobody wants any more."""
    async with serving(tmp_path) as service:
        _, hard = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
        async with service.fault("fd-exhaust", journal=tmp_path / "undo") as fault:
            resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (77, hard))
            with pytest.raises(FaultLost, match=r"may have 77 descriptors: somebody changed that"):
                await fault.evidence()
        assert resource.prlimit(service.pid, resource.RLIMIT_NOFILE) == (77, hard)


@pytest.mark.parametrize(
    ("opened", "leave", "limit"),
    [([0, 1, 2], 0, 3), ([0, 1, 2], 2, 5), ([0, 1, 2, 9], 0, 3), ([0, 1, 9], 1, 3), ([1], 0, 0), ([0, 2], 1, 3)],
)
def test_the_limit_counts_free_numbers_and_not_open_files(opened: list[int], leave: int, limit: int) -> None:
    """The kernel gives the lowest free number below it: a hole is room for one more."""
    assert lowest(opened, leave) == limit


@pytest.mark.parametrize(("direction", "sign"), [("forward", 1), ("back", -1)])
async def test_its_clock_is_shifted_and_nobody_elses(tmp_path: Path, direction: str, sign: int) -> None:
    """By a day, and afterwards not."""
    program("faketime")
    async with serving(tmp_path) as service:
        async with service.fault("clock-shift", journal=tmp_path / "undo", by="1d", direction=direction) as fault:
            said = await service.ask()
            assert said["time"] - time.time() == pytest.approx(sign * 86400, abs=60)
            assert said["monotonic"] == pytest.approx(time.monotonic(), abs=60)
            way = "fast" if sign > 0 else "slow"
            assert (await fault.evidence()).what.endswith(f"runs with a clock that is 86400 s {way}")
        assert (await service.ask())["time"] == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize("kind", ["process-kill", "process-restart", "clock-shift"])
async def test_an_injection_that_ended_in_the_middle_is_undone(tmp_path: Path, kind: str) -> None:
    """The process is ended, and whoever was to start it died before that."""
    program("faketime")
    async with serving(tmp_path) as service:
        make = FAULTS[kind].breakage
        assert make is not None
        options = read_options(kind, {"by": "1d"} if kind == "clock-shift" else {})
        breakage = make(f"{kind}-half", options, service.target)
        arguments = json.loads(json.dumps(await breakage.prepare()))
        before = service.pid
        identify(before).send(signal.SIGKILL)
        absence = await UNDOERS[breakage.method](arguments)
        assert absence.was_there
        assert (await service.ask())["time"] == pytest.approx(time.time(), abs=60)
        again = await UNDOERS[breakage.method](arguments)
        assert not again.was_there
        assert service.pid != before


async def test_a_unit_of_systemd_is_started_by_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what `systemctl` says and does; here a program in its place that knows the two commands."""
    async with serving(tmp_path) as service:
        start = " ".join(service.target.options.start)  # pyright: ignore[reportAttributeAccessIssue] - a process
        stand_in = tmp_path / "systemctl"
        stand_in.write_text(
            "#!/bin/sh\n"
            'case "$*" in\n'
            f'"show --property MainPID --value shop.service") cat {service.pid_file} ;;\n'
            f'"start shop.service") setsid --fork {start} >/dev/null 2>&1 ;;\n'
            '*) echo "Unit not found." >&2; exit 5 ;;\n'
            "esac\n"
        )
        stand_in.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        unit = Target.from_json({"name": "unit", "process": {"unit": "shop.service"}}, TARGETS)
        before = service.pid
        async with held_fault("process-kill", unit, journal=tmp_path / "undo", options={}):
            assert not identify(before).alive()
        assert (await service.ask())["pid"] == service.pid != before
        none = Target.from_json({"name": "unit", "process": {"unit": "none.service"}}, TARGETS)
        with pytest.raises(FaultNotInjected, match=r"`systemctl show .* none\.service` failed: Unit not found"):
            await held_fault("process-kill", none, journal=tmp_path / "undo", options={}).__aenter__()


async def test_an_owner_that_hangs_loses_its_fault_to_the_reaper(tmp_path: Path) -> None:
    """No renewal for the lease: it is taken back while the owner lives, who is told so."""
    async with serving(tmp_path) as service:
        fault = service.fault("process-pause", journal=tmp_path / "undo", lease=0.6)
        async with fault:
            # This very process is the owner: its loop hangs, and with it the renewals.
            deadline = time.monotonic() + 30
            while identify(service.pid).stopped() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not identify(service.pid).stopped()
            while UndoJournal(tmp_path / "undo").pending():
                time.sleep(0.01)
            with pytest.raises(FaultLost, match="its lease ran out, or somebody took it back"):
                await fault.evidence()
    assert list((tmp_path / "undo").iterdir()) == []


async def test_the_lease_is_renewed_as_long_as_the_block_lasts(tmp_path: Path) -> None:
    """Two leases later it is stopped still, and the reaper ends with the record."""
    async with serving(tmp_path) as service:
        async with service.fault("process-pause", journal=tmp_path / "undo", lease=2.0):
            await asyncio.sleep(4.0)
            assert identify(service.pid).stopped()
            assert len(reapers(tmp_path / "undo")) == 1
        while reapers(tmp_path / "undo"):
            await asyncio.sleep(0.05)
        assert not identify(service.pid).stopped()


@pytest.mark.parametrize("at", [Step.BEGUN, Step.RECORDED, Step.INJECTED, Step.HELD])
async def test_cancelling_the_injection_leaves_nothing(tmp_path: Path, at: Step) -> None:
    """Cancelled at each step of entering."""
    async with serving(tmp_path) as service:

        def cancel(step: Step) -> None:
            if step is at:
                task.cancel()

        async def enter_and_stay() -> None:
            async with service.fault("process-pause", journal=tmp_path / "undo", on_step=cancel):
                await asyncio.Event().wait()

        task = asyncio.create_task(enter_and_stay())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not identify(service.pid).stopped()
        assert UndoJournal(tmp_path / "undo").pending() == []


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (None, "the pid file .*daemon.pid cannot be read: .*No such file"),
        ("banana", "holds 'banana', and no process id"),
        ("1", "holds '1', and no process id"),
        ("self", r"process \d+ of .* is another: its command line is not like 'daemon\\\\.py'"),
    ],
)
async def test_a_pid_file_that_is_wrong_breaks_nothing(tmp_path: Path, written: str | None, said: str) -> None:
    """Not there, no number, init, or the number of another process."""
    async with serving(tmp_path) as service:
        pid = service.pid
        kept = service.pid_file.read_text()
        if written is None:
            service.pid_file.unlink()
        else:
            service.pid_file.write_text(str(os.getpid()) if written == "self" else written)
        with pytest.raises(FaultNotInjected, match=said):
            await service.fault("process-kill", journal=tmp_path / "undo").__aenter__()
        service.pid_file.write_text(kept)
        assert (await service.ask())["pid"] == pid


async def test_a_pattern_that_matches_another_number_of_processes_breaks_nothing(tmp_path: Path) -> None:
    """Two are wanted, and one runs."""
    async with serving(tmp_path, pid_file="", command=f"daemon.py .*{tmp_path}", count=2) as service:
        with pytest.raises(FaultNotInjected, match=r"2 process with a command line like .* was wanted, 1 run: \d+"):
            await service.fault("process-kill", journal=tmp_path / "undo").__aenter__()
        assert await service.ask()


async def test_a_process_that_nobody_collected_does_not_run() -> None:
    """A zombie keeps its number, and is no service."""
    child = await asyncio.to_thread(os.posix_spawnp, "true", ["true"], os.environ)
    while _state(child) != "Z":
        await asyncio.sleep(0.005)
    try:
        assert not identify(child).alive()
    finally:
        os.waitpid(child, 0)


async def test_a_number_that_was_given_again_is_never_signalled() -> None:
    """The same number with another start."""
    child = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        theirs = identify(child.pid)
        assert not ProcessId(child.pid, "1@another-boot").send(signal.SIGKILL)
        assert theirs.alive()
        assert theirs.send(signal.SIGKILL)
    finally:
        await child.wait()
    assert not theirs.send(signal.SIGKILL)
