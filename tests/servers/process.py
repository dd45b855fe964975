"""Programs as children of a test: started, waited for by a real answer, ended by their id, their output kept."""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path


def free_port() -> int:
    """A port of loopback that nobody listens on, another one each time. For programs that cannot say which they took themselves.

    It is below those that the kernel gives to clients and to whoever binds port 0, and of those that processes which share the
    tests take none from each other: else somebody might have it before the program does.
    """
    while True:
        port = next(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as trial:
            trial.bind(("127.0.0.1", port))
            return port


def _ports() -> Iterator[int]:
    sharing = 16
    mine = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % sharing
    ports = list(range(20_000 + mine, 32_000, sharing))
    # Tests that somebody else runs on this machine take the same: hardly ever at the same time.
    random.SystemRandom().shuffle(ports)
    return itertools.cycle(ports)


_PORTS = _ports()


def wait_for(condition: Callable[[], bool], *, what: str, seconds: float = 60) -> None:
    """Return when the condition holds; fail with what was waited for when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def answers(address: tuple[str, int]) -> bool:
    """Whether somebody accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], *, log: Path, port: int = 0, environ: Mapping[str, str] | None = None
) -> Generator[subprocess.Popen[bytes]]:
    """A child process; with `port`, the block is entered when it accepts connections. Ended with SIGTERM, then SIGKILL."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            [str(part) for part in command], stdout=output, stderr=output, env={**os.environ, **(environ or {})}
        )
    try:
        if port:
            wait_for(
                lambda: child.poll() is not None or answers(("127.0.0.1", port)),
                what=f"{command[0]} to listen on port {port}",
                seconds=60,
            )
            if child.poll() is not None:
                raise AssertionError(f"{command[0]} ended with {child.returncode}:\n{log.read_text()[-4000:]}")
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(5)
