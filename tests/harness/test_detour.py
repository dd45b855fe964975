"""Drills on the prober's side: one probe meets the fault, users never do, and nothing of it is left whenever it is killed."""

import asyncio
import json
import os
import re
import ssl
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from dns.message import make_query

from stormwatch.chaos.undo import UndoJournal, UndoState
from stormwatch.harness.catalog import KINDS
from stormwatch.harness.config import Config, load
from stormwatch.harness.detour import detoured, on_prober_side, why_not
from stormwatch.harness.drilling import plan_of
from stormwatch.harness.injecting import fault_of
from stormwatch.harness.problem import Problem
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.run import run_once
from tests.chaos.examples import ON_ROUTES, example
from tests.servers import web
from tests.servers.certificates import Authority
from tests.servers.nameserver import NameServer, naming, zone
from tests.servers.service import Answer, AnyService

STORMWATCH = Path(sys.executable).with_name("stormwatch")
ZONE = {("shop.test.", "A"): ["127.0.0.1"]}


@dataclass
class Shop:
    """A service that is known by its name only, and what came to it."""

    server: web.Server
    names: NameServer
    ca: Path
    asked_for: list[str] = field(default_factory=list[str])
    """The name in each TLS handshake."""

    @property
    def place(self) -> str:
        """By its name, which only `names` knows."""
        return f"shop.test:{self.server.port}"


@asynccontextmanager
async def shop(directory: Path, *, secure: bool) -> AsyncGenerator[Shop]:
    """A service whose certificate is for its name and for nothing else."""
    authority = Authority(directory, "Root")
    asked_for: list[str] = []

    def remember(_: ssl.SSLObject, name: str, __: ssl.SSLContext) -> None:
        asked_for.append(name)

    context = authority.issue("shop.test").server_context() if secure else None
    if context is not None:
        context.sni_callback = remember
    async with web.serving(web.answer(), tls=context) as server, naming(zone(ZONE)) as names:
        yield Shop(server, names, authority.file, asked_for)


def config_of(directory: Path, probe: str, fault: str, *, more: str = "") -> Config:
    """One probe, and a drill on the prober's side with this fault."""
    path = directory / "stormwatch.yaml"
    path.write_text(
        f"probes:\n  - {{name: shop, every: 10s, timeout: 2s, {probe}}}\n{more}"
        f"drills:\n  - name: bent\n    side: prober\n    fault: {{target: shop, {fault}}}\n"
        "    expect: {probe: {name: shop, within: 30s}, resolves_within: 30s}\n"
    )
    return load(path, environ={})


async def look(probe: Probe) -> Result:
    """One run."""
    async with Resources() as resources:
        return await run_once(probe, clock=SystemClock(), resources=resources)


HTTPS = "kind: http, target: 'https://PLACE/', http: {resolver: NAMES, ca_file: CA}"
HTTP = "kind: http, target: 'http://PLACE/', http: {resolver: NAMES}"
TLS = "kind: tls, target: 'PLACE', tls: {resolver: NAMES, ca_file: CA}"
TCP = "kind: tcp, target: 'PLACE', tcp: {resolver: NAMES, tls: true, ca_file: CA}"
PLAIN_TCP = "kind: tcp, target: 'PLACE', tcp: {resolver: NAMES}"
DNS = "kind: dns, target: shop.test, dns: {server: NAMES}"
DNS_OVER_TCP = "kind: dns, target: shop.test, dns: {server: NAMES, transport: tcp}"
API = "kind: api, target: 'https://PLACE/', api: {resolver: NAMES, ca_file: CA, steps: [{name: front, url: ''}]}"
WEBSOCKET = "kind: websocket, target: 'ws://PLACE/', websocket: {resolver: NAMES, expect: {status: [200]}}"
UDP = f"kind: udp, target: 'shop.test:UDP', udp: {{resolver: NAMES, send_hex: {make_query('shop.test', 'A').to_wire().hex()}}}"

BENT: list[tuple[str, str, Reason]] = [
    (HTTPS, "kind: tls-expired", Reason.CERTIFICATE),
    (HTTPS, "kind: tcp-reset", Reason.RESET),
    (HTTPS, "kind: dns-nxdomain", Reason.DNS),
    (HTTP, "kind: http-status, status: 503", Reason.STATUS),
    (TLS, "kind: tls-wrong-host", Reason.CERTIFICATE),
    (TLS, "kind: dns-servfail", Reason.DNS),
    (TCP, "kind: tls-unknown-ca", Reason.CERTIFICATE),
    (PLAIN_TCP, "kind: tcp-refused", Reason.REFUSED),
    (PLAIN_TCP, "kind: dns-refused", Reason.DNS),
    (DNS, "kind: dns-nxdomain", Reason.DNS),
    (DNS_OVER_TCP, "kind: tcp-blackhole", Reason.TIMEOUT),
    (API, "kind: tcp-reset", Reason.RESET),
    (WEBSOCKET, "kind: http-status, status: 503", Reason.STATUS),
    (UDP, "kind: dns-nxdomain", Reason.DNS),
]


@pytest.mark.parametrize(("written", "fault", "reason"), BENT)
async def test_the_bent_probe_alone_meets_the_fault(tmp_path: Path, written: str, fault: str, reason: Reason) -> None:
    """Before the fault it is up through the detour, under it down; an ordinary run of the same probe is always up."""
    secure = "CA" in written
    async with shop(tmp_path, secure=secure) as served:
        probe = written.replace("PLACE", served.place).replace("NAMES", served.names.address)
        probe = probe.replace("UDP", str(served.names.port))
        config = config_of(tmp_path, probe.replace("CA", str(served.ca)), fault)
        (drill,), (ordinary,) = config.drills, config.probes
        assert plan_of(config, drill).refusals == ()
        async with detoured(config, drill, SystemClock()) as around:
            (bent,) = around.probes
            before = await look(bent)
            async with fault_of(around, drill.fault, state=tmp_path, drill="bent", clock=SystemClock()) as injected:
                under, beside = await look(bent), await look(ordinary)
                touched = (await injected.evidence()).touched
            after = await look(bent)
    assert (before.outcome, before.message) == (Outcome.UP, "")
    assert (under.outcome, under.reason) == (Outcome.DOWN, reason), under.message
    assert touched or "tcp-refused" in fault  # which closes the port, so that nobody can be seen
    assert (beside.outcome, after.outcome) == (Outcome.UP, Outcome.UP)
    assert under.target == ordinary.target, "what is told names the target, and not the detour"
    assert (under.evidence["detour"]["drill"], "detour" in beside.evidence) == ("bent", False)
    assert list((tmp_path / "undo").iterdir()) == []


@pytest.mark.parametrize("written", [HTTPS, TLS, TCP])
async def test_the_service_is_asked_what_it_is_always_asked(tmp_path: Path, written: str) -> None:
    """The name in TLS and the Host header stay, one connection comes for one run, and the address leads only to the proxy."""
    async with shop(tmp_path, secure=True) as served:
        probe = written.replace("PLACE", served.place).replace("NAMES", served.names.address)
        config = config_of(tmp_path, probe.replace("CA", str(served.ca)), "kind: tcp-reset")
        straight = await look(config.probes[0])
        async with detoured(config, config.drills[0], SystemClock()) as around:
            round_about = await look(around.probes[0])
            via = round_about.evidence["detour"]["via"]
    assert (straight.outcome, round_about.outcome) == (Outcome.UP, Outcome.UP)
    assert served.server.connections == 2
    assert served.asked_for == ["shop.test", "shop.test"]
    assert {exchange.header("Host") for exchange in served.server.exchanges if exchange.request} <= {served.place}
    assert round_about.evidence["remote"] == via != straight.evidence["remote"]


REFUSED: list[tuple[str, str, str]] = [
    ("kind: http, target: 'https://shop.test/'", "kind: http-status, status: 500", "http-status looks at requests"),
    ("kind: http, target: 'http://shop.test/'", "kind: tls-expired", "tls-expired is about TLS"),
    ("kind: http, target: 'https://shop.test/'", "kind: tls-expires-soon, left: 1d", "tls-expires-soon needs a cert"),
    ("kind: http, target: 'http://127.0.0.1/'", "kind: dns-nxdomain", "shop asks for no name"),
    ("kind: http, target: 'http://shop.test/', http: {ip: every}", "kind: tcp-reset", "shop cannot be bent: ip: every"),
    (
        "kind: http, target: 'http://shop.test/', http: {proxy: 'http://127.0.0.1:3128'}",
        "kind: tcp-reset",
        "shop cannot be bent: proxy: ",
    ),
    (
        "kind: http, target: 'http://shop.test/', http: {connect_to: '127.0.0.1:1'}",
        "kind: tcp-reset",
        "shop cannot be bent: connect_to: ",
    ),
    ("kind: http, target: 'https://shop.test/', http: {version: '3'}", "kind: tcp-reset", "shop cannot be bent: vers"),
    ("kind: dns, target: shop.test, dns: {server: 127.0.0.1}", "kind: tcp-reset", "tcp-reset is about connections"),
    (
        "kind: dns, target: shop.test, dns: {server: 127.0.0.1, transport: tls}",
        "kind: dns-nxdomain",
        "shop cannot be bent: transport: ",
    ),
    ("kind: udp, target: 'shop.test:9', udp: {send: hello}", "kind: tcp-reset", "tcp-reset is about connections, and"),
    (
        "kind: ntp, target: '127.0.0.1:9'",
        "kind: dns-nxdomain",
        "shop cannot be bent: it sends datagrams to an address, ",
    ),
    ("kind: udp, target: '[::1]:9', udp: {send: hello}", "kind: tcp-reset", "shop cannot be bent: it sends datagrams"),
    ("kind: exec, target: /bin/true", "kind: tcp-reset", "shop cannot be bent: its kind, exec, runs a"),
    ("kind: redis, target: 'unix:/run/redis.sock'", "kind: tcp-reset", "shop cannot be bent: target: a Unix socket"),
    (
        "kind: redis, target: shop.test, redis: {connect_to: 127.0.0.1}",
        "kind: tcp-reset",
        "shop cannot be bent: connect_to: ",
    ),
    (
        "kind: smtp, target: shop.test, smtp: {connect_to: 127.0.0.1}",
        "kind: tcp-reset",
        "shop cannot be bent: connect_to: ",
    ),
    (
        "kind: grpc, target: 'shop.test:1', grpc: {connect_to: 127.0.0.1}",
        "kind: tcp-reset",
        "shop cannot be bent: connect_to: ",
    ),
    (
        "kind: websocket, target: 'ws://shop.test/', websocket: {connect_to: 127.0.0.1}",
        "kind: tcp-reset",
        "shop cannot be bent: connect_to: ",
    ),
    ("kind: grpc, target: 'shop.test:1'", "kind: http-status, status: 500", "http-status looks at requests of HTTP/1"),
    ("kind: redis, target: shop.test", "kind: http-status, status: 500", "http-status looks at requests of HTTP/1"),
    (
        "kind: http, target: 'http://shop.test/', http: {version: '2'}",
        "kind: http-status, status: 500",
        "http-status looks at requests of HTTP/1",
    ),
    # TLS begins after it was asked for: there is no first handshake to spoil.
    ("kind: smtp, target: shop.test", "kind: tls-expired", "tls-expired is about TLS"),
    ("kind: nats, target: shop.test, nats: {tls: true}", "kind: tls-expired", "tls-expired is about TLS"),
]


@pytest.mark.parametrize(("probe", "fault", "refusal"), REFUSED)
def test_what_cannot_be_bent_is_refused_before_anything_begins(
    tmp_path: Path, probe: str, fault: str, refusal: str
) -> None:
    """In the plan, with the reason."""
    config = config_of(tmp_path, probe, fault)
    (told,) = plan_of(config, config.drills[0]).refusals
    assert told.startswith(refusal)


PLAIN, SECURE = "without TLS", "with TLS"
SAMPLES: dict[str, dict[str, str]] = {
    "http": {PLAIN: "target: 'http://shop.test/'", SECURE: "target: 'https://shop.test/'"},
    "dns": {
        "over UDP": "target: shop.test, dns: {server: 127.0.0.1}",
        "over TCP": "target: shop.test, dns: {server: 127.0.0.1, transport: tcp}",
    },
    "tls": {SECURE: "target: 'shop.test:443'"},
    "tcp": {PLAIN: "target: 'shop.test:1'", SECURE: "target: 'shop.test:1', tcp: {tls: true}"},
    "icmp": {PLAIN: "target: shop.test"},
    "udp": {PLAIN: "target: 'shop.test:1', udp: {send: hello}"},
    "ntp": {PLAIN: "target: shop.test"},
    "api": {
        PLAIN: "target: 'http://shop.test/', api: {steps: [{name: front, url: ''}]}",
        SECURE: "target: 'https://shop.test/', api: {steps: [{name: front, url: ''}]}",
    },
    "grpc": {PLAIN: "target: 'shop.test:1'", SECURE: "target: 'shop.test:1', grpc: {tls: true}"},
    "websocket": {PLAIN: "target: 'ws://shop.test/'", SECURE: "target: 'wss://shop.test/'"},
    "redis": {PLAIN: "target: shop.test", SECURE: "target: shop.test, redis: {tls: true}"},
    "postgres": {
        PLAIN: "target: shop.test, postgres: {username: watcher}",
        SECURE: "target: shop.test, postgres: {username: watcher, tls: true}",
    },
    "mysql": {
        PLAIN: "target: shop.test, mysql: {username: watcher}",
        SECURE: "target: shop.test, mysql: {username: watcher, tls: true}",
    },
    "nats": {PLAIN: "target: shop.test", SECURE: "target: shop.test, nats: {tls: true}"},
    "rabbitmq": {
        PLAIN: "target: shop.test, rabbitmq: {username: watcher}",
        SECURE: "target: shop.test, rabbitmq: {username: watcher, tls: true}",
    },
    "kafka": {PLAIN: "target: shop.test", SECURE: "target: shop.test, kafka: {tls: true}"},
    "smtp": {PLAIN: "target: shop.test", SECURE: "target: 'shop.test:465'"},
    "imap": {PLAIN: "target: shop.test", SECURE: "target: 'shop.test:993'"},
}
"""Of each kind that can be bent the ways to go on which it depends whether a family of faults can stand there."""
FAMILIES = ("tcp-", "tls-", "http-", "dns-")
DRILLS = Path(__file__).parents[2] / "docs/reference/drills.md"


@pytest.mark.parametrize("kind", SAMPLES)
def test_what_can_be_bent_is_what_the_reference_says(tmp_path: Path, kind: str) -> None:
    """Every fault of routes is asked about on every way to go, and those of a family are answered alike."""
    bent: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for word, probe in SAMPLES[kind].items():
        config = config_of(tmp_path, f"kind: {kind}, {probe}", "kind: tcp-reset")
        refusals = {name: why_not(config, replace(config.drills[0], fault=example(name, "shop"))) for name in ON_ROUTES}
        assert refusals.pop("tls-expires-soon")
        for family in FAMILIES:
            (refused,) = {bool(why) for name, why in refusals.items() if name.startswith(family)}
            bent[family] += [] if refused else [word]
    told = {family: "yes" if words == list(SAMPLES[kind]) else "".join(words) or "no" for family, words in bent.items()}
    assert f"| `{kind}` | {' | '.join(told[family] for family in FAMILIES)} |\n" in DRILLS.read_text()


def test_a_drill_with_several_faults_is_refused(tmp_path: Path) -> None:
    """One probe is bent, by one fault: `--side prober` says so before anything begins."""
    config = config_of(tmp_path, "kind: tcp, target: 'shop.test:80'", "kind: tcp-reset")
    (bent,) = config.drills
    both = replace(bent, beside=(example("tcp-latency", "shop"),))
    assert why_not(config, bent) == ""
    assert why_not(config, both) == (
        "on the prober's side one fault is on the way of one probe, and this drill has 2 "
        "(tcp-reset on shop beside tcp-latency on shop): run it on the target's side"
    )


def test_every_kind_is_bent_or_says_why_not() -> None:
    """The reference has the sentence."""
    assert {name for name, kind in KINDS.items() if kind.detour} == set(SAMPLES)
    told = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|$", DRILLS.read_text(), re.MULTILINE))
    sentences = {name: kind.no_detour for name, kind in KINDS.items() if not kind.detour}
    assert {name: told.get(name) for name in sentences} == sentences


async def test_a_target_that_cannot_be_found_is_no_verdict(tmp_path: Path) -> None:
    """Nothing is injected: it is not known where the way round should lead."""
    async with naming(zone({})) as names:
        probe = f"kind: http, target: 'http://gone.test/', http: {{resolver: '{names.address}'}}"
        config = config_of(tmp_path, probe, "kind: tcp-reset")
        with pytest.raises(Problem, match=r"it is not known where it goes: .*gone\.test") as caught:
            async with detoured(config, config.drills[0], SystemClock()):
                pytest.fail("it was opened")
    assert caught.value.code == 3


def test_a_quorum_of_others_is_not_bent(tmp_path: Path) -> None:
    """They see the target as it is, so that the alert cannot come."""
    probe = "kind: http, target: 'http://shop.test/', quorum: 2"
    peers = "peers:\n  - {location: ams1, url: 'http://127.0.0.1:9797'}\n"
    config = config_of(tmp_path, probe, "kind: tcp-reset", more=peers)
    assert plan_of(config, config.drills[0]).refusals[0].startswith("shop is down when 2 locations say so")


def test_only_what_the_alert_is_made_of_is_watched(tmp_path: Path) -> None:
    """Not the other probes, which somebody watches already, and no objective whose budget nobody asked about."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text(
        "probes:\n"
        "  - {name: shop, kind: http, target: 'http://127.0.0.1:1/', depends_on: [gate]}\n"
        "  - {name: gate, kind: tcp, target: '127.0.0.1:1'}\n"
        "  - {name: other, kind: tcp, target: '127.0.0.1:1'}\n"
        "objectives:\n  - {name: shop-up, probe: shop, target: 99%}\n"
        "proxies: {routes: [{name: payments, listen: '127.0.0.1:0', upstream: '127.0.0.1:1'}]}\n"
        "alerts: {watchdog: {url: 'http://127.0.0.1:1/'}}\n"
        "drills:\n"
        "  - {name: probe, fault: {kind: tcp-reset, target: payments},\n"
        "     expect: {probe: {name: shop}, alert: {probe: shop}}}\n"
        "  - {name: budget, fault: {kind: tcp-reset, target: payments},\n"
        "     expect: {probe: {name: shop}, alert: {objective: shop-up}}}\n"
    )
    config = load(path, environ={})

    async def seen(number: int) -> tuple[list[str], list[str], set[str]]:
        drill = on_prober_side(config.drills[number])
        assert drill.fault.target == "shop"
        async with detoured(config, drill, SystemClock()) as around:
            assert around.alerts.watchdog is None
            names = {rule.alertname for rule in around.rules}
            return [each.name for each in around.probes], [each.name for each in around.objectives], names

    assert asyncio.run(seen(0)) == (["shop", "gate"], [], {"ProbeDown", "ProbeNoEvidence"})
    probes, objectives, names = asyncio.run(seen(1))
    assert (probes, objectives, "ErrorBudgetBurn" in names) == (["shop", "gate"], ["shop-up"], True)


FILE = """\
probes:
  - {name: shop, kind: http, target: "http://127.0.0.1:SHOP/", every: 4s, timeout: 1s}
  - {name: other, kind: http, target: "http://127.0.0.1:OTHER/", every: 4s, timeout: 1s}
objectives:
  - {name: shop-up, probe: shop, target: 99%}
alerts: {webhook: "RECEIVER"}
proxies:
  routes: [{name: shop-route, listen: "127.0.0.1:0", upstream: "127.0.0.1:SHOP"}]
drills:
  - name: shop-blackhole
    fault: {kind: tcp-blackhole, target: shop-route}
    expect:
      probe: {name: shop, reason: timeout, within: 30s}
      alert: {probe: shop, within: 30s}
      resolves_within: 30s
"""


@asynccontextmanager
async def drilling(directory: Path, state: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """`stormwatch drill --side prober` with a state directory of its own."""
    process = await asyncio.create_subprocess_exec(
        *(STORMWATCH, "drill", "--side", "prober", "--format", "json"),
        cwd=directory,
        env={**os.environ, "STORMWATCH_STATE": str(directory / state)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def write_config(directory: Path, served: web.Server, other: web.Server, receiver: str) -> None:
    """The configuration of these servers."""
    text = FILE.replace("SHOP", str(served.port)).replace("OTHER", str(other.port)).replace("RECEIVER", receiver)
    await asyncio.to_thread((directory / "stormwatch.yaml").write_text, text)


async def test_users_never_notice_a_drill_that_proves_the_page(tmp_path: Path) -> None:
    """A user gets every answer while the probe is down; the page says that it is a drill, and that it is over."""
    answers: list[int] = []
    with AnyService(Answer()) as receiver:
        async with (
            web.serving(web.answer()) as served,
            web.serving(web.answer()) as other,
            httpx.AsyncClient(timeout=60) as user,
        ):
            await write_config(tmp_path, served, other, f"{receiver.url}/")
            async with drilling(tmp_path, "state") as process:
                ended = asyncio.create_task(process.communicate())
                while not ended.done():
                    answers.append((await user.get(served.url)).status_code)
                    await asyncio.wait([ended], timeout=0.1)
                said, told = ended.result()
    (report,) = json.loads(said)
    assert (process.returncode, report["verdict"]) == (0, "proved"), told.decode()
    assert (set(answers), len(answers) > 5) == ({200}, True)
    assert other.connections == 0
    payloads = [request.json for request in receiver.requests]
    assert [(each["status"], each["alerts"][0]["labels"]["alertname"]) for each in payloads] == [
        ("firing", "ProbeDown"),
        ("resolved", "ProbeDown"),
    ]
    (alert,) = payloads[0]["alerts"]
    assert alert["labels"]["drill"] == "shop-blackhole"
    assert alert["annotations"]["summary"] == "[drill shop-blackhole] shop is down"
    assert "drill" not in {each.name for each in (tmp_path / "state").iterdir()}, "where other drills keep history"


KILLED_AT: Sequence[str] = ("injected", "first_red", "reverting")


async def test_a_drill_that_is_killed_at_any_step_leaves_nothing(tmp_path: Path) -> None:
    """The next ordinary run is up, and `undo` proves that the fault went with the process that held it."""
    with AnyService(Answer()) as receiver:
        async with web.serving(web.answer()) as served, web.serving(web.answer()) as other:
            await write_config(tmp_path, served, other, f"{receiver.url}/")
            config = load(tmp_path / "stormwatch.yaml", environ={})

            async def kill_at(step: str) -> None:
                async with drilling(tmp_path, step) as process:
                    assert process.stderr is not None
                    async with asyncio.timeout(60):
                        while step not in (line := (await process.stderr.readline()).decode()).split():
                            assert line, f"the drill ended before it came to {step}"
                    process.kill()
                    await process.wait()
                outcomes = await UndoJournal(tmp_path / step / "undo").undo_all()
                assert [each.state for each in outcomes if each.state is UndoState.FAILED] == []
                assert outcomes or step == "reverting", "a fault in place has its record"
                assert list((tmp_path / step / "undo").glob("*.json")) == []
                result = await look(config.probes[0])
                assert (result.outcome, "detour" in result.evidence) == (Outcome.UP, False)

            await asyncio.gather(*(kill_at(step) for step in KILLED_AT))
