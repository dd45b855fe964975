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
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import uvloop

from bench._beside import (
    DELAY,
    EXPORTER,
    Figures,
    Stage,
    arguments_of,
    children,
    exporter_command,
    missing,
    program,
    serve_forever,
    table,
    work,
)
from bench.http import certificates, temporary_paths
from tests.servers.process import free_port

RATE = 150
PARALLEL = (1, 16, 64)


def main(given: Sequence[str] = ()) -> int:
    """Start the servers, measure, print."""
    arguments = arguments_of(given, about=__doc__, numbers=["door", "behind"])
    if arguments.door:
        return serve_forever(_keep_the_door(arguments.door, arguments.behind))
    if arguments.worker:
        uvloop.run(work(arguments, _check))
        return 0
    if absent := missing("nginx", EXPORTER):
        print(absent, file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as directory, _stage(Path(directory)) as stage:
        figures = _measure(stage, arguments.seconds)
    print(json.dumps(figures, indent=2) if arguments.json else table(figures, above="above a delay of 20 ms, in ms"))
    return 0


def _check(arguments: argparse.Namespace) -> tuple[str, str, Any]:
    from stormwatch.probes.tls import TlsOptions, build

    return "tls", arguments.target, build(arguments.target, TlsOptions(ca_file=arguments.ca))


def _measure(stage: Stage, seconds: float) -> Figures:
    return {
        "delay_seconds": DELAY,
        "cpu_ms": {"tls": stage.cpu("tls", rate=RATE, seconds=seconds)},
        "probes_per_second": {"tls": stage.speed("tls", seconds=seconds * 0.7)},
        "error_ms": {
            f"{parallel} parallel": stage.errors("late", seconds=seconds * 0.6, parallel=parallel)
            for parallel in PARALLEL
        },
    }


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


# The stage


@contextlib.contextmanager
def _stage(directory: Path) -> Generator[Stage]:
    """Nginx, the door before it, and the exporter."""
    tls, late, exporter = (free_port() for _ in range(3))
    ca = certificates(directory)
    nginx = directory / "nginx.conf"
    nginx.write_text(
        f"daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.log;"
        "events { worker_connections 4096; } http { access_log off; "
        + temporary_paths(directory)
        + f"server {{ listen 127.0.0.1:{tls} ssl backlog=4096; ssl_certificate {directory}/server.pem;"
        f"ssl_certificate_key {directory}/server.key; ssl_protocols TLSv1.2 TLSv1.3;"
        "ssl_session_cache off; ssl_session_tickets off; } }"
    )
    modules = directory / "blackbox.yml"
    modules.write_text(
        "modules: {tls: {prober: tcp, timeout: 5s, "
        f"tcp: {{preferred_ip_protocol: ip4, tls: true, tls_config: {{ca_file: {ca}}}}}}}}}"
    )
    commands: list[tuple[Sequence[str], int]] = [
        ([program("nginx"), "-c", str(nginx), "-p", str(directory)], tls),
        ([sys.executable, "-m", "bench.tls", "--door", str(late), "--behind", str(tls)], late),
        (exporter_command(modules, exporter), exporter),
    ]
    with children(commands, directory / "servers.log") as started:
        yield Stage(
            bench="bench.tls",
            targets={"tls": f"127.0.0.1:{tls}", "late": f"127.0.0.1:{late}"},
            ca=str(ca),
            module="tls",
            exporter=f"http://127.0.0.1:{exporter}",
            exporter_pid=started[-1].pid,
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
