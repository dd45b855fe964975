"""What an HTTP answer must look like, and the judgement of one. Pure: no I/O, no clock."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jmespath
import jmespath.exceptions
from pydantic import ConfigDict, Field, JsonValue

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.options import STRICT
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds, show_duration

Status = Annotated[int, Field(ge=100, le=599)] | Annotated[str, Field(pattern=r"^[1-5]xx$")]
"""A status code, or a class of them like `2xx`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectJson:
    """One value in a JSON body. Exactly one of `equals`, `matches` and `exists` says what it must be."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    path: str
    """Where the value stands: a JMESPath expression (https://jmespath.org)."""
    equals: JsonValue = None
    """The value itself, of any JSON type but null: for null, say `exists: false`."""
    matches: str | None = None
    """An RE2 expression that is found in the value: in a string as it is, in anything else as JSON."""
    exists: bool | None = None
    """Whether there is a value that is not null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectHttp:
    """What the answer must be. Everything that is given must hold; the last answer counts when redirects are followed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    status: tuple[Status, ...] = ("2xx",)
    """Status codes, or classes like `2xx`, any of which is right."""
    version: Literal["1.0", "1.1", "2"] | None = None
    """The HTTP version that the answer must have."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """RE2 expressions by header name: each must be found in a header of that name."""
    body_matches: tuple[str, ...] = ()
    """RE2 expressions that must all be found in the body."""
    body_not_matches: tuple[str, ...] = ()
    """RE2 expressions none of which may be found in the body."""
    json: tuple[ExpectJson, ...] = ()
    """Values that a JSON body must have."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""
    certificate_expires_within: Seconds | None = None
    """Down, with reason certificate, when a certificate of the served chain expires sooner."""
    refused: bool = False
    """The connection must be refused; nothing else is looked at."""


class Answer(NamedTuple):
    """The last answer of a run, as far as it came."""

    status: int
    version: float
    """1.0, 1.1, 2 or 3."""
    head: Sequence[bytes]
    """Status line and headers as they came."""
    body: bytes
    seconds: float
    """How long the run took."""
    slowest_phase: str
    expires_in: float
    """Seconds until the first certificate of the chain expires; infinite without TLS."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """One expectation that does not hold."""

    reason: Reason
    message: str
    phase: str
    regex: bool = False
    """It was a regular expression that failed: `probe_failed_due_to_regex`."""

    def as_failure(self) -> ProbeFailed:
        """The exception that ends a run with it."""
        return ProbeFailed(self.reason, self.message, phase=self.phase)


class Expectations:
    """What is expected, compiled once. Raises ValueError for what can never be judged."""

    def __init__(self, expect: ExpectHttp) -> None:
        self._statuses = _statuses(expect.status)
        self._asked_status = " or ".join(str(status) for status in expect.status)
        self._version = expect.version
        self._headers = [
            (name, text, compile_pattern(text, f"expect.headers.{name}")) for name, text in expect.headers.items()
        ]
        self._found = _patterns(expect.body_matches, "expect.body_matches")
        self._absent = _patterns(expect.body_not_matches, "expect.body_not_matches")
        self._json = [_JsonCheck(one, f"expect.json[{number}]") for number, one in enumerate(expect.json)]
        self._slower_than = expect.slower_than
        self._expires_within = expect.certificate_expires_within
        self._only_status = expect == ExpectHttp(status=expect.status)
        self.needs_body = bool(self._found or self._absent or self._json)

    def judge(self, answer: Answer) -> list[Complaint]:
        """Everything that is not as expected; the first is the reason that the run is given."""
        if self._only_status and answer.status in self._statuses:
            return []
        return list(self._complaints(answer))

    def _complaints(self, answer: Answer) -> Iterator[Complaint]:
        if answer.status not in self._statuses:
            yield Complaint(Reason.STATUS, f"status {answer.status}, wanted {self._asked_status}", "processing")
        if self._version is not None and answer.version != float(self._version):
            message = f"HTTP version {show_version(answer.version)}, wanted {self._version}"
            yield Complaint(Reason.ASSERTION, message, "processing")
        if self._headers:
            yield from self._header_complaints(answer)
        if self.needs_body:
            yield from self._body_complaints(answer)
        if self._expires_within is not None and answer.expires_in < self._expires_within:
            yield Complaint(Reason.CERTIFICATE, expiry_message(answer.expires_in, self._expires_within), "tls")
        if self._slower_than is not None and answer.seconds > self._slower_than:
            yield Complaint(
                Reason.TOO_SLOW,
                f"took {answer.seconds * 1000:.0f} ms, wanted at most {show_duration(self._slower_than)}; "
                f"slowest was phase {answer.slowest_phase}",
                answer.slowest_phase,
            )

    def _header_complaints(self, answer: Answer) -> Iterator[Complaint]:
        for name, text, pattern in self._headers:
            values = header_values(answer.head, name)
            if not any(pattern.search(value) for value in values):
                seen = ", ".join(repr(value.decode("latin-1")) for value in values) or "no such header"
                if name.lower() in MASKED_HEADERS and values:
                    seen = "another value"
                yield Complaint(Reason.ASSERTION, f"header {name}: {seen}, wanted {text!r}", "processing", regex=True)

    def _body_complaints(self, answer: Answer) -> Iterator[Complaint]:
        size = len(answer.body)
        for text, pattern in self._found:
            if not pattern.search(answer.body):
                message = f"the body ({size} bytes) does not match {text!r}"
                yield Complaint(Reason.ASSERTION, message, "transfer", regex=True)
        for text, pattern in self._absent:
            if pattern.search(answer.body):
                message = f"the body ({size} bytes) matches {text!r}, which it must not"
                yield Complaint(Reason.ASSERTION, message, "transfer", regex=True)
        if self._json:
            try:
                document = json.loads(answer.body)
            except (ValueError, RecursionError) as error:
                said = str(error) or type(error).__name__
                yield Complaint(Reason.ASSERTION, f"the body ({size} bytes) is not JSON: {said}", "transfer")
                return
            for check in self._json:
                message = check.complaint(document)
                if message:
                    yield Complaint(Reason.ASSERTION, message, "transfer")


class _JsonCheck:
    def __init__(self, expect: ExpectJson, where: str) -> None:
        asked = [expect.equals is not None, expect.matches is not None, expect.exists is not None]
        if sum(asked) != 1:
            raise ValueError(f"{where}: give exactly one of equals, matches and exists")
        try:
            self._path: Any = jmespath.compile(expect.path)
        except jmespath.exceptions.JMESPathError as error:
            said = " ".join(str(error).split())
            raise ValueError(f"{where}: {expect.path!r} is not a JMESPath expression: {said}") from None
        self._expect = expect
        self._pattern = compile_pattern(expect.matches, where) if expect.matches is not None else None

    def complaint(self, document: Any) -> str:
        """What is wrong with the value, in one sentence; empty when nothing is."""
        path = self._expect.path
        try:
            value = self._path.search(document)
        except jmespath.exceptions.JMESPathError as error:
            return f"json {path} could not be evaluated: {error}"
        if self._expect.exists is not None:
            if (value is not None) == self._expect.exists:
                return ""
            return f"json {path} is {_short(value)}, wanted {'a value' if self._expect.exists else 'none'}"
        if self._pattern is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            if value is not None and self._pattern.search(text.encode()):
                return ""
            return f"json {path} is {_short(value)}, wanted a match of {self._expect.matches!r}"
        if _same(value, self._expect.equals):
            return ""
        return f"json {path} is {_short(value)}, wanted {_short(self._expect.equals)}"


MASKED_HEADERS = frozenset({"set-cookie", "set-cookie2", "authorization", "proxy-authorization", "cookie"})
_MASKED = re.compile(rb"(?im)^(set-cookie2?|cookie|authorization|proxy-authorization):[^\r\n]*")


def show_head(head: Sequence[bytes], limit: int = 4096) -> str:
    """Status line and headers for people: the first 4 KiB, values that may be secret masked."""
    text = b"".join(head)[:limit]
    lowered = text.lower()
    if b"cookie" in lowered or b"authorization" in lowered:
        text = _MASKED.sub(rb"\1: ***", text)
    return text.decode("latin-1").replace("\r\n", "\n").strip()


def header_values(head: Sequence[bytes], name: str) -> list[bytes]:
    """The values of every header of that name, in their order."""
    wanted = name.lower().encode() + b":"
    return [line[len(wanted) :].strip() for line in head if line[: len(wanted)].lower() == wanted]


def show_version(version: float) -> str:
    """The number of an HTTP version as people write it: 1.0, 1.1, 2, 3."""
    return f"{version:.1f}" if version < 2 else f"{version:.0f}"


def expiry_message(expires_in: float, within: float) -> str:
    """One sentence about a certificate that is near its end, or beyond it."""
    if expires_in < 0:
        return f"a certificate of the chain expired {show_rough(-expires_in)} ago"
    return f"a certificate of the chain expires in {show_rough(expires_in)}, wanted more than {show_duration(within)}"


def show_rough(seconds: float) -> str:
    """A long time in its two largest units: nobody needs the seconds of 20 days."""
    unit = 3600 if seconds >= 86400 else 60 if seconds >= 3600 else 1
    return show_duration(seconds // unit * unit)


def _statuses(asked: tuple[int | str, ...]) -> frozenset[int]:
    if not asked:
        raise ValueError("expect.status: give at least one status code, or a class like 2xx")
    found: set[int] = set()
    for status in asked:
        found.update(range(int(status[0]) * 100, int(status[0]) * 100 + 100) if isinstance(status, str) else (status,))
    return frozenset(found)


def _patterns(texts: tuple[str, ...], where: str) -> list[tuple[str, Pattern]]:
    return [(text, compile_pattern(text, f"{where}[{number}]")) for number, text in enumerate(texts)]


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}..."
