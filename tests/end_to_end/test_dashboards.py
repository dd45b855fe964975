"""The dashboards on live data: every metric and label is exported, every panel has something to show."""

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from stormwatch.exporters.dashboards import DASHBOARDS
from tests.end_to_end.dashboard_scene import SCRAPE, Scene, scene
from tests.exporters import dashboard_reading as reading
from tests.program import program
from tests.servers import dashboard_page
from tests.servers.dashboard_page import Shown, Span

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EMPTY = {
    "tls / Revoked": "no authority of the scene answers about revocation",
    "tls / Stapled OCSP response": "and no server staples",
    "dns / Signatures expire": "no zone of the scene is signed",
}
"""Panels without data in the scene, and why. Each says itself that this is usual."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Generator[Scene]:
    program("prometheus")
    program("chromium")
    before = os.environ.get("STORMWATCH_STATE")
    directory = tmp_path_factory.mktemp("dashboards")
    os.environ["STORMWATCH_STATE"] = str(directory / "state")
    try:
        with scene(directory) as running:
            yield running
    finally:
        os.environ.pop("STORMWATCH_STATE") if before is None else os.environ.__setitem__("STORMWATCH_STATE", before)


@pytest.fixture(scope="module")
def span(live: Scene) -> Span:
    """From the first scrape until now: the same for all tests."""
    return Span(live.start, time.time(), SCRAPE)


@pytest.fixture(scope="module")
def looked_at(live: Scene, span: Span) -> dict[str, list[Shown]]:
    found = {each.name: dashboard_page.shown(each.classic(), live.prometheus, span) for each in DASHBOARDS}
    if keep := os.environ.get("STORMWATCH_DASHBOARD_PAGES"):
        for each in DASHBOARDS:
            text = dashboard_page.page(each.classic(), found[each.name], span)
            Path(keep, f"{each.name}.html").write_text(text)
    return found


def test_no_panel_is_empty(looked_at: dict[str, list[Shown]]) -> None:
    """Every query of every panel finds series, but for a few panels whose usual state is to have nothing to show."""
    empty: list[str] = []
    for name, panels in looked_at.items():
        for each in panels:
            where = f"{name} / {each.panel['title']}"
            if where in EMPTY:
                assert each.lines == [], f"{where} has data in the scene: take it off the list"
                assert each.panel["fieldConfig"]["defaults"]["noValue"]
            elif each.silent:
                empty.append(f"{where}: {', '.join(each.silent)}")
    assert empty == []


def test_legends_are_filled(looked_at: dict[str, list[Shown]]) -> None:
    """A label in a legend that no series has would be an empty name."""
    nameless: list[str] = []
    for name, panels in looked_at.items():
        for each in panels:
            for target in each.panel["targets"]:
                lines = [line for line in each.lines if line.ref == target["refId"]]
                nameless += [
                    f"{name} / {each.panel['title']}: {label}"
                    for label in reading.legend_labels(target["legendFormat"])
                    if lines and not any(line.labels.get(label) for line in lines)
                ]
    assert nameless == []


def test_marks_say_what_they_mark(live: Scene, span: Span) -> None:
    """The drill and the alerts of the scene are marked, by names that the series have."""
    for dashboard in DASHBOARDS:
        model = dashboard.classic()
        for mark in model["annotations"]["list"]:
            if "expr" not in mark:
                continue
            found = live.prometheus.between(
                reading.filled(mark["expr"], reading.all_chosen(model)), span.start, span.end, span.step
            )
            assert found, f"{dashboard.name} / {mark['name']}"
            seen = {label for series in found for label in series["metric"]}
            assert reading.legend_labels(mark["titleFormat"]) | reading.legend_labels(mark["textFormat"]) <= seen


def test_every_selector_finds_series_and_every_label_is_theirs(live: Scene, span: Span) -> None:
    """Conditions and groupings are about labels that the series have: a misspelt one matches everything, or nothing.

    Not every probe has a label `service`; that some have it is seen where the lists are.
    """
    wrong: list[str] = []
    for dashboard in DASHBOARDS:
        model = dashboard.classic()
        values = {**reading.all_chosen(model), **span.values}
        for where, expression in reading.expressions(model):
            if where.split("stormwatch-")[1].rpartition(" / ")[0] in EMPTY:
                continue
            labels: set[str] = set()
            for selector in reading.selectors(expression):
                found = live.prometheus.series(reading.filled(selector.text, values), span.start, span.end)
                its_labels = {label for series in found for label in series}
                labels |= its_labels
                if not found:
                    wrong.append(f"{where}: nothing is {selector.text}")
                needed = {matcher.label for matcher in selector.matchers if matcher.value != "$service"}
                if found and needed - {"__name__"} - its_labels:
                    wrong.append(f"{where}: {selector.text} has no {', '.join(needed - its_labels)}")
            if reading.grouped_labels(expression) - labels:
                wrong.append(f"{where}: no series has {', '.join(reading.grouped_labels(expression) - labels)}")
    assert wrong == []


def test_the_lists_have_something_to_choose(live: Scene, span: Span) -> None:
    """Each list of each dashboard, as Grafana asks for it."""
    for dashboard in DASHBOARDS:
        model = dashboard.classic()
        for variable in model["templating"]["list"]:
            if variable["type"] != "query":
                continue
            series, _, label = variable["query"]["query"].removeprefix("label_values(").rpartition(", ")
            asked = reading.filled(series, reading.all_chosen(model))
            found = live.prometheus.series(asked, span.start, span.end)
            assert {each[label.rstrip(")")] for each in found if label.rstrip(")") in each}, variable["name"]


def test_one_probe_can_be_chosen(live: Scene, span: Span) -> None:
    """What is left after a choice is about it, and what is adjusted to nothing else is gone."""
    (detail,) = (each.classic() for each in DASHBOARDS if each.name == "probe")
    for panel in reading.panels(detail):
        for target in panel["targets"]:
            chosen: dict[str, Any] = {**reading.all_chosen(detail), **span.values, "probe": "secure"}
            for series in live.prometheus.between(reading.filled(target["expr"], chosen), span.start, span.end, 1.0):
                assert series["metric"].get("probe", "secure") == "secure", panel["title"]


BLACKBOX = {
    "up, by probe": "probe_success{job='stormwatch'} == 0",
    "availability": "avg_over_time(probe_success{job='stormwatch'}[30d]) * 100 < 99.9",
    "certificate": "probe_ssl_earliest_cert_expiry{job='stormwatch'} - time() < 36500 * 86400",
    "duration": "avg by (instance) (probe_duration_seconds)",
    "phases": "avg by (phase, instance) (probe_http_duration_seconds)",
    "version": "max by (instance) (probe_http_version)",
    "TLS": "max by (instance) (probe_http_ssl == 1)",
    "status": "max by (instance) (probe_http_status_code == 200)",
    "redirects": "max by (instance) (probe_http_redirects)",
    "TLS version": "max by (instance, version) (probe_tls_version_info)",
    "ping": "avg by (instance, phase) (probe_icmp_duration_seconds)",
    "look-up": "avg by (instance) (probe_dns_lookup_time_seconds)",
}
"""What alerts and dashboards for blackbox_exporter ask, the mixin's and those of Grafana's site: the same names and labels."""


@pytest.mark.parametrize("what", BLACKBOX)
def test_what_others_made_for_blackbox_exporter_finds_its_series(live: Scene, span: Span, what: str) -> None:
    """Unchanged, with the target as `instance` and the phases by blackbox_exporter's names."""
    found = live.prometheus.at(BLACKBOX[what], span.end)
    assert found
    assert live.listen not in {each["metric"]["instance"] for each in found}
    if "probe_http_duration_seconds" in BLACKBOX[what]:
        phases = {each["metric"]["phase"] for each in found}
        assert phases == {"resolve", "connect", "tls", "processing", "transfer"}


WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d")
SLOTH = (
    *(f"slo:sli_error:ratio_rate{window}" for window in WINDOWS),
    "slo:objective:ratio",
    "slo:error_budget:ratio",
    "slo:time_period:days",
    "slo:current_burn_rate:ratio",
    "slo:period_burn_rate:ratio",
    "slo:period_error_budget_remaining:ratio",
    "sloth_slo_info",
)
"""What sloth records for an objective, which is what Grafana's dashboards 14348 and 14643 read."""


def test_what_others_made_for_sloth_finds_its_series(live: Scene, span: Span) -> None:
    """By sloth's names, with sloth's labels."""
    for name in SLOTH:
        found = live.prometheus.series(f'{name}{{sloth_slo="front-availability"}}', span.start, span.end)
        assert [(each["sloth_service"], each["sloth_id"]) for each in found] == [("shop", "shop-front-availability")], (
            name
        )
