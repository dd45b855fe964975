"""A matrix that a real Prometheus and a real Alertmanager judge: what fires and is told to nobody survives, and nothing else."""

import json
from pathlib import Path

import pytest

from stormwatch.chaos.matrix import Matrix
from tests.end_to_end.test_watch import Scene
from tests.servers.receiver import Receiver

CONFIG = """\
location: test
defaults: {{every: 1s, timeout: 500ms, confirm: {{attempts: 1}}}}
probes:
  - {{name: front, kind: http, target: "http://127.0.0.1:{shop}/"}}
  - {{name: hotel, kind: http, target: "http://127.0.0.1:{hotel}/"}}
proxies:
  control: 127.0.0.1:{control}
  routes:
    - {{name: shop, listen: "127.0.0.1:{shop}", upstream: "127.0.0.1:{upstream}"}}
    - {{name: hotel, listen: "127.0.0.1:{hotel}", upstream: "127.0.0.1:{upstream}"}}
watch:
  prometheus: http://127.0.0.1:{prometheus}
  alertmanager: http://127.0.0.1:{alertmanager}
  receiver: 127.0.0.1:{receiver}
drills:
  - name: tcp-refused-again
    fault: {{kind: tcp-refused, target: shop}}
    expect: {{alert: {{labels: {{alertname: HighErrorRate}}, within: 30s}}}}
"""
CELLS = ("shop/tcp-refused", "shop/tcp-reset", "hotel/tcp-refused")
DROPPED = {"receiver": "nobody", "matchers": ['probe="hotel"']}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_alert_that_a_route_drops_leaves_exactly_its_cell_alive(tmp_path: Path) -> None:
    """The others are killed by what came, one cell after the other: the second begins when the first's all-clear has come.

    A rule of others tells of what a drill of it breaks.
    """
    with Receiver() as people, Scene(tmp_path, people, config=CONFIG, first=[DROPPED]).begun() as scene:
        code, printed, said = scene.drill(*CELLS, "--matrix", "--format", "json")
        known = people.alerts("firing")

    document = json.loads(printed)
    found = Matrix.from_json(document)
    states = {one.cell.name: one.state.value for one in found.outcomes}
    assert states == {
        "shop/tcp-refused": "killed",
        "shop/tcp-reset": "killed",
        "hotel/tcp-refused": "reached-nobody",
    }, said
    assert (code, found.score) == (1, (2, 3))
    (survivor,) = document["survivors"]
    assert "ProbeDown of hotel fired after" in survivor["what"]
    assert "Alertmanager tells nobody of it, and no webhook on port" in survivor["what"]
    for one in (each for each in found.outcomes if each.cell.dependency == "shop"):
        within = {each.labels["alertname"]: each.within for each in one.cell.catchers}
        assert within.keys() == {"ProbeDown", "HighErrorRate"}
        assert all(alarm.after <= within[alarm.labels["alertname"]] for alarm in one.caught)
    told = [one.told_by[0].arrival for one in found.outcomes if one.told_by]
    assert len(told) == 2
    assert all(each and each.told_by == "drill" and each.labels["site"] == "x" for each in told)
    assert {alert["labels"]["probe"] for _, alert in known if "probe" in alert["labels"]} == {"front"}
