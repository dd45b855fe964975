"""Memory of one warm worker over many runs: that of the worker, its driver and its browser, and what is left at the end.

    python -m bench.journeys_memory [--runs 1500] [--every 50] [--format json]

The same journey as in `bench.journeys`, recorded and observed as on schedule, run after run. First in one worker that is never
replaced, then, for 500 runs, with a pool as it is by default, which replaces its worker every 200 runs. Memory is looked at
between two runs: `RSS` of each process for itself, program and all, and `own`, what was allocated.

Growth is told for our process, Playwright's driver and the browser each: from the least that was seen in the first half, after
the 100 runs in which caches fill, to the least in the second. Lines through all that was seen would say when the driver collected
its garbage, which it does every 100 to 600 runs: with fewer than 1,500 a half may be without. Bar: at most 20 kB a run, of
`RSS` and `own` of each, in the worker that is never replaced (4 MB until it would be), and no process, descriptor or file left
at the end.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench._processes import Size, size_of, tag, tagged
from bench._two_pages import TEST, serving
from stormwatch.journeys.pool import RUNS_PER_WORKER, Journey, WorkerPool
from stormwatch.probes.result import Outcome

RUNS: Final = 1500
REPLACED_RUNS: Final = 500
"""At most, of the pool that replaces its worker."""
EVERY: Final = 50
GROWTH_BAR: Final = 20_000
"""Bytes a run."""
ROLES: Final = ("worker", "driver", "browser")
_SETTLED: Final = 100
"""Runs in which caches fill."""
_SETTLING: Final = 2.0
"""Seconds in which a browser that is left alone comes to rest."""
_LOOKS: Final = 4
_NAME: Final = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was there after so many runs."""

    runs: int
    worker: Size
    """Our process."""
    driver: Size
    """Playwright's node."""
    browser: Size
    """All of Chromium."""
    files: int
    """In the worker's directory."""
    kinds: Mapping[str, int]
    """How many processes of each kind the browser has, in its own words."""

    @property
    def own_bytes(self) -> int:
        """What all together have allocated."""
        return self.worker.own_bytes + self.driver.own_bytes + self.browser.own_bytes

    @property
    def processes(self) -> int:
        """Of all together."""
        return self.worker.processes + self.driver.processes + self.browser.processes

    @property
    def descriptors(self) -> int:
        """Of all together."""
        return self.worker.descriptors + self.driver.descriptors + self.browser.descriptors


def look(runs: int, scratch: Path) -> Look:
    """Look at all processes now."""
    roles: dict[str, set[int]] = {role: set() for role in ROLES}
    kinds: Counter[str] = Counter()
    for pid in tagged(_NAME):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        role = "worker" if b"journeys.worker" in command else "driver" if b"playwright/driver" in command else "browser"
        roles[role].add(pid)
        if role == "browser":
            named = re.search(rb"--(?:utility-sub-)?type=([\w.]+)\0(?:.*--utility-sub-type=([\w.]+))?", command)
            kinds[(named[2] or named[1]).decode() if named else "browser"] += 1
    files = sum(path.is_file() for path in scratch.rglob("*"))
    return Look(
        runs=runs, files=files, kinds=dict(kinds), **{role: size_of(frozenset(pids)) for role, pids in roles.items()}
    )


async def settled_look(runs: int, scratch: Path) -> Look:
    """Look when the browser has let go of the pages of the last run: it ends their processes in its own time."""
    seen: list[Look] = []
    for _ in range(_LOOKS):
        await asyncio.sleep(_SETTLING / _LOOKS)
        seen.append(await asyncio.to_thread(look, runs, scratch))
    return min(seen, key=lambda each: each.own_bytes)


async def watched(url: str, *, runs: int, every: int, runs_per_worker: int) -> Mapping[str, Any]:
    """So many runs in a row, what was seen every so often, and what is left."""
    with tempfile.TemporaryDirectory(prefix="swb-") as name:
        folder = Path(name)
        suite, scratch = folder / "suite", folder / "tmp"
        suite.mkdir()
        scratch.mkdir()
        file = suite / "test_two_pages.py"
        file.write_text(TEST.format(url=url))
        (suite / "pytest.ini").write_text("[pytest]\n")
        tempfile.tempdir = str(scratch)
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        pool = WorkerPool(artifacts=folder / "artifacts", runs_per_worker=runs_per_worker)
        journey = Journey(file=file, test="test_two_pages", environment=tag(_NAME))
        looks: list[Look] = []
        try:
            for number in range(1, runs + 1):
                report = await pool.run(journey, seconds=60, folder="run")
                if report.outcome is not Outcome.UP:
                    raise SystemExit(f"run {number} is {report.outcome}: {report.sentence}")
                if number % every == 0 or number == 1:
                    looks.append(await settled_look(number, scratch))
                    if len(looks) > 1 and looks[-1].kinds != looks[-2].kinds:
                        print(f"{looks[-2].kinds} became {looks[-1].kinds}", file=sys.stderr, flush=True)
                    told = f"{number} runs: {looks[-1].own_bytes / 1e6:.1f} MB, {looks[-1].processes} processes"
                    print(f"{told}, {looks[-1].descriptors} descriptors", file=sys.stderr, flush=True)
        finally:
            await pool.aclose()
            tempfile.tempdir = None
        return {
            "runs_per_worker": runs_per_worker,
            "looks": [asdict(each) for each in looks],
            "growth": {
                role: {
                    "bytes_per_run": growth([(each.runs, getattr(each, role).bytes) for each in looks]),
                    "own_bytes_per_run": growth([(each.runs, getattr(each, role).own_bytes) for each in looks]),
                }
                for role in ROLES
            },
            "left": {
                "processes": len(tagged(_NAME)),
                "descriptors": len(list(Path("/proc/self/fd").iterdir())) - descriptors,
                "files": sum(path.is_file() for path in scratch.rglob("*")),
            },
        }


def growth(seen: Sequence[tuple[int, int]]) -> float:
    """Bytes a run, from the least in one half to the least in the other. `seen`: bytes after so many runs."""
    # Nothing at all: its worker had just been replaced.
    settled = [each for each in seen if each[0] >= _SETTLED and each[1]]
    middle = len(settled) // 2
    if not middle:
        return 0.0
    (early, low), (late, high) = (min(half, key=lambda each: each[1]) for half in (settled[:middle], settled[middle:]))
    return (high - low) / (late - early)


def table(found: Mapping[str, Any]) -> str:
    """For people."""
    head = ("worker", "driver", "browser", "RSS", "own", "processes", "descriptors", "files")
    lines = [f"{'runs':>8}" + "".join(f"{each:>13}" for each in head)]
    for each in found["looks"]:
        parts = [each[role] for role in ROLES]
        megabytes = [part["bytes"] / 1e6 for part in parts]
        megabytes += [sum(megabytes), sum(part["own_bytes"] for part in parts) / 1e6]
        counts = [*(sum(part[what] for part in parts) for what in ("processes", "descriptors")), each["files"]]
        cells = [*(f"{value:13.1f}" for value in megabytes), *(f"{value:13}" for value in counts)]
        lines.append(f"{each['runs']:8}{''.join(cells)}")
    left = ", ".join(f"{count} {what}" for what, count in found["left"].items())
    grown = "; ".join(
        f"{role} RSS {of['bytes_per_run'] / 1e3:+.1f}, own {of['own_bytes_per_run'] / 1e3:+.1f} kB a run"
        for role, of in found["growth"].items()
    )
    return "\n".join([*lines, f"growth: {grown}", f"left at the end: {left}"])


def main() -> bool:
    """Run, and print. Returns whether the bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.journeys_memory")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--every", type=int, default=EVERY)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    asked, _ = parser.parse_known_args()
    answer: dict[str, Any] = {}
    with serving() as url:
        for name, limit in (("never replaced", sys.maxsize), ("by default", RUNS_PER_WORKER)):
            runs = asked.runs if limit == sys.maxsize else min(asked.runs, REPLACED_RUNS)
            answer[name] = asyncio.run(watched(url, runs=runs, every=asked.every, runs_per_worker=limit))
            if asked.format == "text":
                print(f"{name}: MB\n{table(answer[name])}\n", flush=True)
    if asked.format == "json":
        print(json.dumps(answer))
    lasting = answer["never replaced"]
    missed = max(each for of in lasting["growth"].values() for each in of.values()) > GROWTH_BAR
    missed |= any(any(found["left"].values()) for found in answer.values())
    if missed:
        print(f"bar missed: at most {GROWTH_BAR / 1e3:g} kB a run, and nothing left", file=sys.stderr)
    return missed


if __name__ == "__main__":
    sys.exit(main())
