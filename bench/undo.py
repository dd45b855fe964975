"""Faults left behind when whoever injected them is killed: SIGKILL at every step of every fault, then what is left is counted.

    python -m bench.undo
    python -m bench.undo --only 'net-*' --format json

Enumerated, not sampled. Each owner is a process of its own with a thing of its own to break: a route of the fault proxy, a
process, a file system, a network namespace, a proxy of Toxiproxy's API, a container, a workload, a journey. It is healed once without anybody (by the proxy's lease, or by the reaper) and once
by `stormwatch undo` alone, with the reaper killed before its owner. Faults of the host need root, and what they use: stress-ng,
libfaketime, nftables, iproute2. The APIs of containers and of Kubernetes are small ones of ours. What the machine does not offer is said, and not counted.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

from stormwatch.chaos.undo import UndoJournal, UndoState
from tests.chaos.api_examples import BY_API, kill_each, reached
from tests.chaos.api_examples import left_in_the_end as left_by_api
from tests.chaos.deaths import STEPS, Nursery, left_in_the_end, victims
from tests.chaos.examples import ON_ROUTES
from tests.chaos.host_examples import HELD, offered
from tests.chaos.test_proxy_fault import _all_pass as all_pass  # pyright: ignore[reportPrivateUsage]
from tests.chaos.test_proxy_fault import _in_place as in_place  # pyright: ignore[reportPrivateUsage]
from tests.chaos.test_proxy_fault import _kill_at_each_step as kill_at_each_step  # pyright: ignore[reportPrivateUsage]
from tests.chaos.test_proxy_fault import _many_routes as many_routes  # pyright: ignore[reportPrivateUsage]

LEASE = 3.0
"""Seconds, of a fault on a route: as short as an owner that is alive can renew it on a busy machine."""
NEEDED = {"nft": "net-[pl]*", "tc": "net-*", "stress-ng": "*-stress", "faketime": "clock-shift", "mount": "disk-*"}


@dataclass(frozen=True, slots=True)
class Row:
    """What was seen of one fault healed in one way."""

    fault: str
    by: str
    """`lease`, `reaper` or `undo`."""
    deaths: int
    left: tuple[str, ...]
    """What was left behind, in words."""
    seconds: float
    """Until nothing was left, after the last death; of `undo` what it took."""


def main() -> int:
    """Print the table and its counts; exit code 1 when anything is left."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--only", default="*", metavar="GLOB", help="faults whose name matches")
    options.add_argument("--format", choices=("text", "json"), default="text")
    chosen = options.parse_args([] if sys.argv[0].endswith("__main__.py") else None)
    skipped = {kind: why for kind in HELD if fnmatch(kind, chosen.only) and (why := not_offered(kind))}
    rows: list[Row] = []
    if chosen.format == "text":
        print(f"{'fault':<26}{'healed by':<11}{'deaths':>7}{'left':>6}{'seconds':>9}")
    for row in _rows(chosen.only, skipped):
        rows.append(row)
        if chosen.format == "text":
            print(f"{row.fault:<26}{row.by:<11}{row.deaths:>7}{len(row.left):>6}{row.seconds:>9.2f}", flush=True)
            print("".join(f"    {what}\n" for what in row.left), end="", flush=True)
    deaths, left = sum(row.deaths for row in rows), sum(len(row.left) for row in rows)
    if chosen.format == "json":
        document = {"rows": [asdict(row) for row in rows], "deaths": deaths, "left": left, "not_offered": skipped}
        print(json.dumps(document, indent=2))
    else:
        faults = len({row.fault for row in rows})
        print(f"{faults} faults, {len(STEPS)} steps, 2 ways to heal: {deaths} deaths, {left} left behind")
        print("".join(f"not offered by this machine: {kind}: {why}\n" for kind, why in skipped.items()), end="")
    return 1 if left else 0


def not_offered(kind: str) -> str:
    """What is missing for a fault; empty when nothing is."""
    missing = [name for name, faults in NEEDED.items() if fnmatch(kind, faults) and shutil.which(name) is None]
    return f"{missing[0]} is not installed" if missing else "" if offered(kind) else "the kernel has no netem"


def _rows(only: str, skipped: dict[str, str]) -> Iterator[Row]:
    routed = [kind for kind in ON_ROUTES if fnmatch(kind, only)]
    for kind in routed:
        yield asyncio.run(_on_routes(kind, by="lease"))
        yield asyncio.run(_on_routes(kind, by="undo"))
    held = [kind for kind in HELD if fnmatch(kind, only) and kind not in skipped]
    if held:
        with Nursery() as nursery:
            for kind in held:
                yield _on_the_host(nursery, kind, by="reaper")
                yield _on_the_host(nursery, kind, by="undo")
    asked = [kind for kind in BY_API if fnmatch(kind, only)]
    if asked:
        with tempfile.TemporaryDirectory() as state:
            # Faults in the browser are files there, which owners have to find.
            os.environ["STORMWATCH_STATE"] = state
            with Nursery() as nursery:
                for kind in asked:
                    yield asyncio.run(_by_api(nursery, kind, by="reaper"))
                    yield asyncio.run(_by_api(nursery, kind, by="undo"))


async def _on_routes(kind: str, *, by: str) -> Row:
    """Every step of a fault on a route, each on a route of its own."""
    deaths = [(kind, step) for step in STEPS]
    with tempfile.TemporaryDirectory() as directory:
        journal = UndoJournal(Path(directory))
        async with many_routes(deaths) as proxy:
            await kill_at_each_step(proxy, Path(directory), deaths, lease=LEASE if by == "lease" else 600)
            began = time.monotonic()
            failed: list[str] = []
            if by == "undo":
                failed = await _undone(journal)
            while (there := await in_place(proxy)) and by == "lease" and time.monotonic() < began + LEASE + 10:
                await asyncio.sleep(0.05)
            took = time.monotonic() - began
            left = [f"{fault} on {route}" for route, fault in there] + failed
            await all_pass(proxy, deaths)
            if by == "lease":
                # The lease takes the fault away; that its record is answered for is what undo is for.
                left += await _undone(journal)
            left += [f"the record {path.name}" for path in journal.directory.iterdir()]
    return Row(kind, by, len(deaths), tuple(left), took)


def _on_the_host(nursery: Nursery, kind: str, *, by: str) -> Row:
    """Every step of a fault of the host, each on a thing of its own."""
    with tempfile.TemporaryDirectory(prefix="stormwatch-bench-") as directory:
        journal = UndoJournal(Path(directory, "undo"))
        with victims(kind, len(STEPS), Path(directory)) as broken:
            nursery.kill_each(broken, STEPS, journal.directory, reaper_too=by == "undo")
            began = time.monotonic()
            failed = asyncio.run(_undone(journal)) if by == "undo" else []
            left = [*failed, *left_in_the_end(broken, journal)]
            took = time.monotonic() - began
    return Row(kind, by, len(STEPS), tuple(left), took)


async def _by_api(nursery: Nursery, kind: str, *, by: str) -> Row:
    """Every step of a fault that is put by an API, each on a thing of its own."""
    with tempfile.TemporaryDirectory(prefix="stormwatch-bench-") as directory:
        journal = UndoJournal(Path(directory, "undo"))
        async with reached([kind] * len(STEPS)) as broken:
            await kill_each(nursery, broken, STEPS, journal.directory, reaper_too=by == "undo")
            began = time.monotonic()
            failed = await _undone(journal) if by == "undo" else []
            left = [*failed, *await left_by_api(broken, journal)]
            took = time.monotonic() - began
    return Row(kind, by, len(STEPS), tuple(left), took)


async def _undone(journal: UndoJournal) -> list[str]:
    """What `stormwatch undo` could not take back."""
    return [
        f"{outcome.what}: {outcome.why}"
        for outcome in await journal.undo_all()
        if outcome.state in (UndoState.FAILED, UndoState.LEFT_ALONE)
    ]


if __name__ == "__main__":
    sys.exit(main())
