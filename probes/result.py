"""What came back from one run of a probe: frozen, complete, and the only thing that the rest of the house is told.

Three outcomes, not two: `broken` means that *we* failed (no browser, no file descriptors, an unreadable credentials
file). It is no evidence about the target, so it is counted and alerted on, and never good or bad for an objective.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class Outcome(StrEnum):
    """How a run ended."""

    UP = "up"
    DOWN = "down"
    BROKEN = "broken"


class Reason(StrEnum):
    """Why a run was not up: one closed list for all kinds, so that it can be a label and an expectation of a drill."""

    NONE = "none"
    """The run was up."""

    DNS = "dns"
    """The name did not resolve, or the name server answered with an error."""
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    RESET = "reset"
    """The connection was closed before the answer was complete."""
    TLS = "tls"
    """The handshake failed for another reason than the certificate."""
    CERTIFICATE = "certificate"
    STATUS = "status"
    ASSERTION = "assertion"
    """An answer came, and it is not what was expected."""
    PROTOCOL = "protocol"
    """What came back is not the protocol that was spoken to it."""
    TOO_SLOW = "too-slow"
    STEP = "step"
    """A journey's step failed."""

    RESOURCES = "resources"
    """Broken: the prober ran out of file descriptors, ports or memory."""
    NETWORK = "network"
    """Broken: the prober itself has no route or no network."""
    CREDENTIALS = "credentials"
    """Broken: a secret could not be read, or a token for the probe could not be had."""
    POLICY = "policy"
    """Broken: the policy of allowed networks does not let a probe connect there."""
    BROWSER = "browser"
    """Broken: there is no browser, or it died."""
    COLLECTION = "collection"
    """Broken: the journey's file could not be loaded."""
    INTERNAL = "internal"
    """Broken: an error in the prober that nothing else explains."""


BROKEN_REASONS = frozenset(
    {
        Reason.RESOURCES,
        Reason.NETWORK,
        Reason.CREDENTIALS,
        Reason.POLICY,
        Reason.BROWSER,
        Reason.COLLECTION,
        Reason.INTERNAL,
    }
)
"""The reasons that say nothing about the target."""


LAG = 0.01
"""Seconds of loop lag that no run is marked for: what garbage collection and a scrape cost."""
LAG_SHARE = 0.1
"""Share of a run's seconds that the loop may be late without a mark."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A named stretch of a run. `offset` is its start in seconds after the start of the attempt."""

    name: str
    seconds: float
    offset: float = 0.0
    failed: bool = False


NO_LABELS: Mapping[str, str] = MappingProxyType({})
"""One for all measures without labels: a prober holds some hundred thousand of them."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One number that was seen, under the metric name it is exported as (a gauge), in base units."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a run. `confirm` tries again at once after a failure; no try is hidden."""

    started: float
    seconds: float
    outcome: Outcome
    reason: Reason
    message: str
    phases: tuple[Phase, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One scheduled run, decided. Made by `run_once` and nowhere else.

    `outcome` is that of the last attempt: a run is down only when every attempt failed. `phases`, `measures` and
    `evidence` are those of the last attempt too; a failed run keeps what was seen until it failed.
    """

    probe: str
    kind: str
    target: str
    location: str
    started: float
    """Unix time in seconds."""
    seconds: float
    """Duration of the deciding attempt, without our own queueing."""
    outcome: Outcome
    reason: Reason = Reason.NONE
    message: str = ""
    """One sentence: what was asked, what was seen."""
    failed_phase: str = ""
    phases: tuple[Phase, ...] = ()
    measures: tuple[Measure, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What was seen, JSON values only: status line, response head, certificate facts, DNS answer, artifacts."""
    trace_id: str = ""
    """32 hexadecimal digits, W3C trace context, one per run."""
    attempts: tuple[Attempt, ...] = ()
    timeout: float = 0.0
    """Seconds that one attempt was allowed."""
    late: float = 0.0
    """Seconds between the moment the schedule asked for and the start."""
    queued: float = 0.0
    """Seconds of `late` that were spent waiting for other runs to end."""
    loop_lag: float = 0.0
    """Worst seconds by which the event loop ran late during the run: how far the timings can be off through us."""

    @property
    def lagged(self) -> bool:
        """Whether the prober was late enough during the run that its timings may be ours rather than the target's."""
        return self.loop_lag > max(LAG, self.seconds * LAG_SHARE)

    @property
    def finished(self) -> float:
        """Unix time at which the last attempt ended."""
        last = self.attempts[-1] if self.attempts else None
        return last.started + last.seconds if last else self.started + self.seconds

    def as_json(self) -> dict[str, Any]:
        """A JSON object with every field; `from_json` reads it back equal."""
        return {
            "probe": self.probe,
            "kind": self.kind,
            "target": self.target,
            "location": self.location,
            "started": self.started,
            "seconds": self.seconds,
            "outcome": self.outcome.value,
            "reason": self.reason.value,
            "message": self.message,
            "failed_phase": self.failed_phase,
            "phases": [_phase_as_json(phase) for phase in self.phases],
            "measures": [{"name": m.name, "value": m.value, "labels": dict(m.labels)} for m in self.measures],
            "evidence": dict(self.evidence),
            "trace_id": self.trace_id,
            "attempts": [
                {
                    "started": attempt.started,
                    "seconds": attempt.seconds,
                    "outcome": attempt.outcome.value,
                    "reason": attempt.reason.value,
                    "message": attempt.message,
                    "phases": [_phase_as_json(phase) for phase in attempt.phases],
                }
                for attempt in self.attempts
            ],
            "timeout": self.timeout,
            "late": self.late,
            "queued": self.queued,
            "loop_lag": self.loop_lag,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Result":
        """Read what `as_json` wrote. Raises KeyError or ValueError for anything else."""
        return cls(
            probe=document["probe"],
            kind=document["kind"],
            target=document["target"],
            location=document["location"],
            started=document["started"],
            seconds=document["seconds"],
            outcome=Outcome(document["outcome"]),
            reason=Reason(document["reason"]),
            message=document["message"],
            failed_phase=document["failed_phase"],
            phases=tuple(Phase(**phase) for phase in document["phases"]),
            measures=tuple(Measure(**measure) for measure in document["measures"]),
            evidence=document["evidence"],
            trace_id=document["trace_id"],
            attempts=tuple(
                Attempt(
                    started=attempt["started"],
                    seconds=attempt["seconds"],
                    outcome=Outcome(attempt["outcome"]),
                    reason=Reason(attempt["reason"]),
                    message=attempt["message"],
                    phases=tuple(Phase(**phase) for phase in attempt["phases"]),
                )
                for attempt in document["attempts"]
            ),
            timeout=document["timeout"],
            late=document["late"],
            queued=document.get("queued", 0.0),  # absent in histories of version 0.1
            loop_lag=document["loop_lag"],
        )


def _phase_as_json(phase: Phase) -> dict[str, Any]:
    return {"name": phase.name, "seconds": phase.seconds, "offset": phase.offset, "failed": phase.failed}
