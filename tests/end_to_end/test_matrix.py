"""A whole matrix as a user runs it: what is not watched survives, what is watched does not, an interruption loses nothing."""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.matrix import Matrix
from tests.servers.command import Command, invoke, staying
from tests.servers.process import free_port, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
CONFIG = """\
# stormwatch.yaml
defaults: {{every: 1s, timeout: 900ms, confirm: {{attempts: 1}}}}
probes:
  - name: front
    kind: http
    target: http://127.0.0.1:{shop}/
    http: {{expect: {{status: [200], slower_than: 700ms}}}}
  # Only that somebody accepts connections: what the matrix is to find.
  - {{name: database, kind: tcp, target: "127.0.0.1:{database}"}}
proxies:
  control: 127.0.0.1:{control}
  routes:
    - {{name: shop, listen: "127.0.0.1:{shop}", upstream: "127.0.0.1:{upstream}", http: true}}
    - {{name: database, listen: "127.0.0.1:{database}", upstream: "127.0.0.1:{upstream}"}}
"""
CELLS = [
    f"shop/{kind}" for kind in ("tcp-latency", "tcp-blackhole", "tcp-reset", "tcp-refused", "http-status", "http-body")
]
CELLS += [f"database/{kind}" for kind in ("tcp-latency", "tcp-blackhole", "tcp-refused")]


class Quiet(BaseHTTPRequestHandler):
    """Answers every GET."""

    def do_GET(self) -> None:
        """One line."""
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


@pytest.fixture
def config(tmp_path: Path) -> Generator[Path]:
    """A service behind two routes of a `stormwatch proxy`, and the configuration that watches it through them."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = {name: free_port() for name in ("shop", "database", "control")}
    path = tmp_path / "stormwatch.yaml"
    path.write_text(CONFIG.format(**ports, upstream=server.server_port))
    try:
        with staying("proxy", "-c", path, log=tmp_path / "proxy.log", port=ports["control"]):
            yield path
    finally:
        server.shutdown()
        server.server_close()


def command(config: Path, *arguments: str | Path) -> list[str | Path]:
    return ["drill", "--matrix", *CELLS, "-c", config, *arguments]


def states(document: dict[str, Any]) -> dict[str, str]:
    return {one["cell"]["name"]: one["state"] for one in document["outcomes"]}


def test_a_matrix_finds_what_is_not_watched_and_goes_on_after_interruption_and_death(
    config: Path, tmp_path: Path
) -> None:
    """SIGTERM in the middle takes the faults back and keeps what is known; so does what comes after a SIGKILL.

    --resume runs the rest, and no cell twice: also when the death tore the last line.
    """
    environ = {**os.environ, "STORMWATCH_STATE": str(tmp_path / "state")}
    journal = tmp_path / "state" / "matrix.jsonl"

    def known() -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            lines = [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("}")]
            return [line["outcome"]["cell"]["name"] for line in lines if "outcome" in line]
        return []

    def begun(name: str, *arguments: str) -> Command:
        log = tmp_path / f"{name}.log"
        return Command(command(config, *arguments), log, log, env=environ)

    first = begun("first")
    wait_for(lambda: len(known()) >= 2 or first.poll() is not None, what="two cells to be known", seconds=60)
    first.send_signal(signal.SIGTERM)
    first.wait(60)
    before = known()

    said = (tmp_path / "first.log").read_text()
    assert first.returncode == 3, said
    assert "go on with --resume" in said
    assert 2 <= len(before) < len(CELLS)

    second = begun("second", "--resume")
    records = tmp_path / "state" / "undo"
    wait_for(
        lambda: (len(known()) > len(before) and any(records.glob("*.json"))) or second.poll() is not None,
        what="a fault in place after another cell",
        seconds=60,
    )
    second.kill()
    second.wait(60)
    assert second.returncode == -signal.SIGKILL, (tmp_path / "second.log").read_text()
    with journal.open("a") as torn:
        torn.write('{"outcome":{"cell":')

    page, markdown = tmp_path / "matrix.html", tmp_path / "matrix.md"
    resumed = command(config, "--resume", "--format", "json", "--report", page, "--markdown", markdown)
    third = invoke(*resumed, timeout=180, env=environ)
    assert third.returncode == 1, third.stderr
    document = json.loads(third.stdout)

    assert states(document) == {
        **dict.fromkeys(CELLS, "killed"),
        "shop/http-body": "survived",
        "database/tcp-blackhole": "survived",
        "database/tcp-latency": "equivalent",
    }
    assert (document["score"]["killed"], document["score"]["of"]) == (6, 8)
    assert {one["cell"] for one in document["survivors"]} == {"shop/http-body", "database/tcp-blackhole"}
    assert sorted(known()) == sorted(CELLS), "a cell was run twice, or never"
    assert not [alarm for control in document["controls"] for alarm in control["alarms"]]
    assert Matrix.from_json(document).score.killed == 6
    assert "Would we have heard of it?" in page.read_text()
    assert "nobody would have heard of this" in markdown.read_text()

    undone = invoke("undo", env=environ)
    assert undone.stdout == "nothing to undo: no fault is recorded\n"


BUDGET = """\
objectives:
  - name: front-fast
    probe: front
    target: 90%
    slower_than: 500ms
    window: 1d
    burns: [{severity: page, long: 3m, short: 1m, factor: 2}]
"""
BURN = {"alertname": "ErrorBudgetBurn", "severity": "page", "objective": "front-fast"}


def test_a_scaled_matrix_is_repeated_and_checked_at_full_scale(config: Path, tmp_path: Path) -> None:
    """Each cell as often as asked, in rounds; then the one alert about a budget that told, with its windows as they are."""
    text = config.read_text().replace(", slower_than: 700ms", "")
    config.write_text(text + BUDGET)
    page = tmp_path / "matrix.html"
    asked = "drill --matrix shop/tcp-latency database/tcp-refused --repeat 2 --scale 1/60 --check-scale --format json"
    environ = {**os.environ, "STORMWATCH_STATE": str(tmp_path / "state")}
    ended = invoke(*asked.split(), "-c", config, "--report", page, timeout=180, env=environ)
    assert ended.stdout, ended.stderr
    document = json.loads(ended.stdout)
    found = Matrix.from_json(document)

    assert states(document) == {"shop/tcp-latency": "killed", "database/tcp-refused": "killed"}, ended.stderr
    assert [len(one.repeats) for one in found.outcomes] == [1, 1]
    assert found.score == (2, 2)
    assert document["scale"] == "1/60"
    (checked,) = found.checks
    assert checked.cell.name == "shop/tcp-latency at full scale: front-fast (page)"
    assert [dict(one.labels) for one in checked.caught] == [BURN]
    scaled = next(one for one in found.outcomes if one.cell.name == "shop/tcp-latency").cell
    within = {one.labels["alertname"]: one.within for one in scaled.catchers}
    assert checked.cell.limit > 36 > within["ErrorBudgetBurn"], "20 % of three minutes, and of three seconds"
    assert ended.returncode == 0
    assert "2 of 2 cells in" in page.read_text()
    assert ", each 2 times" in page.read_text()
