"""A day in the life of a small platform: probes, results and views to render, store and expose in tests."""

import base64
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from stormwatch.exporters.history import Latency, Stretch
from stormwatch.exporters.journey_view import journey_of
from stormwatch.exporters.view import CELLS, AlertView, ObjectiveView, OverviewView, ProbeCard, ProbeView
from stormwatch.probes.probe import Kind, Metric, Probe
from stormwatch.probes.result import Attempt, Measure, Outcome, Phase, Reason, Result
from stormwatch.probes.watch import Watch

NOW = 1_795_229_110.0
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


async def look(_watch: Watch) -> None:
    """A check that sees nothing."""


WEB: Kind[Any] = Kind(
    name="web",
    options=dict,
    build=lambda _target, _options: look,
    phases=("resolve", "connect", "tls", "processing", "transfer"),
    phase_metric=Metric("probe_http_duration_seconds", "Duration of http request by phase, summed over all redirects"),
    metrics=(
        Metric("probe_http_status_code", "Response HTTP status code"),
        Metric("probe_ssl_earliest_cert_expiry", "Returns last SSL chain expiry in unixtime"),
        Metric("probe_ssl_last_chain_info", "Contains SSL leaf certificate information"),
        Metric("probe_tls_version_info", "Returns the TLS version used or NaN when unknown"),
    ),
    reasons=frozenset({Reason.DNS, Reason.TIMEOUT, Reason.STATUS, Reason.CERTIFICATE}),
)
JOURNEY: Kind[Any] = Kind(
    name="journey",
    options=dict,
    build=lambda _target, _options: look,
    phase_metric=Metric("stormwatch_journey_step_duration_seconds", "Duration of each step."),
    reasons=frozenset({Reason.STEP, Reason.TIMEOUT, Reason.BROWSER}),
)
PORT: Kind[Any] = Kind(
    name="port",
    options=dict,
    build=lambda _target, _options: look,
    reasons=frozenset({Reason.REFUSED, Reason.TIMEOUT}),
)
KINDS: dict[str, Kind[Any]] = {kind.name: kind for kind in (WEB, JOURNEY, PORT)}


def probe(name: str = "front", kind: str = "web", target: str = "https://shop.example/", **labels: str) -> Probe:
    """A probe of one of these kinds."""
    return Probe(name=name, kind=kind, target=target, check=look, location="fra1", labels=labels)


def certificate_measures(expiry: float = NOW + 30 * 86400) -> tuple[Measure, ...]:
    """What a run measures that saw a certificate."""
    return (
        Measure("probe_ssl_earliest_cert_expiry", expiry),
        Measure("probe_ssl_last_chain_info", 1, {"subject": "CN=shop.example", "issuer": "CN=Example CA"}),
    )


def up(name: str = "front", *, at: float = NOW, kind: str = "web", seconds: float = 0.182, **values: Any) -> Result:
    """A run that was up."""
    defaults: dict[str, Any] = {
        "target": "https://shop.example/",
        "phases": (
            Phase("resolve", 0.004, 0.0),
            Phase("connect", 0.021, 0.004),
            Phase("tls", 0.043, 0.025),
            Phase("processing", 0.101, 0.068),
            Phase("transfer", 0.013, 0.169),
        ),
        "measures": (Measure("probe_http_status_code", 200), *certificate_measures()),
        "evidence": {
            "status_line": "HTTP/1.1 200 OK",
            "headers": {"server": "nginx", "content-type": "text/html; charset=utf-8"},
            "address": "192.0.2.10:443",
            "certificates": [
                {
                    "subject": "CN=shop.example",
                    "issuer": "CN=Example CA,O=Example",
                    "not_before": "2026-10-01T00:00:00Z",
                    "not_after": "2026-12-21T00:00:00Z",
                    "names": ["shop.example", "www.shop.example"],
                    "fingerprint_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "key": "EC 256",
                    "signature": "sha256",
                }
            ],
        },
        "attempts": (Attempt(started=at, seconds=seconds, outcome=Outcome.UP, reason=Reason.NONE, message=""),),
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "timeout": 5.0,
    }
    return Result(
        probe=name,
        kind=kind,
        location="fra1",
        started=at,
        seconds=seconds,
        outcome=Outcome.UP,
        **{**defaults, **values},
    )


def down(name: str = "front", *, at: float = NOW, reason: Reason = Reason.STATUS, **values: Any) -> Result:
    """A run that was down after two attempts."""
    message = values.pop("message", "wanted status 200, got 502 Bad Gateway")
    attempts = tuple(
        Attempt(started=at + place * 1.2, seconds=0.2, outcome=Outcome.DOWN, reason=reason, message=message)
        for place in range(2)
    )
    defaults: dict[str, Any] = {
        "kind": "web",
        "target": "https://shop.example/",
        "failed_phase": "processing",
        "phases": (
            Phase("resolve", 0.004),
            Phase("connect", 0.02, 0.004),
            Phase("processing", 0.15, 0.024, failed=True),
        ),
        "measures": (Measure("probe_http_status_code", 502),),
        "evidence": {"status_line": "HTTP/1.1 502 Bad Gateway"},
        "attempts": attempts,
        "timeout": 5.0,
        "trace_id": "00f067aa0ba902b7a3ce929d0e0e4736",
    }
    return Result(
        probe=name,
        location="fra1",
        started=at,
        seconds=0.2,
        outcome=Outcome.DOWN,
        reason=reason,
        message=message,
        **{**defaults, **values},
    )


def broken(name: str = "front", *, at: float = NOW, **values: Any) -> Result:
    """A run that says nothing about the target."""
    defaults: dict[str, Any] = {"kind": "web", "target": "https://shop.example/"}
    return Result(
        probe=name,
        location="fra1",
        started=at,
        seconds=0.01,
        outcome=Outcome.BROKEN,
        reason=Reason.RESOURCES,
        message="no file descriptors are left: raise the limit with ulimit -n",
        **{**defaults, **values},
    )


def failed_checkout(at: float = NOW - 20) -> Result:
    """A journey that stopped at the payment."""
    message = 'step "pay": button "Pay" led to "Payments are not available", wanted heading "Thank you"'
    return Result(
        probe="checkout",
        kind="journey",
        target="journeys/test_checkout.py::test_checkout",
        location="fra1",
        started=at,
        seconds=6.42,
        outcome=Outcome.DOWN,
        reason=Reason.STEP,
        message=message,
        failed_phase="pay",
        phases=(
            Phase("open the shop", 0.41, 0.0),
            Phase("log in", 0.52, 0.41),
            Phase("search a product", 0.31, 0.93),
            Phase("add to cart", 0.18, 1.24),
            Phase("pay", 5.0, 1.42, failed=True),
        ),
        evidence={
            "step": "pay",
            "where": "journeys/test_checkout.py:31",
            "url": "https://shop.storm.test:18443/checkout",
            "text": "Locator expected to be visible\nActual value: None\nCall log:\n  - waiting for get_by_role('heading')",
            "console_errors": ["Failed to load resource: the server responded with a status of 502 ()"],
            "artifacts": [
                "checkout/20261121T024450Z-4bf92f35/page.png",
                "checkout/20261121T024450Z-4bf92f35/trace.zip",
            ],
        },
        attempts=tuple(
            Attempt(started=at + n * 7, seconds=6.42, outcome=Outcome.DOWN, reason=Reason.STEP, message=message)
            for n in range(2)
        ),
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        timeout=45.0,
        late=0.4,
    )


def strip(span: float, wrong: dict[int, str], known: int = CELLS) -> tuple[Stretch, ...]:
    """A strip in which some cells are not up; only the last `known` cells have runs."""
    width = span / CELLS
    return tuple(
        Stretch(NOW - span + place * width, **({"up": 80, wrong.get(place, "up"): 5} if place >= CELLS - known else {}))
        for place in range(CELLS)
    )


def latencies(span: float, typical: float, known: int = CELLS, gaps: range = range(0)) -> tuple[Latency, ...]:
    """A wave around a typical value."""
    width = span / CELLS

    def values() -> Iterator[Latency]:
        for place in range(CELLS):
            mean = typical * (1 + 0.25 * math.sin(place / 6) + 0.15 * math.sin(place * 1.7))
            unknown = place < CELLS - known or place in gaps
            yield Latency(NOW - span + place * width, None if unknown else mean, None if unknown else mean * 1.6)

    return tuple(values())


def cards() -> list[ProbeCard]:
    """Probes in every state."""
    day = 86400.0
    return [
        ProbeCard(
            name="front",
            kind="http",
            target="https://shop.storm.test:18443/",
            state="up",
            since=NOW - 13 * 3600,
            strip=strip(day, {31: "down", 32: "down"}),
            latencies=latencies(day, 0.18),
            last=up("front", at=NOW - 4),
            failure=down("front", at=NOW - 13 * 3600),
            labels={"service": "shop", "team": "web"},
        ),
        ProbeCard(
            name="checkout",
            kind="journey",
            target="journeys/test_checkout.py::test_checkout",
            state="down",
            since=NOW - 95,
            strip=strip(day, {31: "down", 71: "down"}),
            latencies=latencies(day, 1.9, gaps=range(30, 33)),
            last=failed_checkout(),
            failure=failed_checkout(),
            labels={"service": "shop", "team": "web"},
        ),
        ProbeCard(
            name="shop-dns",
            kind="dns",
            target="shop.storm.test",
            state="up",
            since=NOW - 86400 * 3,
            strip=strip(day, {}),
            latencies=latencies(day, 0.0021),
            last=up("shop-dns", at=NOW - 9, seconds=0.0019),
            labels={"service": "shop"},
        ),
        ProbeCard(
            name="payments-tls",
            kind="tls",
            target="payments.storm.test:18445",
            state="broken",
            since=NOW - 310,
            span=3600.0,
            strip=strip(3600.0, {64: "broken", 66: "broken", 71: "broken"}, known=40),
            latencies=latencies(3600.0, 0.024, known=40),
            last=broken("payments-tls", at=NOW - 10),
            failure=broken("payments-tls", at=NOW - 10),
            labels={"service": "payments"},
            maintenance=True,
        ),
        ProbeCard(
            name="taxi-with-a-rather-long-name-in-the-second-region",
            kind="http",
            target="https://taxi.storm.test:18447/rides/estimate?from=airport&to=old-town&passengers=2",
            state="waiting",
            span=600.0,
            strip=strip(600.0, {}, known=0),
            latencies=latencies(600.0, 1, known=0),
        ),
    ]


def alerts() -> list[AlertView]:
    """A page, a ticket, and one that may come."""
    message = failed_checkout().message
    return [
        AlertView(
            name="ErrorBudgetBurn",
            severity="page",
            state="firing",
            since=NOW - 60,
            subject="checkout-availability",
            probe="checkout",
            summary="checkout-availability burns its error budget 14.4 times too fast (1 h and 5 min)",
            reason="step",
            message=message,
            runbook="https://runbooks.example/checkout",
            dashboard="https://grafana.example/d/1",
        ),
        AlertView(
            name="ProbeNoEvidence",
            severity="ticket",
            state="firing",
            since=NOW - 200,
            subject="payments-tls",
            probe="payments-tls",
            summary="payments-tls has given no up or down result for 5 min",
            reason="resources",
        ),
        AlertView(
            name="ProbeDown", severity="page", state="pending", since=NOW - 5, subject="checkout", probe="checkout"
        ),
    ]


def objectives() -> list[ObjectiveView]:
    """Budgets that are comfortable, tight and gone."""
    return [
        ObjectiveView(
            name="front-fast", target="95%", window="30d", left=0.87, good=172_310, bad=1123, asks="within 500ms"
        ),
        ObjectiveView(name="checkout-availability", target="99.9%", window="30d", left=-0.42, good=21_570, bad=31),
        ObjectiveView(name="payments-availability", target="99.9%", window="30d", left=0.08, good=86_000, bad=79),
    ]


def overview() -> OverviewView:
    """The first page on a bad day."""
    return OverviewView(now=NOW, probes=cards(), alerts=alerts(), objectives=objectives(), location="fra1")


def checkout_page() -> ProbeView:
    """The page of the journey that fails."""
    return ProbeView(
        now=NOW,
        card=cards()[1],
        every=120,
        timeout=45,
        attempts=2,
        failures=[failed_checkout(), *(down("checkout", at=NOW - 13 * 3600 - n * 120) for n in range(4))],
        alerts=alerts()[:1],
        objectives=objectives()[1:2],
        depends_on=("shop-dns",),
        runbook="https://runbooks.example/checkout",
        location="fra1",
    )


STEPS = (("open the shop", 0.41), ("log in", 0.52), ("search a product", 0.31), ("add to cart", 0.18), ("pay", 0.74))


def checkout_run(at: float, factor: float = 1.0) -> Result:
    """A run of the journey in which each step took `factor` times as long as usual."""
    phases: list[Phase] = []
    for name, seconds in STEPS:
        phases.append(Phase(name, seconds * factor, sum(phase.seconds for phase in phases)))
    vitals = {
        "time_to_first_byte_seconds": 0.12,
        "first_contentful_paint_seconds": 0.4,
        "largest_contentful_paint_seconds": 2.9,
        "interaction_to_next_paint_seconds": 0.6,
        "cumulative_layout_shift": 0.013,
    }
    loaded = {"document": (4, 18_400, 0), "script": (6, 412_000, 1), "image": (22, 3_410_000, 0), "font": (0, 0, 0)}
    names = ("requests", "received_bytes", "failed_requests")
    return up(
        "checkout",
        at=at,
        kind="journey",
        seconds=sum(phase.seconds for phase in phases),
        target="journeys/test_checkout.py::test_checkout",
        phases=tuple(phases),
        measures=(
            *(Measure(f"stormwatch_journey_{name}", value * factor) for name, value in vitals.items()),
            *(
                Measure(f"stormwatch_journey_{name}", value, {"type": type_})
                for type_, counts in loaded.items()
                for name, value in zip(names, counts, strict=True)
            ),
        ),
        evidence={},
    )


def checkout_runs() -> list[Result]:
    """An hour of it, the newest first: it fails now, and 18 runs ago nobody could look."""
    factors = [1 + 0.2 * math.sin(place * 1.3) + (0.9 if place in {8, 9} else 0) for place in range(30)]
    runs = [checkout_run(NOW - 20 - place * 120, factor) for place, factor in enumerate(factors)]
    return [
        *(failed_checkout(NOW - 20 - place * 120) for place in range(2)),
        *runs[2:18],
        broken("checkout", at=NOW - 20 - 18 * 120, kind="journey"),
        *runs[19:],
    ]


def journey_page(gone: frozenset[str] = frozenset()) -> ProbeView:
    """The page of the journey that fails, with its runs."""
    runs = checkout_runs()
    return replace(checkout_page(), journey=journey_of("checkout", runs, runs[0], gone=gone))


def front_page() -> ProbeView:
    """The page of a probe that is up."""
    return ProbeView(
        now=NOW, card=cards()[0], every=15, timeout=5, failures=[down("front", at=NOW - 13 * 3600)], location="fra1"
    )
