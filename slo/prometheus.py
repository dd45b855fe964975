"""The same rules as Prometheus rules: what `Evaluator` computes from results, PromQL computes from our counters.

Recorded series carry sloth's names and labels, so that dashboards made for it work. Alerts have exactly the labels that the
evaluator gives them, and look at aggregated series for that: a label of a scrape would make another alert of it.

Three things are unlike sloth, on purpose. Numbers are exact decimals, or exact quotients where there is no decimal. The ratio
over the whole period is one ratio, and no average of averages. Where there were no results nothing is recorded, instead
of a NaN that spoils every window it is in.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from stormwatch.probes.probe import Probe
from stormwatch.probes.units import show_duration
from stormwatch.slo.budget import expected_results
from stormwatch.slo.document import yaml_text
from stormwatch.slo.identity import clean_labels, labels_of
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import STANDS, evidence_stands, show_pair
from stormwatch.slo.rule import (
    BudgetLeft,
    BurnRate,
    Down,
    Expiring,
    LocationDown,
    PeerSilent,
    QuorumDegraded,
    Rule,
    Windows,
)

DAY = 86400
WEEK = 7 * DAY
CURRENT = 300.0
"""Seconds of the window that sloth's dashboards call the current burn rate."""
BUDGET_INTERVAL = 60
"""Seconds between evaluations of what looks over a whole period: a month of samples is not read every few seconds."""
LOOK_BACK = 6 * 3600
"""Seconds for which the evidence of a prober that is gone is remembered. Later `up` must have told."""

PERIOD_EVENTS = "stormwatch_objective_period_events"
"""What an objective with a calendar window counted since its present period began, by `judgement`."""
PERIOD_EXPECTED = "stormwatch_objective_period_expected_events"
"""How much that whole period holds."""

Group = dict[str, Any]


def render_rules(
    objectives: Iterable[Objective], rules: Iterable[Rule], probes: Iterable[Probe] = (), *, version: str = ""
) -> str:
    """A Prometheus rule file, as text. `probes` tell how many results a full window of an objective holds.

    `version` is told in `sloth_slo_info`. Raises ValueError for a rule about an objective that is not given.
    """
    every = {probe.name: probe.every for probe in probes}
    known = {objective.name: objective for objective in objectives}
    of_objective: dict[str, list[BurnRate | BudgetLeft]] = {name: [] for name in known}
    of_probes: list[Rule] = []
    for rule in rules:
        if isinstance(rule, BurnRate | BudgetLeft):
            if rule.objective not in known:
                raise ValueError(f"rule {rule.alertname} is about the objective {rule.objective!r}, which is not there")
            of_objective[rule.objective].append(rule)
        else:
            of_probes.append(rule)
    reach = _Reachability(
        quorums={rule.probe: rule for rule in of_probes if isinstance(rule, Down) and rule.quorum > 1},
        stands=evidence_stands(of_probes),
    )
    groups: list[Group] = []
    for name, its_rules in of_objective.items():
        groups += _groups_of(known[name], its_rules, expected_results(known[name], every), reach, version)
    if any(not isinstance(rule, PeerSilent) for rule in of_probes):
        made = [_probe_alert(rule, reach) for rule in of_probes if not isinstance(rule, PeerSilent)]
        groups.append({"name": "stormwatch-probes", "rules": made})
    return yaml_text({"groups": groups})


def render_scrape(targets: Sequence[str], *, interval: float = 15.0, job: str = "stormwatch") -> str:
    """The `scrape_configs` of a Prometheus that reads `stormwatch run`. `targets` are `host:port`.

    `honor_labels` keeps `instance` as the probed target, which is what dashboards for blackbox_exporter expect.
    """
    return yaml_text(
        {
            "scrape_configs": [
                {
                    "job_name": job,
                    "honor_labels": True,
                    "scrape_interval": show_duration(interval),
                    "static_configs": [{"targets": list(targets)}],
                }
            ]
        }
    )


def _groups_of(
    objective: Objective,
    rules: Sequence[BurnRate | BudgetLeft],
    expected: Fraction,
    reach: "_Reachability",
    version: str,
) -> list[Group]:
    """Two groups: what must be fast, and what looks over the whole period.

    Series and the alerts that read them stand in one group, since the rules of a group are evaluated one after the other
    at the same moment; in two groups an alert would read the value of an evaluation ago.
    """
    series = _Series(objective)
    burns = [rule for rule in rules if isinstance(rule, BurnRate)]
    windows = {window for rule in burns for pair in rule.pairs for window in (pair.short, pair.long)}
    fast = [
        _record(series.name(window), series.ratio(window), series.of(window)) for window in sorted(windows | {CURRENT})
    ]
    fast += [
        _record("slo:objective:ratio", f"vector({exact(objective.target)})", series.labels),
        _record("slo:error_budget:ratio", f"vector({exact(objective.budget)})", series.labels),
        _record("slo:time_period:days", f"vector({exact(Fraction(objective.window) / DAY)})", series.labels),
        _record("slo:current_burn_rate:ratio", _burn(series.recorded(CURRENT), objective), series.labels),
        _record(
            "sloth_slo_info",
            "vector(1)",
            {
                **series.labels,
                "sloth_version": version,
                "sloth_mode": "stormwatch",
                "sloth_spec": "stormwatch",
                "sloth_objective": _decimal(objective.target * 100),
            },
        ),
    ]
    fast += [
        _alert(rule, _burning(rule, series, objective, reach), _which_pair(rule, series, objective)) for rule in burns
    ]
    slow = [
        _record(series.period_name, series.period_ratio(), series.of(objective.window)),
        _record("slo:period_burn_rate:ratio", series.period_burn(expected), series.labels),
        _record(
            "slo:period_error_budget_remaining:ratio",
            f"1 - slo:period_burn_rate:ratio{series.selector}",
            series.labels,
        ),
    ]
    slow += [
        _alert(rule, f"max(slo:period_error_budget_remaining:ratio{series.selector}) < {exact(rule.below)}")
        for rule in rules
        if isinstance(rule, BudgetLeft)
    ]
    if objective.window in windows | {CURRENT}:
        slow = slow[1:]  # recorded already; of a calendar's window, what a rule looks at goes before
    return [
        {"name": f"stormwatch-slo-{objective.name}", "rules": fast},
        {
            "name": f"stormwatch-budget-{objective.name}",
            **({"interval": show_duration(BUDGET_INTERVAL)} if objective.window > DAY else {}),
            "rules": slow,
        },
    ]


class _Series:
    """The recorded series of one objective: names, labels, selectors."""

    def __init__(self, objective: Objective) -> None:
        service = objective.labels.get("service") or (objective.probes[0] if objective.probes else objective.name)
        identity = {"sloth_id": f"{service}-{objective.name}", "sloth_service": service, "sloth_slo": objective.name}
        self.labels = {**clean_labels(objective.labels), **identity}
        self.selector = _selector(identity)
        self.period_name = self.name(objective.window)
        self._objective = objective

    def name(self, window: float) -> str:
        return f"slo:sli_error:ratio_rate{_window(window)}"

    def of(self, window: float) -> dict[str, str]:
        return {**self.labels, "sloth_window": _window(window)}

    def recorded(self, window: float) -> str:
        return f"{self.name(window)}{self.selector}"

    def ratio(self, window: float) -> str:
        """Bad results among all, of one window; no sample when there were none."""
        return f"{self._increase(window, judgement='bad')}\n/\n({self._increase(window)} > 0)"

    def period_ratio(self) -> str:
        """The same over the period that the budget is for."""
        if self._objective.calendar is None:
            return self.ratio(self._objective.window)
        return f"{self._in_period(judgement='bad')}\n/\n({self._in_period()} > 0)"

    def period_burn(self, expected: Fraction) -> str:
        """Bad results of the period in budgets. A period that is not full yet is taken as full."""
        window, budget = self._objective.window, self._objective.budget
        bad, total, full = self._increase(window, judgement="bad"), self._increase(window), exact(expected)
        if self._objective.calendar is not None:
            # Where the calendar's parts begin is not for PromQL to know: the prober tells what it counted in this one,
            # and how much a whole one holds, which is more in a long month.
            bad, total = self._in_period(judgement="bad"), self._in_period()
            full = f"scalar(sum({PERIOD_EXPECTED}{_selector({'objective': self._objective.name})}))"
        if budget == 0:
            return f"({bad} > bool 0) and ({total} > 0)"
        return f"{bad}\n/\n({exact(budget)} * clamp_min({total} > 0, {full}))"

    def _in_period(self, **labels: str) -> str:
        return f"sum({PERIOD_EVENTS}{_selector({'objective': self._objective.name, **labels})})"

    def _increase(self, window: float, **labels: str) -> str:
        selector = _selector({"objective": self._objective.name, **labels})
        return f"sum(increase(stormwatch_objective_events_total{selector}[{_duration(window)}]))"


def _burning(rule: BurnRate, series: _Series, objective: Objective, reach: "_Reachability") -> str:
    pairs = [_pair(pair, series, objective) for pair in rule.pairs]
    return _unless("\nor\n".join(f"(\n{pair}\n)" for pair in pairs), [reach.down(name) for name in rule.muted_by])


def _pair(pair: Windows, series: _Series, objective: Objective) -> str:
    threshold = exact(pair.factor * objective.budget)
    windows = dict.fromkeys((pair.long, pair.short))
    return "\nand\n".join(f"max({series.recorded(window)}) > {threshold}" for window in windows)


def _which_pair(rule: BurnRate, series: _Series, objective: Objective) -> dict[str, str]:
    """The annotation that says which windows burn, by asking again when the alert is written: a label must not change."""
    text = ""
    for number, pair in enumerate(rule.pairs):
        query = json.dumps(_pair(pair, series, objective).replace("\n", " "))
        text += f"{{{{ {'else ' if number else ''}if query {query} }}}}{_plain(show_pair(pair))}"
    return {"windows": f"{text}{{{{ end }}}}"}


def _burn(ratio: str, objective: Objective) -> str:
    # Without a budget there is no burn rate; a division by zero would record infinities.
    ratio = f"max without (sloth_window) ({ratio})"
    return f"{ratio} / {exact(objective.budget)}" if objective.budget else f"{ratio} unless {ratio}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reachability:
    """When a probe counts as down."""

    quorums: Mapping[str, Down]
    """The rules about probes that several locations decide on, by the probe."""
    stands: Mapping[str, float]
    """Seconds for which what was seen down stands when nothing is seen any more, by the probe."""

    def down(self, probe: str) -> str:
        """By the quorum; of a probe without one, seen down from every location."""
        return _decided(self.quorums[probe]) if probe in self.quorums else self.here(probe)

    def here(self, probe: str, **labels: str) -> str:
        """Down in the last samples that there are, of whichever locations the labels leave.

        A broken run leaves no sample, and a restart of the prober none for a moment. What is there decides alone: the
        last word of a series that another took the place of must not hide an outage.
        """
        selector = _selector({"probe": probe, **labels})
        return f"({_last_seen(selector, self.stands.get(probe, STANDS))}) == 0"


def _last_seen(selector: str, window: float, by: str = "") -> str:
    highest = f"max {by}" if by else "max"
    return (
        f"{highest}(probe_success{selector}) or {highest}(last_over_time(probe_success{selector}[{_duration(window)}]))"
    )


def _probe_alert(rule: Rule, reach: _Reachability) -> dict[str, Any]:
    assert not isinstance(rule, BurnRate | BudgetLeft | PeerSilent)
    probe = _selector({"probe": rule.probe})
    maintenance = f"max(stormwatch_maintenance{probe}) == 1"
    if isinstance(rule, LocationDown):
        here = _selector({"probe": rule.probe, "location": rule.location})
        alone = f"({_last_seen(here, rule.due)}) == 0 and {_fresh(here, rule.due)}\nunless on() ({_decided(rule)})"
        explained = [reach.here(name, location=rule.location) for name in rule.muted_by]
        return _alert(rule, _unless(alone, [*explained, maintenance]))
    mutes = [*(reach.down(name) for name in rule.muted_by), maintenance]
    if isinstance(rule, QuorumDegraded):
        return _alert(rule, _unless(f"count({_votes(rule)}) < {rule.quorum}", mutes))
    if isinstance(rule, Down):
        return _alert(rule, _unless(reach.down(rule.probe), mutes))
    if isinstance(rule, Expiring):
        expiry = f"min(probe_ssl_earliest_cert_expiry{probe})"
        date = f"{{{{ with query {json.dumps(expiry)} }}}}{{{{ . | first | value | humanizeTimestamp }}}}{{{{ end }}}}"
        expiring = f"{expiry} - time() < {exact(Fraction(str(rule.within)))}"
        return _alert(rule, _unless(expiring, mutes), {"expires": date})
    look_back = _duration(max(LOOK_BACK, 2 * rule.after))
    silent = f"time() - max(max_over_time(stormwatch_probe_evidence_timestamp_seconds{probe}[{look_back}]))"
    return _alert(rule, _unless(f"{silent} > {exact(Fraction(str(rule.after)))}", mutes))


def _decided(rule: Down | LocationDown) -> str:
    """Enough locations see it down, or all that have a vote do."""
    red, votes = f"count({_votes(rule)} == 0)", f"count({_votes(rule)})"
    return f"{red} >= {rule.quorum} or {red} == {votes}"


def _votes(rule: Down | LocationDown | QuorumDegraded) -> str:
    """Of each location whether it sees the probe up, if it looked lately.

    A broken run leaves no `probe_success`: then what was seen down stands, and what was seen up does not.
    """
    probe = _selector({"probe": rule.probe})
    seen = f"{_last_seen(probe, rule.due, by='by (location) ')} == 0"
    return f"(({seen}) and on (location) {_fresh(probe, rule.due, by='by (location) ')})"


def _fresh(selector: str, due: float, by: str = "") -> str:
    evidence = f"max {by}(stormwatch_probe_evidence_timestamp_seconds{selector})"
    return f"time() - {evidence} <= {exact(Fraction(str(due)))}"


def _unless(expression: str, mutes: Sequence[str]) -> str:
    if not mutes:
        return expression
    return f"(\n{expression}\n)" + "".join(f"\nunless on() ({mute})" for mute in mutes)


def _record(name: str, expression: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"record": name, "expr": expression, "labels": dict(labels)}


def _alert(rule: Rule, expression: str, templates: Mapping[str, str] | None = None) -> dict[str, Any]:
    labels = labels_of(rule)
    name = labels.pop("alertname")
    return {
        "alert": name,
        "expr": expression,
        **({"for": _duration(rule.lasting)} if rule.lasting else {}),
        **({"keep_firing_for": _duration(rule.keep)} if rule.keep else {}),
        "labels": {label: _plain(value) for label, value in labels.items()},
        "annotations": {
            **{annotation: _plain(text) for annotation, text in rule.annotations.items()},
            **(templates or {}),
        },
    }


def exact(number: Fraction) -> str:
    """A number as PromQL: the decimal if it has one, else the quotient of two whole numbers, which rounds once."""
    denominator = number.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return _decimal(number) if denominator == 1 else f"({number.numerator} / {number.denominator})"


def _decimal(number: Fraction) -> str:
    """All digits of a number that has finitely many."""
    digits = 0
    scaled = number
    while scaled.denominator != 1:
        scaled *= 10
        digits += 1
        if digits > 40:
            return str(float(number))
    sign, text = ("-" if scaled < 0 else ""), str(abs(scaled.numerator)).rjust(digits + 1, "0")
    return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else f"{sign}{text}"


def _duration(seconds: float) -> str:
    """A window as Prometheus reads it, in its units down to milliseconds."""
    milliseconds = round(seconds * 1000)
    rest = milliseconds % 1000
    whole = show_duration(milliseconds // 1000) if milliseconds >= 1000 else ""
    return f"{whole}{rest}ms" if rest else whole


def _window(seconds: float) -> str:
    """A window in the name of a series, as Prometheus and so sloth shorten it: 28 days are `4w`, and 30 are `30d`."""
    weeks, rest = divmod(seconds, WEEK)
    return f"{weeks:.0f}w" if weeks and not rest else _duration(seconds)


def _selector(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items()) + "}"


def _plain(text: str) -> str:
    """Text that Prometheus expands as a template, without being one."""
    return text.replace("{{", '{{ "{{" }}')
