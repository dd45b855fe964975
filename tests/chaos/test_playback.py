"""Recordings judged again: the same verdict with the same rules; with slower ones the fault is held on paper."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.chaos.drill import ExpectedProbe
from stormwatch.chaos.playback import Monitoring, Replayed, judged_as_recorded, replay, replay_rules
from stormwatch.chaos.verdict import Verdict
from stormwatch.probes.result import Outcome
from stormwatch.slo.alert import AlertState
from stormwatch.slo.identity import labels_of
from stormwatch.slo.policy import rules_for_probe
from stormwatch.slo.quorum import rules_for_peers
from tests.chaos.tapes import (
    BURN,
    PAGE,
    REVERTED,
    ZERO,
    burning,
    control,
    drill,
    earlier,
    healthy,
    monitoring,
    objective,
    probe,
    run,
    runs,
    tape,
)

PLAIN = monitoring()


def lasting(seconds: float) -> Monitoring:
    """The probe's alert fires after so many seconds."""
    return replace(PLAIN, rules=rules_for_probe(probe(), lasting=seconds))


def fired(replayed: Replayed) -> list[float]:
    """When alerts fired, in seconds after the injection."""
    return [round(one.at - ZERO, 1) for one in replayed.transitions if one.after is AlertState.FIRING]


def verdict(replayed: Replayed) -> Verdict:
    """Of a drill."""
    assert replayed.judgement is not None
    return replayed.judgement.verdict


def test_the_same_rules_give_the_same_again() -> None:
    """Every transition at its moment, and every clause."""
    recorded = tape(PLAIN, drill(), runs())
    again = replay(PLAIN, recorded)
    assert again.transitions == recorded.transitions
    assert again.judgement == judged_as_recorded(recorded)
    assert (again.told, fired(again)) == ("proved", [5.7])


def test_a_slower_rule_finds_the_fault_held_for_as_long_as_the_drill_would_have() -> None:
    """The recording ends 25 s after its injection; the alert would have come after a minute."""
    recorded = tape(PLAIN, drill(within=90), runs())
    held = replay(lasting(60.0), recorded)
    assert held.observation is not None
    assert held.observation.reverted is not None
    assert verdict(held) is Verdict.PROVED
    assert 65 < fired(held)[0] < 67
    taken_back = held.observation.reverted - ZERO
    assert fired(held)[0] + 1.99 <= taken_back < fired(held)[0] + 4, "two seconds of looking for noise, as a drill does"
    # What followed comes later by as much as the fault was held for longer.
    recovery = [one.at - held.observation.reverted for one in held.observation.sightings if one.outcome is Outcome.UP]
    assert recovery[-2:] == pytest.approx([36.1 - REVERTED, 46.1 - REVERTED])


def test_a_rule_that_is_slower_than_the_drill_waits_is_missed() -> None:
    """It is held until the drill would have given up: half of the limit beyond it."""
    recorded = tape(PLAIN, drill(within=40, probe=ExpectedProbe(name="shop", within=30)), runs())
    given_up = replay(lasting(300.0), recorded)
    assert verdict(given_up) is Verdict.MISSED
    assert given_up.observation is not None
    assert given_up.observation.reverted == pytest.approx(ZERO + 60)
    assert verdict(replay(lasting(45.0), recorded)) is Verdict.LATE


def test_an_alert_that_goes_on_after_the_recording_is_waited_for() -> None:
    """All goes on as it was last, until it resolves or the drill would have given up."""
    soon, late = (drill(resolves_within=limit) for limit in (50, 400))
    keeps = replace(PLAIN, rules=rules_for_probe(probe(), keep=100.0))
    assert verdict(replay(keeps, tape(PLAIN, soon, runs()))) is Verdict.NOT_RESOLVED
    waited = replay(keeps, tape(PLAIN, late, runs()))
    assert verdict(waited) is Verdict.PROVED
    resolved = [one.at - ZERO for one in waited.transitions if one.after is AlertState.RESOLVED]
    assert resolved == pytest.approx([36.1 + 100], abs=1.1)


def test_a_drill_that_was_cut_short_is_not_held() -> None:
    """Nobody knows what would have come."""
    recorded = tape(PLAIN, drill(), runs())
    assert recorded.report is not None
    seen = recorded.report.detection.observed
    cut = replace(
        recorded,
        report=replace(
            recorded.report, detection=replace(recorded.report.detection, observed=replace(seen, trouble="lost"))
        ),
    )
    assert verdict(replay(lasting(60.0), cut)) is Verdict.INCONCLUSIVE


def test_the_windows_know_what_was_before() -> None:
    """Three failures are all there is, or three of forty."""
    watched = monitoring(*burning((360, 60, 10)), objectives=(objective(),))
    asked = drill(BURN, within=30, allow=("shop",), resolves_within=600)
    alone = control(runs())
    assert f"{BURN['alertname']}" in replay(watched, alone).told
    diluted = control(runs(), earlier=earlier(40))
    assert f"{BURN['alertname']}" not in replay(watched, diluted).told
    assert asked.expects(BURN)


def test_what_is_known_of_a_probe_when_it_begins_is_counted_once() -> None:
    """Its last result stands in the history as well."""
    watched = monitoring(*burning((360, 60, 10)), objectives=(objective(),))
    last = run(-20, "timeout")
    row = earlier(0, 1)[0]
    both = control(healthy(), latest=(last,), earlier=(replace(row, finished=last.finished),))
    once = control(healthy(), latest=(last,))
    assert replay(watched, both).transitions == replay(watched, once).transitions


def test_an_alert_that_fired_before_is_no_news() -> None:
    """It goes on firing, and is not counted as noise."""
    firing = replay(PLAIN, control(runs())).transitions[0]
    before = replace(firing, at=ZERO - 30, since=ZERO - 30)
    down = [run(at, "timeout") for at in (-15, -5, 5, 15)]
    again = replay(PLAIN, control(down, latest=(run(-25, "timeout"),), active=(before,), ended=40))
    assert again.told == "silent"


def test_what_others_saw_is_not_pretended() -> None:
    """Nobody answers in a recording: the silence of peers is no alarm."""
    watched = replace(PLAIN, rules=(*PLAIN.rules, *rules_for_peers(("ams", "nyc"))))
    assert replay(watched, control(healthy(), ended=75)).told == "silent"


STORIES = st.lists(st.sampled_from(["", "timeout", "status"]), min_size=3, max_size=9)


@given(story=STORIES, seconds=st.sampled_from([0.0, 12.0]), share=st.integers(min_value=0, max_value=3))
@settings(max_examples=25, deadline=None)
def test_a_rule_alone_says_what_it_says_among_all(story: list[str], seconds: float, share: int) -> None:
    """What is left out when a mutant changes one rule only is what cannot change."""
    rules = (*lasting(seconds).rules, *burning((360, 60, 10), (720, 90, 5)))
    watched = Monitoring(probes=(probe(),), rules=rules, objectives=(objective(),))
    results = [run(10 * number, reason) for number, reason in enumerate(story)]
    recorded = control(results, earlier=earlier(20 - share, share), ended=120)
    whole = replay(watched, recorded)
    for rule in rules:
        alone = replay_rules(watched, (rule,), recorded, whole.steps)
        assert list(alone) == [one for one in whole.transitions if one.alert.labels == labels_of(rule)]


@given(
    story=STORIES,
    seconds=st.sampled_from([0.0, 12.0]),
    within=st.sampled_from([12.0, 60.0]),
    reverted=st.sampled_from([25.0, 36.5]),
)
@settings(max_examples=25, deadline=None)
def test_replaying_what_was_replayed_changes_nothing(
    story: list[str], seconds: float, within: float, reverted: float
) -> None:
    """Whatever a probe saw: a drill that came to its verdict comes to it again."""
    watched = lasting(seconds)
    asked = drill(within=within, probe=ExpectedProbe(name="shop", within=within))
    results = [run(-15), *(run(10 * number, reason) for number, reason in enumerate(story, 1))]
    recorded = tape(watched, asked, results, reverted=reverted, ended=reverted + 61)
    again = replay(watched, recorded)
    assert again.judgement == judged_as_recorded(recorded)
    assert again.transitions == recorded.transitions


def test_only_the_page_is_judged_and_not_its_delivery() -> None:
    """What lies behind the evaluation is not replayed."""
    asked = drill()
    assert asked.alert is not None
    delivered = replace(asked, alert=replace(asked.alert, delivered_within=60.0))
    recorded = tape(PLAIN, asked, runs())
    assert recorded.report is not None
    with_delivery = replace(recorded, report=replace(recorded.report, drill=delivered))
    assert replay(PLAIN, with_delivery).told == "proved"
    assert dict(recorded.transitions[0].alert.labels) == PAGE
