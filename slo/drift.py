"""What Prometheus runs, compared with what the configuration says: rule by rule, each difference with its remedy.

Rules are the same when they mean the same: an expression is compared in the form that `canonical` gives it, which is that of the
Prometheus that runs it, and a label that only says which version wrote the file is told apart from the others.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stormwatch.probes.units import parse_duration, show_duration
from stormwatch.slo.document import yaml_value

OURS = ("stormwatch-slo-", "stormwatch-budget-", "stormwatch-probes", "stormwatch-prober")
"""How the names of our groups begin."""
VERSION = "sloth_version"
"""The label of `sloth_slo_info` that says which version wrote the rules."""
IDENTITY = ("objective", "probe", "sloth_slo", "sloth_window")
"""Labels that say what a rule is about. Without the same ones, two rules are different rules, not one that changed."""
MISSED = 3
"""Evaluations in a row that a group may miss before it is stale, and scrapes."""
SHORTEST_STALE = 60.0
"""Seconds that no evaluation and no scrape is called stale before, however often there should be one."""
EXPRESSION = "expression"
"""The kind of finding that a pair of expressions is not the same; `expected` and `seen` are just these."""
_RELOAD = "write the rules anew with `stormwatch rules` and reload Prometheus"

Canonical = Callable[[str], str]
"""A form that two expressions have in common when they mean the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference."""

    what: str
    """Its kind, for machines: `expression`, `rule-missing`, `target-down` …"""
    subject: str
    """The rule, group, target, route or receiver that it is about."""
    expected: str
    seen: str
    remedy: str

    def as_json(self) -> dict[str, str]:
        """A JSON object."""
        return {name: getattr(self, name) for name in ("what", "subject", "expected", "seen", "remedy")}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleText:
    """What a rule says, whoever wrote it."""

    name: str
    """Of the alert, or of the series that is recorded."""
    is_alert: bool
    expr: str
    lasting: float = 0.0
    """Seconds, `for`."""
    keep: float | None = 0.0
    """Seconds, `keep_firing_for`. None: its Prometheus does not say."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def told_labels(self) -> dict[str, str]:
        """Its labels without the version of its author."""
        return {name: value for name, value in self.labels.items() if name != VERSION}

    @property
    def subject(self) -> str:
        """As PromQL would select it."""
        inside = ", ".join(f'{name}="{self.labels[name]}"' for name in (*IDENTITY, "severity") if self.labels.get(name))
        return f"{self.name}{{{inside}}}" if inside else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupText:
    """A group as a rule file has it."""

    name: str
    interval: float | None
    """Seconds; None: as often as Prometheus evaluates by default."""
    rules: tuple[RuleText, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRule:
    """A rule that Prometheus evaluates, and how that goes."""

    text: RuleText
    health: str
    """`ok`, `err`, or `unknown` before the first evaluation."""
    error: str = ""
    evaluated: float | None = None
    """Unix time of the last evaluation. None: never."""
    fires_since: float | None = None
    """Unix time since when the first of its alerts fires. None: none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGroup:
    """A group that Prometheus evaluates."""

    name: str
    file: str
    interval: float
    """Seconds."""
    rules: tuple[RunningRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When was looked, by the clock of Prometheus."""

    now: float
    """Unix time."""
    loaded: float
    """Unix time since when its configuration is in force."""
    interval: float
    """Seconds that may pass between two evaluations of a group that does not say so itself."""


def groups_of(rule_file: str) -> tuple[GroupText, ...]:
    """The groups of a rule file that we wrote."""
    return tuple(
        GroupText(
            name=group["name"],
            interval=parse_duration(group["interval"]) if "interval" in group else None,
            rules=tuple(_rule(rule) for rule in group["rules"]),
        )
        for group in yaml_value(rule_file)["groups"]
    )


def drift_of_rules(
    wanted: Sequence[GroupText], running: Sequence[RunningGroup], canonical: Canonical, moment: Moment
) -> list[Finding]:
    """Every difference between the groups that are wanted and those that run."""
    found: list[Finding] = []
    taken: set[int] = set()
    for group in wanted:
        same = [each for each in running if each.name == group.name]
        if not same:
            found.append(
                Finding(
                    what="group-missing",
                    subject=group.name,
                    expected=f"{len(group.rules)} rules: {_names(_alerts_first(group.rules))}",
                    seen="no group of this name",
                    remedy=f"{_RELOAD}; its `rule_files` must name the file",
                )
            )
            continue
        nearest = max(same, key=lambda each: _likeness(group, each))
        taken.add(id(nearest))
        found += _of_group(group, nearest, canonical, moment)
    known = {group.name for group in wanted}
    for each in running:
        if id(each) not in taken and each.name.startswith(OURS):
            found.append(_extra_group(each, again=each.name in known))
    return [*found, *_elsewhere(wanted, [each for each in running if not each.name.startswith(OURS)])]


def _elsewhere(wanted: Sequence[GroupText], others: Sequence[RunningGroup]) -> Iterable[Finding]:
    """Rules of ours in other peoples' groups: each alert would be there twice, and each series from two sources."""
    ours = _known(rule for group in wanted for rule in group.rules)
    for group in others:
        for rule in group.rules:
            if (rule.text.name, frozenset(rule.text.told_labels.items())) in ours:
                yield Finding(
                    what="rule-twice",
                    subject=f"{group.name} ▸ {rule.text.subject}",
                    expected="this rule in a group of ours only",
                    seen=f"{rule.text.expr} in {group.file}",
                    remedy=f"take it out of {group.file}, or give it a label of its own, and reload Prometheus",
                )


def _of_group(wanted: GroupText, running: RunningGroup, canonical: Canonical, moment: Moment) -> list[Finding]:
    found: list[Finding] = []
    pairs, missing, extra = _pair(wanted, running)
    at = f"{wanted.name} ▸ "
    found += [
        Finding(
            what="rule-missing",
            subject=at + rule.subject,
            expected=rule.expr,
            seen=f"no such rule in {running.file}",
            remedy=_RELOAD,
        )
        for rule in missing
    ]
    found += [
        Finding(
            what="rule-extra",
            subject=at + rule.text.subject,
            expected="no such rule",
            seen=f"{rule.text.expr} in {running.file}",
            remedy=f"{_RELOAD}; rules of your own belong in a group with a name of their own",
        )
        for rule in extra
    ]
    for rule, other in pairs:
        found += [
            replace(each, subject=at + each.subject)
            for each in (*_of_text(rule, other.text, canonical), *_of_health(other, running, moment))
        ]
    if not missing and not extra and [one.text for _, one in pairs] != [one.text for one in running.rules]:
        found.append(
            Finding(
                what="order",
                subject=wanted.name,
                expected=_names(rule.name for rule in wanted.rules),
                seen=_names(rule.text.name for rule in running.rules),
                remedy=f"an alert reads what a rule before it recorded: {_RELOAD}",
            )
        )
    return [*_of_version(pairs, wanted.name), *found, *_of_interval(wanted, running, moment)]


def _of_text(wanted: RuleText, running: RuleText, canonical: Canonical) -> Iterable[Finding]:
    """Whether a rule still says what it should."""

    def differs(what: str, expected: str, seen: str) -> Finding:
        return Finding(what=what, subject=wanted.subject, expected=expected, seen=seen, remedy=_RELOAD)

    expected, seen = canonical(wanted.expr), canonical(running.expr)
    if expected != seen:
        yield differs(EXPRESSION, wanted.expr, running.expr)
    if wanted.lasting != running.lasting:
        yield differs("for", show_duration(wanted.lasting), show_duration(running.lasting))
    if running.keep is not None and wanted.keep != running.keep:
        yield differs("keep-firing-for", show_duration(wanted.keep or 0.0), show_duration(running.keep))
    for what, ours, theirs in (
        ("label", wanted.told_labels, running.told_labels),
        ("annotation", wanted.annotations, running.annotations),
    ):
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                yield differs(what, _assigned(name, ours.get(name)), _assigned(name, theirs.get(name)))


def _of_health(rule: RunningRule, group: RunningGroup, moment: Moment) -> Iterable[Finding]:
    """Whether a rule is evaluated, lately and without an error."""
    subject = rule.text.subject
    if rule.health == "err":
        yield Finding(
            what="evaluation-error",
            subject=subject,
            expected="evaluated without an error",
            seen=rule.error or "an error that Prometheus does not tell",
            remedy="mend what the error says: while it lasts this rule neither records nor alerts",
        )
    # A group waits up to an interval for its place after it was loaded, and up to another one for its end.
    since = rule.evaluated if rule.evaluated is not None else moment.loaded
    if moment.now - since > max(SHORTEST_STALE, MISSED * group.interval):
        yield Finding(
            what="evaluation-stale",
            subject=subject,
            expected=f"evaluated every {show_duration(group.interval)}",
            seen=f"last evaluated {show_duration(round(moment.now - since))} ago"
            if rule.evaluated is not None
            else f"not evaluated since it was loaded {show_duration(round(moment.now - since))} ago",
            remedy="see whether Prometheus is overloaded (prometheus_rule_group_iterations_missed_total) or stands still",
        )


def _of_interval(wanted: GroupText, running: RunningGroup, moment: Moment) -> Iterable[Finding]:
    """Whether a group is evaluated as often as it says, or at least as often as is asked for."""
    if wanted.interval is not None and running.interval != wanted.interval:
        expected, remedy = show_duration(wanted.interval), _RELOAD
    elif wanted.interval is None and running.interval > moment.interval:
        expected = f"{show_duration(moment.interval)} or less"
        remedy = "set global.evaluation_interval of Prometheus: its default is 1m, and alerts come so much later"
    else:
        return
    yield Finding(
        what="evaluation-interval",
        subject=wanted.name,
        expected=expected,
        seen=show_duration(running.interval),
        remedy=remedy,
    )


def _of_version(pairs: Sequence[tuple[RuleText, RunningRule]], group: str) -> Iterable[Finding]:
    """Whether another version of ours wrote the file."""
    for rule, other in pairs:
        expected, seen = rule.labels.get(VERSION), other.text.labels.get(VERSION)
        if expected != seen:
            yield Finding(
                what="version",
                subject=group,
                expected=f"written by stormwatch {expected}",
                seen=f"written by stormwatch {seen}",
                remedy=_RELOAD,
            )


def _extra_group(group: RunningGroup, *, again: bool) -> Finding:
    return Finding(
        what="group-twice" if again else "group-extra",
        subject=group.name,
        expected="one group of this name" if again else "no such group",
        seen=f"{len(group.rules)} rules in {group.file}: {_names(rule.text.name for rule in group.rules)}",
        remedy=f"remove {group.file} from `rule_files`, or write it anew, and reload Prometheus; "
        "a file of another configuration of ours is left out with --ignore-file",
    )


def _pair(
    wanted: GroupText, running: RunningGroup
) -> tuple[list[tuple[RuleText, RunningRule]], list[RuleText], list[RunningRule]]:
    """Which rule runs in whose place; which is missing; which is there besides."""
    free = list(running.rules)
    found: dict[int, RunningRule] = {}
    for same in (_is_same, _is_about_the_same):
        for index, rule in enumerate(wanted.rules):
            if index not in found and (match := next((each for each in free if same(rule, each.text)), None)):
                found[index] = match
                free.remove(match)
    pairs = [(rule, found[index]) for index, rule in enumerate(wanted.rules) if index in found]
    return pairs, [rule for index, rule in enumerate(wanted.rules) if index not in found], free


def _is_same(one: RuleText, other: RuleText) -> bool:
    return (one.is_alert, one.name, one.told_labels) == (other.is_alert, other.name, other.told_labels)


def _is_about_the_same(one: RuleText, other: RuleText) -> bool:
    return (one.is_alert, one.name) == (other.is_alert, other.name) and all(
        one.labels.get(label) == other.labels.get(label) for label in IDENTITY
    )


def _likeness(wanted: GroupText, running: RunningGroup) -> int:
    return sum((_known(wanted.rules) & _known([rule.text for rule in running.rules])).values())


def _known(rules: Iterable[RuleText]) -> Counter[tuple[str, frozenset[tuple[str, str]]]]:
    return Counter((rule.name, frozenset(rule.told_labels.items())) for rule in rules)


def _rule(document: Mapping[str, Any]) -> RuleText:
    return RuleText(
        name=document.get("alert") or document["record"],
        is_alert="alert" in document,
        expr=document["expr"],
        lasting=parse_duration(document["for"]) if "for" in document else 0.0,
        keep=parse_duration(document["keep_firing_for"]) if "keep_firing_for" in document else 0.0,
        labels=document.get("labels", {}),
        annotations=document.get("annotations", {}),
    )


def _assigned(name: str, value: str | None) -> str:
    return f"no {name}" if value is None else f"{name}: {value}"


def _alerts_first(rules: Iterable[RuleText]) -> list[str]:
    return [rule.name for rule in sorted(rules, key=lambda rule: not rule.is_alert)]


def _names(names: Iterable[str], most: int = 6) -> str:
    """A few names, and how many there are besides."""
    counted = list(Counter(names).items())
    shown = ", ".join(f"{count}x {name}" if count > 1 else name for name, count in counted[:most])
    return f"{shown} and {len(counted) - most} more" if len(counted) > most else shown
