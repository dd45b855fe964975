"""What is told together, when, and when again: in virtual time, without I/O."""

from dataclasses import replace

import pytest

from stormwatch.exporters.grouping import Acknowledgement, Due, Grouping, Route
from stormwatch.exporters.hours import DAYS, Hours
from stormwatch.exporters.message import Why
from stormwatch.exporters.silence import Silence
from tests.exporters.dispatching import START, alert

ROUTE = Route(channel="slack", group_wait=5, group_interval=30, repeat_interval=3600, acknowledgements=True)


def whys(due: list[Due]) -> list[str]:
    """Why people are told."""
    return [each.message.why.value for each in due]


def grouped(*routes: Route) -> Grouping:
    """With one alert that was told."""
    grouping = Grouping(routes or (ROUTE,))
    grouping.take(alert("high"), START)
    assert whys(grouping.due(START + 5)) == ["first"]
    return grouping


def test_a_group_waits_for_its_first_message_and_between_two() -> None:
    """`group_wait` and then `group_interval`, to the second."""
    grouping = Grouping([ROUTE])
    assert grouping.take(alert("high"), START) == []
    assert grouping.take(alert("page"), START + 1) == []
    assert grouping.due(START + 4.9) == []
    (first,) = grouping.due(START + 5)
    assert len(first.message.alerts) == 2
    assert grouping.take(alert("ticket", ends_at=START + 6), START + 6) == []
    assert grouping.take(alert("high", ends_at=START + 7), START + 7) == []
    assert grouping.due(START + 34.9) == []
    (second,) = grouping.due(START + 35)
    assert (second.message.why, second.message.status, second.message.sequence) == (Why.NEWS, "firing", 1)
    assert second.message.incident == first.message.incident


def test_it_is_repeated_as_long_as_it_fires() -> None:
    """After `repeat_interval`, and not when it is over."""
    grouping = grouped()
    assert grouping.due(START + 5 + 3599) == []
    assert whys(grouping.due(START + 5 + 3600)) == ["repeat"]
    assert whys(grouping.take(alert("high", ends_at=START + 4000), START + 4000)) == ["resolved"]
    assert grouping.next_at(START + 4000) == float("inf")


def test_the_same_again_is_no_news() -> None:
    """After a restart everything that fires is told to the dispatcher again."""
    grouping = grouped()
    assert grouping.take(alert("high", starts_at=START + 50), START + 50) == []
    assert grouping.due(START + 100) == []


def test_an_alert_that_ends_before_anybody_was_told_is_not_told() -> None:
    """Nobody has to get up for it."""
    grouping = Grouping([ROUTE])
    grouping.take(alert("high"), START)
    grouping.take(alert("high", ends_at=START + 1), START + 1)
    assert grouping.due(START + 100) == []


def test_a_silence_holds_news_back_and_lets_resolves_through() -> None:
    """Whoever was told that it fires is told that it is over."""
    grouping = grouped()
    silence = Silence(id="1", match={"alertname": "ErrorBudgetBurn"}, starts_at=START + 6, ends_at=START + 1000)
    grouping.silences["1"] = silence
    grouping.take(alert("page"), START + 40)
    assert grouping.due(START + 40) == []
    assert grouping.muted_by(alert("page"), START + 40) == "silence 1"
    (resolved,) = grouping.take(alert("high", ends_at=START + 50), START + 50)
    assert resolved.message.why is Why.RESOLVED
    assert grouping.due(START + 999) == []
    (late,) = grouping.due(START + 1000)
    assert [each.labels["severity"] for each in late.message.alerts] == ["page"]
    assert late.message.why is Why.FIRST


def test_a_page_mutes_the_ticket_of_the_same_objective() -> None:
    """And no other one's; when the page ends and the ticket does not, the ticket is told."""
    route = replace(ROUTE, group_by=None, group_wait=0, group_interval=0)
    grouping = Grouping([route])
    assert len(grouping.take(alert("page"), START)) == 1
    assert grouping.take(alert("ticket"), START + 1) == []
    assert len(grouping.take(alert("ticket", objective="other"), START + 1)) == 1
    assert whys(grouping.take(alert("page", ends_at=START + 9), START + 9)) == ["resolved"]
    (ticket,) = grouping.due(START + 10)
    assert ticket.message.severity == "ticket"


def test_who_takes_an_alert_is_told_and_nobody_is_told_again_until_it_lapses() -> None:
    """Then it is told as it was in the beginning."""
    grouping = grouped()
    key = alert("high").fingerprint
    assert grouping.acknowledge(key, Acknowledgement(by="ada", until=START + 10_000), START + 40)
    (taken,) = grouping.due(START + 40)
    assert (taken.message.why, taken.message.status) == (Why.ACKNOWLEDGED, "acknowledged")
    assert taken.message.acknowledged == {key: "ada"}
    assert grouping.due(START + 9_999) == []
    (lapsed,) = grouping.due(START + 10_000)
    assert (lapsed.message.why, lapsed.message.status) == (Why.LAPSED, "firing")
    assert not grouping.acknowledge("0" * 16, None, START)


def test_a_channel_that_is_not_told_who_takes_it_is_still_told_that_it_lapsed() -> None:
    """A webhook hears nothing of the acknowledgement, and again of the alert."""
    grouping = grouped(replace(ROUTE, acknowledgements=False))
    grouping.acknowledge(alert("high").fingerprint, Acknowledgement(by="ada", until=START + 10_000), START + 40)
    assert grouping.due(START + 40) == []
    assert grouping.due(START + 9_999) == []
    assert whys(grouping.due(START + 10_000)) == ["acknowledgement lapsed"]


def test_an_incident_ends_with_its_last_alert() -> None:
    """What fires afterwards is another one: nothing is attached to an incident that is over."""
    grouping = grouped()
    (resolved,) = grouping.take(alert("high", ends_at=START + 40), START + 40)
    grouping.take(alert("high", starts_at=START + 60), START + 60)
    (again,) = grouping.due(START + 65)
    assert again.message.incident != resolved.message.incident
    assert (again.message.why, again.message.sequence) == (Why.FIRST, 0)


@pytest.mark.parametrize(
    ("route", "told"),
    [
        (Route(channel="x"), True),
        (Route(channel="x", severities=frozenset({"page"})), False),
        (Route(channel="x", match={"objective": "checkout-availability"}), True),
        (Route(channel="x", match={"team": "web"}), False),
    ],
)
def test_a_channel_is_told_what_it_asked_for(route: Route, told: bool) -> None:
    """By severity and labels."""
    assert bool(Grouping([route]).take(alert("high"), START)) is told


def test_a_later_life_goes_on_where_this_one_was() -> None:
    """Told, taken and silenced are remembered; a message that was never written is told."""
    before = Grouping([ROUTE])
    before.take(alert("high"), START)
    before.due(START + 5)
    before.take(alert("page"), START + 6)
    alerts = [before.alert_record(key) for key in before.alerts]
    groups = [before.group_record(place) for place in before.dirty_groups]
    after = Grouping([ROUTE])
    after.restore([each for each in alerts if each], [each for each in groups if each], [], START + 60)
    (told,) = after.due(START + 60)
    assert told.message.news == {alert("page").fingerprint}
    assert told.message.sequence == 1


DAY = Hours(days=frozenset(DAYS), begin=9 * 60, end=17 * 60, timezone="UTC")
MORNING = DAY.next_open(START + 86400) if DAY.open_at(START) else DAY.next_open(START)
NIGHT = MORNING - 6 * 3600
WITH_HOURS = replace(ROUTE, hours=DAY)


@pytest.mark.parametrize("severity", ["ticket", "info"])
def test_what_can_wait_is_told_in_the_morning(severity: str) -> None:
    """To the second, once, and not at all when it is over by then."""
    grouping = Grouping([WITH_HOURS])
    assert grouping.take(alert(severity), NIGHT) == []
    assert [at for at in range(0, 6 * 3600, 60) if grouping.due(NIGHT + at)] == []
    assert grouping.next_at(MORNING - 2) <= MORNING
    assert whys(grouping.due(MORNING)) == ["first"]
    assert whys(grouping.due(MORNING + 60)) == []

    grouping = Grouping([WITH_HOURS])
    grouping.take(alert(severity), NIGHT)
    grouping.due(NIGHT + 60)
    grouping.take(alert(severity, ends_at=NIGHT + 120), NIGHT + 120)
    assert grouping.due(MORNING) == []


@pytest.mark.parametrize("severity", ["page", "high"])
def test_a_page_never_waits(severity: str) -> None:
    """Whatever the hours are."""
    grouping = Grouping([WITH_HOURS])
    grouping.take(alert(severity), NIGHT)
    assert whys(grouping.due(NIGHT + 5)) == ["first"]
    assert whys(grouping.due(NIGHT + 5 + 3600)) == ["repeat"]


def test_what_was_told_by_day_is_not_repeated_at_night_and_its_end_is_told() -> None:
    """Repeats go on in the morning."""
    evening = MORNING + 8 * 3600 - 600
    grouping = Grouping([WITH_HOURS])
    grouping.take(alert("ticket"), evening)
    assert whys(grouping.due(evening + 5)) == ["first"]
    assert [at for at in range(60, 12 * 3600, 60) if grouping.due(evening + at)] == []
    assert whys(grouping.due(MORNING + 86400)) == ["repeat"]

    night = MORNING + 86400 + 12 * 3600
    due = grouping.take(alert("ticket", ends_at=night), night)
    assert whys([*due, *grouping.due(night + 60)]) == ["resolved"]


def test_who_took_a_ticket_is_reminded_in_the_morning() -> None:
    """Not at night, when it lapses."""
    grouping = Grouping([WITH_HOURS])
    grouping.take(alert("ticket"), MORNING)
    grouping.due(MORNING + 5)
    (key,) = grouping.alerts
    grouping.acknowledge(key, Acknowledgement(by="ann", until=MORNING + 12 * 3600), MORNING + 60)
    assert whys(grouping.due(MORNING + 60)) == ["acknowledged"]
    assert [at for at in range(12 * 3600, 23 * 3600, 60) if grouping.due(MORNING + at)] == []
    assert whys(grouping.due(MORNING + 86400)) == ["acknowledgement lapsed"]
