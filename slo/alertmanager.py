"""A small Alertmanager configuration that is ready to use: pages at once, everything else collected."""

from collections.abc import Mapping

from stormwatch.probes.units import show_duration
from stormwatch.slo.alert import Severity
from stormwatch.slo.document import yaml_text


def render_alertmanager(webhooks: Mapping[Severity, str], *, group_wait: float = 30.0) -> str:
    """An Alertmanager configuration: pages at once, the rest collected for `group_wait` seconds, each to a webhook.

    `webhooks` gives the address for each severity; one that is missing goes where tickets go, else where pages go.
    Raises ValueError when there is no address at all.
    """
    fallback = webhooks.get(Severity.TICKET) or webhooks.get(Severity.PAGE) or next(iter(webhooks.values()), "")
    if not fallback:
        raise ValueError("no webhook is given, so nobody would hear of an alert; give one for page or ticket")
    urgent = (Severity.PAGE, Severity.HIGH)
    routes = [
        {
            "matchers": [f'severity="{severity.value}"'],
            "receiver": severity.value,
            **({"group_wait": "0s", "group_interval": "10s", "repeat_interval": "1h"} if severity in urgent else {}),
        }
        for severity in Severity
        if severity in webhooks
    ]
    receivers = [("default", fallback), *((s.value, webhooks[s]) for s in Severity if s in webhooks)]
    return yaml_text(
        {
            "route": {
                "receiver": "default",
                "group_by": ["alertname", "objective", "probe"],
                "group_wait": show_duration(group_wait),
                "group_interval": "1m",
                "repeat_interval": "12h",
                "routes": routes,
            },
            # Who was paged about an objective need not read a ticket about the same burn.
            "inhibit_rules": [
                {
                    "source_matchers": ['severity="page"', 'alertname="ErrorBudgetBurn"'],
                    "target_matchers": ['severity="ticket"', 'alertname="ErrorBudgetBurn"'],
                    "equal": ["objective"],
                }
            ],
            "receivers": [
                {"name": name, "webhook_configs": [{"url": url, "send_resolved": True}]} for name, url in receivers
            ],
        }
    )
