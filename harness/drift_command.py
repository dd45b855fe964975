"""`stormwatch drift`: what Prometheus and Alertmanager run, compared with what the configuration says."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from stormwatch.harness import meaning
from stormwatch.harness.alertmanager_receivers import OLDEST, SECRETS, alerts_of, receivers_of
from stormwatch.harness.config import Config
from stormwatch.harness.drift_sources import PrometheusApi, alertmanager_api
from stormwatch.harness.problem import Exit, Problem
from stormwatch.harness.secret import Secrets
from stormwatch.probes.units import show_duration
from stormwatch.slo.alertmanager_routing import receivers_for
from stormwatch.slo.document import yaml_value
from stormwatch.slo.drift import EXPRESSION, Finding, GroupText, Moment, RunningGroup, drift_of_rules, groups_of
from stormwatch.slo.drift_alertmanager import drift_of_alertmanager
from stormwatch.slo.drift_scrape import DISCOVERED, UNKNOWN, Scraping, drift_of_scraping
from stormwatch.slo.prober import WATCHDOG
from stormwatch.slo.promql import plain_form

ARRIVES = 150.0
"""Seconds after which a firing alert must have arrived: it is sent at once, and again every minute."""
AGAIN = 0.5
"""Seconds between two looks at a Prometheus that was reloaded a moment ago."""
_SILENT = Finding(
    what="watchdog-missing",
    subject="Alertmanager",
    expected=f"{WATCHDOG}, which fires always",
    seen=f"it fires in Prometheus for more than {show_duration(ARRIVES)}, and did not arrive",
    remedy="see what the log of Prometheus says of sending alerts, and whether it sends to this Alertmanager",
)
_INDENT = "    "
_LONGEST = 400
"""Characters of an expression that are shown to a person; JSON has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who is compared, and by what measure."""

    prometheus: str = ""
    """Address; empty: it is not asked."""
    alertmanager: str = ""
    """Address; empty: it is not asked."""
    job: str = "stormwatch"
    """That scrapes `stormwatch run`."""
    listen: str = ""
    """The target that must be there; empty: any."""
    watchdog: str = ""
    """Where the alert that always fires goes from Alertmanager, as it was given to `stormwatch rules`."""
    secrets: str = SECRETS
    """Where Alertmanager finds secrets, as it was given to `stormwatch rules`."""
    version: tuple[int, int] = OLDEST
    """Of the Alertmanager, as it was given to `stormwatch rules`."""
    shared: bool = False
    """Whether the Alertmanager has others' alerts too."""
    interval: float = 15.0
    """Seconds that may pass between two scrapes, and between two evaluations."""
    settling: float = 12.0
    """Seconds after a reload in which Prometheus may not know targets and Alertmanagers yet: discovery has a pause of 5 s."""
    ignore_files: tuple[str, ...] = ()
    """Patterns of rule files that belong to others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What was compared, and every difference."""

    compared: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def code(self) -> Exit:
        """How the command ends."""
        return Exit.NOT_GOOD if self.findings else Exit.GOOD

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "drift": bool(self.findings),
            "compared": list(self.compared),
            "findings": [each.as_json() for each in self.findings],
        }

    def lines(self) -> list[str]:
        """For the terminal."""
        if not self.findings:
            return [f"no drift: {'; '.join(self.compared)}"]
        lines: list[str] = []
        for each in self.findings:
            lines += [
                f"✗ {each.what}: {each.subject}",
                f"{_INDENT}expected  {_short(each.expected)}",
                f"{_INDENT}seen      {_short(each.seen)}",
                f"{_INDENT}remedy    {each.remedy}",
            ]
        count = len(self.findings)
        return [*lines, f"{count} difference{'' if count == 1 else 's'}; compared: {'; '.join(self.compared)}"]


async def drift_of(config: Config, asked: Asked) -> Drift:
    """Every difference. Raises Problem (no verdict) when one of them does not answer.

    What may be missing only because Prometheus was reloaded a moment ago is looked at again until it had its time.
    """
    if not asked.prometheus and not asked.alertmanager:
        raise Problem("nobody is named to compare with; give --prometheus URL, --alertmanager URL, or both")
    compared: list[str] = []
    found: list[Finding] = []
    watchdog_fires = False
    async with AsyncExitStack() as stack:
        if asked.prometheus:
            prometheus = await stack.enter_async_context(PrometheusApi(asked.prometheus))
            more, running = await _of_prometheus(config, asked, prometheus)
            found += more
            watchdog_fires = _fires_for_long(running, prometheus.now)
            compared.append(
                f"{sum(len(group.rules) for group in running)} rules in {len(running)} groups at {prometheus.shown}"
            )
        if asked.alertmanager:
            alertmanager = await stack.enter_async_context(alertmanager_api(asked.alertmanager))
            receivers = receivers_of(config, secrets=asked.secrets, version=asked.version)
            wanted = yaml_value(meaning.alertmanager_config(config, receivers, watchdog=asked.watchdog))
            running_config = await alertmanager.config()
            different = drift_of_alertmanager(wanted, running_config, shared=asked.shared)
            found += different or _taken(config, wanted, running_config)
            if watchdog_fires and not await alertmanager.has(WATCHDOG):
                found.append(_SILENT)
            compared.append(f"the configuration of Alertmanager at {alertmanager.shown}")
    # An Alertmanager may run an address with a secret of ours in it.
    masked = Secrets.of(config.secrets).mask([each.as_json() for each in found])
    return Drift(compared=tuple(compared), findings=tuple(Finding(**each) for each in masked))


async def _of_prometheus(
    config: Config, asked: Asked, prometheus: PrometheusApi
) -> tuple[list[Finding], Sequence[RunningGroup]]:
    wanted = [*groups_of(meaning.prometheus_rules(config)), *groups_of(meaning.prober_rules())]
    running = await prometheus.groups(ignore=asked.ignore_files)
    scraping, found = await _of_scraping(config, asked, prometheus)
    moment = Moment(now=scraping.now, loaded=scraping.loaded, interval=asked.interval)
    found += await _of_rules(wanted, running, moment, prometheus)
    return found, [group for group in running if group.name in {each.name for each in wanted}]


async def _of_scraping(config: Config, asked: Asked, prometheus: PrometheusApi) -> tuple[Scraping, list[Finding]]:
    while True:
        seen = await prometheus.scraping(asked.job)
        found = drift_of_scraping(
            seen,
            job=asked.job,
            probes=[probe.name for probe in config.probes],
            interval=asked.interval,
            listen=asked.listen,
            alertmanager=asked.alertmanager,
        )
        # A first scrape comes within an interval; without it nothing is known of what is scraped.
        unknown = [target.interval for target in seen.targets if target.health == UNKNOWN]
        settling = max([asked.settling, *unknown]) if asked.settling else 0.0
        is_settled = not unknown and not any(each.what in DISCOVERED for each in found)
        if is_settled or seen.now - seen.loaded > settling:
            return seen, found
        await asyncio.sleep(AGAIN)


async def _of_rules(
    wanted: Sequence[GroupText], running: Sequence[RunningGroup], moment: Moment, prometheus: PrometheusApi
) -> list[Finding]:
    """Prometheus is asked only about expressions that are not the same at first sight: thousands of rules are not sent to it."""
    found = drift_of_rules(wanted, running, plain_form, moment)
    doubtful = {plain_form(text) for each in found if each.what == EXPRESSION for text in (each.expected, each.seen)}
    if not doubtful:
        return found
    every = {rule.expr for group in wanted for rule in group.rules}
    every |= {rule.text.expr for group in running for rule in group.rules}
    # All writings of a doubtful expression, so that what was the same at first sight stays the same.
    forms = await prometheus.canonical([text for text in every if plain_form(text) in doubtful])
    return drift_of_rules(wanted, running, lambda text: forms.get(text) or plain_form(text), moment)


def _taken(config: Config, wanted: Mapping[str, Any], running: Mapping[str, Any]) -> list[Finding]:
    """Alerts of ours that do not reach whom they should, though all our routes are there: others' routes come first."""
    taken: dict[tuple[str, str], list[str]] = {}
    for labels in alerts_of(config):
        expected, seen = (receivers_for(each["route"], labels) for each in (wanted, running))
        if not set(expected) <= set(seen):
            subject = f"{labels['alertname']}, {labels['severity']}"
            taken.setdefault((", ".join(expected), ", ".join(seen)), []).append(subject)
    return [
        Finding(
            what="route-taken",
            subject="; ".join(dict.fromkeys(subjects)),
            expected=f"told to {expected}",
            seen=f"told to {seen}",
            remedy="let our routes stand before the others, or let these `continue: true`",
        )
        for (expected, seen), subjects in taken.items()
    ]


def _fires_for_long(running: Sequence[RunningGroup], now: float) -> bool:
    """Whether the alert that always fires does so for longer than an alert needs to be sent."""
    return any(
        rule.fires_since is not None and now - rule.fires_since > ARRIVES
        for group in running
        for rule in group.rules
        if rule.text.name == WATCHDOG
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
