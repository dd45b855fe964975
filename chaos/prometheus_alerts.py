"""The alerts of a Prometheus, looked at about once a second: each change of state becomes a transition of ours.

https://prometheus.io/docs/prometheus/latest/querying/api/#alerts says what is pending and firing now, and since when the
condition holds (`activeAt`). It keeps no history and does not say when an alert began to fire, so a transition has the time at
which it was seen: up to a look later than it was, never earlier.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from stormwatch.chaos.detection import SKEW
from stormwatch.chaos.feed import Feed
from stormwatch.chaos.source import ClockApart
from stormwatch.probes.clock import Clock
from stormwatch.slo.alert import Alert, AlertState, Transition

Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveAlert:
    """An alert as Prometheus has it at one look."""

    alert: Alert
    state: AlertState
    """Pending or firing."""
    since: float
    """Unix time since when the condition holds, `activeAt`."""
    value: float

    @classmethod
    def from_api(cls, document: Mapping[str, Any]) -> "ActiveAlert":
        """Read an alert of `/api/v1/alerts`. Raises KeyError or ValueError for anything else."""
        return cls(
            alert=Alert(labels=document["labels"], annotations=document.get("annotations") or {}),
            state=AlertState(document["state"]),
            since=datetime.fromisoformat(document["activeAt"]).timestamp(),
            value=float(document["value"]),
        )


class PrometheusAlerts:
    """A source of transitions. A restart of Prometheus fails the feed: what was in its memory is gone, and looks resolved."""

    def __init__(self, client: httpx.AsyncClient, feed: Feed, clock: Clock, *, shown: str) -> None:
        """`client` has the address of Prometheus as its base; `shown` is that address without secrets."""
        self.name = f"Prometheus at {shown}"
        self._client = client
        self._feed = feed
        self._clock = clock
        self._active: Mapping[Key, ActiveAlert] = {}
        self._started: str | None = None
        self._restarted = f"{self.name}, restarted"

    async def look(self) -> None:
        """Feed every change since the last look."""
        started = await self._get("status/runtimeinfo")
        active = {one.alert.key: one for one in map(ActiveAlert.from_api, (await self._get("alerts"))["alerts"])}
        if self._started is None:
            self._started = started["startTime"]
        self._feed.recover(source=self._restarted)
        if started["startTime"] != self._started:
            self._started = started["startTime"]
            self._feed.fail(
                f"{self.name} was restarted: whether alerts ended meanwhile is not known", source=self._restarted
            )
        for transition in changes(self._active, active, at=self._clock.now()):
            self._feed.transition(transition)
        self._active = active

    async def _get(self, what: str) -> Any:
        answer = await self._client.get(f"/api/v1/{what}")
        answer.raise_for_status()
        self._check_clock(answer.headers.get("date"))
        return answer.json()["data"]

    def _check_clock(self, date: str | None) -> None:
        if not date:
            return
        # The header has whole seconds, cut off: what it says is half a second old on average.
        ahead = parsedate_to_datetime(date).timestamp() + 0.5 - self._clock.now()
        if abs(ahead) > SKEW:
            raise ClockApart(
                f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} ours, so that moments cannot be "
                "compared; set both by NTP"
            )


def changes(before: Mapping[Key, ActiveAlert], now: Mapping[Key, ActiveAlert], *, at: float) -> Iterable[Transition]:
    """What changed between two looks, the second of them at this unix time."""
    for key, was in before.items():
        one = now.get(key)
        # With another activeAt it has been away in between; so has what is pending after it fired.
        if one is None or one.since != was.since or (was.state, one.state) == (AlertState.FIRING, AlertState.PENDING):
            yield _transition(was, was.state, _ENDED[was.state], at)
            if one is not None:
                yield _transition(one, AlertState.INACTIVE, one.state, at)
        elif one.state is not was.state:
            yield _transition(one, was.state, one.state, at)
    for key, one in now.items():
        if key not in before:
            yield _transition(one, AlertState.INACTIVE, one.state, at)


_ENDED = {AlertState.FIRING: AlertState.RESOLVED, AlertState.PENDING: AlertState.INACTIVE}


def _transition(one: ActiveAlert, before: AlertState, after: AlertState, at: float) -> Transition:
    return Transition(alert=one.alert, before=before, after=after, at=at, since=one.since, value=one.value)
