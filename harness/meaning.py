"""What a configuration means before it runs, for people and for Prometheus and Alertmanager."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stormwatch.exporters.history import HistoryUnavailable, Recorded
from stormwatch.harness.alertmanager_receivers import Receivers
from stormwatch.harness.config import Config
from stormwatch.harness.evaluation import EVALUATION
from stormwatch.harness.problem import Problem
from stormwatch.probes.units import show_duration
from stormwatch.slo.alertmanager import render_alertmanager
from stormwatch.slo.feasibility import (
    SHARES,
    Finding,
    Outlook,
    Weight,
    findings,
    findings_of_probe,
    outlook_of_probe,
    outlooks,
)
from stormwatch.slo.latency import Bounds
from stormwatch.slo.noise import MONTH, Noise, measure
from stormwatch.slo.prober import render_prober_rules, render_prober_tests
from stormwatch.slo.prometheus import render_rules, render_scrape
from stormwatch.slo.promtool import TestFile, render_tests

_SIGN = {Weight.ERROR: "✗", Weight.WARNING: "!", Weight.INFO: " "}


@dataclass(frozen=True, slots=True)
class Meaning:
    """Everything that is worth knowing about a valid configuration."""

    summary: str
    findings: tuple[Finding, ...]
    outlooks: tuple[Outlook, ...] = ()
    measured: str = ""
    """From which results noise was measured, for people."""

    def lines(self) -> list[str]:
        """For the terminal."""
        return [
            self.summary,
            *(f"{_SIGN[each.severity]} {each.text}" for each in self.findings),
            *_table(self.outlooks, self.measured),
        ]

    def as_json(self) -> dict[str, Any]:
        """A JSON object; infinite times are null."""
        return {
            "summary": self.summary,
            "outlooks": [_outlook_json(each) for each in self.outlooks],
            "findings": [
                {
                    "severity": each.severity.value,
                    "subject": each.subject,
                    "text": each.text,
                    "alert": each.alert.value if each.alert else None,
                    "failures": each.failures,
                    "detection": _bounds_json(each.detection) if each.detection else None,
                }
                for each in self.findings
            ],
        }


def measured_noise(config: Config, data: Path) -> dict[str, Noise]:
    """The noise of each probe in the history of the last 30 days. Raises Problem when there is none to be read."""
    file = data / "history.sqlite"
    if not file.exists():
        raise Problem(
            f"--data {data}: there is no history.sqlite in it; name the directory that `stormwatch run` keeps its data in"
        )
    known = {probe.name for probe in config.probes}
    try:
        history = Recorded(file)
        noise = measure(result for result in history.replay(time.time() - MONTH) if result.probe in known)
    except HistoryUnavailable as error:
        raise Problem(f"--data {data}: {error}") from error
    if not noise:
        raise Problem(
            f"--data {data}: {file} has no run of these probes in the last 30 days; run `stormwatch run` first"
        )
    return noise


def meaning(config: Config, *, noise: Mapping[str, Noise] | None = None) -> Meaning:
    """What the objectives and reachability alerts of a configuration mean in failures and seconds.

    `noise` was measured, by probe: with it, how often each alert is expected to fire for nothing.
    """
    found: list[Finding] = []
    for objective in config.objectives:
        found += findings(objective, config.probes, config.rules, evaluation_interval=EVALUATION)
    for probe in config.probes:
        found += findings_of_probe(probe, config.probes, config.rules, evaluation_interval=EVALUATION)
    counts = ((config.probes, "probe"), (config.objectives, "objective"), (config.drills, "drill"))
    parts = ", ".join(f"{len(them)} {noun}{'' if len(them) == 1 else 's'}" for them, noun in counts)
    seen: list[Outlook] = []
    for objective in config.objectives:
        seen += outlooks(objective, config.probes, config.rules, noise=noise, evaluation_interval=EVALUATION)
    for probe in config.probes:
        own = outlook_of_probe(probe, config.rules, noise=noise, evaluation_interval=EVALUATION)
        seen += [own] if own else []
    return Meaning(
        summary=f"{config.path} is valid: {parts}",
        findings=(*found, *_about_peers(config)),
        outlooks=tuple(seen),
        measured="" if noise is None else f"{sum(each.runs for each in noise.values()):,} runs of the last 30 days",
    )


def _about_peers(config: Config) -> list[Finding]:
    """A quorum without peers: Prometheus may know other locations, this process does not."""
    if config.peers:
        return []
    return [
        Finding(
            severity=Weight.WARNING,
            subject=name,
            text=f"{name} has a quorum of {quorum} and there are no `peers`: `stormwatch run` decides by itself and says QuorumDegraded; "
            "name the other locations in `peers`",
        )
        for name, quorum in config.quorums.items()
        if quorum > 1
    ]


def _table(outlooks: Sequence[Outlook], measured: str) -> list[str]:
    """Best and worst seconds of each alert, a line each."""
    if not outlooks:
        return []
    head = ["alert", "failed runs", *(f"seen at {100 // nth}%" for nth in SHARES), "over after"]
    rows = [
        [
            f"{each.subject} {each.severity.value}",
            "never" if each.failures is None else str(each.failures),
            *(_span(each.detection[nth]) for nth in SHARES),
            _span(each.reset),
            *([_a_month(each.false_a_month)] if measured else []),
        ]
        for each in outlooks
    ]
    head += ["false in 30d"] if measured else []
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
    note = (
        [f"  false alerts by the noise of {measured}: isolated failed runs, taken for independent"] if measured else []
    )
    return ["", *(f"  {line}" for line in lines), *note]


def _span(bounds: Bounds) -> str:
    if math.isinf(bounds.best) and math.isinf(bounds.worst):
        return "never"
    worst = "never" if math.isinf(bounds.worst) else show_duration(round(bounds.worst))
    return f"{show_duration(round(bounds.best))}…{worst}"


def _a_month(count: float | None) -> str:
    return "not measured" if count is None else "0" if count == 0 else "<0.001" if count < 0.001 else f"{count:.3g}"


def _outlook_json(each: Outlook) -> dict[str, Any]:
    return {
        "subject": each.subject,
        "alertname": each.alertname,
        "severity": each.severity.value,
        "when": each.when,
        "failures": each.failures,
        "detection": {f"{100 // nth}%": _bounds_json(bounds) for nth, bounds in each.detection.items()},
        "reset": _bounds_json(each.reset),
        "noise": each.noise,
        "false_a_month": each.false_a_month,
    }


def _bounds_json(bounds: Bounds) -> dict[str, float | None]:
    return {"best": _finite(bounds.best), "worst": _finite(bounds.worst)}


def prometheus_rules(config: Config) -> str:
    """The objectives and alerts as a Prometheus rule file."""
    return render_rules(config.objectives, config.rules, config.probes, version=version("stormwatch"))


def unit_tests(config: Config, *, rule_file: str) -> tuple[TestFile, ...]:
    """Tests of all alerts in `prometheus_rules`, for promtool. `rule_file` is its name beside them."""
    return render_tests(config.objectives, config.rules, config.probes, rule_file=rule_file)


def prober_rules() -> str:
    """The alerts about stormwatch itself as a Prometheus rule file."""
    return render_prober_rules()


def prober_tests(*, rule_file: str) -> str:
    """Tests of `prober_rules`, for promtool."""
    return render_prober_tests(rule_file=rule_file)


def scrape_config(listen: str) -> str:
    """The scrape configuration of a Prometheus that reads a `stormwatch run` at `host:port`."""
    return render_scrape([listen])


def alertmanager_config(config: Config, receivers: Receivers, *, watchdog: str = "") -> str:
    """An Alertmanager configuration that tells the channels of `alerts`, and `watchdog` of the alert that always fires."""
    return render_alertmanager(
        receivers.receivers, probes=config.probes, watchdog=watchdog, intervals=receivers.intervals
    )


def _finite(seconds: float) -> float | None:
    return None if seconds == float("inf") else seconds
