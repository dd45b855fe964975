"""Kinds that other packages bring: taken when they are sound, told of when they are not, never in the way of others."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from stormwatch.harness.catalog import KINDS
from stormwatch.harness.installed_kinds import installed_kinds

MODULE = '''
from dataclasses import dataclass
from typing import ClassVar
from pydantic import ConfigDict
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Kind, Metric
from stormwatch.probes.result import Reason

@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """None."""
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    depth: int = 1
    """How deep."""

def build(target, options):
    async def check(watch):
        watch.measure("acme_depth", options.depth)
    return check

KIND = Kind(
    name="acme", options=Options, build=build, metrics=(Metric("acme_depth", "Depth"),),
    reasons=frozenset({Reason.ASSERTION}),
)
'''
CONFIG = "probes: [{name: a, kind: acme, target: x, acme: {depth: 3}}]\n"
OTHER = "probes: [{name: a, kind: exec, target: 'true'}]\n"


def package(
    site: Path, name: str, module: str, *, kinds: str = "acme = acme_probe:KIND", file: str = "acme_probe"
) -> None:
    """What an installed package leaves in site-packages."""
    (site / f"{file}.py").write_text(module)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[stormwatch.probes]\n{kinds}\n")


def stormwatch(site: Path, *args: str, config: str = CONFIG) -> subprocess.CompletedProcess[str]:
    """The command, in an interpreter that sees the package."""
    (site / "stormwatch.yaml").write_text(config)
    return subprocess.run(
        [sys.executable, "-c", "from stormwatch.harness.cli import main; main()", *args],
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_installed_kind_is_like_one_of_ours(tmp_path: Path) -> None:
    """In the schema, in `validate`, in a run and in its metrics."""
    package(tmp_path, "acme-probes", MODULE)
    done = stormwatch(tmp_path, "check", "--debug", "a")
    assert (done.returncode, done.stderr) == (0, "")
    assert 'acme_depth{instance="x",probe="a",kind="acme",location="local"} 3' in done.stdout
    assert '"How deep."' in stormwatch(tmp_path, "schema").stdout
    bad = stormwatch(tmp_path, "validate", config=CONFIG.replace("depth: 3", "deep: 3"))
    assert bad.returncode == 2
    assert bad.stderr == "stormwatch.yaml:1: probes[a].acme.deep: unknown key; did you mean depth?\n"


def test_a_broken_package_is_one_line_for_its_users_and_a_warning_for_the_others(tmp_path: Path) -> None:
    """Exit code 2 only where the kind is used; --help does not even look."""
    package(tmp_path, "acme-probes", "import a_driver_that_nobody_has\n")
    why = (
        "kind acme of the package acme-probes cannot be used: "
        "ModuleNotFoundError: No module named 'a_driver_that_nobody_has'; repair or uninstall the package"
    )
    used = stormwatch(tmp_path, "check")
    assert (used.returncode, used.stderr) == (2, f"stormwatch.yaml:1: probes[a].kind: {why}\n")
    unused = stormwatch(tmp_path, "check", config=OTHER)
    assert (unused.returncode, unused.stderr) == (0, f"WARNING stormwatch.harness.probe_section: {why}\n")
    helped = stormwatch(tmp_path, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")


def test_a_kind_of_ours_is_not_replaced(tmp_path: Path) -> None:
    """Whatever is installed, `exec` is ours."""
    package(tmp_path, "evil", MODULE, kinds="exec = acme_probe:KIND")
    done = stormwatch(tmp_path, "check", config=OTHER)
    assert done.returncode == 0
    assert done.stderr == (
        "WARNING stormwatch.harness.probe_section: the package evil may not replace our kind exec; "
        "uninstall it, or rename its kind\n"
    )


def test_two_packages_with_one_kind_are_both_refused(tmp_path: Path) -> None:
    """Which of them came first is an accident."""
    package(tmp_path, "acme-probes", MODULE)
    package(tmp_path, "other-probes", MODULE, kinds="acme = other:KIND", file="other")
    done = stormwatch(tmp_path, "check")
    assert done.returncode == 2
    assert "kind acme comes from two packages, " in done.stderr
    assert done.stderr.endswith("; uninstall one of them\n")


MISTAKES = {
    "KIND = 'acme'": "acme_probe:KIND is a str, and must be a Kind",
    f"{MODULE}\nKIND = replace(KIND, name='other')": "acme_probe:KIND calls itself 'other', and its entry point 'acme'",
    f"{MODULE}\nKIND = replace(KIND, options=dict)": "its options, <class 'dict'>, are no dataclass",
    f"{MODULE}\nKIND = replace(KIND, metrics=(Metric('a-b', ''),))": "'a-b' is not the name of a metric",
    f"{MODULE}\nKIND = replace(KIND, phases=('a',))": "it has phases, and no phase_metric to export them under",
    f"{MODULE}\nKIND = replace(KIND, reasons=frozenset())": "its reasons must be those of Reason for which it can be down, "
    "and at least one",
    "raise SystemExit(3)": "SystemExit: 3",
    "": "AttributeError: module 'acme_probe' has no attribute 'KIND'",
}


@pytest.mark.parametrize(("text", "said"), MISTAKES.items(), ids=range(len(MISTAKES)))
def test_what_is_wrong_with_a_kind_is_told(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name."""
    (tmp_path / "acme_probe.py").write_text(f"from dataclasses import replace\n{text}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "acme_probe", raising=False)
    found = installed_kinds(KINDS, [EntryPoint("acme", "acme_probe:KIND", "stormwatch.probes")])
    sys.modules.pop("acme_probe", None)
    assert found.kinds == {}
    assert found.unusable == {
        "acme": f"kind acme of the package acme_probe cannot be used: {said}; repair or uninstall the package"
    }


def test_a_kind_may_not_have_the_name_of_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """`labels:` are labels."""
    module = ModuleType("acme_probe")
    monkeypatch.setitem(sys.modules, "acme_probe", module)
    exec(f"from dataclasses import replace\n{MODULE}\nKIND = replace(KIND, name='labels')", module.__dict__)
    found = installed_kinds(KINDS, [EntryPoint("labels", "acme_probe:KIND", "stormwatch.probes")])
    assert "'labels' cannot be the name of a kind" in found.unusable["labels"]
