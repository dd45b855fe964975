"""What the catalogue says that a probe sees of each fault of connections and of HTTP, as a real probe sees it."""

from typing import Any

import pytest

from stormwatch.chaos.catalog import FAULTS
from stormwatch.probes.http import KIND as HTTP
from stormwatch.probes.result import Outcome, Reason
from tests.servers.probing import run
from tests.servers.proxied import proxied, route_to
from tests.servers.upstream import keeping_alive

SEEN: list[tuple[str, dict[str, Any], dict[str, Any], Reason]] = [
    ("tcp-latency", {"delay": "5s"}, {}, Reason.TIMEOUT),
    ("tcp-latency", {"delay": "300ms"}, {"expect": {"slower_than": "200ms"}}, Reason.TOO_SLOW),
    ("tcp-blackhole", {}, {}, Reason.TIMEOUT),
    ("tcp-reset", {}, {}, Reason.RESET),
    ("tcp-bandwidth", {"rate": "10B"}, {}, Reason.TIMEOUT),
    ("tcp-slicer", {"average_size": "1B", "delay": "100ms"}, {}, Reason.TIMEOUT),
    ("tcp-truncate", {"bytes": "50B"}, {}, Reason.RESET),
    ("tcp-truncate", {"bytes": "0B"}, {}, Reason.RESET),
    ("tcp-corrupt", {"flipped": "100%"}, {}, Reason.PROTOCOL),
    ("tcp-timeout", {"after": "10s"}, {}, Reason.TIMEOUT),
    ("tcp-timeout", {"after": "100ms"}, {}, Reason.RESET),
    ("tcp-refused", {}, {}, Reason.REFUSED),
    ("http-status", {}, {}, Reason.STATUS),
    ("http-delay", {"delay": "5s"}, {}, Reason.TIMEOUT),
    (
        "http-header",
        {"set": {"X-Cache": "stale"}},
        {"expect": {"headers": {"X-Cache": {"absent": True}}}},
        Reason.ASSERTION,
    ),
    (
        "http-body",
        {"patch": [{"pattern": "served", "replacement": "broken"}]},
        {"expect": {"body_matches": ["served"]}},
        Reason.ASSERTION,
    ),
    ("http-body", {"replace": ""}, {"expect": {"body_matches": ["served"]}}, Reason.ASSERTION),
]


@pytest.mark.parametrize(("kind", "options", "probe", "reason"), SEEN)
async def test_a_probe_sees_it_while_it_is_there(
    kind: str, options: dict[str, Any], probe: dict[str, Any], reason: Reason
) -> None:
    """Up before and after; meanwhile down, for one of the reasons of the catalogue; and the fault counts that it was met."""
    assert reason in FAULTS[kind].reasons
    async with keeping_alive() as upstream, proxied(route_to(upstream.port, http=True)) as proxy:
        target = f"http://127.0.0.1:{proxy.port()}/"
        before = await run(HTTP, target, probe)
        await proxy.put(kind, **options)
        during = await run(HTTP, target, probe, timeout=1.0)
        evidence = await proxy.delete()
        after = await run(HTTP, target, probe)
    assert (before.outcome, after.outcome) == (Outcome.UP, Outcome.UP)
    assert (during.outcome, during.reason) == (Outcome.DOWN, reason), during.message
    assert evidence["first"] is not None


def test_every_fault_of_connections_and_of_http_is_seen() -> None:
    """But for one, which changes nothing of an answer that has a length: its own tests show it."""
    wanted = {kind for kind in FAULTS if kind.startswith(("tcp-", "http-"))}
    assert {kind for kind, *_ in SEEN} == wanted - {"tcp-slow-close"}
