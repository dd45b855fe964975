"""redis-py's connection over streams that are already there. Needs the extra `redis`; imported where it is used."""

from typing import Any

from redis.asyncio.connection import Connection

from stormwatch.probes.backend import Streams


class OpenedConnection(Connection):
    """Never resolves, never connects, never connects again."""

    def __init__(self, streams: Streams, **options: Any) -> None:
        super().__init__(**options)
        self._streams: Streams | None = streams

    async def _connect(self) -> None:
        if self._streams is None:
            raise ConnectionResetError("the connection is gone")
        self._reader, self._writer = self._streams.reader, self._streams.writer
        self._streams = None
