"""A matrix that Prometheus judges: how long its alerts take there, which of them tell, and by which names they are known."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.matrix_cell import Cell
from stormwatch.chaos.matrix_plan import MatrixPlan, dependencies_of, plan_matrix
from stormwatch.harness.config import Config, load
from stormwatch.harness.drill_guarding import Guarding
from stormwatch.harness.live_chain import Live
from stormwatch.harness.matrix_command import MatrixRequest, command, find_threshold
from stormwatch.harness.matrix_watching import KnownAlerts, OutsideEvaluator
from stormwatch.harness.problem import Exit, Problem
from stormwatch.slo.alert import Alert, AlertState, Transition
from stormwatch.slo.drift import RuleText, RunningGroup, RunningRule

CONFIG = """\
# stormwatch.yaml
probes:
  - {name: front, kind: http, target: "http://127.0.0.1:18080/", every: 10s, timeout: 2s, confirm: {attempts: 1}}
  - {name: cart, kind: http, target: "http://127.0.0.1:18080/cart", every: 10s, timeout: 2s, confirm: {attempts: 1}}
proxies:
  routes:
    - {name: shop, listen: "127.0.0.1:18080", upstream: "127.0.0.1:18081"}
    - {name: hotel, listen: "127.0.0.1:18082", upstream: "127.0.0.1:18083"}
watch: {prometheus: "http://127.0.0.1:9"}
drills:
  - name: theirs
    fault: {kind: tcp-refused, target: shop}
    expect: {alert: {labels: {alertname: HighErrorRate}, within: 5m}}
"""
DOWN = {"alertname": "ProbeDown", "severity": "page", "probe": "front"}
THEIRS = {"alertname": "HighErrorRate"}


def running(name: str, expr: str, *, lasting: float = 0.0, **labels: str) -> RunningRule:
    """A rule of Prometheus."""
    text = RuleText(name=name, is_alert=True, expr=expr, labels=labels, annotations={}, lasting=lasting)
    return RunningRule(text=text, health="ok", error="")


LIVE = Live(
    groups=[
        RunningGroup(
            name="g",
            file="/f",
            interval=15.0,
            rules=(
                running("ProbeDown", "probe_success == 0", severity="page", probe="front"),
                running("HighErrorRate", "rate(errors[20s]) > 1", lasting=15.0, severity="page"),
            ),
        )
    ],
    intervals={"app": 5.0},
)


def configured(directory: Path) -> Config:
    """The configuration above."""
    path = directory / "stormwatch.yaml"
    path.write_text(CONFIG)
    return load(path, environ={})


def planned(config: Config, live: Live | None) -> MatrixPlan:
    """The matrix of this Prometheus, or of our own evaluator."""
    return plan_matrix(
        dependencies_of(config.proxies.routes, (), config.probes, config.objectives, config.drills),
        probes=config.probes,
        objectives=config.objectives,
        rules=config.rules,
        evaluation=1.0,
        drills=config.drills,
        elsewhere=OutsideEvaluator(config=config, live=live) if live else None,
    )


def catchers(cell: Cell) -> dict[str, tuple[float, float]]:
    """How long the alerts of a cell take, by name."""
    return {one.labels["alertname"]: (one.within, one.recovers) for one in cell.catchers}


def test_alerts_take_as_long_as_prometheus_takes_and_drills_name_those_of_others(tmp_path: Path) -> None:
    """Probe, scrape, evaluation, our look and the margin; only for what Prometheus runs; theirs for each fault on what a drill breaks."""
    config = configured(tmp_path)
    plan = {cell.name: cell for cell in planned(config, LIVE).cells}
    reset = plan["shop/tcp-reset"]

    down, theirs = 10 + 2 + 15 + 5 + 2 + 2, 20 + 5 + 15 + 15 + 2 + 2
    assert {name: within for name, (within, _) in catchers(reset).items()} == {
        "ProbeDown": down,
        "HighErrorRate": theirs,
    }
    assert reset.limit == max(down, theirs), "each way to fail is given its time"
    assert reset.may_tell({**THEIRS, "severity": "page", "instance": "a:80"})
    hotel = plan["hotel/tcp-reset"]
    assert "HighErrorRate" not in catchers(hotel)
    assert not hotel.alone or not [one for one in hotel.catchers if one.labels["probe"] == "cart"]
    assert all(one.labels.get("probe") != "cart" for one in reset.catchers), "Prometheus runs no rule for cart"
    ours = {cell.name: cell for cell in planned(config, None).cells}["shop/tcp-reset"]
    assert {one.labels.get("probe") for one in ours.catchers} == {"front", "cart"}
    assert "HighErrorRate" not in catchers(ours)


def test_what_may_still_begin_after_an_undo_is_waited_for(tmp_path: Path) -> None:
    """The longest way of a bad run into an evaluation."""
    assert OutsideEvaluator(config=configured(tmp_path), live=LIVE).lag == 10 + 2 + 5 + 15 + 2


def change(after: AlertState, at: float, **labels: str) -> Transition:
    """An alert changed its state."""
    return Transition(
        alert=Alert(labels=labels), before=AlertState.INACTIVE, after=after, at=at, since=at, value=1.0, probe=""
    )


def test_alerts_are_known_by_what_was_said_of_them() -> None:
    """Labels of their series do not make others of them; those that nobody named keep theirs."""
    feed = KnownAlerts([THEIRS, DOWN])
    feed.transition(change(AlertState.FIRING, 1, **DOWN, instance="a", target="x"))
    feed.transition(change(AlertState.FIRING, 1, alertname="Watchdog", severity="none"))

    assert {one.alert.labels["alertname"]: dict(one.alert.labels) for one in feed.firing.values()} == {
        "ProbeDown": DOWN,
        "Watchdog": {"alertname": "Watchdog", "severity": "none"},
    }


def test_several_alerts_of_one_name_end_with_the_last() -> None:
    """Two instances fire; one of them is well again, which is no end."""
    feed = KnownAlerts([THEIRS])
    with feed.recording() as seen:
        for instance in "ab":
            feed.transition(change(AlertState.FIRING, 1, **THEIRS, instance=instance))
        feed.transition(change(AlertState.RESOLVED, 2, **THEIRS, instance="a"))
        assert list(feed.firing) == [(("alertname", "HighErrorRate"),)]
        feed.transition(change(AlertState.PENDING, 3, **THEIRS, instance="c"))
        assert list(feed.firing), "what waits beside one that fires changes nothing"
        feed.transition(change(AlertState.INACTIVE, 3, **THEIRS, instance="c"))
        feed.transition(change(AlertState.RESOLVED, 4, **THEIRS, instance="b"))
    assert not feed.firing
    assert [(one.after, one.at) for one in seen.transitions] == [
        (AlertState.FIRING, 1),
        (AlertState.FIRING, 1),
        (AlertState.RESOLVED, 4),
    ]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"scale": "1/2"}, "--scale: Prometheus has its own rules; leave --scale out"),
        ({"plan": True}, "watch.prometheus http://127.0.0.1:9: no Prometheus answers there"),
    ],
)
def test_what_prometheus_cannot_judge_is_one_line(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    """Before anything is injected."""
    config = configured(tmp_path)
    with pytest.raises(Problem) as refused:
        asyncio.run(command(config, MatrixRequest(**asked), Guarding(guard=config.guard, config=config, data=tmp_path)))

    assert len(refused.value.lines) == 1
    assert refused.value.lines[0].startswith(said)


def test_a_threshold_is_not_looked_for_through_prometheus(tmp_path: Path) -> None:
    """Ten trials would each wait until its alert is over; the remedy is said."""
    config = configured(tmp_path)
    with pytest.raises(Problem, match="leave `watch: prometheus` out of the configuration") as refused:
        asyncio.run(
            find_threshold(
                config,
                "shop/tcp-latency",
                MatrixRequest(),
                Guarding(guard=config.guard, config=config, data=tmp_path),
            )
        )
    assert refused.value.code is Exit.USAGE
