"""The warm worker: one process, one pytest session, one browser; one journey again and again, whenever it is asked.

    python -m stormwatch.journeys.worker FILE [--browser NAME] [--base-url URL] [--client FILE] [--directory DIR]

It loads the file once and then reads requests, one JSON object a line, from stdin, and writes events to stdout:

    in    {"run": "test_checkout", "seconds": 44.1, "folder": "…", "always": false, "keep": ["page", "trace"],
           "observe": true, "journal": "…",
           "secrets": {"checkout-card": "…"}}      here, and not in the environment, where every child could read them
    out   {"event": "ready"} | {"event": "not-collected", "where": "file:line", "why": "…"}
    out   {"event": "browser-wanted"} {"event": "browser"} {"event": "opening"} {"event": "opened"} {"event": "body"}
          {"event": "step-began", "name": "…", "offset": 0.2} {"event": "step-ended", "step": {…}}
          {"event": "left-behind", "sentence": "…"}  what a dead run made could not be taken away
          {"event": "body-over", "report": {…}}      the outcome, as soon as it is known
          {"event": "kept", "name": "trace.zip"}     an artifact of it
          {"event": "over", "report": {…}}           the same after the fixtures were torn down and artifacts kept
    out   {"event": "stale", "why": "…"}             a file changed: nothing was run, start another worker

Each run goes through pytest's own `pytest_runtest_protocol`, so that every plugin of the user does what it does in CI;
the function's fixtures are torn down after it, those of module and session stay. What the user's test prints cannot
garble the protocol: stdin and stdout are moved to descriptors that no child inherits before pytest starts. End of
stdin means that the owner is gone: the worker ends, and takes everything with it that it started.
"""

import argparse
import contextlib
import gc
import io
import json
import os
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import pytest

from stormwatch.journeys import browser_fault
from stormwatch.journeys.browser_fault import BrowserFault, fault_directory
from stormwatch.journeys.collection import place_and_cause
from stormwatch.journeys.decision import TEXT, Run, decide, decide_at_once
from stormwatch.journeys.patience import Patience, reserve
from stormwatch.journeys.plugin import GIVEN_SECRETS, JOURNAL, LISTENERS, ON_LEFTOVER, STEPS
from stormwatch.journeys.recorder import PICTURE_MS, Recorder
from stormwatch.journeys.report import Report
from stormwatch.journeys.rerun import as_collected
from stormwatch.journeys.step import Step
from stormwatch.journeys.tree import MARK, kill_tree
from stormwatch.probes.result import Outcome, Reason

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

_OPENING = frozenset({"context", "page"})
"""Fixtures of pytest-playwright that wait for the browser, and for nobody else."""
GOODBYE = 3.0
"""Seconds that a worker whose owner is gone has for closing its browser, before everything is killed."""


class Owner:
    """The other end: requests come in order, events go out a line each."""

    def __init__(self, requests: TextIO, events: TextIO) -> None:
        self._requests = requests
        self._events = events
        self.mask: Callable[[Any], Any] = lambda value: value
        """Takes secrets out of all that is sent."""
        self._waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.busy = False
        """Whether a run is under way."""

    def tell(self, event: str, **values: Any) -> None:
        """Send an event. An owner that is gone is noticed by the reading side."""
        with contextlib.suppress(BrokenPipeError):
            self._events.write(json.dumps({"event": event, **self.mask(values)}) + "\n")
            self._events.flush()

    def requests(self) -> Generator[dict[str, Any]]:
        """Each request, until there will be none."""
        while (request := self._waiting.get()) is not None:
            yield request

    def watch(self, last_wish: threading.Event, directory: str) -> None:
        """Read requests until the owner is gone; then let an idle session end, and end everything if it does not."""
        for line in self._requests:
            self._waiting.put(json.loads(line))
        self._waiting.put(None)
        if self.busy or not last_wish.wait(GOODBYE):
            kill_tree(os.getpid(), os.environ.get(MARK, "-"), spare=os.getpid())
            _remove(directory)
            os._exit(1)


class WarmSession:
    """The pytest plugin that runs items on demand instead of one after the other."""

    def __init__(self, owner: Owner, file: Path, scratch: Path) -> None:
        self._owner = owner
        self._file = file
        self._scratch = scratch
        self._recorder: Recorder
        self._patience = Patience()
        self._collection_errors: list[str] = []
        self._watched: dict[Path, int] = {}
        self._modules = 0
        self._run: Run | None = None
        self._faults: Sequence[BrowserFault] = ()
        """What drills have put on the browser of the run that is under way."""
        self.told = False
        """Whether the owner knows what came of loading the file."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Take back options of the user's configuration that make sense for a whole test run only."""
        config.option.maxfail = 0
        for option, off in (
            *(("dist", "no"), ("tx", []), ("numprocesses", None), ("xmlpath", None)),
            *(("stormwatch_artifacts", None), ("stormwatch_metrics", None), ("stormwatch_report", None)),
            *(("stormwatch_json", None), ("stormwatch_baseline", None), ("stormwatch_annotations", "off")),
            *(("stormwatch_record", False), ("stormwatch_fail_on_slower", False), ("stormwatch_exit_codes", False)),
        ):
            if hasattr(config.option, option):
                setattr(config.option, option, off)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Hear of steps, browsers and contexts."""
        recorder = self._recorder = Recorder(session.config)
        recorder.on_browser = self._browser_started
        recorder.on_context = self._context_made
        recorder.on_artifact = self._kept
        self._owner.mask = recorder.masker.mask
        session.config.pluginmanager.register(recorder, "stormwatch-recorder")
        session.config.stash[LISTENERS] += [self._patience, self]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what could not be loaded."""
        if report.failed:
            self._collection_errors.append(report.longreprtext)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Serve requests until the owner is gone."""
        if self._collection_errors:
            where, why = place_and_cause(self._collection_errors[0])
            self.told = True
            self._owner.tell("not-collected", where=where, why=why or self._collection_errors[0][-TEXT:])
            return True
        self._watch_files(session.config)
        # What is loaded by now stays: no garbage collection, in a run or at pytest's end, needs to look at it again.
        gc.freeze()
        self.told = True
        self._owner.tell("ready")
        terminal = session.config.pluginmanager.get_plugin("terminalreporter")
        for request in self._owner.requests():
            if changed := self._changed():
                self._owner.tell("stale", why=f"{changed} has changed")
                return True
            self._owner.busy = True
            self._serve(session, request)
            self._owner.busy = False
            if terminal is not None:
                # It keeps every report for its summary: a worker would grow by each run.
                terminal.stats.clear()
            self._watch_files(session.config)
            self._sweep()
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Tell while a page is made: no target has part in that, unless the user's own fixture of this name asks one."""
        if fixturedef.argname not in _OPENING or not fixturedef.func.__module__.startswith("pytest_playwright"):
            return (yield)
        self._owner.tell("opening")
        try:
            return (yield)
        finally:
            self._owner.tell("opened")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Time the body alone."""
        run = self._running
        run.begin()
        self._owner.tell("body")
        try:
            return (yield)
        finally:
            run.seconds = run.begin()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Decide what the run was from what was raised, not from pytest's text."""
        run = self._running
        if call.when == "setup" and call.excinfo is not None:
            run.seconds = call.duration
        if (run.report is None or run.report.outcome is Outcome.UP) and (
            early := decide_at_once(item, call, run=run, recorder=self._recorder, file=self._file)
        ):
            self._owner.tell("body-over", report=early.as_json())
        report = yield
        if report.when == "call" or not report.passed:
            decided = decide(item, call, report, run=run, recorder=self._recorder, file=self._file)
            if run.report is None or run.report.outcome is Outcome.UP:
                run.report = decided
                self._owner.tell("body-over", report=decided.as_json())
        return report

    def step_began(self, name: str) -> None:
        """Pass on, so that a step that never ends is known by name."""
        if self._run is not None:
            self._owner.tell("step-began", name=name, offset=self._run.begin())

    def step_ended(self, step: Step) -> None:
        """Pass on."""
        if self._run is not None:
            self._owner.tell("step-ended", step=asdict(self._run.times(step)))

    @property
    def _running(self) -> Run:
        assert self._run is not None, "a hook of a run was called without a run"
        return self._run

    def _browser_started(self, browser: "Browser") -> None:
        self._owner.tell("browser")

    def _context_made(self, context: "BrowserContext") -> None:
        self._patience.bound(context)
        for fault in self._faults:
            browser_fault.bend(context, fault, partial(browser_fault.note, fault, fault_directory()))

    def _kept(self, path: Path) -> None:
        self._owner.tell("kept", name=path.name)

    def _left_behind(self, sentence: str) -> None:
        self._owner.tell("left-behind", sentence=sentence)

    def _serve(self, session: pytest.Session, request: Mapping[str, Any]) -> None:
        found = _named(session.items, request["run"])
        if isinstance(found, str):
            report = Report(outcome=Outcome.BROKEN, reason=Reason.COLLECTION, sentence=found)
            self._owner.tell("over", report=report.as_json())
            return
        recorder, run = self._recorder, Run()
        self._run = run
        recorder.folder = Path(request["folder"]) if request["folder"] else None
        recorder.always = request["always"]
        recorder.keep = frozenset(request["keep"])
        session.config.stash[GIVEN_SECRETS] = request["secrets"]
        session.config.stash[JOURNAL] = Path(request["journal"])
        session.config.stash[ON_LEFTOVER] = self._left_behind
        recorder.masker.add(request["secrets"].values())
        recorder.observes = request["observe"]
        until = recorder.until = time.monotonic() + request["seconds"]
        # The other half is for the trace.
        recorder.picture_ms = min(PICTURE_MS, reserve(request["seconds"]) * 500)
        if "browser" in getattr(found, "fixturenames", ()) and recorder.browser is None:
            self._owner.tell("browser-wanted")
        self._faults = browser_fault.in_force(self._file, request["run"], directory=fault_directory(), now=time.time())
        module = found.getparent(pytest.Module)
        as_collected(found)
        if STEPS in found.stash:
            del found.stash[STEPS]
        try:
            with self._patience.until(until):
                # The next item is the module itself: the function's (and its class's) fixtures go, those of the module
                # and of the session stay.
                session.config.hook.pytest_runtest_protocol(item=found, nextitem=cast("Any", module))
                recorder.close_leftovers()
        finally:
            self._run = None
        report = run.report or Report(
            outcome=Outcome.BROKEN, reason=Reason.INTERNAL, sentence="pytest ran the test and gave no report of it"
        )
        self._owner.tell(
            "over",
            report=replace(
                report,
                steps=run.steps(found),
                artifacts=tuple(sorted(path.name for path in recorder.artifacts)),
                no_video=recorder.no_video,
                retire=self._why_retire(),
            ).as_json(),
        )

    def _why_retire(self) -> str:
        if self._recorder.browser_is_gone():
            return "its browser is gone"
        # A context that a fixture of a wider scope made would keep the fault.
        return "a drill had bent its browser" if self._faults else ""

    def _watch_files(self, config: pytest.Config) -> None:
        if len(sys.modules) == self._modules:
            return
        self._modules = len(sys.modules)
        root = config.rootpath
        own = Path(__file__).parent
        files = {self._file, *([config.inipath] if config.inipath else [])}
        files.update(folder / "conftest.py" for folder in self._file.parents if folder.is_relative_to(root))
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if file and (path := Path(file)).is_relative_to(root) and not _is_installed(path) and path.parent != own:
                files.add(path)
        for file in files:
            self._watched.setdefault(file, _changed_at(file))

    def _sweep(self) -> None:
        """Remove the recordings of runs that passed: Playwright keeps what it discards until its browser is closed."""
        if not self._recorder.contexts:
            for path in self._scratch.glob("playwright-artifacts-*/**/*"):
                if path.is_file():
                    path.unlink(missing_ok=True)

    def _changed(self) -> str:
        return next((str(file) for file, at in self._watched.items() if _changed_at(file) != at), "")


def _named(items: Sequence[pytest.Item], name: str) -> pytest.Item | str:
    """The one item that `file::name` means, also without the parameter that pytest-playwright adds; or what is wrong."""
    names = {item.nodeid.partition("::")[2]: item for item in items}
    if name in names:
        return names[name]
    fitting = [known for known, item in names.items() if name in _short_names(known, item)]
    if len(fitting) == 1:
        return names[fitting[0]]
    if fitting:
        return f"{name} stands for {len(fitting)} tests: name one of {', '.join(fitting[:5])}"
    import difflib

    known = sorted({each.partition("[")[0] for each in names})
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(known[:10]) or 'no test at all'}"
    return f"the file has no test {name}{hint}"


def _short_names(name: str, item: pytest.Item) -> set[str]:
    """A test without all its parameters, and without the one that pytest-playwright adds: its browser."""
    test, bracket, parameters = name.partition("[")
    browser = getattr(getattr(item, "callspec", None), "params", {}).get("browser_name", "")
    parts = parameters.removesuffix("]")
    own = {parts.removeprefix(f"{browser}-"), parts.removesuffix(f"-{browser}")} - {parts} if browser else set[str]()
    return {test, *(f"{test}[{each}]" for each in own if bracket)}


def _is_installed(path: Path) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def _remove(directory: str) -> None:
    if directory:
        shutil.rmtree(directory, ignore_errors=True)


class _Tee(io.TextIOBase):
    """stderr, and a copy of its last part: pytest says there what it could not even begin with."""

    def __init__(self, to: TextIO) -> None:
        self._to = to
        self.tail = ""

    def write(self, text: str, /) -> int:
        self.tail = (self.tail + text)[-TEXT:]
        return self._to.write(text)

    def flush(self) -> None:
        self._to.flush()

    def fileno(self) -> int:
        return self._to.fileno()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one file until stdin ends. Returns pytest's exit code."""
    parser = argparse.ArgumentParser(prog="python -m stormwatch.journeys.worker", description="A warm worker.")
    parser.add_argument("file", type=Path, help="the file of journeys")
    parser.add_argument("--browser", default="chromium", choices=["chromium", "firefox", "webkit"])
    parser.add_argument("--base-url", default="", help="what relative addresses of the journey are relative to")
    parser.add_argument("--client", default="", help="a file that says who visits")
    parser.add_argument("--directory", default="", help="a directory of the worker's own, removed at its end")
    asked = parser.parse_args(arguments)
    owner = _take_descriptors()
    last_wish = threading.Event()
    threading.Thread(target=owner.watch, args=(last_wish, asked.directory), daemon=True, name="owner").start()
    file = asked.file.absolute()
    scratch = Path(asked.directory or ".stormwatch").absolute()
    session = WarmSession(owner, file, scratch)
    tee = sys.stderr = cast("TextIO", _Tee(sys.stderr))
    try:
        code = pytest.main(_pytest_arguments(file, asked, scratch), plugins=[session])
        if not session.told:
            where, why = place_and_cause(cast("_Tee", tee).tail)
            owner.tell("not-collected", where=where, why=why or f"pytest ended with exit code {int(code)}")
    finally:
        last_wish.set()
        _remove(asked.directory)
    return int(code)


def _pytest_arguments(file: Path, asked: argparse.Namespace, scratch: Path) -> list[str]:
    return [
        str(file),
        # By the names of their entry points, so that they are there where autoloading is off, and not twice where not.
        *("-p", "stormwatch", "-p", "playwright"),
        # We are imported already, of course. A project whose warnings are errors would not begin.
        *("-W", "ignore:Module already imported so cannot be rewritten; stormwatch:pytest.PytestAssertRewriteWarning"),
        *("--browser", asked.browser),
        *(("--base-url", asked.base_url) if asked.base_url else ()),
        *(("--stormwatch-client", asked.client) if asked.client else ()),
        # pytest-playwright empties its output directory at the start: that may not be the user's.
        *("--output", str(scratch / "output")),
        *("-o", f"cache_dir={scratch / 'cache'}"),
        # A run's tmp_path goes with it, and not with the worker, many runs later.
        *("-o", "tmp_path_retention_policy=failed"),
        # Selections are for whole test runs; this file was asked for by name.
        *("-m", "", "-k", ""),
        *("--collect-in-virtualenv", "--color=no", "--no-header", "-q"),
    ]


def _take_descriptors() -> Owner:
    """Move the protocol out of reach: what prints to 1 goes to 2 from now on, and what reads 0 finds nothing."""
    requests, events = os.dup(0), os.dup(1)
    nothing: Final = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return Owner(os.fdopen(requests, encoding="utf-8"), os.fdopen(events, "w", encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
