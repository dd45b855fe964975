"""`stormwatch run --blackbox`: the options of the command, and a process that serves `/probe`, alone or beside a service."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from stormwatch.harness.blackbox_module import Modules, read_modules
from stormwatch.harness.blackbox_prober import BlackboxProber, Terms
from stormwatch.harness.blackbox_web import blackbox_app
from stormwatch.harness.mistake import ConfigError
from stormwatch.harness.problem import Problem
from stormwatch.harness.server import serving
from stormwatch.probes.reach import OWN_HOST, Reach, networks

log = logging.getLogger(__name__)


def terms_of(
    *, allow: Sequence[str], refuse: Sequence[str], timeout_offset: float, history: int, at_once: int
) -> Terms:
    """The terms that the command line asks for. Raises Problem for what cannot be.

    Networks that are refused come on top of our own host, its link and the metadata services of clouds.
    """
    try:
        reach = Reach(allow=networks(allow), refuse=(*OWN_HOST, *networks(refuse)))
    except ValueError as error:
        raise Problem(f"--probe-allow and --probe-refuse: {error}") from error
    return Terms(reach=reach, timeout_offset=timeout_offset, history=history, at_once=at_once)


def load_modules(path: Path) -> Modules:
    """The modules in a file. Raises Problem with every mistake in it."""
    try:
        return read_modules(path)
    except ConfigError as error:
        raise Problem(*error.lines) from error


@contextlib.asynccontextmanager
async def probing(path: Path, terms: Terms) -> AsyncGenerator[BlackboxProber]:
    """A prober of the modules in a file, which reads them again on SIGHUP. Raises Problem for a file it cannot use."""
    prober = BlackboxProber(load_modules(path), terms=terms)
    reloads: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        with contextlib.suppress(ConfigError):  # logged already
            await prober.reload()

    def on_hangup() -> None:
        task = asyncio.create_task(reload(), name="reload of modules")
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    try:
        async with prober:
            yield prober
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def serve_alone(prober: BlackboxProber, bound: socket.socket, stop: asyncio.Event, *, prefix: str = "") -> None:
    """Serve nothing but the prober's addresses until `stop` is set."""
    async with serving(blackbox_app(prober, prefix=prefix), bound):
        await stop.wait()
