"""Drills on the prober's side: the expected probe alone goes through a private proxy, and users never notice the fault.

    the probe, its options bent ──▶ private proxy on loopback, the fault on it ──▶ where the probe goes otherwise
    everybody else ─────────────────────────────────────────────────────────────▶ as always

What is proved is everything from the probe to the pager, but nothing about the service's own recovery. The proxy lives in
the drill's process: when that dies, however it does, the fault is gone with it, and no configuration was changed.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stormwatch.chaos.catalog import FAULTS
from stormwatch.chaos.control import proxying
from stormwatch.chaos.drill import Drill, Side
from stormwatch.chaos.fault_kind import ROUTE
from stormwatch.chaos.feed import Feed
from stormwatch.chaos.route import Route, misplaced
from stormwatch.chaos.tls_forgery import SpoilsHandshakes
from stormwatch.chaos.tls_options import TlsExpiresSoon, TlsStalledHandshake
from stormwatch.chaos.undo import state_directory
from stormwatch.harness.catalog import KINDS
from stormwatch.harness.config import Config
from stormwatch.harness.drill_section import Proxies
from stormwatch.harness.notifying import notification_of
from stormwatch.harness.problem import Exit, Problem
from stormwatch.harness.service import Service
from stormwatch.probes.clock import Clock
from stormwatch.probes.detour import Way, system_name_server
from stormwatch.probes.endpoint import Endpoint, family, is_address
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.probe import Check, Probe
from stormwatch.probes.resolve import resolve
from stormwatch.probes.watch import Watch
from stormwatch.slo.identity import labels_of
from stormwatch.slo.rule import BudgetLeft, BurnRate, PeerSilent, Rule

MARK = "detour"
"""The key of the evidence by which results of a bent probe are known: no report counts them."""
LABEL = "drill"
"""The label that alerts of a drill on this side have, so that they are never the same alert as one about users."""


@asynccontextmanager
async def detoured(config: Config, drill: Drill, clock: Clock) -> AsyncGenerator[Config]:
    """What watches the drill: the bent probe, and what its alerts depend on. Raises Problem when there is no way round.

    The proxy serves as long as the block lasts, and `proxies.control` of the configuration is where it is told.
    """
    probe = _probe_of(config, drill)
    way = _way(probe, drill)
    upstream = await _look_up(probe, way, clock)
    listen = "[::1]:0" if family(upstream.host) == 6 else "127.0.0.1:0"
    route = replace(_route(probe, way, drill), listen=listen, upstream=str(upstream))
    async with AsyncExitStack() as stack:
        try:
            serving = await stack.enter_async_context(proxying((route,), "127.0.0.1:0", clock=clock))
            bent = _bent(probe, drill, via=serving.routes[route.name], upstream=upstream)
        except (OSError, ValueError) as error:
            raise Problem(
                f"drill {drill.name}: the detour of {probe.name} cannot be opened: {error}; nothing was injected",
                code=Exit.NO_VERDICT,
            ) from error
        control = serving.control.removeprefix("http://")
        yield replace(_around(config, bent, drill), proxies=Proxies(control=control, routes=(route,)))


@asynccontextmanager
async def watching(around: Config, clock: Clock) -> AsyncGenerator[Feed]:
    """The feed of a service that watches what `detoured` gave. Nothing that it sees is kept for another one.

    What people were told is told to be over when the block is left, and so is what a killed drill left to be told.
    """
    directory = state_directory(os.environ) / "detour"
    await asyncio.to_thread(_forget_earlier, directory)
    async with Service(around, data=directory, clock=clock) as service:
        await service.notifying.dispatcher.resolve_all_but((), at=clock.now())
        try:
            yield service.feed
        finally:
            for active in service.evaluator.active():
                if told := notification_of(active, page=""):
                    service.notifying.notify(replace(told, ends_at=clock.now()))


def on_prober_side(drill: Drill) -> Drill:
    """The same drill with its fault on the way of the probe that it expects to fail, and on nothing else."""
    if drill.side is Side.PROBER or drill.probe is None:
        return replace(drill, side=Side.PROBER)
    return replace(drill, side=Side.PROBER, fault=replace(drill.fault, target=drill.probe.name))


def why_not(config: Config, drill: Drill) -> str:
    """Why a drill cannot be run on the prober's side, with the remedy; empty when it can."""
    if drill.probe is None:
        return "on the prober's side one probe is bent: name the one that must fail as `expect.probe`"
    if drill.beside:
        return (
            f"on the prober's side one fault is on the way of one probe, and this drill has {len(drill.faults)} "
            f"({drill.what}): run it on the target's side"
        )
    probe = _probe_of(config, drill)
    if config.quorums.get(probe.name, 1) > 1:
        return (
            f"{probe.name} is down when {config.quorums[probe.name]} locations say so, and only this one is bent: "
            "run it on the target's side"
        )
    if why := _other_subject(config, drill):
        return why
    try:
        way = _way(probe, drill)
    except ValueError as error:
        return str(error)
    kind, options = FAULTS[drill.fault.kind], drill.fault.options
    if kind.looks_inside and way.tls:
        return (
            f"{kind.name} looks at requests, and those of {probe.name} are encrypted: "
            "take one of the tcp- or tls- faults, or a route with `tls`"
        )
    if kind.looks_inside and not way.http:
        return f"{kind.name} looks at requests of HTTP/1, and {probe.name} makes none: take one of the tcp- faults"
    if isinstance(options, TlsExpiresSoon):
        return (
            "tls-expires-soon needs a certificate that is right otherwise, so an issuer that the probe trusts: "
            "run it on a route with `issuer`"
        )
    if isinstance(options, SpoilsHandshakes | TlsStalledHandshake) and not way.tls:
        return f"{kind.name} is about TLS, and {probe.name} does not begin with it: take one of the tcp- faults"
    return ""


def _other_subject(config: Config, drill: Drill) -> str:
    """Why the expected alert is about something that is not bent."""
    assert drill.probe is not None
    if drill.alert is None:
        return ""
    if not any(drill.alert.matches(labels_of(rule)) for rule in config.rules):
        return "only rules of ours are told of a bent probe, and none makes the expected alert: expect one of ours"
    name = drill.probe.name
    about, objective = drill.alert.labels.get("probe", ""), drill.alert.labels.get("objective", "")
    judged = {each.name: each.probes for each in config.objectives}.get(objective, (name,))
    if about in ("", name) and name in judged:
        return ""
    return f"only {name} is bent, and the expected alert is about {about or objective}: expect one about {name}"


def _probe_of(config: Config, drill: Drill) -> Probe:
    assert drill.probe is not None
    return next(probe for probe in config.probes if probe.name == drill.probe.name)


def _way(probe: Probe, drill: Drill) -> Way:
    """Where the fault has to stand. Raises ValueError when it cannot stand there."""
    kind, detour = FAULTS[drill.fault.kind], KINDS[probe.kind].detour
    if detour is None:
        why = KINDS[probe.kind].no_detour or "is of a package that brings no detour"
        raise ValueError(f"{probe.name} cannot be bent: its kind, {probe.kind}, {why}; run it on the target's side")
    if kind.on != ROUTE:
        raise ValueError(f"{kind.name} breaks a {kind.on}, and not what one probe meets: run it on the target's side")
    try:
        way = detour.way(probe.target, probe.settings)
    except ValueError as error:
        raise ValueError(f"{probe.name} cannot be bent: {error}") from error
    if way.datagrams and not way.asks_names and is_address(way.place.host):
        raise ValueError(
            f"{probe.name} cannot be bent: it sends datagrams to an address, and a detour passes on connections and "
            "questions for names; run it on the target's side"
        )
    if kind.of_names and not way.asks_names:
        return _way_of_names(probe, way)
    if not kind.of_names and way.datagrams:
        raise ValueError(
            f"{kind.name} is about connections, and {probe.name} sends datagrams: take one of the dns- faults"
        )
    return way


def _way_of_names(probe: Probe, way: Way) -> Way:
    """The way of the question for the target's address."""
    if is_address(way.place.host):
        raise ValueError(f"{probe.name} asks for no name, its target is {way.place.host}: take a fault of connections")
    return Way(place=way.resolver or system_name_server(), asks_names=True, datagrams=True)


def _route(probe: Probe, way: Way, drill: Drill) -> Route:
    kind = FAULTS[drill.fault.kind]
    route = Route(
        name=drill.fault.target,
        listen="127.0.0.1:0",
        upstream="127.0.0.1:1",
        http=kind.looks_inside,
        dns=way.asks_names and kind.of_names,
    )
    if why := misplaced(kind, route):
        raise Problem(f"drill {drill.name}: {probe.name} cannot be bent: {why}")
    return route


async def _look_up(probe: Probe, way: Way, clock: Clock) -> Endpoint:
    """Where the probe goes, as it would find out itself."""
    try:
        addresses = await resolve(way.place.host, ip=way.ip, server=way.resolver, clock=clock.monotonic)
    except ProbeFailed as error:
        raise Problem(
            f"{probe.name} cannot be bent, because it is not known where it goes: {error}; nothing was injected",
            code=Exit.NO_VERDICT,
        ) from error
    return Endpoint(addresses[0], way.place.port)


def _bent(probe: Probe, drill: Drill, *, via: str, upstream: Endpoint) -> Probe:
    kind = KINDS[probe.kind]
    assert kind.detour is not None
    names = FAULTS[drill.fault.kind].of_names and kind.detour.names_via
    lead = names or kind.detour.via
    assert lead is not None, "what sends datagrams meets no faults but those of names"
    target, options = lead(probe.target, probe.settings, via)
    mark = {"drill": drill.name, "via": via, "upstream": str(upstream)}
    return replace(probe, check=BentCheck(kind.build(target, options), mark), settings=options)


@dataclass(frozen=True, slots=True, eq=False)
class BentCheck:
    """A check whose results say that they are no evidence about what users see."""

    check: Check
    mark: Mapping[str, Any]

    async def __call__(self, watch: Watch) -> None:
        """Look through the detour."""
        watch.note(MARK, dict(self.mark))
        await self.check(watch)


def _around(config: Config, bent: Probe, drill: Drill) -> Config:
    """Of the configuration what the bent probe's alerts are made of: all else is watched by who watches it always.

    Without objectives, unless it is the alert of one that is expected: an alert about a budget would fire for as long
    as its windows are, with nobody left to say that it is over. Without the peers, which see the target unbent, and without the dead man's switch, which is to hear of those who
    watch always, and of nobody else.
    """
    expected = drill.alert.labels.get("objective") if drill.alert else None
    objectives = tuple(each for each in config.objectives if each.name == expected)
    wanted = {bent.name, *(name for each in objectives for name in each.probes)}
    kept = _with_dependencies(wanted, config.probes)
    judged = {each.name for each in objectives}
    return replace(
        config,
        probes=tuple(bent if each.name == bent.name else each for each in config.probes if each.name in kept),
        objectives=objectives,
        rules=tuple(_marked(rule, drill) for rule in config.rules if _about(rule, kept, judged)),
        peers=(),
        alerts=replace(config.alerts, watchdog=None),
    )


def _with_dependencies(names: Iterable[str], probes: Sequence[Probe]) -> frozenset[str]:
    known = {probe.name: probe for probe in probes}
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += known[name].depends_on
    return frozenset(found)


def _about(rule: Rule, probes: frozenset[str], objectives: set[str]) -> bool:
    if isinstance(rule, PeerSilent):
        return False
    return rule.objective in objectives if isinstance(rule, BurnRate | BudgetLeft) else rule.probe in probes


def _marked(rule: Rule, drill: Drill) -> Rule:
    """The same rule, whose alerts say that they are of a drill and are told apart from those about users."""
    summary = f"[drill {drill.name}] {rule.annotations.get('summary', rule.alertname)}"
    return replace(
        rule, labels={**rule.labels, LABEL: drill.name}, annotations={**rule.annotations, "summary": summary}
    )


def _forget_earlier(directory: Path) -> None:
    """Remove what an earlier drill on this side saw, but not what people have still to be told of it."""
    for path in directory.glob("*"):
        if path.is_file() and not path.name.startswith("outbox"):
            path.unlink(missing_ok=True)
