"""No bytes from the network make a reader fail, and no reader is forgotten."""

from dataclasses import replace
from pathlib import Path

import pytest

import stormwatch.probes
from stormwatch.harness.catalog import KINDS
from stormwatch.probes.probe import Check
from stormwatch.probes.watch import Watch
from tests.probes.fuzzing import fuzz, shares
from tests.probes.mutation import LARGEST, Mutator
from tests.probes.parsers import READS_NOTHING, Parser, parsers
from tests.probes.soaking import Case, own_cases, soak
from tests.servers.probing import open_files, settle

INPUTS = 40_000
"""As many as a run of all tests has time for; `python -m bench fuzz` gives a million."""
RUNS = 60
"""Of each case with real sockets."""
PATIENCE = 2.0
"""Seconds that one input of 16 KiB may take, on a machine that does something else too."""


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Parser, ...]:
    """All of them."""
    return parsers(tmp_path_factory.mktemp("readers"))


def test_every_module_that_reads_bytes_is_fuzzed(readers: tuple[Parser, ...]) -> None:
    """A new module stands among the readers, or among those that read nothing, with the reason."""
    modules = {path.stem for path in Path(next(iter(stormwatch.probes.__path__))).glob("*.py")}
    fuzzed = {module for reader in readers for module in reader.modules}
    assert fuzzed & set(READS_NOTHING) == set(), "these are said to read nothing, and have a reader"
    assert modules - fuzzed - set(READS_NOTHING) == set(), (
        "these are new: give them a reader, or say why they need none"
    )
    assert fuzzed | set(READS_NOTHING) == modules, "these are gone"


def test_good_bytes_are_read(readers: tuple[Parser, ...]) -> None:
    """At least one example of each reader comes to its end, or what is made of it would be refused at the door."""
    for reader in readers:
        refused: list[Exception] = []
        for seed in reader.seeds:
            try:
                reader.read(seed)
            except reader.allowed as error:
                refused.append(error)
        assert len(refused) < len(reader.seeds), (reader.name, refused)


def test_bad_bytes_end_as_they_may(readers: tuple[Parser, ...]) -> None:
    """A value, or an exception that the reader is documented to raise; and soon."""
    wanted = shares(readers, INPUTS)
    fuzzed = [fuzz(reader, wanted[reader.name], 1) for reader in readers]
    findings = [f"{each.name}: {finding}" for each in fuzzed for finding in each.findings.values()]
    assert not findings, "\n\n".join(findings)
    slow = [(each.name, each.slowest, each.slowest_input[:100]) for each in fuzzed if each.slowest > PATIENCE]
    assert slow == []
    assert sum(each.inputs for each in fuzzed) >= INPUTS * 0.99


def test_the_same_number_makes_the_same_bytes() -> None:
    """What was found once is found again."""
    seeds = (b"HTTP/1.1 200 OK\r\n\r\n", b"{}")
    first, again, other = Mutator(seeds, 7), Mutator(seeds, 7), Mutator(seeds, 8)
    one = [next(first) for _ in range(500)]
    assert one == [next(again) for _ in range(500)]
    assert one != [next(other) for _ in range(500)]
    assert max(map(len, one)) <= LARGEST
    assert len(set(one)) > 350


def test_a_reader_that_fails_is_found_out() -> None:
    """The fuzzing itself works: a reader that trusts a length is caught within a thousand inputs."""
    trusting = Parser(
        name="trusting",
        modules=(),
        read=lambda data: data[1 : 1 + data[0]][data[0] - 1],
        seeds=(b"\x03abc",),
        allowed=(),
    )
    assert any("IndexError" in place for place in fuzz(trusting, 1000, 1).findings)


async def test_spoilt_answers_are_the_targets_fault(tmp_path: Path) -> None:
    """Through real sockets: no run raises, is broken, outlives its deadline, or leaves a task or a descriptor behind."""
    before = open_files()
    async with own_cases(tmp_path, 1) as cases:
        soaked = [await soak(case, RUNS) for case in cases]
    assert [wrong for each in soaked for wrong in each.wrong] == []
    assert {each.name: each.runs for each in soaked} == {case.name: RUNS for case in cases}
    unhurt = [each.name for each in soaked if set(each.endings) <= {"up"}]
    assert unhurt == [], "nothing was spoilt"
    assert await settle(before) <= before


async def test_a_check_that_fails_is_found_out() -> None:
    """The soaking itself works: a check that trusts its target shows."""

    async def trusting(_watch: Watch) -> None:
        raise IndexError("list index out of range")

    def build(_target: str, _options: object) -> Check:
        return trusting

    kind = replace(KINDS["tcp"], build=build)
    came = await soak(Case("trusting", "tcp", "127.0.0.1:1"), 3, kinds={"tcp": kind})
    assert came.wrong == ["broken, internal: IndexError: list index out of range"] * 3
