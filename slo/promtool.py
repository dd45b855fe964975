"""Unit tests for `promtool test rules`, made for every alert: when it fires, when it does not, when it is over.

A test is a `Scenario` and what `Judge` says of it. Around every moment at which an alert begins or ends there are two
looks, one before and one after, so that another window, threshold or `for` is seen.

    total failure           ▸ fires at the computed moment, with its labels and annotations, and is over again
    just above the threshold ▸ fires          just below ▸ does not
    seen by one location only, no data, another's data ▸ does not fire
    a dependency is down, maintenance ▸ does not fire, and does as soon as that is over
"""

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from stormwatch.probes.probe import Probe
from stormwatch.probes.units import show_duration
from stormwatch.slo.budget import expected_results
from stormwatch.slo.document import yaml_text
from stormwatch.slo.identity import labels_of
from stormwatch.slo.objective import EXPIRY, Objective
from stormwatch.slo.policy import STANDS, evidence_stands, show_pair
from stormwatch.slo.prometheus import LOOK_BACK, PERIOD_EVENTS, PERIOD_EXPECTED
from stormwatch.slo.rule import (
    BudgetLeft,
    BurnRate,
    Down,
    Expiring,
    LocationDown,
    NoEvidence,
    PeerSilent,
    QuorumDegraded,
    Rule,
    Windows,
)
from stormwatch.slo.scenario import (
    EVENTS,
    EVIDENCE,
    MAINTENANCE,
    SUCCESS,
    Judge,
    Known,
    Number,
    Scenario,
    Series,
    Values,
)

PER_SHORT_WINDOW = 6
"""Steps in the short window of a pair: enough to tell half of a window from the whole."""
RESULTS = 10**9
"""Results in one step of a scenario, so that every share of them that is asked for is a whole number, near enough."""
RARELY = 20
"""Steps between two scrapes of a time in which nothing happens."""
BEFORE = 10**13
"""What counters have counted when a scenario begins: `increase` guesses at what was before when they begin at zero."""
LOOKS = 12
"""How often a scenario is looked at in which nothing changes."""
TESTED = (BurnRate, BudgetLeft, Down, NoEvidence, Expiring, LocationDown, QuorumDegraded)
"""The rules that there are scenarios for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestFile:
    """One file for promtool. Its tests share the interval of evaluation."""

    __test__ = False  # pytest takes the name for a test
    name: str
    text: str


def render_tests(
    objectives: Iterable[Objective], rules: Iterable[Rule], probes: Iterable[Probe], *, rule_file: str
) -> tuple[TestFile, ...]:
    """The tests of every rule, for the rule file that `render_rules` writes of the same objectives, rules and probes.

    `rule_file` is the name of that file beside the tests.
    """
    known = {objective.name: objective for objective in objectives}
    every = {probe.name: probe.every for probe in probes}
    every_rule = tuple(rules)
    judge = Judge(
        objectives=known,
        expected={name: expected_results(objective, every) for name, objective in known.items()},
        quorums={rule.probe: rule for rule in every_rule if isinstance(rule, Down) and rule.quorum > 1},
        stands=evidence_stands(every_rule),
    )
    files: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for rule in every_rule:
        for scenario in scenarios(rule, judge):
            name = f"{_subject(rule)}.{rule.alertname}.{rule.severity.value}"
            files.setdefault((name, scenario.step), []).append(_test(rule, scenario, every_rule, judge))
    return tuple(
        TestFile(
            name=f"{name}.{_time(step)}.test.yml",
            text=yaml_text({"rule_files": [rule_file], "evaluation_interval": _time(step), "tests": tests}),
        )
        for (name, step), tests in files.items()
    )


def untested(rules: Iterable[Rule]) -> tuple[str, ...]:
    """The names of alerts that there are no scenarios for."""
    return tuple(sorted({rule.alertname for rule in rules if not isinstance(rule, TESTED)}))


def scenarios(rule: Rule, judge: Judge) -> Iterator[Scenario]:
    """Histories that show everything that a rule does, and nothing that it does not."""
    if isinstance(rule, BurnRate):
        yield from _burn_scenarios(rule, judge)
    elif isinstance(rule, BudgetLeft):
        yield from _budget_scenarios(rule, judge)
    elif isinstance(rule, LocationDown | QuorumDegraded) or (isinstance(rule, Down) and rule.quorum > 1):
        yield from _quorum_scenarios(rule)
    elif isinstance(rule, Down):
        yield from _down_scenarios(rule, judge)
    elif isinstance(rule, NoEvidence):
        yield from _evidence_scenarios(rule)
    elif isinstance(rule, Expiring):
        yield from _expiry_scenarios(rule)


# Error budgets


def _burn_scenarios(rule: BurnRate, judge: Judge) -> Iterator[Scenario]:
    objective = judge.objectives[rule.objective]
    if not objective.budget:
        return
    longest = max(pair.long for pair in rule.pairs)
    step = 60_000
    for pair in rule.pairs:
        threshold = pair.factor * objective.budget
        divisor = PER_SHORT_WINDOW if pair.short < pair.long else 3 * PER_SHORT_WINDOW
        step = max(1000, math.ceil(pair.short * 1000 / divisor))
        short, long = (math.ceil(window * 1000 / step) for window in (pair.short, pair.long))
        healthy = min(2000, math.ceil(longest * 1000 / step)) + 2
        lasting = math.ceil(rule.lasting * 1000 / step)
        # What is just above for one Prometheus is so for the other, whose window is a step shorter.
        margin = max(Fraction(3, 100), Fraction(8, 5) / long)
        above, below = (min(Fraction(1), threshold * near) for near in (1 + margin, 1 - margin))
        level = _level(pair, rule, objective)
        burst = max(1, math.floor(threshold * long / level))
        named = f"{show_pair(pair)}"
        yield _events(
            f"{named}: a steady share of bad runs just above the threshold fires",
            rule,
            step,
            [(above, long + lasting + 3), (Fraction(0), short + 3)],
        )
        yield _events(
            f"{named}: a steady share of bad runs just below the threshold does not fire",
            rule,
            step,
            [(below, long + lasting + 3)],
        )
        if above * long / burst <= 1:
            yield _events(
                f"{named}: bad runs that take the long window just above the threshold fire",
                rule,
                step,
                [(Fraction(0), healthy), (above * long / burst, burst), (Fraction(0), short + 3)],
            )
        yield _events(
            f"{named}: bad runs that leave the long window just below the threshold do not fire",
            rule,
            step,
            [(Fraction(0), healthy), (min(Fraction(1), below * long / burst), burst), (Fraction(0), short + 3)],
        )
        yield _events(
            f"{named}: over with the short window, and again when that is above the threshold, not before",
            rule,
            step,
            [
                (Fraction(0), healthy),
                (level, math.ceil(burst * Fraction(5, 4)) + lasting),
                (Fraction(0), 3 * short),
                (below, short + 2),
                (above, short + 2 + lasting),
                (Fraction(0), short),
            ],
        )
        yield _events(
            f"{named}: a total failure",
            rule,
            step,
            [(Fraction(0), long), (Fraction(1), long // 2 + lasting), (Fraction(0), 2 * short + 3)],
        )
    yield Scenario(name="no results, no alert", step=step, series=())


def _level(pair: Windows, rule: BurnRate, objective: Objective) -> Fraction:
    """The share of bad runs that takes this pair above its threshold in half its long window, and no shorter pair."""
    threshold = pair.factor * objective.budget
    others = [other.factor * objective.budget for other in rule.pairs if other.long < pair.long]
    highest = min([Fraction(1), *(other * Fraction(96, 100) for other in others)])
    return min(Fraction(1), max(min(2 * threshold, highest), threshold))


def _budget_scenarios(rule: BudgetLeft, judge: Judge) -> Iterator[Scenario]:
    objective, expected = judge.objectives[rule.objective], judge.expected[rule.objective]
    used = (1 - rule.below) * objective.budget * expected
    if not used:
        return
    if objective.calendar is not None:
        yield from _period_scenarios(rule, used, expected)
        return
    parts = 30
    step = math.ceil(objective.window * 1000 / parts)
    good = max(1, math.floor(expected / 1000))

    def counted(name: str, bad: Fraction) -> Scenario:
        """All bad runs in one step; counters begin at zero, so that nothing is guessed at."""
        length = 2 * parts + 4
        return Scenario(
            name=name,
            step=step,
            series=(
                _counter(rule.objective, "good", [good * at for at in range(length)]),
                _counter(rule.objective, "bad", [0 if at < 3 else bad for at in range(length)]),
            ),
        )

    yield counted("just enough of the budget is used, and the period passes", used * Fraction(103, 100))
    yield counted("almost enough of the budget is used", used * Fraction(97, 100))
    yield Scenario(name="no results, no alert", step=step, series=())


def _period_scenarios(rule: BudgetLeft, used: Fraction, expected: Fraction) -> Iterator[Scenario]:
    """A period of the calendar begins, is spent, and the next one begins."""
    step, length = 60_000, 12

    def counted(name: str, bad: Fraction) -> Scenario:
        spent = [Fraction(0) if at < 3 or at >= 8 else bad for at in range(length)]

        def series(metric: str, values: Values, **labels: str) -> Series:
            return Series(metric=metric, labels={"objective": rule.objective, **labels}, values=values)

        return Scenario(
            name=name,
            step=step,
            series=(
                series(PERIOD_EVENTS, [expected / 2] * length, judgement="good"),
                series(PERIOD_EVENTS, spent, judgement="bad"),
                series(PERIOD_EXPECTED, [expected] * length),
            ),
        )

    yield counted("just enough of the period's budget is used, and a new period begins", used * Fraction(103, 100))
    yield counted("almost enough of the period's budget is used", used * Fraction(97, 100))
    yield Scenario(name="no results, no alert", step=step, series=())


def _events(name: str, rule: BurnRate, step: int, phases: Sequence[tuple[Fraction, int]]) -> Scenario:
    """Counters that grow by `RESULTS` a step, of which a share is bad that each phase gives, for so many steps.

    A long healthy time before is scraped rarely: nothing happens in it, and promtool reads it again at every step.
    """
    bad, good = [BEFORE], [BEFORE]
    for share, steps in phases:
        failed = round(share * RESULTS)
        for _ in range(steps):
            bad.append(bad[-1] + failed)
            good.append(good[-1] + RESULTS - failed)
    healthy = phases[0][1] - RARELY if not phases[0][0] else 0

    def scraped(values: Sequence[int]) -> Values:
        return [None if at < healthy and at % RARELY else value for at, value in enumerate(values)]

    return Scenario(
        name=name,
        step=step,
        series=(_counter(rule.objective, "good", scraped(good)), _counter(rule.objective, "bad", scraped(bad))),
    )


def _counter(objective: str, judgement: str, values: Values) -> Series:
    return Series(metric=EVENTS, labels={"objective": objective, "judgement": judgement}, values=values)


# Probes


def _down_scenarios(rule: Down, judge: Judge) -> Iterator[Scenario]:
    shortest = min((seconds for seconds in (rule.lasting, rule.keep) if seconds), default=60.0)
    parts = 2 if rule.lasting and rule.keep else 4
    step = max(1, math.ceil(shortest * 1000 / parts))
    lasting, keep = (math.ceil(seconds * 1000 / step) for seconds in (rule.lasting, rule.keep))
    failing = "+++" + "-" * (lasting + 3) + "+" * (keep + 3)

    def seen(name: str, *series: Series) -> Scenario:
        return Scenario(name=name, step=step, series=series)

    yield seen("a total failure", _success(rule.probe, failing))
    if lasting:
        yield seen("a failure shorter than `for`", _success(rule.probe, "+++" + "-" * lasting + "+++"))
    yield seen(
        "one location of two sees it down",
        _success(rule.probe, failing, instance="first"),
        _success(rule.probe, "+" * len(failing), instance="second"),
    )
    yield seen(
        "its series go away while it is down", _success(rule.probe, "++" + "-" * (lasting + 3) + "." * (keep + 3))
    )
    yield seen(
        "its runs are broken for a while, at first without having been down",
        _success(rule.probe, "++.." + "-" * (lasting + 2) + ".." + "-" * 2 + "..+" + "." * (keep + 2)),
    )
    yield seen(
        "another series takes its place",
        _success(rule.probe, "+++" + "." * (lasting + 3), instance="first"),
        _success(rule.probe, "..." + "-" * (lasting + 3), instance="second"),
    )
    coarse = math.ceil(judge.stands.get(rule.probe, STANDS) * 1000 / 7)
    down = "-" * (2 + math.ceil(rule.lasting * 1000 / coarse))
    kept = math.ceil(rule.keep * 1000 / coarse)
    yield Scenario(
        name="its runs are broken for longer than what was seen stands",
        step=coarse,
        series=(_success(rule.probe, "+" + down + "." * (10 + kept) + down),),
    )
    yield seen("another probe is down", _success(f"{rule.probe}-another", failing))
    yield seen("no data, no alert")
    for mute, series in _mutes(rule, lasting + 3, lasting + keep + 3):
        yield seen(mute, _success(rule.probe, "-" * len(series.values)), series)


def _quorum_scenarios(rule: Down | LocationDown | QuorumDegraded) -> Iterator[Scenario]:
    """As many locations as the quorum asks for, and one more."""
    shortest = min((seconds for seconds in (rule.lasting, rule.keep) if seconds), default=60.0)
    step = max(1, math.ceil(max(shortest / 4, rule.due / 40) * 1000))
    lasting, keep, due = (math.ceil(seconds * 1000 / step) for seconds in (rule.lasting, rule.keep, rule.due))
    here = rule.location if isinstance(rule, LocationDown) else "here"
    others = [f"other-{number}" for number in range(rule.quorum)]
    long = lasting + keep + 4
    up, down = "+" * (3 + long + long), "+++" + "-" * long + "+" * long

    def vote(location: str, signs: str, probe: str = rule.probe) -> tuple[Series, Series]:
        """`+` and `-` a run that is up or down, `=` none any more after one that was down, `.` nothing is there."""
        seen: list[Number | None] = []
        evidence: list[Number | None] = []
        last: Number = 0
        for at, sign in enumerate(signs):
            last = Fraction(at * step, 1000) if sign in "+-" else last
            seen.append(None if sign == "." else int(sign == "+"))
            evidence.append(None if sign == "." else last)
        labels = {"probe": probe, "location": location}
        return Series(metric=SUCCESS, labels=labels, values=seen), Series(
            metric=EVIDENCE, labels=labels, values=evidence
        )

    def seen(name: str, *votes: tuple[Series, ...]) -> Scenario:
        return Scenario(name=name, step=step, series=tuple(series for each in votes for series in each))

    many, few = others[:-1], others[-1:]
    yield seen("one location sees it down", vote(here, down), *(vote(each, up) for each in others))
    yield seen("another location sees it down", vote(here, up), *(vote(each, up) for each in many), vote(few[0], down))
    yield seen(
        "as many see it down as the quorum asks for",
        vote(here, down),
        *(vote(each, down) for each in many),
        *(vote(each, up) for each in few),
    )
    yield seen(
        "one of them saw it down too long ago",
        vote(here, down + "+" * due),
        *(vote(each, "+++" + "=" * (due + 2 * long)) for each in many),
        *(vote(each, up + "+" * due) for each in few),
    )
    yield seen("all that answer see it down, and they are too few", vote(here, down))
    yield seen("a single location sees it up", vote(here, up + "+" * due))
    yield seen("nobody looks any more", vote(here, "+++" + "=" * (due + 2 * long)))
    yield seen("another probe is down", *(vote(each, down, f"{rule.probe}-another") for each in (here, *others)))
    yield seen("no data, no alert")
    red, green = "-" * (2 * long), "+" * (2 * long)
    rest = [vote(each, green) for each in others] if isinstance(rule, LocationDown) else []
    alone = [vote(here, red), *rest]
    for probe in rule.muted_by:
        muting = vote(here, "-" * long + "+" * long, probe)
        yield seen(f"{probe}, on which it depends, is down, and comes up", *alone, muting)
    maintained = Series(metric=MAINTENANCE, labels={"probe": rule.probe}, values=[1] * long + [0] * long)
    yield seen("maintenance, and its end", *alone, (maintained,))


def _evidence_scenarios(rule: NoEvidence) -> Iterator[Scenario]:
    step = max(1, math.ceil(rule.after * 1000 / 4))
    lasting = math.ceil(rule.lasting * 1000 / step)
    silent = 9 + lasting

    def evidence(at_step: int, signs: str, probe: str = rule.probe) -> Series:
        """`+` a result at this moment, `-` none, `.` the series is gone."""
        values: list[Number | None] = []
        last: Number = 0
        for at, sign in enumerate(signs):
            last = Fraction(at * at_step, 1000) if sign == "+" else last
            values.append(None if sign == "." else last)
        return Series(metric=EVIDENCE, labels={"probe": probe}, values=values)

    def seen(name: str, *series: Series, at_step: int = step) -> Scenario:
        return Scenario(name=name, step=at_step, series=series)

    yield seen("evidence stops, and comes again", evidence(step, "+++" + "-" * silent + "+++"))
    yield seen("the prober is gone, and comes again", evidence(step, "+++" + "." * silent + "+++"))
    yield seen("another probe gives no evidence", evidence(step, "+++" + "-" * silent, f"{rule.probe}-another"))
    coarse = math.ceil(max(LOOK_BACK, 2 * rule.after) * 1000 / 100)
    yield seen("the prober is gone for good: `up` must have told", evidence(coarse, "+++" + "." * 110), at_step=coarse)
    yield seen("no data, no alert")
    for mute, series in _mutes(rule, silent, silent):
        yield seen(mute, evidence(step, "+" + "-" * (len(series.values) - 1)), series)


def _expiry_scenarios(rule: Expiring) -> Iterator[Scenario]:
    step = 60_000
    lasting, keep = (math.ceil(seconds * 1000 / step) for seconds in (rule.lasting, rule.keep))
    before, after, length = 3, lasting + 4, lasting + keep + 12
    expiry = math.floor(rule.within) + before * step // 1000
    renewed = expiry + 90 * 86400

    def dated(dates: Sequence[Number], **labels: str) -> Series:
        return Series(metric=EXPIRY, labels={"probe": rule.probe} | labels, values=dates)

    def seen(name: str, *series: Series) -> Scenario:
        return Scenario(name=name, step=step, series=series)

    old = [expiry] * (before + after)
    yield seen("a certificate gets old, and is renewed", dated([*old, *[renewed] * (length - len(old))]))
    yield seen(
        "one location of two sees an old certificate",
        dated([expiry] * length, instance="first"),
        dated([renewed] * length, instance="second"),
    )
    yield seen("another probe sees an old certificate", dated([0] * length, probe=f"{rule.probe}-another"))
    yield seen("a certificate that has long to go", dated([renewed] * length))
    yield seen("no data, no alert")
    for mute, series in _mutes(rule, after + 3, after + 3):
        yield seen(mute, dated([0] * len(series.values)), series)


def _mutes(rule: Down | NoEvidence | Expiring, during: int, after: int) -> Iterator[tuple[str, Series]]:
    """Whatever mutes a rule, for so many steps, and its end.

    Of a dependency that several locations decide on nothing is shown here: a series without a location is no vote.
    """
    for probe in rule.muted_by:
        yield f"{probe}, on which it depends, is down, and comes up", _success(probe, "-" * during + "+" * after)
    maintained = [int(at < during) for at in range(during + after)]
    yield (
        "maintenance, and its end",
        Series(metric=MAINTENANCE, labels={"probe": rule.probe}, values=maintained),
    )


def _success(probe: str, signs: str, **labels: str) -> Series:
    """`+` up, `-` down, `.` nothing."""
    meaning = {"+": 1, "-": 0, ".": None}
    return Series(metric=SUCCESS, labels={"probe": probe, **labels}, values=[meaning[sign] for sign in signs])


# What promtool is given


def _test(rule: Rule, scenario: Scenario, rules: Sequence[Rule], judge: Judge) -> dict[str, Any]:
    """One test: the series, and at each telling moment all alerts of the rule's name."""
    named = [each for each in rules if each.alertname == rule.alertname and isinstance(each, TESTED)]
    lives = {id(each): judge.firing(each, scenario) for each in named}
    return {
        "name": f"{_subject(rule)} {rule.alertname} {rule.severity.value}: {scenario.name}",
        "interval": _time(scenario.step),
        "input_series": [
            {
                "series": f"{each.metric}{_selector(each.labels)}",
                "values": notation(each.values, gone="_" if each.metric == EVENTS else "stale"),
            }
            for each in scenario.series
        ],
        "alert_rule_test": [
            {
                "eval_time": _time(at * scenario.step),
                "alertname": rule.alertname,
                "exp_alerts": [
                    {"exp_labels": _labels(each), "exp_annotations": annotations}
                    for each in named
                    if lives[id(each)][at]
                    for annotations in [_annotations(each, scenario, at, judge)]
                ],
            }
            for at in _telling([lives[id(each)] for each in named], named, scenario, judge)
        ],
    }


def _telling(lives: Sequence[Sequence[Known]], named: Sequence[Rule], scenario: Scenario, judge: Judge) -> list[int]:
    """The steps to look at: some all along, and both sides of every change."""
    clear = [
        at
        for at in range(scenario.steps)
        if all(life[at] is not None for life in lives)
        and all(
            not life[at] or _annotations(each, scenario, at, judge) is not None
            for life, each in zip(lives, named, strict=True)
        )
    ]
    telling: set[int] = {*clear[:: max(1, len(clear) // LOOKS)], *clear[-1:]}
    for before, after in itertools.pairwise(clear):
        if any(life[before] != life[after] for life in lives):
            telling |= {before, after}
    return sorted(telling)


def _labels(rule: Rule) -> dict[str, str]:
    labels = labels_of(rule)
    del labels["alertname"]
    return labels


def _annotations(rule: Rule, scenario: Scenario, at: int, judge: Judge) -> dict[str, str] | None:
    """What the alert of a rule tells at a step; None when that is not clear."""
    told = dict(rule.annotations)
    if isinstance(rule, BurnRate):
        told["windows"] = ""
        for pair in rule.pairs:
            burns = judge.burns(pair, rule.objective, scenario, at)
            if burns is None:
                return None
            if burns:
                told["windows"] = show_pair(pair)
                break
    if isinstance(rule, Expiring):
        dates = scenario.now(at, EXPIRY, probe=rule.probe)
        told["expires"] = _go_time(min(dates)) if dates else ""
    return told


def _go_time(seconds: Number) -> str:
    """As Prometheus' `humanizeTimestamp` writes it."""
    return f"{datetime.fromtimestamp(float(seconds), UTC):%Y-%m-%d %H:%M:%S} +0000 UTC"


def notation(values: Values, *, gone: str = "stale") -> str:
    """A series in promtool's notation: `0+5x3` is 0 5 10 15, `_` is no sample, `gone` the first step without one."""
    parts: list[str] = []
    at = 0
    while at < len(values):
        value = values[at]
        if value is None:
            run = next((end for end in range(at, len(values)) if values[end] is not None), len(values)) - at
            parts.append(gone if at else "_")
            parts += [f"_x{run - 1}"] if run > 1 else []
            at += run
            continue
        following = values[at + 1] if at + 1 < len(values) else None
        growth = following - value if following is not None else 0
        end = at
        while end + 1 < len(values) and _grown(values[end], values[end + 1], growth):
            end += 1
        parts.append(
            _number(value)
            if end == at
            else f"{_number(value)}{'-' if growth < 0 else '+'}{_number(abs(growth))}x{end - at}"
        )
        at = end + 1
    return " ".join(parts)


def _grown(value: Number | None, following: Number | None, growth: Number) -> bool:
    return value is not None and following is not None and following - value == growth


def _number(value: Number) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.12g}"


def _time(milliseconds: int) -> str:
    """A duration as Prometheus reads it, and people where that is possible."""
    return f"{milliseconds}ms" if milliseconds % 1000 else show_duration(milliseconds // 1000) if milliseconds else "0s"


def _selector(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items()) + "}"


def _subject(rule: Rule) -> str:
    if isinstance(rule, BurnRate | BudgetLeft):
        return rule.objective
    if isinstance(rule, PeerSilent):
        return rule.location
    return f"{rule.probe}.{rule.location}" if isinstance(rule, LocationDown) else rule.probe
