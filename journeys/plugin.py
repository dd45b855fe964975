"""The pytest plugin: `step`, the mark `journey`, a Chromium that works, and artifacts of what failed.

It loads into every pytest run of everyone who has stormwatch installed. So importing it imports nothing but pytest and
its own small neighbours, it registers hooks that cost something only where they are asked for, and in a run without
journeys it changes nothing.
"""

from collections.abc import Generator
from pathlib import Path

import pytest

from stormwatch.journeys import browser
from stormwatch.journeys.step import StepListener, Steps

STEPS = pytest.StashKey[Steps]()
"""On an item: the steps of its last run, if it uses `step`."""

LISTENERS = pytest.StashKey[list[StepListener]]()
"""On the config: who hears of steps while they run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that says where artifacts go."""
    parser.getgroup("stormwatch").addoption(
        "--stormwatch-artifacts",
        metavar="DIR",
        default=None,
        help="Record every journey, and keep screenshot and Playwright trace in DIR when it fails.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and what has to come after pytest-playwright."""
    config.addinivalue_line("markers", "journey: a journey of stormwatch, so that `-m journey` selects journeys.")
    config.stash[LISTENERS] = []
    # Entry points load in any order. Registered now, these fixtures come after pytest-playwright's of the same name,
    # which they complete, and before those of a conftest.py, which go on winning.
    config.pluginmanager.register(browser, "stormwatch-browser")
    if folder := config.getoption("--stormwatch-artifacts"):
        from stormwatch.journeys.recorder import Recorder

        recorder = Recorder(config)
        recorder.keep_in = Path(folder).absolute()
        config.pluginmanager.register(recorder, "stormwatch-recorder")


@pytest.fixture
def step(request: pytest.FixtureRequest) -> Steps:
    """Name and time the stretches of a journey, which may be nested.

    with step("add to cart"):
        page.get_by_role("button", name="Add to cart").click()
    """
    steps = Steps(listeners=request.config.stash[LISTENERS])
    request.node.stash[STEPS] = steps
    return steps


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say in the report of a failed journey which step failed, and how long each took."""
    report = yield
    if report.failed and call.excinfo is not None and (steps := item.stash.get(STEPS, None)) is not None:
        from stormwatch.journeys.failure import explain

        name = steps.failing(call.excinfo.value)
        lines = [f"{step.seconds:9.3f} s  {'FAILED' if step.failed else 'passed'}  {step.name}" for step in steps.done]
        if name:
            lines.append(f'step "{name}" failed: {explain(call.excinfo.value)[1]}')
        report.sections.append(("journey steps", "\n".join(lines)))
    return report
