"""Policies: from an objective to its alert rules. Windows are data, with their source beside them.

The share of the budget that a burn-rate rule lets go before it speaks, its long window and its factor hang together:

    factor = share of the budget × period / long window          2 % × 720 h / 1 h = 14.4

The tables are for a period of 30 days. For a shorter period each long window shrinks with it and is rounded up to the next
of `STEPS`; the short window is a twelfth, rounded up in the same way; the factor follows from the formula. So 28 days
keep windows of 1 h, 6 h, 1 d and 3 d with the factors 13.44, 5.6, 2.8 and 14/15, and 7 days have 15 min at 13.44.
A longer period keeps the windows of 30 days. A policy that is defined by factors keeps its factors.

No window is shorter than a minute, nor than its probes can fill: the short one holds two results, the long one is at least
three times the short one. A factor that comes out below 1 because a window had to grow is 1: a slower burn never uses up the budget.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from stormwatch.probes.probe import Probe
from stormwatch.probes.units import show_duration, show_ratio
from stormwatch.slo.alert import Severity
from stormwatch.slo.objective import Objective
from stormwatch.slo.rule import BudgetLeft, BurnRate, Down, Expiring, NoEvidence, Rule, Windows

HOUR = 3600
DAY = 86400
PERIOD = 30 * DAY
STANDS = 900.0
"""Seconds, at least, for which a probe counts as down while its runs are broken."""
"""The period in seconds that the tables below are written for."""

RESULTS_TO_FILL = 2
"""A window must hold so many results: with one, a run that starts a little late leaves it empty, and the alert flaps."""

STEPS = (
    *(minutes * 60 for minutes in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 45)),
    *(hours * HOUR for hours in (1, 1.5, 2, 3, 4, 6, 8, 12, 18)),
    *(days * DAY for days in (1, 1.5, 2, 3)),
)
"""Lengths in seconds that windows are rounded up to, so that the recorded series have names that people can read.

None is below a minute: Prometheus scrapes every 15 s or so, and what it computes from two samples is a guess.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """One pair of windows of a policy, for a period of 30 days. Either `share` of the budget or `factor` is given."""

    severity: Severity
    long: float
    short: float
    share: Fraction | None = None
    factor: Fraction | None = None
    lasting: float = 0.0
    literal: bool = False
    """Whether it is meant as it stands, for the period that the objective has: somebody chose it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which burns alert whom, and from where on the budget counts as nearly used up."""

    source: str
    burns: tuple[Burn, ...]
    low: Fraction
    """Less than this share of the budget left: deployments freeze."""


POLICIES: Mapping[str, Policy] = {
    "workbook": Policy(
        source="Google, The Site Reliability Workbook, chapter 5, table 5-8 and 'Multiwindow, Multi-Burn-Rate Alerts'",
        burns=(
            Burn(severity=Severity.PAGE, long=1 * HOUR, short=HOUR // 12, share=Fraction(2, 100)),
            Burn(severity=Severity.PAGE, long=6 * HOUR, short=HOUR // 2, share=Fraction(5, 100)),
            Burn(severity=Severity.TICKET, long=1 * DAY, short=2 * HOUR, share=Fraction(10, 100)),
            Burn(severity=Severity.TICKET, long=3 * DAY, short=6 * HOUR, share=Fraction(10, 100)),
        ),
        low=Fraction(1, 10),
    ),
    "fast-slow": Policy(
        source="Our first users: above 10x page at once; above 2x for 1 h a ticket; below 10 % left no deployments",
        burns=(
            Burn(severity=Severity.PAGE, long=1 * HOUR, short=HOUR // 12, factor=Fraction(10)),
            # One window and a `for` of the same length: a single failed run is above 2x for an hour less one result.
            Burn(severity=Severity.TICKET, long=1 * HOUR, short=1 * HOUR, factor=Fraction(2), lasting=1 * HOUR),
        ),
        low=Fraction(1, 10),
    ),
}

DEFAULT_POLICY = "workbook"


def rules_for_objective(
    objective: Objective, probes: Iterable[Probe], *, policy: str = DEFAULT_POLICY, burns: Iterable[Burn] = ()
) -> tuple[Rule, ...]:
    """The alert rules of an objective. `probes` are all that there are; those that it judges decide what fills a window.

    `burns` stand in the place of those of the policy.

    They carry the objective's labels, and are not muted by what its probes depend on: the budget burns all the same, and
    a mute that ends with the outage would only move the page to the moment when it is over.

    Raises ValueError for a policy that is not in `POLICIES`.
    """
    if policy not in POLICIES:
        raise ValueError(f"no policy {policy!r}; there are {', '.join(sorted(POLICIES))}")
    every = _seconds_per_result(objective, probes)
    rules: list[Rule] = []
    for (severity, lasting), alike in _by_alert(tuple(burns) or POLICIES[policy].burns).items():
        pairs = _without_duplicates(_scaled(burn, objective.window, every) for burn in alike)
        rules.append(
            BurnRate(
                alertname="ErrorBudgetBurn",
                severity=severity,
                # A rule's `for` shrinks with its windows, or it would outlast what it watches.
                lasting=lasting if alike[0].literal else min(lasting, pairs[0].long) if lasting else 0.0,
                labels=objective.labels,
                annotations=_annotations(
                    objective,
                    summary=f"{objective.name} burns its error budget too fast",
                    description=f"{_promise(objective)}; this burns the budget faster than "
                    + " or ".join(show_pair(pair) for pair in pairs),
                ),
                objective=objective.name,
                pairs=pairs,
            )
        )
    low = POLICIES[policy].low
    rules.append(
        BudgetLeft(
            alertname="ErrorBudgetLow",
            severity=Severity.INFO,
            labels=objective.labels,
            annotations=_annotations(
                objective,
                summary=f"{objective.name} has less than {show_ratio(low)} of its error budget left",
                description=f"{_promise(objective)}; deployments freeze until more than {show_ratio(low)} is left",
            ),
            objective=objective.name,
            below=low,
        )
    )
    return tuple(rules)


def rules_for_probe(
    probe: Probe,
    *,
    severity: Severity | None = Severity.PAGE,
    lasting: float = 0.0,
    keep: float = 0.0,
    expiry: Mapping[Severity, float] | None = None,
) -> tuple[Rule, ...]:
    """Reachability of a probe, that it gives evidence at all, and when the certificate that it sees expires.

    `severity` is that of ProbeDown; None leaves it out. `lasting` is its `for`, `keep` its `keep_firing_for` in seconds.
    `expiry` says how many seconds before a certificate expires whom CertificateExpiring tells. All but that one are muted
    while a probe that it depends on is down.
    """
    after = evidence_due(probe)
    down = Down(
        alertname="ProbeDown",
        severity=severity or Severity.PAGE,
        lasting=lasting,
        keep=keep,
        muted_by=probe.depends_on,
        labels=probe.labels,
        annotations=_annotations(
            probe,
            summary=f"{probe.name} is down",
            description=f"{probe.kind} probe of {probe.target}: {_attempts(probe)} failed in the last run",
        ),
        probe=probe.name,
    )
    blind = NoEvidence(
        alertname="ProbeNoEvidence",
        severity=Severity.TICKET,
        muted_by=probe.depends_on,
        labels=probe.labels,
        annotations=_annotations(
            probe,
            summary=f"{probe.name} gives no evidence",
            description=f"{probe.kind} probe of {probe.target} was neither up nor down for {show_duration(after)}: "
            "it is broken, stuck or not run, and an outage would not be seen",
        ),
        probe=probe.name,
        after=after,
    )
    expiring = tuple(
        Expiring(
            alertname="CertificateExpiring",
            severity=told,
            labels=probe.labels,
            annotations=_annotations(
                probe,
                summary=f"the certificate of {probe.target} expires in less than {show_duration(within)}",
                description=f"{probe.name} was shown a chain of certificates of which one expires in less than "
                f"{show_duration(within)}, or has expired",
            ),
            probe=probe.name,
            within=within,
        )
        for told, within in (expiry or {}).items()
    )
    return (down, blind, *expiring) if severity else (blind, *expiring)


def evidence_due(probe: Probe) -> float:
    """Seconds without an up or down result after which a probe counts as blind.

    Results of a healthy probe are `every` apart, give or take the time that its attempts take. So three intervals and one
    run at its longest forgive two runs that were skipped or broken, and not the third.
    """
    return 3 * probe.every + longest_run(probe)


def evidence_stands(rules: Iterable[Rule]) -> Mapping[str, float]:
    """Seconds for which each probe that was seen down counts as down while its runs are broken, or none come.

    An outage is not over because we cannot look any more. It is as long as nobody knows better, and for long enough that
    whoever was paged by it has read ProbeNoEvidence as well.
    """
    return {rule.probe: max(STANDS, rule.after) for rule in rules if isinstance(rule, NoEvidence)}


def longest_run(probe: Probe) -> float:
    """Seconds that a run takes when every attempt times out."""
    confirm = probe.confirm
    return confirm.attempts * probe.timeout + (confirm.attempts - 1) * confirm.after


def show_pair(pair: Windows) -> str:
    """A pair for people: `14.4x over 1h and 5m`."""
    windows = show_duration(pair.long)
    if pair.short != pair.long:
        windows += f" and {show_duration(pair.short)}"
    return f"{float(pair.factor):.4g}x over {windows}"


def _scaled(burn: Burn, period: float, every: Fraction) -> Windows:
    if burn.literal:
        factor = burn.factor if burn.share is None else burn.share * Fraction(period) / Fraction(burn.long)
        assert factor is not None
        return Windows(long=burn.long, short=burn.short, factor=factor)
    scale = min(Fraction(1), Fraction(period) / PERIOD)
    wanted = _step_up(Fraction(burn.long) * scale)
    single = burn.short == burn.long
    fill = RESULTS_TO_FILL * every
    short = wanted if single else _step_up(max(Fraction(wanted) * Fraction(burn.short) / Fraction(burn.long), fill))
    long = _step_up(max(Fraction(wanted), fill if single else 3 * short))
    long = min(long, math.ceil(period))
    short = long if single else min(short, long)
    if burn.factor is not None:
        return Windows(long=float(long), short=float(short), factor=burn.factor)
    assert burn.share is not None
    factor = burn.share * Fraction(period) / long
    if long > wanted:
        factor = max(Fraction(1), factor)
    return Windows(long=float(long), short=float(short), factor=factor)


def _step_up(seconds: Fraction | int) -> int:
    return next((int(step) for step in STEPS if step >= seconds), math.ceil(Fraction(seconds) / DAY) * DAY)


def _seconds_per_result(objective: Objective, probes: Iterable[Probe]) -> Fraction:
    """How far apart the results of all its probes together are, or its slices; 0 if nothing is known to be counted."""
    rate = objective.events_in(1.0, {probe.name: probe.every for probe in probes})
    return 1 / rate if rate else Fraction(0)


def _by_alert(burns: Iterable[Burn]) -> dict[tuple[Severity, float], list[Burn]]:
    """Burns that alert the same people under the same `for` are one rule."""
    grouped: dict[tuple[Severity, float], list[Burn]] = {}
    for burn in burns:
        grouped.setdefault((burn.severity, burn.lasting), []).append(burn)
    return grouped


def _without_duplicates(pairs: Iterable[Windows]) -> tuple[Windows, ...]:
    """Pairs that grew to the same windows: the most sensitive one says everything that the others say."""
    best: dict[tuple[float, float], Windows] = {}
    for pair in pairs:
        key = (pair.long, pair.short)
        known = best.get(key)
        best[key] = replace(pair, factor=min(pair.factor, known.factor)) if known else pair
    return tuple(best.values())


def _annotations(subject: Objective | Probe, *, summary: str, description: str) -> dict[str, str]:
    links = {"runbook": subject.runbook, "dashboard": getattr(subject, "dashboard", "")}
    return {"summary": summary, "description": description, **{name: url for name, url in links.items() if url}}


def _promise(objective: Objective) -> str:
    """What an objective asks for, as a half sentence."""
    subject, wish = f"the runs of {', '.join(objective.probes)}", "to be good"
    if objective.step:
        subject = f"the runs of step {objective.step!r} of {', '.join(objective.probes)}"
    if objective.slower_than is not None:
        wish += f" within {show_duration(objective.slower_than)}"
    if objective.expires_within is not None:
        wish = f"to see a certificate that is valid for {show_duration(objective.expires_within)} more"
    target = show_ratio(objective.target)
    over = f"over a {objective.calendar.unit}" if objective.calendar else f"over {show_duration(objective.window)}"
    if objective.slices is None:
        return f"{target} of {subject} are {wish} {over}"
    length, share = show_duration(objective.slices.length), show_ratio(objective.slices.target)
    return f"{target} of the slices of {length} are to be good {over}: those in which {share} of {subject} are {wish}"


def _attempts(probe: Probe) -> str:
    return "its attempt" if probe.confirm.attempts == 1 else f"all {probe.confirm.attempts} attempts"
