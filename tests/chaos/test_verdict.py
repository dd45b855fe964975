"""The judgement: each verdict as a story, mixtures of them, and what holds for every story there could be."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.chaos.detection import Observation, detect
from stormwatch.chaos.drill import Drill
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.feed import Notified
from stormwatch.chaos.verdict import Answer, Verdict, exit_code, judge
from stormwatch.probes.result import Outcome, Reason
from tests.chaos.stories import (
    DRILL,
    GOOD_RESULTS,
    GOOD_TRANSITIONS,
    PAGE,
    ZERO,
    alert,
    observed,
    other,
    red,
    result,
)

NOISE = alert(25, labels=other("ProbeDown", probe="front"))
"""A page about a probe that nobody expected to fail."""
TICKET = {**PAGE, "severity": "ticket"}
NOTHING = Evidence()

STORIES: dict[str, tuple[Verdict, Observation]] = {
    "all is seen in time and recovers": (Verdict.PROVED, observed()),
    "an allowed objective fires too": (
        Verdict.PROVED,
        observed(transitions=[*GOOD_TRANSITIONS, alert(25, labels=other("ErrorBudgetBurn", objective="front-fast"))]),
    ),
    "the expected probe's own alert fires too": (
        Verdict.PROVED,
        observed(transitions=[*GOOD_TRANSITIONS, alert(25, labels=other("ProbeDown", probe="checkout"))]),
    ),
    "the expected objective's ticket fires too": (
        Verdict.PROVED,
        observed(transitions=[*GOOD_TRANSITIONS, alert(25, labels=TICKET)]),
    ),
    "another alert fired before and fires on": (
        Verdict.PROVED,
        observed(transitions=[*GOOD_TRANSITIONS, NOISE], fired_before=(other("ProbeDown", probe="front"),)),
    ),
    "another alert was on its way before the fault": (
        Verdict.PROVED,
        observed(transitions=[*GOOD_TRANSITIONS, alert(5, labels=other("ProbeDown", probe="front"), since=-20)]),
    ),
    "the probe sees other reasons first, then the right one": (
        Verdict.PROVED,
        observed([result(-10), red(5, "reset"), red(12), result(45)]),
    ),
    "the probe is red again and then green": (
        Verdict.PROVED,
        observed([result(-10), red(12), result(35), red(40), result(45)]),
    ),
    "nobody notices anything": (
        Verdict.MISSED,
        observed([result(-10), result(20), result(80)], [], watched_until=140, reverted=140, ended=141),
    ),
    "the probe turns red and no alert fires": (
        Verdict.MISSED,
        observed(
            [*GOOD_RESULTS], [alert(13, "pending"), alert(40, "inactive")], watched_until=140, reverted=140, ended=141
        ),
    ),
    "the alert fires too late": (
        Verdict.LATE,
        observed(
            [red(12), result(150)], [alert(100), alert(160, "resolved")], watched_until=120, reverted=120, ended=165
        ),
    ),
    "the probe turns red too late": (
        Verdict.LATE,
        observed(
            [result(20), red(70), result(100)],
            [alert(75), alert(105, "resolved")],
            watched_until=80,
            reverted=80,
            ended=110,
        ),
    ),
    "late and noisy is late": (
        Verdict.LATE,
        observed(
            [red(12), result(150)],
            [NOISE, alert(100), alert(160, "resolved")],
            watched_until=120,
            reverted=120,
            ended=165,
        ),
    ),
    "another alert fires instead": (
        Verdict.MISATTRIBUTED,
        observed([red(12), result(150)], [NOISE], watched_until=140, reverted=140, ended=151),
    ),
    "only the ticket fires, not the page": (
        Verdict.MISATTRIBUTED,
        observed([red(12), result(150)], [alert(20, labels=TICKET)], watched_until=140, reverted=140, ended=151),
    ),
    "only an allowed alert fires": (
        Verdict.MISATTRIBUTED,
        observed(
            [red(12), result(150)],
            [alert(20, labels=other("ErrorBudgetBurn", objective="front-fast"))],
            watched_until=140,
            reverted=140,
            ended=151,
        ),
    ),
    "the probe fails for another reason": (
        Verdict.MISATTRIBUTED,
        observed([red(12, "refused"), result(150)], watched_until=140, reverted=140, ended=151),
    ),
    "the alert fires and the expected probe stays green": (
        Verdict.MISATTRIBUTED,
        observed([result(12), result(60)], watched_until=140, reverted=140, ended=160),
    ),
    "another alert fires beside the expected one": (
        Verdict.NOISY,
        observed(transitions=[*GOOD_TRANSITIONS, NOISE]),
    ),
    "another alert fires after the undo": (
        Verdict.NOISY,
        observed(transitions=[*GOOD_TRANSITIONS, alert(50, labels=other("ProbeDown", probe="front"))]),
    ),
    "noise ended the drill before the alert could fire": (
        Verdict.NOISY,
        observed([red(12), result(45)], [alert(13, "pending"), NOISE], trouble="ended early"),
    ),
    "the alert fires on": (
        Verdict.NOT_RESOLVED,
        observed(transitions=GOOD_TRANSITIONS[:2], ended=331),
    ),
    "the alert resolves too late": (
        Verdict.NOT_RESOLVED,
        observed(transitions=[alert(20), alert(400, "resolved")], ended=401),
    ),
    "the alert resolves and fires again": (
        Verdict.NOT_RESOLVED,
        observed(transitions=[*GOOD_TRANSITIONS, alert(55)], ended=331),
    ),
    "the probe stays red": (Verdict.NOT_RESOLVED, observed([red(12), red(27), red(320)], ended=331)),
    "the probe is green for a moment and red again": (
        Verdict.NOT_RESOLVED,
        observed([red(12), result(35), red(40), red(320)], ended=331),
    ),
    "not resolved and noisy is not resolved": (
        Verdict.NOT_RESOLVED,
        observed(transitions=[*GOOD_TRANSITIONS[:2], NOISE], ended=331),
    ),
    "no traffic meets the fault": (Verdict.INCONCLUSIVE, observed(evidence=NOTHING)),
    "no traffic meets the fault and nothing is seen": (
        Verdict.INCONCLUSIVE,
        observed([result(20)], [], evidence=NOTHING, watched_until=140, reverted=140, ended=141),
    ),
    "all was not well before": (
        Verdict.INCONCLUSIVE,
        Observation(started=ZERO, ended=ZERO + 30, baseline="checkout is down: timeout"),
    ),
    "the fault could not be injected": (
        Verdict.INCONCLUSIVE,
        Observation(started=ZERO, ended=ZERO + 1, trouble="the proxy does not answer"),
    ),
    "the monitoring died before the alert": (
        Verdict.INCONCLUSIVE,
        observed([red(12)], [], trouble="the monitoring could not be watched", watched_until=15, reverted=15),
    ),
    "the monitoring died during the recovery": (
        Verdict.INCONCLUSIVE,
        observed(GOOD_RESULTS[:3], GOOD_TRANSITIONS[:2], trouble="the monitoring could not be watched", ended=40),
    ),
    "the fault ended by itself before it was seen": (
        Verdict.INCONCLUSIVE,
        observed([result(8)], [], trouble="the lease ran out", watched_until=10, reverted=11),
    ),
    "the probe was broken all the time": (
        Verdict.INCONCLUSIVE,
        observed(
            [result(12, "broken", "browser"), result(70, "broken", "browser")],
            [],
            watched_until=140,
            reverted=140,
            ended=141,
        ),
    ),
    "the probe did not run": (
        Verdict.INCONCLUSIVE,
        observed([result(-10)], [], watched_until=140, reverted=140, ended=141),
    ),
    "the fault may still be in place": (
        Verdict.UNSAFE,
        observed(gone=False, reverted=0, trouble="the proxy does not answer"),
    ),
    "the injection failed half way and cannot be undone": (
        Verdict.UNSAFE,
        Observation(started=ZERO, ended=ZERO + 30, gone=False, trouble="the proxy does not answer"),
    ),
    "unsafe weighs more than everything": (
        Verdict.UNSAFE,
        observed([result(5)], [NOISE], evidence=NOTHING, gone=False, trouble="no answer"),
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_each_story_has_its_verdict(story: str) -> None:
    """The table above."""
    verdict, record = STORIES[story]
    assert verdict is judge(DRILL, detect(DRILL, record)).verdict


@pytest.mark.parametrize("story", STORIES)
def test_a_record_judged_again_from_its_json_has_the_same_judgement(story: str) -> None:
    """Drill and observation are read back equal, so that old drills can be judged by new rules."""
    _, record = STORIES[story]
    again = Observation.from_json(record.as_json())
    assert record == again
    assert judge(DRILL, detect(DRILL, record)) == judge(
        Drill.from_json(DRILL.as_json()), detect(Drill.from_json(DRILL.as_json()), again)
    )


def test_every_verdict_has_a_story() -> None:
    """None of the eight is without."""
    assert set(Verdict) == {verdict for verdict, _ in STORIES.values()}


def test_the_clauses_say_what_was_asked_and_seen() -> None:
    """In the order in which things happen, each with its answer."""
    judgement = judge(DRILL, detect(DRILL, observed(transitions=[*GOOD_TRANSITIONS, NOISE])))
    assert [(clause.name, clause.answer.value, clause.asked, clause.seen) for clause in judgement.clauses] == [
        ("baseline", "yes", "all is well before the fault", "checkout was up"),
        ("bites", "yes", "traffic meets the fault", "3 connections, 900 bytes; first after 0.50 s"),
        ("probe", "yes", "checkout turns red within 1m", "after 12.0 s"),
        ("reason", "yes", "reason timeout", "timeout seen"),
        (
            "alert",
            "yes",
            "ErrorBudgetBurn{objective=checkout-availability, severity=page} fires within 1m30s",
            "after 20.0 s",
        ),
        (
            "silence",
            "no",
            "no other alert fires (allowed: front-fast)",
            "ProbeDown{severity=page, probe=front} after 25.0 s",
        ),
        ("undone", "yes", "the fault is taken back, and proved to be gone", "nothing is left"),
        ("green", "yes", "checkout is green within 5m after the undo", "after 15.0 s"),
        ("resolved", "yes", "the alert resolves within 5m after the undo", "after 22.0 s"),
    ]


def test_a_drill_without_a_probe_is_judged_by_its_alert() -> None:
    """And one without an alert by its probe."""
    alert_only, probe_only = replace(DRILL, probe=None), replace(DRILL, alert=None)
    assert judge(alert_only, detect(alert_only, observed([]))).verdict is Verdict.PROVED
    assert judge(probe_only, detect(probe_only, observed(transitions=[]))).verdict is Verdict.PROVED
    assert judge(probe_only, detect(probe_only, observed())).verdict is Verdict.NOISY


def test_the_slowest_link_is_named() -> None:
    """From the injection to the receiver; recovery has links of its own."""
    detection = detect(DRILL, observed())
    assert [(link.end, round(link.seconds, 3)) for link in detection.detection_links()] == [
        ("touched", 0.5),
        ("first_red", 11.5),
        ("pending", 1.0),
        ("firing", 7.0),
        ("notified", 0.5),
    ]
    assert [(link.end, round(link.seconds, 3)) for link in detection.recovery_links()] == [
        ("green", 15.0),
        ("resolved", 7.0),
    ]
    slowest = detection.slowest_link()
    assert slowest is not None
    assert slowest.name == "probe turns red"


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 0),
        (["proved", "proved"], 0),
        (["proved", "inconclusive"], 3),
        (["inconclusive", "missed"], 1),
        (["late"], 1),
        (["noisy"], 1),
        (["misattributed"], 1),
        (["not-resolved"], 1),
        (["missed", "unsafe", "inconclusive"], 4),
    ],
)
def test_the_exit_code_is_the_gravest(verdicts: list[str], code: int) -> None:
    """4 a fault may be left, 1 not good, 3 no verdict, 0 proved."""
    assert code == exit_code(Verdict(verdict) for verdict in verdicts)


# What holds for every story.

moments = st.floats(-30, 400).map(lambda at: round(at, 1))
sightings = st.lists(
    st.builds(
        result,
        moments,
        st.sampled_from(["up", "down", "broken"]),
        st.sampled_from(["timeout", "reset", "status"]),
    ),
    max_size=8,
)
transitions = st.lists(
    st.builds(
        alert,
        moments,
        st.sampled_from(["pending", "firing", "resolved"]),
        st.sampled_from([PAGE, TICKET, other("ProbeDown", probe="front"), other("ProbeDown", probe="checkout")]),
    ),
    max_size=8,
)
evidences = st.sampled_from([NOTHING, Evidence(connections=1, first=ZERO + 1, last=ZERO + 2)])


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """Anything that might have been recorded."""
    injected = draw(st.sampled_from([None, ZERO, ZERO]))
    reverted = draw(st.sampled_from([None, 30.0, 140.0]))
    return Observation(
        started=ZERO - 20,
        ended=ZERO + draw(st.sampled_from([145.0, 200.0, 445.0])),
        injected=injected,
        watched_until=draw(st.sampled_from([None, ZERO + 20, ZERO + 140])),
        reverted=None if reverted is None or injected is None else ZERO + reverted,
        gone=draw(st.sampled_from([True, True, True, False])),
        evidence=draw(evidences),
        baseline="" if injected else "not well",
        trouble=draw(st.sampled_from(["", "", "", "the feed died"])),
        sightings=tuple(sorted(draw(sightings), key=lambda one: one.at)),
        transitions=tuple(sorted(draw(transitions), key=lambda one: one.at)),
        notifications=tuple(draw(st.lists(st.builds(lambda at: Notified(PAGE, ZERO + at), moments), max_size=2))),
    )


@given(observations())
def test_no_verdict_is_proved_without_its_proofs(record: Observation) -> None:
    """Injected, touched, seen in time for the right reason, silent otherwise, gone, recovered: all of it."""
    detection = detect(DRILL, record)
    judgement = judge(DRILL, detection)
    if judgement.verdict is not Verdict.PROVED:
        return
    assert all(clause.answer is Answer.YES for clause in judgement.clauses)
    assert record.gone
    assert record.injected is not None
    assert record.evidence.touched
    assert not record.trouble
    assert detection.firing is not None
    assert detection.firing - record.injected <= 90
    assert any(
        one.reason is Reason.TIMEOUT and one.outcome is Outcome.DOWN and 0 <= one.at - record.injected <= 60
        for one in record.sightings
    )
    assert detection.green is not None
    assert detection.resolved is not None
    assert record.reverted is not None
    assert detection.green - record.reverted <= 300
    assert not any(
        one.alert.labels.get("probe") == "front" and one.after == "firing" and one.at >= record.injected
        for one in record.transitions
    )


@given(observations())
def test_a_fault_that_may_be_in_place_is_always_unsafe_and_only_that(record: Observation) -> None:
    """Whatever else was seen."""
    verdict = judge(DRILL, detect(DRILL, record)).verdict
    assert (verdict is Verdict.UNSAFE) == (not record.gone)


@given(observations())
def test_untouched_traffic_never_blames_the_monitoring(record: Observation) -> None:
    """Without proof that the fault bites there is no verdict about who noticed."""
    verdict = judge(DRILL, detect(DRILL, replace(record, evidence=NOTHING))).verdict
    assert verdict in (Verdict.INCONCLUSIVE, Verdict.UNSAFE)


@given(observations())
def test_any_record_survives_json(record: Observation) -> None:
    """Read back equal."""
    assert record == Observation.from_json(record.as_json())


@given(observations(), st.integers(1, 40))
def test_more_noise_never_improves_a_verdict(record: Observation, at: int) -> None:
    """An unexpected page makes nothing proved that was not, and whatever was proved is not any more."""
    record = replace(record, fired_before=())
    noisy = replace(record, transitions=(*record.transitions, alert(at, labels=other("ProbeDown", probe="front"))))
    verdict = judge(DRILL, detect(DRILL, noisy)).verdict
    assert verdict is not Verdict.PROVED


def test_good_is_good() -> None:
    """The story that the others are variations of is itself in the space of the properties."""
    assert judge(DRILL, detect(DRILL, observed(GOOD_RESULTS))).verdict is Verdict.PROVED
