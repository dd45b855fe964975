"""The kind `http`: one request on a connection of its own, phases by libcurl's clocks, the answer judged."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from stormwatch.probes.client import DETOUR, Client, build_client
from stormwatch.probes.client_options import ClientOptions
from stormwatch.probes.expectation import Expectations, ExpectHttp
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.judgement import judge
from stormwatch.probes.options import STRICT, File
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.report import METRICS, PHASE_METRIC, PHASES, write_cel, write_down
from stormwatch.probes.request import Request
from stormwatch.probes.result import Reason
from stormwatch.probes.session import Session, find_addresses, is_absence
from stormwatch.probes.url import Url
from stormwatch.probes.visit import EXCERPT, Visit
from stormwatch.probes.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions(ClientOptions):
    """How to ask, and what the answer must be."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    method: Annotated[str, Field(pattern=r"^[A-Za-z]+$")] = "GET"
    """The request's method."""
    headers: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict[str, str | tuple[str, ...]], repr=False)
    """Request headers, with one value or several. They are never kept as evidence."""
    body: str | None = None
    """The request's body. Its type is not guessed: give a Content-Type header."""
    body_file: File = ""
    """File with the request's body, read when the configuration is."""
    expect: ExpectHttp = field(default_factory=ExpectHttp)
    """What the answer must be."""


def build(target: str, options: HttpOptions) -> Check:
    """A check of one URL. Raises ValueError for a URL or an option that cannot work."""
    url = Url.parse(target)
    _check_expected(url, options)
    client = build_client(url, options)
    return HttpCheck(
        client=client,
        request=client.request(url, method=options.method, headers=options.headers, body=_body(options)),
        options=options,
        expectations=Expectations(options.expect),
    )


@dataclass(frozen=True, slots=True, eq=False)
class HttpCheck:
    """Looks at one URL. Everything that does not change between runs is made by `build`."""

    client: Client
    request: Request
    options: HttpOptions
    expectations: Expectations

    async def __call__(self, watch: Watch) -> None:
        """Ask, follow, judge. Whatever was seen is written down, however it ends."""
        if self.options.ip == "every":
            await self._ask_every_address(watch)
            return
        visit = self._visit()
        try:
            await self._ask(watch, visit)
        finally:
            self._write_down(watch, visit)

    async def _ask(self, watch: Watch, visit: Visit, *, only: str = "") -> None:
        expect = self.options.expect
        with Session(self.client, watch) as session:
            if not (expect.refused or expect.unresolved or expect.tls_rejected):
                await session.fetch(self.request, visit, only=only)
                await judge(watch, self.expectations, visit)
                return
            try:
                await session.fetch(self.request, visit, only=only)
            except ProbeFailed as failure:
                if _as_expected(expect, failure, visit):
                    return
                if failure.phase in _BEFORE[expect.refused, expect.unresolved]:
                    raise
        wanted, phase = _unexpected(expect, visit)
        visit.failed_phase = phase
        raise ProbeFailed(Reason.ASSERTION, wanted, phase=phase)

    async def _ask_every_address(self, watch: Watch) -> None:
        """Each address as a visit of its own, a few at a time. What is told of one is told of the worst of them."""
        found, lookup = await self._every_address(watch)
        addresses = found[:ADDRESSES]
        visits = {address: self._visit() for address in addresses}
        seen: dict[str, ProbeFailed | ProbeBroken] = {}
        slots = asyncio.Semaphore(AT_ONCE)

        async def ask(address: str, visit: Visit) -> None:
            try:
                async with slots:
                    await self._ask(watch, visit, only=address)
            except (ProbeFailed, ProbeBroken) as failure:
                seen[address] = failure
            except asyncio.CancelledError:
                seen[address] = ProbeFailed(Reason.TIMEOUT, "no answer in time", phase=visit.phase)
                raise

        try:
            async with asyncio.TaskGroup() as group:
                for address, visit in visits.items():
                    group.create_task(ask(address, visit))
        finally:
            failures = {address: seen[address] for address in addresses if address in seen}
            told = next(iter(failures), "") or max(addresses, key=lambda each: visits[each].seconds)
            visits[told].lookup = lookup
            self._write_down(watch, visits[told])
            watch.took(lookup + max(visit.seconds for visit in visits.values()))
            self._write_addresses(watch, visits, failures, left_out=found[ADDRESSES:])
        broken = next((each for each in failures.values() if isinstance(each, ProbeBroken)), None)
        if broken is not None:
            raise broken
        wanted = self.options.expect.addresses_up or len(addresses)
        if len(addresses) - len(failures) < wanted:
            raise _too_few(failures, len(addresses), wanted)

    async def _every_address(self, watch: Watch) -> tuple[tuple[str, ...], float]:
        """All that may be connected to, and the seconds that finding them took."""
        place = self.client.detour or self.client.home.place
        began = watch.clock.monotonic()
        try:
            found = await find_addresses(self.client, place, clock=watch.clock.monotonic)
            return watch.reach.permitted(found, place.host), watch.clock.monotonic() - began
        except BaseException:
            visit = self._visit()
            visit.begin(self.client.home, watch.clock.monotonic)
            visit.resolved(watch.clock.monotonic() - began, began - watch.began, "")
            visit.failed_phase = "resolve"
            self._write_down(watch, visit)
            raise

    def _visit(self) -> Visit:
        return Visit(keep=self.options.max_body if self.expectations.needs_body else EXCERPT)

    def _write_down(self, watch: Watch, visit: Visit) -> None:
        write_down(watch, visit, self.client.trust)
        if self.expectations.uses_cel:
            write_cel(watch, visit)

    def _write_addresses(
        self,
        watch: Watch,
        visits: Mapping[str, Visit],
        failures: Mapping[str, ProbeFailed | ProbeBroken],
        left_out: Sequence[str],
    ) -> None:
        for address, visit in visits.items():
            watch.measure("stormwatch_http_address_up", address not in failures, address=address)
            watch.measure("stormwatch_http_address_duration_seconds", visit.seconds, address=address)
        watch.note(
            "addresses",
            {
                address: str(failures.get(address, "")) or {"status": visit.status, "seconds": visit.seconds}
                for address, visit in visits.items()
            },
        )
        if left_out:
            watch.note("addresses_left_out", list(left_out))


ADDRESSES: Final = 32
"""Addresses of one name that are asked; the others are named in the evidence."""
AT_ONCE: Final = 8
"""Addresses that are asked at the same time."""


def _too_few(failures: Mapping[str, ProbeFailed | ProbeBroken], asked: int, wanted: int) -> ProbeFailed:
    address, first = next(iter(failures.items()))
    assert isinstance(first, ProbeFailed)
    message = f"{asked - len(failures)} of {asked} addresses do, wanted {wanted}; {address}: {first.message}"
    return ProbeFailed(first.reason, message, phase=first.phase)


_BEFORE: Final[Mapping[tuple[bool, bool], frozenset[str]]] = {
    (True, False): frozenset({"resolve", "connect"}),
    (False, True): frozenset({"resolve"}),
    (False, False): frozenset({"resolve", "connect", "tls"}),
}
"""By `refused` and `unresolved`: phases in which another failure is told as what it is."""


def _as_expected(expect: ExpectHttp, failure: ProbeFailed, visit: Visit) -> bool:
    if expect.refused:
        return failure.reason is Reason.REFUSED
    if expect.unresolved:
        return failure.reason is Reason.DNS and is_absence(failure)
    return bool(visit.handshake.alert)


def _unexpected(expect: ExpectHttp, visit: Visit) -> tuple[str, str]:
    """What is wrong when the failure that was wanted did not come, and in which phase."""
    if expect.refused:
        return f"{visit.remote} accepted the connection, wanted it refused", "connect"
    if expect.unresolved:
        return f"the name resolved to {visit.address}, wanted it not to", "resolve"
    seen = f"answered with status {visit.status}" if visit.status else "ended the connection without an alert"
    return f"{visit.remote} {seen}, wanted the handshake ended with a TLS alert", "tls"


def _check_expected(url: Url, options: HttpOptions) -> None:
    expect = options.expect
    if sum((expect.refused, expect.unresolved, expect.tls_rejected)) > 1:
        raise ValueError("expect: give one of refused, unresolved and tls_rejected")
    if expect.refused and (options.proxy or options.proxy_from_environment):
        raise ValueError("expect.refused: behind a proxy it would be the proxy that refuses")
    if expect.unresolved and options.ip == "every":
        raise ValueError("expect.unresolved: with `ip: every` there is an address for each that is asked")
    if expect.addresses_up is not None and options.ip != "every":
        raise ValueError("expect.addresses_up: give it with `ip: every`")
    if expect.tls_rejected and not url.tls:
        raise ValueError("expect.tls_rejected: the target is not https")


def _body(options: HttpOptions) -> bytes | None:
    if options.body is not None and options.body_file:
        raise ValueError("body: give it here or in body_file, not in both")
    if not options.body_file:
        return None if options.body is None else options.body.encode()
    try:
        return Path(options.body_file).read_bytes()
    except OSError as error:
        raise ValueError(f"body_file {options.body_file} cannot be read: {error.strerror}") from error


KIND: Final = Kind(
    name="http",
    options=HttpOptions,
    build=build,
    detour=DETOUR,
    phases=PHASES,
    phase_metric=PHASE_METRIC,
    metrics=(
        *METRICS,
        Metric("stormwatch_http_address_up", "With `ip: every`, 1 when the address did what was expected"),
        Metric("stormwatch_http_address_duration_seconds", "With `ip: every`, seconds that the address took"),
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
            Reason.STATUS,
            Reason.ASSERTION,
            Reason.PROTOCOL,
            Reason.TOO_SLOW,
        }
    ),
)
