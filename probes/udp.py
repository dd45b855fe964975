"""The kind `udp`: datagrams, the answers to them, and how many of them had none."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from stormwatch.probes.connect import check_source, same_family
from stormwatch.probes.datagram import DatagramSocket
from stormwatch.probes.detour import Way, asking_names, resolver_of
from stormwatch.probes.dialogue import BYTES, REGEX, Mismatch, octets, show
from stormwatch.probes.endpoint import Endpoint, address_hash, family
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.options import STRICT
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.stream import measure_failed
from stormwatch.probes.units import Ratio, Seconds, show_duration, show_ratio
from stormwatch.probes.watch import Watch

MARGIN: Final = 0.02
"""Seconds before the deadline at which waiting ends, so that the run can tell what became of its datagrams."""
LONGEST: Final = 65_507
"""Bytes that fit into a datagram."""
SHOWN: Final = 512
"""Bytes of the last answer that are kept as evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectUdp:
    """What an answer must be. Others are passed over; without any of it every answer is right."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    matches: str = ""
    """An RE2 expression that is found in the answer, as text."""
    matches_raw: str = ""
    """An RE2 expression over bytes: every byte is a character, `\\\\xff` is the byte 0xFF."""
    contains: str = ""
    """A text that stands somewhere in the answer."""
    contains_hex: str = ""
    """As `contains`, for bytes in hexadecimal."""
    silence: Seconds | None = None
    """No answer may come in this time, and nobody may refuse what was sent."""
    loss_at_most: Ratio | None = None
    """Share of the exchanges that may have no right answer; when not given, one answer is enough."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the mean exchange takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpOptions:
    """What to send, and how often."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    resolver: str = ""
    """Name server to resolve by, `host:port`; the system's resolver when empty."""
    ip: Family = "any"
    """Which addresses to use; the first of them is asked."""
    source: str = ""
    """Address of this machine to send from."""
    send: str = field(default="", repr=False)
    """What to send, exactly. It is never kept as evidence."""
    send_hex: str = field(default="", repr=False)
    """As `send`, for bytes in hexadecimal: `"53 54 4f"`."""
    count: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many exchanges, one after the other, each from a port of its own."""
    interval: Seconds = 0.2
    """Least time from the beginning of one exchange to that of the next."""
    wait: Seconds = 1.0
    """How long an exchange waits for its answer; the rest of the probe's time when that is shorter."""
    resend: Annotated[int, Field(ge=0, le=100)] = 0
    """How often a datagram without an answer is sent again in an exchange."""
    resend_after: Seconds = 0.3
    """Time after which it is sent again."""
    expect: ExpectUdp = field(default_factory=ExpectUdp)
    """What the answers must be."""


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """What an answer must be, compiled."""

    what: str
    """For messages; empty when every answer is right."""
    patterns: tuple[Pattern, ...]
    needles: tuple[bytes, ...]

    @classmethod
    def of(cls, expect: ExpectUdp) -> "Wanted":
        """Raises ValueError that names the option."""
        told: list[str] = []
        patterns: list[Pattern] = []
        needles: list[bytes] = []
        if expect.matches:
            told.append(f"that matches {expect.matches!r}")
            patterns.append(compile_pattern(expect.matches, "expect.matches"))
        if expect.matches_raw:
            told.append(f"that matches {expect.matches_raw!r}")
            patterns.append(compile_pattern(expect.matches_raw, "expect.matches_raw", binary=True))
        if expect.contains:
            told.append(f"with {expect.contains!r}")
            needles.append(expect.contains.encode())
        if expect.contains_hex:
            told.append(f"with the bytes {expect.contains_hex}")
            needles.append(octets(expect.contains_hex, "expect.contains_hex"))
        return cls(" and ".join(told), tuple(patterns), tuple(needles))

    def lacks(self, data: bytes) -> str:
        """The metric of what is wrong with an answer; empty when it is right."""
        if not all(pattern.search(data) for pattern in self.patterns):
            return REGEX
        return "" if all(needle in data for needle in self.needles) else BYTES


def build(target: str, options: UdpOptions) -> Check:
    """A check of one endpoint. Raises ValueError for a target or an option that cannot work."""
    place, expect = Endpoint.parse(target), options.expect
    check_source(options.source)
    if bool(options.send) == bool(options.send_hex):
        raise ValueError("send: give what to send, as `send` or as `send_hex`")
    if expect.silence is not None and expect != ExpectUdp(silence=expect.silence):
        raise ValueError("expect.silence: where no answer may come, nothing else is expected of it")
    data = options.send.encode() or octets(options.send_hex, "send_hex")
    if not 0 < len(data) <= LONGEST:
        raise ValueError(f"send: a datagram has 1 to {LONGEST} bytes, this one {len(data)}")
    return UdpCheck(
        place=place,
        options=options,
        data=data,
        wanted=Wanted.of(expect),
        server=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
    )


@dataclass(slots=True)
class Exchange:
    """What came of one."""

    seconds: float | None = None
    """Until the right answer; None when there was none."""
    sent: int = 0
    wrong: bytes | None = None
    """The last answer that was not right."""
    lacks: str = ""
    failure: ProbeFailed | None = None
    """What a router or the host said."""
    strays: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class UdpCheck:
    """Sends datagrams to one endpoint."""

    place: Endpoint
    options: UdpOptions
    data: bytes = field(repr=False)
    wanted: Wanted
    server: Endpoint | None

    async def __call__(self, watch: Watch) -> None:
        """Resolve, send, wait, judge."""
        address, failed = "", ""
        began = watch.clock.monotonic()
        looked_up = began
        exchanges: list[Exchange] = []
        try:
            try:
                with watch.phase("resolve"):
                    addresses = await resolve(
                        self.place.host, ip=self.options.ip, server=self.server, clock=watch.clock.monotonic
                    )
            finally:
                looked_up = watch.clock.monotonic()
            addresses = watch.reach.permitted(addresses, self.place.host)
            address = same_family(addresses, self.options.source, self.place.host)[0]
            place = Endpoint(address, self.place.port)
            with watch.phase("exchange"):
                if self.options.expect.silence is not None:
                    await self._hear_nothing(watch, place, self.options.expect.silence)
                else:
                    await self._exchange(watch, place, exchanges)
                    self._judge(place, exchanges)
        except Mismatch as mismatch:
            failed = mismatch.metric
            raise
        finally:
            write_down(watch, exchanges)
            measure_failed(watch, failed)
            watch.measure("probe_dns_lookup_time_seconds", looked_up - began)
            watch.measure("probe_ip_protocol", family(address))
            if address:
                watch.measure("probe_ip_addr_hash", address_hash(address))
                watch.note("remote", str(Endpoint(address, self.place.port)))

    async def _exchange(self, watch: Watch, place: Endpoint, exchanges: list[Exchange]) -> None:
        end = watch.deadline - MARGIN
        for number in range(self.options.count):
            began = watch.clock.monotonic()
            if number and began >= end:
                return
            exchange = Exchange()
            exchanges.append(exchange)
            await self._ask(watch, place, exchange, min(began + self.options.wait, end))
            if number + 1 < self.options.count:
                await watch.clock.sleep_until(min(began + self.options.interval, end))

    async def _ask(self, watch: Watch, place: Endpoint, exchange: Exchange, end: float) -> None:
        """One exchange: send, perhaps again, until a right answer comes, somebody refuses, or the time is over."""
        line = DatagramSocket(place, source=self.options.source)
        try:
            while (now := watch.clock.monotonic()) < end:
                again = exchange.sent <= self.options.resend
                if again:
                    line.send(self.data)
                    exchange.sent += 1
                until = min(end, now + self.options.resend_after) if exchange.sent <= self.options.resend else end
                try:
                    async with asyncio.timeout(max(0.0, until - now)):
                        await self._answer(line, exchange)
                except TimeoutError:
                    continue
                return
        except ProbeFailed as failure:
            exchange.failure = failure
        finally:
            exchange.strays = frozenset(line.strays)
            line.close()

    async def _answer(self, line: DatagramSocket, exchange: Exchange) -> None:
        while True:
            datagram = await line.receive()
            exchange.lacks = self.wanted.lacks(datagram.data)
            if not exchange.lacks:
                exchange.seconds = datagram.seconds
                return
            exchange.wrong = datagram.data[:SHOWN]
            await asyncio.sleep(0)  # a host that floods us must not keep the deadline from coming

    async def _hear_nothing(self, watch: Watch, place: Endpoint, patience: float) -> None:
        line = DatagramSocket(place, source=self.options.source)
        try:
            for number in range(self.options.count):
                if number:
                    await asyncio.sleep(self.options.interval)
                line.send(self.data)
            limit = asyncio.timeout(patience)
            try:
                async with limit:
                    datagram = await line.receive()
            except TimeoutError:
                if limit.expired():
                    return
                raise
        finally:
            line.close()
        watch.note("heard", datagram.data[:SHOWN].decode("utf-8", "replace"))
        raise ProbeFailed(Reason.ASSERTION, f"{place} answered {show(datagram.data)}, wanted silence")

    def _judge(self, place: Endpoint, exchanges: Sequence[Exchange]) -> None:
        trips = [each.seconds for each in exchanges if each.seconds is not None]
        lost, expect = len(exchanges) - len(trips), self.options.expect
        if not trips:
            raise self._why(place, exchanges)
        if expect.loss_at_most is not None and lost > expect.loss_at_most * len(exchanges):
            raise ProbeFailed(
                Reason.ASSERTION,
                f"{lost} of {len(exchanges)} exchanges with {place} had no {self._answer_wanted}, wanted at most "
                f"{show_ratio(expect.loss_at_most)}",
            )
        if expect.slower_than is not None and fmean(trips) > expect.slower_than:
            raise ProbeFailed(
                Reason.TOO_SLOW,
                f"the mean exchange with {place} took {fmean(trips) * 1000:.3g} ms, "
                f"wanted at most {show_duration(expect.slower_than)}",
            )

    @property
    def _answer_wanted(self) -> str:
        return f"answer {self.wanted.what}" if self.wanted.what else "answer"

    def _why(self, place: Endpoint, exchanges: Sequence[Exchange]) -> ProbeFailed:
        """The reason why no exchange had a right answer: what was said, what came, or that nothing did."""
        for each in exchanges:
            if each.failure is not None:
                return each.failure
        for each in exchanges:
            if each.wrong is not None:
                return Mismatch(f"{place} answered {show(each.wrong)}, wanted an {self._answer_wanted}", each.lacks)
        sent = sum(each.sent for each in exchanges)
        said = f"no answer from {place} to {'the datagram' if sent == 1 else f'any of {sent} datagrams'}"
        strays = sorted({stray for each in exchanges for stray in each.strays})
        if strays:
            said += f"; there came one from {', '.join(strays)}, which was not asked"
        return ProbeFailed(Reason.TIMEOUT, f"{said} within {show_duration(self.options.wait)}")


def write_down(watch: Watch, exchanges: Sequence[Exchange]) -> None:
    """As measures and evidence. An exchange without an answer took no time, and none of 0 seconds."""
    if not exchanges:
        return
    trips = [each.seconds for each in exchanges if each.seconds is not None]
    watch.measure("stormwatch_udp_datagrams_sent", sum(each.sent for each in exchanges))
    watch.measure("stormwatch_udp_loss_ratio", (len(exchanges) - len(trips)) / len(exchanges))
    for name, value in (("min", min), ("mean", fmean), ("max", max)) if trips else ():
        watch.measure("stormwatch_udp_rtt_seconds", value(trips), stat=name)
    watch.note(
        "exchanges", {"all": len(exchanges), "answered": len(trips), "ms": [round(t * 1000, 3) for t in trips[:20]]}
    )
    wrong = next((each.wrong for each in exchanges if each.wrong is not None), None)
    if wrong is not None:
        watch.note("heard", wrong.decode("utf-8", "replace"))


def _way(target: str, options: UdpOptions) -> Way:
    return Way(place=Endpoint.parse(target), resolver=resolver_of(options.resolver), ip=options.ip, datagrams=True)


KIND: Final = Kind(
    name="udp",
    options=UdpOptions,
    build=build,
    detour=asking_names(_way),
    phases=("resolve", "exchange"),
    phase_metric=Metric("stormwatch_udp_duration_seconds", "Seconds of a UDP probe by phase"),
    metrics=(
        Metric("probe_dns_lookup_time_seconds", "Seconds that looking up the target's name took"),
        Metric("probe_ip_protocol", "IP version of the address that was used: 4 or 6, 0 when the name did not resolve"),
        Metric("probe_ip_addr_hash", "FNV-1a hash of the address that was used: changes when the address does"),
        Metric("probe_failed_due_to_regex", "1 when a regular expression did not hold"),
        Metric("probe_failed_due_to_bytes", "1 when other bytes came than those that were expected"),
        Metric(
            "stormwatch_udp_datagrams_sent", "Datagrams that the last run sent, those that were sent again included"
        ),
        Metric("stormwatch_udp_loss_ratio", "Share of the exchanges of the last run without a right answer"),
        Metric("stormwatch_udp_rtt_seconds", "Seconds until the answers of the last run by stat: min, mean, max"),
    ),
    reasons=frozenset(
        {Reason.DNS, Reason.REFUSED, Reason.UNREACHABLE, Reason.TIMEOUT, Reason.ASSERTION, Reason.TOO_SLOW}
    ),
)
