"""Two hundred generated histories give the same alerts in process and in Prometheus, to one evaluation step.

Each history is made from its number: outages, flapping, slow burns, gaps, broken runs, results that come late, planned work
and restarts, under one of ten configurations. What is compared is the whole timeline, step by step. Where a result comes late or a
process begins anew, the two may differ for one step at a time; elsewhere there is no tolerance at all.

After a stretch that nobody was there to be scraped, `increase` sees too little to say what the results in the history say: so
long as a window holds that stretch, alerts about the budget are not compared there. Restarts between two scrapes are.
"""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest

from stormwatch.probes.probe import Confirm, Probe
from stormwatch.probes.result import Outcome, Result
from stormwatch.slo.alert import AlertState, Severity
from stormwatch.slo.maintenance import Maintenance
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.rule import Rule
from tests.slo.parity import STEP, World, differences, live, timelines, transitions
from tests.slo.story import DAY, HOUR, MINUTE, objective, probe, result

HISTORIES = 200
BATCH = 20
"""Histories that share a configuration, and one start of promtool."""
LENGTH = 110
"""Runs in a history: 27 minutes, many times the windows that page."""
PROMISES = (
    (Fraction(90, 100), HOUR),
    (Fraction(80, 100), 10 * MINUTE),
    (Fraction(97, 100), DAY),
    (Fraction(95, 100), HOUR),
    (Fraction(95, 100), 6 * HOUR),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is configured for one batch of histories."""

    front: Probe
    dns: Probe
    objective: Objective
    rules: Sequence[Rule]
    restarts: bool


def setup(number: int) -> Setup:
    """The configuration of a batch. Every other one is restarted; those have no `for`, which restarts begin anew in Prometheus."""
    rng = random.Random(f"setup {number}")
    restarts = number % 2 == 1
    dns = probe("dns", every=30.0, confirm=Confirm(attempts=1, after=0))
    front = probe(labels={"service": "shop"}, depends_on=("dns",) if rng.random() < 0.5 else ())
    both = ("front", "dns") if rng.random() < 0.4 else ("front",)
    target, window = PROMISES[number % len(PROMISES)]
    its = objective("front-good", probes=both, target=target, window=float(window))
    burns = rules_for_objective(its, [front, dns], policy=("workbook", "fast-slow")[number // 2 % 2])
    if restarts:
        burns = tuple(replace(rule, lasting=0.0) for rule in burns)
    alive = rules_for_probe(
        front,
        lasting=0.0 if restarts else rng.choice([0.0, 30.0, 45.0]),
        keep=0.0 if restarts else rng.choice([0.0, 60.0]),
        expiry={} if restarts else {Severity.PAGE: 300.0, Severity.TICKET: 900.0},
    )
    return Setup(front=front, dns=dns, objective=its, rules=(*burns, *alive), restarts=restarts)


@cache
def history(seed: int) -> tuple[World, str]:
    """One history under the configuration of its batch, and how it is told to people."""
    given = setup(seed // BATCH)
    rng = random.Random(f"history {seed}")
    front, dns = _story(rng), "".join(f"{sign}." for sign in _story(rng))[:LENGTH]
    late = {at: 1 for at in range(0, LENGTH, 3) if rng.random() < 0.08} if rng.random() < 0.4 else {}
    at, gone = rng.randrange(20, 60), rng.randrange(2, 10)
    dead = [range(at, at + gone)] if given.restarts and rng.random() < 0.4 else []
    happened = _happened({"front": front, "dns": dns}, late, dead)
    restarts = _quick_restarts(rng, happened) if given.restarts and not dead else []
    planned = (
        Maintenance(
            match={"probe": "front"},
            rrule=f"DTSTART:19700101T00{rng.randrange(5, 20):02}00Z\nRRULE:FREQ=DAILY",
            duration=float(rng.choice([3, 7])) * MINUTE,
        ),
    )
    world = World(
        probes=(given.front, given.dns),
        objectives=(given.objective,),
        rules=given.rules,
        happened=happened,
        steps=LENGTH + 2,
        maintenance=planned if rng.random() < 0.4 else (),
        dead=dead,
        restarts=restarts,
        tolerance=1 if late or given.restarts else 0,
        blurred={name: [range(at, LENGTH + 2)] for name in ("ErrorBudgetBurn", "ErrorBudgetLow")} if dead else {},
        name=f"history {seed}",
    )
    return (
        world,
        f"front {front}\ndns   {dns}\nlate {sorted(late)}, dead {dead}, restarts {restarts}, planned {world.maintenance}",
    )


def _story(rng: random.Random) -> str:
    """Runs as signs: mostly good, with what goes wrong in between."""
    parts = ["+" * rng.randrange(1, 40)]
    while sum(map(len, parts)) < LENGTH:
        parts.append(
            rng.choice(
                [
                    "-" * rng.randrange(1, 30),
                    "-" * rng.randrange(1, 4),
                    "-+" * rng.randrange(1, 10),
                    "+++-" * rng.randrange(2, 8),
                    "." * rng.randrange(1, 12),
                    "?" * rng.randrange(1, 8),
                    "o" * rng.randrange(5, 60),
                ]
            )
        )
        parts.append("+" * rng.randrange(1, 40))
    return "".join(parts)[:LENGTH]


def _quick_restarts(rng: random.Random, happened: Mapping[int, Sequence[Result]]) -> list[int]:
    """Two steps at which nothing fails.

    A counter that has come to its old value again before it is scraped is not seen to have begun anew, by no Prometheus: the
    first failure of a new process hides behind the only one of the old.
    """
    quiet = [at for at in range(10, LENGTH) if all(each.outcome is Outcome.UP for each in happened.get(at, ()))]
    first = rng.choice(quiet)
    return sorted({first, rng.choice([at for at in quiet if abs(at - first) > 9] or [first])})


def _happened(
    stories: Mapping[str, str], late: Mapping[int, int], dead: Sequence[range]
) -> Mapping[int, Sequence[Result]]:
    happened: dict[int, list[Result]] = {}
    for name, signs in stories.items():
        for number, sign in enumerate(signs, 1):
            step = number + late.get(number, 0)
            if sign != "." and not any(step in gone for gone in dead):
                happened.setdefault(step, []).append(result(sign, number * STEP - 4.75, name=name))
    return happened


def disagreements(seeds: Sequence[int], directory: Path, mistake: tuple[str, str] | None = None) -> list[str]:
    """Of each history that the two sides tell differently: its number, its story and both lists of transitions."""
    told: list[str] = []
    worlds = [history(seed) for seed in seeds]
    seen = timelines([world for world, _ in worlds], directory, mistake=mistake)
    for (world, story), (ours, theirs) in zip(worlds, seen, strict=True):
        if wrong := differences(world, ours, theirs):
            told.append(
                "\n".join(
                    [
                        world.name,
                        story,
                        *wrong,
                        "in process:",
                        *transitions(ours),
                        "in Prometheus:",
                        *transitions(theirs),
                    ]
                )
            )
    return told


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(HISTORIES // BATCH))
def test_histories_come_out_the_same(batch: int, tmp_path: Path) -> None:
    """Twenty histories of one configuration."""
    told = disagreements(range(batch * BATCH, (batch + 1) * BATCH), tmp_path)

    assert not told, "\n\n".join(told)


def test_the_histories_make_every_alert_fire_and_resolve() -> None:
    """Two renderings that say nothing would agree as well."""
    seen: dict[tuple[str, str], int] = {}
    for seed in range(0, HISTORIES, 3):
        _, states = live(history(seed)[0])
        for before, after in itertools.pairwise(states):
            for key, state in before - after:
                if state == AlertState.FIRING:
                    named = dict(key)
                    alert = (named["alertname"], named["severity"])
                    seen[alert] = seen.get(alert, 0) + 1

    for alert in (
        ("ErrorBudgetBurn", "page"),
        ("ErrorBudgetBurn", "ticket"),
        ("ErrorBudgetLow", "info"),
        ("ProbeDown", "page"),
        ("ProbeNoEvidence", "ticket"),
        ("CertificateExpiring", "ticket"),
    ):
        assert seen.get(alert, 0) >= 5, (alert, seen)


@pytest.mark.parametrize(
    ("batch", "right", "wrong"),
    [
        pytest.param(0, '"front"}[15m]))) == 0', '"front"}[15m]))) == 1', id="up"),
        pytest.param(0, 'probe="front"', 'probe="dns"', id="probe"),
        pytest.param(0, 'judgement="bad"', 'judgement="good"', id="judgement"),
        pytest.param(0, "severity: info", "severity: ticket", id="severity"),
        pytest.param(0, "[1m]", "[90s]", id="short window"),
        pytest.param(0, "< 0.1", "< 0.2", id="budget"),
        pytest.param(4, " == 1)", " == 2)", id="maintenance"),
        pytest.param(0, "< 900", "< 930", id="expiry"),
        pytest.param(0, "> 56", "> 71", id="evidence"),
    ],
)
def test_a_rendering_with_a_mistake_is_found(batch: int, right: str, wrong: str, tmp_path: Path) -> None:
    """The comparison is worth something: change one thing in the rendered rules, and some history tells."""
    seeds = range(batch * BATCH, batch * BATCH + 12)

    assert any(disagreements([seed], tmp_path, mistake=(right, wrong)) for seed in seeds)
