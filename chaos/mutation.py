"""Mutation testing of the monitoring: the changes of its configuration that no recorded drill would have noticed.

    each mutant × each recording ──▶ the same verdict as without the change?   all the same: it survives, nobody tests that line

What a change cannot reach is not evaluated: a rule says the same as before to all of a recording ▸ the verdict is the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from stormwatch.chaos.detection import Observation, detect
from stormwatch.chaos.mutant import Mutant, Operator, mutants_of, weakened
from stormwatch.chaos.playback import (
    Monitoring,
    judged_as_recorded,
    replay,
    replay_rules,
    without_delivery,
)
from stormwatch.chaos.recording import Recorded
from stormwatch.chaos.rejudged import Place
from stormwatch.chaos.verdict import Verdict, judge
from stormwatch.probes.result import Outcome
from stormwatch.slo.alert import Transition
from stormwatch.slo.identity import labels_of
from stormwatch.slo.rule import BudgetLeft, BurnRate, Down


class State(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    """A recording comes to another verdict: somebody would have noticed."""
    SURVIVED = "survived"
    """Recordings are about it, and all come to the same verdict."""
    UNREACHED = "unreached"
    """No recording is about what it changes: it survived too."""
    EQUIVALENT = "equivalent"
    """Nothing that could be recorded tells it apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """One mutant, and what became of it."""

    mutant: Mutant
    state: State
    by: str = ""
    """The recording that told it apart."""
    told: str = ""
    """What that came to: `proved, without it missed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redundant:
    """Something that a drill asks for, and that told no mutant apart which the rest of the drill does not tell apart."""

    drill: str
    sentence: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """All mutants of a configuration against all recordings."""

    fates: tuple[Fate, ...]
    redundant: tuple[Redundant, ...]
    used: tuple[str, ...]
    """Names of the recordings that mutants were held against."""
    unused: tuple[tuple[str, str], ...]
    """Names of the others, each with the reason why it proves nothing."""
    changed: tuple[tuple[str, str, str], ...]
    """Recordings that come to another verdict with the configuration of today: name, then, now."""

    def count(self, state: State) -> int:
        """How many mutants ended so."""
        return sum(fate.state is state for fate in self.fates)

    @property
    def survivors(self) -> tuple[Fate, ...]:
        """The untested lines."""
        return tuple(fate for fate in self.fates if fate.state in {State.SURVIVED, State.UNREACHED})

    @property
    def score(self) -> Fraction | None:
        """The share of the mutants that were killed, of those that could be; None: there is none that could be."""
        killed, survived = self.count(State.KILLED), len(self.survivors)
        return Fraction(killed, killed + survived) if killed + survived else None


def examine(monitoring: Monitoring, recordings: Sequence[Recorded]) -> Examination:
    """Hold every mutant against every recording."""
    unused = [(one.name, why) for one in recordings if (why := _why_not(one))]
    bases = [_Base(monitoring, one) for one in recordings if not _why_not(one)]
    fates = [_fate_of(mutant, bases) for mutant in mutants_of(monitoring)] if bases else []
    return Examination(
        fates=tuple(fates),
        redundant=tuple(_redundant(monitoring, bases)),
        used=tuple(base.recorded.name for base in bases),
        unused=tuple(unused),
        changed=tuple(
            (base.recorded.name, then.verdict.value, base.replayed.told)
            for base in bases
            if (then := judged_as_recorded(base.recorded)) and then.verdict.value != base.replayed.told
        ),
    )


class _Base:
    """A recording with the configuration as it is."""

    def __init__(self, monitoring: Monitoring, recorded: Recorded) -> None:
        self.recorded = recorded
        self.replayed = replay(monitoring, recorded)
        seen = (*recorded.latest, *recorded.results)
        self.probes = recorded.probes
        self.failed = {one.probe for one in (*seen, *recorded.earlier) if one.outcome is not Outcome.UP}
        self.observations: list[Observation] = [self.replayed.observation] if self.replayed.observation else []
        """What the drill would have seen with the configuration as it is, and with each mutant that it sees."""

    def differs(self, mutant: Mutant) -> str:
        """What it comes to with a mutant, if that is something else."""
        if not self._reaches(mutant):
            return ""
        if mutant.before and not mutant.rejudge:
            said = replay_rules(mutant.monitoring, mutant.after, self.recorded, self.replayed.steps)
            if _heard(said) == _heard(self._said_by(mutant)):
                return ""
        changed = replay(mutant.monitoring, self.recorded, rejudge=mutant.rejudge)
        if changed.observation:
            self.observations.append(changed.observation)
        return changed.told if changed.told != self.replayed.told else ""

    def _reaches(self, mutant: Mutant) -> bool:
        """Whether it can say something else at all, as far as that is known without evaluating."""
        if not mutant.probes & self.probes:
            return False
        if mutant.rejudge:
            seen = (*self.recorded.latest, *self.recorded.results)
            return any(mutant.rejudge(one) is not one for one in seen if one.probe in mutant.probes)
        by_failures = all(isinstance(rule, BurnRate | BudgetLeft | Down) for rule in mutant.before)
        looks_only_at_failures = mutant.operator not in {Operator.SLOWER_THAN, Operator.THRESHOLD}
        slow = any(
            one.slower_than is not None or one.looks_inside
            for one in mutant.monitoring.objectives
            if any(isinstance(rule, BurnRate | BudgetLeft) and rule.objective == one.name for rule in mutant.before)
        )
        if by_failures and looks_only_at_failures and not slow:
            return bool(mutant.probes & self.failed)
        return True

    def _said_by(self, mutant: Mutant) -> list[Transition]:
        keys = {tuple(sorted(labels_of(rule).items())) for rule in mutant.before}
        return [one for one in self.replayed.transitions if one.alert.key in keys]


def _fate_of(mutant: Mutant, bases: Iterable[_Base]) -> Fate:
    if mutant.equivalent:
        return Fate(mutant=mutant, state=State.EQUIVALENT)
    reached, fate = False, None
    for base in bases:
        reached |= bool(mutant.probes & base.probes)
        # All of them, although one is enough: what drills see under mutants says which of their expectations are needed.
        told = base.differs(mutant)
        if told and fate is None:
            fate = Fate(
                mutant=mutant,
                state=State.KILLED,
                by=base.recorded.name,
                told=f"{base.replayed.told}, with it {told}",
            )
    return fate or Fate(mutant=mutant, state=State.SURVIVED if reached else State.UNREACHED)


def _why_not(recorded: Recorded) -> str:
    """Why a recording proves nothing; empty when it proves something."""
    if recorded.gap:
        return recorded.gap
    judgement = judged_as_recorded(recorded)
    if recorded.report is None or judgement is None:
        return ""
    if judgement.verdict in {Verdict.INCONCLUSIVE, Verdict.UNSAFE}:
        why = [clause.seen for clause in judgement.clauses if clause.answer.value != "yes"]
        return f"its verdict is {judgement.verdict.value}: {'; '.join(why)}"
    return ""


def _redundant(monitoring: Monitoring, bases: Iterable[_Base]) -> Iterable[Redundant]:
    numbers = {name: number for number, name in enumerate(monitoring.drills)}
    for base in bases:
        drill = monitoring.drill_of(base.recorded)
        if drill is None or monitoring.drills.get(drill.name) is not drill:
            continue
        asked = without_delivery(drill)
        for weak in weakened(asked):
            if all(
                judge(weak.drill, detect(weak.drill, seen)).verdict is judge(asked, detect(asked, seen)).verdict
                for seen in base.observations
            ):
                yield Redundant(
                    drill=drill.name, sentence=weak.sentence, place=("drills", numbers[drill.name], *weak.place)
                )


def _heard(transitions: Iterable[Transition]) -> list[tuple[Any, ...]]:
    """What a verdict is made of: which alert, which state, when, since when."""
    return sorted((one.alert.key, one.after.value, one.at, one.since) for one in transitions)
