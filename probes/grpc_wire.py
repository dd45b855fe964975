"""gRPC over HTTP/2 as bytes: framed messages, status and metadata. Pure: bytes in, a value or ProbeFailed out.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md; the health check's two messages are those of
https://github.com/grpc/grpc/blob/master/doc/health-checking.md, in the wire format of
https://protobuf.dev/programming-guides/encoding/.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from stormwatch.probes.answer import header_values
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Reason

Code = Literal[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]
"""The status codes of gRPC by name: https://github.com/grpc/grpc/blob/master/doc/statuscodes.md."""

CODES: Final[tuple[Code, ...]] = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""In the order of their numbers."""

Serving = Literal["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]
SERVING: Final[tuple[Serving, ...]] = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
"""HealthCheckResponse.ServingStatus, in the order of its numbers."""

OF_HTTP: Final = {
    400: CODES.index("INTERNAL"),
    401: CODES.index("UNAUTHENTICATED"),
    403: CODES.index("PERMISSION_DENIED"),
    404: CODES.index("UNIMPLEMENTED"),
    429: CODES.index("UNAVAILABLE"),
    502: CODES.index("UNAVAILABLE"),
    503: CODES.index("UNAVAILABLE"),
    504: CODES.index("UNAVAILABLE"),
}
"""What clients make of an HTTP status without a gRPC status; of every other, UNKNOWN.

https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
"""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ended, as the server says."""

    code: int
    message: str = ""
    from_http: int = 0
    """The HTTP status that the code was made of, because the server sent no gRPC status; 0 when it did."""

    @property
    def name(self) -> str:
        """The code by its name; the number for one that is not specified."""
        return code_name(self.code)


def code_name(code: int) -> str:
    """The name of a status code; its number when it has none."""
    return CODES[code] if 0 <= code < len(CODES) else str(code)


def frame(message: bytes) -> bytes:
    """A message as it is sent: not compressed, its length in four bytes before it."""
    return b"\0" + len(message).to_bytes(4) + message


def read_message(body: bytes) -> bytes:
    """The one message of an answer to a unary call. Raises ProbeFailed(protocol) for anything else."""
    if len(body) < 5:
        raise _wrong(f"the answer has {len(body)} bytes, and a message begins with five that say its length")
    size = int.from_bytes(body[1:5])
    if body[0]:
        raise _wrong("the message is compressed, which was not asked for" if body[0] == 1 else "it is not a message")
    if len(body) - 5 != size:
        raise _wrong(f"the message should have {size} bytes, and {len(body) - 5} came")
    return body[5:]


def health_request(service: str) -> bytes:
    """A HealthCheckRequest: field 1 is the service's name, left out when it is empty."""
    name = service.encode()
    return b"\x0a" + _varint(len(name)) + name if name else b""


def read_health_response(message: bytes) -> int:
    """The status, field 1, of a HealthCheckResponse; 0 when it is left out. Raises ProbeFailed(protocol)."""
    status = 0
    for number, value in _fields(message):
        if number == 1:
            if not isinstance(value, int):
                raise _wrong("the message is not a HealthCheckResponse: its field 1 is not a number")
            status = value
    return status


def serving_name(status: int) -> str:
    """The name of a ServingStatus; its number when it has none."""
    return SERVING[status] if 0 <= status < len(SERVING) else str(status)


def split_lines(lines: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The final head, and the trailers that came after the body, from all lines that libcurl passed on."""
    start = max((number for number, line in enumerate(lines) if line.startswith(b"HTTP/")), default=0)
    head: list[bytes] = []
    for number, line in enumerate(lines[start:], start=start + 1):
        if not line.strip():
            return head, [each for each in lines[number:] if each.strip()]
        head.append(line)
    return head, []


def has_status(head: Sequence[bytes], trailers: Sequence[bytes]) -> bool:
    """Whether the server has said how the call ended."""
    return bool(header_values(trailers, "grpc-status") or header_values(head, "grpc-status"))


def read_status(http_status: int, head: Sequence[bytes], trailers: Sequence[bytes]) -> Status:
    """How the call ended: from the trailers, from a head that is all there is, or from the HTTP status.

    Raises ProbeFailed(protocol) when the answer is not one of gRPC.
    """
    lines = trailers if header_values(trailers, "grpc-status") else head
    codes = header_values(lines, "grpc-status")
    if codes:
        if not codes[-1].isdigit() or len(codes[-1]) > 9:
            raise _wrong(f"grpc-status is {_shown(codes[-1])}, and not a number")
        said = header_values(lines, "grpc-message")
        return Status(int(codes[-1]), unquote_to_bytes(said[-1]).decode("utf-8", "replace")[:500] if said else "")
    if http_status != 200:
        return Status(OF_HTTP.get(http_status, CODES.index("UNKNOWN")), from_http=http_status)
    kinds = header_values(head, "content-type")
    if not kinds or not kinds[-1].startswith(b"application/grpc"):
        seen = _shown(kinds[-1]) if kinds else "missing"
        raise _wrong(f"content-type is {seen}, wanted application/grpc")
    raise _wrong("the stream ended without a grpc-status")


def timeout_header(seconds: float) -> str:
    """The value of grpc-timeout: at most eight digits and a unit, here milliseconds or seconds, at least 1 ms."""
    milliseconds = max(1, int(seconds * 1000))
    return f"{milliseconds}m" if milliseconds < 10**8 else f"{min(milliseconds // 1000, 10**8 - 1)}S"


def metadata_line(name: str, value: str) -> str:
    """A header line. A name that ends in -bin has a binary value, which travels in base64."""
    sent = base64.b64encode(value.encode()).decode().rstrip("=") if name.endswith("-bin") else value
    return f"{name}: {sent}" if sent else f"{name};"  # libcurl's way to send a header without a value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            yield tag >> 3, value
            continue
        if kind == _LENGTH:
            size, at = _read_varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise _wrong(f"the message is not protobuf: wire type {kind}")
        if at + size > len(message):
            raise _wrong("the message is not protobuf: it ends within a field")
        yield tag >> 3, message[at : at + size]
        at += size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count in range(10):
        if at + count >= len(message):
            raise _wrong("the message is not protobuf: it ends within a number")
        byte = message[at + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, at + count + 1
    raise _wrong("the message is not protobuf: a number has more than ten bytes")


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _shown(value: bytes) -> str:
    return repr(value[:100].decode("latin-1"))


def _wrong(what: str) -> ProbeFailed:
    return ProbeFailed(Reason.PROTOCOL, f"not an answer of gRPC: {what}", phase="check")
