"""What the demo shows while it runs: a live table of probes in a terminal, one line an event everywhere else."""

import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stormwatch.harness.latest import Latest
from stormwatch.harness.outcomes import STYLE, outcome_text, show_seconds
from stormwatch.probes.probe import Probe
from stormwatch.probes.result import Outcome, Result

STRIP = 24
"""How many of the last runs stand in a probe's strip."""
_BAR = {Outcome.UP: "▁", Outcome.DOWN: "█", Outcome.BROKEN: "▄"}
_EVENT = {
    "injected": "bold magenta",
    "probe down": "bold red",
    "probe broken": "bold yellow",
    "probe up": "green",
    "alert pending": "yellow",
    "alert firing": "bold red",
    "alert resolved": "green",
    "notified": "bold",
    "reverted": "bold magenta",
    "verdict": "bold",
}


class Screen:
    """`with Screen(probes, latest, console) as screen:` repaints until the block is left; events stay on the terminal."""

    def __init__(self, probes: Sequence[Probe], latest: Latest, console: Console) -> None:
        self._probes = probes
        self._latest = latest
        self._console = console
        self._began = time.time()
        self._strips: dict[str, deque[Result]] = {probe.name: deque(maxlen=STRIP) for probe in probes}
        self._live = Live(
            get_renderable=self._painted, console=console, refresh_per_second=4, transient=True, redirect_stderr=False
        )

    def event(self, what: str, text: str, *, at: float | None = None) -> None:
        """Something happened, now or at a unix time."""
        moment = datetime.fromtimestamp(time.time() if at is None else at).astimezone()
        line = Text(f"{moment:%H:%M:%S}  ", style="dim")
        line.append(f"{what:<15}", style=_EVENT.get(what, ""))
        line.append(text, style="")
        self._console.print(line, soft_wrap=True)

    def _painted(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("probe", "kind", "state", "took", "last runs"):
            table.add_column(column, no_wrap=True)
        table.add_column("what was seen", overflow="ellipsis", no_wrap=True)
        for probe in self._probes:
            result = self._latest.result(probe.name)
            strip = self._strips[probe.name]
            if result and (not strip or strip[-1].trace_id != result.trace_id):
                strip.append(result)
            runs = Text()
            for run in strip:
                runs.append(_BAR[run.outcome], style=STYLE[run.outcome])
            seen = "" if result is None or result.outcome is Outcome.UP else f"{result.reason.value}: {result.message}"
            table.add_row(
                probe.name,
                probe.kind,
                outcome_text(result.outcome) if result else Text("…", style="dim"),
                show_seconds(result.seconds) if result else "",
                runs,
                Text(seen, style="red"),
            )
        return Group(Text(), table, Text(f"{time.time() - self._began:.0f} s", style="dim"))

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()
