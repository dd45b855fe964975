"""What a service knows of the time before it began: results as far as they are kept, before that what was counted by the hour."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from stormwatch.exporters.history import HOUR, History
from stormwatch.harness.config import load
from stormwatch.harness.service import Service
from stormwatch.probes.result import Measure, Phase, Result
from stormwatch.slo.window import Counts
from tests.slo.story import result

CONFIG = """
probes:
  - {name: front, kind: http, target: "https://127.0.0.1:9/", every: 1h, timeout: 1s}
objectives:
  - {name: plain, probe: front, target: 99%}
  - {name: quarter, probe: front, target: 99%, window: 90d}
  - {name: step, probe: front, target: 99%, step: tls, slower_than: 500ms}
  - {name: certificate, probe: front, target: 99%, certificate_expires_within: 21d}
  - {name: hours, probe: front, target: 99%, method: timeslices, slice: 1h}
"""
DAY = 24 * HOUR


def seen(sign: str, at: float, *, tls: float, days_left: float) -> Result:
    """A run with a handshake and a certificate."""
    return replace(
        result(sign, at),
        phases=(Phase("connect", 0.01), Phase("tls", tls)),
        measures=(Measure("probe_ssl_earliest_cert_expiry", at + days_left * DAY),),
    )


async def counted(tmp_path: Path, fill: Callable[[History, float], None]) -> dict[str, Counts]:
    """What each objective has in its window just after the start, without what the new process saw itself."""
    (tmp_path / "stormwatch.yaml").write_text(CONFIG)
    now = time.time()
    history = History(tmp_path / "data" / "history.sqlite")
    fill(history, now)
    assert await history.flush()
    await history.aclose()
    config = load(tmp_path / "stormwatch.yaml", environ={})
    async with Service(config, data=tmp_path / "data") as service:
        evaluator = service.evaluator
        evaluator.evaluate(now)
        budgets = {each.name: evaluator.budget(each.name, now) for each in config.objectives}
        own = evaluator.events()
    return {
        name: Counts(budget.total - budget.bad - own[name].good, budget.bad - own[name].bad)
        for name, budget in budgets.items()
    }


async def test_a_step_and_a_certificate_are_judged_again_from_what_is_kept_of_runs(tmp_path: Path) -> None:
    """Runs of the last three days have their phases and measures: nothing is lost in a restart."""

    def fill(history: History, now: float) -> None:
        for hours in range(1, 11):
            history(seen("+", now - hours * HOUR, tls=0.9 if hours <= 3 else 0.1, days_left=20 if hours <= 2 else 60))
        history(
            replace(seen("-", now - 11 * HOUR, tls=0.1, days_left=60), phases=(Phase("connect", 0.1, failed=True),))
        )

    found = await counted(tmp_path, fill)

    assert found["plain"] == Counts(10, 1)
    assert found["step"] == Counts(7, 3)  # the run that ended before the handshake is no evidence
    assert found["certificate"] == Counts(9, 2)
    assert found["hours"].total in {10, 11}  # an hour that goes on is not counted yet
    assert found["hours"].bad == 1


async def test_what_is_not_kept_of_runs_any_more_is_known_by_the_hour(tmp_path: Path) -> None:
    """A budget of thirty days survives a restart, though phases are kept for three; one of ninety, though results are for 35."""

    def fill(history: History, now: float) -> None:
        for name in ("plain", "quarter", "step", "certificate", "hours"):
            history.count_judged(name, now - 10 * DAY, good=200, bad=7)
            history.count_judged(name, now - 60 * DAY, good=1000, bad=30)
        for days in (10, 20):
            history(result("+", now - days * DAY))

    found = await counted(tmp_path, fill)

    assert found["step"] == found["certificate"] == Counts(200, 7)
    assert found["plain"] == Counts(2, 0)  # judged again from the runs, as they are all kept
    assert found["quarter"] == Counts(1000 + 2, 30)
    assert found["hours"] == Counts(2, 0)


async def test_nothing_is_counted_twice_where_the_one_takes_over_from_the_other(tmp_path: Path) -> None:
    """A run every hour for five days, as a process left it: each of them counts once."""

    def fill(history: History, now: float) -> None:
        first = math.floor(now / HOUR) * HOUR - 120 * HOUR
        for number in range(120):
            at = first + number * HOUR + HOUR / 2
            history(seen("+", at, tls=0.1, days_left=60))
            for name in ("step", "certificate", "plain"):
                history.count_judged(name, at, good=1, bad=0)

    found = await counted(tmp_path, fill)

    assert found["step"] == found["certificate"] == found["plain"] == Counts(120, 0)


async def test_a_calendar_s_window_is_filled_from_its_first_midnight(tmp_path: Path) -> None:
    """And not before: what was spent before that is of the part before."""
    now = time.time()
    (tmp_path / "stormwatch.yaml").write_text(CONFIG.replace("window: 90d", "window: quarter"))
    config = load(tmp_path / "stormwatch.yaml", environ={})
    quarter = next(each for each in config.objectives if each.name == "quarter")
    assert quarter.calendar is not None
    begin, _ = quarter.calendar.around(now)
    history = History(tmp_path / "data" / "history.sqlite")
    for days in range(1, 200):
        history.count_judged("quarter", now - days * DAY, good=10, bad=1)
    assert await history.flush()
    await history.aclose()

    async with Service(config, data=tmp_path / "data") as service:
        budget, own = service.evaluator.budget("quarter", now), service.evaluator.events()["quarter"]

    # Of the last 35 days the runs themselves would tell, and there are none.
    hours = [math.floor((now - days * DAY) / HOUR) * HOUR for days in range(1, 200)]
    expected = sum(begin <= hour < math.ceil((now - 35 * DAY) / HOUR) * HOUR for hour in hours)
    assert (budget.total - own.total, budget.bad - own.bad) == (11 * expected, expected)
