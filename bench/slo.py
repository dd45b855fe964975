"""What judging costs: seconds per evaluation of many objectives, per result, and memory for thirty days of results.

python -m bench slo            1,000 objectives by the workbook, a probe each, 30 days of a run every 5 minutes

What follows on a transition, its way to the outbox and through grouping, is `python -m bench notify`.
"""

import random
import resource
import sys
import time
from fractions import Fraction
from pathlib import Path

from stormwatch.probes.probe import Confirm, Probe
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.watch import Watch
from stormwatch.slo.evaluator import Evaluator
from stormwatch.slo.objective import Judgement, Objective
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.window import RUN_BYTES, Ledger

START = 1_767_225_600.0
HOUR, DAY = 3600, 86400
WINDOWS = (300, 1800, 3600, 7200, 21600, DAY, 3 * DAY, 30 * DAY)


def main(objectives: int = 1000) -> None:
    """Print the figures."""
    print(f"{'30 days of one objective, a run every 5 s':<52}{'runs stored':>12}{'memory':>12}{'per result':>12}")
    for name, irregular in (("steady: latencies differ by some milliseconds", False), ("irregular: by seconds", True)):
        ledger, seconds, count = _month(irregular=irregular)
        memory = f"{ledger.runs * RUN_BYTES / 1024:.0f} KiB"
        print(f"  {name:<50}{ledger.runs:>12,}{memory:>12}{seconds / count * 1e6:>9.1f} µs")

    for told, long, every, shares in (
        ("6 h of a run a minute", 6 * HOUR, 60, (("nothing fails", 0.0), ("every objective burns", 0.02))),
        ("30 days of a run every 5 minutes", 30 * DAY, 300, (("one run in 500 fails", 0.002),)),
    ):
        print(f"\n{objectives:,} objectives, {objectives:,} probes, {5 * objectives:,} rules; {told}")
        for name, share in shares:
            before = _resident()
            evaluator, observe = _filled(objectives, share, long=long, every=every)
            now = START + long
            evaluator.evaluate(now)
            taken = _resident() - before
            rounds = 20
            spent: list[float] = []
            for second in range(1, rounds + 1):
                began = time.perf_counter()
                evaluator.evaluate(now + second)
                spent.append(time.perf_counter() - began)
            print(
                f"  {name:<24} {sum(spent) / rounds * 1000:8.2f} ms per evaluation, at most {max(spent) * 1000:.2f} ms"
                f" {observe * 1e6:8.1f} µs per result {taken / 2**20:8.1f} MiB"
            )


def _month(*, irregular: bool) -> tuple[Ledger, float, int]:
    rng = random.Random(1)
    moments = [
        START + number * 5 + 0.3 + (rng.random() * 3 if irregular else rng.gauss(0.04, 0.005))
        for number in range(30 * DAY // 5)
    ]
    ledger = Ledger(WINDOWS)
    began = time.perf_counter()
    for number, at in enumerate(moments):
        ledger.add("front", at, Judgement.BAD if number % 997 == 0 else Judgement.GOOD)
    return ledger, time.perf_counter() - began, len(moments)


def _resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _filled(count: int, failing: float, *, long: int, every: int) -> tuple[Evaluator, float]:
    rng = random.Random(1)
    probes = [_probe(f"probe-{number}", every) for number in range(count)]
    objectives = [
        Objective(name=f"objective-{each.name}", probes=(each.name,), target=Fraction(999, 1000), window=30.0 * DAY)
        for each in probes
    ]
    rules = [rule for each in objectives for rule in rules_for_objective(each, probes[:1])]
    rules += [rule for each in probes for rule in rules_for_probe(each)]
    evaluator = Evaluator(objectives, rules, probes)
    spent = 0.0
    rounds = long // every
    for number in range(rounds):
        results = [_result(each.name, START + number * every + 0.2, down=rng.random() < failing) for each in probes]
        began = time.perf_counter()
        for each in results:
            evaluator.observe(each)
        spent += time.perf_counter() - began
    return evaluator, spent / (rounds * count)


async def _no_check(_watch: Watch) -> None:
    """These probes are not run."""


def _probe(name: str, every: float) -> Probe:
    return Probe(
        name=name, kind="http", target="", check=_no_check, every=float(every), confirm=Confirm(attempts=2, after=1.0)
    )


def _result(name: str, at: float, *, down: bool) -> Result:
    return Result(
        probe=name,
        kind="http",
        target="",
        location="",
        started=at - 0.05,
        seconds=0.05,
        outcome=Outcome.DOWN if down else Outcome.UP,
        reason=Reason.TIMEOUT if down else Reason.NONE,
    )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
