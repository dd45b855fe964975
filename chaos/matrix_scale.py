"""Windows of rules scaled by one factor, so that what looks back over hours can be drilled in minutes.

    windows × factor, `for` × factor; never shorter than what the probes can fill; burn factors and targets stay what they are

A burn rate is a ratio, so a scaled rule fires for the same share of failures as the whole one, after a share of its time.
What a scaled run says is therefore about which alert fires, and not about when. One drill at full scale for each rule that was
scaled checks that: `unscaled_checks` says which.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from stormwatch.chaos.matrix_cell import Cell
from stormwatch.probes.probe import Probe
from stormwatch.slo.identity import labels_of
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


def unscaled_checks(cells: Iterable[Cell], told: Iterable[tuple[str, str]]) -> tuple[tuple[str, Cell], ...]:
    """For each objective whose rules were scaled, the cell that is to be run at full scale: the first that it told of.

    `told` are pairs of an objective and the name of a cell that its alert fired for.
    """
    by_name = {cell.name: cell for cell in cells}
    first: dict[str, Cell] = {}
    for objective, cell in told:
        if cell in by_name:
            first.setdefault(objective, by_name[cell])
    return tuple(first.items())


def of_objective(rule: Rule, objective: str) -> bool:
    """Whether a rule is a burn rate of this objective."""
    return isinstance(rule, BurnRate) and labels_of(rule).get("objective") == objective


def _pair(pair: Windows, factor: Fraction, fill: float) -> Windows:
    single = pair.short == pair.long
    short = max(float(Fraction(pair.short) * factor), fill)
    long = max(float(Fraction(pair.long) * factor), short if single else 3 * short)
    return Windows(long=long, short=long if single else short, factor=pair.factor)
