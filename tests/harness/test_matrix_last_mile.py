"""How alerts come to the receiver of a matrix, by what Alertmanager runs; and what is refused because nothing could be said."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.matrix_last_mile import Way
from stormwatch.harness.config import load
from stormwatch.harness.live_chain import Live
from stormwatch.harness.matrix_last_mile import LastMile, last_mile_of, sure_of
from stormwatch.harness.problem import Problem
from stormwatch.harness.watch_section import Watch
from tests.harness.test_matrix_watching import CONFIG, DOWN, LIVE

ROUTING: Mapping[str, Any] = {
    "route": {
        "receiver": "people",
        "group_by": ["alertname", "probe"],
        "group_wait": "1s",
        "group_interval": "10s",
        "routes": [
            {"receiver": "nobody", "matchers": ['probe="cart"']},
            {"receiver": "drill", "continue": True, "mute_time_intervals": ["nights"]},
            {"receiver": "people"},
        ],
    },
    "receivers": [
        {"name": "drill", "webhook_configs": [{"url": "http://127.0.0.1:9099/"}]},
        {"name": "people", "webhook_configs": [{"url": "http://127.0.0.1:9100/"}]},
        {"name": "nobody"},
    ],
}
WATCH = Watch(prometheus="http://p", alertmanager="http://a", receiver="127.0.0.1:9099")


def last_mile(routing: Mapping[str, Any] = ROUTING, **more: Any) -> LastMile:
    return sure_of(WATCH, replace(LIVE, routing=routing, **more))


def test_a_message_may_take_a_whole_interval_of_its_group_and_hours_are_no_matter() -> None:
    """An earlier cell's group is still there; whether the hours mute it now, Alertmanager says of the alert itself."""
    way = last_mile()(DOWN)

    assert way == Way(end="receiver", within=10 + 2 + 2 + 2)
    assert last_mile().all_clear == 10 + 2 + 2 + 2


def test_an_alert_that_no_route_brings_there_is_known_before() -> None:
    """With whom Alertmanager tells instead, and the remedy."""
    way = last_mile()({**DOWN, "probe": "cart"})

    assert (
        way.closed == "Alertmanager tells nobody of it, and no webhook on port 9099: add a route with `continue: true`"
    )


def test_labels_that_the_rule_sets_lead_the_way() -> None:
    """HighErrorRate is known by its name; its rule makes it a page, and pages go nowhere here."""
    routes = [{"receiver": "nobody", "matchers": ['severity="page"']}, *ROUTING["route"]["routes"]]
    pages = {**ROUTING, "route": {**ROUTING["route"], "routes": routes}}

    assert last_mile(pages)({"alertname": "HighErrorRate"}).closed
    assert not last_mile()({"alertname": "HighErrorRate", "probe": "front"}).closed


def test_without_a_receiver_alertmanager_is_the_end() -> None:
    """It has an alert as soon as it fires."""
    mile = sure_of(replace(WATCH, receiver=""), replace(LIVE, routing=ROUTING))

    assert mile(DOWN) == Way(end="Alertmanager", within=2 + 2 + 2)
    assert mile.all_clear == 0


def test_what_fired_shortly_before_is_kept() -> None:
    """It may be that the receiver was not told of its end."""
    assert last_mile(recent=[DOWN]).told_before == (DOWN,)
    assert last_mile(recent=[DOWN])(DOWN) == last_mile()(DOWN)


def silent_about_the_end() -> Mapping[str, Any]:
    drill = {"name": "drill", "webhook_configs": [{"url": "http://127.0.0.1:9099/", "send_resolved": False}]}
    return {**ROUTING, "receivers": [drill, *ROUTING["receivers"][1:]]}


@pytest.mark.parametrize(
    ("live", "said"),
    [
        (replace(LIVE, routing=ROUTING, tells=False), "watch.alertmanager: Prometheus sends to no Alertmanager: "),
        (
            replace(LIVE, routing=silent_about_the_end()),
            "watch.receiver: Alertmanager does not tell 127.0.0.1:9099 when an alert is over",
        ),
    ],
)
def test_where_nothing_could_be_said_of_who_is_told_nothing_begins(live: Live, said: str) -> None:
    """One line with both remedies."""
    with pytest.raises(Problem) as refused:
        sure_of(WATCH, live)

    (line,) = refused.value.lines
    assert line.startswith(said)
    assert line.endswith("or judge by what fires alone, with --no-last-mile")


def test_a_receiver_without_alertmanager_is_refused(tmp_path: Path) -> None:
    """How long a message may take is not known."""
    file = tmp_path / "stormwatch.yaml"
    file.write_text(CONFIG.replace("watch: {", 'watch: {receiver: "127.0.0.1:9099", '))
    with pytest.raises(Problem, match="name it under `watch: alertmanager`, or judge by what fires alone"):
        asyncio.run(last_mile_of(load(file, environ={})))
