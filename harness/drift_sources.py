"""What a Prometheus and an Alertmanager really run, asked of their APIs.

Prometheus: https://prometheus.io/docs/prometheus/latest/querying/api/
Alertmanager: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

import asyncio
import json
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

    def __init__(self, url: str) -> None:
        self.shown = shown(url)
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
        with _reading(f"--prometheus {self.shown}"):
            return [
                _group(group)
                for group in (await self._get("rules"))["groups"]
                if not any(fnmatch(group["file"], pattern) for pattern in ignore)
            ]

    async def loaded(self) -> tuple[float, bool]:
        """Unix time since when its configuration is in force, and whether the last reload succeeded."""
        with _reading(f"--prometheus {self.shown}"):
            info = await self._get("status/runtimeinfo")
            return _moment(info["lastConfigTime"]) or 0.0, bool(info["reloadConfigSuccess"])

    async def scraping(self, job: str) -> Scraping:
        """What it knows of a job, and whom it tells of alerts."""
        with _reading(f"--prometheus {self.shown}"):
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

    async def canonical(self, expressions: Collection[str]) -> Mapping[str, str]:
        """Each expression as this Prometheus writes it; one that it cannot read stays as it is."""
        return dict(zip(expressions, await asyncio.gather(*map(self._formatted, expressions)), strict=True))

    async def _formatted(self, expression: str) -> str:
        with _reading(f"--prometheus {self.shown}"):
            answer = await self._answer("POST", "format_query", data={"query": expression})
            if answer.status_code == BAD_REQUEST:
                return expression
            if answer.status_code == NOT_FOUND:
                raise Problem(
                    f"--prometheus {self.shown}: it has no /api/v1/format_query, so expressions cannot be compared; "
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
async def alertmanager_api(url: str) -> AsyncGenerator["AlertmanagerApi"]:
    """An Alertmanager to ask, until the block is left."""
    async with httpx.AsyncClient(base_url=url.rstrip("/"), timeout=TIMEOUT) as client:
        yield AlertmanagerApi(client, shown(url))


class AlertmanagerApi:
    """An Alertmanager. Every method raises Problem (no verdict) when it does not answer as it should."""

    def __init__(self, client: httpx.AsyncClient, shown: str) -> None:
        self._client = client
        self.shown = shown

    async def config(self) -> dict[str, Any]:
        """The configuration that it runs, with `<secret>` in the place of secrets."""
        with _reading(f"--alertmanager {self.shown}"):
            config = yaml_value((await self._get("status"))["config"]["original"])
            if not isinstance(config, dict):
                raise TypeError("its configuration is no mapping")
            return config

    async def has(self, alertname: str) -> bool:
        """Whether it was told of an alert."""
        with _reading(f"--alertmanager {self.shown}"):
            return bool(await self._get("alerts", filter=f'alertname="{alertname}"'))

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

    def __init__(self, option: str) -> None:
        self._option = option

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        noun = "Prometheus" if self._option.startswith("--prometheus") else "Alertmanager"
        if isinstance(error, httpx.HTTPStatusError):
            said = f"it answers {error.request.url.path} with status {error.response.status_code}"
        elif isinstance(error, httpx.HTTPError | httpx.InvalidURL):
            said = str(error) or type(error).__name__
        elif isinstance(error, ValueError | KeyError | TypeError | AttributeError | yaml.YAMLError):
            said = f"its answer is not that of a {noun}"
        else:
            return
        raise Problem(f"{self._option}: no {noun} answers there ({said})", code=Exit.NO_VERDICT) from error


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
