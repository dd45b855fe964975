"""The faults that exist, by name; their options read as users write them."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from stormwatch.chaos.deferred import Deferred
from stormwatch.chaos.fault_kind import FaultKind
from stormwatch.chaos.option import Options


def _rows() -> dict[str, FaultKind[Options]]:
    from stormwatch.chaos.browser_faults import BROWSER_FAULTS
    from stormwatch.chaos.container_faults import CONTAINER_FAULTS
    from stormwatch.chaos.host_faults import HOST_FAULTS
    from stormwatch.chaos.load_faults import LOAD_FAULTS
    from stormwatch.chaos.route_faults import ROUTE_FAULTS
    from stormwatch.chaos.toxiproxy_faults import TOXIPROXY_FAULTS
    from stormwatch.chaos.workload_faults import WORKLOAD_FAULTS

    families = (
        ROUTE_FAULTS,
        HOST_FAULTS,
        LOAD_FAULTS,
        BROWSER_FAULTS,
        CONTAINER_FAULTS,
        WORKLOAD_FAULTS,
        TOXIPROXY_FAULTS,
    )
    return {kind.name: kind for family in families for kind in family}


FAULTS: Mapping[str, FaultKind[Options]] = Deferred(_rows)
"""Every fault, by the name that users write."""


def read_options(kind: str, document: Mapping[str, Any]) -> Options:
    """Options from what users write (`{"delay": "2s"}`). Raises ValueError: unknown kind, key or value."""
    if kind not in FAULTS:
        raise ValueError(f"there is no fault {kind!r}; there are {', '.join(FAULTS)}")
    return _adapter(kind).validate_python(dict(document))


def write_options(kind: str, options: Options) -> dict[str, Any]:
    """What `read_options` reads back equal; JSON values only."""
    return _adapter(kind).dump_python(options, mode="json")


@cache
def _adapter(kind: str) -> TypeAdapter[Options]:
    # At first use: to build all of them takes half a second, and a reaper or a keeper needs one.
    return TypeAdapter(FAULTS[kind].options)
