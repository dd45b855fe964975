"""What a TLS probe costs, and how far its latency is off, beside blackbox_exporter on the same targets in one run.

    python -m bench.tls            a table
    python -m bench.tls --json     the same as one JSON object

Two targets on loopback: nginx with TLS 1.3 and an elliptic certificate, and the same nginx behind a door that opens after
exactly 20 ms. Both probers verify the chain. Ours are run by `run_once` on uvloop in a process of their own, whose whole CPU
time is counted. blackbox_exporter (prober tcp with TLS) is asked over kept-alive HTTP by a load generator, and only its own
CPU time is counted, read from /proc: its share includes rendering the metrics of each probe, ours does not.

The error of a latency is what was measured above 20 ms: a whole handshake is in it, for both.
"""

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import uvloop

from bench.http import (
    DELAY,
    _certificates,
    _closed_loop,
    _cpu,
    _cpu_of,
    _errors,
    _free_port,
    _open_loop,
    _program,
    _theirs,
    _wait_for,
)

ROOT = Path(__file__).resolve().parent.parent
RATE = 150
PARALLEL = (1, 16, 64)


# The worker: one process, one kind of load, one JSON object on its standard output


async def _work(arguments: argparse.Namespace) -> None:
    async with contextlib.AsyncExitStack() as stack:
        one = await (_ours if arguments.worker == "ours" else _theirs)(arguments, stack)
        for _ in range(30):
            await one()
        used, began = _cpu(), time.perf_counter()
        if arguments.rate:
            seconds = await _open_loop(one, arguments.rate, arguments.seconds)
        else:
            seconds = await _closed_loop(one, arguments.parallel, arguments.seconds)
        took = time.perf_counter() - began
        print(json.dumps({"runs": len(seconds), "took": took, "cpu": _cpu() - used, "seconds": seconds}))


async def _ours(arguments: argparse.Namespace, stack: contextlib.AsyncExitStack) -> Callable[[], Awaitable[float]]:
    from stormwatch.probes.clock import SystemClock
    from stormwatch.probes.probe import Probe
    from stormwatch.probes.resources import Resources
    from stormwatch.probes.result import Outcome, Reason
    from stormwatch.probes.run import run_once
    from stormwatch.probes.tls import TlsOptions, build

    resources = await stack.enter_async_context(Resources())
    clock = SystemClock()
    check = build(arguments.target, TlsOptions(ca_file=arguments.ca))
    probe = Probe(name="bench", kind="tls", target=arguments.target, check=check)

    async def one() -> float:
        result = await run_once(probe, clock=clock, resources=resources)
        if result.outcome is not Outcome.UP and result.reason is not Reason.TIMEOUT:
            raise SystemExit(f"our probe of {arguments.target} is {result.outcome}: {result.message}")
        return result.seconds

    return one


# The door


class _Door(asyncio.Protocol):
    """Passes everything on between a client and nginx, from `DELAY` seconds after the client came."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._early = bytearray()
        self.other: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._own: Any = transport
        loop = asyncio.get_running_loop()
        loop.call_later(DELAY, lambda: loop.create_task(self._open()))

    async def _open(self) -> None:
        if self._own.is_closing():
            return
        loop = asyncio.get_running_loop()
        _, inner = await loop.create_connection(lambda: _Inner(self._own), "127.0.0.1", self._behind)
        self.other = inner.own
        self.other.write(bytes(self._early))

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early += data
        else:
            self.other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.close()


class _Inner(asyncio.Protocol):
    def __init__(self, client: asyncio.WriteTransport) -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.own: Any = transport

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.close()


async def _keep_the_door(port: int, behind: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Door(behind), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


# The bench


def main(given: Sequence[str] = ()) -> int:
    """Start the servers, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    for name in ("--worker", "--target", "--ca", "--exporter", "--module"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    for name in ("--rate", "--parallel", "--door", "--behind"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.door:
        uvloop.run(_keep_the_door(arguments.door, arguments.behind))
        return 0
    if arguments.worker:
        uvloop.run(_work(arguments))
        return 0
    missing = [name for name in ("nginx", "prometheus-blackbox-exporter") if not _program(name)]
    if missing:
        print(f"bench/tls needs {' and '.join(missing)}: install them, on Debian with apt-get", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as directory, _stage(Path(directory)) as stage:
        figures = _measure(stage, arguments.seconds)
    print(json.dumps(figures, indent=2) if arguments.json else _table(figures))
    return 0


class _Stage:
    def __init__(self, targets: dict[str, str], ca: str, exporter: str, exporter_pid: int) -> None:
        self.targets = targets
        self.ca = ca
        self.exporter = exporter
        self.exporter_pid = exporter_pid

    def run(self, who: str, target: str, *, seconds: float, rate: int = 0, parallel: int = 0) -> dict[str, Any]:
        """One measurement in a process of its own; CPU is that of the prober."""
        before = _cpu_of(self.exporter_pid)
        command = [sys.executable, "-m", "bench.tls", "--worker", who, "--target", self.targets[target]]
        command += ["--seconds", str(seconds), "--rate", str(rate), "--parallel", str(parallel)]
        command += ["--ca", self.ca] if who == "ours" else ["--exporter", self.exporter, "--module", "tls"]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise SystemExit(f"a measurement failed: {done.stderr[-2000:]}")
        found = json.loads(done.stdout)
        if who == "blackbox":
            # The thirty runs that warm up are in the exporter's time too.
            found["cpu"] = (_cpu_of(self.exporter_pid) - before) * found["runs"] / (found["runs"] + 30)
        return found


def _measure(stage: _Stage, seconds: float) -> dict[str, Any]:
    probers = ("ours", "blackbox")
    # Twice, in turns, and the lower of each: what else runs on the machine disturbs neither more than the other.
    rounds = [
        {who: stage.run(who, "tls", seconds=seconds, rate=RATE) for who in order} for order in (probers, probers[::-1])
    ]
    cpu = {who: min(each[who]["cpu"] / each[who]["runs"] * 1e3 for each in rounds) for who in probers}
    speed = {who: stage.run(who, "tls", seconds=seconds * 0.7, parallel=16) for who in probers}
    return {
        "delay_seconds": DELAY,
        "cpu_ms": {**cpu, "ratio": cpu["ours"] / cpu["blackbox"], "rate": RATE},
        "probes_per_second": {who: each["runs"] / each["took"] for who, each in speed.items()},
        "error_ms": {
            f"{parallel} parallel": {
                who: _errors(stage.run(who, "late", seconds=seconds * 0.6, parallel=parallel)) for who in probers
            }
            for parallel in PARALLEL
        },
    }


def _table(figures: dict[str, Any]) -> str:
    cpu, speed = figures["cpu_ms"], figures["probes_per_second"]
    ratio = speed["ours"] / speed["blackbox"]
    lines = [
        f"{'':34}{'stormwatch':>20}{'blackbox':>20}{'ratio':>8}",
        f"{f'CPU ms a probe, {RATE}/s':34}{cpu['ours']:20.3f}{cpu['blackbox']:20.3f}{cpu['ratio']:8.2f}",
        f"{'probes/s, 16 parallel':34}{speed['ours']:20.0f}{speed['blackbox']:20.0f}{ratio:8.2f}",
        "",
        f"{'above a delay of 20 ms, in ms':34}{'p50 / p99':>20}{'p50 / p99':>20}",
    ]
    for load, error in figures["error_ms"].items():
        ours, theirs = (f"{error[who]['p50']:.2f} / {error[who]['p99']:.2f}" for who in ("ours", "blackbox"))
        lines.append(f"{load:34}{ours:>20}{theirs:>20}")
    return "\n".join(lines)


@contextlib.contextmanager
def _stage(directory: Path) -> Generator[_Stage]:
    """Nginx, the door before it, and the exporter."""
    tls, late, exporter = (_free_port() for _ in range(3))
    ca = _certificates(directory)
    temporary = "".join(
        f"{each}_temp_path {directory}/{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    nginx = directory / "nginx.conf"
    nginx.write_text(
        f"daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.log;"
        "events { worker_connections 4096; } http { access_log off; "
        + temporary
        + f"server {{ listen 127.0.0.1:{tls} ssl backlog=4096; ssl_certificate {directory}/server.pem;"
        f"ssl_certificate_key {directory}/server.key; ssl_protocols TLSv1.2 TLSv1.3;"
        "ssl_session_cache off; ssl_session_tickets off; } }"
    )
    blackbox = directory / "blackbox.yml"
    blackbox.write_text(
        "modules: {tls: {prober: tcp, timeout: 5s, "
        f"tcp: {{preferred_ip_protocol: ip4, tls: true, tls_config: {{ca_file: {ca}}}}}}}}}"
    )
    commands: list[tuple[Sequence[str], int]] = [
        ([_program("nginx"), "-c", str(nginx), "-p", str(directory)], tls),
        ([sys.executable, "-m", "bench.tls", "--door", str(late), "--behind", str(tls)], late),
        (
            [
                _program("prometheus-blackbox-exporter"),
                f"--config.file={blackbox}",
                f"--web.listen-address=127.0.0.1:{exporter}",
                "--log.level=error",
            ],
            exporter,
        ),
    ]
    children: list[subprocess.Popen[bytes]] = []
    try:
        for command, port in commands:
            child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            children.append(child)
            _wait_for(port, child)
        yield _Stage(
            {"tls": f"127.0.0.1:{tls}", "late": f"127.0.0.1:{late}"},
            str(ca),
            f"http://127.0.0.1:{exporter}",
            children[-1].pid,
        )
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(10)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
