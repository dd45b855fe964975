"""Values taken from what a target answered, for what is sent next; and secrets among them taken out of what is shown. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final, Protocol, cast
from urllib.parse import quote

import jmespath
import jmespath.exceptions
from pydantic import ConfigDict

from stormwatch.probes.answer import header_values
from stormwatch.probes.options import STRICT
from stormwatch.probes.pattern import compile_pattern

LONGEST: Final = 2**16
"""Characters of the longest value that is taken."""
MASK: Final = "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Where a value stands in an answer. Exactly one of `json`, `regex`, `header` and `cookie` says it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    json: str = ""
    """A JMESPath expression (https://jmespath.org) on a JSON body; the value keeps its type, and may not be null."""
    regex: str = ""
    """An RE2 expression with one group, found in the body; the value is what the group matched."""
    header: str = ""
    """The name of a header of the answer."""
    cookie: str = ""
    """The name of a cookie that the answer sets. Its value counts as secret."""
    secret: bool = False
    """Whether the value is masked in messages and evidence."""


class CaptureError(Exception):
    """A value is not there, or cannot be used. The message says what was looked for and what was seen."""


class Source:
    """An answer that values are taken from: its head and its body. The body is read as JSON once at most."""

    def __init__(self, body: bytes, head: Sequence[bytes] = ()) -> None:
        self.body = body
        self.head = head

    @cached_property
    def document(self) -> Any:
        """The body as JSON. Raises CaptureError."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            said = str(error) or type(error).__name__
            raise CaptureError(f"the body ({len(self.body)} bytes) is not JSON: {said}") from None


class _Group(Protocol):
    def group(self, number: int) -> bytes | None: ...


class Taker:
    """One capture, compiled."""

    def __init__(self, name: str, capture: Capture, where: str, *, body_only: bool = False) -> None:
        """Raises ValueError, beginning with `where`, for what can never be taken."""
        self.name = name
        self.secret = capture.secret or bool(capture.cookie)
        ways = [each for each in ("json", "regex", "header", "cookie") if getattr(capture, each)]
        if len(ways) != 1:
            raise ValueError(f"{where}: give exactly one of json, regex, header and cookie")
        if body_only and ways[0] not in ("json", "regex"):
            raise ValueError(f"{where}: a message has no {ways[0]}: give json or regex")
        self._way, self._text = ways[0], str(getattr(capture, ways[0]))
        self._path: Any = None
        self._pattern: Any = None
        if capture.json:
            try:
                self._path = jmespath.compile(capture.json)
            except jmespath.exceptions.JMESPathError as error:
                said = " ".join(str(error).split())
                raise ValueError(f"{where}.json: {capture.json!r} is not a JMESPath expression: {said}") from None
        elif capture.regex:
            self._pattern = compile_pattern(capture.regex, f"{where}.regex")
            if self._pattern.groups != 1:
                raise ValueError(
                    f"{where}.regex: {capture.regex!r} has {self._pattern.groups} groups, and the value is that of one"
                )

    @property
    def needs_body(self) -> bool:
        """Whether it looks at the body."""
        return self._way in ("json", "regex")

    def take(self, source: Source) -> Any:
        """The value. Raises CaptureError."""
        value = {
            "json": self._by_path,
            "regex": self._by_pattern,
            "header": self._by_header,
            "cookie": self._by_cookie,
        }[self._way](source)
        size = len(value if isinstance(value, str) else json.dumps(value))
        if size > LONGEST:
            raise CaptureError(f"{self.name} has {size} characters, and at most {LONGEST} are kept")
        return value

    def _by_path(self, source: Source) -> Any:
        document = source.document
        try:
            value = self._path.search(document)
        except (jmespath.exceptions.JMESPathError, ValueError, TypeError, RecursionError) as error:
            said = " ".join(str(error).split())[:200]
            raise CaptureError(f"{self.name}: json {self._text} could not be evaluated: {said}") from None
        if value is None:
            raise CaptureError(f"{self.name}: the body has no value at json {self._text}")
        return value

    def _by_pattern(self, source: Source) -> str:
        found = cast("_Group | None", self._pattern.search(source.body))
        value = found.group(1) if found is not None else None
        if value is None:
            raise CaptureError(f"{self.name}: the body ({len(source.body)} bytes) does not match {self._text!r}")
        return value.decode("utf-8", "replace")

    def _by_header(self, source: Source) -> str:
        values = header_values(source.head, self._text)
        if not values:
            raise CaptureError(f"{self.name}: the answer has no header {self._text}")
        return values[-1].decode("utf-8", "replace")

    def _by_cookie(self, source: Source) -> str:
        for line in reversed(header_values(source.head, "set-cookie")):
            name, equals, value = line.partition(b";")[0].partition(b"=")
            if equals and name.strip() == self._text.encode():
                return value.strip().decode("utf-8", "replace")
        raise CaptureError(f"{self.name}: the answer sets no cookie {self._text}")


def takers(captures: Mapping[str, Capture], where: str, *, body_only: bool = False) -> tuple[Taker, ...]:
    """Compile them. Raises ValueError, beginning with `where`."""
    return tuple(Taker(name, capture, f"{where}.{name}", body_only=body_only) for name, capture in captures.items())


class Concealer:
    """Takes values that were learnt in a run out of what is shown of it."""

    def __init__(self) -> None:
        self._forms: list[str] = []

    def learn(self, values: Iterable[Any]) -> None:
        """These are secret from now on. A value of one or two characters is in every text: it is left alone."""
        for value in values:
            text = value if isinstance(value, str) else json.dumps(value)
            if len(text) > 2:
                forms = {text, quote(text.encode("utf-8", "surrogatepass"), safe=""), json.dumps(text)[1:-1]}
                self._forms = sorted({*self._forms, *forms}, key=len, reverse=True)

    def conceal(self, value: Any) -> Any:
        """The same JSON value with `***` in the place of each secret."""
        if not self._forms:
            return value
        if isinstance(value, str):
            for form in self._forms:
                value = value.replace(form, MASK)
            return value
        if isinstance(value, Mapping):
            return {self.conceal(key): self.conceal(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.conceal(item) for item in value]
        return value
