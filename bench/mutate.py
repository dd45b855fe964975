"""What mutation testing of the monitoring costs: mutants × recordings, in seconds, and per pair.

python -m bench mutate         50 probes, an objective each by the workbook; 20 recorded drills of one and a half minutes

No recording is made here: results are written down as a drill would, and judged once, before the clock starts.
"""

import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from stormwatch.chaos.detection import Observation, detect
from stormwatch.chaos.drill import Drill, ExpectedAlert, ExpectedProbe
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.mutation import State, examine
from stormwatch.chaos.playback import Monitoring, replay
from stormwatch.chaos.recording import Earlier, Recorded
from stormwatch.chaos.report import Report
from stormwatch.chaos.tcp_options import TcpBlackhole
from stormwatch.chaos.verdict import judge
from stormwatch.probes.probe import Confirm, Probe
from stormwatch.probes.result import Attempt, Outcome, Reason, Result
from stormwatch.probes.watch import Watch
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import rules_for_objective, rules_for_probe

START = 1_767_225_600.0
DAY, EVERY = 86400.0, 10.0
BEFORE, HELD, AFTER = 20.0, 40.0, 30.0
"""Seconds before the injection, until it is undone, and after that."""


def main(probes: int = 50, drills: int = 20) -> None:
    """Print the figures."""
    monitoring = _monitoring(probes)
    recordings = [_recorded(monitoring, number % probes) for number in range(drills)]
    began = time.perf_counter()
    examined = examine(monitoring, recordings)
    spent = time.perf_counter() - began
    counts = {state.value: examined.count(state) for state in State if examined.count(state)}
    mutants = len(examined.fates)
    print(f"{probes} probes, {len(monitoring.objectives)} objectives, {len(monitoring.rules)} rules")
    print(f"{mutants:,} mutants x {drills} recordings of {BEFORE + HELD + AFTER:.0f} s: {spent:.1f} s,", end=" ")
    print(f"{spent / (mutants * drills) * 1000:.2f} ms each")
    print(f"  {', '.join(f'{count:,} {name}' for name, count in counts.items())}")


async def _no_check(_watch: Watch) -> None:
    """These probes are not run."""


def _monitoring(count: int) -> Monitoring:
    probes = tuple(
        Probe(
            name=f"probe-{number}",
            kind="http",
            target="",
            check=_no_check,
            every=EVERY,
            timeout=2.0,
            confirm=Confirm(2, 0.5),
        )
        for number in range(count)
    )
    objectives = tuple(
        Objective(name=f"objective-{each.name}", probes=(each.name,), target=Fraction(999, 1000), window=30 * DAY)
        for each in probes
    )
    rules = [rule for each in probes for rule in rules_for_probe(each)]
    rules += [rule for each in objectives for rule in rules_for_objective(each, probes)]
    return Monitoring(probes=probes, rules=tuple(rules), objectives=objectives)


def _recorded(monitoring: Monitoring, broken: int) -> Recorded:
    """A drill on one probe, with a minute of results of all of them and an hour of the past."""
    name = f"probe-{broken}"
    drill = Drill(
        name=f"drill-{broken}",
        fault=FaultSpec(kind="tcp-blackhole", target="somewhere", options=TcpBlackhole()),
        probe=ExpectedProbe(name=name, reason=Reason.TIMEOUT, within=30),
        alert=ExpectedAlert(labels={"alertname": "ProbeDown", "probe": name, "severity": "page"}, within=40),
        resolves_within=60,
        allow=(f"objective-{name}",),
    )
    seen = Observation(
        started=START,
        ended=START + BEFORE + HELD + AFTER,
        injected=START + BEFORE,
        watched_until=START + BEFORE + HELD,
        reverted=START + BEFORE + HELD,
        evidence=Evidence(connections=3, first=START + BEFORE + 1, last=START + BEFORE + HELD),
    )
    results = sorted(_results(monitoring.probes, name), key=lambda result: result.finished)
    past = tuple(
        Earlier(each.name, START - EVERY * number, 0.05, Outcome.UP)
        for number in range(360, 0, -1)
        for each in monitoring.probes
    )
    recorded = Recorded(
        name=drill.name,
        began=START,
        ended=seen.ended,
        earlier=past,
        results=tuple(results),
        report=_report(drill, seen),
    )
    played = replay(monitoring, recorded)
    assert played.observation is not None
    return replace(recorded, transitions=played.transitions, report=_report(drill, played.observation))


def _results(probes: Iterable[Probe], broken: str) -> Iterable[Result]:
    length = BEFORE + HELD + AFTER
    for number, probe in enumerate(probes):
        first = number * EVERY / 50 % EVERY
        for run in range(int(length / EVERY)):
            at = first + run * EVERY
            down = probe.name == broken and BEFORE <= at < BEFORE + HELD
            yield _result(probe.name, START + at, down=down)


def _result(probe: str, at: float, *, down: bool) -> Result:
    outcome, reason = (Outcome.DOWN, Reason.TIMEOUT) if down else (Outcome.UP, Reason.NONE)
    attempts = tuple(
        Attempt(started=at + late, seconds=0.05, outcome=outcome, reason=reason, message="")
        for late in ((0.0, 0.6) if down else (0.0,))
    )
    return Result(
        probe=probe,
        kind="http",
        target="",
        location="",
        started=at,
        seconds=0.05,
        outcome=outcome,
        reason=reason,
        attempts=attempts,
    )


def _report(drill: Drill, seen: Observation) -> Report:
    detection = detect(drill, seen)
    return Report(drill=drill, detection=detection, judgement=judge(drill, detection))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
