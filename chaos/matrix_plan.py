"""Which cells the matrix has: every fitting fault on every dependency, and which alerts would tell of it. No I/O.

facts of the configuration ──▶ Dependency ──▶ × FAULTS that fit ──▶ Cell: fault, who depends on it, which alerts, how long
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from stormwatch.chaos.address import parse_address
from stormwatch.chaos.catalog import FAULTS, read_options
from stormwatch.chaos.drill import Drill
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.fault_kind import ROUTE, FaultKind
from stormwatch.chaos.matrix_cell import Catcher, Cell
from stormwatch.chaos.matrix_last_mile import Way
from stormwatch.chaos.option import Options
from stormwatch.chaos.route import Route, misplaced
from stormwatch.chaos.target import Target
from stormwatch.chaos.tls_options import shows_expiry
from stormwatch.chaos.verdict import show_labels
from stormwatch.probes.probe import Probe
from stormwatch.slo.alert import Severity
from stormwatch.slo.identity import labels_of
from stormwatch.slo.latency import time_to_fire, time_to_resolve
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import longest_run
from stormwatch.slo.rule import BudgetLeft, BurnRate, Down, Expiring, LocationDown, Rule

PATIENCE = 120.0
"""Seconds that a cell waits for an alert at the most. What the configuration takes longer for is listed, not waited for."""
MARGIN = 2.0
"""Seconds that a limit grants beyond what the configuration computes: for our own part in between."""
PROMPT = 30.0
"""Seconds after an undo in which a probe is well again that is waited for in any case. Journeys are not so quick."""
TELLING = frozenset({Severity.PAGE, Severity.HIGH, Severity.TICKET})
"""Severities of alerts that a person hears of."""

ESSENTIAL = frozenset(
    {
        "tcp-refused", "tcp-blackhole", "tcp-reset", "tcp-latency", "http-status", "http-body",
        "tls-expired", "tls-expires-soon", "tls-wrong-host", "tls-unknown-ca", "tls-stalled-handshake",
        "dns-nxdomain", "dns-servfail", "dns-timeout", "dns-slow", "dns-wrong-address",
    }
)  # fmt: skip
"""Faults of the proxy that a monitoring can tell apart: one for each way to fail. The others are variations of these."""

_OF_ISSUER = frozenset({"tls-expired", "tls-not-yet-valid", "tls-expires-soon", "tls-wrong-host", "tls-weak-key", "tls-weak-hash", "tls-revoked"})  # fmt: skip
"""Faults that show nothing but themselves only where the route's issuer is one whom clients trust."""

SLOW = 1.2
"""Seconds that are slow where no probe says how long it waits."""


def sample_options(kind: str, *, slow: float = SLOW) -> Mapping[str, Any]:
    """The options with which a fault is a plain case of itself. `slow` is what its clients still bear, and should not."""
    late = f"{round(slow * 1000)}ms"
    return {
        "tcp-latency": {"delay": late},
        "tcp-bandwidth": {"rate": "1kB"},
        "tcp-slicer": {"average_size": "16B", "delay": "20ms"},
        "tcp-slow-close": {"delay": late},
        "tcp-truncate": {"bytes": "100B"},
        "tcp-timeout": {"after": "30s"},
        "http-status": {"status": 500},
        "http-delay": {"delay": late},
        "http-header": {"remove": ["Content-Type"]},
        "http-body": {"replace": "<!doctype html><title>Welcome</title><p>It works!", "content_type": "text/html"},
        "tls-expires-soon": {"left": "2d"},
        "dns-slow": {"delay": "150ms"},
    }.get(kind, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """Something that can be broken, and who depends on it."""

    name: str
    on: str
    """`ROUTE`, or the kind of a target."""
    route: Route | None = None
    direct: tuple[str, ...] = ()
    """Probes that reach it themselves: they see its certificate, and nothing stands between."""
    behind: tuple[str, ...] = ()
    """Probes and objectives that need it through something else, as far as anything says so."""

    @property
    def known(self) -> bool:
        """Whether anything says who depends on it."""
        return bool(self.direct or self.behind)


Elsewhere = Callable[[Mapping[str, str], FaultSpec], tuple[float, float] | None]
"""Of an alert with these labels: seconds at worst until the one that evaluates the rules fires it under a fault, and until it is over
after the undo. None: nobody there makes it."""
WayOf = Callable[[Mapping[str, str]], Way]
"""How an alert with these labels comes to people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A fault that fits and was not planned, with the remedy."""

    name: str
    why: str

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"name": self.name, "why": self.why}


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixPlan:
    """The cells in the order in which they are run."""

    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...] = ()
    untimed: tuple[Mapping[str, str], ...] = ()
    """Alerts that need longer than a cell waits: nothing is said about them."""


def dependencies_of(
    routes: Iterable[Route],
    targets: Iterable[Target],
    probes: Sequence[Probe],
    objectives: Sequence[Objective],
    drills: Iterable[Drill] = (),
) -> tuple[Dependency, ...]:
    """Who depends on what, as far as the configuration says so.

    A probe whose target (or resolver, or name server) is the address where a route listens reaches it itself. Behind it are
    those that the route `serves`, those with the route's name in their label `service`, and those that a drill of it expects or
    allows, also one that breaks other things beside it.
    """
    by_target: dict[str, set[str]] = {}
    for drill in drills:
        named = {*drill.allow}
        if drill.probe:
            named.add(drill.probe.name)
        if drill.alert:
            named |= {drill.alert.labels.get("probe", ""), drill.alert.labels.get("objective", "")}
        for fault in drill.faults:
            by_target.setdefault(fault.target, set()).update(named - {""})

    def behind(name: str, direct: Sequence[str], serves: Sequence[str] = ()) -> tuple[str, ...]:
        named = {*by_target.get(name, ()), *serves}
        named |= {one.name for one in (*probes, *objectives) if one.labels.get("service") == name}
        every = [one.name for one in (*probes, *objectives)]
        return tuple(one for one in every if one in named and one not in direct)

    found: list[Dependency] = []
    for route in routes:
        direct = tuple(probe.name for probe in probes if _reaches(probe, route))
        found.append(
            Dependency(
                name=route.name,
                on=ROUTE,
                route=route,
                direct=direct,
                behind=behind(route.name, direct, route.serves),
            )
        )
    found += [Dependency(name=one.name, on=one.kind, behind=behind(one.name, ())) for one in targets]
    return tuple(found)


def plan_matrix(
    dependencies: Iterable[Dependency],
    *,
    probes: Sequence[Probe],
    objectives: Sequence[Objective],
    rules: Sequence[Rule],
    evaluation: float,
    drills: Iterable[Drill] = (),
    every_fault: bool = False,
    patience: float = PATIENCE,
    elsewhere: Elsewhere | None = None,
    way_of: WayOf | None = None,
) -> MatrixPlan:
    """Every fitting fault on every dependency, and what the drills inject beside those.

    `evaluation` is the time in seconds between two evaluations of the rules. `every_fault` also takes faults of the proxy
    that are variations of others. Where the rules are evaluated `elsewhere`, the alerts that a drill expects tell of what it breaks, too.
    Without `way_of` it is enough that an alert fires: who is told is not watched.
    """
    known = {one.name: one for one in dependencies}
    drills = list(drills)
    facts = _Facts(
        probes=probes,
        objectives=objectives,
        rules=rules,
        evaluation=evaluation,
        patience=patience,
        elsewhere=elsewhere,
        way_of=way_of,
        drills=drills,
    )
    cells: list[Cell] = []
    skipped: list[Skipped] = []
    for dependency in known.values():
        for kind in FAULTS.values():
            if kind.on != dependency.on or (kind.on == ROUTE and not (every_fault or kind.name in ESSENTIAL)):
                continue
            name = f"{dependency.name}/{kind.name}"
            why = _unfit(kind, dependency)
            if why is None:
                continue
            try:
                options = read_options(kind.name, dict(sample_options(kind.name, slow=facts.slow(dependency))))
            except ValueError:
                why = "it needs options that only you know: a drill that says them is a cell, too"
            else:
                if not why:
                    spec = FaultSpec(kind=kind.name, target=dependency.name, options=options)
                    cells.append(facts.cell(name, spec, dependency))
                    continue
            skipped.append(Skipped(name=name, why=why))
    planned = [cell.fault for cell in cells]
    cells += [
        facts.cell(f"{drill.fault.target}/{drill.name}", drill.fault, known[drill.fault.target])
        for drill in drills
        # A cell is one fault: of several at once it would not be known which of them an alert speaks of.
        if drill.fault.target in known and drill.fault not in planned and not drill.beside
    ]
    return MatrixPlan(cells=in_order(cells), skipped=tuple(skipped), untimed=facts.untimed())


def in_order(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """The cells so that neighbours do not disturb each other where possible: the next one begins while the last recovers.

    Dependencies take turns, the one with the most left to do first.
    """
    queues: dict[str, list[Cell]] = {}
    for cell in cells:
        queues.setdefault(cell.dependency, []).append(cell)
    ordered: list[Cell] = []
    while any(queues.values()):
        last = ordered[-1] if ordered else None
        ready = [queue for queue in queues.values() if queue]
        calm = [queue for queue in ready if last is None or not queue[0].disturbs(last)]
        ordered.append(max(calm or ready, key=len).pop(0))
    return tuple(ordered)


def tells_of_faults(rule: Rule) -> bool:
    """Whether its alert is one that a person hears of, about what is watched: those about our own blindness are not."""
    return rule.severity in TELLING and isinstance(rule, BurnRate | Down | Expiring | LocationDown)


class _Facts:
    """What is asked of the configuration again and again."""

    def __init__(
        self,
        *,
        probes: Sequence[Probe],
        objectives: Sequence[Objective],
        rules: Sequence[Rule],
        evaluation: float,
        patience: float,
        elsewhere: Elsewhere | None,
        way_of: WayOf | None,
        drills: Sequence[Drill],
    ) -> None:
        self._probes = {probe.name: probe for probe in probes}
        self._objectives = {objective.name: objective for objective in objectives}
        self._rules = [rule for rule in rules if tells_of_faults(rule)]
        self._evaluation = evaluation
        self._patience = patience
        self._elsewhere = elsewhere
        self._way_of = way_of
        ours = [labels_of(rule) for rule in rules]
        expected = (
            (fault.target, drill.alert) for drill in drills if elsewhere and drill.alert for fault in drill.faults
        )
        self._expected: list[tuple[str, Mapping[str, str]]] = []
        for target, alert in expected:
            known = any(alert.matches(labels) for labels in ours) or (target, alert.labels) in self._expected
            self._expected += [] if known else [(target, alert.labels)]
        """Alerts that are none of ours, with what a drill says that they tell of."""
        self._untimed: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        self._timed: set[tuple[tuple[str, str], ...]] = set()

    def slow(self, dependency: Dependency) -> float:
        """A delay that the probes' time-outs still bear: who does not say how slow is too slow sees nothing."""
        timeouts = [self._probes[name].timeout for name in dependency.direct]
        return min(SLOW, 0.8 * min(timeouts, default=2 * SLOW))

    def cell(self, name: str, fault: FaultSpec, dependency: Dependency) -> Cell:
        """One cell: who depends, which alerts tell, and how long they may take."""
        named = {*dependency.direct, *dependency.behind}
        # What an objective judges tells of it, too: whoever names the probe need not name it.
        judging = {one.name for one in self._objectives.values() if named & {one.name, *one.probes}}
        subjects = named | judging
        # A certificate that expires soon hurts nobody yet: only who is shown it can tell.
        harmless = shows_expiry(fault.options, within=math.inf) and not shows_expiry(fault.options, within=0.0)
        ways: dict[str, float] = {}
        catchers: list[Catcher] = []
        for rule in self._rules:
            labels = labels_of(rule)
            if dependency.known and not subjects & {labels.get("probe"), labels.get("objective")}:
                continue
            within = self._within(rule, fault.options, dependency) + MARGIN
            if math.isnan(within) or (harmless and not self._sees(rule, dependency)):
                continue  # it is about something else
            if self._elsewhere is None:
                catcher = Catcher(labels=labels, within=within, recovers=self._recovers(rule, within) + MARGIN)
            elif (there := self._elsewhere(labels, fault)) is None:
                continue  # nobody evaluates it
            else:
                catcher = _catcher(labels, there)
            self._note(catcher, self._way(rule), catchers, ways)
        for on, labels in self._expected:
            if on == dependency.name and self._elsewhere and (there := self._elsewhere(labels, fault)):
                self._note(_catcher(labels, there), show_labels(labels), catchers, ways)
        quick = [one for one in catchers if one.within <= self._patience and one.recovers <= self._patience]
        probes = {one for one in subjects if one in self._probes}
        for objective in subjects & self._objectives.keys():
            probes |= set(self._objectives[objective].probes)
        concerned = tuple(one for one in self._probes if one in probes or not dependency.known)
        slow = tuple(one for one in concerned if self._well_again(one) > PROMPT)
        return Cell(
            name=name,
            fault=fault,
            probes=concerned,
            slow=slow if len(slow) < len(concerned) else (),
            subjects=tuple(one for one in (*self._probes, *self._objectives) if one in subjects),
            catchers=tuple(catchers),
            limit=max(ways.values(), default=self._look(set(dependency.direct) if harmless else probes)),
            recovers=max((one.recovers for one in quick), default=self._look(probes)),
        )

    def _note(self, catcher: Catcher, failure: str, catchers: list[Catcher], ways: dict[str, float]) -> None:
        catchers.append(replace(catcher, way=self._way_of(catcher.labels)) if self._way_of else catcher)
        if catcher.within <= self._patience:
            ways[failure] = min(catcher.within, ways.get(failure, math.inf))
            self._timed.add(catcher.key)
        else:
            self._untimed[catcher.key] = catcher.labels

    def untimed(self) -> tuple[Mapping[str, str], ...]:
        """Alerts that no cell gives the time that they take."""
        return tuple(labels for key, labels in self._untimed.items() if key not in self._timed)

    def _well_again(self, probe: str) -> float:
        return self._probes[probe].every + longest_run(self._probes[probe]) + self._evaluation

    def _sees(self, rule: Rule, dependency: Dependency) -> bool:
        """Whether a rule is about a probe that is shown the certificate of the dependency."""
        subject, _ = self._subject(rule)
        return subject is not None and (subject.name in dependency.direct or not dependency.known)

    def _look(self, probes: Iterable[str]) -> float:
        """Where nothing can tell, a run of every probe is given the time to see something."""
        runs = [self._probes[name].every + longest_run(self._probes[name]) for name in probes]
        return min(self._patience, max(runs, default=10.0) + MARGIN)

    def _within(self, rule: Rule, options: Options, dependency: Dependency) -> float:
        """Seconds at worst; infinite when that is not known, NaN when the fault is nothing to it."""
        if isinstance(rule, Expiring):
            seen = rule.probe in dependency.direct or not dependency.known
            if not seen or not shows_expiry(options, within=rule.within):
                return math.nan
            probe = self._probes[rule.probe]
            return probe.every + longest_run(probe) + self._evaluation + rule.lasting
        subject, objective = self._subject(rule)
        if subject is None:
            return math.nan
        return time_to_fire(rule, subject, self._evaluation, objective=objective).worst

    def _recovers(self, rule: Rule, failing: float) -> float:
        subject, objective = self._subject(rule)
        if subject is None or math.isinf(failing):
            return math.inf
        return time_to_resolve(rule, subject, self._evaluation, failing=failing, objective=objective).worst

    def _subject(self, rule: Rule) -> tuple[Probe | None, Objective | None]:
        if isinstance(rule, BurnRate | BudgetLeft):
            objective = self._objectives[rule.objective]
            return max((self._probes[name] for name in objective.probes), key=lambda one: one.every), objective
        if isinstance(rule, Down | LocationDown | Expiring):
            return self._probes[rule.probe], None
        return None, None  # what tells of blindness says nothing about a dependency

    def _way(self, rule: Rule) -> str:
        """The way to fail that a rule sees: of alerts that see the same one, the quickest is enough."""
        if isinstance(rule, BurnRate | BudgetLeft):
            objective = self._objectives[rule.objective]
            plain = objective.slower_than is None and not objective.step and objective.expires_within is None
            if plain and objective.slices is None and len(objective.probes) == 1:
                return f"failure of {objective.probes[0]}"
            return f"objective {objective.name}"
        if isinstance(rule, Expiring):
            return f"certificate of {rule.probe}"
        assert isinstance(rule, Down | LocationDown)
        return f"failure of {rule.probe}"


def _catcher(labels: Mapping[str, str], there: tuple[float, float]) -> Catcher:
    within, recovers = there
    return Catcher(labels=labels, within=within + MARGIN, recovers=recovers + MARGIN)


def _unfit(kind: FaultKind[Any], dependency: Dependency) -> str | None:
    """Why a fault cannot be put on a dependency: empty when it can, None when that is nobody's mistake."""
    route = dependency.route
    if route is None:
        return ""
    if misplaced(kind, route) or (kind.looks_inside and not route.looked_into):
        return None
    if kind.name.startswith("tls-"):
        if route.tls is None:
            return None
        if kind.name in _OF_ISSUER and route.issuer is None:
            return f"without `issuer` the route {route.name} shows a certificate that is wrong in more than one way"
    return ""


def _reaches(probe: Probe, route: Route) -> bool:
    """Whether a probe connects to the address where a route listens."""
    host, port = parse_address(route.listen)
    said = [probe.options.get(key) for key in ("resolver", "server", "proxy", "connect_to")]
    if probe.kind != "dns":
        said.append(probe.target)
    for text in said:
        if isinstance(text, str) and text:
            split = urlsplit(text if "://" in text else f"//{text}")
            try:
                there = split.port or {"http": 80, "https": 443, "dns": 53}.get(split.scheme)
            except ValueError:
                continue
            # A name is one that leads to the route: no two services of one machine share a port.
            named = split.hostname or ""
            if there == port and (named == host or not _is_address(named)):
                return True
    return False


def _is_address(host: str) -> bool:
    return host.replace(".", "").isdigit() or ":" in host
