"""The command `stormwatch` in a process of its own that need not import anything first.

Each is forked from a server that has, once for all tests of a session: what a command imports takes longer than what most
of them do. Arguments, environment, directory, streams and exit code are those of a real process. What a test proves about
starting or ending the installed program itself is proved with the installed program.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRELOADED = ("tests.servers.imported", __name__)


def invoke(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `stormwatch` to its end, as `subprocess.run` does with `capture_output` and `text`. Raises TimeoutExpired."""
    (done,) = invoke_all([Invocation(arguments, cwd or Path.cwd(), os.environ if env is None else env)], timeout)
    return done


@dataclass(frozen=True)
class Invocation:
    """One command."""

    arguments: Sequence[str | Path]
    cwd: Path
    env: Mapping[str, str]


def invoke_all(invocations: Sequence[Invocation], timeout: float) -> list[subprocess.CompletedProcess[str]]:
    """Run several beside each other, all to their end. Raises TimeoutExpired of the first that does not come to it.

    One thread at a time: what multiprocessing knows of its children is not made for two.
    """
    with ExitStack() as stack:
        running = [stack.enter_context(_started(each)) for each in invocations]
        until = time.monotonic() + timeout
        return [_ended(each, until, timeout) for each in running]


@dataclass(frozen=True)
class _Running:
    argv: list[str]
    child: Any
    streams: tuple[Path, Path]


@contextmanager
def _started(invocation: Invocation) -> Generator[_Running]:
    """A command that is ended with the block at the latest."""
    argv = ["stormwatch", *map(str, invocation.arguments)]
    with tempfile.TemporaryDirectory() as directory:
        streams = Path(directory, "out"), Path(directory, "err")
        child = _server().Process(target=_run, args=(argv, invocation.cwd, dict(invocation.env), *streams))
        child.start()
        try:
            yield _Running(argv, child, streams)
        finally:
            if child.exitcode is None:
                child.kill()
            child.join()
            child.close()


def _ended(running: _Running, until: float, timeout: float) -> subprocess.CompletedProcess[str]:
    running.child.join(max(0.0, until - time.monotonic()))
    said = [path.read_text() if path.exists() else "" for path in running.streams]
    if running.child.exitcode is None:
        raise subprocess.TimeoutExpired(running.argv, timeout, *said)
    return subprocess.CompletedProcess(running.argv, running.child.exitcode, *said)


def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _run(argv: list[str], cwd: Path, environ: dict[str, str], out: Path, err: Path) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    for path, stream in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, stream)
        os.close(opened)
    sys.argv = argv
    from stormwatch.harness.cli import main

    main()
