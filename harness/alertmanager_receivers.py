"""The channels of `alerts.notify` as receivers of Alertmanager. Secrets are named by their files and never written.

Settings: https://prometheus.io/docs/alerting/latest/configuration/
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from stormwatch.harness.config import Config
from stormwatch.harness.entry import (
    AnyNotifyEntry,
    EmailEntry,
    PagerDutyEntry,
    SlackEntry,
    TeamsEntry,
    WebhookEntry,
    WordedEntry,
)
from stormwatch.harness.problem import Problem
from stormwatch.slo.alert import Severity
from stormwatch.slo.alertmanager import RESERVED, Receiver
from stormwatch.slo.identity import labels_of
from stormwatch.slo.prober import ALERTS, WATCHDOG

SECRETS = "/etc/alertmanager/secrets"
"""Where Alertmanager finds the files with secrets, unless told otherwise."""
OLDEST = (0, 25)
"""The Alertmanager that is written for unless told otherwise: Debian's."""
URL_FILES = (0, 26)
"""Since when a webhook's address can stand in a file."""
TEAMS = (0, 28)
"""Since when it reaches the workflows of Microsoft Teams."""
IMPLICIT_TLS = 465
"""The only port at which Alertmanager begins with TLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receivers:
    """Who is told by Alertmanager."""

    receivers: tuple[Receiver, ...]
    intervals: Mapping[str, list[Mapping[str, Any]]]
    """The hours of channels, by name."""
    files: Mapping[str, str]
    """What must stand in which file, in words; never the secret itself."""
    left_out: tuple[str, ...]
    """What Alertmanager cannot do, each in a sentence."""


def receivers_of(config: Config, *, secrets: str = SECRETS, version: tuple[int, int] = OLDEST) -> Receivers:
    """The channels, and the address in `alerts.webhook`.

    `secrets` is the directory in which Alertmanager finds secrets. Raises Problem when nobody would be told, and for what
    could only be done by writing a secret down.
    """
    writing = _Writing(config, PurePosixPath(secrets), version)
    receivers = [receiver for entry in config.alerts.notify if (receiver := writing.receiver(entry))]
    if config.alerts.webhook:
        receivers.append(
            Receiver(
                name="webhook",
                settings=writing.webhook("webhook", config.alerts.webhook, "alerts.webhook"),
            )
        )
    if not receivers:
        raise Problem(
            f"{config.path}: Alertmanager would tell nobody; add a channel under alerts.notify, or set alerts.webhook",
            *writing.left_out,
        )
    return Receivers(
        receivers=tuple(receivers),
        intervals={
            _hours_name(entry): [entry.hours.hours.as_interval()] for entry in config.alerts.notify if entry.hours
        },
        files=writing.files,
        left_out=tuple(writing.left_out),
    )


def alerts_of(config: Config) -> list[dict[str, str]]:
    """The labels of all alerts that Alertmanager may get from our rules, but for the one that fires always."""
    about_us = [{"alertname": alert.name, "severity": alert.severity} for alert in ALERTS if alert.name != WATCHDOG]
    return [*map(labels_of, config.rules), *about_us]


def unheard(config: Config, receivers: Iterable[Receiver]) -> list[str]:
    """Alerts that no receiver wants, each by its labels."""
    told = list(receivers)
    if any(each.hears_everything and not each.hours for each in told):
        return []
    return [
        ", ".join(f"{name}={value}" for name, value in labels.items())
        for labels in alerts_of(config)
        if not any(each.hears(labels) for each in told)
    ]


class _Writing:
    """Collects which files hold which secrets, and what is left out."""

    def __init__(self, config: Config, secrets: PurePosixPath, version: tuple[int, int]) -> None:
        self.files: dict[str, str] = {}
        self.left_out: list[str] = []
        self._config = config
        self._secrets = secrets
        self._version = version

    def receiver(self, entry: AnyNotifyEntry) -> Receiver | None:
        """One channel; None for one that Alertmanager has no way to tell."""
        if entry.only_fallback:
            self.left_out.append(f"{entry.name} is told by fallback only, which Alertmanager does not know")
            return None
        if entry.name in RESERVED:
            raise Problem(
                f"{self._config.path}: the channel {entry.name} needs another name for Alertmanager, which has one of its own"
            )
        if isinstance(entry, WordedEntry) and (entry.title or entry.body):
            self.left_out.append(f"the words of {entry.name}: Alertmanager has templates of another language")
        if entry.fallback:
            self.left_out.append(f"the fallback of {entry.name}, {entry.fallback}: Alertmanager knows no fallback")
        settings = self._settings(entry)
        if settings is None:
            return None
        return Receiver(
            name=entry.name,
            settings=settings,
            severities=frozenset(Severity(each) for each in entry.severities),
            match=entry.match,
            group_by=entry.group_by,
            hours=_hours_name(entry) if entry.hours else "",
        )

    def webhook(self, name: str, url: str, where: str) -> dict[str, Any]:
        """An address, by its file when it is a secret."""
        if not any(secret in url for secret in self._config.secrets):
            return {"webhook_configs": [{"url": url, "send_resolved": True}]}
        if self._version < URL_FILES:
            raise Problem(
                f"{self._config.path}: {where} holds a secret, and an Alertmanager before 0.26 has no file for it; "
                "give --alertmanager-version 0.26 when yours is as new, or an address without a secret"
            )
        return {"webhook_configs": [{"url_file": self._file(name, "url", where), "send_resolved": True}]}

    def _settings(self, entry: AnyNotifyEntry) -> dict[str, Any] | None:
        if isinstance(entry, PagerDutyEntry):
            return {"pagerduty_configs": [self._pagerduty(entry)]}
        if isinstance(entry, SlackEntry):
            return {"slack_configs": [self._slack(entry)]}
        if isinstance(entry, EmailEntry):
            return {"email_configs": [self._email(entry)]}
        if isinstance(entry, WebhookEntry):
            if entry.secret:
                self.left_out.append(f"the signature of {entry.name}: Alertmanager does not sign its requests")
            return self.webhook(entry.name, entry.url, f"alerts.notify[{entry.name}].url")
        if isinstance(entry, TeamsEntry) and self._version >= TEAMS:
            return {
                "msteamsv2_configs": [
                    {
                        "webhook_url_file": self._file(entry.name, "url"),
                        "title": _SUBJECT,
                        "text": _PLAIN,
                        "send_resolved": True,
                    }
                ]
            }
        self.left_out.append(
            f"{entry.name}: an Alertmanager before 0.28 does not reach the workflows of Teams; give --alertmanager-version "
            "0.28 when yours is as new"
            if isinstance(entry, TeamsEntry)
            else f"{entry.name}: Alertmanager has no receiver for {entry.to}"
        )
        return None

    def _pagerduty(self, entry: PagerDutyEntry) -> dict[str, Any]:
        return {
            "routing_key_file": self._file(entry.name, "routing_key"),
            "url": entry.url,
            "severity": '{{ if eq .CommonLabels.severity "page" }}critical{{ else if eq .CommonLabels.severity "high" }}'
            'error{{ else if eq .CommonLabels.severity "ticket" }}warning{{ else }}info{{ end }}',
            "description": _SUBJECT,
            "send_resolved": True,
        }

    def _slack(self, entry: SlackEntry) -> dict[str, Any]:
        told = {"title": _SUBJECT, "text": _TEXT, "send_resolved": True}
        if entry.webhook:
            return {"api_url_file": self._file(entry.name, "webhook"), **told}
        return {
            "api_url": f"{entry.url.rstrip('/')}/chat.postMessage",
            "http_config": {"authorization": {"credentials_file": self._file(entry.name, "token")}},
            "channel": entry.channel,
            **told,
        }

    def _email(self, entry: EmailEntry) -> dict[str, Any]:
        if entry.tls == "tls" and entry.port != IMPLICIT_TLS:
            raise Problem(
                f"{self._config.path}: alerts.notify[{entry.name}] begins with TLS at port {entry.port}, and Alertmanager "
                "does that at port 465 only; use starttls, or that port"
            )
        return {
            "smarthost": f"{entry.server}:{entry.port}",
            "from": entry.sender,
            "to": ", ".join(entry.recipients),
            "require_tls": entry.tls == "starttls",
            **({"tls_config": {"ca_file": entry.ca_file}} if entry.ca_file else {}),
            **(
                {
                    "auth_username": entry.username,
                    "auth_password_file": self._file(entry.name, "password"),
                }
                if entry.username
                else {}
            ),
            "headers": {"Subject": _SUBJECT},
            "send_resolved": True,
        }

    def _file(self, name: str, key: str, where: str = "") -> str:
        path = str(self._secrets / f"{name}.{key}")
        self.files[path] = where or f"alerts.notify[{name}].{key}"
        return path


_SUBJECT = "[{{ .Status | toUpper }}] {{ range $at, $alert := .Alerts }}{{ if $at }}; {{ end }}{{ $alert.Annotations.summary }}{{ end }}"
_PLAIN = "{{ range .Alerts }}{{ .Annotations.description }} {{ .Annotations.runbook }}\n\n{{ end }}"
_TEXT = (
    "{{ range .Alerts }}{{ .Annotations.description }}"
    "{{ if .Annotations.runbook }} <{{ .Annotations.runbook }}|Runbook>{{ end }}\n{{ end }}"
)


def _hours_name(entry: AnyNotifyEntry) -> str:
    return f"hours-of-{entry.name}"
