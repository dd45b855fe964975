"""A recorded drill, judged again with other rules: the same results, the real evaluator, the times of the recording.

    results of the recording ──▶ slo.Evaluator, evaluated when the service would ──▶ transitions ──▶ detect ▸ judge

Rules that fire later than those of the recording would have made the drill hold its fault for longer. The recording ends
before that, so the fault is held on paper: from the moment at which it was taken back, every probe goes on seeing in turn
what it saw under the fault, at its own rhythm, until the drill would have been complete or would have given up; what followed
moves to after that. In the same way all goes on as it was last, when what the rules say has not recovered at the end.

Pure, and deterministic: no clock, no randomness. What lies behind the evaluation is not replayed, but for the decision who
is told (`routing.told_with`).
"""

import heapq
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stormwatch.chaos.detection import Observation, Sighting, detect
from stormwatch.chaos.drill import Drill
from stormwatch.chaos.recording import Recorded
from stormwatch.chaos.routing import Routed
from stormwatch.chaos.run import MARGIN, TICK, late_look
from stormwatch.chaos.verdict import Judgement, judge, show_labels
from stormwatch.probes.probe import Probe
from stormwatch.probes.result import Outcome, Result
from stormwatch.slo.alert import AlertState, Transition
from stormwatch.slo.evaluator import SNAPSHOT_VERSION, Evaluator
from stormwatch.slo.maintenance import Maintenance
from stormwatch.slo.objective import Objective
from stormwatch.slo.rule import BudgetLeft, BurnRate, LocationDown, PeerSilent, QuorumDegraded, Rule

OF_PEERS = LocationDown | QuorumDegraded | PeerSilent
"""Rules that are left out: what other locations saw is not recorded. A quorum is decided by our own results alone."""
SETTLE = 2.0
"""Seconds that a drill looks for noise after all that was expected has come, as `run_drill` does by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitoring:
    """What makes alerts of results: what is replayed, and what is mutated."""

    probes: tuple[Probe, ...]
    rules: tuple[Rule, ...]
    objectives: tuple[Objective, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()
    drills: Mapping[str, Drill] = field(default_factory=dict[str, Drill])
    """The drills as they are asked for today; one that is not here is asked as it was recorded."""
    routing: tuple[Routed, ...] = ()
    """The channels of which a recording can say whether they were told: what they are told of is decided again."""
    evaluation: float = 1.0
    """Seconds between two evaluations of the rules in the service."""

    def drill_of(self, recorded: Recorded) -> Drill | None:
        """What is asked of a recording: by the drill of its name as it is now, if it still injects the same fault."""
        if recorded.report is None:
            return None
        then = recorded.report.drill
        now = self.drills.get(then.name, then)
        return now if now.faults == then.faults else then


Rejudge = Callable[[Result], Result]
"""What a run would have come to with another probe; a run that it does not change comes back itself."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the evaluator was given: a result, or (None) the order to evaluate."""

    at: float
    result: Result | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a recording comes to with some monitoring."""

    transitions: tuple[Transition, ...]
    observation: Observation | None
    """None: a control run."""
    judgement: Judgement | None
    steps: tuple[Step, ...] = field(repr=False)
    """All that the evaluator was given, in order: for replaying a part of the rules."""

    @property
    def told(self) -> str:
        """The verdict; of a control run, the alarms that fired without a fault."""
        if self.judgement is not None:
            return self.judgement.verdict.value
        fired = {show_labels(one.alert.labels) for one in self.transitions if one.after is AlertState.FIRING}
        return f"false alarm: {', '.join(sorted(fired))}" if fired else "silent"


def replay(monitoring: Monitoring, recorded: Recorded, *, rejudge: Rejudge | None = None) -> Replayed:
    """Judge a recording with some monitoring."""
    player = _Player(monitoring, recorded, rejudge or _as_it_is)
    drill = monitoring.drill_of(recorded)
    if drill is None or recorded.report is None:
        player.play(recorded.ended)
        return Replayed(
            transitions=tuple(player.transitions), observation=None, judgement=None, steps=tuple(player.steps)
        )
    asked = without_delivery(drill)
    observation = player.drill(asked, recorded.report.detection.observed)
    return Replayed(
        transitions=tuple(player.transitions),
        observation=observation,
        judgement=judge(asked, detect(asked, observation)),
        steps=tuple(player.steps),
    )


def replay_rules(
    monitoring: Monitoring, rules: Sequence[Rule], recorded: Recorded, steps: Iterable[Step]
) -> tuple[Transition, ...]:
    """What some rules alone say to the steps of a whole replay: rules do not hear of each other."""
    if not rules:
        return ()
    known = {rule.objective for rule in rules if isinstance(rule, BurnRate | BudgetLeft)}
    objectives = tuple(one for one in monitoring.objectives if one.name in known)
    evaluator = _evaluator(replace(monitoring, rules=tuple(rules), objectives=objectives), recorded, _as_it_is)
    found: list[Transition] = []
    for step in steps:
        if step.result is None:
            found += evaluator.evaluate(step.at)
        else:
            evaluator.observe(step.result)
    return tuple(found)


def together(monitoring: Monitoring, probes: Collection[str]) -> frozenset[str]:
    """These probes, and all that anything about them is judged with: others of their objectives, what mutes their alerts."""
    names = frozenset(probes)
    while True:
        more = {
            *(name for one in monitoring.objectives if names & set(one.probes) for name in one.probes),
            *(name for one in monitoring.probes if one.name in names for name in one.depends_on),
        }
        if more <= names:
            return names
        names |= more


def part_of(monitoring: Monitoring, probes: Collection[str]) -> Monitoring:
    """What is about some probes, of which `together` gave the names."""
    objectives = tuple(one for one in monitoring.objectives if set(one.probes) <= set(probes))
    promised = {one.name for one in objectives}
    return replace(
        monitoring,
        probes=tuple(one for one in monitoring.probes if one.name in probes),
        objectives=objectives,
        rules=tuple(
            rule
            for rule in monitoring.rules
            if not isinstance(rule, OF_PEERS)
            and (rule.objective in promised if isinstance(rule, BurnRate | BudgetLeft) else rule.probe in probes)
        ),
    )


def seen_by(recorded: Recorded, probes: Collection[str]) -> Recorded:
    """What some probes saw of a recording."""
    return replace(
        recorded,
        latest=tuple(one for one in recorded.latest if one.probe in probes),
        earlier=tuple(one for one in recorded.earlier if one.probe in probes),
        results=tuple(one for one in recorded.results if one.probe in probes),
    )


def judged_as_recorded(recorded: Recorded) -> Judgement | None:
    """The judgement of what was seen then, without what is not replayed; None for a control run."""
    if recorded.report is None:
        return None
    asked = without_delivery(recorded.report.drill)
    return judge(asked, detect(asked, recorded.report.detection.observed))


def without_delivery(drill: Drill) -> Drill:
    """A drill that asks for the alert only, and not that it arrives."""
    if drill.alert is None or drill.alert.delivered_within is None:
        return drill
    return replace(drill, alert=replace(drill.alert, delivered_within=None))


class _Player:
    """Gives the evaluator what the service would have given it."""

    def __init__(self, monitoring: Monitoring, recorded: Recorded, rejudge: Rejudge) -> None:
        self._every = {probe.name: probe.every for probe in monitoring.probes}
        self._evaluation = monitoring.evaluation
        self._recorded = recorded
        self._evaluator = _evaluator(monitoring, recorded, rejudge)
        latest = [rejudge(result) for result in recorded.latest]
        self._given = sorted((rejudge(result) for result in recorded.results), key=lambda result: result.finished)
        self._outcomes = {result.probe: result.outcome for result in latest}
        self._last = {result.probe: result for result in latest}
        self._played = recorded.began
        self._due = recorded.began
        self._sightings: list[Sighting] = []
        self.results: list[Result] = []
        self.transitions: list[Transition] = []
        self.steps: list[Step] = []

    def drill(self, drill: Drill, seen: Observation) -> Observation:
        """Everything from before the injection until all is well again, or the drill would have given up."""
        if seen.injected is None or seen.reverted is None:
            self.play(seen.ended)
            return self._observed(seen, ended=seen.ended)
        injected = seen.injected
        self.play(injected)
        firing = tuple(one.alert.labels for one in self._evaluator.active() if one.after is AlertState.FIRING)
        self.play(seen.reverted)
        delay = 0.0 if seen.trouble else self._hold(drill, injected, seen.reverted) - seen.reverted
        reverted = seen.reverted + delay
        self.play(seen.ended, delay=delay)
        ended = seen.ended + delay
        observed = self._observed(
            replace(
                seen,
                reverted=reverted,
                watched_until=None if seen.watched_until is None else seen.watched_until + delay,
                fired_before=firing,
            ),
            ended=ended,
        )
        return observed if seen.trouble else self._recover(drill, observed)

    def play(self, until: float, *, delay: float = 0.0) -> None:
        """Go on in the recording up to and including a moment of it, everything later by `delay`.

        Rules are also evaluated when transitions were seen: the service did so at those moments.
        """
        since, self._played = self._played, until
        results = ((one.finished + delay, 0, one) for one in self._given if since < one.finished <= until)
        seen = sorted({one.at for one in self._recorded.transitions if since < one.at <= until})
        evaluated = ((at + delay, 1, None) for at in seen)
        for at, _, result in heapq.merge(results, evaluated, key=lambda event: event[:2]):
            while self._due < at:
                self._evaluate(self._due)
            if result is None:
                self._evaluate(at)
            else:
                self._take(_moved(result, delay))
        while self._due <= until + delay:
            self._evaluate(self._due)

    def _hold(self, drill: Drill, injected: float, reverted: float) -> float:
        """When the fault would have been taken back: it is held until all that is expected came, or it is too late."""
        limits = [one.within for one in (drill.probe, drill.alert) if one]
        limit = injected + max(within + late_look(within) for within in limits)

        def complete() -> bool:
            return self._complete(drill, injected)

        if complete() or reverted + TICK >= limit:
            return reverted
        during: dict[str, list[Result]] = {}
        for result in self.results:
            if injected <= result.finished:
                during.setdefault(result.probe, []).append(result)
        ahead = self._ahead({name: _under_fault(seen) for name, seen in during.items()})
        at = self._go_on(ahead, complete, limit)
        return self._go_on(ahead, _never, min(limit, at + SETTLE)) if complete() else limit

    def _recover(self, drill: Drill, seen: Observation) -> Observation:
        """Until all is well again: as it was last, if the recording ended before."""
        reverted, ended = seen.reverted or 0.0, seen.ended

        known = (-1, -1)
        well = False

        def recovered() -> bool:
            nonlocal known, well
            heard = (len(self.results), len(self.transitions))
            if heard != known:  # most seconds bring nothing
                known, now = heard, detect(drill, self._observed(seen, ended=ended))
                green = drill.probe is None or now.first_red is None or now.green is not None
                well = green and (now.firing is None or now.resolved is not None)
            return well

        limit = reverted + drill.resolves_within + MARGIN
        if ended < limit and not recovered():
            ended = self._go_on(self._ahead({}), recovered, limit)
        return self._observed(seen, ended=ended)

    def _ahead(self, cycles: Mapping[str, Sequence[Result]]) -> "list[tuple[float, str, int, Sequence[Result]]]":
        """What comes when all goes on: each probe sees its cycle in turn, or what it saw last."""
        queue = [
            self._next(name, 0, cycles.get(name, (last,))) for name, last in self._last.items() if name in self._every
        ]
        heapq.heapify(queue)
        return queue

    def _next(self, name: str, number: int, cycle: Sequence[Result]) -> "tuple[float, str, int, Sequence[Result]]":
        one = cycle[number % len(cycle)]
        started = self._last[name].started + self._every[name]
        return started + (one.finished - one.started), name, number, cycle

    def _go_on(
        self, ahead: "list[tuple[float, str, int, Sequence[Result]]]", done: Callable[[], bool], limit: float
    ) -> float:
        """Let time pass until something is so, or until a limit; when that was."""
        while True:
            at = ahead[0][0] if ahead else math.inf
            if min(at, self._due) > limit:
                return limit
            if self._due < at:
                at = self._due
                self._evaluate(at)
            else:
                _, name, number, cycle = heapq.heappop(ahead)
                one = cycle[number % len(cycle)]
                self._take(_moved(one, at - one.finished))
                heapq.heappush(ahead, self._next(name, number + 1, cycle))
            if done():
                return at

    def _take(self, result: Result) -> None:
        self._evaluator.observe(result)
        self.steps.append(Step(result.finished, result))
        self.results.append(result)
        self._sightings.append(Sighting.of(result))
        before, self._outcomes[result.probe] = self._outcomes.get(result.probe), result.outcome
        self._last[result.probe] = result
        if result.outcome is not Outcome.UP or before is not result.outcome:
            self._evaluate(result.finished)

    def _evaluate(self, at: float) -> None:
        self.transitions += self._evaluator.evaluate(at)
        self.steps.append(Step(at, None))
        self._due = at + self._evaluation

    def _complete(self, drill: Drill, injected: float) -> bool:
        expected = drill.probe
        red = expected is None or any(
            one.probe == expected.name
            and one.outcome is Outcome.DOWN
            and one.finished >= injected
            and expected.reason in (None, one.reason)
            for one in self.results
        )
        return red and (
            drill.alert is None
            or any(
                one.after is AlertState.FIRING and one.at >= injected and drill.expects(one.alert.labels)
                for one in self.transitions
            )
        )

    def _observed(self, seen: Observation, *, ended: float) -> Observation:
        return replace(
            seen,
            ended=ended,
            sightings=tuple(self._sightings),
            transitions=tuple(self.transitions),
            notifications=(),
            deliveries=(),
        )


def _evaluator(monitoring: Monitoring, recorded: Recorded, rejudge: Rejudge) -> Evaluator:
    """An evaluator that knows what that of the recording knew when it began."""
    evaluator = Evaluator(
        monitoring.objectives,
        (rule for rule in monitoring.rules if not isinstance(rule, OF_PEERS)),
        monitoring.probes,
        maintenance=monitoring.maintenance,
    )
    evaluator.restore(
        {
            "version": SNAPSHOT_VERSION,
            "evaluated": recorded.began,
            "active": [transition.as_json() for transition in recorded.active],
            "probes": {},
        }
    )
    newest = {(result.probe, result.finished) for result in recorded.latest}
    evaluator.replay(one.as_result() for one in recorded.earlier if (one.probe, one.finished) not in newest)
    for result in recorded.latest:
        evaluator.observe(rejudge(result))
    return evaluator


def _under_fault(seen: Sequence[Result]) -> Sequence[Result]:
    """What a probe goes on seeing in turn: all since it first saw the fault; if it did not, its last result."""
    first = next((number for number, one in enumerate(seen) if one.outcome is not Outcome.UP), len(seen) - 1)
    return seen[first:]


def _moved(result: Result, seconds: float) -> Result:
    """The same run at another time."""
    if not seconds:
        return result
    attempts = tuple(replace(one, started=one.started + seconds) for one in result.attempts)
    return replace(result, started=result.started + seconds, attempts=attempts)


def _as_it_is(result: Result) -> Result:
    return result


def _never() -> bool:
    return False
