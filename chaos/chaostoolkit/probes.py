"""What the monitoring saw, as probes of the Chaos Toolkit: a running `stormwatch run` is asked, and never waited for too long.

Each says true or false; `tolerance: true` makes it part of a hypothesis. Nobody who answers is an error, and no `false`.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from stormwatch.chaos.experiment_label import label_here
from stormwatch.chaos.undo import UndoJournal, UndoRecord, state_directory
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.slo.alert import AlertState, Transition

__all__ = ["alert_fires_within", "alert_resolves_within", "only_alerts_firing", "probe_fails_within"]

URL = "http://127.0.0.1:9797"
"""Where `stormwatch run` listens unless it is told something else."""
_PERIOD = 0.5
"""Seconds between two questions."""
_ANSWER = 5.0
"""Seconds that one answer may take."""
_LOOK_BACK = 3600.0
"""Seconds in which an alert must have fired for its resolving to mean anything."""


class MonitoringUnknown(Exception):
    """What the monitoring saw cannot be known. One sentence: asked, seen, remedy."""


def probe_fails_within(probe: str, within: float = 60.0, reason: str = "", url: str = URL) -> bool:
    """Whether a probe turns red, with this reason if one is given, within so many seconds of this run's first fault.

    Without a fault of this run in place, the seconds begin now.
    """
    if reason and reason not in tuple(Reason):
        raise MonitoringUnknown(f"no probe fails for the reason {reason!r}; there are: {', '.join(Reason)}")
    begun = _begun()

    async def failed(api: "_Api") -> bool:
        found = (Result.from_json(one) for one in await api.get("results", probe=probe, since=begun, limit=10_000))
        return any(
            one.outcome is Outcome.DOWN and begun <= one.finished <= begun + within and reason in ("", one.reason)
            for one in found
        )

    async def ask(api: "_Api") -> bool:
        if probe not in {one["name"] for one in await api.get("probes")}:
            raise MonitoringUnknown(f"{url} watches no probe that is called {probe!r}")
        return await _until(lambda: failed(api), begun + within)

    return _asked(ask, url=url, within=within)


def alert_fires_within(alert: dict[str, str] | None = None, within: float = 90.0, url: str = URL) -> bool:
    """Whether an alert with these labels begins to fire within so many seconds of this run's first fault, or of now.

    Without labels: any alert.
    """
    begun, labels = _begun(), alert or {}

    async def fired(api: "_Api") -> bool:
        return any(
            one.after is AlertState.FIRING and begun <= one.at <= begun + within
            for one in await api.transitions(labels, begun)
        )

    return _asked(lambda api: _until(lambda: fired(api), begun + within), url=url, within=within)


def alert_resolves_within(alert: dict[str, str] | None = None, within: float = 300.0, url: str = URL) -> bool:
    """Whether no alert with these labels fires any more, within so many seconds from now. It must have fired.

    Without labels: no alert at all.
    """
    now, labels = time.time(), alert or {}

    async def resolved(api: "_Api") -> bool:
        return not [one for one in await api.firing() if _matches(labels, one.alert.labels)]

    async def ask(api: "_Api") -> bool:
        fired = any(one.after is AlertState.FIRING for one in await api.transitions(labels, now - _LOOK_BACK))
        if not fired and await resolved(api):
            raise MonitoringUnknown(
                f"an alert with {labels} did not fire in the last hour: there is nothing to resolve"
            )
        return await _until(lambda: resolved(api), now + within)

    return _asked(ask, url=url, within=within)


def only_alerts_firing(alerts: list[dict[str, str]] | None = None, url: str = URL) -> bool:
    """Whether every alert that fires now has the labels of one of these; without any: whether all is silent."""

    async def ask(api: "_Api") -> bool:
        return all(any(_matches(one, fires.alert.labels) for one in alerts or []) for fires in await api.firing())

    return _asked(ask, url=url, within=0.0)


class _Api:
    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, what: str, **query: Any) -> list[Any]:
        answer = await self._client.get(f"/api/v1/{what}", params=query)
        answer.raise_for_status()
        return answer.json()[what]

    async def transitions(self, labels: dict[str, str], since: float) -> list[Transition]:
        found = [Transition.from_json(one) for one in await self.get("transitions", since=since)]
        return [one for one in found if _matches(labels, one.alert.labels)]

    async def firing(self) -> list[Transition]:
        found = [Transition.from_json(one) for one in await self.get("alerts")]
        return [one for one in found if one.after is AlertState.FIRING]


def _asked(ask: Callable[[_Api], Awaitable[bool]], *, url: str, within: float) -> bool:
    """Ask, and be done when the time and that of one last answer is over, whatever hangs."""

    async def asking() -> bool:
        async with (
            asyncio.timeout(within + 2 * _ANSWER),
            httpx.AsyncClient(base_url=url.rstrip("/"), timeout=_ANSWER) as client,
        ):
            return await ask(_Api(client))

    try:
        return asyncio.run(asking())
    except (httpx.HTTPError, TimeoutError, ValueError, KeyError) as error:
        raise MonitoringUnknown(
            f"{url} was asked what it sees, and no running stormwatch answers there ({str(error) or type(error).__name__})"
        ) from error


async def _until(condition: Callable[[], Awaitable[bool]], deadline: float) -> bool:
    while not await condition():
        # Once more after the end: what came at the last moment may have been recorded a moment later.
        if time.time() > deadline:
            await asyncio.sleep(_PERIOD)
            return await condition()
        await asyncio.sleep(_PERIOD)
    return True


def _begun() -> float:
    """When the first fault of this run was recorded, that is before it was injected; now, when none is in place."""
    journal, label = UndoJournal(state_directory(os.environ) / "undo"), label_here()
    mine = [
        one.at
        for one in journal.pending()
        if isinstance(one, UndoRecord) and one.drill == label and one.method != "experiment"
    ]
    return min(mine, default=time.time())


def _matches(wanted: dict[str, str], labels: Any) -> bool:
    return all(labels.get(name) == value for name, value in wanted.items())
