"""The pool of warm workers: which process runs a journey, for how long it may, and that nothing of it stays behind."""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stormwatch.journeys.report import Report, StepTimes
from stormwatch.journeys.tree import MARK, kill_tree, members, stopped
from stormwatch.journeys.usage import memory_of, written_below
from stormwatch.probes.failure import ProbeBroken
from stormwatch.probes.memory import available_memory
from stormwatch.probes.result import Outcome, Reason
from stormwatch.probes.waiting import Waiting

log = logging.getLogger(__name__)

SIZE = 4
RUNS_PER_WORKER = 200
"""After so many runs a worker is replaced: browsers grow."""
MEMORY = 512 * 2**20
"""Bytes that have to be available before a worker with its browser is started."""
DISK = 2 * 2**30
"""Bytes that a worker's directory may have on disk: profile, recordings, downloads."""
FREE_DISK = 256 * 2**20
"""Bytes of its disk below which the worker that wrote is ended, also when it did not write so much."""
GROWN = 2**30
"""Bytes of memory that a worker with its browser must have to be the one that is ended when memory is short."""
LOOK = 0.5
"""Seconds between two looks at what the runs that are under way have taken. A page allocates a gigabyte in as long."""
PATIENCE = 0.5
"""Share of a run's time that it waits for memory: with less than the rest, a slow start of ours would be the target's fault."""
AGAIN = 0.25
"""Seconds between two looks whether there is memory by now."""
GOODBYE = 5.0
"""Seconds that a worker has for closing its browser when it is stopped."""
LINE = 4 * 2**20
"""Bytes that one event of a worker may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """What a worker needs to know to run one test again and again. Journeys that share a worker are equal but in `test`."""

    file: Path
    test: str
    browser: str = "chromium"
    base_url: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """What the fixture `secrets` gives; told to the worker for each run."""
    client: str = field(default="", repr=False)
    """Who visits, as `Client.as_text` writes it, with its secrets; empty: a browser as it is."""

    @property
    def fingerprint(self) -> str:
        """The same for the same test against the same target, also after a restart."""
        known = (str(self.file), self.test, self.browser, self.base_url, sorted(self.environment.items()))
        if self.client:
            known = (*known, self.client)
        return hashlib.sha256(repr(known).encode()).hexdigest()[:32]

    @property
    def worker_key(self) -> tuple[object, ...]:
        """Equal for journeys that one worker can run."""
        return (self.file, self.browser, self.base_url, tuple(sorted(self.environment.items())), self.client)


def default_artifacts(environ: Mapping[str, str] = os.environ) -> Path:
    """`$STORMWATCH_STATE/data/artifacts`, where `stormwatch run` keeps them when it is not told otherwise."""
    state = environ.get("STORMWATCH_STATE") or str(Path.home() / ".local" / "state" / "stormwatch")
    return Path(state, "data", "artifacts")


class WorkerPool:
    """Runs journeys in at most `size` processes at a time, and keeps those warm for the next run.

    Workers start when they are first needed, one per file, browser, base URL, environment and client. When all places are
    taken, the one that was idle longest goes. A worker is replaced after `runs_per_worker` runs, when one of its files
    changed, when its browser or the worker itself died, and when a run did not end in time: then it is killed with
    everything that it started.

    A page may take whatever there is. A run whose worker wrote more than `disk`, and the largest one when less than half of
    `memory` is available and it has more than `grown`, are ended before the machine has nothing left.
    """

    def __init__(
        self,
        *,
        size: int = SIZE,
        artifacts: Path | None = None,
        runs_per_worker: int = RUNS_PER_WORKER,
        memory: int = MEMORY,
        available: Callable[[], int] = available_memory,
        disk: int = DISK,
        grown: int = GROWN,
    ) -> None:
        """`artifacts` is the directory under which runs keep theirs; None: the default of the state directory."""
        # Absolute: workers have another working directory.
        self.artifacts = (artifacts or default_artifacts()).absolute()
        self._size = size
        self._runs_per_worker = runs_per_worker
        self._memory = memory
        self._available = available
        self._disk = disk
        self._grown = grown
        self._places = asyncio.Semaphore(size)
        self.waiting = Waiting()
        """Which runs wait for a worker or for memory."""
        self._idle: list[_Worker] = []
        """Longest idle first."""
        self._busy: set[_Worker] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._guard: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def workers(self) -> int:
        """How many worker processes there are, busy and idle."""
        return len(self._idle) + len(self._busy)

    async def run(
        self,
        journey: Journey,
        *,
        seconds: float,
        folder: str = "",
        always: bool = False,
        observe: bool = True,
        keep: Collection[str] = ("page", "trace"),
        probe: str = "",
    ) -> Report:
        """Run a journey once, within `seconds`, and say what came of it.

        `folder`, below the pool's artifacts, is where a failed run (`always`: every run) keeps picture and trace; empty:
        nothing is kept. `keep` names what: `page`, `trace`, `har`, `steps`. `observe`: whether requests and pages are listened to.
        `probe` is who waits where a run has to. Cancelling kills the worker. Raises ProbeBroken if the journey could not be run at all.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        request = {
            "folder": str(self.artifacts / folder) if folder else "",
            "always": always,
            "keep": list(keep),
            "observe": observe,
            "secrets": dict(journey.secrets),
            "journal": str(self.artifacts.with_name("made") / journey.fingerprint),
        }
        try:
            with self.waiting.noted(probe, "worker"):
                async with asyncio.timeout_at(until):
                    await self._places.acquire()
        except TimeoutError:
            raise ProbeBroken(
                Reason.RESOURCES,
                f"all {self._size} journey workers were busy for {seconds:.3g} s: give the pool more, or the journeys more time",
            ) from None
        try:
            # Twice: what a warm worker cannot run, a fresh one can.
            for fresh in (False, True):
                report = await self._run_in_worker(journey, request, until, seconds, fresh=fresh, probe=probe)
                if report is not None:
                    return report
        finally:
            self._places.release()
        raise ProbeBroken(Reason.INTERNAL, f"{journey.file} changes faster than it can be loaded")

    async def _run_in_worker(
        self, journey: Journey, request: Mapping[str, Any], until: float, seconds: float, *, fresh: bool, probe: str
    ) -> Report | None:
        worker = None if fresh else self._take_idle(journey)
        worker = worker or await self._start(journey, probe, patience_until=until - seconds * (1 - PATIENCE))
        was_warm = worker.runs > 0
        self._busy.add(worker)
        if self._guard is None or self._guard.done():
            self._guard = asyncio.get_running_loop().create_task(self._watch_usage(), name="usage of journey workers")
        done = False
        try:
            report = await worker.run(journey.test, request, until=until, seconds=seconds)
            done = True
        finally:
            self._busy.discard(worker)
            if not done:
                self._dismiss(worker, kill=True)
        if worker.gone or (report is not None and report.retire):
            self._dismiss(worker, kill=True)
        elif report is None or worker.runs >= self._runs_per_worker or self._closed:
            self._dismiss(worker, kill=False)
        else:
            self._idle.append(worker)
        died_before = report is not None and report.reason is Reason.BROWSER and report.step == "setup"
        in_time = asyncio.get_running_loop().time() < until
        # A browser that died while it was idle has not failed this run.
        return None if was_warm and died_before and in_time and not fresh else report

    async def aclose(self) -> None:
        """Stop all workers. A run that is under way is killed."""
        self._closed = True
        if self._guard is not None:
            self._guard.cancel()
        while self._idle:
            self._dismiss(self._idle.pop(), kill=False)
        for worker in list(self._busy):
            self._dismiss(worker, kill=True)
        while self._leaving:
            await asyncio.gather(*self._leaving, return_exceptions=True)

    def _take_idle(self, journey: Journey) -> "_Worker | None":
        for worker in reversed(self._idle):
            if worker.key == journey.worker_key:
                self._idle.remove(worker)
                return worker
        return None

    async def _start(self, journey: Journey, probe: str, *, patience_until: float) -> "_Worker":
        while self._idle and self.workers >= self._size:
            self._dismiss(self._idle.pop(0), kill=False)
        if (free := await asyncio.to_thread(self._available)) < self._memory and (self._idle or self._leaving):
            while self._idle:
                self._dismiss(self._idle.pop(0), kill=True)
            await asyncio.wait(self._leaving)
            free = await asyncio.to_thread(self._available)
        if free < self._memory:
            free = await self._wait_for_memory(probe, patience_until)
        if free < self._memory:
            raise ProbeBroken(
                Reason.RESOURCES,
                f"a journey needs {self._memory >> 20} MiB of memory to start, and {free >> 20} MiB are available: "
                "run fewer at a time, or give the machine more",
            )
        return await _Worker.start(journey)

    async def _wait_for_memory(self, probe: str, until: float) -> int:
        """Until there is enough, or the moment `until` of the loop's clock. Returns the bytes that are available then."""
        loop = asyncio.get_running_loop()
        with self.waiting.noted(probe, "memory"):
            while (free := await asyncio.to_thread(self._available)) < self._memory and loop.time() < until:
                while self._idle:
                    self._dismiss(self._idle.pop(0), kill=True)
                await asyncio.sleep(AGAIN)
        return free

    async def _watch_usage(self) -> None:
        """End what takes too much, as long as anything runs."""
        while self._busy:
            await asyncio.sleep(LOOK)
            for worker in list(self._busy):
                if sentence := await asyncio.to_thread(worker.disk_complaint, self._disk):
                    worker.end(sentence)
            free = await asyncio.to_thread(self._available)
            if free >= self._memory // 2:
                continue
            while self._idle:
                self._dismiss(self._idle.pop(0), kill=True)
            sizes = {worker: await asyncio.to_thread(worker.memory) for worker in list(self._busy)}
            largest = max(sizes, key=lambda worker: sizes[worker], default=None)
            if largest is not None and sizes[largest] > self._grown:
                largest.end(
                    f"its browser and its test had taken {sizes[largest] / 2**30:.1f} GiB of memory, and {free >> 20} MiB were left: "
                    "a page that takes all there is, or a machine that is too small for it"
                )

    def _dismiss(self, worker: "_Worker", *, kill: bool) -> None:
        task = asyncio.get_running_loop().create_task(
            worker.kill() if kill else worker.stop(), name="journey worker ends"
        )
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


class _Worker:
    """One process, and how far it is."""

    def __init__(
        self, key: tuple[object, ...], process: asyncio.subprocess.Process, mark: str, directory: Path
    ) -> None:
        self.key = key
        self.runs = 0
        self.gone = False
        self._process = process
        self._mark = mark
        self._directory = directory
        self._said: deque[bytes] = deque(maxlen=40)
        self._listening = asyncio.create_task(self._listen(), name="output of a journey worker")
        self._ready = False
        self._ended_for = ""
        """Why it was ended in the middle of a run, if it was."""

    @classmethod
    async def start(cls, journey: Journey) -> "_Worker":
        """Start a process. Raises ProbeBroken if the machine does not let us."""
        mark = secrets.token_hex(16)
        # Everything temporary of pytest, Playwright and the browser goes in there, and away with the worker.
        directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="stormwatch-journey-"))
        command = [
            *(sys.executable, "-P", "-m", "stormwatch.journeys.worker", str(journey.file)),
            *("--browser", journey.browser, "--base-url", journey.base_url, "--directory", str(directory)),
        ]
        if journey.client:
            # Not as an argument, which everybody on the machine can read. The directory is the worker's alone.
            client = directory / "client.json"
            await asyncio.to_thread(client.write_text, journey.client)
            command += ["--client", str(client)]
        environment = {**os.environ, **journey.environment, "TMPDIR": str(directory), MARK: mark}
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=LINE,
                env=environment,
                cwd=journey.file.parent,
                # Ctrl-C in the terminal is for us, and we end our workers in order.
                start_new_session=True,
            )
        except OSError as error:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
            raise ProbeBroken(Reason.RESOURCES, f"no journey worker could be started: {error.strerror}") from error
        return cls(journey.worker_key, process, mark, directory)

    async def run(self, test: str, request: Mapping[str, Any], *, until: float, seconds: float) -> Report | None:
        """One run. None: the worker cannot do it any more, a fresh one can."""
        seen = _Seen(seconds)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(until):
                if not self._ready:
                    await self._get_ready()
                self.runs += 1
                seen.asked = True
                self._ask({"run": test, "seconds": until - loop.time(), **request})
                while seen.report is None:
                    event = await self._next_event()
                    if event is None:
                        return await self._died(seen)
                    if event["event"] == "stale":
                        log.info("a journey worker is replaced: %s", event["why"])
                        return None
                    seen.take(event)
        except TimeoutError:
            self.gone = True
            return seen.at_the_deadline(stopped=len(await asyncio.to_thread(stopped, self._process.pid)))
        return seen.report

    def end(self, sentence: str) -> None:
        """End the run that is under way, which is broken because of what `sentence` says. Whoever runs it kills the rest."""
        if not self._ended_for and self._process.returncode is None:
            self._ended_for = sentence
            self._process.kill()

    def memory(self) -> int:
        """Bytes that it has with all that it started. Blocks."""
        return memory_of(members(self._process.pid, self._mark))

    def disk_complaint(self, most: int) -> str:
        """Why it must not write on, in a sentence; empty if it may. Blocks."""
        written = written_below(self._directory)
        try:
            free = shutil.disk_usage(self._directory).free
        except OSError:
            return ""
        if written <= most and (free >= FREE_DISK or written < FREE_DISK):
            return ""
        allowed = f"and may write {most >> 20}" if written > most else f"and {free >> 20} were left on that disk"
        return f"its browser had written {written >> 20} MiB to {self._directory}, {allowed}: a download without end?"

    async def stop(self) -> None:
        """Let it close its browser, then make sure that nothing is left."""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(GOODBYE):
                self._close_requests()
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """End it and everything that it started, now."""
        self._close_requests()
        # Once it was waited for, its number may belong to somebody else: then only the mark tells what is ours.
        pid = self._process.pid if self._process.returncode is None else 0
        if not await asyncio.to_thread(kill_tree, pid, self._mark):
            log.error("processes of journey worker %d could not be killed", self._process.pid)
        await self._process.wait()
        self._listening.cancel()
        if not await asyncio.to_thread(_remove, self._directory):
            log.error("%s of a journey worker could not be removed", self._directory)

    async def _get_ready(self) -> None:
        event = await self._next_event()
        if event is None:
            code = await self._process.wait()
            raise ProbeBroken(Reason.INTERNAL, f"the journey worker ended ({_ending(code)}): {self._last_words()}")
        if event["event"] == "not-collected":
            self.gone = True
            raise ProbeBroken(Reason.COLLECTION, ": ".join(part for part in (event["where"], event["why"]) if part))
        self._ready = True

    async def _died(self, seen: "_Seen") -> Report | None:
        self.gone = True
        code = await self._process.wait()
        if self._ended_for:
            return seen.so_far(Outcome.BROKEN, Reason.RESOURCES, f"the run was ended: {self._ended_for}")
        if not seen.began and self.runs > 1:
            return None
        step = f' in step "{seen.open[-1]}"' if seen.open else ""
        return seen.so_far(
            Outcome.BROKEN, Reason.INTERNAL, f"the journey worker died{step} ({_ending(code)}): {self._last_words()}"
        )

    async def _next_event(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
        except ValueError:
            # Nothing after it can be read. It is ended, or its end would be waited for until the deadline.
            self._process.kill()
            self._said.append(f"\nit wrote a line of more than {LINE >> 20} MiB".encode())
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def _ask(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")

    def _close_requests(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.close()

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(4096):
            self._said.append(chunk)

    def _last_words(self) -> str:
        lines = b"".join(self._said).decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it said nothing"


class _Seen:
    """What is known of a run from its events so far."""

    def __init__(self, seconds: float) -> None:
        self._allowed = f"{seconds:.3g} s"
        self.asked = False
        self.began = False
        self.steps: list[StepTimes] = []
        self.open: list[str] = []
        self.report: Report | None = None
        self._decided: Report | None = None
        self._waiting_for_browser = False
        self._opening = False
        self._kept: list[str] = []
        self._offsets: list[float] = []
        self._began_at = 0.0

    def take(self, event: Mapping[str, Any]) -> None:
        """Learn from one event."""
        loop = asyncio.get_running_loop()
        match event["event"]:
            case "browser-wanted":
                self._waiting_for_browser = True
            case "browser":
                self._waiting_for_browser = False
            case "opening":
                self._opening = True
            case "opened":
                self._opening = False
            case "body":
                self._begin(loop.time())
            case "step-began":
                self._begin(loop.time())
                self.open.append(event["name"])
                self._offsets.append(event["offset"])
            case "step-ended":
                self.steps.append(StepTimes(**event["step"]))
                self.open.pop()
                self._offsets.pop()
            case "left-behind":
                log.warning("what a journey made could not be taken away: %s", event["sentence"])
            case "kept":
                self._kept.append(event["name"])
            case "body-over":
                self._decided = Report.from_json(event["report"])
            case _:
                self.report = Report.from_json(event["report"])

    def at_the_deadline(self, *, stopped: int) -> Report:
        """What to say of a run that was not over in time; so many of its processes somebody has stopped."""
        if self._decided is not None and self._decided.outcome is not Outcome.UP:
            return replace(self._decided, artifacts=tuple(sorted(self._kept)))
        if not self.asked:
            return self.so_far(
                Outcome.BROKEN,
                Reason.RESOURCES,
                f"the journey worker did not load its file within {self._allowed}: the machine is overloaded, or the file "
                "waits for something when it is imported",
            )
        if self._waiting_for_browser:
            return self.so_far(
                Outcome.BROKEN,
                Reason.BROWSER,
                f"the browser did not start within {self._allowed}: is the machine overloaded?",
            )
        if self._opening:
            return self.so_far(
                Outcome.BROKEN,
                Reason.BROWSER,
                f"the browser had opened no page within {self._allowed}: is the machine overloaded?",
            )
        if stopped:
            return self.so_far(
                Outcome.BROKEN,
                Reason.INTERNAL,
                f"somebody had stopped {stopped} of the run's own processes (SIGSTOP): nothing was over within {self._allowed}",
            )
        if self._decided is not None:
            return replace(
                self._decided,
                outcome=Outcome.DOWN,
                reason=Reason.TIMEOUT,
                step="teardown",
                sentence=f"what the test's fixtures do after it was not over within {self._allowed}",
            )
        step = ""
        if self.open:
            sentence = f'step "{self.open[-1]}" was not over within the {self._allowed} of the journey'
        elif self.steps and self.steps[-1].failed:
            step = self.steps[-1].name
            sentence = f'step "{step}" failed so late that the run was over before it could be said how'
        elif self.began:
            after = f', after step "{self.steps[-1].name}"' if self.steps else ""
            sentence = f"the journey was not over within {self._allowed}{after}"
        else:
            sentence = f"what the test's fixtures do before it was not over within {self._allowed}"
        report = self.so_far(Outcome.DOWN, Reason.TIMEOUT, sentence)
        return replace(report, step=step) if step else report

    def so_far(self, outcome: Outcome, reason: Reason, sentence: str) -> Report:
        """A report from the events alone; a step that is open failed when its time was cut off."""
        now = asyncio.get_running_loop().time()
        cut = [
            StepTimes(name=name, seconds=max(0.0, now - self._began_at - offset), offset=offset, failed=True)
            for name, offset in zip(self.open, self._offsets, strict=True)
        ]
        return Report(
            outcome=outcome,
            reason=reason,
            sentence=sentence,
            seconds=now - self._began_at if self.began else 0.0,
            steps=tuple(sorted((*self.steps, *cut), key=lambda step: step.offset)),
            step=self.open[-1] if self.open else ("" if self.began else "setup"),
        )

    def _begin(self, now: float) -> None:
        if not self.began:
            self.began, self._began_at = True, now


def _remove(directory: Path, patience: float = 5.0) -> bool:
    """Remove a worker's directory. Blocks. Returns whether it is gone.

    Again and again, because a killed process counts as dead when its first thread is, and another may still be writing.
    """
    until = time.monotonic() + patience
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists() or time.monotonic() > until:
            return not directory.exists()
        time.sleep(0.05)


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
