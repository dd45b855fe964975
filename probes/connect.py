"""A TCP connection to one of several addresses, by Happy Eyeballs (RFC 8305): the next is tried before one has failed."""

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from stormwatch.probes.endpoint import Endpoint, is_address
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain_connection
from stormwatch.probes.result import Reason

DELAY: Final = 0.25
"""Seconds that an address has before the next one is tried beside it (RFC 8305 §5)."""
ADDRESSES: Final = 32
"""Addresses of one name that are tried. Each one costs a descriptor, and a hostile name server may send thousands."""

Failure = ProbeFailed | ProbeBroken


@dataclass(frozen=True, slots=True)
class Attempt:
    """One address that was tried."""

    address: str
    seconds: float
    failure: Failure | None
    """None: it was connected, or given up because another one was quicker."""

    def as_evidence(self) -> dict[str, Any]:
        """As a JSON object."""
        said = "" if self.failure is None else self.failure.message.partition(": ")[2] or self.failure.message
        return {"address": self.address, "ms": round(self.seconds * 1000, 3), **({"failed": said} if said else {})}


Dial = Callable[[str], Awaitable[socket.socket]]


async def race(
    addresses: Sequence[str], dial: Dial, *, clock: Callable[[], float], attempts: list[Attempt], delay: float = DELAY
) -> tuple[socket.socket, str]:
    """The first connection that comes about, and its address. `attempts` is told of each one, in the order of their ends.

    Raises the failure that speaks of the target where one does, after the last address has failed. When it is left,
    however that happens, no other connection is open or under way.
    """
    waiting = deque(alternate(addresses)[:ADDRESSES])
    under_way: dict[asyncio.Task[socket.socket], tuple[str, float]] = {}
    winner: asyncio.Task[socket.socket] | None = None
    try:
        while waiting or under_way:
            if waiting:
                address = waiting.popleft()
                under_way[asyncio.ensure_future(dial(address))] = (address, clock())
            done, _ = await asyncio.wait(
                under_way, timeout=delay if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in [each for each in under_way if each in done]:
                address, began = under_way[task]
                failure = _failure(task)
                attempts.append(Attempt(address, clock() - began, failure))
                if failure is None:
                    winner = task
                    return task.result(), address
                del under_way[task]
        raise _worst(attempts)
    finally:
        await _abandon([task for task in under_way if task is not winner])


async def _abandon(tasks: Sequence[asyncio.Task[socket.socket]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and task.exception() is None:  # it came about in the same moment as the winner
            task.result().close()


def _failure(task: "asyncio.Task[socket.socket]") -> Failure | None:
    error = task.exception()
    if error is None or isinstance(error, Failure):
        return error
    raise error


def _worst(attempts: Iterable[Attempt]) -> Failure:
    """What is said when nothing worked: something about the target, where there is such; and how many were tried."""
    failures = [each.failure for each in attempts if each.failure is not None]
    chosen = next((each for each in failures if isinstance(each, ProbeFailed)), failures[0])
    if len(failures) == 1:
        return chosen
    others = f"{chosen.message}; none of the {len(failures)} addresses could be connected to"
    return type(chosen)(chosen.reason, others, phase=chosen.phase)  # type: ignore[arg-type]


def alternate(addresses: Sequence[str]) -> tuple[str, ...]:
    """One of each family after the other, beginning with the family of the first (RFC 8305 §4)."""
    first = [each for each in addresses if (":" in each) == (":" in addresses[0])]
    second = [each for each in addresses if (":" in each) != (":" in addresses[0])]
    return tuple(each for pair in zip_longest(first, second) for each in pair if each is not None)


def dialer(port: int, *, source: str = "") -> Dial:
    """Connects to that port of an address, from the address `source` where one is given."""

    async def dial(address: str) -> socket.socket:
        place = Endpoint(address, port)
        try:
            return await _dial(place, source)
        except OSError as error:
            raise explain_connection(error, place) from error

    return dial


async def _dial(place: Endpoint, source: str) -> socket.socket:
    connection = socket.socket(socket.AF_INET6 if ":" in place.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            bind(connection, source)
        await asyncio.get_running_loop().sock_connect(connection, (place.host, place.port))
    except BaseException:
        connection.close()
        raise
    return connection


def bind(connection: socket.socket, source: str) -> None:
    """Send from an address of ours. Raises ProbeBroken when it is none."""
    try:
        connection.bind((source, 0))
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        raise ProbeBroken(
            Reason.NETWORK, f"source {source} is not an address of this machine", phase="connect"
        ) from error


def check_source(source: str) -> None:
    """Raises ValueError for what is no address."""
    if source and not is_address(source):
        raise ValueError(f"source: {source!r} is not an address")


def same_family(addresses: Sequence[str], source: str, host: str) -> tuple[str, ...]:
    """Those that can be reached from an address. Raises ProbeBroken when there is none."""
    kept = tuple(each for each in addresses if not source or (":" in each) == (":" in source))
    if not kept:
        raise ProbeBroken(
            Reason.NETWORK,
            f"source {source} cannot reach {host} ({', '.join(addresses)}): they are of different families",
            phase="connect",
        )
    return kept
