"""What the other locations see: their API asked once a second, for the probes that a quorum decides on.

A peer that does not answer, or that answers as another location, gives no results: the alert PeerSilent tells. It keeps nobody
waiting: each is asked by a task of its own.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any

import httpx

from stormwatch.harness.peers_section import Peer
from stormwatch.probes.clock import Clock
from stormwatch.probes.result import Result

log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between two looks at a peer."""
TIMEOUT = 2.0
"""Seconds that one answer may take: it comes from memory."""
LARGEST = 64 * 2**20
"""Bytes of an answer that are read at most."""
AHEAD = 30.0
"""Seconds that a peer's clock may be ahead of ours. Further, and its results would count for longer than they may."""

Hear = Callable[[str, Iterable[Result], float], None]
"""Called with a location, its last results and our Unix time, each time that it answers."""


async def follow(peers: Iterable[Peer], probes: Collection[str], hear: Hear, *, clock: Clock) -> None:
    """Ask all peers for the last results of these probes, until cancelled."""
    async with httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=True) as client, asyncio.TaskGroup() as tasks:
        for peer in peers:
            tasks.create_task(_follow(peer, frozenset(probes), hear, client, clock), name=f"peer {peer.location}")


async def _follow(peer: Peer, probes: frozenset[str], hear: Hear, client: httpx.AsyncClient, clock: Clock) -> None:
    trouble = ""
    while True:
        begun = clock.monotonic()
        try:
            results = await _last_results(peer, probes, client, clock.now())
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError) as error:
            # Named by its location alone: the address may hold a secret.
            said = f"{type(error).__name__}: {error}".replace(peer.url, "its address")
            if not trouble:
                log.warning("the peer in %s gives no results: %s", peer.location, said)
            trouble = said
        else:
            if trouble:
                log.info("the peer in %s answers again", peer.location)
            trouble = ""
            hear(peer.location, results, clock.now())
        await clock.sleep_until(begun + PERIOD)


async def _last_results(peer: Peer, probes: frozenset[str], client: httpx.AsyncClient, now: float) -> list[Result]:
    """Raises ValueError for an answer that cannot be that of this peer, and whatever reading something else raises."""
    async with client.stream("GET", f"{peer.url.rstrip('/')}/api/v1/probes") as answer:
        answer.raise_for_status()
        body = bytearray()
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > LARGEST:
                raise ValueError(f"the answer is larger than {LARGEST} bytes")
    documents: list[dict[str, Any]] = httpx.Response(200, content=bytes(body)).json()["probes"]
    results = [Result.from_json(each["last"]) for each in documents if each["last"] and each["name"] in probes]
    for result in results:
        if result.location != peer.location:
            raise ValueError(f"it says that it is in {result.location!r}; correct `peers` here, or `location` there")
        if result.finished > now + AHEAD:
            raise ValueError(f"its clock is {result.finished - now:.0f} s ahead of ours; set one of them right")
    return results
