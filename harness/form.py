"""A form is one thing that users may write: read strictly, and each mistake told in a sentence of ours.

plain data ──pydantic, strict──▶ frozen value
     └──────── errors ─────────▶ (place, sentence): what was wanted, what was seen, the remedy
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any, Generic, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import SchemaSerializer
from pydantic_core.core_schema import DataclassSchema, WithDefaultSchema

from stormwatch.harness.document import Place
from stormwatch.harness.field_docs import field_docs
from stormwatch.harness.remedy import did_you_mean, near_duration, near_ratio, near_size
from stormwatch.harness.shape import Shape

T = TypeVar("T")

Fault = tuple[Place, str]
"""Where something is wrong, and the sentence that says what."""


def _unknown(_place: Place) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What came of reading: a value, or why there is none."""

    value: T | None
    faults: tuple[Fault, ...] = ()


class Form(Generic[T]):
    """Reads plain data as a frozen dataclass. Built once a type: `form_of`."""

    def __init__(self, model: type[T]) -> None:
        # A tuple around it, because pydantic takes a configuration only for types that have none of their own.
        wrapper: Any = tuple.__class_getitem__(model)
        self._adapter: TypeAdapter[tuple[T]] = TypeAdapter(wrapper, config=ConfigDict(extra="forbid"))

    @cached_property
    def schema(self) -> Mapping[str, Any]:
        """JSON Schema of what users write, with what it means."""
        return self._schema(_Explained)

    @cached_property
    def shape(self) -> Shape:
        """What may stand where."""
        return Shape.of(self._schema(_AsWritten))

    def _schema(self, generator: type[GenerateJsonSchema]) -> Mapping[str, Any]:
        wrapped = self._adapter.json_schema(mode="validation", schema_generator=generator)
        return _inlined(wrapped["prefixItems"][0], wrapped.get("$defs", {}))

    def read(self, data: Any, *, also: tuple[str, ...] = (), written: Callable[[Place], str] = _unknown) -> Reading[T]:
        """Read what users wrote. Never raises for it.

        `also` are keys that are read elsewhere, known for suggestions. `written` says how a number stands in the file.
        """
        try:
            # From JSON, because YAML's types are JSON's: strict then means that a list may become a tuple, and no
            # text a number.
            (value,) = self._adapter.validate_json(json.dumps([data]), strict=True)
        except ValidationError as error:
            return Reading(None, tuple(_Translation(data, self.shape, also, written).faults(error)))
        return Reading(value)

    def write(self, value: T) -> Any:
        """A value as JSON, the way users write it."""
        return self._adapter.dump_python((value,), mode="json", by_alias=True, fallback=str)[0]


class _AsWritten(GenerateJsonSchema):
    """JSON Schema whose defaults are written as users would: `30s`, not 30.0."""

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        """Defaults of blocks are left out: each key in a block tells its own."""
        shown = super().default_schema(schema)
        if isinstance(shown.get("default"), dict):
            del shown["default"]
        elif isinstance(default := schema.get("default"), float | int | Fraction):
            shown["default"] = SchemaSerializer(schema["schema"]).to_python(default, mode="json")
        return shown


class _Explained(_AsWritten):
    """The same with the docstrings of the fields."""

    def dataclass_schema(self, schema: DataclassSchema) -> JsonSchemaValue:
        """Each field says what it means, under the name that users write."""
        shown = super().dataclass_schema(schema)
        docs = field_docs(schema["cls"])
        arguments: Any = schema["schema"]
        for each in arguments["fields"] if arguments["type"] == "dataclass-args" else ():
            written = each.get("validation_alias", each["name"])
            if each["name"] in docs and isinstance(written, str):
                told = {**shown["properties"][written], "description": docs[each["name"]]}
                shown["properties"][written] = self.handle_ref_overrides(told)
        return shown


def _inlined(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema with its definitions, itself not one of them."""
    name = schema.get("$ref", "").rpartition("/")[2]
    own = {**definitions.get(name, {}), **{key: value for key, value in schema.items() if key != "$ref"}}
    return {"$defs": {other: each for other, each in definitions.items() if other != name}, **own}


def form_of(model: type[T]) -> Form[T]:
    """The form of a type, built once."""
    return cast("Form[T]", _form_of(model))


@lru_cache(maxsize=256)
def _form_of(model: type[Any]) -> Form[Any]:
    return Form(model)


@dataclass(slots=True)
class _Said:
    """All that was said about one place: alternatives (`wanted a number or text`) are told in one sentence."""

    sentences: list[str] = field(default_factory=list[str])
    wanted: list[str] = field(default_factory=list[str])
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class _Translation:
    """From pydantic's errors about some data to sentences of ours."""

    data: Any
    shape: Shape
    also: tuple[str, ...]
    written: Callable[[Place], str]
    said: dict[Place, _Said] = field(default_factory=dict[Place, _Said])

    def faults(self, error: ValidationError) -> list[Fault]:
        for each in error.errors(include_url=False):
            self._take(each["type"], each["loc"][1:], each["msg"], each.get("ctx", {}))
        return [(place, sentence) for place, said in self.said.items() for sentence in self._told(place, said)]

    def _take(self, kind: str, location: tuple[str | int, ...], message: str, context: Mapping[str, Any]) -> None:
        if kind in _MISSING:
            key = str(location[-1])
            self._at(_place(location[:-1], self.data)).sentences.append(f"{key} is missing; add `{key}:`")
            return
        place = _place(location, self.data)
        value = _value(self.data, place)
        if kind in _UNKNOWN:
            known = (*self.shape.at(place[:-1]).keys, *(self.also if len(place) == 1 else ()))
            said = unknown_key(str(place[-1]), known, _value(self.data, place[:-1]))
            self._at(place).sentences.append(said)
        elif kind in _OURS:
            sentence = str(context["error"])
            key = _member_meant(sentence, value)
            self._at((*place, key) if key else place).sentences.append(_with_remedy(sentence, value))
        else:
            wanted = _WANTED[kind](context) if kind in _WANTED else message[:1].lower() + message[1:]
            said = self._at(place)
            if wanted not in said.wanted:
                said.wanted.append(wanted)
            said.remedy = said.remedy or self._remedy(kind, context, place, value)

    def _at(self, place: Place) -> _Said:
        return self.said.setdefault(place, _Said())

    def _told(self, place: Place, said: _Said) -> list[str]:
        if said.sentences:
            return list(dict.fromkeys(said.sentences))
        if any(len(other) > len(place) and other[: len(place)] == place for other in self.said):
            return []  # one alternative wanted something else altogether, another one looked inside and knows better
        value = _value(self.data, place)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        seen = f"the number {self.written(place) or value}" if number else show(value)
        remedy = f"; {said.remedy}" if said.remedy and len(said.wanted) == 1 else ""
        return [f"wanted {' or '.join(said.wanted)}, not {seen}{remedy}"]

    def _remedy(self, kind: str, context: Mapping[str, Any], place: Place, value: Any) -> str:
        if kind == "string_type" and isinstance(value, bool | int | float):
            return f'put it in quotes: "{self.written(place) or json.dumps(value)}"'
        if kind == "bool_type" and isinstance(value, str) and value.lower() in _YES | _NO:
            return f"write {'true' if value.lower() in _YES else 'false'}"
        if kind in ("int_type", "float_type") and isinstance(value, str) and value.isdecimal():
            return f"write {value} without quotes"
        if kind in ("list_type", "tuple_type") and isinstance(value, str | int | float):
            return f"write [{self.written(place) or value}]"
        if kind in ("literal_error", "enum") and isinstance(value, str):
            choices = [choice.strip(" '") for choice in context["expected"].replace(" or ", ",").split(",")]
            suggestion = did_you_mean(value, choices)
            return suggestion if suggestion.startswith("did") else ""
        return ""


def _member_meant(sentence: str, value: Any) -> str:
    """The key of a mapping that a sentence about the whole of it begins with, or whose value it ends with."""
    if not isinstance(value, dict):
        return ""
    members = cast("dict[str, Any]", value)
    first = re.match(r"\w+", sentence)
    if first and first[0] in members:
        return first[0]
    ended = [key for key, member in members.items() if isinstance(member, str) and sentence.endswith(repr(member))]
    return ended[0] if len(ended) == 1 else ""


_UNKNOWN = frozenset({"unexpected_keyword_argument", "extra_forbidden"})
_OURS = frozenset({"value_error", "assertion_error"})
_MISSING = frozenset({"missing", "missing_argument", "missing_keyword_only_argument"})

_TEXT, _WHOLE, _NUMBER, _LIST, _MAPPING = "text", "a whole number", "a number", "a list", "a mapping (key: value)"
_WANTED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    **dict.fromkeys(("string_type", "string_sub_type", "path_type"), lambda _: _TEXT),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), lambda _: _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), lambda _: _NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), lambda _: "true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), lambda _: _LIST),
    **dict.fromkeys(("dict_type", "mapping_type", "dataclass_type", "model_type"), lambda _: _MAPPING),
    **dict.fromkeys(("literal_error", "enum"), lambda context: context["expected"].replace("'", "")),
    "string_pattern_mismatch": lambda context: f"text that matches {context['pattern']}",
    "string_too_short": lambda context: f"text of at least {context['min_length']} characters",
    "string_too_long": lambda context: f"text of at most {context['max_length']} characters",
    "greater_than": lambda context: f"more than {context['gt']:g}",
    "greater_than_equal": lambda context: f"at least {context['ge']:g}",
    "less_than": lambda context: f"less than {context['lt']:g}",
    "less_than_equal": lambda context: f"at most {context['le']:g}",
    "too_short": lambda context: f"at least {context['min_length']} of them",
    "too_long": lambda context: f"at most {context['max_length']} of them",
    "none_required": lambda _: "nothing",
}


_YES = frozenset({"yes", "on", "y", "true", "1"})


_NO = frozenset({"no", "off", "n", "false", "0"})


def _with_remedy(sentence: str, value: Any) -> str:
    for start, near in (
        ("a duration is written", near_duration),
        ("a size is written", near_size),
        ("a ratio is written", near_ratio),
    ):
        if sentence.startswith(start):
            written = near(value)
            return f"{sentence}; write {written}" if written else sentence
    return sentence


def unknown_key(key: str, known: Iterable[str], present: Collection[str]) -> str:
    """What to say about a key that is not known, in a mapping that has the keys `present`."""
    names = list(known)
    suggestion = did_you_mean(key, names)
    if not suggestion.startswith("did"):
        return f"unknown key; {did_you_mean(key, [name for name in names if name not in present])}"
    near = suggestion.removeprefix("did you mean ").removesuffix("?")
    return f"unknown key; {suggestion}{' It stands here already' if near in present else ''}"


def show(value: Any) -> str:
    """A value as people wrote it, cut short, with what it is when that is not plain."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:59] + "…")
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "a mapping" if isinstance(value, dict) else "nothing"


def _place(location: tuple[str | int, ...], data: Any) -> Place:
    """The part of pydantic's location that the user wrote: it also names the alternatives of a union."""
    place: list[str | int] = []
    for part in location:
        if isinstance(data, dict) and part in data:
            data = cast("dict[str | int, Any]", data)[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = cast("list[Any]", data)[part]
        else:
            continue
        place.append(part)
    return tuple(place)


def _value(data: Any, place: Place) -> Any:
    for part in place:
        data = data[part]
    return data
