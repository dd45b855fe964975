"""Plays the rollbacks of an experiment that died, from its record alone; and takes back the faults that belong to a run."""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.experiment import Activity, Experiment
from stormwatch.chaos.experiment_comparison import compared
from stormwatch.chaos.experiment_played import playing
from stormwatch.chaos.experiment_provider import call
from stormwatch.chaos.experiment_reading import ExperimentMistake, read_activities
from stormwatch.chaos.experiment_variables import VariableMissing, Variables, read_secrets
from stormwatch.probes.masking import masked, pattern_of

if TYPE_CHECKING:
    from stormwatch.chaos.undo import UndoJournal

METHOD = "experiment"
"""In the records: a key of `undoers.UNDOERS`."""


def undo_arguments(experiment: Experiment, variables: Variables, path: Path, played: Path) -> dict[str, Any]:
    """What `undo_experiment` needs; `played` is where it is kept which rollbacks were played. No secret: those are read again, from where the experiment has them."""
    return {
        "file": str(path.absolute()),
        "directory": str(Path.cwd()),
        "played": str(played.absolute()),
        "secrets": bool(experiment.secrets),
        "configuration": dict(variables.configuration),
        "rollbacks": [dict(one.document) for one in experiment.rollbacks],
    }


async def undo_experiment(arguments: Mapping[str, Any]) -> Absence:
    """Play every rollback that was not played yet, also after one that failed. Raises UndoFailed when one did."""
    try:
        activities = read_activities(arguments["rollbacks"])
    except ExperimentMistake as error:
        raise UndoFailed(f"its rollbacks cannot be played from here: {error.lines[0]}") from error
    variables = Variables(arguments["configuration"], await asyncio.to_thread(_secrets, arguments))
    pattern = pattern_of(variables.secret_values())
    failed: list[str] = []
    async with playing(Path(arguments["played"])) as played:
        left = [(number, one) for number, one in enumerate(activities) if number not in played.numbers]
        for number, activity in left:
            if why := await _played(activity, variables, arguments["directory"]):
                failed.append(f"{activity.name}: {masked(why, pattern) if pattern else why}")
            else:
                await played.mark(number)
    if failed:
        raise UndoFailed(
            f"of {len(left)} rollbacks, {len(failed)} failed ({'; '.join(failed)}); see to it by hand what "
            f"{arguments['file']} did, or mend it and try again"
        )
    return Absence(
        was_there=bool(left), why=f"the rollbacks of {arguments['file']} were played, {len(left)} of them now"
    )


async def _played(activity: Activity, variables: Variables, directory: str) -> str:
    """Why it failed; nothing when it did not."""
    answer = await call(activity, variables, directory=directory)
    met = await compared(activity, answer, variables, directory=directory)
    return f"{met.seen} (asked: {met.asked})" if met and not met.met else answer.why


async def left_behind(journal: "UndoJournal", label: str) -> tuple[str, ...]:
    """Take back the faults that belong to a run; those that could not be, a sentence each."""
    from stormwatch.chaos.undo import UndoRecord, UndoState

    failed: list[str] = []
    for record in await asyncio.to_thread(journal.pending):
        if isinstance(record, UndoRecord) and record.drill == label and record.method != METHOD:
            outcome = await journal.undo(record.id)
            if outcome and outcome.state is UndoState.FAILED:
                failed.append(f"{outcome.what} may still be in place: {outcome.why}")
    return tuple(failed)


def load_document(path: Path) -> Any:
    """What stands in a file of YAML or JSON. Raises OSError and ValueError."""
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _secrets(arguments: Mapping[str, Any]) -> dict[str, Any]:
    if not arguments["secrets"]:
        return {}
    try:
        return read_secrets(load_document(Path(arguments["file"]))["secrets"], environ=os.environ)
    except (OSError, ValueError, KeyError, TypeError, VariableMissing) as error:
        raise UndoFailed(
            f"its secrets, which are written down nowhere, are not to be had: {error}; run it with them in its environment"
        ) from error
