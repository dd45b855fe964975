"""An Alertmanager configuration that is ready to use: who hears of what, how soon, and what one alert makes superfluous.

page      at once                    told again every hour
high      after 30 s                 every 4 hours
ticket    collected for 2 min        twice a day
info      collected for 5 min        once a day
Watchdog  at once, every 5 min       to a dead man's switch, or to nobody
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stormwatch.probes.probe import Probe
from stormwatch.slo.alert import Severity
from stormwatch.slo.document import yaml_text
from stormwatch.slo.identity import clean_labels
from stormwatch.slo.prober import WATCHDOG

_TIERS: Mapping[Severity, tuple[str, str, str]] = {
    Severity.PAGE: ("0s", "10s", "1h"),
    Severity.HIGH: ("30s", "1m", "4h"),
    Severity.TICKET: ("2m", "5m", "12h"),
    Severity.INFO: ("5m", "10m", "1d"),
}
"""How long the first alert of a group waits for others, how long further ones do, when it is told again."""
CAN_WAIT = frozenset({Severity.TICKET, Severity.INFO})
"""What a receiver with hours is told of in these hours only. Who is woken at night is told of the rest at once."""
GROUP_BY = ("alertname", "objective", "probe")
"""Labels by which alerts are told together when nothing else is said."""
NOBODY = "nobody"
"""The receiver of alerts that no channel wants."""
RESERVED = frozenset({NOBODY, "watchdog"})
"""Names of receivers that are not channels."""
_OF_PROBES = "ProbeDown|ProbeNoEvidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Somebody who is told, and of what: a channel as Alertmanager knows it."""

    name: str
    settings: Mapping[str, Any]
    """Its keys besides the name: `pagerduty_configs`, `webhook_configs` … as Alertmanager reads them."""
    severities: frozenset[Severity] = frozenset(Severity)
    """Which alerts it is told of."""
    match: Mapping[str, str] = field(default_factory=dict[str, str])
    """Labels that they must have."""
    group_by: Sequence[str] = GROUP_BY
    """Labels by which they are told together."""
    hours: str = ""
    """The name of the time interval in which it is told of what can wait. Empty: always."""

    @property
    def hears_everything(self) -> bool:
        """Whether each alert goes there."""
        return not self.match and self.severities == frozenset(Severity)

    def hears(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels goes there."""
        return labels.get("severity") in self.severities and self.match.items() <= labels.items()


def render_alertmanager(
    receivers: Sequence[Receiver],
    *,
    probes: Iterable[Probe] = (),
    watchdog: str = "",
    intervals: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> str:
    """An Alertmanager configuration in which each alert goes to every receiver that wants it, as in process.

    `probes` say which alerts an outage explains. `watchdog` is the address of a dead man's switch, which is told all the time.
    `intervals` are the time intervals that receivers name. Raises ValueError when there is nobody to tell.
    """
    if not receivers:
        raise ValueError("no receiver is given, so nobody would hear of an alert; give one channel at least")
    default = next((each.name for each in receivers if each.hears_everything and not each.hours), NOBODY)
    return yaml_text(
        {
            **(
                {"time_intervals": [{"name": name, "time_intervals": list(each)} for name, each in intervals.items()]}
                if intervals
                else {}
            ),
            "route": {
                "receiver": default,
                "group_by": list(GROUP_BY),
                **_pace("30s", "1m", "12h"),
                "routes": [
                    {"matchers": [f'alertname="{WATCHDOG}"'], "receiver": "watchdog", **_pace("0s", "1m", "5m")},
                    *(
                        _route(each, severity)
                        for each in receivers
                        for severity in Severity
                        if severity in each.severities
                    ),
                ],
            },
            "inhibit_rules": [*_inhibitions(probes)],
            "receivers": [
                *({"name": each.name, **each.settings} for each in receivers),
                *([{"name": NOBODY}] if default == NOBODY else []),
                {
                    "name": "watchdog",
                    **({"webhook_configs": [{"url": watchdog, "send_resolved": False}]} if watchdog else {}),
                },
            ],
        }
    )


def _route(receiver: Receiver, severity: Severity) -> dict[str, Any]:
    """What one receiver is told of one severity. `continue` lets the other receivers hear of it too."""
    labels = {"severity": severity.value, **clean_labels(receiver.match)}
    return {
        "matchers": [f"{name}={_quoted(value)}" for name, value in labels.items()],
        "receiver": receiver.name,
        "continue": True,
        "group_by": list(receiver.group_by),
        **_pace(*_TIERS[severity]),
        **({"active_time_intervals": [receiver.hours]} if receiver.hours and severity in CAN_WAIT else {}),
    }


def _inhibitions(probes: Iterable[Probe]) -> Iterable[dict[str, Any]]:
    # Who was told about a burn need not read a lesser alert about the same one, nor that the budget is low.
    yield _inhibition(
        source=['severity="page"', 'alertname="ErrorBudgetBurn"'],
        target=['severity=~"ticket|info"', 'alertname=~"ErrorBudgetBurn|ErrorBudgetLow"'],
        equal=["objective"],
    )
    yield _inhibition(
        source=['severity="page"', 'alertname="CertificateExpiring"'],
        target=['severity="ticket"', 'alertname="CertificateExpiring"'],
        equal=["probe"],
    )
    # Nothing is watched then, so no probe gives evidence, and every instance is down.
    yield _inhibition(
        source=['alertname="StormwatchDown"'],
        target=['alertname=~"ProbeNoEvidence|StormwatchInstanceDown"'],
    )
    for dependency, dependants in _explained(probes).items():
        # The rules mute them, too; this also holds back one that was seen before its dependency was.
        yield _inhibition(
            source=['alertname="ProbeDown"', f'probe="{dependency}"'],
            target=[f'alertname=~"{_OF_PROBES}"', f'probe=~"{"|".join(_literal(name) for name in dependants)}"'],
        )


def _explained(probes: Iterable[Probe]) -> Mapping[str, Sequence[str]]:
    """By probe, what its outage explains: what depends on it, and what depends on that."""
    needs = {probe.name: probe.depends_on for probe in probes}
    explained: dict[str, list[str]] = {}
    for name, direct in needs.items():
        reached: dict[str, None] = {}
        ahead = [*direct]
        while ahead:
            if (dependency := ahead.pop(0)) not in reached and dependency != name:
                reached[dependency] = None
                ahead += needs.get(dependency, ())
        for dependency in reached:
            explained.setdefault(dependency, []).append(name)
    return explained


def _inhibition(*, source: list[str], target: list[str], equal: list[str] | None = None) -> dict[str, Any]:
    return {"source_matchers": source, "target_matchers": target, **({"equal": equal} if equal else {})}


def _quoted(value: str) -> str:
    """A value as Alertmanager reads it between quotes."""
    return json.dumps(value, ensure_ascii=False)


def _pace(wait: str, interval: str, again: str) -> dict[str, str]:
    return {"group_wait": wait, "group_interval": interval, "repeat_interval": again}


def _literal(name: str) -> str:
    """A probe's name in a regular expression: of what a name may have, only the dot means something there."""
    return name.replace(".", "[.]")
