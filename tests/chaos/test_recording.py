"""Recordings: everything that a feed told comes back equal, and what is not whole says so."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from stormwatch.chaos.feed import Feed
from stormwatch.chaos.recording import Recorder, path_of, read_recording, read_recordings, recorded
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.result import Phase
from tests.chaos.stories import alert
from tests.chaos.tapes import drill, earlier, healthy, monitoring, run, runs, tape

CLOCK = SystemClock()


async def record(path: Path, feed: Feed, *, name: str = "hangs") -> None:
    """Two runs and an alert, with the report of a drill."""
    async with recorded(name, path, feed, clock=CLOCK, earlier=earlier(1200, 3)) as made:
        for each in runs():
            feed(each)
        feed.transition(alert(13))
        made.report = tape(monitoring(), drill(), runs()).report


async def test_what_was_told_comes_back(tmp_path: Path) -> None:
    """Results in order, how all stood when it began, what the windows held, the report; evidence is left out."""
    feed = Feed()
    whole = replace(
        run(-20, "status"), phases=(Phase("connect", 0.1),), evidence={"body": "x" * 1000}, trace_id="a" * 32
    )
    feed(whole)
    feed.transition(alert(-20, "pending"))
    path = path_of(tmp_path / "recordings", "a drill/with a slash")
    await record(path, feed, name="a drill/with a slash")
    (read,) = read_recordings(tmp_path / "recordings")
    assert read.name == "a drill/with a slash"
    assert read.gap == ""
    assert read.latest == (replace(whole, evidence={}),)
    assert read.active == (alert(-20, "pending"),)
    assert read.earlier == earlier(1200, 3)
    assert read.results == runs()
    assert read.transitions == (alert(13),)
    assert read.report == tape(monitoring(), drill(), runs()).report
    assert [one.name for one in path.parent.iterdir()] == [path.name]


async def test_lines_are_on_disk_while_the_drill_goes_on(tmp_path: Path) -> None:
    """Beside the name, so that the recording of the last drill stays until this one is whole."""
    path = tmp_path / "hangs.jsonl"
    await record(path, Feed())
    last = path.read_bytes()
    beside = tmp_path / "hangs.jsonl.part"

    async def die() -> None:
        feed = Feed()
        async with recorded("hangs", path, feed, clock=CLOCK):
            feed(run(5, "timeout"))
            async with asyncio.timeout(20):
                while b"timeout seen" not in beside.read_bytes():
                    await asyncio.sleep(0.02)
            raise RuntimeError("died")

    with pytest.raises(RuntimeError, match="died"):
        await die()
    assert path.read_bytes() == last
    assert read_recording(beside).results == (run(5, "timeout"),)
    assert read_recording(beside).gap == "the drill died"


async def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """What a killed process was writing. A broken line before others is no recording."""
    path = tmp_path / "hangs.jsonl"
    await record(path, Feed())
    lines = path.read_text().splitlines(keepends=True)
    for size in range(1, len(lines[-1]), 997):
        path.write_text("".join(lines[:-1]) + lines[-1][:size])
        assert read_recording(path).gap == "the drill died"
        assert read_recording(path).results == runs()
    path.write_text(lines[0] + "{\n" + "".join(lines[1:]))
    with pytest.raises(ValueError, match=rf"{path}:2 is not JSON"):
        read_recording(path)


async def test_it_does_not_grow_without_end(tmp_path: Path) -> None:
    """What is too much is left out, and then it proves nothing."""
    recorder = Recorder(tmp_path / "hangs.jsonl", largest=4000)
    recorder.begin("hangs", 0.0, Feed())
    for each in healthy() * 5:
        recorder(each)
    await asyncio.to_thread(recorder.close, 1.0)
    read = read_recording(tmp_path / "hangs.jsonl")
    assert 0 < len(read.results) < 35
    assert read.gap == "it grew too large"


async def test_a_feed_that_died_leaves_a_gap(tmp_path: Path) -> None:
    """From then on silence proves nothing."""
    feed = Feed()
    async with recorded("hangs", tmp_path / "hangs.jsonl", feed, clock=CLOCK):
        feed.fail("nobody answers")
    assert read_recording(tmp_path / "hangs.jsonl").gap == "the monitoring could not be watched: nobody answers"


async def test_what_cannot_be_written_is_said_before_anything_begins(tmp_path: Path) -> None:
    """The directory is a file."""
    (tmp_path / "recordings").write_text("")
    with pytest.raises(OSError, match="recordings"):
        async with recorded("hangs", tmp_path / "recordings" / "hangs.jsonl", Feed(), clock=CLOCK):
            pytest.fail("it began")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no beginning"),
        ("[]\n", "line 1 is no object"),
        ('{"line": "result"}\n', "KeyError"),
        (json.dumps({"line": "begin", "version": 99}) + "\n", "version 99, wanted 1; record it anew"),
        (json.dumps({"line": "begin", "version": 1, "name": "x", "at": None}) + "\n", "is no recording"),
    ],
)
def test_what_is_none_is_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    """With the file's name."""
    path = tmp_path / "hangs.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as refused:
        read_recording(path)
    assert str(path) in str(refused.value)
