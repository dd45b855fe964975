"""The fault proxy: routes that pass traffic on, faults that are put on them, and leases that end by themselves."""

import asyncio
import contextlib
import logging
import math
import socket
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from stormwatch.chaos.behaviour import Way
from stormwatch.chaos.catalog import FAULTS
from stormwatch.chaos.dns_gate import DnsGate
from stormwatch.chaos.door import Door
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault_kind import ROUTE
from stormwatch.chaos.injection import Injection
from stormwatch.chaos.link import Link, Traffic
from stormwatch.chaos.option import Options
from stormwatch.chaos.route import Route, client_context, misplaced, server_context
from stormwatch.chaos.tls_forgery import Forgery, SpoilsHandshakes
from stormwatch.probes.clock import Clock

log = logging.getLogger(__name__)

LONGEST_LEASE = 3600.0
"""Seconds: no fault lives longer than this without being renewed."""
IN_USE = 300.0
"""Seconds since a connection ended within which a route has clients that come again: probes do every few minutes at the least."""
RETRY = 1.0
"""Seconds until the end of a fault that could not be taken away is tried again."""
GRACE = 2.0
"""Seconds that connections have to end when the proxy stops."""


class UnknownRoute(Exception):
    """There is no such route."""


class UnknownFault(Exception):
    """There is no such fault (any more). `ended` says how it ended, if that is still known."""

    def __init__(self, message: str, ended: "Ended | None" = None) -> None:
        super().__init__(message)
        self.ended = ended


class Conflict(Exception):
    """There is a different fault of this id, or the route cannot have this fault."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A fault that is no longer in place."""

    id: str
    route: str
    how: str
    """`reverted`, `lease ran out`, `proxy stopped`."""
    at: float
    evidence: Evidence


class Gate:
    """One route at work: its listening socket, its links, its faults."""

    def __init__(self, route: Route, clock: Clock) -> None:
        self.route = route
        self.clock = clock
        self.server_context: ssl.SSLContext | None = server_context(route.tls) if route.tls else None
        self.client_context: ssl.SSLContext | None = client_context(route.tls) if route.tls else None
        self.faults: dict[str, Injection] = {}
        self.links: set[Link] = set()
        self.accepted = 0
        self.traffic: Mapping[Way, Traffic] = {Way.UPSTREAM: Traffic(), Way.DOWNSTREAM: Traffic()}
        self.address = ""
        self._forgeries: dict[str, Forgery] = {}
        """What faults of TLS show, by the fault."""
        self._door = Door(route.listen, self._welcome)
        self._left = -math.inf
        """When a connection ended last, on the monotonic clock."""

    def gone(self, link: Link) -> None:
        """A link has ended."""
        self.links.discard(link)
        self._left = self.clock.monotonic()

    def forgery(self, injection: Injection) -> Forgery:
        """What a fault of TLS shows here."""
        if injection.id not in self._forgeries:
            options = injection.options
            assert isinstance(options, SpoilsHandshakes)
            self._forgeries[injection.id] = Forgery(options, self.route, injection.since)
        return self._forgeries[injection.id]

    def put(self, injection: Injection) -> None:
        """A fault begins: for the connections that stand, and for those that come."""
        self.faults[injection.id] = injection
        for link in list(self.links):
            link.inject(injection)
        if injection.refuses:
            self._door.shut(self._refused)

    def take(self, fault: str) -> Injection | None:
        """A fault ends. Raises OSError when the port cannot be opened again: then it is still in place."""
        injection = self.faults.get(fault)
        if injection is None:
            return None
        if injection.refuses and not any(one.refuses for one in self.faults.values() if one is not injection):
            self._door.reopen()
        del self.faults[fault]
        if forgery := self._forgeries.pop(fault, None):
            forgery.close()
        for link in list(self.links):
            try:
                link.remove(injection)
            except Exception:
                # One connection that breaks must not keep the fault in place on the others.
                log.exception("route %s: a connection did not let go of %s", self.route.name, injection.kind)
                link.abort()
        return injection

    def open(self) -> None:
        """Listen. Raises OSError, with the address in it, when that cannot be had."""
        self.address = self._door.open()

    def _welcome(self, client: socket.socket) -> None:
        self.accepted += 1
        link = Link(self, list(self.faults.values()))
        self.links.add(link)
        link.begin(client)

    def _refused(self) -> None:
        # A closed port reaches those who come. Whoever keeps a connection that goes on does not, and notices nothing: that clients
        # come here is known from one that has left.
        if self.clock.monotonic() - self._left >= IN_USE:
            return
        for injection in self.faults.values():
            if injection.refuses:
                injection.touch(self.clock.now(), connections=1)

    async def close(self) -> None:
        """Take the faults away, let what is under way end, then end it."""
        await self._door.close()
        for fault in list(self.faults):
            self.take(fault)
        links = list(self.links)
        for link in links:
            link.close()
        try:
            async with asyncio.timeout(GRACE):
                for link in links:
                    await link.drained()
        except TimeoutError:
            for link in links:
                link.abort()


class Proxy:
    """All routes. `async with Proxy(routes, clock) as proxy:` listens until the block is left."""

    def __init__(self, routes: Sequence[Route], clock: Clock) -> None:
        names = [route.name for route in routes]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"routes must have names of their own; twice: {', '.join(sorted(twice))}")
        self.clock = clock
        self.gates: dict[str, Gate | DnsGate] = {
            route.name: DnsGate(route, clock) if route.dns else Gate(route, clock) for route in routes
        }
        self.ended: deque[Ended] = deque(maxlen=1000)
        """The last faults that ended, so that their evidence can still be asked for."""
        self._leases = asyncio.Event()
        self._reaper: asyncio.Task[None] | None = None
        # Looked at now, which imports them: the first fault must not hold up what passes meanwhile.
        log.debug("%d faults are known", len(FAULTS))

    def put(self, *, route: str, fault: str, kind: str, options: Options, lease: float, owner: str = "") -> Injection:
        """Put a fault on a route until `lease` seconds from now; the same fault again renews its lease.

        Raises UnknownRoute, Conflict.
        """
        gate = self.gate(route)
        if not 0 < lease <= LONGEST_LEASE:
            raise Conflict(f"a lease is more than 0 and at most {LONGEST_LEASE:g} s, not {lease:g} s")
        if why := self.unfit(kind, gate.route):
            raise Conflict(why)
        there = gate.faults.get(fault)
        if there is not None and there.expires <= self.clock.monotonic():
            self.take(route, fault, "lease ran out")
            there = None
        if there is None:
            now = self.clock.now()
            there = Injection(fault, route, kind, options, now, self.clock.monotonic() + lease, owner)
            gate.put(there)
            log.info("route %s: %s begins, lease %g s, %s", route, kind, lease, owner or "no owner named")
        elif (there.kind, there.options) != (kind, options):
            raise Conflict(f"route {route} has a different fault {fault}: take it away first")
        else:
            there.expires = self.clock.monotonic() + lease
        self._leases.set()
        return there

    @staticmethod
    def unfit(kind: str, route: Route) -> str:
        """Why a route cannot have a fault of this kind, with the remedy; empty when it can."""
        if kind not in FAULTS:
            return ""
        if FAULTS[kind].on != ROUTE:
            return (
                f"{kind} is put on an entry of `targets` with `{FAULTS[kind].on}:`, and on no route of the fault proxy"
            )
        if FAULTS[kind].looks_inside and not route.looked_into:
            return (
                f"{kind} needs to see requests, and route {route.name} is not looked into: "
                "give it `tls` or `http: true`"
            )
        return misplaced(FAULTS[kind], route)

    def add(self, injection: Injection) -> None:
        """Put a fault that no drill holds: until it expires, which may be never, or is taken away. Raises UnknownRoute."""
        self.gate(injection.route).put(injection)
        log.info("route %s: %s begins, %s", injection.route, injection.kind, injection.owner or "no owner named")
        self._leases.set()

    def leases_changed(self) -> None:
        """A fault expires at another time than before."""
        self._leases.set()

    def open_gate(self, route: Route) -> None:
        """One route more. Raises OSError when its address cannot be had, ValueError for a certificate that is none."""
        gate = Gate(route, self.clock)
        gate.open()
        self.gates[route.name] = gate

    async def close_gate(self, name: str) -> None:
        """One route less: its faults and its connections end. Raises UnknownRoute."""
        gate = self.gate(name)
        del self.gates[name]
        self._leases.set()
        await gate.close()

    def renew(self, route: str, fault: str, lease: float) -> Injection:
        """Let a fault live until `lease` seconds from now. Raises UnknownRoute, UnknownFault, Conflict."""
        there = self.find(route, fault)
        return self.put(
            route=route, fault=fault, kind=there.kind, options=there.options, lease=lease, owner=there.owner
        )

    def find(self, route: str, fault: str) -> Injection:
        """A fault that is in place. Raises UnknownRoute, UnknownFault."""
        there = self.gate(route).faults.get(fault)
        if there is None or there.expires <= self.clock.monotonic():
            known = next((one for one in reversed(self.ended) if (one.route, one.id) == (route, fault)), None)
            raise UnknownFault(f"route {route} has no fault {fault}", known)
        return there

    def take(self, route: str, fault: str, how: str = "reverted") -> Ended:
        """Take a fault away. Raises UnknownRoute, UnknownFault; OSError when it cannot be: then it is still in place."""
        there = self.find(route, fault) if how == "reverted" else self.gate(route).faults[fault]
        self.gate(route).take(fault)
        ended = Ended(fault, route, how, self.clock.now(), there.evidence())
        self.ended.append(ended)
        log.info("route %s: %s ends: %s", route, there.kind, how)
        return ended

    def gate(self, route: str) -> Gate | DnsGate:
        """A route at work. Raises UnknownRoute."""
        if route not in self.gates:
            raise UnknownRoute(f"there is no route {route}; there are {', '.join(self.gates) or 'none'}")
        return self.gates[route]

    async def __aenter__(self) -> Self:
        try:
            for gate in self.gates.values():
                gate.open()
        except BaseException:
            await self._close()
            raise
        self._reaper = asyncio.create_task(self._end_leases(), name="leases of the fault proxy")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._reaper:
            self._reaper.cancel()
            await asyncio.gather(self._reaper, return_exceptions=True)
        for gate in self.gates.values():
            for fault in list(gate.faults):
                with contextlib.suppress(OSError):  # a port that does not open again will be closed anyway
                    self.take(gate.route.name, fault, "proxy stopped")
        await asyncio.gather(*(gate.close() for gate in self.gates.values()))

    async def _end_leases(self) -> None:
        while True:
            self._leases.clear()
            expiries = [one.expires for gate in self.gates.values() for one in gate.faults.values()]
            waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._leases.wait())]
            if math.isfinite(min(expiries, default=math.inf)):
                waiting.append(asyncio.ensure_future(self.clock.sleep_until(min(expiries))))
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
            now = self.clock.monotonic()
            for gate in self.gates.values():
                for one in [one for one in gate.faults.values() if one.expires <= now]:
                    try:
                        self.take(gate.route.name, one.id, "lease ran out")
                    except OSError:
                        log.exception("route %s: %s cannot be ended; tried again", gate.route.name, one.kind)
                        one.expires = now + RETRY
