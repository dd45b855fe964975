"""A running stormwatch that is asked once a second: what it does not answer is open, and what cannot be read is no answer."""

import asyncio
from typing import Any

import pytest

from stormwatch.harness.polling import polled_feed
from stormwatch.harness.problem import Problem
from stormwatch.probes.clock import SystemClock
from tests.servers.answers import Answers

CLOCK = SystemClock()


def service(**more: Any) -> dict[str, Any]:
    """The API of one that has nothing to tell."""
    return {f"/api/v1/{name}": {name: []} for name in ("probes", "alerts", "results", "transitions")} | more


@pytest.mark.parametrize("answer", [[], {"results": [None]}])
async def test_what_cannot_be_read_leaves_it_open_what_is_true(answer: Any) -> None:
    """The polling goes on, and what it says next is heard."""
    with Answers(service()) as server:
        async with asyncio.timeout(60), polled_feed(server.url, CLOCK) as feed:
            assert not feed.overdue
            server.answers = service(**{"/api/v1/results": answer})
            while not feed.overdue:
                await asyncio.sleep(0.02)
            server.answers = service()
            while feed.overdue:
                await asyncio.sleep(0.02)
            assert feed.failure == ""


async def test_who_does_not_answer_for_some_seconds_is_gone_until_he_answers() -> None:
    """Open at first; then drills that listen have no verdict."""
    with Answers(service()) as server:
        async with asyncio.timeout(60), polled_feed(server.url, CLOCK) as feed:
            with feed.recording() as seen:
                server.status = 503
                while not feed.failure:
                    await asyncio.sleep(0.02)
                assert not feed.overdue
                server.status = 200
                while feed.failure:
                    await asyncio.sleep(0.02)
    assert "does not answer: status 503" in seen.failure


async def test_who_is_no_stormwatch_is_named_to_begin_with() -> None:
    """In one line."""
    with (
        Answers({"/api/v1/probes": []}) as server,
        pytest.raises(Problem, match="no running stormwatch answers there"),
    ):
        async with polled_feed(server.url, CLOCK):
            pass
