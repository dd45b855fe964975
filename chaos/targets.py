"""The kinds of targets that exist, one row a kind."""

from collections.abc import Mapping
from dataclasses import dataclass

from stormwatch.chaos.option import STRICT
from stormwatch.chaos.target import TargetKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine that stormwatch runs on."""

    __pydantic_config__ = STRICT


TARGETS: Mapping[str, TargetKind] = {
    kind.name: kind for kind in (TargetKind("machine", Machine, "the machine that the drill runs on"),)
}
"""Every kind of target, by the key that users write."""
