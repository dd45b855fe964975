"""A matrix for CI servers: what is not told of as it should be is never all green."""

from xml.etree import ElementTree as ET

import pytest

from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.matrix import Control, Matrix, Outcome
from stormwatch.chaos.matrix_cell import Sight
from stormwatch.chaos.matrix_junit import junit_of
from tests.chaos.cells import alarm, cell, outcome, sight
from tests.chaos.test_matrix import matrix

HOSTILE = "]]> <b>\x00\x1b[31m\ud800\nsecond line"
FOUND = matrix(
    outcome("told", "pay"),
    outcome("not-told"),
    outcome("untouched", evidence=Evidence()),
    outcome("unknown", trouble=HOSTILE),
    outcome("unsafe", gone=False),
    outcome("of-hotel", "pay", target="hotel"),
    controls=(Control(started=1.0, seconds=9.0, alarms=(alarm(),)),),
    planned=7,
)


def cases(found: Matrix) -> dict[str, str]:
    """What became of each case."""
    root = ET.fromstring(junit_of(found).encode("utf-8", "strict"))
    return {
        f"{suite.get('name')}/{case.get('name')}": next((child.tag for child in case), "passed")
        for suite in root
        for case in suite
    }


def test_each_cell_is_a_case() -> None:
    """Known to be wrong is a failure, not known an error, without effect skipped; and what holds of the whole."""
    assert cases(FOUND) == {
        "payments/told": "passed",
        "payments/not-told": "failure",
        "payments/untouched": "skipped",
        "payments/unknown": "error",
        "payments/unsafe": "error",
        "hotel/of-hotel": "passed",
        "the matrix/no alert fires while nothing is broken": "failure",
        "the matrix/every cell was run as often as asked": "error",
    }


def test_the_sums_are_right_in_every_suite_and_in_the_root() -> None:
    """Servers read these first."""
    root = ET.fromstring(junit_of(FOUND))

    def sums(element: ET.Element) -> tuple[str | None, ...]:
        return tuple(element.get(name) for name in ("tests", "failures", "errors", "skipped"))

    assert [sums(one) for one in (root, *root)] == [
        ("8", "2", "3", "1"),
        ("5", "1", "2", "1"),
        ("1", "0", "0", "0"),
        ("2", "1", "1", "0"),
    ]


@pytest.mark.parametrize(
    ("seen", "told"), [(sight(), "failure"), (sight(alarm()), "passed"), (sight(trouble="blind"), "error")]
)
def test_a_check_at_full_scale_that_did_not_fire_is_a_failure(seen: Sight, told: str) -> None:
    """The scaled run was not true then; of one in which nobody watched, that is not known."""
    check = Outcome(cell=cell(name="payments/x at full scale"), sight=seen)
    found = cases(matrix(outcome("told", "pay"), checks=(check,)))

    assert found["the matrix/payments/x at full scale"] == told


def test_green_is_what_exits_with_0() -> None:
    """Nothing else."""
    good = matrix(outcome("told", "pay"), outcome("untouched", evidence=Evidence()))

    assert set(cases(good).values()) == {"passed", "skipped"}
    assert (good.exit_code, FOUND.exit_code) == (0, 4)
