"""From an alert's transition to the people who are told: one notification, every configured channel."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stormwatch.chaos.feed import Feed
from stormwatch.exporters import sms
from stormwatch.exporters.alertmanager import AlertmanagerNotifier
from stormwatch.exporters.apprise_channel import AppriseChannel
from stormwatch.exporters.channel import Channel
from stormwatch.exporters.dispatcher import Dispatcher, Line
from stormwatch.exporters.grouping import Route
from stormwatch.exporters.mail import MailChannel, MailServer
from stormwatch.exporters.notification import Counts, Delivered, Notification
from stormwatch.exporters.outbox import Outbox, OutboxUnavailable
from stormwatch.exporters.pagerduty import PagerDutyChannel
from stormwatch.exporters.slack import SlackChannel, SlackWebhookChannel
from stormwatch.exporters.sms import SmsChannel
from stormwatch.exporters.sms_gateway import Gateway
from stormwatch.exporters.step import Reached, unheard
from stormwatch.exporters.teams import TeamsChannel
from stormwatch.exporters.template import LONGEST_BODY, LONGEST_TITLE, Templates, line_of
from stormwatch.exporters.webhook import WebhookChannel
from stormwatch.harness.config import Config
from stormwatch.harness.entry import (
    AnyNotifyEntry,
    AppriseEntry,
    EmailEntry,
    PagerDutyEntry,
    SlackEntry,
    SmsEntry,
    TeamsEntry,
    WordedEntry,
)
from stormwatch.harness.problem import Problem
from stormwatch.harness.secret import mask_of
from stormwatch.probes.clock import Clock
from stormwatch.slo.alert import AlertState, Transition

FILE = "outbox.sqlite"
"""Where the outbox is in the data directory."""
NO_LINKS: Mapping[str, str] = MappingProxyType({})
"""The evidence of an alert that is not about a journey."""


class Notifying:
    """Everybody who is told of alerts: an Alertmanager, which is told again and again, and the channels on the outbox."""

    def __init__(self, alertmanager: AlertmanagerNotifier | None, dispatcher: Dispatcher, outbox: Outbox) -> None:
        self.dispatcher = dispatcher
        self.outbox = outbox
        self._alertmanager = alertmanager

    @classmethod
    async def open(
        cls, config: Config, feed: Feed, *, data: Path, page: str, clock: Clock, step: Reached = unheard
    ) -> "Notifying":
        """The channels of a configuration. A delivery is told to the feed, so that drills know when a person had heard.

        Raises Problem when the outbox cannot be opened.
        """

        def delivered(notification: Notification, at: float) -> None:
            if not notification.is_resolved:
                feed.notified(notification.labels, at)

        alertmanager = (
            AlertmanagerNotifier(config.alerts.alertmanager, clock=clock, on_delivered=delivered)
            if config.alerts.alertmanager
            else None
        )
        dispatcher, outbox = await open_dispatcher(
            config, lines_of(config), data=data, page=page, clock=clock, on_delivered=delivered, step=step
        )
        return cls(alertmanager, dispatcher, outbox)

    @property
    def counts(self) -> Sequence[Counts]:
        """What each channel did so far."""
        return [*([self._alertmanager.counts] if self._alertmanager else []), *self.dispatcher.counts]

    @property
    def work(self) -> dict[str, Any]:
        """What has to run, by name."""
        alertmanager = {"notifier alertmanager": self._alertmanager.run()} if self._alertmanager else {}
        return {"notifications": self.dispatcher.run(), **alertmanager}

    def notify(self, notification: Notification) -> None:
        """Tell everybody. Never waits and never fails."""
        if self._alertmanager:
            self._alertmanager.notify(notification)
        self.dispatcher.notify(notification)

    async def aclose(self) -> None:
        """Try for a moment to deliver what waits; the rest is on disk."""
        if self._alertmanager:
            await self._alertmanager.aclose()
        await self.dispatcher.aclose()
        await self.outbox.aclose()


async def open_dispatcher(
    config: Config,
    lines: Sequence[Line],
    *,
    data: Path,
    page: str,
    clock: Clock,
    on_delivered: Delivered,
    step: Reached = unheard,
) -> tuple[Dispatcher, Outbox]:
    """Channels on an outbox, where an earlier life left them. Raises Problem when the outbox cannot be opened."""
    try:
        outbox = await Outbox.open(data / FILE, step=step)
    except OutboxUnavailable as error:
        raise Problem(f"{error}; choose another directory with --data") from error
    dispatcher = Dispatcher(
        lines,
        outbox,
        page=page,
        damping=config.alerts.flapping,
        clock=clock,
        on_delivered=on_delivered,
        mask=mask_of(config.secrets),
        step=step,
    )
    await dispatcher.begin()
    return dispatcher, outbox


def lines_of(config: Config) -> list[Line]:
    """The channels of a configuration with what each is told."""
    lines = [_line(entry) for entry in config.alerts.notify]
    if config.alerts.webhook:
        route = Route(channel="webhook", inhibition=False, damping=False)
        lines.append(Line(channel=WebhookChannel("webhook", config.alerts.webhook), route=route))
    return lines


def told_of(entry: AnyNotifyEntry) -> Route:
    """What a channel is told of, and nothing of how often."""
    return Route(channel=entry.name, severities=frozenset(entry.severities), match=entry.match)


def _line(entry: AnyNotifyEntry) -> Line:
    channel = _channel(entry)
    return Line(
        channel=channel,
        route=replace(
            told_of(entry),
            group_by=None if channel.each_alert else entry.group_by,
            group_wait=0.0 if channel.each_alert else entry.group_wait,
            group_interval=0.0 if channel.each_alert else entry.group_interval,
            repeat_interval=entry.repeat_interval,
            acknowledgements=channel.acknowledgements,
            hours=entry.hours.hours if entry.hours else None,
        ),
        is_told=not entry.only_fallback,
        fallback=entry.fallback or "",
        fallback_after=entry.fallback_after,
        templates=_templates(entry),
        leaves_out=sms.LEAVES_OUT if isinstance(entry, SmsEntry) else frozenset(),
    )


def _templates(entry: AnyNotifyEntry) -> Templates:
    if not isinstance(entry, WordedEntry):
        return Templates()
    return Templates(
        title=line_of(entry.title, longest=LONGEST_TITLE) if entry.title else None,
        body=line_of(entry.body, longest=LONGEST_BODY) if entry.body else None,
    )


def _channel(entry: AnyNotifyEntry) -> Channel:
    if isinstance(entry, PagerDutyEntry):
        return PagerDutyChannel(entry.name, routing_key=entry.routing_key, url=entry.url)
    if isinstance(entry, SlackEntry):
        if entry.webhook:
            return SlackWebhookChannel(entry.name, url=entry.webhook)
        return SlackChannel(entry.name, token=entry.token, channel=entry.channel, api=entry.url)
    if isinstance(entry, EmailEntry):
        server = MailServer(
            host=entry.server, port=entry.port, tls=entry.tls, username=entry.username, password=entry.password
        )
        return MailChannel(
            entry.name,
            server,
            sender=entry.sender,
            to=entry.recipients,
            ca_file=Path(entry.ca_file) if entry.ca_file else None,
        )
    if isinstance(entry, TeamsEntry):
        return TeamsChannel(entry.name, url=entry.url)
    if isinstance(entry, SmsEntry):
        gateway = Gateway(
            url=entry.url,
            token=entry.token,
            username=entry.username,
            password=entry.password,
            encoding=entry.encoding,
            fields=entry.fields,
            answer_id=entry.answer_id,
        )
        return SmsChannel(entry.name, gateway, numbers=entry.numbers, sender=entry.sender)
    if isinstance(entry, AppriseEntry):
        return AppriseChannel(entry.name, urls=entry.urls)
    return WebhookChannel(entry.name, entry.url, secret=entry.secret, receiver=entry.name)


def notification_of(transition: Transition, *, page: str, links: Mapping[str, str] = NO_LINKS) -> Notification | None:
    """What receivers are told of a transition; None for those that nobody is woken for (pending, inactive).

    `links` are annotations that lead to the evidence of its last failure.
    """
    if transition.after not in {AlertState.FIRING, AlertState.RESOLVED}:
        return None
    annotations = dict(transition.alert.annotations)
    if transition.message:
        annotations["last_failure"] = f"{transition.probe}: {transition.reason}: {transition.message}"
    return Notification(
        labels=transition.alert.labels,
        annotations={**annotations, **links},
        starts_at=transition.since,
        ends_at=transition.at if transition.after is AlertState.RESOLVED else None,
        generator_url=f"{page}probes/{transition.probe}" if page and transition.probe else page,
    )
