"""Which steps are slower beyond noise: how often it cries for nothing, what it finds, and the file of the last runs."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.journeys.step_baseline import LAST, NoBaseline, baseline_file, read_baseline, record_run
from stormwatch.journeys.step_comparison import RUNS_NEEDED, Comparison, Standing, compare, judge

Noise = Callable[[random.Random], float]

NOISES: dict[str, Noise] = {
    "normal, 5 %": lambda chance: max(0.001, chance.gauss(1, 0.05)),
    "normal, 10 %": lambda chance: max(0.001, chance.gauss(1, 0.1)),
    "skewed, 20 %": lambda chance: chance.lognormvariate(0, 0.2),
    "skewed, 40 %": lambda chance: chance.lognormvariate(0, 0.4),
}
"""What the seconds of a step can look like from run to run, around one second."""

FALSE_ALARMS = {
    ("normal, 5 %", 5): 0.01,
    ("normal, 10 %", 5): 0.02,
    ("skewed, 20 %", 5): 0.05,
    ("skewed, 40 %", 5): 0.07,
    ("normal, 5 %", 10): 0.005,
    ("normal, 10 %", 10): 0.01,
    ("skewed, 20 %", 10): 0.02,
    ("skewed, 40 %", 10): 0.04,
    ("normal, 5 %", 20): 0.002,
    ("normal, 10 %", 20): 0.005,
    ("skewed, 20 %", 20): 0.015,
    ("skewed, 40 %", 20): 0.025,
}
"""At most, as a share of steps, by noise and runs: what docs/how-to/journeys-in-ci.md promises."""

seconds = st.floats(min_value=0, max_value=1000, allow_nan=False)
histories = st.lists(seconds, min_size=RUNS_NEEDED, max_size=25)


def slower(before: Sequence[float], now: float) -> bool:
    return judge("shop", "pay", now, before).standing is Standing.SLOWER


def share_told(noise: Noise, *, runs: int, factor: float, trials: int) -> float:
    """Of how many steps that take `factor` times as long it is said that they are slower."""
    chance = random.Random(20261121)
    told = sum(slower([noise(chance) for _ in range(runs)], noise(chance) * factor) for _ in range(trials))
    return told / trials


@pytest.mark.parametrize(("noise", "runs"), FALSE_ALARMS)
def test_a_step_that_is_as_fast_as_ever_is_hardly_ever_called_slower(noise: str, runs: int) -> None:
    assert share_told(NOISES[noise], runs=runs, factor=1, trials=4000) <= FALSE_ALARMS[noise, runs]


@pytest.mark.parametrize(
    ("noise", "runs", "factor", "at_least"),
    [
        ("normal, 5 %", 5, 1.5, 0.85),
        ("normal, 5 %", 10, 1.5, 0.97),
        ("normal, 5 %", 20, 1.5, 0.98),
        ("normal, 10 %", 20, 1.5, 0.55),
        ("normal, 10 %", 10, 2, 0.95),
        ("normal, 10 %", 20, 2, 0.98),
        ("skewed, 20 %", 20, 2, 0.6),
    ],
)
def test_a_step_that_takes_half_as_long_again_is_found_where_it_is_steady_and_one_that_takes_twice_as_long_elsewhere(
    noise: str, runs: int, factor: float, at_least: float
) -> None:
    assert share_told(NOISES[noise], runs=runs, factor=factor, trials=2000) >= at_least


def test_a_hiccup_in_the_past_hides_nothing() -> None:
    steady = [1.0, 1.02, 0.98, 1.01, 0.99, 1.03, 0.97, 1.0]
    assert slower(steady, 1.5)
    assert slower([*steady, 30.0, 45.0], 1.5)


def test_a_step_of_milliseconds_needs_fifty_more_and_a_step_of_seconds_a_fifth_however_steady_they_are() -> None:
    assert not slower([0.01] * 20, 0.059)
    assert slower([0.01] * 20, 0.061)
    assert not slower([10.0] * 20, 11.9)
    assert slower([10.0] * 20, 12.1)


@given(before=histories, now=seconds)
def test_less_than_a_fifth_or_fifty_milliseconds_is_never_told(before: list[float], now: float) -> None:
    judged = judge("shop", "pay", now, before)
    if judged.standing is Standing.SLOWER:
        assert now > 1.2 * judged.usual
        assert now > judged.usual + 0.05


@given(before=histories, now=seconds, more=seconds, order=st.randoms(use_true_random=False))
def test_what_is_slower_still_is_when_it_takes_longer_and_in_whatever_order_the_runs_stand(
    before: list[float], now: float, more: float, order: random.Random
) -> None:
    mixed = list(before)
    order.shuffle(mixed)
    assert slower(mixed, now) == slower(before, now)
    if slower(before, now):
        assert slower(before, now + more)


@given(before=st.lists(seconds, max_size=RUNS_NEEDED - 1), now=seconds)
def test_fewer_than_five_runs_say_nothing(before: list[float], now: float) -> None:
    judged = judge("shop", "pay", now, before)
    assert judged.standing is Standing.NOT_JUDGED
    assert judged.sentence == f"not judged: {len(before)} of the 5 runs that are needed have it"


def test_each_step_is_compared_with_the_same_step_of_the_same_journey() -> None:
    past = [{"shop": {"pay": 1.0, "look": 0.1}, "login": {"pay": 9.0}} for _ in range(6)]
    found = compare({"shop": {"pay": 3.0, "look": 0.11, "new": 5.0}, "login": {"pay": 9.1}}, past)
    assert {(each.journey, each.step): each.standing.value for each in found.steps} == {
        ("shop", "pay"): "slower",
        ("shop", "look"): "as-before",
        ("shop", "new"): "not-judged",
        ("login", "pay"): "as-before",
    }
    assert found.lines() == [
        'slower: shop, step "pay" took 3.000 s, +200%; the median of 6 runs is 1.000 s, and noise explains up to 1.200 s',
        "steps: 1 slower, 2 as before, 1 not judged (fewer than 5 runs to compare with)",
    ]
    assert json.loads(json.dumps(found.as_json()))["steps"][0] == {
        "journey": "shop",
        "step": "pay",
        "standing": "slower",
        "seconds": 3.0,
        "runs": 6,
        "usual": 1.0,
        "limit": 1.2,
    }
    assert Comparison(()).lines() == ["steps: 0 slower, 0 as before"]


def test_the_file_keeps_the_last_runs_and_leaves_out_a_run_without_steps(tmp_path: Path) -> None:
    file = baseline_file(tmp_path / "kept")
    assert file == tmp_path / "kept" / "step-times.jsonl"
    for number in range(LAST + 3):
        record_run(file, read_baseline(file).runs, {"shop": {"pay": float(number)}})
    record_run(file, read_baseline(file).runs, {})
    record_run(file, read_baseline(file).runs, {"shop": {}})
    assert [run["shop"]["pay"] for run in read_baseline(file).runs] == [float(n) for n in range(3, LAST + 3)]
    assert len(file.read_text().splitlines()) == LAST
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert baseline_file(tmp_path / "kept") == baseline_file(file) == file


def test_lines_that_are_no_runs_are_left_out_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "steps.jsonl"
    good = '{"journeys": {"shop": {"pay": 1}}}'
    bad = ['{"journeys": {"shop": {"pay": "1"}}}', "[]", '{"journeys": {"shop": {"pay": NaN}}}', good[:20], "\xff"]
    file.write_text("\n".join([good, *bad, "", good]))
    found = read_baseline(file)
    assert (found.runs, found.damaged) == (({"shop": {"pay": 1.0}}, {"shop": {"pay": 1.0}}), 5)
    assert found.complaint == "5 lines of the baseline are no runs and were left out"
    assert read_baseline(tmp_path / "none.jsonl").runs == ()


def test_what_cannot_be_read_or_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoBaseline, match=r"^cannot read the runs to compare with in .*: Not a directory$"):
        read_baseline(tmp_path / "file" / "steps.jsonl")
    with pytest.raises(
        NoBaseline, match=r"^cannot write the runs to compare with to .*: (Not a directory|File exists)$"
    ):
        record_run(tmp_path / "file" / "steps.jsonl", [], {"shop": {"pay": 1.0}})
