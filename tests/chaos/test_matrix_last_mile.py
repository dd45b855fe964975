"""The last mile of an alert in a matrix: what became of it, what follows for its cell, and what is said of it."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.feed import Delivered, Notified
from stormwatch.chaos.matrix import Matrix, Outcome, explain
from stormwatch.chaos.matrix_cell import Alarm, Catcher, Cell, Sight, State, judge_cell
from stormwatch.chaos.matrix_last_mile import Arrival, Way, arrival_of, still_told
from stormwatch.chaos.matrix_plan import MatrixPlan
from stormwatch.chaos.matrix_report import html_of, markdown_of, plan_json, plan_lines, text_of
from tests.chaos.cells import ZERO, alarm, cell, labels, outcome, sight
from tests.chaos.test_matrix import matrix
from tests.chaos.test_matrix_run import CLOCK, told
from tests.chaos.test_matrix_run import cell as of_route

WAY = Way(end="receiver", within=5.0)
DOWN = labels("pay")
CAME = Arrival(alertmanager=3.5, receiver=4.0, labels={**DOWN, "site": "x"}, told_by="drill")
HAD = Arrival(alertmanager=3.5, labels=DOWN)
SILENCED = Arrival(held_back="silence 6f1c", labels=DOWN)


def watched(way: Way = WAY, **more: Any) -> Cell:
    """A cell whose alert has to come to the end of its way."""
    return cell(catchers=(Catcher(labels=DOWN, within=10.0, recovers=8.0, way=way),), **more)


def fired(arrival: Arrival | None, after: float = 3.0) -> Alarm:
    return alarm(after=after, arrival=arrival)


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (sight(fired(CAME)), State.KILLED),
        (sight(fired(replace(CAME, receiver=8.0))), State.KILLED),
        (sight(fired(replace(CAME, receiver=8.1))), State.LATE),
        (sight(fired(CAME, after=10.1)), State.LATE),
        (sight(fired(CAME), alarm("front")), State.NOISY),
        (sight(fired(CAME), recovered=None), State.NOT_RESOLVED),
        (sight(fired(None)), State.REACHED_NOBODY),
        (sight(fired(HAD)), State.REACHED_NOBODY),
        (sight(fired(SILENCED), watched=3.1), State.REACHED_NOBODY),
        (sight(fired(None), evidence=Evidence()), State.REACHED_NOBODY),
        (sight(fired(None), alarm("front")), State.REACHED_NOBODY),
        (sight(fired(None, after=6.0)), State.INCONCLUSIVE),
        (sight(fired(None), trouble="blind"), State.INCONCLUSIVE),
    ],
)
def test_somebody_is_told_when_the_message_came(seen: Sight, state: State) -> None:
    """In time after it fired; what had the time to come and did not reached nobody; what had not is not known."""
    assert judge_cell(watched(), seen) is state


def test_where_alertmanager_is_the_end_it_has_to_take_the_alert() -> None:
    """And to hold it back for no reason."""
    end = watched(Way(end="Alertmanager", within=5.0))

    assert judge_cell(end, sight(fired(HAD))) is State.KILLED
    assert judge_cell(end, sight(fired(SILENCED))) is State.REACHED_NOBODY


def test_any_one_that_came_is_enough() -> None:
    """The other is listed: it fired, and would not have been heard of alone."""
    front = Catcher(labels=labels("front"), within=10.0, recovers=8.0, way=WAY)
    both = watched(subjects=("pay", "front"))
    both = replace(both, catchers=(*both.catchers, front))
    one = Outcome(cell=both, sight=sight(fired(SILENCED), alarm("front", 5.0, arrival=replace(CAME, receiver=6.0))))
    found = matrix(one)

    assert one.state is State.KILLED
    assert [each.labels["probe"] for each in one.told_by] == ["front"]
    assert one.told_after == 6.0
    assert found.lost() == {tuple(sorted(DOWN.items())): ("payments/tcp-reset",)}
    assert list(found.single_catchers()) == [front.key]
    assert found.smallest_set() == (front.key,)
    assert found.exit_code == 0


@pytest.mark.parametrize(
    ("way", "arrival", "what", "remedy"),
    [
        (WAY, SILENCED, "Alertmanager holds it back: silence 6f1c", "amtool silence query"),
        (replace(WAY, closed="Alertmanager tells nobody of it"), HAD, "Alertmanager tells nobody of it", "amtool config routes test"),
        (WAY, None, "Alertmanager did not get it in 7 s", "alert_relabel_configs"),
        (WAY, HAD, "Alertmanager has it, and no message came in 7 s", "alertmanager_notifications_failed_total"),
    ],
)  # fmt: skip
def test_what_reached_nobody_says_where_it_got_lost(way: Way, arrival: Arrival | None, what: str, remedy: str) -> None:
    """And what to look at."""
    said = explain(Outcome(cell=watched(way), sight=sight(fired(arrival))))

    assert said["what"] == f"tcp-reset on payments: ProbeDown of pay fired after 3 s, and reached nobody: {what}"
    assert remedy in said["remedy"]


def test_what_came_late_says_on_which_stretch() -> None:
    """The rule was in time."""
    late = Outcome(cell=watched(), sight=sight(fired(replace(CAME, receiver=9.0))))

    assert explain(late)["what"].endswith(
        "fired after 3 s and came to the receiver 6 s later, the configuration promises 5 s"
    )


def test_a_survivor_of_the_last_mile_is_in_every_report() -> None:
    """And the labels with which the others came."""
    found = matrix(
        Outcome(cell=watched(), sight=sight(fired(CAME))),
        Outcome(cell=watched(name="payments/x"), sight=sight(fired(SILENCED))),
    )
    document = json.loads(json.dumps(found.as_json()))

    assert (document["score"]["killed"], document["score"]["of"], found.exit_code) == (1, 2, 1)
    assert document["end_of_way"] == "receiver"
    assert [one["state"] for one in document["survivors"]] == ["reached-nobody"]
    assert Matrix.from_json(document) == found
    for text in (text_of(found).plain, markdown_of(found), html_of(found).partition("<details>")[0]):
        assert "reached nobody: Alertmanager holds it back: silence 6f1c" in text
        assert "Told means that the message came to the receiver" in text
        assert "ProbeDown{probe=pay, severity=page, site=x} (drill): at most 1.0 s after it fired" in text
        assert "Alerts that fired and reached nobody" in text


def test_a_plan_says_where_alerts_have_to_come_to_and_which_cannot() -> None:
    """Before anything is injected: an alert that no route brings to anybody is known then."""
    closed = replace(WAY, closed="Alertmanager tells nobody of it", within=4.0)
    plan = MatrixPlan(cells=(watched(), watched(closed, name="payments/x")))
    lines = plan_lines(plan_json(plan, scale="1", held=()))

    assert "an alert counts when it came to the receiver, 5s after it fired at the latest" in lines
    assert lines[-1].strip() == "ProbeDown of pay (page): Alertmanager tells nobody of it"


def test_files_of_before_the_last_mile_are_read() -> None:
    """They know of no way: it is enough that an alert fired."""
    document = json.loads(json.dumps(matrix(outcome("a", "pay"), outcome("b")).as_json()))
    for one in document["outcomes"]:
        for catcher in one["cell"]["catchers"]:
            del catcher["way"]
        for each in one["sight"]["alarms"]:
            del each["arrival"]
    for key in ("end_of_way", "lost", "repeat"):
        del document[key]

    read = Matrix.from_json(document)
    assert read == matrix(outcome("a", "pay"), outcome("b"))
    assert [one.state for one in read.outcomes] == [State.KILLED, State.SURVIVED]
    assert read.end_of_way == ""


def message(at: float, since: float, *, resolved: bool = False, **more: str) -> Delivered:
    return Delivered(labels={**DOWN, **more}, at=ZERO + at, since=ZERO + since, resolved=resolved, receiver="drill")


def arrived(*came: Delivered | Notified) -> Arrival | None:
    """Of an alert that fires since the second second."""
    return arrival_of(
        DOWN,
        ZERO + 2,
        injected=ZERO,
        notifications=[one for one in came if isinstance(one, Notified)],
        deliveries=[one for one in came if isinstance(one, Delivered)],
    )


def test_what_an_earlier_cell_broke_is_not_taken_for_this_one() -> None:
    """A message that comes now and fires since before is a repetition; other labels are another alert; an all-clear is none."""
    assert arrived(message(5, -20)) is None
    assert arrived(message(-1, 2)) is None
    assert arrived(message(5, 2, resolved=True)) is None
    assert arrived(message(5, 2, probe="front")) is None
    assert arrived(message(5, 1.5, site="x")) == Arrival(receiver=5.0, labels={**DOWN, "site": "x"}, told_by="drill"), (
        "it fires since the evaluation before that in which it was seen"
    )


def test_what_alertmanager_said_last_holds() -> None:
    """A silence may begin after the alert came, or end."""
    taken, silenced = Notified(DOWN, ZERO + 3, ZERO + 2), Notified(DOWN, ZERO + 4, ZERO + 2, "silence 1")

    assert arrived(taken, silenced) == Arrival(alertmanager=3.0, held_back="silence 1", labels=DOWN)
    assert arrived(silenced, replace(taken, at=ZERO + 5)) == Arrival(alertmanager=5.0, labels=DOWN)
    assert arrived(Notified(DOWN, ZERO + 3)) == Arrival(alertmanager=3.0, labels=DOWN), (
        "a source that does not say since"
    )


def test_whom_the_receiver_still_believes_to_fire_is_known_by_its_labels() -> None:
    """Whatever others it has."""
    assert still_told([DOWN], [{**DOWN, "site": "x"}]) == {**DOWN, "site": "x"}
    assert still_told([labels("front")], [{**DOWN, "site": "x"}]) is None


def to_receiver(probe: str, *, resolved: bool = False) -> Delivered:
    now = CLOCK.now()
    return Delivered(labels={**labels(probe), "site": "x"}, at=now, since=now, resolved=resolved, receiver="drill")


async def test_a_cell_listens_until_the_message_came_and_the_next_begins_after_the_all_clear(tmp_path: Path) -> None:
    """Alertmanager says nothing of an alert that comes back before it told that it was over: it would have reached nobody."""
    async with told(tmp_path) as here:
        ways = tuple(replace(one, way=replace(WAY, within=20.0)) for one in of_route().catchers)
        first, second = of_route(limit=1.0, catchers=ways), of_route(kind="tcp-reset", limit=20.0, catchers=ways)
        here.chamber.all_clear = 20.0
        here.noticed(first, second)
        at: dict[str, float] = {}
        loop = asyncio.get_running_loop()
        for one in (first, second):
            broken, mended = here.reactions[one.name, "injected"], here.reactions[one.name, "reverted"]

            def come(name: str = one.name, broken: Any = broken) -> None:
                broken()
                at[f"{name} injected"] = CLOCK.now()
                loop.call_later(1.2, lambda: here.feed.delivered(to_receiver("shop")))

            def clear(name: str = one.name, mended: Any = mended) -> None:
                mended()

                def over() -> None:
                    at[f"{name} over"] = CLOCK.now()
                    here.feed.delivered(to_receiver("shop", resolved=True))

                loop.call_later(0.6, over)

            here.reactions[one.name, "injected"], here.reactions[one.name, "reverted"] = come, clear
        await here.run(first, second)

    assert (here.state(first), here.state(second)) == (State.KILLED, State.KILLED)
    (caught,) = here.outcomes[first.name].caught
    assert caught.arrival is not None
    assert caught.arrival.labels["site"] == "x"
    told_after = here.outcomes[first.name].told_after
    assert told_after is not None
    assert told_after >= 1.2, "longer than the alert itself may take"
    assert at[f"{second.name} injected"] >= at[f"{first.name} over"]


async def test_what_is_held_back_is_not_waited_for(tmp_path: Path) -> None:
    """Alertmanager said so: no message will come."""
    async with told(tmp_path) as here:
        way = replace(WAY, within=500.0)
        one = of_route(limit=2.0, catchers=tuple(replace(each, way=way) for each in of_route().catchers))
        here.noticed(one)
        inner = here.reactions[one.name, "injected"]

        def silenced() -> None:
            inner()
            here.feed.notified(labels("shop"), CLOCK.now(), since=CLOCK.now(), held_back="silence 6f1c")

        here.reactions[one.name, "injected"] = silenced
        await asyncio.wait_for(here.run(one), 60)

    assert here.state(one) is State.REACHED_NOBODY


async def test_what_fired_shortly_before_the_matrix_is_given_the_time_to_be_over(tmp_path: Path) -> None:
    """Nobody saw whether the receiver was told that: until then nothing is broken that this alert would tell of."""
    async with told(tmp_path) as here:
        here.chamber.told_before = [labels("shop")]
        here.chamber.told_until = CLOCK.now() + 1.0
        here.noticed(one := of_route())
        inner = here.reactions[one.name, "injected"]
        at: list[float] = []

        def injected() -> None:
            at.append(CLOCK.now())
            inner()

        here.reactions[one.name, "injected"] = injected
        asyncio.get_running_loop().call_later(1.2, lambda: here.run_of("shop"))
        await here.run(one)

    assert here.state(one) is State.KILLED
    assert at[0] >= here.chamber.told_until
