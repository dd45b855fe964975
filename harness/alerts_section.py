"""`alerts:` in the configuration: who is told about alerts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from stormwatch.exporters.flapping import USUAL, Damping
from stormwatch.harness.document import Place
from stormwatch.harness.draft import Draft
from stormwatch.harness.entry import (
    AlertsEntry,
    AnyNotifyEntry,
    AppriseEntry,
    EmailEntry,
    NotifyEntry,
    PagerDutyEntry,
    SlackEntry,
    SmsEntry,
    TeamsEntry,
    WatchdogEntry,
    WebhookEntry,
    WordedEntry,
)
from stormwatch.harness.form import show
from stormwatch.harness.remedy import did_you_mean
from stormwatch.probes.units import show_duration

if TYPE_CHECKING:
    from stormwatch.exporters.dead_man import Switch

ENTRIES: Mapping[str, type[AnyNotifyEntry]] = {
    "pagerduty": PagerDutyEntry,
    "slack": SlackEntry,
    "email": EmailEntry,
    "webhook": WebhookEntry,
    "teams": TeamsEntry,
    "sms": SmsEntry,
    "apprise": AppriseEntry,
}
"""The kinds of channels."""
TAKEN = ("alertmanager", "webhook")
"""Names that the two addresses have in logs and metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """Who is told about alerts."""

    alertmanager: str | None = field(default=None, repr=False)
    """Address of an Alertmanager. Not shown: it may hold a secret."""
    webhook: str | None = field(default=None, repr=False)
    """Address that gets Alertmanager's webhook payload. Not shown: it may hold a secret."""
    flapping: Damping = USUAL
    """When an alert that comes and goes is told as one."""
    notify: tuple[AnyNotifyEntry, ...] = ()
    """The channels."""
    watchdog: "Switch | None" = field(default=None, repr=False)
    """The dead man's switch. Not shown: its address may be a secret."""

    def effective(self) -> dict[str, Any]:
        """As JSON, without what only receivers may know."""
        return {
            "alertmanager": self.alertmanager,
            "webhook": self.webhook,
            "watchdog": {
                "url": self.watchdog.url,
                "every": show_duration(self.watchdog.every),
                "fail_url": self.watchdog.fail_url or None,
            }
            if self.watchdog
            else None,
            "flapping": {
                "after": self.flapping.after,
                "within": show_duration(self.flapping.within),
                "stable": show_duration(self.flapping.stable),
                "recovery": show_duration(self.flapping.recovery),
            },
            "notify": [
                {
                    "name": each.name,
                    "to": each.to,
                    "severities": list(each.severities),
                    "match": dict(each.match),
                    "only_fallback": each.only_fallback,
                    "fallback": each.fallback,
                    "fallback_after": show_duration(each.fallback_after),
                    "group_by": list(each.group_by),
                    "group_wait": show_duration(each.group_wait),
                    "group_interval": show_duration(each.group_interval),
                    "repeat_interval": show_duration(each.repeat_interval),
                    "hours": each.hours.effective() if each.hours else None,
                }
                for each in self.notify
            ],
        }


def read_alerts(draft: Draft, data: Any) -> Alerts:
    """Read the section; every mistake in it is complained about."""
    place = ("alerts",)
    plain = {key: value for key, value in data.items() if key != "notify"} if isinstance(data, dict) else data
    told = draft.read(AlertsEntry, plain, place, also=("notify",), secret=True) or AlertsEntry()
    named: dict[Place, str] = {}
    entries: dict[str, tuple[Place, AnyNotifyEntry]] = {}
    written = data.get("notify", []) if isinstance(data, dict) else []
    for where, item in draft.items(written, (*place, "notify")):
        if isinstance(name := item.get("name"), str):
            named[where] = name
        entry = _read_entry(draft, item, where)
        if entry is not None:
            entries.setdefault(entry.name, (where, entry))
    draft.unique(named, "channel")
    for where, entry in entries.values():
        if entry.name in TAKEN:
            draft.complain(
                (*where, "name"), f"{entry.name} is the name of the address in alerts.{entry.name}; choose another"
            )
        if entry.fallback is not None:
            draft.refer(entry.fallback, set(named.values()), (*where, "fallback"), "channel")
    _check_circles(draft, entries)
    return Alerts(
        alertmanager=told.alertmanager,
        webhook=told.webhook,
        flapping=Damping(
            after=told.flapping.after,
            within=told.flapping.within,
            stable=told.flapping.stable,
            recovery=told.flapping.recovery,
        ),
        notify=tuple(entry for _, entry in entries.values()),
        watchdog=_switch(told.watchdog) if told.watchdog else None,
    )


def _switch(entry: WatchdogEntry) -> "Switch":
    from stormwatch.exporters.dead_man import Switch

    return Switch(url=entry.url, every=entry.every, fail_url=entry.fail_url or "")


def _read_entry(draft: Draft, item: Mapping[str, Any], place: Place) -> AnyNotifyEntry | None:
    to = item.get("to")
    if to is None:
        draft.complain(place, f"to is missing; write one of {', '.join(ENTRIES)}")
        return None
    if not isinstance(to, str) or to not in ENTRIES:
        near = did_you_mean(to, ENTRIES) if isinstance(to, str) else f"it is one of {', '.join(ENTRIES)}"
        draft.complain((*place, "to"), f"no kind of channel is called {show(to)}; {near}")
        return None
    entry = draft.read(ENTRIES[to], item, place, secret=True)
    if isinstance(entry, SlackEntry) and not _has_one_way(draft, entry, place):
        return None
    if isinstance(entry, WordedEntry) and not _can_be_worded(draft, entry, place):
        return None
    if isinstance(entry, TeamsEntry) and not entry.url.startswith(("https://", "http://")):
        draft.complain((*place, "url"), "a URL is written like https://host/path")
        return None
    if isinstance(entry, SmsEntry) and not _can_be_texted(draft, entry, place):
        return None
    if isinstance(entry, AppriseEntry) and not _can_be_fanned_out(draft, entry, place):
        return None
    if entry is not None and entry.hours is not None and entry.hours.hours.begin >= entry.hours.hours.end:
        draft.complain(
            (*place, "hours"),
            f"they begin at {entry.hours.begin} and end at {entry.hours.end}; the end is later on the same day",
        )
        return None
    return entry


def _has_one_way(draft: Draft, entry: SlackEntry, place: Place) -> bool:
    """A bot or a webhook, whole, and not both."""
    if entry.webhook:
        if entry.token or entry.channel:
            draft.complain(
                (*place, "webhook"), "a webhook posts to its own channel, without a token; write either of them"
            )
            return False
        if not entry.webhook.startswith(("https://", "http://")):
            draft.complain((*place, "webhook"), "a URL is written like https://host/path")
            return False
        return True
    if not entry.token or not entry.channel:
        draft.complain(
            place, "Slack is reached by token and channel, or by webhook; write both of the first, or the second"
        )
        return False
    return True


def _can_be_worded(draft: Draft, entry: WordedEntry, place: Place) -> bool:
    """A template that is wrong is a mistake of the configuration, not of the night in which it is needed."""
    from stormwatch.exporters.template import LONGEST_BODY, LONGEST_TITLE, TemplateMistake, line_of

    mistakes = 0
    for key, source, longest in (("title", entry.title, LONGEST_TITLE), ("body", entry.body, LONGEST_BODY)):
        try:
            line_of(source, longest=longest)
        except TemplateMistake as error:
            draft.complain((*place, key), f"the template: {error}")
            mistakes += 1
    return not mistakes


def _can_be_texted(draft: Draft, entry: SmsEntry, place: Place) -> bool:
    from stormwatch.exporters import sms
    from stormwatch.exporters.template import TemplateMistake

    try:
        sms.check_fields(entry.fields)
    except TemplateMistake as error:
        draft.complain((*place, "fields"), f"the template of {error}")
        return False
    try:
        sms.check_answer_id(entry.answer_id)
    except ValueError as error:
        draft.complain((*place, "answer_id"), str(error))
        return False
    if entry.token and entry.username:
        draft.complain((*place, "token"), "a gateway wants a token, or a username with a password; write one of them")
        return False
    return True


def _can_be_fanned_out(draft: Draft, entry: AppriseEntry, place: Place) -> bool:
    from stormwatch.exporters import apprise_channel

    if not apprise_channel.is_installed():
        draft.complain((*place, "to"), f"Apprise is not installed; install {apprise_channel.EXTRA}")
        return False
    unknown = [number for number, url in enumerate(entry.urls) if not apprise_channel.is_known(url)]
    for number in unknown:
        draft.complain(
            (*place, "urls", number), "Apprise has no service for this address; `apprise --details` lists those it has"
        )
    return not unknown


def _check_circles(draft: Draft, entries: Mapping[str, tuple[Place, NotifyEntry]]) -> None:
    graph = {name: [entry.fallback] for name, (_, entry) in entries.items() if entry.fallback in entries}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = list(reversed(error.args[1]))
        place, _ = entries[circle[0]]
        draft.complain(
            (*place, "fallback"), f"fallbacks go in a circle, {' ▸ '.join(circle)}; let one of them have none"
        )
