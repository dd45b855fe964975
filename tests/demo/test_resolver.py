"""How the services resolve: nothing is remembered for longer than its TTL, and a dead name server is heard at once."""

import asyncio
import time

import pytest

from stormwatch.demo.nameserver import TTL, serve_zone, zone_of
from stormwatch.demo.resolver import NotResolved, Resolver
from tests.servers.process import free_port


class Server:
    """A name server that can be stopped and started on its port."""

    def __init__(self) -> None:
        self.port = free_port()

    async def start(self) -> None:
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(
            serve_zone(zone_of("storm.test", ["shop"]), "127.0.0.1", self.port, stop=self._stop)
        )

    async def stop(self) -> None:
        self._stop.set()
        await self._task


async def test_an_address_is_known_for_its_ttl_and_no_longer() -> None:
    """A name server that failed is not felt before, and is felt then."""
    now, server = 1000.0, Server()
    resolver = Resolver(("127.0.0.1", server.port), clock=lambda: now)
    await server.start()
    assert await resolver.address_of("shop.storm.test") == "127.0.0.1"
    await server.stop()

    now += TTL - 0.001
    assert await resolver.address_of("shop.storm.test") == "127.0.0.1"
    now += 0.001
    began = time.monotonic()
    with pytest.raises(NotResolved, match=rf"shop.storm.test did not resolve: the name server 127.0.0.1:{server.port}"):
        await resolver.address_of("shop.storm.test")
    assert time.monotonic() - began < 0.5


async def test_the_message_says_what_the_name_server_said() -> None:
    """NXDOMAIN, a name without address, an answer for somebody else."""
    server = Server()
    await server.start()
    resolver = Resolver(("127.0.0.1", server.port))
    try:
        with pytest.raises(NotResolved, match=r"nowhere.storm.test did not resolve: .* said NXDOMAIN"):
            await resolver.address_of("nowhere.storm.test")
        with pytest.raises(NotResolved, match=r"example.org did not resolve: .* said REFUSED"):
            await resolver.address_of("example.org")
        with pytest.raises(NotResolved, match=r"large.storm.test did not resolve: .* knows no address of it"):
            await resolver.address_of("large.storm.test")
    finally:
        await server.stop()
