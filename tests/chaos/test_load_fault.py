"""The fault `load`: locust really asks the service, which feels it; what it asked is counted, and it ends with the fault."""

import asyncio
import contextlib
import importlib.util
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.catalog import FAULTS, read_options
from stormwatch.chaos.fault import FaultLost, FaultNotInjected
from stormwatch.chaos.held_fault import HeldFault
from stormwatch.chaos.host_program import marked
from stormwatch.chaos.load_count import LoadCount, LoadCountFile
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from stormwatch.harness.config import load
from stormwatch.harness.injecting import why_none
from stormwatch.probes.http import KIND as HTTP
from stormwatch.probes.procfs import command_line
from stormwatch.probes.result import Outcome, Reason
from tests.chaos.test_host_process import held_fault
from tests.servers import busy
from tests.servers.certificates import Authority
from tests.servers.probing import run


def service(url: str, **more: Any) -> Target:
    """As it is declared."""
    return Target.from_json({"name": "shop", "service": {"url": url, **more}}, TARGETS)


@contextlib.asynccontextmanager
async def loaded(target: Target, directory: Path, *, lease: float = 600, **options: Any) -> AsyncGenerator[HeldFault]:
    """Under load."""
    async with held_fault(
        "load", target, journal=directory / "undo", lease=lease, options={"users": 1, **options}
    ) as fault:
        yield fault


async def test_a_probe_sees_the_spike_and_is_green_again_after_it(tmp_path: Path) -> None:
    """Thirty users of a service that answers ten a second; afterwards it works off what waits."""
    with busy.serving(seconds=0.1) as shop:
        slow = {"expect": {"slower_than": "1s"}}
        before = await run(HTTP, shop.url, slow, timeout=30)
        async with loaded(service(shop.url), tmp_path, users=30) as fault:
            while shop.waiting < 20:
                await asyncio.sleep(0.02)
            during = await run(HTTP, shop.url, slow, timeout=30)
            seen = await fault.evidence()
        after = await run(HTTP, shop.url, slow, timeout=30)
        while after.outcome is not Outcome.UP:
            after = await run(HTTP, shop.url, slow, timeout=30)
    assert before.outcome is Outcome.UP
    assert (during.outcome, during.reason) == (Outcome.DOWN, Reason.TOO_SLOW)
    assert Reason.TOO_SLOW in FAULTS["load"].reasons
    assert seen.touched


async def test_what_it_asked_is_counted_exactly_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    """The service has seen all that is counted, and what was under way when locust was killed: one request a user.

    A service that answers with errors has met the load, and it is told.
    """
    with busy.serving(status=503) as shop:
        async with loaded(service(shop.url), tmp_path, users=3, pause="10ms") as fault:
            first = await fault.evidence()
            (process,) = marked(fault.id)
            assert first.touched
            while (await fault.evidence()).requests < first.requests + 20:
                await asyncio.sleep(0.02)
        last = await fault.evidence()
        assert 0 <= len(shop.asked) - last.requests <= 3
    assert last.first == first.first
    assert last.last is not None
    assert last.first is not None
    assert last.last > last.first
    told = f"3 users with {last.requests} requests answered, {last.requests} of them with a status of 400 or more"
    assert last.what == told
    assert not process.alive()
    assert marked(fault.id) == []
    assert not (Path(tempfile.gettempdir()) / f"stormwatch-{fault.id}").exists()


async def test_requests_are_made_by_their_weights_with_the_headers_of_the_target(tmp_path: Path) -> None:
    """Method, path, body; and redirects, which lead to somebody who has not agreed, are not followed."""
    asked = [
        {"path": "/search?q=hotel", "weight": 3},
        {"path": "/pay", "method": "POST", "body": '{"card": 1}'},
    ]
    with busy.serving() as elsewhere, busy.serving(status=302, headers={"Location": elsewhere.url}) as shop:
        target = service(shop.url, headers={"Authorization": "Bearer not-for-the-command-line"})
        async with loaded(target, tmp_path, requests=asked) as fault:
            while len(shop.asked) < 40:
                await asyncio.sleep(0.02)
            (process,) = marked(fault.id)
            assert not any("not-for-the-command-line" in word for word in command_line(process.pid))
            record = next((tmp_path / "undo").glob("*.json")).read_text()
            assert "not-for-the-command-line" not in record
        seen = await fault.evidence()
    counted = Counter((method, path) for method, path, _, _ in shop.asked[:40])
    assert counted == {("GET", "/search?q=hotel"): 30, ("POST", "/pay"): 10}
    assert {headers["Authorization"] for *_, headers, _ in shop.asked} == {"Bearer not-for-the-command-line"}
    assert {body for method, _, _, body in shop.asked if method == "POST"} == {b'{"card": 1}'}
    assert {headers.get("Content-Type") for method, _, headers, _ in shop.asked if method == "POST"} == {
        "application/json"
    }
    assert seen.requests > 0
    assert elsewhere.asked == []


async def test_a_spike_that_met_nobody_is_not_injected(tmp_path: Path) -> None:
    """Refusals alone prove nothing; who was asked, and what was seen, is told."""
    with busy.serving() as shop:
        gone = shop.url
    with pytest.raises(
        FaultNotInjected, match=r"load on shop: none of \d+ requests was answered at .*: ConnectionRefusedError"
    ):
        async with loaded(service(gone), tmp_path, timeout="100ms"):
            pass
    assert list((tmp_path / "undo").iterdir()) == []


async def test_https_is_asked_only_where_the_certificate_is_trusted(tmp_path: Path) -> None:
    """By the target's own authority and for its name: what has a stranger's certificate is told none of our headers."""
    authority = Authority(tmp_path, "ours")
    context = authority.issue("127.0.0.1").server_context()
    with busy.serving(tls=context) as shop:
        async with loaded(service(shop.url, ca_file=str(authority.file)), tmp_path, pause="20ms") as fault:
            assert (await fault.evidence()).touched
        answered = len(shop.asked)
        with pytest.raises(FaultNotInjected, match="CERTIFICATE_VERIFY_FAILED"):
            async with loaded(service(shop.url), tmp_path, timeout="100ms"):
                pass
        assert len(shop.asked) == answered
    with busy.serving(tls=authority.issue("another.test").server_context()) as stranger:
        with pytest.raises(FaultNotInjected, match="IP address mismatch"):
            async with loaded(service(stranger.url, ca_file=str(authority.file)), tmp_path, timeout="100ms"):
                pass
        assert stranger.asked == []


async def test_it_is_held_while_the_first_answer_takes_longer_than_the_lease_and_ends_by_itself(tmp_path: Path) -> None:
    """The owner gives signs of life while it waits. And the second expiry: nobody is needed for it, and the drill is told."""
    with busy.serving(first=2.5) as shop:
        async with loaded(service(shop.url), tmp_path, lease=2.0, pause="20ms", at_most="6s") as fault:
            assert (await fault.evidence()).touched
            async with asyncio.timeout(60):
                while marked(fault.id):
                    await asyncio.sleep(0.05)
            with pytest.raises(FaultLost, match="locust does not run any more; at_most may have been too short"):
                await fault.evidence()


async def test_locust_that_is_not_installed_is_named_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to install."""

    def nothing(_name: str) -> None: ...

    monkeypatch.setattr(importlib.util, "find_spec", nothing)
    with pytest.raises(FaultNotInjected, match=r"not installed: pip install 'stormwatch\[load\]'"):
        async with loaded(service("http://127.0.0.1:1/"), tmp_path):
            pass
    assert not (tmp_path / "undo").exists()
    # As `stormwatch drill --dry-run` asks, also of a fault that stands beside another.
    path = tmp_path / "stormwatch.yaml"
    path.write_text(
        "probes: [{name: shop, kind: http, target: 'http://127.0.0.1:1/'}]\n"
        "targets: [{name: here, machine: {}}, {name: shop, service: {url: 'http://127.0.0.1:1/'}}]\n"
        "drills:\n"
        "  - name: rush\n"
        "    fault: {kind: command, target: here, inject: ['true'], undo: ['true']}\n"
        "    beside: [{kind: load, target: shop, users: 1}]\n"
        "    expect: {probe: {name: shop}}\n"
    )
    config = load(path, environ={})
    assert "pip install 'stormwatch[load]'" in await why_none(config, config.drills[0].faults)
    assert await why_none(config, config.drills[0].faults[:1]) == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "users"),
        ({"users": 0}, "greater than or equal to 1"),
        ({"users": 1001}, "less than or equal to 1000"),
        ({"users": 1, "spawn_rate": 101}, "less than or equal to 100"),
        ({"users": 1, "at_most": "2h"}, r"at_most \(7200 s\) must not be more than 3600 s"),
        ({"users": 1, "timeout": "0s"}, "timeout must be more than 0s"),
        ({"users": 1, "requests": [{"path": "//elsewhere.example/ x"}]}, "path"),
        ({"users": 1, "requests": [{"path": "https://elsewhere.example/"}]}, "path"),
        ({"users": 1, "requests": [{"path": "/", "weight": 0}]}, "greater than or equal to 1"),
    ],
)
def test_a_mistake_in_its_options_is_named(options: dict[str, Any], said: str) -> None:
    """Limits among them: one process makes the load, and nobody may be there to end it."""
    with pytest.raises(ValueError, match=said):
        read_options("load", options)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("shop.example", "a URL like https://shop.example/"),
        ("https://me:secret@shop.example/", "give `headers: {Authorization: …}` instead"),
        ("ftp://shop.example/", "a URL like https://shop.example/"),
    ],
)
def test_an_address_that_cannot_be_asked_is_refused(url: str, said: str) -> None:
    """And what stands in it is not repeated where it may be secret."""
    with pytest.raises(ValueError, match=said) as raised:
        service(url)
    assert said in str(raised.value)


def test_a_count_survives_whoever_counts(tmp_path: Path) -> None:
    """It is read while it is written, and from a file that is not there."""
    path = tmp_path / "count"
    assert LoadCountFile.read(path) == LoadCount()
    LoadCountFile.create(path)
    assert LoadCountFile.read(path) == LoadCount()
    counted = LoadCount(users=2, answered=3, errors=1, unanswered=1, first=1.5, last=2.5, why="refused")
    LoadCountFile(path).write(counted)
    assert LoadCountFile.read(path) == counted
    assert counted.sentence() == (
        "2 users with 3 requests answered, 1 of them with a status of 400 or more; 1 not: refused"
    )
