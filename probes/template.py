"""Texts with references like `{{ order }}` in them: read and checked once, filled in each run. Pure.

`${env:NAME}` and `${file:PATH}` are the configuration's secrets, and are read before: the two cannot be taken for each other.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

_REFERENCE = re.compile(r"\{\{\{\{|\{\{([^{}]*)\}\}|\{\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Values = Mapping[str, Any]
"""What is known when a template is filled: JSON values by name."""


class Missing(LookupError):
    """A value that a template refers to is not there in this run. The argument is its name."""

    @property
    def name(self) -> str:
        """Of the value."""
        return str(self.args[0])


def is_name(text: str) -> bool:
    """Whether a reference can be made to it."""
    return _NAME.fullmatch(text) is not None


def as_text(value: Any) -> str:
    """A JSON value within a text: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _raw(text: str) -> str:
    return text


def _url(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]


WAYS: Final[Mapping[str, Callable[[str], str]]] = {"raw": _raw, "url": _url, "json": _json}
"""How a value is written into a text: as it is, percent-encoded (RFC 3986 §2.1), or for the inside of a JSON string."""


@dataclass(frozen=True, slots=True)
class _Hole:
    name: str
    way: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Template:
    """A text with references. Equal texts make equal templates."""

    parts: tuple[str | _Hole, ...]

    @classmethod
    def parse(cls, text: str, where: str, known: Collection[str], *, way: str = "raw") -> "Template":
        """Raises ValueError, beginning with `where`, for a reference that is none, or to what is not `known`.

        `way` is how values are written where a reference does not say it itself, like `{{ name | url }}`. Two opening
        braces are written `{{{{`.
        """
        return cls(tuple(_parts(text, where, known, way)))

    @property
    def names(self) -> frozenset[str]:
        """What it refers to."""
        return frozenset(part.name for part in self.parts if isinstance(part, _Hole))

    @property
    def is_constant(self) -> bool:
        """Whether it refers to nothing."""
        return not self.names

    def fill(self, values: Values) -> str:
        """The text with the values in it. Raises Missing."""
        return "".join(
            [part if isinstance(part, str) else part.way(as_text(_look_up(part.name, values))) for part in self.parts]
        )

    def value(self, values: Values) -> Any:
        """As `fill`; but a text that is nothing except one reference becomes the value itself, with its JSON type."""
        if len(self.parts) == 1 and isinstance(self.parts[0], _Hole) and self.parts[0].way is _raw:
            return _look_up(self.parts[0].name, values)
        return self.fill(values)


def _look_up(name: str, values: Values) -> Any:
    try:
        return values[name]
    except KeyError:
        raise Missing(name) from None


def _parts(text: str, where: str, known: Collection[str], way: str) -> Iterator[str | _Hole]:
    at = 0
    for match in _REFERENCE.finditer(text):
        if match.start() > at:
            yield text[at : match.start()]
        at = match.end()
        if match[0] == "{{{{":
            yield "{{"
            continue
        if match[1] is None:
            raise ValueError(f"{where}: a reference is written {{{{ name }}}}; write {{{{{{{{ for two plain braces")
        name, bar, chosen = (part.strip() for part in match[1].partition("|"))
        if not is_name(name):
            raise ValueError(
                f"{where}: {match[0]} is no reference; write {{{{ name }}}}, or {{{{{{{{ for two plain braces"
            )
        if bar and chosen not in WAYS:
            raise ValueError(
                f"{where}: {match[0]}: there is no way {chosen!r} to write a value, only {', '.join(WAYS)}"
            )
        if name not in known:
            raise ValueError(
                f"{where}: {{{{ {name} }}}} refers to nothing; known here: {', '.join(sorted(known)) or 'none'}"
            )
        yield _Hole(name, WAYS[chosen or way])
    if at < len(text):
        yield text[at:]


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON document whose strings are templates."""

    root: Any
    """Objects, lists and plain values as they are, and a Template in the place of each string with braces."""

    @classmethod
    def parse(cls, document: Any, where: str, known: Collection[str]) -> "Document":
        """Raises ValueError as `Template.parse` does. The names of members are not templates."""
        return cls(_parse(document, where, known))

    @property
    def has_holes(self) -> bool:
        """Whether it refers to anything, or has braces that stand for others."""
        return any(True for _ in _templates(self.root))

    def value(self, values: Values) -> Any:
        """The document with the values in it. Raises Missing."""
        return _fill(self.root, values)

    def fill(self, values: Values) -> bytes:
        """As JSON in UTF-8. Raises Missing."""
        return json.dumps(_fill(self.root, values), separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )


def _parse(node: Any, where: str, known: Collection[str]) -> Any:
    if isinstance(node, str):
        return Template.parse(node, where, known) if "{{" in node else node
    if isinstance(node, Mapping):
        return {key: _parse(value, f"{where}.{key}", known) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_parse(value, f"{where}[{number}]", known) for number, value in enumerate(node)]
    return node


def _templates(node: Any) -> Iterator[Template]:
    if isinstance(node, Template):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _templates(value)
    elif isinstance(node, list):
        for value in node:
            yield from _templates(value)


def _fill(node: Any, values: Values) -> Any:
    if isinstance(node, Template):
        return node.value(values)
    if isinstance(node, dict):
        return {key: _fill(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(value, values) for value in node]
    return node
