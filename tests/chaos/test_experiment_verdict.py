"""The verdict of an experiment, from values alone: what weighs more, and what no clause may hide."""

from dataclasses import replace
from typing import Any

import pytest

from stormwatch.chaos.experiment import Activity, Exactly, Experiment, Hypothesis, Kind, Provider, Strategy
from stormwatch.chaos.experiment_provider import Ending
from stormwatch.chaos.experiment_verdict import (
    ActivityRun,
    ExperimentVerdict,
    HypothesisRun,
    Seen,
    judge_experiment,
)

PROBE = Activity(
    name="health", kind=Kind.PROBE, provider=Provider.HTTP, call={"url": "http://shop"}, tolerance=Exactly(value=200)
)
ACTION = Activity(name="break", kind=Kind.ACTION, provider=Provider.PROCESS, call={"path": "true"})
EXPERIMENT = Experiment(
    title="t",
    description="d",
    hypothesis=Hypothesis(title="well", probes=(PROBE,)),
    method=(ACTION,),
    rollbacks=(ACTION,),
    strategy=Strategy.CONTINUOUSLY,
)


def ran(activity: Activity, ending: Ending = Ending.SUCCEEDED, *, met: bool | None = None) -> ActivityRun:
    """One call."""
    return ActivityRun(activity=activity, start=0, end=1, ending=ending, met=met, why="why")


MET = HypothesisRun(at=0, probes=(ran(PROBE, met=True),))
MISSED = HypothesisRun(at=0, probes=(ran(PROBE, met=False),))
SILENT = HypothesisRun(at=0, probes=(ran(PROBE, Ending.FAILED),))
BROKEN = HypothesisRun(at=0, probes=(ran(PROBE, Ending.BROKEN),))
WELL = Seen(
    started=0,
    ended=9,
    injected=True,
    before=MET,
    during=(MET,),
    after=MET,
    recovered=MET,
    method=(ran(ACTION),),
    rollbacks=(ran(ACTION),),
)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, ExperimentVerdict.PROVED),
        ({"injected": False, "before": MISSED}, ExperimentVerdict.INCONCLUSIVE),
        ({"injected": False, "before": BROKEN}, ExperimentVerdict.INCONCLUSIVE),
        ({"injected": False, "before": None, "trouble": "it was interrupted"}, ExperimentVerdict.INCONCLUSIVE),
        ({"during": (MET, MISSED, MET)}, ExperimentVerdict.DEVIATED),
        ({"during": (MET, SILENT)}, ExperimentVerdict.DEVIATED),
        ({"during": (MET, BROKEN)}, ExperimentVerdict.INCONCLUSIVE),
        ({"during": ()}, ExperimentVerdict.INCONCLUSIVE),
        ({"after": MISSED}, ExperimentVerdict.DEVIATED),
        ({"after": BROKEN}, ExperimentVerdict.INCONCLUSIVE),
        ({"after": None}, ExperimentVerdict.INCONCLUSIVE),
        ({"recovered": MISSED}, ExperimentVerdict.NOT_RESOLVED),
        ({"recovered": BROKEN}, ExperimentVerdict.INCONCLUSIVE),
        ({"method": (ran(ACTION, Ending.FAILED),)}, ExperimentVerdict.INCONCLUSIVE),
        ({"method": (ran(ACTION, Ending.BROKEN),)}, ExperimentVerdict.INCONCLUSIVE),
        ({"method": ()}, ExperimentVerdict.INCONCLUSIVE),
        ({"trouble": "a safeguard"}, ExperimentVerdict.INCONCLUSIVE),
        ({"trouble": "a safeguard", "after": MISSED}, ExperimentVerdict.DEVIATED),
        ({"rollbacks": (ran(ACTION, Ending.FAILED),)}, ExperimentVerdict.UNSAFE),
        ({"rollbacks": (ran(ACTION, met=False),)}, ExperimentVerdict.UNSAFE),
        ({"rollbacks": ()}, ExperimentVerdict.UNSAFE),
        ({"left": ("tcp-reset may still be in place",)}, ExperimentVerdict.UNSAFE),
        ({"left": ("tcp-reset may still be in place",), "after": MISSED}, ExperimentVerdict.UNSAFE),
        ({"after": MISSED, "method": (ran(ACTION, Ending.BROKEN),), "recovered": MISSED}, ExperimentVerdict.DEVIATED),
    ],
)
def test_the_gravest_clause_decides(change: dict[str, Any], verdict: ExperimentVerdict) -> None:
    """Safety, then what is known to be wrong, then what is not known."""
    assert judge_experiment(EXPERIMENT, replace(WELL, **change)).verdict is verdict


def test_what_is_dry_proves_nothing() -> None:
    """An action that was not called, and a rollback that was not."""
    dry = replace(ACTION, dry=True)
    assert judge_experiment(replace(EXPERIMENT, method=(dry,)), WELL).verdict is ExperimentVerdict.INCONCLUSIVE
    assert judge_experiment(replace(EXPERIMENT, rollbacks=(dry,)), WELL).verdict is ExperimentVerdict.UNSAFE


def test_codes() -> None:
    """They are an interface."""
    assert [one.exit_code for one in ExperimentVerdict] == [0, 1, 1, 3, 4]
