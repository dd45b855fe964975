"""The kind `icmp`: echo requests, how many were lost, how long the others took, and what routers said."""

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Annotated, Any, ClassVar, Final

from pydantic import ConfigDict, Field

from stormwatch.probes.connect import bind, check_source, same_family
from stormwatch.probes.echo import Echoes, EchoSocket, Packet
from stormwatch.probes.endpoint import Endpoint, address_hash, check_host, family
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain
from stormwatch.probes.icmp_message import HEADER
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Bytes, Ratio, Seconds, show_duration, show_ratio
from stormwatch.probes.watch import Watch

MARGIN: Final = 0.02
"""Seconds before the deadline at which packets that are still under way count as lost: after it, nobody could say so."""
LONGEST: Final = 65507
"""Bytes of data that fit into a packet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectIcmp:
    """What the answers must be. Without any of it, one answer is enough."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    loss_at_most: Ratio | None = None
    """Share of the packets that may be lost."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the mean round trip takes longer."""
    worst_slower_than: Seconds | None = None
    """Down, with reason too-slow, when any round trip takes longer."""
    jitter_at_most: Seconds | None = None
    """Mean difference between a round trip and the one before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpOptions:
    """What to send."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    resolver: str = ""
    """Name server to resolve by, `host:port`; the system's resolver when empty."""
    ip: Family = "any"
    """Which addresses to use; the first of them is asked."""
    source: str = ""
    """Address of this machine to send from."""
    count: Annotated[int, Field(ge=1, le=1000)] = 3
    """How many packets to send."""
    interval: Seconds = 0.2
    """Time between two packets."""
    wait: Seconds = 1.0
    """How long to wait for answers after the last packet."""
    size: Bytes = 56
    """Bytes of data in a packet, 64 KiB at most with its head. The first 8 tell it from others."""
    payload: str = field(default="", repr=False)
    """What the rest of the data repeats, for those who watch the wire."""
    ttl: Annotated[int, Field(ge=1, le=255)] = 64
    """Time to live: how many hops a packet may go."""
    dont_fragment: bool = False
    """Routers must not divide the packets: one that is too big for the way is told of by the router, with the size that fits."""
    expect: ExpectIcmp = field(default_factory=ExpectIcmp)
    """What the answers must be."""


def build(target: str, options: IcmpOptions) -> Check:
    """A check of one host. Raises ValueError for a target or an option that cannot work."""
    host = target[1:-1] if target.startswith("[") and target.endswith("]") else target
    check_source(options.source)
    if options.size > LONGEST:
        raise ValueError(f"size: {options.size} bytes do not fit into a packet, {LONGEST} do")
    if options.expect.jitter_at_most is not None and options.count < 2:
        raise ValueError("expect.jitter_at_most: it takes two packets at least, give `count`")
    return IcmpCheck(
        host=check_host(host, what=f"target {target!r}"),
        options=options,
        server=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class IcmpCheck:
    """Sends echo requests to one host."""

    host: str
    options: IcmpOptions
    server: Endpoint | None

    async def __call__(self, watch: Watch) -> None:
        """Resolve, send, wait, judge."""
        self._check_time(watch)
        address = ""
        began = watch.clock.monotonic()
        looked_up = began
        try:
            try:
                with watch.phase("resolve"):
                    addresses = await resolve(
                        self.host, ip=self.options.ip, server=self.server, clock=watch.clock.monotonic
                    )
            finally:
                looked_up = watch.clock.monotonic()
            addresses = watch.reach.permitted(addresses, self.host)
            address = same_family(addresses, self.options.source, self.host)[0]
            with watch.phase("setup"):
                echo = _open(watch, address, self.options.source)
            await self._ask(watch, echo, address)
        finally:
            watch.measure("probe_dns_lookup_time_seconds", looked_up - began)
            watch.measure("probe_ip_protocol", family(address))
            if address:
                watch.measure("probe_ip_addr_hash", address_hash(address))
                watch.note("remote", address)

    def _check_time(self, watch: Watch) -> None:
        takes = (self.options.count - 1) * self.options.interval
        if takes >= watch.timeout:
            raise ProbeBroken(
                Reason.INTERNAL,
                f"{self.options.count} packets, one every {show_duration(self.options.interval)}, take "
                f"{show_duration(takes)}, and the run may take {show_duration(watch.timeout)}: give fewer of them, "
                "a shorter interval, or a longer timeout",
            )

    async def _ask(self, watch: Watch, echo: EchoSocket, address: str) -> None:
        packets: list[Packet] = []
        try:
            await self._send(watch, echo, address, packets)
        finally:
            for packet in packets:
                echo.forget(packet)
            seen = Seen.of(packets)
            seen.write_down(watch)
        self._judge(watch, address, seen)

    async def _send(self, watch: Watch, echo: EchoSocket, address: str, packets: list[Packet]) -> None:
        """Send the packets, and wait for what comes of them."""
        options, news = self.options, asyncio.Event()
        for number in range(options.count):
            if number:
                await asyncio.sleep(options.interval)
            try:
                packet = echo.send(
                    address,
                    size=options.size,
                    filling=options.payload.encode(),
                    ttl=options.ttl,
                    dont_fragment=options.dont_fragment,
                    source=options.source,
                    told=news.set,
                )
            except OSError as error:
                raise _explain(error, address, options) from error
            packets.append(packet)
        end = min(watch.clock.monotonic() + options.wait, watch.deadline - MARGIN)
        while not all(packet.settled for packet in packets) and (left := end - watch.clock.monotonic()) > 0:
            news.clear()
            try:
                async with asyncio.timeout(left):
                    await news.wait()
            except TimeoutError:
                return

    def _judge(self, watch: Watch, address: str, seen: "Seen") -> None:
        where = self.host if address == self.host else f"{self.host} ({address})"
        expect = self.options.expect
        if seen.damaged:
            raise ProbeFailed(
                Reason.PROTOCOL, f"an answer of {where} carries other bytes than were sent to it", phase="rtt"
            )
        if not seen.trips:
            raise self._silence(where, seen, watch)
        if expect.loss_at_most is not None and seen.lost > expect.loss_at_most * seen.sent:
            said = f"; {seen.told}" if seen.told else ""
            raise ProbeFailed(
                Reason.ASSERTION,
                f"{seen.lost} of {seen.sent} packets to {where} were lost, wanted at most "
                f"{show_ratio(expect.loss_at_most)}{said}",
                phase="rtt",
            )
        for what, value, most, reason in (
            ("the mean round trip", fmean(seen.trips), expect.slower_than, Reason.TOO_SLOW),
            ("the slowest round trip", max(seen.trips), expect.worst_slower_than, Reason.TOO_SLOW),
            ("the jitter of round trips", seen.jitter, expect.jitter_at_most, Reason.ASSERTION),
        ):
            if most is not None and value > most:
                raise ProbeFailed(
                    reason,
                    f"{what} to {where} is {value * 1000:.3g} ms, wanted at most {show_duration(most)}",
                    phase="rtt",
                )

    def _silence(self, where: str, seen: "Seen", watch: Watch) -> ProbeFailed:
        packets = "the packet" if seen.sent == 1 else f"any of {seen.sent} packets"
        if seen.told:
            return ProbeFailed(Reason.UNREACHABLE, f"no answer of {where} to {packets}: {seen.told}", phase="rtt")
        after = min(self.options.wait, watch.timeout)
        return ProbeFailed(
            Reason.TIMEOUT, f"no answer of {where} to {packets}, {show_duration(after)} after the last", phase="rtt"
        )


def _open(watch: Watch, address: str, source: str) -> EchoSocket:
    number = socket.AF_INET6 if ":" in address else socket.AF_INET
    if source:
        with socket.socket(number, socket.SOCK_DGRAM) as ours:
            bind(ours, source)
    return watch.resources.get(Echoes).of(number)


def _explain(error: OSError, address: str, options: IcmpOptions) -> ProbeFailed | ProbeBroken:
    if error.errno == errno.EMSGSIZE:
        said = f"{options.size + HEADER} bytes are more than our own network takes in one piece"
        return ProbeBroken(Reason.NETWORK, f"no packet to {address} was sent: {said}", phase="rtt")
    if error.errno in (errno.EACCES, errno.EPERM):
        said = "our own routes or filters prohibit it, or it is a broadcast address"
        return ProbeBroken(Reason.NETWORK, f"no packet to {address} was sent: {said}", phase="rtt")
    if error.errno == errno.EINVAL:
        said = "our own routes drop it"
        return ProbeBroken(Reason.NETWORK, f"no packet to {address} was sent: {said}", phase="rtt")
    failure = explain(OSError(error.errno, os.strerror(error.errno or 0)))
    message = f"no packet to {address} was sent: {failure.message}"
    if isinstance(failure, ProbeBroken):
        return ProbeBroken(failure.reason, message, phase="rtt")
    return ProbeFailed(failure.reason, message, phase="rtt")


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of some packets."""

    sent: int
    trips: tuple[float, ...]
    """Seconds of each round trip, in the order in which the requests were sent."""
    duplicates: int
    reordered: int
    """Answers that came after the answer to a later request."""
    damaged: int
    told: str
    """What routers said, in words."""
    hop_limit: int

    @classmethod
    def of(cls, packets: Sequence[Packet]) -> "Seen":
        """Count, and put into words."""
        answered = [packet for packet in packets if packet.seconds is not None]
        latest = -1
        reordered = 0
        for packet in answered:
            reordered += packet.place < latest
            latest = max(latest, packet.place)
        return cls(
            sent=len(packets),
            trips=tuple(packet.seconds for packet in answered if packet.seconds is not None),
            duplicates=sum(packet.copies for packet in packets),
            reordered=reordered,
            damaged=sum(packet.damaged for packet in packets),
            told=_told(packets),
            hop_limit=answered[-1].hop_limit if answered else 0,
        )

    @property
    def lost(self) -> int:
        """How many had no answer."""
        return self.sent - len(self.trips)

    @property
    def jitter(self) -> float:
        """Mean difference between a round trip and the one before it; 0 when there is none before."""
        steps = [abs(after - before) for before, after in pairwise(self.trips)]
        return fmean(steps) if steps else 0.0

    def write_down(self, watch: Watch) -> None:
        """As measures and evidence. A packet that was lost has no round trip, and none of 0."""
        if not self.sent:
            return
        watch.measure("stormwatch_icmp_packets_sent", self.sent)
        watch.measure("stormwatch_icmp_packets_received", len(self.trips))
        watch.measure("stormwatch_icmp_packets_duplicate", self.duplicates)
        watch.measure("stormwatch_icmp_packets_reordered", self.reordered)
        watch.measure("stormwatch_icmp_loss_ratio", self.lost / self.sent)
        evidence: dict[str, Any] = {"sent": self.sent, "received": len(self.trips)}
        if self.trips:
            mean = fmean(self.trips)
            watch.add_phase("rtt", mean, offset=watch.seconds() - mean)
            statistics = {
                "min": min(self.trips),
                "mean": mean,
                "max": max(self.trips),
                "stddev": pstdev(self.trips),
                "jitter": self.jitter,
            }
            for name, value in statistics.items():
                watch.measure("stormwatch_icmp_rtt_seconds", value, statistic=name)
            watch.measure("probe_icmp_reply_hop_limit", self.hop_limit)
            evidence["rtt_ms"] = {name: round(value * 1000, 4) for name, value in statistics.items()}
            evidence["hop_limit"] = self.hop_limit
        if self.duplicates or self.reordered:
            evidence |= {"duplicates": self.duplicates, "reordered": self.reordered}
        if self.told:
            evidence["told"] = self.told
        watch.note("packets", evidence)


def _told(packets: Sequence[Packet]) -> str:
    """What was said of packets, the first words of each who said something."""
    words: dict[tuple[str, str], int] = {}
    for packet in packets:
        if packet.trouble is not None:
            trouble = packet.trouble
            what = f"{trouble.what} (of {packet.ttl} hops)" if trouble.expired else trouble.what
            what += f", the next hop takes {trouble.mtu} bytes" if trouble.mtu else ""
            words[(what, packet.router)] = words.get((what, packet.router), 0) + 1
    return "; ".join(f"{router or 'our own system'} says: {what}" for what, router in list(words)[:3])


KIND: Final = Kind(
    name="icmp",
    options=IcmpOptions,
    build=build,
    phases=("resolve", "setup", "rtt"),
    phase_metric=Metric("probe_icmp_duration_seconds", "Seconds of an ICMP probe by phase; rtt is the mean round trip"),
    metrics=(
        Metric("probe_dns_lookup_time_seconds", "Seconds that looking up the target's name took"),
        Metric("probe_ip_protocol", "IP version of the address that was used: 4 or 6, 0 when the name did not resolve"),
        Metric("probe_ip_addr_hash", "FNV-1a hash of the address that was used: changes when the address does"),
        Metric("probe_icmp_reply_hop_limit", "Time to live, or hop limit, that was left of the last answer"),
        Metric("stormwatch_icmp_packets_sent", "Packets that the last run sent"),
        Metric("stormwatch_icmp_packets_received", "Packets of the last run that were answered"),
        Metric("stormwatch_icmp_packets_duplicate", "Answers of the last run beyond the first to a packet"),
        Metric("stormwatch_icmp_packets_reordered", "Answers of the last run that came after one to a later packet"),
        Metric("stormwatch_icmp_loss_ratio", "Share of the packets of the last run that were lost"),
        Metric(
            "stormwatch_icmp_rtt_seconds",
            "Seconds of the round trips of the last run: min, mean, max, stddev, jitter; none when all packets were lost",
        ),
    ),
    reasons=frozenset(
        {Reason.DNS, Reason.UNREACHABLE, Reason.TIMEOUT, Reason.ASSERTION, Reason.PROTOCOL, Reason.TOO_SLOW}
    ),
)
