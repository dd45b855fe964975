"""The command `stormwatch` in a process of its own that need not import anything first.

Each is forked from a server that has, once for all tests of a session: what a command imports takes longer than what most
of them do. Arguments, environment, directory, streams, signals and exit code are those of a real process; only what the
kernel remembers of its beginning, `cmdline` and `environ` in /proc, is the server's. What a test proves about starting or
ending the installed program itself is proved with the installed program.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from tests.servers.process import answers, wait_for

PRELOADED = ("tests.servers.imported", "tests.end_to_end.mortal", __name__)
_ASKING = threading.Lock()
"""Whoever starts a process asks for the exit codes of all others, too, and each of them can be read only once."""


def invoke(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `stormwatch` to its end, as `subprocess.run` does with `capture_output` and `text`. Raises TimeoutExpired."""
    with begun(*arguments, cwd=cwd, env=env) as command:
        return command.ended(timeout)


@contextmanager
def begun(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Generator["Command"]:
    """A `stormwatch` that runs beside the test; it is killed with the block at the latest."""
    with tempfile.TemporaryDirectory() as directory:
        command = Command(arguments, Path(directory, "out"), Path(directory, "err"), cwd=cwd, env=env)
        try:
            yield command
        finally:
            command.kill()
            command.wait()


@contextmanager
def staying(
    *arguments: str | Path, log: Path, port: int = 0, environ: Mapping[str, str] | None = None
) -> Generator["Command"]:
    """A `stormwatch run` or `proxy` that writes to `log`; with `port`, the block is entered when it accepts connections.

    It is ended with SIGTERM, then SIGKILL, as `tests.servers.process.running` ends a program.
    """
    command = Command(arguments, log, log, env={**os.environ, **(environ or {})})
    try:
        if port:
            wait_for(
                lambda: command.poll() is not None or answers(("127.0.0.1", port)),
                what=f"{' '.join(command.args)} to listen on port {port}",
                seconds=100,
            )
            assert command.poll() is None, f"{command.args} ended with {command.poll()}:\n{log.read_text()[-4000:]}"
        yield command
    finally:
        command.send_signal(signal.SIGTERM)
        try:
            command.wait(15)
        except subprocess.TimeoutExpired:
            command.kill()
            command.wait()


@dataclass(frozen=True)
class Invocation:
    """One command."""

    arguments: Sequence[str | Path]
    cwd: Path
    env: Mapping[str, str]


def invoke_all(invocations: Sequence[Invocation], timeout: float) -> list[subprocess.CompletedProcess[str]]:
    """Run several beside each other, all to their end. Raises TimeoutExpired of the first that does not come to it."""
    with ExitStack() as stack:
        running = [stack.enter_context(begun(*each.arguments, cwd=each.cwd, env=each.env)) for each in invocations]
        until = time.monotonic() + timeout
        return [each.ended(max(0.0, until - time.monotonic())) for each in running]


class Forked:
    """A function in a process of its own, with what `subprocess.Popen` has for one. Threads may have several."""

    def __init__(self, target: Callable[..., None], *given: Any) -> None:
        """Begin it."""
        self.args: Sequence[str] = [target.__name__]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        self._child = context.Process(target=target, args=given)
        with _ASKING:
            self._child.start()
        assert self._child.pid is not None
        self.pid = self._child.pid

    @property
    def returncode(self) -> int | None:
        """The exit code as soon as it has ended; negative when a signal ended it."""
        with _ASKING:
            return self._child.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises TimeoutExpired."""
        wait([self._child.sentinel], timeout)
        code = self.returncode
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing, when it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Command(Forked):
    """A `stormwatch` that has begun. What it says is added to two files, or to one."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        out: Path,
        err: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Begin it."""
        self._streams = out, err
        for path in self._streams:
            path.touch()
        argv = ["stormwatch", *map(str, arguments)]
        super().__init__(_run, argv, cwd or Path.cwd(), dict(os.environ if env is None else env), out, err)
        self.args = argv

    @property
    def said(self) -> str:
        """What it wrote to stderr so far."""
        return self._streams[1].read_text()

    def ended(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Its end, and what it said. Raises TimeoutExpired."""
        try:
            code = self.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise subprocess.TimeoutExpired(
                self.args, timeout, *(path.read_text() for path in self._streams)
            ) from error
        return subprocess.CompletedProcess(self.args, code, *(path.read_text() for path in self._streams))


def _run(argv: list[str], cwd: Path, environ: dict[str, str], out: Path, err: Path) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    for path, stream in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, stream)
        os.close(opened)
    sys.argv = argv
    from stormwatch.harness.cli import main

    main()
