"""Templates for titles and texts: what Jinja calls expressions, filters, `if` and `for`, and nothing else of it.

A template is part of the configuration, and what it shows comes from targets, which may be hostile. So nothing can be called,
no attribute of a Python object can be reached, every loop goes over something that is there, and what comes out has an end.

https://jinja.palletsprojects.com/en/stable/templates/
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import StrictUndefined, Template, TemplateError, TemplateRuntimeError, TemplateSyntaxError, nodes
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from stormwatch.exporters.message import Message, Why, subject_of, text_of
from stormwatch.exporters.notification import Notification, rfc3339

LONGEST_SOURCE: Final = 8000
"""Characters of a template."""
LONGEST_TITLE: Final = 500
"""Characters of what a title may become."""
LONGEST_BODY: Final = 20_000
"""Characters of what a text may become."""
MOST_ALERTS: Final = 100
"""Alerts that a template sees: `count` says how many there are."""
DEEPEST: Final = 2
"""Loops within each other."""
FILTERS: Final = frozenset(
    {"capitalize", "default", "dictsort", "first", "join", "last", "length", "lower", "replace", "sort", "title"}
    | {"trim", "truncate", "unique", "upper"}
)
NAMES: Final = ("status", "severity", "why", "title", "text", "incident", "group", "alerts", "count", "page")
"""What a template of a channel can say."""

_ALLOWED: Final = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem),
    *(nodes.If, nodes.For, nodes.Filter, nodes.Test, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.Tuple),
    *(nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Keyword),
)
_LOOP: Final = frozenset({"index", "first", "last", "length"})
_TESTS: Final = frozenset({"defined", "undefined", "in", "none"})


class TemplateMistake(ValueError):
    """A template that can never be used. Says what is wrong and in which line of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a message says. Empty: the standard text of its channel."""

    title: str = ""
    body: str = ""
    trouble: str = ""
    """Why a template could not be used for this message; the standard text says so."""


class Line:
    """One template, compiled."""

    def __init__(self, source: str, *, names: frozenset[str] = frozenset(NAMES), longest: int = LONGEST_BODY) -> None:
        """Raises TemplateMistake. `names` are the variables that it may use, `longest` what may come out."""
        self._longest = longest
        self._template = _compiled(source, names)

    def render(self, values: Mapping[str, Any]) -> str:
        """What comes of it, cut where it gets too long. Raises TemplateError for what is not there."""
        parts: list[str] = []
        length = 0
        for part in self._template.generate(values):
            parts.append(part)
            length += len(part)
            if length > self._longest:
                return f"{''.join(parts)[: self._longest - 1]}…"
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Templates:
    """The title and the text of a channel."""

    title: Line | None = None
    body: Line | None = None

    def words(self, message: Message) -> Words:
        """What a message says. A template that fails for this message is told in the standard text, and never keeps it back."""
        values = values_of(message)
        try:
            title = " ".join(self.title.render(values).split()) if self.title else ""
            body = self.body.render(values).strip() if self.body else ""
        except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError, RecursionError) as error:
            trouble = f"the template of this channel failed, so this is the standard text: {error}"
            return Words(body=f"{text_of(message)}\n({trouble})", trouble=trouble)
        return Words(title=title, body=body)


STANDARD: Final = Templates()
"""The words of a channel that has none of its own."""


def line_of(source: str, *, longest: int) -> Line:
    """Compile a template and try it on a sample. Raises TemplateMistake: a mistake is found when the file is read."""
    line = Line(source, longest=longest)
    try:
        line.render(_SAMPLE)
    except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError, RecursionError) as error:
        raise TemplateMistake(f"it cannot be used: {error}") from error
    return line


def values_of(message: Message) -> dict[str, Any]:
    """What a template of a channel sees of a message: texts, numbers, lists and mappings only."""
    return {
        "status": message.status,
        "severity": message.severity,
        "why": message.why.value,
        "title": message.title,
        "text": text_of(message),
        "incident": message.incident,
        "group": dict(message.group),
        "count": len(message.alerts),
        "page": message.page,
        "alerts": [
            {
                "name": each.labels.get("alertname", "alert"),
                "subject": subject_of(each),
                "status": each.status,
                "severity": each.labels.get("severity", ""),
                "labels": dict(each.labels),
                "annotations": dict(each.annotations),
                "since": rfc3339(each.starts_at),
                "until": "" if each.ends_at is None else rfc3339(each.ends_at),
                "fingerprint": each.fingerprint,
                "acknowledged_by": message.acknowledged.get(each.fingerprint, ""),
                "link": each.generator_url or message.page,
            }
            for each in itertools.islice(message.alerts, MOST_ALERTS)
        ],
    }


class _Environment(ImmutableSandboxedEnvironment):
    """Keys of mappings and places of lists, however they are written; attributes of objects never."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, LoopContext) and attribute in _LOOP:
            return getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Mapping | list | str):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                pass
        return self.undefined(obj=obj, name=argument)


def _compiled(source: str, names: frozenset[str]) -> Template:
    if len(source) > LONGEST_SOURCE:
        raise TemplateMistake(f"it has {len(source):,} characters; {LONGEST_SOURCE:,} are allowed")
    try:
        parsed = _ENVIRONMENT.parse(source)
        _check(parsed, depth=0)
        unknown = sorted(find_undeclared_variables(parsed) - names)
        if unknown:
            raise TemplateMistake(f"it knows no {unknown[0]}; there are {', '.join(sorted(names))}")
        return _ENVIRONMENT.from_string(source)
    except TemplateSyntaxError as error:
        raise TemplateMistake(f"line {error.lineno} of it: {error.message}") from error


def _check(node: nodes.Node, *, depth: int) -> None:
    """Refuse what a text does not need."""
    line = f"line {node.lineno} of it"
    if not isinstance(node, _ALLOWED):
        raise TemplateMistake(f"{line}: {type(node).__name__.lower()} is not part of this template language")
    if isinstance(node, nodes.Filter) and node.name not in FILTERS:
        raise TemplateMistake(f"{line}: there is no filter {node.name}; there are {', '.join(sorted(FILTERS))}")
    if isinstance(node, nodes.Test) and node.name not in _TESTS:
        raise TemplateMistake(f"{line}: there is no test {node.name}; there are {', '.join(sorted(_TESTS))}")
    if isinstance(node, nodes.For):
        if node.recursive or depth == DEEPEST:
            raise TemplateMistake(f"{line}: loops may stand {DEEPEST} deep")
        depth += 1
    for child in node.iter_child_nodes():
        _check(child, depth=depth)


def _replaced(text: str, old: str, new: str) -> str:
    """Python's, with an end: some of them in a row would make a text of any length from a short template."""
    if len(text) + str(text).count(old) * len(new) > LONGEST_BODY:
        raise TemplateRuntimeError(f"what replace makes is longer than {LONGEST_BODY:,} characters")
    return str(text).replace(old, new)


class _Any(dict[str, str]):
    """Labels of which any may be there."""

    def __missing__(self, name: str) -> str:
        return name


def _sample() -> dict[str, Any]:
    alert = Notification(labels={"alertname": "ProbeDown", "probe": "shop", "severity": "page"}, starts_at=0.0)
    message = Message(incident="0", sequence=0, why=Why.FIRST, group=alert.labels, alerts=(alert,), page="http://x/")
    values = values_of(message)
    values["group"] = _Any(alert.labels)
    for each in values["alerts"]:
        each |= {"labels": _Any(alert.labels), "annotations": _Any(summary="shop is down")}
    return values


_ENVIRONMENT: Final = _Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.globals.clear()
_REST: Final[Any] = _ENVIRONMENT.filters  # its type lists each filter that jinja2 has
for _name in set(_REST) - FILTERS:
    del _REST[_name]
_REST["replace"] = _replaced
_SAMPLE: Final = _sample()
