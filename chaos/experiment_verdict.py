"""The judgement of an experiment: a pure function from what was asked and what was seen, clause by clause."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stormwatch.chaos.experiment import Activity, Experiment, Kind
from stormwatch.chaos.experiment_provider import Ending
from stormwatch.chaos.verdict import Answer, Clause


class ExperimentVerdict(StrEnum):
    """How an experiment ended."""

    PROVED = "proved"
    """Everything was done, all that was asked for was so, and everything is rolled back."""
    DEVIATED = "deviated"
    """The hypothesis was not met during or after the method, or a probe of the method was out of its tolerance."""
    NOT_RESOLVED = "not-resolved"
    """Everything is rolled back, and the hypothesis is still not met."""
    INCONCLUSIVE = "inconclusive"
    """Nothing is proved: not well to begin with, something was not done, a probe broke, or it was cut short."""
    UNSAFE = "unsafe"
    """A rollback failed: what was done may still be in place."""

    @property
    def exit_code(self) -> int:
        """0 proved, 3 no verdict, 4 something may still be in place, 1 everything else."""
        codes = {ExperimentVerdict.PROVED: 0, ExperimentVerdict.INCONCLUSIVE: 3, ExperimentVerdict.UNSAFE: 4}
        return codes.get(self, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityRun:
    """One activity that was called. Unix times."""

    activity: Activity
    start: float
    end: float
    ending: Ending
    output: Any = None
    why: str = ""
    trace: tuple[str, ...] = ()
    met: bool | None = None
    """Whether what it returned is within its tolerance; None when it has none, or returned nothing."""
    asked: str = ""
    seen: str = ""

    @property
    def answer(self) -> Answer:
        """Whether it is well, for a probe that is judged."""
        if self.ending is Ending.BROKEN:
            return Answer.INCONCLUSIVE
        return Answer.NO if self.ending is Ending.FAILED or self.met is False else Answer.YES

    def sentence(self) -> str:
        """What was seen of it."""
        if self.ending is not Ending.SUCCEEDED:
            return f"{self.activity.name}: {self.why}"
        return (
            f"{self.activity.name}: {self.seen} (asked: {self.asked})" if self.met is not None else self.activity.name
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HypothesisRun:
    """One look at the hypothesis, up to the first probe that is not well."""

    at: float
    probes: tuple[ActivityRun, ...]

    @property
    def answer(self) -> Answer:
        """Whether it is met."""
        return next((one.answer for one in self.probes if one.answer is not Answer.YES), Answer.YES)

    def sentence(self) -> str:
        """Which probe decided."""
        return next((one.sentence() for one in self.probes if one.answer is not Answer.YES), "met")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an experiment came to, as far as it got."""

    started: float
    ended: float
    injected: bool = False
    """Whether the method was begun."""
    before: HypothesisRun | None = None
    during: tuple[HypothesisRun, ...] = ()
    after: HypothesisRun | None = None
    recovered: HypothesisRun | None = None
    """The last look after the rollbacks."""
    method: tuple[ActivityRun, ...] = ()
    rollbacks: tuple[ActivityRun, ...] = ()
    left: tuple[str, ...] = ()
    """Faults of ours that could not be taken back, a sentence each."""
    trouble: str = ""
    """Why it did not run to its end: interrupted, a safeguard, or what it needs is not there."""
    aborted: bool = False
    """Whether a safeguard, a control or fail-fast ended it, and not a signal."""


@dataclass(frozen=True, slots=True)
class ExperimentJudgement:
    """The verdict and each clause that led to it."""

    verdict: ExperimentVerdict
    clauses: tuple[Clause, ...]

    def as_json(self) -> dict[str, Any]:
        """A JSON object for readers."""
        return {
            "verdict": self.verdict.value,
            "exit_code": self.verdict.exit_code,
            "clauses": [
                {"clause": one.name, "answer": one.answer.value, "asked": one.asked, "seen": one.seen}
                for one in self.clauses
            ],
        }


def judge_experiment(experiment: Experiment, seen: Seen) -> ExperimentJudgement:
    """Decide. Safety weighs most, then what is known to be wrong, then what is not known."""
    clauses = tuple(clause for clause in _clauses(experiment, seen) if clause)
    answers = {clause.name: clause.answer for clause in clauses}
    deviated = any(answers.get(name) is Answer.NO for name in ("during", "after", "probes"))
    if answers.get("rollbacks") is Answer.NO:
        verdict = ExperimentVerdict.UNSAFE
    elif deviated:
        verdict = ExperimentVerdict.DEVIATED
    elif answers.get("recovered") is Answer.NO:
        verdict = ExperimentVerdict.NOT_RESOLVED
    elif Answer.INCONCLUSIVE in answers.values():
        verdict = ExperimentVerdict.INCONCLUSIVE
    else:
        verdict = ExperimentVerdict.PROVED
    return ExperimentJudgement(verdict, clauses)


def _clauses(experiment: Experiment, seen: Seen) -> Iterable[Clause | None]:
    yield _baseline(experiment, seen)
    if seen.injected:
        yield _method(experiment, seen)
        yield _probes(seen)
        yield _during(experiment, seen)
        yield _after(experiment, seen)
    yield _whole(seen)
    yield _rollbacks(experiment, seen)
    yield _recovered(seen)
    yield _asked(experiment)


def _baseline(experiment: Experiment, seen: Seen) -> Clause | None:
    hypothesis = experiment.hypothesis
    if hypothesis is None or not experiment.strategy.before:
        return None
    asked = f"all is well before: {hypothesis.title}"
    if seen.before is None:
        return Clause("baseline", Answer.INCONCLUSIVE, asked, "nobody looked")
    if seen.before.answer is Answer.YES:
        return Clause("baseline", Answer.YES, asked, "met")
    return Clause("baseline", Answer.INCONCLUSIVE, asked, f"nothing was done: {seen.before.sentence()}")


def _method(experiment: Experiment, seen: Seen) -> Clause | None:
    if not experiment.method:
        return None
    asked = f"everything of the method is done ({_counted(len(experiment.method), 'activity', 'activities')})"
    undone = [one.sentence() for one in seen.method if one.ending is Ending.BROKEN or _refused(one)]
    dry = [f"{one.name} is not called: dry" for one in experiment.method if one.dry]
    missing = len(experiment.method) - len(seen.method)
    if missing:
        undone.append(f"{_counted(missing, 'activity', 'activities')} did not come to an end")
    if undone or dry:
        return Clause("method", Answer.INCONCLUSIVE, asked, "; ".join((*undone, *dry)))
    return Clause("method", Answer.YES, asked, "done")


def _refused(run: ActivityRun) -> bool:
    return run.ending is Ending.FAILED and (run.activity.kind is Kind.ACTION or run.activity.tolerance is None)


def _probes(seen: Seen) -> Clause | None:
    judged = [one for one in seen.method if one.activity.tolerance and not one.activity.dry]
    if not judged:
        return None
    asked = "what the method looks at is within its tolerance"
    wrong = [one.sentence() for one in judged if one.answer is Answer.NO]
    if wrong:
        return Clause("probes", Answer.NO, asked, "; ".join(wrong))
    unknown = [one.sentence() for one in judged if one.answer is Answer.INCONCLUSIVE]
    return Clause("probes", Answer.INCONCLUSIVE if unknown else Answer.YES, asked, "; ".join(unknown) or "it is")


def _during(experiment: Experiment, seen: Seen) -> Clause | None:
    if experiment.hypothesis is None or not experiment.strategy.during:
        return None
    asked = "the hypothesis is met while the method runs"
    looks = _counted(len(seen.during), "look", "looks")
    wrong = [one for one in seen.during if one.answer is Answer.NO]
    if wrong:
        return Clause("during", Answer.NO, asked, f"{len(wrong)} of {looks}: {wrong[0].sentence()}")
    unknown = [one for one in seen.during if one.answer is Answer.INCONCLUSIVE]
    if unknown or not seen.during:
        seen_ = f"{len(unknown)} of {looks}: {unknown[0].sentence()}" if unknown else "no look came to an end"
        return Clause("during", Answer.INCONCLUSIVE, asked, seen_)
    return Clause("during", Answer.YES, asked, looks)


def _after(experiment: Experiment, seen: Seen) -> Clause | None:
    if experiment.hypothesis is None or not experiment.strategy.after:
        return None
    asked = "the hypothesis is met after the method"
    if seen.after is None:
        return Clause("after", Answer.INCONCLUSIVE, asked, "nobody looked")
    return Clause("after", seen.after.answer, asked, seen.after.sentence())


def _whole(seen: Seen) -> Clause | None:
    return Clause("whole", Answer.INCONCLUSIVE, "it runs to its end", seen.trouble) if seen.trouble else None


def _rollbacks(experiment: Experiment, seen: Seen) -> Clause | None:
    if not seen.injected or not (experiment.rollbacks or seen.left):
        return None
    asked = "everything is rolled back"
    failed = [one.sentence() for one in seen.rollbacks if one.ending is not Ending.SUCCEEDED or one.met is False]
    failed += [f"{one.name} is not called: dry" for one in experiment.rollbacks if one.dry]
    failed += seen.left
    if failed:
        return Clause("rollbacks", Answer.NO, asked, "; ".join(failed))
    if len(seen.rollbacks) < len(experiment.rollbacks):
        return Clause(
            "rollbacks", Answer.NO, asked, f"{len(seen.rollbacks)} of {len(experiment.rollbacks)} were played"
        )
    return Clause("rollbacks", Answer.YES, asked, _counted(len(seen.rollbacks), "rollback", "rollbacks"))


def _recovered(seen: Seen) -> Clause | None:
    if seen.recovered is None:
        return None
    asked = "the hypothesis is met after the rollbacks"
    return Clause("recovered", seen.recovered.answer, asked, seen.recovered.sentence())


def _asked(experiment: Experiment) -> Clause | None:
    judged = experiment.hypothesis and experiment.hypothesis.probes
    if judged or any(one.tolerance for one in experiment.method):
        return None
    seen = "it has no hypothesis, and no probe with a tolerance"
    return Clause("asked", Answer.INCONCLUSIVE, "the experiment asks something", seen)


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
