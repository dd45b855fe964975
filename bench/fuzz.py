"""A million bad inputs for every reader of bytes, and fifty thousand runs whose answers are spoilt on the way.

The first part gives each reader of `tests/probes/parsers.py` its share of mutated inputs. The second part runs real checks
through `run_once`, over real sockets, against real servers whose answers a relay spoils: redis-server, nats-server,
PostgreSQL and MariaDB must be installed for it. Exit code 1 when a reader raised what it must not, or when a run raised, was
broken for a reason of ours, outlived its deadline, or left a descriptor open.
"""

import argparse
import asyncio
import ctypes
import gc
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.probes.fuzzing import Fuzzed, fuzz, shares
from tests.probes.parsers import parsers
from tests.probes.soaking import Soaked, own_cases, program_cases, soak
from tests.servers.probing import open_files, settle

ROUNDS = 10
"""Times that each reader has its turn: memory is looked at in between."""


def main(given: Sequence[str] = ()) -> int:
    """Both parts; prints as it goes."""
    ask = argparse.ArgumentParser(prog="bench/fuzz.py")
    ask.add_argument("--inputs", type=int, default=1_000_000)
    ask.add_argument("--runs", type=int, default=50_000)
    ask.add_argument("--seed", type=int, default=1, help="the same number makes the same inputs")
    asked = ask.parse_args(given)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="stormwatch-fuzz-") as directory:
        if asked.inputs:
            wrong += _read(Path(directory), asked.inputs, asked.seed)
        if asked.runs:
            wrong += asyncio.run(_run(Path(directory), asked.runs, asked.seed))
    return 1 if wrong else 0


def _read(directory: Path, inputs: int, seed: int) -> int:
    readers = parsers(directory)
    wanted = shares(readers, inputs // ROUNDS)
    total: dict[str, Fuzzed] = {reader.name: Fuzzed(reader.name) for reader in readers}
    began, memory = time.perf_counter(), list[float]()
    for number in range(ROUNDS):
        for reader in readers:
            _add(total[reader.name], fuzz(reader, wanted[reader.name], seed * 1000 + number))
        memory.append(_resident())
        done = sum(each.inputs for each in total.values())
        print(f"{done:>9,} inputs  {time.perf_counter() - began:6.1f} s  {memory[-1]:6.1f} MiB", flush=True)
    print(f"\n{'reader':24} {'inputs':>8} {'per second':>10} {'read':>6} {'slowest':>10}")
    for each in total.values():
        print(
            f"{each.name:24} {each.inputs:>8,} {each.inputs / each.seconds:>10,.0f} {each.accepted / each.inputs:>6.0%} "
            f"{each.slowest * 1000:>7.1f} ms"
        )
    # Caches of the readers are full after the first rounds; what grows then grows for ever.
    print(f"\nmemory: {memory[0]:.1f} MiB after the first round, {memory[-1]:.1f} MiB after the last")
    findings = [(name, finding) for name, each in total.items() for finding in each.findings.values()]
    for name, finding in findings:
        print(f"\n{name}: {finding}")
    return len(findings)


def _add(whole: Fuzzed, part: Fuzzed) -> None:
    whole.inputs += part.inputs
    whole.seconds += part.seconds
    whole.accepted += part.accepted
    if part.slowest > whole.slowest:
        whole.slowest, whole.slowest_input = part.slowest, part.slowest_input
    for place, finding in part.findings.items():
        whole.findings.setdefault(place, finding)


async def _run(directory: Path, runs: int, seed: int) -> int:
    found: list[Soaked] = []
    before = open_files()
    async with own_cases(directory, seed) as own, program_cases(directory, seed) as programs:
        cases = (*own, *programs)
        each, memory = -(-runs // len(cases)), list[float]()
        print(f"\n{'probe':14} {'runs':>6} {'per second':>10} {'slowest':>8} {'memory':>10}  how they ended")
        for case in cases:
            # The first runs import drivers and fill caches: what grows after them grows with the runs.
            await soak(case, min(50, each))
            held = _resident()
            came = await soak(case, each)
            found.append(came)
            memory.append(_resident())
            endings = ", ".join(f"{what} {count}" for what, count in came.endings.most_common())
            print(
                f"{came.name:14} {came.runs:>6,} {came.runs / came.seconds:>10,.0f} {came.slowest:>6.2f} s "
                f"{memory[-1] - held:>+6.1f} MiB  {endings}",
                flush=True,
            )
            for what, count in Counter(wrong[:300] for wrong in came.wrong).most_common(10):
                print(f"    {count} times: {what}")
        total = sum(came.runs for came in found)
        print(
            f"\n{total:,} runs, {sum(came.seconds for came in found):.0f} s; {memory[0]:.1f} MiB after the first case, {memory[-1]:.1f} MiB after the last"
        )
    left = await settle(before) - before
    print(f"descriptors left open: {max(0, left)}")
    return sum(len(came.wrong) for came in found) + max(0, left)


def _resident() -> float:
    """MiB of memory that is really held: what the allocator keeps for later is given back first."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
