"""What went wrong, as workflow commands of GitHub Actions: it shows them at the line of the pull request that they name.

The format is https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions: a command is one line, so what
would end the line or a property is written with a percent sign. A page that chooses what stands in a message can therefore end no
command and begin none.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from stormwatch.journeys.run_record import RunRecord
from stormwatch.journeys.step_comparison import Comparison
from stormwatch.probes.result import Outcome

_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = _DATA | {":": "%3A", ",": "%2C"}


def commands(
    records: Sequence[RunRecord], comparison: Comparison | None = None, *, root: Path, otherwise: str = ""
) -> list[str]:
    """An error for each run that is down or broken, a warning for each step that got slower.

    `root` is the repository: files inside it are named relative to it, as GitHub wants them. `otherwise` is the file that is
    named where a run knows none.
    """
    found = [_error(record, root, otherwise) for record in records if record.outcome is not Outcome.UP]
    by_key = {record.key: record for record in records}
    for slower in comparison.slower if comparison else ():
        record = by_key[slower.journey]
        title = f'{record.name}: step "{slower.step}" got slower'
        found.append(_command("warning", {"file": inside(record.file, root), "title": title}, slower.sentence))
    return found


def repository(environ: Mapping[str, str] = os.environ) -> Path:
    """The root of the checkout; the working directory where GitHub does not say."""
    return Path(environ.get("GITHUB_WORKSPACE") or Path.cwd())


def _error(record: RunRecord, root: Path, otherwise: str) -> str:
    file, line = record.where
    properties = {"file": inside(file or otherwise, root), "line": str(line) if line else ""}
    title = f"{record.name} is {record.outcome.value}: {record.reason.value}"
    return _command("error", properties | {"title": title}, record.message)


def inside(file: str, root: Path) -> str:
    """How a file is called in the repository; as it was given where it is not in it."""
    path = Path(root, file)
    return str(path.relative_to(root)) if file and path.is_relative_to(root) else file


def _command(name: str, properties: Mapping[str, str], message: str) -> str:
    said = ",".join(f"{key}={_escaped(value, _PROPERTY)}" for key, value in properties.items() if value)
    return f"::{name} {said}::{_escaped(message, _DATA)}"


def _escaped(text: str, signs: Mapping[str, str]) -> str:
    return text.translate(str.maketrans(dict(signs)))
