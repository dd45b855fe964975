"""The reference of the configuration is true: every key of every entry, kind and fault stands in it."""

from dataclasses import fields

import pytest

from stormwatch.harness.catalog import FAULTS, KINDS
from stormwatch.harness.schema import schema
from tests.docs.configuration import PAGE, TABLE, with_tables


def test_the_tables_are_those_of_the_classes() -> None:
    """`python -m tests.docs.configuration` writes them anew."""
    page = PAGE.read_text()

    assert page == with_tables(page)


def test_nothing_is_left_out() -> None:
    """Each thing that the schema defines has a table, and each key a description."""
    named = {match[1] for match in TABLE.findall(PAGE.read_text())}
    definitions = schema()["$defs"]
    things = {name for name, each in definitions.items() if each.get("properties")} - {"FileEntry"}

    assert named == things | {"FileEntry"} | {f"fault:{name}" for name in FAULTS}
    assert [row for row in PAGE.read_text().splitlines() if row.startswith("| `") and row.endswith("|  |")] == []


@pytest.mark.parametrize("name", [*KINDS, *FAULTS])
def test_options_stand_under_their_own_name(name: str) -> None:
    """A key of the class that is written differently (`class` for rdclass) stands there as it is written."""
    model = KINDS[name].options if name in KINDS else FAULTS[name].options
    table = next(
        text for text in PAGE.read_text().split("<!-- table: ")[1:] if text.split()[0] in (name, f"fault:{name}")
    )
    rows = [line.split("`")[1] for line in table.partition("<!-- end")[0].splitlines() if line.startswith("| `")]

    assert len(rows) == len(fields(model)) + (2 if name in FAULTS else 0)
