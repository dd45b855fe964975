"""Broken signatures and old serial numbers before BIND: seen by our validator, and by BIND's."""

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from stormwatch.chaos.route import Route
from stormwatch.probes.dns import KIND as DNS
from stormwatch.probes.result import Outcome, Reason, Result
from tests.program import program
from tests.servers.certificates import Authority
from tests.servers.named import FIRST, SECOND, Space, name_space
from tests.servers.probing import run
from tests.servers.process import answers, free_port, running, wait_for
from tests.servers.proxied import proxied


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Generator[Space]:
    """A name space of its own, from a signed root down."""
    issued = Authority(tmp_path_factory.mktemp("authority"), "Names").issue("localhost")
    with name_space(tmp_path_factory.mktemp("names"), free_port(), issued) as space:
        yield space


def before(server: str) -> Route:
    """The route `shop` to a name server."""
    return Route(name="shop", listen="127.0.0.1:0", upstream=server, dns=True)


async def test_broken_signatures_are_bogus_for_our_validator(names: Space) -> None:
    """And secure without the fault; only for the names that are meant."""
    async with proxied(before(names.resolver)) as proxy:

        async def validated(name: str) -> Result:
            options = {"server": proxy.routes["shop"], "dnssec": {"anchors": list(names.anchors)}}
            return await run(DNS, name, options, timeout=20)

        assert (await validated("www.shop.test")).outcome is Outcome.UP
        await proxy.put("dns-bogus", name="www.shop.test")
        result = await validated("www.shop.test")
        assert result.reason is Reason.ASSERTION
        assert result.message.startswith("the answer is bogus: www.shop.test. ")
        assert (await validated("www.rsa.test")).outcome is Outcome.UP
        assert (await proxy.delete())["requests"] >= 1
        assert (await validated("www.shop.test")).outcome is Outcome.UP


async def test_a_client_that_wants_no_signatures_does_not_meet_the_fault(names: Space) -> None:
    """So its drill is inconclusive and not missed."""
    async with proxied(before(names.resolver)) as proxy:
        await proxy.put("dns-bogus")
        assert (await run(DNS, "www.shop.test", {"server": proxy.routes["shop"]})).outcome is Outcome.UP
        assert (await proxy.evidence())["first"] is None


async def test_broken_signatures_are_servfail_behind_a_validating_resolver(names: Space, tmp_path: Path) -> None:
    """BIND asks through the route and believes nothing of it; after the undo names resolve again."""
    async with proxied(before(names.resolver)) as proxy:
        port = free_port()
        named = shutil.copy(program("named"), tmp_path / "named")
        (tmp_path / "named.conf").write_text(_forwarding(tmp_path, names, port, proxy.port()))
        with running([named, "-g", "-n", "1", "-c", tmp_path / "named.conf"], log=tmp_path / "log"):
            wait_for(lambda: answers(("127.0.0.1", port)), what="named to listen", seconds=15)
            asked = {"server": f"127.0.0.1:{port}"}
            assert (await run(DNS, "www.shop.test", asked, timeout=20)).outcome is Outcome.UP
            await proxy.put("dns-bogus", name="*.rsa.test")
            result = await run(DNS, "www.rsa.test", asked, timeout=20)
            assert (result.reason, result.evidence["rcode"]) == (Reason.DNS, "SERVFAIL")
            assert (await proxy.delete())["requests"] >= 1
            assert (await run(DNS, "www.eddsa.test", asked, timeout=20)).outcome is Outcome.UP


async def test_a_server_with_an_old_serial_is_named_beside_the_one_without(names: Space) -> None:
    """Two servers of one zone are compared, one of them asked through the route."""
    other = f"{SECOND}:{names.port}"
    async with proxied(before(f"{FIRST}:{names.port}")) as proxy:
        route = proxy.routes["shop"]
        options = {"type": "SOA", "servers": [route, other], "agree": True, "recursion": False}
        assert (await run(DNS, "shop.test", options)).outcome is Outcome.UP
        await proxy.put("dns-stale-soa")
        result = await run(DNS, "shop.test", options)
        assert result.reason is Reason.ASSERTION
        assert (await proxy.delete())["requests"] == 1
        assert (await run(DNS, "shop.test", options)).outcome is Outcome.UP


def _forwarding(home: Path, names: Space, port: int, upstream: int) -> str:
    """A resolver that asks the route only, and validates."""
    anchors = []
    for line in names.anchors:
        _, _, _, tag, algorithm, digest, *rest = line.split()
        anchors.append(f'"." static-ds {tag} {algorithm} {digest} "{"".join(rest)}";')
    return (
        f'options {{ directory "{home}"; port {port}; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};'
        f' pid-file none; session-keyfile "{home}/session"; recursion yes; allow-recursion {{ any; }};'
        f" forward only; forwarders {{ 127.0.0.1 port {upstream}; }}; dnssec-validation yes; empty-zones-enable no; }};\n"
        f"controls {{ }};\ntrust-anchors {{ {' '.join(anchors)} }};\n"
    )
