"""docs/reference/probes.md and its pages name every kind, option, phase and ending, and no other; tests show each ending."""

import ast
import dataclasses
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from stormwatch.harness.catalog import KINDS as ALL
from stormwatch.harness.form import form_of
from stormwatch.probes.probe import Kind
from stormwatch.probes.result import BROKEN_REASONS, Reason

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGE = (REFERENCE / "probes.md").read_text()
KINDS: list[Kind[Any]] = [kind for kind in ALL.values() if kind.name != "journey"]
"""Journeys stand on their own page, with tests of their own."""


@cache
def page_of(kind: str) -> str:
    """The page of a kind."""
    return (REFERENCE / "probes" / f"{kind}.md").read_text()


def section(name: str) -> str:
    """What stands under a heading of the first page."""
    return PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def names_of(options: type[Any]) -> set[str]:
    """Options as users write them."""
    return set(TypeAdapter(options).json_schema(by_alias=True)["properties"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_option_stands_in_the_tables_and_nothing_else_does(kind: Kind[Any]) -> None:
    """The first column of the tables of its page that are about options."""
    tables = re.findall(r"^\| (?:option|`expect`) \|.*\n(?:\|.*\n?)+", page_of(kind.name), re.MULTILINE)
    told = {
        name
        for row in re.findall(r"^\| (`.+?) \|", "\n".join(tables), re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    expected = names_of(kind.options)
    for field in dataclasses.fields(kind.options):
        if field.name == "expect":
            assert isinstance(field.default_factory, type)
            expected |= names_of(field.default_factory)
    assert told - {"expect"} == expected - {"expect"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_option_has_a_description_in_the_schema(kind: Kind[Any]) -> None:
    """Editors show it."""
    schema = form_of(kind.options).schema
    objects = [schema, *(each for each in schema.get("$defs", {}).values() if "properties" in each)]
    assert [
        name for each in objects for name, option in each["properties"].items() if not option.get("description")
    ] == []
    assert all(each["additionalProperties"] is False for each in objects)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_phase_is_named(kind: Kind[Any]) -> None:
    """On its page."""
    assert [phase for phase in kind.phases if f"`{phase}`" not in page_of(kind.name)] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_table_of_kinds_gives_the_reasons_of_the_class(kind: Kind[Any]) -> None:
    """All of them, and no other; and the extra that it needs."""
    (row,) = re.findall(
        rf"^\| \[`{kind.name}`\]\(probes/{kind.name}\.md\) \|(.*)\|$", section("The kinds"), re.MULTILINE
    )
    _, reasons, extra = row.split("|")
    assert re.findall(r"`([a-z-]+)`", reasons) == [reason.value for reason in Reason if reason in kind.reasons]
    assert re.findall(r"`([a-z-]+)`", extra) == ([kind.extra] if kind.extra else [])


@cache
def shown() -> set[tuple[str, str]]:
    """Kind and ending of every `pytest.mark.shows(...)`; what a mark says is checked when its test runs."""
    found: set[tuple[str, str]] = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "shows":
                kind, *endings = [each.value for each in node.args if isinstance(each, ast.Constant)]
                found |= {(str(kind), str(ending)) for ending in endings}
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_ending_of_a_kind_is_shown_by_a_test(kind: Kind[Any]) -> None:
    """Up, broken, and down for each of its reasons, against a real server."""
    assert kind.reasons, "a kind says for which reasons it can be down"
    wanted = {"up", "broken", *(reason.value for reason in kind.reasons)}
    assert sorted(wanted - {ending for name, ending in shown() if name == kind.name}) == []


def test_every_reason_of_a_protocol_probe_is_explained() -> None:
    """Those of journeys stand on their own page."""
    told = set(re.findall(r"`([a-z-]+)`", section("How a run ends")))
    journeys = {Reason.STEP, Reason.BROWSER, Reason.COLLECTION}
    assert {reason.value for reason in Reason if reason not in journeys} <= told
    assert BROKEN_REASONS - journeys <= told
