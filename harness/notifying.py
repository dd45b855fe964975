"""From an alert's transition to the people who are told: one notification, every configured channel."""

from stormwatch.chaos.feed import Feed
from stormwatch.exporters.alertmanager import AlertmanagerNotifier
from stormwatch.exporters.notification import Notification, Notifier
from stormwatch.exporters.webhook import WebhookNotifier
from stormwatch.harness.config import Config
from stormwatch.probes.clock import Clock
from stormwatch.slo.alert import AlertState, Transition


def notifiers_of(config: Config, feed: Feed, *, page: str, clock: Clock) -> list[Notifier]:
    """The channels of a configuration. A delivery is told to the feed, so that drills know when a person had heard."""

    def delivered(notification: Notification, at: float) -> None:
        if not notification.is_resolved:
            feed.notified(notification.labels, at)

    notifiers: list[Notifier] = []
    if config.alerts.alertmanager:
        notifiers.append(AlertmanagerNotifier(config.alerts.alertmanager, clock=clock, on_delivered=delivered))
    if config.alerts.webhook:
        notifiers.append(WebhookNotifier(config.alerts.webhook, external_url=page, clock=clock, on_delivered=delivered))
    return notifiers


def notification_of(transition: Transition, *, page: str) -> Notification | None:
    """What receivers are told of a transition; None for those that nobody is woken for (pending, inactive)."""
    if transition.after not in {AlertState.FIRING, AlertState.RESOLVED}:
        return None
    annotations = dict(transition.alert.annotations)
    if transition.message:
        annotations["last_failure"] = f"{transition.probe}: {transition.reason}: {transition.message}"
    return Notification(
        labels=transition.alert.labels,
        annotations=annotations,
        starts_at=transition.since,
        ends_at=transition.at if transition.after is AlertState.RESOLVED else None,
        generator_url=f"{page}probes/{transition.probe}" if page and transition.probe else page,
    )
