"""What the status page shows: plain frozen values, filled by whoever knows them, and how to fill them from the history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from stormwatch.exporters.artifact import Artifact
from stormwatch.exporters.history import History, Latency, Stretch
from stormwatch.exporters.journey_view import JourneyView
from stormwatch.probes.probe import Probe
from stormwatch.probes.result import Outcome, Result

State = Literal["up", "down", "broken", "waiting"]
"""What is known of a probe now. `waiting`: it never ran."""

CELLS = 72
"""Cells of a strip, points of a sparkline."""
SPANS = (600.0, 3600.0, 6 * 3600.0, 86400.0)
"""Seconds that a strip may cover: the shortest one that holds everything known, so that minutes are not a speck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """An alert that is pending or firing."""

    name: str
    severity: str
    """`page`, `high`, `ticket` or `info`."""
    state: str
    """`firing` or `pending`."""
    since: float
    """Unix time since when its condition holds."""
    subject: str
    """The probe or the objective that it is about."""
    summary: str = ""
    reason: str = ""
    message: str = ""
    probe: str = ""
    """The probe to look at; empty if there is none."""
    runbook: str = ""
    dashboard: str = ""
    artifacts: tuple[Artifact, ...] = ()
    """Picture, video and trace of the failure that it tells of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveView:
    """An objective and what is left of its error budget."""

    name: str
    target: str
    """As people write it: `99.9%`."""
    window: str
    """As people write it: `30d`."""
    left: float
    """Share of the budget that is left: 1 is all of it, 0 none, negative is overspent."""
    good: int
    bad: int
    probes: tuple[str, ...] = ()
    asks: str = ""
    """What a run must be besides up, like `within 500ms`; empty for availability only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeCard:
    """One probe on the overview."""

    name: str
    kind: str
    target: str
    state: State
    since: float | None = None
    """Unix time since when the state is what it is."""
    span: float = 86400.0
    """Seconds that strip and latencies cover, up to now."""
    strip: tuple[Stretch, ...] = ()
    latencies: tuple[Latency, ...] = ()
    last: Result | None = None
    failure: Result | None = None
    """The last run that was down or broken."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    maintenance: bool = False
    muted_by: str = ""
    """The probe whose failure mutes the alerts of this one."""

    @property
    def uptime(self) -> float | None:
        """Share of the runs in the strip that were up, of those that were up or down."""
        up, down = sum(s.up for s in self.strip), sum(s.down for s in self.strip)
        return up / (up + down) if up + down else None

    @property
    def typical(self) -> float | None:
        """Median of the mean latencies, in seconds."""
        means = sorted(each.mean for each in self.latencies if each.mean is not None)
        return means[len(means) // 2] if means else None

    @property
    def service(self) -> str:
        """What it is grouped by on the overview."""
        return self.labels.get("service", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewView:
    """The whole first page."""

    now: float
    """Unix time at which it is true."""
    probes: Sequence[ProbeCard]
    alerts: Sequence[AlertView] = ()
    objectives: Sequence[ObjectiveView] = ()
    location: str = ""
    refresh: int = 15
    """Seconds after which the page loads itself again; 0: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeView:
    """The page of one probe."""

    now: float
    card: ProbeCard
    every: float
    timeout: float
    attempts: int = 1
    """How many attempts a run may take before it is down."""
    failures: Sequence[Result] = ()
    """The last runs that were down or broken, the newest first."""
    alerts: Sequence[AlertView] = ()
    objectives: Sequence[ObjectiveView] = ()
    journey: JourneyView | None = None
    """Its last runs step by step, where it is a journey."""
    depends_on: tuple[str, ...] = ()
    runbook: str = ""
    dashboard: str = ""
    location: str = ""
    refresh: int = 15


def span_of(first: float | None, now: float) -> float:
    """The shortest of `SPANS` that goes back to `first`; the longest one if none does."""
    known = 0.0 if first is None else now - first
    return next((span for span in SPANS if span >= known), SPANS[-1])


def card_of(
    probe: Probe,
    history: History,
    *,
    now: float,
    span: float,
    last: Result | None,
    since: float | None,
    failure: Result | None,
    maintenance: bool = False,
    muted_by: str = "",
) -> ProbeCard:
    """What is known of a probe. Reads the history, so call it in a thread. Raises HistoryUnavailable."""
    return ProbeCard(
        name=probe.name,
        kind=probe.kind,
        target=probe.target,
        state=state_of(last),
        since=since,
        span=span,
        strip=history.strip(probe.name, now - span, now, CELLS),
        latencies=history.latencies(probe.name, now - span, now, CELLS),
        last=last,
        failure=failure,
        labels=probe.labels,
        maintenance=maintenance,
        muted_by=muted_by,
    )


def state_of(last: Result | None) -> State:
    """The state that a last result means."""
    if last is None:
        return "waiting"
    return {Outcome.UP: "up", Outcome.DOWN: "down", Outcome.BROKEN: "broken"}[last.outcome]  # pyright: ignore[reportReturnType] - the dictionary holds exactly the literals
