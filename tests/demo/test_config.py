"""The demo's configuration: accepted by the program, and true of the platform."""

import os
from pathlib import Path

import pytest

from stormwatch.chaos.matrix_cell import Cell
from stormwatch.chaos.matrix_plan import dependencies_of, plan_matrix
from stormwatch.demo.config import GAPS, REPAIRED, write_config
from stormwatch.demo.estate import SERVICES
from stormwatch.demo.layout import Layout, free_ports
from stormwatch.demo.platform import Platform
from stormwatch.harness.check import check
from stormwatch.harness.config import Config, load
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome

JOURNEYS = {"checkout", "login"}


@pytest.fixture(scope="module")
def config(platform: Platform) -> Config:
    """Read back by the program itself, which refuses whatever it does not know."""
    path = platform.layout.directory / "stormwatch.yaml"
    write_config(platform, path)
    return load(path, environ=os.environ)


def test_there_is_a_probe_for_every_way_in(config: Config) -> None:
    """All kinds; and the sample journeys are found where they are installed."""
    names = {probe.name: probe.kind for probe in config.probes}
    journeys = [Path(probe.target.partition("::")[0]) for probe in config.probes if probe.kind == "journey"]

    assert {"dns", "tls", "http", "journey"} == set(names.values())
    assert {
        "front", "shop-api", "payments-health", "accounts-health", "hotel", "taxi", "shop-dns", "shop-tls", "checkout", "login",
    } == set(names)  # fmt: skip
    assert all(path.is_absolute() and path.is_file() for path in journeys)


def test_the_drills_break_connections_and_answers_of_every_sort(config: Config) -> None:
    """Slow, silent, reset, refusing with a status: each on a route that there is."""
    assert {drill.fault.kind for drill in config.drills} >= {"tcp-latency", "tcp-blackhole", "tcp-reset", "http-status"}
    assert {drill.fault.target for drill in config.drills} <= set(SERVICES)


def test_every_gap_is_a_cell_of_the_matrix_and_every_repair_is_one(config: Config) -> None:
    """What is documented as unnoticed can be injected; what is mended differs, and is accepted by the program."""
    repaired = load(config.path.with_name(REPAIRED), environ=os.environ)
    cells = {cell.name for cell in planned(config)}

    assert len(cells) == 73, "docs/explanation/sample-platform.md says how many"
    assert not [route.name for route in config.proxies.routes if route.name == "ratings"], "another company's"
    assert {name for names in GAPS.values() for name in names} <= cells
    assert cells == {cell.name for cell in planned(repaired)}
    assert {one.name for one in repaired.probes} - {one.name for one in config.probes} == {"hotel-tls", "catalog-tls"}


def planned(config: Config) -> tuple[Cell, ...]:
    """The cells of the matrix."""
    routes = config.proxies.routes
    plan = plan_matrix(
        dependencies_of(routes, (), config.probes, config.objectives, config.drills),
        probes=config.probes,
        objectives=config.objectives,
        rules=config.rules,
        evaluation=1.0,
        drills=config.drills,
    )
    assert not plan.skipped
    return plan.cells


async def red(config: Config) -> set[str]:
    """The protocol probes that are down now."""
    probes = [probe for probe in config.probes if probe.name not in JOURNEYS]
    async with Resources() as resources:
        results = await check(probes, resources)
    assert not [result for result in results if result.outcome is Outcome.BROKEN]
    return {result.probe for result in results if result.outcome is Outcome.DOWN}


@pytest.mark.parametrize(
    ("stopped", "expected"),
    [
        ("", set[str]()),
        ("payments", {"payments-health", "taxi"}),
        ("catalog", {"front", "shop-api"}),
        ("hotel", {"hotel"}),
        ("shop", {"front", "shop-api", "hotel"}),
    ],
)
async def test_what_is_red_follows_from_who_needs_whom(
    platform: Platform, config: Config, stopped: str, expected: set[str]
) -> None:
    """With one service stopped, the probes of all that cannot work without it are down, and no other."""
    if stopped:
        await platform.stop_service(stopped)
    try:
        seen = await red(config)
    finally:
        if stopped:
            await platform.start_service(stopped)

    assert expected == seen - ({"shop-tls"} if stopped == "shop" else set())


def test_the_configuration_has_no_port_that_could_change_unnoticed(tmp_path: Path) -> None:
    """It is of the running platform: its own ports, its own files, whatever they are."""
    layout, ports = Layout.at(tmp_path), free_ports()
    document = ports.state(layout, pids=dict.fromkeys(SERVICES, 1), supervisor=1, spki="")
    write_config(Platform(layout, document), tmp_path / "stormwatch.yaml")
    text = (tmp_path / "stormwatch.yaml").read_text()

    assert not [port for spec in SERVICES.values() for port in (spec.port, spec.direct_port) if str(port) in text]
    assert f"resolver: 127.0.0.1:{ports.dns}" in text
    assert f"control: 127.0.0.1:{ports.control}" in text
