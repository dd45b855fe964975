"""The schedule is arithmetic: spread by name, never bunched, missed moments counted."""

import math

from hypothesis import given
from hypothesis import strategies as st

from stormwatch.harness.schedule import SPREAD, Schedule, place_of, spread_of

intervals = st.floats(min_value=0.1, max_value=86400)
places = st.floats(min_value=0, max_value=1, exclude_max=True)
starts = st.floats(min_value=0, max_value=1e6)


def test_the_place_depends_on_the_name_alone() -> None:
    """A restart does not move a probe, and two names do not share a place."""
    assert place_of("front") == place_of("front")
    assert place_of("front") != place_of("front2")


def test_ten_thousand_probes_are_spread_evenly() -> None:
    """No tenth of the interval gets more than a fifth above its share."""
    tenths = [0] * 10
    for number in range(10_000):
        tenths[int(place_of(f"probe-{number}") * 10)] += 1

    assert max(tenths) < 1200


@given(every=intervals, place=places, start=starts)
def test_the_first_run_comes_soon(every: float, place: float, start: float) -> None:
    """Nobody waits an hour for the first result of an hourly probe."""
    first = Schedule(every=every, place=place, start=start).first()

    assert start <= first <= start + min(every, SPREAD)


def test_many_probes_do_not_start_at_once() -> None:
    """Few are all looked at within three seconds; ten thousand at 400 a second."""
    assert spread_of(9) == 3.0
    assert spread_of(10_000) == 25.0
    assert Schedule(every=15.0, place=0.5, start=0.0, spread=25.0).first() == 7.5


@given(every=intervals, place=places, start=starts, moment=st.floats(min_value=0, max_value=1e6))
def test_the_next_moment_is_later_and_at_most_an_interval_away(
    every: float, place: float, start: float, moment: float
) -> None:
    """Regular moments are `every` apart, whatever moment one asks from."""
    schedule = Schedule(every=every, place=place, start=start)
    following = schedule.after(moment)

    assert moment < following or math.isclose(moment, following, abs_tol=1e-6)
    assert following <= moment + every + 1e-6


def test_moments_that_went_by_are_counted() -> None:
    """Late by two and a half intervals means that two moments were let go."""
    schedule = Schedule(every=10.0, place=0.0, start=100.0)

    assert schedule.missed(110.0, 119.9) == 0
    assert schedule.missed(110.0, 120.0) == 1
    assert schedule.missed(110.0, 135.0) == 2
