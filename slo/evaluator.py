"""The rules, evaluated in process: results go in, transitions of alerts come out. Nothing else happens here.

    observe(result) ──▶ what each objective judged, and how each probe stands
    evaluate(now)   ──▶ for each rule that can have changed: is its condition met? ──▶ life.advance ──▶ Transition

An evaluation costs what is going on, not what is configured: a probe that is up and a budget that nobody burns are not
looked at.
"""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, NamedTuple

from stormwatch.probes.probe import Probe
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.units import show_duration
from stormwatch.slo.alert import Alert, AlertState, Transition
from stormwatch.slo.budget import Budget, allowed_bad, burn_rate, expected_results, share_left
from stormwatch.slo.calendar import LONGEST
from stormwatch.slo.identity import labels_of
from stormwatch.slo.life import Standing, advance
from stormwatch.slo.maintenance import Maintenance, labels_of_probe
from stormwatch.slo.objective import Judgement, Objective, expiry_of, step_of
from stormwatch.slo.policy import STANDS, evidence_stands, show_pair
from stormwatch.slo.quorum import Ballot, Vote, Votes, vote_of
from stormwatch.slo.rule import (
    BudgetLeft,
    BurnRate,
    Down,
    Expiring,
    LocationDown,
    NoEvidence,
    OfProbe,
    PeerSilent,
    QuorumDegraded,
    Rule,
    Windows,
)
from stormwatch.slo.timeslice import Slicer
from stormwatch.slo.window import Counts, Ledger

SNAPSHOT_VERSION = 1


class Evaluator:
    """All rules over all results of one process. It is a Sink: `fan_out` may call it with every result.

    After a restart: `restore` the snapshot, then `replay` the history of the last `reach` seconds, then go on.
    """

    def __init__(
        self,
        objectives: Iterable[Objective],
        rules: Iterable[Rule],
        probes: Iterable[Probe],
        *,
        maintenance: Sequence[Maintenance] = (),
    ) -> None:
        """Raises ValueError for a rule about an objective or a probe that is not there, and for two equal alerts."""
        self._probes = {probe.name: probe for probe in probes}
        self._calendar = {
            probe.name: tuple(window for window in maintenance if window.matches(labels_of_probe(probe)))
            for probe in self._probes.values()
        }
        every = {probe.name: probe.every for probe in self._probes.values()}
        given = tuple(rules)
        self._books = {
            objective.name: _Book(objective, every, _windows_of(objective, given)) for objective in objectives
        }
        self._sliced = [book for book in self._books.values() if book.slicer is not None]
        self._books_of: dict[str, list[_Book]] = {}
        for book in self._books.values():
            for name in book.objective.probes:
                self._books_of.setdefault(name, []).append(book)
        self._rules = tuple(self._checked(number, rule) for number, rule in enumerate(given))
        self._by_key = _by_key(self._rules)
        self._budget_rules = [rule for rule in self._rules if isinstance(rule.rule, BurnRate | BudgetLeft)]
        self._down_rules = _by_probe(rule for rule in self._rules if isinstance(rule.rule, Down))
        self._blind_rules = _by_probe(rule for rule in self._rules if isinstance(rule.rule, NoEvidence))
        self._alone_rules = _by_probe(rule for rule in self._rules if isinstance(rule.rule, LocationDown))
        self._stands = evidence_stands(given)
        self._quorum = {
            rule.probe: rule for rule in given if isinstance(rule, Down) and rule.quorum > 1
        }  # of probes that several locations decide on
        self._degraded_rules = [rule for rule in self._rules if isinstance(rule.rule, QuorumDegraded)]
        self._silent_rules = [rule for rule in self._rules if isinstance(rule.rule, PeerSilent)]
        self.voted = frozenset(each for name, rule in self._quorum.items() for each in (name, *rule.muted_by))
        """Probes of which it is asked what other locations see."""
        self._votes = Votes()
        self._heard: dict[str, float] = {}
        """When each peer answered last."""
        self._standing: dict[str, _ProbeStanding] = {}
        self._down: set[str] = set()
        """Probes whose last evidence is that they are down."""
        self._due: list[tuple[float, str]] | None = None
        self._blind: set[str] = set()
        self._active: dict[int, Transition] = {}
        self._kept: dict[int, float] = {}
        """Since when an alert only goes on firing because its rule keeps it."""
        self._expiring = [rule for rule in self._rules if isinstance(rule.rule, Expiring)]
        self._expiries: dict[str, float] = {}
        """When the certificate that a probe saw last expires, in Unix time."""
        self._orphans: list[Transition] = []
        self._started: float | None = None
        self._evaluated: float | None = None
        self._alive: float | None = None

    def __call__(self, result: Result) -> None:
        """The same as `observe`."""
        self.observe(result)

    def observe(self, result: Result) -> None:
        """Take a new result. It counts at the moment at which it was decided, `result.finished`."""
        self._take(result, new=True)

    def hear(self, location: str, results: Iterable[Result], now: float) -> bool:
        """Take what another location answered at `now`: its last results, for quorums only. Whether it changed its mind.

        Objectives and everything else about a probe are judged by our own results.
        """
        self._heard[location] = now
        changed = False
        for result in results:
            if result.probe in self.voted:
                changed |= self._votes.take(result.probe, location, vote_of(result))
        return changed

    def replay(self, results: Iterable[Result]) -> None:
        """Take results of an earlier process from the history: windows and states know them, `events` does not.

        They come without phases and measures: objectives that look inside a run get theirs by `replay_inside` and `recall`.

        The exported counters begin at 0 with the process, as Prometheus expects: a counter that came back with a month of
        results in it would look like a month of results in one scrape.
        """
        for result in results:
            self._take(result, new=False)
            if self._alive is not None:
                self._alive = max(self._alive, result.finished)

    def replay_inside(self, results: Iterable[Result]) -> None:
        """Take results of an earlier process with all that was seen, for the objectives that look inside a run."""
        for result in results:
            if not self._is_planned(result):
                for book in self._books_of.get(result.probe, ()):
                    if book.objective.looks_inside:
                        book.take(result, result.finished, new=False)

    def reach_of(self, objective: str) -> float:
        """How many seconds of history the rules and the budget of an objective look back on."""
        return self._books[objective].reach

    def recall(self, objective: str, hour: float, *, good: int, bad: int) -> None:
        """Take what an objective counted in an hour (Unix time of its beginning) that no result is left of to be judged again."""
        book = self._books.get(objective)
        if book is not None:
            book.ledger.add_hour(hour, good=good, bad=bad)
            if bad:
                book.last_bad = max(book.last_bad, hour + 3600)

    @property
    def reach(self) -> float:
        """How many seconds of history the rules and budgets look back on."""
        return max((book.reach for book in self._books.values()), default=0.0)

    def evaluate(self, now: float) -> tuple[Transition, ...]:
        """Evaluate all rules at `now` (unix time in seconds); every change of state, in the order of the rules."""
        self._begin(now)
        assert self._started is not None
        for book in self._sliced:
            book.decide(now, since=self._started)
        changes = self._forsake(now)
        for number in sorted(self._candidates(now)):
            rule = self._rules[number]
            condition = self._condition(rule, now)
            change = self._live(rule, condition, now)
            if change is not None:
                changes.append(change)
        self._evaluated = now
        return tuple(changes)

    def active(self) -> tuple[Transition, ...]:
        """What is pending or firing as of the last evaluation: of each such alert the transition that made it so."""
        return (*self._orphans, *(self._active[number] for number in sorted(self._active)))

    def budget(self, objective: str, now: float) -> Budget:
        """The error budget of an objective at `now`. Raises KeyError for a name that is not there."""
        book = self._books[objective]
        counts, allowed = book.spent(now)
        return Budget(
            objective=objective,
            bad=counts.bad,
            total=counts.total,
            allowed=allowed,
            left=share_left(counts.bad, allowed),
            period=book.objective.calendar.around(now) if book.objective.calendar else None,
            burn={window: burn_rate(book.ledger.counts(window, now), book.objective.budget) for window in book.windows},
        )

    def events(self) -> dict[str, Counts]:
        """Good and bad results of each objective since this process began: `stormwatch_objective_events_total`."""
        return {name: Counts(book.good, book.bad) for name, book in self._books.items()}

    def periods(self, now: float) -> dict[str, tuple[Counts, Fraction]]:
        """Of each objective with a calendar window what it counted in the present one, and how much a whole one holds."""
        return {
            name: (book.counts(now), book.expected(now))
            for name, book in self._books.items()
            if book.objective.calendar is not None
        }

    def in_maintenance(self, probe: str, at: float) -> bool:
        """Whether planned work is going on for a probe: `stormwatch_maintenance`."""
        return any(window.open_at(at) for window in self._calendar.get(probe, ()))

    def snapshot(self) -> dict[str, Any]:
        """The state of the alerts as a JSON object, for `restore` in the next process. Counts come from the history."""
        return {
            "version": SNAPSHOT_VERSION,
            "evaluated": self._evaluated,
            "active": [transition.as_json() for transition in self.active()],
            "probes": {name: standing.as_json() for name, standing in self._standing.items()},
            "kept": [[dict(self._active[number].alert.labels), since] for number, since in self._kept.items()],
            "expiries": self._expiries,
        }

    def restore(self, document: Mapping[str, Any]) -> None:
        """Take over what `snapshot` gave, before the first evaluation.

        The time between the two does not count towards a rule's `for`, as with Prometheus. Alerts whose rule is gone
        are resolved by the next evaluation. Raises ValueError or KeyError for anything that is not such a snapshot.
        """
        if document["version"] != SNAPSHOT_VERSION:
            raise ValueError(
                f"the snapshot has version {document['version']!r}, wanted {SNAPSHOT_VERSION}; start without it"
            )
        for entry in document["active"]:
            transition = Transition.from_json(entry)
            known = self._by_key.get(transition.alert.key)
            if known is None:
                self._orphans.append(transition)
            else:
                self._active[known] = transition
        for name, standing in document["probes"].items():
            if name in self._probes:
                self._stand(name, _ProbeStanding.from_json(standing))
        for labels, since in document.get("kept", ()):
            known = self._by_key.get(Alert(labels=labels).key)
            if known is not None:
                self._kept[known] = float(since)
        self._expiries = {name: float(at) for name, at in document.get("expiries", {}).items() if name in self._probes}
        self._alive = document["evaluated"]

    def _take(self, result: Result, *, new: bool) -> None:
        at = result.finished
        if not self._is_planned(result):
            for book in self._books_of.get(result.probe, ()):
                if new or not book.objective.looks_inside:
                    book.take(result, at, new=new)
        if result.probe in self._probes:
            if new:  # the history gives results back without what they measured
                self._note_expiry(result)
            known = self._standing.get(result.probe)
            if known is None or at >= known.at:
                self._stand(result.probe, _ProbeStanding.after(known, result))

    def _is_planned(self, result: Result) -> bool:
        """A run that touched a maintenance window was disturbed by the work, at whichever end."""
        probe = result.probe
        return self.in_maintenance(probe, result.started) or self.in_maintenance(probe, result.finished)

    def _note_expiry(self, result: Result) -> None:
        """A run that saw no certificate leaves what is known: the alert must not go silent because the server does.

        A run that was up and saw none says that there is none any more. So does the exporter, which Prometheus reads.
        """
        seen = expiry_of(result)
        if seen is not None:
            self._expiries[result.probe] = seen
        elif result.outcome is Outcome.UP:
            self._expiries.pop(result.probe, None)

    def _stand(self, probe: str, standing: "_ProbeStanding") -> None:
        self._standing[probe] = standing
        (self._down.add if standing.down else self._down.discard)(probe)
        if probe in self.voted:
            vote = Vote(standing.outcome, standing.at, standing.reason, standing.message)
            self._votes.take(probe, self._probes[probe].location, vote)

    def _begin(self, now: float) -> None:
        if self._started is None:
            self._started = now
            self._due = [(now + rule.after, probe) for probe, rules in self._blind_rules.items() for rule in rules[:1]]
            heapq.heapify(self._due)
            if self._alive is not None:
                pause = max(0.0, now - self._alive)
                for number, transition in self._active.items():
                    if transition.after is AlertState.PENDING:
                        self._active[number] = replace(transition, since=transition.since + pause)

    def _forsake(self, now: float) -> list[Transition]:
        """Resolve what was restored and has no rule any more."""
        orphans, self._orphans = self._orphans, []
        return [replace(orphan, before=orphan.after, after=_END_OF[orphan.after], at=now) for orphan in orphans]

    def _candidates(self, now: float) -> set[int]:
        """The numbers of the rules whose alert may have to change."""
        numbers = set(self._active)
        for rule in self._budget_rules:
            if rule.book is not None and now - rule.book.last_bad < rule.reach:
                numbers.add(rule.number)
        for name in self._down:
            numbers.update(rule.number for rule in self._down_rules.get(name, ()))
        for name in self._votes.suspects:
            numbers.update(rule.number for rule in self._down_rules.get(name, ()))
            numbers.update(rule.number for rule in self._alone_rules.get(name, ()))
        numbers.update(rule.number for rule in (*self._degraded_rules, *self._silent_rules))
        for known in self._expiring:
            expires = self._expiries.get(known.expiring.probe)
            if expires is not None and expires - now < known.expiring.within:
                numbers.add(known.number)
        for name in self._overdue(now):
            numbers.update(rule.number for rule in self._blind_rules.get(name, ()))
        return numbers

    def _overdue(self, now: float) -> set[str]:
        """Probes that gave no evidence for too long. A heap of the earliest moments at which they can be overdue."""
        assert self._due is not None
        for name in [name for name in self._blind if now <= self._evidence_due(name)]:
            self._blind.discard(name)
            heapq.heappush(self._due, (self._evidence_due(name), name))
        while self._due and self._due[0][0] < now:
            _, name = heapq.heappop(self._due)
            if (due := self._evidence_due(name)) < now:
                self._blind.add(name)
            else:
                heapq.heappush(self._due, (due, name))
        return self._blind

    def _evidence_due(self, probe: str) -> float:
        return self._last_evidence(probe) + min(rule.after for rule in self._blind_rules[probe])

    def _last_evidence(self, probe: str) -> float:
        """A process that has just begun gives its probes the whole time again."""
        assert self._started is not None
        standing = self._standing.get(probe)
        evidence = standing.evidence if standing else None
        return self._started if evidence is None else max(self._started, evidence)

    def _condition(self, known: "_KnownRule", now: float) -> "_Condition":
        rule, book = known.rule, known.book
        if isinstance(rule, BurnRate):
            assert book is not None
            condition = book.burning(known, now)
        elif isinstance(rule, BudgetLeft):
            assert book is not None
            condition = book.low(rule, now)
        elif isinstance(rule, PeerSilent):
            assert self._started is not None
            silent = now - max(self._started, self._heard.get(rule.location, 0.0))
            condition = _Condition(silent > rule.after, silent, None)
        elif isinstance(rule, LocationDown | QuorumDegraded) or (isinstance(rule, Down) and rule.quorum > 1):
            condition = self._voted_on(rule, now)
        elif isinstance(rule, Down):
            down = self._is_down(rule.probe, now)
            condition = _Condition(down, 0.0 if down else 1.0, self._seen_of(rule.probe) if down else None)
        elif isinstance(rule, Expiring):
            left = self._expiries.get(rule.probe, math.inf) - now
            condition = _Condition(left < rule.within, left, _Seen(probe=rule.probe))
        else:
            silent = now - self._last_evidence(rule.probe)
            condition = _Condition(silent > rule.after, silent, self._seen_of(rule.probe, only=Outcome.BROKEN))
        return condition._replace(met=False) if condition.met and self._muted(rule, now) else condition

    def _muted(self, rule: Rule, now: float) -> bool:
        if isinstance(rule, LocationDown):
            votes = [self._votes.last(name, rule.location) for name in rule.muted_by]
            if any(vote is not None and vote.outcome is Outcome.DOWN for vote in votes):
                return True
        elif any(self._is_down(name, now) for name in rule.muted_by):
            return True
        return isinstance(rule, OfProbe) and self.in_maintenance(rule.probe, now)

    def _is_down(self, probe: str, now: float) -> bool:
        rule = self._quorum.get(probe)
        return self._stands_down(probe, now) if rule is None else self._ballot(rule, now)[1]

    def _stands_down(self, probe: str, now: float) -> bool:
        """Seen down, and that nobody knows better since: by runs that were broken, not for ever."""
        blind = self._standing[probe].blind if probe in self._down else None
        return probe in self._down and (blind is None or now - blind <= self._stands.get(probe, STANDS))

    def _ballot(self, rule: Down | LocationDown | QuorumDegraded, now: float) -> tuple[Ballot, bool]:
        """The votes that count, and whether they make the probe count as down."""
        ballot = self._votes.ballot(rule.probe, now, rule.due)
        return ballot, ballot.decides(rule.quorum, awaited=self._awaits(now))

    def _awaits(self, now: float) -> bool:
        """Whether we have just begun, and some peer had no time to answer: the first of us to look is not all of us."""
        assert self._started is not None
        return any(
            isinstance(known.rule, PeerSilent)
            and known.rule.location not in self._heard
            and now - self._started <= known.rule.after
            for known in self._silent_rules
        )

    def _voted_on(self, rule: Down | LocationDown | QuorumDegraded, now: float) -> "_Condition":
        ballot, down = self._ballot(rule, now)
        if isinstance(rule, QuorumDegraded):
            return _Condition(0 < ballot.answering < rule.quorum, float(ballot.answering), _Seen(probe=rule.probe))
        if isinstance(rule, LocationDown):
            red, places = rule.location in ballot.red and not down, (rule.location,)
        else:
            red, places = down, ballot.red
        votes = [vote for place in places if (vote := self._votes.last(rule.probe, place)) is not None]
        if not red or not votes:
            return _Condition(met=False, value=1.0, seen=None)
        told = f"{ballot.told(rule.quorum)}: {votes[0].message}"
        return _Condition(met=True, value=0.0, seen=_Seen(votes[0].reason, told, rule.probe))

    def _seen_of(self, probe: str, only: Outcome | None = None) -> "_Seen":
        standing = self._standing.get(probe)
        if standing is None or (only is not None and standing.outcome is not only):
            return _Seen(probe=probe)
        return _Seen(standing.reason, standing.message, probe)

    def _live(self, known: "_KnownRule", condition: "_Condition", now: float) -> Transition | None:
        before = self._active.get(known.number)
        kept = self._kept.pop(known.number, None)
        standing = Standing(before.after, before.since, kept) if before else Standing()
        after = advance(standing, met=condition.met, now=now, lasting=known.rule.lasting, keep=known.rule.keep)
        if after.kept is not None:
            self._kept[known.number] = after.kept
        if after.state is standing.state:
            return None
        expires = self._expiries.get(known.rule.probe) if isinstance(known.rule, Expiring) else None
        alert = before.alert if before and not condition.met else known.alert(condition.pair, expires)
        seen = condition.seen or (_seen(before) if before else _Seen())
        since = standing.since if before else after.since
        change = Transition(
            alert=alert,
            before=standing.state,
            after=after.state,
            at=now,
            since=since,
            value=condition.value,
            reason=seen.reason,
            message=seen.message,
            probe=seen.probe,
        )
        if after.state in {AlertState.PENDING, AlertState.FIRING}:
            self._active[known.number] = change
        else:
            self._active.pop(known.number, None)
        return change

    def _checked(self, number: int, rule: Rule) -> "_KnownRule":
        if isinstance(rule, BurnRate | BudgetLeft):
            if rule.objective not in self._books:
                raise ValueError(f"rule {rule.alertname} is about the objective {rule.objective!r}, which is not there")
            return _KnownRule(number, rule, self._books[rule.objective])
        if not isinstance(rule, PeerSilent) and rule.probe not in self._probes:
            raise ValueError(f"rule {rule.alertname} is about the probe {rule.probe!r}, which is not there")
        return _KnownRule(number, rule, None)


class _Seen(NamedTuple):
    """The last bad result, as a transition tells it."""

    reason: str = ""
    message: str = ""
    probe: str = ""


class _Condition(NamedTuple):
    """Whether a rule's condition is met now, by which number, and what was seen."""

    met: bool
    value: float
    seen: _Seen | None
    pair: Windows | None = None


@dataclass(slots=True)
class _ProbeStanding:
    """How the last run of a probe ended."""

    outcome: Outcome
    at: float
    evidence: float | None
    """Unix time of the last up or down result."""
    reason: str
    message: str
    down: bool = False
    """Whether the last evidence is that it is down."""
    blind: float | None = None
    """Unix time of the first broken run after that."""

    @classmethod
    def after(cls, known: "_ProbeStanding | None", result: Result) -> "_ProbeStanding":
        """How it stands with one more result."""
        at, reason = result.finished, result.reason.value
        if result.outcome is not Outcome.BROKEN:
            return cls(result.outcome, at, at, reason, result.message, down=result.outcome is Outcome.DOWN)
        if known is None:
            return cls(result.outcome, at, None, reason, result.message, blind=at)
        blind = at if known.blind is None else known.blind
        return cls(result.outcome, at, known.evidence, reason, result.message, down=known.down, blind=blind)

    def as_json(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome.value,
            "at": self.at,
            "evidence": self.evidence,
            "down": self.down,
            "blind": self.blind,
            "reason": self.reason,
            "message": self.message,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "_ProbeStanding":
        return cls(
            Outcome(document["outcome"]),
            document["at"],
            document["evidence"],
            document["reason"],
            document["message"],
            # A snapshot of before 0.4 knew the last result only.
            document.get("down", document["outcome"] == Outcome.DOWN.value),
            document.get("blind"),
        )


class _Book:
    """What one objective has seen."""

    def __init__(self, objective: Objective, every: Mapping[str, float], windows: tuple[float, ...]) -> None:
        self.objective = objective
        self.windows = windows
        """Of its burn-rate rules, the shortest first."""
        longest = LONGEST[objective.calendar.unit] if objective.calendar else objective.window
        self.reach = max(longest, *windows) if windows else longest
        self.ledger = Ledger((*windows, longest))
        self.slicer = Slicer(objective.slices) if objective.slices else None
        self._budget = objective.budget.as_integer_ratio()
        self._every = every
        self._expected = expected_results(objective, every)
        self._allowed = allowed_bad(objective, 0, self._expected)
        self.good = 0
        self.bad = 0
        self.last_bad = -math.inf
        self.seen = _Seen()

    def take(self, result: Result, at: float, *, new: bool) -> None:
        judgement = self.objective.judges(result)
        if self.slicer is not None:
            self.slicer.add(at, judgement)
        else:
            self._count(result.probe, at, judgement, new=new)
        if judgement is Judgement.BAD and at >= self.last_bad:
            self.last_bad = at
            self.seen = self._describe(result)

    def decide(self, now: float, *, since: float) -> None:
        """Count the slices that are over. Those that ended before this process began are news to the windows only."""
        assert self.slicer is not None
        for end, judgement in self.slicer.decide(now):
            self._count("", end, judgement, new=end > since)
            if judgement is Judgement.BAD:
                self.last_bad = max(self.last_bad, end)

    def _count(self, probe: str, at: float, judgement: Judgement, *, new: bool) -> None:
        self.ledger.add(probe, at, judgement)
        if new:
            self.good += judgement is Judgement.GOOD
            self.bad += judgement is Judgement.BAD

    def burning(self, known: "_KnownRule", now: float) -> _Condition:
        """The first pair of which both windows burn too fast; else how fast the long window burns that is nearest to it."""
        value = nearest = 0.0
        for pair, threshold in known.thresholds:
            long = self.ledger.counts(pair.long, now)
            if _exceeds(long, threshold) and (
                pair.short == pair.long or _exceeds(self.ledger.counts(pair.short, now), threshold)
            ):
                return _Condition(met=True, value=self._rate(long), seen=self.seen, pair=pair)
            rate, factor = self._rate(long), float(pair.factor)
            if rate > nearest * factor:
                nearest, value = rate / factor, rate
        return _Condition(met=False, value=value, seen=self.seen)

    def low(self, rule: BudgetLeft, now: float) -> _Condition:
        counts, allowed = self.spent(now)
        left = share_left(counts.bad, allowed)
        return _Condition(met=left < rule.below, value=float(left), seen=self.seen)

    def spent(self, now: float) -> tuple[Counts, Fraction]:
        """What was counted in the window that the budget is for, and how much of it may be bad."""
        counts = self.counts(now)
        if self.objective.calendar is not None:
            return counts, allowed_bad(self.objective, counts.total, self.expected(now))
        # The same until the window holds more than expected.
        over = counts.total > self._expected
        return counts, allowed_bad(self.objective, counts.total, self._expected) if over else self._allowed

    def counts(self, now: float) -> Counts:
        """What was counted in the window that the budget is for."""
        calendar = self.objective.calendar
        if calendar is None:
            return self.ledger.counts(self.objective.window, now)
        return self.ledger.since(calendar.around(now)[0], now)

    def expected(self, now: float) -> Fraction:
        """How much that window holds when it is full."""
        calendar = self.objective.calendar
        if calendar is None:
            return self._expected
        begin, end = calendar.around(now)
        return expected_results(self.objective, self._every, seconds=end - begin)

    def _rate(self, counts: Counts) -> float:
        """The burn rate, as a number to tell. Without a budget there is none, then it is the share of bad results."""
        numerator, denominator = self._budget
        if counts.total == 0:
            return 0.0
        return counts.bad * denominator / (counts.total * numerator) if numerator else counts.bad / counts.total

    def _describe(self, result: Result) -> _Seen:
        objective, name = self.objective, result.probe
        expires = expiry_of(result)
        if objective.expires_within is not None and expires is not None:
            left, wanted = expires - result.finished, show_duration(objective.expires_within)
            said = f"expires in {show_duration(float(round(left)))}" if left > 0 else "has expired"
            return _Seen(
                Reason.CERTIFICATE.value, f"the certificate that {name} saw {said}, wanted at least {wanted}", name
            )
        step = step_of(result, objective.step) if objective.step else None
        if step.failed if step else result.outcome is Outcome.DOWN:
            fine = result.outcome is not Outcome.DOWN  # a step that failed and was forgiven
            message = f"step {objective.step!r} of {name} failed" if fine else result.message
            return _Seen(Reason.STEP.value if fine else result.reason.value, message, name)
        took = f"step {step.name!r} of {name} took" if step else f"{name} took"
        seconds = show_duration(step.seconds if step else result.seconds)
        wanted = show_duration(objective.slower_than or 0.0)
        return _Seen(Reason.TOO_SLOW.value, f"{took} {seconds}, wanted at most {wanted}", name)


@dataclass(slots=True)
class _KnownRule:
    """A rule with what it needs at each evaluation."""

    number: int
    rule: Rule
    book: _Book | None
    labels: dict[str, str] = field(init=False)
    thresholds: tuple[tuple[Windows, tuple[int, int]], ...] = field(init=False, default=())
    reach: float = field(init=False, default=0.0)
    """Seconds after which a bad result is forgotten."""

    def __post_init__(self) -> None:
        self.labels = labels_of(self.rule)
        if isinstance(self.rule, BurnRate) and self.book is not None:
            budget = self.book.objective.budget
            self.thresholds = tuple((pair, (pair.factor * budget).as_integer_ratio()) for pair in self.rule.pairs)
            self.reach = max(pair.long for pair in self.rule.pairs)
        elif self.book is not None:
            calendar = self.book.objective.calendar
            self.reach = LONGEST[calendar.unit] if calendar else self.book.objective.window

    @property
    def expiring(self) -> Expiring:
        """The rule, of which it is known that it is one."""
        assert isinstance(self.rule, Expiring)
        return self.rule

    @property
    def after(self) -> float:
        """Seconds without evidence, of a NoEvidence rule."""
        return self.rule.after if isinstance(self.rule, NoEvidence) else math.inf

    def alert(self, pair: Windows | None, expires: float | None) -> Alert:
        """The alert; of a burn rate with the windows that burn, of a certificate with the date at which it expires."""
        more = {"windows": show_pair(pair)} if pair else {}
        if expires is not None:
            more["expires"] = f"{datetime.fromtimestamp(expires, UTC):%Y-%m-%d %H:%M:%S} +0000 UTC"
        return Alert(labels=self.labels, annotations={**self.rule.annotations, **more})


_END_OF = {AlertState.FIRING: AlertState.RESOLVED, AlertState.PENDING: AlertState.INACTIVE}


def _exceeds(counts: Counts, threshold: tuple[int, int]) -> bool:
    """Whether the share of bad results is above a fraction, in whole numbers. Without results it is not."""
    numerator, denominator = threshold
    return counts.bad * denominator > numerator * counts.total


def _windows_of(objective: Objective, rules: Iterable[Rule]) -> tuple[float, ...]:
    return tuple(
        sorted(
            {
                window
                for rule in rules
                if isinstance(rule, BurnRate) and rule.objective == objective.name
                for pair in rule.pairs
                for window in (pair.short, pair.long)
            }
        )
    )


def _by_probe(rules: Iterable[_KnownRule]) -> dict[str, list[_KnownRule]]:
    grouped: dict[str, list[_KnownRule]] = {}
    for known in rules:
        if isinstance(known.rule, OfProbe):
            grouped.setdefault(known.rule.probe, []).append(known)
    return grouped


def _by_key(rules: Iterable[_KnownRule]) -> dict[tuple[tuple[str, str], ...], int]:
    numbers: dict[tuple[tuple[str, str], ...], int] = {}
    for known in rules:
        key = Alert(labels=known.labels).key
        if key in numbers:
            raise ValueError(f"two rules give the same alert {dict(key)}; one of them needs another label")
        numbers[key] = known.number
    return numbers


def _seen(transition: Transition) -> _Seen:
    return _Seen(transition.reason, transition.message, transition.probe)
