"""What an objective's alerts can and cannot do with the probes it has: said before anything runs.

Synthetic probes are low traffic. At one run a minute and 99.9 %, a single failed run in an hour burns 16.7 times too fast.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from stormwatch.probes.probe import Probe
from stormwatch.probes.units import show_duration, show_ratio
from stormwatch.slo.alert import Severity
from stormwatch.slo.latency import (
    Bounds,
    failures_to_fire,
    first_failure,
    time_to_fire,
    time_to_fire_at,
    time_to_resolve,
)
from stormwatch.slo.noise import Noise, false_alerts_a_month, false_downs_a_month
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import show_pair
from stormwatch.slo.rule import BudgetLeft, BurnRate, Down, Rule, Windows


class Weight(StrEnum):
    """How serious a finding is: an error is refused, a warning is shown, an info is shown when asked."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact about an alert, in one sentence, with the numbers behind it."""

    severity: Weight
    subject: str
    """Name of the objective or probe."""
    text: str
    alert: Severity | None = None
    """Severity of the alert that it is about."""
    failures: int | None = None
    """Failed runs in a row that it takes to fire, after a healthy time."""
    detection: Bounds | None = None
    """Seconds to fire when every run fails."""


def findings(
    objective: Objective, probes: Iterable[Probe], rules: Iterable[Rule], *, evaluation_interval: float = 1.0
) -> tuple[Finding, ...]:
    """What `rules` mean for an objective: for each pair of windows whether, after how many failures and when it fires.

    `probes` may be all that there are. Only the objective's own rules are looked at.
    """
    judged = [probe for probe in probes if probe.name in objective.probes]
    if not judged:
        asked = ", ".join(objective.probes) or "no probe"
        return (
            Finding(
                severity=Weight.ERROR,
                subject=objective.name,
                text=f"{objective.name} judges {asked}, and there is no such probe; name one that exists",
            ),
        )
    found: list[Finding] = []
    for rule in rules:
        if isinstance(rule, BurnRate) and rule.objective == objective.name:
            for pair in rule.pairs:
                found += _about_pair(rule, pair, objective, judged, evaluation_interval)
        elif isinstance(rule, BudgetLeft) and rule.objective == objective.name:
            found += _about_budget(rule, objective, judged)
    return tuple(found)


SHARES = (1, 2, 10)
"""Every run fails, every second, every tenth: 100 %, 50 % and 10 % errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What one alert of an objective or a probe does: how fast it sees, how fast it forgets, how often it errs."""

    subject: str
    """Name of the objective or probe."""
    alertname: str
    severity: Severity
    when: str
    """When it fires, for people: its pairs of windows, or `down`."""
    failures: int | None
    """Failed runs in a row that it takes, after a healthy time; None: it never fires."""
    detection: Mapping[int, Bounds]
    """Seconds to fire after a healthy time when every n-th run fails, by n."""
    reset: Bounds
    """Seconds from the first moment that is good again to the end of the alert, after a total failure that just made it fire."""
    noise: float | None = None
    """The measured share of isolated failed runs; None: nothing was measured."""
    false_a_month: float | None = None
    """How often it is expected to fire in 30 days of that noise."""


def outlooks(
    objective: Objective,
    probes: Iterable[Probe],
    rules: Iterable[Rule],
    *,
    noise: Mapping[str, Noise] | None = None,
    evaluation_interval: float = 1.0,
) -> tuple[Outlook, ...]:
    """What each burn-rate rule of an objective does. `noise` is by probe; probes that are not in it were not measured."""
    judged = [probe for probe in probes if probe.name in objective.probes]
    # Noise was measured in runs; what looks into them, or at slices of time, has a noise of its own.
    share = None if objective.looks_inside or objective.slices else _noise_of(judged, noise or {})
    found: list[Outlook] = []
    for rule in rules:
        if not isinstance(rule, BurnRate) or rule.objective != objective.name or not judged:
            continue
        detection = {
            nth: _widest(
                time_to_fire_at(rule, each, evaluation_interval, objective=objective, every_nth=nth) for each in judged
            )
            for nth in SHARES
        }
        failing = detection[1].worst
        every = _every(objective, judged)
        found.append(
            Outlook(
                subject=objective.name,
                alertname=rule.alertname,
                severity=rule.severity,
                when=" or ".join(show_pair(pair) for pair in rule.pairs)
                + (f" for {show_duration(rule.lasting)}" if rule.lasting else ""),
                failures=min(
                    (count for pair in rule.pairs if (count := failures_to_fire(pair, objective, every)) is not None),
                    default=None,
                ),
                detection=detection,
                reset=_widest(
                    time_to_resolve(
                        rule, each, evaluation_interval, failing=failing, objective=objective, healthy=objective.window
                    )
                    for each in judged
                )
                if math.isfinite(failing)
                else Bounds(math.inf, math.inf),
                noise=share,
                false_a_month=None if share is None else false_alerts_a_month(rule, objective, every, share),
            )
        )
    return tuple(found)


def outlook_of_probe(
    probe: Probe, rules: Iterable[Rule], *, noise: Mapping[str, Noise] | None = None, evaluation_interval: float = 1.0
) -> Outlook | None:
    """What the alert ProbeDown of a probe does; None when it has none."""
    rule = next((rule for rule in rules if isinstance(rule, Down) and rule.probe == probe.name), None)
    if rule is None:
        return None
    whole = time_to_fire(rule, probe, evaluation_interval)
    share = _noise_of([probe], noise or {})
    return Outlook(
        subject=probe.name,
        alertname=rule.alertname,
        severity=rule.severity,
        when="down"
        + (f" from {rule.quorum} locations" if rule.quorum > 1 else "")
        + (f" for {show_duration(rule.lasting)}" if rule.lasting else ""),
        failures=1 + math.ceil(rule.lasting / probe.every),
        detection={
            # A good run ends it: what fails now and then stays down until the next good run, and no `for` outlasts that.
            nth: Bounds(whole.best, whole.worst + (nth - 1) * probe.every)
            if nth == 1 or rule.lasting < probe.every
            else Bounds(math.inf, math.inf)
            for nth in SHARES
        },
        reset=time_to_resolve(rule, probe, evaluation_interval, failing=whole.worst),
        noise=share,
        false_a_month=None if share is None else false_downs_a_month(rule, probe.every, share),
    )


def _noise_of(judged: Sequence[Probe], noise: Mapping[str, Noise]) -> float | None:
    """The share of isolated failed runs among all runs of these probes, by how often each runs; None: some was not measured."""
    if any(probe.name not in noise for probe in judged):
        return None
    rates = {probe.name: 1 / probe.every for probe in judged}
    return sum(noise[name].share * rate for name, rate in rates.items()) / sum(rates.values())


def _widest(bounds: Iterable[Bounds]) -> Bounds:
    each = list(bounds)
    return Bounds(min(bound.best for bound in each), max(bound.worst for bound in each))


def findings_of_probe(
    probe: Probe, probes: Iterable[Probe], rules: Iterable[Rule], *, evaluation_interval: float = 1.0
) -> tuple[Finding, ...]:
    """What the reachability rules of a probe mean: when it pages, and whether a dependency can mute it in time."""
    known = {other.name: other for other in probes}
    found: list[Finding] = []
    for rule in rules:
        if not isinstance(rule, Down) or rule.probe != probe.name:
            continue
        bounds = time_to_fire(rule, probe, evaluation_interval)
        found.append(
            Finding(
                severity=Weight.INFO,
                subject=probe.name,
                alert=rule.severity,
                failures=1,
                detection=bounds,
                text=f"{probe.name} is reported down ({rule.severity.value}) {_between(bounds)} after it fails",
            )
        )
        if rule.severity is Severity.PAGE and probe.confirm.attempts == 1 and not rule.lasting:
            found.append(
                Finding(
                    severity=Weight.WARNING,
                    subject=probe.name,
                    alert=rule.severity,
                    failures=1,
                    text=f"{probe.name} pages on one unconfirmed attempt; give it confirm: {{attempts: 2}}, or alert: "
                    f"{{for: {show_duration(probe.every)}}}",
                )
            )
        for name in rule.muted_by:
            if name in known:
                # It is muted in time when the dependency is known to be down before the dependant's `for` is over.
                needed = first_failure(known[name]).worst + evaluation_interval
                if rule.lasting < needed:
                    found.append(
                        Finding(
                            severity=Weight.INFO,
                            subject=probe.name,
                            alert=rule.severity,
                            text=f"{probe.name} may be reported down up to {show_duration(needed - rule.lasting)} before "
                            f"{name} is seen down and mutes it; alert: {{for: {show_duration(needed)}}} always waits for it",
                        )
                    )
    return tuple(found)


def _about_pair(
    rule: BurnRate, pair: Windows, objective: Objective, judged: list[Probe], evaluation_interval: float
) -> list[Finding]:
    name, shown = objective.name, show_pair(pair)
    threshold = pair.factor * objective.budget
    if threshold >= 1:
        lowest = 1 - 1 / pair.factor
        return [
            Finding(
                severity=Weight.ERROR,
                subject=name,
                alert=rule.severity,
                text=f"{name}: the {rule.severity.value} at {shown} can never fire, since it needs more than "
                f"{float(threshold * 100):.4g}% bad runs; set a target above {_up(lowest)} or another policy",
            )
        ]
    every = _every(objective, judged)
    failures = failures_to_fire(pair, objective, every)
    assert failures is not None
    found: list[Finding] = []
    if pair.short < every:
        found.append(
            Finding(
                severity=Weight.WARNING,
                subject=name,
                alert=rule.severity,
                text=f"{name}: the window of {show_duration(pair.short)} is shorter than the {show_duration(float(every))} "
                "between two runs, so its alert comes and goes; run the probe more often",
            )
        )
    confirmed = all(probe.confirm.attempts > 1 for probe in judged)
    if failures == 1 and rule.severity is Severity.PAGE and not rule.lasting:
        found.append(_pages_on_one(name, rule, shown, confirmed=confirmed))
    bounds = _detection(rule, pair, objective, judged, evaluation_interval)
    runs = max(1, math.floor(Fraction(pair.long) / every))
    lasting = f" for {show_duration(rule.lasting)}" if rule.lasting else ""
    found.append(
        Finding(
            severity=Weight.INFO,
            subject=name,
            alert=rule.severity,
            failures=failures,
            detection=bounds,
            text=f"{name}: {rule.severity.value} at {shown}{lasting} after {failures} {_counted(objective, runs)}; "
            f"when every run fails {_between(bounds)}",
        )
    )
    return found


def _pages_on_one(name: str, rule: BurnRate, shown: str, *, confirmed: bool) -> Finding:
    if confirmed:
        return Finding(
            severity=Weight.WARNING,
            subject=name,
            alert=rule.severity,
            failures=1,
            text=f"{name}: one failed run pages at {shown}, though confirmed by a second attempt; run the probe more often "
            "or lower the target",
        )
    return Finding(
        severity=Weight.ERROR,
        subject=name,
        alert=rule.severity,
        failures=1,
        text=f"{name}: one unconfirmed failed run pages at {shown}; give the probe confirm: {{attempts: 2}}, run it more "
        "often, or lower the target",
    )


def _about_budget(rule: BudgetLeft, objective: Objective, judged: list[Probe]) -> list[Finding]:
    allowed = objective.budget * Fraction(objective.window) / _every(objective, judged)
    found: list[Finding] = []
    if allowed < 1:
        found.append(
            Finding(
                severity=Weight.WARNING,
                subject=objective.name,
                alert=rule.severity,
                text=f"{objective.name}: {_span(objective)} allow {float(allowed):.2g} {_bad(objective)}, so the "
                "first one overspends the budget; run the probe more often, or lower the target",
            )
        )
    found.append(
        Finding(
            severity=Weight.INFO,
            subject=objective.name,
            alert=rule.severity,
            text=f"{objective.name}: the budget of {_span(objective)} is {float(allowed):.4g} {_bad(objective)}; "
            f"{rule.severity.value} when less than {show_ratio(rule.below)} of it is left",
        )
    )
    return found


def _detection(
    rule: BurnRate, pair: Windows, objective: Objective, judged: list[Probe], evaluation_interval: float
) -> Bounds:
    """When everything that it judges fails: the first of its probes to fill the windows decides."""
    alone = BurnRate(
        alertname=rule.alertname, severity=rule.severity, lasting=rule.lasting, objective=rule.objective, pairs=(pair,)
    )
    each = [time_to_fire(alone, probe, evaluation_interval, objective=objective) for probe in judged]
    return Bounds(min(bounds.best for bounds in each), max(bounds.worst for bounds in each))


def _counted(objective: Objective, number: int) -> str:
    return f"failed of {number} runs" if objective.slices is None else f"bad of {number} slices"


def _bad(objective: Objective) -> str:
    return "failed runs" if objective.slices is None else "bad slices"


def _span(objective: Objective) -> str:
    """The window that a budget is for: `30d`, or what a part of the calendar nominally lasts."""
    span = show_duration(objective.window)
    return f"a {objective.calendar.unit} of {span}" if objective.calendar else span


def _every(objective: Objective, judged: list[Probe]) -> Fraction:
    """Seconds between two events that are counted: results of all the probes together, or slices."""
    return 1 / objective.events_in(1.0, {probe.name: probe.every for probe in judged})


def _between(bounds: Bounds) -> str:
    return f"between {show_duration(round(bounds.best, 1))} and {show_duration(round(bounds.worst, 1))}"


def _up(ratio: Fraction) -> str:
    """A percentage that is not below the ratio, to two decimals."""
    return show_ratio(Fraction(math.ceil(ratio * 10000), 10000))
