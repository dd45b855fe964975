"""Several locations look at one probe: who sees it down, who is there to be asked, and what that decides.

    each location's last result, not older than its evidence is due ──▶ a vote: red, green, or none
    red votes >= quorum                       ──▶ ProbeDown
    every vote there is is red, and too few   ──▶ ProbeDown, degraded: better a page too many than an outage that nobody told
    red here, and neither of the two          ──▶ LocationDown

A location that is silent has no vote. It can neither page by itself nor outvote those that answer. One whose runs are broken
has none either, except that what it saw down stands until its evidence is due.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from stormwatch.probes.probe import Probe
from stormwatch.probes.result import Outcome, Result
from stormwatch.probes.units import show_duration
from stormwatch.slo.alert import Severity
from stormwatch.slo.policy import evidence_due
from stormwatch.slo.rule import Down, LocationDown, PeerSilent, QuorumDegraded, Rule

SILENT_AFTER = 30.0
"""Seconds without an answer after which a peer counts as silent. A restart of it takes less."""


class Vote(NamedTuple):
    """The last result of a probe at one location."""

    outcome: Outcome
    at: float
    """Unix time at which it was decided, by the clock of that location."""
    reason: str
    message: str


class Ballot(NamedTuple):
    """The votes on one probe that count at a moment."""

    red: tuple[str, ...]
    """Locations that see it down, in alphabetical order."""
    answering: int
    """How many have a vote."""

    def decides(self, quorum: int, *, awaited: bool = False) -> bool:
        """Whether it is down. `awaited`: further locations are still to be heard of, so that few are not all there are."""
        return len(self.red) >= quorum or (bool(self.red) and len(self.red) == self.answering and not awaited)

    def told(self, quorum: int) -> str:
        """Who sees it, for people."""
        said = f"down from {', '.join(self.red)} ({len(self.red)} of {self.answering} locations that answer"
        return f"{said}; {quorum} were asked for)" if self.answering < quorum else f"{said})"


class Votes:
    """The last result of each probe at each location."""

    def __init__(self) -> None:
        self._votes: dict[str, dict[str, Vote]] = {}
        self._red: dict[str, set[str]] = {}

    def take(self, probe: str, location: str, vote: Vote) -> bool:
        """Note a vote, unless a later one or one that still stands is known. Whether it is another than before."""
        known = self._votes.setdefault(probe, {}).get(location)
        if known is not None and vote.at < known.at:
            return False
        if known is not None and known.outcome is Outcome.DOWN and vote.outcome is Outcome.BROKEN:
            return False  # what it saw stands until its evidence is due: an outage is not over because it cannot look
        self._votes[probe][location] = vote
        red = self._red.setdefault(probe, set())
        (red.add if vote.outcome is Outcome.DOWN else red.discard)(location)
        if not red:
            del self._red[probe]
        return known is None or known.outcome is not vote.outcome

    def last(self, probe: str, location: str) -> Vote | None:
        """The last vote of a location, however old."""
        return self._votes.get(probe, {}).get(location)

    def ballot(self, probe: str, now: float, due: float) -> Ballot:
        """The votes that count: no older than `due` seconds. A broken run has none, and takes none back that is red."""
        counted = {
            location: vote.outcome
            for location, vote in self._votes.get(probe, {}).items()
            if vote.outcome is not Outcome.BROKEN and now - vote.at <= due
        }
        red = sorted(location for location, outcome in counted.items() if outcome is Outcome.DOWN)
        return Ballot(tuple(red), len(counted))

    @property
    def suspects(self) -> Iterable[str]:
        """Probes that are down at some location, as far as is known."""
        return self._red


def vote_of(result: Result) -> Vote:
    """What a location says with a result."""
    return Vote(result.outcome, result.finished, result.reason.value, result.message)


def with_quorum(rules: Iterable[Rule], probe: Probe, quorum: int, locations: Sequence[str]) -> tuple[Rule, ...]:
    """The rules of a probe, of which ProbeDown asks for `quorum` of the locations; and those that tell of one alone.

    `locations` are all that are known, ours among them. Without a rule Down nothing is asked.
    """
    given = tuple(rules)
    down = next((rule for rule in given if isinstance(rule, Down)), None)
    if down is None or quorum < 2:
        return given
    due = evidence_due(probe)
    links = {name: url for name, url in down.annotations.items() if name not in {"summary", "description"}}
    alone = tuple(
        LocationDown(
            alertname="LocationDown",
            severity=Severity.TICKET,
            lasting=down.lasting,
            keep=down.keep,
            muted_by=down.muted_by,
            labels=down.labels,
            annotations={
                **links,
                "summary": f"{probe.name} is down from {location} only",
                "description": f"{probe.kind} probe of {probe.target}: fewer than {quorum} locations see it down, so "
                f"{location} or the way from there is the likelier cause",
            },
            probe=probe.name,
            location=location,
            quorum=quorum,
            due=due,
        )
        for location in locations
        if len(locations) > 1
    )
    degraded = QuorumDegraded(
        alertname="QuorumDegraded",
        severity=Severity.TICKET,
        lasting=due,
        labels=down.labels,
        annotations={
            **links,
            "summary": f"{probe.name} is seen by fewer locations than its quorum of {quorum}",
            "description": f"fewer than {quorum} locations had a result in the last {show_duration(due)}; "
            "until more do, it counts as down when all that have one see it down",
        },
        probe=probe.name,
        quorum=quorum,
        due=due,
    )
    asked = tuple(replace(rule, quorum=quorum, due=due) if rule is down else rule for rule in given)
    return (*asked, *alone, degraded)


def rules_for_peers(locations: Iterable[str]) -> tuple[PeerSilent, ...]:
    """That a location whose results we ask for does not answer. Prometheus has no such rule: it sees by itself who is `up`."""
    return tuple(
        PeerSilent(
            alertname="PeerSilent",
            severity=Severity.TICKET,
            annotations={
                "summary": f"the stormwatch in {location} does not answer",
                "description": f"no results came from {location} for {show_duration(SILENT_AFTER)}: it has no vote in a "
                "quorum until it answers again",
            },
            location=location,
            after=SILENT_AFTER,
        )
        for location in locations
    )
