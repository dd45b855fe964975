"""The pytest plugin: `step`, the mark `journey`, a Chromium that works, and artifacts of what failed.

It loads into every pytest run of everyone who has stormwatch installed. So importing it imports nothing but pytest and
its own small neighbours, it registers hooks that cost something only where they are asked for, and in a run without
journeys it changes nothing.
"""

import os
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stormwatch.journeys import browser
from stormwatch.journeys.masker import Masker
from stormwatch.journeys.secret_values import SecretValues
from stormwatch.journeys.step import StepListener, Steps

if TYPE_CHECKING:
    from stormwatch.journeys.inbox import Inbox
    from stormwatch.journeys.leftovers import Made
    from stormwatch.journeys.recorder import Recorder

STEPS = pytest.StashKey[Steps]()
"""On an item: the steps of its last run, if it uses `step`."""

MASKER = pytest.StashKey[Masker]()
"""On the config: what knows the secrets that were handed out."""

GIVEN_SECRETS = pytest.StashKey[Mapping[str, str]]()
"""On the config: the secrets of the configuration, by name; there in a worker only."""

JOURNAL = pytest.StashKey[Path | None]()
"""On the config: the directory where the journey that runs writes down what it made; there in a worker only."""

ON_LEFTOVER = pytest.StashKey[Callable[[str], None]]()
"""On the config: who hears of what a dead run made and nobody could take away."""

LISTENERS = pytest.StashKey[list[StepListener]]()
"""On the config: who hears of steps while they run."""

TIMEOUT = pytest.StashKey[float | None]()
"""On an item: the seconds that its mark gives it."""

JUNIT_STEP = "stormwatch_step:"
"""What the name of a step stands behind in JUnit's properties."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say where artifacts, metrics and reports go."""
    group = parser.getgroup("stormwatch")
    for name, metavar, what in (
        ("report", "FILE", "Write the journeys that ran as one HTML page, pictures and traces inside it."),
        ("json", "FILE", "Write the same for a machine."),
        ("baseline", "PATH", "Compare the seconds of each step with the last runs in this file, or in this directory."),
    ):
        group.addoption(f"--stormwatch-{name}", metavar=metavar, default=None, help=what)
    for name, what in (
        ("record", "Add this run to the file of --stormwatch-baseline: for the main branch."),
        ("fail-on-slower", "Exit with 1 when a step got slower beyond its noise."),
        ("exit-codes", "Exit with 3 where journeys are broken and none is down."),
    ):
        group.addoption(f"--stormwatch-{name}", action="store_true", default=False, help=what)
    group.addoption(
        "--stormwatch-annotations",
        choices=("auto", "on", "off"),
        default="auto",
        help="Print workflow commands that GitHub Actions shows at the failing lines. auto, the default: on GitHub.",
    )
    group.addoption(
        "--stormwatch-metrics",
        metavar="FILE",
        default=None,
        help="Write what the runner would export of the journeys that ran to FILE, in Prometheus' text format.",
    )
    group.addoption(
        "--stormwatch-artifacts",
        metavar="DIR",
        default=None,
        help="Record every journey, and keep screenshot and Playwright trace in DIR when it fails.",
    )
    group.addoption(
        "--stormwatch-keep",
        metavar="LIST",
        default="page,trace",
        help="What is kept there, with commas between: page, trace, har, steps, video. Default: page,trace.",
    )
    group.addoption(
        "--stormwatch-client",
        metavar="FILE",
        default=None,
        help="Run every journey as the client in FILE: what stands under `journey: client:`, as YAML or JSON.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and what has to come after pytest-playwright."""
    config.addinivalue_line(
        "markers",
        "journey(name, every, timeout): a journey of stormwatch, so that `-m journey` selects journeys; what the configuration "
        "does not say of it.",
    )
    config.stash[LISTENERS] = []
    config.stash[MASKER] = Masker()
    # Entry points load in any order. Registered now, these fixtures come after pytest-playwright's of the same name,
    # which they complete, and before those of a conftest.py, which go on winning.
    config.pluginmanager.register(browser, "stormwatch-browser")
    if client := config.getoption("--stormwatch-client"):
        from stormwatch.journeys.client_browser import ClientBrowser

        config.stash[browser.CLIENT] = visitor = ClientBrowser.of_file(Path(client).absolute())
        config.stash[MASKER].add(visitor.client.secrets)
        # Before the recorder, whose faults are put on top of what the client has.
        config.pluginmanager.register(visitor, "stormwatch-client")
    folder, metrics = config.getoption("--stormwatch-artifacts"), config.getoption("--stormwatch-metrics")
    keep = _kept(config.getoption("--stormwatch-keep") or "")
    publishes = _publishes(config)
    if folder or metrics or publishes:
        from stormwatch.journeys.recorder import Recorder

        recorder = Recorder(config)
        recorder.keep = keep
        page = config.getoption("--stormwatch-report")
        if kept_in := folder or (page and f"{page.removesuffix('.html')}-artifacts"):
            recorder.keep_in = Path(kept_in).absolute()
        # For annotations and step times alone no script has to be in each page.
        recorder.observes = bool(folder or metrics or page or config.getoption("--stormwatch-json"))
        config.pluginmanager.register(recorder, "stormwatch-recorder")
        if metrics or publishes:
            _gather(config, recorder)


def _publishes(config: pytest.Config) -> bool:
    """Whether anything is to be said of the journeys at the end of the session."""
    asked = ("report", "json", "baseline", "record", "fail-on-slower", "exit-codes")
    return any(config.getoption(f"--stormwatch-{name}") for name in asked) or annotates(config)


def annotates(config: pytest.Config) -> bool:
    """Whether annotations are to be written: `on`, `off`, or `auto`, which is on in GitHub Actions."""
    asked = config.getoption("--stormwatch-annotations")
    return asked == "on" or (asked == "auto" and os.environ.get("GITHUB_ACTIONS") == "true")


def _gather(config: pytest.Config, recorder: "Recorder") -> None:
    from stormwatch.journeys.gathered_runs import GatheredRuns

    gathered = GatheredRuns(config, recorder)
    config.pluginmanager.register(gathered, "stormwatch-gathered")
    if metrics := config.getoption("--stormwatch-metrics"):
        from stormwatch.journeys.metrics_file import MetricsFile

        config.pluginmanager.register(MetricsFile(Path(metrics).absolute(), gathered), "stormwatch-metrics")
    if gathered.writes and _publishes(config):
        from stormwatch.journeys.publishing import Publishing, wishes_of

        config.pluginmanager.register(Publishing(gathered, wishes_of(config)), "stormwatch-publishing")


def _kept(text: str) -> frozenset[str]:
    known = {"page", "trace", "har", "steps", "video"}
    asked = {name.strip() for name in text.split(",")} - {""}
    if unknown := asked - known:
        raise pytest.UsageError(
            f"--stormwatch-keep does not know {', '.join(sorted(unknown))}; it knows {', '.join(sorted(known))}"
        )
    if "video" in asked:
        from stormwatch.journeys.video import NoVideo, find_ffmpeg

        try:
            find_ffmpeg()
        except NoVideo as error:
            raise pytest.UsageError(f"--stormwatch-keep: {error}") from error
    return frozenset(asked)


@pytest.fixture
def step(request: pytest.FixtureRequest) -> Steps:
    """Name and time the stretches of a journey, which may be nested.

    with step("add to cart"):
        page.get_by_role("button", name="Add to cart").click()
    """
    steps = Steps(listeners=request.config.stash[LISTENERS])
    request.node.stash[STEPS] = steps
    return steps


@pytest.fixture
def secrets(pytestconfig: pytest.Config) -> SecretValues:
    """What the journey may know and nobody may read: `secrets["checkout-card"]`."""
    return SecretValues(pytestconfig.stash.get(GIVEN_SECRETS, {}), pytestconfig.stash[MASKER])


@pytest.fixture
def made(pytestconfig: pytest.Config) -> "Generator[Made]":
    """Say what the journey made at the target, and how it is taken away again: `made(delete_customer, customer)`."""
    from secrets import token_hex

    from stormwatch.journeys.leftovers import Made, remove_leftovers

    directory = pytestconfig.stash.get(JOURNAL, None)
    if directory is not None:
        for sentence in remove_leftovers(directory):
            pytestconfig.stash[ON_LEFTOVER](sentence)
    made = Made(directory / f"{token_hex(8)}.json" if directory else None)
    yield made
    made.remove_all()


@pytest.fixture
def inbox() -> "Generator[Callable[[str, str], Inbox]]":
    """Open a mailbox, to wait for what the site sends: `inbox("imaps://user@host/INBOX", secrets["mail-password"])`."""
    from stormwatch.journeys.inbox import Inbox

    opened: list[Inbox] = []

    def inbox(address: str, password: str) -> "Inbox":
        opened.append(Inbox.open(address, password))
        return opened[-1]

    yield inbox
    for each in opened:
        each.close()


@pytest.fixture
def one_time_password() -> Callable[[str], str]:
    """The password that an authenticator app would show now: `one_time_password(secrets["totp-seed"])`."""
    from stormwatch.journeys import one_time_password

    def now(seed: str) -> str:
        try:
            return one_time_password.one_time_password(seed)
        except ValueError as error:
            # Not the fault of what the journey visits.
            raise pytest.UsageError(f"one_time_password: {error}") from None

    return now


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say what is wrong with a journey's mark before anything of it runs."""
    if item.get_closest_marker("journey") is None:
        return
    from stormwatch.journeys.marked_item import mark_of

    try:
        item.stash[TIMEOUT] = mark_of(item).timeout
    except ValueError as error:
        raise pytest.UsageError(f"@pytest.mark.journey of {item.name} {error}") from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a journey that came to its end over soft steps that failed: of the first of them, at its own line.

    And one that took longer than its mark gives it, where nothing else stands over it: in the pool the configuration's limit does.
    """
    began = time.perf_counter()
    result = yield
    steps = item.stash.get(STEPS, None)
    if steps is not None and steps.survived:
        raise steps.survived[0][1]
    limit = None if JOURNAL in item.config.stash else item.stash.get(TIMEOUT, None)
    if limit is not None and (took := time.perf_counter() - began) > limit:
        from stormwatch.journeys.marked_item import Timeout

        raise Timeout(took, limit)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say in the report of a failed journey which step failed, and how long each took."""
    report = yield
    if (report.when == "call" or report.failed) and (steps := item.stash.get(STEPS, None)) is not None:
        _tell_junit(item, steps)
    if report.failed and call.excinfo is not None and (steps := item.stash.get(STEPS, None)) is not None:
        from stormwatch.journeys.failure import explain

        name = steps.failing(call.excinfo.value)
        lines = [f"{step.seconds:9.3f} s  {'FAILED' if step.failed else 'passed'}  {step.name}" for step in steps.done]
        failures = dict(steps.survived) | ({name: call.excinfo.value} if name else {})
        lines += [f'step "{step}" failed: {explain(error)[1]}' for step, error in failures.items()]
        report.sections.append(("journey steps", "\n".join(lines)))
    masker = item.config.stash[MASKER]
    if masker.values:
        _mask(report, masker)
    return report


def _tell_junit(item: pytest.Item, steps: Steps) -> None:
    """A property for each step. On the item: JUnit files have those of the teardown's report, which come from there."""
    masker = item.config.stash[MASKER]
    # A second try, and the next run of a warm worker, have the same item.
    others = [(name, value) for name, value in item.user_properties if not name.startswith(JUNIT_STEP)]
    item.user_properties[:] = others + [
        (JUNIT_STEP + masker.mask(step.name), f"{step.seconds:.3f}") for step in steps.done
    ]


def _mask(report: pytest.TestReport, masker: Masker) -> None:
    """Leave no secret in what the terminal, JUnit files and other plugins tell of a test."""
    report.sections = [(masker.mask(title), masker.mask(text)) for title, text in report.sections]
    report.user_properties = [(name, masker.mask(value)) for name, value in report.user_properties]
    if report.longrepr is not None and masker.finds(said := str(report.longrepr)):
        report.longrepr = masker.mask(said)
