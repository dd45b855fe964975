"""`stormwatch rules --tests`: a directory that promtool takes as it is."""

import subprocess
from pathlib import Path

from stormwatch.harness.rules_command import MADE
from tests.servers.command import invoke
from tests.slo.promtool import promtool

CONFIG = """\
probes:
  - {name: shop-dns, kind: dns, target: shop.example}
  - {name: front, kind: http, target: "https://shop.example/", every: 15s, depends_on: [shop-dns], alert: {for: 30s}}
objectives:
  - {name: front-fast, probe: front, target: 95%, slower_than: 500ms, window: 7d, policy: fast-slow}
"""


def stormwatch(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it in a directory."""
    return invoke(*arguments, cwd=directory)


def test_rules_and_their_tests_are_written_into_a_directory(tmp_path: Path) -> None:
    """Every test is passed; one of an alert that is gone does not stay, one that somebody else wrote does."""
    (tmp_path / "stormwatch.yaml").write_text(CONFIG)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.ProbeDown.page.15s.test.yml").write_text(f"{MADE}of a probe that is gone")
    (tmp_path / "out" / "theirs.test.yml").write_text("tests: []")

    done = stormwatch(tmp_path, "rules", "--tests", "-o", "out")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "out" / "theirs.test.yml").exists()
    (tmp_path / "out" / "theirs.test.yml").unlink()
    written = sorted(path.name for path in (tmp_path / "out").glob("*.test.yml"))
    assert "prober.test.yml" in written
    assert "old.ProbeDown.page.15s.test.yml" not in written
    assert {name.split(".")[0] for name in written} == {"front", "front-fast", "prober", "shop-dns"}
    alone = stormwatch(tmp_path, "rules")
    assert (tmp_path / "out" / "rules.yml").read_text() == alone.stdout

    tested = promtool(tmp_path / "out", *written)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_rules_about_the_prober_are_a_file_of_their_own(tmp_path: Path) -> None:
    """The rules of a configuration stay what they were."""
    (tmp_path / "stormwatch.yaml").write_text(CONFIG)

    about_us, about_others = stormwatch(tmp_path, "rules", "--for", "prober"), stormwatch(tmp_path, "rules")
    assert "alert: StormwatchDown" in about_us.stdout
    assert "Stormwatch" not in about_others.stdout


def test_tests_need_a_directory(tmp_path: Path) -> None:
    """They are many files."""
    (tmp_path / "stormwatch.yaml").write_text(CONFIG)

    done = stormwatch(tmp_path, "rules", "--tests")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "--tests writes Prometheus' rules and their tests into a directory: give one with -o DIR\n"


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """No traceback."""
    (tmp_path / "stormwatch.yaml").write_text(CONFIG)

    done = stormwatch(tmp_path, "rules", "--tests", "-o", "stormwatch.yaml/out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "cannot write into stormwatch.yaml/out: Not a directory\n"
