"""`stormwatch drill experiment.json`: an experiment of the Chaos Toolkit, with our time-outs, undo and verdict."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from stormwatch.chaos.audit import AuditJournal
from stormwatch.chaos.experiment import Experiment, Strategy
from stormwatch.chaos.experiment_provider import mistakes
from stormwatch.chaos.experiment_reading import ExperimentMistake, is_experiment, read_experiment, strategy_of
from stormwatch.chaos.experiment_report import ExperimentReport
from stormwatch.chaos.experiment_run import NothingBegun, run_experiment
from stormwatch.chaos.experiment_undo import load_document
from stormwatch.chaos.experiment_variables import VariableMissing, Variables, read_variables
from stormwatch.chaos.report import Progress
from stormwatch.chaos.undo import UndoJournal, state_directory
from stormwatch.harness.drilling import heal
from stormwatch.harness.invocation import mask_logs, write
from stormwatch.harness.problem import Exit, Problem
from stormwatch.harness.secret import Secrets
from stormwatch.harness.stop import cancelled_by_signals
from stormwatch.probes.clock import SystemClock

_ALSO = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that would end a process in the middle of an experiment, with everything in place."""


def is_file_of_one(name: str) -> bool:
    """Whether an argument of `drill` is no drill's name but an experiment's file."""
    path = Path(name)
    if path.suffix not in (".json", ".yaml", ".yml"):
        return False
    if not path.is_file():
        raise Problem(f"{name}: there is no such file; a drill's name does not end like that")
    document = _document(path)
    if not is_experiment(document):
        raise Problem(f"{name}: it is no experiment, because it has no `method`; drills are called by their names")
    return True


async def command(
    paths: Sequence[Path],
    *,
    as_json: bool,
    journal: Path | None = None,
    strategy: str = "",
    frequency: float = 1.0,
    fail_fast: bool = False,
    variables: Sequence[str] = (),
) -> int:
    """Run the experiments one after the other. Exit code 0 only when every verdict is `proved`."""
    read = [_read(path, strategy, frequency, fail_fast) for path in paths]
    overrides = dict(_variable(one) for one in variables)
    ready = [(path, one, await _ready(path, one, overrides)) for path, one in zip(paths, read, strict=True)]
    await heal()
    reports: list[ExperimentReport] = []
    async with cancelled_by_signals():
        with _cancelled_by(_ALSO):
            for path, experiment, known in ready:
                reports.append(await _run(path, experiment, known, journal))
                if not as_json:
                    Console().print(reports[-1])
                if reports[-1].seen.trouble and not reports[-1].seen.aborted:
                    break
    if as_json:
        write(json.dumps([report.as_json() for report in reports], indent=2, default=str) + "\n", None)
    codes = [report.verdict.exit_code for report in reports]
    # The gravest: something left in place, then a known failure, then no verdict.
    return next(code for code in (Exit.UNSAFE, Exit.NOT_GOOD, Exit.NO_VERDICT, Exit.GOOD) if code in codes)


async def _run(path: Path, experiment: Experiment, known: Variables, journal: Path | None) -> ExperimentReport:
    state, clock = state_directory(os.environ), SystemClock()
    try:
        return await run_experiment(
            experiment,
            known,
            path=path,
            undo=UndoJournal(state / "undo"),
            clock=clock,
            audit=AuditJournal(state / "audit.jsonl", clock=clock),
            mask=Secrets.of(known.secret_values()).mask,
            on_progress=_teller(Console(stderr=True)),
            on_change=_writer(journal),
        )
    except NothingBegun as error:
        raise Problem(f"{path}: {error}", code=Exit.NO_VERDICT) from error
    except OSError as error:
        # Of the journals: what was begun is rolled back by then.
        raise Problem(f"cannot write {error.filename}: {error.strerror}") from error


def _read(path: Path, strategy: str, frequency: float, fail_fast: bool) -> Experiment:
    try:
        experiment = read_experiment(_document(path))
    except ExperimentMistake as error:
        raise Problem(*(f"{path}: {line}" for line in error.lines)) from error
    try:
        chosen = strategy_of(strategy) if strategy else experiment.strategy
    except ValueError as error:
        raise Problem(f"--hypothesis-strategy {strategy}: one of {', '.join(Strategy)} is needed") from error
    return replace(experiment, strategy=chosen, frequency=frequency, fail_fast=fail_fast)


async def _ready(path: Path, experiment: Experiment, overrides: Mapping[str, Any]) -> Variables:
    """Everything that can be known to go wrong is found before anything is done."""
    try:
        known = read_variables(experiment, environ=os.environ, overrides=overrides)
    except VariableMissing as error:
        raise Problem(f"{path}: {error}") from error
    mask_logs(Secrets.of(known.secret_values()))
    if lines := await mistakes(experiment.activities):
        raise Problem(*(f"{path}: {line}" for line in Secrets.of(known.secret_values()).mask(lines)))
    return known


def _document(path: Path) -> Any:
    try:
        return load_document(path)
    except OSError as error:
        raise Problem(f"{path}: it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Problem(f"{path}: it is neither JSON nor YAML: {error}") from error


def _variable(text: str) -> tuple[str, Any]:
    """`name=value` or `name:type=value`, as `chaos run --var` has it."""
    name, equals, value = text.partition("=")
    name, _, kind = name.partition(":")
    kinds: Mapping[str, Callable[[str], Any]] = {"": str, "str": str, "int": int, "float": float, "bool": _truth}
    wanted = f"--var {text}: name=value is needed, or name:kind=value with one of int, float, bool, str"
    if not equals or not name or kind not in kinds:
        raise Problem(wanted)
    try:
        return name, kinds[kind](value)
    except ValueError as error:
        raise Problem(f"{wanted}: {error}") from error


def _truth(text: str) -> bool:
    return text.lower() in ("1", "true", "yes")


def _writer(journal: Path | None) -> Callable[[ExperimentReport], None]:
    """The journal after each step, so that a death leaves what is known: whole at any moment."""

    def keep(report: ExperimentReport) -> None:
        if journal is None:
            return
        temporary = journal.with_name(f".{journal.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(report.journal(), indent=2, default=str), encoding="utf-8")
        temporary.replace(journal)

    return keep


@contextlib.contextmanager
def _cancelled_by(signals: Sequence[signal.Signals]) -> Generator[None]:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in signals:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _teller(screen: Console) -> Callable[[Progress], None]:
    began: float | None = None

    def tell(progress: Progress) -> None:
        nonlocal began
        began = progress.at if began is None else began
        screen.print(f"[dim]{progress.at - began:7.1f} s[/dim]  ", end="", highlight=False)
        screen.print(f"{progress.step:<12} {progress.text}", highlight=False, markup=False)

    return tell
