"""Mutants of a configuration: each is the monitoring with one line of it changed a little, as a mistake would.

A mutant says what was changed, where that stands, which rules it leaves different and which runs it would judge differently.
Whether anybody would notice is for `mutation.examine` to say.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction

from stormwatch.chaos.drill import Drill
from stormwatch.chaos.playback import Monitoring, Rejudge
from stormwatch.chaos.rejudged import (
    Confirmed,
    Place,
    SlowerThan,
    Without,
    expectations_of,
    slower_than_of,
)
from stormwatch.chaos.routing import Routed
from stormwatch.probes.probe import Confirm, Probe
from stormwatch.probes.units import show_duration, show_ratio
from stormwatch.slo.alert import Severity
from stormwatch.slo.identity import labels_of
from stormwatch.slo.maintenance import Maintenance, labels_of_probe
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import show_pair
from stormwatch.slo.rule import BudgetLeft, BurnRate, Down, Expiring, NoEvidence, Rule, Windows

LONGER = 60.0
"""Seconds of a `for` where there was none."""
TWICE, HALF = Fraction(2), Fraction(1, 2)
_OTHER_SEVERITY = {
    Severity.PAGE: (Severity.TICKET, Severity.HIGH, Severity.INFO),
    Severity.HIGH: (Severity.TICKET, Severity.INFO, Severity.PAGE),
    Severity.TICKET: (Severity.PAGE, Severity.HIGH, Severity.INFO),
    Severity.INFO: (Severity.TICKET, Severity.PAGE, Severity.HIGH),
}
"""What a severity is mistaken for; the first that no other rule makes the same alert with."""


class Operator(StrEnum):
    """The ways in which a line is changed."""

    RULE_REMOVED = "rule-removed"
    SEVERITY = "severity"
    FOR_LONGER = "for-longer"
    FOR_ZERO = "for-zero"
    KEEP_REMOVED = "keep-removed"
    FACTOR = "burn-factor"
    WINDOW = "burn-window"
    PAIR_REMOVED = "burn-pair-removed"
    THRESHOLD = "threshold"
    TARGET = "objective-target"
    OBJECTIVE_WINDOW = "objective-window"
    SLOWER_THAN = "slower-than"
    PROBE_REMOVED = "objective-probe-removed"
    CONFIRM = "confirm"
    EXPECTATION_REMOVED = "expectation-removed"
    DEPENDENCY_REMOVED = "dependency-removed"
    MAINTENANCE_REMOVED = "maintenance-removed"
    MATCHER_REMOVED = "matcher-removed"
    ROUTE_REMOVED = "route-removed"
    ROUTE_SEVERITY = "route-severity"
    ROUTE_MATCHER = "route-matcher"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """The monitoring with one thing changed."""

    operator: Operator
    subject: str
    """The objective, the probe, the window of maintenance or the channel that it is about."""
    sentence: str
    """What was changed: from what to what."""
    place: Place
    """Where it stands in the configuration: keys and indices."""
    test: str
    """What a drill would have to show to tell it apart."""
    probes: frozenset[str]
    """Only what these probes see can tell it apart."""
    monitoring: Monitoring = field(repr=False, compare=False)
    before: tuple[Rule, ...] = ()
    """The rules that it changes, as they were."""
    after: tuple[Rule, ...] = ()
    """The same as they are now; those that are gone are not here."""
    pair: Windows | None = None
    """The pair of windows that it changes, as it was."""
    rejudge: Rejudge | None = None
    """How runs would have ended."""
    routed: Routed | None = None
    """The channel that it changes, as it was: it leaves all rules as they are."""
    everywhere: bool = False
    """Whether it changes more than rules and runs: all has to be evaluated again."""
    equivalent: str = ""
    """Why nothing that could ever be seen tells it apart; empty: something may."""


def mutants_of(monitoring: Monitoring) -> Iterator[Mutant]:
    """All mutants, in the order of the configuration."""
    for number, probe in enumerate(monitoring.probes):
        yield from _of_probe(monitoring, probe, ("probes", number))
    for number, objective in enumerate(monitoring.objectives):
        yield from _of_objective(monitoring, objective, ("objectives", number))
    for number, window in enumerate(monitoring.maintenance):
        yield from _of_maintenance(monitoring, window, number)
    for routed in monitoring.routing:
        yield from _of_channel(monitoring, routed)


def _of_probe(monitoring: Monitoring, probe: Probe, place: Place) -> Iterator[Mutant]:
    for rule in monitoring.rules:
        if isinstance(rule, Down | NoEvidence | Expiring) and rule.probe == probe.name:
            yield from _of_rule_of_probe(monitoring, probe, rule, place)
    for number, name in enumerate(probe.depends_on):
        yield from _without_dependency(monitoring, probe, name, (*place, "depends_on", number))
    changed = _Changed(monitoring, probe.name, frozenset({probe.name}))
    attempts, after = probe.confirm.attempts, probe.confirm.after
    for wanted in (attempts - 1, attempts + 1):
        if wanted > 0:
            yield changed(
                Operator.CONFIRM,
                (*place, "confirm", "attempts"),
                f"{wanted} attempt{'' if wanted == 1 else 's'} instead of {attempts} before {probe.name} is down",
                test=f"a control run in which {probe.name} fails once and then not"
                if wanted < attempts
                else f"a drill that asks for {probe.name} to be red sooner than {wanted} attempts take",
                monitoring=_with_probe(monitoring, replace(probe, confirm=Confirm(wanted, after))),
                rejudge=Confirmed(probe.name, wanted, after),
            )
    for expectation in expectations_of(probe):
        yield changed(
            Operator.EXPECTATION_REMOVED,
            (*place, *expectation.place),
            f"{probe.name} does not ask for {expectation.name} any more",
            test=f"a drill of which {probe.name} turns red by {expectation.name} alone",
            rejudge=Without(expectation),
        )
    limit = slower_than_of(probe)
    for times in (TWICE, HALF) if limit is not None else ():
        wanted = float(Fraction(limit or 0.0) * times)
        yield changed(
            Operator.SLOWER_THAN,
            (*place, probe.kind, "expect", "slower_than"),
            f"{probe.name} is too slow after {_told(wanted)} instead of {_told(limit or 0.0)}",
            test=f"a drill that makes {probe.name} take {_between(limit or 0.0, wanted)}",
            rejudge=SlowerThan(probe.name, wanted),
        )


def _of_rule_of_probe(
    monitoring: Monitoring, probe: Probe, rule: Down | NoEvidence | Expiring, place: Place
) -> Iterator[Mutant]:
    name = f"{rule.alertname} of {probe.name}"
    if isinstance(rule, Expiring):
        own: Place = (*place, "alert", f"certificate_{rule.severity.value}")
    else:
        own = (*place, "alert") if isinstance(rule, Down) else place
    changed = _Changed(monitoring, probe.name, frozenset({probe.name, *rule.muted_by}), rule)
    yield from _of_told_rule(changed, rule, name, own) if isinstance(rule, Down) else _removed(changed, name, own)
    if isinstance(rule, Expiring):
        for times in (TWICE, HALF):
            wanted = float(Fraction(rule.within) * times)
            yield changed(
                Operator.THRESHOLD,
                own,
                f"{name} tells {_told(wanted)} before instead of {_told(rule.within)}",
                replace(rule, within=wanted),
                test=f"a drill that shows {probe.name} a certificate with {_between(rule.within, wanted)} left",
            )


def _without_dependency(monitoring: Monitoring, probe: Probe, name: str, place: Place) -> Iterator[Mutant]:
    muted = tuple(
        rule
        for rule in monitoring.rules
        if isinstance(rule, Down | NoEvidence) and rule.probe == probe.name and name in rule.muted_by
    )
    after = tuple(replace(rule, muted_by=tuple(one for one in rule.muted_by if one != name)) for rule in muted)
    if muted:
        yield Mutant(
            operator=Operator.DEPENDENCY_REMOVED,
            subject=probe.name,
            sentence=f"alerts of {probe.name} are not muted any more while {name} is down",
            place=place,
            test=f"a drill that breaks {name} and {probe.name}, and does not allow {probe.name}",
            probes=frozenset({probe.name, name}),
            monitoring=_with_rules(monitoring, muted, after),
            before=muted,
            after=after,
        )


def _of_objective(monitoring: Monitoring, objective: Objective, place: Place) -> Iterator[Mutant]:
    for rule in monitoring.rules:
        if isinstance(rule, BurnRate | BudgetLeft) and rule.objective == objective.name:
            yield from _of_rule_of_objective(monitoring, objective, rule, place)
    changed = _Changed(monitoring, objective.name, frozenset(objective.probes))
    for times, told in ((Fraction(1, 10), "a nine more"), (Fraction(10), "a nine less")):
        target = 1 - objective.budget * times
        if target > 0:
            yield changed.objective(
                Operator.TARGET,
                (*place, "target"),
                f"{objective.name} promises {show_ratio(target)} instead of {show_ratio(objective.target)}, {told}",
                replace(objective, target=target),
                test=f"a drill in which so few runs of {_listed(objective.probes)} fail that it depends on the target",
            )
    for times in (TWICE, HALF):
        if objective.calendar is None:
            window = float(Fraction(objective.window) * times)
            yield changed.objective(
                Operator.OBJECTIVE_WINDOW,
                (*place, "window"),
                f"the budget of {objective.name} is for {_told(window)} instead of {_told(objective.window)}",
                replace(objective, window=window),
                test=f"a drill that expects the budget of {objective.name} to become low",
            )
        if objective.slower_than is not None:
            limit = float(Fraction(objective.slower_than) * times)
            yield changed.objective(
                Operator.SLOWER_THAN,
                (*place, "slower_than"),
                f"runs are bad for {objective.name} after {_told(limit)} instead of {_told(objective.slower_than)}",
                replace(objective, slower_than=limit),
                test=f"a drill that makes {_listed(objective.probes)} take {_between(objective.slower_than, limit)}",
            )
        if objective.expires_within is not None:
            limit = float(Fraction(objective.expires_within) * times)
            yield changed.objective(
                Operator.THRESHOLD,
                (*place, "certificate_expires_within"),
                f"certificates are bad for {objective.name} {_told(limit)} before they expire instead of "
                f"{_told(objective.expires_within)}",
                replace(objective, expires_within=limit),
                test=f"a drill that shows a certificate with {_between(objective.expires_within, limit)} left",
            )
    for name in objective.probes if len(objective.probes) > 1 else ():
        yield changed.objective(
            Operator.PROBE_REMOVED,
            (*place, "match"),
            f"{objective.name} does not judge {name} any more",
            replace(objective, probes=tuple(one for one in objective.probes if one != name)),
            test=f"a drill in which {name} alone makes {objective.name} burn",
        )


def _of_rule_of_objective(
    monitoring: Monitoring, objective: Objective, rule: BurnRate | BudgetLeft, place: Place
) -> Iterator[Mutant]:
    name = f"the {rule.severity.value} of {objective.name}"
    if isinstance(rule, BudgetLeft):
        name = f"{rule.alertname} of {objective.name}"
    changed = _Changed(monitoring, objective.name, frozenset(objective.probes), rule)
    if isinstance(rule, BudgetLeft):
        yield from _removed(changed, name, place)
        return
    yield from _of_told_rule(changed, rule, name, (*place, "burns"))
    for number in range(len(rule.pairs)):
        yield from _of_pair(changed, objective, rule, number, (*place, "burns"))


def _of_pair(changed: "_Changed", objective: Objective, rule: BurnRate, number: int, place: Place) -> Iterator[Mutant]:
    pair = rule.pairs[number]

    def with_pair(*wanted: Windows) -> BurnRate:
        return replace(rule, pairs=(*rule.pairs[:number], *wanted, *rule.pairs[number + 1 :]))

    name = f"the {rule.severity.value} pair {show_pair(pair)} of {objective.name}"
    never = pair.factor * objective.budget >= 1
    for times, told in ((TWICE, "twice"), (HALF, "half")):
        factor = pair.factor * times
        share = (pair.factor * objective.budget, factor * objective.budget)
        yield changed(
            Operator.FACTOR,
            place,
            f"{name} asks for {told} its factor, {float(factor):.4g}",
            with_pair(replace(pair, factor=factor)),
            pair=pair,
            test=f"a drill in which {_shares(*share)} of the runs of {_listed(objective.probes)} fail",
            equivalent="even if every run fails, the budget does not burn so fast" if never and min(share) >= 1 else "",
        )
        windows = replace(pair, long=float(Fraction(pair.long) * times), short=float(Fraction(pair.short) * times))
        yield changed(
            Operator.WINDOW,
            place,
            f"{name} looks back {told} as far, {show_pair(windows).split(' over ')[-1]}",
            with_pair(windows),
            pair=pair,
            test=f"a drill whose alert is due, or resolved, between {_told(min(pair.short, windows.short))} and "
            f"{_told(max(pair.long, windows.long))} after the failures began or ended",
            equivalent="even if every run fails, the budget does not burn so fast" if never else "",
        )
    if len(rule.pairs) > 1:
        yield changed(
            Operator.PAIR_REMOVED,
            place,
            f"{name} is removed",
            with_pair(),
            pair=pair,
            test=f"a drill that makes {name} fire by itself",
            equivalent="even if every run fails, it never fires" if never else "",
        )


def _removed(changed: "_Changed", name: str, place: Place) -> Iterator[Mutant]:
    yield changed(
        Operator.RULE_REMOVED, place, f"{name} is removed", test=f"a drill that expects {name}, or does not allow it"
    )


def _of_told_rule(changed: "_Changed", rule: Down | BurnRate, name: str, place: Place) -> Iterator[Mutant]:
    """A rule of which people write whom it tells, and when."""
    yield from _removed(changed, name, place)
    taken = [labels_of(one) for one in changed.monitoring.rules if one is not rule]
    others = _OTHER_SEVERITY[rule.severity]
    told = next((one for level in others if labels_of(one := replace(rule, severity=level)) not in taken), None)
    if told is not None:
        yield changed(
            Operator.SEVERITY,
            (*place, "severity"),
            f"{name} is of severity {told.severity.value} instead of {rule.severity.value}",
            told,
            test=f"a drill that expects {name} by its severity, or does not allow it",
        )
    longer = rule.lasting * 2 or LONGER
    yield changed(
        Operator.FOR_LONGER,
        (*place, "for"),
        f"{name} fires after {_told(longer)} instead of {_told(rule.lasting)}",
        replace(rule, lasting=longer),
        test=f"a drill that expects {name} within less than {_told(longer)} of its condition",
    )
    if rule.lasting:
        yield changed(
            Operator.FOR_ZERO,
            (*place, "for"),
            f"{name} fires at once instead of after {_told(rule.lasting)}",
            replace(rule, lasting=0.0),
            test=f"a failure that is over in less than {_told(rule.lasting)}, during which {name} is not allowed",
        )
    if rule.keep:
        yield changed(
            Operator.KEEP_REMOVED,
            (*place, "keep_firing_for"),
            f"{name} does not go on firing for {_told(rule.keep)}",
            replace(rule, keep=0.0),
            test=f"a failure that comes and goes within {_told(rule.keep)}, and resolves late",
        )


def _of_maintenance(monitoring: Monitoring, window: Maintenance, number: int) -> Iterator[Mutant]:
    every = {probe.name: labels_of_probe(probe) for probe in monitoring.probes}
    matched = frozenset(name for name, labels in every.items() if window.matches(labels))
    name = f"maintenance {window.rrule}"
    before, after = monitoring.maintenance[:number], monitoring.maintenance[number + 1 :]
    yield Mutant(
        operator=Operator.MAINTENANCE_REMOVED,
        subject=name,
        sentence=f"{name} is removed",
        place=("maintenance", number),
        test=f"a drill, or a control run, while it is open and {_listed(sorted(matched))} fails",
        probes=matched,
        monitoring=replace(monitoring, maintenance=(*before, *after)),
        everywhere=True,
    )
    for label in window.match:
        wider = replace(window, match={key: value for key, value in window.match.items() if key != label})
        widened = frozenset(one for one, labels in every.items() if wider.matches(labels))
        yield Mutant(
            operator=Operator.MATCHER_REMOVED,
            subject=name,
            sentence=f"{name} is for every {label}, and not for {window.match[label]} alone",
            place=("maintenance", number, "match", label),
            test=f"a drill on {_listed(sorted(widened - matched))} while it is open",
            probes=widened - matched,
            monitoring=replace(monitoring, maintenance=(*before, wider, *after)),
            everywhere=True,
            equivalent="it is about the same probes" if widened == matched else "",
        )


def _of_channel(monitoring: Monitoring, routed: Routed) -> Iterator[Mutant]:
    """What makes a channel hear less: nothing that a drill asks for tells apart that one hears more."""
    name, severities, match = routed.name, routed.route.severities, routed.route.match

    def changed(operator: Operator, place: Place, sentence: str, wanted: Routed | None, *, test: str) -> Mutant:
        after = (wanted,) if wanted else ()
        routing = tuple(new for old in monitoring.routing for new in (after if old is routed else (old,)))
        return Mutant(
            operator=operator,
            subject=f"channel {name}",
            sentence=sentence,
            place=(*routed.place, *place),
            test=f"a drill with `delivered_within` whose `watch.receiver` stands behind {name}{test}",
            probes=frozenset(),
            monitoring=replace(monitoring, routing=routing),
            routed=routed,
        )

    yield changed(Operator.ROUTE_REMOVED, (), f"{name} is not told of any alert", None, test="")
    for severity in sorted(severities):
        rest = replace(routed.route, severities=severities - {severity})
        yield changed(
            Operator.ROUTE_SEVERITY,
            ("severities",),
            f"{name} is not told of what is of severity {severity}",
            replace(routed, route=rest) if rest.severities else None,  # without any, it would be told of all
            test=f", and whose alert is of severity {severity}",
        )
    for label, value in match.items():
        yield changed(
            Operator.ROUTE_MATCHER,
            ("match", label),
            f"{name} is told of alerts whose {label} is not {value}, and not of those whose {label} is",
            replace(routed, negated=routed.negated | {label}),
            test=f", and whose alert has {label} {value}",
        )


@dataclass(frozen=True, slots=True)
class _Changed:
    """Makes the mutants of one subject."""

    monitoring: Monitoring
    subject: str
    probes: frozenset[str]
    rule: Rule | None = None

    def __call__(
        self,
        operator: Operator,
        place: Place,
        sentence: str,
        wanted: Rule | None = None,
        *,
        test: str,
        monitoring: Monitoring | None = None,
        pair: Windows | None = None,
        rejudge: Rejudge | None = None,
        equivalent: str = "",
    ) -> Mutant:
        """The rule is `wanted` now, or gone; without a rule it is another monitoring, or other runs."""
        before = (self.rule,) if self.rule else ()
        after = (wanted,) if wanted else ()
        return Mutant(
            operator=operator,
            subject=self.subject,
            sentence=sentence,
            place=place,
            test=test,
            probes=self.probes,
            monitoring=monitoring or _with_rules(self.monitoring, before, after),
            before=before,
            after=after,
            pair=pair,
            rejudge=rejudge,
            equivalent=equivalent,
        )

    def objective(self, operator: Operator, place: Place, sentence: str, wanted: Objective, *, test: str) -> Mutant:
        """The objective is `wanted` now: all of its rules say something else."""
        rules = tuple(
            rule
            for rule in self.monitoring.rules
            if isinstance(rule, BurnRate | BudgetLeft) and rule.objective == wanted.name
        )
        objectives = tuple(wanted if one.name == wanted.name else one for one in self.monitoring.objectives)
        return Mutant(
            operator=operator,
            subject=self.subject,
            sentence=sentence,
            place=place,
            test=test,
            probes=self.probes,
            monitoring=replace(self.monitoring, objectives=objectives),
            before=rules,
            after=rules,
        )


def _with_rules(monitoring: Monitoring, before: tuple[Rule, ...], after: tuple[Rule, ...]) -> Monitoring:
    """The rules of `before` replaced one by one by those of `after`, or gone."""
    if not before:
        return monitoring
    wanted = {id(old): after[number : number + 1] for number, old in enumerate(before)}
    return replace(monitoring, rules=tuple(new for rule in monitoring.rules for new in wanted.get(id(rule), (rule,))))


def _with_probe(monitoring: Monitoring, probe: Probe) -> Monitoring:
    return replace(monitoring, probes=tuple(probe if one.name == probe.name else one for one in monitoring.probes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Weakened:
    """A drill that asks for one thing less."""

    drill: Drill
    sentence: str
    place: Place
    """Inside the drill's entry."""


def weakened(drill: Drill) -> Iterator[Weakened]:
    """The same drill without each of its expectations in turn; without each of the alerts that it allows."""
    probe, alert = drill.probe, drill.alert
    if probe and probe.reason is not None:
        yield _weak(
            replace(drill, probe=replace(probe, reason=None)), f"reason: {probe.reason.value}", "probe", "reason"
        )
    if probe and alert:
        yield _weak(replace(drill, alert=None), "the alert", "alert")
        yield _weak(replace(drill, probe=None), f"the probe {probe.name}", "probe")
    for label in alert.labels if alert else ():
        if alert and label not in {"alertname", "objective", "probe"}:
            labels = {key: value for key, value in alert.labels.items() if key != label}
            where: Place = (label,) if label == "severity" else ("labels", label)
            yield _weak(
                replace(drill, alert=replace(alert, labels=labels)), f"{label}: {alert.labels[label]}", "alert", *where
            )
    for number, name in enumerate(drill.allow):
        rest = (*drill.allow[:number], *drill.allow[number + 1 :])
        yield _weak(replace(drill, allow=rest), f"allow: {name}", "allow", number)


def _weak(drill: Drill, sentence: str, *place: str | int) -> Weakened:
    return Weakened(drill=drill, sentence=sentence, place=("expect", *place))


def _told(seconds: float) -> str:
    return show_duration(seconds) if seconds else "0s"


def _between(one: float, other: float) -> str:
    return f"between {_told(min(one, other))} and {_told(max(one, other))}"


def _shares(one: Fraction, other: Fraction) -> str:
    low, high = sorted((min(one, Fraction(1)), min(other, Fraction(1))))
    return f"between {show_ratio(low)} and {show_ratio(high)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
