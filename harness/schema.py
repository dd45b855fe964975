"""The JSON Schema of stormwatch.yaml, for editors: the entries, with the options of every kind of probe and fault."""

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import JsonSchemaValue

from stormwatch.chaos.fault_kind import ROUTE, FaultKind
from stormwatch.chaos.targets import TARGETS
from stormwatch.harness.catalog import FAULTS, KINDS
from stormwatch.harness.entry import FileEntry
from stormwatch.harness.form import form_of
from stormwatch.probes.probe import Kind

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(
    kinds: Mapping[str, Kind[Any]] = KINDS, faults: Mapping[str, FaultKind[Any]] = FAULTS
) -> dict[str, JsonSchemaValue]:
    """What `load` accepts, as far as a schema can say it: references between entries are `load`'s to check."""
    whole = form_of(FileEntry).schema
    definitions: dict[str, Any] = {name: dict(each) for name, each in whole["$defs"].items()}
    probe = definitions["ProbeEntry"]
    probe["properties"] = {**probe["properties"], "kind": _choice(probe["properties"]["kind"], kinds)}
    probe["allOf"] = []
    for name, kind in kinds.items():
        options = _move(form_of(kind.options).schema, name, definitions)
        probe["properties"][name] = options
        others = {other: False for other in kinds if other != name}
        needed = ["kind", name] if definitions[name].get("required") else ["kind"]
        probe["allOf"].append(
            {
                "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
                "then": {"properties": others, "required": needed},
            }
        )
    drill = definitions["DrillEntry"]
    drill["properties"] = {
        "name": drill["properties"]["name"],
        "fault": {"$ref": "#/$defs/fault", "description": "What is done to which route or target."},
        "beside": {
            "type": "array",
            "items": {"$ref": "#/$defs/fault"},
            "default": [],
            "description": "Further faults, injected after it and held as long: each must be met.",
        },
        **drill["properties"],
    }
    drill["required"] = [*drill["required"], "fault"]
    definitions["fault"] = {
        "description": "What is done to which route or target; the options of the fault stand beside.",
        "oneOf": [_fault(name, kind, definitions) for name, kind in faults.items()],
    }
    target = definitions["TargetEntry"]
    target["properties"] = {
        **target["properties"],
        **{
            name: {**_move(form_of(kind.options).schema, f"target.{name}", definitions), "description": kind.summary}
            for name, kind in TARGETS.items()
        },
    }
    target["oneOf"] = [{"required": [name]} for name in TARGETS]
    top = {key: value for key, value in whole.items() if key != "$defs"}
    return _tidy({"$schema": DIALECT, "title": "stormwatch.yaml", **top, "$defs": dict(sorted(definitions.items()))})


def _fault(name: str, kind: FaultKind[Any], definitions: dict[str, Any]) -> Mapping[str, Any]:
    _move(form_of(kind.options).schema, name, definitions)
    options = definitions.pop(name)
    head = {
        "kind": {"const": name, "description": kind.summary},
        "target": {
            "type": "string",
            "description": "The route that it is put on."
            if kind.on == ROUTE
            else f"The entry of `targets`, one with `{kind.on}`.",
        },
    }
    return {
        **options,
        "description": kind.summary,
        "properties": {**head, **options.get("properties", {})},
        "required": ["kind", "target", *options.get("required", [])],
    }


def _choice(schema: Mapping[str, Any], kinds: Mapping[str, Kind[Any]]) -> Mapping[str, Any]:
    return {**schema, "enum": list(kinds)}


def _move(schema: Mapping[str, Any], name: str, definitions: dict[str, Any]) -> Mapping[str, Any]:
    """Put a schema under `name` into the definitions, its own definitions beside it, and refer to it."""
    for inner, each in schema["$defs"].items():
        definitions.setdefault(f"{name}.{inner}", _renamed(each, name))
    definitions[name] = _renamed({key: value for key, value in schema.items() if key != "$defs"}, name)
    reference = {"$ref": f"#/$defs/{name}"}
    return {**reference, "description": schema["description"]} if "description" in schema else reference


def _renamed(schema: Any, name: str) -> Any:
    if isinstance(schema, dict):
        return {
            key: f"#/$defs/{name}.{value.rpartition('/')[2]}" if key == "$ref" else _renamed(value, name)
            for key, value in schema.items()
        }
    return [_renamed(each, name) for each in schema] if isinstance(schema, list) else schema


def _tidy(schema: Any) -> Any:
    """As editors should show it.

    Without the titles that pydantic makes from names, and without null: what may be left out is left out, not emptied.
    """
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = dict(schema)
    if kept.get("default", ...) is None:
        del kept["default"]
        choices = [each for each in kept.pop("anyOf", []) if each != {"type": "null"}]
        kept = {**choices[0], **kept} if len(choices) == 1 else {**kept, **({"anyOf": choices} if choices else {})}
    if isinstance(kept.get("title"), str) and "$schema" not in kept:
        del kept["title"]
    return {key: _tidy(value) for key, value in kept.items()}
