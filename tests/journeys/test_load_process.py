"""Journeys under load by locust, in processes of their own, against a real shop: who shares what, what is counted, how it ends."""

import asyncio
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from stormwatch.journeys.client import Client
from stormwatch.journeys.load import Load
from stormwatch.journeys.load_job import Bound, LoadJob, LoadJourney
from stormwatch.journeys.load_summary import LoadSummary
from tests.program import program
from tests.servers.shop import Shop

HANG = 120.0
"""Seconds after which nothing will come any more."""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A directory of journeys of its own, which knows nothing of the suite that this is."""
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


def write(folder: Path, body: str, name: str = "test_it.py") -> Path:
    path = folder / name
    path.write_text("import os, time\nimport httpx, pytest\n" + textwrap.dedent(body))
    return path


async def loaded(
    job: LoadJob, *, runs: int, environment: Mapping[str, str] | None = None
) -> tuple[LoadSummary, Sequence[Mapping[str, Any]]]:
    """What a load came to that was ended after so many runs of each journey, and all that its process said."""
    events: list[Mapping[str, Any]] = []
    async with asyncio.timeout(HANG), Load.making(job, environment=environment or {}) as made:
        async for event in made.events():
            events.append(event)
            if event["event"] == "progress" and len(event["journeys"]) and min(event["journeys"].values()) >= runs:
                made.end()
    over = [event for event in events if event["event"] == "over"]
    assert over, events
    return LoadSummary.from_json(over[0]["summary"]), events


async def said_of(job: LoadJob) -> Sequence[Mapping[str, Any]]:
    """All that a load says which ends by itself."""
    async with asyncio.timeout(HANG), Load.making(job, environment={}) as made:
        return [event async for event in made.events()]


def lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]


async def test_users_share_no_fixture_of_a_run_and_keep_those_of_the_module_to_themselves(
    suite: Path, tmp_path: Path, shop: Shop
) -> None:
    log = tmp_path / "log"
    file = write(
        suite,
        """
        import secrets as random

        def say(*words):
            with open(os.environ["LOG"], "a") as log:
                log.write(" ".join(words) + "\\n")

        @pytest.fixture(scope="module")
        def client():
            user = random.token_hex(4)
            with httpx.Client(base_url=os.environ["SHOP"], verify=False) as client:
                client.user = user
                say("user", user)
                yield client
            say("gone", user)

        @pytest.fixture
        def basket():
            return []

        class TestShop:
            def test_buy(self, step, client, basket, request, secrets):
                assert not hasattr(self, "seen"), "an instance of another run"
                self.seen = True
                assert request.getfixturevalue("basket") is basket
                with step("look"):
                    client.get("/").raise_for_status()
                basket.append(client.user)
                time.sleep(0.02)
                with step("pay"):
                    assert basket == [client.user], "the basket of another user"
                assert secrets["card"] == "4711-0815"
                say("ran", client.user, str(len(basket)))
        """,
    )
    journey = LoadJourney(name="buy", file=file, test="TestShop::test_buy", secrets={"card": "4711-0815"})
    summary, events = await loaded(
        LoadJob(journeys=(journey,), users=4, spawn_rate=100), runs=24, environment={"LOG": str(log), "SHOP": shop.url}
    )
    said = lines(log)
    users = {words[1] for words in said if words[0] == "user"}
    ran = [words[1] for words in said if words[0] == "ran"]
    assert summary.failing == ()
    assert len(users) == 4, "each user has a client of its own, once"
    assert len([words for words in said if words[0] == "user"]) == 4
    assert {words[1] for words in said if words[0] == "gone"} == users, "torn down at the end of the user"
    assert set(ran) == users
    assert ran != sorted(ran, key=ran.index), "users run at the same time, not one after the other"
    runs = {(entry.journey, entry.step): (entry.runs, entry.failures) for entry in summary.entries}
    assert runs == {("buy", ""): (len(ran), 0), ("buy", "look"): (len(ran), 0), ("buy", "pay"): (len(ran), 0)}
    assert summary.users == 4
    assert [event["event"] for event in events if event["event"] != "progress"] == ["ready", "began", "over", "ended"]
    assert len(shop.requests) >= len(ran), "real requests"


async def test_counts_are_exact_broken_runs_are_no_evidence_and_secrets_stay_hidden(
    suite: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    file = write(
        suite,
        """
        def count():
            with open(os.environ["LOG"], "a") as log:
                log.write("run\\n")
            return len(open(os.environ["LOG"]).readlines())

        def test_it(step, secrets):
            turn = count()
            with step("quick"):
                pass
            if turn % 4 == 0:
                raise pytest.UsageError("no card is left")
            with step("pay"):
                time.sleep(0.3 if turn % 4 == 1 else 0.0)
                assert turn % 4 != 2, f"refused: {secrets['card']}"
        """,
    )
    bounds = (Bound(), Bound("", 0.2), Bound("pay"), Bound("pay", 0.2), Bound("never"))
    journey = LoadJourney(name="it", file=file, test="test_it", secrets={"card": "4711-0815-canary"}, bounds=bounds)
    summary, events = await loaded(LoadJob(journeys=(journey,)), runs=4, environment={"LOG": str(log)})
    turns = len(lines(log))
    slow = len([turn for turn in range(1, turns + 1) if turn % 4 == 1])
    failed = len([turn for turn in range(1, turns + 1) if turn % 4 == 2])
    broken = turns // 4
    assert turns >= 5
    counted = {(tally.step, tally.seconds): (tally.good, tally.bad) for tally in summary.tallies}
    passed = turns - broken - failed
    assert counted == {
        ("", None): (passed, failed),
        ("", 0.2): (passed - slow, failed + slow),
        ("pay", None): (passed, failed),
        ("pay", 0.2): (passed - slow, failed + slow),
    }
    assert (summary.broken, summary.broken_why) == (broken, "no card is left")
    assert {(each.step, each.sentence, each.count) for each in summary.failing} == {
        ("", "refused: ***", failed),
        ("pay", "refused: ***", failed),
    }
    assert "4711-0815-canary" not in json.dumps(events)


async def test_a_file_that_does_not_load_is_named_with_its_line(suite: Path) -> None:
    file = write(suite, "from nowhere import nothing\n")
    events = await said_of(LoadJob(journeys=(LoadJourney(name="", file=file),)))
    assert events[0]["event"] == "not-collected"
    assert events[0]["where"] == f"{file.name}:3"
    assert "nowhere" in events[0]["why"]
    assert events[-1]["code"] != 0


async def test_a_journey_in_a_browser_is_run_by_a_few_users_who_are_the_client_that_it_asks_for(
    suite: Path, tmp_path: Path, shop: Shop
) -> None:
    program("chromium")
    file = write(
        suite,
        f"""
        def test_api(step):
            with step("get"):
                httpx.get("{shop.url}/").raise_for_status()

        def test_page(page, step):
            with step("open"):
                page.goto("{shop.url}/")
            with open({str(tmp_path / "log")!r}, "a") as log:
                log.write(page.evaluate("navigator.language + ' ' + screen.width") + "\\n")
        """,
    )
    journeys = (
        LoadJourney(name="api", file=file, test="test_api"),
        LoadJourney(name="page", file=file, test="test_page", client=Client(device="iPhone 13", locale="fr").as_text()),
    )
    job = LoadJob(journeys=journeys, users=3, spawn_rate=100, pause=0.2, browser_users=1)
    # How long a browser takes to start is not for a test to say: it ends when a page was opened.
    summary, events = await loaded(job, runs=1)
    assert events[0]["journeys"] == {"api": "api", "page": "browser"}
    assert summary.users == 3
    runs = {(entry.journey, entry.step): entry for entry in summary.entries}
    assert runs["page", "open"].runs >= 1
    assert runs["page", ""].failures == 0
    assert runs["api", "get"].runs >= 1
    seen = {tuple(words) for words in lines(tmp_path / "log")}
    assert seen == {("fr", "390")}, "in each run the client that the journey asks for, as on schedule"


async def test_a_pytest_that_lacks_what_users_in_one_process_need_is_told_with_its_version(suite: Path) -> None:
    """Taken away where a later pytest might have it no more, before the first user begins."""
    write(
        suite,
        """
        def pytest_collection_finish(session):
            del pytest.Function._initrequest
            for item in session.items:
                for (definition,) in item._fixtureinfo.name2fixturedefs.values():
                    del definition._finalizers
        """,
        name="conftest.py",
    )
    file = write(suite, "def test_it(step): pass\n")
    journey = LoadJourney(name="it", file=file, test="test_it")
    events = await said_of(LoadJob(journeys=(journey,), users=1, seconds=0.1))
    assert events[0] == {
        "event": "refused",
        "why": f"pytest {pytest.__version__} has no Function._initrequest, FixtureDef._finalizers, which users in one "
        "process need; install one of pytest 8.4 to 9.2, or load journeys in browsers alone",
    }
    assert [event["event"] for event in events[1:]] == ["ended"]
