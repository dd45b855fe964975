"""Each way of changing the monitoring: one story tells it apart, and another does not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stormwatch.chaos.drill import ExpectedAlert, ExpectedProbe
from stormwatch.chaos.mutant import Mutant, Operator, mutants_of, weakened
from stormwatch.chaos.mutation import Fate, State, examine
from stormwatch.chaos.playback import Monitoring, replay
from stormwatch.chaos.recording import Recorded
from stormwatch.chaos.routing import Routed
from stormwatch.exporters.grouping import Route
from stormwatch.probes.expectation import ExpectHttp
from stormwatch.probes.http import HttpOptions
from stormwatch.probes.probe import Confirm
from stormwatch.probes.result import Attempt, Outcome, Reason, Result
from stormwatch.slo.alert import Severity
from stormwatch.slo.maintenance import Maintenance
from stormwatch.slo.policy import rules_for_probe
from tests.chaos.tapes import (
    BURN,
    DAY,
    PAGE,
    ZERO,
    burning,
    control,
    drill,
    earlier,
    healthy,
    heard,
    monitoring,
    objective,
    probe,
    run,
    runs,
    tape,
)


@dataclass(frozen=True)
class Case:
    """One mutant, a recording that tells it apart and one that does not."""

    operator: Operator
    told: str
    """Words of its sentence."""
    watched: Monitoring
    killing: Recorded
    surviving: Recorded
    """About the same probes."""


PLAIN = monitoring()
LONG = (*runs(), *(run(at) for at in range(56, 130, 10)))
LATER = 130.0
"""When the short windows below have forgotten the failures."""


def _with_rules_of(**settings: object) -> Monitoring:
    """The probe with other settings of its alert."""
    return replace(PLAIN, rules=rules_for_probe(probe(), **settings))  # type: ignore[arg-type]


def _rule_removed() -> Case:
    red_only = drill(None)
    return Case(
        Operator.RULE_REMOVED,
        "ProbeDown of shop is removed",
        PLAIN,
        tape(PLAIN, drill(), runs()),
        tape(PLAIN, red_only, runs()),
    )


def _severity() -> Case:
    any_severity = drill({"alertname": "ProbeDown", "probe": "shop"})
    return Case(
        Operator.SEVERITY,
        "ProbeDown of shop is of severity ticket instead of page",
        PLAIN,
        tape(PLAIN, drill(), runs()),
        tape(PLAIN, any_severity, runs()),
    )


def _for_longer() -> Case:
    """The recording ends long before the alert of the mutant would fire: the fault is held on paper."""
    return Case(
        Operator.FOR_LONGER,
        "ProbeDown of shop fires after 1m instead of 0s",
        PLAIN,
        tape(PLAIN, drill(within=30), runs()),
        tape(PLAIN, drill(within=120), runs()),
    )


def _for_zero() -> Case:
    watched = _with_rules_of(lasting=15.0)
    blip = (run(-5), run(5, "timeout"), *(run(at) for at in (15, 25, 36, 46)))
    return Case(
        Operator.FOR_ZERO,
        "ProbeDown of shop fires at once instead of after 15s",
        watched,
        control(blip),
        tape(watched, drill(), runs()),
    )


def _keep_removed() -> Case:
    watched = _with_rules_of(keep=40.0)
    ends = 140.0
    results = (*runs(), *(run(at) for at in range(56, 135, 10)))
    soon = drill(resolves_within=20)
    return Case(
        Operator.KEEP_REMOVED,
        "ProbeDown of shop does not go on firing for 40s",
        watched,
        tape(watched, soon, results, ended=ends),
        tape(watched, drill(resolves_within=100), results, ended=ends),
    )


def _burn(share: Sequence[int], *pairs: tuple[float, float, float], **more: object) -> tuple[Monitoring, Recorded]:
    """A drill that waits for the page of an objective whose windows held so many good and bad runs before."""
    good, bad = share
    watched = monitoring(*burning(*pairs), objectives=(objective(),))
    asked = drill(BURN, within=30, allow=("shop",), resolves_within=240)
    return watched, tape(watched, asked, LONG, earlier=earlier(good, bad), ended=LATER)


def _factor() -> Case:
    watched, nearly = _burn((20, 0), (360, 60, 10))  # 3 of 25: 12 %, and 10 x 1 % is asked for
    _, all_bad = _burn((0, 0), (360, 60, 10))
    return Case(Operator.FACTOR, "asks for twice its factor, 20", watched, nearly, all_bad)


def _window() -> Case:
    """The short window ends the alert: a minute after the last bad run, or two."""
    watched = monitoring(*burning((360, 60, 10)), objectives=(objective(),))
    soon = drill(BURN, allow=("shop",), resolves_within=80)
    return Case(
        Operator.WINDOW,
        "looks back twice as far, 12m and 2m",
        watched,
        tape(watched, soon, LONG, ended=LATER),
        tape(watched, replace(soon, resolves_within=300), LONG, ended=LATER),
    )


def _pair_removed() -> Case:
    watched, only_slow = _burn((20, 0), (360, 60, 20), (720, 90, 10))  # 12 %: below 20 x 1 %, above 10 x 1 %
    _, both = _burn((0, 0), (360, 60, 20), (720, 90, 10))
    return Case(Operator.PAIR_REMOVED, "the page pair 10x over 12m and 1m30s", watched, only_slow, both)


def _threshold() -> Case:
    watched = _with_rules_of(expiry={Severity.TICKET: 21 * DAY})
    return Case(
        Operator.THRESHOLD,
        "CertificateExpiring of shop tells 42d before instead of 21d",
        watched,
        control(healthy(expires=30 * DAY)),
        control(healthy(expires=90 * DAY)),
    )


def _target() -> Case:
    watched, nearly = _burn((20, 0), (360, 60, 10))
    return Case(
        Operator.TARGET, "shop-up promises 90% instead of 99%", watched, nearly, control(healthy(), name="all well")
    )


def _objective_window() -> Case:
    promise = objective(window=3600.0)  # 3.6 of 360 runs, so 4 that fail make it low; of two hours it were 7
    watched = monitoring(*burning(promise=promise), objectives=(promise,))
    return Case(
        Operator.OBJECTIVE_WINDOW,
        "the budget of shop-up is for 2h instead of 1h",
        watched,
        control(runs(), earlier=earlier(300, 2)),
        control(healthy()),
    )


def _slower_than() -> Case:
    promise = objective(slower_than=1.0)
    watched = monitoring(*burning((360, 60, 10), promise=promise), objectives=(promise,))
    return Case(
        Operator.SLOWER_THAN,
        "runs are bad for shop-up after 2s instead of 1s",
        watched,
        control(healthy(seconds=1.5)),
        control(healthy(seconds=0.2)),
    )


def _probe_removed() -> Case:
    promise = objective(probes=("shop", "pay"))
    watched = monitoring(
        *burning((360, 60, 10), promise=promise), probes=(probe(), probe("pay")), objectives=(promise,)
    )
    asked = drill(BURN, probe=ExpectedProbe(name="pay"), allow=("pay",), resolves_within=240)
    return Case(
        Operator.PROBE_REMOVED,
        "shop-up does not judge pay any more",
        watched,
        tape(watched, asked, (*runs(name="pay"), *healthy()), ended=LATER),
        control((*healthy(), *healthy(name="pay"))),
    )


def _confirm() -> Case:
    blip = run(5)
    first = replace(blip.attempts[0], outcome=Outcome.DOWN, reason=Reason.RESET, message="reset")
    second = replace(blip.attempts[0], started=blip.started + 0.6)
    confirmed = replace(blip, attempts=(first, second))
    return Case(
        Operator.CONFIRM,
        "1 attempt instead of 2 before shop is down",
        PLAIN,
        control((run(-5), confirmed, run(15))),
        tape(PLAIN, drill(), runs()),
    )


def _expectation_removed() -> Case:
    asks = probe(settings=HttpOptions(expect=ExpectHttp(body_matches=("cart", "price"))))
    watched = monitoring(probes=(asks,))
    message = "the body (90 bytes) does not match 'cart'"
    return Case(
        Operator.EXPECTATION_REMOVED,
        "shop does not ask for expect.body_matches 'cart' any more",
        watched,
        tape(watched, drill(), runs(reason="assertion", message=message)),
        tape(watched, drill(), runs(reason="assertion", message=message.replace("cart", "price"))),
    )


def _dependency_removed() -> Case:
    watched = monitoring(probes=(probe(depends_on=("dns",)), probe("dns")))
    alert = {"alertname": "ProbeDown", "probe": "dns"}
    asked = drill(alert, probe=ExpectedProbe(name="dns", within=60), allow=())
    # The dependency is seen to be down first, as long as it is seen at all.
    before = tuple(
        replace(one, started=one.started - 1, attempts=_sooner(one)) for one in runs(name="dns", reason="dns")
    )
    return Case(
        Operator.DEPENDENCY_REMOVED,
        "alerts of shop are not muted any more while dns is down",
        watched,
        tape(watched, asked, (*before, *runs()[:5], *(run(at) for at in (34, 44)))),
        tape(watched, drill(), (*runs(), *healthy(name="dns"))),
    )


def _sooner(one: Result) -> tuple[Attempt, ...]:
    return tuple(replace(attempt, started=attempt.started - 1) for attempt in one.attempts)


OPEN = "DTSTART:20231101T000000Z\nRRULE:FREQ=DAILY"  # ZERO is in the middle of November 2023
LABELLED = (probe(labels={"team": "web", "tier": "one"}), probe("pay", labels={"team": "web", "tier": "two"}))


def _maintenance_removed() -> Case:
    planned = Maintenance(match={"probe": "shop"}, rrule=OPEN, duration=DAY)
    watched = replace(PLAIN, maintenance=(planned,))
    return Case(Operator.MAINTENANCE_REMOVED, "is removed", watched, control(runs()), control(healthy()))


def _matcher_removed() -> Case:
    planned = Maintenance(match={"team": "web", "tier": "two"}, rrule=OPEN, duration=DAY)
    watched = monitoring(probes=LABELLED, maintenance=(planned,))
    return Case(
        Operator.MATCHER_REMOVED,
        "is for every tier, and not for two alone",
        watched,
        tape(watched, drill(), runs()),
        control(healthy()),
    )


DELIVERED = ExpectedAlert(labels=PAGE, within=60, delivered_within=60)


def _of_channel(operator: Operator, told: str, **route: object) -> Case:
    """A channel that the watched receiver stands behind: only a drill that asks for the delivery tells."""
    channel = Routed(route=Route(channel="ops", **route), receiver="ops", place=("alerts", "notify", 0))  # type: ignore[arg-type]
    watched = replace(PLAIN, routing=(channel,))
    return Case(
        operator,
        told,
        watched,
        heard(tape(watched, drill(alert=DELIVERED), runs()), "ops"),
        heard(tape(watched, drill(), runs()), "ops"),
    )


def _route_removed() -> Case:
    return _of_channel(Operator.ROUTE_REMOVED, "ops is not told of any alert")


def _route_severity() -> Case:
    severities = frozenset({"page", "ticket"})
    return _of_channel(Operator.ROUTE_SEVERITY, "ops is not told of what is of severity page", severities=severities)


def _route_matcher() -> Case:
    return _of_channel(Operator.ROUTE_MATCHER, "ops is told of alerts whose probe is not shop", match={"probe": "shop"})


CASES = (
    _rule_removed,
    _severity,
    _for_longer,
    _for_zero,
    _keep_removed,
    _factor,
    _window,
    _pair_removed,
    _threshold,
    _target,
    _objective_window,
    _slower_than,
    _probe_removed,
    _confirm,
    _expectation_removed,
    _dependency_removed,
    _maintenance_removed,
    _matcher_removed,
    _route_removed,
    _route_severity,
    _route_matcher,
)


def fate(watched: Monitoring, operator: Operator, told: str, *recordings: Recorded) -> Fate:
    """What became of one mutant."""
    examined = examine(watched, recordings)
    assert examined.used == tuple(one.name for one in recordings), examined.unused
    found = [one for one in examined.fates if one.mutant.operator is operator and told in one.mutant.sentence]
    assert len(found) == 1, [one.mutant.sentence for one in examined.fates if one.mutant.operator is operator]
    return found[0]


@pytest.mark.parametrize("case", [made() for made in CASES], ids=lambda case: case.operator.value)
def test_one_story_kills_it_and_another_does_not(case: Case) -> None:
    """By the verdict of the drill, or the false alarm of a control run."""
    killed = fate(case.watched, case.operator, case.told, case.killing)
    assert (killed.state, killed.by) == (State.KILLED, case.killing.name), killed
    assert fate(case.watched, case.operator, case.told, case.surviving).state is State.SURVIVED
    both = fate(case.watched, case.operator, case.told, case.surviving, case.killing)
    assert both.by == case.killing.name


def test_every_operator_has_its_case() -> None:
    """An operator that nobody tells apart here might change nothing at all."""
    assert sorted(made().operator for made in CASES) == sorted(Operator)


def mutant(watched: Monitoring, operator: Operator, told: str) -> Mutant:
    """One of them."""
    return next(one for one in mutants_of(watched) if one.operator is operator and told in one.sentence)


def test_a_mutant_leaves_everything_else_as_it_is() -> None:
    """The same rules in the same places but for one, which the mutant names as it was and as it is."""
    watched = monitoring(*burning((360, 60, 10), (720, 90, 5)), objectives=(objective(),))
    for one in mutants_of(watched):
        now = one.monitoring.rules
        assert len(now) == len(watched.rules) - len(one.before) + len(one.after)
        if one.after and one.before is not one.after:
            assert [rule for rule in now if rule not in watched.rules] == list(one.after), one.sentence
            assert [rule for rule in watched.rules if rule not in now] == list(one.before), one.sentence


def test_what_no_failure_can_reach_is_equivalent_and_not_held_against_anybody() -> None:
    """20 times the budget of 10 % is more than all; the maintenance of a label that all have is the same without it."""
    promise = objective(target=Fraction(9, 10))
    planned = Maintenance(match={"team": "web", "kind": "http"}, rrule=OPEN, duration=60)
    watched = monitoring(
        *burning((360, 60, 20), promise=promise), probes=LABELLED, objectives=(promise,), maintenance=(planned,)
    )
    examined = examine(watched, (control(healthy()),))
    equivalent = {one.mutant.operator for one in examined.fates if one.state is State.EQUIVALENT}
    assert equivalent == {Operator.FACTOR, Operator.WINDOW, Operator.MATCHER_REMOVED}
    assert mutant(watched, Operator.FACTOR, "half its factor, 10").equivalent  # 10 x 10 % is all of them, and not more
    assert not mutant(watched, Operator.MAINTENANCE_REMOVED, "").equivalent
    assert examined.score == 0


def test_the_score_counts_what_could_have_been_killed() -> None:
    """Exactly; and what no recording is about stands apart."""
    watched = monitoring(probes=(probe(), probe("pay")))
    examined = examine(watched, (tape(watched, drill(within=30), runs()),))
    assert {one.mutant.subject for one in examined.survivors if one.state is State.UNREACHED} == {"pay"}
    counts = {state: examined.count(state) for state in State}
    killed, all_told = counts[State.KILLED], len(examined.fates) - counts[State.EQUIVALENT]
    assert killed > 0
    assert examined.score == Fraction(killed, all_told)


def test_without_a_recording_that_proves_something_there_is_no_score() -> None:
    """A torn one, one with a gap, one of an inconclusive drill: each is named with its reason."""
    proved = tape(PLAIN, drill(), runs())
    unproved = tape(PLAIN, drill(), ())
    examined = examine(PLAIN, (replace(proved, gap="the drill died"), unproved))
    assert examined.score is None
    assert examined.used == ()
    died, inconclusive = (why for _, why in examined.unused)
    assert died == "the drill died"
    assert inconclusive.startswith("its verdict is inconclusive: shop did not run while the fault was in place")


def test_a_recording_that_comes_out_otherwise_today_is_named() -> None:
    """The rules were changed since: what is told of mutants is about those of today."""
    recorded = tape(PLAIN, drill(within=30), runs())
    slow = _with_rules_of(lasting=60.0)
    assert examine(PLAIN, (recorded,)).changed == ()
    assert examine(slow, (recorded,)).changed == (("hangs", "proved", "late"),)


def test_each_expectation_of_a_drill_can_be_left_out() -> None:
    """One at a time, and never so that nothing is left."""
    alert = ExpectedAlert(labels={**PAGE, "team": "web"})
    asked = drill(alert=None, allow=("shop-up", "front"), probe=ExpectedProbe(name="shop", reason=Reason.TIMEOUT))
    both = replace(asked, alert=alert)
    assert [one.sentence for one in weakened(asked)] == ["reason: timeout", "allow: shop-up", "allow: front"]
    assert [one.place for one in weakened(both)] == [
        ("expect", "probe", "reason"),
        ("expect", "alert"),
        ("expect", "probe"),
        ("expect", "alert", "severity"),
        ("expect", "alert", "labels", "team"),
        ("expect", "allow", 0),
        ("expect", "allow", 1),
    ]


def test_what_a_drill_asks_for_without_need_is_told() -> None:
    """Its severity is what tells the mutant of the severity; the alert of a probe that it allows never fires."""
    asked = drill(within=30, allow=("front",), probe=ExpectedProbe(name="shop"))
    watched = replace(PLAIN, drills={asked.name: asked})
    found = {one.sentence for one in examine(watched, (tape(watched, asked, runs()),)).redundant}
    assert found == {"allow: front", "the probe shop"}


@pytest.mark.parametrize("attempts", [1, 3])
def test_the_number_of_attempts_changes_when_a_run_is_decided(attempts: int) -> None:
    """Fewer: sooner. More: what the last one saw once more."""
    watched = monitoring(probes=(probe(confirm=Confirm(2, 0.5)),))
    rejudge = mutant(watched, Operator.CONFIRM, f"{attempts} attempt").rejudge
    assert rejudge is not None
    seen = run(5, "timeout")
    assert rejudge(seen).finished == pytest.approx(ZERO + 5 + 0.1 + (attempts - 1) * 0.6)
    assert rejudge(run(5)) == run(5)


@given(
    shop=st.lists(st.sampled_from(["", "", "timeout", "status"]), min_size=3, max_size=6),
    pay=st.lists(st.sampled_from(["", "", "", "timeout"]), min_size=3, max_size=6),
    bad=st.integers(min_value=0, max_value=6),
)
@example(shop=["", "", ""], pay=["", "", ""], bad=6)  # down before, and never since
@settings(max_examples=3, deadline=None)
def test_what_is_not_evaluated_would_have_changed_nothing(shop: list[str], pay: list[str], bad: int) -> None:
    """Each mutant has the fate that it has when everything is evaluated again for it."""
    probes = (probe(depends_on=("dns",)), probe("pay"), probe("dns"), probe("quiet"))
    promises = (objective(), objective(name="all-up", probes=("pay", "quiet"), slower_than=1.0))
    rules = [rule for one in promises for rule in burning((360, 60, 10), (720, 90, 5), promise=one)]
    watched = monitoring(*rules, probes=probes, objectives=promises)
    results = [
        *(run(10 * number - 5, reason) for number, reason in enumerate(shop)),
        *(run(10 * number - 4, reason, name="pay", seconds=0.9) for number, reason in enumerate(pay)),
        *(run(10 * number - 3, name=name) for number in range(9) for name in ("quiet", "dns")),
    ]
    asked = drill(within=30, allow=())
    for recorded in (control(results, earlier=earlier(9, bad)), tape(watched, asked, results, earlier=earlier(9, bad))):
        examined = examine(watched, (recorded,))
        before = replay(watched, recorded).told
        for one in examined.fates:
            after = replay(one.mutant.monitoring, recorded, rejudge=one.mutant.rejudge).told
            if not one.mutant.equivalent:
                assert (one.state is State.KILLED) == (after != before), (one.mutant.sentence, before, after)
