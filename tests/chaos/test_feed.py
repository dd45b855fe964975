"""The feed: it keeps the present, records only for those who ask, and says when it is blind."""

import asyncio

from stormwatch.chaos.feed import Feed, Notified
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.result import Outcome, Result
from tests.chaos.stories import PAGE, alert

CLOCK = SystemClock()


def result(probe: str = "front", outcome: Outcome = Outcome.UP) -> Result:
    """A result of a probe."""
    return Result(probe=probe, kind="http", target="x", location="", started=1.0, seconds=0.1, outcome=outcome)


def test_only_the_present_is_kept_without_a_recording() -> None:
    """A service that lives for months does not grow."""
    feed = Feed()
    for _ in range(1000):
        feed(result())
        feed.transition(alert(1, "pending"))
        feed.transition(alert(2, "firing"))
        feed.transition(alert(3, "resolved"))
        feed.notified(PAGE, 4.0)
    assert list(feed.latest) == ["front"]
    assert (feed.firing, feed.pending) == ({}, {})


def test_alerts_are_known_by_their_state() -> None:
    """Pending, then firing, then neither."""
    feed = Feed()
    feed.transition(alert(1, "pending"))
    assert (len(feed.pending), len(feed.firing)) == (1, 0)
    feed.transition(alert(2, "firing"))
    assert (len(feed.pending), len(feed.firing)) == (0, 1)
    feed.transition(alert(3, "resolved"))
    assert (len(feed.pending), len(feed.firing)) == (0, 0)


def test_a_recording_keeps_what_it_wants_while_it_is_open() -> None:
    """Not what came before, not what came after."""
    feed = Feed()
    feed(result("checkout"))
    with feed.recording(wants=lambda one: one.probe == "checkout") as seen:
        feed(result("front"))
        feed(result("checkout", Outcome.DOWN))
        feed.transition(alert(1))
        feed.notified(PAGE, 2.0)
    feed(result("checkout"))
    assert seen.results == [result("checkout", Outcome.DOWN)]
    assert seen.transitions == [alert(1)]
    assert seen.notifications == [Notified(PAGE, 2.0)]


async def test_waiting_ends_with_the_condition_the_deadline_or_the_feed() -> None:
    """True, False, False; the condition is looked at again for each thing that comes."""
    feed = Feed()
    with feed.recording() as seen:
        waiting = asyncio.create_task(
            seen.until(lambda: len(seen.results) == 2, clock=CLOCK, deadline=CLOCK.monotonic() + 10)
        )
        for _ in range(2):
            await asyncio.sleep(0)
            feed(result())
        assert await waiting is True
        assert await seen.until(lambda: False, clock=CLOCK, deadline=CLOCK.monotonic() + 0.05) is False
        waiting = asyncio.create_task(seen.until(lambda: False, clock=CLOCK, deadline=CLOCK.monotonic() + 10))
        await asyncio.sleep(0)
        feed.fail("the service stopped")
        assert await waiting is False


def test_a_recording_with_a_gap_stays_failed() -> None:
    """The feed flows again; who recorded meanwhile has missed something, who begins now has not."""
    feed = Feed()
    with feed.recording() as seen:
        feed.fail("connection lost")
        feed.recover()
        with feed.recording() as fresh:
            assert (seen.failure, fresh.failure, feed.failure) == ("connection lost", "", "")
