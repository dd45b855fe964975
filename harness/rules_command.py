"""`stormwatch rules --tests`: the rules in a directory, with unit tests of every alert beside them."""

from collections.abc import Callable
from pathlib import Path

from stormwatch.harness import meaning
from stormwatch.harness.config import Config
from stormwatch.harness.invocation import write
from stormwatch.harness.problem import Problem
from stormwatch.slo.promtool import untested

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
