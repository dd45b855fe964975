"""Who is told of an alert, decided again: what a recorded delivery says about the channels, and what it does not."""

from dataclasses import replace

from stormwatch.chaos.drill import ExpectedAlert
from stormwatch.chaos.mutant import Operator
from stormwatch.chaos.mutation import Fate, State, examine
from stormwatch.chaos.playback import Monitoring
from stormwatch.chaos.recording import Recorded
from stormwatch.chaos.routing import Routed
from stormwatch.exporters.grouping import Route
from stormwatch.slo.alert import AlertState
from tests.chaos.tapes import PAGE, control, drill, heard, monitoring, runs, tape

ASKED = drill(ExpectedAlert(labels=PAGE, within=60, delivered_within=50))
"""For longer than the fault was in place."""


def channel(name: str, *severities: str, receiver: str | None = None, **match: str) -> Routed:
    """One that is told of what has these severities and labels."""
    route = Route(channel=name, severities=frozenset(severities), match=match)
    return Routed(route=route, receiver=name if receiver is None else receiver, place=("alerts", "notify", 0))


def watched_with(*channels: Routed) -> Monitoring:
    """One probe, and these channels."""
    return replace(monitoring(), routing=channels)


def fates(watched: Monitoring, recorded: Recorded) -> dict[str, Fate]:
    """What became of the mutants of channels, by what they say."""
    examined = examine(watched, [recorded])
    assert examined.used == (recorded.name,), examined.unused
    return {each.mutant.sentence: each for each in examined.fates if each.mutant.routed}


def states(watched: Monitoring, recorded: Recorded) -> dict[str, str]:
    """The same in a word each."""
    return {sentence: each.state.value for sentence, each in fates(watched, recorded).items()}


def test_an_alert_that_reached_nobody_is_missed() -> None:
    """The drill would have waited for the delivery as long as it was asked to, and for nothing."""
    watched = watched_with(channel("ops"))
    (found,) = fates(watched, heard(tape(watched, ASKED, runs()), "ops")).values()
    assert (found.state, found.by, found.told) == (State.KILLED, "hangs", "proved, with it missed")
    assert found.mutant.place == ("alerts", "notify", 0)


def test_what_came_by_another_channel_all_the_same_is_not_missed() -> None:
    """One of two that say the same can be removed, and nobody notices."""
    watched = watched_with(channel("ops"), channel("web", "page"))
    seen = states(watched, heard(tape(watched, ASKED, runs()), "ops", "web"))
    assert set(seen.values()) == {"survived"}
    assert states(watched, heard(tape(watched, ASKED, runs()), "ops")) == {
        "ops is not told of any alert": "killed",
        "web is not told of any alert": "survived",
        "web is not told of what is of severity page": "survived",
    }


def test_what_comes_by_an_alertmanager_says_nothing_of_our_channels() -> None:
    """Its receivers have names of their own."""
    watched = watched_with(channel("ops"), channel("alertmanager", receiver=""))
    assert states(watched, heard(tape(watched, ASKED, runs()), "drills-of-the-team")) == {
        "ops is not told of any alert": "survived",
        "alertmanager is not told of any alert": "killed",
    }


def test_the_alert_that_was_expected_counts_and_its_labels_do() -> None:
    """A severity that no alert had, and a label that it did not have, are told apart by none."""
    watched = watched_with(channel("ops", "page", "ticket", alertname="ProbeDown"), channel("night", "info"))
    assert states(watched, heard(tape(watched, ASKED, runs()), "ops")) == {
        "ops is not told of any alert": "killed",
        "ops is not told of what is of severity page": "killed",
        "ops is not told of what is of severity ticket": "survived",
        "ops is told of alerts whose alertname is not ProbeDown, and not of those whose alertname is": "killed",
        "night is not told of any alert": "unreached",
        "night is not told of what is of severity info": "unreached",
    }


def test_only_what_was_asked_for_and_came_is_held_against_it() -> None:
    """A drill that does not ask, one whose receiver heard nothing, and a control run: none of them tells."""
    watched = watched_with(channel("ops"))
    unasked = heard(tape(watched, drill(), runs()), "ops")
    unheard = heard(tape(watched, ASKED, runs()))
    for each in (unasked, unheard, control(runs())):
        assert states(watched, each) == {"ops is not told of any alert": "survived"}


def test_a_matcher_that_is_negated_lets_pass_what_it_kept_out() -> None:
    """And keeps out what it let pass; other labels are asked for as ever."""
    (fired,) = [one for one in tape(monitoring(), ASKED, runs()).transitions if one.after is AlertState.FIRING]
    route = channel("ops", probe="shop", severity="page")
    for label, value, wanted in (("probe", "shop", False), ("probe", "pay", True), ("severity", "info", False)):
        alert = replace(fired.alert, labels={**fired.alert.labels, label: value})
        assert replace(route, negated=frozenset({"probe"})).wants(replace(fired, alert=alert)) is wanted
    assert route.wants(fired)


def test_no_channel_changes_what_rules_say() -> None:
    """All other mutants end as they do without channels."""
    plain, told = monitoring(), watched_with(channel("ops", "page", probe="shop"))
    recorded = heard(tape(plain, ASKED, runs()), "ops")
    others = [each for each in examine(told, [recorded]).fates if each.mutant.operator not in {*OF_CHANNELS}]
    assert [(each.mutant.sentence, each.state, each.told) for each in others] == [
        (each.mutant.sentence, each.state, each.told) for each in examine(plain, [recorded]).fates
    ]


OF_CHANNELS = (Operator.ROUTE_REMOVED, Operator.ROUTE_SEVERITY, Operator.ROUTE_MATCHER)
