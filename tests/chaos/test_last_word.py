"""Somebody who is watched did not answer when he was last asked: what he would have said is neither silence nor recovery."""

import asyncio
from pathlib import Path

import httpx

from stormwatch.chaos.drill import ExpectedAlert, ExpectedProbe
from stormwatch.chaos.feed import Feed
from stormwatch.chaos.matrix_cell import State
from stormwatch.chaos.prometheus_alerts import PrometheusAlerts
from stormwatch.chaos.report import Progress
from stormwatch.chaos.source import looked_at
from stormwatch.chaos.verdict import Verdict
from tests.chaos.test_matrix_run import SHORT, told
from tests.chaos.test_matrix_run import cell as cell_of
from tests.chaos.test_outside_alerts import CLOCK, prometheus
from tests.chaos.test_run import PAGE, drill, world
from tests.servers.answers import Answers

LONGER = 1.0
"""Seconds that are more than what these drills listen on when all was seen."""


async def test_one_look_without_an_answer_leaves_it_open_until_the_next() -> None:
    """It is no failure yet, and it is told to who listens elsewhere, also to one who comes later."""
    feed, elsewhere, later = Feed(), Feed(), Feed()
    with Answers(prometheus()) as server, feed.passing_on(elsewhere, transitions=True, notifications=True):
        server.status = 503
        async with httpx.AsyncClient(base_url=server.url) as client:
            source = PrometheusAlerts(client, feed, CLOCK, shown=server.url)
            async with asyncio.timeout(60), looked_at(source, feed, CLOCK):
                while not feed.overdue:
                    await asyncio.sleep(0.02)
                assert elsewhere.overdue
                with feed.passing_on(later, transitions=True, notifications=True):
                    assert later.overdue
                    server.status = 200
                    while feed.overdue:
                        await asyncio.sleep(0.02)
                    assert not elsewhere.overdue
                    assert not later.overdue
    assert feed.failure == ""


async def test_who_died_shortly_before_the_end_leaves_no_verdict(tmp_path: Path) -> None:
    """The probe was red and green again, all as expected; whether another alert fired, nobody can say any more."""
    dying: list[asyncio.Task[None]] = []
    async with world(tmp_path, deaf=True) as here:

        async def die() -> None:
            await asyncio.sleep(LONGER)
            here.feed.fail("Prometheus is gone", source="Prometheus")

        def hear(progress: Progress) -> None:
            if progress.step == "reverting":
                here.feed.miss(source="Prometheus")
            if progress.step == "green":
                dying.append(asyncio.create_task(die()))

        report = await here.run(drill(alert=None), on_progress=hear)
        await asyncio.gather(*dying)
    assert report.verdict is Verdict.INCONCLUSIVE, "\n".join(report.lines())
    assert report.detection.observed.trouble == "the monitoring could not be watched: Prometheus is gone"


async def test_who_answers_again_has_missed_nothing(tmp_path: Path) -> None:
    """The drill waits for him, with the fault in place, and has its verdict."""
    answering: list[asyncio.Task[None]] = []
    async with world(tmp_path, deaf=True) as here:

        async def answer() -> None:
            await asyncio.sleep(LONGER)
            assert await here.left() != []
            here.feed.recover(source="Prometheus")

        def hear(progress: Progress) -> None:
            if progress.step == "first_red":
                here.feed.miss(source="Prometheus")
                answering.append(asyncio.create_task(answer()))

        report = await here.run(drill(alert=None), on_progress=hear)
        await asyncio.gather(*answering)
    assert report.verdict is Verdict.PROVED, "\n".join(report.lines())


async def test_what_did_not_come_in_silence_is_not_missed(tmp_path: Path) -> None:
    """The time for the alert was over while it was open whether it was there to be seen."""
    asked = drill(alert=ExpectedAlert(labels=PAGE, within=1), probe=ExpectedProbe(name="checkout", within=1))
    dying: list[asyncio.Task[None]] = []
    async with world(tmp_path, deaf=True) as here:

        async def die() -> None:
            await asyncio.sleep(2 * LONGER)
            here.feed.fail("Prometheus is gone", source="Prometheus")

        def hear(progress: Progress) -> None:
            if progress.step == "first_red":
                here.feed.miss(source="Prometheus")
                dying.append(asyncio.create_task(die()))

        report = await here.run(asked, on_progress=hear)
        await asyncio.gather(*dying)
    assert report.verdict is Verdict.INCONCLUSIVE, "\n".join(report.lines())


async def test_a_cell_whose_time_ends_in_silence_has_no_survivor(tmp_path: Path) -> None:
    """Its alert may have fired, and nobody was there who would have said so."""
    one = cell_of(limit=SHORT)
    dying: list[asyncio.Task[None]] = []
    async with told(tmp_path) as here:

        async def die() -> None:
            await asyncio.sleep(SHORT + LONGER)
            here.feed.fail("Prometheus is gone", source="Prometheus")

        def fall_silent() -> None:
            here.feed.miss(source="Prometheus")
            dying.append(asyncio.create_task(die()))

        here.reactions[one.name, "injected"] = fall_silent
        await here.run(one)
        await asyncio.gather(*dying)
    assert here.state(one) is State.INCONCLUSIVE
    assert "Prometheus is gone" in here.outcomes[one.name].sight.trouble
