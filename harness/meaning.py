"""What a configuration means before it runs, for people and for Prometheus and Alertmanager."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from stormwatch.harness.alertmanager_receivers import Receivers
from stormwatch.harness.config import Config
from stormwatch.harness.service import EVALUATION
from stormwatch.slo.alertmanager import render_alertmanager
from stormwatch.slo.feasibility import Finding, Weight, findings, findings_of_probe
from stormwatch.slo.prober import render_prober_rules, render_prober_tests
from stormwatch.slo.prometheus import render_rules, render_scrape
from stormwatch.slo.promtool import TestFile, render_tests

_SIGN = {Weight.ERROR: "✗", Weight.WARNING: "!", Weight.INFO: " "}


@dataclass(frozen=True, slots=True)
class Meaning:
    """Everything that is worth knowing about a valid configuration."""

    summary: str
    findings: tuple[Finding, ...]

    def lines(self) -> list[str]:
        """For the terminal."""
        return [self.summary, *(f"{_SIGN[each.severity]} {each.text}" for each in self.findings)]

    def as_json(self) -> dict[str, Any]:
        """A JSON object; infinite times are null."""
        return {
            "summary": self.summary,
            "findings": [
                {
                    "severity": each.severity.value,
                    "subject": each.subject,
                    "text": each.text,
                    "alert": each.alert.value if each.alert else None,
                    "failures": each.failures,
                    "detection": {"best": _finite(each.detection.best), "worst": _finite(each.detection.worst)}
                    if each.detection
                    else None,
                }
                for each in self.findings
            ],
        }


def meaning(config: Config) -> Meaning:
    """What the objectives and reachability alerts of a configuration mean in failures and seconds."""
    found: list[Finding] = []
    for objective in config.objectives:
        found += findings(objective, config.probes, config.rules, evaluation_interval=EVALUATION)
    for probe in config.probes:
        found += findings_of_probe(probe, config.probes, config.rules, evaluation_interval=EVALUATION)
    counts = ((config.probes, "probe"), (config.objectives, "objective"), (config.drills, "drill"))
    parts = ", ".join(f"{len(them)} {noun}{'' if len(them) == 1 else 's'}" for them, noun in counts)
    return Meaning(summary=f"{config.path} is valid: {parts}", findings=tuple(found))


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
