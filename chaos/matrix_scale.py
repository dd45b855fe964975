"""Windows of rules scaled by one factor, so that what looks back over hours can be drilled in minutes.

    windows × factor, `for` × factor; never shorter than what the probes can fill; burn factors and targets stay what they are

A burn rate is a ratio, so a scaled rule fires for the same share of failures as the whole one, after a share of its time.
What a scaled run says is therefore about which alert fires, and not about when. One cell at full scale for each alert that
was scaled checks that it tells the truth: `unscaled_checks` says which.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from stormwatch.chaos.matrix_cell import Cell
from stormwatch.probes.probe import Probe
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import RESULTS_TO_FILL
from stormwatch.slo.rule import BurnRate, Rule, Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """The rules as they are in a scaled run, and what could not be scaled as far as was asked."""

    factor: Fraction
    rules: tuple[Rule, ...]
    held: tuple[str, ...] = ()
    """One sentence for each window that would have been too short to hold results."""

    @property
    def changed(self) -> bool:
        """Whether anything is scaled at all."""
        return self.factor != 1


def read_factor(text: str) -> Fraction:
    """`1/60` or `0.1`. Raises ValueError for anything that is not a factor between 0 and 1."""
    try:
        factor = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"a scale is written like 1/60 or 0.1, not {text!r}") from None
    if not 0 < factor <= 1:
        raise ValueError(f"a scale makes windows shorter: it is more than 0 and at most 1, not {text}")
    return factor


def scaled(
    rules: Iterable[Rule], factor: Fraction, *, probes: Sequence[Probe], objectives: Sequence[Objective]
) -> Scaling:
    """The rules of objectives with their windows and their `for` scaled; the rules of probes stay what they are.

    What a probe's own alert takes is its rhythm, and that is not scaled: the load on the target stays the same.
    """
    if factor == 1:
        return Scaling(factor=factor, rules=tuple(rules))
    every = {probe.name: probe.every for probe in probes}
    judged = {objective.name: objective for objective in objectives}
    made: list[Rule] = []
    held: list[str] = []
    for rule in rules:
        if not isinstance(rule, BurnRate):
            made.append(rule)
            continue
        objective = judged[rule.objective]
        rate = objective.events_in(1.0, every)
        fill = float(RESULTS_TO_FILL / rate) if rate else 0.0
        pairs = tuple(dict.fromkeys(_pair(pair, factor, fill) for pair in rule.pairs))
        held += [
            f"{rule.objective}: the window of {pair.short * factor:.0f} s is {new.short:.0f} s, or it held no results"
            for pair, new in zip(rule.pairs, (_pair(one, factor, fill) for one in rule.pairs), strict=True)
            if new.short > pair.short * factor
        ]
        made.append(replace(rule, pairs=pairs, lasting=float(Fraction(rule.lasting) * factor)))
    return Scaling(factor=factor, rules=tuple(made), held=tuple(dict.fromkeys(held)))


def unscaled_checks(
    cells: Iterable[Cell], told: Iterable[tuple[Cell, Iterable[Mapping[str, str]]]]
) -> tuple[Cell, ...]:
    """What is to be run at full scale: for each alert about a budget the first cell that it told of, with nothing else to tell.

    `told` are the cells of the scaled run with the labels of the alerts that told of each, `cells` those of the rules as they
    are. An alert that fires for no fault at full scale within any time is left out: it did not tell of one either.
    """
    whole = {cell.name: cell for cell in cells}
    found: dict[tuple[tuple[str, str], ...], Cell] = {}
    for scaled_cell, alarms in told:
        cell = whole.get(scaled_cell.name)
        for labels in alarms:
            key = tuple(sorted(labels.items()))
            if cell is None or labels.get("alertname") != "ErrorBudgetBurn" or key in found:
                continue
            for catcher in cell.catchers:
                if catcher.key == key and math.isfinite(catcher.within) and math.isfinite(catcher.recovers):
                    name = f"{cell.name} at full scale: {labels['objective']} ({labels['severity']})"
                    limit, recovers = catcher.within, catcher.recovers
                    found[key] = replace(cell, name=name, catchers=(catcher,), limit=limit, recovers=recovers)
    return tuple(found.values())


def _pair(pair: Windows, factor: Fraction, fill: float) -> Windows:
    single = pair.short == pair.long
    short = max(float(Fraction(pair.short) * factor), fill)
    long = max(float(Fraction(pair.long) * factor), short if single else 3 * short)
    return Windows(long=long, short=long if single else short, factor=pair.factor)
