"""What a drill watches: results of ours, and alerts of ours or of the Prometheus, Alertmanager and receiver of `watch:`."""

import os
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager

import httpx

from stormwatch.chaos.alertmanager_alerts import AlertmanagerAlerts
from stormwatch.chaos.feed import Feed
from stormwatch.chaos.prometheus_alerts import PrometheusAlerts
from stormwatch.chaos.source import TIMEOUT, UNREADABLE, Source, looked_at, said
from stormwatch.chaos.undo import state_directory
from stormwatch.chaos.webhook_receiver import webhook_receiver
from stormwatch.harness.config import Config
from stormwatch.harness.drift_sources import shown
from stormwatch.harness.polling import polled_feed
from stormwatch.harness.problem import Exit, Problem
from stormwatch.harness.server import bind, serving
from stormwatch.harness.service import Service
from stormwatch.harness.watch_section import Watch
from stormwatch.probes.clock import Clock


@asynccontextmanager
async def watched(config: Config, url: str, clock: Clock) -> AsyncGenerator[Feed]:
    """The feed of a drill, for as long as the block lasts. `url` is that of a running service; empty: it is in this process.

    Raises Problem when one of the sources does not answer to begin with, or the receiver cannot listen.
    """
    async with AsyncExitStack() as stack:
        if url:
            own = await stack.enter_async_context(polled_feed(url, clock))
        else:
            service = Service(config, data=state_directory(os.environ) / "drill", clock=clock)
            own = (await stack.enter_async_context(service)).feed
        if not config.watch:
            yield own
            return
        outside = await stack.enter_async_context(outside_feed(config.watch, clock))
        stack.enter_context(_our_part(config.watch, own, outside))
        yield outside


@contextmanager
def judged_beside(watch: Watch, own: Feed, shared: Feed) -> Generator[Feed]:
    """The feed of a drill with a service of its own, which no Prometheus scrapes: its alerts are those of that service.

    Of what `shared` has, which is what `watched` gave for the same `watch`, it takes whom Alertmanager told and what came to the
    receiver.
    """
    if not (watch.alertmanager or watch.receiver):
        yield own
        return
    feed, elsewhere = Feed(), bool(watch.alertmanager)
    with (
        own.passing_on(feed, transitions=True, notifications=not elsewhere),
        shared.passing_on(feed, results=False, transitions=False, notifications=elsewhere),
    ):
        yield feed


def _our_part(watch: Watch, own: Feed, outside: Feed) -> AbstractContextManager[None]:
    """Of what is watched elsewhere, our own evaluator's alerts and messages are not those that are judged."""
    return own.passing_on(
        outside, transitions=not watch.prometheus, notifications=not (watch.prometheus or watch.alertmanager)
    )


@asynccontextmanager
async def outside_feed(watch: Watch, clock: Clock) -> AsyncGenerator[Feed]:
    """A feed of the alerts that others have, and of what came to the receiver. Raises Problem as `watched`."""
    feed = Feed()
    async with AsyncExitStack() as stack:
        if watch.receiver:
            app = webhook_receiver(feed, clock)
            await stack.enter_async_context(serving(app, _bound(watch.receiver)))
        for key, url, source in (
            ("prometheus", watch.prometheus, PrometheusAlerts),
            ("alertmanager", watch.alertmanager, AlertmanagerAlerts),
        ):
            if url:
                client = httpx.AsyncClient(base_url=url.rstrip("/"), timeout=TIMEOUT)
                await stack.enter_async_context(client)
                looking = source(client, feed, clock, shown=shown(url))
                await _first_look(key, looking)
                await stack.enter_async_context(looked_at(looking, feed, clock))
        yield feed


async def _first_look(key: str, source: Source) -> None:
    try:
        await source.look()
    except UNREADABLE as error:
        raise Problem(
            f"watch.{key}: {source.name} cannot be watched: {said(error)}; nothing was injected", code=Exit.NO_VERDICT
        ) from error


def _bound(address: str) -> socket.socket:
    try:
        return bind(address)
    except Problem as problem:
        cause = problem.__cause__
        why = cause.strerror if isinstance(cause, OSError) else "it is no address"
        raise Problem(
            f"watch.receiver: cannot listen on {address}: {why}; end what listens there, or choose another port and tell Alertmanager"
        ) from problem
