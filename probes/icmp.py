"""The kind `icmp`: echo requests, as many as asked for, and what became of each."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from stormwatch.probes.detour import Way, asking_names, resolver_of
from stormwatch.probes.echo import Echoes, Flow, Trouble
from stormwatch.probes.endpoint import Endpoint, address_hash, check_host, family, is_address
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Ratio, Seconds, show_duration, show_ratio
from stormwatch.probes.watch import Watch

MARGIN: Final = 0.02
"""Seconds before the deadline at which waiting ends, so that the run tells what became of its packets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectIcmp:
    """What must come back."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    loss_at_most: Ratio | None = None
    """Down when a larger share of the packets is lost; when not given, one answer is enough."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the mean round trip takes longer."""
    jitter_at_most: Seconds | None = None
    """Down, with reason too-slow, when the round trips' standard deviation is larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpOptions:
    """What to send, and what must come back."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    count: Annotated[int, Field(ge=1, le=1000)] = 3
    """Packets to send. One packet that is lost says little."""
    interval: Seconds = 0.2
    """Time between two packets."""
    wait: Seconds = 1.0
    """Time after which a packet without an answer is lost; the rest of the probe's time when that is shorter."""
    size: Annotated[int, Field(ge=16, le=65_000)] = 56
    """Bytes of payload. Sixteen are needed to know an answer by."""
    ttl: Annotated[int, Field(ge=1, le=255)] = 64
    """How many hops a packet may take."""
    dont_fragment: bool = False
    """Forbid fragments: a packet that is too large for the path is a failure that names the MTU."""
    source: str = ""
    """Address to send from."""
    resolver: str = ""
    """Name server to resolve by, `host:port`; the system's resolver when empty."""
    ip: Family = "any"
    """Which address of the name to use: the first of the family."""
    expect: ExpectIcmp = field(default_factory=ExpectIcmp)
    """What the answers must be like."""


def build(target: str, options: IcmpOptions) -> Check:
    """A check of one host. Raises ValueError for a target or an option that cannot work."""
    host = check_host(target, what="target")
    if options.source and not is_address(options.source):
        raise ValueError(f"source: {options.source!r} is not an IP address")
    if options.count > 1 and options.interval < 0.01:
        raise ValueError("interval: packets less than 10ms apart are a flood, not a measurement; give 10ms or more")
    if options.expect.jitter_at_most is not None and options.count < 2:
        raise ValueError("expect.jitter_at_most: one packet has no deviation; give a count of 2 or more")
    return IcmpCheck(
        host=host,
        options=options,
        server=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class IcmpCheck:
    """Looks at one host."""

    host: str
    options: IcmpOptions
    server: Endpoint | None

    async def __call__(self, watch: Watch) -> None:
        """Resolve, send, wait, judge. What became of the packets is written down however it ends."""
        address = ""
        try:
            with watch.phase("resolve"):
                found = await resolve(self.host, ip=self.options.ip, server=self.server, clock=watch.clock.monotonic)
            address = watch.reach.permitted(found, self.host)[0]
            if self.options.source and family(self.options.source) != family(address):
                raise ProbeBroken(
                    Reason.NETWORK,
                    f"source {self.options.source} cannot send to {address}: another family of addresses",
                )
            with watch.phase("setup"):
                flow = watch.resources.get(Echoes).flow(
                    address,
                    size=self.options.size,
                    ttl=self.options.ttl,
                    dont_fragment=self.options.dont_fragment,
                    source=self.options.source,
                )
            with flow:
                await self._ping(watch, flow)
        finally:
            watch.measure("probe_dns_lookup_time_seconds", watch.phases[0].seconds)
            watch.measure("probe_ip_protocol", family(address))
            if address:
                watch.measure("probe_ip_addr_hash", address_hash(address))
                watch.note("remote", address)

    async def _ping(self, watch: Watch, flow: Flow) -> None:
        began = watch.clock.monotonic()
        failed = True
        try:
            await self._exchange(watch, flow)
            failed = False
        finally:
            trips = flow.trips
            self._write_down(watch, flow)
            seconds = sum(trips) / len(trips) if trips else 0.0
            watch.add_phase("rtt", seconds, offset=began - watch.began, failed=failed)

    async def _exchange(self, watch: Watch, flow: Flow) -> None:
        """Send all packets in their rhythm, and wait until each is answered or lost."""
        options = self.options
        end = watch.deadline - MARGIN
        began = watch.clock.monotonic()
        for number in range(options.count):
            at = began + number * options.interval
            if number and at > end:
                break
            await watch.clock.sleep_until(at)
            flow.send()
        last = min(watch.clock.monotonic() + options.wait, end)
        while flow.waiting and (left := last - watch.clock.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await flow.news()
            except TimeoutError:
                break
        self._judge(flow)

    def _judge(self, flow: Flow) -> None:
        expect, sent, trips = self.options.expect, flow.sent, flow.trips
        trouble = flow.troubles[-1] if flow.troubles else None
        if not trips:
            if trouble is not None:
                raise _failure(trouble, flow.address)
            packets = "the packet" if sent == 1 else f"none of {sent} packets"
            answered = "was not answered" if sent == 1 else "was answered"
            raise ProbeFailed(
                Reason.TIMEOUT, f"{packets} to {flow.address} {answered} within {show_duration(self.options.wait)}"
            )
        loss = Fraction(sent - len(trips), sent)
        if expect.loss_at_most is not None and loss > expect.loss_at_most:
            why = f"; {trouble}" if trouble is not None else ""
            raise ProbeFailed(
                Reason.ASSERTION,
                f"{sent - len(trips)} of {sent} packets to {flow.address} were lost, "
                f"wanted at most {show_ratio(expect.loss_at_most)}{why}",
                phase="rtt",
            )
        mean, deviation = spread(trips)
        if expect.slower_than is not None and mean > expect.slower_than:
            raise ProbeFailed(
                Reason.TOO_SLOW,
                f"the mean round trip took {mean * 1000:.1f} ms, wanted at most {show_duration(expect.slower_than)}",
                phase="rtt",
            )
        if expect.jitter_at_most is not None and deviation > expect.jitter_at_most:
            raise ProbeFailed(
                Reason.TOO_SLOW,
                f"round trips deviate by {deviation * 1000:.1f} ms, "
                f"wanted at most {show_duration(expect.jitter_at_most)}",
                phase="rtt",
            )

    def _write_down(self, watch: Watch, flow: Flow) -> None:
        sent, trips = flow.sent, flow.trips
        watch.measure("stormwatch_icmp_packets_sent", sent)
        watch.measure("stormwatch_icmp_packets_received", len(trips))
        watch.measure("stormwatch_icmp_packets_duplicate", flow.duplicates)
        watch.measure("stormwatch_icmp_packets_reordered", flow.reordered)
        if sent:
            watch.measure("stormwatch_icmp_loss_ratio", (sent - len(trips)) / sent)
        if trips:
            mean, deviation = spread(trips)
            for name, value in (("min", min(trips)), ("mean", mean), ("max", max(trips)), ("stddev", deviation)):
                watch.measure("stormwatch_icmp_rtt_seconds", value, stat=name)
            watch.measure("probe_icmp_reply_hop_limit", flow.hop_limit)
            watch.note("round_trips_ms", [round(trip * 1000, 3) for trip in trips[:20]])
        if flow.troubles:
            watch.note("errors", [str(trouble) for trouble in flow.troubles[:5]])


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of what was seen."""
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def _failure(trouble: Trouble, address: str) -> ProbeFailed | ProbeBroken:
    """What a router or our own kernel said in the place of an answer."""
    if trouble.ours:
        return ProbeBroken(Reason.NETWORK, f"no packet could be sent to {address}: {trouble}", phase="rtt")
    return ProbeFailed(Reason.UNREACHABLE, f"no answer from {address}: {trouble}", phase="rtt")


def _way(target: str, options: IcmpOptions) -> Way:
    place = Endpoint(check_host(target, what="target"), 0)  # packets without a port
    return Way(place=place, resolver=resolver_of(options.resolver), ip=options.ip, datagrams=True)


KIND: Final = Kind(
    name="icmp",
    options=IcmpOptions,
    build=build,
    detour=asking_names(_way),
    phases=("resolve", "setup", "rtt"),
    phase_metric=Metric("probe_icmp_duration_seconds", "Seconds of an ICMP echo by phase; rtt is the mean, 0 for none"),
    metrics=(
        Metric("probe_dns_lookup_time_seconds", "Seconds that looking up the target's name took"),
        Metric("probe_ip_protocol", "IP version of the address that was used: 4 or 6, 0 when the name did not resolve"),
        Metric("probe_ip_addr_hash", "FNV-1a hash of the address that was used: changes when the address does"),
        Metric("probe_icmp_reply_hop_limit", "Hop limit (TTL) of the last answer; only when there was one"),
        Metric("stormwatch_icmp_packets_sent", "Packets that the last run sent"),
        Metric("stormwatch_icmp_packets_received", "Packets of the last run that were answered"),
        Metric("stormwatch_icmp_packets_duplicate", "Answers of the last run that came more than once"),
        Metric("stormwatch_icmp_packets_reordered", "Answers of the last run that came after one to a later packet"),
        Metric("stormwatch_icmp_loss_ratio", "Share of the packets of the last run without an answer"),
        Metric("stormwatch_icmp_rtt_seconds", "Round trips of the last run by stat: min, mean, max, stddev"),
    ),
    reasons=frozenset({Reason.DNS, Reason.UNREACHABLE, Reason.TIMEOUT, Reason.ASSERTION, Reason.TOO_SLOW}),
)
