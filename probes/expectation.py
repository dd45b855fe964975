"""What an HTTP answer must be, compiled once, and the judgement of one. Pure: no I/O; its only clock is a deadline."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, JsonValue

from stormwatch.probes.answer import (
    MASKED_HEADERS,
    Answer,
    Complaint,
    expiry_message,
    header_values,
    show_rough,
    show_version,
)
from stormwatch.probes.json_value import ExpectJson, JsonCheck, SchemaCheck, read_schema
from stormwatch.probes.options import STRICT, File
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Bytes, Seconds, show_duration, show_size

if TYPE_CHECKING:
    from stormwatch.probes.expression import Expression

Status = Annotated[int, Field(ge=100, le=599)] | Annotated[str, Field(pattern=r"^[1-5]xx$")]
"""A status code, or a class of them like `2xx`."""

PhaseName = Literal["resolve", "connect", "tls", "processing", "transfer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectHeader:
    """What the headers of one name must be. Everything that is given must hold."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    matches: str | None = None
    """An RE2 expression that is found in one of the values."""
    not_matches: str | None = None
    """An RE2 expression that is found in none of the values."""
    every: bool = False
    """`matches` must be found in each of the values, not just in one."""
    optional: bool = False
    """The header may be missing; what is there must be right all the same."""
    absent: bool = False
    """There must be no such header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectHttp:
    """What the answer must be. Everything that is given must hold; the last answer counts when redirects are followed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    status: tuple[Status, ...] = ("2xx",)
    """Status codes, or classes like `2xx`, any of which is right."""
    version: Literal["1.0", "1.1", "2", "3"] | tuple[Literal["1.0", "1.1", "2", "3"], ...] | None = None
    """The HTTP version that the answer must have, or a list of versions any of which is right."""
    tls: bool | None = None
    """Whether the last answer must have come over TLS, or must not."""
    headers: Mapping[str, str | ExpectHeader | tuple[str | ExpectHeader, ...]] = field(
        default_factory=dict[str, str | ExpectHeader | tuple[str | ExpectHeader, ...]]
    )
    """By header name: an RE2 expression that must be found in a header of that name, or more about it, or a list."""
    body_matches: tuple[str, ...] = ()
    """RE2 expressions that must all be found in the body."""
    body_not_matches: tuple[str, ...] = ()
    """RE2 expressions none of which may be found in the body."""
    body_sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """SHA-256 of the body after decompression, hexadecimal."""
    body_at_least: Bytes | None = None
    """Smallest size that the body may have after decompression."""
    json: tuple[ExpectJson, ...] = ()
    """Values that a JSON body must have."""
    json_schema: Mapping[str, JsonValue] | None = None
    """A JSON Schema that the body must be valid for; drafts 4 to 2020-12 by its `$schema`."""
    json_schema_file: File = ""
    """The same, in a file of its own."""
    cel: tuple[str, ...] = ()
    """CEL expressions (https://cel.dev) over `body`, `headers`, `status`, `seconds` and `text` that must all be true."""
    cel_not: tuple[str, ...] = ()
    """CEL expressions none of which may be true."""
    last_modified_within: Seconds | None = None
    """The Last-Modified header must be there, and not be older."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""
    phases: Mapping[PhaseName, Seconds] = field(default_factory=dict[PhaseName, Seconds])
    """Down, with reason too-slow, when a phase takes longer."""
    certificate_expires_within: Seconds | None = None
    """Down, with reason certificate, when a certificate of the served chain expires sooner."""
    refused: bool = False
    """The connection must be refused; nothing else is looked at."""
    unresolved: bool = False
    """The name must not exist, or have no address; nothing else is looked at."""
    tls_rejected: bool = False
    """The server must end the handshake with a TLS alert, as for want of a client certificate; nothing else is looked at."""
    addresses_up: Annotated[int, Field(ge=1)] | None = None
    """With `ip: every`, how many of the addresses must do; all of them when it is not given."""


ANYTHING: Final = ExpectHttp()


class Expectations:
    """What is expected, compiled once. Raises ValueError for what can never be judged."""

    def __init__(self, expect: ExpectHttp, where: str = "expect", *, answers_only: bool = False) -> None:
        """`where` it stands in the configuration is what messages begin with.

        `answers_only` is for requests in the middle of a run: what speaks of connections is refused.
        """
        if answers_only:
            for name in ("refused", "unresolved", "tls_rejected", "addresses_up"):
                if getattr(expect, name):
                    raise ValueError(f"{where}.{name}: this looks at answers; a probe of kind http can expect it")
        self._expect = expect
        self._statuses = _statuses(expect.status, where)
        self._asked_status = " or ".join(str(status) for status in expect.status)
        versions = (expect.version,) if isinstance(expect.version, str) else expect.version or ()
        self._versions = frozenset(float(each) for each in versions)
        self._asked_version = " or ".join(versions)
        self._headers = [
            _HeaderCheck(name, ExpectHeader(matches=one) if isinstance(one, str) else one, f"{where}.headers.{name}")
            for name, each in expect.headers.items()
            for one in (each if isinstance(each, tuple) else (each,))
        ]
        self._found = _patterns(expect.body_matches, f"{where}.body_matches")
        self._absent = _patterns(expect.body_not_matches, f"{where}.body_not_matches")
        self._json = [JsonCheck(one, f"{where}.json[{number}]") for number, one in enumerate(expect.json)]
        self._schema = _schema(expect, where)
        self._true = _expressions(expect.cel, f"{where}.cel")
        self._false = _expressions(expect.cel_not, f"{where}.cel_not")
        self._variables = frozenset[str]().union(*(each.needs for each in (*self._true, *self._false)))
        self._needs_document = bool(self._json or self._schema)
        self._anything_else = _without_status(expect) != _without_status(ANYTHING)
        self.uses_cel = bool(self._true or self._false)
        """Whether `probe_failed_due_to_cel` is exported."""
        self.needs_body = bool(
            self._found
            or self._absent
            or self._needs_document
            or expect.body_sha256
            or self._variables & {"body", "text"}
        )

    def judge(self, answer: Answer, deadline: float) -> list[Complaint]:
        """Everything that is not as expected; the first is the reason that the run is given.

        `deadline` is a moment of time.monotonic() at which CEL is given up: all else takes linear time.
        """
        if answer.status in self._statuses and not self._anything_else:
            return []
        return list(self._complaints(answer, deadline))

    def _complaints(self, answer: Answer, deadline: float) -> Iterator[Complaint]:
        expect = self._expect
        if answer.status not in self._statuses:
            yield Complaint(Reason.STATUS, f"status {answer.status}, wanted {self._asked_status}", "processing")
        if self._versions and answer.version not in self._versions:
            message = f"HTTP version {show_version(answer.version)}, wanted {self._asked_version}"
            yield Complaint(Reason.ASSERTION, message, "processing")
        if expect.tls is not None and answer.tls != expect.tls:
            message = f"the answer came {_by_tls(answer.tls)}, wanted it {_by_tls(expect.tls)}"
            yield Complaint(Reason.ASSERTION, message, "processing")
        for check in self._headers:
            yield from check.complaints(answer)
        if expect.last_modified_within is not None:
            yield from _age_complaints(answer.age, expect.last_modified_within)
        yield from self._body_complaints(answer)
        if self._needs_document or self.uses_cel:
            yield from self._document_complaints(answer, deadline)
        within = expect.certificate_expires_within
        if within is not None and answer.expires_in < within:
            yield Complaint(Reason.CERTIFICATE, expiry_message(answer.expires_in, within), "tls")
        yield from self._slowness(answer)

    def _slowness(self, answer: Answer) -> Iterator[Complaint]:
        limit = self._expect.slower_than
        if limit is not None and answer.seconds > limit:
            yield Complaint(
                Reason.TOO_SLOW,
                f"took {_milliseconds(answer.seconds)}, wanted at most {show_duration(limit)}; "
                f"slowest was phase {answer.slowest}",
                answer.slowest,
            )
        for name, most in self._expect.phases.items():
            _, seconds = answer.phases.get(name, (0.0, 0.0))
            if seconds > most:
                message = f"phase {name} took {_milliseconds(seconds)}, wanted at most {show_duration(most)}"
                yield Complaint(Reason.TOO_SLOW, message, name)

    def _body_complaints(self, answer: Answer) -> Iterator[Complaint]:
        expect, size = self._expect, answer.size
        if expect.body_at_least is not None and size < expect.body_at_least:
            message = f"the body has {size} bytes, wanted at least {show_size(expect.body_at_least)}"
            yield Complaint(Reason.ASSERTION, message, "transfer")
        for text, pattern in self._found:
            if not pattern.search(answer.body):
                message = f"the body ({size} bytes) does not match {text!r}"
                yield Complaint(Reason.ASSERTION, message, "transfer", regex=True)
        for text, pattern in self._absent:
            if pattern.search(answer.body):
                message = f"the body ({size} bytes) matches {text!r}, which it must not"
                yield Complaint(Reason.ASSERTION, message, "transfer", regex=True)
        if expect.body_sha256 is not None:
            seen = hashlib.sha256(answer.body).hexdigest()
            if seen != expect.body_sha256.lower():
                message = f"the body ({size} bytes) has the SHA-256 {seen}, wanted {expect.body_sha256.lower()}"
                yield Complaint(Reason.ASSERTION, message, "transfer")

    def _document_complaints(self, answer: Answer, deadline: float) -> Iterator[Complaint]:
        document: Any = None
        if self._needs_document or "body" in self._variables:
            try:
                document = json.loads(answer.body)
            except (ValueError, RecursionError) as error:
                said = str(error) or type(error).__name__
                message = f"the body ({answer.size} bytes) is not JSON: {said}"
                yield Complaint(Reason.ASSERTION, message, "transfer", cel=self.uses_cel)
                return
        for check in self._json:
            if message := check.complaint(document):
                yield Complaint(Reason.ASSERTION, message, "transfer")
        if self._schema is not None and (message := self._schema.complaint(document)):
            yield Complaint(Reason.ASSERTION, message, "transfer")
        if self.uses_cel:
            for message in self._cel_complaints(answer, document, deadline):
                yield Complaint(Reason.ASSERTION, message, "transfer", cel=True)

    def _cel_complaints(self, answer: Answer, document: Any, deadline: float) -> Iterator[str]:
        readers: Mapping[str, Callable[[], Any]] = {
            "body": lambda: document,
            "headers": lambda: _headers_of(answer.head),
            "seconds": lambda: answer.seconds,
            "status": lambda: answer.status,
            "text": lambda: answer.body.decode("utf-8", "replace"),
        }
        from stormwatch.probes.expression import ExpressionError, as_cel  # imported already, by `_expressions`

        variables: dict[str, Any] = {}
        for wanted, expressions in ((True, self._true), (False, self._false)):
            for expression in expressions:
                try:
                    for name in expression.needs - variables.keys():
                        variables[name] = as_cel(readers[name](), deadline)
                    held = expression.holds(variables, deadline)
                except ExpressionError as error:
                    yield f"the CEL expression {expression.text!r} could not be evaluated: {error}"
                    continue
                if held != wanted:
                    yield f"the CEL expression {expression.text!r} is {_word(held)}, wanted {_word(wanted)}"


class _HeaderCheck:
    def __init__(self, name: str, expect: ExpectHeader, where: str) -> None:
        patterns = (expect.matches, expect.not_matches)
        if expect.absent and (any(each is not None for each in patterns) or expect.every or expect.optional):
            raise ValueError(f"{where}: a header that must be absent has nothing else to be")
        if expect.every and expect.matches is None:
            raise ValueError(f"{where}: every says how matches is meant: give matches")
        if expect.optional and patterns == (None, None):
            raise ValueError(f"{where}: give matches or not_matches: an optional header may be anything else")
        self._name = name
        self._expect = expect
        self._matches = None if expect.matches is None else compile_pattern(expect.matches, where)
        self._not_matches = None if expect.not_matches is None else compile_pattern(expect.not_matches, where)

    def complaints(self, answer: Answer) -> Iterator[Complaint]:
        values = header_values(answer.head, self._name)
        wanted = self._wanted(values)
        if wanted:
            seen = ", ".join(repr(value.decode("latin-1")) for value in values) or "no such header"
            if self._name.lower() in MASKED_HEADERS and values:
                seen = "another value"
            message = f"header {self._name}: {seen if len(seen) < 400 else seen[:397] + '...'}, wanted {wanted}"
            yield Complaint(Reason.ASSERTION, message, "processing", regex=not self._expect.absent)

    def _wanted(self, values: Sequence[bytes]) -> str:
        """What is wanted in the place of these values; empty when they are right."""
        expect = self._expect
        if expect.absent:
            return "none" if values else ""
        if not values:
            return "" if expect.optional else repr(expect.matches) if expect.matches is not None else "one"
        if self._matches is not None:
            found = [self._matches.search(value) is not None for value in values]
            if not (all(found) if expect.every else any(found)):
                return f"{expect.matches!r}{' in every one' if expect.every else ''}"
        if self._not_matches is not None and any(self._not_matches.search(value) for value in values):
            return f"no match of {expect.not_matches!r}"
        return ""


def _age_complaints(age: float | None, within: float) -> Iterator[Complaint]:
    if age is None:
        message = f"there is no Last-Modified header, wanted one within {show_duration(within)}"
    elif age > within:
        message = f"last modified {show_rough(age)} ago, wanted within {show_duration(within)}"
    else:
        return
    yield Complaint(Reason.ASSERTION, message, "processing")


def _headers_of(head: Sequence[bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in head[1:]:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            known = name.strip().lower()
            found[known] = f"{found[known]}, {value.strip()}" if known in found else value.strip()
    return found


def _without_status(expect: ExpectHttp) -> tuple[Any, ...]:
    return tuple(getattr(expect, name) for name in ExpectHttp.__dataclass_fields__ if name not in _NOT_OF_ANSWERS)


_NOT_OF_ANSWERS = frozenset({"status", "refused", "unresolved", "tls_rejected", "addresses_up"})


def _schema(expect: ExpectHttp, where: str) -> SchemaCheck | None:
    if expect.json_schema is not None and expect.json_schema_file:
        raise ValueError(f"{where}.json_schema: give it here or in json_schema_file, not in both")
    if expect.json_schema_file:
        place = f"{where}.json_schema_file"
        return SchemaCheck(read_schema(expect.json_schema_file, place), place)
    return None if expect.json_schema is None else SchemaCheck(expect.json_schema, f"{where}.json_schema")


@lru_cache(maxsize=256)
def _statuses(asked: tuple[int | str, ...], where: str) -> frozenset[int]:
    if not asked:
        raise ValueError(f"{where}.status: give at least one status code, or a class like 2xx")
    found: set[int] = set()
    for status in asked:
        found.update(range(int(status[0]) * 100, int(status[0]) * 100 + 100) if isinstance(status, str) else (status,))
    return frozenset(found)


def _patterns(texts: tuple[str, ...], where: str) -> list[tuple[str, Pattern]]:
    return [(text, compile_pattern(text, f"{where}[{number}]")) for number, text in enumerate(texts)]


def _expressions(texts: tuple[str, ...], where: str) -> "list[Expression]":
    if not texts:
        return []
    from stormwatch.probes.expression import Expression

    return [Expression(text, f"{where}[{number}]") for number, text in enumerate(texts)]


def _by_tls(tls: bool) -> str:
    return "over TLS" if tls else "without TLS"


def _word(value: bool) -> str:
    return "true" if value else "false"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
