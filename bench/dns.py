"""What a DNS probe costs, and how far its latency is off, beside blackbox_exporter on the same targets in one run.

    python -m bench.dns            a table
    python -m bench.dns --json     the same as one JSON object

Three targets on loopback, all over UDP: Debian's named; a server whose answers differ from run to run, as those of a cache do;
and one that answers after exactly 20 ms. Ours are run by `run_once` on uvloop in a process of their own, whose whole CPU
time is counted. blackbox_exporter is asked over kept-alive HTTP by a load generator, and only its own CPU time is counted,
read from /proc: its share includes rendering the metrics of each probe, ours does not.
"""

import sys

if sys.path and sys.path[0].endswith("bench"):  # run as a script: our name would hide dnspython's
    sys.path.pop(0)

import argparse
import asyncio
import contextlib
import itertools
import json
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
from tests.servers.process import free_port

NAME = "www.shop.test"
RATE = 300
PARALLEL = (1, 16, 64)


def main(given: Sequence[str] = ()) -> int:
    """Start the servers, measure, print."""
    arguments = arguments_of(given, about=__doc__, words=["delay"], numbers=["serve"])
    if arguments.serve:
        return serve_forever(_serve(arguments.serve, float(arguments.delay or 0)))
    if arguments.worker:
        uvloop.run(work(arguments, _check))
        return 0
    if absent := missing("named", EXPORTER):
        print(absent, file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as directory, _stage(Path(directory)) as stage:
        figures = _measure(stage, arguments.seconds)
    print(json.dumps(figures, indent=2) if arguments.json else table(figures, above="error of a measured 20 ms, in ms"))
    return 0


def _check(arguments: argparse.Namespace) -> tuple[str, str, Any]:
    from stormwatch.probes.dns import DnsOptions, build

    return "dns", NAME, build(NAME, DnsOptions(server=arguments.target))


def _measure(stage: Stage, seconds: float) -> Figures:
    targets = ("named", "varying")
    return {
        "delay_seconds": DELAY,
        "cpu_ms": {target: stage.cpu(target, rate=RATE, seconds=seconds) for target in targets},
        "probes_per_second": {target: stage.speed(target, seconds=seconds * 0.7) for target in targets},
        "error_ms": {
            f"{parallel} parallel": stage.errors("slow", seconds=seconds * 0.6, parallel=parallel)
            for parallel in PARALLEL
        },
    }


# The servers of ours


class _Names(asyncio.DatagramProtocol):
    """Two addresses for every name, after `delay` seconds, with another TTL each time."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._ttl = itertools.count(1)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._answer, data, addr)
        else:
            self._answer(data, addr)

    def _answer(self, data: bytes, addr: object) -> None:
        asked = data[12 : data.index(b"\0", 12) + 5]
        head = data[:2] + b"\x84\0\0\1\0\2\0\0\0\0"
        ttl = next(self._ttl).to_bytes(4)
        answers = b"".join(b"\xc0\x0c\0\1\0\1" + ttl + b"\0\4\xc0\0\2" + bytes((last,)) for last in (10, 11))
        self._transport.sendto(head + asked + answers, addr)


async def _serve(port: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: _Names(delay), local_addr=("127.0.0.1", port))
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", port)  # only so that the start can be waited for
    await server.serve_forever()


# The stage


@contextlib.contextmanager
def _stage(directory: Path) -> Generator[Stage]:
    """The three servers and the exporter."""
    named, varying, slow, exporter = (free_port() for _ in range(4))
    (directory / "zone").write_text(
        "$TTL 300\n@ IN SOA ns1 admin 1 3600 600 86400 60\n@ IN NS ns1\nns1 IN A 127.0.0.1\n"
        "www IN A 192.0.2.10\nwww IN A 192.0.2.11\n"
    )
    (directory / "named.conf").write_text(
        f'options {{ directory "{directory}"; listen-on port {named} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};'
        f' pid-file none; session-keyfile "{directory}/session"; recursion no; dnssec-validation no; }};\n'
        f'controls {{ }};\nzone "shop.test" {{ type primary; file "{directory}/zone"; }};\n'
    )
    modules = directory / "blackbox.yml"
    modules.write_text(
        f"modules: {{dns: {{prober: dns, timeout: 5s, dns: {{query_name: {NAME}, query_type: A, "
        "preferred_ip_protocol: ip4}}}"
    )
    serve = [sys.executable, "-m", "bench.dns", "--serve"]
    commands: list[tuple[Sequence[str], int]] = [
        ([program("named"), "-g", "-c", f"{directory}/named.conf"], named),
        ([*serve, str(varying)], varying),
        ([*serve, str(slow), "--delay", str(DELAY)], slow),
        (exporter_command(modules, exporter), exporter),
    ]
    with children(commands, directory / "servers.log") as started:
        yield Stage(
            bench="bench.dns",
            targets={
                what: f"127.0.0.1:{port}" for what, port in {"named": named, "varying": varying, "slow": slow}.items()
            },
            module="dns",
            exporter=f"http://127.0.0.1:{exporter}",
            exporter_pid=started[-1].pid,
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
