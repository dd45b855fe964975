"""How standings and gates look in the terminal."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from rich.table import Table
from rich.text import Text

from stormwatch.probes.units import show_duration, show_ratio
from stormwatch.slo.gate import FREEZE, Gate, GateState
from stormwatch.slo.standing import Standing

_SIGNS: Final = {GateState.OPEN: "✓", GateState.CLOSED: "✗", GateState.UNKNOWN: "?"}


def lines(decided: Gate) -> list[str]:
    """The decision for the terminal: the word first, then why."""
    about = ", ".join(standing.objective for standing in decided.standings) or "nothing"
    return [
        f"{_SIGNS[decided.state]} the gate is {decided.state.value} for {about}",
        *(f"  {r}" for r in decided.reasons),
    ]


def table(found: Sequence[Standing]) -> Table:
    """One line an objective."""
    shown = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column in ("objective", "target", "window", "budget left", "outage left", "burns at", "gone in", "alerts"):
        shown.add_column(column, overflow="fold")
    for standing in found:
        shown.add_row(
            Text(standing.objective),
            show_ratio(standing.target),
            standing.window_name,
            _share(standing),
            "" if standing.seconds_left is None else _minutes(standing.seconds_left),
            _pace(standing),
            _gone(standing),
            Text(", ".join(_alerts(standing)), style="bold red" if standing.firing else "yellow"),
        )
    return shown


def _share(standing: Standing) -> Text:
    if standing.left is None:
        return Text("no results yet", style="dim")
    filled = max(0, min(10, round(float(standing.left) * 10)))
    style = "bold red" if standing.left <= 0 else "yellow" if standing.left < FREEZE else "green"
    return Text(f"{'█' * filled}{'░' * (10 - filled)} {float(standing.left):7.1%}", style=style)


def _minutes(seconds: float) -> str:
    """Like `4m19s`, with a sign when it is overspent."""
    return f"{'-' if seconds < 0 else ''}{show_duration(float(round(abs(seconds))))}"


def _pace(standing: Standing) -> str:
    pace = standing.pace
    return "" if pace is None else f"{show_burn(pace[1])} over {show_duration(pace[0])}"


def show_burn(rate: Fraction) -> str:
    """How fast a budget burns, as people say it: `180x`, `14.4x`, `0.3x`."""
    if 0 < rate < Fraction(1, 100):
        return "<0.01x"
    places = 0 if rate >= 100 else 1 if rate >= 1 else 2
    text = f"{float(rate):.{places}f}"
    return f"{text.rstrip('0').rstrip('.') if places else text}x"


def _gone(standing: Standing) -> str:
    gone = standing.gone_in
    if standing.left is None:
        return ""
    if gone is None and standing.renewed_in is not None:
        return f"not this {standing.calendar}, anew in {show_duration(float(math.ceil(standing.renewed_in / 3600) * 3600))}"
    if gone is None:
        return "not at this pace"
    return "gone" if gone == 0 else show_duration(float(round(gone / 60) * 60) or 60.0)


def _alerts(standing: Standing) -> list[str]:
    return [*(severity.value for severity in standing.firing), *(f"blind: {probe}" for probe in standing.blind)]
