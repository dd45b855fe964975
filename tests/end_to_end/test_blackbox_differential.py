"""The real blackbox_exporter and our `/probe`, the same modules, the same targets: the same answer, series by series."""

import math
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.blackbox_cases import CASES, DIFFERENCES, Case
from tests.program import program
from tests.servers.blackbox_targets import Targets
from tests.servers.command import staying
from tests.servers.process import free_port, running

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


SINCE = {
    "probe_failed_due_to_bytes": (0, 28),
    "probe_timeout_seconds": (0, 29),
    "probe_tls_cipher_info": (0, 26),
}
"""The version from which on blackbox_exporter has a series; an older one is compared without it."""
SERIAL_SINCE = (0, 26)
"""From which on the label `serialnumber` is there."""
GRPC_SINCE = (0, 26)
"""Before, gRPC without TLS had a certificate that expired in 1970."""
SUCCESS = ("probe_success", frozenset[tuple[str, str]]())
TIMES = re.compile(r"probe_(.*_)?duration_seconds|probe_dns_lookup_time_seconds|probe_timeout_seconds")


@dataclass
class Answers:
    """What both said, by the name of the case."""

    version: tuple[int, int]
    theirs: Mapping[str, Series]
    ours: Mapping[str, Series]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Answers]:
    """Ask both everything, several at a time."""
    exporter = program("prometheus-blackbox-exporter")
    directory = tmp_path_factory.mktemp("differential")
    version = _version(exporter)
    known = [case for case in CASES if case.since <= version]
    with Targets(directory) as targets:
        ours, theirs = directory / "blackbox.yml", directory / "theirs.yml"
        ours.write_text(_modules(CASES, targets))
        theirs.write_text(_modules(known, targets))
        our_port, their_port = free_port(), free_port()
        with (
            running(
                [exporter, f"--config.file={theirs}", f"--web.listen-address=127.0.0.1:{their_port}"],
                log=directory / "theirs.log",
                port=their_port,
            ),
            staying(
                *("run", "--blackbox", ours, "--listen", f"127.0.0.1:{our_port}"),
                *(f"--probe-allow={network}" for network in ("127.0.0.0/8", "::1/128")),
                log=directory / "ours.log",
                port=our_port,
            ),
            ThreadPoolExecutor(8) as pool,
        ):
            said = {case.name: pool.submit(_ask, their_port, case, targets) for case in known}
            heard = {case.name: pool.submit(_ask, our_port, case, targets) for case in CASES}
            yield Answers(
                version,
                {name: each.result() for name, each in said.items()},
                {name: each.result() for name, each in heard.items()},
            )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_say_the_same(case: Case, answers: Answers) -> None:
    """Success, and every series that does not measure time: its name, its labels, its value."""
    ours = answers.ours[case.name]
    if case.since > answers.version:  # the exporter that is installed does not know what this asks
        assert ours[SUCCESS] == case.success, _shown(ours)
        return
    theirs = answers.theirs[case.name]
    told = f"\ntheirs:\n{_shown(theirs)}\nours:\n{_shown(ours)}"
    assert theirs[SUCCESS] == case.success, f"the case itself is wrong{told}"
    left = _comparable(theirs, answers.version)
    right = _comparable(ours, answers.version)
    for difference in case.differs:
        series = {one for one in left.keys() | right.keys() if re.fullmatch(difference.series, one[0])}
        assert any(left.get(one) != right.get(one) for one in series), f"{difference.name} does not show{told}"
        left = {one: value for one, value in left.items() if one not in series}
        right = {one: value for one, value in right.items() if one not in series}
    assert right == left, told


def _comparable(series: Series, version: tuple[int, int]) -> Series:
    """Without what the running version lacks, without our own series; times only by being there."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for (name, labels), value in series.items():
        if name.startswith("stormwatch_") or version < SINCE.get(name, (0, 0)):
            continue
        if version < GRPC_SINCE and name == "probe_ssl_earliest_cert_expiry" and value == 0:
            continue
        kept = labels
        if version < SERIAL_SINCE:
            kept = frozenset(pair for pair in labels if pair[0] != "serialnumber")
        found[name, kept] = 0.0 if TIMES.fullmatch(name) else -1.5 if math.isnan(value) else value
    return found


def _ask(port: int, case: Case, targets: Targets) -> Series:
    query = {"module": _slug(case), "target": targets.at(case.target)}
    if case.hostname:
        query["hostname"] = case.hostname
    url = f"http://127.0.0.1:{port}/probe?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _modules(cases: Iterable[Case], targets: Targets) -> str:
    return yaml.safe_dump({"modules": {_slug(case): _module(case, targets) for case in cases}})


def _module(case: Case, targets: Targets) -> object:
    return {"prober": case.prober, "timeout": case.timeout, case.prober: _filled(case.block, targets)}


def _filled(value: object, targets: Targets) -> object:
    if isinstance(value, Mapping):
        return {key: _filled(item, targets) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, targets) for item in value]
    return targets.at(value) if isinstance(value, str) else value


def _slug(case: Case) -> str:
    return re.sub(r"[^a-z0-9]+", "_", case.name.lower())


def _shown(series: Series) -> str:
    return "\n".join(
        f"  {name}{dict(sorted(labels))} {value:g}" for (name, labels), value in sorted(series.items(), key=str)
    )


def _version(exporter: str) -> tuple[int, int]:
    """The version of Debian's package; what says none is the newest."""
    said = subprocess.run([exporter, "--version"], capture_output=True, text=True, timeout=10, check=True)
    match = re.search(r"version (\d+)\.(\d+)", said.stdout + said.stderr)
    assert match, said
    return int(match[1]), int(match[2])


def test_the_documented_differences_are_these() -> None:
    """Name by name, with the series and the reason."""
    page = (Path(__file__).parents[2] / "docs/reference/blackbox.md").read_text()
    table = page.partition("## Differences that are meant")[2].partition("\n## ")[0]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines() if "`" in line]
    told = {name: (series.replace("`", "").replace("…", ".*"), why) for name, series, why in rows}
    assert told == {each.name: (each.series.replace("|", ", "), each.why) for each in DIFFERENCES}


def test_every_difference_shows_in_a_case() -> None:
    """What nobody can see any more is taken out of the list."""
    assert {each for case in CASES for each in case.differs} == set(DIFFERENCES)
