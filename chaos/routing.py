"""Who is told of an alert, decided again: the last lines of alerting, held against what a recording's receiver was told.

    alerts of the replay ──▶ routes ──▶ channels that are told ──▶ those by which the alert came to the receiver then

The decision alone is replayed. What else stands between an alert and its receiver (grouping, silences, hours, sending) took
as long as it did in the recording. Pure.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from stormwatch.chaos.detection import Detection, Observation, detect, is_of_this
from stormwatch.chaos.drill import Drill
from stormwatch.chaos.feed import Delivered
from stormwatch.chaos.recording import Recorded
from stormwatch.chaos.rejudged import Place
from stormwatch.chaos.verdict import judge
from stormwatch.exporters.grouping import Route
from stormwatch.exporters.notification import Notification
from stormwatch.slo.alert import AlertState, Transition


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """A channel whose messages a recording can have, and what it is told of."""

    route: Route
    receiver: str
    """What its messages call their receiver; empty: what the receivers of an Alertmanager are called."""
    place: Place
    """Where it stands in the configuration: keys and indices."""
    negated: frozenset[str] = frozenset()
    """Labels of `route.match` that an alert must not have with that value: no channel is written so, a mutant is."""

    @property
    def name(self) -> str:
        """Of the channel."""
        return self.route.channel

    def wants(self, transition: Transition) -> bool:
        """Whether it is told of an alert that fires."""
        alert = Notification(labels=transition.alert.labels, starts_at=transition.since)
        kept = {label: value for label, value in self.route.match.items() if label not in self.negated}
        return (
            transition.after is AlertState.FIRING
            and replace(self.route, match=kept).wants(alert)
            and not any(alert.sent_labels.get(label) == self.route.match[label] for label in self.negated)
        )


def told_with(
    routing: Sequence[Routed], drill: Drill, recorded: Recorded, replayed: Observation, *, known: Sequence[Routed]
) -> str:
    """The verdict of a replay with these routes, when the drill asks for the delivery; empty when none was recorded.

    `known` are the routes as they are configured: by them it is known by which channel something came.
    """
    if drill.alert is None or drill.alert.delivered_within is None or recorded.report is None:
        return ""
    took = _took(drill, recorded.report.detection, {each.receiver for each in known})
    if not took:
        return ""
    deliveries = tuple(
        Delivered(one.alert.labels, one.at + took[each.receiver], one.since, receiver=each.receiver)
        for one in replayed.transitions
        if drill.expects(one.alert.labels)
        for each in routing
        if each.receiver in took and each.wants(one)
    )
    # The fault is taken back when all has come: what does not come would have been waited for.
    waited = (replayed.injected or 0.0) + drill.alert.delivered_within
    until = replayed.watched_until if deliveries else max(replayed.watched_until or 0.0, waited)
    observed = replace(replayed, deliveries=deliveries, watched_until=until)
    return judge(drill, detect(drill, observed)).verdict.value


def _took(drill: Drill, then: Detection, ours: Collection[str]) -> Mapping[str, float]:
    """Seconds from the alert's firing to the receiver, by what `Routed.receiver` says."""
    found: dict[str, float] = {}
    for one in then.observed.deliveries if then.firing is not None else ():
        of_this = is_of_this(one, injected=then.injected or 0.0, firing=then.firing)
        if of_this and not one.resolved and drill.expects(one.labels):
            receiver = one.receiver if one.receiver in ours else ""
            found.setdefault(receiver, max(0.0, one.at - (then.firing or 0.0)))
    return found
