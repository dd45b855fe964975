"""Window sums are those of a list of all results, in a fraction of its memory."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.slo.objective import Judgement
from stormwatch.slo.window import Counts, Ledger, Tally, cell_of
from tests.slo.story import DAY, HOUR, MINUTE, START

moments = st.lists(st.tuples(st.floats(0, 400, allow_nan=False), st.booleans()), max_size=60)


@given(events=moments, size=st.sampled_from([1, 7, 60]), window=st.floats(0, 400), until=st.floats(0, 500))
def test_a_sum_equals_that_over_all_events_in_any_order(
    events: list[tuple[float, bool]], size: int, window: float, until: float
) -> None:
    """Whatever comes, early, late or at once: a window counts the cells that it names."""
    tally = Tally(size, keep=1000)
    for at, good in events:
        tally.add(at, good=int(good), bad=int(not good))

    old, new = math.ceil((until - window) / size), math.ceil(until / size)
    inside = [good for at, good in events if old < math.ceil(at / size) <= new]
    assert Counts(sum(inside), len(inside) - sum(inside)) == tally.between(until - window, until)


@given(
    signs=st.lists(st.sampled_from("++++-."), max_size=80),
    late=st.lists(st.integers(0, 79), max_size=8, unique=True),
    every=st.sampled_from([1, 5, 15]),
)
def test_results_that_come_late_count_as_if_they_had_come_in_time(
    signs: list[str], late: list[int], every: int
) -> None:
    """The order in which results arrive changes nothing, also where it splits a run of equal cells."""
    in_time, out_of_order = Tally(1, keep=10_000), Tally(1, keep=10_000)
    events = [(number * every, sign) for number, sign in enumerate(signs) if sign != "."]
    for at, sign in events:
        in_time.add(at, good=int(sign == "+"), bad=int(sign == "-"))
    delayed = [events[number] for number in late if number < len(events)]
    for at, sign in [event for event in events if event not in delayed] + delayed:
        out_of_order.add(at, good=int(sign == "+"), bad=int(sign == "-"))

    for after in range(-1, len(signs) * every + 1):
        assert in_time.between(after, 10_000) == out_of_order.between(after, 10_000)


def test_a_month_of_a_steady_probe_is_a_handful_of_runs() -> None:
    """172,800 results on a schedule, and one outage, are stored as runs of equal cells."""
    ledger = Ledger([5 * MINUTE, HOUR, 6 * HOUR, 3 * DAY, 30 * DAY])
    for number in range(30 * DAY // 15):
        outage = 140_000 <= number < 140_240
        ledger.add("front", START + number * 15 + 0.2, Judgement.BAD if outage else Judgement.GOOD)
    now = START + 30 * DAY

    assert Counts(good=30 * DAY // 15 - 240, bad=240) == ledger.counts(30 * DAY, now)
    assert Counts(good=20, bad=0) == ledger.counts(5 * MINUTE, now)
    assert ledger.runs <= 30


def test_a_month_of_the_most_irregular_probe_stays_bounded() -> None:
    """Random moments and outcomes do not compress, and what no window can reach is forgotten all the same."""
    rng = random.Random(1)
    tally = Tally(1, keep=6 * HOUR)
    for number in range(40_000):
        bad = rng.random() < 0.5
        tally.add(START + number * 5 + rng.random() * 4, good=1 - bad, bad=bad)

    assert len(tally) < 2 * 6 * HOUR / 5


def test_forgetting_changes_no_window_that_is_in_reach() -> None:
    """Sums of the last `keep` seconds are the same before and after old runs are dropped, also with a late result."""
    rng = random.Random(2)
    tally, events = Tally(1, keep=600), []
    for number in range(3000):
        at = number * 3 - (rng.randrange(300) if number % 50 == 0 else 0)
        bad = rng.random() < 0.3
        events.append((at, bad))
        tally.add(at, good=1 - bad, bad=bad)
        if number % 100 == 99:
            now = number * 3
            inside = [bad for when, bad in events if now - 600 < when <= now]
            assert Counts(len(inside) - sum(inside), sum(inside)) == tally.between(now - 600, now)


def test_a_result_older_than_every_window_is_dropped() -> None:
    """It could only make a sum wrong."""
    tally = Tally(1, keep=60)
    tally.add(1000, good=1, bad=0)
    tally.add(10, good=0, bad=1)

    assert Counts(1, 0) == tally.between(900, 1000)


def test_a_result_of_the_future_waits_for_its_time() -> None:
    """A clock that jumped ahead and came back does not change what is counted now."""
    tally = Tally(1, keep=600)
    for at in (100, 500, 101, 102):
        tally.add(at, good=1, bad=0)

    assert Counts(3, 0) == tally.between(0, 110)
    assert Counts(4, 0) == tally.between(0, 500)


@pytest.mark.parametrize(
    ("window", "cell"),
    [(5 * MINUTE, 1), (6 * HOUR, 1), (DAY, 60), (3 * DAY, 60), (7 * DAY, 60), (30 * DAY, 900), (90 * DAY, 900)],
)
def test_cells_are_fine_where_windows_are_short(window: int, cell: int) -> None:
    """Never coarser than 1/360 of the window."""
    assert cell == cell_of(window)
    assert cell <= window / 360 + 1


def test_no_evidence_counts_nothing() -> None:
    """A broken run is neither good nor bad."""
    ledger = Ledger([60])
    ledger.add("front", START, Judgement.NO_EVIDENCE)

    assert Counts(0, 0) == ledger.counts(60, START)
