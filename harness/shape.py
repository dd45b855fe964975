"""What may stand where, read from a JSON Schema: known keys, which texts are secrets, which are names of files."""

from collections.abc import Iterable, Mapping
from typing import Any

from stormwatch.harness.document import Place

Schema = Mapping[str, Any]

_TYPED = frozenset({"type", "enum", "const", "writeOnly"})


class Shape:
    """Every form that a value may take in one place."""

    __slots__ = ("_definitions", "_inside", "_schemas", "free", "is_file", "keys", "secret")

    def __init__(self, schemas: Iterable[Schema], definitions: Mapping[str, Schema], name: str | None = None) -> None:
        """`name` is the declared key that it stands under; None for an item, or where keys are free."""
        self._schemas = tuple(flat for schema in schemas for flat in _flat(schema, definitions))
        self._definitions = definitions
        self._inside: dict[str | int | None, Shape] = {}
        self.keys = tuple(dict.fromkeys(key for schema in self._schemas for key in schema.get("properties", ())))
        """The keys that a mapping may have here, in the order of their declaration."""
        declared = any(schema.get("writeOnly") for schema in self._schemas)
        self.secret: bool | None = declared or (False if name else None)
        """Whether the text here is one that nobody may read; None where keys are free, so that only the key can tell."""
        self.is_file = any(schema.get("format") == "path" for schema in self._schemas)
        """Whether the text here names a file."""
        self.free = not all(schema.keys() & _TYPED for schema in self._schemas) or not self._schemas
        """Whether any value may stand here, also none."""

    @classmethod
    def of(cls, schema: Schema) -> "Shape":
        """The shape of a whole document with this schema."""
        return cls([schema], schema.get("$defs", {}))

    def at(self, place: Place) -> "Shape":
        """The shape further down; it knows nothing where nothing is declared."""
        shape = self
        for part in place:
            shape = shape.inside(part)
        return shape

    def inside(self, part: str | int) -> "Shape":
        """The shape of one member or item."""
        declared = part if isinstance(part, str) and part in self.keys else None
        # All free keys have one shape, and so have all items: our schemas have no list whose items differ by position.
        known = declared or (None if isinstance(part, str) else 0)
        if known not in self._inside:
            self._inside[known] = Shape(self._members(part), self._definitions, declared)
        return self._inside[known]

    def _members(self, part: str | int) -> Iterable[Schema]:
        for schema in self._schemas:
            if isinstance(part, int):
                found = schema.get("items")
            else:
                found = schema.get("properties", {}).get(part) or schema.get("additionalProperties")
            if isinstance(found, Mapping):
                yield found


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
