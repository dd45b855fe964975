"""`stormwatch load`: as a person calls it, with real workers and a real shop."""

import contextlib
import csv
import json
import signal
import sys
import textwrap
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stormwatch.journeys.load_summary import entry_name
from tests.servers.command import Command, begun
from tests.servers.process import free_port, wait_for
from tests.servers.shop import Shop

HANG = 120

Start = Callable[..., Command]


@pytest.fixture
def folder(tmp_path: Path, shop: Shop) -> Path:
    """A configuration with a journey that a shop answers in milliseconds, and one of whose steps takes 50 ms."""
    (tmp_path / "journeys").mkdir()
    (tmp_path / "journeys" / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "journeys" / "test_shop.py").write_text(
        textwrap.dedent("""
            import os, time
            import httpx, pytest

            @pytest.fixture(scope="module")
            def client(base_url):
                with httpx.Client(base_url=base_url, verify=False) as client:
                    yield client

            def test_order(client, step):
                with open("log", "a") as log:
                    log.write("began\\n")
                with step("look"):
                    client.get("/").raise_for_status()
                with step("pay"):
                    time.sleep(float(os.environ.get("PAY", "0.05")))
                with open("log", "a") as log:
                    log.write("ended\\n")

            def test_look(client, step):
                with step("look"):
                    client.get("/").raise_for_status()

            def test_refused(step):
                with step("pay"):
                    assert False, f"refused: {os.environ['CARD']}"
        """)
    )
    (tmp_path / "stormwatch.yaml").write_text(
        textwrap.dedent(f"""
            location: fra1
            probes:
              - name: order
                kind: journey
                target: journeys/test_shop.py::test_order
                every: 2m
                timeout: 40s
                journey: {{base_url: "{shop.url}"}}
              - name: refused
                kind: journey
                target: journeys/test_shop.py::test_refused
                every: 2m
                timeout: 40s
                journey: {{environment: {{CARD: canary-4711}}, secrets: {{card: "${{env:CARD}}"}}}}
              - name: german
                kind: journey
                target: journeys/test_shop.py::test_look
                every: 2m
                timeout: 40s
                journey: {{client: {{locale: de-DE}}}}
            objectives:
              - {{name: order-fast, probe: order, target: 95%, slower_than: 30s, window: 30d}}
              - {{name: pay-up, probe: order, step: pay, target: 99.9%, window: 30d}}
              - {{name: refused-up, probe: refused, target: 99%, window: 30d}}
        """)
    )
    return tmp_path


@pytest.fixture
def start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Start]:
    """Starts the command beside the configuration."""
    monkeypatch.setenv("CARD", "canary-4711")

    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(begun("load", *arguments, cwd=folder))


def ended(command: Command) -> tuple[int, str, str]:
    done = command.ended(HANG)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_two_workers_report_what_locusts_own_csv_has(folder: Path, start: Start) -> None:
    address = f"127.0.0.1:{free_port()}"
    master = start(
        *("order", "--users", "4", "--spawn-rate", "100", "--for", "2s", "--master", address, "--expect-workers", "2"),
        *("--csv", "out/load", "--metrics", "out/load.prom", "--format", "json"),
    )
    workers = [start("order", "--worker", address) for _ in range(2)]
    code, out, err = ended(master)
    for worker in workers:
        assert ended(worker)[0] == 0
    answer = json.loads(out)
    assert code == 0, err
    assert (answer["verdict"], answer["workers"], answer["users"]) == ("good", 2, 4)
    rows = {row["Name"]: row for row in csv.DictReader((folder / "out" / "load_stats.csv").read_text().splitlines())}
    ours = {entry_name(entry["journey"], entry["step"]): entry for entry in answer["entries"]}
    assert set(ours) == {"order", "order/look", "order/pay"} == set(rows) - {"Aggregated"}
    for name, entry in ours.items():
        assert int(rows[name]["Request Count"]) == entry["runs"] > 0
        assert {part: round(seconds * 1000) for part, seconds in entry["percentiles"].items()} == {
            part: int(rows[name][column])
            for part, column in zip(entry["percentiles"], columns(rows[name]), strict=True)
        }
    counted = {each["objective"]: (each["good"], each["bad"], each["held"]) for each in answer["objectives"]}
    runs = ours["order"]["runs"]
    assert counted == {"order-fast": (runs, 0, "holds"), "pay-up": (runs, 0, "holds")}, "the last runs of both workers"
    samples = {
        (sample.name, sample.labels.get("step", ""), sample.labels.get("quantile", "")): sample
        for family in text_string_to_metric_families((folder / "out" / "load.prom").read_text())
        for sample in family.samples
    }
    step = samples["stormwatch_journey_step_duration_seconds", "pay", "0.95"]
    assert step.value == ours["order/pay"]["percentiles"]["0.95"] >= 0.05
    assert (step.labels["probe"], step.labels["location"], step.labels["users"]) == ("order", "fra1", "4")
    assert samples["probe_duration_seconds", "", "0.5"].value == ours["order"]["percentiles"]["0.5"]
    assert samples["stormwatch_load_runs", "", ""].value == runs


def columns(row: dict[str, str]) -> Sequence[str]:
    return [column for column in row if column.endswith("%")]


def test_an_objective_that_does_not_hold_is_exit_code_1_and_no_secret_is_shown(start: Start) -> None:
    code, out, err = ended(start("refused", "--users", "1", "--for", "1s"))
    assert code == 1, err
    assert "✗ refused-up fails: 0.000% of" in out
    assert "refused: ***" in out
    assert "canary" not in out + err


def test_a_client_of_a_journey_without_a_browser_is_refused_and_not_ignored(start: Start) -> None:
    code, out, err = ended(start("german", "order", "--for", "1s"))
    assert (code, out) == (2, "")
    assert err == (
        "german: `client` says who visits with a browser, and the test uses none (no page, context or browser); leave "
        "`client` out, and tell the test's own HTTP client what it needs\n"
    )


def test_sigterm_lets_runs_end_and_tells_what_was_seen(
    start: Start, folder: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long, so that runs are under way whenever the signal comes.
    monkeypatch.setenv("PAY", "1.5")
    load = start("journeys/test_shop.py::test_order", "--users", "2", "--for", "10m", "--format", "json")
    wait_for(
        lambda: shop.requests.count("GET /") > 1 or load.poll() is not None,
        what="users that visit the shop",
        seconds=HANG,
    )
    load.send_signal(signal.SIGTERM)
    code, out, err = ended(load)
    answer = json.loads(out)
    assert (code, answer["verdict"]) == (3, "no-verdict")
    assert "of 600 s" in answer["why"]
    assert "ending: users come to the end of their runs" in err
    said = (folder / "journeys" / "log").read_text().split()
    assert said.count("began") == said.count("ended"), "a run was cut off"
    runs = said.count("ended")
    assert [(entry["runs"], entry["failures"]) for entry in answer["entries"]] == [(runs, 0)] * 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ordr"], "ordr is neither a journey of stormwatch.yaml nor a file; did you mean order?"),
        (["order", "--master", "5557"], "--master 5557: wanted HOST:PORT, as in 127.0.0.1:5557"),
        (["order", "--for", "soon"], "--for: "),
        (["order", "--worker", "127.0.0.1:9", "--csv", "x"], "--csv: that is for the master to say"),
        (["order", "--worker", "127.0.0.1:9", "--master", "127.0.0.1:9"], "a process is one of them"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CARD", "canary-4711")
    assert run_here("load", *arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_without_locust_one_line_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CARD", "canary-4711")
    # As Python itself tells of a module that cannot be had.
    monkeypatch.setitem(sys.modules, "locust", None)
    assert run_here("load", "order") == 2
    assert capsys.readouterr().err == (
        "load is made by locust, which is not installed: pip install 'stormwatch[load]'\n"
    )


def run_here(*arguments: str) -> int:
    from stormwatch.harness.cli import main

    before, sys.argv = sys.argv, ["stormwatch", *arguments]
    try:
        main()
    except SystemExit as ended_with:
        return int(ended_with.code or 0)
    finally:
        sys.argv = before
    return 0
