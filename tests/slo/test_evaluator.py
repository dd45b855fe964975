"""The evaluator: results in, transitions out, exact at every threshold, the same after a restart."""

import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.result import Result
from stormwatch.slo.alert import AlertState, Severity, Transition
from stormwatch.slo.evaluator import Evaluator
from stormwatch.slo.maintenance import Maintenance
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.rule import BudgetLeft, BurnRate, Down, NoEvidence, Rule, Windows
from stormwatch.slo.window import Counts
from tests.slo.story import DAY, HOUR, MINUTE, START, objective, probe, result, results

PAGE = BurnRate(
    alertname="ErrorBudgetBurn",
    severity=Severity.PAGE,
    objective="front-availability",
    pairs=(Windows(1.0 * HOUR, 5.0 * MINUTE, Fraction(10)),),
)
LOW = BudgetLeft(
    alertname="ErrorBudgetLow", severity=Severity.INFO, objective="front-availability", below=Fraction(1, 10)
)
DOWN = Down(alertname="ProbeDown", severity=Severity.PAGE, probe="front", muted_by=("dns",))
BLIND = NoEvidence(alertname="ProbeNoEvidence", severity=Severity.TICKET, probe="front", after=60.0)

STEP = 15.0


def evaluator(*rules: Rule, objectives: Sequence[Objective] = (), **fields: Any) -> Evaluator:
    """About the probes `front` and `dns`."""
    return Evaluator(objectives or [objective()], rules, [probe(), probe("dns")], **fields)


def told(one: Evaluator, story: Iterable[Result]) -> list[tuple[int, str]]:
    """Feed results, evaluate after each; what was told, by the number of the step."""
    return [
        (round((change.at - START) / STEP), f"{change.alert.name} {change.after.value}")
        for each in story
        for change in _after(one, each)
    ]


def _after(one: Evaluator, each: Result) -> tuple[Transition, ...]:
    one.observe(each)
    return one.evaluate(each.finished)


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        pytest.param("++++", [], id="up: nothing to tell"),
        pytest.param("++--+", [(2, "ProbeDown firing"), (4, "ProbeDown resolved")], id="down and up again"),
        pytest.param(
            "+-?-+",
            [(1, "ProbeDown firing"), (4, "ProbeDown resolved")],
            id="an outage is not over because we cannot look",
        ),
        pytest.param("+?+?+", [], id="a broken run is not down"),
        pytest.param(
            "-" + "?" * 62 + "-",
            [
                (0, "ProbeDown firing"),
                (5, "ProbeNoEvidence firing"),
                (62, "ProbeDown resolved"),
                (63, "ProbeDown firing"),
                (63, "ProbeNoEvidence resolved"),
            ],
            id="what was seen stands for a quarter of an hour",
        ),
        pytest.param("+????????", [(5, "ProbeNoEvidence firing")], id="broken for more than a minute"),
        pytest.param(
            "+??????+",
            [(5, "ProbeNoEvidence firing"), (7, "ProbeNoEvidence resolved")],
            id="evidence ends the blindness, whatever it says",
        ),
        pytest.param("????-", [(4, "ProbeDown firing")], id="a new process has time for its first evidence"),
    ],
)
def test_stories_of_a_probe(story: str, expected: list[tuple[int, str]]) -> None:
    """Each sign is a run, 15 s apart."""
    assert expected == told(evaluator(DOWN, BLIND), results(story))


def test_a_burn_is_told_when_both_windows_exceed_the_factor() -> None:
    """99.9 %, ten times: more than 1 % of the hour and of the last five minutes."""
    one = evaluator(PAGE)
    story = "+" * 240 + "---" + "+" * 30

    assert told(one, results(story)) == [
        (242, "ErrorBudgetBurn firing"),
        (262, "ErrorBudgetBurn resolved"),
    ]


@pytest.mark.parametrize(("bad", "fires"), [(1, False), (2, False), (3, True)])
def test_a_threshold_itself_is_not_above_the_threshold(bad: int, fires: bool) -> None:
    """Two of 200 are exactly 1 %, which is ten times 0.1 %: in binary floats that depends on luck, here it does not."""
    pairs = (Windows(200 * STEP, 200 * STEP, Fraction(10)),)
    one = evaluator(BurnRate(alertname="B", severity=Severity.PAGE, objective="front-availability", pairs=pairs))
    for each in results("-" * bad + "+" * (200 - bad)):
        one.observe(each)

    assert fires is bool(one.evaluate(START + 199 * STEP))


def test_the_page_names_the_windows_and_the_last_bad_result() -> None:
    """Annotations may change while it fires, labels may not."""
    one = evaluator(PAGE)
    (page,) = [change for each in results("+" * 240 + "---") for change in _after(one, each)]

    assert dict(page.alert.labels) == {
        "alertname": "ErrorBudgetBurn",
        "severity": "page",
        "objective": "front-availability",
    }
    assert page.alert.annotations["windows"] == "10x over 1h and 5m"
    assert (page.reason, page.probe) == ("timeout", "front")
    assert page.message == f"front timeout at {START + 242 * STEP:.0f}"
    assert page.value == float(Fraction(3, 240) / Fraction(1, 1000))
    assert page.at == page.since == START + 242 * STEP


def test_a_slow_answer_is_bad_and_says_so() -> None:
    """The result was up; for this objective it was too slow."""
    fast = objective("front-fast", target=Fraction(95, 100), slower_than=0.5)
    rule = BurnRate(
        alertname="ErrorBudgetBurn",
        severity=Severity.TICKET,
        objective="front-fast",
        pairs=(Windows(300.0, 300.0, Fraction(2)),),
    )
    one = evaluator(rule, objectives=[fast])
    one.observe(result("+", START, seconds=0.75))
    (ticket,) = one.evaluate(START)

    assert (ticket.reason, ticket.probe) == ("too-slow", "front")
    assert ticket.message == "front took 750ms, wanted at most 500ms"


def test_low_budget_is_told_at_nine_tenths_and_taken_back_when_failures_leave_the_window() -> None:
    """An hour of a run every 15 s at 90 % allows 24 failures; with the 22nd less than a tenth is left."""
    short = objective(target=Fraction(9, 10), window=1.0 * HOUR)
    story = "+" * 10 + "-" * 22 + "+" * 260

    assert told(evaluator(LOW, objectives=[short]), results(story)) == [
        (31, "ErrorBudgetLow firing"),
        (250, "ErrorBudgetLow resolved"),
    ]


def test_a_young_budget_is_that_of_a_full_window() -> None:
    """One failed first run is one of 172.8 that a month allows, and not a thousand budgets."""
    one = evaluator(LOW)
    one.observe(result("-", START))

    budget = one.budget("front-availability", START)
    assert (budget.bad, budget.total, budget.allowed) == (1, 1, Fraction(864, 5))
    assert budget.left == 1 - Fraction(5, 864)
    assert one.evaluate(START) == ()


def test_a_budget_tells_how_fast_it_burns_in_each_window() -> None:
    """Exact fractions; None where nothing was seen."""
    one = evaluator(PAGE)
    for each in results("+" * 230 + "-" * 10):
        one.observe(each)
    now = START + 239 * STEP

    assert one.budget("front-availability", now).burn == {
        5.0 * MINUTE: Fraction(10, 20) * 1000,
        1.0 * HOUR: Fraction(10, 240) * 1000,
    }
    assert one.budget("front-availability", now + HOUR).burn[5.0 * MINUTE] is None


def test_a_target_of_all_runs_has_no_budget_and_any_failure_burns_it() -> None:
    """100 % is a promise too, if a hard one."""
    one = evaluator(PAGE, LOW, objectives=[objective(target=Fraction(1))])

    assert told(one, results("+++-")) == [(3, "ErrorBudgetBurn firing"), (3, "ErrorBudgetLow firing")]
    assert one.budget("front-availability", START + 3 * STEP).left == 0
    json.dumps(one.snapshot(), allow_nan=False)


def test_a_dependency_that_is_down_mutes_and_its_return_does_not() -> None:
    """The probe stays measured; when the name server is back and the shop is not, it pages."""
    one = evaluator(DOWN)
    seen: list[str] = []
    for front, dns in zip("+----+", "+--+++", strict=True):
        now = START + STEP * len(seen)
        one.observe(result(dns, now, name="dns"))
        one.observe(result(front, now))
        seen.append(" ".join(change.after.value for change in one.evaluate(now)))

    assert seen == ["", "", "", "firing", "", "resolved"]


def test_a_broken_dependency_mutes_nothing() -> None:
    """Not to know whether it is down is no reason to be silent."""
    one = evaluator(DOWN)
    one.observe(result("?", START, name="dns"))

    assert told(one, results("-")) == [(0, "ProbeDown firing")]


def test_planned_work_is_no_evidence_and_silent() -> None:
    """Runs that touch the window are not counted, reachability is muted, and both end with it."""
    daily = Maintenance(match={"probe": "front"}, rrule="FREQ=DAILY;BYHOUR=0;BYMINUTE=1", duration=60.0)
    one = evaluator(DOWN, maintenance=[daily])
    story = "+++-----------"

    # 00:01 to 00:02 are the runs 4 to 7.
    assert told(one, results(story)) == [
        (3, "ProbeDown firing"),
        (4, "ProbeDown resolved"),
        (8, "ProbeDown firing"),
    ]
    assert one.events() == {"front-availability": Counts(good=3, bad=6)}
    assert [one.in_maintenance(name, START + 60) for name in ("front", "dns", "nobody")] == [True, False, False]


def test_a_run_that_began_in_planned_work_is_no_evidence() -> None:
    """It was disturbed by the work, although it ended later."""
    daily = Maintenance(match={}, rrule="FREQ=DAILY;BYHOUR=0;BYMINUTE=0", duration=60.0)
    one = evaluator(maintenance=[daily])
    one.observe(result("-", START + 61, seconds=5))

    assert one.events() == {"front-availability": Counts(good=0, bad=0)}


def test_an_objective_judges_all_its_probes_and_no_other() -> None:
    """The last bad result names the probe that it was."""
    both = objective("both", probes=("front", "dns"), target=Fraction(1, 2))
    rule = BurnRate(
        alertname="B", severity=Severity.PAGE, objective="both", pairs=(Windows(300.0, 300.0, Fraction(1)),)
    )
    one = evaluator(rule, objectives=[objective(), both])
    for name, sign in (("front", "+"), ("dns", "-"), ("dns", "-"), ("stranger", "-")):
        one.observe(result(sign, START, name=name))

    assert one.events() == {"front-availability": Counts(1, 0), "both": Counts(1, 2)}
    assert [change.probe for change in one.evaluate(START)] == ["dns"]


def test_active_alerts_are_those_that_are_pending_or_firing() -> None:
    """In the order of the rules."""
    slow = Down(alertname="ProbeDown", severity=Severity.TICKET, probe="front", lasting=60.0)
    one = evaluator(slow, DOWN)
    told(one, results("-"))

    assert [change.after for change in one.active()] == [AlertState.PENDING, AlertState.FIRING]
    told(one, results("+", first=START + STEP))
    assert one.active() == ()


story_signs = st.text("+++++-?.", min_size=1, max_size=120)


def _all_rules() -> tuple[Rule, ...]:
    return (
        *rules_for_objective(objective(window=2.0 * HOUR), [probe()], policy="fast-slow"),
        *rules_for_objective(objective(window=2.0 * HOUR, name="other"), [probe()]),
        *rules_for_probe(probe(), lasting=30),
    )


@given(signs=story_signs, cut=st.integers(0, 120))
@settings(max_examples=60, deadline=None)
def test_a_restart_changes_nothing(signs: str, cut: int) -> None:
    """Snapshot through JSON, a new process, the history replayed: it tells what the old one would have told."""
    objectives = [objective(window=2.0 * HOUR), objective("other", window=2.0 * HOUR)]
    rules = [rule for rule in _all_rules() if not isinstance(rule, NoEvidence)]
    whole, first = evaluator(*rules, objectives=objectives), evaluator(*rules, objectives=objectives)
    story = list(results(signs))
    expected = told(whole, story)

    before, after = story[:cut], story[cut:]
    seen = told(first, before)
    second = evaluator(*rules, objectives=objectives)
    second.restore(json.loads(json.dumps(first.snapshot())))
    second.replay(before)
    assert second.active() == first.active()
    assert {name: counts.total for name, counts in second.events().items()} == {"front-availability": 0, "other": 0}
    if before:
        # The first evaluation of the new process is at the moment of the last one of the old: no time has passed.
        assert second.evaluate(before[-1].finished) == ()
    assert expected == seen + told(second, after)


def test_the_time_between_two_processes_does_not_count_towards_for() -> None:
    """What was pending for 30 of 60 s when the process died is pending for 30 s when it comes back."""
    slow = Down(alertname="ProbeDown", severity=Severity.PAGE, probe="front", lasting=60.0)
    first, second = evaluator(slow), evaluator(slow)
    told(first, results("---"))
    second.restore(first.snapshot())
    back = START + 10 * MINUTE

    assert second.evaluate(back) == ()
    assert second.evaluate(back + 29) == ()
    assert [change.after for change in second.evaluate(back + 30)] == [AlertState.FIRING]


def test_the_replayed_history_tells_how_long_the_old_process_lived() -> None:
    """A snapshot is written when something changes: what was pending since then was pending all the time."""
    slow = Down(alertname="ProbeDown", severity=Severity.PAGE, probe="front", lasting=60.0)
    first, second = evaluator(slow), evaluator(slow)
    story = list(results("----"))
    told(first, story[:1])
    second.restore(first.snapshot())
    second.replay(story)
    back = START + 10 * MINUTE

    assert second.evaluate(back) == ()
    assert [change.after for change in second.evaluate(back + 15)] == [AlertState.FIRING]


def test_an_alert_whose_rule_is_gone_is_resolved() -> None:
    """Whoever was paged hears that it is over, although the configuration changed while nobody ran."""
    first, second = evaluator(DOWN), evaluator()
    told(first, results("-"))
    second.restore(first.snapshot())

    assert [change.alert.name for change in second.active()] == ["ProbeDown"]
    (over,) = second.evaluate(START + 60)
    assert (over.before, over.after, over.at, over.since) == (
        AlertState.FIRING,
        AlertState.RESOLVED,
        START + 60,
        START,
    )
    assert second.active() == ()
    assert second.evaluate(START + 61) == ()


def test_a_snapshot_of_another_version_is_refused() -> None:
    """It says what it saw and what to do."""
    with pytest.raises(ValueError, match="version 99, wanted 1; start without it"):
        evaluator().restore({"version": 99})


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([Down(alertname="D", severity=Severity.PAGE, probe="nobody")], "the probe 'nobody', which is not there"),
        ([BudgetLeft(alertname="L", severity=Severity.INFO, objective="x", below=Fraction(0))], "the objective 'x'"),
        ([DOWN, DOWN], "two rules give the same alert"),
    ],
)
def test_rules_that_cannot_be_are_refused_before_anything_runs(rules: list[Rule], says: str) -> None:
    """Run time has no such error."""
    with pytest.raises(ValueError, match=says):
        evaluator(*rules)


def test_a_late_result_does_not_change_how_a_probe_stands() -> None:
    """The state is that of the run that was decided last; the count knows both."""
    one = evaluator(DOWN)
    one.observe(result("+", START + 30))
    one.observe(result("-", START))

    assert one.evaluate(START + 30) == ()
    assert one.events() == {"front-availability": Counts(1, 1)}


@given(signs=story_signs)
@settings(max_examples=100, deadline=None)
def test_looking_only_at_what_is_going_on_misses_nothing(signs: str) -> None:
    """An evaluation of everything, each time from the beginning, says the same as the one that skips what is quiet."""
    rules = _all_rules()
    objectives = [objective(window=2.0 * HOUR), objective("other", window=2.0 * HOUR)]
    one = Evaluator(objectives, rules, [probe()])
    history: list[Result] = []
    last = START - STEP
    one.evaluate(last)
    for number, sign in enumerate(signs):
        now = START + number * STEP
        if sign != ".":
            history.append(result(sign, now))
            one.observe(history[-1])
        one.evaluate(now)
        met = {change.alert.key for change in one.active()}
        for rule in rules:
            fresh = Evaluator(objectives, [rule], [probe()])
            for each in history:
                fresh.observe(each)
            if isinstance(rule, NoEvidence):
                fresh.evaluate(last)
            fresh.evaluate(now)
            assert {change.alert.key for change in fresh.active()} == {
                key for key in met if dict(key)["alertname"] == rule.alertname and _same(dict(key), rule)
            }


def _same(labels: dict[str, str], rule: Rule) -> bool:
    subject = rule.objective if isinstance(rule, BurnRate | BudgetLeft) else rule.probe
    return labels["severity"] == rule.severity and subject in labels.values()


def test_memory_reaches_back_as_far_as_rules_and_budgets_look() -> None:
    """What a restart has to replay."""
    assert evaluator(PAGE).reach == 30 * DAY
    assert evaluator(PAGE, objectives=[objective(window=0.5 * HOUR)]).reach == 1 * HOUR
    assert Evaluator([], [], []).reach == 0
