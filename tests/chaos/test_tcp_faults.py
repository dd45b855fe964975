"""Faults of connections, seen from real clients: what each does, what it leaves alone, and that nothing of it is left."""

import asyncio
import contextlib
import math
import random
import socket
import time
from collections.abc import AsyncGenerator

import pytest

from stormwatch.chaos.tcp_effects import CutOff, Flipped, LateEnd, Later, Sliced, Slower, Swallowed
from tests.servers.proxied import Proxied, proxied, route_to, until
from tests.servers.upstream import Upstream, echoing

PATIENCE = 20.0
"""Seconds against a hang, on a machine with other work."""


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """On both loops: tests run on asyncio's, `stormwatch proxy` on uvloop, whose transports are others."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@contextlib.asynccontextmanager
async def shop() -> AsyncGenerator[tuple[Proxied, Upstream]]:
    """An echo server behind the route `shop`."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        yield proxy, upstream


async def echo(proxy: Proxied, payload: bytes) -> bytes:
    """What comes back of a payload before the connection ends, or as many bytes as were sent."""
    reader, writer = await proxy.open()
    writer.write(payload)
    came = b""
    async with asyncio.timeout(PATIENCE):
        while len(came) < len(payload) and (part := await reader.read(65536)):
            came += part
    writer.close()
    return came


# tcp-bandwidth.


async def test_a_limited_rate_takes_as_long_as_it_must_and_keeps_the_bytes() -> None:
    """50 kB at 100 kB a second take half a second; a second later the line has rested, and does not make up for it."""
    payload = random.Random(1).randbytes(50_000)
    async with shop() as (proxy, _):
        await proxy.put("tcp-bandwidth", rate="100kB")
        reader, writer = await proxy.open()
        took: list[float] = []
        for _ in range(2):
            began = time.monotonic()
            writer.write(payload)
            assert payload == await asyncio.wait_for(reader.readexactly(len(payload)), PATIENCE)
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.3)
        evidence = await proxy.delete()
    assert all(one >= 0.5 for one in took), took
    assert evidence["bytes"] == 2 * len(payload)


async def test_a_limited_rate_that_ends_lets_the_rest_go_at_once() -> None:
    """What would have taken an hour is there, in order; a standing connection goes on."""
    payload = random.Random(2).randbytes(400_000)
    async with shop() as (proxy, upstream):
        reader, writer = await proxy.open()
        await proxy.put("tcp-bandwidth", rate="100B")
        writer.write(payload)
        await until(lambda: len(upstream.received) == len(payload), what="the server to have it")
        await proxy.delete()
        assert payload == await asyncio.wait_for(reader.readexactly(len(payload)), PATIENCE)


async def test_of_two_faults_that_hold_one_that_ends_leaves_the_other() -> None:
    """A rate is taken away: the latency that remains is all that the bytes still wait for."""
    async with shop() as (proxy, upstream):
        reader, writer = await proxy.open()
        await proxy.put("tcp-latency", fault="late", delay="500ms")
        await proxy.put("tcp-bandwidth", fault="slow", rate="1B")
        began = time.monotonic()
        writer.write(b"x" * 1000)
        await until(lambda: len(upstream.received) == 1000, what="the server to have it")
        await until_touched(proxy, "slow")
        await proxy.delete(fault="slow")
        await asyncio.wait_for(reader.readexactly(1000), PATIENCE)
        took = time.monotonic() - began
        assert (await proxy.evidence(fault="late"))["bytes"] == 1000
    assert 0.5 <= took < 15


# tcp-slicer.


async def test_slices_come_one_by_one_and_make_up_the_whole() -> None:
    """1000 bytes in pieces of 100 ± 20 with 20 ms between them: nine pauses at least."""
    payload = random.Random(3).randbytes(1000)
    async with shop() as (proxy, _):
        await proxy.put("tcp-slicer", average_size="100B", size_variation="20B", delay="20ms")
        reader, writer = await proxy.open()
        began = time.monotonic()
        writer.write(payload)
        first = await asyncio.wait_for(reader.read(65536), PATIENCE)
        rest = await asyncio.wait_for(reader.readexactly(1000 - len(first)), PATIENCE)
        took = time.monotonic() - began
        evidence = await proxy.delete()
    assert first + rest == payload
    assert 80 <= len(first) <= 1000
    assert took >= 8 * 0.02
    assert evidence["bytes"] == 1000


# tcp-slow-close.


async def test_the_end_comes_later_and_what_was_said_does_not() -> None:
    """`hellobye` is there at once, the end of stream half a second later."""
    async with shop() as (proxy, _):
        await proxy.put("tcp-slow-close", delay="500ms")
        reader, writer = await proxy.open()
        writer.write(b"hello")
        writer.write_eof()
        began = time.monotonic()
        assert await asyncio.wait_for(reader.readexactly(8), PATIENCE) == b"hellobye"
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        took = time.monotonic() - began
        evidence = await proxy.delete()
    assert took >= 0.45
    assert (evidence["connections"], evidence["bytes"]) == (1, 0)


async def test_an_end_that_is_held_back_comes_when_the_fault_ends() -> None:
    """An hour is cut short."""
    async with shop() as (proxy, _):
        await proxy.put("tcp-slow-close", delay="1h")
        reader, writer = await proxy.open()
        writer.write_eof()
        assert await asyncio.wait_for(reader.readexactly(3), PATIENCE) == b"bye"
        await until_touched(proxy)
        await proxy.delete()
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""


# tcp-truncate.


@pytest.mark.parametrize("stream", ["downstream", "upstream"])
async def test_a_connection_ends_after_so_many_bytes(stream: str) -> None:
    """Exactly these arrive, on the way that is counted; then both ends are closed."""
    payload = random.Random(4).randbytes(100_000)
    async with shop() as (proxy, upstream):
        await proxy.put("tcp-truncate", bytes="1000B", stream=stream)
        reader, writer = await proxy.open()
        writer.write(payload)
        came = b""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionResetError):  # the bytes that nobody read end a closed connection so
                while part := await reader.read(65536):
                    came += part
        evidence = await proxy.delete()
        assert await echo(proxy, b"whole") == b"whole"
    if stream == "downstream":
        assert came == payload[:1000]
    else:
        assert bytes(upstream.received[:-5]) == payload[:1000]
    assert evidence["connections"] == 1


async def test_what_is_shorter_than_the_cut_passes_and_counts_for_nothing() -> None:
    """And proves nothing either."""
    async with shop() as (proxy, _):
        await proxy.put("tcp-truncate", bytes="1000B")
        assert await echo(proxy, b"x" * 999) == b"x" * 999
        assert (await proxy.evidence())["first"] is None


# tcp-corrupt.


async def test_a_share_of_bytes_is_changed_by_one_bit_each_and_the_same_for_the_same_seed() -> None:
    """As many bytes as before; the evidence is the number of those that changed; the way there is left alone."""
    payload = bytes(range(256)) * 400
    async with shop() as (proxy, upstream):
        came: list[bytes] = []
        for seed in (7, 7, 8):
            await proxy.put("tcp-corrupt", flipped="1%", seed=seed)
            came.append(await echo(proxy, payload))
            evidence = await proxy.delete()
            changed = [one ^ other for one, other in zip(payload, came[-1], strict=True) if one != other]
            assert evidence["bytes"] == len(changed)
            assert all(bits.bit_count() == 1 for bits in changed)
            # Three standard deviations of 1024 are 96.
            assert 900 < len(changed) < 1150
        assert await echo(proxy, payload) == payload
    assert bytes(upstream.received) == payload * 4
    assert came[0] == came[1] != came[2]


# tcp-timeout.


async def test_a_silent_connection_is_closed_after_a_while() -> None:
    """Nothing is answered; the connection ends with an end of stream, standing or new."""
    async with shop() as (proxy, upstream):
        standing = await proxy.open()
        standing[1].write(b"hi")
        await standing[0].readexactly(2)
        await proxy.put("tcp-timeout", after="300ms")
        began = time.monotonic()
        fresh = await proxy.open()
        for reader, writer in (standing, fresh):
            writer.write(b"anyone?")
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        assert time.monotonic() - began >= 0.28
        assert bytes(upstream.received) == b"hi"
        evidence = await proxy.delete()
    assert evidence["connections"] == 2


async def test_a_silent_connection_is_closed_with_its_fault() -> None:
    """Bytes are missing in it; new ones pass."""
    async with shop() as (proxy, _):
        await proxy.put("tcp-timeout", after="0s", stream="upstream")
        reader, writer = await proxy.open()
        writer.write(b"gone")
        await until_touched(proxy)
        assert (await proxy.delete())["bytes"] == 4
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        assert await echo(proxy, b"again") == b"again"


# tcp-reset, after a while.


async def test_a_reset_may_come_later() -> None:
    """Until then the connection answers; one that was there before is drawn too. A fault that ends first resets nothing."""
    async with shop() as (proxy, _):
        reader, writer = await proxy.open()
        await proxy.put("tcp-reset", after="1h")
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), PATIENCE) == b"x"
        assert (await proxy.delete())["connections"] == 0
        began = time.monotonic()
        await proxy.put("tcp-reset", after="300ms")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE)
        assert time.monotonic() - began >= 0.28
        assert (await proxy.delete())["connections"] == 1


# tcp-refused.


@pytest.mark.parametrize("standing", [False, True])
async def test_who_comes_is_refused_and_who_was_there_goes_on_unless_asked_otherwise(standing: bool) -> None:
    """ECONNREFUSED, the port stays ours, and after the fault the same port answers; the proxy's own knocks are the proof."""
    async with shop() as (proxy, _):
        reader, writer = await proxy.open()
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await proxy.put("tcp-refused", standing=standing)
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                await proxy.open()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", proxy.port()))
        if standing:
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), PATIENCE)
        else:
            writer.write(b"y")
            assert await asyncio.wait_for(reader.readexactly(1), PATIENCE) == b"y"
            writer.close()
        await until_touched(proxy)
        await proxy.delete()
        assert await echo(proxy, b"again") == b"again"


async def test_a_service_that_is_gone_keeps_no_connections_unless_asked_to() -> None:
    """As with a process that died: whoever keeps a connection notices, and is counted at once."""
    async with shop() as (proxy, _):
        reader, writer = await proxy.open()
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await proxy.put("tcp-refused")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE)
        assert (await proxy.evidence())["connections"] >= 1


async def test_a_kept_connection_that_goes_on_is_no_traffic_that_was_refused() -> None:
    """Knocks that were refused count only once its client has gone: until then nobody has a reason to come."""
    async with echoing() as upstream, proxied(route_to(upstream.port), route_to(upstream.port, name="beside")) as proxy:
        reader, writer = await proxy.open()
        _, left = await proxy.open("beside")
        left.close()
        await proxy.put("tcp-refused", standing=False)
        await proxy.put("tcp-refused", route="beside", standing=False)
        await until_touched(proxy, route="beside", connections=2)
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), PATIENCE) == b"x"
        assert (await proxy.evidence())["first"] is None
        writer.close()
        await until_touched(proxy)


async def test_every_fault_that_closes_a_port_counts_who_was_refused() -> None:
    """Two drills at once: neither is told that it met nobody."""
    async with shop() as (proxy, _):
        assert await echo(proxy, b"x") == b"x"
        await proxy.put("tcp-refused", fault="one")
        await proxy.put("tcp-refused", fault="two")
        await until_touched(proxy, "one")
        await until_touched(proxy, "two")


async def test_a_port_that_nobody_uses_proves_nothing() -> None:
    """No client has come to the route: that its port is closed reached no traffic."""
    async with shop() as (proxy, _):
        await proxy.put("tcp-refused")
        with pytest.raises(ConnectionRefusedError):
            await proxy.open()
        await asyncio.sleep(0.1)
        assert (await proxy.delete())["first"] is None


async def test_a_port_stays_closed_until_the_last_fault_that_closes_it_has_gone() -> None:
    """Two drills; also when the lease of one runs out."""
    async with shop() as (proxy, _):
        await proxy.put("tcp-refused", fault="one", lease=0.3)
        await proxy.put("tcp-refused", fault="two", lease=30)
        deadline = time.monotonic() + PATIENCE
        while (await proxy.api.get("/routes/shop/faults/one")).status_code != 404:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        with pytest.raises(ConnectionRefusedError):
            await proxy.open()
        await proxy.delete(fault="two")
        assert await echo(proxy, b"open") == b"open"


async def test_a_proxy_that_stops_with_its_port_closed_gives_the_port_away() -> None:
    """Nothing holds it any more."""
    async with shop() as (proxy, _):
        await proxy.put("tcp-refused")
        port = proxy.port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))


async def test_a_port_that_cannot_be_opened_again_is_said_and_tried_again() -> None:
    """Somebody else has taken to listen there, by SO_REUSEADDR: taking the fault back fails until the port is free."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        await proxy.put("tcp-refused", lease=600)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", proxy.port()))
            other.listen()
            answer = await proxy.api.delete("/routes/shop/faults/f")
            assert answer.status_code == 503
            assert "the fault is still in place" in answer.json()["error"]
            assert (await proxy.api.get("/routes/shop/faults/f")).status_code == 200
        await proxy.delete()
        assert await echo(proxy, b"open") == b"open"


# Effects by themselves: exact, without a clock.


def test_a_line_carries_its_rate_and_no_more() -> None:
    """Slices of a twentieth of a second; what comes while the line is busy waits for it; the end comes last."""
    line = Slower(1000)
    first = line.meet(10.0, b"x" * 100)
    assert [(len(piece.data), round(piece.later, 6)) for piece in first.pieces] == [(50, 0.05), (50, 0.1)]
    assert line.meet(10.05, b"y" * 50).pieces[0].later == pytest.approx(0.1)
    assert line.meet(10.1, b"").pieces[0].later == pytest.approx(0.05)
    assert line.meet(20.0, b"").pieces[0].later == 0.0


def test_in_a_black_hole_no_line_is_busy() -> None:
    """A moment that never comes gives no sums of infinities: what another fault holds waits for that alone."""
    for effect in (Slower(1000), Sliced(10, 0, 1.0, random.Random(1))):
        assert [(piece.data, piece.later) for piece in effect.meet(math.inf, b"held").pieces] == [(b"held", 0.0)]
        assert effect.meet(5.0, b"free").pieces[0].later < 1


def test_pieces_keep_their_pauses_over_chunks() -> None:
    """The first piece of a chunk waits for the pause after the last of the chunk before."""
    sliced = Sliced(2, 0, 1.0, random.Random(1))
    assert [(piece.data, piece.later) for piece in sliced.meet(0.0, b"abcde").pieces] == [
        (b"ab", 0.0),
        (b"cd", 1.0),
        (b"e", 2.0),
    ]
    assert sliced.meet(0.5, b"f").pieces[0].later == 2.5


def test_a_cut_is_exact_at_every_border_of_chunks() -> None:
    """With the last byte that fits the connection ends, whether or not there is more."""
    for sizes in ([10], [4, 6], [9, 1], [9, 5], [30]):
        cut, passed, last = CutOff(10), b"", False
        for size in sizes:
            for piece in cut.meet(0.0, b"x" * size).pieces:
                passed += piece.data
                last |= piece.last
        assert (len(passed), last) == (10, True)
        assert cut.meet(0.0, b"more").pieces == ()


def test_which_bytes_are_flipped_does_not_depend_on_the_chunks() -> None:
    """The same stream in one chunk and byte by byte; with 100% every byte."""
    data = bytes(range(256)) * 20
    whole, single = Flipped(0.05, random.Random(3)), Flipped(0.05, random.Random(3))
    at_once = whole.meet(0.0, data).pieces[0].data
    one_by_one = b"".join(single.meet(0.0, data[n : n + 1]).pieces[0].data for n in range(len(data)))
    assert at_once == one_by_one != data
    every = Flipped(1.0, random.Random(3)).meet(0.0, data)
    assert every.touched == len(data)
    assert all(one != other for one, other in zip(data, every.pieces[0].data, strict=True))


def test_ends_pass_or_wait_as_the_fault_has_it() -> None:
    """The empty chunk is the end of a direction."""
    assert LateEnd(2.0).meet(0.0, b"").pieces[0].later == 2.0
    assert LateEnd(2.0).meet(0.0, b"x").pieces[0].later == 0.0
    assert Later(1.0, 0.0, random.Random(1)).meet(0.0, b"").pieces[0].later == 1.0
    assert Swallowed().meet(0.0, b"x").pieces == ()
    assert Swallowed().meet(0.0, b"").pieces[0].later == math.inf


async def until_touched(proxy: Proxied, fault: str = "f", *, route: str = "shop", connections: int = 0) -> None:
    """Return when a fault has met traffic, so many connections at the least."""
    deadline = time.monotonic() + PATIENCE
    while (met := await proxy.evidence(fault=fault, route=route))["first"] is None or met["connections"] < connections:
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {fault} is touched"
        await asyncio.sleep(0.01)
