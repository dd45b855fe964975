"""Faults of HTTP requests and answers: their options as users write them, which requests each acts on, and how."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, cast

from pydantic import ConfigDict, Field

from stormwatch.chaos.http_treatment import Answer, BodyEdit, HeaderEdit, Substitution, Treatment
from stormwatch.chaos.option import STRICT, share_is_some
from stormwatch.probes.pattern import compile_pattern
from stormwatch.probes.units import Bytes, Ratio, Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpStatus:
    """Matching requests are answered by the proxy and never reach the service."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    status: Annotated[int, Field(ge=200, le=599)] = 503
    """The status of the answer."""
    body: str = ""
    """The body of the answer."""
    content_type: str = "text/plain; charset=utf-8"
    """The media type of the body."""
    path: str = "*"
    """A glob over the path without its query: `*` is any text, also with slashes, `?` one character."""
    method: str = "*"
    """`*` for all, or one method (`POST`), or several with commas (`GET,HEAD`)."""
    share: Ratio = Fraction(1)
    """The share of matching requests that it is drawn for, once for each request."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        if self.status in (204, 304) and self.body:
            raise ValueError(f"an answer with status {self.status} has no body (RFC 9110, 15.3.5 and 15.4.5)")
        _is_media_type(self.content_type)
        _can_match(self.method)
        share_is_some(self.share)

    def matches(self, method: str, target: str) -> bool:
        """Whether a request with this method and request-target is meant (before the share is drawn)."""
        return _matches(self.method, self.path, method, target)

    def treatment(self, draw: random.Random) -> Treatment:
        """Answered here."""
        return Treatment(answer=Answer(status=self.status, body=self.body, content_type=self.content_type))


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDelay:
    """Matching requests wait before they go on to the service; others on the same connection wait behind them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    delay: Seconds
    """How long."""
    jitter: Seconds = 0.0
    """Each delay is drawn evenly from delay - jitter to delay + jitter."""
    path: str = "*"
    """A glob over the path without its query: `*` is any text, also with slashes, `?` one character."""
    method: str = "*"
    """`*` for all, or one method (`POST`), or several with commas (`GET,HEAD`)."""
    share: Ratio = Fraction(1)
    """The share of matching requests that it is drawn for, once for each request."""
    seed: int = 0
    """The same seed draws the same requests and delays again, in the same order."""

    def __post_init__(self) -> None:
        if self.delay <= 0:
            raise ValueError("delay must be more than 0s")
        if self.jitter > self.delay:
            raise ValueError(f"jitter ({self.jitter:g} s) must not be more than delay ({self.delay:g} s)")
        _can_match(self.method)
        share_is_some(self.share)

    def matches(self, method: str, target: str) -> bool:
        """Whether a request with this method and request-target is meant (before the share is drawn)."""
        return _matches(self.method, self.path, method, target)

    def treatment(self, draw: random.Random) -> Treatment:
        """Later, by a delay of its own."""
        return Treatment(later=self.delay + draw.uniform(-self.jitter, self.jitter))


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpHeader:
    """Headers of matching requests, or of the answers to them, are set or removed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    set: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name and value; takes the place of all that were there by this name."""
    remove: tuple[str, ...] = ()
    """Names, in any case."""
    stream: Literal["downstream", "upstream"] = "downstream"
    """`downstream`: of the answer; `upstream`: of the request."""
    path: str = "*"
    """A glob over the path without its query: `*` is any text, also with slashes, `?` one character."""
    method: str = "*"
    """`*` for all, or one method (`POST`), or several with commas (`GET,HEAD`)."""
    share: Ratio = Fraction(1)
    """The share of matching requests that it is drawn for, once for each request."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        if not (self.set or self.remove):
            raise ValueError("nothing is changed: give `set` or `remove`")
        for name in (*self.set, *self.remove):
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise ValueError(f"a header's name is a token like Content-Type, not {name!r}")
            if name.lower() in _FRAMING:
                raise ValueError(f"{name} says where a message ends; to break that, take tcp-truncate or tcp-corrupt")
        for name, value in self.set.items():
            if not re.fullmatch(r"[!-~]([ \t!-~]*[!-~])?|", value):
                raise ValueError(f"the value of {name} is printable ASCII without spaces at its ends, not {value!r}")
        _can_match(self.method)
        share_is_some(self.share)

    def matches(self, method: str, target: str) -> bool:
        """Whether a request with this method and request-target is meant (before the share is drawn)."""
        return _matches(self.method, self.path, method, target)

    def treatment(self, draw: random.Random) -> Treatment:
        """Of the request or of its answer."""
        edit = HeaderEdit(set=tuple(self.set.items()), remove=self.remove)
        return Treatment(request=edit) if self.stream == "upstream" else Treatment(response=edit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """What is looked for, and what takes its place."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    pattern: str
    """An RE2 expression over the bytes of the body (UTF-8)."""
    replacement: str = ""
    r"""Takes the place of each match; `\1` is the first group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpBody:
    """The body of answers to matching requests is replaced, patched, or cut short; the length is given as it is then."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    replace: str | None = None
    """All of the body becomes this."""
    content_type: str = ""
    """With `replace`: its media type; without: the service's."""
    patch: tuple[Patch, ...] = ()
    """Expressions and what takes the place of their matches, one after the other."""
    truncate: Bytes | None = None
    """Only so many bytes of the body, as it is sent (compressed, if it is)."""
    path: str = "*"
    """A glob over the path without its query: `*` is any text, also with slashes, `?` one character."""
    method: str = "*"
    """`*` for all, or one method (`POST`), or several with commas (`GET,HEAD`)."""
    share: Ratio = Fraction(1)
    """The share of matching requests that it is drawn for, once for each request."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        if [self.replace is not None, bool(self.patch), self.truncate is not None].count(True) != 1:
            raise ValueError("give one of `replace`, `patch` and `truncate`")
        if self.content_type and self.replace is None:
            raise ValueError("content_type goes with `replace`")
        _is_media_type(self.content_type)
        for number, one in enumerate(self.patch):
            groups = compile_pattern(one.pattern, f"patch.{number}.pattern").groups
            for asked in re.findall(r"\\(\d)", one.replacement):
                if int(asked) > groups:
                    raise ValueError(f"patch.{number}.replacement asks for group {asked}, and the pattern has {groups}")
        _can_match(self.method)
        share_is_some(self.share)

    def matches(self, method: str, target: str) -> bool:
        """Whether a request with this method and request-target is meant (before the share is drawn)."""
        return _matches(self.method, self.path, method, target)

    def treatment(self, draw: random.Random) -> Treatment:
        """Of the answer."""
        return Treatment(
            body=BodyEdit(
                replace=None if self.replace is None else self.replace.encode(),
                content_type=self.content_type,
                patches=tuple((_compiled(one.pattern), one.replacement.encode()) for one in self.patch),
                truncate=self.truncate,
            )
        )


_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "upgrade", "trailer", "te"})


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Substitution:
    return cast("Substitution", compile_pattern(pattern, "pattern"))


def _matches(methods: str, glob: str, method: str, target: str) -> bool:
    meant = {one.strip().upper() for one in methods.split(",")}
    return (meant == {"*"} or method.upper() in meant) and bool(re.fullmatch(_glob(glob), path_of(target), re.DOTALL))


def _can_match(method: str) -> None:
    if method != "*" and not re.fullmatch(r"[A-Za-z-]+(,\s*[A-Za-z-]+)*", method):
        raise ValueError(f"method is written like *, POST or GET,HEAD, not {method!r}")


def _is_media_type(text: str) -> None:
    if not (text.isascii() and (text.isprintable() or not text)):
        raise ValueError(f"content_type is a media type like text/html, not {text!r}")


def path_of(target: str) -> str:
    """The path of a request-target, without query; also of the absolute form (RFC 9112, 3.2.2)."""
    if not target.startswith("/") and "://" in target:
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    return target.partition("?")[0]


def _glob(pattern: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(char) or re.escape(char) for char in pattern)
