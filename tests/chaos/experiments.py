"""Experiments for tests, as people write them, and a way to run one."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from stormwatch.chaos.experiment_reading import read_experiment
from stormwatch.chaos.experiment_report import ExperimentReport
from stormwatch.chaos.experiment_run import run_experiment
from stormwatch.chaos.experiment_variables import read_variables
from stormwatch.chaos.undo import UndoJournal, state_directory
from stormwatch.harness.secret import Secrets
from tests.servers.breakable import Breakable


def http(name: str, url: str, *, kind: str = "action", method: str = "GET", **more: Any) -> dict[str, Any]:
    """An activity that asks a URL."""
    provider = {"type": "http", "url": url, "method": method, **more.pop("provider", {})}
    return {"type": kind, "name": name, "provider": provider, **more}


def program(
    name: str, *arguments: str, kind: str = "action", path: str = sys.executable, **more: Any
) -> dict[str, Any]:
    """An activity that runs a program, by default Python."""
    provider = {"type": "process", "path": path, "arguments": list(arguments), **more.pop("provider", {})}
    return {"type": kind, "name": name, "provider": provider, **more}


def function(name: str, module: str, func: str, *, kind: str = "action", **more: Any) -> dict[str, Any]:
    """An activity that calls a function of Python."""
    provider = {"type": "python", "module": module, "func": func, **more.pop("provider", {})}
    return {"type": kind, "name": name, "provider": provider, **more}


def well(shop: Breakable, **more: Any) -> dict[str, Any]:
    """The hypothesis that the shop answers 200."""
    return {
        "title": "the shop is well",
        "probes": [http("health", f"{shop.url}/health", kind="probe", tolerance=200)],
        **more,
    }


def breaking(shop: Breakable, **more: Any) -> dict[str, Any]:
    """The action that breaks the shop."""
    return http("break it", f"{shop.url}/break", method="POST", **more)


def healing(shop: Breakable) -> dict[str, Any]:
    """The rollback that heals it."""
    return http("heal it", f"{shop.url}/break", method="DELETE")


def experiment(**parts: Any) -> dict[str, Any]:
    """A whole document; `hypothesis` stands for `steady-state-hypothesis`."""
    hypothesis = parts.pop("hypothesis", None)
    return {
        "title": "a story",
        "description": "told by a test",
        **({"steady-state-hypothesis": hypothesis} if hypothesis else {}),
        "method": [],
        **parts,
    }


async def run(
    document: dict[str, Any], *, path: Path = Path("experiment.json"), fail_fast: bool = False, **options: Any
) -> ExperimentReport:
    """Read and run it here, with a short recovery."""
    read = replace(read_experiment(document), fail_fast=fail_fast, frequency=0.1)
    known = read_variables(read, environ=os.environ)
    return await run_experiment(
        read,
        known,
        path=path,
        undo=UndoJournal(state_directory(os.environ) / "undo"),
        mask=Secrets.of(known.secret_values()).mask,
        **{"recovery": 1.0, **options},
    )


def clause(report: ExperimentReport, name: str) -> str:
    """What was seen of a clause."""
    return next(one.seen for one in report.judgement.clauses if one.name == name)
