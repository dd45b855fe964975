"""How the supervisor is told what to do: one JSON line in, one out, over a socket in the platform's directory."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from pathlib import Path
from typing import Any


class PlatformFailed(Exception):
    """The platform could not be started or did not do as told. One sentence, with the remedy where there is one."""


@contextlib.asynccontextmanager
async def take_commands(
    directory: Path, name: str, obey: Callable[[Mapping[str, Any]], Awaitable[None]]
) -> AsyncGenerator[None]:
    """Take commands while the block runs. Each is answered with `{"done": true}` or `{"failed": sentence}`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            line = await reader.readline()
            answer: dict[str, Any] = {"done": True}
            try:
                document = json.loads(line)
                await obey(document if isinstance(document, dict) else {})
            except (PlatformFailed, ValueError) as error:
                answer = {"failed": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()

    with _reached(directory, name) as path:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
    server = await asyncio.start_unix_server(serve, sock=listener)
    try:
        yield
    finally:
        server.close()
        (directory / name).unlink(missing_ok=True)


def command(directory: Path, name: str, document: Mapping[str, Any], *, seconds: float) -> None:
    """Give one command and wait until it is done. Raises PlatformFailed when nobody listens, or it failed.

    An empty document only asks whether somebody is there.
    """
    with contextlib.ExitStack() as stack:
        channel = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
        channel.settimeout(seconds)
        try:
            channel.connect(stack.enter_context(_reached(directory, name)))
        except OSError as error:
            raise PlatformFailed(
                f"no sample platform is running in {directory}: `stormwatch demo --keep` starts one"
            ) from error
        if not document:
            return
        try:
            channel.sendall(json.dumps(document).encode() + b"\n")
            answer = json.loads(channel.makefile("rb").readline() or "{}")
        except (OSError, ValueError) as error:
            raise PlatformFailed(f"the platform in {directory} did not answer {dict(document)}: {error}") from error
    if not answer.get("done"):
        raise PlatformFailed(answer.get("failed") or f"the platform in {directory} ended during {dict(document)}")


@contextlib.contextmanager
def _reached(directory: Path, name: str) -> Generator[str]:
    """A short path of a file in a directory: names of Unix sockets end after 107 bytes (unix(7)), those of directories do not."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise PlatformFailed(f"there is no directory {directory}: {error.strerror}") from error
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
