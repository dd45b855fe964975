"""`stormwatch demo`: the sample platform started, watched, broken, mended, and the verdict on our own watching."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stormwatch.chaos.feed import Feed
from stormwatch.chaos.report import Progress, Report, html_of
from stormwatch.chaos.undo import state_directory
from stormwatch.demo.command import PlatformFailed
from stormwatch.demo.config import JOURNEYS, write_config
from stormwatch.demo.plants import PLANTS
from stormwatch.demo.platform import Platform, start_platform
from stormwatch.harness import drilling
from stormwatch.harness.config import Config, ConfigError, load
from stormwatch.harness.drill_guarding import exclusive
from stormwatch.harness.problem import Exit, Problem
from stormwatch.harness.screen import Screen
from stormwatch.harness.server import address_of, bind, serving
from stormwatch.harness.service import Service
from stormwatch.harness.stop import cancelled_by_signals
from stormwatch.harness.web import web_app
from stormwatch.probes.result import Outcome, Result
from stormwatch.slo.alert import AlertState, Transition

DRILL = "payment-blackhole"
"""The drill that the demo shows: payments accept connections and answer nothing."""
PATIENCE = 90.0
"""Seconds in which every probe has to be up before anything is broken."""


async def command(directory: Path, *, keep: bool, listen: str, plant: Sequence[str] = ()) -> int:
    """Exit code 0 when the verdict is `proved`. `plant`: which failures are planted in the platform that is kept."""
    _check_plants(plant, keep=keep)
    await drilling.heal()
    console = Console()
    began = time.monotonic()
    async with cancelled_by_signals(), AsyncExitStack() as stack:
        console.print("[bold]Starting the sample platform[/bold] (shop, hotel, taxi, accounts, payments, DNS)")
        platform = await _platform(directory, console)
        stack.push_async_callback(platform.stop)
        # What earlier demos broke on purpose would still burn the budgets of this one.
        await asyncio.to_thread(shutil.rmtree, directory / "watch", ignore_errors=True)
        pager = await _pager(stack)
        config = _config(platform, pager=pager)
        bound = _bind(listen)
        page = f"http://{address_of(bound)}/"
        service = await stack.enter_async_context(Service(config, data=directory / "watch", page=page))
        await stack.enter_async_context(serving(web_app(service), bound))
        console.print(f"[bold]Watching it[/bold] with {len(config.probes)} probes: {page}")
        with Screen(config.probes, service.latest, console) as screen:
            service.listen(lambda news: screen.event(*_line(news)))
            await _all_up(service)
            screen.event("all up", f"{len(config.probes)} probes are green")
            report = await _drill(config, service.feed, service, screen)
        console.print()
        console.print(report)
        paths = _write(report, directory)
        _summary(console, report, paths, page, keep=keep, seconds=time.monotonic() - began)
        if keep:
            platform.plants.plant(plant)
            _keep_hint(console, platform, directory)
            await _until_stopped()
            console.print("stopping the platform")
    return report.verdict.exit_code


def _check_plants(plant: Sequence[str], *, keep: bool) -> None:
    if plant and not keep:
        raise Problem("--plant is for a platform that stays up, and was given without --keep: give both")
    if unknown := [name for name in plant if name not in PLANTS]:
        raise Problem(f"--plant {unknown[0]}: there is no such planted failure; there are {', '.join(PLANTS)}")


async def _until_stopped() -> None:
    """Ctrl-C is how a kept demo is meant to end, so it is no interruption."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()


async def _platform(directory: Path, console: Console) -> Platform:
    def progress(line: Mapping[str, Any]) -> None:
        if "answers" in line:
            console.print(f"  [green]✓[/green] {line['answers']} answers")

    try:
        return await start_platform(directory, on_progress=progress)
    except PlatformFailed as error:
        raise Problem(f"the sample platform did not start: {error}", code=Exit.NO_VERDICT) from error


def _config(platform: Platform, *, pager: str) -> Config:
    path = platform.layout.directory / "stormwatch.yaml"
    write_config(platform, path)
    try:
        config = load(path, environ={})
    except ConfigError as error:
        raise Problem(*error.lines) from error
    return replace(config, alerts=replace(config.alerts, webhook=pager))


async def _pager(stack: AsyncExitStack) -> str:
    """A receiver of pages as a person has one, so that the last mile is part of the proof. Returns its address."""

    async def page(_request: Request) -> Response:
        return PlainTextResponse("ok")

    bound = bind("127.0.0.1:0")
    await stack.enter_async_context(serving(Starlette(routes=[Route("/page", page, methods=["POST"])]), bound))
    return f"http://{address_of(bound)}/page"


def _bind(listen: str) -> Any:
    try:
        return bind(listen)
    except Problem:
        # The usual port is taken, by a `stormwatch run` most likely: the demo does not depend on it.
        return bind("127.0.0.1:0")


async def _all_up(service: Service) -> None:
    def missing() -> list[str]:
        results = [(probe.name, service.latest.result(probe.name)) for probe in service.config.probes]
        return [
            f"{name}: {f'{result.outcome}: {result.message}' if result else 'no result yet'}"
            for name, result in results
            if result is None or result.outcome is not Outcome.UP
        ]

    with service.feed.recording() as seen:
        clock = service.clock
        await seen.until(lambda: not missing(), clock=clock, deadline=clock.monotonic() + PATIENCE)
    if left := missing():
        raise Problem(
            f"not everything is up within {PATIENCE:g} s, so nothing is broken on purpose:", *left, code=Exit.NO_VERDICT
        )


async def _drill(config: Config, feed: Feed, service: Service, screen: Screen) -> Report:
    drill = next(drill for drill in config.drills if drill.name == DRILL)

    def tell(progress: Progress) -> None:
        # Probes and alerts are told by the service, at the moment.
        if progress.step not in {"first_red", "pending", "firing", "green", "resolved"}:
            screen.event(progress.step, progress.text, at=progress.at)

    with exclusive(state_directory(os.environ), [drill.name], clock=service.clock):
        return await drilling.run(config, drill, feed, service.clock, on_progress=tell)


def _line(news: Result | Transition) -> tuple[str, str]:
    if isinstance(news, Result):
        seen = "" if news.outcome is Outcome.UP else f" ({news.reason.value}: {news.message})"
        return f"probe {news.outcome.value}", f"{news.probe}{seen}"
    labels = news.alert.labels
    state = "cleared" if news.after is AlertState.INACTIVE else news.after.value
    return (
        f"alert {state}",
        f"{news.alert.name} {labels.get('objective') or labels.get('probe', '')} ({labels['severity']})",
    )


def _write(report: Report, directory: Path) -> dict[str, Path]:
    paths = {"html": directory / "report.html", "json": directory / "report.json"}
    try:
        paths["html"].write_text(html_of([report]), encoding="utf-8")
        paths["json"].write_text(json.dumps(report.as_json(), indent=2), encoding="utf-8")
    except OSError as error:
        raise Problem(f"cannot write the report into {directory}: {error.strerror}") from error
    return paths


def _summary(
    console: Console, report: Report, paths: Mapping[str, Path], page: str, *, keep: bool, seconds: float
) -> None:
    console.print()
    detection = sum(link.seconds for link in report.detection.detection_links())
    recovery = sum(link.seconds for link in report.detection.recovery_links())
    console.print(f"[bold]{report.verdict.value}[/bold]: detected in {detection:.1f} s, recovered in {recovery:.1f} s")
    console.print(f"report       {paths['html']} (JSON beside it)", soft_wrap=True, highlight=False)
    ended = "" if keep else "  (while the demo runs; stay there with --keep)"
    console.print(f"status page  {page}{ended}", soft_wrap=True, highlight=False)
    console.print(f"took         {seconds:.0f} s", highlight=False)


def _keep_hint(console: Console, platform: Platform, directory: Path) -> None:
    console.print()
    console.print("The platform stays up until Ctrl-C. Try, in another terminal:", highlight=False)
    for line in (
        f"stormwatch check -c {directory / 'stormwatch.yaml'}",
        f"stormwatch drill payment-500 -c {directory / 'stormwatch.yaml'}",
        f"stormwatch drill --matrix -c {directory / 'stormwatch.yaml'}",
        "pytest journeys/",
        f"stormwatch check -c {directory / JOURNEYS}",
    ):
        console.print(f"  {line}", soft_wrap=True, highlight=False)
    for name in platform.plants.all():
        console.print(
            f"Planted: {name}, {PLANTS[name]}. Digging it out: rm {platform.layout.planted / name}",
            soft_wrap=True,
            highlight=False,
        )
    console.print(f"The shop is at {platform.shop}, for a browser that maps *.storm.test to 127.0.0.1", highlight=False)
