"""Targets that answer as badly as they can end by their deadlines, and five hundred ordinary probes do not notice."""

import json
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.program import program
from tests.servers.hostile import PATHS
from tests.servers.process import free_port, running, wait_for

STORMWATCH = Path(sys.executable).with_name("stormwatch")

ORDINARY = 500
TIMEOUT = 1.5
"""Seconds that a run against a hostile target may take."""

EXPECTED: dict[str, set[str]] = {
    "drip-head": {"timeout"},
    "drip-body": {"timeout"},
    "endless-head": {"protocol", "assertion"},
    "many-headers": {"protocol", "assertion"},
    "endless-redirect": {"status"},
    "zip-bomb": {"assertion"},
    "huge-body": {"assertion"},
    "endless-chunks": {"assertion", "timeout"},
    "catastrophic": {"assertion"},
    "deep-json": {"assertion", "protocol"},
    "informational": {"timeout", "protocol", "assertion"},
    "garbage": {"protocol", "reset"},
    "silent": {"timeout"},
    "tls-chain": {"certificate", "tls"},
    "tls-silent": {"timeout"},
    "tls-garbage": {"protocol", "tls", "reset"},
    "tcp-drip": {"timeout"},
    "tcp-pour": {"protocol", "timeout"},
    "dns-loop": {"protocol"},
    "dns-ladder": {"protocol"},
    "dns-flood": {"protocol", "timeout"},
    "dns-garbage": {"protocol", "timeout"},
    "dns-many": {"protocol", "timeout"},
    "dns-chain": {"assertion", "protocol", "dns"},
}
"""The reasons for which each of them may be down: several where it depends on how far a run comes in its time."""


def hostile_probes(ports: dict[str, int]) -> list[dict[str, Any]]:
    """One of each, every three seconds."""

    def probe(name: str, kind: str, target: str, **options: Any) -> dict[str, Any]:
        return {"name": name, "kind": kind, "target": target, "every": "3s", "timeout": f"{TIMEOUT}s", kind: options}

    at = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    expect: dict[str, Any] = {
        "catastrophic": {"body_matches": ["(a+)+$"]},
        "deep-json": {"json": [{"path": "a", "exists": True}]},
    }
    web = [
        probe(path[1:], "http", f"http://{at['web']}{path}", compression="gzip", expect=expect.get(path[1:], {}))
        for path in PATHS
    ]
    return [
        *web,
        probe("tls-chain", "tls", at["chain"]),
        probe("tls-silent", "tls", at["silent"]),
        probe("tls-garbage", "tls", at["garbage"]),
        probe("tcp-drip", "tcp", at["drip"], dialogue=[{"expect": "^never"}]),
        probe("tcp-pour", "tcp", at["pour"], dialogue=[{"expect": "^never"}]),
        *(
            probe(f"dns-{how}", "dns", f"{how}.test", server=at["names"])
            for how in ("loop", "ladder", "flood", "garbage", "many", "chain")
        ),
    ]


@pytest.fixture
def nginx(tmp_path: Path) -> Generator[str]:
    """The URL of an ordinary server."""
    port = free_port()
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; error_log stderr; pid {tmp_path}/nginx.pid; worker_processes 1; events {{ worker_connections 2048; }}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p; fastcgi_temp_path "
        f"{tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s; server {{ listen 127.0.0.1:{port};"
        " location / { return 200 'ok'; } } }\n"
    )
    with running([program("nginx"), "-c", config, "-p", tmp_path], log=tmp_path / "nginx.log", port=port):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def hostile(tmp_path: Path) -> Generator[dict[str, int]]:
    """The ports of the program that answers badly."""
    directory = tmp_path / "hostile"
    directory.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.servers.hostile", str(directory)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    ) as child:
        assert child.stdout is not None
        yield json.loads(child.stdout.readline())
        child.terminate()


def resident(pid: int) -> float:
    """MiB of memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024


def results(path: Path, *, after: float = 0.0) -> list[dict[str, Any]]:
    """What was written so far; a line that is being written is left."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [result for result in map(json.loads, lines) if result["started"] >= after]


@pytest.mark.alone
@pytest.mark.slow
def test_hostile_targets_end_in_time_and_the_others_do_not_notice(
    tmp_path: Path, nginx: str, hostile: dict[str, int]
) -> None:
    """Every hostile target, round after round; memory stays flat; the median of the others stays where it was."""
    ordinary = [
        {"name": f"ordinary-{n}", "kind": "http", "target": nginx, "every": "2s", "timeout": "1s"}
        for n in range(ORDINARY)
    ]
    quiet, loud = tmp_path / "quiet.jsonl", tmp_path / "loud.jsonl"

    def watch(probes: list[dict[str, Any]], lines: Path, rounds: int) -> tuple[list[dict[str, Any]], list[float]]:
        config = tmp_path / "stormwatch.yaml"
        defaults = {"confirm": {"attempts": 1}, "every": "3s", "timeout": "1s"}
        config.write_text(yaml.safe_dump({"defaults": defaults, "probes": probes}))
        listen, memory = free_port(), list[float]()
        run = [STORMWATCH, "run", "-c", config, "--listen", f"127.0.0.1:{listen}", "--data", tmp_path / lines.stem]
        with running([*run, "--jsonl", lines], log=tmp_path / f"{lines.stem}.log", port=listen) as child:
            last = probes[-1]["name"]
            for number in range(1, rounds + 1):
                wait_for(
                    lambda: sum(result["probe"] == last for result in results(lines)) >= number,  # noqa: B023
                    what=f"round {number} of {last}",
                )
                memory.append(resident(child.pid))
            with urllib.request.urlopen(f"http://127.0.0.1:{listen}/metrics", timeout=10) as answer:
                assert b"stormwatch_loop_lag_seconds" in answer.read()
        return results(lines), memory

    before, _ = watch(ordinary, quiet, 4)
    after, memory = watch([*ordinary, *hostile_probes(hostile)], loud, 5)

    ended = {name: [result for result in after if result["probe"] == name] for name in EXPECTED}
    assert {name for name, those in ended.items() if len(those) < 3} == set()
    wrong = {
        name: {(result["outcome"], result["reason"], result["message"]) for result in those}
        for name, those in ended.items()
        if any(result["outcome"] != "down" or result["reason"] not in EXPECTED[name] for result in those)
    }
    assert wrong == {}
    assert max(result["seconds"] for those in ended.values() for result in those) < TIMEOUT + 0.5

    # The first rounds fill buffers and pools; from then on nothing may grow with the rounds.
    assert memory[-1] - memory[1] < 40, memory

    def took(found: list[dict[str, Any]]) -> list[float]:
        mine = [result for result in found if result["probe"].startswith("ordinary-")]
        assert {result["outcome"] for result in mine} == {"up"}
        return sorted(result["seconds"] for result in mine)[: int(len(mine) * 0.99)]

    # Both cores are shared with the servers: a generous bound on the middle, which a blocked loop would move at once.
    assert statistics.median(took(after)) < 3 * statistics.median(took(before)) + 0.002
