"""Objectives are written as OpenSLO v1 that our own strict reader takes, and come back as they were."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st

from stormwatch.harness.config import Config, ConfigError, load
from stormwatch.harness.objective_import import Known, imported
from stormwatch.harness.openslo_command import found_of, known_in
from stormwatch.harness.openslo_files import OpenSLO, read_openslo
from stormwatch.slo.document import yaml_text
from stormwatch.slo.openslo_writer import documents

PROBES: list[dict[str, Any]] = [
    {"name": "front", "kind": "tcp", "target": "shop.example:443", "labels": {"service": "shop", "team": "web"}},
    {"name": "Back_1", "kind": "tcp", "target": "back.example:443", "labels": {"service": "shop"}},
    {"name": "tls", "kind": "tls", "target": "tls.example:443"},
    {"name": "dns", "kind": "icmp", "target": "dns.example"},
]
HEAD = {"location": "fra1", "defaults": {"every": "10s", "timeout": "3s"}}

texts = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
labels = st.dictionaries(
    st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,70}", fullmatch=True).filter(lambda name: not name.startswith("__")),
    texts.filter(lambda text: "${" not in text and not text.endswith("$")),
    max_size=3,
)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True)


burns = st.lists(
    st.fixed_dictionaries(
        {
            "severity": st.sampled_from(["page", "high", "ticket", "info"]),
            "long": st.sampled_from(["1h", "6h", "100m"]),
        },
        optional={
            "short": st.sampled_from(["5m", "30m", "1h", "5m30s"]),
            "for": st.sampled_from(["2m", "90s", "1h"]),
        },
    ),
    min_size=1,
    max_size=3,
)


@st.composite
def objectives(draw: st.DrawFn) -> dict[str, Any]:
    """An objective as people write it."""
    entry: dict[str, Any] = {
        "name": draw(names),
        "target": f"{draw(st.decimals(min_value=94, max_value='99.5', places=draw(st.integers(0, 10))))}%",
        "window": draw(st.sampled_from(["1d", "7d", "28d", "30d", "4w", "90d", "36h", "129601s", "1d500ms"])),
        "labels": draw(labels),
    }
    whom = st.sampled_from(
        [{"probe": "front"}, {"probe": "Back_1"}, {"match": {"service": "shop"}}, {"match": {"location": "fra1"}}]
    )
    entry |= draw(
        st.one_of(
            whom,
            whom.map(lambda entry: {**entry, "slower_than": "500ms"}),
            st.sampled_from(["0.5ms", "1s", "2s500ms", "0.123456s", "0.00001s"]).map(
                lambda limit: {"probe": "front", "slower_than": limit}
            ),
            st.just({"probe": "front", "step": "connect", "slower_than": "1s"}),
            st.just({"probe": "tls", "certificate_expires_within": "14d"}),
        )
    )
    entry |= draw(
        st.sampled_from(
            [{}, {}, {"window": "month", "timezone": "Europe/Berlin"}, {"window": "week"}, {"window": "quarter"}]
        )
    )
    entry |= draw(
        st.sampled_from(
            [
                {},
                {},
                {"method": "timeslices"},
                {"method": "timeslices", "slice": "5m", "slice_target": "99.9%"},
                {"method": "timeslices", "slice": "90s", "slice_target": "100%"},
            ]
        )
    )
    if draw(st.booleans()):
        entry["policy"] = draw(st.sampled_from(["workbook", "fast-slow"]))
    elif draw(st.booleans()):
        entry["burns"] = [
            {**burn, **draw(st.sampled_from([{"factor": 2}, {"factor": 3.1}, {"share": "0.7%"}, {"share": "10%"}]))}
            for burn in draw(burns)
        ]
    if draw(st.booleans()):
        entry["runbook"] = "https://runbooks.example/" + draw(st.sampled_from(["", "a?b=c#d", "%20"]))
    return entry


def loaded(directory: Path, text: str) -> Config:
    """A configuration."""
    path = directory / "stormwatch.yaml"
    path.write_text(text)
    return load(path, environ={})


def exported(directory: Path, config: Config) -> OpenSLO:
    """What is written of it, read."""
    path = directory / "openslo.yaml"
    made = documents(
        config.objectives, config.probes, config.rules, config.policies, prometheus="http://127.0.0.1:9090"
    )
    path.write_text("---\n".join(map(yaml_text, made)))
    return read_openslo([path])


# An example takes 50 ms, so what fails is shown as it was found: to make it smaller would outlast the test's time-out.
@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(st.lists(objectives(), min_size=1, max_size=3, unique_by=lambda entry: entry["name"]))
@example([{"name": "a", "probe": "front", "target": "99%", "labels": {"x": "a\xa0"}}])
@example([{"name": "a", "probe": "front", "target": "99%", "labels": {"x": "a\u2028b\x85c\xa0", "_y": "\u00e4"}}])
def test_what_is_written_comes_back_equal(entries: list[dict[str, Any]]) -> None:
    """Objective by objective, policy by policy, rule by rule: over OpenSLO, and over the import's text."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        try:
            config = loaded(directory, yaml.safe_dump({**HEAD, "probes": PROBES, "objectives": entries}))
        except ConfigError:
            assume(False)
            return
        bare = loaded(directory, yaml.safe_dump({**HEAD, "probes": PROBES}))
        back = imported("OpenSLO", found_of(exported(directory, config)), known_in(bare))
        assert not back.refused
        again = loaded(directory, yaml.safe_dump({**HEAD, "probes": PROBES}) + back.text())
    assert again.objectives == config.objectives
    assert again.policies == config.policies
    assert again.rules == config.rules


def small(directory: Path, objective: dict[str, Any]) -> Config:
    """One objective about the probe front."""
    return loaded(directory, json.dumps({**HEAD, "probes": PROBES, "objectives": [objective]}))


def test_without_the_configuration_the_probe_is_left_to_be_completed(tmp_path: Path) -> None:
    """What comes is a configuration that loads by itself."""
    config = small(tmp_path, {"name": "a", "probe": "front", "target": "99%"})
    back = imported("OpenSLO", found_of(exported(tmp_path, config)), Known())
    (probe,) = back.probes
    assert probe.data == {"name": "front", "kind": "http", "target": "https://example.org/"}
    assert probe.notes == (
        "a probe that the objectives need; of which nothing else is known: write its kind and target",
    )
    assert loaded(tmp_path, back.text()).objectives == config.objectives


def test_probes_together_need_a_label_of_their_own(tmp_path: Path) -> None:
    """An objective names one probe, or labels."""
    config = small(tmp_path, {"name": "a", "match": {"service": "shop"}, "target": "99%"})
    written = exported(tmp_path, config)
    alone = imported("OpenSLO", found_of(written), Known())
    assert [each.sentence for each in alone.refused] == [
        "a: it judges several probes together, of which front, Back_1 are not known; name the configuration that has them with -c"
    ]
    bare = Known(probes=config.probes, labels={"front": {"x": "1"}, "Back_1": {"x": "1"}, "tls": {"x": "1"}})
    strangers = imported("OpenSLO", found_of(written), bare)
    assert [each.sentence for each in strangers.refused] == [
        "a: the probes front, Back_1 have no label that only they share; give them one"
    ]


@pytest.mark.parametrize(("first", "second"), [("Front", "front"), ("a" * 80, "a" * 81), ("a.b", "a_b")])
def test_names_that_openslo_makes_alike_stay_apart(tmp_path: Path, first: str, second: str) -> None:
    """And so do the names of their alert policies, within 63 characters."""
    entries = [{"name": name, "probe": "front", "target": "99%"} for name in (first, second)]
    config = loaded(tmp_path, json.dumps({**HEAD, "probes": PROBES, "objectives": entries}))
    read = exported(tmp_path, config)
    assert [standing.slo.metadata.annotations["stormwatch/objective"] for standing in read.slos] == [first, second]
    policies = [name for kind, name in read.library.objects if kind == "AlertPolicy"]
    assert len(policies) == 8


def test_alert_policies_say_both_windows_of_a_pair(tmp_path: Path) -> None:
    """Version 1 has one condition with one window; the other one is an annotation, and so is a factor without decimal."""
    config = small(tmp_path, {"name": "a", "probe": "front", "target": "99%", "window": "28d"})
    objects = exported(tmp_path, config).library.objects
    policy: Any = objects["AlertPolicy", "a-ticket-3d-6h"]
    assert policy.metadata.annotations == {"stormwatch/short-window": "6h", "stormwatch/factor": "14/15"}
    condition = policy.spec.conditions[0].spec
    assert (condition.severity, condition.condition.op, str(condition.condition.lookback_window)) == (
        "ticket",
        "gt",
        "3d",
    )
    assert float(condition.condition.threshold) == pytest.approx(14 / 15, rel=1e-15)
    assert [item.target_ref for item in policy.spec.notification_targets] == ["stormwatch-ticket"]
    assert ("AlertNotificationTarget", "stormwatch-ticket") in objects
    assert ("Service", "front") in objects
