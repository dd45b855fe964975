"""What a journal says of an observation, part by part, adds up to it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stormwatch.chaos.record import grown, growth
from tests.chaos.test_verdict import STORIES

ENTRIES = st.lists(st.integers(), max_size=8)


@st.composite
def growing(draw: st.DrawFn) -> list[dict[str, object]]:
    """Documents of which some values change, some lists grow and some are replaced."""
    documents: list[dict[str, object]] = []
    results: list[int] = []
    for _ in range(draw(st.integers(1, 5))):
        results = [*results, *draw(ENTRIES)]
        documents.append(
            {"results": results, "evidence": draw(ENTRIES), "ended": draw(st.floats(0, 10)), "why": draw(st.text())}
        )
    return documents


@given(growing())
def test_parts_add_up(documents: list[dict[str, object]]) -> None:
    """After each part that was written the record is what it was when it was written."""
    record: dict[str, object] = {}
    for before, after in pairwise([{}, *documents]):
        for part in growth(before, after):
            record = grown(record, part)
        assert record == after


def test_nothing_new_is_not_written() -> None:
    """And what is new is not written with what was there."""
    before = STORIES["all is seen in time and recovers"][1].as_json()
    assert list(growth(before, before)) == []
    after = {**before, "results": [*before["results"], {"at": 1}], "trouble": "x"}
    assert list(growth(before, after)) == [{"now": {"trouble": "x"}, "more": {"results": [{"at": 1}]}}]


def test_much_at_once_is_written_in_parts() -> None:
    """So that no line is longer than what the journal looks back over to find its last one."""
    parts = list(growth({"results": []}, {"results": list(range(250)), "a": 1}))
    assert [len(part["more"]["results"]) for part in parts] == [100, 100, 50]
    assert [part.get("now") for part in parts] == [{"a": 1}, None, None]
