"""The last mile of a matrix: how the Alertmanager of `watch:` brings alerts to the receiver, by what it runs at this moment."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stormwatch.chaos.matrix_last_mile import Way
from stormwatch.chaos.matrix_plan import MARGIN
from stormwatch.harness.config import Config
from stormwatch.harness.live_budget import ask
from stormwatch.harness.live_chain import LOOK, SENT, Delivery, Live, delivery_of, may_make
from stormwatch.harness.problem import Problem
from stormwatch.harness.watch_section import Watch

WITHOUT = "or judge by what fires alone, with --no-last-mile"
"""The remedy that is always there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastMile:
    """What is watched beyond the firing of an alert: Alertmanager, and the receiver where there is one."""

    watch: Watch
    live: Live
    """With what Prometheus evaluates, where that is watched."""
    told_before: Sequence[Mapping[str, str]] = ()
    """Alerts that Alertmanager has, or that fired so recently that it may not have told that they are over."""

    def __call__(self, labels: Mapping[str, str]) -> Way:
        """How an alert with these labels comes to people, see `matrix_plan.WayOf`.

        In a matrix a group of alerts may still be there of an earlier cell, and go by its own rhythm: so a whole `group_interval`
        may pass even where `group_wait` is short.
        """
        if not self.watch.receiver:
            return Way(end="Alertmanager", within=SENT + LOOK + MARGIN)
        known = {**self._set_by_rule(labels), **labels}
        way = self._delivery(known)
        if isinstance(way, str):
            return Way(end="receiver", within=SENT + LOOK + MARGIN, closed=way)
        return Way(end="receiver", within=max(way.first.worst, way.cleared.worst) + LOOK + MARGIN)

    @property
    def all_clear(self) -> float:
        """Seconds after the end of an alert in which the receiver is told of it, at the latest; 0: no receiver is watched."""
        if not self.watch.receiver:
            return 0.0
        way = self._delivery({})
        return way.cleared.worst + LOOK + MARGIN if isinstance(way, Delivery) else 0.0

    def _set_by_rule(self, labels: Mapping[str, str]) -> Mapping[str, str]:
        """The labels that the rule gives the alert besides those by which it is known."""
        found = may_make(labels, self.live)
        return {name: value for name, value in found[0].rule.text.labels.items() if "{{" not in value} if found else {}

    def _delivery(self, labels: Mapping[str, str]) -> Delivery | str:
        return delivery_of(labels, self.live, port=self.watch.receiver.rpartition(":")[2])


async def last_mile_of(config: Config) -> LastMile | None:
    """Ask Alertmanager what it runs. None: it is not watched. Raises Problem as `sure_of`, and when it does not answer."""
    watch = config.watch
    if not (watch.alertmanager or watch.receiver):
        return None
    if not watch.alertmanager:
        raise Problem(
            "watch.receiver: how long a message may take is asked of Alertmanager: name it under `watch: alertmanager`, "
            + WITHOUT
        )
    return sure_of(watch, await ask(watch))


def sure_of(watch: Watch, live: Live) -> LastMile:
    """The last mile, as far as it leads to an answer. Raises Problem where nothing could be said of who is told."""
    if not live.tells:
        raise Problem(f"watch.alertmanager: Prometheus sends to no Alertmanager: name one under `alerting`, {WITHOUT}")
    assert live.routing is not None  # it was asked
    routing = {**live.routing, "route": _at_any_hour(live.routing.get("route") or {})}
    # Groups of earlier cells are reckoned with everywhere, and no cell begins before the all-clear of the one before.
    found = LastMile(watch=watch, live=replace(live, routing=routing, recent=()), told_before=tuple(live.recent))
    if math.isinf(found.all_clear):
        raise Problem(
            f"watch.receiver: Alertmanager does not tell {watch.receiver} when an alert is over, and says nothing of one that comes "
            f"back before: set `send_resolved: true` there, {WITHOUT}"
        )
    return found


def _at_any_hour(route: Mapping[str, Any]) -> dict[str, Any]:
    """A route as it is when none of its hours mute it: whether they do now, Alertmanager says of each alert."""
    kept = {
        name: value for name, value in route.items() if name not in {"mute_time_intervals", "active_time_intervals"}
    }
    return {**kept, "routes": [_at_any_hour(each) for each in route.get("routes") or ()]}
