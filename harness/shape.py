"""What may stand where, read from a JSON Schema: known keys, which texts are secrets, which are names of files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stormwatch.harness.document import Place

Schema = Mapping[str, Any]

FILES = frozenset({"ca", "ca_file", "certificate", "key"})
"""Options of these names hold the name of a file, as do all whose schema has the format `path`."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Every form that a value may take in one place."""

    schemas: tuple[Schema, ...]
    definitions: Mapping[str, Schema]
    name: str = ""
    """The declared key that it stands under; empty for an item, or in a mapping whose keys are free."""

    @classmethod
    def of(cls, schema: Schema) -> "Shape":
        """The shape of a whole document with this schema."""
        definitions: Mapping[str, Schema] = schema.get("$defs", {})
        return cls(tuple(_flat(schema, definitions)), definitions)

    def at(self, place: Place) -> "Shape":
        """The shape further down; it knows nothing where nothing is declared."""
        shape = self
        for part in place:
            shape = shape.inside(part)
        return shape

    def inside(self, part: str | int) -> "Shape":
        """The shape of one member or item."""
        found: list[Schema] = []
        declared = ""
        for schema in self.schemas:
            if isinstance(part, str) and part in schema.get("properties", {}):
                found.append(schema["properties"][part])
                declared = part
            elif isinstance(part, str) and isinstance(schema.get("additionalProperties"), Mapping):
                found.append(schema["additionalProperties"])
            elif isinstance(part, int):
                prefix = schema.get("prefixItems", ())
                item = prefix[part] if part < len(prefix) else schema.get("items")
                if isinstance(item, Mapping):
                    found.append(item)
        flat = tuple(each for schema in found for each in _flat(schema, self.definitions))
        return Shape(flat, self.definitions, declared)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that a mapping may have here, in the order of their declaration."""
        return tuple(dict.fromkeys(key for schema in self.schemas for key in schema.get("properties", ())))

    @property
    def secret(self) -> bool:
        """Whether the text here is one that nobody may read."""
        return any(schema.get("writeOnly") for schema in self.schemas)

    @property
    def is_file(self) -> bool:
        """Whether the text here names a file."""
        return self.name in FILES or any(schema.get("format") == "path" for schema in self.schemas)


def _flat(schema: Schema, definitions: Mapping[str, Schema]) -> Iterable[Schema]:
    """The schema with references followed and alternatives laid out."""
    if "$ref" in schema:
        yield from _flat(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    choices = [choice for key in ("anyOf", "oneOf", "allOf") for choice in schema.get(key, ())]
    for choice in choices:
        yield from _flat(choice, definitions)
    if not choices:
        yield schema
    elif schema.get("writeOnly"):
        yield {"writeOnly": True}
