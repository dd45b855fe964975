"""A prober of ours beside blackbox_exporter: the same targets, the same loads, in one run.

    main of a bench ▸ stage: servers, exporter ▸ for each load a worker process of its own ▸ one JSON object

The worker runs either our probe by `run_once` on uvloop, and its whole CPU time counts; or it asks blackbox_exporter over
kept-alive HTTP, and only the exporter's own CPU time counts, read from /proc: its share includes rendering the metrics of
each probe, ours does not.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvloop

from tests.servers.process import running

ROOT = Path(__file__).resolve().parent.parent
DELAY = 0.020
"""Seconds that the slow server of each bench takes: what is measured above it is the prober's error."""
PROBERS = ("ours", "blackbox")
WARMING = 30
"""Runs before those that are measured."""
EXPORTER = "prometheus-blackbox-exporter"

One = Callable[[], Awaitable[float]]
"""One run of a probe; gives the seconds that the prober says it took."""
Figures = dict[str, Any]


# The worker


async def work(arguments: argparse.Namespace, check: Callable[[argparse.Namespace], tuple[str, str, Any]]) -> None:
    """Put one load on one prober and print what was seen. `check` gives the kind, the target and the check of our probe."""
    async with contextlib.AsyncExitStack() as stack:
        one = await _ours(*check(arguments), stack) if arguments.worker == "ours" else _theirs(arguments, stack)
        for _ in range(WARMING):
            await one()
        used, began = _cpu(), time.perf_counter()
        if arguments.rate:
            seconds = await _open_loop(one, arguments.rate, arguments.seconds)
        else:
            seconds = await _closed_loop(one, arguments.parallel, arguments.seconds)
        took = time.perf_counter() - began
        print(json.dumps({"runs": len(seconds), "took": took, "cpu": _cpu() - used, "seconds": seconds}))


async def _open_loop(one: One, rate: float, seconds: float) -> list[float]:
    """Start runs by the clock, whether earlier ones have ended or not."""
    began, tasks = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        wait = began + number / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.ensure_future(one()))
    return list(await asyncio.gather(*tasks))


async def _closed_loop(one: One, parallel: int, seconds: float) -> list[float]:
    """Keep so many runs going."""
    end, found = time.perf_counter() + seconds, []

    async def repeat() -> None:
        while time.perf_counter() < end:
            found.append(await one())

    await asyncio.gather(*(repeat() for _ in range(parallel)))
    return found


async def _ours(kind: str, target: str, check: Any, stack: contextlib.AsyncExitStack) -> One:
    from stormwatch.probes.clock import SystemClock
    from stormwatch.probes.probe import Probe
    from stormwatch.probes.resources import Resources
    from stormwatch.probes.result import Outcome, Reason
    from stormwatch.probes.run import run_once

    resources = await stack.enter_async_context(Resources())
    clock = SystemClock()
    probe = Probe(name="bench", kind=kind, target=target, check=check)

    async def one() -> float:
        result = await run_once(probe, clock=clock, resources=resources)
        # A probe that timed out under the load counts with the seconds it took: it is an error of measurement too.
        if result.outcome is not Outcome.UP and result.reason is not Reason.TIMEOUT:
            raise SystemExit(f"our probe of {target} is {result.outcome}: {result.message}")
        return result.seconds

    return one


def _theirs(arguments: argparse.Namespace, stack: contextlib.AsyncExitStack) -> One:
    import pycurl

    from stormwatch.probes.curl import CurlEngine

    engine = CurlEngine()
    stack.push_async_callback(engine.aclose)
    asked = f"{arguments.exporter}/probe?module={arguments.module}&target={quote(arguments.target, safe='')}"
    duration = re.compile(rb"^probe_duration_seconds (\S+)$", re.MULTILINE)
    idle: list[pycurl.Curl] = []

    async def one() -> float:
        handle = idle.pop() if idle else pycurl.Curl()
        body: list[bytes] = []
        handle.setopt(pycurl.URL, asked)
        handle.setopt(pycurl.WRITEFUNCTION, body.append)
        ended = await engine.perform(handle)
        idle.append(handle)
        page = b"".join(body)
        found = duration.search(page)
        if ended.code or found is None or (b"\nprobe_success 1" not in page and float(found[1]) < 4.9):
            raise SystemExit(f"blackbox_exporter's probe of {arguments.target} failed: {ended} {page!r}")
        return float(found[1])

    return one


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# The bench


def arguments_of(
    given: Sequence[str], *, about: str | None, words: Iterable[str] = (), numbers: Iterable[str] = ()
) -> argparse.Namespace:
    """The options of a bench; `words` and `numbers` are those with which it starts itself as a server."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    for name in ("worker", "target", "ca", "exporter", "module", *words):
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)
    for name in ("rate", "parallel", *numbers):
        parser.add_argument(f"--{name}", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(given)


def missing(*programs: str) -> str:
    """What a bench needs and this machine does not have, as one sentence; empty when all is there."""
    absent = [name for name in programs if not program(name)]
    return f"this bench needs {' and '.join(absent)}: install them, on Debian with apt-get" if absent else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The targets and the exporter, listening."""

    bench: str
    """The module of the bench, which is its own worker."""
    targets: Mapping[str, str]
    exporter: str
    """The exporter's URL."""
    exporter_pid: int
    module: str
    """The exporter's module that does what ours does."""
    ca: str = ""

    def run(self, who: str, target: str, *, seconds: float, rate: int = 0, parallel: int = 0) -> Figures:
        """One measurement in a process of its own; CPU is that of the prober."""
        before = cpu_of(self.exporter_pid)
        command = [sys.executable, "-m", self.bench, "--worker", who, "--target", self.targets[target]]
        command += ["--seconds", str(seconds), "--rate", str(rate), "--parallel", str(parallel), "--ca", self.ca]
        command += ["--exporter", self.exporter, "--module", self.module]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise SystemExit(f"a measurement failed: {done.stderr[-2000:]}")
        found = json.loads(done.stdout)
        if who == "blackbox":
            # The runs that warm up are in the exporter's time too.
            found["cpu"] = (cpu_of(self.exporter_pid) - before) * found["runs"] / (found["runs"] + WARMING)
        return found

    def cpu(self, target: str, *, rate: int, seconds: float) -> Figures:
        """Milliseconds of CPU a probe at a steady rate."""
        # Twice, in turns, and the lower of each: what else runs on the machine disturbs neither more than the other.
        rounds = [
            {who: self.run(who, target, seconds=seconds, rate=rate) for who in order}
            for order in (PROBERS, PROBERS[::-1])
        ]
        cpu = {who: min(each[who]["cpu"] / each[who]["runs"] * 1e3 for each in rounds) for who in PROBERS}
        return {**cpu, "ratio": cpu["ours"] / cpu["blackbox"], "rate": rate}

    def speed(self, target: str, *, seconds: float) -> Figures:
        """Probes a second, sixteen at once."""
        found = {who: self.run(who, target, seconds=seconds, parallel=16) for who in PROBERS}
        return {who: each["runs"] / each["took"] for who, each in found.items()}

    def errors(self, target: str, *, seconds: float, rate: int = 0, parallel: int = 0) -> Figures:
        """Milliseconds by which the latency that was told is above `DELAY`."""
        return {who: _errors(self.run(who, target, seconds=seconds, rate=rate, parallel=parallel)) for who in PROBERS}


def _errors(found: Figures) -> dict[str, float]:
    errors = sorted((seconds - DELAY) * 1e3 for seconds in found["seconds"])
    return {"p50": errors[len(errors) // 2], "p99": errors[int(len(errors) * 0.99)], "runs": len(errors)}


def table(figures: Figures, *, above: str) -> str:
    """The figures of a bench for people: `cpu_ms` and `probes_per_second` by target, `error_ms` by load."""
    lines = [f"{'':34}{'stormwatch':>20}{'blackbox':>20}{'ratio':>8}"]
    for target, cpu in figures["cpu_ms"].items():
        what = f"CPU ms a probe, {target}, {cpu['rate']}/s"
        lines.append(f"{what:34}{cpu['ours']:20.3f}{cpu['blackbox']:20.3f}{cpu['ratio']:8.2f}")
    for target, speed in figures["probes_per_second"].items():
        what, ratio = f"probes/s, {target}, 16 parallel", speed["ours"] / speed["blackbox"]
        lines.append(f"{what:34}{speed['ours']:20.0f}{speed['blackbox']:20.0f}{ratio:8.2f}")
    for what, memory in figures.get("memory_mb", {}).items():
        lines.append(f"{f'MB, {what}':34}{memory['ours']:20.1f}{memory['blackbox']:20.1f}")
    lines += ["", f"{above:34}{'p50 / p99':>20}{'p50 / p99':>20}"]
    for load, error in figures["error_ms"].items():
        ours, theirs = (f"{error[who]['p50']:.2f} / {error[who]['p99']:.2f}" for who in PROBERS)
        lines.append(f"{load:34}{ours:>20}{theirs:>20}")
    return "\n".join(lines)


def exporter_command(modules: Path, port: int) -> list[str]:
    """How blackbox_exporter is started."""
    listen = f"--web.listen-address=127.0.0.1:{port}"
    return [program(EXPORTER), f"--config.file={modules}", listen, "--log.level=error"]


@contextlib.contextmanager
def children(commands: Iterable[tuple[Sequence[str], int]], log: Path) -> Generator[list[subprocess.Popen[bytes]]]:
    """Start each command and wait until it listens on its port; end them all in the end."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running(command, log=log, port=port)) for command, port in commands]


def serve_forever(server: Awaitable[None]) -> int:
    """Be one of the servers of a bench."""
    uvloop.run(server)  # type: ignore[arg-type]  # a coroutine
    return 0


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def program(name: str) -> str:
    """Where a program is; empty when it is nowhere."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""
