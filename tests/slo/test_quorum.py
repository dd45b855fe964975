"""Several locations decide together whether a probe is down: in process, in Prometheus, and in the tests for promtool."""

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from stormwatch.exporters.prometheus import PrometheusExporter
from stormwatch.probes.http import KIND as HTTP
from stormwatch.probes.probe import Probe
from stormwatch.probes.result import Result
from stormwatch.slo.alert import AlertState, Transition
from stormwatch.slo.evaluator import Evaluator
from stormwatch.slo.maintenance import Maintenance
from stormwatch.slo.policy import evidence_due, rules_for_probe
from stormwatch.slo.prometheus import render_rules
from stormwatch.slo.promtool import render_tests
from stormwatch.slo.quorum import SILENT_AFTER, rules_for_peers, with_quorum
from stormwatch.slo.rule import Rule
from tests.slo.parity import (
    STEP,
    Series,
    States,
    World,
    differences,
    prometheus_states,
    samples,
    silent_of_itself,
    transitions,
)
from tests.slo.promtool import promtool
from tests.slo.story import START, probe, result

HERE, SECOND, THIRD = LOCATIONS = ("fra1", "nyc1", "sin1")
FRONT = probe(location=HERE)
DUE = evidence_due(FRONT)
"""56 s: three intervals and a run at its longest."""


def rules(quorum: int = 2, probes: Iterable[Probe] = (FRONT,), **fields: Any) -> tuple[Rule, ...]:
    """Those of all probes and peers."""
    of_probes = [
        rule for each in probes for rule in with_quorum(rules_for_probe(each, **fields), each, quorum, LOCATIONS)
    ]
    return (*of_probes, *rules_for_peers(LOCATIONS[1:]))


class Locations:
    """The evaluator of the first location, which hears of the other two once a run."""

    def __init__(self, quorum: int = 2, *, probes: Sequence[Probe] = (FRONT,), maintenance: Sequence[Maintenance] = ()):
        self.evaluator = Evaluator((), rules(quorum, probes), probes, maintenance=maintenance)
        self.now = START

    def see(self, **signs: str) -> list[tuple[str, str, str]]:
        """A run everywhere at the same time, one sign a location; a `.` is a location that does not answer.

        Gives alerts that changed: name, place or probe, state.
        """
        self.now += FRONT.every
        for location, sign in signs.items():
            if sign == ".":
                continue
            seen = result(sign, self.now - 1)
            if location == HERE:
                self.evaluator.observe(seen)
            else:
                self.evaluator.hear(location, [seen], self.now)
        return [_told(change) for change in self.evaluator.evaluate(self.now)]

    def firing(self) -> set[tuple[str, str]]:
        """Names of the alerts that fire, with their place or probe."""
        return {_told(each)[:2] for each in self.evaluator.active() if each.after is AlertState.FIRING}


def _told(change: Transition) -> tuple[str, str, str]:
    labels = change.alert.labels
    return change.alert.name, labels.get("location", labels.get("probe", "")), change.after.value


def test_a_location_red_alone_is_a_ticket_and_no_page() -> None:
    """Whichever it is."""
    for alone in LOCATIONS:
        world = Locations()
        world.see(fra1="+", nyc1="+", sin1="+")

        assert world.see(**{place: "-" if place == alone else "+" for place in LOCATIONS}) == [
            ("LocationDown", alone, "firing")
        ]
        assert world.see(fra1="+", nyc1="+", sin1="+") == [("LocationDown", alone, "resolved")]


def test_the_second_red_location_pages_and_its_ticket_is_over() -> None:
    """The outage is everybody's from then on."""
    world = Locations()
    world.see(fra1="+", nyc1="-", sin1="+")

    assert world.see(fra1="-", nyc1="-", sin1="+") == [
        ("ProbeDown", "front", "firing"),
        ("LocationDown", "nyc1", "resolved"),
    ]
    page = next(each for each in world.evaluator.active() if each.alert.name == "ProbeDown")
    assert page.message.startswith("down from fra1, nyc1 (2 of 3 locations that answer): front timeout")


def test_a_quorum_of_all_three_asks_all_three() -> None:
    """And two tell of themselves until then."""
    world = Locations(quorum=3)
    world.see(fra1="-", nyc1="-", sin1="+")

    assert world.firing() == {("LocationDown", "fra1"), ("LocationDown", "nyc1")}
    world.see(fra1="-", nyc1="-", sin1="-")
    assert world.firing() == {("ProbeDown", "front")}


def test_a_broken_run_has_no_vote() -> None:
    """It says nothing about the target: neither for an outage nor against one."""
    world = Locations()
    world.see(fra1="-", nyc1="?", sin1="+")

    assert ("ProbeDown", "front") not in world.firing()
    world.see(fra1="-", nyc1="?", sin1="-")
    assert ("ProbeDown", "front") in world.firing()
    world.see(fra1="+", nyc1="+", sin1="+")
    world.see(fra1="-", nyc1="?", sin1="?")
    assert ("ProbeDown", "front") in world.firing(), "the only vote that there is"


def test_silent_peers_are_told_and_hide_no_page() -> None:
    """While their last results count, they say that it is up; then who answers decides, and it is said so."""
    world = Locations()
    world.see(fra1="+", nyc1="+", sin1="+")
    for _ in range(3):
        world.see(fra1="-", nyc1=".", sin1=".")
    assert world.firing() == {("PeerSilent", "nyc1"), ("PeerSilent", "sin1"), ("LocationDown", "fra1")}

    for _ in range(6):
        world.see(fra1="-", nyc1=".", sin1=".")
    assert world.firing() >= {("PeerSilent", "nyc1"), ("PeerSilent", "sin1"), ("ProbeDown", "front")}
    assert ("QuorumDegraded", "front") in world.firing()
    page = next(each for each in world.evaluator.active() if each.alert.name == "ProbeDown")
    assert "1 of 1 locations that answer; 2 were asked for" in page.message


def test_silent_peers_page_nobody() -> None:
    """What is up here is up, however long nobody else answers."""
    world = Locations()
    world.see(fra1="+", nyc1="-", sin1="-")
    world.see(fra1="+", nyc1="-", sin1="-")
    assert ("ProbeDown", "front") in world.firing()

    for _ in range(12):
        world.see(fra1="+", nyc1=".", sin1=".")
    assert world.firing() == {("PeerSilent", "nyc1"), ("PeerSilent", "sin1"), ("QuorumDegraded", "front")}


def test_one_silent_peer_leaves_the_quorum_to_the_others() -> None:
    """Two of two are two."""
    world = Locations()
    for _ in range(10):
        world.see(fra1="+", nyc1="+", sin1=".")

    assert world.firing() == {("PeerSilent", "sin1")}
    world.see(fra1="-", nyc1="+", sin1=".")
    assert ("ProbeDown", "front") not in world.firing()
    world.see(fra1="-", nyc1="-", sin1=".")
    assert ("ProbeDown", "front") in world.firing()


def test_the_first_to_look_after_a_start_waits_for_the_others() -> None:
    """Else every restart of a location that is blind would page; whoever does not answer in time is not waited for."""
    world = Locations()
    world.evaluator.evaluate(world.now)
    world.see(fra1="-", nyc1=".", sin1=".")
    assert ("ProbeDown", "front") not in world.firing()

    for _ in range(int(SILENT_AFTER / FRONT.every)):
        world.see(fra1="-", nyc1=".", sin1=".")
    assert ("ProbeDown", "front") in world.firing()


def test_a_dependency_mutes_by_its_own_quorum_and_a_location_by_what_it_sees_itself() -> None:
    """Blind in one location: there nothing but the dependency is told."""
    dns = probe("dns", location=HERE)
    front = probe(location=HERE, depends_on=("dns",))
    evaluator = Evaluator((), rules(2, (front, dns)), (front, dns))
    evaluator.evaluate(START)

    def see(at: float, **signs: str) -> set[tuple[str, str, str]]:
        for place, (of_front, of_dns) in signs.items():
            seen = [result(of_front, at), result(of_dns, at, name="dns")]
            if place == HERE:
                for each in seen:
                    evaluator.observe(each)
            else:
                evaluator.hear(place, seen, at)
        evaluator.evaluate(at)
        firing = [each.alert.labels for each in evaluator.active() if each.after is AlertState.FIRING]
        return {(each["alertname"], each["probe"], each.get("location", "")) for each in firing}

    assert see(START + 15, fra1="++", nyc1="--", sin1="++") == {("LocationDown", "dns", "nyc1")}
    assert see(START + 30, fra1="--", nyc1="--", sin1="++") == {("ProbeDown", "dns", "")}
    assert see(START + 45, fra1="-+", nyc1="-+", sin1="++") == {("ProbeDown", "front", "")}


def test_without_a_quorum_nobody_else_is_asked() -> None:
    """As it was before there were peers."""
    assert with_quorum(rules_for_probe(FRONT), FRONT, 1, LOCATIONS) == rules_for_probe(FRONT)


PROMISED = rules(2, (FRONT,), lasting=30.0, keep=30.0)
AT_ONCE = rules(2)
OF_THREE = rules(3)


@pytest.mark.parametrize("given", [PROMISED, AT_ONCE, OF_THREE, rules(2, (probe("dns"), probe(depends_on=("dns",))))])
def test_the_rendered_rules_pass_their_unit_tests(given: tuple[Rule, ...], tmp_path: Path) -> None:
    """`promtool test rules`, as people will have it."""
    done = promtool(tmp_path, *_written(given, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param(">= 2", ">= 1", id="quorum smaller"),
        pytest.param(">= 2", ">= 3", id="quorum larger"),
        pytest.param("<= 56", "<= 86", id="age of a vote"),
        pytest.param(" by (location)", "", id="locations"),
        pytest.param('location="fra1"}', 'location="nyc1"}', id="which location"),
        pytest.param(") < 2", ") < 1", id="degraded"),
        pytest.param("for: 30s", "for: 45s", id="for"),
    ],
)
def test_unit_tests_find_a_mistake_in_the_rules(right: str, wrong: str, tmp_path: Path) -> None:
    """Each kind of mistake, in some file."""
    names = _written(PROMISED, tmp_path)
    rules = tmp_path / "rules.yml"
    assert right in rules.read_text()
    rules.write_text(rules.read_text().replace(right, wrong))

    tried = (promtool(tmp_path, name) for name in names)
    assert any(done.returncode == 1 and "FAILED" in done.stdout + done.stderr for done in tried)


def _written(given: Sequence[Rule], directory: Path) -> list[str]:
    """The rules and their tests; the names of the tests' files."""
    (directory / "rules.yml").write_text(render_rules((), given))
    files = render_tests((), given, (FRONT,), rule_file="rules.yml")
    for each in files:
        (directory / each.name).write_text(each.text)
    return [each.name for each in files]


class Everywhere:
    """A story told from the first location, which hears of the others at every step, and the scrapes of all three."""

    def __init__(self, given: Sequence[Rule], stories: Mapping[str, str]) -> None:
        self.states: States = []
        self.series: Series = {}
        self.steps = max(map(len, stories.values())) + 1
        evaluator = Evaluator((), given, (FRONT,))
        pages = {
            place: silent_of_itself(PrometheusExporter([probe(location=place)], {"http": HTTP}, started=0.0))
            for place in stories
        }
        for step in range(self.steps):
            now = float(step * STEP)
            for place, signs in stories.items():
                sign = signs[step - 1] if 0 < step <= len(signs) else "."
                if sign != ".":
                    self._see(place, result(sign, now - 4.75, location=place), evaluator, pages[place], now)
                for key, value in samples(pages[place]).items():
                    self.series.setdefault(key, [None] * self.steps)[step] = value
            evaluator.evaluate(now)
            self.states.append(frozenset((each.alert.key, each.after.value) for each in evaluator.active()))

    @staticmethod
    def _see(place: str, seen: Result, evaluator: Evaluator, page: PrometheusExporter, now: float) -> None:
        page(seen)
        if place == HERE:
            evaluator.observe(seen)
        else:
            evaluator.hear(place, [seen], now)


def _stories(seed: int) -> dict[str, str]:
    """What three locations see: outages that all see, some of them blind, silent or broken for a while."""
    rng = random.Random(f"locations {seed}")
    outage = [sign for _ in range(6) for sign in "+" * rng.randrange(3, 14) + "-" * rng.choice([0, 1, 2, 6, 12])]
    told: dict[str, str] = {}
    for place in LOCATIONS:
        signs = list(outage)
        for _ in range(rng.randrange(0, 4)):
            at, long = rng.randrange(len(signs)), rng.choice([1, 2, 5, 12])
            signs[at : at + long] = rng.choice("-.?") * len(signs[at : at + long])
        told[place] = "".join(signs)
    return told


@pytest.mark.slow
@pytest.mark.parametrize("given", [PROMISED, AT_ONCE, OF_THREE], ids=["kept", "two of three", "three of three"])
def test_three_locations_come_out_the_same_in_process_and_in_prometheus(
    given: tuple[Rule, ...], tmp_path: Path
) -> None:
    """Twenty stories each, at every step of them. What only one process knows is left out: a silent peer, no evidence of ours."""
    asked = tuple(rule for rule in given if rule.alertname not in {"PeerSilent", "ProbeNoEvidence"})
    told = [Everywhere(asked, _stories(seed)) for seed in range(20)]
    theirs = prometheus_states(
        render_rules((), asked), [(f"{seed}", each.series, each.steps) for seed, each in enumerate(told)], tmp_path
    )

    for seed, (each, seen) in enumerate(zip(told, theirs, strict=True)):
        world = World(probes=(), objectives=(), rules=asked, happened={}, steps=each.steps)
        wrong = differences(world, each.states, seen)
        lists = ["in process:", *transitions(each.states), "in Prometheus:", *transitions(seen)]
        assert not wrong, "\n".join([f"seed {seed}", *_stories(seed).values(), *wrong, *lists])
    firing = {dict(key)["alertname"] for each in told for now in each.states for key, state in now if state == "firing"}
    assert firing >= {"ProbeDown", "LocationDown"}
