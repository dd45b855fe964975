"""The JSON Schema for editors says what `load` says, as far as a schema can."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from stormwatch.harness.catalog import FAULTS, KINDS
from stormwatch.harness.schema import schema

ROOT = Path(__file__).parents[2]
MISTAKES = Path(__file__).with_name("mistakes")
EXAMPLES = [ROOT / "config/starter.yaml", *sorted((ROOT / "config/examples").glob("*.yaml"))]


def wrong(value: Any, schema: Any, whole: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Where a value does not fit a schema: the keywords that ours uses, as JSON Schema 2020-12 defines them."""
    if isinstance(schema, bool):
        if not schema:
            yield f"{at}: not allowed"
        return
    unknown = schema.keys() - KEYWORDS
    assert not unknown, unknown
    if "$ref" in schema:
        yield from wrong(value, whole["$defs"][schema["$ref"].rpartition("/")[2]], whole, at)
    if "type" in schema and not isinstance(value, TYPES[schema["type"]]):
        yield f"{at}: not {schema['type']}"
        return
    if "type" in schema and schema["type"] != "boolean" and isinstance(value, bool):
        yield f"{at}: a boolean"
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        yield f"{at}: none of the choices"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{at}: not like {schema['pattern']}"
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{at}: too small or too large"
    if isinstance(value, str | list) and len(value) < schema.get(
        "minLength" if isinstance(value, str) else "minItems", 0
    ):
        yield f"{at}: too short"
    if isinstance(value, dict):
        properties, other = schema.get("properties", {}), schema.get("additionalProperties", True)
        yield from (f"{at}.{key}: missing" for key in schema.get("required", ()) if key not in value)
        for key, member in value.items():
            yield from wrong(member, properties.get(key, other), whole, f"{at}.{key}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from wrong(item, schema.get("items", True), whole, f"{at}[{index}]")
    fitting = [not list(wrong(value, each, whole)) for each in schema.get("anyOf", schema.get("oneOf", ()))]
    if ("anyOf" in schema and not any(fitting)) or ("oneOf" in schema and sum(fitting) != 1):
        yield f"{at}: none of the alternatives"
    for each in schema.get("allOf", ()):
        yield from wrong(value, each, whole, at)
    if "if" in schema and not list(wrong(value, schema["if"], whole)):
        yield from wrong(value, schema["then"], whole, at)


TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
ANNOTATIONS = {"$schema", "$defs", "title", "description", "default", "examples", "writeOnly", "format"}
KEYWORDS = ANNOTATIONS | {
    *(
        "$ref",
        "type",
        "enum",
        "const",
        "pattern",
        "minimum",
        "maximum",
        "minLength",
        "minItems",
        "properties",
        "required",
    ),
    *("additionalProperties", "items", "anyOf", "oneOf", "allOf", "if", "then"),
}


def test_the_file_in_the_repository_is_current() -> None:
    """`make schema` writes it anew."""
    assert json.loads((ROOT / "config/stormwatch.schema.json").read_text()) == schema()


def test_every_reference_leads_somewhere() -> None:
    """And every definition is used."""
    whole = schema()
    references = set(re.findall(r'"\$ref": "#/\$defs/([^"]+)"', json.dumps(whole)))

    assert references == whole["$defs"].keys()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_it_accepts_the_examples(path: Path) -> None:
    """What loads is not underlined in red."""
    whole = schema()

    assert list(wrong(yaml.safe_load(path.read_text()), whole, whole)) == []


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("unknown-key", ".probes[0].evry: not allowed"),
        ("unknown-option", ".probes[0].http.expect.body_match: not allowed"),
        ("unknown-kind", ".probes[0].kind: none of the choices"),
        ("unknown-section", ".objective: not allowed"),
        ("wrong-unit", ".probes[0].every: not string"),
        ("ratio-without-percent", ".objectives[0].target: not string"),
        ("missing-key", ".probes[1].name: missing"),
        ("block-of-another-kind", ".probes[0].http: not allowed"),
        ("unknown-policy", ".objectives[0].policy: none of the choices"),
        ("drill-fault-options", ".drills[0].fault: none of the alternatives"),
    ],
)
def test_it_refuses_mistakes(name: str, where: str) -> None:
    """While people type, and without running anything."""
    whole = schema()

    assert where in list(wrong(yaml.safe_load((MISTAKES / f"{name}.yaml").read_text()), whole, whole))


def test_it_knows_every_kind_and_fault() -> None:
    """With descriptions for all options."""
    whole = schema()

    assert whole["$defs"]["ProbeEntry"]["properties"].keys() >= KINDS.keys()
    assert [each["properties"]["kind"]["const"] for each in whole["$defs"]["fault"]["oneOf"]] == list(FAULTS)
