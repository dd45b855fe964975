"""The fault of a drill, made of what the configuration says: the only place where one is made."""

from collections.abc import Iterable
from pathlib import Path

from stormwatch.chaos.breakage import CannotBreak
from stormwatch.chaos.catalog import FAULTS
from stormwatch.chaos.fault import Fault, FaultSpec
from stormwatch.chaos.held_fault import HeldFault
from stormwatch.chaos.proxy_control import ProxyControl, ProxyRefused, ProxyUnreachable
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


async def why_none(config: Config, specs: Iterable[FaultSpec]) -> str:
    """Why not all of the faults could be injected now; empty: nothing speaks against any."""
    for spec in specs:
        if why := await why_not(config, spec):
            return why
    return ""


async def why_not(config: Config, spec: FaultSpec) -> str:
    """Why a fault could not be injected now, as far as that can be told without doing it; empty: nothing speaks against it."""
    breakage = FAULTS[spec.kind].breakage
    try:
        if breakage is None:
            async with ProxyControl(f"http://{config.proxies.control}") as control:
                await control.process()
        else:
            await breakage("rehearsal", spec.options, config.targets[spec.target]).prepare()
    except (ProxyUnreachable, ProxyRefused, CannotBreak) as error:
        return str(error)
    return ""
