"""A dialogue over a stream of bytes: steps that say and hear, in their order. A state machine without I/O.

    talk = Conversation(dialogue)
    while (action := talk.next()) is not None:
        Send        write its data
        Listen      read, and give what came to `hear` until that is true; `ended` at the end of the stream, and `lapsed`
                    when the step's time is over
        Secure      shake hands, then go on within TLS

However the bytes are split on their way, the verdict is the same. At most a line and what one read brought is kept.
"""

import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol

from pydantic import ConfigDict

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.options import STRICT
from stormwatch.probes.pattern import Match, Pattern, compile_pattern
from stormwatch.probes.probe import Metric
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Bytes, Seconds, show_duration, show_size

LINE: Final = 2**16
"""Bytes of the longest line that is read, its end not counted."""
TOTAL: Final = 2**24
"""Bytes that may come in one dialogue: whoever sends more is not talking to us."""
SHOWN: Final = 2048
"""Bytes of the dialogue that are kept as evidence."""
_SHOWN_LINE: Final = 200
_LABEL: Final = 200
"""Characters of a label's value."""

_LABEL_NAME: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_REFERENCE: Final = re.compile(r"\{\{\{\{|\{\{([^{}]*)\}\}|\{\{")

METRICS: Final = (
    Metric("probe_failed_due_to_regex", "1 when a regular expression did not hold"),
    Metric("probe_failed_due_to_bytes", "1 when other bytes came than those that were expected"),
    Metric("probe_expect_info", "Always 1; the labels are those of the dialogue's steps"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a dialogue: say something, then hear something, then begin TLS; any of them may be missing."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    send: str = field(default="", repr=False)
    """What to send, exactly: write the line's end into it, like `"QUIT\\r\\n"`. `{{ 1 }}` is the first group of the last
    expression before, `{{ name }}` a named one of any before; two plain braces are written `{{{{`."""
    send_hex: str = field(default="", repr=False)
    """Bytes to send, in hexadecimal: `"00 00 00 08 04 d2 16 2f"`."""
    expect: str = ""
    """An RE2 expression. Lines are read until one matches; their ends are cut off first."""
    reject: str = ""
    """An RE2 expression that no line may match before the one that is expected: down at once."""
    expect_bytes: str = ""
    """A text that must come, anywhere in what is read."""
    expect_hex: str = ""
    """As `expect_bytes`, for bytes in hexadecimal."""
    exactly: bool = False
    """The bytes that are expected must come next, with nothing before them."""
    expect_raw: str = ""
    """An RE2 expression over bytes, without lines. It is searched in the next `size` bytes."""
    size: Bytes | None = None
    """How many bytes `expect_raw` looks at; fewer when the connection is closed or the step's time is over."""
    closed: bool = False
    """The server must close the connection now."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """Labels of `probe_expect_info` when the step holds; references as in `send`."""
    starttls: bool = False
    """Shake hands after this step; the steps behind it are within TLS."""
    within: Seconds | None = None
    """How long the step may wait; the rest of the probe's time when it is not given."""


@dataclass(frozen=True, slots=True)
class Send:
    """Write this."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Listen:
    """Read until `hear` says true, for at most so many seconds."""

    within: float | None


@dataclass(frozen=True, slots=True)
class Secure:
    """Begin TLS."""


Action = Send | Listen | Secure


class Mismatch(ProbeFailed):
    """Something else came than what was waited for."""

    def __init__(self, message: str, metric: str) -> None:
        super().__init__(Reason.ASSERTION, message)
        self.metric = metric
        """The metric that says so: `probe_failed_due_to_regex` or `probe_failed_due_to_bytes`."""


REGEX: Final = "probe_failed_due_to_regex"
BYTES: Final = "probe_failed_due_to_bytes"


@dataclass(frozen=True, slots=True)
class _Said:
    """A text with references: bytes, the numbers of groups, and names of groups."""

    parts: tuple[bytes | int | str, ...] = field(repr=False)

    def fill(self, groups: Sequence[bytes], names: Mapping[str, bytes]) -> bytes:
        return b"".join(
            part if isinstance(part, bytes) else groups[part] if isinstance(part, int) else names.get(part, b"")
            for part in self.parts
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Compiled:
    """A step, ready to be run."""

    wanted: str
    """What it waits for, for messages; empty when it waits for nothing."""
    said: _Said | None
    listener: "Callable[[Conversation], _Listener] | None"
    labels: Mapping[str, _Said]
    starttls: bool
    within: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Dialogue:
    """Steps that were checked and compiled once, for every run."""

    steps: tuple[_Compiled, ...]

    @property
    def secures(self) -> bool:
        """Whether TLS begins within it."""
        return any(step.starttls for step in self.steps)

    @classmethod
    def of(cls, steps: Sequence[Step], *, secure: bool = False, where: str = "dialogue") -> "Dialogue":
        """Raises ValueError that names the step for what cannot work. `secure`: TLS begins before the dialogue."""
        compiled: list[_Compiled] = []
        groups, names = 0, set[str]()
        for position, step in enumerate(steps):
            place = f"{where}[{position}]"
            _check(step, place)
            said = _said(step, place, groups, names)
            pattern = _pattern_of(step, place)
            if pattern is not None:
                groups = pattern.groups
                names |= {name.decode() for name in pattern.groupindex}
            if step.starttls and secure:
                raise ValueError(f"{place}.starttls: the connection is within TLS already")
            secure = secure or step.starttls
            compiled.append(
                _Compiled(
                    wanted=_wanted(step, position + 1),
                    said=said,
                    listener=_listener_of(step, pattern, place),
                    labels={
                        name: _template(value, f"{place}.labels.{name}", groups, names)
                        for name, value in step.labels.items()
                    },
                    starttls=step.starttls,
                    within=step.within,
                )
            )
        return cls(tuple(compiled))


def _check(step: Step, place: str) -> None:
    heard = [name for name in ("expect", "expect_bytes", "expect_hex", "expect_raw", "closed") if getattr(step, name)]
    if len(heard) > 1:
        raise ValueError(f"{place}: {' and '.join(heard)} exclude each other; make two steps of them")
    if step.send and step.send_hex:
        raise ValueError(f"{place}: send and send_hex exclude each other")
    if not heard and not step.send and not step.send_hex and not step.starttls:
        raise ValueError(f"{place}: give send, expect or both")
    if step.reject and not step.expect:
        raise ValueError(f"{place}.reject: it stands beside expect")
    if step.exactly and not (step.expect_bytes or step.expect_hex):
        raise ValueError(f"{place}.exactly: it stands beside expect_bytes or expect_hex")
    if bool(step.expect_raw) != (step.size is not None):
        raise ValueError(f"{place}: expect_raw and size belong together")
    if step.size is not None and not 0 < step.size <= LINE:
        raise ValueError(f"{place}.size: {show_size(step.size)} is not between 1B and {show_size(LINE)}")
    if step.labels and not heard:
        raise ValueError(f"{place}.labels: they need something that is expected")
    for name in step.labels:
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(f"{place}.labels: {name!r} is not a label name")


def _said(step: Step, place: str, groups: int, names: set[str]) -> _Said | None:
    if step.send:
        return _template(step.send, f"{place}.send", groups, names)
    return _Said((octets(step.send_hex, f"{place}.send_hex"),)) if step.send_hex else None


def octets(text: str, where: str) -> bytes:
    """Bytes written in hexadecimal, with blanks wherever they help. Raises ValueError."""
    try:
        return binascii.unhexlify("".join(text.split()))
    except (binascii.Error, ValueError):
        raise ValueError(f"{where}: bytes are written in pairs of hexadecimal digits, like 00 ff") from None


def _template(text: str, where: str, groups: int, names: set[str]) -> _Said:
    parts: list[bytes | int | str] = []
    at = 0
    for match in _REFERENCE.finditer(text):
        parts.append(text[at : match.start()].encode())
        at = match.end()
        if match[0] == "{{{{":
            parts.append(b"{{")
            continue
        name = (match[1] or "").strip()
        if match[1] is None or not name:
            raise ValueError(f"{where}: a reference is written {{{{ 1 }}}}; write {{{{{{{{ for two plain braces")
        if name.isascii() and name.isdigit() and int(name) <= groups:
            parts.append(int(name))
        elif name in names:
            parts.append(name)
        else:
            known = [*(str(number) for number in range(1, groups + 1)), *sorted(names)]
            raise ValueError(
                f"{where}: {{{{ {name} }}}} refers to no group of an expression before; "
                f"known here: {', '.join(known) or 'none'}"
            )
    parts.append(text[at:].encode())
    return _Said(tuple(part for part in parts if part != b""))


def _pattern_of(step: Step, place: str) -> Pattern | None:
    if step.expect:
        return compile_pattern(step.expect, f"{place}.expect")
    return compile_pattern(step.expect_raw, f"{place}.expect_raw", binary=True) if step.expect_raw else None


def _wanted(step: Step, number: int) -> str:
    if step.expect:
        what = f"a line that matches {step.expect!r}"
    elif step.expect_raw:
        what = f"bytes that match {step.expect_raw!r}"
    elif step.expect_bytes or step.expect_hex:
        what = f"the bytes {step.expect_bytes!r}" if step.expect_bytes else f"the bytes {step.expect_hex}"
    elif step.closed:
        what = "the connection closed"
    else:
        return ""
    return f"step {number} of the dialogue wanted {what}"


def _listener_of(step: Step, pattern: Pattern | None, place: str) -> "Callable[[Conversation], _Listener] | None":
    if step.expect:
        assert pattern is not None
        reject = compile_pattern(step.reject, f"{place}.reject") if step.reject else None
        return lambda talk: _Lines(talk, pattern, reject)
    if step.expect_raw:
        assert pattern is not None
        size = step.size or 0
        return lambda talk: _Raw(talk, pattern, size)
    if step.expect_bytes or step.expect_hex:
        needle = step.expect_bytes.encode() or octets(step.expect_hex, f"{place}.expect_hex")
        listener = _Exactly if step.exactly else _Anywhere
        return lambda talk: listener(talk, needle)
    return _Closed if step.closed else None


class Conversation:
    """One run of a dialogue."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._actions = _actions(self, dialogue)
        self.buffer = bytearray()
        """What came and was not used up by a step yet."""
        self.over = False
        """The stream has ended."""
        self.text = bytearray()
        """The beginning of all that came, for evidence."""
        self.total = 0
        self.labels: dict[str, str] = {}
        """Of `probe_expect_info`."""
        self.groups: Sequence[bytes] = (b"",)
        self.names: dict[str, bytes] = {}
        self.listener: _Listener | None = None
        self.step: _Compiled | None = None
        self._began_secure = False

    def next(self) -> Action | None:
        """What to do now; None when the dialogue is over. Raises ProbeFailed for what came before and does not fit."""
        self._began_secure = False
        return next(self._actions, None)

    def hear(self, data: bytes) -> bool:
        """Take what came; true when the step holds. Raises ProbeFailed when it cannot hold any more."""
        self.total += len(data)
        if self.total > TOTAL:
            raise ProbeFailed(Reason.PROTOCOL, f"more than {show_size(TOTAL)} came during the dialogue")
        self.text += data[: max(0, SHOWN - len(self.text))]
        self.buffer += data
        if self.listener is None:
            if self._began_secure:
                raise _too_early(self.buffer)
            return True
        self.listener.came = self.listener.came or bool(data)
        return self.listener.look()

    def ended(self) -> bool:
        """The stream has ended; true when the step holds all the same. Raises ProbeFailed when it does not."""
        self.over = True
        return self.listener is None or self.listener.finish("the connection was closed")

    def lapsed(self) -> None:
        """The step's time is over. Raises ProbeFailed, unless what came is enough."""
        assert self.listener is not None
        assert self.step is not None
        after = f"within {show_duration(self.step.within or 0.0)}"
        if not self.listener.came and not self.buffer and not isinstance(self.listener, _Closed):
            raise ProbeFailed(Reason.TIMEOUT, f"{self.step.wanted} {after}; nothing came")
        self.listener.finish(after)

    def matched(self, match: Match, pattern: Pattern) -> None:
        """Remember the groups of a match, for what is said later."""
        self.groups = tuple(match.group(number) or b"" for number in range(pattern.groups + 1))
        self.names.update({name.decode(): self.groups[number] for name, number in pattern.groupindex.items()})

    def secure(self) -> None:
        """TLS begins now: what came before it, and nobody read, would pass for a part of it (CVE-2011-0411)."""
        self._began_secure = True
        if self.buffer:
            raise _too_early(self.buffer)


def _too_early(data: bytes | bytearray) -> ProbeFailed:
    return ProbeFailed(
        Reason.PROTOCOL, f"bytes came in plain text where TLS should begin, after the step was over: {show(data)}"
    )


def _actions(talk: Conversation, dialogue: Dialogue) -> Iterator[Action]:
    for step in dialogue.steps:
        talk.step = step
        if step.said is not None:
            yield Send(step.said.fill(talk.groups, talk.names))
        if step.listener is not None:
            talk.listener = step.listener(talk)
            if not talk.listener.look() and not (talk.over and talk.ended()):
                yield Listen(step.within)
            talk.listener = None
        for name, value in step.labels.items():
            text = value.fill(talk.groups, talk.names).decode("utf-8", "replace")
            talk.labels[name] = text[:_LABEL]
        if step.starttls:
            talk.secure()
            yield Secure()


class _Listener(Protocol):
    """Waits for what a step expects, in the conversation's buffer, and takes out of it what it has used up."""

    came: bool
    """Whether anything came since the step began."""

    def look(self) -> bool:
        """Whether the step holds. Raises ProbeFailed when it cannot hold any more."""
        ...

    def finish(self, why: str) -> bool:
        """Nothing more comes, for that reason. Whether the step holds with what there is; raises ProbeFailed if not."""
        ...


class _Lines:
    """Reads lines until one matches. Only the line that matched and those before it are used up."""

    def __init__(self, talk: Conversation, pattern: Pattern, reject: Pattern | None) -> None:
        self.came = False
        self._talk = talk
        self._pattern = pattern
        self._reject = reject
        self._scanned = 0
        self._last: bytes | None = None

    def look(self) -> bool:
        buffer, at = self._talk.buffer, 0
        try:
            while (end := buffer.find(b"\n", max(at, self._scanned))) >= 0:
                line = bytes(buffer[at:end])
                at = end + 1
                if self._judge(line.removesuffix(b"\r")):
                    return True
            if len(buffer) - at > LINE:
                raise _too_long()
            return False
        finally:
            del buffer[:at]
            self._scanned = len(buffer)

    def _judge(self, line: bytes) -> bool:
        if len(line) > LINE:
            raise _too_long()
        self._last = line
        line = _readable(line)
        if self._reject is not None and self._reject.search(line):
            raise Mismatch(f"{self._wanted}; there came {show(line)}, which it must not", REGEX)
        match = self._pattern.search(line)
        if match is None:
            return False
        self._talk.matched(match, self._pattern)
        return True

    @property
    def _wanted(self) -> str:
        return _wanted_now(self._talk)

    def finish(self, why: str) -> bool:
        rest = bytes(self._talk.buffer)
        if self._talk.over and rest:
            self._talk.buffer.clear()
            if self._judge(rest.removesuffix(b"\r")):
                return True
        last = "nothing" if self._last is None else show(self._last)
        if self._talk.over:
            raise Mismatch(f"{self._wanted}; {why} after {last}", REGEX)
        raise Mismatch(f"{self._wanted} {why}; last came {last if self._last is not None else show(rest)}", REGEX)


def _readable(line: bytes) -> bytes:
    """RE2 matches nothing with a byte that is not UTF-8; Go's expressions, and people, take it for some character."""
    return line if line.isascii() else line.decode("utf-8", "replace").encode()


def _too_long() -> ProbeFailed:
    return ProbeFailed(Reason.PROTOCOL, f"a line is longer than {LINE} bytes")


class _Anywhere:
    """Waits for certain bytes; what comes before them is passed over."""

    def __init__(self, talk: Conversation, needle: bytes) -> None:
        self.came = False
        self._talk = talk
        self._needle = needle
        self._tail = b""
        self._seen = 0

    def look(self) -> bool:
        buffer = self._talk.buffer
        self._tail = (self._tail + bytes(buffer[self._seen :][-_SHOWN_LINE:]))[-_SHOWN_LINE:]
        at = buffer.find(self._needle)
        if at >= 0:
            del buffer[: at + len(self._needle)]
            return True
        kept = len(self._needle) - 1  # their beginning may be here, their rest on its way
        del buffer[: max(0, len(buffer) - kept)]
        self._seen = len(buffer)
        return False

    def finish(self, why: str) -> bool:
        last = show(self._tail) if self._tail else "nothing"
        raise Mismatch(f"{_wanted_now(self._talk)}; {why}, and last came {last}", BYTES)


class _Exactly:
    """The next bytes must be these."""

    def __init__(self, talk: Conversation, needle: bytes) -> None:
        self.came = False
        self._talk = talk
        self._needle = needle

    def look(self) -> bool:
        size = min(len(self._needle), len(self._talk.buffer))
        came = bytes(self._talk.buffer[:size])
        if not self._needle.startswith(came):
            same = next(number for number, byte in enumerate(came) if byte != self._needle[number])
            raise Mismatch(f"{_wanted_now(self._talk)}; there came {show(came[: same + 1])}", BYTES)
        if size < len(self._needle):
            return False
        del self._talk.buffer[:size]
        return True

    def finish(self, why: str) -> bool:
        came = show(self._talk.buffer) if self._talk.buffer else "nothing"
        raise Mismatch(f"{_wanted_now(self._talk)}; {why} after {came}", BYTES)


class _Raw:
    """Searches the next so many bytes. Only when they are there: a match must not depend on how they were split."""

    def __init__(self, talk: Conversation, pattern: Pattern, size: int) -> None:
        self.came = False
        self._talk = talk
        self._pattern = pattern
        self._size = size

    def look(self) -> bool:
        return len(self._talk.buffer) >= self._size and self.finish("")

    def finish(self, why: str) -> bool:
        data = bytes(self._talk.buffer[: self._size])
        del self._talk.buffer[: self._size]
        match = self._pattern.search(data)
        if match is None:
            came = show(data) if data else "nothing"
            raise Mismatch(f"{_wanted_now(self._talk)}; {why}{', and ' if why else ''}there came {came}", REGEX)
        self._talk.matched(match, self._pattern)
        return True


class _Closed:
    """Waits for the end of the stream."""

    def __init__(self, talk: Conversation) -> None:
        self.came = False
        self._talk = talk

    def look(self) -> bool:
        self._talk.buffer.clear()
        return False

    def finish(self, why: str) -> bool:
        if self._talk.over:
            return True
        raise ProbeFailed(Reason.ASSERTION, f"{_wanted_now(self._talk)} {why}; it is open still")


def _wanted_now(talk: Conversation) -> str:
    assert talk.step is not None
    return talk.step.wanted


def show(data: bytes | bytearray) -> str:
    """The beginning of some bytes, for a message: as a text where it is one."""
    return repr(bytes(data[:_SHOWN_LINE]).decode("utf-8", "backslashreplace"))
