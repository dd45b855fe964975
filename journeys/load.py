"""Journeys under load: starts the process that makes it, hears how it goes, and ends it in order."""

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

from stormwatch.journeys.load_job import LoadJob

_LINE: Final = 16 * 2**20
"""Bytes that one event may have."""
_GOODBYE: Final = 60.0
"""Seconds on top of the grace that it has for coming to its end before it is killed."""


class LoadMissing(Exception):
    """locust is not installed."""


class Load:
    """One process that makes load."""

    def __init__(self, job: LoadJob, process: asyncio.subprocess.Process) -> None:
        self._job = job
        self._process = process
        self._said: deque[str] = deque(maxlen=40)
        self._listening = asyncio.create_task(self._listen(), name="output of a load")

    @classmethod
    @contextlib.asynccontextmanager
    async def making(cls, job: LoadJob, *, environment: Mapping[str, str]) -> "AsyncGenerator[Load]":
        """Make load for as long as the block runs. Raises LoadMissing where locust is not installed, OSError if there is no process."""
        if importlib.util.find_spec("locust") is None:
            raise LoadMissing("load is made by locust, which is not installed: pip install 'stormwatch[load]'")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "stormwatch.journeys.load_process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE,
            env={**os.environ, **environment},
            cwd=job.journeys[0].file.parent,
            # Ctrl-C in the terminal is for us, and we end it in order.
            start_new_session=True,
        )
        load = cls(job, process)
        try:
            yield load
        finally:
            await load._close()

    async def events(self) -> AsyncGenerator[Mapping[str, Any]]:
        """What it says, until it ends: see `load_process`. The last is `{"event": "ended", "code": …, "said": "…"}`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps(self._job.as_json()).encode() + b"\n")
            await self._process.stdin.drain()
        while line := await self._process.stdout.readline():
            yield json.loads(line)
        code = await self._process.wait()
        await self._listening
        yield {"event": "ended", "code": code, "said": "\n".join(self._said)}

    def end(self) -> None:
        """Let users come to the end of their runs; `events` goes on until all is said."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            if text := line.decode(errors="replace").strip():
                self._said.append(text[:400])

    async def _close(self) -> None:
        if self._process.returncode is None:
            self.end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._job.grace + _GOODBYE):
                    assert self._process.stdout is not None
                    # Nobody wants to know any more, and it must not wait for room in the pipe.
                    while await self._process.stdout.read(1 << 16):
                        pass
                    await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
