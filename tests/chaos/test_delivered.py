"""The last mile of a drill: what it means that the receiver was told, or was not."""

from dataclasses import replace

import pytest

from stormwatch.chaos.detection import SKEW, Observation, detect
from stormwatch.chaos.drill import Drill, ExpectedAlert
from stormwatch.chaos.feed import Delivered, Notified
from stormwatch.chaos.report import Report
from stormwatch.chaos.verdict import Answer, Clause, Verdict, judge
from tests.chaos.stories import DRILL, PAGE, ZERO, alert, observed, red, result

ASKED = replace(DRILL, alert=ExpectedAlert(labels=PAGE, within=90, delivered_within=60))


def delivered(at: float, *, since: float = 20, labels: dict[str, str] = PAGE, resolved: bool = False) -> Delivered:
    """A message that came to the receiver at this second."""
    return Delivered(labels, ZERO + at, ZERO + since, resolved, "drill")


def judged(record: Observation, drill: Drill = ASKED) -> tuple[Verdict, Clause]:
    """The verdict, and the clause about the delivery."""
    judgement = judge(drill, detect(drill, record))
    (clause,) = [clause for clause in judgement.clauses if clause.name == "delivered"]
    return judgement.verdict, clause


SILENT = observed(
    watched_until=120,
    reverted=120,
    ended=160,
    transitions=[alert(20), alert(130, "resolved")],
    results=[result(-10), red(12), result(130)],
)


@pytest.mark.parametrize(
    ("record", "verdict", "answer", "seen"),
    [
        (replace(SILENT, deliveries=(delivered(31),)), Verdict.PROVED, Answer.YES, "after 31.0 s"),
        (replace(SILENT, deliveries=(delivered(61),)), Verdict.LATE, Answer.NO, "after 61.0 s"),
        (SILENT, Verdict.MISSED, Answer.NO, "nothing came in 120 s"),
        (
            replace(SILENT, notifications=(Notified(PAGE, ZERO + 21, ZERO + 20, "silence 6f1c"),)),
            Verdict.MISSED,
            Answer.NO,
            "nothing came in 120 s; Alertmanager holds it back: silence 6f1c",
        ),
        (
            replace(SILENT, deliveries=(delivered(31, labels={**PAGE, "severity": "ticket"}),)),
            Verdict.MISSED,
            Answer.NO,
            "nothing came in 120 s",
        ),
        (replace(SILENT, deliveries=(delivered(31, since=-300),)), Verdict.MISSED, Answer.NO, "nothing came in 120 s"),
        (
            replace(SILENT, deliveries=(delivered(31, resolved=True),)),
            Verdict.MISSED,
            Answer.NO,
            "nothing came in 120 s",
        ),
        (
            observed(trouble="Prometheus at x cannot be watched"),
            Verdict.INCONCLUSIVE,
            Answer.INCONCLUSIVE,
            "watched for 30.0 s only: Prometheus at x cannot be watched",
        ),
    ],
)
def test_each_end_of_the_last_mile(record: Observation, verdict: Verdict, answer: Answer, seen: str) -> None:
    """In time, late, never, held back, with other labels, about something earlier, the all-clear alone; and not known."""
    found, clause = judged(record)
    assert (found, clause.answer, clause.seen) == (verdict, answer, seen)
    assert clause.asked == "the receiver is told of it within 1m"


def test_a_message_may_come_before_the_alert_was_seen_to_fire() -> None:
    """A look is a second apart from the next; by the alert's own clock, which may go wrong by a little, it is this one."""
    found, _ = judged(replace(SILENT, deliveries=(delivered(19.5, since=-SKEW + 0.1),)))
    assert found is Verdict.PROVED
    seen = detect(ASKED, replace(SILENT, notifications=(Notified(PAGE, ZERO + 19.7, ZERO + 19.6),)))
    assert seen.notified == ZERO + 19.7
    # Whoever does not say since when it fires must not have told before it was seen to fire.
    assert detect(ASKED, replace(SILENT, notifications=(Notified(PAGE, ZERO + 19.7),))).notified is None
    assert all(link.seconds >= 0 for link in seen.detection_links())


def test_what_is_held_back_notifies_nobody() -> None:
    """Until it is let go."""
    held = (Notified(PAGE, ZERO + 21, ZERO + 20, "silence 6f1c"), Notified(PAGE, ZERO + 40, ZERO + 20))
    assert detect(ASKED, replace(SILENT, notifications=held)).notified == ZERO + 40


def test_the_all_clear_is_recorded_and_survives_json() -> None:
    """The chain of the recovery ends at the receiver; a report that is read again says the same."""
    record = replace(SILENT, deliveries=(delivered(31), delivered(133, resolved=True)))
    detection = detect(ASKED, record)
    assert (detection.delivered, detection.cleared) == (ZERO + 31, ZERO + 133)
    assert [link.name for link in detection.recovery_links()][-1] == "all-clear at the receiver"
    report = Report(drill=ASKED, detection=detection, judgement=judge(ASKED, detection))
    assert Report.from_json(report.as_json()) == report


def test_a_report_of_before_is_read_as_one_without_deliveries() -> None:
    """Its drill asked for none."""
    detection = detect(DRILL, observed())
    document = Report(drill=DRILL, detection=detection, judgement=judge(DRILL, detection)).as_json()
    del document["drill"]["alert"]["delivered_within"]
    del document["detection"]["observed"]["deliveries"]
    for notified in document["detection"]["observed"]["notifications"]:
        del notified["since"], notified["held_back"]
    assert Report.from_json(document).verdict is Verdict.PROVED
