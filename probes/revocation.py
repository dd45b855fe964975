"""Whether a certificate has been revoked: by the OCSP response stapled to the handshake, by asking, by the issuer's CRL.

What was found is shared by all probes and kept until there must be a newer answer, or `fresh_for` has passed: responders
are not asked every thirty seconds. An answer that could not be had is asked for again in the next run.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Final, Generic, Literal, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from pydantic import ConfigDict

from stormwatch.probes import crl, ocsp
from stormwatch.probes.certificate import facts_of, info_labels, show_time
from stormwatch.probes.crl import RevocationList
from stormwatch.probes.endpoint import Endpoint
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.fetch import fetch
from stormwatch.probes.malformed import MALFORMED
from stormwatch.probes.ocsp import NotUsable, Status
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Metric
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Bytes, Seconds, show_duration
from stormwatch.probes.watch import Watch

PHASE: Final = "revocation"
_ANSWERS: Final = 1024
"""OCSP answers that are kept."""
_LISTS: Final = 64
"""CRLs that are kept. Large ones have some megabytes."""
_DEPTH: Final = 8
"""Certificates of a path that are asked about."""
_POINTS: Final = 3
"""Addresses of a certificate that are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationOptions:
    """How to find out whether certificates have been revoked, and what it means when that cannot be found out."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    ocsp: Literal["off", "staple", "ask", "any"] = "off"
    """`staple`: the answer that the server sends along; `ask`: ask the responder that the certificate names; `any`: ask
    when no good answer was sent along."""
    must_staple: bool = False
    """The server must send a good OCSP answer along."""
    crl: bool = False
    """Look into the lists that the certificate names."""
    chain: bool = False
    """Ask about the intermediates too, not only about the server's certificate."""
    on_unknown: Literal["ok", "down"] = "ok"
    """What it means when no source could say: nothing, as with browsers, or down."""
    within: Seconds = 3.0
    """How long one question or one list may take."""
    fresh_for: Seconds = 3600.0
    """How long an answer or a list is used before a newer one is asked for, also when it is valid for longer."""
    max_crl: Bytes = 16 * 2**20
    """Largest list that is read."""

    @property
    def wants_staple(self) -> bool:
        """Whether the server has to be asked for its OCSP answer."""
        return self.must_staple or self.ocsp in ("staple", "any")

    @property
    def asks(self) -> bool:
        """Whether connections are made to addresses that certificates name."""
        return self.crl or self.ocsp in ("ask", "any")


class _Dated(Protocol):
    @property
    def next_update(self) -> float | None: ...


T = TypeVar("T")
D = TypeVar("D", bound=_Dated)


class _Kept(Generic[D]):
    """Answers by key, those used last at the end, each fetched once at a time whoever wants it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: OrderedDict[Any, tuple[float, D]] = OrderedDict()
        self._locks: dict[Any, asyncio.Lock] = {}

    async def get(self, key: Any, fetched: Callable[[], Awaitable[D]], *, now: float, fresh_for: float) -> D:
        """The answer, fetched when there is none that is fresh. An older one is better than none, until its next update."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                since, known = self._found.get(key, (0.0, None))
                if known is not None and _over(known.next_update, now):
                    known = None
                if known is not None and 0 <= now - since < fresh_for:
                    self._found.move_to_end(key)
                    return known
                try:
                    found = await fetched()
                except (ProbeFailed, ProbeBroken, NotUsable):
                    if known is None:
                        raise
                    return known
                self._found[key] = (now, found)
                self._found.move_to_end(key)
                while len(self._found) > self._most:
                    self._found.popitem(last=False)
                return found
        finally:
            if not lock.locked():
                self._locks.pop(key, None)


def _over(next_update: float | None, now: float) -> bool:
    return next_update is not None and next_update <= now


class Authorities:
    """What authorities have said of certificates: kept for all probes of a process."""

    def __init__(self) -> None:
        self.answers: _Kept[Status] = _Kept(_ANSWERS)
        self.lists: _Kept[RevocationList] = _Kept(_LISTS)

    async def aclose(self) -> None:
        """Nothing is open."""


class _Inquiry:
    """What is found out about one certificate of a path in one run."""

    def __init__(
        self,
        watch: Watch,
        options: RevocationOptions,
        pair: tuple[x509.Certificate, x509.Certificate],
        *,
        position: int,
        server: Endpoint | None,
        at: float,
    ) -> None:
        self.certificate, self.issuer = pair
        self.revoked: bool | None = None
        self.revoked_by = ""
        self.sources: list[dict[str, Any]] = []
        """What each source said: evidence."""
        self.problems: list[str] = []
        self.ours: ProbeBroken | None = None
        """What we could not or may not do ourselves."""
        self._watch = watch
        self._options = options
        self._position = position
        self._server = server
        self._at = at
        self._kept = watch.resources.get(Authorities)

    @property
    def subject(self) -> str:
        return self.certificate.subject.rfc4514_string()

    def look_at_staple(self, staple: bytes) -> None:
        """Raises ProbeFailed when there is no good one, and there must be."""
        self._watch.measure("stormwatch_tls_ocsp_stapled", bool(staple))
        problem = "the server sent no OCSP response along"
        if staple:
            try:
                status = ocsp.read_answer(staple, self.certificate, self.issuer, self._at)
            except NotUsable as error:
                problem = str(error)
            else:
                self._take("the stapled OCSP response", status)
                self._measure_ocsp(status, "staple")
                return
        self._miss("the stapled OCSP response", problem)
        if self._options.must_staple:
            raise ProbeFailed(Reason.CERTIFICATE, f"{problem}, wanted a good one", phase=PHASE)
        if _demands_staple(self.certificate):
            raise ProbeFailed(
                Reason.CERTIFICATE, f"{problem}, and its certificate demands a good one (RFC 7633)", phase=PHASE
            )

    async def ask(self) -> None:
        """Ask the responders that the certificate names, until one knows."""
        addresses = ocsp.responders(self.certificate)
        if not addresses:
            self._miss("OCSP", "the certificate names no OCSP responder")
        for address in addresses[:_POINTS]:
            status = await self._patiently(address, self._ask_one(address))
            if status is not None:
                self._take(address, status)
                self._measure_ocsp(status, "responder")
                return

    async def _ask_one(self, address: str) -> Status:
        async def fetched() -> Status:
            answer = await fetch(
                self._watch,
                address,
                most=ocsp.LARGEST,
                body=ocsp.question(self.certificate, self.issuer),
                content_type="application/ocsp-request",
                server=self._server,
            )
            return ocsp.read_answer(answer, self.certificate, self.issuer, self._at)

        key = (address, self.certificate.fingerprint(hashes.SHA256()), self.issuer.fingerprint(hashes.SHA256()))
        return await self._kept.answers.get(key, fetched, now=self._at, fresh_for=self._options.fresh_for)

    async def look_into_lists(self) -> None:
        """Read the lists that the certificate names, until one says something."""
        addresses = crl.distribution_points(self.certificate)
        if not addresses:
            self._miss("CRL", "the certificate names no CRL")
        labels = {**info_labels(self.certificate, facts_of(self.certificate)), "chain_pos": str(self._position)}
        for address in addresses[:_POINTS]:
            listed = await self._patiently(address, self._list_at(address))
            self._watch.measure("probe_ssl_crl_available", listed is not None, **labels, crl_url=address)
            if listed is not None and self._take_list(listed, address, {**labels, "crl_url": address}):
                return

    async def _list_at(self, address: str) -> RevocationList:
        async def fetched() -> RevocationList:
            began = self._watch.clock.monotonic()
            data = await fetch(self._watch, address, most=self._options.max_crl, server=self._server)
            self._watch.measure("probe_ssl_crl_fetch_time_seconds", self._watch.clock.monotonic() - began)
            # Megabytes are hashed and read: not on the loop.
            return await asyncio.to_thread(crl.read_list, data, self.issuer, self._at)

        key = (address, self.issuer.fingerprint(hashes.SHA256()))
        return await self._kept.lists.get(key, fetched, now=self._at, fresh_for=self._options.fresh_for)

    def _take_list(self, listed: RevocationList, address: str, labels: dict[str, str]) -> bool:
        """Whether the list said something about the certificate."""
        stale = listed.stale(self._at)
        self._watch.measure("probe_ssl_crl_stale", stale, **labels)
        if listed.next_update is not None:
            self._watch.measure("probe_ssl_crl_next_update_timestamp_seconds", listed.next_update, **labels)
        try:
            status = listed.status(self.certificate)
        except NotUsable as error:
            self._miss(address, f"{address}: {error}")
            return False
        self._watch.measure("probe_ssl_crl_revoked", bool(status.revoked), **labels)
        if stale and not status.revoked:  # what was revoked stays so, but what is not may have been since
            until = show_time(listed.next_update or 0.0)
            self._miss(address, f"the CRL at {address} was good until {until}, and is stale")
            return False
        self._take(address, status)
        return True

    async def _patiently(self, address: str, answer: Coroutine[Any, Any, T]) -> T | None:
        """An answer; None when there is none, which is written down. Leaves some of the run's time to say so."""
        patience = min(self._options.within, self._watch.remaining() * 0.9)
        limit = asyncio.timeout(patience)
        try:
            async with limit:
                return await answer
        except TimeoutError:
            if not limit.expired():
                raise
            self._miss(address, f"no answer from {address} within {show_duration(patience)}")
        except NotUsable as error:
            self._miss(address, f"{address}: {error}")
        except ProbeFailed as failure:
            self._miss(address, failure.message)
        except ProbeBroken as failure:
            self._miss(address, failure.message)
            self.ours = failure
        return None

    def _take(self, source: str, status: Status) -> None:
        """One source has an answer: a revocation counts whatever others say."""
        told: dict[str, Any] = {
            "chain_pos": str(self._position),
            "source": source,
            "said": "unknown" if status.revoked is None else "revoked" if status.revoked else "good",
            "this_update": show_time(status.this_update),
        }
        if status.next_update is not None:
            told["next_update"] = show_time(status.next_update)
        if status.revoked:
            when = f" at {show_time(status.revoked_at)}" if status.revoked_at is not None else ""
            told["revoked"] = f"{status.reason or 'no reason given'}{when}"
            self.revoked = True
            self.revoked_by = f"revoked{when} ({status.reason or 'no reason given'}), says {source}"
        elif status.revoked is None:
            self.problems.append(f"{source} does not know the certificate")
        elif self.revoked is None:
            self.revoked = False
        self.sources.append(told)

    def _miss(self, source: str, problem: str) -> None:
        """One source has no answer."""
        self.sources.append({"chain_pos": str(self._position), "source": source, "problem": problem})
        self.problems.append(problem)

    def _measure_ocsp(self, status: Status, source: str) -> None:
        if status.next_update is not None:
            self._watch.measure(
                "stormwatch_tls_ocsp_next_update_timestamp_seconds",
                status.next_update,
                chain_pos=str(self._position),
                source=source,
            )

    def write_down(self) -> None:
        """The verdict, as a measure."""
        if self.revoked is not None:
            self._watch.measure("stormwatch_tls_revoked", self.revoked, chain_pos=str(self._position))


def _demands_staple(certificate: x509.Certificate) -> bool:
    try:
        features = certificate.extensions.get_extension_for_class(x509.TLSFeature).value
    except MALFORMED:
        return False
    return x509.TLSFeatureType.status_request in features


async def check(
    watch: Watch,
    options: RevocationOptions,
    path: Sequence[x509.Certificate],
    staple: bytes,
    *,
    server: Endpoint | None,
    at: float,
) -> None:
    """Find out about the certificates of a path, write it down, and raise ProbeFailed for what is revoked.

    `path` leads from the server's certificate to the trusted one, which is not asked about: nobody could say.
    """
    if not options.wants_staple and not options.asks:
        return
    pairs = list(pairwise(path))[: _DEPTH if options.chain else 1]
    inquiries = [
        _Inquiry(watch, options, pair, position=position, server=server, at=at) for position, pair in enumerate(pairs)
    ]
    with watch.phase(PHASE):
        try:
            for inquiry in inquiries:
                if options.wants_staple and inquiry is inquiries[0]:
                    inquiry.look_at_staple(staple)
                if options.ocsp == "ask" or (options.ocsp == "any" and inquiry.revoked is None):
                    await inquiry.ask()
                if options.crl:
                    await inquiry.look_into_lists()
        finally:
            for inquiry in inquiries:
                inquiry.write_down()
            watch.note("revocation", [source for inquiry in inquiries for source in inquiry.sources])
        _judge(options, inquiries)


def _judge(options: RevocationOptions, inquiries: Sequence[_Inquiry]) -> None:
    for each in inquiries:
        if each.revoked:
            raise ProbeFailed(
                Reason.CERTIFICATE, f"the certificate of {each.subject} is {each.revoked_by}", phase=PHASE
            )
    if options.on_unknown == "ok":
        return
    if not inquiries:
        raise ProbeFailed(
            Reason.CERTIFICATE, "nobody can say whether a certificate that is trusted itself is revoked", phase=PHASE
        )
    for each in inquiries:
        if each.revoked is None:
            if each.ours is not None:
                raise ProbeBroken(each.ours.reason, each.ours.message, phase=PHASE)
            raise ProbeFailed(
                Reason.CERTIFICATE,
                f"nobody could say whether the certificate of {each.subject} is revoked: {'; '.join(each.problems)}",
                phase=PHASE,
            )


METRICS: Final = (
    Metric(
        "stormwatch_tls_revoked", "1 when a certificate of the verified chain is revoked, by its position; 0 when not"
    ),
    Metric("stormwatch_tls_ocsp_stapled", "1 when the server sent an OCSP response along"),
    Metric(
        "stormwatch_tls_ocsp_next_update_timestamp_seconds",
        "Unix time until which an OCSP response is good, by position of the certificate, and staple or responder",
    ),
    Metric("probe_ssl_crl_available", "1 when the CRL that a certificate names could be had and is its issuer's"),
    Metric("probe_ssl_crl_revoked", "1 when the certificate is in the CRL"),
    Metric("probe_ssl_crl_stale", "1 when there should be a newer CRL"),
    Metric("probe_ssl_crl_next_update_timestamp_seconds", "Unix time at which there must be a newer CRL"),
    Metric("probe_ssl_crl_fetch_time_seconds", "Seconds that fetching a CRL took, in runs that fetched one"),
)
"""What `check` writes down: blackbox_exporter's names for CRLs, ours for the rest."""
