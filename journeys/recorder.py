"""Record always, keep on failure: trace, screenshot and video of a journey, its page's address, its console errors.

A pytest plugin, registered only where artifacts are asked for (by the worker, or by `--stormwatch-artifacts`). What is
kept is taken at the moment of the failure, before any fixture is torn down, so that the picture shows what went wrong.
"""

import contextlib
import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from stormwatch.journeys.crashes import Crashes
from stormwatch.journeys.failure import shortened
from stormwatch.journeys.http_archive import har_of
from stormwatch.journeys.page_view import BINDING, SCRIPT, PageViews
from stormwatch.journeys.picture import photograph
from stormwatch.journeys.plugin import LISTENERS, MASKER
from stormwatch.journeys.step import Step
from stormwatch.journeys.traffic import Exchange, Traffic, shown
from stormwatch.journeys.video import SECONDS, Camera

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, WebError

CONSOLE_ERRORS = 20
"""How many console errors of one run are kept as evidence; all are counted."""
CONSOLE_LENGTH = 300
"""How many characters of each."""
_CANCELLED = frozenset({"net::ERR_ABORTED", "NS_BINDING_ABORTED", "Load request cancelled", "cancelled"})
"""What Chromium, Firefox and WebKit call a request that the page itself gave up."""
KEPT = frozenset({"page", "trace"})
"""What is kept where nobody said more."""
_OF_THE_TRACE = frozenset({"trace", "har"})
"""What is made of Playwright's recording: without them there is none."""
PAGES = 10
"""How many pages of one run are photographed: the first ones. A page may open windows without end."""
ADDRESS = 2000
"""Characters of the address of the page in front: a browser allows two million."""
STEP_PICTURES = 30
"""How many pictures of steps one run may have: they wait in memory for its outcome."""
PICTURE_MS = 3000.0
"""How long a picture may take, in milliseconds: a page that hangs in a script gives none."""
CLOSING = 0.5
"""Seconds of a run that are left for what its fixtures do after it."""


class Recorder:
    """Watches every browser context that a test opens."""

    def __init__(self, config: pytest.Config) -> None:
        self.keep_in: Path | None = None
        """Where artifacts go: a folder per test under it, or, when `folder` is set, that folder."""
        self.folder: Path | None = None
        self.always = False
        """Keep artifacts of a run that passed, too."""
        self.picture_ms = PICTURE_MS
        self.until: float | None = None
        """When the run has to be over, in seconds of `time.monotonic`."""
        self.on_browser: Callable[[Browser], None] = lambda _browser: None
        self.on_context: Callable[[BrowserContext], None] = lambda _context: None
        self.on_artifact: Callable[[Path], None] = lambda _path: None
        self.browser: Browser | None = None
        """The browser that was started last."""
        self.contexts: list[BrowserContext] = []
        """The contexts that are open."""
        self.console_errors: list[str] = []
        self.console_error_count = 0
        self.observes = True
        """Whether contexts that are made from now on are listened to: requests, and what pages say of themselves."""
        self.traffic = Traffic()
        self.views = PageViews()
        self.crashes = Crashes()
        self.artifacts: list[Path] = []
        """What was kept of this run."""
        self.keep: frozenset[str] = KEPT
        """Which of `page`, `trace`, `har`, `steps` and `video` are kept."""
        self.no_video = ""
        """Why this run has no video, though it was to be kept."""
        self.masker = config.stash[MASKER]
        self._camera = Camera(self.masker)
        self._step_pictures: list[tuple[str, bytes]] = []
        self._answers: dict[Request, Response] = {}
        # Two recordings of one context are an error: the official option, where it is used, goes first.
        self._traces = config.getoption("--tracing", default="off") == "off"
        self._recording: list[BrowserContext] = []
        self._lasting: list[BrowserContext] = []
        """Contexts that a fixture of a wider scope than the test made: they are there in the next run, too."""
        self._scopes: list[str] = []
        config.stash[LISTENERS].append(self)

    def forget(self) -> None:
        """Begin a new run."""
        self.console_errors.clear()
        self.console_error_count = 0
        self.traffic, self.views = Traffic(), PageViews()
        self.crashes.forget()
        self._answers.clear()
        self.artifacts.clear()
        self._step_pictures.clear()
        self._recording.clear()
        self._camera.discard()
        self.no_video = ""
        for context in self.contexts:
            self._record(context)

    def url(self) -> str:
        """Address of the page that was opened last; empty without a page."""
        pages = self._pages()
        return shortened(pages[-1].url, ADDRESS) if pages else ""

    def browser_is_gone(self) -> bool:
        """Whether there was a browser, and it is dead."""
        return self.browser is not None and not self.browser.is_connected()

    def close_leftovers(self) -> None:
        """Close the contexts that a test opened and did not close, so that nothing piles up in a warm browser."""
        for context in [context for context in self.contexts if context not in self._lasting]:
            with _whatever_the_browser_says():
                context.close()

    def step_began(self, name: str) -> None:
        """Group the actions of a step in the trace."""
        for context in self._recording:
            with _whatever_the_browser_says():
                context.tracing.group(name)

    def step_ended(self, step: Step) -> None:
        """Close the group, and take the picture that was asked for."""
        if (step.picture or "steps" in self.keep) and (self.keep_in or self.folder):
            self._take_step_picture(step.name)
        for context in self._recording:
            with _whatever_the_browser_says():
                context.tracing.group_end()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Watch the browser when the fixture `browser` makes one, whoever wrote that fixture."""
        self._scopes.append(fixturedef.scope)
        try:
            made = yield
        finally:
            self._scopes.pop()
        if fixturedef.argname == "browser":
            from playwright.sync_api import Browser

            if isinstance(made, Browser):
                self._watch(made)
        return made

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Begin each test with nothing remembered of the one before."""
        self.forget()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep or discard as soon as the outcome is known."""
        report = yield
        if report.when == "call" or (report.when == "setup" and report.failed):
            self._end(item, keep=report.failed or self.always)
            report.user_properties += [("stormwatch_artifact", str(path)) for path in self.artifacts]
        return report

    def _pages(self) -> list["Page"]:
        return [page for context in self.contexts for page in context.pages]

    def _watch(self, browser: "Browser") -> None:
        self.browser = browser
        new_context, new_page = browser.new_context, browser.new_page

        def watched_context(*args: Any, **kwargs: Any) -> "BrowserContext":
            context = new_context(*args, **kwargs)
            self._watch_context(context)
            return context

        def watched_page(*args: Any, **kwargs: Any) -> "Page":
            page = new_page(*args, **kwargs)
            self._watch_context(page.context)
            return page

        # On the instance: Playwright's class stays as it is for everybody else.
        browser.new_context = watched_context
        browser.new_page = watched_page
        with _whatever_the_browser_says():
            self.crashes.watch(browser)
        self.on_browser(browser)

    def _watch_context(self, context: "BrowserContext") -> None:
        self.contexts.append(context)
        if self._scopes and self._scopes[-1] != "function":
            self._lasting.append(context)
        context.on("close", self._closed)
        context.on("page", self._opened)
        context.on("console", self._console)
        context.on("weberror", self._web_error)
        if self.observes:
            context.on("response", self._answered)
            context.on("requestfinished", self._finished)
            context.on("requestfailed", self._failed)
            with _whatever_the_browser_says():
                context.expose_binding(BINDING, self._told)
                context.add_init_script(SCRIPT)
        self.on_context(context)
        self._record(context)

    def _record(self, context: "BrowserContext") -> None:
        if self._traces and not _OF_THE_TRACE.isdisjoint(self.keep) and (self.keep_in or self.folder):
            # No film strip: it costs a tenth of the run, and the snapshots of the page show more. They cost as much.
            context.tracing.start(screenshots=False, snapshots=True, sources=True)
            self._recording.append(context)
        for page in context.pages:
            self._film(page)

    def _opened(self, page: "Page") -> None:
        self._film(page)
        with _whatever_the_browser_says():
            self.crashes.look()

    def _film(self, page: "Page") -> None:
        if "video" in self.keep and (self.keep_in or self.folder):
            with _whatever_the_browser_says():
                self._camera.film(page)

    def _take_step_picture(self, name: str) -> None:
        pages = self._pages()
        if pages and len(self._step_pictures) < STEP_PICTURES:
            with _whatever_the_browser_says():
                if picture := photograph(pages[-1], self.masker, timeout=self.picture_ms):
                    self._step_pictures.append((name, picture))

    def _closed(self, context: "BrowserContext") -> None:
        for known in (self.contexts, self._recording, self._lasting):
            if context in known:
                known.remove(context)

    def _console(self, message: "ConsoleMessage") -> None:
        if message.type == "error":
            self._note_console(message.text)

    def _web_error(self, error: "WebError") -> None:
        self._note_console(str(error.error))

    def _told(self, _source: object, said: object) -> None:
        self.views.take(said)

    def _answered(self, response: "Response") -> None:
        self._answers[response.request] = response

    def _finished(self, request: "Request") -> None:
        self._take(request)

    def _failed(self, request: "Request") -> None:
        failure = request.failure or "no answer"
        if failure not in _CANCELLED:
            self._take(request, failure)
            return
        # A page that is left cancels what it was loading: nobody failed. But a script that is a page of error 404 is
        # given up, too, and had its answer.
        answer = self._answers.get(request)
        if answer and answer.status >= 400:
            self._take(request)
        self._answers.pop(request, None)

    def _take(self, request: "Request", failure: str = "") -> None:
        # Only what the events brought along: asking the browser for more would hold up the journey.
        answer = self._answers.pop(request, None)
        length = answer.headers.get("content-length", "") if answer else ""
        took = request.timing["responseEnd"]
        self.traffic.take(
            Exchange(
                url=shown(request.url),
                method=request.method,
                type=request.resource_type,
                seconds=took / 1000 if took >= 0 else None,
                size=int(length) if length.isdecimal() else None,
                status=answer.status if answer else 0,
                failure=failure,
            )
        )

    def _note_console(self, text: str) -> None:
        self.console_error_count += 1
        if len(self.console_errors) < CONSOLE_ERRORS:
            self.console_errors.append(text[:CONSOLE_LENGTH])

    def _end(self, item: pytest.Item, *, keep: bool) -> None:
        folder = self.folder or (
            self.keep_in / _file_name(self.masker.mask(item.nodeid), 150) if self.keep_in else None
        )
        if not keep or folder is None:
            for context in self._recording:
                with _whatever_the_browser_says():
                    context.tracing.stop()
            self._recording.clear()
            self._camera.discard()
            return
        self._camera.cut(time.time())
        folder.mkdir(parents=True, exist_ok=True)
        for number, context in enumerate(self._recording, start=1):
            with _whatever_the_browser_says():
                self._keep_recording(context, folder, f"-{number}" if len(self._recording) > 1 else "")
        self._recording.clear()
        for number, (name, picture) in enumerate(self._step_pictures, start=1):
            self._write(folder / f"step-{number}-{_file_name(self.masker.mask(name), 60)}.png", picture)
        pages = self._pages()[:PAGES] if "page" in self.keep else []
        for number, page in enumerate(pages, start=1):
            with _whatever_the_browser_says():
                if picture := photograph(page, self.masker, timeout=self.picture_ms):
                    self._write(folder / (f"page-{number}.png" if len(pages) > 1 else "page.png"), picture)
        if "video" in self.keep:
            left = self.until - time.monotonic() - CLOSING if self.until is not None else SECONDS
            # Last, because it takes longest.
            for path in self._camera.develop(folder, seconds=left):
                self._kept(path)
            self.no_video = self._camera.complaint

    def _keep_recording(self, context: "BrowserContext", folder: Path, number: str) -> None:
        # As it was recorded it holds what was typed. That is for the worker's own directory, and for no other.
        with tempfile.TemporaryDirectory(prefix="stormwatch-trace-") as directory:
            raw = Path(directory, "trace.zip")
            context.tracing.stop(path=raw)
            if "har" in self.keep:
                with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile):
                    path = folder / f"requests{number}.har"
                    path.write_bytes(self.masker.mask_document(path.name, har_of(raw)))
                    self._kept(path)
            if "trace" in self.keep:
                with contextlib.suppress(OSError, zipfile.BadZipFile):
                    path = folder / f"trace{number}.zip"
                    if self.masker.values:
                        self.masker.mask_archive(raw, path)
                    else:
                        shutil.move(raw, path)
                    self._kept(path)

    def _write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self._kept(path)

    def _kept(self, path: Path) -> None:
        self.artifacts.append(path)
        self.on_artifact(path)


def _file_name(text: str, longest: int) -> str:
    # As readable as what it is called after, and no longer than a file name may be.
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")[-longest:]


def _whatever_the_browser_says() -> contextlib.AbstractContextManager[None]:
    # A browser that is dying cannot be photographed. The journey's own failure is what has to be told.
    from playwright.sync_api import Error

    return cast("contextlib.AbstractContextManager[None]", contextlib.suppress(Error))
