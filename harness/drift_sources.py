"""What a Prometheus and an Alertmanager really run, asked of their APIs.

Prometheus: https://prometheus.io/docs/prometheus/latest/querying/api/
Alertmanager: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatch
from types import TracebackType
from typing import Any, Final, Self

import httpx
import yaml

from stormwatch.harness.problem import Exit, Problem
from stormwatch.probes.units import parse_duration
from stormwatch.slo.document import yaml_value
from stormwatch.slo.drift import RuleText, RunningGroup, RunningRule
from stormwatch.slo.drift_scrape import Scraping, Target

TIMEOUT: Final = 30.0
"""Seconds for one request: the rules of thousands of probes are megabytes."""
AT_ONCE: Final = 16
"""Requests under way at once."""
BAD_REQUEST: Final = 400
NOT_FOUND: Final = 404
NEVER: Final = "0001-01-01"
"""How Go writes a moment that was not."""


class PrometheusApi:
    """A Prometheus. Every method raises Problem (no verdict) when it does not answer as it should."""

    def __init__(self, url: str, *, asked: str = "--prometheus") -> None:
        """`asked` is how a person named it, for messages."""
        self.shown = shown(url)
        self._asked = f"{asked} {self.shown}"
        self.now = 0.0
        """Unix time by its clock, of its last answer."""
        self._client = httpx.AsyncClient(base_url=url.rstrip("/"), timeout=TIMEOUT)
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def groups(self, *, ignore: Sequence[str] = ()) -> list[RunningGroup]:
        """The groups that it evaluates, without those of files that match a pattern of `ignore`."""
        with _reading(self._asked, "Prometheus"):
            return [
                _group(group)
                for group in (await self._get("rules"))["groups"]
                if not any(fnmatch(group["file"], pattern) for pattern in ignore)
            ]

    async def loaded(self) -> tuple[float, bool]:
        """Unix time since when its configuration is in force, and whether the last reload succeeded."""
        with _reading(self._asked, "Prometheus"):
            info = await self._get("status/runtimeinfo")
            return _moment(info["lastConfigTime"]) or 0.0, bool(info["reloadConfigSuccess"])

    async def scraping(self, job: str) -> Scraping:
        """What it knows of a job, and whom it tells of alerts."""
        with _reading(self._asked, "Prometheus"):
            loaded, reloaded = await self.loaded()
            selector = f"{{job={json.dumps(job, ensure_ascii=False)}}}"
            targets, config, alertmanagers, ours, probes = await asyncio.gather(
                self._get("targets", state="active"),
                self._get("status/config"),
                self._get("alertmanagers"),
                self._get("query", query=f"count(stormwatch_build_info{selector})"),
                self._get("query", query=f"count by (probe) (stormwatch_maintenance{selector})"),
            )
            jobs = {each["job_name"]: each for each in yaml_value(config["yaml"]).get("scrape_configs") or ()}
            return Scraping(
                now=self.now,
                loaded=loaded,
                reloaded=reloaded,
                targets=[_target(each) for each in targets["activeTargets"] if each["labels"].get("job") == job],
                honors_labels=jobs[job].get("honor_labels", False) if job in jobs else None,
                probes={sample["metric"].get("probe", "") for sample in probes["result"]},
                has_ours=bool(ours["result"]),
                alertmanagers=[each["url"] for each in alertmanagers["activeAlertmanagers"]],
            )

    async def intervals(self) -> Mapping[str, float]:
        """Seconds between two scrapes, by job; of several in a job the longest."""
        with _reading(self._asked, "Prometheus"):
            found: dict[str, float] = {}
            for each in (await self._get("targets", state="active"))["activeTargets"]:
                job, interval = each["labels"].get("job", ""), parse_duration(each["scrapeInterval"])
                found[job] = max(interval, found.get(job, 0.0))
            return found

    async def tells(self) -> bool:
        """Whether it sends alerts to any Alertmanager."""
        with _reading(self._asked, "Prometheus"):
            return bool((await self._get("alertmanagers"))["activeAlertmanagers"])

    async def external_labels(self) -> Mapping[str, str]:
        """The labels that it gives to every alert that it sends."""
        with _reading(self._asked, "Prometheus"):
            config = yaml_value((await self._get("status/config"))["yaml"])
            return {str(name): str(value) for name, value in (config["global"].get("external_labels") or {}).items()}

    async def fired(self, seconds: float) -> list[Mapping[str, str]]:
        """The labels of all alerts that fired in the last so many seconds."""
        with _reading(self._asked, "Prometheus"):
            query = f'last_over_time(ALERTS{{alertstate="firing"}}[{math.ceil(seconds)}s])'
            return [
                {name: value for name, value in each["metric"].items() if name not in {"alertstate", "__name__"}}
                for each in (await self._get("query", query=query))["result"]
            ]

    async def canonical(self, expressions: Collection[str]) -> Mapping[str, str]:
        """Each expression as this Prometheus writes it; one that it cannot read stays as it is."""
        return dict(zip(expressions, await asyncio.gather(*map(self._formatted, expressions)), strict=True))

    async def _formatted(self, expression: str) -> str:
        with _reading(self._asked, "Prometheus"):
            answer = await self._answer("POST", "format_query", data={"query": expression})
            if answer.status_code == BAD_REQUEST:
                return expression
            if answer.status_code == NOT_FOUND:
                raise Problem(
                    f"{self._asked}: it has no /api/v1/format_query, so expressions cannot be compared; "
                    "Prometheus has it since 2.39",
                    code=Exit.NO_VERDICT,
                )
            answer.raise_for_status()
            return answer.json()["data"]

    async def _get(self, what: str, **query: str) -> Any:
        answer = await self._answer("GET", what, params=query)
        answer.raise_for_status()
        return answer.json()["data"]

    async def _answer(self, method: str, what: str, **values: Any) -> httpx.Response:
        async with self._turns:
            answer = await self._client.request(method, f"/api/v1/{what}", **values)
        if date := answer.headers.get("date"):
            self.now = max(self.now, parsedate_to_datetime(date).timestamp())
        return answer


@asynccontextmanager
async def alertmanager_api(url: str, *, asked: str = "--alertmanager") -> AsyncGenerator["AlertmanagerApi"]:
    """An Alertmanager to ask, until the block is left. `asked` is how a person named it, for messages."""
    async with httpx.AsyncClient(base_url=url.rstrip("/"), timeout=TIMEOUT) as client:
        yield AlertmanagerApi(client, shown(url), asked=asked)


class AlertmanagerApi:
    """An Alertmanager. Every method raises Problem (no verdict) when it does not answer as it should."""

    def __init__(self, client: httpx.AsyncClient, shown: str, *, asked: str = "--alertmanager") -> None:
        self._client = client
        self.shown = shown
        self._asked = f"{asked} {shown}"

    async def config(self) -> dict[str, Any]:
        """The configuration that it runs, with `<secret>` in the place of secrets."""
        with _reading(self._asked, "Alertmanager"):
            config = yaml_value((await self._get("status"))["config"]["original"])
            if not isinstance(config, dict):
                raise TypeError("its configuration is no mapping")
            return config

    async def has(self, alertname: str) -> bool:
        """Whether it was told of an alert."""
        with _reading(self._asked, "Alertmanager"):
            return bool(await self._get("alerts", filter=f'alertname="{alertname}"'))

    async def labels(self) -> list[Mapping[str, str]]:
        """The labels of all alerts that it has."""
        with _reading(self._asked, "Alertmanager"):
            return [each["labels"] for each in await self._get("alerts")]

    async def _get(self, what: str, **query: str) -> Any:
        answer = await self._client.get(f"/api/v2/{what}", params=query)
        answer.raise_for_status()
        return answer.json()


def shown(url: str) -> str:
    """An address without the user and password that may stand in it."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "an address that is none"
    return str(parsed.copy_with(username=None, password=None)) if parsed.userinfo else url


class _reading:  # noqa: N801 - a context manager, called like a function
    """Turns whatever is wrong with an answer into one line."""

    def __init__(self, asked: str, noun: str) -> None:
        self._asked, self._noun = asked, noun

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, httpx.HTTPStatusError):
            said = f"it answers {error.request.url.path} with status {error.response.status_code}"
        elif isinstance(error, httpx.HTTPError | httpx.InvalidURL):
            said = str(error) or type(error).__name__
        elif isinstance(error, ValueError | KeyError | TypeError | AttributeError | yaml.YAMLError):
            said = f"its answer is not that of a {self._noun}"
        else:
            return
        raise Problem(f"{self._asked}: no {self._noun} answers there ({said})", code=Exit.NO_VERDICT) from error


def _group(document: Mapping[str, Any]) -> RunningGroup:
    return RunningGroup(
        name=document["name"],
        file=document["file"],
        interval=float(document["interval"]),
        rules=tuple(_rule(rule) for rule in document["rules"]),
    )


def _rule(document: Mapping[str, Any]) -> RunningRule:
    is_alert = document["type"] == "alerting"
    keep = document.get("keepFiringFor") if is_alert else 0.0
    return RunningRule(
        text=RuleText(
            name=document["name"],
            is_alert=is_alert,
            expr=document["query"],
            lasting=float(document.get("duration", 0.0)),
            keep=None if keep is None else float(keep),
            labels=document.get("labels") or {},
            annotations=document.get("annotations") or {},
        ),
        health=document["health"],
        error=document.get("lastError", ""),
        evaluated=_moment(document["lastEvaluation"]),
        fires_since=min(
            (
                at
                for alert in document.get("alerts") or ()
                if alert["state"] == "firing" and (at := _moment(alert["activeAt"]))
            ),
            default=None,
        ),
    )


def _target(document: Mapping[str, Any]) -> Target:
    return Target(
        url=shown(document["scrapeUrl"]),
        job=document["labels"]["job"],
        health=document["health"],
        error=document.get("lastError", ""),
        scraped=_moment(document["lastScrape"]),
        interval=parse_duration(document["scrapeInterval"]),
    )


def _moment(text: str) -> float | None:
    """Unix time of a moment as Go writes it, in nanoseconds. None: never."""
    return None if text.startswith(NEVER) else datetime.fromisoformat(text).timestamp()
