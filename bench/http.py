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
import tempfile
import urllib.request
from collections.abc import Generator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvloop

from bench._beside import (
    DELAY,
    EXPORTER,
    Figures,
    Stage,
    arguments_of,
    children,
    exporter_command,
    memory_of,
    missing,
    program,
    serve_forever,
    table,
    work,
)
from tests.servers.process import free_port, running, wait_for

RATES = {"plain": 300, "tls": 120}
ERROR_RATE = 500
TARGETS = 1000
"""What memory is measured with."""


def main(given: Sequence[str] = ()) -> int:
    """Start the servers, measure, print."""
    arguments = arguments_of(given, about=__doc__, numbers=["slow"])
    if arguments.slow:
        return serve_forever(_serve_slowly(arguments.slow))
    if arguments.worker:
        uvloop.run(work(arguments, _check))
        return 0
    if absent := missing("nginx", EXPORTER):
        print(absent, file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as directory, _stage(Path(directory)) as stage:
        figures = _measure(stage, arguments.seconds)
        figures["memory_mb"] = {f"{TARGETS} targets": _memory(stage, Path(directory))}
    print(json.dumps(figures, indent=2) if arguments.json else table(figures, above="error of a measured 20 ms, in ms"))
    return 0


def _check(arguments: argparse.Namespace) -> tuple[str, str, Any]:
    from stormwatch.probes.http import HttpOptions, build

    return "http", arguments.target, build(arguments.target, HttpOptions(ca_file=arguments.ca))


def _measure(stage: Stage, seconds: float) -> Figures:
    errors = {f"{ERROR_RATE}/s": stage.errors("slow", seconds=seconds * 1.4, rate=ERROR_RATE)}
    for parallel in (1, 16, 64):
        errors[f"{parallel} parallel"] = stage.errors("slow", seconds=seconds * 0.6, parallel=parallel)
    return {
        "delay_seconds": DELAY,
        "cpu_ms": {target: stage.cpu(target, rate=rate, seconds=seconds) for target, rate in RATES.items()},
        "probes_per_second": {target: stage.speed(target, seconds=seconds * 0.7) for target in RATES},
        "error_ms": errors,
    }


def _memory(stage: Stage, directory: Path) -> Figures:
    """MB of each whole process after it has probed a thousand plain targets: ours with history, alerts and pages on."""
    targets = [f"{stage.targets['plain']}{number}" for number in range(TARGETS)]
    for target in targets:
        asked = f"{stage.exporter}/probe?module={stage.module}&target={quote(target, safe='')}"
        with urllib.request.urlopen(asked, timeout=10) as answer:
            answer.read()
    lines = [f'  - {{name: p{number}, kind: http, target: "{target}"}}' for number, target in enumerate(targets)]
    config = directory / "stormwatch.yaml"
    config.write_text("\n".join(["defaults: {every: 5s, timeout: 2s}", "probes:", *lines]))
    listen = free_port()
    stormwatch = str(Path(sys.executable).with_name("stormwatch"))
    command = [stormwatch, "run", "-c", str(config), "--listen", f"127.0.0.1:{listen}"]
    with running([*command, "--data", directory / "data"], log=directory / "run.log", port=listen) as ours:

        def all_probed() -> bool:
            with urllib.request.urlopen(f"http://127.0.0.1:{listen}/metrics", timeout=10) as answer:
                return bool(answer.read().count(b"\nprobe_success{") == TARGETS)

        wait_for(all_probed, what=f"a result of each of {TARGETS} probes", seconds=60)
        return {"ours": memory_of(ours.pid) / 1e6, "blackbox": memory_of(stage.exporter_pid) / 1e6}


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


# The stage


@contextlib.contextmanager
def _stage(directory: Path) -> Generator[Stage]:
    """The three targets and the exporter."""
    plain, tls, slow, exporter = (free_port() for _ in range(4))
    ca = certificates(directory)
    nginx = directory / "nginx.conf"
    nginx.write_text(
        f"daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.log;"
        "events { worker_connections 4096; } http { access_log off; "
        + temporary_paths(directory)
        + f"server {{ listen 127.0.0.1:{plain} backlog=4096; "
        'location / { return 200 "hello world\\n"; } }'
        f"server {{ listen 127.0.0.1:{tls} ssl http2 backlog=4096; ssl_certificate {directory}/server.pem;"
        f"ssl_certificate_key {directory}/server.key; ssl_session_cache off; ssl_session_tickets off;"
        'location / { return 200 "hello world\\n"; } } }'
    )
    modules = directory / "blackbox.yml"
    modules.write_text(
        "modules: {http: {prober: http, timeout: 5s, "
        f"http: {{preferred_ip_protocol: ip4, tls_config: {{ca_file: {ca}}}}}}}}}"
    )
    commands: list[tuple[Sequence[str], int]] = [
        ([program("nginx"), "-c", str(nginx), "-p", str(directory)], plain),
        ([sys.executable, "-m", "bench.http", "--slow", str(slow)], slow),
        (exporter_command(modules, exporter), exporter),
    ]
    with children(commands, directory / "servers.log") as started:
        yield Stage(
            bench="bench.http",
            targets={
                "plain": f"http://127.0.0.1:{plain}/",
                "tls": f"https://127.0.0.1:{tls}/",
                "slow": f"http://127.0.0.1:{slow}/",
            },
            ca=str(ca),
            module="http",
            exporter=f"http://127.0.0.1:{exporter}",
            exporter_pid=started[-1].pid,
        )


def temporary_paths(directory: Path) -> str:
    """Where nginx may write."""
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"{each}_temp_path {directory}/{each};" for each in names)


def certificates(directory: Path) -> Path:
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
