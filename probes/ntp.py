"""The kind `ntp`: what time a server says it is, how sure it is of that, and where it has it from."""

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from stormwatch.probes import ntp_packet
from stormwatch.probes.connect import check_source, same_family
from stormwatch.probes.datagram import Datagram, DatagramSocket
from stormwatch.probes.detour import Way, asking_names, resolver_of
from stormwatch.probes.endpoint import Endpoint, address_hash, family
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.ntp_packet import KISSES, UNSYNCHRONIZED, Answer
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds, show_duration
from stormwatch.probes.watch import Watch

PORT: Final = 123
AGAIN: Final = 1.0
"""Seconds after which a question without an answer is asked anew: one lost datagram is not an outage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectNtp:
    """What the server must say."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    synchronized: bool = True
    """The server must say that its clock is set by another one."""
    offset_at_most: Seconds | None = None
    """How far its time may be from that of this machine, either way."""
    stratum_at_most: Annotated[int, Field(ge=1, le=15)] | None = None
    """How many servers there may be up to a clock, this one included."""
    reference_age_at_most: Seconds | None = None
    """How long ago its clock may have been set last."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the answer took longer on its way, both ways together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NtpOptions:
    """Whom to ask, and what the answer must be."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    resolver: str = ""
    """Name server to resolve by, `host:port`; the system's resolver when empty."""
    ip: Family = "any"
    """Which addresses to use; the first of them is asked."""
    source: str = ""
    """Address of this machine to send from."""
    expect: ExpectNtp = field(default_factory=ExpectNtp)
    """What the answer must be."""


def build(target: str, options: NtpOptions) -> Check:
    """A check of one server. Raises ValueError for a target or an option that cannot work."""
    check_source(options.source)
    return NtpCheck(
        place=Endpoint.parse(target, default_port=PORT),
        options=options,
        server=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer, and when it came."""

    answer: Answer
    asked: float
    """Unix time of this machine, as is the next."""
    arrived: float

    @property
    def offset(self) -> float:
        """Seconds that the server is ahead of this machine (RFC 5905 §8)."""
        return ((self.answer.received - self.asked) + (self.answer.sent - self.arrived)) / 2

    @property
    def delay(self) -> float:
        """Seconds on the way, both ways together. Clocks that jump make it negative: then it is 0."""
        return max(0.0, (self.arrived - self.asked) - (self.answer.sent - self.answer.received))


@dataclass(frozen=True, slots=True, eq=False)
class NtpCheck:
    """Asks one server for the time."""

    place: Endpoint
    options: NtpOptions
    server: Endpoint | None

    async def __call__(self, watch: Watch) -> None:
        """Resolve, ask, judge."""
        address = ""
        began = watch.clock.monotonic()
        looked_up = began
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
            with watch.phase("exchange"):
                sample = await self._ask(Endpoint(address, self.place.port))
                write_down(watch, sample)
                self._judge(sample)
        finally:
            watch.measure("probe_dns_lookup_time_seconds", looked_up - began)
            watch.measure("probe_ip_protocol", family(address))
            if address:
                watch.measure("probe_ip_addr_hash", address_hash(address))
                watch.note("remote", str(Endpoint(address, self.place.port)))

    async def _ask(self, place: Endpoint) -> Sample:
        """Ask until an answer comes to one of our questions. Without a limit of its own: the run's deadline cancels it."""
        line = DatagramSocket(place, source=self.options.source)
        asked: dict[bytes, float] = {}
        try:
            while True:
                nonce = secrets.token_bytes(8)
                asked[nonce] = line.send(ntp_packet.question(nonce))
                try:
                    async with asyncio.timeout(AGAIN):
                        return await _answer(line, asked)
                except TimeoutError:
                    continue
        finally:
            line.close()

    def _judge(self, sample: Sample) -> None:
        answer, expect = sample.answer, self.options.expect
        if answer.stratum == 0:
            why = KISSES.get(answer.reference, "it does not say why")
            raise ProbeFailed(
                Reason.ASSERTION, f"{self.place} answered with the kiss-o'-death {answer.reference or '(empty)'}: {why}"
            )
        if expect.synchronized and (answer.leap == UNSYNCHRONIZED or answer.stratum > 15):
            raise ProbeFailed(
                Reason.ASSERTION,
                f"the clock of {self.place} is not synchronized: leap indicator {answer.leap}, stratum {answer.stratum}",
            )
        if expect.stratum_at_most is not None and answer.stratum > expect.stratum_at_most:
            raise ProbeFailed(
                Reason.ASSERTION,
                f"{self.place} has stratum {answer.stratum}, wanted at most {expect.stratum_at_most}",
            )
        age = None if answer.referenced is None else sample.arrived - answer.referenced
        if expect.reference_age_at_most is not None and (age is None or age > expect.reference_age_at_most):
            seen = "never" if age is None else f"{show_duration(round(age, 1))} ago"
            raise ProbeFailed(
                Reason.ASSERTION,
                f"the clock of {self.place} was set last {seen}, wanted at most "
                f"{show_duration(expect.reference_age_at_most)}",
            )
        if expect.offset_at_most is not None and abs(sample.offset) > expect.offset_at_most:
            way = "ahead of" if sample.offset > 0 else "behind"
            raise ProbeFailed(
                Reason.ASSERTION,
                f"the clock of {self.place} is {_span(abs(sample.offset))} {way} this machine's, "
                f"wanted at most {show_duration(expect.offset_at_most)}",
            )
        if expect.slower_than is not None and sample.delay > expect.slower_than:
            raise ProbeFailed(
                Reason.TOO_SLOW,
                f"the answer of {self.place} took {sample.delay * 1000:.3g} ms, "
                f"wanted at most {show_duration(expect.slower_than)}",
            )


def _span(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else show_duration(round(seconds, 1))


async def _answer(line: DatagramSocket, asked: dict[bytes, float]) -> Sample:
    while True:
        datagram: Datagram = await line.receive()
        answer = ntp_packet.read(datagram.data, datagram.arrived)
        if answer.nonce in asked:  # any other was never asked for, and may be forged
            return Sample(answer, asked[answer.nonce], datagram.arrived)
        await asyncio.sleep(0)


def write_down(watch: Watch, sample: Sample) -> None:
    """As measures and evidence. A kiss-o'-death has no time in it."""
    answer = sample.answer
    watch.measure("stormwatch_ntp_stratum", answer.stratum)
    watch.measure("stormwatch_ntp_leap", answer.leap)
    evidence: dict[str, str | int | float] = {
        "stratum": answer.stratum,
        "leap": answer.leap,
        "reference": answer.reference,
        "version": answer.version,
    }
    if answer.stratum:
        watch.measure("stormwatch_ntp_offset_seconds", sample.offset)
        watch.measure("stormwatch_ntp_delay_seconds", sample.delay)
        watch.measure("stormwatch_ntp_root_delay_seconds", answer.root_delay)
        watch.measure("stormwatch_ntp_root_dispersion_seconds", answer.root_dispersion)
        evidence |= {"offset_ms": round(sample.offset * 1000, 4), "delay_ms": round(sample.delay * 1000, 4)}
        if answer.referenced is not None:
            watch.measure("stormwatch_ntp_reference_age_seconds", sample.arrived - answer.referenced)
    watch.note("ntp", evidence)


def _way(target: str, options: NtpOptions) -> Way:
    return Way(
        place=Endpoint.parse(target, default_port=PORT),
        resolver=resolver_of(options.resolver),
        ip=options.ip,
        datagrams=True,
    )


KIND: Final = Kind(
    name="ntp",
    options=NtpOptions,
    build=build,
    detour=asking_names(_way),
    phases=("resolve", "exchange"),
    phase_metric=Metric("stormwatch_ntp_duration_seconds", "Seconds of an NTP probe by phase"),
    metrics=(
        Metric("probe_dns_lookup_time_seconds", "Seconds that looking up the target's name took"),
        Metric("probe_ip_protocol", "IP version of the address that was used: 4 or 6, 0 when the name did not resolve"),
        Metric("probe_ip_addr_hash", "FNV-1a hash of the address that was used: changes when the address does"),
        Metric("stormwatch_ntp_offset_seconds", "Seconds that the server's clock is ahead of this machine's"),
        Metric("stormwatch_ntp_delay_seconds", "Seconds that question and answer were on their way together"),
        Metric("stormwatch_ntp_stratum", "Servers up to a clock, this one included; 0 for a kiss-o'-death"),
        Metric("stormwatch_ntp_leap", "Leap indicator: 0 none, 1 and 2 a leap second today, 3 not synchronized"),
        Metric("stormwatch_ntp_root_delay_seconds", "Seconds of the way from the server to its clock and back"),
        Metric(
            "stormwatch_ntp_root_dispersion_seconds", "Seconds by which the server may be wrong, by its own account"
        ),
        Metric("stormwatch_ntp_reference_age_seconds", "Seconds since the server's clock was set last"),
    ),
    reasons=frozenset(
        {
            Reason.DNS,
            Reason.REFUSED,
            Reason.UNREACHABLE,
            Reason.TIMEOUT,
            Reason.ASSERTION,
            Reason.PROTOCOL,
            Reason.TOO_SLOW,
        }
    ),
)
