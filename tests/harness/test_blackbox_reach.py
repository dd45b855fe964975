"""Who may ask `/probe` may not reach the host that runs it, nor what gives out credentials there, however it is written."""

from collections.abc import Sequence
from pathlib import Path

import dns.message
import dns.rrset
import pytest

from stormwatch.harness.blackbox_module import read_modules
from stormwatch.harness.blackbox_prober import BlackboxProber, Terms
from stormwatch.harness.blackbox_serving import terms_of
from stormwatch.harness.problem import Problem
from stormwatch.probes.http import KIND as HTTP
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.result import Outcome, Reason, Result
from tests.servers import nameserver, web
from tests.servers.probing import run

pytestmark = pytest.mark.anyio

MODULES = """\
modules:
  http_2xx: {prober: http, timeout: 2s}
  tcp_connect: {prober: tcp, timeout: 2s}
"""


def allowing(*allow: str) -> Terms:
    """The terms of a command line that allows these networks."""
    return terms_of(allow=allow, refuse=(), timeout_offset=0.5, history=10, at_once=8)


async def probed(
    directory: Path, target: str, *, module: str = "http_2xx", terms: Terms | None = None, modules: str = MODULES
) -> Result:
    """The result of one request to `/probe`, under the terms that hold by default."""
    path = directory / "blackbox.yml"
    path.write_text(modules)
    async with BlackboxProber(read_modules(path), terms=terms or allowing()) as prober:
        found = prober.module(module)
        assert found is not None
        return (await prober.probe(module, found, target, timeout=2.0)).result


def refused(result: Result) -> bool:
    """Whether the policy ended the run."""
    return (result.outcome, result.reason) == (Outcome.BROKEN, Reason.POLICY)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.7.7.7",
        "localhost",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "user@127.0.0.1",
    ],
)
@pytest.mark.parametrize("module", ["http_2xx", "tcp_connect"])
async def test_no_way_to_write_this_host_leads_there(host: str, module: str, tmp_path: Path) -> None:
    """Also not the notations of inet_aton, and not IPv4 within IPv6."""
    async with web.serving(web.answer()) as server:
        target = f"http://{host}:{server.port}/" if module == "http_2xx" else f"{host}:{server.port}"
        result = await probed(tmp_path, target, module=module)
        assert server.connections == 0
    assert result.outcome is not Outcome.UP
    if "@" not in host:
        assert refused(result) or result.reason is Reason.DNS, result.message  # a libc may not read every notation


async def test_what_gives_out_credentials_is_refused(tmp_path: Path) -> None:
    """The metadata services of clouds."""
    for target in ("http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://100.100.100.200/"):
        result = await probed(tmp_path, target)
        assert refused(result), result
    assert "allow that network if it is meant" in result.message


async def test_a_redirect_does_not_lead_there(tmp_path: Path) -> None:
    """The address of each hop is asked about."""
    async with web.serving(web.redirect("http://169.254.169.254/latest/meta-data/")) as server:
        result = await probed(tmp_path, server.url, terms=allowing("127.0.0.1/32"))
        assert server.connections == 1
    assert refused(result)
    assert "169.254.169.254" in result.message


async def test_a_proxy_on_this_host_has_to_be_allowed(tmp_path: Path) -> None:
    """It is a place that is connected to, whoever named it; and it does not make its target's address a good one."""
    async with web.serving(web.answer()) as proxy:
        modules = MODULES.replace(
            "timeout: 2s}", f"timeout: 2s, http: {{proxy_url: 'http://127.0.0.1:{proxy.port}'}}}}", 1
        )
        plain = await probed(tmp_path, "http://192.0.2.1/", modules=modules)
        assert refused(plain)
        allowed = allowing("127.0.0.1/32")
        assert (await probed(tmp_path, "http://192.0.2.1/", modules=modules, terms=allowed)).outcome is Outcome.UP
        assert refused(await probed(tmp_path, "http://169.254.169.254/", modules=modules, terms=allowed))
        assert proxy.connections == 1


async def test_what_is_allowed_is_reached(tmp_path: Path) -> None:
    """`--probe-allow` beats what is refused by default."""
    async with web.serving(web.answer()) as server:
        assert (await probed(tmp_path, server.url, terms=allowing("127.0.0.0/8"))).outcome is Outcome.UP


async def test_more_can_be_refused(tmp_path: Path) -> None:
    """On top of what is refused by default."""
    terms = terms_of(allow=(), refuse=["192.0.2.0/24"], timeout_offset=0.5, history=10, at_once=8)
    assert refused(await probed(tmp_path, "http://192.0.2.1/", terms=terms))
    assert refused(await probed(tmp_path, "http://127.0.0.1/", terms=terms))


@pytest.mark.parametrize("answers", [["192.0.2.1", "127.0.0.1"], ["127.0.0.1", "192.0.2.1"]])
async def test_a_name_that_changes_between_look_ups_gains_nothing(answers: Sequence[str]) -> None:
    """It is resolved once, and what was asked about is what is connected to."""
    left = list(answers)

    def changing(query: dns.message.Message, _transport: str) -> bytes:
        answer = dns.message.make_response(query)
        if query.question[0].rdtype == dns.rdatatype.A:
            address = left.pop(0) if left else answers[-1]
            answer.answer.append(dns.rrset.from_text(query.question[0].name, 0, "IN", "A", address))
        return answer.to_wire()

    async with web.serving(web.answer()) as server, nameserver.naming(changing) as names:
        target, options = f"http://rebound.test:{server.port}/", {"resolver": names.address, "ip": "4"}
        result = await run(HTTP, target, options, timeout=0.5, reach=Reach(refuse=OWN_HOST))
        assert server.connections == 0
        assert [asked for asked in names.asked if asked.endswith(" A")] == ["udp rebound.test. A"]
    assert refused(result) == (answers[0] == "127.0.0.1"), result


def test_a_network_that_is_none() -> None:
    """It is told before anything is served."""
    with pytest.raises(Problem, match=r"--probe-allow and --probe-refuse: 'loopback' is not a network like"):
        allowing("loopback")
