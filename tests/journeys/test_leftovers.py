"""What a journey made goes away again: the last first, each of it, and also after the run was killed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stormwatch.journeys.leftovers import TRIES, Made, RemovalFailed, remove_leftovers
from stormwatch.journeys.pool import Journey, WorkerPool
from stormwatch.probes.result import Outcome, Reason

removed: list[object] = []
refuse: list[object] = []


def remove(thing: object, *more: object) -> None:
    """What a journey would do with an API."""
    if thing in refuse:
        raise PermissionError(f"{thing} is locked")
    removed.append((thing, *more) if more else thing)


@pytest.fixture(autouse=True)
def nothing_yet() -> None:
    removed.clear()
    refuse.clear()


def test_the_last_that_was_made_goes_first_and_one_that_stays_holds_up_no_other(tmp_path: Path) -> None:
    made = Made(tmp_path / "run.json")
    assert made(remove, "customer") == "customer"
    made(remove, "order", 7)
    made(removed.append, object)
    refuse.append("order")
    with pytest.raises(RemovalFailed) as caught:
        made.remove_all()
    assert removed == [object, "customer"]
    assert str(caught.value) == (
        "what the journey made could not be taken away again: remove('order', 7): PermissionError: order is locked"
    )
    refuse.clear()
    assert remove_leftovers(tmp_path) == []
    assert removed[2:] == [("order", 7)]
    assert list(tmp_path.iterdir()) == []


def test_a_thing_is_written_down_before_the_run_goes_on_and_a_run_that_lives_is_left_alone(tmp_path: Path) -> None:
    made = Made(tmp_path / "made" / "run.json")
    assert not (tmp_path / "made").exists(), "a journey that makes nothing writes nothing"
    made(remove, {"id": 17})
    (record,) = json.loads((tmp_path / "made" / "run.json").read_text())
    assert (record["name"], record["arguments"], record["file"]) == ("remove", [{"id": 17}], __file__)
    assert remove_leftovers(tmp_path / "made") == []
    assert removed == []
    made.remove_all()
    assert removed == [{"id": 17}]
    assert list((tmp_path / "made").iterdir()) == []


def test_what_can_never_be_taken_away_is_given_up_after_some_tries(tmp_path: Path) -> None:
    made = Made(tmp_path / "run.json")
    made(remove, "order")
    refuse.append("order")
    with pytest.raises(RemovalFailed):
        made.remove_all()
    said = "remove('order'): PermissionError: order is locked"
    told = [remove_leftovers(tmp_path) for _ in range(TRIES)]
    assert told == [[said]] * (TRIES - 2) + [[f"{said}; given up after 5 tries"], []]


@pytest.mark.parametrize(
    "content", ["", "[{", "[]", '[{"file": "/gone.py", "name": "x", "arguments": [], "tries": 4}]']
)
def test_a_journal_that_cannot_be_read_stops_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    assert len(remove_leftovers(tmp_path)) == content.count("gone")


async def test_the_next_run_takes_away_what_a_run_that_was_killed_made(
    scratch: Path, tmp_path: Path, write: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    things = tmp_path / "things"
    things.mkdir()
    file = write(f"""
        from pathlib import Path

        def take_away(name):
            Path({str(things)!r}, name).unlink()

        def test_it(made, step):
            name = made(take_away, "customer-" + str(len(os.listdir({str(things)!r}))))
            Path({str(things)!r}, name).touch()
            with step("pay"):
                while Path({str(tmp_path)!r}, "hang").exists():
                    time.sleep(0.01)
            assert os.listdir({str(things)!r}) == [name]
    """)
    journey = Journey(file=file, test="test_it")
    pool = WorkerPool(artifacts=tmp_path / "data" / "artifacts")
    try:
        assert (await pool.run(journey, seconds=60)).outcome is Outcome.UP
        assert list(things.iterdir()) == []
        (tmp_path / "hang").touch()
        hung = await pool.run(journey, seconds=3)
        assert (hung.outcome, hung.reason, hung.step) == (Outcome.DOWN, Reason.TIMEOUT, "pay")
        assert [path.name for path in things.iterdir()] == ["customer-0"]
        (tmp_path / "hang").unlink()
        report = await pool.run(journey, seconds=60)
        assert (report.outcome, report.sentence) == (Outcome.UP, "")
        assert list(things.iterdir()) == []
        (tmp_path / "hang").touch()
        assert (await pool.run(journey, seconds=3)).step == "pay"
        next(things.iterdir()).unlink()
        (tmp_path / "hang").unlink()
        assert (await pool.run(journey, seconds=60)).outcome is Outcome.UP
        assert "could not be taken away: take_away('customer-0'): FileNotFoundError" in caplog.text
    finally:
        await pool.aclose()
