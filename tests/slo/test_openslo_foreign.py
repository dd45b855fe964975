"""Files of others, from a directory that `STORMWATCH_OPENSLO_FILES` names: each is read, or refused with a line that helps.

The files are not ours and not in this repository. With `-s` a table is printed of how many are read and why others are not:
that in docs/how-to/use-openslo.md was made so from OpenSLO/OpenSLO, OpenSLO/go-sdk, OpenSLO/oslo and slok/sloth.
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from stormwatch.harness.mistake import ConfigError, Mistake
from stormwatch.harness.openslo_files import read_openslo
from stormwatch.harness.sloth_files import read_sloth
from stormwatch.slo.openslo_promise import promises
from stormwatch.slo.promise import Promise, Refusal
from stormwatch.slo.sloth_promise import promises as promises_of_sloth

DIRECTORY = os.environ.get("STORMWATCH_OPENSLO_FILES", "")
FILES = sorted(Path(DIRECTORY).rglob("*.y*ml")) if DIRECTORY else []
_QUOTED = re.compile(r"'[^']*'|/\S+:\d+|\b[\w/]+_\w+\b|\d\S*")
"""What is of one file in a sentence."""

pytestmark = pytest.mark.skipif(not FILES, reason="STORMWATCH_OPENSLO_FILES names no directory with YAML files")


def is_openslo(path: Path) -> bool:
    """Whether somebody meant it to be read here."""
    return "openslo" in path.read_text(errors="replace")


def is_sloth(path: Path) -> bool:
    """The same of sloth's."""
    text = path.read_text(errors="replace")
    return not is_openslo(path) and ("prometheus/v" in text or "sloth.slok.dev/v1" in text)


def promises_in(path: Path) -> list[Promise | Refusal]:
    """What a file promises. Raises ConfigError."""
    if is_openslo(path):
        found = read_openslo([path])
        return [each for standing in found.slos for each in promises(standing.slo, found.library)]
    return [each for standing in read_sloth([path]).specs for each in promises_of_sloth(standing.spec)]


@pytest.mark.parametrize("wanted", [is_openslo, is_sloth])
def test_every_file_is_read_or_refused_with_a_reason(wanted: Callable[[Path], bool]) -> None:
    """No other error comes of any, and each mistake has its line."""
    files, promised = Counter[str](), Counter[str]()
    mistakes: list[Mistake] = []
    for path in filter(wanted, FILES):
        try:
            said = promises_in(path)
        except ConfigError as error:
            mistakes += error.mistakes
            files["refused: " + _QUOTED.sub("…", error.mistakes[0].sentence)] += 1
            continue
        files["read"] += 1
        for each in said:
            promised["objective" if isinstance(each, Promise) else "refused: " + _QUOTED.sub("…", each.sentence)] += 1
    print(f"\n{wanted.__name__}: {files.total()} files, {promised.total()} promises")
    for counts in (files, promised):
        print(*(f"  {count:4d}  {what}" for what, count in counts.most_common()), sep="\n")
    assert files["read"]
    assert [mistake for mistake in mistakes if not mistake.line or not mistake.sentence] == []
