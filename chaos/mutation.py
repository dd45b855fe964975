"""Mutation testing of the monitoring: the changes of its configuration that no recorded drill would have noticed.

    each mutant × each recording ──▶ the same verdict as without the change?   all the same: it survives, nobody tests that line

What a change cannot reach is not evaluated: a rule says the same as before to all of a recording ▸ the verdict is the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import Any

from stormwatch.chaos.detection import Observation, detect
from stormwatch.chaos.mutant import Mutant, mutants_of, weakened
from stormwatch.chaos.playback import (
    Monitoring,
    Replayed,
    judged_as_recorded,
    part_of,
    replay,
    replay_rules,
    seen_by,
    together,
    without_delivery,
)
from stormwatch.chaos.recording import Recorded
from stormwatch.chaos.rejudged import Place
from stormwatch.chaos.routing import told_with
from stormwatch.chaos.verdict import Verdict, judge
from stormwatch.probes.result import Outcome, Result
from stormwatch.slo.alert import Transition
from stormwatch.slo.identity import labels_of
from stormwatch.slo.rule import BudgetLeft, BurnRate, Down, Rule


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


@dataclass(frozen=True, slots=True)
class _Part:
    """A recording as far as some probes saw it, with the configuration as it is."""

    probes: frozenset[str]
    recorded: Recorded
    replayed: Replayed


class _Base:
    """A recording with the configuration as it is.

    Of most probes a drill saw nothing but that they were up. They are left out, except where a mutant is about them.
    """

    def __init__(self, monitoring: Monitoring, recorded: Recorded) -> None:
        self.recorded = recorded
        self.probes = recorded.probes
        self._monitoring = monitoring
        self._seen: dict[str, list[Result]] = {}
        for one in (*recorded.latest, *recorded.results):
            self._seen.setdefault(one.probe, []).append(one)
        runs = (*recorded.latest, *recorded.results, *recorded.earlier)
        self._failed = {one.probe for one in runs if one.outcome is not Outcome.UP}
        self._told = _told_of_probes(monitoring, recorded)
        self._eventful = self._failed | _not_only_up(monitoring) | _named_in(monitoring, recorded)
        self._parts: dict[frozenset[str], _Part] = {}
        self.replayed = self._part(frozenset()).replayed
        self.observations: list[Observation] = [self.replayed.observation] if self.replayed.observation else []
        """What the drill would have seen with the configuration as it is, and with each mutant that it sees."""

    def differs(self, mutant: Mutant) -> str:
        """What it comes to with a mutant, and without it, if that is something else."""
        if mutant.routed:
            return self._told_otherwise(mutant)
        if not self._reaches(mutant):
            return ""
        part = self._part(mutant.probes)
        monitoring = part_of(mutant.monitoring, part.probes)
        if mutant.before and not mutant.rejudge:
            said = replay_rules(monitoring, mutant.after, part.recorded, part.replayed.steps)
            if _heard(said) == _heard(_said_by(mutant, part.replayed.transitions)):
                return ""
        changed = replay(monitoring, part.recorded, rejudge=mutant.rejudge)
        if changed.observation:
            self.observations.append(changed.observation)
        return f"{part.replayed.told}, with it {changed.told}" if changed.told != part.replayed.told else ""

    def is_about(self, mutant: Mutant) -> bool:
        """Whether it has anything of what the mutant changes."""
        if mutant.routed:
            return any(map(mutant.routed.wants, self.replayed.transitions))
        return bool(mutant.probes & self.probes)

    def _told_otherwise(self, mutant: Mutant) -> str:
        drill, seen = self._monitoring.drill_of(self.recorded), self.replayed.observation
        if drill is None or seen is None:
            return ""
        known = self._monitoring.routing
        now, changed = (
            told_with(each, drill, self.recorded, seen, known=known) for each in (known, mutant.monitoring.routing)
        )
        return f"{now}, with it {changed}" if changed != now else ""

    def _part(self, probes: frozenset[str]) -> _Part:
        names = together(self._monitoring, self._eventful | probes)
        if names not in self._parts:
            recorded = seen_by(self.recorded, names)
            self._parts[names] = _Part(names, recorded, replay(part_of(self._monitoring, names), recorded))
        return self._parts[names]

    def _reaches(self, mutant: Mutant) -> bool:
        """Whether it can say something else at all, as far as that is known without evaluating."""
        if mutant.rejudge:
            seen = [one for name in mutant.probes for one in self._seen.get(name, ())]
            return any(mutant.rejudge(one) is not one for one in seen)
        of_probes = mutant.before and not any(isinstance(rule, BurnRate | BudgetLeft) for rule in mutant.before)
        if of_probes and not mutant.after and not any(_key(rule) in self._told for rule in mutant.before):
            return False
        of_failures = all(isinstance(rule, BurnRate | BudgetLeft | Down) for rule in mutant.before)
        if of_failures and not mutant.probes & (self._failed | _not_only_up(mutant.monitoring)):
            return False
        return bool(mutant.probes & self.probes)


def _fate_of(mutant: Mutant, bases: Iterable[_Base]) -> Fate:
    if mutant.equivalent:
        return Fate(mutant=mutant, state=State.EQUIVALENT)
    reached, fate = False, None
    for base in bases:
        reached |= base.is_about(mutant)
        # All of them, although one is enough: what drills see under mutants says which of their expectations are needed.
        told = base.differs(mutant)
        if told and fate is None:
            fate = Fate(
                mutant=mutant,
                state=State.KILLED,
                by=base.recorded.name,
                told=told,
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


def _not_only_up(monitoring: Monitoring) -> set[str]:
    """Probes of which a run that is up can be bad."""
    return {
        name for one in monitoring.objectives if one.slower_than is not None or one.looks_inside for name in one.probes
    }


def _named_in(monitoring: Monitoring, recorded: Recorded) -> set[str]:
    """Probes that the drill, or an alert of the recording, is about."""
    promised = {one.name: one.probes for one in monitoring.objectives}
    drill = monitoring.drill_of(recorded)
    labels = [one.alert.labels for one in (*recorded.active, *recorded.transitions)]
    labels += [drill.alert.labels] if drill and drill.alert else []
    names = {one["probe"] for one in labels if "probe" in one}
    names |= {name for one in labels for name in promised.get(one.get("objective", ""), ())}
    return names | ({drill.probe.name} if drill and drill.probe else set())


def _told_of_probes(monitoring: Monitoring, recorded: Recorded) -> set[tuple[tuple[str, str], ...]]:
    """The alerts that are about a probe itself, and not about an objective, and that changed their state."""
    rules = tuple(rule for rule in monitoring.rules if not isinstance(rule, BurnRate | BudgetLeft))
    without = replace(monitoring, rules=rules, objectives=())
    # How each probe stood before is all that such rules know of it, and it may be down already.
    last = {one.probe: one for one in recorded.earlier}
    before = tuple(sorted(last.values(), key=lambda one: one.finished))
    said = replay(without, replace(recorded, earlier=before, active=())).transitions
    return {one.alert.key for one in (*said, *recorded.active)}


def _said_by(mutant: Mutant, transitions: Iterable[Transition]) -> list[Transition]:
    keys = {_key(rule) for rule in mutant.before}
    return [one for one in transitions if one.alert.key in keys]


def _key(rule: Rule) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels_of(rule).items()))


def _heard(transitions: Iterable[Transition]) -> list[tuple[Any, ...]]:
    """What a verdict is made of: which alert, which state, when, since when."""
    return sorted((one.alert.key, one.after.value, one.at, one.since) for one in transitions)
