"""From the running service to the views of the status page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stormwatch.exporters.artifact import artifacts_of
from stormwatch.exporters.history import History, HistoryUnavailable
from stormwatch.exporters.journey_view import RUNS, JourneyView, journey_of
from stormwatch.exporters.view import (
    AlertView,
    ObjectiveView,
    OverviewView,
    ProbeCard,
    ProbeView,
    card_of,
    span_of,
    state_of,
)
from stormwatch.harness.artifact_links import evidence_of
from stormwatch.harness.artifact_web import inside
from stormwatch.harness.catalog import KINDS
from stormwatch.harness.config import Config
from stormwatch.harness.latest import Latest
from stormwatch.journeys.journey import KIND as JOURNEY
from stormwatch.probes.probe import Probe
from stormwatch.probes.result import Outcome, Result
from stormwatch.probes.units import show_ratio
from stormwatch.slo.alert import Transition
from stormwatch.slo.evaluator import Evaluator
from stormwatch.slo.objective import Objective


@dataclass(frozen=True, slots=True)
class Moment:
    """What the evaluator says now. Taken on the event loop, because the evaluator is not to be read from a thread."""

    now: float
    active: tuple[Transition, ...]
    objectives: tuple[ObjectiveView, ...]
    maintained: frozenset[str]
    """Probes under maintenance."""

    @classmethod
    def of(cls, config: Config, evaluator: Evaluator, now: float) -> "Moment":
        """The present."""
        return cls(
            now=now,
            active=evaluator.active(),
            objectives=tuple(_objective_view(each, evaluator, now) for each in config.objectives),
            maintained=frozenset(p.name for p in config.probes if evaluator.in_maintenance(p.name, now)),
        )


class Pages:
    """Fills views. Reads the history, so call its methods in a thread."""

    def __init__(self, config: Config, latest: Latest, history: History, artifacts: Path) -> None:
        """`artifacts` is the directory of what journeys kept."""
        self._artifacts = artifacts
        self._config = config
        self._latest = latest
        self._history = history
        self._probes = {probe.name: probe for probe in config.probes}

    def overview(self, moment: Moment) -> OverviewView:
        """The first page."""
        span = self._span(None, moment.now)
        return OverviewView(
            now=moment.now,
            probes=[self._card(probe, moment, span) for probe in self._config.probes],
            alerts=[self._alert_view(transition) for transition in moment.active],
            objectives=moment.objectives,
            location=self._config.location,
        )

    def probe(self, name: str, moment: Moment) -> ProbeView | None:
        """The page of one probe; None for a name that is not there."""
        probe = self._probes.get(name)
        if probe is None:
            return None
        objectives = {each.name for each in self._config.objectives if name in each.probes}
        return ProbeView(
            now=moment.now,
            card=self._card(probe, moment, self._span(name, moment.now)),
            every=probe.every,
            timeout=probe.timeout,
            attempts=probe.confirm.attempts,
            failures=self._failures(name),
            journey=self.journey(name),
            alerts=[
                self._alert_view(each)
                for each in moment.active
                if each.alert.labels.get("probe") == name or each.alert.labels.get("objective") in objectives
            ],
            objectives=[view for view in moment.objectives if view.name in objectives],
            depends_on=probe.depends_on,
            runbook=probe.runbook,
            dashboard=probe.dashboard,
            location=probe.location,
        )

    def journey(self, name: str) -> JourneyView | None:
        """The last runs of a journey; None for a name that no journey has."""
        probe = self._probes.get(name)
        if probe is None or probe.kind != JOURNEY.name:
            return None
        last, failure = self._latest.result(name), self._latest.failure(name)
        try:
            found = self._history.results(name, limit=RUNS)
        except HistoryUnavailable:
            found = ()
        # What ended this moment is not yet in the history.
        runs = {result.started: result for result in (*found, *filter(None, (failure, last)))}
        newest = sorted(runs.values(), key=lambda result: -result.started)[:RUNS]
        named = [each.path for result in (*newest, *([failure] if failure else [])) for each in artifacts_of(result)]
        return journey_of(name, newest, failure, gone=frozenset(path for path in named if not self._is_kept(path)))

    def _is_kept(self, path: str) -> bool:
        return inside(self._artifacts, path) is not None

    def _card(self, probe: Probe, moment: Moment, span: float) -> ProbeCard:
        # Of a journey people know the file and the test; where the file lies is in the configuration.
        card = self._whole_card(probe, moment, span)
        return replace(card, target=probe.target.rpartition("/")[2]) if KINDS[probe.kind].target_is_file else card

    def _whole_card(self, probe: Probe, moment: Moment, span: float) -> ProbeCard:
        last = self._latest.result(probe.name)
        since, failure = self._latest.since(probe.name), self._latest.failure(probe.name)
        maintenance, muted_by = probe.name in moment.maintained, self._muted_by(probe)
        try:
            return card_of(
                probe,
                self._history,
                now=moment.now,
                span=span,
                last=last,
                since=since,
                failure=failure,
                maintenance=maintenance,
                muted_by=muted_by,
            )
        except HistoryUnavailable:
            # The present is known without the history; a page without strips is better than none in an outage.
            return ProbeCard(
                name=probe.name,
                kind=probe.kind,
                target=probe.target,
                state=state_of(last),
                since=since,
                span=span,
                last=last,
                failure=failure,
                labels=probe.labels,
                maintenance=maintenance,
                muted_by=muted_by,
            )

    def _span(self, name: str | None, now: float) -> float:
        try:
            return span_of(self._history.first_started(name), now)
        except HistoryUnavailable:
            return span_of(now, now)

    def _failures(self, name: str) -> Sequence[Result]:
        try:
            return self._history.failures(name)
        except HistoryUnavailable:
            failure = self._latest.failure(name)
            return [failure] if failure else []

    def _alert_view(self, transition: Transition) -> AlertView:
        shown = evidence_of(transition, self._latest.failure(transition.probe)).values()
        labels, annotations = transition.alert.labels, transition.alert.annotations
        return AlertView(
            name=transition.alert.name,
            severity=labels["severity"],
            state=transition.after.value,
            since=transition.since,
            subject=labels.get("objective") or labels.get("probe") or "",
            summary=annotations.get("summary", ""),
            reason=transition.reason,
            message=transition.message,
            probe=transition.probe or labels.get("probe", ""),
            runbook=annotations.get("runbook", ""),
            dashboard=annotations.get("dashboard", ""),
            artifacts=tuple(each for each in shown if self._is_kept(each.path)),
        )

    def _muted_by(self, probe: Probe) -> str:
        for name in probe.depends_on:
            result = self._latest.result(name)
            if result and result.outcome is Outcome.DOWN:
                return name
        return ""


def _objective_view(objective: Objective, evaluator: Evaluator, now: float) -> ObjectiveView:
    budget = evaluator.budget(objective.name, now)
    return ObjectiveView(
        name=objective.name,
        target=show_ratio(objective.target),
        window=f"this {objective.calendar.unit}" if objective.calendar else objective.window_name,
        left=float(budget.left),
        good=budget.total - budget.bad,
        bad=budget.bad,
        probes=objective.probes,
        asks=objective.asks,
    )
