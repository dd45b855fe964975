"""A game day: its file, its page, and that nothing of it is lost."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from stormwatch.chaos.audit import AuditJournal
from stormwatch.chaos.gameday import GameDay
from stormwatch.harness.config import load
from stormwatch.harness.gameday import Running, course_in
from stormwatch.harness.gameday_file import read_gameday
from stormwatch.harness.gameday_web import gameday_app
from stormwatch.harness.mistake import ConfigError
from stormwatch.harness.problem import Problem
from stormwatch.harness.server import address_of, bind, serving
from stormwatch.probes.clock import SystemClock

CLOCK = SystemClock()
CONFIG = """\
probes:
  - {name: checkout, kind: http, target: "http://127.0.0.1:18080/"}
proxies:
  routes: [{name: payments, listen: "127.0.0.1:18445", upstream: "127.0.0.1:8445"}]
drills:
  - {name: blackhole, fault: {kind: tcp-blackhole, target: payments}, expect: {probe: {name: checkout}}}
"""
DAY = """\
title: Payments <b>
roles: {on call: Ana}
drills:
  - drill: blackhole
    hold: 10m
    checkpoints: [{name: acknowledge, who: on call, within: 5m}, {name: diagnose}]
"""


def day(directory: Path, text: str = DAY) -> GameDay:
    """Read from a file."""
    (directory / "stormwatch.yaml").write_text(CONFIG)
    (directory / "day.yaml").write_text(text)
    return read_gameday(directory / "day.yaml", load(directory / "stormwatch.yaml", environ={}))


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        ("drill: blackhole", "drill: blackhol", "4: drills[0].drill: no drill is called blackhol; did you mean blackhole?"),
        ("who: on call", "who: on cal", "6: drills[0].checkpoints[acknowledge].who: no role is called on cal; did you mean on call?"),
        ("{name: diagnose}", "{name: acknowledge}", "6: drills[0].checkpoints[acknowledge].name: another checkpoint of this drill is called acknowledge; give each its own name"),
        ("hold: 10m", "hold: 1m", "6: drills[0].checkpoints[acknowledge].within: is longer than `hold`, so that the failure may be gone before people have had their time; make `hold` as long"),
        ("hold: 10m", "hold: 10", "5: drills[0].hold: a duration is written like 800ms, 15s, 5m, 1h30m or 30d, not 10 (int); write 10s"),
        ("title: Payments <b>", "titel: x", "1: titel: unknown key; did you mean title?"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_one_line(tmp_path: Path, written: str, instead: str, said: str) -> None:
    """With its place, what was asked, and the remedy."""
    assert written in DAY
    with pytest.raises(ConfigError) as wrong:
        day(tmp_path, DAY.replace(written, instead))
    assert said in [line.partition("day.yaml:")[2] for line in wrong.value.lines]


@asynccontextmanager
async def page(directory: Path) -> AsyncGenerator[tuple[httpx.AsyncClient, Running, AuditJournal]]:
    """The page of a day that has begun, a client, and what its drills would write to."""
    journal = directory / "day.journal.jsonl"
    running = Running(day(directory), journal, clock=CLOCK)
    await running.begin()
    bound = bind("127.0.0.1:0")
    async with (
        serving(gameday_app(running, CLOCK), bound),
        httpx.AsyncClient(base_url=f"http://{address_of(bound)}", trust_env=False, timeout=60) as client,
    ):
        yield client, running, AuditJournal(journal, clock=CLOCK)


def broken(journal: AuditJournal) -> None:
    """The failure is in place."""
    now = CLOCK.now()
    journal.append("act", {"act": 0, "begins": now})
    text = "tcp-blackhole is in place on payments"
    journal.append("step", {"act": 0, "step": "injected", "at": now, "text": text})


async def test_what_people_say_is_on_disk_before_they_are_answered(tmp_path: Path) -> None:
    """The first word counts; too early, unknown and empty ones are refused with a reason."""
    async with page(tmp_path) as (client, running, journal):

        async def say(**said: str) -> tuple[int, str]:
            answer = await client.post("/say", data=said)
            return answer.status_code, answer.text

        early = await say(checkpoint="acknowledge", by="Ana")
        assert early == (409, "acknowledge: nothing is broken yet; wait until the failure is in place")
        broken(journal)
        await running.note("the failure is in place", "test")
        assert (await say(checkpoint="acknowledge", by="Ana", note="<i>me</i>"))[0] == 303
        assert course_in(journal.path).played[0].reached["acknowledge"].by == "Ana"
        assert await say(checkpoint="acknowledge", by="Bo") == (409, "acknowledge was reached already, by Ana")
        assert await say(checkpoint="x") == (409, "blackhole has no checkpoint x; it has acknowledge, diagnose")
        assert await say(note=" ") == (409, "there is nothing in this note; write what is to be remembered")
        assert (await say(note="remember"))[0] == 303
        assert (await say(note="x" * 100_000))[0] == 413
        shown = (await client.get("/")).text
        assert "<b>" not in shown.partition("<main")[2].replace("<b>Ana</b>", "")
        assert "<i>" not in shown
        assert "blackhole" not in (await client.get("/present")).text
        state = (await client.get("/state")).json()
        assert state["acts"][0]["checkpoints"][0]["by"] == "Ana"
        assert [note["text"] for note in state["notes"]] == ["the failure is in place", "remember"]


async def test_a_page_of_somebody_else_presses_no_button(tmp_path: Path) -> None:
    """Browsers say where a form is from; ours is taken, theirs is not."""
    async with page(tmp_path) as (client, running, journal):
        broken(journal)
        await running.note("it is broken", "test")
        said = {"checkpoint": "acknowledge", "by": "x"}
        foreign = await client.post("/say", data=said, headers={"Origin": "http://evil.example"})
        assert foreign.status_code == 403
        assert course_in(journal.path).played[0].reached == {}
        ours = await client.post("/say", data=said, headers={"Origin": str(client.base_url).rstrip("/")})
        assert ours.status_code == 303


async def test_a_day_goes_on_with_its_journal_and_with_no_other(tmp_path: Path) -> None:
    """What was said before a crash is there; another day's, one that is over, and one that was changed are refused."""
    async with page(tmp_path) as (_, running, journal):
        broken(journal)
        await running.note("kept", "Ana")
    again = Running(day(tmp_path), journal.path, clock=CLOCK)
    assert [note.text for note in again.course.notes] == ["kept"]
    other = day(tmp_path, DAY.replace("Payments", "Orders"))
    with pytest.raises(Problem, match="another game day"):
        Running(other, journal.path, clock=CLOCK)
    journal.append("ended", {})
    with pytest.raises(Problem, match="is over"):
        Running(day(tmp_path), journal.path, clock=CLOCK)
    lines = journal.path.read_text().splitlines()
    changed = json.loads(lines[1]) | {"at": 1.0}
    journal.path.write_text("\n".join([lines[0], json.dumps(changed), *lines[2:], ""]))
    with pytest.raises(Problem, match="line 2 was changed"):
        course_in(journal.path)
