"""From the history on disk to the report of a period."""

import time
from pathlib import Path

from stormwatch.exporters.history import HistoryUnavailable, Recorded
from stormwatch.harness.config import Config
from stormwatch.harness.problem import Problem
from stormwatch.slo.alert import Transition
from stormwatch.slo.period import last_month, parse_period
from stormwatch.slo.report import PeriodReport, report


def report_of(config: Config, data: Path, period: str, zone: str, *, now: float | None = None) -> PeriodReport:
    """The report of a period as it is written on the command line. Raises Problem for what cannot be had."""
    at = time.time() if now is None else now
    try:
        wanted = parse_period(period, zone) if period else last_month(at, zone)
    except ValueError as error:
        raise Problem(str(error)) from error
    if not config.objectives:
        raise Problem(f"{config.path}: there are no objectives in it; add one under `objectives:`")
    if wanted.start > at:
        raise Problem(f"{wanted.name} has not begun")
    file = data / "history.sqlite"
    if not file.is_file():
        raise Problem(f"there is no history in {data}; give the --data of your `stormwatch run`")
    try:
        history = Recorded(file)
        hours = history.judged(wanted.start, wanted.end)
        # Alerts that began earlier may reach into the period.
        transitions = [Transition.from_json(each) for each in history.transitions(limit=1_000_000)]
    except HistoryUnavailable as error:
        raise Problem(str(error)) from error
    return report(config.objectives, hours, transitions, wanted, now=at, location=config.location)
