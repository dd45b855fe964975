"""What an HTTP probe costs, and how far its latency is off, beside blackbox_exporter on the same targets in one run.

    python -m bench.http            a table
    python -m bench.http --json     the same as one JSON object

Three targets on loopback: nginx plain, nginx with TLS 1.2 and HTTP/2, and a server that answers after exactly 20 ms. Every run
of a probe opens a connection of its own. Ours are run by `run_once` on uvloop in a process of their own, whose whole CPU
time is counted. blackbox_exporter is asked over kept-alive HTTP by a load generator, and only its own CPU time is
counted, read from /proc: its share includes rendering the metrics of each probe, ours does not.
"""

import sys

if sys.path and sys.path[0].endswith("bench"):  # run as a script: our name would hide the standard library's http
    sys.path.pop(0)

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pycurl
import uvloop

ROOT = Path(__file__).resolve().parent.parent
DELAY = 0.020
"""Seconds that the slow server takes: what is measured above it is the prober's error."""

RATES = {"plain": 300, "tls": 120}
ERROR_RATE = 500


# The worker: one process, one kind of load, one JSON object on its standard output


def worker(arguments: argparse.Namespace) -> None:
    """Run probes of ours, or ask blackbox_exporter for its own."""
    uvloop.run(_work(arguments))


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


async def _open_loop(one: Callable[[], Awaitable[float]], rate: float, seconds: float) -> list[float]:
    """Start runs by the clock, whether earlier ones have ended or not."""
    began, tasks = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        wait = began + number / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.ensure_future(one()))
    return list(await asyncio.gather(*tasks))


async def _closed_loop(one: Callable[[], Awaitable[float]], parallel: int, seconds: float) -> list[float]:
    """Keep so many runs going."""
    end, found = time.perf_counter() + seconds, []

    async def repeat() -> None:
        while time.perf_counter() < end:
            found.append(await one())

    await asyncio.gather(*(repeat() for _ in range(parallel)))
    return found


async def _ours(arguments: argparse.Namespace, stack: contextlib.AsyncExitStack) -> Callable[[], Awaitable[float]]:
    from stormwatch.probes.clock import SystemClock
    from stormwatch.probes.http import HttpOptions, build
    from stormwatch.probes.probe import Probe
    from stormwatch.probes.resources import Resources
    from stormwatch.probes.result import Outcome, Reason
    from stormwatch.probes.run import run_once

    resources = await stack.enter_async_context(Resources())
    clock = SystemClock()
    check = build(arguments.target, HttpOptions(ca_file=arguments.ca))
    probe = Probe(name="bench", kind="http", target=arguments.target, check=check)

    async def one() -> float:
        result = await run_once(probe, clock=clock, resources=resources)
        if result.outcome is not Outcome.UP and result.reason is not Reason.TIMEOUT:
            raise SystemExit(f"our probe of {arguments.target} is {result.outcome}: {result.message}")
        return result.seconds

    return one


async def _theirs(arguments: argparse.Namespace, stack: contextlib.AsyncExitStack) -> Callable[[], Awaitable[float]]:
    from stormwatch.probes.curl import CurlEngine

    engine = CurlEngine()
    stack.push_async_callback(engine.aclose)
    asked = f"{arguments.exporter}/probe?module={arguments.module}&target={quote(arguments.target, safe='')}"
    duration = re.compile(rb"^probe_duration_seconds (\S+)$", re.MULTILINE)
    idle: list[pycurl.Curl] = []

    async def one() -> float:
        handle = idle.pop() if idle else pycurl.Curl()
        body: list[bytes] = []
        handle.setopt(pycurl.URL, asked)
        handle.setopt(pycurl.WRITEFUNCTION, body.append)
        ended = await engine.perform(handle)
        idle.append(handle)
        page = b"".join(body)
        found = duration.search(page)
        # A probe that timed out under the load counts with the seconds it took: it is an error of measurement too.
        if ended.code or found is None or (b"\nprobe_success 1" not in page and float(found[1]) < 4.9):
            raise SystemExit(f"blackbox_exporter's probe of {arguments.target} failed: {ended} {page!r}")
        return float(found[1])

    return one


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# The slow server


class _Slow(asyncio.Protocol):
    """Answers each request exactly `DELAY` seconds after it came."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            asyncio.get_running_loop().call_later(DELAY, self._answer)

    def _answer(self) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")  # type: ignore[attr-defined]  # a stream's transport
        self._transport.close()


async def _serve_slowly(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Slow, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


# The bench


def main(given: Sequence[str] = ()) -> int:
    """Start the servers, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    for name in ("--worker", "--target", "--ca", "--exporter", "--module"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    for name in ("--rate", "--parallel", "--slow"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.slow:
        uvloop.run(_serve_slowly(arguments.slow))
        return 0
    if arguments.worker:
        worker(arguments)
        return 0
    missing = [name for name in ("nginx", "prometheus-blackbox-exporter") if not _program(name)]
    if missing:
        print(f"bench/http needs {' and '.join(missing)}: install them, on Debian with apt-get", file=sys.stderr)
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
        command = [sys.executable, "-m", "bench.http", "--worker", who, "--target", self.targets[target]]
        command += ["--seconds", str(seconds), "--rate", str(rate), "--parallel", str(parallel)]
        command += ["--ca", self.ca] if who == "ours" else ["--exporter", self.exporter, "--module", "http"]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise SystemExit(f"a measurement failed: {done.stderr[-2000:]}")
        found = json.loads(done.stdout)
        if who == "blackbox":
            # The thirty runs that warm up are in the exporter's time too.
            found["cpu"] = (_cpu_of(self.exporter_pid) - before) * found["runs"] / (found["runs"] + 30)
        return found


def _measure(stage: _Stage, seconds: float) -> dict[str, Any]:
    figures: dict[str, Any] = {"delay_seconds": DELAY, "cpu_ms": {}, "probes_per_second": {}, "error_ms": {}}
    probers = ("ours", "blackbox")
    for target, rate in RATES.items():
        # Twice, in turns, and the lower of each: what else runs on the machine disturbs neither more than the other.
        rounds = [
            {who: stage.run(who, target, seconds=seconds, rate=rate) for who in order}
            for order in (probers, probers[::-1])
        ]
        cpu = {who: min(each[who]["cpu"] / each[who]["runs"] * 1e3 for each in rounds) for who in probers}
        figures["cpu_ms"][target] = {**cpu, "ratio": cpu["ours"] / cpu["blackbox"], "rate": rate}
        speed = {who: stage.run(who, target, seconds=seconds * 0.7, parallel=16) for who in probers}
        figures["probes_per_second"][target] = {who: each["runs"] / each["took"] for who, each in speed.items()}
    figures["error_ms"][f"{ERROR_RATE}/s"] = {
        who: _errors(stage.run(who, "slow", seconds=seconds * 1.4, rate=ERROR_RATE)) for who in probers
    }
    for parallel in (1, 16, 64):
        figures["error_ms"][f"{parallel} parallel"] = {
            who: _errors(stage.run(who, "slow", seconds=seconds * 0.6, parallel=parallel)) for who in probers
        }
    return figures


def _errors(found: dict[str, Any]) -> dict[str, float]:
    errors = sorted((seconds - DELAY) * 1e3 for seconds in found["seconds"])
    return {"p50": errors[len(errors) // 2], "p99": errors[int(len(errors) * 0.99)], "runs": len(errors)}


def _table(figures: dict[str, Any]) -> str:
    lines = [f"{'':34}{'stormwatch':>20}{'blackbox':>20}{'ratio':>8}"]
    for target, cpu in figures["cpu_ms"].items():
        what = f"CPU ms a probe, {target}, {cpu['rate']}/s"
        lines.append(f"{what:34}{cpu['ours']:20.3f}{cpu['blackbox']:20.3f}{cpu['ratio']:8.2f}")
    for target, speed in figures["probes_per_second"].items():
        ratio = speed["ours"] / speed["blackbox"]
        lines.append(
            f"{f'probes/s, {target}, 16 parallel':34}{speed['ours']:20.0f}{speed['blackbox']:20.0f}{ratio:8.2f}"
        )
    lines.append("")
    lines.append(f"{'error of a measured 20 ms, in ms':34}{'p50 / p99':>20}{'p50 / p99':>20}")
    for load, error in figures["error_ms"].items():
        ours, theirs = (f"{error[who]['p50']:.2f} / {error[who]['p99']:.2f}" for who in ("ours", "blackbox"))
        lines.append(f"{load:34}{ours:>20}{theirs:>20}")
    return "\n".join(lines)


@contextlib.contextmanager
def _stage(directory: Path) -> Generator[_Stage]:
    """The three targets and the exporter."""
    plain, tls, slow, exporter = (_free_port() for _ in range(4))
    ca = _certificates(directory)
    temporary = "".join(
        f"{each}_temp_path {directory}/{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    nginx = directory / "nginx.conf"
    nginx.write_text(
        f"daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.log;"
        "events { worker_connections 4096; } http { access_log off; "
        + temporary
        + f"server {{ listen 127.0.0.1:{plain} backlog=4096; "
        'location / { return 200 "hello world\\n"; } }'
        f"server {{ listen 127.0.0.1:{tls} ssl http2 backlog=4096; ssl_certificate {directory}/server.pem;"
        f"ssl_certificate_key {directory}/server.key; ssl_session_cache off; ssl_session_tickets off;"
        'location / { return 200 "hello world\\n"; } } }'
    )
    blackbox = directory / "blackbox.yml"
    blackbox.write_text(
        "modules: {http: {prober: http, timeout: 5s, "
        f"http: {{preferred_ip_protocol: ip4, tls_config: {{ca_file: {ca}}}}}}}}}"
    )
    commands: list[tuple[Sequence[str], int]] = [
        ([_program("nginx"), "-c", str(nginx), "-p", str(directory)], plain),
        ([sys.executable, "-m", "bench.http", "--slow", str(slow)], slow),
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
            {
                "plain": f"http://127.0.0.1:{plain}/",
                "tls": f"https://127.0.0.1:{tls}/",
                "slow": f"http://127.0.0.1:{slow}/",
            },
            str(ca),
            f"http://127.0.0.1:{exporter}",
            children[-1].pid,
        )
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(10)


def _certificates(directory: Path) -> Path:
    """An authority and its certificate for 127.0.0.1, elliptic, as most servers have one today."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now, day = datetime.now(UTC), timedelta(days=1)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Bench Authority")])
    builder = x509.CertificateBuilder().issuer_name(ca_name).not_valid_before(now - day).not_valid_after(now + 30 * day)
    ca = (
        builder.subject_name(ca_name)
        .public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = (
        builder.subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(names, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(ca.public_bytes(pem))
    (directory / "server.pem").write_bytes(server.public_bytes(pem))
    (directory / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory / "ca.pem"


def _cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait_for(port: int, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and child.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"{child.args} does not listen on port {port}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
