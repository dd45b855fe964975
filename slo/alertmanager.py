"""An Alertmanager configuration that is ready to use: who hears of what, how soon, and what one alert makes superfluous.

page      at once                    told again every hour
high      after 30 s                 every 4 hours
ticket    collected for 2 min        twice a day
info      collected for 5 min        once a day
Watchdog  at once, every 5 min       to a dead man's switch, or to nobody
"""

from collections.abc import Iterable, Mapping
from typing import Any

from stormwatch.probes.probe import Probe
from stormwatch.slo.alert import Severity
from stormwatch.slo.document import yaml_text
from stormwatch.slo.prober import WATCHDOG

_TIERS: Mapping[Severity, tuple[str, str, str]] = {
    Severity.PAGE: ("0s", "10s", "1h"),
    Severity.HIGH: ("30s", "1m", "4h"),
    Severity.TICKET: ("2m", "5m", "12h"),
    Severity.INFO: ("5m", "10m", "1d"),
}
"""How long the first alert of a group waits for others, how long further ones do, when it is told again."""
_OF_PROBES = "ProbeDown|ProbeNoEvidence"


def render_alertmanager(webhooks: Mapping[Severity, str], *, probes: Iterable[Probe] = (), watchdog: str = "") -> str:
    """An Alertmanager configuration with a route for each severity, to its webhook.

    `webhooks` gives the address for each severity; one that is missing goes where tickets go, else where pages go.
    `probes` say which alerts an outage explains. `watchdog` is the address of a dead man's switch, which is told all the time.
    Raises ValueError when there is no address at all.
    """
    fallback = webhooks.get(Severity.TICKET) or webhooks.get(Severity.PAGE) or next(iter(webhooks.values()), "")
    if not fallback:
        raise ValueError("no webhook is given, so nobody would hear of an alert; give one for page or ticket")
    receivers = [("default", fallback), *((each.value, webhooks[each]) for each in Severity if each in webhooks)]
    return yaml_text(
        {
            "route": {
                "receiver": "default",
                "group_by": ["alertname", "objective", "probe"],
                **_pace("30s", "1m", "12h"),
                "routes": [
                    {
                        "matchers": [f'alertname="{WATCHDOG}"'],
                        "receiver": "watchdog",
                        **_pace("0s", "1m", "5m"),
                    },
                    *(
                        {
                            "matchers": [f'severity="{severity.value}"'],
                            "receiver": severity.value if severity in webhooks else "default",
                            **_pace(*tier),
                        }
                        for severity, tier in _TIERS.items()
                    ),
                ],
            },
            "inhibit_rules": [*_inhibitions(probes)],
            "receivers": [
                *({"name": name, "webhook_configs": [{"url": url, "send_resolved": True}]} for name, url in receivers),
                {
                    "name": "watchdog",
                    **({"webhook_configs": [{"url": watchdog, "send_resolved": False}]} if watchdog else {}),
                },
            ],
        }
    )


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
    explained: dict[str, list[str]] = {}
    for probe in probes:
        for dependency in probe.depends_on:
            explained.setdefault(dependency, []).append(probe.name)
    for dependency, dependants in explained.items():
        # The rules mute them, too; this also holds back one that was seen before its dependency was.
        yield _inhibition(
            source=['alertname="ProbeDown"', f'probe="{dependency}"'],
            target=[f'alertname=~"{_OF_PROBES}"', f'probe=~"{"|".join(_literal(name) for name in dependants)}"'],
        )


def _inhibition(*, source: list[str], target: list[str], equal: list[str] | None = None) -> dict[str, Any]:
    return {"source_matchers": source, "target_matchers": target, **({"equal": equal} if equal else {})}


def _pace(wait: str, interval: str, again: str) -> dict[str, str]:
    return {"group_wait": wait, "group_interval": interval, "repeat_interval": again}


def _literal(name: str) -> str:
    """A probe's name in a regular expression: of what a name may have, only the dot means something there."""
    return name.replace(".", "[.]")
