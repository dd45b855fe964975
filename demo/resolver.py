"""How the services resolve names: through one name server, remembered for the TTL and not a moment longer."""

import asyncio
import time
from collections.abc import Callable

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

_TRIES = 2
_PATIENCE = 0.7
"""Seconds to wait for one datagram: two tries and an answer still fit into the two seconds of an inner call."""


class NotResolved(Exception):
    """A name has no address. The message names the name, the name server and what it said."""


class Resolver:
    """A stub resolver for IPv4 addresses. Not for concurrent use from several loops."""

    def __init__(self, server: tuple[str, int], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        self._known: dict[str, tuple[float, str]] = {}

    async def address_of(self, name: str) -> str:
        """The first A record. Raises NotResolved."""
        until, address = self._known.get(name, (0.0, ""))
        if self._clock() < until:
            return address
        query = dns.message.make_query(name, dns.rdatatype.A, use_edns=0)
        response = await self._ask(name, query)
        if response.rcode() != dns.rcode.NOERROR:
            raise NotResolved(f"{name} did not resolve: {self._named} said {dns.rcode.to_text(response.rcode())}")
        for rrset in response.answer:
            if rrset.rdtype == dns.rdatatype.A:
                address = next(iter(rrset)).to_text()
                self._known[name] = (self._clock() + rrset.ttl, address)
                return address
        raise NotResolved(f"{name} did not resolve: {self._named} knows no address of it")

    @property
    def _named(self) -> str:
        return f"the name server {self._server[0]}:{self._server[1]}"

    async def _ask(self, name: str, query: dns.message.Message) -> dns.message.Message:
        seen: Exception = TimeoutError()
        for _ in range(_TRIES):
            try:
                async with asyncio.timeout(_PATIENCE):
                    response = await self._by_datagram(query)
                    return await self._by_stream(query) if response.flags & dns.flags.TC else response
            except (OSError, EOFError, dns.exception.DNSException) as error:
                seen = error
        said = f"no answer in {_PATIENCE:g} s" if isinstance(seen, TimeoutError) else str(seen) or type(seen).__name__
        raise NotResolved(f"{name} did not resolve: {self._named}: {said}") from seen

    async def _by_datagram(self, query: dns.message.Message) -> dns.message.Message:
        # A connected socket, so that a closed port is heard at once instead of waited for.
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[dns.message.Message] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Answer(query, answered), remote_addr=self._server)
        try:
            transport.sendto(query.to_wire())
            return await answered
        finally:
            transport.close()

    async def _by_stream(self, query: dns.message.Message) -> dns.message.Message:
        reader, writer = await asyncio.open_connection(*self._server)
        try:
            wire = query.to_wire()
            writer.write(len(wire).to_bytes(2) + wire)
            return dns.message.from_wire(await reader.readexactly(int.from_bytes(await reader.readexactly(2))))
        finally:
            writer.close()


class _Answer(asyncio.DatagramProtocol):
    def __init__(self, query: dns.message.Message, answered: asyncio.Future[dns.message.Message]) -> None:
        self._query = query
        self._answered = answered

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        del addr
        try:
            response = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return
        if self._query.is_response(response) and not self._answered.done():
            self._answered.set_result(response)

    def error_received(self, exc: Exception) -> None:
        if not self._answered.done():
            self._answered.set_exception(exc)
