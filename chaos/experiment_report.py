"""An experiment's report: one value, shown on the terminal, as JSON, and as a journal in the shape of the Chaos Toolkit's."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from stormwatch.chaos.experiment import Experiment
from stormwatch.chaos.experiment_provider import Ending
from stormwatch.chaos.experiment_verdict import (
    ActivityRun,
    ExperimentJudgement,
    ExperimentVerdict,
    HypothesisRun,
    Seen,
)
from stormwatch.chaos.report import SIGN, STYLE, Progress
from stormwatch.chaos.verdict import Answer

VERSION = 1
"""Of the JSON form."""
DIALECT = "1.44.0"
"""The version of chaoslib whose journal this is the shape of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentReport:
    """What was asked, what was seen, and the judgement."""

    experiment: Experiment
    seen: Seen
    judgement: ExperimentJudgement
    steps: tuple[Progress, ...] = ()
    mask: Callable[[Any], Any]
    """Takes secrets out of a JSON value."""

    @property
    def verdict(self) -> ExperimentVerdict:
        """The verdict."""
        return self.judgement.verdict

    def __rich__(self) -> Text:
        """For the terminal: the verdict and every clause."""
        answer = {0: Answer.YES, 3: Answer.INCONCLUSIVE}.get(self.verdict.exit_code, Answer.NO)
        text = Text()
        text.append(f"{SIGN[answer]} {self.verdict.value}", style=STYLE[answer])
        text.append(f"  {self.mask(self.experiment.title)}\n", style="bold")
        for clause in self.judgement.clauses:
            text.append(f"  {SIGN[clause.answer]} ", style=STYLE[clause.answer])
            text.append(f"{self.mask(clause.asked)}: ")
            text.append(
                f"{self.mask(clause.seen)}\n", style="" if clause.answer is Answer.YES else STYLE[clause.answer]
            )
        for warning in self.experiment.warnings:
            text.append(f"  · {self.mask(warning)}\n", style="dim")
        text.rstrip()
        return text

    def lines(self) -> list[str]:
        """The same without colours."""
        return self.__rich__().plain.splitlines()

    def as_json(self) -> dict[str, Any]:
        """A JSON object for readers."""
        return self.mask(
            {
                "version": VERSION,
                "experiment": self.experiment.title,
                **self.judgement.as_json(),
                "warnings": list(self.experiment.warnings),
                "started": self.seen.started,
                "ended": self.seen.ended,
                "steps": [{"at": step.at, "step": step.step, "text": step.text} for step in self.steps],
                "journal": self._journal(),
            }
        )

    def journal(self) -> dict[str, Any]:
        """In the shape of chaoslib's journal, for what reads those; the verdict is under `stormwatch`."""
        return self.mask(self._journal() | {"stormwatch": self.judgement.as_json()})

    def _journal(self) -> dict[str, Any]:
        seen, experiment = self.seen, self.experiment
        during = [_state(look) for look in seen.during]
        return {
            "chaoslib-version": DIALECT,
            "platform": platform.platform(),
            "node": platform.node(),
            "experiment": {key: value for key, value in experiment.document.items() if key != "secrets"},
            "start": _moment(seen.started),
            "end": _moment(seen.ended),
            "duration": seen.ended - seen.started,
            "status": self._status(),
            "deviated": self.verdict is ExperimentVerdict.DEVIATED,
            "steady_states": {
                "before": seen.before and _state(seen.before),
                "during": during,
                "after": seen.after and _state(seen.after),
                "recovered": seen.recovered and _state(seen.recovered),
            },
            "run": [_run(one) for one in seen.method],
            "rollbacks": [_run(one) for one in seen.rollbacks],
        }

    def _status(self) -> str:
        if self.seen.trouble:
            return "aborted" if self.seen.aborted else "interrupted"
        if self.seen.before and self.seen.before.answer is not Answer.YES:
            return "failed"
        broken = self.seen.after is not None and self.seen.after.answer is Answer.INCONCLUSIVE
        return "failed" if broken else "completed"


def _state(look: HypothesisRun) -> dict[str, Any]:
    met = look.answer is Answer.YES
    probes: list[Mapping[str, Any]] = [_run(one) | {"tolerance_met": one.answer is Answer.YES} for one in look.probes]
    return {"steady_state_met": met, "probes": probes}


def _run(run: ActivityRun) -> dict[str, Any]:
    failed = run.ending is not Ending.SUCCEEDED
    return {
        "activity": dict(run.activity.document),
        "output": run.output,
        "start": _moment(run.start),
        "end": _moment(run.end),
        "duration": run.end - run.start,
        "status": "failed" if failed else "succeeded",
        **({"exception": list(run.trace) or [run.why]} if failed else {}),
        **({"tolerance_met": run.met} if run.met is not None else {}),
    }


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).isoformat()
