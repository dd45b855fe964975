"""Alerts about the prober itself: promtool accepts them, passes their tests, and fails those of a rule that is broken."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from stormwatch.slo.prober import ALERTS, WATCHDOG, render_prober_rules, render_prober_tests
from tests.program import program

BROKEN: Mapping[str, Mapping[str, Any]] = {
    "never": {"expr": "vector(0) > 1"},
    "always": {"expr": "vector(1)"},
    "after an hour": {"for": "1h"},
    "to somebody else": {"labels": {"severity": "info"}},
}


def promtool(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it in a directory."""
    return subprocess.run(
        [program("promtool"), *arguments], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("job", ["stormwatch", 'a "quoted" job'])
def test_promtool_accepts_the_rules_and_passes_their_tests(job: str, tmp_path: Path) -> None:
    """Each fires with its labels, and does not where it should not."""
    (tmp_path / "prober.yml").write_text(render_prober_rules(job=job))
    (tmp_path / "prober.test.yml").write_text(render_prober_tests(rule_file="prober.yml", job=job))

    for arguments in (("check", "rules", "--lint=all", "prober.yml"), ("test", "rules", "prober.test.yml")):
        done = promtool(tmp_path, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("how", sorted(BROKEN))
def test_rules_that_are_broken_by_hand_fail_their_tests(how: str, tmp_path: Path) -> None:
    """One that never fires, one that always does, one that is late, one that tells others.

    All at once, because none has part in the tests of another, and promtool tells of each for itself.
    """
    rules = yaml.safe_load(render_prober_rules())
    for rule in rules["groups"][0]["rules"]:
        # The watchdog always fires as it is.
        rule.update(BROKEN["never" if (how, rule["alert"]) == ("always", WATCHDOG) else how])
    (tmp_path / "prober.yml").write_text(yaml.safe_dump(rules))
    (tmp_path / "prober.test.yml").write_text(render_prober_tests(rule_file="prober.yml"))

    done = promtool(tmp_path, "test", "rules", "prober.test.yml")

    assert done.returncode == 1
    told = set(re.findall(r"alertname: (\w+)", done.stdout + done.stderr))
    assert told == {alert.name for alert in ALERTS}
