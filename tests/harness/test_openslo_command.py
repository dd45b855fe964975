"""`stormwatch import openslo`, `import sloth` and `export openslo` as they are typed: files, JSON, exit codes, lines."""

import contextlib
import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from stormwatch.harness.cli import main
from stormwatch.harness.config import load

STORMWATCH = Path(sys.executable).with_name("stormwatch")

CONFIG = """\
location: fra1
defaults: {every: 15s, timeout: 5s}
probes:
  - {name: front, kind: http, target: "https://shop.example/", labels: {service: shop}}
  - {name: back, kind: http, target: "https://back.example/", labels: {service: shop}}
"""
OBJECTIVES = """\
objectives:
  - {name: front-availability, probe: front, target: 99.9%}
  - {name: shop-fast, match: {service: shop}, target: 95%, slower_than: 500ms, window: month, timezone: Europe/Berlin}
"""
FOREIGN = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: requests}
spec:
  description: |
    Two lines,
    objectives: of a comment
  service: web
  indicator:
    metadata: {name: requests}
    spec:
      ratioMetric:
        good: {metricSource: {type: Prometheus, spec: {query: 'http_requests_total{code="200"}'}}}
        total: {metricSource: {type: Prometheus, spec: {query: 'http_requests_total'}}}
  timeWindow: [{duration: 30d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.999}]
"""
OURS = (
    FOREIGN.replace("name: requests", "name: runs")
    .replace('http_requests_total{code="200"}', 'probe_runs{instance="https://shop.example/",outcome="up"}')
    .replace("'http_requests_total'", "'probe_runs{instance=\"https://shop.example/\"}'")
    .replace("probe_runs", "stormwatch_probe_runs_total")
)
SLOTH = """\
version: prometheus/v1
service: shop
slos:
  - name: front
    objective: 99.9
    sli: {raw: {error_ratio_query: '1 - avg_over_time(probe_success{probe="front"}[{{.window}}])'}}
    alerting: {name: Front}
"""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def stormwatch(directory: Path, *arguments: str) -> Done:
    """A command as it is typed, with its files in a directory: the entry point itself, without a process for each."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(directory),
        pytest.MonkeyPatch.context() as patched,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        patched.setattr(sys, "argv", ["stormwatch", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, out.getvalue(), err.getvalue())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with a configuration and files of other tools."""
    texts = {
        "stormwatch.yaml": CONFIG + OBJECTIVES,
        "bare.yaml": CONFIG,
        "foreign.yaml": FOREIGN,
        "ours.yaml": OURS,
        "sloth.yml": SLOTH,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_is_exported_is_imported_again(files: Path) -> None:
    """Into the same probes: the same objectives, in a file that loads as it is appended."""
    assert stormwatch(files, "export", "openslo", "-o", "openslo.yaml").returncode == 0
    done = stormwatch(files, "import", "openslo", "openslo.yaml", "-c", "bare.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    (files / "again.yaml").write_text(CONFIG + done.stdout)
    again, before = (load(files / name, environ={}) for name in ("again.yaml", "stormwatch.yaml"))
    assert again.objectives == before.objectives
    assert again.rules == before.rules


def test_an_export_is_documents_or_a_list(files: Path) -> None:
    """YAML for people and Git, JSON for machines, with the address that queries go to."""
    text = stormwatch(files, "export", "openslo", "--prometheus", "https://prometheus.example/").stdout
    machine = stormwatch(files, "export", "openslo", "--prometheus", "https://prometheus.example/", "--format", "json")
    objects = list(yaml.safe_load_all(text))
    assert json.loads(machine.stdout) == objects
    assert objects[0]["spec"]["connectionDetails"] == {"url": "https://prometheus.example/"}
    slo = next(each for each in objects if each["metadata"]["name"] == "shop-fast")
    assert slo["spec"]["timeWindow"] == [
        {
            "duration": "1M",
            "isRolling": False,
            "calendar": {"startTime": "2026-01-01 00:00:00", "timeZone": "Europe/Berlin"},
        }
    ]


def test_nothing_to_export_is_told(files: Path) -> None:
    """One line, exit code 2."""
    done = stormwatch(files, "export", "openslo", "-c", "bare.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bare.yaml: there are no objectives in it; add one under `objectives:`\n"


def test_what_is_not_carried_over_is_told_and_written(files: Path) -> None:
    """On stderr with its line, and as a comment; a probe that looks at the instance is found by its target."""
    done = stormwatch(files, "import", "openslo", "ours.yaml", "foreign.yaml", "-c", "bare.yaml", "-o", "more.yaml")
    why = (
        "foreign.yaml:11: spec.indicator.spec: requests: http_requests_total is not measured by stormwatch: its objectives "
        "judge runs of probes. Write a probe that looks at what it measures"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"not carried over: {why}\n")
    text = (files / "more.yaml").read_text()
    assert f"# Not carried over: {why}.\n" in text
    assert "  # Two lines, objectives: of a comment.\n" in text
    assert yaml.safe_load(text) == {
        "objectives": [
            {"name": "runs", "probe": "front", "target": "99.9%", "window": "30d", "labels": {"service": "web"}}
        ]
    }


def test_without_a_configuration_it_loads_by_itself(files: Path) -> None:
    """With a probe of a kind that the instance tells."""
    assert stormwatch(files, "import", "openslo", "ours.yaml", "-o", "alone.yaml").returncode == 0
    config = load(files / "alone.yaml", environ={})
    assert [(probe.name, probe.kind, probe.target) for probe in config.probes] == [
        ("shop.example", "http", "https://shop.example/")
    ]
    assert config.objectives[0].probes == ("shop.example",)


@pytest.mark.parametrize(
    ("selected", "threshold", "probe", "whom"),
    [
        ("instance='shop.example:443'", "", {"name": "shop.example-443", "kind": "tcp", "target": "shop.example:443"}, {"probe": "shop.example-443"}),
        ("instance='10.0.0.1'", "", {"name": "10.0.0.1", "kind": "icmp", "target": "10.0.0.1"}, {"probe": "10.0.0.1"}),
        ("instance='a b'", "", {"name": "a-b", "kind": "http", "target": "https://example.org/"}, {"probe": "a-b"}),
        ("service='shop'", "", {"name": "shop", "kind": "http", "target": "https://example.org/", "labels": {"service": "shop"}}, {"match": {"service": "shop"}}),
        ("instance='tls.example:443'", "probe_ssl_earliest_cert_expiry{%s} - time()", {"name": "tls.example-443", "kind": "tls", "target": "tls.example:443"}, {"probe": "tls.example-443"}),
    ],
)  # fmt: skip
def test_what_is_known_of_a_probe_is_in_its_draft(
    files: Path, selected: str, threshold: str, probe: dict[str, object], whom: dict[str, object]
) -> None:
    """Its target tells the kind, and what is judged does; all of it loads."""
    query = (threshold or "probe_duration_seconds{%s}") % selected
    text = FOREIGN[: FOREIGN.index("      ratioMetric")] + (
        f"      thresholdMetric: {{metricSource: {{type: Prometheus, spec: {{query: {json.dumps(query)}}}}}}}\n"
        + FOREIGN[FOREIGN.index("  timeWindow") :].replace(
            "{target: 0.999}",
            "{target: 0.99, op: gt, value: 86400}" if threshold else "{target: 0.99, op: lte, value: 2}",
        )
    )
    (files / "threshold.yaml").write_text(text)
    done = stormwatch(files, "import", "openslo", "threshold.yaml", "-o", "alone.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    written = yaml.safe_load((files / "alone.yaml").read_text())
    assert written["probes"] == [probe]
    assert whom.items() <= written["objectives"][0].items()
    assert len(load(files / "alone.yaml", environ={}).objectives) == 1


def test_a_summary_for_machines(files: Path) -> None:
    """What is made, what is refused and where, and everything that is said about it."""
    done = stormwatch(files, "import", "openslo", "ours.yaml", "foreign.yaml", "--format", "json")
    summary = json.loads(done.stdout)
    assert (summary["tool"], [each["name"] for each in summary["probes"]]) == ("OpenSLO", ["shop.example"])
    assert summary["objectives"][0]["notes"][0] == "Two lines,\nobjectives: of a comment\n"
    (refused,) = summary["refused"]
    assert (refused["file"], refused["line"], refused["path"]) == ("foreign.yaml", 11, "spec.indicator.spec")
    assert refused["reason"].startswith("requests: http_requests_total is not measured")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["openslo", "foreign.yaml"], "foreign.yaml:11: spec.indicator.spec: requests: http_requests_total is not measured"),
        (["openslo", "gone.yaml"], "gone.yaml: cannot be read: No such file or directory"),
        (["openslo", "stormwatch.yaml"], "stormwatch.yaml:1: apiVersion: apiVersion is missing; add `apiVersion: openslo/v1`"),
        (["openslo", "ours.yaml", "-c", "gone.yaml"], "gone.yaml: cannot be read: No such file or directory; name another with -c"),
        (["openslo", "service.yaml"], "there is no SLO in it"),
        (["openslo"], "Missing argument 'FILE …'"),
        (["sloth", "ours.yaml"], "ours.yaml:1: apiVersion: is OpenSLO; read it with `stormwatch import openslo`"),
        (["sloth", "sloth.yml", "--period", "month"], "--period: a duration is written like 800ms, 15s, 5m, 1h30m or 30d, not 'month'"),
        (["sloth", "sloth.yml", "--period", "0s"], "--period: wanted more than no time, not 0s"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_and_exit_code_2(files: Path, arguments: list[str], told: str) -> None:
    """Never a traceback, and nothing written."""
    (files / "service.yaml").write_text("apiVersion: openslo/v1\nkind: Service\nmetadata: {name: a}\n")
    done = stormwatch(files, "import", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_sloth_is_imported_beside_what_there_is(files: Path) -> None:
    """The objective is about the probe that the configuration has."""
    done = stormwatch(files, "import", "sloth", "sloth.yml", "-c", "stormwatch.yaml", "--period", "28d")
    assert (done.returncode, done.stderr) == (0, "")
    assert yaml.safe_load(done.stdout)["objectives"] == [
        {"name": "front", "probe": "front", "target": "99.9%", "window": "28d", "labels": {"service": "shop"}}
    ]


def test_as_a_program_of_its_own(files: Path) -> None:
    """Over a pipe, as in a shell."""
    made = subprocess.run([STORMWATCH, "export", "openslo"], cwd=files, capture_output=True, timeout=60, check=True)
    (files / "openslo.yaml").write_bytes(made.stdout)
    done = subprocess.run(
        [STORMWATCH, "import", "openslo", "openslo.yaml", "-c", "bare.yaml", "--format", "json"],
        cwd=files,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert [each["name"] for each in json.loads(done.stdout)["objectives"]] == ["front-availability", "shop-fast"]


def test_what_is_there_already_is_not_imported_twice(files: Path) -> None:
    """A second objective of the name would not load."""
    stormwatch(files, "export", "openslo", "-o", "openslo.yaml")
    done = stormwatch(files, "import", "openslo", "openslo.yaml", "-c", "stormwatch.yaml")
    assert done.returncode == 2
    assert "front-availability: another objective is called front-availability too; rename one of them" in done.stderr
