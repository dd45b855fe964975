"""Our dashboards without a Grafana: each panel with what a live Prometheus answers it, as a page for a person to look at.

    python -m tests.servers.dashboard_page http://127.0.0.1:9090 --last 5m

It draws plainly what Grafana would draw: the places, the titles, the data, the empty panels. Colours by threshold and words for
values are taken from the panels, so that a wrong one is seen, too.
"""

import argparse
import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

from stormwatch.exporters.dashboards import DASHBOARDS
from stormwatch.probes.units import parse_duration
from tests.exporters import dashboard_reading as reading
from tests.exporters.dashboard_reading import Json

COLOURS = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0", "#508642", "#cca300")
NAMED = {
    "green": "#56a64b",
    "orange": "#ff9830",
    "red": "#e02f44",
    "blue": "#3274d9",
    "purple": "#a352cc",
    "text": "#555",
}
SHADE = "#e02f44"


class Prometheus:
    """The queries that Grafana makes."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def at(self, expression: str, moment: float) -> list[Json]:
        """The value of each series at a moment. Raises AssertionError with Prometheus' words when it refuses."""
        return self._get("query", query=expression, time=moment)["result"]

    def between(self, expression: str, start: float, end: float, step: float) -> list[Json]:
        """Their values over a time."""
        return self._get("query_range", query=expression, start=start, end=end, step=step)["result"]

    def series(self, selector: str, start: float, end: float) -> list[dict[str, str]]:
        """The labels of all series that there were."""
        return self._get("series", **{"match[]": selector}, start=start, end=end)

    def _get(self, what: str, **asked: object) -> Any:
        address = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{json.load(error)['error']}: {asked}") from error


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a panel, as it is shown."""

    ref: str
    legend: str
    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        """What a number shows."""
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class Shown:
    """A panel with what there is to show in it."""

    panel: Json
    lines: Sequence[Line]
    silent: Sequence[str]
    """The letters of queries that no series answered."""


@dataclass(frozen=True, slots=True)
class Span:
    """The shown time in Unix seconds, and what follows from it."""

    start: float
    end: float
    step: float = 1.0

    @property
    def values(self) -> dict[str, str]:
        """What Grafana fills in, for a Prometheus that scrapes every `step`."""
        return {
            "__range": f"{max(1, round(self.end - self.start))}s",
            "__rate_interval": f"{max(4, round(4 * self.step))}s",
        }


def shown(dashboard: Json, prometheus: Prometheus, span: Span) -> list[Shown]:
    """Ask everything that a dashboard asks while `All` is chosen in each list."""
    values = {**reading.all_chosen(dashboard), **span.values}
    return [_shown(panel, prometheus, span, values) for panel in reading.panels(dashboard)]


def _shown(panel: Json, prometheus: Prometheus, span: Span, values: Mapping[str, str]) -> Shown:
    lines: list[Line] = []
    silent: list[str] = []
    for target in panel["targets"]:
        expression = reading.filled(target["expr"], values)
        if target["instant"]:
            found = [(each["metric"], [each["value"]]) for each in prometheus.at(expression, span.end)]
        else:
            answer = prometheus.between(expression, span.start, span.end, span.step)
            found = [(each["metric"], each["values"]) for each in answer]
        told = [
            Line(target["refId"], _legend(target["legendFormat"], labels), labels, points)
            for labels, texts in found
            if (points := [(float(at), float(text)) for at, text in texts if not math.isnan(float(text))])
        ]
        lines += told
        if not told:
            silent.append(target["refId"])
    return Shown(panel, lines, silent)


def _legend(form: str, labels: Mapping[str, str]) -> str:
    if form == "__auto":
        return ", ".join(f"{name}={value}" for name, value in labels.items()) or "value"
    for label in reading.legend_labels(form):
        form = form.replace("{{" + label + "}}", labels.get(label, ""))
    return form


# Drawing.


def page(dashboard: Json, panels: Iterable[Shown], span: Span) -> str:
    """A dashboard as HTML, without scripts."""
    by_id = {each.panel["id"]: each for each in panels}
    parts: list[str] = []
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        where = f"grid-column:{place['x'] + 1}/span {place['w']};grid-row:{place['y'] + 1}/span {place['h']}"
        if panel["type"] == "row":
            parts.append(f'<h2 style="{where}">{escape(panel["title"])}</h2>')
            continue
        each = by_id[panel["id"]]
        state = "" if each.lines else " empty"
        parts.append(
            f'<section class="panel{state}" style="{where}" title="{escape(panel["description"])}">'
            f"<h3>{escape(panel['title'])}</h3>{_body(each, span)}</section>"
        )
    links = " · ".join(f'<a href="/{name.name}">{escape(name.title)}</a>' for name in DASHBOARDS)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(dashboard['title'])}</title>"
        f"<style>{_STYLE}</style><h1>{escape(dashboard['title'])}</h1><nav>{links}</nav>"
        f"<p>{escape(dashboard['description'])}</p><main>{''.join(parts)}</main></html>"
    )


def _body(each: Shown, span: Span) -> str:
    if not each.lines:
        words = each.panel["fieldConfig"]["defaults"].get("noValue", "")
        return f'<div class="nothing">{escape(words) or "NO DATA"}</div>'
    match each.panel["type"]:
        case "stat":
            return _stat(each)
        case "table":
            return _table(each)
        case "state-timeline":
            return _states(each, span)
        case "heatmap":
            return _heat(each, span)
        case _:
            return _graph(each, span)


def _stat(each: Shown) -> str:
    defaults = each.panel["fieldConfig"]["defaults"]
    named = len(each.lines) > 1 or defaults["mappings"]
    return (
        '<div class="stats">'
        + "".join(
            f'<b style="background:{_colour(line.last, defaults)}">{escape(_value(line.last, defaults))}'
            + (f"<small>{escape(line.legend)}</small>" if named else "")
            + "</b>"
            for line in each.lines
        )
        + "</div>"
    )


def _table(each: Shown) -> str:
    defaults = each.panel["fieldConfig"]["defaults"]
    targets = {target["refId"]: target for target in each.panel["targets"]}
    own = {
        override["matcher"]["options"].removeprefix("Value #"): {p["id"]: p["value"] for p in override["properties"]}
        for override in each.panel["fieldConfig"]["overrides"]
    }
    columns = {ref: own[ref if ref in own else "Value"] for ref in targets if ref in own or "Value" in own}
    rows = _merged(each.lines)
    names = list(dict.fromkeys(name for labels, _ in rows for name in labels))
    head = "".join(f"<th>{escape(name)}" for name in (*names, *(column["displayName"] for column in columns.values())))
    body = ""
    for labels, cells in rows:
        body += "<tr>" + "".join(f"<td>{escape(labels.get(name, ''))}" for name in names)
        for ref, column in columns.items():
            form = {**defaults, **column}
            colour = f' style="background:{_colour(cells[ref], form)}"' if ref in cells and "mappings" in column else ""
            body += f"<td{colour}>{escape(_value(cells[ref], form)) if ref in cells else ''}"
    return f'<div class="scroll"><table><tr>{head}{body}</table></div>'


def _merged(lines: Sequence[Line]) -> list[tuple[dict[str, str], dict[str, float]]]:
    """As Grafana's transformation `merge` does: a row for what is equal in the labels that all queries have."""
    refs = {line.ref for line in lines}
    common = set.intersection(*({name for line in lines if line.ref == ref for name in line.labels} for ref in refs))
    rows: list[tuple[dict[str, str], dict[str, float]]] = []
    for line in lines:
        for labels, cells in rows:
            alike = all(labels.get(name) == line.labels.get(name) for name in common)
            if alike and line.ref not in cells and all(labels.get(n, v) == v for n, v in line.labels.items()):
                labels.update(line.labels)
                cells[line.ref] = line.last
                break
        else:
            rows.append((dict(line.labels), {line.ref: line.last}))
    return rows


def _states(each: Shown, span: Span) -> str:
    defaults = each.panel["fieldConfig"]["defaults"]
    rows = ""
    for line in each.lines:
        bars = "".join(
            f'<i style="left:{_share(at, span)}%;width:{100 * span.step / (span.end - span.start):.3f}%;'
            f'background:{_colour(value, defaults)}"></i>'
            for at, value in line.points
        )
        rows += f"<tr><td>{escape(line.legend)}<td class=bar>{bars}"
    return f'<div class="scroll"><table class=states>{rows}</table></div>'


def _heat(each: Shown, span: Span) -> str:
    """The buckets are cumulative, as Grafana's format `heatmap` knows: what is above the bucket below is drawn."""
    ordered = sorted(each.lines, key=lambda line: float(line.labels["le"]))
    below: dict[float, float] = {}
    rows: list[str] = []
    for line in ordered:
        own = {at: value - below.get(at, 0.0) for at, value in line.points}
        below = dict(line.points)
        cells = "".join(
            f'<i style="left:{_share(at, span)}%;width:{100 * span.step / (span.end - span.start):.3f}%;'
            f'background:rgba(50,116,217,{min(1.0, value / 10):.2f})"></i>'
            for at, value in own.items()
            if value > 0
        )
        rows.append(f"<tr><td>{escape(line.labels['le'])} s<td class=bar>{cells}")
    return f'<div class="scroll"><table class=states>{"".join(reversed(rows))}</table></div>'


def _graph(each: Shown, span: Span) -> str:
    defaults = each.panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    below: dict[float, float] = {}
    drawn: list[list[tuple[float, float]]] = []
    for line in each.lines:
        points = [(at, value + below.get(at, 0.0) if stacked else value) for at, value in line.points]
        below |= dict(points)
        drawn.append(points)
    finite = [value for points in drawn for _, value in points if math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    high = high if high > low else low + 1
    paths = ""
    for number, told in enumerate(drawn):
        points = [(at, value) for at, value in told if math.isfinite(value)]
        steps = [f"{_share(at, span) * 10:.1f},{100 - 100 * (value - low) / (high - low):.1f}" for at, value in points]
        colour = COLOURS[number % len(COLOURS)]
        gaps = [at for at, (one, other) in enumerate(pairwise(points), 1) if other[0] - one[0] > 1.5 * span.step]
        for start, end in pairwise([0, *gaps, len(steps)]):
            paths += f'<polyline points="{" ".join(steps[start:end])}" stroke="{colour}"/>'
        paths += "".join(
            f'<rect x="{float(x) - 2:.1f}" y="{float(y) - 1:.1f}" width="4" height="2" fill="{colour}"/>'
            for x, y in (step.split(",") for step in steps)
        )
    legend = "".join(
        f'<li style="color:{COLOURS[number % len(COLOURS)]}">{escape(line.legend)} '
        f"<span>{escape(_value(line.last, defaults))}</span>"
        for number, line in enumerate(each.lines)
    )
    return (
        f'<div class="graph"><svg viewBox="0 0 1000 100" preserveAspectRatio="none">{paths}</svg>'
        f"<em>{escape(_value(high, defaults))}</em></div><ul>{legend}</ul>"
    )


def _share(at: float, span: Span) -> float:
    return 100 * (at - span.start) / (span.end - span.start)


def _colour(value: float, defaults: Json) -> str:
    for mapping in defaults["mappings"]:
        if f"{value:g}" in mapping["options"]:
            return NAMED[mapping["options"][f"{value:g}"]["color"]]
    steps = defaults["thresholds"]["steps"]
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return NAMED[reached[-1]["color"]]


def _value(value: float, defaults: Json) -> str:
    for mapping in defaults["mappings"]:
        if f"{value:g}" in mapping["options"]:
            return str(mapping["options"][f"{value:g}"]["text"])
    match defaults["unit"]:
        case "percentunit":
            return f"{value:.2%}"
        case "s":
            return _duration(value)
        case "m":
            return _duration(60 * value)
        case "bytes":
            return f"{value / 1024:.1f} KiB" if abs(value) < 1 << 20 else f"{value / (1 << 20):.1f} MiB"
        case "dateTimeAsIso":
            return datetime.fromtimestamp(value / 1000, UTC).isoformat(" ", "seconds")
        case "ops":
            return f"{value:.3g}/s"
        case _:
            return f"{value:.4g}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1000 * seconds:.3g} ms"


_STYLE = """
body{background:#f4f5f5;color:#24292e;font:12px system-ui,sans-serif;margin:12px}h1{font-size:18px;margin:0}
nav,p{margin:4px 0;color:#555}main{display:grid;grid-template-columns:repeat(24,1fr);grid-auto-rows:30px;gap:4px}
h2{font-size:14px;margin:4px 0 0}.panel{background:#fff;border:1px solid #d8d9da;padding:4px 8px;overflow:hidden;
display:flex;flex-direction:column;min-height:0}h3{font-size:12px;margin:0 0 2px}.nothing{margin:auto;color:#888}
.empty{background:repeating-linear-gradient(45deg,#fff,#fff 8px,#f3f3f3 8px,#f3f3f3 16px)}
.stats{display:flex;flex-wrap:wrap;gap:2px;flex:1;min-height:0}.stats b{flex:1 0 70px;color:#fff;font-size:20px;display:flex;
flex-direction:column;align-items:center;justify-content:center;white-space:nowrap}.stats small{font-size:9px;font-weight:400}
.scroll{overflow:auto;flex:1}table{border-collapse:collapse;width:100%;white-space:nowrap}th{text-align:left;color:#3274d9}
td,th{padding:1px 8px 1px 0;border-bottom:1px solid #eee}.states td:first-child{width:270px;overflow:hidden}.states{table-layout:fixed}.bar{position:relative;min-width:100px}
.bar i{position:absolute;top:1px;bottom:1px}.graph{position:relative;flex:1;min-height:0;border-left:1px solid #ccc;
border-bottom:1px solid #ccc}.graph svg{position:absolute;width:100%;height:100%}.graph em{position:absolute;left:2px;top:0;
color:#888;font-size:10px}polyline{fill:none;stroke-width:1.5;vector-effect:non-scaling-stroke}
ul{list-style:none;margin:2px 0 0;padding:0;max-height:45%;overflow:hidden;display:flex;flex-wrap:wrap;gap:0 12px;font-size:10px}
li span{color:#24292e}
"""


def main() -> None:
    """Serve the pages on loopback, each as of the moment at which it is asked for."""
    parser = argparse.ArgumentParser(description="Our dashboards with the data of a Prometheus, without a Grafana.")
    parser.add_argument("prometheus", metavar="URL")
    parser.add_argument("--last", default="15m", metavar="DURATION")
    parser.add_argument("--port", type=int, default=9798)
    asked = parser.parse_args()
    prometheus, last = Prometheus(asked.prometheus), parse_duration(asked.last)
    models = {each.name: each.classic() for each in DASHBOARDS}

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            model = models.get(self.path.lstrip("/") or "overview")
            if model is None:
                self.send_error(404)
                return
            span = Span(time.time() - last, time.time(), max(1.0, last / 300))
            body = page(model, shown(model, prometheus, span), span).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", asked.port), Page) as server:
        print(f"http://127.0.0.1:{asked.port}/")
        server.serve_forever()


if __name__ == "__main__":
    main()
