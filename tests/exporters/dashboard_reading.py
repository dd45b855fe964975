"""What dashboards ask, as plain PromQL: Grafana's variables filled in, selectors and labels taken out."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

EVERYTHING: Mapping[str, str] = {"__rate_interval": "15s", "__range": "1m", "datasource": "prometheus"}
"""What Grafana puts in itself; the values of lists come from the dashboard: `All`."""
ONE = "secure"
"""The probe that is chosen where there is no `All`."""
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::\w+)?\}|(?P<bare>\w+))")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)?\{(?P<matchers>[^{}]*)\}")
_MATCHER = re.compile(r'(?P<label>\w+)\s*(?P<how>=~|!~|!=|=)\s*"(?P<value>(?:[^"\\]|\\.)*)"')
_GROUPING = re.compile(r"\b(by|on|without|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_WORD = re.compile(r"[a-zA-Z_:][\w:]*")
KEYWORDS = frozenset({"and", "or", "unless", "bool", "by", "on", "without", "offset", "group_left", "group_right"})


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition of a selector."""

    label: str
    how: str
    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric with its conditions. The name is empty when a condition on `__name__` stands for it."""

    name: str
    matchers: tuple[Matcher, ...]
    text: str


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with Grafana's variables replaced. Raises KeyError for one that nobody defines."""
    return _VARIABLE.sub(lambda found: values[found["braced"] or found["bare"]], text)


def all_chosen(dashboard: Json) -> dict[str, str]:
    """The value of each variable while `All` is chosen in every list that has it."""
    chosen = dict(EVERYTHING)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            chosen[variable["name"]] = variable["allValue"] or ONE
        elif variable["type"] == "textbox":
            chosen[variable["name"]] = variable["query"]
    return chosen


def panels(dashboard: Json) -> Iterator[Json]:
    """Everything but the rows."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def expressions(dashboard: Json) -> Iterator[tuple[str, str]]:
    """Every PromQL expression with where it stands, Grafana's variables still in it."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield f"{dashboard['uid']} / {panel['title']} / {target['refId']}", target["expr"]
    for mark in dashboard["annotations"]["list"]:
        if "expr" in mark:
            yield f"{dashboard['uid']} / annotation {mark['name']}", mark["expr"]


def selectors(expression: str) -> list[Selector]:
    """All of them. Raises ValueError for a word that is no function and no keyword: a metric without a selector."""
    found = [
        Selector(
            match["name"] or "",
            tuple(Matcher(m["label"], m["how"], m["value"]) for m in _MATCHER.finditer(match["matchers"])),
            match[0],
        )
        for match in _SELECTOR.finditer(expression)
    ]
    rest = _GROUPING.sub(" ", _SELECTOR.sub(" ", expression))
    rest = re.sub(r"\[[^\]]*\]", " ", _STRING.sub(" ", rest))
    for word in _WORD.finditer(rest):
        called = rest[word.end() :].lstrip().startswith("(")
        if not called and word[0] not in KEYWORDS:
            raise ValueError(f"{word[0]} stands without a selector in: {expression}")
    return found


def grouped_labels(expression: str) -> set[str]:
    """The labels that it groups or joins by."""
    return {
        label.strip()
        for _, labels in _GROUPING.findall(_SELECTOR.sub(" ", expression))
        for label in labels.split(",")
        if label.strip()
    }


def legend_labels(legend: str) -> set[str]:
    """The labels in a legend."""
    return set(re.findall(r"\{\{\s*(\w+)\s*\}\}", legend))
