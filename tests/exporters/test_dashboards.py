"""The Grafana dashboards: their shape, dashboard-linter's rules, PromQL that promtool reads. What they show: end_to_end."""

import json
import re
import subprocess
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from stormwatch.exporters import dashboard_provisioning
from stormwatch.exporters.dashboard_selection import ALERT_NAMES
from stormwatch.exporters.dashboards import DASHBOARDS, dashboard_json
from stormwatch.harness.catalog import KINDS
from stormwatch.slo import policy, prober
from tests.exporters import dashboard_reading as reading
from tests.program import program

CONFIG = Path(__file__).parents[2] / "config"
MODELS = {each.name: each.classic() for each in DASHBOARDS}
EVERY = pytest.mark.parametrize("name", MODELS)
TOP: dict[str, type | tuple[type, ...]] = {
    "annotations": dict,
    "description": str,
    "editable": bool,
    "fiscalYearStartMonth": int,
    "graphTooltip": int,
    "id": type(None),
    "links": list,
    "liveNow": bool,
    "panels": list,
    "preload": bool,
    "refresh": str,
    "schemaVersion": int,
    "tags": list,
    "templating": dict,
    "time": dict,
    "timepicker": dict,
    "timezone": str,
    "title": str,
    "uid": str,
    "version": int,
    "weekStart": str,
}
"""The classic model's fields, as `@grafana/schema` 13.2.3 has them: those that need a value, and those that we give."""
PANEL: dict[str, type] = {
    "id": int,
    "type": str,
    "title": str,
    "description": str,
    "datasource": dict,
    "gridPos": dict,
    "fieldConfig": dict,
    "options": dict,
    "targets": list,
    "transformations": list,
}
TARGET: dict[str, type] = {
    "refId": str,
    "datasource": dict,
    "editorMode": str,
    "expr": str,
    "legendFormat": str,
    "instant": bool,
    "range": bool,
    "format": str,
}
PANELS = {"timeseries", "stat", "table", "state-timeline", "heatmap"}
UNITS = {"none", "short", "s", "percentunit", "bytes", "ops", "m", "dateTimeAsIso"}
LISTS_OF_PROBES = {"job", "location", "kind", "service", "probe"}
WITHOUT_JOB = re.compile(r"slo:|sloth_slo_info$|ALERTS$")
"""Recorded series and ALERTS come from rules, which aggregate over what was scraped."""
COUNTER = re.compile(r".+(_total|_bucket|_sum|_count)$")


def _typed(value: dict[str, Any], fields: dict[str, Any]) -> list[str]:
    return [
        *(f"{name} is {value.get(name)!r}" for name, kind in fields.items() if not isinstance(value.get(name), kind)),
        *(f"{name} is not in the model" for name in value.keys() - fields.keys()),
    ]


@EVERY
def test_the_checked_in_file_is_what_the_code_makes(name: str) -> None:
    """Whoever takes the dashboards out of the repository gets those that are tested."""
    (dashboard,) = (each for each in DASHBOARDS if each.name == name)
    assert (CONFIG / "dashboards" / f"{name}.json").read_text() == dashboard_json(dashboard)


def test_there_is_no_file_of_a_dashboard_that_is_gone() -> None:
    """A stale file would be provisioned, too."""
    assert {path.stem for path in (CONFIG / "dashboards").iterdir()} == set(MODELS)


def test_the_provisioning_files_are_what_the_code_makes() -> None:
    """As above, and each names what the other needs."""
    written = {
        path.parent.name: yaml.safe_load(path.read_text()) for path in (CONFIG / "provisioning").glob("*/*.yaml")
    }
    assert written == {
        "datasources": dashboard_provisioning.datasource(),
        "dashboards": dashboard_provisioning.provider(),
    }


@EVERY
def test_the_model_is_grafanas_classic_one(name: str) -> None:
    """Schema 42, field by field."""
    model = MODELS[name]
    assert _typed(model, TOP) == []
    assert model["schemaVersion"] == 42
    assert re.fullmatch(r"[a-z0-9-]{1,40}", model["uid"])
    for panel in model["panels"]:
        if panel["type"] == "row":
            assert panel.keys() == {"id", "type", "title", "collapsed", "gridPos", "panels"}
            continue
        assert _typed(panel, PANEL) == []
        assert panel["type"] in PANELS
        for target in panel["targets"]:
            assert _typed(target, TARGET) == []
            assert target["instant"] != target["range"]
            assert target["format"] == {"table": "table", "heatmap": "heatmap"}.get(panel["type"], "time_series")
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None
        assert all(before["value"] < after["value"] for before, after in pairwise(steps[1:]))
    assert json.loads(json.dumps(model)) == model


def test_uids_titles_and_addresses_between_dashboards_are_of_this_set() -> None:
    """Two with one uid replace each other without a word; a link to a dashboard that is not there ends in an error."""
    assert len({model["uid"] for model in MODELS.values()}) == len(MODELS)
    assert len({model["title"] for model in MODELS.values()}) == len(MODELS)
    linked = set(re.findall(r"/d/([\w-]+)", json.dumps(list(MODELS.values()))))
    assert linked == {"stormwatch-probe"}
    assert linked <= {model["uid"] for model in MODELS.values()}


@EVERY
def test_ids_and_letters_are_unique(name: str) -> None:
    """Grafana shows one of two panels with the same id twice."""
    ids = [panel["id"] for panel in MODELS[name]["panels"]]
    assert sorted(ids) == list(range(1, len(ids) + 1))
    for panel in reading.panels(MODELS[name]):
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters), panel["title"]
    titles = [panel["title"] for panel in MODELS[name]["panels"] if panel["type"] != "row"]
    assert len(set(titles)) == len(titles)


@EVERY
def test_panels_stand_beside_and_below_each_other(name: str) -> None:
    """Within 24 columns, without an overlap, without a hole in the height of a row."""
    places = [panel["gridPos"] for panel in MODELS[name]["panels"]]
    for place in places:
        assert place["x"] >= 0
        assert place["w"] >= 1
        assert place["x"] + place["w"] <= 24
        assert place["h"] >= 1
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, f"{one} overlaps {other}"
    covered = {y for place in places for y in range(place["y"], place["y"] + place["h"])}
    assert covered == set(range(max(covered) + 1))


# The rules of Grafana's dashboard-linter, by its names for them. target-logql and target-logql-auto are about Loki.


@EVERY
def test_template_rules(name: str) -> None:
    """template-datasource, template-job, template-label-promql, template-on-time-change-reload.

    template-instance wants a list of instances; ours are probes, so a dashboard of probes has those and what sorts them.
    """
    model = MODELS[name]
    datasource, *others = model["templating"]["list"]
    assert (datasource["type"], datasource["name"], datasource["query"]) == ("datasource", "datasource", "prometheus")
    names = [variable["name"] for variable in others]
    assert names[0] == "job"
    assert set(names) >= LISTS_OF_PROBES or not set(names) & (LISTS_OF_PROBES - {"job", "service"})
    seen = {"datasource"}
    for variable in others:
        if variable["type"] == "textbox":
            assert variable["current"]["value"] == variable["query"]
            continue
        assert variable["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert (variable["refresh"], variable["multi"]) == (2, True)
        if (name, variable["name"]) == ("probe", "probe"):
            assert (variable["includeAll"], variable["allValue"], variable["current"]) == (False, None, {})
        else:
            assert variable["includeAll"]
            assert variable["allValue"] == (".*" if variable["label"] == "Service" and "probe" in names else ".+")
        found = re.fullmatch(r"label_values\((?P<series>.+), (?P<label>\w+)\)", variable["query"]["query"])
        assert found
        assert found["label"] in {variable["name"], f"sloth_{variable['name']}"}
        used = set(re.findall(r"\$(\w+)", found["series"]))
        assert used <= seen, f"{variable['name']} uses what is chosen after it"
        seen.add(variable["name"])


@EVERY
def test_panel_rules(name: str) -> None:
    """panel-datasource, panel-title-description, panel-units, panel-no-targets, uneditable-dashboard."""
    assert MODELS[name]["editable"] is False
    for panel in reading.panels(MODELS[name]):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"]
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


@EVERY
def test_target_rules(name: str) -> None:
    """target-job, target-instance, target-rate-interval, target-counter-agg.

    target-job is about what was scraped: recorded series have no job. target-instance is about probes here, as above; the
    prober's own dashboard adds up its probes. A range is one of Grafana's two, so that what is shown fits the shown time.
    """
    has_probes = "probe" in {variable["name"] for variable in MODELS[name]["templating"]["list"]}
    for where, expression in reading.expressions(MODELS[name]):
        asked = reading.selectors(expression)
        assert asked, where
        for selector in asked:
            kept = {matcher.label: matcher for matcher in selector.matchers}
            family = selector.name or kept["__name__"].value
            if not WITHOUT_JOB.match(family):
                assert kept["job"].how == "=~", where
                assert kept["job"].value == "$job", where
            if has_probes and family.startswith(("probe_", "stormwatch_probe_")):
                assert kept["probe"].value == "$probe", where
            if COUNTER.fullmatch(selector.name):
                call = re.compile(
                    r"\b(rate|increase)\(" + re.escape(selector.text) + r"\[\$__(rate_interval|range)\]\)"
                )
                assert call.search(expression), f"{where}: {selector.name} is a counter"
        for span in re.findall(r"\[([^\]]+)\]", expression):
            assert re.fullmatch(r"\$__rate_interval|\$__range(:\d+s)?", span), where


def test_promtool_reads_every_expression(tmp_path: Path) -> None:
    """target-promql: with `All` chosen in each list, and with one value that has to be escaped in none."""
    found = [
        (f"{where} / {how}", reading.filled(expression, chosen))
        for model in MODELS.values()
        for how, chosen in _chosen(model).items()
        for where, expression in reading.expressions(model)
    ]
    found += [
        (f"{model['uid']} / list {variable['name']}", reading.filled(series, reading.all_chosen(model)))
        for model in MODELS.values()
        for variable in model["templating"]["list"]
        if variable["type"] == "query"
        for series in re.findall(r"label_values\((.+), \w+\)", variable["query"]["query"])
    ]
    assert len(found) > 200
    rules = [{"record": f"expression:{number}", "expr": text} for number, (_, text) in enumerate(found)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    read = subprocess.run(
        [program("promtool"), "check", "rules", "--lint=none", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaints = re.sub(r"expression:(\d+)", lambda at: found[int(at[1])][0], read.stderr)
    assert (read.returncode, complaints) == (0, "")


def _chosen(model: dict[str, Any]) -> dict[str, dict[str, str]]:
    everything = reading.all_chosen(model)
    return {"all": everything, "one": {**everything, **dict.fromkeys(everything.keys() & LISTS_OF_PROBES, "shop-1")}}


def test_links_carry_what_they_lead_to() -> None:
    """A graph's value knows its labels, a table's row its columns: the wrong one of the two leads nowhere."""
    for model in MODELS.values():
        variables = {variable["name"] for variable in model["templating"]["list"]}
        for panel in reading.panels(model):
            source = "__data.fields" if panel["type"] == "table" else "__field.labels"
            for link in panel["fieldConfig"]["defaults"]["links"]:
                labels = re.findall(r"\$\{(__[a-z.]+)\.(\w+)\}", link["url"])
                assert labels == [(source, "probe")], panel["title"]
                assert ("${status_page}" in link["url"]) == ("status_page" in variables and "Status" in link["title"])
                for target in panel["targets"]:
                    assert "probe" in reading.grouped_labels(target["expr"]) or not reading.grouped_labels(
                        target["expr"]
                    ), f"{panel['title']} links to a probe that its query adds up"


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.phase_metric and kind.phases])
def test_the_phases_of_every_kind_are_found(kind: str) -> None:
    """By the form of the metric's name: a new kind need not be added to the dashboards. Scripted kinds have panels of steps."""
    (panel,) = (panel for panel in reading.panels(MODELS["probe"]) if panel["title"] == "Phases")
    (selector,) = reading.selectors(panel["targets"][0]["expr"])
    (pattern,) = (matcher.value for matcher in selector.matchers if matcher.label == "__name__")
    metric = KINDS[kind].phase_metric
    assert metric
    assert re.fullmatch(pattern, metric.name)


def test_the_alerts_that_are_marked_are_those_that_we_fire() -> None:
    """The rules' own names; not the watchdog, which always fires."""
    ours = set(re.findall(r'alertname="(\w+)"', Path(policy.__file__).read_text()))
    about_us = {alert.name for alert in prober.ALERTS}
    assert ours
    assert about_us
    assert {name for name in ours | about_us if re.fullmatch(ALERT_NAMES, name)} == (ours | about_us) - {
        prober.WATCHDOG
    }
