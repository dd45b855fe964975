"""Every fault of routes with options as users write them: what tests that go over all faults put on their routes."""

from collections.abc import Mapping
from typing import Any

from stormwatch.chaos.catalog import FAULTS
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.fault_kind import ROUTE
from stormwatch.chaos.route import Route

ON_ROUTES = tuple(name for name, kind in FAULTS.items() if kind.on == ROUTE)
"""The faults that the proxy carries out; for the others see `host_examples.py`."""

NEEDED: Mapping[str, Mapping[str, Any]] = {
    "tcp-latency": {"delay": "100ms"},
    "tcp-bandwidth": {"rate": "1kB"},
    "tcp-slicer": {"average_size": "2B"},
    "tcp-slow-close": {"delay": "1s"},
    "tcp-truncate": {"bytes": "5B"},
    "tcp-timeout": {"after": "1s"},
    "http-delay": {"delay": "100ms"},
    "http-header": {"remove": ["Content-Type"]},
    "http-body": {"replace": "broken"},
    "dns-slow": {"delay": "100ms"},
    "tls-expires-soon": {"left": "3d"},
}
"""Options of the faults that cannot do without."""


def example(kind: str, target: str) -> FaultSpec:
    """A fault of this kind. Raises ValueError when it needs options that are not said above."""
    return FaultSpec.from_json({"kind": kind, "target": target, **NEEDED.get(kind, {})})


def route_for(kind: str, name: str, upstream: str) -> Route:
    """A route that can have faults of this kind."""
    known = FAULTS[kind]
    return Route(name=name, listen="127.0.0.1:0", upstream=upstream, http=known.looks_inside, dns=known.of_names)
