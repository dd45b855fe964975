"""Faults of HTTP requests: their options as users write them, and which requests each acts on."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from stormwatch.chaos.option import STRICT, share_is_some
from stormwatch.probes.units import Ratio


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
        if self.method != "*" and not re.fullmatch(r"[A-Za-z-]+(,\s*[A-Za-z-]+)*", self.method):
            raise ValueError(f"method is written like *, POST or GET,HEAD, not {self.method!r}")
        if not (self.content_type.isascii() and self.content_type.isprintable()):
            raise ValueError(f"content_type is a media type like text/html, not {self.content_type!r}")
        share_is_some(self.share)

    def matches(self, method: str, target: str) -> bool:
        """Whether a request with this method and request-target is meant (before the share is drawn)."""
        methods = {one.strip().upper() for one in self.method.split(",")}
        return (methods == {"*"} or method.upper() in methods) and bool(
            re.fullmatch(_glob(self.path), path_of(target), re.DOTALL)
        )


def path_of(target: str) -> str:
    """The path of a request-target, without query; also of the absolute form (RFC 9112, 3.2.2)."""
    if not target.startswith("/") and "://" in target:
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    return target.partition("?")[0]


def _glob(pattern: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(char) or re.escape(char) for char in pattern)
