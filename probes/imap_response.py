"""Responses of IMAP servers (RFC 9051 §7, and RFC 3501): from their bytes to values. Pure."""

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Final, TypeAlias

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Reason
from stormwatch.probes.starttls import shown

LINE: Final = 2**20
"""Bytes of the longest line that is read: the answer to a search has all numbers in one."""
LITERAL: Final = 2**20
"""Bytes of the largest literal that is read."""
LITERALS: Final = 256
"""Literals in one response."""
DEPTH: Final = 32
"""Lists within lists."""

Value: TypeAlias = "bytes | tuple[Value, ...] | None"
"""An atom or a string; NIL; a list."""

STATUSES: Final = frozenset({"OK", "NO", "BAD", "BYE", "PREAUTH"})
_LITERAL: Final = re.compile(rb"~?\{([0-9]{1,10})\+?\}\r?\n\Z")
_INNER_LITERAL: Final = re.compile(rb"~?\{([0-9]{1,10})\+?\}\r?\n")
_STRING: Final = re.compile(rb'"((?:[^"\\\r\n]|\\.)*)"', re.DOTALL)
_ATOM: Final = re.compile(rb'(?:[^\s()\[\]"{]|\[[^\]\r\n]*\])+')
_CODE: Final = re.compile(r"\[([^\]]*)\] ?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Response:
    """One response."""

    tag: str
    """`*` when it belongs to no command, `+` when the server wants more of one, else the command's."""
    name: str
    """What it is, in capitals: `OK`, `CAPABILITY`, `EXISTS`, `FETCH`. Empty for `+`."""
    number: int | None = None
    """Of a message, or how many there are."""
    code: str = ""
    """Of a status: what stands in brackets, in capitals, like `AUTHENTICATIONFAILED`."""
    text: str = ""
    """Of a status, or after `+`: words for people."""
    values: tuple[Value, ...] = ()

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.code and f"[{self.code}]", self.text) if part)


def literal_size(line: bytes) -> int | None:
    """How many bytes follow a line that ends with the head of a literal. Raises ProbeFailed when they are too many."""
    match = _LITERAL.search(line[-16:])
    if match is None:
        return None
    size = int(match[1])
    if size > LITERAL:
        raise ProbeFailed(Reason.PROTOCOL, f"the server sends a literal of {size} bytes, {LITERAL} at most are read")
    return size


def read_response(data: bytes) -> Response:
    """A response from all its lines and literals. Raises ProbeFailed for what is none."""
    tag, _, rest = data.removesuffix(b"\n").removesuffix(b"\r").partition(b" ")
    if tag == b"+":
        return Response("+", "", text=_text(rest))
    word, _, rest = rest.partition(b" ")
    number: int | None = None
    if tag == b"*" and word.isdigit() and len(word) <= 10:
        number = int(word)
        word, _, rest = rest.partition(b" ")
    name = _text(word).upper()
    if not tag or not tag.isascii() or not re.fullmatch(r"[A-Z][A-Z0-9_.-]*", name):
        raise _no_response(data)
    if tag != b"*" and name not in STATUSES:
        raise _no_response(data)
    if name in STATUSES:
        text = _text(rest)
        match = _CODE.match(text)
        code, words = (match[1].upper(), match[2]) if match else ("", text)
        return Response(tag.decode(), name, number, code, words)
    return Response(tag.decode(), name, number, values=_Reader(data, rest).values())


class _Reader:
    """Takes values off the front of some bytes."""

    def __init__(self, whole: bytes, data: bytes) -> None:
        self._whole = whole
        self._data = data
        self._at = 0

    def values(self) -> tuple[Value, ...]:
        """All of them."""
        values = self._list(0)
        if self._at < len(self._data):
            raise _no_response(self._whole)
        return values

    def _list(self, depth: int) -> tuple[Value, ...]:
        if depth > DEPTH:
            raise _no_response(self._whole)
        values: list[Value] = []
        while self._at < len(self._data):
            sign = self._data[self._at : self._at + 1]
            if sign.isspace():
                self._at += 1
            elif sign == b")":
                break
            elif sign == b"(":
                self._at += 1
                values.append(self._list(depth + 1))
                if self._data[self._at : self._at + 1] != b")":
                    raise _no_response(self._whole)
                self._at += 1
            else:
                values.append(self._one())
        return tuple(values)

    def _one(self) -> Value:
        if match := _STRING.match(self._data, self._at):
            self._at = match.end()
            return re.sub(rb"(?s)\\(.)", rb"\1", match[1])
        if match := _INNER_LITERAL.match(self._data, self._at):
            end = match.end() + int(match[1])
            if end > len(self._data):
                raise _no_response(self._whole)
            self._at = end
            return self._data[match.end() : end]
        if match := _ATOM.match(self._data, self._at):
            self._at = match.end()
            return None if match[0].upper() == b"NIL" else match[0]
        raise _no_response(self._whole)


def numbers(values: tuple[Value, ...]) -> tuple[int, ...]:
    """Those values that are numbers of messages, as the answer to a search has them."""
    return tuple(int(each) for each in values if isinstance(each, bytes) and each.isdigit() and len(each) <= 10)


def pairs(values: tuple[Value, ...]) -> dict[str, Value]:
    """Names and values that alternate, as FETCH and STATUS have them. Names are in capitals."""
    names = [each.decode("ascii", "replace").upper() if isinstance(each, bytes) else "" for each in values[::2]]
    return dict(zip(names, values[1::2], strict=False))


def quoted(text: str) -> str:
    """A text as a string in a command. Raises ValueError for what only a literal could carry."""
    if any(sign in text for sign in "\r\n\0") or not text.isascii():
        raise ValueError("only ASCII without line ends can be quoted")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def mailbox_name(name: str) -> str:
    """A mailbox's name in modified UTF-7, quoted (RFC 3501 §5.1.3). Raises ValueError for one with control characters."""
    if not name or not name.isprintable():
        raise ValueError(f"{name!r} is no name of a mailbox")
    parts: list[str] = []
    for run in re.findall(r"[\x20-\x7e]+|[^\x20-\x7e]+", name):
        if run.isascii():
            parts.append(run.replace("&", "&-"))
        else:
            parts.append("&" + b64encode(run.encode("utf-16-be")).decode().rstrip("=").replace("/", ",") + "-")
    return quoted("".join(parts))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _no_response(data: bytes) -> ProbeFailed:
    return ProbeFailed(Reason.PROTOCOL, f"the server said {shown(data)}, which is no response of IMAP")
