"""Whatever stands in a file of OpenSLO or sloth: it is read, or refused with lines; what comes of it loads."""

import copy
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stormwatch.harness.config import load
from stormwatch.harness.mistake import ConfigError
from stormwatch.harness.objective_import import Found, Known, imported
from stormwatch.harness.openslo_command import found_of
from stormwatch.harness.openslo_files import read_openslo
from stormwatch.harness.sloth_command import found_of as found_of_sloth
from stormwatch.harness.sloth_files import read_sloth

UP = 'stormwatch_probe_runs_total{probe="front",outcome="up"}'
ALL = 'stormwatch_probe_runs_total{probe="front"}'
CONDITION = {
    "kind": "AlertCondition",
    "metadata": {"name": "fast"},
    "spec": {
        "severity": "page",
        "condition": {"kind": "burnrate", "op": "gt", "threshold": 14.4, "lookbackWindow": "1h", "alertAfter": "5m"},
    },
}
POLICY = {
    "kind": "AlertPolicy",
    "metadata": {"name": "page"},
    "spec": {"alertWhenBreaching": True, "conditions": [CONDITION], "notificationTargets": [{"targetRef": "me"}]},
}
SLO: dict[str, Any] = {
    "apiVersion": "openslo/v1",
    "kind": "SLO",
    "metadata": {"name": "shop", "labels": {"team": ["a", "b"], "tier": "1"}, "annotations": {"stormwatch/step": ""}},
    "spec": {
        "description": "Runs are good.",
        "service": "shop",
        "indicator": {
            "metadata": {"name": "runs"},
            "spec": {
                "ratioMetric": {
                    "counter": True,
                    "good": {"metricSource": {"type": "Prometheus", "spec": {"query": UP}}},
                    "total": {"metricSource": {"type": "Prometheus", "spec": {"query": ALL}}},
                }
            },
        },
        "timeWindow": [{"duration": "1M", "calendar": {"startTime": "2026-01-01 00:00:00", "timeZone": "UTC"}}],
        "budgetingMethod": "Timeslices",
        "objectives": [{"displayName": "A", "target": 0.99, "timeSliceTarget": 0.9, "timeSliceWindow": "5m"}],
        "alertPolicies": [POLICY],
    },
}
SLOTH: dict[str, Any] = {
    "version": "prometheus/v1",
    "service": "shop",
    "labels": {"owner": "web"},
    "slos": [
        {
            "name": "front",
            "objective": 99.5,
            "description": "Runs are good.",
            "labels": {"a": "b"},
            "sli": {"events": {"error_query": UP.replace("up", "down"), "total_query": ALL}},
            "alerting": {
                "name": "Front",
                "annotations": {"runbook": "https://runbooks.example/"},
                "page_alert": {"disable": True},
                "ticket_alert": {"labels": {"severity": "slack"}},
            },
        }
    ],
}

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "1M", "1m", "30d", "0d", "lt", "raw", "$", "${env:A}", "a\nb", UP, ALL, "1 - " + UP, "Europe/Berlin"]),
    st.text(max_size=8),
    st.just([]),
    st.just({}),
    st.sampled_from([POLICY, CONDITION, SLO["spec"]["indicator"]]),
)  # fmt: skip
keys = st.sampled_from(
    [
        "indicatorRef",
        "rawType",
        "raw",
        "bad",
        "value",
        "op",
        "calendar",
        "isRolling",
        "alertPolicyRef",
        "targetPercent",
        "plugins",
        "disable",
        "labels",
        "compositeWeight",
        "spec",
        "stormwatch/probes",
        "stormwatch/factor",
        "nonsense",
    ]
)
spoils = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from(["set", "drop", "add"]), keys, values), min_size=1, max_size=3
)


def places(data: Any) -> Iterable[tuple[Any, Any]]:
    """Every value of a document, as what it stands in and its key there."""
    for key in list(data) if isinstance(data, dict) else range(len(data)):
        yield data, key
        if isinstance(data[key], dict | list):
            yield from places(data[key])


def spoilt(data: dict[str, Any], how: list[tuple[int, str, str, Any]]) -> dict[str, Any]:
    """A document with some values changed, left out or added."""
    data = copy.deepcopy(data)
    for number, what, key, value in how:
        known = list(places(data))
        if not known:
            return data
        inside, at = known[number % len(known)]
        if what == "drop":
            del inside[at]
        elif what == "add" and isinstance(inside, dict):
            inside[key] = copy.deepcopy(value)
        else:
            inside[at] = copy.deepcopy(value)
    return data


def openslo(path: Path) -> Iterable[Found]:
    """What a file of OpenSLO says."""
    return list(found_of(read_openslo([path])))


def sloth(path: Path) -> Iterable[Found]:
    """What a file of sloth says."""
    return list(found_of_sloth(read_sloth([path]), 30 * 86400.0))


@pytest.mark.parametrize(("sound", "read"), [(SLO, openslo), (SLOTH, sloth)])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.generate])
@given(how=spoils)
def test_what_is_spoilt_is_read_or_refused(
    sound: dict[str, Any], read: Callable[[Path], Iterable[Found]], how: list[tuple[int, str, str, Any]]
) -> None:
    """Mistakes are the only error; an objective that is written is one that our reader knows every key of."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "file.yaml"
        path.write_text(json.dumps(spoilt(sound, how)))
        try:
            found = read(path)
        except ConfigError as error:
            mistakes = error.mistakes
        else:
            made = imported("other", found, Known())
            mistakes = made.refused
            text = made.text()
            assert set(yaml.safe_load(text) or {}) <= {"probes", "objectives"}
            (Path(name) / "stormwatch.yaml").write_text(text)
            refused = _refused(Path(name) / "stormwatch.yaml") if made.objectives else ""
            assert "unknown key" not in refused
            assert "not YAML" not in refused
        assert all(mistake.line and mistake.sentence for mistake in mistakes)


def _refused(path: Path) -> str:
    try:
        load(path, environ={})
    except ConfigError as error:
        return str(error)
    return ""


def test_the_sound_ones_come_over_and_load(tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    for number, (sound, read) in enumerate([(SLO, openslo), (SLOTH, sloth)]):
        path = tmp_path / f"{number}.yaml"
        path.write_text(json.dumps(sound))
        made = imported("other", read(path), Known())
        assert (len(made.objectives), made.refused) == (1, ())
        (tmp_path / "stormwatch.yaml").write_text(made.text())
        assert len(load(tmp_path / "stormwatch.yaml", environ={}).objectives) == 1
