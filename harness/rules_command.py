"""`stormwatch rules`: the rules in a directory with unit tests beside them; Alertmanager's configuration with its secrets beside it."""

import re
from collections.abc import Callable
from pathlib import Path

from stormwatch.harness import meaning
from stormwatch.harness.alertmanager_receivers import receivers_of, unheard
from stormwatch.harness.config import Config
from stormwatch.harness.invocation import write
from stormwatch.harness.problem import Problem
from stormwatch.slo.promtool import untested

UNHEARD = 5
"""How many alerts that nobody hears are named."""

RULES = "rules.yml"
"""The rule file, which the tests name."""
PROBER = "prober.yml"
"""The rules about stormwatch itself."""
SUFFIX = ".test.yml"
MADE = "# Made by `stormwatch rules --tests`, which overwrites it, and removes it when its alert is gone.\n"
"""The first line of every file of tests, by which those are known that may be removed."""


def write_tests(config: Config, directory: Path, *, say: Callable[[str], None]) -> None:
    """Write the rule file and the tests; remove tests of alerts that are not there any more.

    Raises Problem when the directory cannot be written.
    """
    files = meaning.unit_tests(config, rule_file=RULES)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.glob(f"*{SUFFIX}"):
            if old.read_text(errors="replace").startswith(MADE):
                old.unlink()
    except OSError as error:
        raise Problem(f"cannot write into {directory}: {error.strerror}") from error
    write(meaning.prometheus_rules(config), directory / RULES)
    write(meaning.prober_rules(), directory / PROBER)
    write(MADE + meaning.prober_tests(rule_file=PROBER), directory / f"prober{SUFFIX}")
    for file in files:
        write(MADE + file.text, directory / file.name)
    for alert in untested(config.rules):
        say(f"no unit test is made for {alert}")
    say(
        f"wrote {RULES}, {PROBER} and {len(files) + 1} files of tests into {directory}; run them there: promtool test rules *{SUFFIX}"
    )


def alertmanager(config: Config, *, watchdog: str, secrets: str, version: str, say: Callable[[str], None]) -> str:
    """Alertmanager's configuration. Says which files have to hold which secrets, and what it does not do as we do it.

    Raises Problem when nobody would be told, and for what could only be done by writing a secret down.
    """
    receivers = receivers_of(config, secrets=secrets, version=read_version(version))
    for path, what in receivers.files.items():
        say(f"{path} has to hold what {what} stands for, readable by Alertmanager only")
    for sentence in receivers.left_out:
        say(f"left out: {sentence}")
    nobody = unheard(config, receivers.receivers)
    for labels in nobody[:UNHEARD]:
        say(f"nobody hears of {labels}; add a channel that is told of it")
    if len(nobody) > UNHEARD:
        say(f"… and of {len(nobody) - UNHEARD} more")
    return meaning.alertmanager_config(config, receivers, watchdog=watchdog)


def read_version(text: str) -> tuple[int, int]:
    """`0.25` or `0.28.1`. Raises Problem for anything else."""
    match = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.\d+)?", text)
    if not match:
        raise Problem(f"--alertmanager-version {text}: a version is written like 0.25")
    return int(match[1]), int(match[2])
