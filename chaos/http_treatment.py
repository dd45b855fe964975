"""What a fault does to one HTTP exchange: answer it here, let it wait, or change what is asked or answered. Values only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the proxy says instead of the service."""

    status: int
    body: str
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderEdit:
    """Headers that are set or removed, by names in any case."""

    set: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()

    def apply(self, headers: Headers) -> Headers:
        """The headers as they are afterwards; equal when there was nothing to do."""
        unwanted = {name.lower().encode() for name in self.remove}
        wanted = {name.lower().encode(): (name.encode(), value.encode()) for name, value in self.set}
        kept: Headers = []
        for name, value in headers:
            key = name.lower()
            if key in wanted:
                # In the place of the first of that name; further ones of that name go.
                kept.append(wanted.pop(key))
                unwanted.add(key)
            elif key not in unwanted:
                kept.append((name, value))
        return kept + list(wanted.values())


class Substitution(Protocol):
    """A compiled RE2 pattern over bytes: linear time, whatever the service sends."""

    def sub(self, replacement: bytes, text: bytes) -> bytes:
        r"""All matches replaced; `\1` in the replacement is the first group."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyEdit:
    """One of three things that are done to the body of an answer."""

    replace: bytes | None = None
    """All of it becomes this."""
    content_type: str = ""
    """With `replace`: its media type; empty: as it was."""
    patches: tuple[tuple["Substitution", bytes], ...] = ()
    """(pattern, replacement): all matches, in the decoded body."""
    truncate: int | None = None
    """Only so many bytes, as they are sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """What happens to one exchange. Whatever is left at its default is left alone."""

    answer: Answer | None = None
    later: float = 0.0
    """Seconds that the request waits before it goes on, or before it is answered here."""
    request: HeaderEdit | None = None
    response: HeaderEdit | None = None
    body: BodyEdit | None = None


@dataclass(frozen=True, slots=True)
class Treated:
    """A treatment, and whose it is."""

    by: Any
    """Opaque; comes back with the proof that it did something."""
    treatment: Treatment


Decide = Callable[[str, str], Sequence[Treated]]
"""From method and request-target to all that happens to the exchange."""


@dataclass(frozen=True, slots=True)
class Touch:
    """A treatment did something."""

    by: Any
    requests: int = 0
    bytes: int = 0


def waits_of(treated: Sequence[Treated]) -> tuple[tuple[Any, float], ...]:
    """Who holds a request for how many seconds."""
    return tuple((one.by, one.treatment.later) for one in treated if one.treatment.later > 0)
