"""`/metrics`: blackbox_exporter's names for what the last run saw, and what it lacks."""

import asyncio
import subprocess
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from stormwatch.exporters.exposition import Family, Sample
from stormwatch.exporters.prometheus import PrometheusExporter, own_labels
from stormwatch.probes.result import Measure, Outcome, Phase, Reason
from tests.exporters.sample import JOURNEY, KINDS, NOW, broken, certificate_measures, down, probe, up
from tests.program import program

STARTED = NOW - 600


def exporter(*probes: Any, **values: Any) -> PrometheusExporter:
    """An exporter for these probes, or for one called front."""
    return PrometheusExporter(probes or [probe()], KINDS, started=STARTED, **values)


def read(exposed: bytes) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by name, as Prometheus' parser reads them."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(exposed.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def values(exported: PrometheusExporter, name: str) -> list[float]:
    """The values of a metric."""
    return [value for _, value in read(exported.exposition()).get(name, [])]


def runs(exported: PrometheusExporter) -> dict[tuple[str, str], float]:
    """The run counters by outcome and reason, without those at zero."""
    found = read(exported.exposition())["stormwatch_probe_runs_total"]
    return {(labels["outcome"], labels["reason"]): value for labels, value in found if value}


def test_every_series_has_the_labels_of_its_probe() -> None:
    """Instance is the target, as the dashboards made for blackbox_exporter want it."""
    exported = exporter(probe(team="web"))
    exported(up())

    found = read(exported.exposition())

    expected = {"instance": "https://shop.example/", "probe": "front", "kind": "web", "location": "fra1", "team": "web"}
    assert [(expected, 1.0)] == found["probe_success"]
    assert [(expected, 0.182)] == found["probe_duration_seconds"]
    ours = [name for name in found if name.startswith(("probe_", "stormwatch_probe_"))]
    assert all(expected.items() <= labels.items() for name in ours for labels, _ in found[name])


def test_before_the_first_run_there_is_everything_but_a_verdict() -> None:
    """Counters at zero, phases at zero, evidence as old as the process; no success that nobody has seen."""
    found = read(exporter().exposition())

    assert "probe_success" not in found
    assert "probe_duration_seconds" not in found
    assert [value for _, value in found["probe_timeout_seconds"]] == [5.0]
    assert [value for _, value in found["stormwatch_probe_evidence_timestamp_seconds"]] == [STARTED]
    assert [value for _, value in found["stormwatch_probe_broken"]] == [0.0]
    assert {0.0} == {value for _, value in found["stormwatch_probe_runs_total"]}
    assert [value for _, value in found["stormwatch_probe_duration_seconds_count"]] == [0.0]
    phases = {labels["phase"]: value for labels, value in found["probe_http_duration_seconds"]}
    assert dict.fromkeys(("resolve", "connect", "tls", "processing", "transfer"), 0.0) == phases


def test_every_way_to_end_is_there_from_the_start() -> None:
    """A counter that appears with 1 has, for Prometheus, never increased. A kind has the endings that it can have."""
    exported = exporter(probe(), probe("checkout", "journey"), probe("ssh", "port"))

    found = read(exported.exposition())["stormwatch_probe_runs_total"]

    reasons = {
        name: {labels["reason"] for labels, _ in found if labels["probe"] == name}
        for name in ("front", "checkout", "ssh")
    }
    everywhere = {"none", "resources", "network", "credentials", "policy", "internal"}
    assert reasons == {
        "front": everywhere | {"dns", "timeout", "status", "certificate"},
        "checkout": everywhere | {"step", "timeout", "browser"},
        "ssh": everywhere | {"refused", "timeout"},
    }
    assert {"broken"} == {labels["outcome"] for labels, _ in found if labels["reason"] == "resources"}


def test_runs_are_counted_by_how_they_ended() -> None:
    """The counters from which objectives can be computed."""
    exported = exporter()
    for result in (up(), up(), down(), broken()):
        exported(result)

    assert runs(exported) == {("up", "none"): 2.0, ("down", "status"): 1.0, ("broken", "resources"): 1.0}
    assert values(exported, "stormwatch_probe_duration_seconds_count") == [3.0]


def test_a_down_run_is_no_success_and_keeps_what_it_saw() -> None:
    """The status code of a failed run is what people look for."""
    exported = exporter()
    exported(down(at=NOW))

    assert values(exported, "probe_success") == [0.0]
    assert values(exported, "probe_http_status_code") == [502.0]
    assert [pytest.approx(NOW + 1.4)] == values(exported, "stormwatch_probe_evidence_timestamp_seconds")


def test_a_broken_run_takes_the_verdict_away() -> None:
    """Zero would be a false page, one a lie; the evidence is as old as the last run that had any."""
    exported = exporter()
    exported(up(at=NOW))
    exported(broken(at=NOW + 60))

    assert values(exported, "probe_success") == []
    assert values(exported, "probe_duration_seconds") == []
    assert values(exported, "probe_http_status_code") == []
    assert values(exported, "stormwatch_probe_broken") == [1.0]
    assert values(exported, "stormwatch_probe_evidence_timestamp_seconds") == [NOW + 0.182]

    exported(up(at=NOW + 120))

    assert values(exported, "probe_success") == [1.0]
    assert values(exported, "stormwatch_probe_broken") == [0.0]


@pytest.mark.parametrize("failure", [down(measures=()), broken()], ids=["down", "broken"])
def test_the_facts_of_a_certificate_stay_when_a_run_fails(failure: Any) -> None:
    """The alert on its expiry must not go silent because the server does."""
    exported = exporter()
    exported(up())
    exported(failure)

    assert values(exported, "probe_ssl_earliest_cert_expiry") == [NOW + 30 * 86400]
    assert "CN=shop.example" in str(read(exported.exposition())["probe_ssl_last_chain_info"])


def test_newer_facts_of_a_certificate_replace_the_older_ones() -> None:
    """A failed check of a certificate shows the one that failed; a run that is up without one has none."""
    exported = exporter()
    exported(up())
    exported(down(reason=Reason.CERTIFICATE, measures=certificate_measures(NOW - 5)))
    assert values(exported, "probe_ssl_earliest_cert_expiry") == [NOW - 5]

    exported(up(measures=()))
    assert values(exported, "probe_ssl_earliest_cert_expiry") == []


def test_stretches_of_one_name_are_summed() -> None:
    """Redirects resolve and connect again; one series may not come twice."""
    exported = exporter()
    exported(up(phases=(Phase("resolve", 0.25), Phase("connect", 0.5), Phase("resolve", 0.5, 0.75))))

    phases = {labels["phase"]: v for labels, v in read(exported.exposition())["probe_http_duration_seconds"]}

    assert phases == {"resolve": 0.75, "connect": 0.5, "tls": 0.0, "processing": 0.0, "transfer": 0.0}


def test_steps_of_a_journey_have_the_label_step() -> None:
    """Their names are written by people, so any text may stand there."""
    exported = PrometheusExporter([probe("checkout", "journey")], {"journey": JOURNEY}, started=STARTED)
    exported(up("checkout", kind="journey", phases=(Phase('pay "now"', 1.5),)))

    found = read(exported.exposition())["stormwatch_journey_step_duration_seconds"]

    assert [(labels["step"], value) for labels, value in found] == [('pay "now"', 1.5)]


def test_what_a_kind_did_not_announce_is_exported_too() -> None:
    """A measure is never lost because somebody forgot its help text; the same one twice is the last one."""
    exported = exporter(probe(), probe("other"))
    exported(up(measures=(Measure("probe_seen", 1, {"a-b": "c"}), Measure("probe_seen", 2, {"a-b": "c"}))))

    assert [(labels["a_b"], value) for labels, value in read(exported.exposition())["probe_seen"]] == [("c", 2.0)]


def test_own_labels_never_take_a_name_that_is_needed() -> None:
    """They get a prefix; also beside a measure that uses the name itself."""
    exported = exporter(probe(version="2", phase="beta", **{"cost-centre": "7"}))
    exported(up(measures=(Measure("probe_tls_version_info", 1, {"version": "TLS 1.3"}),)))

    found = read(exported.exposition())

    assert {"version": "2", "label_phase": "beta", "cost_centre": "7"}.items() <= found["probe_success"][0][0].items()
    labels = found["probe_tls_version_info"][0][0]
    assert {"version": "TLS 1.3", "label_version": "2"}.items() <= labels.items()


def test_two_labels_that_become_one_are_refused() -> None:
    """At the start, and by name: nobody finds out by missing series."""
    with pytest.raises(ValueError, match="are both cost_centre in Prometheus"):
        own_labels({"cost-centre": "7", "cost.centre": "8"})


name = st.from_regex(r"[a-z][a-z_-]{0,6}", fullmatch=True)
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(name, anything, max_size=3), anything, anything)
def test_any_labels_and_names_parse_back(labels: dict[str, str], target: str, step: str) -> None:
    """Whatever stands in the configuration or comes from a target, the page can be read."""
    try:
        own = own_labels(labels)
    except ValueError:
        return
    exported = PrometheusExporter([probe("p", "journey", target, **labels)], KINDS, started=STARTED)
    exported(up("p", kind="journey", phases=(Phase(step, 1.0),), measures=(Measure("m", 1, {"said": step}),)))

    found = read(exported.exposition())

    assert own.items() <= found["probe_success"][0][0].items()
    assert target == found["probe_success"][0][0]["instance"]
    assert [step] == [labels["step"] for labels, _ in found["stormwatch_journey_step_duration_seconds"]]
    assert [step] == [labels["said"] for labels, _ in found["m"]]


async def test_what_is_streamed_is_what_is_rendered_at_once() -> None:
    """Plain and compressed, also when it takes many pieces."""
    many = [probe(f"front-{number}", team="web") for number in range(2500)]
    exported = exporter(*many)
    for each in many:
        exported(up(each.name))

    whole = exported.exposition()
    plain = [piece async for piece in exported.chunks()]
    packed = b"".join([piece async for piece in exported.chunks("gzip")])

    assert len(plain) > 2
    assert _steady(whole) == _steady(b"".join(plain)) == _steady(zlib.decompress(packed, 31))
    assert exported.headers("gzip")["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in exported.headers()


async def test_a_scrape_shows_one_moment() -> None:
    """Results that come while it is sent are in the next one, not in half of this one."""
    many = [probe(f"front-{number}") for number in range(2500)]
    exported = exporter(*many)
    for each in many:
        exported(up(each.name))
    before = exported.exposition()

    pieces: list[bytes] = []
    async for piece in exported.chunks():
        pieces.append(piece)
        for each in many:
            exported(down(each.name))
        await asyncio.sleep(0)

    assert _steady(before) == _steady(b"".join(pieces))


def _steady(exposed: bytes) -> list[bytes]:
    """Without our own process, which is not the same twice."""
    return [line for line in exposed.splitlines() if b"process_" not in line]


def test_sources_add_families_also_to_those_of_probes() -> None:
    """A name comes once, with the samples of all."""
    exported = exporter(
        sources=[
            lambda: [
                Family("stormwatch_loop_lag_seconds", "Lag.", "gauge", [Sample(0.25)]),
                Family("probe_success", "Of others.", "gauge", [Sample(1, {"probe": "elsewhere"})]),
            ]
        ]
    )
    exported(down())

    exposed = exported.exposition()

    assert [value for _, value in read(exposed)["stormwatch_loop_lag_seconds"]] == [0.25]
    assert {labels["probe"]: value for labels, value in read(exposed)["probe_success"]} == {
        "elsewhere": 1.0,
        "front": 0.0,
    }
    assert exposed.count(b"# TYPE probe_success") == 1


def test_our_own_process_is_there() -> None:
    """What we cost is part of what we say."""
    found = read(exporter().exposition())

    assert found["process_resident_memory_bytes"][0][1] > 1e6
    assert found["process_open_fds"][0][1] >= 3
    assert {"process_cpu_seconds_total", "python_info", "stormwatch_build_info"} <= found.keys()


def test_promtool_accepts_it() -> None:
    """Prometheus' own linter has nothing to say."""
    exported = exporter(probe(team="web"), probe("checkout", "journey"), probe("ssh", "port"), probe("later"))
    exported(up())
    exported(broken("ssh"))
    exported(up("checkout", kind="journey", phases=(Phase("pay", 1.5),), measures=()))

    done = subprocess.run(
        [program("promtool"), "check", "metrics"],
        check=False,
        input=exported.exposition(),
        capture_output=True,
        timeout=30,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_one_result_can_be_shown_without_counting_it() -> None:
    """For `check --debug`: what this run would export."""
    exported = exporter()

    shown = read(exported.of(down()))

    assert [value for _, value in shown["probe_success"]] == [0.0]
    assert runs(exported) == {}
    assert values(exported, "probe_success") == []


def test_the_outcome_and_its_reason_are_always_a_pair() -> None:
    """A reason that its kind should not have is counted all the same."""
    exported = exporter()
    exported(down(reason=Reason.STEP))

    assert {(Outcome.DOWN.value, "step"): 1.0} == runs(exported)
