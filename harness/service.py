"""`stormwatch run`: everything that has to live together, wired once, started and stopped in order.

Runner ▸ FanOut ▸ { metrics, latest, history, evaluator, feed, JSON lines }
Evaluator ▸ Transition ▸ { history, feed, notifiers, listeners }
"""

import asyncio
import gc
import json
import logging
import math
import os
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from starlette.routing import BaseRoute

from stormwatch.chaos.feed import Feed
from stormwatch.chaos.undo import UndoJournal, state_directory
from stormwatch.exporters import notification
from stormwatch.exporters.artifact import artifacts_of
from stormwatch.exporters.dead_man import DeadMan
from stormwatch.exporters.history import HOUR, KEEP, KEEP_DETAILS, History, HistoryUnavailable
from stormwatch.exporters.journey_view import JourneyView
from stormwatch.exporters.jsonl import JsonLines
from stormwatch.exporters.prometheus import PrometheusExporter
from stormwatch.exporters.sink import FanOut, Sink
from stormwatch.exporters.status import render_overview, render_probe
from stormwatch.exporters.step import Reached, Step, unheard
from stormwatch.harness import telemetry
from stormwatch.harness.artifact_links import ArtifactLinks
from stormwatch.harness.artifacts_section import retention_of
from stormwatch.harness.catalog import KINDS
from stormwatch.harness.config import Config, effective
from stormwatch.harness.dead_man import SILENT, Signs, trouble
from stormwatch.harness.evaluation import EVALUATION
from stormwatch.harness.heartbeat_web import heartbeat_routes, jobs_of, keep_marking, schedules_of
from stormwatch.harness.lag import LoopLag
from stormwatch.harness.latest import Latest
from stormwatch.harness.notifying import Notifying, notification_of
from stormwatch.harness.pages import Moment, Pages
from stormwatch.harness.peers import follow
from stormwatch.harness.problem import Problem
from stormwatch.harness.runner import Runner
from stormwatch.harness.secret import mask_of
from stormwatch.harness.server import serving
from stormwatch.harness.turns import Turns, sizes
from stormwatch.harness.web import web_app
from stormwatch.journeys.pool import WorkerPool
from stormwatch.journeys.retention import KeptRuns
from stormwatch.probes import heartbeats
from stormwatch.probes.clock import Clock, SystemClock
from stormwatch.probes.heartbeats import Heartbeats, HeartbeatsUnavailable
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Result
from stormwatch.slo.alert import Transition
from stormwatch.slo.evaluator import Evaluator
from stormwatch.slo.policy import evidence_due
from stormwatch.slo.standing import Standing, standing_of
from stormwatch.slo.window import Counts

log = logging.getLogger(__name__)

COMES_BACK = 120.0
"""Seconds after the start in which an alert of the last run may fire again without having been resolved between."""
TIDYING = 600.0
"""Seconds between two rounds of removing old artifacts."""
READING = 3600.0
"""Seconds between two readings of their directory, for what others put there or took away."""
JOURNEYS_AT_ONCE = max(1, min(4, (os.cpu_count() or 2) // 2))
"""A browser needs a core of its own for its timings to mean something."""


class Service:
    """`async with Service(config, data=…) as service:` watches from entering to leaving; leaving closes in reverse order."""

    def __init__(
        self,
        config: Config,
        *,
        data: Path,
        page: str = "",
        jsonl: Path | None = None,
        clock: Clock | None = None,
        comes_back: float = COMES_BACK,
        step: Reached = unheard,
    ) -> None:
        """`page` is the address of the status page, for links in notifications; it ends with a slash.

        `comes_back` is in seconds; `step` hears of each step on the way from an alert to people, for tests.
        """
        self.config = config
        self.page = config.external_url or page
        self.artifacts = data / "artifacts"
        self.clock: Clock = clock or SystemClock()
        self.started = self.clock.now()
        self.latest = Latest()
        self.feed = Feed()
        self.exporter = PrometheusExporter(config.probes, KINDS, started=self.started)
        self.evaluator = Evaluator(config.objectives, config.rules, config.probes, maintenance=config.maintenance)
        self.routes: list[BaseRoute] = []
        """Further addresses that are served: those of pings, where heartbeats are waited for."""
        self._data = data
        self._snapshot = data / "alerts.json"
        self._jsonl = jsonl
        self._comes_back = comes_back
        self._step = step
        self._stack = AsyncExitStack()
        self._soon = asyncio.Event()
        self._links = ArtifactLinks(config.external_url)
        self._untidy = asyncio.Event()
        self._fresh: set[str] = set()
        """Runs that kept something since the directory was tidied last."""
        self._outcomes: dict[str, Outcome] = {}
        self._counted: dict[str, Counts] = {}
        self._listeners: list[Callable[[Result | Transition], None]] = []
        self.signs: Signs | None = None
        """Whether this process is well; None where no dead man's switch is told."""
        self._evaluated = self._last_result = 0.0
        """When rules were evaluated and a result came, by the monotonic clock."""

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def listen(self, listener: Callable[[Result | Transition], None]) -> None:
        """Tell of every result that changes a probe's outcome, and of every transition. For a screen; drills read the feed."""
        self._listeners.append(listener)

    async def _open(self) -> None:
        self._make_directory()
        self.history = History(self._data / "history.sqlite")
        self._stack.push_async_callback(self.history.aclose)
        self._pages = Pages(self.config, self.latest, self.history, self.artifacts)
        sinks: dict[str, Sink] = {
            "prometheus": self.exporter,
            "latest": self.latest,
            "history": self.history,
            "evaluator": self._observe,
            "retention": self._kept,
            "feed": self.feed,
        }
        if self._jsonl:
            lines = sinks["jsonl"] = JsonLines(self._jsonl)
            self._stack.push_async_callback(lines.aclose)
        await self._remember()
        self.notifying = await Notifying.open(
            self.config, self.feed, data=self._data, page=self.page, clock=self.clock, step=self._step
        )
        self._stack.push_async_callback(self.notifying.aclose)
        for name, work in self.notifying.work.items():
            self._background(work, name)
        for transition in self.evaluator.active():
            self._notify(transition)
            self.feed.transition(transition)
        resources = await self._stack.enter_async_context(Resources())
        pool = WorkerPool(size=self.config.concurrency.get("journey", JOURNEYS_AT_ONCE), artifacts=self.artifacts)
        resources.put(WorkerPool, pool)
        lag = LoopLag(self.clock)
        fan_out = FanOut(sinks)
        turns = Turns(
            sizes(KINDS, self.config.probes, {"journey": JOURNEYS_AT_ONCE, **self.config.concurrency}),
            clock=self.clock.monotonic,
        )
        runner = Runner(
            self.config.probes,
            take=fan_out,
            clock=self.clock,
            resources=resources,
            lag=lag,
            mask=mask_of(self.config.secrets),
            turns=turns,
        )
        await self._listen_for_heartbeats(resources, runner)
        self._sources(runner, lag, fan_out)
        self.exporter.sources.append(lambda: telemetry.waiting(turns.waiting, pool.waiting))
        self._background(lag.watch(), "loop lag")
        if self.config.peers:
            voted = self.evaluator.voted
            self._background(follow(self.config.peers, voted, self._hear, clock=self.clock), "peers")
        self._background(self._evaluate(), "evaluation")
        self._background(self._tell_what_ended_meanwhile(), "alerts that ended meanwhile")
        self._background(self._tidy(), "retention of artifacts")
        await self._tell_that_we_are_well(runner)
        self._background(runner.run(), "runner")

    async def _tell_that_we_are_well(self, runner: Runner) -> None:
        """Where a dead man's switch is configured, as long as we are."""
        switch = self.config.alerts.watchdog
        if switch is None:
            return
        self._evaluated = self._last_result = self.clock.monotonic()
        signs = self.signs = Signs(
            behind=lambda: runner.behind,
            evaluated=lambda: self.clock.monotonic() - self._evaluated,
            silent=lambda: self.clock.monotonic() - self._last_result,
            patience=max(SILENT, min(evidence_due(probe) for probe in self.config.probes)),
            history=lambda: self.history.error,
            outbox=lambda: self.notifying.outbox.error,
        )
        dead_man = DeadMan(switch, lambda: trouble(signs), clock=self.clock)
        self._stack.push_async_callback(dead_man.aclose)
        self.exporter.sources.append(dead_man.families)
        self._background(dead_man.run(), "dead man's switch")

    async def _listen_for_heartbeats(self, resources: Resources, runner: Runner) -> None:
        jobs = jobs_of(self.config.probes)
        if not jobs:
            return
        try:
            listening = await Heartbeats.listen(
                self._data / heartbeats.FILE, schedules_of(jobs.values()), now=self.clock.now()
            )
        except HeartbeatsUnavailable as error:
            raise Problem(f"cannot keep heartbeats: {error}; choose another directory with --data") from error
        resources.put(Heartbeats, listening)
        self.routes += heartbeat_routes(jobs, listening, clock=self.clock, soon=runner.soon)
        self._background(keep_marking(listening, self.clock), "heartbeats")

    def _make_directory(self) -> None:
        try:
            self.artifacts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Problem(
                f"cannot keep history in {self._data}: {error.strerror}; choose another directory with --data"
            ) from error

    def _sources(self, runner: Runner, lag: LoopLag, fan_out: FanOut) -> None:
        undo = UndoJournal(state_directory(os.environ) / "undo")
        self.exporter.sources += [
            lambda: telemetry.schedule(runner),
            lambda: telemetry.loop(lag, self.clock),
            lambda: telemetry.sinks(fan_out.errors),
            lambda: telemetry.objectives(self.config.objectives, self.evaluator.events()),
            lambda: telemetry.periods(self.evaluator.periods(self.clock.now())),
            lambda: telemetry.maintenance(
                self.config.probes, lambda probe: self.evaluator.in_maintenance(probe, self.clock.now())
            ),
            lambda: telemetry.alerts(self.evaluator.active()),
            lambda: telemetry.faults(undo.pending()),
            self.history.families,
            lambda: notification.families(self.notifying.counts),
            self.notifying.outbox.families,
        ]

    def _background(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)

        async def end() -> None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(task, return_exceptions=True)

        task.add_done_callback(_tell_of_death)
        self._stack.push_async_callback(end)

    async def _tell_what_ended_meanwhile(self) -> None:
        """An alert that people were told of and that does not come back has ended while we were away."""
        await asyncio.sleep(self._comes_back)
        active = [
            told.fingerprint for each in self.evaluator.active() if (told := notification_of(each, page=self.page))
        ]
        await self.notifying.dispatcher.resolve_all_but(active, at=self.started)

    async def _remember(self) -> None:
        """Take up what an earlier life saw: alerts go on where they were, windows are full."""
        try:
            self.evaluator.restore(json.loads(await asyncio.to_thread(self._snapshot.read_text)))
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, OSError) as error:
            log.warning("the alerts of the last run in %s cannot be read, they begin anew: %s", self._snapshot, error)
        try:
            await asyncio.to_thread(self._fill_windows, self.clock.now())
            for probe in self.config.probes:
                self.latest.restore(await asyncio.to_thread(self._last_two, probe.name))
        except HistoryUnavailable as error:
            log.warning("what was seen before cannot be read, so windows begin empty: %s", error)

    def _fill_windows(self, now: float) -> None:
        """Results as far as they are kept; before that, and before what is kept of the inside of runs, what was counted by the hour."""
        light, whole = _whole_hour(now - KEEP), _whole_hour(now - KEEP_DETAILS)
        stretches = {
            each.name: (now - self.evaluator.reach_of(each.name), whole if each.looks_inside else light)
            for each in self.config.objectives
        }
        oldest = min((since for since, until in stretches.values() if since < until), default=math.inf)
        for counted in self.history.judged(oldest, whole) if oldest < whole else ():
            since, until = stretches.get(counted.objective, (math.inf, math.inf))
            if since <= counted.hour < until:
                self.evaluator.recall(counted.objective, counted.hour, good=counted.good, bad=counted.bad)
        self.evaluator.replay(self.history.replay(max(light, now - self.evaluator.reach)))
        inside = {name for each in self.config.objectives if each.looks_inside for name in each.probes}
        if inside:
            self.evaluator.replay_inside(self.history.replay_whole(whole, inside))

    def _last_two(self, probe: str) -> Sequence[Result]:
        found = {r.started: r for r in (self.history.last_failure(probe), self.history.last(probe)) if r}
        return [found[at] for at in sorted(found)]

    def _observe(self, result: Result) -> None:
        before = self._outcomes.get(result.probe)
        self._outcomes[result.probe] = result.outcome
        self._last_result = self.clock.monotonic()
        self.evaluator.observe(result)
        if result.outcome is not Outcome.UP or before is not result.outcome:
            self._soon.set()
        if before not in {None, result.outcome}:
            for listener in self._listeners:
                listener(result)

    def _hear(self, location: str, results: Iterable[Result], now: float) -> None:
        if self.evaluator.hear(location, results, now):
            self._soon.set()

    async def _evaluate(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVALUATION):
                    await self._soon.wait()
            self._soon.clear()
            changed = self.evaluator.evaluate(self.clock.now())
            self._evaluated = self.clock.monotonic()
            self._count()
            if changed:
                await self._keep_and_tell(changed)

    async def _keep_and_tell(self, changed: Sequence[Transition]) -> None:
        """First on disk, then told: what people know is never ahead of what the next life knows.

        Told first, an alert whose end was told would fire once more after a crash, and wake somebody for nothing. This way
        round, what was kept and not told is told by the next life: it fires still, or it does not fire any more.
        """
        self._step(Step.EVALUATED)
        try:
            await asyncio.to_thread(self._save, json.dumps(self.evaluator.snapshot()))
        finally:
            for transition in changed:
                self._tell(transition)

    def _count(self) -> None:
        """What objectives judged since the last time goes into the history, for reports over months."""
        now = self.clock.now()
        for name, counts in self.evaluator.events().items():
            before = self._counted.get(name, Counts(0, 0))
            if counts != before:
                self.history.count_judged(name, now, good=counts.good - before.good, bad=counts.bad - before.bad)
                self._counted[name] = counts

    def _kept(self, result: Result) -> None:
        if kept := artifacts_of(result):
            self._fresh.update(each.run for each in kept)
            self._untidy.set()

    async def _tidy(self) -> None:
        """After each run that kept something, and now and then because things grow old."""
        retention = retention_of(self.config.artifacts, self.config.probes)
        runs = KeptRuns(self.artifacts)

        def tidy(fresh: Collection[str], pinned: Collection[str], *, anew: bool) -> None:
            if anew:
                runs.read()
            for run in fresh:
                runs.add(run)
            runs.prune(retention, now=self.clock.now(), pinned=pinned)

        read_at = float("-inf")
        while True:
            self._untidy.clear()
            fresh, self._fresh = self._fresh, set()
            if anew := self.clock.monotonic() - read_at > READING:
                read_at = self.clock.monotonic()
            await asyncio.to_thread(tidy, fresh, self._links.runs, anew=anew)
            with suppress(TimeoutError):
                async with asyncio.timeout(TIDYING):
                    await self._untidy.wait()

    def _tell(self, transition: Transition) -> None:
        log.info("%s %s ▸ %s", dict(transition.alert.labels), transition.before, transition.after)
        self.history.record_transition(transition.as_json())
        self.feed.transition(transition)
        self._notify(transition)
        for listener in self._listeners:
            listener(transition)

    def _notify(self, transition: Transition) -> None:
        links = self._links.of(transition, self.latest.failure(transition.probe))
        told = notification_of(transition, page=self.page, links=links)
        if told:
            self.notifying.notify(told)

    def _save(self, document: str) -> None:
        try:
            beside = self._snapshot.with_suffix(".new")
            with beside.open("w") as file:
                file.write(document)
                file.flush()
                os.fsync(file.fileno())
            self._step(Step.SNAPSHOT)
            beside.replace(self._snapshot)
            self._step(Step.KEPT)
        except OSError as error:
            log.warning("cannot keep the state of alerts in %s: %s", self._snapshot, error)

    async def results(self, probe: str | None, since: float, limit: int) -> Sequence[Result]:
        """Recorded results since a Unix time, the newest first."""
        return await asyncio.to_thread(lambda: self.history.results(probe, since=since, limit=limit))

    async def transitions(self, since: float) -> Sequence[dict[str, Any]]:
        """Recorded transitions of alerts since a Unix time, the oldest first."""
        return await asyncio.to_thread(lambda: self.history.transitions(since))

    async def overview_page(self) -> str:
        """The status page as HTML."""
        moment = Moment.of(self.config, self.evaluator, self.clock.now())
        view = await asyncio.to_thread(self._pages.overview, moment)
        return await asyncio.to_thread(render_overview, view)

    async def probe_page(self, name: str) -> str | None:
        """The page of one probe as HTML; None for a name that is not there."""
        moment = Moment.of(self.config, self.evaluator, self.clock.now())
        view = await asyncio.to_thread(self._pages.probe, name, moment)
        return await asyncio.to_thread(render_probe, view) if view else None

    async def journey(self, name: str) -> JourneyView | None:
        """The last runs of a journey; None for a name that no journey has."""
        return await asyncio.to_thread(self._pages.journey, name)

    def standings(self) -> tuple[Standing, ...]:
        """Where each objective stands now."""
        now, active = self.clock.now(), self.evaluator.active()
        return tuple(
            standing_of(objective, self.evaluator.budget(objective.name, now), active, now=now)
            for objective in self.config.objectives
        )

    def effective_config(self) -> dict[str, Any]:
        """What is in force; secrets are masked."""
        return effective(self.config)

    def probe_documents(self) -> list[dict[str, Any]]:
        """Each probe with its last result, as JSON."""
        documents: list[dict[str, Any]] = []
        for probe in self.config.probes:
            result = self.latest.result(probe.name)
            documents.append(
                {
                    "name": probe.name,
                    "kind": probe.kind,
                    "target": probe.target,
                    "labels": dict(probe.labels),
                    "since": self.latest.since(probe.name),
                    "last": result.as_json() if result else None,
                }
            )
        return documents


def _whole_hour(at: float) -> float:
    """The first hour that begins at a Unix time or after it."""
    return math.ceil(at / HOUR) * HOUR


def settle() -> None:
    """Take what lives as long as the process out of the garbage collector's sight: full collections stall the loop."""
    gc.collect()
    gc.freeze()


async def serve(
    service: Service, bound: socket.socket, stop: asyncio.Event, *, routes: Sequence[BaseRoute] = ()
) -> None:
    """Serve the pages and the API of a service, and further `routes`, until `stop` is set."""
    async with serving(web_app(service, routes=routes), bound):
        await stop.wait()


def _tell_of_death(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        log.critical("the task %s ended: monitoring is not complete any more", task.get_name(), exc_info=error)
