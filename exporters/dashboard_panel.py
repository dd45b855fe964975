"""One panel of a Grafana dashboard: what it asks Prometheus, and how the answer is shown.

The JSON is Grafana's classic model, as `@grafana/schema` 13.2.3 defines it (schemaVersion 42); Grafana 9 and later read it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, Literal

DATASOURCE: Mapping[str, str] = {"type": "prometheus", "uid": "${datasource}"}
"""Every query goes to the data source that the reader has chosen."""

PanelKind = Literal["timeseries", "stat", "table", "state-timeline", "heatmap"]
Unit = Literal["none", "short", "s", "percentunit", "bytes", "ops", "m", "dateTimeAsIso"]
"""Grafana's names of units."""
Colour = Literal["green", "orange", "red", "blue", "purple", "text"]


@dataclass(frozen=True, slots=True)
class Threshold:
    """From this value on, a value has this colour."""

    value: float
    colour: Colour


@dataclass(frozen=True, slots=True)
class Named:
    """A value that is shown as a word: 1 is `up`."""

    value: int
    text: str
    colour: Colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One PromQL expression with Grafana's variables in it."""

    expression: str
    legend: str = ""
    """`{{probe}}` stands for a label. In a table it is the title of the column."""
    instant: bool = False
    """Only the latest value is asked for, as tables and totals over the shown time need it."""
    unit: Unit | None = None
    """Of a column of a table; the panel's unit when it is not given."""
    names: Sequence[Named] = ()
    """Of a column of a table: values that are shown as words."""
    hidden: bool = False
    """Whether a table shows its labels only: of an `…_info` metric the value is 1."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where a click on a value leads. The address may hold Grafana's variables."""

    title: str
    url: str


UP_OR_DOWN = (Named(0, "down", "red"), Named(1, "up", "green"))
YES_IS_BAD = (Named(0, "no", "green"), Named(1, "yes", "red"))
YES_IS_GOOD = (Named(0, "no", "red"), Named(1, "yes", "green"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel, sized in Grafana's units: a dashboard is 24 wide, a unit of height is 30 pixels."""

    title: str
    description: str
    """What it shows and what to conclude from it: Grafana shows it beside the title."""
    queries: Sequence[Query]
    kind: PanelKind = "timeseries"
    unit: Unit = "short"
    base: Colour = "green"
    """The colour below the first threshold."""
    thresholds: Sequence[Threshold] = ()
    names: Sequence[Named] = ()
    links: Sequence[Link] = ()
    stacked: bool = False
    empty: str = ""
    """What it means that there is nothing to show, for panels of which that is the usual state."""
    width: int = 12
    height: int = 8

    def classic(self, number: int, *, x: int, y: int) -> dict[str, Any]:
        """The panel as JSON at a place of the dashboard."""
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": dict(DATASOURCE),
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "fieldConfig": self.field_config(),
            "options": self.options(),
            "targets": [
                {
                    "refId": ref,
                    "datasource": dict(DATASOURCE),
                    "editorMode": "code",
                    "expr": query.expression,
                    "legendFormat": query.legend or "__auto",
                    "instant": query.instant,
                    "range": not query.instant,
                    "format": self.format(),
                }
                for ref, query in self.by_ref().items()
            ],
            "transformations": self.transformations(),
        }

    def by_ref(self) -> dict[str, Query]:
        """The queries by the letters that Grafana refers to them with."""
        return dict(zip(ascii_uppercase, self.queries, strict=False))

    def format(self) -> str:
        """In which form Prometheus' answer is wanted."""
        return {"table": "table", "heatmap": "heatmap"}.get(self.kind, "time_series")

    def field_config(self) -> dict[str, Any]:
        """Unit, colours, words and links of all values, and what single columns have of their own."""
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "color": {"mode": "palette-classic" if self.kind == "timeseries" else "thresholds"},
            "thresholds": {
                "mode": "absolute",
                "steps": [
                    {"color": self.base, "value": None},
                    *({"color": each.colour, "value": each.value} for each in self.thresholds),
                ],
            },
            "mappings": _mappings(self.names),
            "links": [{"title": link.title, "url": link.url, "targetBlank": False} for link in self.links],
            "custom": self._custom(),
        }
        if self.empty:
            defaults["noValue"] = self.empty
        return {"defaults": defaults, "overrides": self._columns() if self.kind == "table" else []}

    def _custom(self) -> dict[str, Any]:
        if self.kind == "timeseries":
            return {
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": 30 if self.stacked else 10,
                "showPoints": "auto",
                # A gap is a gap: a probe that was broken or away said nothing, and no line may pretend that it did.
                "spanNulls": False,
                "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
            }
        if self.kind == "state-timeline":
            return {"lineWidth": 0, "fillOpacity": 80, "spanNulls": False}
        return {}

    def options(self) -> dict[str, Any]:
        """What a panel of its kind is told beside the fields."""
        match self.kind:
            case "timeseries":
                return {
                    "legend": {
                        "displayMode": "table",
                        "placement": "bottom",
                        "showLegend": True,
                        "calcs": ["lastNotNull", "max"],
                    },
                    "tooltip": {"mode": "multi", "sort": "desc"},
                }
            case "stat":
                return {
                    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                    "colorMode": "background",
                    "graphMode": "none",
                    "textMode": "auto",
                    "justifyMode": "auto",
                    "orientation": "auto",
                }
            case "table":
                return {"showHeader": True, "cellHeight": "sm", "sortBy": []}
            case "state-timeline":
                return {
                    "mergeValues": True,
                    "showValue": "never",
                    "rowHeight": 0.8,
                    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                    "tooltip": {"mode": "single", "sort": "none"},
                }
            case "heatmap":
                return {
                    "calculate": False,
                    "yAxis": {"unit": self.unit},
                    "color": {"mode": "scheme", "scheme": "Blues", "steps": 32},
                    "cellGap": 1,
                    "legend": {"show": True},
                    "tooltip": {"mode": "single"},
                }

    def transformations(self) -> list[dict[str, Any]]:
        """A table has one row for each set of labels, whichever query gave the values."""
        if self.kind != "table":
            return []
        left_out = {"Time": True} | {self._column(ref): True for ref, query in self.by_ref().items() if query.hidden}
        return [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": left_out, "indexByName": {}, "renameByName": {}}},
        ]

    def _column(self, ref: str) -> str:
        """What Grafana calls the values of a query."""
        return "Value" if len(self.queries) == 1 else f"Value #{ref}"

    def _columns(self) -> list[dict[str, Any]]:
        return [
            {
                "matcher": {"id": "byName", "options": self._column(ref)},
                "properties": [
                    {"id": "displayName", "value": query.legend or self.title},
                    {"id": "unit", "value": query.unit or self.unit},
                    *(
                        (
                            {"id": "mappings", "value": _mappings(query.names)},
                            {"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}},
                        )
                        if query.names
                        else ()
                    ),
                ],
            }
            for ref, query in self.by_ref().items()
            if not query.hidden
        ]


def _mappings(names: Sequence[Named]) -> list[dict[str, Any]]:
    return [
        {"type": "value", "options": {str(each.value): {"text": each.text, "color": each.colour, "index": index}}}
        for index, each in enumerate(names)
    ]
