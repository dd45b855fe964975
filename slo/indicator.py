r"""What a query counts, said in our own terms: runs of which probes, and which of them are good.

Counted are our counters and what blackbox_exporter and we both export, in the forms that people write:

| good, bad | of all |
|---|---|
| `stormwatch_probe_runs_total{outcome="up"}`, `…{outcome="down"}` | `…{outcome=~"up\|down"}` |
| `stormwatch_objective_events_total{judgement="good"}`, `…{judgement="bad"}` | without `judgement` |
| `stormwatch_probe_duration_seconds_bucket{le="0.5"}` | `stormwatch_probe_duration_seconds_count` |
| `sum_over_time(probe_success[…])`, `count_over_time((probe_success == 0)[…:])` | `count_over_time(probe_success[…])` |
| `count_over_time((probe_duration_seconds <= 0.5)[…:])` | `count_over_time(probe_duration_seconds[…])` |

and differences and quotients of these; compared with a threshold are durations of runs and steps, `probe_success`, and
`probe_ssl_earliest_cert_expiry - time()`. What is about other metrics raises `NotOurs`: stormwatch judges runs of its probes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from fractions import Fraction
from typing import Final

from stormwatch.slo.objective import EXPIRY
from stormwatch.slo.query import Binary, Call, Expression, NotRead, Number, Selector, read_query


class NotOurs(ValueError):
    """A query counts something that no objective of ours can judge. Says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """Runs, and when they are good."""

    match: Mapping[str, str]
    """Labels that the series of the probes have; `probe` and `instance` name one."""
    probes: tuple[str, ...] = ()
    """Names of the probes, where a file tells them beside the query; then `match` is empty."""
    slower_than: Fraction | None = None
    """Seconds: a run (or step) that took longer is bad."""
    step: str = ""
    """The step or phase that is judged instead of the run."""
    expires_within: Fraction | None = None
    """Seconds: a run that sees a certificate which expires sooner is bad."""
    notes: tuple[str, ...] = ()
    """How it differs from the query."""


class _Share(Enum):
    GOOD = auto()
    BAD = auto()
    ALL = auto()


@dataclass(frozen=True, slots=True)
class _Count:
    """Events that a query counts."""

    share: _Share
    match: tuple[tuple[str, str], ...]
    limit: Fraction | None = None
    """Seconds that a good run may take; of `ALL`, None."""
    notes: tuple[str, ...] = ()


def of_ratio(*, good: str = "", bad: str = "", total: str) -> Indicator:
    """From the queries of good or bad events and of all. Raises NotOurs."""
    part = _count(_read(good or bad))
    wanted = _Share.GOOD if good else _Share.BAD
    if part.share is _Share.ALL:
        raise NotOurs(f"counts all runs where the {wanted.name.lower()} ones are asked for")
    if part.share is not wanted:
        raise NotOurs(f"counts the {part.share.name.lower()} runs where the {wanted.name.lower()} ones are asked for")
    return _indicator(part, _count(_read(total)))


def of_error_ratio(query: str) -> Indicator:
    """From one query of the share that is bad. Raises NotOurs."""
    return _ratio(_read(query), _Share.BAD)


def of_success_ratio(query: str) -> Indicator:
    """From one query of the share that is good. Raises NotOurs."""
    return _ratio(_read(query), _Share.GOOD)


def of_threshold(query: str, op: str, value: Fraction) -> Indicator:
    """From a value that is compared: a duration at most, `probe_success` or what is left of a certificate at least.

    Raises NotOurs. `op` is one of OpenSLO's lte, lt, gte, gt; a good value compares so.
    """
    tree = _bare(_read(query))
    if isinstance(tree, Binary) and (tree.op, tree.right) == ("-", Call("time")) and isinstance(tree.left, Selector):
        return _expiring(tree.left, op, value)
    if isinstance(tree, Call) and tree.name.endswith("_over_time") and all(map(_known, _metrics(tree))):
        raise NotOurs(
            f"{tree.name} makes one number of several runs, and each run is judged by itself; "
            "ask for the metric, and let timeSliceTarget say how many must be good"
        )
    if not isinstance(tree, Selector) or tree.over:
        _refuse_foreign(tree)
        raise NotOurs("a threshold is compared with one metric of a probe, and this is a computation")
    if tree.metric in _DURATIONS and op in ("lte", "lt"):
        return _quick(tree, op, value)
    if tree.metric == "probe_success" and ((op == "gte" and 0 < value <= 1) or (op == "gt" and 0 <= value < 1)):
        return Indicator(match=_match(tree))
    if tree.metric in _MEASURED | _DURATIONS:
        raise NotOurs(f"{tree.metric} {op} {float(value):g} is no promise that a run can keep")
    raise NotOurs(_foreign(tree.metric))


def _quick(selector: Selector, op: str, value: Fraction) -> Indicator:
    """A run, or one step of it, that takes at most so long."""
    if value <= 0:
        raise NotOurs("no run takes less than no time")
    strict = ("the limit itself counts as fast enough",) if op == "lt" else ()
    if selector.metric == "probe_duration_seconds":
        return Indicator(match=_match(selector), slower_than=value, notes=(*strict, _DOWN_IS_BAD))
    steps = [matcher.value for matcher in selector.matchers if (matcher.label, matcher.op) == ("step", "=")]
    if len(steps) != 1:
        raise NotOurs('each step takes its own time, so one is asked for, like step="pay"')
    rest = replace(selector, matchers=tuple(each for each in selector.matchers if each.label != "step"))
    return Indicator(
        match=_match(rest), slower_than=value, step=steps[0], notes=(*strict, "a step that fails is bad, however quick")
    )


def _expiring(selector: Selector, op: str, value: Fraction) -> Indicator:
    """What is left of a certificate is so much at the least."""
    if selector.metric != EXPIRY:
        raise NotOurs(_foreign(selector.metric))
    if op not in ("gte", "gt") or value <= 0:
        raise NotOurs("a certificate is to be valid for some time more: op: gt and a value above 0")
    strict = ("exactly this much is enough",) if op == "gt" else ()
    return Indicator(match=_match(selector), expires_within=value, notes=strict)


_MEASURED: Final = frozenset({"probe_success", "probe_duration_seconds"})
_DURATIONS: Final = frozenset(
    {"probe_duration_seconds", "stormwatch_journey_step_duration_seconds", "stormwatch_api_step_duration_seconds"}
)
_DOWN_IS_BAD: Final = "a run that is down is bad, however quick it was"
_RUNS: Final = "stormwatch_probe_runs_total"
_EVENTS: Final = "stormwatch_objective_events_total"
_BUCKET: Final = "stormwatch_probe_duration_seconds_bucket"
_OF_HISTOGRAM: Final = "stormwatch_probe_duration_seconds_count"
_TRANSPARENT: Final = frozenset({"sum", "rate", "increase", "irate"})
"""What changes the scale of good and all alike."""
_NAMED: Final = re.compile(r"\b[a-zA-Z_:]\w*_\w*\b(?!\s*[(=!~])")
"""What is a metric in a query of which nothing more is understood."""
_SCRAPED: Final = frozenset({"job"})
"""Labels that Prometheus adds: they say who scraped, not what was probed."""


def _read(query: str) -> Expression:
    try:
        return read_query(query)
    except NotRead as error:
        asked = _NAMED.findall(query)
        if asked and not any(map(_known, asked)):
            raise NotOurs(_foreign(asked[0])) from error
        raise NotOurs(f"the query is not one that is understood here: {error}") from error


def _bare(tree: Expression) -> Expression:
    while isinstance(tree, Call) and tree.name in _TRANSPARENT and tree.of is not None:
        tree = tree.of
    return tree


def _ratio(tree: Expression, wanted: _Share) -> Indicator:
    other = _Share.GOOD if wanted is _Share.BAD else _Share.BAD
    if isinstance(tree, Binary) and tree.op == "-" and tree.left == Number(Fraction(1)):
        return _ratio(tree.right, other)
    if isinstance(tree, Binary) and tree.op == "/":
        part, whole = _count(tree.left), _count(tree.right)
        if part.share is not wanted:
            raise NotOurs(
                f"is the share of {part.share.name.lower()} runs, and that of {wanted.name.lower()} ones is asked for"
            )
        return _indicator(part, whole)
    bare = tree.of if isinstance(tree, Call) and tree.name in ("avg", "sum") and tree.of else tree
    if isinstance(bare, Call) and bare.name == "avg_over_time" and isinstance(bare.of, Selector):
        if bare.of.metric != "probe_success":
            raise NotOurs(_foreign(bare.of.metric))
        if wanted is _Share.BAD:
            raise NotOurs("is the share of good runs, and that of bad ones is asked for; write 1 - …")
        return Indicator(match=_match(bare.of))
    _refuse_foreign(tree)
    raise NotOurs("is no quotient of bad or good runs and all")


def _indicator(part: _Count, whole: _Count) -> Indicator:
    if whole.share is not _Share.ALL:
        raise NotOurs(f"counts only {whole.share.name.lower()} runs where all are asked for")
    if part.match != whole.match:
        raise NotOurs(
            f"counts runs of {_shown(part.match)} among those of {_shown(whole.match)}; an objective has one set of probes"
        )
    return Indicator(
        match=dict(part.match),
        slower_than=part.limit,
        notes=tuple(dict.fromkeys((*part.notes, *whole.notes))),
    )


def _count(tree: Expression) -> _Count:
    tree = _bare(tree)
    if isinstance(tree, Selector):
        return _counter(tree)
    if isinstance(tree, Call) and tree.name in ("sum_over_time", "count_over_time"):
        return _samples(tree.name, tree.of)
    if isinstance(tree, Binary) and tree.op == "-":
        whole, part = _count(tree.left), _count(tree.right)
        if whole.share is not _Share.ALL or part.share is _Share.ALL or whole.match != part.match:
            raise NotOurs(
                "a difference is understood when it is all runs less the good or the bad ones of the same probes"
            )
        left = _Share.BAD if part.share is _Share.GOOD else _Share.GOOD
        return replace(part, share=left, notes=(*whole.notes, *part.notes))
    _refuse_foreign(tree)
    raise NotOurs("is computed from our metrics in a way that is not understood here")


def _counter(selector: Selector) -> _Count:
    metric = selector.metric
    if metric == _RUNS:
        return _by_label(selector, "outcome", {"up": _Share.GOOD, "down": _Share.BAD}, also="broken")
    if metric == _EVENTS:
        return _by_label(selector, "judgement", {"good": _Share.GOOD, "bad": _Share.BAD})
    if metric == _OF_HISTOGRAM:
        return _Count(_Share.ALL, _key(selector))
    if metric == _BUCKET:
        limits = [matcher for matcher in selector.matchers if matcher.label == "le"]
        rest = replace(selector, matchers=tuple(each for each in selector.matchers if each.label != "le"))
        if len(limits) != 1 or limits[0].op != "=":
            raise NotOurs('buckets are cumulative, so one is asked for, like le="0.5"')
        if limits[0].value == "+Inf":
            return _Count(_Share.ALL, _key(rest))
        try:
            limit = Fraction(limits[0].value)
        except (ValueError, ZeroDivisionError):
            raise NotOurs(f"no bucket has le={limits[0].value!r}") from None
        return _Count(_Share.GOOD, _key(rest), limit, (_DOWN_IS_BAD,))
    if metric in _MEASURED:
        raise NotOurs(f"{metric} is no counter; count its samples with count_over_time and sum_over_time")
    raise NotOurs(_foreign(metric))


def _by_label(selector: Selector, label: str, shares: Mapping[str, _Share], *, also: str = "") -> _Count:
    asked = [matcher for matcher in selector.matchers if matcher.label == label]
    rest = replace(selector, matchers=tuple(each for each in selector.matchers if each.label != label))
    if not asked:
        note = (f"runs that were {also} are no evidence and are not counted",) if also else ()
        return _Count(_Share.ALL, _key(rest), notes=note)
    if len(asked) > 1:
        raise NotOurs(f"asks for {label} twice")
    op, value = asked[0].op, asked[0].value
    if op == "=" and value in shares:
        return _Count(shares[value], _key(rest))
    if (op == "=~" and sorted(value.split("|")) == sorted(shares)) or (also and (op, value) == ("!=", also)):
        return _Count(_Share.ALL, _key(rest))
    if op == "!=" and value in shares and not also:
        return _Count(next(share for name, share in shares.items() if name != value), _key(rest))
    raise NotOurs(f'{label}{op}"{value}" is none of {", ".join(shares)}, or both')


def _samples(function: str, tree: Expression | None) -> _Count:
    if isinstance(tree, Selector):
        if tree.metric == "probe_success" and function == "sum_over_time":
            return _Count(_Share.GOOD, _key(tree))
        if tree.metric in _MEASURED and function == "count_over_time":
            return _Count(_Share.ALL, _key(tree))
        raise NotOurs(
            _foreign(tree.metric) if not _known(tree.metric) else f"{function} of {tree.metric} counts no runs"
        )
    if isinstance(tree, Binary) and isinstance(tree.left, Selector) and isinstance(tree.right, Number):
        selector, value = tree.left, tree.right.value
        if selector.metric == "probe_success" and tree.op == "==" and value in (0, 1) and function == "count_over_time":
            return _Count(_Share.GOOD if value else _Share.BAD, _key(selector))
        if selector.metric == "probe_duration_seconds" and function == "count_over_time" and value > 0:
            if tree.op in ("<=", "<"):
                return _Count(_Share.GOOD, _key(selector), value, (_DOWN_IS_BAD,))
            if tree.op in (">", ">="):
                return _Count(_Share.BAD, _key(selector), value, (_DOWN_IS_BAD,))
        if not _known(selector.metric):
            raise NotOurs(_foreign(selector.metric))
    raise NotOurs(f"what {function} looks at is not understood here")


def _key(selector: Selector) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(_match(selector).items()))


def _match(selector: Selector) -> dict[str, str]:
    found: dict[str, str] = {}
    for matcher in selector.matchers:
        if matcher.op != "=":
            raise NotOurs(
                f'{matcher.label}{matcher.op}"{matcher.value}" selects probes by a pattern; objectives match labels that are '
                "equal: give the probes a label of their own"
            )
        if not matcher.value or found.get(matcher.label, matcher.value) != matcher.value:
            raise NotOurs(f"no probe has a label {matcher.label} like this")
        found[matcher.label] = matcher.value
    only = {label: value for label, value in found.items() if label not in _SCRAPED}
    if not only:
        raise NotOurs("selects every probe that is scraped; name one with probe or instance, or a label of some")
    return only


def _refuse_foreign(tree: Expression) -> None:
    """What it is about comes before how it is written."""
    for metric in _metrics(tree):
        if not _known(metric):
            raise NotOurs(_foreign(metric))


def _metrics(tree: Expression) -> list[str]:
    if isinstance(tree, Selector):
        return [tree.metric]
    if isinstance(tree, Call):
        return _metrics(tree.of) if tree.of else []
    return [*_metrics(tree.left), *_metrics(tree.right)] if isinstance(tree, Binary) else []


def _known(metric: str) -> bool:
    return metric in _MEASURED | _DURATIONS | {_RUNS, _EVENTS, _BUCKET, _OF_HISTOGRAM, EXPIRY}


def _foreign(metric: str) -> str:
    if metric.startswith(("stormwatch_", "probe_")):
        return f"{metric} is ours, but no run is good or bad by it; ask for {_RUNS} or probe_success"
    return f"{metric} is not measured by stormwatch: its objectives judge runs of probes. Write a probe that looks at what it measures"


def _shown(match: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{label}={value}" for label, value in match)
