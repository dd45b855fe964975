"""History: what was acknowledged is there, whatever happens to the process, the disk and the file."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from stormwatch.exporters.history import History, HistoryTooNew, HistoryUnavailable, Stretch
from stormwatch.probes.result import Outcome
from tests.exporters.sample import NOW, broken, down, failed_checkout, up

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def opened(path: Path, **values: Any) -> AsyncGenerator[History]:
    """A history that is closed at the end."""
    history = History(path, **{"interval": 0.01, "now": lambda: NOW, **values})
    try:
        yield history
    finally:
        await history.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the history is."""
    return tmp_path / "data" / "history.sqlite"


async def until(condition: Any, what: str, seconds: float = 30) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.01)


async def test_a_result_is_read_back_equal(path: Path) -> None:
    """Every field of it: phases, measures, evidence, attempts."""
    given = [up(at=NOW), down(at=NOW + 1), broken(at=NOW + 2), failed_checkout(NOW + 3)]
    async with opened(path) as history:
        for result in given:
            history(result)
        assert await history.flush()

        assert given[::-1] == list(history.results())
        assert history.written == 4


async def test_results_are_found_by_probe_time_and_outcome(path: Path) -> None:
    """The newest first, at most as many as are asked for."""
    async with opened(path) as history:
        for second in range(10):
            history(up("front", at=NOW + second) if second % 3 else down("front", at=NOW + second))
            history(up("other", at=NOW + second))
        await history.flush()

        assert [r.started for r in history.results("front", limit=2)] == [NOW + 9, NOW + 8]
        assert [r.started for r in history.results("front", since=NOW + 4, outcome=Outcome.DOWN)] == [NOW + 9, NOW + 6]
        assert [r.started for r in history.results("front", until=NOW + 2)] == [NOW + 1, NOW]
        assert len(history.results()) == 20
        assert history.results("nobody") == ()


async def test_the_last_result_and_the_last_failure(path: Path) -> None:
    """Also across a change of the probe's target, which makes it no other probe."""
    async with opened(path) as history:
        history(down("front", at=NOW, target="https://old.example/"))
        history(up("front", at=NOW + 5, target="https://old.example/"))
        history(up("front", at=NOW + 10))
        await history.flush()

        last, failure = history.last("front"), history.last_failure("front")
        assert last
        assert (last.started, last.target) == (NOW + 10, "https://shop.example/")
        assert failure
        assert (failure.started, failure.target) == (NOW, "https://old.example/")
        assert [r.started for r in history.results("front")] == [NOW + 10, NOW + 5, NOW]
        assert None is history.last("nobody")
        assert None is history.last_failure("nobody")
        assert NOW == history.first_started("front") == history.first_started()
        assert None is history.first_started("nobody")


async def test_a_strip_counts_outcomes_in_equal_parts(path: Path) -> None:
    """A result on a border belongs to the part that begins there; nothing outside counts."""
    async with opened(path) as history:
        for second, result in enumerate([up, up, down, broken, up]):
            history(result("front", at=NOW + second * 10))
        history(up("front", at=NOW + 60))
        await history.flush()

        strip = history.strip("front", NOW, NOW + 60, 3)

    assert (
        Stretch(NOW, up=2),
        Stretch(NOW + 20, down=1, broken=1),
        Stretch(NOW + 40, up=1),
    ) == strip
    assert [part.worst for part in strip] == [Outcome.UP, Outcome.DOWN, Outcome.UP]
    assert None is Stretch(NOW).worst
    assert Outcome.BROKEN is Stretch(NOW, up=3, broken=1).worst


async def test_latencies_are_those_of_runs_that_were_up(path: Path) -> None:
    """A time-out is not a latency."""
    async with opened(path) as history:
        history(up(at=NOW, seconds=0.1))
        history(up(at=NOW + 1, seconds=0.3))
        history(down(at=NOW + 2))
        await history.flush()

        first, second = history.latencies("front", NOW, NOW + 20, 2)

    assert (pytest.approx(0.2), 0.3) == (first.mean, first.longest)
    assert (second.mean, second.longest) == (None, None)


async def test_a_replay_gives_results_in_the_order_in_which_they_came(path: Path) -> None:
    """For whoever counts them: when they ended is kept, what was seen is not read."""
    given = [up("slow", at=NOW - 1, seconds=3.0), down(at=NOW + 1), up(at=NOW), up(at=NOW - 100)]
    async with opened(path) as history:
        for result in given:
            history(result)
        await history.flush()

        replayed = list(history.replay(NOW - 50))

    assert [r.started for r in given[:3]] == [r.started for r in replayed]
    assert [r.finished for r in given[:3]] == [r.finished for r in replayed]
    assert [(r.outcome, r.reason, r.message) for r in given[:3]] == [(r.outcome, r.reason, r.message) for r in replayed]
    assert {()} == {r.phases for r in replayed}


async def test_transitions_are_read_back_in_order(path: Path) -> None:
    """As the documents they were."""
    given = [{"at": NOW + number, "labels": {"alertname": "ProbeDown"}, "after": "firing"} for number in range(3)]
    async with opened(path) as history:
        for document in given:
            history.record_transition(document)
        await history.flush()

        assert tuple(given) == history.transitions()
        assert tuple(given[1:]) == history.transitions(NOW + 1)
        assert tuple(given[2:]) == history.transitions(limit=1)


async def test_old_results_go_and_failures_keep_their_details_longest(path: Path) -> None:
    """Runs that were up lose their evidence first; their outcome stays for the objectives."""
    given = [up(at=NOW - 50), up(at=NOW - 500), down(at=NOW - 500), up(at=NOW - 5000)]
    async with opened(path) as history:
        for result in given:
            history(result)
        await history.flush()
    async with opened(path, keep=1000, keep_details=100) as history:
        history(up("other", at=NOW))
        await history.flush()
        found = history.results("front")

    assert [r.started for r in found] == [NOW - 50, NOW - 500, NOW - 500]
    assert {r.outcome: bool(r.evidence) for r in found[1:]} == {Outcome.UP: False, Outcome.DOWN: True}
    assert found[0] == given[0]


async def test_everything_is_there_after_a_restart(path: Path) -> None:
    """Closing writes what waits."""
    async with opened(path, interval=60) as history:
        history(up())
    async with opened(path) as history:
        assert [up()] == list(history.results())


WRITER = """
import asyncio, sys
from pathlib import Path
from stormwatch.exporters.history import History
from tests.exporters.sample import NOW, up

async def main():
    history = History(Path(sys.argv[1]))
    number = 0
    while True:
        for _ in range(7):  # 700 a second: 10,000 probes every 15 s
            history(up(at=NOW + number))
            number += 1
        await asyncio.sleep(0.01)
        print(history.written, number, flush=True)

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_sigkill(path: Path) -> None:
    """Killed in the middle of writing, and what is lost is at most what came within the last second."""
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout
        acknowledged = accepted_before = 0
        given_at: list[tuple[float, int]] = []
        for line in child.stdout:
            acknowledged, given = map(int, line.split())
            given_at.append((time.monotonic(), given))
            if acknowledged > 1000:
                break
        killed = time.monotonic()
        child.send_signal(signal.SIGKILL)
        accepted_before = max((given for at, given in given_at if at < killed - 1.0), default=0)
    assert child.returncode == -signal.SIGKILL

    with closing(sqlite3.connect(path)) as db:
        stored = [started - NOW for (started,) in db.execute("SELECT started FROM results ORDER BY id")]
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    assert list(range(len(stored))) == stored
    assert len(stored) >= acknowledged
    assert len(stored) >= accepted_before


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from stormwatch.exporters.history import History
from tests.exporters.sample import NOW, up

async def main():
    path = Path(sys.argv[1])
    history = History(path, interval=0.01)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    for number in range(2000):
        history(up(at=NOW + number))
    while not history.errors:
        await asyncio.sleep(0.01)
    print("error", history.error, flush=True)
    stored = len(history.results(limit=10_000))
    assert stored == history.written < 2000, (stored, history.written)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert await history.flush(30)
    assert history.error == "" and history.dropped == 0 and history.waiting == 0
    started = [r.started for r in history.results(limit=10_000)]
    assert started == [NOW + n for n in reversed(range(2000))], len(started)
    await history.aclose()
    print("recovered", flush=True)

asyncio.run(main())
"""


def test_a_full_disk_costs_no_result(path: Path) -> None:
    """The error is told and counted, results wait, and are written when there is space again."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path], check=False, capture_output=True, text=True, cwd=ROOT, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("error ")
    assert "recovered" in done.stdout


async def test_a_locked_file_costs_no_result(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody else writes for a long time: results wait, and one line says so."""
    async with opened(path) as history:
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            history(up(at=NOW))
            history(up(at=NOW + 1))
            await until(lambda: history.errors, "the write to fail")
            assert (history.written, history.waiting) == (0, 2)
            assert "database is locked" in history.error
            other.execute("ROLLBACK")
        assert await history.flush()

        assert [r.started for r in history.results()] == [NOW + 1, NOW]
        assert history.error == ""
    assert sum("database is locked" in r.message and r.levelname == "ERROR" for r in caplog.records) == 1


async def test_a_file_that_is_no_history_is_kept_and_a_new_one_begun(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is thrown away, and monitoring has its history from now on."""
    path.parent.mkdir()
    path.write_bytes(b"this was never a database, but it is somebody's" * 100)

    async with opened(path) as history:
        history(up())
        assert await history.flush()
        assert [up()] == list(history.results())

    (aside,) = path.parent.glob("history.sqlite.damaged-*")
    assert aside.read_bytes().startswith(b"this was never")
    assert "is damaged" in caplog.text


async def test_a_file_that_is_damaged_while_it_is_used_is_put_aside(path: Path) -> None:
    """The batch that found the damage goes into the new file."""
    async with opened(path) as history:
        for second in range(500):
            history(up(at=NOW + second))
        await history.flush()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)

    async with opened(path) as history:
        history(up(at=NOW + 1000))
        assert await history.flush()
        assert [r.started for r in history.results()] == [NOW + 1000]
    assert len(list(path.parent.glob("history.sqlite.damaged-*"))) == 1


async def test_a_file_of_a_later_version_is_refused(path: Path) -> None:
    """It is better not to start than to spoil what a newer one wrote."""
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")

    with pytest.raises(HistoryTooNew, match="version 99, this stormwatch knows 2"):
        History(path)


async def test_a_folder_that_cannot_be_written_does_not_stop_monitoring(tmp_path: Path) -> None:
    """Results wait until it can; reading says that there is nothing to read."""
    blocked = tmp_path / "data"
    blocked.write_text("a file where the folder should be")
    async with opened(blocked / "history.sqlite") as history:
        history(up())
        await until(lambda: history.errors, "the write to fail")
        with pytest.raises(HistoryUnavailable, match=r"history\.sqlite cannot be read"):
            history.results()

        blocked.unlink()

        assert await history.flush()
        assert [up()] == list(history.results())


async def test_when_too_many_wait_the_oldest_are_given_up_and_counted(path: Path) -> None:
    """Memory has an end; what is lost is said."""
    async with opened(path, pending=10) as history:
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            for second in range(25):
                history(up(at=NOW + second))
            await until(lambda: history.errors, "the write to fail")
            assert (history.waiting, history.dropped) == (10, 15)
            other.execute("ROLLBACK")
        assert await history.flush()

        assert [NOW + second for second in range(24, 14, -1)] == [r.started for r in history.results()]
        families = {family.name: family.samples[0].value for family in history.families()}
        assert families["stormwatch_history_dropped_total"] == 15
        assert families["stormwatch_history_written_total"] == 10


async def test_evidence_that_is_no_json_does_not_stop_the_others(path: Path) -> None:
    """Against its contract, but a bug in one kind must not cost the results of all."""
    async with opened(path) as history:
        history(up(at=NOW, evidence={("not", "a key"): 1}))
        history(up(at=NOW + 1))
        assert await history.flush()

        assert [r.started for r in history.results()] == [NOW + 1]
        assert history.dropped == 1


async def test_what_a_hostile_server_said_can_be_stored(path: Path) -> None:
    """Lone surrogates, zero bytes, quotes."""
    message = "got \udce9 \x00 '; DROP TABLE results; --"
    async with opened(path) as history:
        history(down(message=message))
        assert await history.flush()
        found = history.last_failure("front")

    assert found
    assert message.replace("\udce9", "?") == found.message
