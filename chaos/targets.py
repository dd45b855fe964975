"""The kinds of targets that exist, one row a kind."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stormwatch.chaos.deferred import Deferred
from stormwatch.chaos.option import STRICT
from stormwatch.chaos.target import TargetKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine that stormwatch runs on."""

    __pydantic_config__ = STRICT

    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """The environment of programs that `command` starts, besides PATH, HOME and LANG. Secrets belong here, and not into arguments."""


def _rows() -> dict[str, TargetKind]:
    from stormwatch.chaos.browser_faults import BROWSER_TARGETS
    from stormwatch.chaos.container_faults import CONTAINER_TARGETS
    from stormwatch.chaos.host_targets import HOST_TARGETS
    from stormwatch.chaos.load_faults import LOAD_TARGETS
    from stormwatch.chaos.toxiproxy_faults import TOXIPROXY_TARGETS
    from stormwatch.chaos.workload_faults import WORKLOAD_TARGETS

    machine = TargetKind("machine", Machine, "the machine that the drill runs on")
    families = (
        (machine,),
        HOST_TARGETS,
        LOAD_TARGETS,
        BROWSER_TARGETS,
        CONTAINER_TARGETS,
        WORKLOAD_TARGETS,
        TOXIPROXY_TARGETS,
    )
    return {kind.name: kind for family in families for kind in family}


TARGETS: Mapping[str, TargetKind] = Deferred(_rows)
"""Every kind of target, by the key that users write."""
