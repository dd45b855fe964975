"""From what pytest says of a test to what a run was: its outcome, its reason, and a sentence. From what was raised, not from text."""

import time
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from stormwatch.journeys.failure import explain
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
    decided = _seen(item, run, recorder)
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
    failed = _failed(item, call.excinfo, report.when, run=run, recorder=recorder, file=file)
    return failed if failed.text else replace(failed, text=report.longreprtext[-TEXT:])


def decide_at_once(
    item: pytest.Item, call: pytest.CallInfo[None], *, run: "Run", recorder: Recorder, file: Path
) -> Report | None:
    """The same from what was raised alone. None where nothing was, and where pytest has the last word (skip, xfail).

    Before pytest makes its text it parses each file that the exception came through, Playwright's of a million characters among
    them: on a busy machine that takes seconds, and the deadline does not wait.
    """
    if call.excinfo is None or item.get_closest_marker("xfail"):
        return None
    error = call.excinfo.value
    if not isinstance(error, (Exception, pytest.fail.Exception)) or isinstance(error, unittest.SkipTest):
        return None
    return _failed(item, call.excinfo, call.when, run=run, recorder=recorder, file=file)


def _seen(item: pytest.Item, run: "Run", recorder: Recorder) -> Report:
    return Report(
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


def _failed(
    item: pytest.Item,
    excinfo: pytest.ExceptionInfo[BaseException],
    when: str,
    *,
    run: "Run",
    recorder: Recorder,
    file: Path,
) -> Report:
    error, decided = excinfo.value, _seen(item, run, recorder)
    steps = item.stash.get(STEPS, None)
    step = (steps.failing(error) if steps else "") or (when if when != "call" else "")
    outcome, reason, sentence = _judge(error, when, recorder)
    others = [each.step for each in decided.soft_failures if each.step != step]
    if others:
        sentence += f" (and soft step{'s' if len(others) > 1 else ''} {', '.join(others)} failed)"
    return replace(
        decided,
        outcome=outcome,
        reason=reason,
        sentence=sentence,
        step=step,
        where=_where(excinfo, file, item),
        text=str(error)[:TEXT],
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
    if any(sign in said for sign in DEAD_BROWSER) and (died := _page_died(error, recorder)):
        return died
    if recorder.crashes.network_died():
        return Outcome.BROKEN, Reason.BROWSER, "the browser's network process died during the run, and requests with it"
    reason, sentence = explain(error)
    return Outcome.DOWN, reason, sentence


def _page_died(error: BaseException, recorder: Recorder) -> tuple[Outcome, Reason, str] | None:
    """What the death of a page's process makes of the run. None where the words that sounded like one are the page's own."""
    first, _, _ = str(error).partition("\n")
    sure = not isinstance(error, AssertionError) and any(sign in first for sign in DEAD_BROWSER)
    try:
        return recorder.crashes.judge() if sure or recorder.crashes.heard() else None
    except Exception:  # noqa: BLE001 - without its driver Playwright raises what it just has
        return Outcome.BROKEN, Reason.BROWSER, "the browser died during the run"


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


def _where(excinfo: pytest.ExceptionInfo[BaseException], file: Path, item: pytest.Item) -> str:
    """The last line of the journey's own file that the exception came through, or else of the user's files.

    What came through none of them (a fixture that is not there, a time-out of the whole) is at the test itself.
    """
    entries = [(Path(entry.path), entry.lineno + 1) for entry in excinfo.traceback]
    own = [entry for entry in entries if entry[0] == file]
    users = own or [entry for entry in entries if _is_users(entry[0])]
    path, line = users[-1] if users else (file, (item.location[1] or 0) + 1)
    return f"{path}:{line}"


def _is_users(path: Path) -> bool:
    return "/lib/python" not in str(path) and (path.parent != Path(__file__).parent or path.name == "conftest.py")
