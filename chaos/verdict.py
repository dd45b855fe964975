"""The judgement of a drill: a pure function from what was asked and what was seen to a verdict, clause by clause."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stormwatch.chaos.detection import Detection, Observation, Sighting, is_of_this
from stormwatch.chaos.drill import Drill
from stormwatch.chaos.evidence import Evidence
from stormwatch.probes.result import Outcome
from stormwatch.probes.units import show_duration
from stormwatch.slo.alert import AlertState, Transition


class Verdict(StrEnum):
    """How a drill ended."""

    PROVED = "proved"
    """Everything that was expected was seen in time, nothing else fired, all is well again."""
    MISSED = "missed"
    """The fault was in place, traffic met it, and nobody would have heard of it."""
    LATE = "late"
    MISATTRIBUTED = "misattributed"
    """Something was noticed, and it was not what was expected: another alert, or another reason."""
    NOISY = "noisy"
    """Detected, and other alerts fired that should have stayed silent."""
    NOT_RESOLVED = "not-resolved"
    """Detected, and probe or alert did not recover in time after the fault was gone."""
    INCONCLUSIVE = "inconclusive"
    """Nothing is proved either way: not well to begin with, no traffic met the fault, or we were blind."""
    UNSAFE = "unsafe"
    """It could not be proved that the fault is gone."""

    @property
    def exit_code(self) -> int:
        """0 proved, 3 no verdict, 4 a fault may still be in place, 1 everything else."""
        return {Verdict.PROVED: 0, Verdict.INCONCLUSIVE: 3, Verdict.UNSAFE: 4}.get(self, 1)


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """The exit code of several drills: the gravest. A known failure weighs more than a missing verdict."""
    return max((verdict.exit_code for verdict in verdicts), key=(0, 3, 1, 4).index, default=0)


class Answer(StrEnum):
    """What is known about one clause."""

    YES = "yes"
    NO = "no"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing that was asked, and what was seen."""

    name: str
    answer: Answer
    asked: str
    seen: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict and each clause that led to it."""

    verdict: Verdict
    clauses: tuple[Clause, ...]

    def as_json(self) -> dict[str, Any]:
        """A JSON object for readers; a Judgement is made again by `judge`, not read back."""
        return {
            "verdict": self.verdict.value,
            "exit_code": self.verdict.exit_code,
            "clauses": [
                {"clause": one.name, "answer": one.answer.value, "asked": one.asked, "seen": one.seen}
                for one in self.clauses
            ],
        }


def judge(drill: Drill, seen: Detection) -> Judgement:
    """Decide. What comes first weighs most: safety, then whether there is any verdict, then what was missed."""
    observed = seen.observed
    baseline = _baseline(drill, seen)
    gone = Clause(
        "undone",
        Answer.YES if observed.gone else Answer.NO,
        "the fault is taken back, and proved to be gone",
        "nothing is left" if observed.gone else f"a fault may still be in place: {observed.trouble}",
    )
    if seen.injected is None:
        clauses = (baseline,) if observed.gone else (baseline, gone)
        return Judgement(Verdict.INCONCLUSIVE if observed.gone else Verdict.UNSAFE, clauses)
    bites = _bites(drill, seen)
    asked = (_red(drill, seen), _reason(drill, seen), _alert(drill, seen), _delivered(drill, seen))
    detected = [clause for clause in asked if clause]
    silence = _silence(drill, seen)
    recovered = [clause for clause in (_green(drill, seen), _resolved(drill, seen)) if clause]
    clauses = (baseline, *bites, *detected, silence, gone, *recovered)
    if observed.clock_step:
        clauses = (*clauses, _one_clock(observed))
        return Judgement(Verdict.INCONCLUSIVE if observed.gone else Verdict.UNSAFE, clauses)
    return Judgement(_weigh(drill, seen, bites=bites, detected=detected, silence=silence, recovered=recovered), clauses)


def unexpected(drill: Drill, seen: Detection) -> list[Transition]:
    """The alerts that fired because of the fault, as far as that can be told, and should have stayed silent."""
    return [one for one in _others(seen, drill) if not drill.tolerates(one.alert.labels)]


def _weigh(
    drill: Drill,
    seen: Detection,
    *,
    bites: list[Clause],
    detected: list[Clause],
    silence: Clause,
    recovered: list[Clause],
) -> Verdict:
    answers = {clause.answer for clause in detected}
    if not seen.observed.gone:
        return Verdict.UNSAFE
    if any(clause.answer is not Answer.YES for clause in bites):
        return Verdict.INCONCLUSIVE
    if Answer.NO in answers:
        if _everything_came(drill, seen):
            return Verdict.LATE
        return Verdict.MISATTRIBUTED if _something_else_told(drill, seen) else Verdict.MISSED
    # What is known to be wrong weighs more than what is not known.
    if any(clause.answer is Answer.NO for clause in recovered):
        return Verdict.NOT_RESOLVED
    if silence.answer is Answer.NO:
        return Verdict.NOISY
    unknown = Answer.INCONCLUSIVE in answers | {clause.answer for clause in (*recovered, silence)}
    return Verdict.INCONCLUSIVE if unknown else Verdict.PROVED


def _baseline(drill: Drill, seen: Detection) -> Clause:
    asked = "all is well before the fault"
    if seen.injected is None:
        why = seen.observed.baseline or seen.observed.trouble or "the fault was never injected"
        return Clause("baseline", Answer.INCONCLUSIVE, asked, f"nothing was injected: {why}")
    state = f"{drill.probe.name} was up" if drill.probe else "the expected alert was silent"
    count = len(seen.observed.fired_before)
    others = f"; {count} other alert{'' if count == 1 else 's'} fired already" if count else ""
    return Clause("baseline", Answer.YES, asked, f"{state}{others}")


def _one_clock(observed: Observation) -> Clause:
    where = "forward" if observed.clock_step > 0 else "back"
    return Clause(
        "clock",
        Answer.INCONCLUSIVE,
        "times are told by one clock",
        f"this machine's clock was set {where} by {show_seconds(abs(observed.clock_step))} meanwhile: "
        "what was seen before and after cannot be compared",
    )


def _bites(drill: Drill, seen: Detection) -> list[Clause]:
    """Whether each of the faults was met."""
    asked = [f"traffic meets {one}" for one in drill.faults] if drill.beside else ["traffic meets the fault"]
    beside = (*seen.observed.beside, *(Evidence() for _ in drill.beside))[: len(drill.beside)]
    found = (seen.observed.evidence, *beside)
    return [_bite(seen, what, evidence) for what, evidence in zip(asked, found, strict=True)]


def _bite(seen: Detection, asked: str, evidence: Evidence) -> Clause:
    if not evidence.touched:
        return Clause("bites", Answer.INCONCLUSIVE, asked, "no traffic met it: it proves nothing about the monitoring")
    counts = [
        f"{count} {noun}{'' if count == 1 else 's'}"
        for count, noun in (
            (evidence.requests, "request"),
            (evidence.connections, "connection"),
            (evidence.bytes, "byte"),
        )
        if count
    ]
    if evidence.what:
        counts.insert(0, evidence.what)
    return Clause("bites", Answer.YES, asked, f"{', '.join(counts)}; first {_after(seen, evidence.first)}")


def _red(drill: Drill, seen: Detection) -> Clause | None:
    if not drill.probe:
        return None
    asked = f"{drill.probe.name} turns red within {show_duration(drill.probe.within)}"
    if seen.first_red is not None:
        return Clause("probe", _in_time(seen, seen.first_red, drill.probe.within), asked, _after(seen, seen.first_red))
    answer, why = _silent(drill, seen, drill.probe.within)
    return Clause("probe", answer, asked, why or f"stayed green{_watched(seen)}")


def _reason(drill: Drill, seen: Detection) -> Clause | None:
    if not drill.probe or drill.probe.reason is None or seen.first_red is None:
        return None
    asked = f"reason {drill.probe.reason.value}"
    red = [one for one in _own(drill, seen) if one.outcome is Outcome.DOWN]
    right = [one for one in red if one.reason is drill.probe.reason]
    if right:
        return Clause("reason", _in_time(seen, right[0].at, drill.probe.within), asked, right[0].message)
    others = ", ".join(dict.fromkeys(f"{one.reason.value}: {one.message}" for one in red))
    # Red is red: the reasons of a drill that was cut short might still have become the right one.
    answer, why = _silent(drill, seen, drill.probe.within)
    return Clause("reason", answer, asked, f"{others}{f' ({why})' if why else ''}")


def _alert(drill: Drill, seen: Detection) -> Clause | None:
    if not drill.alert:
        return None
    asked = f"{show_labels(drill.alert.labels)} fires within {show_duration(drill.alert.within)}"
    if seen.firing is not None:
        return Clause("alert", _in_time(seen, seen.firing, drill.alert.within), asked, _after(seen, seen.firing))
    answer, why = _silent(drill, seen, drill.alert.within)
    state = f"pending {_after(seen, seen.pending)}, never fired" if seen.pending is not None else "did not fire"
    return Clause("alert", answer, asked, why or f"{state}{_watched(seen)}")


def _delivered(drill: Drill, seen: Detection) -> Clause | None:
    if not drill.alert or drill.alert.delivered_within is None:
        return None
    within = drill.alert.delivered_within
    asked = f"the receiver is told of it within {show_duration(within)}"
    if seen.delivered is not None:
        return Clause("delivered", _in_time(seen, seen.delivered, within), asked, _after(seen, seen.delivered))
    answer, why = _silent(drill, seen, within)
    held_back = f"; Alertmanager holds it back: {reason}" if (reason := _held_back(drill, seen)) else ""
    return Clause("delivered", answer, asked, (why or f"nothing came{_watched(seen)}") + held_back)


def _held_back(drill: Drill, seen: Detection) -> str:
    return next(
        (
            one.held_back
            for one in reversed(seen.observed.notifications)
            if drill.expects(one.labels)
            and is_of_this(one, injected=seen.injected or 0.0, firing=seen.firing)
            and one.held_back
        ),
        "",
    )


def _silence(drill: Drill, seen: Detection) -> Clause:
    allowed = f" (allowed: {', '.join(drill.allow)})" if drill.allow else ""
    asked = f"no other alert fires{allowed}"
    if noise := unexpected(drill, seen):
        names = ", ".join(dict.fromkeys(f"{show_labels(one.alert.labels)} {_after(seen, one.at)}" for one in noise))
        return Clause("silence", Answer.NO, asked, names)
    if seen.observed.trouble:
        return Clause("silence", Answer.INCONCLUSIVE, asked, seen.observed.trouble)
    return Clause("silence", Answer.YES, asked, "silent")


def _green(drill: Drill, seen: Detection) -> Clause | None:
    if not drill.probe or seen.first_red is None:
        return None
    asked = f"{drill.probe.name} is green within {show_duration(drill.resolves_within)} after the undo"
    return _recovery("green", asked, drill, seen, at=seen.green, state="still red")


def _resolved(drill: Drill, seen: Detection) -> Clause | None:
    if not drill.alert or seen.firing is None:
        return None
    asked = f"the alert resolves within {show_duration(drill.resolves_within)} after the undo"
    return _recovery("resolved", asked, drill, seen, at=seen.resolved, state="still firing")


def _recovery(name: str, asked: str, drill: Drill, seen: Detection, *, at: float | None, state: str) -> Clause:
    reverted = seen.reverted
    if reverted is None:
        return Clause(name, Answer.INCONCLUSIVE, asked, seen.observed.trouble or "the fault was not taken back")
    if at is not None:
        took = at - reverted
        if took < 0:
            return Clause(name, Answer.YES, asked, "before the fault was taken back")
        return Clause(
            name, Answer.YES if took <= drill.resolves_within else Answer.NO, asked, f"after {show_seconds(took)}"
        )
    watched = seen.observed.ended - reverted
    if watched < drill.resolves_within:
        why = seen.observed.trouble or "the drill ended"
        return Clause(name, Answer.INCONCLUSIVE, asked, f"{state} when the watching ended: {why}")
    return Clause(name, Answer.NO, asked, f"{state} after {show_seconds(watched)}")


def _silent(drill: Drill, seen: Detection, within: float) -> tuple[Answer, str]:
    """What it means that something was not seen: no, or not known because we did not look long or well enough."""
    injected, until = seen.injected, seen.observed.watched_until
    if injected is None or until is None or until - injected < within:
        watched = show_seconds(max(0.0, (until or 0.0) - (injected or 0.0)))
        return Answer.INCONCLUSIVE, f"watched for {watched} only: {seen.observed.trouble or 'the drill ended'}"
    if drill.probe:
        runs = [one for one in _own(drill, seen) if one.at <= until]
        if not runs:
            return Answer.INCONCLUSIVE, f"{drill.probe.name} did not run while the fault was in place"
        if all(one.outcome is Outcome.BROKEN for one in runs):
            return Answer.INCONCLUSIVE, f"{drill.probe.name} was broken, which is no evidence: {runs[-1].message}"
    return Answer.NO, ""


def _everything_came(drill: Drill, seen: Detection) -> bool:
    right = drill.probe is None or any(drill.probe.reason in (None, one.reason) for one in _reds(drill, seen))
    if drill.alert is None:
        return right
    told = drill.alert.delivered_within is None or seen.delivered is not None
    return right and told and seen.firing is not None


def _something_else_told(drill: Drill, seen: Detection) -> bool:
    wrong = drill.probe is not None and any(drill.probe.reason not in (None, one.reason) for one in _reds(drill, seen))
    never_red = drill.probe is not None and seen.first_red is None and seen.firing is not None
    return wrong or never_red or bool(_others(seen, drill))


def _others(seen: Detection, drill: Drill) -> list[Transition]:
    """The alerts whose condition began with the fault, and which are not the expected one."""
    injected = seen.injected or 0.0
    before = {tuple(sorted(labels.items())) for labels in seen.observed.fired_before}
    return [
        one
        for one in seen.observed.transitions
        if one.after is AlertState.FIRING
        and one.at >= injected
        and one.since >= injected
        and one.alert.key not in before
        and not drill.expects(one.alert.labels)
    ]


def _own(drill: Drill, seen: Detection) -> list[Sighting]:
    name = drill.probe.name if drill.probe else ""
    injected = seen.injected or 0.0
    return [one for one in seen.observed.sightings if one.probe == name and one.at >= injected]


def _reds(drill: Drill, seen: Detection) -> list[Sighting]:
    return [one for one in _own(drill, seen) if one.outcome is Outcome.DOWN]


def _in_time(seen: Detection, at: float, within: float) -> Answer:
    return Answer.YES if at - (seen.injected or 0.0) <= within else Answer.NO


def _after(seen: Detection, at: float | None) -> str:
    return f"after {show_seconds((at or 0.0) - (seen.injected or 0.0))}"


def _watched(seen: Detection) -> str:
    return f" in {show_seconds((seen.observed.watched_until or 0.0) - (seen.injected or 0.0))}"


def show_seconds(seconds: float) -> str:
    """A measured stretch of time for people: `0.04 s`, `3.2 s`, `95.1 s`, `125 s`, `12 min 5 s`, `never`."""
    if math.isinf(seconds):
        return "never"
    if seconds < 99.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def show_labels(labels: Mapping[str, str]) -> str:
    """An alert for people: `ErrorBudgetBurn{objective=checkout, severity=page}`."""
    rest = ", ".join(f"{name}={value}" for name, value in labels.items() if name != "alertname")
    return f"{labels.get('alertname', 'alert')}{{{rest}}}" if rest else labels.get("alertname", "any alert")
