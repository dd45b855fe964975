"""Faults of a network, in a namespace of the test's own: packets are dropped, and counted; nobody else's rules are touched."""

import asyncio
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.fault import FaultLost, FaultNotInjected
from stormwatch.chaos.host_network import Dropping, Link
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from stormwatch.chaos.undo import UndoJournal, UndoState
from tests.chaos.host_examples import Victim, offered, victim
from tests.chaos.test_host_process import held_fault
from tests.program import program


@pytest.fixture
def net(tmp_path: Path) -> Generator[Victim]:
    """A network with nothing but its loopback."""
    with victim("net-partition", tmp_path / "net") as made:
        yield made


async def within(net: Victim, *argv: str) -> "subprocess.CompletedProcess[str]":
    """A program in that network."""
    command = [program("ip"), "netns", "exec", net.namespace, *argv]
    return await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True)


async def received(net: Victim, host: str = "127.0.0.1", *, count: int = 1) -> int:
    """How many of so many echoes come back."""
    said = await within(net, program("ping"), "-c", str(count), "-i", "0.01", "-W", "0.2", host)
    return int(said.stdout.partition(" received")[0].rpartition(" ")[2])


async def test_a_partition_drops_everything_and_counts_it(net: Victim, tmp_path: Path) -> None:
    """No evidence before there is traffic; none of it passes; afterwards all does."""
    assert await received(net) == 1
    async with held_fault("net-partition", net.target, journal=tmp_path / "undo", options={}) as fault:
        assert not (await fault.evidence()).touched
        assert await received(net) == 0
        seen = await fault.evidence()
        assert seen.touched
        assert seen.bytes > 0
        assert "1 packets with 84 bytes were dropped at lo in " in seen.what
    assert await received(net) == 1
    assert (await within(net, "nft", "list", "tables")).stdout == ""


@pytest.mark.parametrize(
    ("options", "reached"),
    [
        ({"hosts": ["127.0.0.2/32"]}, {"127.0.0.1": 1, "127.0.0.2": 0, "::1": 1}),
        ({"hosts": ["::1", "127.0.0.3"]}, {"127.0.0.1": 1, "127.0.0.3": 0, "::1": 0}),
        ({"direction": "in"}, {"127.0.0.1": 0, "::1": 0}),
        ({"direction": "out"}, {"127.0.0.1": 0, "::1": 0}),
    ],
)
async def test_a_partition_is_of_whom_it_names(
    net: Victim, tmp_path: Path, options: dict[str, Any], reached: dict[str, int]
) -> None:
    """Of both families, of one way."""
    async with held_fault("net-partition", net.target, journal=tmp_path / "undo", options=options):
        assert {host: await received(net, host) for host in reached} == reached


async def test_a_loss_drops_some(net: Victim, tmp_path: Path) -> None:
    """Drawn by the kernel: of 40 packets a way neither none nor all, but for once in 10^12 times."""
    options = {"share": "50%", "direction": "out"}
    async with held_fault("net-loss", net.target, journal=tmp_path / "undo", options=options) as fault:
        assert 0 < await received(net, count=40) < 40
        assert (await fault.evidence()).touched


def test_the_share_of_a_loss_is_what_the_kernel_is_told() -> None:
    """A hundredth of a percent is one of ten thousand."""
    rules = Dropping("net-loss-1", Link("", "eth0"), "in", (), 1).rules()
    assert rules.count("numgen random mod 10000 < 1 counter drop") == 2
    assert "numgen" not in Dropping("net-loss-1", Link("", "eth0"), "both").rules()


async def test_a_rate_is_the_root_of_the_interface_and_counts(net: Victim, tmp_path: Path) -> None:
    """A few megabytes take as long as the rate says, once the first 64 KiB are through; afterwards they do not."""
    async with held_fault("net-rate", net.target, journal=tmp_path / "undo", options={"rate": "500kB"}) as fault:
        listed = (await within(net, "tc", "qdisc", "show", "dev", "lo")).stdout
        assert "qdisc tbf" in listed
        assert "rate 4Mbit" in listed
        assert await received(net, count=3) == 3
        seen = await fault.evidence()
        assert seen.touched
        assert "packets with" in seen.what
    assert "tbf" not in (await within(net, "tc", "qdisc", "show", "dev", "lo")).stdout


async def test_a_queueing_discipline_of_somebody_else_is_not_replaced(net: Victim, tmp_path: Path) -> None:
    """Taking ours away would not bring theirs back."""
    await within(net, "tc", "qdisc", "add", "dev", "lo", "root", "handle", "1:", "pfifo")
    with pytest.raises(FaultNotInjected, match=r"lo in .* has the queueing discipline pfifo 1: of somebody else"):
        await held_fault("net-rate", net.target, journal=tmp_path / "undo", options={"rate": "64kB"}).__aenter__()
    assert "pfifo 1:" in (await within(net, "tc", "qdisc", "show", "dev", "lo")).stdout


async def test_a_delay_is_one_or_is_refused_where_the_kernel_has_none(net: Victim, tmp_path: Path) -> None:
    """net-delay: an echo takes twice as long; or it is said what is missing, and what to do instead."""
    fault = held_fault("net-delay", net.target, journal=tmp_path / "undo", options={"delay": "100ms"})
    if offered("net-delay"):
        async with fault:
            said = (await within(net, program("ping"), "-c", "1", "127.0.0.1")).stdout
            assert float(said.partition("time=")[2].partition(" ")[0]) >= 190
    else:
        with pytest.raises(FaultNotInjected, match=r"this kernel offers no netem \(tc ended with 2: .*tcp-latency"):
            await fault.__aenter__()
    assert "noqueue 0: root" in (await within(net, "tc", "qdisc", "show", "dev", "lo")).stdout


async def test_a_table_that_somebody_deleted_is_lost(net: Victim, tmp_path: Path) -> None:
    """With the fault's last evidence."""
    async with held_fault("net-partition", net.target, journal=tmp_path / "undo", options={}) as fault:
        await received(net)
        assert (await fault.evidence()).touched
        await within(net, "nft", "flush", "ruleset")
        with pytest.raises(FaultLost, match=r"is not there any more: nft ended with 1: .*No such file") as lost:
            await fault.evidence()
        assert lost.value.evidence is not None
        assert lost.value.evidence.touched


async def test_a_namespace_that_is_gone_took_its_rules_with_it(net: Victim, tmp_path: Path) -> None:
    """A container that ended during the drill is no fault left behind."""
    journal = UndoJournal(tmp_path / "undo")
    async with held_fault("net-partition", net.target, journal=journal.directory, options={}):
        (record,) = journal.pending()
        subprocess.run([program("ip"), "netns", "del", net.namespace], check=True)
    journal.record(record)  # pyright: ignore[reportArgumentType] - it is one
    (outcome,) = await journal.undo_all(force=True)
    assert outcome.state is UndoState.ALREADY_GONE
    assert outcome.why.endswith("is gone, and what was put there with it")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"namespace": "none-of-that-name", "interface": "lo"}, "there is no network namespace none-of-that-name"),
        ({"interface": "none0", "allow_host": True}, "there is no interface none0: `ip link` ended with 1"),
    ],
)
async def test_a_network_that_is_not_there_is_named(tmp_path: Path, target: dict[str, Any], said: str) -> None:
    """Nothing is touched."""
    program("nft")
    network = Target.from_json({"name": "link", "network": target}, TARGETS)
    with pytest.raises(FaultNotInjected, match=said):
        await held_fault("net-partition", network, journal=tmp_path / "undo", options={}).__aenter__()
    assert not (tmp_path / "undo").exists()
