"""CEL expressions over an answer (https://cel.dev): compiled once, evaluated within a deadline.

A language without loops still takes quadratic time when one `all` stands in another, and the lists are the target's. So
each step of an evaluation looks at the clock. Import this module where it is used: few need it, and celpy takes a tenth
of a second.
"""

import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import celpy
import celpy.celparser
import celpy.celtypes as cel
from celpy.evaluation import CELEvalError, Evaluator, base_functions

VARIABLES: Final = ("body", "headers", "seconds", "status", "text")
"""The JSON document that the body is; headers by their name in lower case; the run's seconds; the status; the body's text."""

_TYPES = frozenset(
    {"bool", "bytes", "double", "duration", "int", "list", "map", "null_type", "string", "timestamp", "type", "uint"}
)
_MACROS = frozenset({"all", "exists", "exists_one", "filter", "map", "reduce", "min"})


class ExpressionError(Exception):
    """An expression could not be evaluated on an answer. The message says why, as a part of a sentence."""


class Expression:
    """One CEL expression whose value must be a boolean."""

    def __init__(self, text: str, where: str) -> None:
        """Raises ValueError, beginning with `where`, for what is no CEL, for unknown variables and functions."""
        self.text = text
        environment = celpy.Environment()
        try:
            self._tree: Any = environment.compile(text)
        except celpy.celparser.CELParseError as error:
            column = f" at column {error.column}" if error.column else ""
            raise ValueError(f"{where}: {text!r} is not a CEL expression: there is a mistake{column}") from None
        names = set(_free_names(self._tree))
        for name in sorted(names - {*VARIABLES, *_TYPES}):
            raise ValueError(f"{where}: {text!r} has no variable {name} to look at: there are {', '.join(VARIABLES)}")
        for name in sorted(set(_functions(self._tree)) - {*base_functions, *_MACROS, *_TYPES, "dyn", "has"}):
            raise ValueError(f"{where}: {text!r} calls {name}, and there is no such function")
        self.needs = frozenset(names & set(VARIABLES))
        """The variables that it looks at."""
        self._program: Any = environment.program(self._tree, functions=dict(_COMPARISONS))

    def holds(self, variables: Mapping[str, Any], deadline: float) -> bool:
        """Its value for an answer. Raises ExpressionError for one that is no boolean, and for none by the deadline.

        `variables` come from `as_cel`; `deadline` is a moment of time.monotonic().
        """
        evaluator = _Timed(self._tree, self._program.new_activation(), deadline)
        try:
            value = evaluator.evaluate({name: variables[name] for name in self.needs})
        except (CELEvalError, ValueError, TypeError, LookupError, RecursionError, ArithmeticError) as error:
            raise ExpressionError(_said(error)) from error
        if not isinstance(value, bool | cel.BoolType):
            raise ExpressionError(f"its value is a {type(value).__name__.removesuffix('Type').lower()}, no boolean")
        return bool(value)


def as_cel(value: Any, deadline: float) -> Any:
    """A JSON value as CEL has it: every number is a double, as in blackbox_exporter. Raises ExpressionError when late."""
    if value is None:
        return None
    kind = type(value)
    if kind is str:
        return cel.StringType(value)
    if kind is bool:
        return cel.BoolType(value)
    try:
        if kind is int or kind is float:
            return cel.DoubleType(value)
        _look_at_the_clock(deadline)
        if kind is list:
            return cel.ListType([as_cel(each, deadline) for each in value])
        return cel.MapType({cel.StringType(key): as_cel(each, deadline) for key, each in value.items()})
    except (RecursionError, OverflowError) as error:
        raise ExpressionError(f"the body cannot be read as CEL: {error}") from error


class _Timed(Evaluator):
    """Stops in the middle when its time is over."""

    def __init__(self, ast: Any, activation: Any, deadline: float) -> None:
        super().__init__(ast, activation)
        self._deadline = deadline

    def visit_children(self, tree: Any) -> list[Any]:
        _look_at_the_clock(self._deadline)
        return super().visit_children(tree)

    def sub_evaluator(self, ast: Any) -> "_Timed":
        return _Timed(ast, self.activation, self._deadline)


def _look_at_the_clock(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise ExpressionError("the time that is left of the run was not enough")


# CEL compares numbers across their types, and finds values of different types unequal; celpy refuses both.
# https://github.com/google/cel-spec/blob/master/doc/langdef.md, "Equality" and "Ordering"

_NUMBERS = (cel.IntType, cel.UintType, cel.DoubleType)


def _plain(value: Any) -> int | float:
    return float(value) if isinstance(value, cel.DoubleType) else int(value)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, _NUMBERS) and isinstance(other, _NUMBERS):
        return _plain(one) == _plain(other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)


def _equal(one: Any, other: Any) -> Any:
    failed = next((each for each in (one, other) if isinstance(each, CELEvalError)), None)
    return cel.BoolType(_same(one, other)) if failed is None else failed


def _unequal(one: Any, other: Any) -> Any:
    found = _equal(one, other)
    return found if isinstance(found, CELEvalError) else cel.BoolType(not found)


def _inside(item: Any, container: Any) -> Any:
    if isinstance(container, list) and not isinstance(item, CELEvalError):
        return cel.BoolType(any(_same(item, each) for each in container))
    return base_functions["_in_"](item, container)


def _ordered(name: str, compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    original = base_functions[name]

    def order(one: Any, other: Any) -> Any:
        if isinstance(one, _NUMBERS) and isinstance(other, _NUMBERS):
            return cel.BoolType(compare(_plain(one), _plain(other)))
        return original(one, other)

    return order


_COMPARISONS: Mapping[str, Callable[..., Any]] = {
    "_==_": _equal,
    "_!=_": _unequal,
    "_in_": _inside,
    "_<_": _ordered("_<_", operator.lt),
    "_<=_": _ordered("_<=_", operator.le),
    "_>_": _ordered("_>_", operator.gt),
    "_>=_": _ordered("_>=_", operator.ge),
}


def _free_names(tree: Any, bound: frozenset[str] = frozenset()) -> Iterator[str]:
    """The variables of an expression, those that macros bind left out."""
    children: Sequence[Any] = tree.children
    if tree.data == "ident":
        if str(children[0]) not in bound:
            yield str(children[0])
    elif tree.data == "member_dot_arg" and str(children[1]) in _MACROS and len(children) > 2:
        yield from _free_names(children[0], bound)
        arguments: Sequence[Any] = children[2].children
        count = 2 if str(children[1]) == "reduce" else 1
        names = {str(each.children[0]) for argument in arguments[:count] for each in argument.find_data("ident")}
        for argument in arguments[count:]:
            yield from _free_names(argument, bound | names)
    else:
        for child in children:
            if hasattr(child, "data"):
                yield from _free_names(child, bound)


def _functions(tree: Any) -> Iterator[str]:
    for node in tree.find_data("ident_arg"):
        yield str(node.children[0])
    for node in tree.find_data("member_dot_arg"):
        yield str(node.children[1])


def _said(error: Exception) -> str:
    """The beginning of what the library says: its messages hold whole documents."""
    said = str(error.args[0]) if error.args else type(error).__name__
    if said.startswith("found no matching overload for"):
        return "an operator stands between values of types that it is not for"
    text = " ".join(said.split()).encode("utf-8", "replace").decode()
    return text if len(text) <= 160 else f"{text[:157]}..."
