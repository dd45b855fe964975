"""Kafka's protocol as a plain dialogue over streams that are already there. Needs the extra `kafka`; imported where it is used.

Requests and records are written and read by aiokafka. Its clients are not used: they connect to whatever a broker names, and
live in tasks of their own that outlast a cancelled run, while a probe asks one thing after the other.
Protocol: https://kafka.apache.org/protocol.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from aiokafka import errors
from aiokafka.conn import ScramAuthenticator
from aiokafka.protocol.admin import ApiVersionRequest, SaslAuthenticateRequest, SaslHandShakeRequest
from aiokafka.protocol.api import Request
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from stormwatch.probes.backend import MOST, Streams

CLIENT: Final = "stormwatch"
PATIENCE: Final = 500
"""Milliseconds that a broker holds back an answer for lack of messages; it is asked again then."""
FETCHED: Final = 2**14
"""Bytes of messages that are taken at once. Packed with gzip they can be a thousand times as many."""
ITERATIONS: Final = 200_000
"""Rounds of hashing that a broker may ask for at a SCRAM login: more is an attack on our processor."""

_GZIP: Final = 1
_UNREADABLE: Final = (
    struct.error,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OverflowError,
    RecursionError,
    NotImplementedError,
    SystemError,  # the driver's C code asks for a negative number of bytes
    EOFError,
    OSError,  # gzip.BadGzipFile
    zlib.error,
    errors.KafkaError,
)


class Garbled(Exception):
    """What came is no answer to what was asked."""


class Refused(Exception):
    """The broker answered with an error code."""

    def __init__(self, code: int, said: str = "") -> None:
        kind = errors.for_code(code)
        super().__init__(f"{said or getattr(kind, 'description', '') or kind.__name__} (code {code})")
        self.code = code


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of a topic, as a broker describes it."""

    number: int
    leader: int
    """The node that leads it; -1 when there is none."""
    replicas: int
    in_sync: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a broker says of its cluster, and of one topic."""

    brokers: Mapping[int, tuple[str, int]]
    """Host and port by node."""
    partitions: tuple[Partition, ...]


class Session:
    """One connection to one broker."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._versions: dict[int, tuple[int, int]] = {}
        self._correlation = 0

    async def greet(self) -> None:
        """Learn which versions of which requests the broker speaks."""
        answer = await self._ask(ApiVersionRequest())
        self._versions = _read(lambda: {key: (least, most) for key, least, most in answer.api_versions})
        _check(answer.error_code)

    async def log_in(self, mechanism: str, username: str, password: str) -> None:
        """SASL. Raises Refused with the broker's words."""
        offered = await self._ask(SaslHandShakeRequest(mechanism))
        _check(offered.error_code, f"it offers {', '.join(offered.enabled_mechanisms)}, not {mechanism}")
        if mechanism == "PLAIN":
            await self._authenticate(f"\0{username}\0{password}".encode())
            return
        scram = _Scram(mechanism, username, password)
        await self._authenticate(await scram.finish(await self._authenticate(await scram.begin())), last=scram)

    async def _authenticate(self, token: bytes, *, last: "_Scram | None" = None) -> bytes:
        answer = await self._ask(SaslAuthenticateRequest(token))
        _check(answer.error_code, answer.error_message or "")
        if last is not None:
            await last.verify(answer.sasl_auth_bytes)
        return answer.sasl_auth_bytes

    async def describe(self, topic: str) -> Cluster:
        """The cluster, and a topic if one is named. Raises Refused when there is none of that name; makes none."""
        answer = await self._ask(MetadataRequest([topic] if topic else [], allow_auto_topic_creation=False))
        cluster = _read(lambda: read_cluster(answer))
        for described in answer.topics:
            _check(described[0])
        return cluster

    async def publish(self, topic: str, partition: int, message: bytes, patience: float) -> int:
        """Append a message, wait until all replicas in sync have it, and say where it stands."""
        builder = DefaultRecordBatchBuilder(
            magic=2,
            compression_type=0,
            is_transactional=0,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            batch_size=2**16,
        )
        builder.append(0, timestamp=None, key=None, value=message, headers=[])
        request = ProduceRequest(
            None, -1, max(1, int(patience * 1000)), [(topic, [(partition, bytes(builder.build()))])]
        )
        answer = await self._ask(request)
        _, code, offset = _read(lambda: answer.topics[0][1][0][:3])
        _check(code)
        return offset

    async def wait_for(self, topic: str, partition: int, offset: int, message: bytes) -> None:
        """Read on from an offset until that message comes; others are passed over. No group, no offset is committed."""
        while True:
            answer = await self._ask(FetchRequest(PATIENCE, 1, FETCHED, 0, [(topic, [(partition, offset, FETCHED)])]))
            code, records = read_fetched(answer)
            _check(code)
            for at, value in records:
                if value == message:
                    return
                offset = max(offset, at + 1)

    async def _ask(self, request: Request[Any]) -> Any:
        prepared = _read(lambda: request.prepare(self._versions))
        self._correlation += 1
        header = prepared.build_request_header(correlation_id=self._correlation, client_id=CLIENT)
        said = header.encode() + prepared.encode()
        self._streams.writer.write(struct.pack(">i", len(said)) + said)
        (size,) = struct.unpack(">i", await self._streams.reader.readexactly(4))
        if not 4 <= size <= MOST:
            raise Garbled(f"an answer of {size} bytes")
        return read_answer(prepared, self._correlation, await self._streams.reader.readexactly(size))


class _Scram:
    """The client's part of RFC 5802, worked out in a thread: it is made to be slow."""

    def __init__(self, mechanism: str, username: str, password: str) -> None:
        import asyncio

        self._steps = ScramAuthenticator(
            loop=asyncio.get_running_loop(),
            sasl_mechanism=mechanism,
            sasl_plain_username=username,
            sasl_plain_password=password,
        )

    async def begin(self) -> bytes:
        token, _ = await self._steps.step(None)
        return token

    async def finish(self, first: bytes) -> bytes:
        rounds = _read(lambda: int(dict(part.split("=", 1) for part in first.decode().split(","))["i"]))
        if not 0 < rounds <= ITERATIONS:
            raise Garbled(f"a SCRAM login of {rounds} rounds")
        try:
            token, _ = await self._steps.step(first)
        except _UNREADABLE as error:
            raise Garbled(f"a SCRAM login that cannot be read: {error}") from error
        return token

    async def verify(self, final: bytes) -> None:
        """Whoever answers must have known the password too."""
        try:
            await self._steps.step(final)
        except _UNREADABLE as error:
            raise Garbled(f"a broker that does not know the password itself: {error}") from error


def read_answer(request: Any, correlation: int, payload: bytes) -> Any:
    """An answer without its length. Raises Garbled for anything but an answer to that request."""
    buffer = BytesIO(payload)
    header = _read(lambda: request.parse_response_header(buffer))
    if header.correlation_id != correlation:
        raise Garbled(f"an answer to request {header.correlation_id}, wanted one to {correlation}")
    return _read(lambda: request.RESPONSE_TYPE.decode(buffer))


def read_cluster(answer: Any) -> Cluster:
    """What a MetadataResponse says, of any version. Raises Garbled for one whose lists are none."""
    return _read(lambda: _cluster(answer))


def _cluster(answer: Any) -> Cluster:
    partitions = [
        Partition(number=each[1], leader=each[2], replicas=len(each[3]), in_sync=len(each[4]))
        for topic in answer.topics
        for each in topic[-1]
    ]
    return Cluster(
        brokers={each[0]: (each[1], each[2]) for each in answer.brokers},
        partitions=tuple(sorted(partitions, key=lambda partition: partition.number)),
    )


def read_fetched(answer: Any) -> tuple[int, list[tuple[int, bytes | None]]]:
    """Error code, and offset and value of each message, of a FetchResponse of any version for one partition."""
    return _read(lambda: (answer.topics[0][1][0][1], read_records(answer.topics[0][1][0][-1])))


def read_records(data: bytes | None) -> list[tuple[int, bytes | None]]:
    """Offset and value of each message. What is cut off at the end is left out.

    Only gzip is unpacked: its ratio is bounded, those of the others are not. We send our message as it is, so that it
    comes back packed only if the topic says so.
    """
    if len(data or b"") > FETCHED:
        raise Garbled(f"{len(data or b'')} bytes of messages, wanted at most {FETCHED}")
    records, found = MemoryRecords(data or b""), list[tuple[int, bytes | None]]()
    while records.has_next():
        batch = records.next_batch()
        if batch is None:
            break
        if getattr(batch, "compression_type", 0) > _GZIP:
            raise Garbled("messages packed otherwise than with gzip: give the topic `compression.type=producer`")
        found.extend((record.offset, record.value) for record in batch)
    return found


def _read(what: Any) -> Any:
    try:
        return what()
    except _UNREADABLE as error:
        raise Garbled(f"an answer that cannot be read: {type(error).__name__}: {error}") from error


def _check(code: int, said: str = "") -> None:
    if code:
        raise Refused(code, said)
