"""The comparison of two renderings of one rule: the evaluator in process, and Prometheus with the rendered file.

Prometheus is the real one: `promtool test rules` loads the rendered file and the series that the real exporter shows at each
scrape, and tells which ALERTS there are after each evaluation. What of it are tests stands in `test_parity*.py`.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from stormwatch.exporters.process import ProcessMetrics
from stormwatch.exporters.prometheus import PrometheusExporter
from stormwatch.harness import telemetry
from stormwatch.probes.http import KIND as HTTP
from stormwatch.probes.probe import Probe
from stormwatch.probes.result import Result
from stormwatch.slo.evaluator import Evaluator
from stormwatch.slo.maintenance import Maintenance
from stormwatch.slo.objective import Objective
from stormwatch.slo.prometheus import render_rules
from stormwatch.slo.rule import Rule
from tests.slo.promtool import promtool

STEP = 15
"""Seconds between two scrapes, and between two evaluations."""

Series = dict[tuple[str, tuple[tuple[str, str], ...]], list[float | None]]
States = list[frozenset[tuple[tuple[tuple[str, str], ...], str]]]


@dataclass(frozen=True, eq=False)
class World:
    """What is configured in one comparison, and what happened: results by the step after which they are known."""

    probes: Sequence[Probe]
    objectives: Sequence[Objective]
    rules: Sequence[Rule]
    happened: Mapping[int, Sequence[Result]]
    steps: int
    maintenance: Sequence[Maintenance] = ()
    dead: Sequence[range] = ()
    """Steps during which the process was not there; it begins anew after each."""
    restarts: Sequence[int] = ()
    """Steps before which the process ends and begins anew, so quickly that no scrape misses it."""
    tolerance: int = 0
    """Steps before and after a change in which the other side may still or already say what comes."""
    blurred: Mapping[str, Sequence[range]] = field(default_factory=dict[str, Sequence[range]])
    """By the alert's name, steps in which counters that began anew after a gap cannot tell what results can."""
    name: str = ""


class Page:
    """What `/metrics` shows of one process: the real exporter, with what the service tells it of the evaluator."""

    def __init__(self, world: World, evaluator: Evaluator, started: float) -> None:
        self.now = started
        self.take = silent_of_itself(
            PrometheusExporter(
                world.probes,
                {"http": HTTP},
                started=started,
                sources=[
                    lambda: telemetry.objectives(world.objectives, evaluator.events()),
                    lambda: telemetry.periods(evaluator.periods(self.now)),
                    lambda: telemetry.maintenance(
                        world.probes, lambda probe: evaluator.in_maintenance(probe, self.now)
                    ),
                ],
            )
        )

    def samples(self, now: float) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """One scrape, of the metrics that the rules read."""
        self.now = now
        return samples(self.take)


def silent_of_itself(exporter: PrometheusExporter) -> PrometheusExporter:
    """Without the metrics of this process: no rule here reads them, and looking them up takes half of a scrape's time."""
    exporter.sources = [each for each in exporter.sources if not isinstance(each, ProcessMetrics)]
    return exporter


def samples(exporter: PrometheusExporter) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """One scrape of an exporter, of the metrics that the rules read."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for line in exporter.exposition().decode().splitlines():
        if line.startswith(METRICS):
            name, _, rest = line.partition("{")
            labels, _, value = rest.rpartition("} ")
            found[name, tuple(sorted(LABEL.findall(labels)))] = float(value)
    return found


LABEL = re.compile(r'(\w+)="([^"\\]*)"')
"""A label as it stands in an exposition; the values of these tests need no escapes."""
METRICS = (
    "probe_success{",
    "probe_ssl_earliest_cert_expiry{",
    "stormwatch_probe_evidence_timestamp_seconds{",
    "stormwatch_maintenance{",
    "stormwatch_objective_events_total{",
    "stormwatch_objective_period_e",
)


@cache
def live(world: World) -> tuple[Series, States]:
    """Run the evaluator through the history; what was scraped and which alerts there were, step by step.

    Once for each world, since a mistake in the rendered rules changes nothing of it. Time begins at 0, as it does for promtool. While the process is dead nothing is scraped and nothing is known.
    """
    series: Series = {}
    states: States = []
    evaluator, page, snapshot = None, None, None
    history: list[Result] = []
    for step in range(world.steps):
        now = float(step * STEP)
        if any(step in gone for gone in world.dead):
            if evaluator is not None:
                snapshot, evaluator = evaluator.snapshot(), None
            states.append(frozenset())
            continue
        if evaluator is not None and step in world.restarts:
            snapshot, evaluator = evaluator.snapshot(), None
        if evaluator is None or page is None:
            evaluator = Evaluator(world.objectives, world.rules, world.probes, maintenance=world.maintenance)
            page = Page(world, evaluator, now)
            if snapshot is not None:
                evaluator.restore(snapshot)
                evaluator.replay(history)
                evaluator.replay_inside(history)
        for each in world.happened.get(step, ()):
            evaluator.observe(each)
            page.take(each)
            history.append(each)
        evaluator.evaluate(now)
        for key, value in page.samples(now).items():
            series.setdefault(key, [None] * world.steps)[step] = value
        states.append(frozenset((change.alert.key, change.after.value) for change in evaluator.active()))
    return series, states


def promtool_test(world: World, series: Series, states: States) -> dict[str, Any]:
    """The same as one test of promtool: the series that went in, and the ALERTS that must come out."""
    checks = []
    for step in range(world.steps):
        near = {states[at] for at in range(step - world.tolerance, step + world.tolerance + 1) if 0 <= at < world.steps}
        if len(near) > 1 or any(step in gone for gone in world.dead):
            continue
        checks.append(
            {
                "expr": "ALERTS",
                "eval_time": f"{step * STEP}s",
                "exp_samples": [
                    {"labels": _shown("ALERTS", [*key, ("alertstate", state)]), "value": 1}
                    for key, state in states[step]
                ],
            }
        )
    return {
        "name": world.name,
        "interval": f"{STEP}s",
        "input_series": _input(series),
        "promql_expr_test": checks,
    }


def _input(series: Series) -> list[dict[str, str]]:
    return [{"series": _shown(name, labels), "values": _values(values)} for (name, labels), values in series.items()]


def _shown(name: str, labels: Iterable[tuple[str, str]]) -> str:
    return name + "{" + ", ".join(f'{label}="{value}"' for label, value in labels) + "}"


def _values(values: Sequence[float | None]) -> str:
    """A scrape that lacks a series that was there before marks it stale, as Prometheus does; then it is just not there."""
    shown, there = [], False
    for value in values:
        shown.append(f"{float(value):.10g}" if value is not None else "stale" if there else "_")
        there = value is not None
    return " ".join(shown)


def compare(worlds: Sequence[World], directory: Path, *, mistake: tuple[str, str] | None = None) -> tuple[int, str]:
    """The verdict of promtool on all worlds, which share one set of rules: exit code and what it printed.

    `mistake` is made in the rendered rules first: a text that stands there, and another in its place.
    """
    return _promtool(_rules_of(worlds, mistake), [promtool_test(world, *live(world)) for world in worlds], directory)


def timelines(
    worlds: Sequence[World], directory: Path, *, mistake: tuple[str, str] | None = None
) -> list[tuple[States, States]]:
    """Of each world which alerts there were at every step, in process and in Prometheus.

    promtool tells what it sees only where that is not what it was asked for; so it is asked for what never is.
    """
    lived = [live(world) for world in worlds]
    series = [(world.name, each, world.steps) for world, (each, _) in zip(worlds, lived, strict=True)]
    seen = prometheus_states(_rules_of(worlds, mistake), series, directory)
    return [(states, theirs) for (_, states), theirs in zip(lived, seen, strict=True)]


def prometheus_states(rules: str, histories: Sequence[tuple[str, Series, int]], directory: Path) -> list[States]:
    """Which alerts Prometheus has at every step of each history, which is a name, what was scraped, and its steps."""
    tests = [
        {
            "name": name,
            "interval": f"{STEP}s",
            "input_series": _input(series),
            "promql_expr_test": [
                {"expr": "ALERTS", "eval_time": f"{step * STEP}s", "exp_samples": [{"labels": "nothing", "value": 1}]}
                for step in range(steps)
            ],
        }
        for name, series, steps in histories
    ]
    _, said = _promtool(rules, tests, directory)
    looks = iter(GOT.findall(said))
    seen = [[_alerts(next(looks, "")) for _ in range(steps)] for _, _, steps in histories]
    assert len(GOT.findall(said)) == sum(steps for _, _, steps in histories), said
    return seen


GOT = re.compile(r"^ +got: (.*)$", re.MULTILINE)


def _alerts(text: str) -> frozenset[tuple[tuple[tuple[str, str], ...], str]]:
    """What promtool prints of a vector of ALERTS, as `Evaluator.active` has it."""
    found: list[tuple[tuple[tuple[str, str], ...], str]] = []
    for labels in re.findall(r"{(.*?)} 1E\+00", text):
        known = dict(LABEL.findall(labels))
        state = known.pop("alertstate")
        del known["__name__"]
        found.append((tuple(sorted(known.items())), state))
    return frozenset(found)


def differences(world: World, ours: States, theirs: States) -> list[str]:
    """Alerts that only one side has for more steps in a row than the world tolerates, with the first such stretch."""
    found: list[str] = []
    for alert in sorted(set[Any]().union(*ours, *theirs)):
        labels, state = alert
        unsure = [*world.dead, *world.blurred.get(dict(labels)["alertname"], ())]
        apart = 0
        for step in range(world.steps):
            differ = (alert in ours[step]) is not (alert in theirs[step])
            apart = apart + 1 if differ and not any(step in gone for gone in unsure) else 0
            if apart > world.tolerance:
                side = "in process" if alert in ours[step] else "in Prometheus"
                found.append(f"at step {step} {dict(labels)} is {state} {side} only")
                break
    return found


def transitions(states: States) -> list[str]:
    """Every change of a timeline, a line each."""
    lines: list[str] = []
    for step, (before, after) in enumerate(itertools.pairwise([frozenset(), *states])):
        for sign, changed in (("+", after - before), ("-", before - after)):
            for labels, state in sorted(changed):
                shown = " ".join(value for _, value in labels)
                lines.append(f"{step * STEP:>7} s  {sign} {state:<8} {shown}")
    return lines


def _rules_of(worlds: Sequence[World], mistake: tuple[str, str] | None) -> str:
    first = worlds[0]
    rules = render_rules(first.objectives, first.rules, first.probes)
    if mistake:
        assert mistake[0] in rules
        rules = rules.replace(*mistake)
    return rules


def _promtool(rules: str, tests: Sequence[dict[str, Any]], directory: Path) -> tuple[int, str]:
    (directory / "rules.yml").write_text(rules)
    (directory / "test.yml").write_text(
        json.dumps({"rule_files": ["rules.yml"], "evaluation_interval": f"{STEP}s", "tests": tests})
    )
    done = promtool(directory, "test.yml")
    return done.returncode, done.stdout + done.stderr
