"""The kind `tcp`: a connection by Happy Eyeballs or to every address, TLS if asked for, and a dialogue."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict

from stormwatch.probes.backend import judge_speed
from stormwatch.probes.connect import ADDRESSES, Attempt, alternate, check_source, dialer, race, same_family
from stormwatch.probes.detour import Detour, Way, refuse, resolver_of
from stormwatch.probes.dialogue import Dialogue
from stormwatch.probes.endpoint import Endpoint, address_hash, family
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.stream import METRICS, StreamOptions, Talk, measure_failed
from stormwatch.probes.units import Seconds, show_duration
from stormwatch.probes.watch import Watch

MARGIN: Final = 0.02
"""Seconds before the deadline at which addresses that have not answered are told of: after it, nobody could say which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectTcp:
    """What must come of the connection."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    refused: bool = False
    """The connection must be refused, by every address."""
    no_connection_within: Seconds | None = None
    """No connection may come about in this time, by any address: refused, unreachable and silence are all well."""
    certificate_expires_within: Seconds | None = None
    """Down, with reason certificate, when a certificate of the served chain expires sooner."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpOptions(StreamOptions):
    """How to connect, and what to talk about."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    resolver: str = ""
    """Name server to resolve by, `host:port`; the system's resolver when empty."""
    ip: Literal[Family, "every"] = "any"
    """Which addresses to use: `any` takes the quickest of all (RFC 8305), `4` and `6` the quickest of one family, `prefer-4`
    and `prefer-6` just the first, `every` all of them, each of which must be well."""
    source: str = ""
    """Address of this machine to connect from."""
    expect: ExpectTcp = field(default_factory=ExpectTcp)
    """What must come of it."""


def build(target: str, options: TcpOptions) -> Check:
    """A check of one endpoint. Raises ValueError for a target or an option that cannot work."""
    place, expect = Endpoint.parse(target), options.expect
    check_source(options.source)
    closed = "refused" if expect.refused else "no_connection_within" if expect.no_connection_within is not None else ""
    if closed and (options.dialogue or options.tls):
        raise ValueError(f"expect.{closed}: a connection that must not come about has no TLS and no dialogue")
    if expect.refused and expect.no_connection_within is not None:
        raise ValueError("expect: refused and no_connection_within exclude each other")
    return TcpCheck(
        place=place,
        options=options,
        talk=Talk.of(options, place.host, least_left=expect.certificate_expires_within),
        server=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class TcpCheck:
    """Connects to one endpoint and talks to it."""

    place: Endpoint
    options: TcpOptions
    talk: Talk
    server: Endpoint | None

    async def __call__(self, watch: Watch) -> None:
        """Resolve, connect, shake hands, talk."""
        route = _Route()
        try:
            try:
                addresses = await self._resolve(watch, route)
                if self.options.expect.refused or self.options.expect.no_connection_within is not None:
                    await self._must_not_connect(watch, addresses)
                elif self.options.ip == "every":
                    await self._try_every(watch, addresses, route)
                else:
                    await self._try_quickest(watch, addresses, route)
            finally:
                if not route.talked:
                    measure_failed(watch, "")
            judge_speed(watch, self.options.expect.slower_than)
        finally:
            watch.measure("probe_dns_lookup_time_seconds", route.lookup)
            watch.measure("probe_ip_protocol", family(route.address))
            if route.address:
                watch.measure("probe_ip_addr_hash", address_hash(route.address))
                watch.note("remote", str(Endpoint(route.address, self.place.port)))

    async def _resolve(self, watch: Watch, route: "_Route") -> tuple[str, ...]:
        began = watch.clock.monotonic()
        try:
            with watch.phase("resolve"):
                addresses = await resolve(
                    self.place.host,
                    ip="any" if self.options.ip == "every" else self.options.ip,
                    server=self.server,
                    clock=watch.clock.monotonic,
                )
        finally:
            route.lookup = watch.clock.monotonic() - began
        addresses = watch.reach.permitted(addresses, self.place.host)
        addresses = same_family(addresses, self.options.source, self.place.host)
        route.address = addresses[0]
        if len(addresses) > ADDRESSES:
            watch.note("addresses_left_out", len(addresses) - ADDRESSES)
        return alternate(addresses)[:ADDRESSES]

    async def _try_quickest(self, watch: Watch, addresses: Sequence[str], route: "_Route") -> None:
        attempts: list[Attempt] = []
        try:
            with watch.phase("connect"):
                connection, route.address = await race(
                    addresses,
                    dialer(self.place.port, source=self.options.source),
                    clock=watch.clock.monotonic,
                    attempts=attempts,
                )
        finally:
            if len(attempts) > 1:
                watch.note("attempts", [each.as_evidence() for each in attempts])
        route.talked = True
        await self.talk.hold(watch, connection)

    async def _must_not_connect(self, watch: Watch, addresses: Sequence[str]) -> None:
        """Try all addresses at once: one that accepts is down."""
        patience = self.options.expect.no_connection_within
        with watch.phase("connect"):
            async with asyncio.TaskGroup() as group:
                tries = [group.create_task(self._is_refused(watch, each, patience)) for each in addresses]
            wrong = [failure for failure in (each.result() for each in tries) if failure is not None]
            if wrong:
                raise wrong[0]

    async def _is_refused(self, watch: Watch, address: str, patience: float | None) -> ProbeFailed | ProbeBroken | None:
        dial = dialer(self.place.port, source=self.options.source)
        limit = asyncio.timeout(patience)
        try:
            async with limit:
                (await dial(address)).close()
        except TimeoutError:
            if not limit.expired():
                raise
            return None
        except ProbeFailed as failure:
            return None if failure.reason is Reason.REFUSED or patience is not None else failure
        except ProbeBroken as failure:
            return failure
        said = "it refused" if patience is None else f"none within {show_duration(patience)}"
        return ProbeFailed(
            Reason.ASSERTION, f"{Endpoint(address, self.place.port)} accepted the connection, wanted {said}"
        )

    async def _try_every(self, watch: Watch, addresses: Sequence[str], route: "_Route") -> None:
        """Connect to all addresses at once, and do everything with each. One that fails is down, with its reason."""
        async with asyncio.TaskGroup() as group:
            tries = [group.create_task(self._try_one(watch, each)) for each in addresses]
        ends = [each.result() for each in tries]
        for end in ends:
            watch.measure("stormwatch_tcp_address_up", end.failure is None, address=end.address)
            watch.measure("stormwatch_tcp_address_duration_seconds", end.watch.seconds(), address=end.address)
        watch.note("addresses", [end.as_evidence() for end in ends])
        wrong = [end for end in ends if end.failure is not None]
        told = next((end for end in wrong if isinstance(end.failure, ProbeFailed)), (wrong or ends)[0])
        route.address, route.talked = told.address, True
        watch.phases.extend(told.watch.phases)
        watch.measures.extend(told.watch.measures)
        watch.evidence.update({**told.watch.evidence, **watch.evidence})
        failure = told.failure
        if failure is None:
            return
        of = f"{len(wrong)} of {len(ends)} addresses failed, {told.address} with: " if len(ends) > 1 else ""
        phase = failure.phase or told.watch.failed_phase
        if isinstance(failure, ProbeFailed):
            raise ProbeFailed(failure.reason, f"{of}{failure.message}", phase=phase)
        raise ProbeBroken(failure.reason, f"{of}{failure.message}", phase=phase)

    async def _try_one(self, watch: Watch, address: str) -> "_End":
        """A run in small, with notes of its own, that ends before the whole run does."""
        left = max(0.0, watch.remaining() - MARGIN)
        own = Watch(
            clock=watch.clock,
            resources=watch.resources,
            timeout=left,
            probe=watch.probe,
            trace_id=watch.trace_id,
            reach=watch.reach,
        )
        end = _End(address, own)
        limit = asyncio.timeout(left)
        talked = False
        try:
            async with limit:
                with own.phase("connect"):
                    connection = await dialer(self.place.port, source=self.options.source)(address)
                talked = True
                await self.talk.hold(own, connection)
        except Exception as error:  # noqa: BLE001 - whatever one address does, the others are told of as well
            end.failure = explain(error)
            if isinstance(error, TimeoutError) and limit.expired():
                where = f" in phase {own.failed_phase}" if own.failed_phase else ""
                end.failure = ProbeFailed(Reason.TIMEOUT, f"no answer within {show_duration(watch.timeout)}{where}")
        finally:
            if not talked:
                measure_failed(own, "")
        own.took(own.seconds())
        offset = own.began - watch.began
        own.phases[:] = [replace(each, offset=each.offset + offset) for each in own.phases]
        return end


@dataclass(slots=True)
class _Route:
    """Which way a run went."""

    address: str = ""
    lookup: float = 0.0
    talked: bool = False
    """The stream was spoken to, which measures why it failed."""


@dataclass(slots=True)
class _End:
    """How it went with one address."""

    address: str
    watch: Watch
    failure: ProbeFailed | ProbeBroken | None = None

    def as_evidence(self) -> dict[str, str | float]:
        said = {} if self.failure is None else {"reason": self.failure.reason.value, "failed": self.failure.message}
        return {"address": self.address, "ms": round(self.watch.seconds() * 1000, 3), **said}


def _way(target: str, options: TcpOptions) -> Way:
    refuse(options, "source")
    if options.ip == "every":
        raise ValueError("ip: every: a detour has one address; choose another")
    return Way(
        place=Endpoint.parse(target),
        resolver=resolver_of(options.resolver),
        ip=options.ip,
        tls=options.tls,
        http=not _encrypts(options),
    )


def _via(target: str, options: TcpOptions, via: str) -> tuple[str, TcpOptions]:
    name = options.server_name or (Endpoint.parse(target).host if _encrypts(options) else "")
    return via, replace(options, server_name=name, ip="any")


def _names_via(target: str, options: TcpOptions, via: str) -> tuple[str, TcpOptions]:
    return target, replace(options, resolver=via)


def _encrypts(options: TcpOptions) -> bool:
    return options.tls or Dialogue.of(options.dialogue, secure=options.tls).secures


DETOUR: Final = Detour(way=_way, via=_via, names_via=_names_via)

KIND: Final = Kind(
    name="tcp",
    options=TcpOptions,
    build=build,
    detour=DETOUR,
    phases=("resolve", "connect", "tls", "dialogue"),
    phase_metric=Metric("stormwatch_tcp_duration_seconds", "Seconds of a TCP dialogue by phase"),
    metrics=(
        Metric("probe_dns_lookup_time_seconds", "Seconds that looking up the target's name took"),
        Metric("probe_ip_protocol", "IP version of the address that was used: 4 or 6, 0 when the name did not resolve"),
        Metric("probe_ip_addr_hash", "FNV-1a hash of the address that was used: changes when the address does"),
        *METRICS,
        Metric("stormwatch_tcp_address_up", "With `ip: every`, 1 for each address that is well, 0 for the others"),
        Metric(
            "stormwatch_tcp_address_duration_seconds",
            "With `ip: every`, seconds from connecting to the end, by address",
        ),
    ),
    reasons=frozenset(
        {
            Reason.DNS,
            Reason.REFUSED,
            Reason.UNREACHABLE,
            Reason.TIMEOUT,
            Reason.RESET,
            Reason.TLS,
            Reason.CERTIFICATE,
            Reason.ASSERTION,
            Reason.PROTOCOL,
            Reason.TOO_SLOW,
        }
    ),
)
