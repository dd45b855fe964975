"""An HTTP answer as it is judged and shown to people. Pure: no I/O, no clock."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Reason
from stormwatch.probes.units import show_duration


class Answer(NamedTuple):
    """The last answer of a run, as far as it came."""

    status: int
    version: float
    """1.0, 1.1, 2 or 3."""
    head: Sequence[bytes]
    """Status line and headers as they came."""
    body: bytes
    """Empty when no expectation needs it."""
    size: int
    """Bytes of the body after decompression."""
    tls: bool
    """Whether it came over TLS."""
    seconds: float
    """How long the run took."""
    phases: Mapping[str, tuple[float, float]]
    """Start and seconds of each phase."""
    expires_in: float
    """Seconds until the first certificate of the chain expires; infinite without TLS."""
    age: float | None
    """Seconds since it was last modified, as it says itself; None when it does not say so."""

    @property
    def slowest(self) -> str:
        """The phase that took longest."""
        return max(self.phases, key=lambda name: self.phases[name][1], default="")


@dataclass(frozen=True, slots=True)
class Complaint:
    """One expectation that does not hold."""

    reason: Reason
    message: str
    phase: str
    regex: bool = False
    """It was a regular expression that failed: `probe_failed_due_to_regex`."""
    cel: bool = False
    """It was a CEL expression that failed: `probe_failed_due_to_cel`."""

    def as_failure(self) -> ProbeFailed:
        """The exception that ends a run with it."""
        return ProbeFailed(self.reason, self.message, phase=self.phase)


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
