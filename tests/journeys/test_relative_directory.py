"""`stormwatch run --data data`: what journeys keep lies there, though their workers have another working directory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stormwatch.journeys.journey import JourneyOptions, build
from stormwatch.journeys.pool import WorkerPool
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.run import run_once
from tests.program import program


async def test_artifacts_are_where_they_are_looked_for(
    write: Callable[..., Path], scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lay beside the journey's file, where no page shows them and no limit is held."""
    program("chromium")
    monkeypatch.chdir(tmp_path)
    target = f"{write('def test_it(page: Page): assert False')}::test_it"
    check = build(target, JourneyOptions(keep=("page",), observe=False))
    probe = Probe(name="buy", kind="journey", target=target, check=check, timeout=90.0)
    async with Resources() as resources:
        resources.put(WorkerPool, WorkerPool(artifacts=Path("data", "artifacts")))
        result = await run_once(probe, clock=SystemClock(), resources=resources)
    (kept,) = result.evidence["artifacts"]
    assert (tmp_path / "data" / "artifacts" / kept).is_file()
    assert not (Path(target).parent / "data").exists()
