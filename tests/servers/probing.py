"""How tests run a probe: options as users write them, through `run_once`, with the product's own resources."""

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from stormwatch.probes.clock import SystemClock
from stormwatch.probes.probe import Check, Kind, Probe
from stormwatch.probes.reach import ANYWHERE, Reach
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Result
from stormwatch.probes.run import run_once

SEEN: list[tuple[str, str]] = []
"""Kind and ending (`up`, `broken`, or the reason for which it was down) of each run since the test began."""


def note_ending(result: Result) -> Result:
    """Remember how a run ended, for the mark `shows`."""
    ending = result.reason.value if result.outcome is Outcome.DOWN else result.outcome.value
    SEEN.append((result.kind, ending))
    return result


def check_of(kind: Kind[Any], target: str, options: Mapping[str, Any] | None = None) -> Check:
    """A check built from options as they stand in the configuration."""
    return kind.build(target, _adapter(kind.options).validate_python(dict(options or {})))


@lru_cache
def _adapter(options: type[Any]) -> TypeAdapter[Any]:
    """Made once: making one takes longer than many runs, and would hold up the loop between them."""
    return TypeAdapter(options)


async def run(
    kind: Kind[Any],
    target: str,
    options: Mapping[str, Any] | None = None,
    *,
    timeout: float = 5.0,
    resources: Resources | None = None,
    reach: Reach = ANYWHERE,
) -> Result:
    """One run of one probe, decided."""
    probe = Probe(name="watched", kind=kind.name, target=target, check=check_of(kind, target, options), timeout=timeout)
    if resources is not None:
        return note_ending(await run_once(probe, clock=SystemClock(), resources=resources, reach=reach))
    async with Resources() as own:
        return note_ending(await run_once(probe, clock=SystemClock(), resources=own, reach=reach))


def measures(result: Result) -> dict[str, float]:
    """The value of each measure by its name; of several with one name, the last."""
    return {measure.name: measure.value for measure in result.measures}


def labels(result: Result, name: str) -> dict[str, str]:
    """The labels of the one measure of that name."""
    (found,) = [measure for measure in result.measures if measure.name == name]
    return dict(found.labels)


def phase_names(result: Result) -> list[str]:
    """The names of the phases in their order."""
    return [phase.name for phase in result.phases]


def open_files() -> int:
    """How many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def settle(most: int, seconds: float = 30.0) -> int:
    """Wait until at most that many descriptors are open, and say how many there are."""
    deadline = asyncio.get_running_loop().time() + seconds
    while open_files() > most and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)
    return open_files()
