"""Where the standings of objectives come from: a running stormwatch, or a Prometheus that records its rules."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import httpx

from stormwatch.harness.problem import Exit, Problem
from stormwatch.slo.alert import Severity
from stormwatch.slo.standing import Standing

TIMEOUT = 10.0
"""Seconds for one request. A gate in a pipeline must not hang it."""
DAY = 86400.0
_OURS = frozenset({"sloth_id", "sloth_service", "sloth_slo", "sloth_window", "__name__"})


@dataclass(frozen=True, slots=True)
class Origin:
    """Who is asked: the address of a stormwatch, or of a Prometheus."""

    url: str
    prometheus: bool = False

    @property
    def option(self) -> str:
        """As it was given on the command line."""
        return f"{'--prometheus' if self.prometheus else '--from'} {self.url}"


async def standings(origin: Origin) -> tuple[Standing, ...]:
    """All objectives that the origin knows. Raises Problem (no verdict) when it does not answer as it should."""
    async with httpx.AsyncClient(base_url=origin.url.rstrip("/"), timeout=TIMEOUT) as client:
        try:
            if origin.prometheus:
                return await _from_prometheus(client)
            answer = await client.get("/api/v1/objectives")
            answer.raise_for_status()
            return tuple(Standing.from_json(document) for document in answer.json()["objectives"])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
            wanted = "Prometheus" if origin.prometheus else "running stormwatch"
            raise Problem(
                f"{origin.option}: no {wanted} answers there ({str(error) or type(error).__name__})",
                code=Exit.NO_VERDICT,
            ) from error


async def _from_prometheus(client: httpx.AsyncClient) -> tuple[Standing, ...]:
    """By the names that sloth uses, so that rules written by sloth can be asked too."""

    async def vector(query: str) -> list[tuple[dict[str, str], str]]:
        answer = await client.get("/api/v1/query", params={"query": query})
        answer.raise_for_status()
        return [(sample["metric"], sample["value"][1]) for sample in answer.json()["data"]["result"]]

    targets, days, left, burning, paced, alerts = await asyncio.gather(
        vector("slo:objective:ratio"),
        vector("slo:time_period:days"),
        vector("slo:period_error_budget_remaining:ratio"),
        vector("slo:current_burn_rate:ratio"),
        vector("avg_over_time(slo:current_burn_rate:ratio[1d])"),
        vector('ALERTS{alertstate="firing", alertname=~"ErrorBudgetBurn|ProbeNoEvidence"}'),
    )
    windows = {_identity(labels): float(value) * DAY for labels, value in days}
    lefts, now, day = _by_identity(left), _by_identity(burning), _by_identity(paced)
    firing: dict[str, set[str]] = {}
    for labels, _ in alerts:
        firing.setdefault(labels.get("objective") or labels.get("sloth_slo", ""), set()).add(
            labels.get("severity") or labels.get("sloth_severity", "")
        )
    return tuple(
        Standing(
            objective=labels["sloth_slo"],
            target=Fraction(value),
            window=windows[_identity(labels)],
            left=lefts.get(_identity(labels)),
            burn={300.0: now.get(_identity(labels)), DAY: day.get(_identity(labels))},
            firing=tuple(each for each in Severity if each.value in firing.get(labels["sloth_slo"], set())),
            labels={name: text for name, text in labels.items() if name not in _OURS},
        )
        for labels, value in sorted(targets, key=lambda sample: _identity(sample[0]))
        if _identity(labels) in windows
    )


def _identity(labels: dict[str, str]) -> str:
    return labels["sloth_id"]


def _by_identity(samples: Sequence[tuple[dict[str, str], str]]) -> dict[str, Fraction]:
    """Numbers only: Prometheus writes NaN and Inf for what cannot be known."""
    return {_identity(labels): Fraction(value) for labels, value in samples if value.strip("+-").lower() not in _NONE}


_NONE: Any = frozenset({"nan", "inf"})


def selected(
    found: Sequence[Standing], names: Sequence[str], match: Sequence[str], origin: Origin
) -> tuple[Standing, ...]:
    """Those of the given names, and with all of the labels `name=value`. Raises Problem for what selects nothing."""
    known = {standing.objective for standing in found}
    for name in names:
        if name not in known:
            raise Problem(
                f"no objective is called {name} at {origin.url}; there are: {', '.join(sorted(known)) or 'none'}"
            )
    wanted: dict[str, str] = {}
    for each in match:
        label, equals, value = each.partition("=")
        if not equals or not label:
            raise Problem(f"--match {each}: a label is written name=value, like team=web")
        wanted[label] = value
    kept = tuple(
        standing
        for standing in found
        if (not names or standing.objective in names) and wanted.items() <= standing.labels.items()
    )
    if match and not kept:
        raise Problem(f"no objective at {origin.url} has the labels {', '.join(match)}")
    return kept
