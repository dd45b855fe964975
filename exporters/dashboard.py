"""A Grafana dashboard: variables, rows of panels, what is marked on every graph, and the JSON of all that."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from stormwatch.exporters.dashboard_panel import DATASOURCE, Colour, Panel

SCHEMA_VERSION = 42
"""Of the classic model; an older Grafana ignores what it does not know, a newer one migrates it."""
TAG = "stormwatch"
"""All dashboards of the set have it, and find each other by it."""
WIDTH = 24
GRAFANA = {"type": "grafana", "uid": "-- Grafana --"}
"""The data source of what Grafana itself stores, for annotations that deployments post there."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A list that the reader chooses from: the values of a label."""

    name: str
    label: str
    values: str
    """The series whose label is listed."""
    of: str = ""
    """The label, when it is not called as the variable is."""
    every: str = ".*"
    """What `All` stands for. `.*` also keeps series that do not have the label, `.+` does not. Empty: there is no `All`."""

    @property
    def query(self) -> str:
        """As Grafana's Prometheus data source wants it."""
        return f"label_values({self.values}, {self.of or self.name})"


@dataclass(frozen=True, slots=True)
class Text:
    """A text that the reader may change, as the address of the status page."""

    name: str
    label: str
    default: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What is marked on every graph while an expression has a value above zero."""

    name: str
    expression: str
    title: str
    text: str
    colour: Colour


@dataclass(frozen=True, slots=True)
class Row:
    """Panels below a heading, from left to right, continued in the next line when one does not fit."""

    title: str
    panels: Sequence[Panel]

    def placed(self) -> Iterator[tuple[Panel, int, int]]:
        """Each panel with its x and y, the row's first line being 0."""
        x = y = height = 0
        for panel in self.panels:
            if x + panel.width > WIDTH:
                x, y, height = 0, y + height, 0
            yield panel, x, y
            x, height = x + panel.width, max(height, panel.height)

    @property
    def height(self) -> int:
        """Of all its lines, without the heading."""
        return max(y + panel.height for panel, _, y in self.placed())


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard of the set."""

    name: str
    """Names the file, and with the tag before it the uid: addresses stay the same through upgrades."""
    title: str
    description: str
    variables: Sequence[Variable | Text]
    rows: Sequence[Row]
    marks: Sequence[Mark] = ()
    since: str = "now-6h"

    @property
    def uid(self) -> str:
        """What addresses have: `/d/<uid>`. Grafana allows 40 characters."""
        return f"{TAG}-{self.name}"

    @property
    def panels(self) -> Iterator[Panel]:
        """All panels, whichever row they stand in."""
        for row in self.rows:
            yield from row.panels

    def classic(self) -> dict[str, Any]:
        """The classic model, as a file for provisioning or for Grafana's import."""
        return {
            "annotations": {"list": [_grafanas_own(), _deployments(), *map(_mark, self.marks)]},
            "description": self.description,
            "editable": False,
            "fiscalYearStartMonth": 0,
            "graphTooltip": 1,
            "id": None,
            "links": [_siblings()],
            "liveNow": False,
            "panels": list(self._placed()),
            "preload": False,
            "refresh": "30s",
            "schemaVersion": SCHEMA_VERSION,
            "tags": [TAG],
            "templating": {"list": [_datasource(), *map(_variable, self.variables)]},
            "time": {"from": self.since, "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "title": f"stormwatch / {self.title}",
            "uid": self.uid,
            "version": 1,
            "weekStart": "",
        }

    def _placed(self) -> Iterator[dict[str, Any]]:
        number = y = 0
        for row in self.rows:
            number += 1
            yield {
                "id": number,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y},
                "panels": [],
            }
            for panel, x, below in row.placed():
                number += 1
                yield panel.classic(number, x=x, y=y + 1 + below)
            y += 1 + row.height


def _datasource() -> dict[str, Any]:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
    }


def _variable(variable: Variable | Text) -> dict[str, Any]:
    if isinstance(variable, Text):
        chosen = {"text": variable.default, "value": variable.default}
        return {
            "type": "textbox",
            "name": variable.name,
            "label": variable.label,
            "query": variable.default,
            "current": chosen,
            "hide": 0,
            "options": [{**chosen, "selected": True}],
            "skipUrlSync": False,
        }
    return {
        "type": "query",
        "name": variable.name,
        "label": variable.label,
        "datasource": dict(DATASOURCE),
        "definition": variable.query,
        "query": {"qryType": 1, "query": variable.query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        # Without one that is chosen, Grafana takes the first of the list.
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]} if variable.every else {},
        "allValue": variable.every or None,
        "includeAll": bool(variable.every),
        "multi": True,
        "hide": 0,
        "options": [],
        # Probes come and go: the lists are asked for again whenever another time is shown.
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
    }


def _mark(mark: Mark) -> dict[str, Any]:
    return {
        "datasource": dict(DATASOURCE),
        "enable": True,
        "expr": mark.expression,
        "hide": False,
        "iconColor": mark.colour,
        "name": mark.name,
        "titleFormat": mark.title,
        "textFormat": mark.text,
        # The usual scrape interval: what is there for one scrape only falls on a step.
        "step": "15s",
        "useValueForTime": False,
    }


def _grafanas_own() -> dict[str, Any]:
    return {
        "builtIn": 1,
        "datasource": dict(GRAFANA),
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    }


def _deployments() -> dict[str, Any]:
    """What a pipeline posts to Grafana's `/api/annotations` with the tag `deploy`."""
    return {
        "datasource": dict(GRAFANA),
        "enable": True,
        "hide": False,
        "iconColor": "blue",
        "name": "Deployments",
        "target": {"type": "tags", "tags": ["deploy"], "matchAny": True, "limit": 100},
    }


def _siblings() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "stormwatch",
        "tags": [TAG],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "icon": "external link",
        "targetBlank": False,
        "tooltip": "The other dashboards, at the same time and for the same probes",
        "url": "",
    }
