"""From a name to addresses, without ever blocking the loop: by the system, or by a name server that is given.

The system's resolver blocks and cannot be cancelled, so each look-up has a daemon thread of its own: a pool would let a
few look-ups that hang starve all the others, and would be waited for at exit.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal

import dns.exception
import dns.name
import dns.rcode
import dns.rdatatype

from stormwatch.probes.endpoint import Endpoint, is_address
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.nameserver import ask
from stormwatch.probes.question import Question, make_question, rdata_of
from stormwatch.probes.result import Reason

Family = Literal["any", "4", "6", "prefer-4", "prefer-6"]
"""Which addresses of a name may be used. `prefer-4` and `prefer-6` use the first one of that family, and of a name that has
none there the first one of the other: just one address, so that it is known what was looked at."""

LOOKUPS = 512
"""System look-ups under way at once. Only a resolver that hangs for long can get there."""
ASK_AGAIN = 1.0
"""Seconds after which a question to a given name server is sent again: one lost datagram is not an outage."""
SECOND_FAMILY = 0.05
"""Seconds that IPv6 addresses may come later than IPv4's before they are done without (RFC 8305 §3)."""

_PREFERRED: Mapping[Family, tuple[Family, Family]] = {"prefer-4": ("4", "6"), "prefer-6": ("6", "4")}
_FAMILIES = {"any": socket.AF_UNSPEC, "4": socket.AF_INET, "6": socket.AF_INET6}

_system_lookups = threading.Semaphore(LOOKUPS)


async def resolve(
    host: str, *, ip: Family = "any", server: Endpoint | None = None, clock: Callable[[], float]
) -> tuple[str, ...]:
    """The addresses of a host, the one to try first in front. An address is its own answer.

    Raises ProbeFailed(dns) when there is none of the wanted family. Waits without limit: the caller's deadline cancels.
    """
    if ip in _PREFERRED:
        if is_address(host):
            return (host,)
        # One family after the other: an answer that came late must not make us prefer the other.
        wanted, other = _PREFERRED[ip]
        try:
            return (await resolve(host, ip=wanted, server=server, clock=clock))[:1]
        except ProbeFailed:
            return (await resolve(host, ip=other, server=server, clock=clock))[:1]
    if is_address(host):
        addresses: tuple[str, ...] = (host,)
        if ip != "any" and (":" in host) != (ip == "6"):
            raise ProbeFailed(Reason.DNS, f"{host} is not an IPv{ip} address", phase="resolve")
        return addresses
    if server is None:
        addresses = await _by_system(host, ip)
    else:
        addresses = await _by_server(host, ip, server, clock)
    if not addresses:
        wanted = "address" if ip == "any" else f"IPv{ip} address"
        raise ProbeFailed(Reason.DNS, f"{host} has no {wanted} {_where(server)}", phase="resolve")
    return addresses


async def _by_system(host: str, ip: Family) -> tuple[str, ...]:
    if not _system_lookups.acquire(blocking=False):
        raise ProbeBroken(
            Reason.RESOURCES,
            f"{LOOKUPS} look-ups wait for the system's resolver: see why it does not answer, or give `resolver`",
            phase="resolve",
        )
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def look_up() -> None:
        found: list[Any] | Exception
        try:
            found = list(socket.getaddrinfo(host, None, family=_FAMILIES[ip], type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found = error
        finally:
            _system_lookups.release()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, answer, found)

    threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    try:
        found = await answer
    except (socket.gaierror, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno in (socket.EAI_SYSTEM, socket.EAI_MEMORY):
            raise ProbeBroken(
                Reason.RESOURCES, f"the system's resolver could not ask for {host}: {error.strerror}", phase="resolve"
            ) from error
        said = getattr(error, "strerror", None) or str(error)
        raise ProbeFailed(
            Reason.DNS, f"{host} did not resolve by the system's resolver: {said}", phase="resolve"
        ) from error
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def _settle(answer: asyncio.Future[list[Any]], found: list[Any] | Exception) -> None:
    if answer.done():
        return
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)


async def _by_server(host: str, ip: Family, server: Endpoint, clock: Callable[[], float]) -> tuple[str, ...]:
    address = (await resolve(server.host, clock=clock))[0]
    if ip != "any":
        return await _records(host, "A" if ip == "4" else "AAAA", address, server, clock)
    async with asyncio.TaskGroup() as group:
        later = group.create_task(_records_or_failure(host, "AAAA", address, server, clock))
        first = await _records_or_failure(host, "A", address, server, clock)
        if isinstance(first, tuple) and first:
            await asyncio.wait([later], timeout=SECOND_FAMILY)
            if not later.done():
                later.cancel()
                return first
        second = await later
    if isinstance(first, ProbeFailed):
        if isinstance(second, ProbeFailed) or not second:
            raise first
        return second
    return first if isinstance(second, ProbeFailed) else first + second


async def _records_or_failure(
    host: str, kind: str, address: str, server: Endpoint, clock: Callable[[], float]
) -> tuple[str, ...] | ProbeFailed:
    try:
        return await _records(host, kind, address, server, clock)
    except ProbeFailed as failure:
        return failure


async def _records(host: str, kind: str, address: str, server: Endpoint, clock: Callable[[], float]) -> tuple[str, ...]:
    try:
        question = _question(host, kind)
        answered = await ask(question, address, server.port, resend=ASK_AGAIN, clock=clock)
    except OSError as error:
        raise ProbeFailed(
            Reason.DNS, f"{host} did not resolve {_where(server)}: {error.strerror or error}", phase="resolve"
        ) from error
    except ProbeFailed as failure:
        raise ProbeFailed(
            Reason.DNS, f"{host} did not resolve {_where(server)}: {failure.message}", phase="resolve"
        ) from failure
    rcode = answered.message.rcode()
    if rcode != dns.rcode.NOERROR:
        raise ProbeFailed(
            Reason.DNS, f"{host} did not resolve {_where(server)}: {dns.rcode.to_text(rcode)}", phase="resolve"
        )
    return tuple(item.address for item in rdata_of(answered.message, dns.rdatatype.from_text(kind)))


@lru_cache(maxsize=4096)
def _question(host: str, kind: str) -> Question:
    try:
        name = dns.name.from_text(host)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ProbeFailed(Reason.DNS, f"it is not a domain name: {error}") from None
    return make_question(name, dns.rdatatype.from_text(kind))


def _where(server: Endpoint | None) -> str:
    return f"at name server {server}" if server else "by the system's resolver"
