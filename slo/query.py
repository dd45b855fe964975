"""The part of PromQL that indicators are written in, read into a tree: selectors, functions, `sum`, arithmetic, comparison.

Grammar: https://prometheus.io/docs/prometheus/latest/querying/basics/. What is not read here raises `NotRead`, with the
piece of text that was not understood.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final


class NotRead(ValueError):
    """A query is none, or more than is read here."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label."""

    label: str
    op: str
    """`=`, `!=`, `=~` or `!~`."""
    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """Series of a metric, at a moment or over a range."""

    metric: str
    matchers: tuple[Matcher, ...] = ()
    over: str = ""
    """The range as it stands in brackets; empty for a moment."""


@dataclass(frozen=True, slots=True)
class Number:
    """A literal."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Call:
    """A function or an aggregation of one expression."""

    name: str
    of: "Expression | None" = None
    """None: it takes nothing, like `time()`."""


@dataclass(frozen=True, slots=True)
class Binary:
    """Two expressions and what is between them. `bool` behind a comparison is dropped."""

    op: str
    left: "Expression"
    right: "Expression"
    over: str = ""
    """The range of a subquery, as it stands in brackets."""


Expression = Selector | Number | Call | Binary

LONGEST: Final = 10_000
"""Characters that a query may have."""
DEEPEST: Final = 50
"""Brackets within brackets that a query may have."""

_TOKEN = re.compile(
    r"""(?:\s|\#[^\n]*)*(?:
      (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?(?![a-zA-Z_]))
    | (?P<duration>[0-9]+[a-z][0-9a-z]*)
    | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
    | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
    | (?P<range>\[[^\]\n]*\])
    | (?P<sign>==|!=|=~|!~|>=|<=|[-+*/%^<>(){},=])
    | (?P<end>$)
    )""",
    re.VERBOSE,
)
_COMPARISONS: Final = frozenset({"==", "!=", ">", "<", ">=", "<="})
_AGGREGATIONS: Final = frozenset({"sum", "avg", "min", "max", "count"})
_WORDS: Final = frozenset({"and", "or", "unless", "on", "ignoring", "group_left", "group_right", "offset"})


def read_query(text: str) -> Expression:
    """The tree of a query. Raises NotRead."""
    if len(text) > LONGEST:
        raise NotRead(f"a query of {len(text):,} characters is not read")
    reader = _Reader(_tokens(text))
    tree = reader.comparison()
    if reader.kind != "end":
        raise NotRead(f"{reader.value!r} is not read here")
    return tree


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while not found or found[-1][0] != "end":
        match = _TOKEN.match(text, at)
        if match is None:
            raise NotRead(f"{text[at:].strip()[:20]!r} is not PromQL that is read here")
        kind = match.lastgroup or ""
        found.append((kind, match[kind]))
        at = match.end()
    return found


class _Reader:
    """Recursive descent over tokens."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    @property
    def kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def value(self) -> str:
        return self._tokens[self._at][1]

    def comparison(self) -> Expression:
        return self._chain(_COMPARISONS, self._sum, drops_bool=True)

    def _sum(self) -> Expression:
        return self._chain(frozenset("+-"), self._product)

    def _product(self) -> Expression:
        return self._chain(frozenset("*/"), self._one)

    def _chain(self, ops: frozenset[str], part: Callable[[], Expression], *, drops_bool: bool = False) -> Expression:
        tree = part()
        while self.kind == "sign" and self.value in ops:
            op = self._take()
            if drops_bool and (self.kind, self.value) == ("name", "bool"):
                self._take()
            tree = Binary(op, tree, part())
        return tree

    def _one(self) -> Expression:
        self._depth += 1
        if self._depth > DEEPEST:
            raise NotRead("it is nested too deep")
        try:
            if self.kind == "number":
                return Number(Fraction(self._take()))
            if self._is("("):
                return self._ranged(self._bracketed())
            if self.kind == "name" and self.value not in _WORDS:
                return self._named()
            if self._is("{"):
                raise NotRead("a selector without the name of a metric is not read here")
        finally:
            self._depth -= 1
        raise NotRead(f"{self.value!r} is not read here" if self.value else "it ends in the middle")

    def _named(self) -> Expression:
        name = self._take()
        self._refuse_groups(name)
        if self._is("("):
            call = Call(name, self._argument())
            self._refuse_groups(name)
            return call
        matchers = self._matchers() if self._is("{") else ()
        over = self._range() if self.kind == "range" else ""
        if (self.kind, self.value) == ("name", "offset"):
            raise NotRead("offset looks at another time")
        return Selector(name, matchers, over)

    def _refuse_groups(self, name: str) -> None:
        if name in _AGGREGATIONS and self.kind == "name" and self.value in ("by", "without"):
            raise NotRead(f"{name} {self.value} makes several series, and an objective counts in one")

    def _argument(self) -> Expression | None:
        if self._tokens[self._at + 1] != ("sign", ")"):
            return self._bracketed()
        self._expect("(")
        self._expect(")")
        return None

    def _bracketed(self) -> Expression:
        self._expect("(")
        tree = self.comparison()
        self._expect(")")
        return tree

    def _ranged(self, tree: Expression) -> Expression:
        if self.kind != "range":
            return tree
        if isinstance(tree, Binary | Selector):
            return replace(tree, over=self._range())
        raise NotRead("a subquery of this is not read here")

    def _range(self) -> str:
        return self._take()[1:-1].strip()

    def _matchers(self) -> tuple[Matcher, ...]:
        self._expect("{")
        found: list[Matcher] = []
        while not self._is("}"):
            if self.kind != "name":
                raise NotRead(f"wanted the name of a label, not {self.value!r}")
            label, op = self._take(), self._take()
            kind, text = self._tokens[self._at]
            if op not in ("=", "!=", "=~", "!~") or kind != "text":
                raise NotRead(f'wanted {label}="…", not {label}{op}{text}')
            found.append(Matcher(label, op, _unquoted(self._take())))
            if self._is(","):
                self._take()
            elif not self._is("}"):
                raise NotRead(f"wanted ',' or '}}', not {self.value!r}")
        self._take()
        return tuple(found)

    def _is(self, sign: str) -> bool:
        return (self.kind, self.value) == ("sign", sign)

    def _expect(self, sign: str) -> None:
        if not self._is(sign):
            raise NotRead(f"wanted {sign!r}, not {self.value!r}" if self.value else f"it ends where {sign!r} belongs")
        self._take()

    def _take(self) -> str:
        value = self.value
        if self.kind != "end":
            self._at += 1
        return value


def _unquoted(text: str) -> str:
    """Go's escapes are read as far as JSON has them too."""
    inner = text[1:-1]
    if text[0] == "`":
        return inner
    if text[0] == "'":
        inner = re.sub(r'\\.|"', lambda match: {"\\'": "'", '"': '\\"'}.get(match[0], match[0]), inner)
    try:
        return str(json.loads(f'"{inner}"'))
    except ValueError:
        raise NotRead(f"the text {text} has an escape that is not read here") from None
