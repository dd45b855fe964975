"""One run of an API journey by a user of a load: pytest's own set-up, call and teardown, and what came of it."""

from collections.abc import Generator
from dataclasses import replace
from typing import Final

import pytest

from stormwatch.journeys.failure import explain
from stormwatch.journeys.load_pytest import run_protocol, tear_down_all
from stormwatch.journeys.plugin import MASKER, STEPS
from stormwatch.journeys.report import Report, StepTimes
from stormwatch.journeys.rerun import as_collected
from stormwatch.journeys.step import Steps
from stormwatch.probes.result import Outcome, Reason

_RAISED: Final = pytest.StashKey[BaseException]()
"""On an item: what its last run raised, the first of it."""


class Raised:
    """The pytest plugin that keeps what a run raised: reports have text only."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep the first."""
        if call.excinfo is not None:
            item.stash.setdefault(_RAISED, call.excinfo.value)
        return (yield)


def run_once(item: pytest.Function) -> Report:
    """Run it once. The fixtures of module and session stay, as in a warm worker.

    What ends a greenlet or a process is raised again, after the teardown: pytest takes it for a failure of the test.
    """
    if _RAISED in item.stash:
        del item.stash[_RAISED]
    if STEPS in item.stash:
        del item.stash[STEPS]
    as_collected(item)
    # The next item is the module itself: what is narrower is torn down.
    reports = run_protocol(item, nextitem=item.getparent(pytest.Module))
    raised = item.stash.get(_RAISED, None)
    if raised is not None and not isinstance(raised, (Exception, pytest.fail.Exception, pytest.skip.Exception)):
        raise raised
    steps = item.stash.get(STEPS, None)
    decided, masker = _decided(reports, raised, steps), item.config.stash[MASKER]
    return Report.from_json(masker.mask(decided.as_json())) if masker.values else decided


def tear_down(item: pytest.Function) -> None:
    """Let go of the fixtures of module and session, at the end of a user."""
    tear_down_all(item.session)


def _decided(reports: list[pytest.TestReport], raised: BaseException | None, steps: Steps | None) -> Report:
    body = next((report for report in reports if report.when == "call"), reports[0])
    # Fixtures are not charged to the target, except one that failed.
    passed = Report(
        outcome=Outcome.UP,
        seconds=body.duration,
        steps=tuple(
            StepTimes(name=step.name, seconds=step.seconds, offset=0.0, failed=step.failed)
            for step in (steps.done if steps else ())
        ),
    )
    if all(report.passed for report in reports):
        return passed
    if raised is None or any(report.skipped for report in reports):
        why = f"the test ended without a verdict: {raised or 'it is expected to fail, or to pass'}"
        return Report(outcome=Outcome.BROKEN, reason=Reason.COLLECTION, sentence=why)
    if isinstance(raised, pytest.FixtureLookupError):
        why = f"the test asks for a fixture that is not there: {raised.argname}"
        return Report(outcome=Outcome.BROKEN, reason=Reason.COLLECTION, sentence=why)
    if isinstance(raised, pytest.UsageError):
        return Report(outcome=Outcome.BROKEN, reason=Reason.COLLECTION, sentence=str(raised).strip().splitlines()[0])
    reason, sentence = explain(raised)
    step = steps.failing(raised) if steps else ""
    return replace(passed, outcome=Outcome.DOWN, reason=reason, sentence=sentence, step=step)
