"""No fault is there without its injection, its proof, its undoing and its test; the page's table says all four."""

import re

import pytest

from stormwatch.chaos.catalog import FAULTS
from tests.docs.faults import PAGE, ROOT, said, shown_in, with_table


def test_the_table_is_current() -> None:
    """`python -m tests.docs.faults` writes it anew."""
    page = PAGE.read_text()

    assert page == with_table(page)


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_says_how_it_is_injected_proved_and_undone_and_has_a_test(kind: str) -> None:
    """The test names the fault as users write it, or the class of its options."""
    assert all(len(sentence) > 5 for sentence in said(PAGE.read_text(), kind))
    tests = (ROOT / shown_in(kind)).read_text()
    assert re.search(rf"(?<![\w-])(?:{kind}|{FAULTS[kind].options.__name__})(?![\w-])", tests), shown_in(kind)


def test_a_section_without_its_undoing_is_found() -> None:
    """So that the test above can fail."""
    page = PAGE.read_text().replace("**Undo** the table is deleted", "the table is deleted")

    with pytest.raises(ValueError, match=r"the section `net-partition` of faults\.md does not say \*\*Undo\*\*"):
        said(page, "net-partition")
