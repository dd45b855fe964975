"""From what pytest says of a test to what a run was: its outcome, its reason, and a sentence. From what was raised, not from text."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from stormwatch.journeys.failure import explain
from stormwatch.journeys.journey_mark import Timeout
from stormwatch.journeys.plugin import STEPS
from stormwatch.journeys.recorder import Recorder
from stormwatch.journeys.report import Report, SoftFailure, StepTimes
from stormwatch.journeys.step import Step
from stormwatch.probes.result import Outcome, Reason

TEXT: Final = 16_000
"""How many characters of what was raised are passed on."""
NO_BROWSER: Final = ("Executable doesn't exist", "executable doesn't exist", "BrowserType.launch")
DEAD_BROWSER: Final = ("Target crashed", "Page crashed", "Connection closed while reading from the driver")


def decide(
    item: pytest.Item,
    call: pytest.CallInfo[None],
    report: pytest.TestReport,
    *,
    run: "Run",
    recorder: Recorder,
    file: Path,
) -> Report:
    """What a run was, from the report of one of its stages. `file` is the journey's own, for naming the line."""
    decided = Report(
        outcome=Outcome.UP,
        seconds=run.seconds,
        steps=run.steps(item),
        url=recorder.url(),
        console_errors=tuple(recorder.console_errors),
        console_error_count=recorder.console_error_count,
        traffic=recorder.traffic.report(),
        pages=recorder.views.views(),
        soft_failures=_soft_failures(item),
    )
    if report.passed:
        return decided
    if report.skipped:
        why = f"the test ended without a verdict: {_skip_reason(report)}"
        return replace(decided, outcome=Outcome.BROKEN, reason=Reason.COLLECTION, sentence=why)
    if call.excinfo is None:
        # A strict xfail that passed: pytest fails it without an exception.
        return replace(
            decided, outcome=Outcome.DOWN, reason=Reason.ASSERTION, sentence=report.longreprtext.strip()[:TEXT]
        )
    error = call.excinfo.value
    steps = item.stash.get(STEPS, None)
    step = (steps.failing(error) if steps else "") or (report.when if report.when != "call" else "")
    outcome, reason, sentence = _judge(error, report.when, recorder)
    others = [each.step for each in decided.soft_failures if each.step != step]
    if others:
        sentence += f" (and soft step{'s' if len(others) > 1 else ''} {', '.join(others)} failed)"
    return replace(
        decided,
        outcome=outcome,
        reason=reason,
        sentence=sentence,
        step=step,
        # Raised by our plugin, when the journey was over.
        where=f"{file}:{(item.location[1] or 0) + 1}" if isinstance(error, Timeout) else _where(call.excinfo, file),
        text=str(error)[:TEXT] or report.longreprtext[-TEXT:],
    )


class Run:
    """What is known of the run that is under way."""

    def __init__(self) -> None:
        self.began: float | None = None
        """When the test's own body began, or its first step if a fixture made one before; on the clock of the steps."""
        self.seconds = 0.0
        self.report: Report | None = None

    def begin(self) -> float:
        """Seconds since the run began, which is now if it has not."""
        now = time.perf_counter()
        self.began = now if self.began is None else self.began
        return now - self.began

    def steps(self, item: pytest.Item) -> tuple[StepTimes, ...]:
        """Every step that is over, in the order in which they began."""
        steps = item.stash.get(STEPS, None)
        return tuple(sorted((self.times(step) for step in steps.done) if steps else (), key=lambda step: step.offset))

    def times(self, step: Step) -> StepTimes:
        """A step with its offset from the beginning of the run."""
        offset = max(0.0, step.began - (step.began if self.began is None else self.began))
        return StepTimes(name=step.name, seconds=step.seconds, offset=offset, failed=step.failed)


def _judge(error: BaseException, when: str, recorder: Recorder) -> tuple[Outcome, Reason, str]:
    said = str(error)
    if isinstance(error, pytest.UsageError):
        return Outcome.BROKEN, Reason.COLLECTION, said.strip().splitlines()[0]
    if when == "setup":
        if isinstance(error, pytest.FixtureLookupError):
            return (
                Outcome.BROKEN,
                Reason.COLLECTION,
                f"the test asks for a fixture that is not there: {error.argname}",
            )
        if any(sign in said for sign in NO_BROWSER):
            from stormwatch.journeys.chromium import REMEDY

            line = next(iter(said.splitlines()), "").removeprefix("BrowserType.launch: ")
            return Outcome.BROKEN, Reason.BROWSER, f"the browser did not start: {line}; {REMEDY}"
    if recorder.browser_is_gone():
        return Outcome.BROKEN, Reason.BROWSER, "the browser died during the run"
    if any(sign in said for sign in DEAD_BROWSER):
        return Outcome.BROKEN, Reason.BROWSER, f"the browser's page process died: {said.splitlines()[0].strip()}"
    reason, sentence = explain(error)
    return Outcome.DOWN, reason, sentence


def _soft_failures(item: pytest.Item) -> tuple[SoftFailure, ...]:
    steps = item.stash.get(STEPS, None)
    return tuple(
        SoftFailure(step=step, sentence=explain(error)[1]) for step, error in (steps.survived if steps else ())
    )


def _skip_reason(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return f"it is expected to fail ({report.wasxfail})"
    said = report.longrepr
    return str(said[2]) if isinstance(said, tuple) else str(said)


def _where(excinfo: pytest.ExceptionInfo[BaseException], file: Path) -> str:
    """The last line of the journey's own file that the exception came through, or else the last line of all."""
    entries = list(excinfo.traceback)
    own = [entry for entry in entries if Path(entry.path) == file] or entries
    return f"{own[-1].path}:{own[-1].lineno + 1}" if own else ""
