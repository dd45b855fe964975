"""The bisection that finds from which size on a fault is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.chaos.catalog import FAULTS, read_options
from stormwatch.chaos.matrix_plan import sample_options
from stormwatch.chaos.threshold import SIZES, Answer, Bisection, Size, Trial

DELAY, RATE = SIZES["tcp-latency"], SIZES["tcp-bandwidth"]


def found(size: Size, threshold: float, *, precision: float = 0.05, most: int = 40) -> Answer:
    """What is found of a monitoring that notices everything that is as bad as `threshold`, or worse."""
    search = Bisection(size, mildest=size.mildest, worst=size.worst, precision=precision, most=most)
    while (value := search.next()) is not None:
        noticed = value >= threshold if size.worst > size.mildest else value <= threshold
        search.tell(Trial(size=value, noticed=noticed))
    return search.answer()


@given(st.floats(0.002, 29.0))
def test_the_threshold_lies_between_the_worst_unnoticed_and_the_mildest_noticed(threshold: float) -> None:
    """As closely as was asked, in few trials: the range spans four orders of magnitude."""
    answer = found(DELAY, threshold)

    assert answer.unnoticed is not None
    assert answer.noticed is not None
    assert answer.unnoticed < threshold <= answer.noticed
    assert answer.noticed - answer.unnoticed <= 0.05 * answer.noticed
    assert len(answer.trials) <= 12
    assert answer.consistent


@given(st.floats(11.0, 9_000_000.0))
def test_where_less_is_worse_it_is_found_from_the_other_side(threshold: float) -> None:
    """A bandwidth of 10 B a second is worse than one of 1 MB."""
    answer = found(RATE, threshold)

    assert answer.unnoticed is not None
    assert answer.noticed is not None
    assert answer.noticed <= threshold < answer.unnoticed
    assert answer.unnoticed - answer.noticed <= 0.05 * answer.unnoticed


def test_it_is_said_for_people() -> None:
    """With what the answer may be off by."""
    assert found(DELAY, 0.87, precision=0.001).sentence().startswith("noticed from 870 ms (± ")
    assert found(DELAY, 99.0).sentence() == "not even 30.0 s is noticed"
    assert found(DELAY, 0.0).sentence() == "even 1 ms is noticed"


def test_what_is_not_noticed_at_its_worst_is_tried_once() -> None:
    """And what is noticed at its mildest twice."""
    assert len(found(DELAY, 99.0).trials) == 1
    assert len(found(DELAY, 0.0).trials) == 2


def test_a_monitoring_that_does_not_know_its_mind_is_told_of() -> None:
    """A milder fault noticed while a worse one was not: no threshold."""
    search = Bisection(DELAY, mildest=0.001, worst=30.0)
    for value, noticed in ((30.0, True), (0.001, True), (1.0, False)):
        search.tell(Trial(size=value, noticed=noticed))

    assert not search.answer().consistent


def test_it_ends_after_the_most_trials_that_were_allowed() -> None:
    """However precise it was to be."""
    assert len(found(DELAY, 0.5, precision=1e-9, most=5).trials) == 5


@pytest.mark.parametrize(("mildest", "worst"), [(1.0, 0.5), (0.0, 1.0), (1.0, 1.0)])
def test_bounds_that_are_no_range_are_refused(mildest: float, worst: float) -> None:
    """One sentence with what a range is."""
    with pytest.raises(ValueError, match="delay is looked for from mild to bad, as from 1 ms to 30"):
        Bisection(DELAY, mildest=mildest, worst=worst)


@pytest.mark.parametrize("kind", SIZES)
def test_every_size_is_an_option_of_its_fault_and_can_be_written(kind: str) -> None:
    """At both ends, and in the middle."""
    size = SIZES[kind]
    for value in (size.mildest, (size.mildest * size.worst) ** 0.5, size.worst):
        options = read_options(kind, {**sample_options(kind), size.option: size.written(value)})

        assert float(getattr(options, size.option)) == pytest.approx(value, rel=0.1)
    assert kind in FAULTS
