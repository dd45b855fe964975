"""What a JSON body must be: single values by JMESPath, the whole of it by JSON Schema. Pure: no I/O, no clock."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

import jmespath
import jmespath.exceptions
from pydantic import ConfigDict, Field, JsonValue

from stormwatch.probes.options import STRICT
from stormwatch.probes.pattern import compile_pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectJson:
    """One value in a JSON body, and the one thing that it must be; `above` and `below` may stand together."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    path: str
    """Where the value stands: a JMESPath expression (https://jmespath.org)."""
    equals: JsonValue = None
    """The value itself, of any JSON type but null: for null, say `exists: false`."""
    matches: str | None = None
    """An RE2 expression that is found in the value: in a string as it is, in anything else as JSON."""
    exists: bool | None = None
    """Whether there is a value that is not null."""
    above: float | None = None
    """A number that is smaller than the value."""
    below: float | None = None
    """A number that is larger than the value."""
    length: Annotated[int, Field(ge=0)] | None = None
    """How many items an array has, members an object, or characters a string."""
    contains: JsonValue = None
    """An item of an array, a name in an object, or a part of a string."""


class JsonCheck:
    """One expected value, its path compiled."""

    def __init__(self, expect: ExpectJson, where: str) -> None:
        """Raises ValueError, beginning with `where`, for what can never be judged."""
        asked = [
            expect.equals is not None,
            expect.matches is not None,
            expect.exists is not None,
            expect.above is not None or expect.below is not None,
            expect.length is not None,
            expect.contains is not None,
        ]
        if sum(asked) != 1:
            raise ValueError(
                f"{where}: give exactly one of equals, matches, exists, length and contains, or above and below"
            )
        try:
            self._path: Any = jmespath.compile(expect.path)
        except jmespath.exceptions.JMESPathError as error:
            said = " ".join(str(error).split())
            raise ValueError(f"{where}: {expect.path!r} is not a JMESPath expression: {said}") from None
        self._expect = expect
        self._pattern = compile_pattern(expect.matches, where) if expect.matches is not None else None

    def complaint(self, document: Any) -> str:
        """What is wrong with the value, in one sentence; empty when nothing is."""
        try:
            value = self._path.search(document)
        except (jmespath.exceptions.JMESPathError, ValueError, TypeError, RecursionError) as error:
            return f"json {self._expect.path} could not be evaluated: {' '.join(str(error).split())[:200]}"
        wanted = self._wanted(value)
        return f"json {self._expect.path} is {shown(value)}, wanted {wanted}" if wanted else ""

    def _wanted(self, value: Any) -> str:
        """What is wanted in the place of this value; empty when the value is right."""
        expect = self._expect
        if expect.exists is not None:
            right, wanted = (value is not None) == expect.exists, "a value" if expect.exists else "none"
        elif self._pattern is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            right = value is not None and self._pattern.search(text.encode("utf-8", "surrogatepass")) is not None
            wanted = f"a match of {expect.matches!r}"
        elif expect.length is not None:
            right = isinstance(value, list | dict | str) and len(value) == expect.length
            seen = f" instead of {len(value)}" if isinstance(value, list | dict | str) else ""
            wanted = f"the length {expect.length}{seen}"
        elif expect.contains is not None:
            right, wanted = _contains(value, expect.contains), f"{shown(expect.contains)} in it"
        elif expect.equals is not None:
            right, wanted = same(value, expect.equals), shown(expect.equals)
        else:
            right, wanted = self._within(value)
        return "" if right else wanted

    def _within(self, value: Any) -> tuple[bool, str]:
        above, below = self._expect.above, self._expect.below
        limits = (("above", above), ("below", below))
        wanted = " and ".join(f"a number {name} {limit:g}" for name, limit in limits if limit is not None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False, wanted
        return (above is None or value > above) and (below is None or value < below), wanted


class _Validator(Protocol):
    def iter_errors(self, instance: Any) -> Any: ...


class SchemaCheck:
    """A JSON Schema, compiled. Its patterns have no look-arounds and no back-references, so that none can hang."""

    def __init__(self, schema: Mapping[str, Any] | bool, where: str) -> None:
        """Raises ValueError, beginning with `where`, for what is no schema. Nothing is fetched for a `$ref`."""
        import jsonschema_rs  # here, because few need it

        try:
            self._validator: _Validator = jsonschema_rs.validator_for(
                dict(schema) if isinstance(schema, Mapping) else schema,
                pattern_options=jsonschema_rs.RegexOptions(),
                retriever=_no_retrieval,
                validate_formats=True,
                mask="it",
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError, TypeError) as error:
            said = str(error).partition("\n")[0][:200]
            raise ValueError(f"{where}: this is not a JSON Schema that can be used: {said}") from None

    def complaint(self, document: Any) -> str:
        """The first thing in the document that the schema forbids, in one sentence; empty when there is none."""
        try:
            error = next(iter(self._validator.iter_errors(document)), None)
        except (ValueError, TypeError, OverflowError, RecursionError) as failure:
            return f"the body could not be held against the JSON Schema: {str(failure)[:200]}"
        if error is None:
            return ""
        place = "/" + "/".join(str(part) for part in error.instance_path) if error.instance_path else "the document"
        said = " ".join(str(error.message).split())[:200]
        return f"the body is not as its JSON Schema says: {place} is {shown(error.instance)}, and {said}"


def read_schema(path: str, where: str) -> Mapping[str, Any] | bool:
    """A schema from its file. Raises ValueError, beginning with `where`, for a file that holds none."""
    try:
        document = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"{where} {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{where} {path} is not JSON: {error}") from error
    if isinstance(document, dict | bool):
        return document
    raise ValueError(f"{where} {path} holds no JSON Schema: that is an object, or true or false")


def _no_retrieval(uri: str) -> Any:
    raise ValueError(f"{uri} is elsewhere, and no schema is fetched: put it into `$defs`")


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


def shown(value: Any) -> str:
    """A JSON value for people, its beginning."""
    # Half a surrogate pair is a string in JSON, and nothing that could be written anywhere.
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    return text if len(text) <= 120 else f"{text[:117]}..."


def _contains(value: Any, part: Any) -> bool:
    if isinstance(value, str):
        return isinstance(part, str) and part in value
    if isinstance(value, dict):
        return isinstance(part, str) and part in value
    return isinstance(value, list) and any(same(each, part) for each in value)
