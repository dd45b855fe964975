"""One journey in a warm worker, beside a bare Playwright script, a cold `pytest`, and @elastic/synthetics; all in one Chromium.

    python -m bench.journeys [--runs N] [--cold-runs N] [--format json]

The journey opens two pages of a small server on loopback, clicks a link, and waits for a heading. All take turns, so that
whatever else the machine does hits all of them. A turn begins when the one before has come to rest: @elastic/synthetics goes on
working after it has said that it could run the next journey, and would slow down whoever comes after it. Two bars: warm at most
1.1 times bare, cold at least 3 times warm.

warm                  `WorkerPool.run`, from the call to its report: our process, the pipe, pytest, fixtures, steps, and the
                      trace that is recorded in case the run fails
warm, no artifacts    the same without recording; `plain`: and without a look at requests and Web Vitals
bare                  new context, the same calls, context closed, in one Python process that keeps its browser;
                      `traced`: with the trace recorded that ours records, and thrown away as ours is when a run passes
cold pytest           `python -m pytest` on the same file, from start to exit
elastic, cold         @elastic/synthetics for one journey, from start to exit, as its own agent does for each run; without npx,
                      which takes another second. `rich`: with what the agent asks for
elastic, one process  very many journeys, one after another in one process and one browser. It has no schedule for that, and
                      ends when all have run: it is what its engine could do, and not what anybody gets on a schedule

Processor time is that of all processes of a way, browser and driver included, of the server none; of a warm way also what
it used between its turns. `runs/min/core` is how many runs a core has processor time for. Memory is the most that was in use at
once in three more runs (of a cold way in one), each process for itself: what processes share is counted for each of them.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from bench._elastic import PLAIN, RICH, Elastic, ElasticMissing
from bench._processes import cpu_of, metered, resident_bytes, tag, tagged
from bench._two_pages import ROOT, SCRIPT, TEST, serving
from stormwatch.journeys.pool import Journey, WorkerPool
from stormwatch.probes.result import Outcome

RUNS: Final = 30
COLD_RUNS: Final = 10
WARMING: Final = 2
"""Rounds before those that are measured."""
WEIGHING: Final = 3
"""Runs whose memory is looked at. They are not timed: looking takes time."""
LOOKS: Final = 0.05
AT_REST: Final = 0.1
"""Of one processor: what is used less than this by all processes of a way is rest. A browser that waits uses some."""
RESTING: Final = 0.2
"""Seconds in which that is seen."""
PATIENCE: Final = 10.0
"""Seconds after which the next turn begins in any case."""
WARM_BAR, COLD_BAR = 1.1, 3.0
TRACED: Final = "screenshots=False, snapshots=True, sources=True"
"""As `stormwatch.journeys.recorder` records."""


class Way(Protocol):
    """One way to run the journey."""

    name: str
    """By which its processes are known."""
    is_cold: bool
    """Whether each run starts all processes anew, and tells its own processor time."""

    async def run(self) -> tuple[float, float]:
        """One run: how long it took, and the processor time that its living processes do not tell of. Both in seconds."""
        ...


@dataclass(slots=True)
class Warm:
    """A worker of ours, with a pool of its own."""

    name: str
    pool: WorkerPool
    file: Path
    artifacts: bool = True
    observe: bool = True
    is_cold: bool = False

    async def run(self) -> tuple[float, float]:
        """One run, and what the pool itself used for it."""
        journey = Journey(file=self.file, test="test_two_pages", environment=tag(self.name))
        began, used = time.perf_counter(), time.thread_time()
        report = await self.pool.run(journey, seconds=60, folder="run" if self.artifacts else "", observe=self.observe)
        seconds, own = time.perf_counter() - began, time.thread_time() - used
        if report.outcome is not Outcome.UP:
            raise SystemExit(f"{self.name}: the journey is {report.outcome}: {report.sentence}")
        return seconds, own


@dataclass(slots=True)
class Lasting:
    """A process that runs the journey once for each line that it is sent, and says `ready` when it could again."""

    name: str
    process: asyncio.subprocess.Process
    says: asyncio.StreamReader
    is_cold: bool = False

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, name: str, command: Sequence[str], folder: Path, *, ears: str) -> "AsyncGenerator[Lasting]":
        """Started, and ready; ended with all that it started. `ears`: which of its outputs says so."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env={**os.environ, **tag(name)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if ears == "stdout" else asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE if ears == "stderr" else None,
        )
        says = process.stdout if ears == "stdout" else process.stderr
        assert says is not None
        way = cls(name, process, says)
        try:
            await way._ready()
            yield way
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()

    async def run(self) -> tuple[float, float]:
        """One run."""
        assert self.process.stdin is not None
        began = time.perf_counter()
        self.process.stdin.write(b"again\n")
        await self._ready()
        return time.perf_counter() - began, 0.0

    async def _ready(self) -> None:
        said: deque[str] = deque(maxlen=5)
        while (line := await self.says.readline()) != b"ready\n":
            said.append(line.decode(errors="replace").strip())
            if not line or said[-1] == "the journey failed":
                raise SystemExit(f"{self.name}: the run failed: {' '.join(said)}")


@dataclass(slots=True)
class Cold:
    """A command for each run."""

    name: str
    command: Sequence[str]
    folder: Path
    is_cold: bool = True

    async def run(self) -> tuple[float, float]:
        """One run, with the processor time of all that it started."""
        process = await asyncio.create_subprocess_exec(
            *map(str, metered(self.command)),
            cwd=self.folder,
            env={**os.environ, **tag(self.name), "PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        out, _ = await process.communicate()
        used = json.loads(out)
        if used["code"] or used["left"]:
            said = f"exit code {used['code']}, {used['left']} processes left"
            raise SystemExit(f"{self.name}: {said}: {' '.join(self.command)}")
        return used["seconds"], used["cpu"]


@dataclass(slots=True)
class Figures:
    """What was seen of one way."""

    seconds: list[float] = field(default_factory=list[float])
    cpu: float = 0.0
    """Seconds of all runs together."""
    peak: int = 0
    """Bytes."""

    def as_json(self) -> Mapping[str, float]:
        """Per run."""
        cpu = self.cpu / len(self.seconds)
        return {
            "runs": len(self.seconds),
            "p50_ms": statistics.median(self.seconds) * 1e3,
            "p95_ms": sorted(self.seconds)[math.ceil(len(self.seconds) * 0.95) - 1] * 1e3,
            "best_ms": min(self.seconds) * 1e3,
            "cpu_seconds": cpu,
            "runs_per_minute_and_core": 60 / cpu,
            "peak_mb": self.peak / 1e6,
        }


@contextlib.asynccontextmanager
async def stage(url: str, folder: Path, elastic: Elastic | None, *, stock: int) -> AsyncGenerator[Sequence[Way]]:
    """All ways, ready to run. `stock`: how many journeys one process of @elastic/synthetics is given."""
    suite = folder / "suite"
    suite.mkdir()
    file, bare, traced = suite / "test_two_pages.py", folder / "bare.py", folder / "traced.py"
    file.write_text(TEST.format(url=url))
    bare.write_text(SCRIPT.format(url=url, before="", after=""))
    traced.write_text(SCRIPT.format(url=url, before=f"context.tracing.start({TRACED})", after="context.tracing.stop()"))
    (suite / "pytest.ini").write_text("[pytest]\n")
    async with contextlib.AsyncExitStack() as stack:

        def pool() -> WorkerPool:
            made = WorkerPool(artifacts=folder / "artifacts")
            stack.push_async_callback(made.aclose)
            return made

        async def lasting(name: str, command: Sequence[str], where: Path, *, ears: str) -> Way:
            return await stack.enter_async_context(Lasting.started(name, command, where, ears=ears))

        pytest = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file))
        ways: list[Way] = [
            Warm("warm", pool(), file),
            Warm("warm, no artifacts", pool(), file, artifacts=False),
            Warm("warm, plain", pool(), file, artifacts=False, observe=False),
            await lasting("bare", (sys.executable, str(bare)), folder, ears="stdout"),
            await lasting("bare, traced", (sys.executable, str(traced)), folder, ears="stdout"),
            Cold("cold pytest", pytest, suite),
        ]
        for what, options in (("rich", RICH), ("plain", PLAIN)):
            if elastic is not None:
                cold, lasts = folder / f"elastic-cold-{what}", folder / f"elastic-{what}"
                ways.append(Cold(f"elastic, cold, {what}", elastic.command(cold, url, options), cold))
                many = elastic.command(lasts, url, options, runs=stock)
                ways.append(await lasting(f"elastic, one process, {what}", many, lasts, ears="stderr"))
        yield ways


async def measure(ways: Sequence[Way], *, runs: int, cold_runs: int) -> Mapping[str, Figures]:
    """Let all take turns."""
    figures = {way.name: Figures() for way in ways}
    before: Mapping[str, float] = {}
    for number in range(runs + WARMING):
        if number == WARMING:
            before = {way.name: cpu_of(tagged(way.name)) for way in ways}
        for way in ways:
            # Nothing of a cold one gets warm but the disk's cache: once is enough.
            if way.is_cold and not WARMING - 1 <= number < cold_runs + WARMING:
                continue
            seconds, cpu = await way.run()
            await _rest(way)
            if number >= WARMING:
                figures[way.name].seconds.append(seconds)
                figures[way.name].cpu += cpu
    for way in ways:
        if not way.is_cold:
            figures[way.name].cpu += cpu_of(tagged(way.name)) - before[way.name]
    for way in ways:
        figures[way.name].peak = await _weighed(way)
    return figures


async def _rest(way: Way) -> None:
    """Return when a way does no more of its own."""
    if way.is_cold:
        return
    until = time.monotonic() + PATIENCE
    pids = tagged(way.name)
    before = cpu_of(pids)
    while time.monotonic() < until:
        await asyncio.sleep(RESTING)
        now = cpu_of(pids)
        if now - before < RESTING * AT_REST:
            return
        before = now
    print(f"{way.name}: not at rest {PATIENCE:g} s after its turn", file=sys.stderr)


async def _weighed(way: Way) -> int:
    """The most bytes that its processes had at once."""
    peak, over = 0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not over.wait(LOOKS):
            peak = max(peak, resident_bytes(tagged(way.name)))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(1 if way.is_cold else WEIGHING):
            await way.run()
    finally:
        over.set()
        looking.join()
    return peak


async def _bench(asked: argparse.Namespace, elastic: Elastic | None) -> Mapping[str, Figures]:
    # It ends when all have run, and it must not.
    stock = asked.runs + WARMING + WEIGHING + 1
    with serving() as url, tempfile.TemporaryDirectory(prefix="stormwatch-bench-", ignore_cleanup_errors=True) as name:
        async with stage(url, Path(name), elastic, stock=stock) as ways:
            return await measure(ways, runs=asked.runs, cold_runs=asked.cold_runs)


def ratios(p50: Mapping[str, float], cpu: Mapping[str, float]) -> Mapping[str, float]:
    """What the bars are about, and how far the peer is."""
    found = {
        "warm / bare": p50["warm"] / p50["bare"],
        "warm without artifacts / bare": p50["warm, no artifacts"] / p50["bare"],
        "warm / bare that records the same trace": p50["warm"] / p50["bare, traced"],
        "CPU: warm / bare": cpu["warm"] / cpu["bare"],
        "cold pytest / warm": p50["cold pytest"] / p50["warm"],
    }
    for ours, theirs in (("warm", "rich"), ("warm, plain", "plain")):
        for how in ("cold", "one process"):
            if (peer := f"elastic, {how}, {theirs}") in p50:
                found[f"{peer} / {ours}"] = p50[peer] / p50[ours]
                found[f"CPU: {peer} / {ours}"] = cpu[peer] / cpu[ours]
    return found


def table(answer: Mapping[str, Any]) -> str:
    """For people."""
    head = ("runs", "p50 ms", "p95 ms", "CPU s", "runs/min/core", "peak MB")
    lines = [f"{'':30}" + "".join(f"{each:>15}" for each in head)]
    for way, found in answer["ways"].items():
        lines.append(
            f"{way:30}{found['runs']:15}{found['p50_ms']:15.0f}{found['p95_ms']:15.0f}{found['cpu_seconds']:15.2f}"
            f"{found['runs_per_minute_and_core']:15.0f}{found['peak_mb']:15.0f}"
        )
    lines.append("")
    bars = {"warm / bare": f"bar: at most {WARM_BAR}", "cold pytest / warm": f"bar: at least {COLD_BAR:g}"}
    for name, ratio in answer["ratios"].items():
        lines.append(f"{name:50}{ratio:8.2f}  {bars.get(name, '')}".rstrip())
    return "\n".join(lines)


def main() -> None:
    """Measure and print; the exit code is that of Python, the bars are shown and not enforced."""
    parser = argparse.ArgumentParser(prog="python -m bench.journeys")
    parser.add_argument("--runs", type=int, default=RUNS, help="of what is warm")
    parser.add_argument("--cold-runs", type=int, default=COLD_RUNS)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    asked, _ = parser.parse_known_args()
    elastic = None
    try:
        elastic = Elastic.install()
    except ElasticMissing as error:
        print(error, file=sys.stderr)
    figures = asyncio.run(_bench(asked, elastic))
    ways = {way: each.as_json() for way, each in figures.items()}
    p50, cpu = ({way: each[what] for way, each in ways.items()} for what in ("p50_ms", "cpu_seconds"))
    answer = {"ways": ways, "ratios": ratios(p50, cpu)}
    print(json.dumps(answer) if asked.format == "json" else table(answer))


if __name__ == "__main__":
    main()
