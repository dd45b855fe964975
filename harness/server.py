"""An HTTP server inside our own event loop: bound before it says so, stopped by its owner, silent about signals."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator

import uvicorn
from starlette.types import ASGIApp

from stormwatch.harness.problem import Problem


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        # The service owns the signals: it stops probes and sinks in their order, not only this server.
        yield


def bind(address: str) -> socket.socket:
    """A listening socket for `host:port`. Raises Problem, one line, when that cannot be had."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise Problem(f"--listen {address}: an address is written host:port, for example 127.0.0.1:9797")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, int(port)))
        bound.listen(256)
    except OSError as error:
        bound.close()
        raise Problem(f"cannot listen on {address}: {error.strerror}; choose another address with --listen") from error
    bound.setblocking(False)
    return bound


def address_of(bound: socket.socket) -> str:
    """`host:port` of a listening socket."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, bound: socket.socket) -> AsyncGenerator[None]:
    """Serve on a bound socket until the block is left; requests that are under way have two seconds to end."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        # Longer than a scraper's usual interval, and than clients keep what is idle: who ends it last loses no request.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        ws="none",
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[bound]), name="web server")
    try:
        yield  # the socket listens already: who connects before the server runs waits in its queue
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
