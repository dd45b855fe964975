"""A process that is broken as a whole: how it is found, how it is brought back, and the faults that end it or stop it.

found by pid file, command line or unit ▸ recorded with its start, so that a number given again is never hit ▸ signalled ▸ seen
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.breakage import CannotBreak
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.host_program import Setting, gone, leave_running, marked, search_path
from stormwatch.chaos.process import ProcessId, identify
from stormwatch.probes.procfs import PARENT, command_line, running, status_of

if TYPE_CHECKING:
    from stormwatch.chaos.host_options import ProcessKill, ProcessPause, ProcessRestart
    from stormwatch.chaos.host_targets import ProcessTarget

RESTORED = "STORMWATCH_RESTORED"
"""The variable with the id of the fault after which a process was started again: a second undoing does not start a second."""
_LOOK = 0.05
"""Seconds between two looks at a process."""
_DYING = 0.5
"""Seconds in which a process that was sent SIGKILL may still look alive."""


class NotFound(Exception):
    """The process is not there, or it cannot be told which it is. One sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A process of a service: how it is found, and how it is started. JSON values only, for the undo record."""

    pid_file: str = ""
    command: str = ""
    count: int = 1
    unit: str = ""
    start: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    directory: str = "/"
    user: str = ""
    grace: float = 5.0
    back: float = 10.0

    @classmethod
    def of(cls, target: "ProcessTarget") -> "Daemon":
        """As the configuration has it."""
        return cls(
            pid_file=target.pid_file,
            command=target.command,
            count=target.count,
            unit=target.unit,
            start=target.start,
            env=target.env,
            directory=target.directory or "/",
            user=target.user,
            grace=target.grace,
            back=target.back,
        )

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Daemon":
        """Read what `as_json` wrote. Raises KeyError or TypeError for anything else."""
        fields = dict[str, Any](document, start=tuple(document["start"]))
        return cls(**fields)

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {**asdict(self), "start": list(self.start)}

    def find(self) -> tuple[ProcessId, ...]:
        """Its processes that run. Blocking, short. Raises NotFound when it does not run, or cannot be told."""
        if self.unit:
            return (self._main_of_unit(),)
        if self.pid_file:
            return (self._in_pid_file(),)
        found = tuple(identify(pid) for pid in running() if self._is_it(pid))
        if len(found) == self.count:
            return found
        shown = f": {', '.join(str(process.pid) for process in found[:8])}" if found else ""
        raise NotFound(
            f"{self.count} process with a command line like {self.command!r} was wanted, {len(found)} run{shown}"
        )

    def _main_of_unit(self) -> ProcessId:
        asked = ("systemctl", "show", "--property", "MainPID", "--value", self.unit)
        told = _systemctl(asked)
        found = identify(int(told)) if told.isdigit() and int(told) > 1 else None
        if found is None or not found.alive():
            raise NotFound(f"the unit {self.unit} has no main process")
        return found

    def _in_pid_file(self) -> ProcessId:
        try:
            written = Path(self.pid_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NotFound(f"the pid file {self.pid_file} cannot be read: {error}") from error
        if not written.isdigit() or int(written) <= 1:
            raise NotFound(f"the pid file {self.pid_file} holds {written[:40]!r}, and no process id")
        found = identify(int(written))
        if not found.alive():
            raise NotFound(f"process {written} of {self.pid_file} does not run")
        if self.command and not self._is_it(found.pid):
            raise NotFound(
                f"process {written} of {self.pid_file} is another: its command line is not like {self.command!r}"
            )
        if found.pid in _ourselves():
            raise NotFound(f"process {written} of {self.pid_file} is stormwatch itself, or what started it")
        return found

    def _is_it(self, pid: int) -> bool:
        line = " ".join(command_line(pid))
        return bool(line) and re.search(self.command, line) is not None and pid not in _ourselves()

    def begin(self, fault: str, *, variable: str = RESTORED, env: Mapping[str, str] | None = None) -> None:
        """Start it, with the fault's id in its environment. Blocking, short. Raises what `leave_running` does, NotFound."""
        if self.unit:
            _systemctl(("systemctl", "start", self.unit))
            return
        setting = Setting(env={**self.env, **(env or {})}, directory=self.directory, user=self.user)
        leave_running(self.start, mark={variable: fault}, setting=setting)

    async def found_within(self, seconds: float) -> tuple[ProcessId, ...]:
        """Its processes, once they run. Raises NotFound after so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return await asyncio.to_thread(self.find)
            except NotFound:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_LOOK)


@dataclass(slots=True)
class Killing:
    """SIGKILL or SIGTERM to a process; with `again`, it is started again at once."""

    fault: str
    options: "ProcessKill | ProcessRestart"
    daemon: Daemon
    again: bool = False
    method: str = "process"
    hit: tuple[ProcessId, ...] = ()
    at: float | None = None

    async def prepare(self) -> Mapping[str, Any]:
        self.hit = await found(self.daemon)
        return {
            "fault": self.fault,
            "daemon": self.daemon.as_json(),
            "hit": [process.as_json() for process in self.hit],
            "signal": self.options.signal,
        }

    async def inject(self) -> None:
        await end(self.hit, signal.Signals[f"SIG{self.options.signal}"], self.daemon.grace)
        self.at = time.time()
        if self.again:
            try:
                await bring_back(self.daemon, self.fault, without=self.hit)
            except UndoFailed as error:
                raise CannotBreak(f"it was ended, and {error}") from error

    async def evidence(self) -> Evidence:
        if any(process.alive() for process in self.hit):
            raise CannotBreak(f"process {self.hit[0].pid} is alive")
        try:
            now = f", process {(await asyncio.to_thread(self.daemon.find))[0].pid} runs in its place"
        except NotFound:
            now = ""
        what = f"{_named(self.hit)} ended by SIG{self.options.signal}{now}"
        return Evidence(first=self.at, last=self.at, what=what)


@dataclass(slots=True)
class Pausing:
    """SIGSTOP: it keeps its connections and its memory, and does nothing."""

    fault: str
    options: "ProcessPause"
    daemon: Daemon
    method: str = "pause"
    hit: tuple[ProcessId, ...] = ()
    at: float | None = None

    async def prepare(self) -> Mapping[str, Any]:
        self.hit = await found(self.daemon)
        if still := [process for process in self.hit if process.stopped()]:
            raise CannotBreak(f"process {still[0].pid} is stopped already; `kill -CONT {still[0].pid}` lets it go on")
        return {"hit": [process.as_json() for process in self.hit]}

    async def inject(self) -> None:
        for process in self.hit:
            _send(process, signal.SIGSTOP)
        deadline = time.monotonic() + self.daemon.grace
        while not all(process.stopped() for process in self.hit):
            if time.monotonic() > deadline:
                raise CannotBreak(f"{_named(self.hit)} did not stop by SIGSTOP within {self.daemon.grace:g} s")
            await asyncio.sleep(_LOOK)
        self.at = time.time()

    async def evidence(self) -> Evidence:
        for process in self.hit:
            if not process.stopped():
                seen = "runs" if process.alive() else "is gone"
                raise CannotBreak(f"process {process.pid} {seen}: somebody else took it out of its stop")
        return Evidence(first=self.at, last=time.time(), what=f"{_named(self.hit)} stopped by SIGSTOP")


async def undo_kill(arguments: Mapping[str, Any]) -> Absence:
    """Have the process run again: started unless it is back already. Idempotent. Raises UndoFailed."""
    daemon = Daemon.from_json(arguments["daemon"])
    hit = [ProcessId.from_json(one) for one in arguments["hit"]]
    # A signal may be on its way still, when whoever sent it is dead.
    ended = await gone(hit, _DYING if arguments["signal"] == "KILL" else daemon.grace)
    while not ended and any(process.is_being_killed() for process in hit):
        ended = await gone(hit, _DYING)
    back = await bring_back(daemon, str(arguments["fault"]), without=hit if ended else ())
    shown = f"process {', '.join(str(process.pid) for process in back.processes)} runs"
    return Absence(not back.was_there, f"{shown} in its place" if ended else f"{shown}, as before")


@dataclass(frozen=True, slots=True)
class Back:
    """It runs."""

    processes: tuple[ProcessId, ...]
    was_there: bool
    """Whether it ran before it was asked for."""


async def bring_back(daemon: Daemon, fault: str, *, without: Sequence[ProcessId]) -> Back:
    """Have it run: start it unless somebody did. Raises UndoFailed."""
    try:
        now = await asyncio.to_thread(daemon.find)
    except NotFound:
        now = ()
    if now and not set(now) & set(without):
        return Back(now, was_there=True)
    try:
        if (daemon.start or daemon.unit) and not await asyncio.to_thread(marked, fault, RESTORED):
            await asyncio.to_thread(daemon.begin, fault)
        return Back(await daemon.found_within(daemon.back), was_there=False)
    except (NotFound, CannotBreak, OSError, KeyError, subprocess.SubprocessError) as error:
        by = f"`{daemon.start[0]}`" if daemon.start else f"the unit {daemon.unit}" if daemon.unit else "its supervisor"
        raise UndoFailed(f"it is not back {daemon.back:g} s after {by} should have started it: {error}") from error


async def undo_pause(arguments: Mapping[str, Any]) -> Absence:
    """Have the process go on. Idempotent. Raises UndoFailed."""
    hit = [ProcessId.from_json(one) for one in arguments["hit"]]
    was_there = any(process.stopped() for process in hit)
    deadline = time.monotonic() + 5.0
    while True:
        try:
            for process in hit:
                # Also to one that is not stopped (yet): SIGCONT takes back a SIGSTOP that is still on its way (signal(7)).
                process.send(signal.SIGCONT)
        except PermissionError as error:
            raise UndoFailed(f"process {hit[0].pid} must not be signalled by us: undo as root") from error
        if not (stopped := [process for process in hit if process.stopped()]):
            break
        if time.monotonic() > deadline:
            raise UndoFailed(f"process {stopped[0].pid} stays stopped after SIGCONT: does a debugger hold it?")
        await asyncio.sleep(0.01)
    alive = [str(process.pid) for process in hit if process.alive()]
    return Absence(
        was_there, f"process {', '.join(alive)} runs" if alive else "the process is gone, and its stop with it"
    )


async def found(daemon: Daemon) -> tuple[ProcessId, ...]:
    """Its processes. Raises CannotBreak."""
    try:
        return await asyncio.to_thread(daemon.find)
    except (NotFound, OSError) as error:
        raise CannotBreak(f"{error}; start it before it is broken") from error


async def end(processes: tuple[ProcessId, ...], number: signal.Signals, grace: float) -> None:
    """Signal them and see them end. Raises CannotBreak."""
    for process in processes:
        _send(process, number)
    if not await gone(processes, grace):
        raise CannotBreak(f"{_named(processes)} lived on for {grace:g} s after {number.name}")


def _send(process: ProcessId, number: signal.Signals) -> None:
    try:
        there = process.send(number)
    except PermissionError as error:
        raise CannotBreak(
            f"process {process.pid} must not be signalled by us: run the drill as root, or as its user"
        ) from error
    if not there:
        raise CannotBreak(f"process {process.pid} ended by itself before the fault was put on it")


def _named(processes: tuple[ProcessId, ...]) -> str:
    pids = ", ".join(str(process.pid) for process in processes)
    return f"process {pids}" if len(processes) == 1 else f"processes {pids}"


def _ourselves() -> frozenset[int]:
    """Us, and those that started us: a pattern that also matches them means another."""
    pid, found = os.getpid(), set[int]()
    while pid > 1 and pid not in found:
        found.add(pid)
        if not (status := status_of(pid)):
            break
        pid = int(status[PARENT])
    return frozenset(found)


def _systemctl(argv: tuple[str, ...]) -> str:
    program = shutil.which(argv[0], path=search_path())
    if program is None:
        raise NotFound("systemctl is not there: this machine has no systemd; give the target a pid_file or a command")
    try:
        done = subprocess.run([program, *argv[1:]], capture_output=True, text=True, timeout=30, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        said = " ".join(str(getattr(error, "stderr", "") or error).split())
        raise NotFound(f"`{' '.join(argv)}` failed: {said}") from error
    return done.stdout.strip()
