"""The unit tests that we write for our rules: the real promtool passes them, and fails them when a rule is broken by hand."""

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from stormwatch.probes.units import parse_duration
from stormwatch.slo.alert import Severity
from stormwatch.slo.document import yaml_text, yaml_value
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.prometheus import render_rules
from stormwatch.slo.promtool import TestFile, notation, render_tests, untested
from stormwatch.slo.rule import Rule
from tests.slo.promtool import promtool
from tests.slo.story import DAY, objective, probe

EXPIRY = {Severity.TICKET: 21.0 * DAY, Severity.PAGE: 3.0 * DAY}


def write_all(directory: Path, rules_text: str, files: Sequence[TestFile]) -> list[str]:
    """Put the rule file and its tests into a directory."""
    (directory / "rules.yml").write_text(rules_text)
    for file in files:
        (directory / file.name).write_text(file.text)
    return [file.name for file in files]


@pytest.mark.parametrize(
    ("policy", "target", "period"),
    [
        ("workbook", "0.999", 30 * DAY),
        ("workbook", "0.9", 6 * 3600),
        ("fast-slow", "0.95", 7 * DAY),
        ("workbook", "0.3", 600),
    ],
)
def test_promtool_passes_the_tests_of_an_objective(policy: str, target: str, period: int, tmp_path: Path) -> None:
    """Long windows and short ones, many decimals and none, pairs that can never fire since that takes more than all runs."""
    judged = objective(target=Fraction(target), window=float(period), labels={"team": "web"})
    rules = rules_for_objective(judged, [probe()], policy=policy)
    files = render_tests([judged], rules, [probe()], rule_file="rules.yml")

    done = promtool(tmp_path, *write_all(tmp_path, render_rules([judged], rules, [probe()]), files))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("lasting", "keep"), [(0.0, 0.0), (30.0, 0.0), (2.5, 20.0)])
def test_promtool_passes_the_tests_of_probes(lasting: float, keep: float, tmp_path: Path) -> None:
    """With every mute, with texts that look like templates, with `for` and `keep_firing_for`."""
    probes = [
        probe("dns"),
        probe("net", every=60.0),
        probe(
            depends_on=("dns", "net"),
            labels={"cost-centre": 'say "hi" {{ .x }}'},
            runbook="https://runbooks.example/{{x}}",
        ),
    ]
    rules = [rule for each in probes for rule in rules_for_probe(each, lasting=lasting, keep=keep, expiry=EXPIRY)]
    files = render_tests([], rules, probes, rule_file="rules.yml")

    done = promtool(tmp_path, *write_all(tmp_path, render_rules([], rules, probes), files))
    assert done.returncode == 0, done.stdout + done.stderr
    assert {file.name.split(".")[1] for file in files} == {"ProbeDown", "ProbeNoEvidence", "CertificateExpiring"}


# Breaking rules by hand

Document = dict[str, Any]


@dataclass(frozen=True)
class Mutation:
    """One change of one rule, as somebody's editor would make it."""

    name: str
    apply: Callable[[Document], None]
    seen_in: str = ""
    """What the name of a test must have in it to be tried; those of all pairs would take minutes."""


def replaced(name: str, old: str, new: str, *, nth: int = 0) -> Mutation:
    """The nth occurrence of a text in the expression becomes another."""

    def apply(rule: Document) -> None:
        parts = rule["expr"].split(old)
        assert len(parts) > nth + 1, f"{old!r} is not {nth + 1} times in {rule['expr']}"
        rule["expr"] = old.join(parts[: nth + 1]) + new + old.join(parts[nth + 1 :])

    return Mutation(name, apply)


def put(name: str, *path: str, value: str | None) -> Mutation:
    """A field gets another value, or goes."""

    def apply(rule: Document) -> None:
        *parents, last = path
        for parent in parents:
            rule = rule[parent]
        if value is None:
            del rule[last]
        else:
            rule[last] = value

    return Mutation(name, apply)


def mutations_of_labels() -> Iterator[Mutation]:
    """What every alert has."""
    yield put("another severity", "labels", "severity", value="none")
    yield put("a label is gone", "labels", "team", value=None)
    yield put("a label more", "labels", "extra", value="1")
    yield put("another alert's name", "alert", value="Another")
    yield put("another summary", "annotations", "summary", value="something")
    yield put("the runbook is gone", "annotations", "runbook", value=None)


FRONT = probe(depends_on=("dns",), labels={"team": "web"}, runbook="https://runbooks.example/front")
SHOP = objective(labels={"team": "web"}, runbook="https://runbooks.example/shop")
DNS_IS_DOWN = (
    'unless on() ((max(probe_success{probe="dns"}) or max(last_over_time(probe_success{probe="dns"}[15m]))) == 0)'
)
MUTES: Sequence[Mutation] = (
    replaced("not muted by dns", DNS_IS_DOWN, ""),
    replaced("muted by another", DNS_IS_DOWN, DNS_IS_DOWN.replace("dns", "dsn")),
)
MAINTAINED: Sequence[Mutation] = (
    replaced("not muted by maintenance", 'unless on() (max(stormwatch_maintenance{probe="front"}) == 1)', ""),
    replaced(
        "muted without maintenance",
        'stormwatch_maintenance{probe="front"}) == 1',
        'stormwatch_maintenance{probe="front"}) == 0',
    ),
)
SELECTED: Sequence[Mutation] = (
    replaced("another probe", 'probe="front"', 'probe="back"'),
    replaced("any probe", '{probe="front"}', ""),
)
FOR: Sequence[Mutation] = (
    put("shorter for", "for", value="15s"),
    put("longer for", "for", value="45s"),
    put("no for", "for", value=None),
    put("shorter keep_firing_for", "keep_firing_for", value="30s"),
    put("no keep_firing_for", "keep_firing_for", value=None),
)


def expiring(seconds: str) -> Sequence[Mutation]:
    """What can go wrong with an expiry."""
    return (
        replaced("later", f"< {seconds}", f"< {int(seconds) - 120}"),
        replaced("sooner", f"< {seconds}", f"< {int(seconds) + 120}"),
        replaced("also when equal", "<", "<="),
        replaced("the other way round", "<", ">"),
        replaced("the latest certificate", "min(", "max("),
        put("a for", "for", value="5m"),
    )


OF_PROBES: dict[str, Sequence[Mutation]] = {
    "ProbeDown page": (
        *FOR,
        *SELECTED,
        *MUTES,
        *MAINTAINED,
        replaced("up is down", "== 0", "== 1"),
        replaced("one location suffices", "max(", "min("),
        replaced("what was seen stands for shorter", "[15m]", "[7m]"),
        replaced("what was seen stands for longer", "[15m]", "[30m]"),
        replaced("what was seen once never stands", " or max(last_over_time(", " and max(last_over_time("),
        replaced(
            "what is gone counts as much as what is there",
            'max(probe_success{probe="front"})',
            'max(last_over_time(probe_success{probe="front"}[15m]))',
        ),
    ),
    "ProbeNoEvidence ticket": (
        *SELECTED,
        *MUTES,
        *MAINTAINED,
        replaced("sooner", "> 56", "> 42"),
        replaced("later", "> 56", "> 70"),
        replaced("also when equal", "> 56", ">= 56"),
        replaced("the other way round", "> 56", "< 56"),
        replaced("remembers for shorter", "[6h]", "[3h]"),
        replaced("remembers for longer", "[6h]", "[12h]"),
        put("a for", "for", value="1m"),
    ),
    "CertificateExpiring ticket": (*SELECTED, *MAINTAINED, *expiring("1814400")),
    "CertificateExpiring page": (*SELECTED, *MAINTAINED, *expiring("259200")),
}


def of_pair(
    number: int, shown: str, *, long: str, short: str, threshold: str, subsumed: bool = False
) -> Iterator[Mutation]:
    """One pair of windows of a burn-rate rule: both comparisons, both windows, and what joins them.

    A pair that never fires but when the other one does cannot be missed: what makes it less sensitive changes nothing.
    """
    more, less = f"{float(threshold) * 0.8:.6g}", f"{float(threshold) * 1.25:.6g}"
    for at, window in enumerate((long, short)):
        other = short if window == long else long
        yield replaced_in_pair(shown, f"{window} is more sensitive", (number, at), f"> {threshold}", f"> {more}")
        yield replaced_in_pair(shown, f"{window} looks at {other}", (number, at), f"rate{window}{{", f"rate{other}{{")
        if not subsumed:
            yield replaced_in_pair(shown, f"{window} is less sensitive", (number, at), f"> {threshold}", f"> {less}")
            yield replaced_in_pair(shown, f"{window} the other way round", (number, at), ">", "<")
    yield replace(replaced("one window suffices", "\nand\n", "\nor\n", nth=number), seen_in=shown)


def replaced_in_pair(shown: str, name: str, place: tuple[int, int], old: str, new: str) -> Mutation:
    """In one of the comparisons of one of the pairs: `place`."""
    pair, comparison = place

    def apply(rule: Document) -> None:
        pairs = rule["expr"].split("\nor\n")
        comparisons = pairs[pair].split("\nand\n")
        assert old in comparisons[comparison], f"no {old!r} in {comparisons[comparison]}"
        comparisons[comparison] = comparisons[comparison].replace(old, new)
        pairs[pair] = "\nand\n".join(comparisons)
        rule["expr"] = "\nor\n".join(pairs)

    return Mutation(f"{shown}: {name}", apply, seen_in=shown)


def recorded(window: str, longer: str, shown: str) -> Iterator[Mutation]:
    """The series that an alert reads."""

    def widen(rule: Document) -> None:
        rule["expr"] = rule["expr"].replace(f"[{window}]", f"[{longer}]")

    yield Mutation(f"{window} is another window", widen, seen_in=shown)
    yield replace(replaced("counts good runs", 'judgement="bad"', 'judgement="good"'), seen_in=shown)
    yield replace(replaced("counts another", 'objective="front-availability", ', 'objective="other", '), seen_in=shown)


FAST, SLOW = "14.4x over 1h and 5m", "6x over 6h and 30m"
OF_OBJECTIVES: dict[str, Sequence[Mutation]] = {
    "ErrorBudgetBurn page": (
        *of_pair(0, FAST, long="1h", short="5m", threshold="0.0144"),
        *of_pair(1, SLOW, long="6h", short="30m", threshold="0.006"),
        replaced("both pairs", "\nor\n", "\nand\n"),
        put("a for", "for", value="10m"),
    ),
    "ErrorBudgetBurn ticket": (
        *of_pair(0, "3x over 1d and 2h", long="1d", short="2h", threshold="0.003", subsumed=True),
        *of_pair(1, "1x over 3d and 6h", long="3d", short="6h", threshold="0.001"),
        put("a for", "for", value="2h"),
    ),
    "ErrorBudgetLow info": (
        replaced("more is left", "< 0.1", "< 0.2"),
        replaced("less is left", "< 0.1", "< 0.05"),
        replaced("the other way round", "<", ">"),
        put("a for", "for", value="3d"),
    ),
    "slo:sli_error:ratio_rate1h": tuple(recorded("1h", "2h", FAST)),
    "slo:sli_error:ratio_rate5m": tuple(recorded("5m", "10m", FAST)),
    "slo:sli_error:ratio_rate6h": tuple(recorded("6h", "12h", SLOW)),
    "slo:sli_error:ratio_rate3d": tuple(recorded("3d", "6d", "1x over 3d and 6h")),
    "slo:period_burn_rate:ratio": tuple(
        replace(each, seen_in="ErrorBudgetLow")
        for each in (
            replaced("a shorter period", "[30d]", "[15d]"),
            replaced("another budget", "0.001", "0.002"),
            replaced("another number of results", "172800", "86400"),
        )
    ),
}
OF_LABELS: Sequence[Mutation] = tuple(mutations_of_labels())


def survivors(
    directory: Path, rules_text: str, files: Sequence[TestFile], mutations: Mapping[str, Sequence[Mutation]]
) -> list[str]:
    """The mutations that no test notices. One that fails is enough; those that see an alert, and the short ones, come first.

    Each start of promtool tries the next test of every mutation that is left: to start it takes longer than most tests do.
    """
    tests = [
        (each["name"], yaml_text({**document, "tests": [each]}))
        for document, each in sorted(
            ((document, each) for document in (yaml_value(file.text) for file in files) for each in document["tests"]),
            key=lambda pair: (not fires(pair[1]), evaluations(*pair)),
        )
    ]
    original = yaml_value(rules_text)
    left: dict[str, Iterator[str]] = {}
    names: dict[str, str] = {}
    for number, (rule, mutation) in enumerate((rule, each) for rule, several in mutations.items() for each in several):
        changed = copy.deepcopy(original)
        found = [each for group in changed["groups"] for each in group["rules"] if name_of(each) == rule]
        assert found, f"no rule is called {rule}"
        mutation.apply(found[-1])
        changed["groups"] = [
            group if not rule.startswith("ErrorBudgetBurn") else {**group, "rules": [*lean(group["rules"])]}
            for group in changed["groups"]
        ]
        (directory / str(number)).mkdir()
        (directory / str(number) / "rules.yml").write_text(yaml_text(changed))
        subject = rule if not rule.startswith("slo:") else "ErrorBudget"
        file = f"{number}/one.test.yml"
        names[file] = f"{rule}: {mutation.name}"
        shown = mutation.seen_in
        left[file] = iter([text for name, text in tests if subject in name and "front" in name and shown in name])
    survived: list[str] = []
    while left:
        for file in list(left):
            if text := next(left[file], ""):
                (directory / file).write_text(text)
            else:
                survived.append(names[file])
                del left[file]
        for file in failed(directory, list(left)):
            del left[file]
    return survived


def failed(directory: Path, files: Sequence[str]) -> set[str]:
    """Of many test files those that fail, half of them beside the other half."""

    def said_of(half: Sequence[str]) -> str:
        return promtool(directory, *half).stdout if half else ""

    with ThreadPoolExecutor(2) as pool:
        said = "".join(pool.map(said_of, (files[::2], files[1::2])))
    assert said.count("Unit Testing: ") == len(files), said
    return set(files) - set(re.findall(r"^Unit Testing: +(\S+)\n +SUCCESS$", said, re.MULTILINE))


def fires(test: Document) -> bool:
    """Whether a test sees an alert; those that see none notice few mistakes."""
    return any(look.get("exp_alerts") for look in test.get("alert_rule_test", ()))


def evaluations(document: Document, test: Document) -> float:
    """How often promtool evaluates the rules until the last look of a test: what its run costs."""
    looks = [each["eval_time"] for each in (*test.get("alert_rule_test", ()), *test.get("promql_expr_test", ()))]
    return max(map(parse_duration, looks)) / parse_duration(document["evaluation_interval"])


def lean(rules: Sequence[Document]) -> Iterator[Document]:
    """Without what no burn-rate alert reads."""
    return (
        each
        for each in rules
        if each.get("alert") == "ErrorBudgetBurn" or each.get("record", "").startswith("slo:sli_error:ratio_rate")
    )


def name_of(rule: Document) -> str:
    """As the tables above call it."""
    return rule["record"] if "record" in rule else f"{rule['alert']} {rule['labels']['severity']}"


@pytest.mark.slow
def test_a_rule_of_a_probe_that_is_broken_by_hand_fails_its_test(tmp_path: Path) -> None:
    """Threshold, window, label, `for`, comparison, mute: each change of each alert."""
    probes = [probe("dns"), FRONT]
    rules: list[Rule] = [*rules_for_probe(FRONT, lasting=30, keep=60, expiry=EXPIRY), *rules_for_probe(probes[0])]
    rules = [*rules[4:], *rules[:4]]  # the tables are about the last rule of a name
    files = render_tests([], rules, probes, rule_file="rules.yml")

    text = render_rules([], rules, probes)
    mutations = {rule: (*several, *OF_LABELS) for rule, several in OF_PROBES.items()}
    assert survivors(tmp_path, text, files, mutations) == []


@pytest.mark.slow
@pytest.mark.parametrize("rule", OF_OBJECTIVES)
def test_a_rule_of_an_objective_that_is_broken_by_hand_fails_its_test(rule: str, tmp_path: Path) -> None:
    """The same for budgets, and for the series that their alerts read."""
    rules = rules_for_objective(SHOP, [probe()])
    files = render_tests([SHOP], rules, [probe()], rule_file="rules.yml")

    text = render_rules([SHOP], rules, [probe()])
    mutations = {rule: (*OF_OBJECTIVES[rule], *(OF_LABELS if not rule.startswith("slo:") else ()))}
    assert survivors(tmp_path, text, files, mutations) == []


def test_every_rule_that_there_is_has_tests() -> None:
    """Nothing is left out in silence."""
    rules = [*rules_for_objective(SHOP, [FRONT]), *rules_for_probe(FRONT, expiry=EXPIRY)]

    assert untested(rules) == ()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1], "1"),
        ([0, 5, 10, 15], "0+5x3"),
        ([3, 2, 1], "3-1x2"),
        ([1, 1, 0, 0, None, None, None, 1], "1+0x1 0+0x1 stale _x2 1"),
        ([None, None, 2], "_ _x1 2"),
    ],
)
def test_series_are_written_in_the_notation_of_promtool(values: list[int | None], text: str) -> None:
    """Short, so that people can read them."""
    assert notation(values) == text
