"""Programs that checks start: in a process group of their own, read without blocking, and never left behind.

Three facts carry this file. A program that has ended keeps its number until it is waited for, so that its group can be
killed before that without hitting a stranger's (POSIX, waitpid). All that it wrote itself is in the pipe by then. And a
descriptor for the process (pidfd_open(2), Linux 5.3) tells the loop of the end, without a signal handler or a thread.
"""

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Final

KEPT: Final = 64 * 2**10
"""Bytes of each output that are kept. The rest is read and thrown away, so that nobody waits for a full pipe."""
GRACE: Final = 1.0
"""Seconds between SIGTERM and SIGKILL."""
_CHUNK: Final = 64 * 2**10
_LAST: Final = 2**20
"""Bytes that are read after the end: what a pipe can hold at most, by default of Linux."""
_LOOK: Final = 0.02
"""Seconds between two looks at a process where there are no descriptors for processes."""
_STUCK: Final = 3.0
"""Seconds after which a process that SIGKILL does not end (it waits for a disk) is no longer waited for at exit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is started, and as whom."""

    argv: tuple[str, ...] = field(repr=False)
    env: Mapping[str, str] = field(repr=False)
    """The whole environment."""
    directory: str = "/"
    stdin: bytes = field(default=b"", repr=False)
    user: int | None = None
    group: int | None = None
    groups: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    code: int
    """Its exit code, or the negative number of the signal that ended it."""
    cpu: float
    """Seconds of processor time of the program and of those of its children that it waited for."""


class Output:
    """The beginning of what a program wrote, and how much it was in all."""

    __slots__ = ("kept", "size")

    def __init__(self) -> None:
        self.kept = bytearray()
        self.size = 0

    def add(self, data: bytes) -> None:
        """More of it."""
        self.size += len(data)
        self.kept += data[: max(0, KEPT - len(self.kept))]

    @property
    def cut(self) -> bool:
        """Whether not all of it was kept."""
        return self.size > len(self.kept)


class Processes:
    """The programs of one event loop. Open it with `watch.resources.get(Processes)`; closing it ends them all."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._running: set[Process] = set()

    @property
    def under_way(self) -> int:
        """How many programs have been started and not been waited for."""
        return len(self._running)

    def start(self, command: Command) -> "Process":
        """Start a program. Raises OSError when it cannot be. The caller ends with `let_go`, whatever happens."""
        process = Process(self._loop, _spawn(command), self._running.discard)
        self._running.add(process)
        return process

    async def aclose(self) -> None:
        """End all that are still there, and wait for it."""
        running = tuple(self._running)
        for process in running:
            process.let_go()
        if running:
            await asyncio.wait([process.end for process in running], timeout=GRACE + _STUCK)
        for process in running:
            process.forget()


class Process:
    """One program, with its group. `end` is done when it was waited for, and nobody of the group is left."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, popen: "subprocess.Popen[bytes]", gone: "Callable[[Process], None]"
    ) -> None:
        self.end: asyncio.Future[Ended] = loop.create_future()
        self.stdout, self.stderr = Output(), Output()
        self._loop = loop
        self._popen = popen
        self._gone = gone
        self._timer: asyncio.TimerHandle | None = None
        self._let_go = False
        self._pipes: dict[int, tuple[IO[bytes], Output]] = {}
        for pipe, output in ((popen.stdout, self.stdout), (popen.stderr, self.stderr)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._pipes[pipe.fileno()] = (pipe, output)
            loop.add_reader(pipe.fileno(), self._read, pipe.fileno())
        self._descriptor = _descriptor_of(popen.pid)
        if self._descriptor is None:
            self._look()
        else:
            loop.add_reader(self._descriptor, self._on_end)

    async def wait(self) -> Ended:
        """Until it has ended by itself. Being cancelled does not end it: `let_go` does."""
        return await asyncio.shield(self.end)

    def let_go(self) -> None:
        """End it if it has not ended: SIGTERM to its group now, SIGKILL after `GRACE`. Returns at once.

        Its outputs are read on: a shell that tells of its end, and nobody listens, would not come to tidy up.
        """
        if self._let_go or self.end.done():
            return
        self._let_go = True
        self._signal(signal.SIGTERM)
        self._timer = self._loop.call_later(GRACE, self._signal, signal.SIGKILL)

    def forget(self) -> None:
        """Hold nothing of it any more, whether it has ended or not."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close_pipes()
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
        if not self.end.done():
            self.end.cancel()
        if self._popen.returncode is None:
            self._popen.returncode = -signal.SIGKILL  # or its destructor complains of a process that it cannot end
        self._gone(self)

    def _signal(self, number: int) -> None:
        """To everybody in the group. Only before the program was waited for: afterwards its number may be another's."""
        with suppress(ProcessLookupError, PermissionError):  # macOS refuses signals to a group that has ended
            os.killpg(self._popen.pid, number)

    def _read(self, number: int) -> int:
        pipe, output = self._pipes[number]
        try:
            data = os.read(number, _CHUNK)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if data:
            output.add(data)
        else:
            self._loop.remove_reader(number)
            del self._pipes[number]
            pipe.close()
        return len(data)

    def _on_end(self) -> None:
        """It has ended, and was not waited for yet."""
        for number in tuple(self._pipes):
            read = 0
            while number in self._pipes and read < _LAST and (more := self._read(number)):
                read += more
        self._signal(signal.SIGKILL)
        _, status, usage = os.wait4(self._popen.pid, 0)
        self._popen.returncode = code = os.waitstatus_to_exitcode(status)
        _bury(self._loop, self._popen.pid)
        if not self.end.done():
            self.end.set_result(Ended(code, usage.ru_utime + usage.ru_stime))
        self.forget()

    def _look(self) -> None:
        if os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            self._on_end()
        else:
            self._loop.call_later(_LOOK, self._look)

    def _close_pipes(self) -> None:
        for number, (pipe, _) in self._pipes.items():
            self._loop.remove_reader(number)
            pipe.close()
        self._pipes.clear()


def _spawn(command: Command) -> "subprocess.Popen[bytes]":
    """Start it. `subprocess` does it by vfork(2), so that it costs the same however large we are.

    Measured with 500 MiB resident: half a millisecond of the loop's time. uvloop's own way forks, and took twenty.
    """
    stdin = _file_of(command.stdin) if command.stdin else None
    try:
        return subprocess.Popen(
            command.argv,
            stdin=stdin if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=command.env,
            cwd=command.directory,
            user=command.user,
            group=command.group,
            extra_groups=command.groups,
            start_new_session=True,
            bufsize=0,
        )
    finally:
        if stdin is not None:
            stdin.close()


def _file_of(data: bytes) -> IO[bytes]:
    """A file without a name: unlike a pipe it takes everything at once, whether it is read or not."""
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("stdin"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed when the program has it
    file.write(data)
    file.seek(0)
    return file


def _descriptor_of(number: int) -> int | None:
    """A descriptor that can be read when the process has ended; None where there is no such thing."""
    try:
        return os.pidfd_open(number)
    except (AttributeError, OSError):
        return None


def _bury(loop: asyncio.AbstractEventLoop, group: int, tries: int = 20) -> None:
    """Wait for those whom the program left behind and who were killed, if they became our children.

    Where we are the first process of a container, orphans are given to us, and nobody else can wait for them.
    """
    try:
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
    if tries and not loop.is_closed():
        loop.call_later(0.05, _bury, loop, group, tries - 1)
