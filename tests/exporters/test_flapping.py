"""An alert that comes and goes: one message, then a note, then silence until it is stable. In virtual time, without I/O."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.exporters.dispatcher import Line
from stormwatch.exporters.flapping import Damping
from stormwatch.exporters.grouping import Acknowledgement, Due, Grouping, Route
from stormwatch.exporters.webhook import WebhookChannel
from tests.exporters.dispatching import START, alert, started
from tests.exporters.test_alertmanager import until
from tests.servers.receiver import Receiver

DAMPING = Damping(after=3, within=900, stable=300)
ROUTE = Route(channel="chat", acknowledgements=True)
PLAIN = Route(channel="plain", damping=False)


def flap(grouping: Grouping, times: int, *, every: float = 60.0, begin: float = 0.0) -> list[tuple[float, Due]]:
    """So many outages of half the time; what is told, with the second."""
    told: list[tuple[float, Due]] = []
    for number in range(times):
        for after, ends in ((0.0, False), (every / 2, True)):
            at = begin + number * every + after
            now = START + at
            values = {"ends_at": now} if ends else {"starts_at": now}
            told += [(at, each) for each in (*grouping.due(now), *grouping.take(alert(**values), now))]
    return told


def words(told: list[tuple[float, Due]], channel: str = "chat") -> list[tuple[float, str]]:
    """When what was told."""
    return [(at, each.message.why.value) for at, each in told if each.place[0] == channel]


def test_a_storm_is_a_message_a_note_and_an_end() -> None:
    """Twenty outages in twenty minutes: the first two as they are, that it flaps, and its end when it is stable."""
    grouping = Grouping([ROUTE], damping=DAMPING)
    told = flap(grouping, 20)

    assert words(told) == [(0, "first"), (30, "resolved"), (60, "first"), (90, "resolved"), (120, "first")]
    note = told[-1][1].message
    assert note.title.endswith("(flapping)")
    assert note.alerts[0].annotations["flapping"].startswith("3 times since 2026-11-21T")
    last = 19 * 60 + 30
    assert grouping.next_at(START + last) == START + last + 300
    assert grouping.due(START + last + 299) == []
    (end,) = grouping.due(START + last + 300)
    assert (end.message.status, end.message.alerts[0].ends_at) == ("resolved", START + last)
    assert end.message.alerts[0].annotations["flapping"].startswith("20 times since ")
    assert grouping.alerts == {}


def test_with_recovery_held_back_a_storm_is_one_message_and_one_note() -> None:
    """Nobody is told that it is over until it is."""
    grouping = Grouping([ROUTE], damping=Damping(after=3, within=900, stable=300, recovery=60))
    told = flap(grouping, 20)
    assert words(told) == [(0, "first"), (120, "flapping")]
    assert told[1][1].message.incident == told[0][1].message.incident
    (end,) = grouping.due(START + 19 * 60 + 30 + 300)
    assert end.message.why.value == "resolved"


def test_recovery_held_back_is_told_when_it_lasts() -> None:
    """With the moment at which it was over."""
    grouping = Grouping([ROUTE], damping=Damping(recovery=60))
    grouping.take(alert(), START)
    assert grouping.take(alert(ends_at=START + 10), START + 10) == []
    assert grouping.damper.held_since(alert().fingerprint) == START + 10
    assert grouping.due(START + 69) == []
    (end,) = grouping.due(START + 70)
    assert end.message.alerts[0].ends_at == START + 10


def test_outages_that_are_far_apart_do_not_flap() -> None:
    """Each is an outage of its own."""
    grouping = Grouping([ROUTE], damping=DAMPING)
    assert [why for _, why in words(flap(grouping, 6, every=600))] == ["first", "resolved"] * 6


def test_after_it_was_stable_the_next_outage_is_one() -> None:
    """What was counted is forgotten when its end is told."""
    grouping = Grouping([ROUTE], damping=DAMPING)
    flap(grouping, 5)
    told = flap(grouping, 1, begin=5 * 60 + 300)
    assert [why for _, why in words(told)] == ["resolved", "first", "resolved"]
    assert "(flapping)" not in told[1][1].message.title


def test_who_took_a_flapping_alert_keeps_it() -> None:
    """It is one incident, so it is taken once."""
    grouping = Grouping([ROUTE], damping=DAMPING)
    flap(grouping, 3)
    taken = Acknowledgement(by="ada", until=START + 3600)
    grouping.acknowledge(alert().fingerprint, taken, START + 160)
    assert [each.message.status for each in grouping.due(START + 160)] == ["acknowledged"]
    assert flap(grouping, 3, begin=180) == []


def test_a_channel_without_damping_is_told_everything() -> None:
    """Beside one with it."""
    grouping = Grouping([ROUTE, PLAIN], damping=DAMPING)
    told = flap(grouping, 6)
    assert [why for _, why in words(told, "plain")] == ["first", "resolved"] * 6
    assert len(words(told)) == 5
    assert {each.place[0] for each in grouping.due(START + 3600)} == {"chat"}


@pytest.mark.parametrize("damping", [Damping(after=0), Damping(after=0, recovery=0)])
def test_damping_can_be_left_out(damping: Damping) -> None:
    """Then every beginning and every end is told."""
    assert [why for _, why in words(flap(Grouping([ROUTE], damping=damping), 10))] == ["first", "resolved"] * 10


@given(
    outages=st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), max_size=30),
    damping=st.builds(
        Damping,
        after=st.integers(0, 4),
        within=st.sampled_from([60.0, 900.0]),
        stable=st.sampled_from([30.0, 300.0]),
        recovery=st.sampled_from([0.0, 45.0]),
    ),
)
def test_whatever_it_does_its_end_is_told_in_the_end(outages: list[tuple[int, int]], damping: Damping) -> None:
    """Once, as the last word; never two beginnings or two ends of one incident; nothing is remembered for ever."""
    grouping = Grouping([ROUTE], damping=damping)
    told: list[Due] = []
    now = START
    for up, down in outages:
        now += up
        told += [*grouping.due(now), *grouping.take(alert(starts_at=now), now)]
        now += down
        told += [*grouping.due(now), *grouping.take(alert(ends_at=now), now)]
    told += grouping.due(now + 301)
    grouping.due(now + 2000)

    states = [each.message.status for each in told if each.message.why.value != "flapping"]
    assert states == ["firing", "resolved"] * (len(states) // 2)
    assert bool(states) is bool(outages)
    assert grouping.alerts == {}
    assert grouping.next_at(now + 2000) == float("inf")
    assert grouping.damper.record(alert().fingerprint) is None


async def test_a_restart_neither_forgets_nor_releases_it(tmp_path: Path) -> None:
    """How often, since when, and the end that is held back are on disk."""
    damping = Damping(after=2, within=900, stable=3.0)

    def hook(receiver: Receiver) -> Line:
        return Line(channel=WebhookChannel("hook", receiver.url), route=Route(channel="hook"))

    with Receiver() as receiver:
        async with started(hook(receiver), data=tmp_path, damping=damping) as dispatcher:
            now = dispatcher.clock.now()
            dispatcher.notify(alert(starts_at=now))
            await until(lambda: len(receiver.received) == 1, "the beginning")
            dispatcher.notify(alert(ends_at=now + 0.1))
            await until(lambda: len(receiver.received) == 2, "the end")
        async with started(hook(receiver), data=tmp_path, damping=damping) as dispatcher:
            dispatcher.notify(alert(starts_at=now + 0.2))
            await until(lambda: len(receiver.received) == 3, "that it flaps")
            ends = dispatcher.clock.now()
            dispatcher.notify(alert(ends_at=ends))
        async with started(hook(receiver), data=tmp_path, damping=damping) as dispatcher:
            assert dispatcher.grouping.damper.held_since(alert().fingerprint) == ends
            await until(lambda: len(receiver.received) == 4, "its end, when it was stable")
            told = dispatcher.clock.now()

    assert told - ends >= 3.0
    statuses = [body["status"] for _, body in receiver.received]
    assert statuses == ["firing", "resolved", "firing", "resolved"]
    assert receiver.received[2][1]["alerts"][0]["annotations"]["flapping"].startswith("2 times since")
