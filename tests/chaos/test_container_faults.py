"""Faults of containers: put, proved and taken back by the engine's API, by the id of the container and by nothing else."""

import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from stormwatch.chaos.absence import UndoFailed
from stormwatch.chaos.container_faults import Containing, undo_container
from stormwatch.chaos.fault import Fault, FaultLost, FaultNotInjected
from stormwatch.harness.config import load
from stormwatch.harness.injecting import fault_of
from stormwatch.probes.clock import SystemClock
from tests.servers.engine import Container, engine_running

ID = "4f5e" * 16


@pytest.fixture
def directory() -> Generator[Path]:
    """Short: the name of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="sw") as name:
        yield Path(name)


def fault(directory: Path, written: str) -> Fault:
    """The fault of a drill, as users write it."""
    path = directory / "stormwatch.yaml"
    path.write_text(
        "probes: [{name: shop, kind: http, target: 'http://127.0.0.1:1/'}]\n"
        "targets: [{name: payments, container: {name: payments-1, socket: engine.sock}}]\n"
        f"drills: [{{name: gone, fault: {{target: payments, {written}}}, expect: {{probe: {{name: shop}}}}}}]\n"
    )
    config = load(path, environ={})
    return fault_of(config, config.drills[0].fault, state=directory, drill="gone", clock=SystemClock())


BROKEN = [
    ("kind: container-pause", "paused", "is paused", ["pause?", "unpause?"]),
    ("kind: container-kill", "exited", "has ended", ["kill?signal=SIGKILL", "start?"]),
    ("kind: container-stop, grace: 3s", "exited", "has ended", ["stop?t=3", "start?"]),
]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case[0].split(",")[0])
async def test_a_container_is_broken_and_runs_again(directory: Path, case: tuple[str, str, str, list[str]]) -> None:
    """Seen by the engine while the block lasts, and not asked for twice."""
    written, status, seen, asked = case
    async with engine_running(directory, Container(ID, "payments-1"), Container("0a" * 32, "other")) as engine:
        async with fault(directory, written) as injected:
            during = [each.status for each in engine.containers]
            evidence = await injected.evidence()
        after = [each.status for each in engine.containers]
    assert (during, after) == ([status, "running"], ["running", "running"])
    assert (evidence.touched, evidence.what) == (True, f"container payments-1 ({ID[:12]}) {seen}")
    assert engine.asked == asked
    assert list((directory / "undo").glob("*.json")) == []


@pytest.mark.parametrize(
    ("container", "sentence"),
    [
        (Container(ID, "payments-2"), "has no container payments-1; correct the target's `name`"),
        (Container(ID, "payments-1", status="exited"), "is not running; start it before it is broken"),
        (Container(ID, "payments-1", status="paused"), "is paused already"),
        (Container(ID, "payments-1", auto_remove=True), "is removed when it ends, and could not be brought back"),
    ],
)
async def test_what_could_not_be_mended_is_not_broken(directory: Path, container: Container, sentence: str) -> None:
    """With the reason, and nothing is touched."""
    async with engine_running(directory, container) as engine:
        with pytest.raises(FaultNotInjected, match=sentence):
            async with fault(directory, "kind: container-kill"):
                pytest.fail("it was injected")
    assert engine.asked == []


async def test_without_an_engine_nothing_is_broken(directory: Path) -> None:
    """One sentence that names the socket."""
    with pytest.raises(FaultNotInjected, match=r"no container engine answers at .*engine\.sock"):
        async with fault(directory, "kind: container-pause"):
            pytest.fail("it was injected")


async def test_a_container_that_does_not_end_was_not_broken(directory: Path) -> None:
    """SIGTERM is only a request."""
    container = Container(ID, "payments-1", stubborn=True)
    async with engine_running(directory, container) as engine:
        breakage = Containing("payments-1", str(engine.socket), "kill", {"signal": "SIGTERM"}, patience=0.3)
        await breakage.prepare()
        with pytest.raises(Exception, match="it did not end in time"):
            await breakage.inject()
    assert container.status == "running"


async def test_a_drill_whose_container_somebody_started_knows_it(directory: Path) -> None:
    """The fault is lost; what it does not hold any more is left alone."""
    async with engine_running(directory, Container(ID, "payments-1")) as engine:
        async with fault(directory, "kind: container-kill") as injected:
            engine.containers[0].status = "running"
            with pytest.raises(FaultLost, match="somebody started it"):
                await injected.evidence()
        assert engine.asked == ["kill?signal=SIGKILL"]


async def test_the_record_alone_mends_it_again_and_again_and_no_other(directory: Path) -> None:
    """After a SIGKILL, by another process, when a new container has taken the name."""
    async with engine_running(directory, Container(ID, "payments-1")) as engine:
        breakage = Containing("payments-1", str(engine.socket), "kill", {"signal": "SIGKILL"})
        arguments = await breakage.prepare()
        await breakage.inject()
        engine.containers[0].name = "payments-1-old"
        engine.containers.append(Container("0b" * 32, "payments-1", status="exited"))
        first, second = await undo_container(arguments), await undo_container(arguments)
        assert [each.status for each in engine.containers] == ["running", "exited"]
        assert (first.was_there, second.was_there) == (True, False)
        del engine.containers[0]
        with pytest.raises(UndoFailed, match="the container payments-1 was removed: make it anew"):
            await undo_container(arguments)
    with pytest.raises(UndoFailed, match="start the engine, and undo again"):
        await undo_container(arguments)
