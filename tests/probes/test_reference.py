"""docs/reference/probes.md names every option of every kind, and no other."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from stormwatch.probes import dns, http, tcp, tls
from stormwatch.probes.probe import Kind
from stormwatch.probes.result import BROKEN_REASONS, Reason

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "probes.md").read_text()
KINDS: list[Kind[Any]] = [http.KIND, dns.KIND, tls.KIND, tcp.KIND]


def section(name: str) -> str:
    """What stands under a heading."""
    return PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def names_of(options: type[Any]) -> set[str]:
    """Options as users write them."""
    return set(TypeAdapter(options).json_schema(by_alias=True)["properties"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_option_stands_in_the_tables_and_nothing_else_does(kind: Kind[Any]) -> None:
    """The first column of the tables of its section."""
    told = {
        name
        for row in re.findall(r"^\| (`.+?) \|", section(kind.name), re.MULTILINE)
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
    schema = TypeAdapter(kind.options).json_schema()
    objects = [schema, *(each for each in schema.get("$defs", {}).values() if "properties" in each)]
    assert [
        name for each in objects for name, option in each["properties"].items() if not option.get("description")
    ] == []
    assert all(each["additionalProperties"] is False for each in objects)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_phase_is_named(kind: Kind[Any]) -> None:
    """In its section."""
    assert [phase for phase in kind.phases if f"`{phase}`" not in section(kind.name)] == []


def test_every_reason_of_a_protocol_probe_is_explained() -> None:
    """Those of journeys stand on their own page."""
    told = set(re.findall(r"`([a-z-]+)`", section("How a run ends")))
    journeys = {Reason.STEP, Reason.BROWSER, Reason.COLLECTION}
    assert {reason.value for reason in Reason if reason not in journeys} <= told
    assert BROKEN_REASONS - journeys <= told
