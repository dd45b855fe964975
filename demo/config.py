"""The configuration that watches and drills the sample platform: `stormwatch.yaml` for the platform as it runs now.

It has gaps on purpose, as real ones have by accident: `stormwatch drill --matrix` finds them. `GAPS` says which, and the
configuration as it is when they are mended stands beside it.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from stormwatch.demo.estate import SERVICES, ZONE
from stormwatch.demo.layout import HOST
from stormwatch.demo.platform import Platform

_RUNBOOKS = "https://runbooks.storm.test"
_HEADER = """\
# stormwatch.yaml
# The sample platform, watched. Written when the platform was started: its ports change, so does this file.
"""
SLOW = "1100ms"
"""What is too slow for a page: less than the matrix delays answers by, and more than a busy laptop needs."""
JOURNEYS = "stormwatch-journeys.yaml"
"""The file beside it in which all sample journeys are on schedule, and nothing else."""
REPAIRED = "stormwatch-repaired.yaml"
"""The file beside `stormwatch.yaml` in which the gaps are mended: `diff` shows the repairs."""

GAPS: Mapping[str, tuple[str, ...]] = {
    "nothing says how slow a taxi may be": ("taxi/tcp-latency",),
    "nobody reads what the taxis say": ("taxi/http-body",),
    "the taxi probe takes a 500 for an answer": ("taxi/http-status",),
    "nothing says how slow the hotels may be": ("hotel/tcp-latency",),
    "no probe sees the certificates of hotel and catalog": ("hotel/tls-expires-soon", "catalog/tls-expires-soon"),
    "the alert for the certificate of accounts is switched off": ("accounts/tls-expires-soon",),
    "nothing says how slow the name server may be": ("dns/dns-slow",),
}
"""What is wrong with the watching of the platform, and the cells of the matrix that nobody hears of for that."""


def write_config(platform: Platform, path: Path) -> None:
    """Write the configuration of a running platform, and beside it the one that is repaired, and the one of all journeys.

    The sample journeys are named where they are installed.
    """
    for file, document in (
        (path, config_of(platform)),
        (path.with_name(REPAIRED), config_of(platform, repaired=True)),
        (path.with_name(JOURNEYS), journeys_of(platform)),
    ):
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
        file.write_text(_HEADER + text)


def config_of(platform: Platform, *, repaired: bool = False) -> dict[str, Any]:
    """The configuration as a document: with its gaps, or with all of them mended."""
    document = {
        "location": "demo",
        "defaults": {"every": "5s", "timeout": "2s", "confirm": {"attempts": 2, "after": "300ms"}},
        "probes": _probes(platform),
        "objectives": _objectives(),
        "proxies": {"control": urlsplit(platform.control).netloc, "routes": _routes(platform)},
        "drills": _drills(),
    }
    if repaired:
        _repair(document, platform)
    return document


def journeys_of(platform: Platform) -> dict[str, Any]:
    """A configuration that runs all five sample journeys on schedule.

    A file of its own: five browsers are more than the two cores that the drills and the matrix measure seconds on.
    """
    return {
        "location": "demo",
        "defaults": {"every": "2m", "timeout": "30s", "confirm": {"attempts": 2, "after": "1s"}},
        "probes": [
            _journey(platform, "login", labels={"service": "accounts", "team": "identity"}),
            _journey(platform, "search", labels={"service": "catalog", "team": "web"}),
            _journey(platform, "checkout", labels={"service": "shop", "team": "web", "tier": "revenue"}),
            _journey(platform, "hotel", labels={"service": "hotel", "team": "travel"}),
            _journey(platform, "taxi", labels={"service": "taxi", "team": "travel"}),
        ],
    }


def _repair(document: dict[str, Any], platform: Platform) -> None:
    """Mend every one of `GAPS`, in their order; hotel and catalog get probes of their own for their certificates."""
    probes = {probe["name"]: probe for probe in document["probes"]}
    taxi, hotel = probes["taxi"]["http"]["expect"], probes["hotel"]["http"]["expect"]
    taxi |= {"status": [200], "body_matches": ['"status":"ready"'], "slower_than": SLOW}
    hotel["slower_than"] = SLOW
    del probes["accounts-health"]["alert"]
    probes["shop-dns"]["dns"]["expect"]["slower_than"] = "100ms"
    for name in ("hotel", "catalog"):
        host, port = SERVICES[name].host, urlsplit(platform.urls[name]).port
        document["probes"].append(
            _probe(
                f"{name}-tls",
                "tls",
                f"{host}:{port}",
                depends_on=["shop-dns"],
                labels={"service": name, "team": "web"},
                alert={"severity": "ticket"},
                tls={
                    "resolver": platform.dns,
                    "ca_file": str(platform.ca),
                    "server_name": host,
                    "expires_within": "21d",
                },
            )
        )


def _probes(platform: Platform) -> list[dict[str, Any]]:
    front_door = SERVICES["shop"].host
    reached = {"resolver": platform.dns, "ca_file": str(platform.ca)}
    urls = platform.urls

    def http(name: str, url: str, expect: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return _probe(name, "http", url, http={**reached, "expect": dict(expect)}, **more)

    def journey(name: str, **more: Any) -> dict[str, Any]:
        return _journey(platform, name, every="30s", timeout="14s", depends_on=["shop-dns", "front"], **more)

    return [
        _probe(
            "shop-dns",
            "dns",
            front_door,
            every="3s",
            timeout="1s",
            labels={"service": "dns", "team": "network"},
            dns={"server": platform.dns, "type": "A", "expect": {"answers": [HOST], "authoritative": True}},
        ),
        _probe(
            "shop-tls",
            "tls",
            f"{front_door}:{urlsplit(urls['shop']).port}",
            depends_on=["shop-dns"],
            labels={"service": "shop", "team": "web"},
            alert={"severity": "ticket"},
            tls={**reached, "server_name": front_door, "expires_within": "21d"},
        ),
        http(
            "front",
            f"{urls['shop']}/shop",
            {"status": [200], "body_matches": ["Add to cart"], "slower_than": SLOW},
            depends_on=["shop-dns"],
            labels={"service": "shop", "team": "web"},
        ),
        http(
            "shop-api",
            f"{urls['shop']}/api/products?q=umbrella",
            {"status": [200], "body_matches": ["Storm umbrella"]},
            depends_on=["shop-dns"],
            labels={"service": "catalog", "team": "web"},
        ),
        http(
            "payments-health",
            f"{urls['payments']}/healthz",
            {"status": [200], "slower_than": "1s"},
            every="4s",
            timeout="1500ms",
            depends_on=["shop-dns"],
            labels={"service": "payments", "team": "money"},
            alert={"severity": "page", "for": "3s"},
        ),
        http(
            "accounts-health",
            f"{urls['accounts']}/healthz",
            {"status": [200], "body_matches": ['"status":"ok"'], "slower_than": SLOW},
            depends_on=["shop-dns"],
            labels={"service": "accounts", "team": "identity"},
            alert={"severity": "page", "certificate_ticket": "0s", "certificate_page": "0s"},
        ),
        http(
            "hotel",
            f"{urls['shop']}/hotels",
            {"status": [200], "body_matches": ["Search hotels"]},
            depends_on=["shop-dns"],
            labels={"service": "hotel", "team": "travel"},
        ),
        # Without payments no taxi is ready: that is measured, and nobody is told twice. The `for` outlasts the time that
        # payments-health needs to find out.
        http(
            "taxi",
            f"{urls['taxi']}/readyz",
            {"status": [200, 500]},
            depends_on=["shop-dns", "payments-health"],
            labels={"service": "taxi", "team": "travel"},
            alert={"severity": "page", "for": "20s"},
        ),
        journey("checkout", labels={"service": "shop", "team": "web", "tier": "revenue"}),
        journey("login", labels={"service": "accounts", "team": "identity"}),
    ]


def _journey(platform: Platform, name: str, **more: Any) -> dict[str, Any]:
    test = f"{_journeys() / f'test_{name}.py'}::test_{name}"
    environment = {"STORMWATCH_PLATFORM": str(platform.layout.state)}
    return _probe(name, "journey", test, journey={"environment": environment}, **more)


def _probe(name: str, kind: str, target: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "target": target, "runbook": f"{_RUNBOOKS}/{name}", **more}


def _objectives() -> list[dict[str, Any]]:
    def objective(name: str, probe: str, target: str, **more: str) -> dict[str, Any]:
        return {
            "name": name,
            "probe": probe,
            "target": target,
            "window": "30d",
            "runbook": f"{_RUNBOOKS}/{name}",
            **more,
        }

    return [
        objective("checkout-availability", "checkout", "99.9%", policy="workbook"),
        objective("login-availability", "login", "99.9%", policy="workbook"),
        objective("payments-availability", "payments-health", "99.9%", policy="workbook"),
        objective("front-fast", "front", "95%", slower_than="500ms", policy="fast-slow"),
    ]


_SERVES: Mapping[str, tuple[str, ...]] = {
    "shop": ("checkout", "login"),
    "accounts": ("checkout", "login", "taxi"),
    "catalog": ("front", "shop-api", "checkout", "login"),
    "payments": ("checkout", "taxi"),
    "hotel": ("hotel",),
    "dns": ("checkout", "login"),
}
"""Who needs a service through something else. Who connects to it is known without being said."""


def _routes(platform: Platform) -> list[dict[str, Any]]:
    services = platform.document["services"]
    routes = [
        {
            "name": name,
            "listen": f"{HOST}:{urlsplit(service['url']).port}",
            "upstream": f"{HOST}:{urlsplit(service['direct']).port}",
            "tls": {
                "certificate": service["certificate"],
                "key": service["key"],
                "ca": platform.document["ca"],
                "server_name": f"{name}.{ZONE}",
            },
            "issuer": dict(platform.document["issuer"]),
            "serves": list(_SERVES.get(name, ())),
        }
        for name, service in services.items()
        if not SERVICES[name].third_party
    ]
    names = {"name": "dns", "listen": platform.dns, "upstream": platform.document["dns_direct"], "dns": True}
    return [*routes, {**names, "serves": list(_SERVES["dns"])}]


def _drills() -> list[dict[str, Any]]:
    """One for each fault on payments, and one for each other service that a journey needs.

    What must be red follows from who needs whom: without payments nobody can pay, and everybody can look around. So `front`,
    `shop-api`, `hotel` and `login` are allowed nothing: an alert of theirs would be wrong.
    """
    checkout_too = ["checkout", "checkout-availability", "payments-health", "payments-availability"]
    return [
        _drill(
            "payment-blackhole",
            {"kind": "tcp-blackhole", "target": "payments"},
            "payments-health",
            "timeout",
            checkout_too,
        ),
        _drill("payment-reset", {"kind": "tcp-reset", "target": "payments"}, "payments-health", "reset", checkout_too),
        # Slower than its own probe allows, fast enough for a checkout: only the service itself is late.
        _drill(
            "payment-latency",
            {"kind": "tcp-latency", "target": "payments", "delay": "1200ms"},
            "payments-health",
            "too-slow",
            ["payments-availability"],
        ),
        # The health check says that all is well, and nobody can pay: what journeys are for.
        _drill(
            "payment-500",
            {"kind": "http-status", "target": "payments", "status": 500, "path": "/charges*"},
            "checkout",
            "step",
            ["checkout-availability"],
        ),
        _drill(
            "accounts-blackhole",
            {"kind": "tcp-blackhole", "target": "accounts"},
            "login",
            "step",
            ["login-availability", "checkout", "checkout-availability", "taxi"],
        ),
        _drill(
            "catalog-503",
            {"kind": "http-status", "target": "catalog", "status": 503},
            "shop-api",
            "status",
            ["front", "front-fast", "checkout-availability"],
        ),
    ]


def _drill(name: str, fault: dict[str, Any], probe: str, reason: str, allow: list[str]) -> dict[str, Any]:
    journey = probe in {"checkout", "login"}
    return {
        "name": name,
        "fault": fault,
        "expect": {
            # A journey may have just begun; the next begins within 30 s, fails twice, and takes up to 14 s each time.
            "probe": {"name": probe, "reason": reason, "within": "75s" if journey else "20s"},
            "alert": {"probe": probe, "severity": "page", "within": "90s" if journey else "30s"},
            "resolves_within": "2m",
            "allow": [other for other in allow if other != probe],
        },
    }


def _journeys() -> Path:
    """Where the sample journeys are installed, without importing them: they need pytest and a browser."""
    spec = importlib.util.find_spec("stormwatch.journeys")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))).resolve()
