"""What is known of a job from its pings, and what that means now. Pure: no I/O, and the time is a parameter.

The hard part is our own absence. A ping that was sent while nobody listened is lost, and a job that sends one a day says
nothing until tomorrow. So when a deadline passes whose ping may have been lost, that is no evidence: the run is broken and
not down, and the next moment is waited for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from stormwatch.probes.heartbeat_schedule import Schedule

STARTS: Final = 50
"""Runs under way that are remembered of one job."""


class Sort(StrEnum):
    """What a ping says."""

    SUCCESS = "success"
    FAIL = "fail"
    START = "start"
    LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """One ping."""

    at: float
    """Unix time at which it came."""
    sort: Sort
    exit_code: int | None = None
    run: str = ""
    """The identifier that start and end of a run have in common; empty for none."""
    body: str = ""
    """The beginning of what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that is known of one job."""

    since: float
    """Unix time since when it is waited for."""
    starts: Mapping[str, float] = field(default_factory=dict[str, float])
    """When the runs began that have not ended, by identifier, the oldest first."""
    ended: float | None = None
    """Unix time of the last success or failure."""
    failed: bool = False
    """Whether that was a failure."""
    succeeded: float | None = None
    """Unix time of the last success."""
    exit_code: int | None = None
    """The exit code of the last run, if it was told."""
    seconds: float | None = None
    """How long the last run took whose start was told."""
    body: str = ""
    """What the last ping about an end said."""
    pings: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many came, by sort."""

    def after(self, ping: Ping) -> "State":
        """What is known with one more ping."""
        counted = replace(self, pings={**self.pings, ping.sort.value: self.pings.get(ping.sort.value, 0) + 1})
        if ping.sort is Sort.LOG:
            return counted
        if ping.sort is Sort.START:
            others = {run: at for run, at in self.starts.items() if run != ping.run}
            return replace(counted, starts=dict([*others.items(), (ping.run, ping.at)][-STARTS:]))
        began = self.starts.get(ping.run)
        # Runs that began before this one, and have not ended, never will: their hosts died, or they were told wrongly.
        before = ping.at if began is None else began
        return replace(
            counted,
            starts={run: at for run, at in self.starts.items() if run != ping.run and at > before},
            ended=ping.at,
            failed=ping.sort is Sort.FAIL,
            succeeded=self.succeeded if ping.sort is Sort.FAIL else ping.at,
            exit_code=ping.exit_code,
            seconds=None if began is None else ping.at - began,
            body=ping.body,
        )

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        names = ("since", "ended", "failed", "succeeded", "exit_code", "seconds", "body")
        return {
            **{name: getattr(self, name) for name in names},
            "starts": list(self.starts.items()),
            "pings": dict(self.pings),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "State":
        """Read what `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        fields: dict[str, Any] = {**document, "starts": dict(document["starts"])}
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Absence:
    """A time in which nobody listened, as Unix times."""

    began: float
    ended: float

    def meets(self, began: float, ended: float) -> bool:
        """Whether any of that time was in it."""
        return self.began <= ended and began <= self.ended


class Verdict(StrEnum):
    """What a job's signs of life mean."""

    FINE = "fine"
    MISSING = "missing"
    """It did not end in time."""
    STUCK = "stuck"
    """It began, and did not end in the time that a run may take."""
    UNSURE = "unsure"
    """It did not end in time, as far as we know: we were away."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands."""

    verdict: Verdict
    moment: float
    """Unix time: when the sign was due that is missing or the next one is; when the run began that is stuck."""
    deadline: float
    """Unix time by which the next sign must have come."""
    away: Absence | None = None
    """When we were away."""


def judge(
    state: State,
    schedule: Schedule,
    *,
    grace: float,
    longest: float | None,
    absences: Sequence[Absence],
    now: float,
) -> Standing:
    """How a job stands. `grace` is added to each moment; `longest` is how many seconds a run may take, if that is limited.

    With `longest`, a run that began in time may end later than `grace` allows.
    """
    if longest is not None:
        for began in state.starts.values():
            over = began + longest
            if over < now and not any(absence.meets(began, over) for absence in absences):
                return Standing(Verdict.STUCK, began, over)
    last = max(state.since, state.ended or state.since)
    due = schedule.after(last)
    unsure: Absence | None = None
    unsure_due = due
    for absence in sorted(absences, key=lambda each: each.ended):
        deadline = _deadline(state, due, last, grace, longest)
        if now <= deadline or not absence.meets(schedule.opens(due), deadline):
            continue
        unsure, unsure_due = absence, due
        due = schedule.after(absence.ended)
    deadline = _deadline(state, due, last, grace, longest)
    if now > deadline:
        return Standing(Verdict.MISSING, due, deadline, unsure)
    if unsure is not None:
        return Standing(Verdict.UNSURE, unsure_due, deadline, unsure)
    return Standing(Verdict.FINE, due, deadline)


def _deadline(state: State, due: float, last: float, grace: float, longest: float | None) -> float:
    """The end of the time for one sign: later where a run is under way that began in time."""
    deadline = due + grace
    if longest is not None:
        begun = [began for began in state.starts.values() if last <= began <= deadline]
        deadline = max([deadline, *(began + longest for began in begun)])
    return deadline
