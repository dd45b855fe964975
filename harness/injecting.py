"""The fault of a drill, made of what the configuration says: the only place where one is made."""

from pathlib import Path

from stormwatch.chaos.catalog import FAULTS
from stormwatch.chaos.fault import Fault, FaultSpec
from stormwatch.chaos.held_fault import HeldFault
from stormwatch.chaos.proxy_fault import ProxyFault
from stormwatch.chaos.undo import UndoJournal
from stormwatch.harness.config import Config
from stormwatch.probes.clock import Clock


def fault_of(config: Config, spec: FaultSpec, *, state: Path, drill: str, clock: Clock) -> Fault:
    """What injects and reverts a fault, with its record under `state`; nothing happens until it is entered."""
    journal = UndoJournal(state / "undo")
    breakage = FAULTS[spec.kind].breakage
    if breakage is None:
        control = f"http://{config.proxies.control}"
        return ProxyFault(spec, control=control, journal=journal, drill=drill, clock=clock)
    target = config.targets[spec.target]
    return HeldFault(
        spec, lambda identity: breakage(identity, spec.options, target), journal=journal, drill=drill, clock=clock
    )
