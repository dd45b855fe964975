"""The life of an alert is the one that Prometheus gives it."""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stormwatch.slo.alert import AlertState, Severity
from stormwatch.slo.evaluator import Evaluator
from stormwatch.slo.life import Standing, advance
from stormwatch.slo.rule import Down
from tests.slo.story import START, probe, result

INACTIVE, PENDING, FIRING, RESOLVED = AlertState


@pytest.mark.parametrize(
    ("lasting", "met", "states", "keep"),
    [
        pytest.param(0, "1", [FIRING], 0, id="without for it fires at once"),
        pytest.param(0, "110", [FIRING, FIRING, RESOLVED], 0, id="and is resolved at once"),
        pytest.param(
            0, "1001", [FIRING, RESOLVED, INACTIVE, FIRING], 0, id="resolved is said once, then it begins anew"
        ),
        pytest.param(20, "111", [PENDING, PENDING, FIRING], 0, id="with for it is pending until it has lasted"),
        pytest.param(
            20, "1011", [PENDING, INACTIVE, PENDING, PENDING], 0, id="one good moment begins the waiting anew"
        ),
        pytest.param(15, "111", [PENDING, PENDING, FIRING], 0, id="a for between two evaluations waits for the second"),
        pytest.param(10, "110", [PENDING, FIRING, RESOLVED], 0, id="firing ends at once however long it had to last"),
        pytest.param(0, "1001", [FIRING, FIRING, FIRING, FIRING], 20, id="kept until the condition is met again"),
        pytest.param(0, "1000", [FIRING, FIRING, FIRING, RESOLVED], 20, id="kept for its time, then resolved"),
        pytest.param(0, "10100", [FIRING] * 5, 20, id="keeping begins anew each time"),
        pytest.param(10, "100", [PENDING, INACTIVE, INACTIVE], 20, id="what only was pending is not kept"),
    ],
)
def test_stories_of_one_alert(lasting: float, met: str, states: list[AlertState], keep: float) -> None:
    """Each sign is an evaluation, ten seconds apart, and says whether the condition is met."""
    standing, seen = Standing(), []
    for number, sign in enumerate(met):
        standing = advance(standing, met=sign == "1", now=START + 10 * number, lasting=lasting, keep=keep)
        seen.append(standing.state)

    assert states == seen


def test_moments_are_compared_in_milliseconds() -> None:
    """A binary float that falls short of the `for` by its last bits does not cost an evaluation."""
    later = START + 0.3
    standing = advance(Standing(), met=True, now=START, lasting=0.3)

    assert later - START < 0.3
    assert FIRING is advance(standing, met=True, now=later, lasting=0.3).state


@dataclass
class NaiveAlert:
    """An alerting rule as the text of Prometheus' documentation says it, with nothing clever."""

    lasting: float
    active_at: float | None = None
    firing: bool = False

    def evaluate(self, *, met: bool, now: float) -> None:
        """One evaluation."""
        if not met:
            self.active_at, self.firing = None, False
            return
        if self.active_at is None:
            self.active_at = now
        if now - self.active_at >= self.lasting:
            self.firing = True


class AlertLife(RuleBasedStateMachine):
    """A probe and the probe that it depends on go up and down; the process dies and comes back; time only goes on."""

    LASTING = 30.0

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.outcomes: dict[str, str] = {}
        self.blind: dict[str, float] = {}
        """Since when a probe that was seen down is broken."""
        self.models = {"front": NaiveAlert(self.LASTING), "dns": NaiveAlert(0.0)}
        self.evaluator = self._process()
        self.told: dict[str, AlertState] = {}

    def _process(self) -> Evaluator:
        rules = [
            Down(alertname="ProbeDown", severity=Severity.PAGE, probe="front", lasting=self.LASTING, muted_by=("dns",)),
            Down(alertname="ProbeDown", severity=Severity.PAGE, probe="dns"),
        ]
        return Evaluator([], rules, [probe("front", depends_on=("dns",)), probe("dns")])

    @rule(name=st.sampled_from(["front", "dns"]), sign=st.sampled_from("++--?"))
    def a_run_ends(self, name: str, sign: str) -> None:
        if sign == "?" and self.outcomes.get(name) == "-":
            self.blind.setdefault(name, self.now)
        else:
            self.outcomes[name] = sign
            self.blind.pop(name, None)
        self.evaluator.observe(result(sign, self.now, name=name))

    @rule(name=st.sampled_from(["front", "dns"]), sign=st.sampled_from("+-"))
    def an_old_result_comes_late(self, name: str, sign: str) -> None:
        if name in self.outcomes:
            self.evaluator.observe(result(sign, START - 1, name=name))

    @rule(seconds=st.integers(1, 40))
    def an_evaluation(self, seconds: int) -> None:
        self.now += seconds
        dns_down = self._stands_down("dns")
        self.models["dns"].evaluate(met=dns_down, now=self.now)
        self.models["front"].evaluate(met=self._stands_down("front") and not dns_down, now=self.now)
        for change in self.evaluator.evaluate(self.now):
            name = change.alert.labels["probe"]
            assert change.before is self.told.get(name, INACTIVE)
            assert change.at == self.now
            self.told[name] = INACTIVE if change.after is RESOLVED else change.after

    def _stands_down(self, name: str) -> bool:
        return self.outcomes.get(name) == "-" and self.now - self.blind.get(name, self.now) <= 900

    @rule(seconds=st.integers(1, 300))
    def the_process_is_killed_and_comes_back(self, seconds: int) -> None:
        self.an_evaluation(1)
        snapshot = self.evaluator.snapshot()
        self.now += seconds
        self.evaluator = self._process()
        self.evaluator.restore(snapshot)
        for model in self.models.values():
            if model.active_at is not None and not model.firing:
                model.active_at += seconds + 1
        self.an_evaluation(1)

    @invariant()
    def both_say_the_same(self) -> None:
        active = {change.alert.labels["probe"]: change for change in self.evaluator.active()}
        for name, model in self.models.items():
            expected = INACTIVE if model.active_at is None else FIRING if model.firing else PENDING
            assert expected is (active[name].after if name in active else INACTIVE)
            assert expected is self.told.get(name, INACTIVE)
            if name in active:
                assert model.active_at == active[name].since


AlertLife.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAlertLife = AlertLife.TestCase
