"""The judgement of a cell and what follows from all of them: score, survivors, what the alerts are worth."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.matrix import Control, Matrix, Outcome, Score, explain, merge
from stormwatch.chaos.matrix_cell import Sight, State, judge_cell
from stormwatch.chaos.matrix_plan import Skipped
from tests.chaos.cells import TOUCHED, alarm, cell, labels, outcome, red, sight

UNTOUCHED = Evidence()


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (sight(alarm()), State.KILLED),
        (sight(alarm(after=10.0)), State.KILLED),
        (sight(alarm(after=10.1)), State.LATE),
        (sight(alarm(), alarm("front", 4.0)), State.NOISY),
        (sight(alarm(), alarm("front", 4.0, stale=True)), State.KILLED),
        (sight(alarm(), recovered=None), State.NOT_RESOLVED),
        (sight(alarm("front")), State.MISATTRIBUTED),
        (sight(alarm("front", stale=True)), State.SURVIVED),
        (sight(alarm(stale=True)), State.SURVIVED),
        (sight(reds=(red(),)), State.NOTICED),
        (sight(), State.SURVIVED),
        (sight(watched=9.0), State.INCONCLUSIVE),
        (sight(busy=(labels("pay"),)), State.INCONCLUSIVE),
        (sight(alarm(), busy=(labels("pay"),)), State.KILLED),
        (sight(evidence=UNTOUCHED), State.EQUIVALENT),
        (sight(alarm("front"), evidence=UNTOUCHED), State.EQUIVALENT),
        (sight(alarm(), trouble="the lease ran out"), State.INCONCLUSIVE),
        (sight(watched=None, held=None), State.INCONCLUSIVE),
        (sight(alarm(), gone=False), State.UNSAFE),
    ],
)
def test_how_a_cell_ended_follows_from_what_was_seen(seen: Sight, state: State) -> None:
    """Told in time by whom it concerns; else the gravest thing that is known, and nothing that is not."""
    assert judge_cell(cell(), seen) is state


def test_what_nobody_is_known_to_depend_on_is_told_of_by_any_alert() -> None:
    """Without subjects every alert may fire, so that none is noise."""
    unknown = cell(subjects=(), probes=("pay",))

    assert judge_cell(unknown, sight(alarm(), alarm("front", 4.0))) is State.KILLED


def test_cells_disturb_each_other_where_somebody_depends_on_both() -> None:
    """Or where it is not known who depends on one of them."""
    payments, hotel, checkout = cell(probes=("pay",)), cell(probes=("hotel",)), cell(probes=("pay", "journey"))
    unknown = cell(subjects=(), probes=("other",))

    assert not payments.disturbs(hotel)
    assert payments.disturbs(checkout)
    assert checkout.disturbs(payments)
    assert unknown.disturbs(hotel)
    assert hotel.disturbs(unknown)


@pytest.mark.parametrize(
    ("killed", "of", "low", "high"),
    [
        (0, 0, 0.0, 1.0),
        (0, 10, 0.0, 0.27753),
        (10, 10, 0.72247, 1.0),
        (5, 10, 0.23659, 0.76341),
        (81, 263, 0.25529, 0.36620),
    ],
)
def test_the_interval_is_that_of_wilson(killed: int, of: int, low: float, high: float) -> None:
    """The figures of 81 of 263 are those of R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3."""
    assert Score(killed, of).interval == pytest.approx((low, high), abs=5e-5)


def matrix(*outcomes: Outcome, **more: Any) -> Matrix:
    alerts = tuple(labels(one) for one in ("pay", "shop", "front"))
    return Matrix(**{"outcomes": outcomes, "alerts": alerts, "planned": len(outcomes), **more})


def test_the_score_leaves_out_what_proves_nothing() -> None:
    """It is killed / (all - equivalent - inconclusive); noisy and late ones are no kills."""
    found = matrix(
        outcome("a", "pay"),
        outcome("b"),
        outcome("c", evidence=UNTOUCHED),
        outcome("d", trouble="blind"),
        Outcome(cell=cell(), sight=sight(alarm(), alarm("front"))),
    )

    assert found.score == Score(1, 3)
    assert [one.cell.name for one in found.survivors] == ["payments/b"]


def test_scores_are_told_by_dependency_and_by_family() -> None:
    """In the order in which they came."""
    found = matrix(outcome("a", "pay"), outcome("b", target="hotel"), outcome("c", "pay", target="hotel"))

    assert found.by("dependency") == {"payments": Score(1, 1), "hotel": Score(1, 2)}
    assert found.by("family") == {"tcp": Score(2, 3)}


def test_what_ends_differently_when_repeated_is_flaky() -> None:
    """Outcomes of one cell become one; a fault that may be in place weighs more than that."""
    (merged,) = merge([outcome("a", "pay"), outcome("a"), outcome("a", "pay")])
    (unsafe,) = merge([outcome("a", "pay"), outcome("a", gone=False)])
    (steady,) = merge([outcome("a", "pay"), outcome("a", "shop")])

    assert merged.state is State.FLAKY
    assert explain(merged)["what"].endswith("it ended differently when it was run again: killed, survived, killed")
    assert len(merged.repeats) == 2
    assert unsafe.state is State.UNSAFE
    assert steady.state is State.KILLED


def test_alerts_that_never_fired_are_those_that_were_given_the_time() -> None:
    """What needs longer than a cell waits may be as good as any."""
    found = matrix(outcome("a", "pay"), untimed=(labels("front"),))

    assert found.never_fired() == (labels("shop"),)


def test_a_fault_that_one_alert_alone_tells_of_hangs_on_it() -> None:
    """Told by two, it does not."""
    found = matrix(outcome("a", "pay"), outcome("b", "pay", "shop"), outcome("c", "pay"))

    assert {dict(key)["probe"]: cells for key, cells in found.single_catchers().items()} == {
        "pay": ("payments/a", "payments/c")
    }


def test_an_alert_that_fires_for_everything_says_little() -> None:
    """For more than half of what was told of, on more than one dependency."""
    everywhere = matrix(outcome("a", "pay", "front"), outcome("b", "front", target="hotel"))
    at_home = matrix(outcome("a", "pay"), outcome("b", "pay"))

    assert {dict(key)["probe"]: share for key, share in everywhere.vague().items()} == {"front": 1.0}
    assert at_home.vague() == {}


def test_the_smallest_set_of_alerts_tells_of_all_that_was_told_of() -> None:
    """Greedy: the one that tells of most first."""
    found = matrix(
        outcome("a", "pay", "front"),
        outcome("b", "front"),
        outcome("c", "shop"),
        outcome("d", "pay", "shop"),
        outcome("e"),
    )

    assert {dict(key)["probe"] for key in found.smallest_set()} == {"front", "shop"}


@pytest.mark.parametrize(
    ("outcomes", "more", "code"),
    [
        ([outcome("a", "pay")], {}, 0),
        ([outcome("a", "pay"), outcome("b", evidence=UNTOUCHED)], {}, 0),
        ([outcome("a", "pay"), outcome("b")], {}, 1),
        ([outcome("a", "pay")], {"controls": (Control(started=1.0, seconds=9.0, alarms=(alarm(),)),)}, 1),
        ([outcome("a", "pay"), outcome("b", trouble="blind")], {}, 3),
        ([outcome("a", "pay")], {"planned": 2}, 3),
        ([outcome("a", "pay")], {"repeat": 2}, 3),
        (merge([outcome("a", "pay"), outcome("a", "pay")]), {"repeat": 2}, 0),
        ([outcome("a", evidence=UNTOUCHED)], {}, 3),
        ([outcome("a", gone=False), outcome("b")], {}, 4),
        ([outcome("a", "pay")], {"checks": (outcome("at full scale", "pay"),)}, 0),
        ([outcome("a", "pay")], {"checks": (outcome("at full scale"),)}, 1),
        ([outcome("a", "pay")], {"checks": (outcome("at full scale", trouble="blind"),)}, 3),
        ([outcome("a", "pay")], {"checks": (outcome("at full scale", gone=False),)}, 4),
    ],
)
def test_the_exit_code_is_that_of_drills(outcomes: Sequence[Outcome], more: dict[str, Any], code: int) -> None:
    """0 all was told of, 1 something was not (or a false alarm), 3 not all is known, 4 a fault may be in place."""
    assert matrix(*outcomes, **more).exit_code == code


def test_a_report_is_read_again_and_judged_anew() -> None:
    """The states in the file are for other readers: ours are made of what was seen."""
    found = matrix(
        outcome("a", "pay"),
        *merge([outcome("b", reds=(red(),)), outcome("b")]),
        controls=(Control(started=1.0, seconds=9.0, alarms=(alarm(),)),),
        skipped=(Skipped(name="x/y", why="it needs options"),),
        untimed=(labels("front"),),
        scale="1/60",
        repeat=2,
        seconds=61.5,
    )
    document = json.loads(json.dumps(found.as_json()))
    document["outcomes"][0]["state"] = "survived"

    assert Matrix.from_json(document) == found
    with pytest.raises(ValueError, match="version 1 is needed"):
        Matrix.from_json({**document, "version": 2})


@pytest.mark.parametrize(
    ("kind", "options", "wanted"),
    [
        ("tls-expires-soon", {"left": "2d"}, "expires_within"),
        ("tcp-latency", {"delay": "1s"}, "slower_than"),
        ("http-body", {"replace": "x"}, "body_matches"),
        ("http-status", {}, "expect: status"),
        ("tls-expired", {}, "verifies the certificate"),
        ("dns-wrong-address", {}, "expect: answers"),
        ("tcp-reset", {}, "needs payments to do its work"),
    ],
)
def test_a_survivor_says_what_would_catch_it(kind: str, options: dict[str, Any], wanted: str) -> None:
    """A sentence about what happened, and one with the remedy."""
    said = explain(Outcome(cell=cell(kind, options=options), sight=sight()))

    assert said["what"] == f"{kind} on payments: nothing turned red in 10 s; nobody would have heard of this"
    assert wanted in said["remedy"]


def test_evidence_of_traffic_is_what_tells_a_survivor_from_an_equivalent() -> None:
    """The same silence, with and without traffic."""
    assert judge_cell(cell(), sight(evidence=TOUCHED)) is State.SURVIVED
    assert judge_cell(cell(), sight(evidence=UNTOUCHED)) is State.EQUIVALENT
