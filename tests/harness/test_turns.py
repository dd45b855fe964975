"""A kind has its room, the others share one, and what is waited for a turn is told."""

import asyncio
import dataclasses
import time
from pathlib import Path

import pytest

from stormwatch.harness.catalog import KINDS
from stormwatch.harness.config import ConfigError, effective, load
from stormwatch.harness.turns import SHARED, Turns, sizes
from stormwatch.probes.result import Outcome, Result

FRONT = 'probes: [{name: front, kind: tcp, target: "shop.example:443"}]\n'


def test_the_configuration_chooses_the_size_of_a_room(tmp_path: Path) -> None:
    """Over the kind's own."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text(f"concurrency: {{tcp: 7, shared: 9}}\n{FRONT}")
    config = load(path, environ={})

    heavy = {"tcp": dataclasses.replace(KINDS["tcp"], concurrency=2)}
    assert sizes(heavy, config.probes, {}) == {SHARED: 128, "tcp": 2}
    assert sizes(heavy, config.probes, {"tcp": 7, SHARED: 9}) == {SHARED: 9, "tcp": 7}
    assert sizes(heavy, (), {}) == {SHARED: 128}
    assert config.concurrency == {"tcp": 7, "shared": 9}
    assert effective(config)["concurrency"].items() >= {("tcp", 7), ("shared", 9)}


def test_a_missing_extra_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    """With the command that mends it."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text(FRONT)
    lacking = dataclasses.replace(KINDS["tcp"], extra="ports", module="a_driver_that_nobody_has")

    with pytest.raises(ConfigError) as caught:
        load(path, environ={}, kinds={"tcp": lacking})

    assert [line.partition(": ")[2] for line in caught.value.lines] == [
        "probes[front].kind: kind tcp needs the extra ports; install it: pip install 'stormwatch[ports]'"
    ]


async def test_those_without_a_room_share_one() -> None:
    """However many kinds there are; a kind with a room does not wait for them."""
    turns = Turns({SHARED: 1, "exec": 1}, clock=time.monotonic)
    waits: list[float] = []

    async def run(kind: str) -> None:
        async with turns.turn(kind) as waited:
            waits.append(waited)
            await asyncio.sleep(0.5)

    async with asyncio.TaskGroup() as group:
        group.create_task(run("http"))
        group.create_task(run("dns"))
        group.create_task(run("exec"))

    assert sum(waited > 0.25 for waited in waits) == 1


@pytest.mark.parametrize(
    ("seconds", "lag", "marked"), [(0.02, 0.009, False), (0.02, 0.011, True), (2.0, 0.19, False), (2.0, 0.21, True)]
)
def test_a_run_is_marked_when_the_prober_lagged(seconds: float, lag: float, marked: bool) -> None:
    """By more than 10 ms and more than a tenth of what it measured."""
    result = Result(
        probe="front",
        kind="tcp",
        target="shop.example:443",
        location="fra1",
        started=0.0,
        seconds=seconds,
        outcome=Outcome.UP,
        loop_lag=lag,
    )
    assert result.lagged is marked
