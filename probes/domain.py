"""The kind `domain`: when a domain name expires, and what its registry says of it, by RDAP.

What a registry does not answer says nothing about the name: everything that goes wrong on the way to it is broken, not down. And
it is asked once an hour at most, because registries limit who asks more: runs in between judge the last answer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from pydantic import ConfigDict

from stormwatch.probes.certificate import load_trust
from stormwatch.probes.endpoint import Endpoint, check_host, is_address
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.options import STRICT, File
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.rdap import OTHER, STATUSES, Bootstrap, Registration, epp_status, read_bootstrap, read_domain
from stormwatch.probes.registry import Answer, RateLimited, ask
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds, show_duration
from stormwatch.probes.url import Url
from stormwatch.probes.watch import Watch

log = logging.getLogger(__name__)

IANA: Final = "https://data.iana.org/rdap/dns.json"
FRESH: Final = 3600.0
"""Seconds that an answer is judged again before the registry is asked anew."""
FRESH_BOOTSTRAP: Final = 86400.0
"""Seconds that the list of registries is used."""
STALE: Final = 7 * 86400.0
"""Seconds that an answer is judged while the registry does not answer: the date on it is still the date."""
AGAIN: Final = 300.0
"""Seconds after which a registry that did not answer is asked again."""
MARGIN: Final = 0.05
"""Seconds before the deadline at which we give up: after it, the name would be blamed."""
AT_ONCE: Final = 2
"""Runs at once: a start with hundreds of names must not be a flood for one registry."""

BAD: Final = ("clientHold", "serverHold", "pendingDelete", "redemptionPeriod", "inactive")
"""Statuses of names that do not resolve, or soon will not (ICANN's EPP status codes)."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectDomain:
    """What must be true of the name beside its date."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    status: tuple[str, ...] = ()
    """Statuses that the name must have, as `clientTransferProhibited`."""
    not_status: tuple[str, ...] = BAD
    """Statuses that it must not have."""
    nameservers: tuple[str, ...] = ()
    """Its name servers: these and no others; any when empty."""
    registrar_matches: str = ""
    """An RE2 expression that the registrar's name must match."""
    signed: bool | None = None
    """Whether its delegation must be signed (DNSSEC), or must not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainOptions:
    """Whom to ask, and what must be true."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    expires_within: Seconds = 30 * 86400.0
    """Down when the name expires sooner; `0s` to look at the rest only."""
    rdap: str = ""
    """Base URL of the RDAP service; the one that the bootstrap registry names when empty."""
    bootstrap: str = IANA
    """Where the bootstrap registry is fetched (RFC 9224)."""
    bootstrap_file: File = ""
    """A file with it, instead."""
    ca_file: File = ""
    """PEM file of the certificate authorities to trust; the system's when empty."""
    resolver: str = ""
    """Name server to resolve registries by, `host:port`; the system's resolver when empty."""
    expect: ExpectDomain = field(default_factory=ExpectDomain)
    """What the registry must say."""


def build(target: str, options: DomainOptions) -> Check:
    """A check of one name. Raises ValueError for a target or an option that cannot work."""
    name = check_host(target, what="target").lower().rstrip(".")
    if is_address(name) or "." not in name:
        raise ValueError(f"target is a registered domain name like shop.example, not {target!r}")
    known = set(STATUSES.values())
    for where, statuses in (("status", options.expect.status), ("not_status", options.expect.not_status)):
        for number, status in enumerate(statuses):
            if epp_status(status) not in known:
                raise ValueError(
                    f"expect.{where}[{number}]: {status!r} is no status of a domain; there are {', '.join(sorted(known))}"
                )
    return DomainCheck(
        name=name,
        options=options,
        service=_base(options.rdap, "rdap") if options.rdap else "",
        bootstrap=_bootstrap(options) if not options.rdap else None,
        ca_file=load_trust(options.ca_file)[0],
        server=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
        nameservers=frozenset(
            check_host(each, what="expect.nameservers").lower().rstrip(".") for each in options.expect.nameservers
        ),
        registrar=compile_pattern(options.expect.registrar_matches, "expect.registrar_matches")
        if options.expect.registrar_matches
        else None,
    )


def _base(text: str, option: str) -> str:
    try:
        return Url.parse(text if text.endswith("/") else f"{text}/").text
    except ValueError as error:
        raise ValueError(f"{option}: {str(error).removeprefix('target ')}") from None


def _bootstrap(options: DomainOptions) -> Bootstrap | str:
    if not options.bootstrap_file:
        return _base(options.bootstrap, "bootstrap").rstrip("/")
    try:
        return read_bootstrap(Path(options.bootstrap_file).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"bootstrap_file: {options.bootstrap_file} cannot be used: {error}") from None


@dataclass(slots=True)
class _Kept:
    """The last good answer to one question, and what went wrong since."""

    value: Registration | Bootstrap | None = None
    at: float | None = None
    broken: ProbeBroken | None = None
    again: float = 0.0
    """When it may be asked again after a failure, on the monotonic clock."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Registries:
    """What registries have said, for all probes of an event loop."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._waits: dict[str, tuple[float, ProbeBroken]] = {}

    async def aclose(self) -> None:
        """Forget it all."""
        self._kept.clear()

    def kept(self, service: str, name: str) -> _Kept:
        """What is known of a name at a service."""
        return self._kept.setdefault((service, name), _Kept())

    def check_turn(self, service: str, now: float) -> None:
        """Raise ProbeBroken while a service has told us to wait."""
        until, broken = self._waits.get(service, (0.0, None))
        if broken is not None and now < until:
            raise broken

    def wait(self, service: str, until: float, broken: ProbeBroken) -> None:
        """A service has told us to wait."""
        self._waits[service] = (until, broken)


@dataclass(frozen=True, slots=True, eq=False)
class DomainCheck:
    """Asks about one name."""

    name: str
    options: DomainOptions
    service: str
    bootstrap: Bootstrap | str | None
    ca_file: str
    server: Endpoint | None
    nameservers: frozenset[str]
    registrar: Pattern | None

    async def __call__(self, watch: Watch) -> None:
        """Find the service, ask it, judge."""
        registries = watch.resources.get(Registries)
        with watch.phase("bootstrap"):
            service = self.service or await self._service(watch, registries)
        watch.note("service", service)
        kept = registries.kept(service, self.name)
        with watch.phase("ask"):
            answered = await self._known(watch, kept, FRESH, lambda: self._ask(watch, registries, service))
        assert kept.at is not None
        watch.measure("stormwatch_domain_answer_age_seconds", watch.clock.monotonic() - kept.at)
        if answered is None:
            raise ProbeFailed(Reason.ASSERTION, f"{self.name} is not registered, says {service}")
        assert isinstance(answered, Registration)
        _write_down(watch, answered)
        self._judge(answered, watch.clock.now())

    async def _service(self, watch: Watch, registries: Registries) -> str:
        bootstrap = self.bootstrap
        if isinstance(bootstrap, str):
            url = bootstrap
            kept = registries.kept(url, "")
            found = await self._known(
                watch, kept, FRESH_BOOTSTRAP, lambda: self._fetch(watch, registries, url, url, read_bootstrap)
            )
            assert isinstance(found, Bootstrap)
            bootstrap = found
        assert bootstrap is not None
        service = bootstrap.service_for(self.name)
        if service is None:
            suffix = self.name.rpartition(".")[2]
            raise ProbeBroken(
                Reason.INTERNAL, f"no RDAP service is known for .{suffix}: name one with `rdap`, if there is one"
            )
        return service

    async def _ask(self, watch: Watch, registries: Registries, service: str) -> Registration | None:
        return await self._fetch(
            watch,
            registries,
            service,
            f"{service}domain/{self.name}",
            lambda data: read_domain(data, self.name),
            missing=True,
        )

    async def _known(
        self,
        watch: Watch,
        kept: _Kept,
        fresh: float,
        ask_anew: Callable[[], Awaitable[Registration | Bootstrap | None]],
    ) -> Registration | Bootstrap | None:
        """The last answer while it is fresh; a new one; or the last one for as long as there is no new one."""
        async with kept.lock:
            now = watch.clock.monotonic()
            if kept.at is not None and now - kept.at < fresh:
                return kept.value
            if kept.broken is None or now >= kept.again:
                try:
                    kept.value = await ask_anew()
                except ProbeBroken as broken:
                    kept.broken, kept.again = broken, watch.clock.monotonic() + AGAIN
                else:
                    kept.at, kept.broken = watch.clock.monotonic(), None
                    return kept.value
            if kept.at is not None and now - kept.at < STALE:
                watch.note("not_answered", kept.broken.message)
                return kept.value
            raise kept.broken

    async def _fetch(
        self,
        watch: Watch,
        registries: Registries,
        service: str,
        url: str,
        read: Callable[[bytes], T],
        *,
        missing: bool = False,
    ) -> T | None:
        registries.check_turn(service, watch.clock.monotonic())
        try:
            async with asyncio.timeout(max(0.0, watch.remaining() - MARGIN)):
                answer: Answer = await ask(watch, url, ca_file=self.ca_file, server=self.server)
        except TimeoutError:
            raise ProbeBroken(Reason.NETWORK, f"no answer from {url} within {watch.timeout:g} s") from None
        except RateLimited as limited:
            broken = ProbeBroken(
                Reason.RESOURCES,
                f"{url} has had enough questions from here: it is asked again in {show_duration(limited.seconds)}",
            )
            registries.wait(service, watch.clock.monotonic() + limited.seconds, broken)
            raise broken from None
        except ProbeFailed as failure:
            # The registry's troubles are no evidence about the name.
            raise ProbeBroken(Reason.NETWORK, f"the registry did not answer: {failure.message}") from failure
        if answer.status == 404 and missing:
            return None
        if answer.status != 200:
            raise ProbeBroken(Reason.NETWORK, f"{answer.url} answered with status {answer.status}")
        try:
            return read(answer.body)
        except ValueError as error:
            raise ProbeBroken(Reason.NETWORK, f"{answer.url} did not answer as RDAP has it: {error}") from error

    def _judge(self, seen: Registration, now: float) -> None:
        expect, within = self.options.expect, self.options.expires_within
        if within:
            if seen.expires is None:
                raise ProbeBroken(
                    Reason.INTERNAL,
                    f"the registry does not tell when {self.name} expires: set `expires_within: 0s` to do without",
                )
            left = seen.expires - now
            if left < within:
                when = "expired" if left < 0 else "expires"
                ago = f"{show_duration(int(abs(left)))} ago" if left < 0 else f"in {show_duration(int(left))}"
                raise ProbeFailed(
                    Reason.ASSERTION,
                    f"{self.name} {when} on {_date(seen.expires)}, {ago}, wanted {show_duration(within)} at least: renew it"
                    + (f" at {seen.registrar}" if seen.registrar else ""),
                )
        shown = ", ".join(seen.statuses) or "none"
        for status in map(epp_status, expect.not_status):
            if status in seen.statuses:
                raise ProbeFailed(
                    Reason.ASSERTION, f"{self.name} has status {status}, which it must not have; all: {shown}"
                )
        for status in map(epp_status, expect.status):
            if status not in seen.statuses:
                raise ProbeFailed(Reason.ASSERTION, f"{self.name} lacks status {status}; it has: {shown}")
        if self.nameservers and self.nameservers != frozenset(seen.nameservers):
            wanted, found = ", ".join(sorted(self.nameservers)), ", ".join(seen.nameservers) or "none"
            raise ProbeFailed(Reason.ASSERTION, f"name servers of {self.name} are {found}, wanted {wanted}")
        if self.registrar is not None and not self.registrar.search(seen.registrar.encode()):
            raise ProbeFailed(
                Reason.ASSERTION,
                f"registrar of {self.name} is {seen.registrar!r}, which does not match {expect.registrar_matches!r}",
            )
        if expect.signed is not None and seen.signed is not expect.signed:
            said = {True: "signed", False: "not signed", None: "not told to be signed or not"}
            raise ProbeFailed(
                Reason.ASSERTION, f"the delegation of {self.name} is {said[seen.signed]}, wanted {said[expect.signed]}"
            )


def _write_down(watch: Watch, seen: Registration) -> None:
    for name, moment in (("expiry", seen.expires), ("registration", seen.registered), ("last_changed", seen.changed)):
        if moment is not None:
            watch.measure(f"stormwatch_domain_{name}_timestamp_seconds", moment)
    known = set(STATUSES.values())
    for status in sorted({each if each in known else OTHER for each in seen.statuses}):
        watch.measure("stormwatch_domain_status", 1, status=status)
    watch.note(
        "registration",
        {
            "expires": _date(seen.expires) if seen.expires is not None else None,
            "registrar": seen.registrar,
            "statuses": list(seen.statuses[:30]),
            "nameservers": list(seen.nameservers[:30]),
            "signed": seen.signed,
        },
    )


def _date(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


KIND: Final = Kind(
    name="domain",
    options=DomainOptions,
    build=build,
    no_detour="is broken, and never down, when its registry cannot be reached: no fault on the way turns it red",
    phases=("bootstrap", "ask"),
    phase_metric=Metric("stormwatch_domain_duration_seconds", "Seconds of a look at a domain name by phase"),
    metrics=(
        Metric("stormwatch_domain_expiry_timestamp_seconds", "Unix time at which the domain name expires"),
        Metric("stormwatch_domain_registration_timestamp_seconds", "Unix time at which the domain name was registered"),
        Metric(
            "stormwatch_domain_last_changed_timestamp_seconds", "Unix time at which its registration was changed last"
        ),
        Metric("stormwatch_domain_status", "1 for each status that the domain name has"),
        Metric("stormwatch_domain_answer_age_seconds", "Seconds since the registry gave the answer that is judged"),
    ),
    reasons=frozenset({Reason.ASSERTION}),
    concurrency=AT_ONCE,
)
