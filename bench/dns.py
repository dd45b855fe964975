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
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import uvloop

from bench.http import (
    DELAY,
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
NAME = "www.shop.test"
RATE = 300
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
    from stormwatch.probes.dns import DnsOptions, build
    from stormwatch.probes.probe import Probe
    from stormwatch.probes.resources import Resources
    from stormwatch.probes.result import Outcome, Reason
    from stormwatch.probes.run import run_once

    resources = await stack.enter_async_context(Resources())
    clock = SystemClock()
    probe = Probe(name="bench", kind="dns", target=NAME, check=build(NAME, DnsOptions(server=arguments.target)))

    async def one() -> float:
        result = await run_once(probe, clock=clock, resources=resources)
        if result.outcome is not Outcome.UP and result.reason is not Reason.TIMEOUT:
            raise SystemExit(f"our probe of {arguments.target} is {result.outcome}: {result.message}")
        return result.seconds

    return one


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


# The bench


def main(given: Sequence[str] = ()) -> int:
    """Start the servers, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    for name in ("--worker", "--target", "--exporter", "--module"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    for name in ("--rate", "--parallel", "--serve"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--delay", type=float, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.serve:
        uvloop.run(_serve(arguments.serve, arguments.delay))
        return 0
    if arguments.worker:
        uvloop.run(_work(arguments))
        return 0
    missing = [name for name in ("named", "prometheus-blackbox-exporter") if not _program(name)]
    if missing:
        print(f"bench/dns needs {' and '.join(missing)}: install them, on Debian with apt-get", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as directory, _stage(Path(directory)) as stage:
        figures = _measure(stage, arguments.seconds)
    print(json.dumps(figures, indent=2) if arguments.json else _table(figures))
    return 0


class _Stage:
    def __init__(self, targets: dict[str, str], exporter: str, exporter_pid: int) -> None:
        self.targets = targets
        self.exporter = exporter
        self.exporter_pid = exporter_pid

    def run(self, who: str, target: str, *, seconds: float, rate: int = 0, parallel: int = 0) -> dict[str, Any]:
        """One measurement in a process of its own; CPU is that of the prober."""
        before = _cpu_of(self.exporter_pid)
        command = [sys.executable, "-m", "bench.dns", "--worker", who, "--target", self.targets[target]]
        command += ["--seconds", str(seconds), "--rate", str(rate), "--parallel", str(parallel)]
        command += [] if who == "ours" else ["--exporter", self.exporter, "--module", "dns"]
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
    for target in ("named", "varying"):
        # Twice, in turns, and the lower of each: what else runs on the machine disturbs neither more than the other.
        rounds = [
            {who: stage.run(who, target, seconds=seconds, rate=RATE) for who in order}
            for order in (probers, probers[::-1])
        ]
        cpu = {who: min(each[who]["cpu"] / each[who]["runs"] * 1e3 for each in rounds) for who in probers}
        figures["cpu_ms"][target] = {**cpu, "ratio": cpu["ours"] / cpu["blackbox"], "rate": RATE}
        speed = {who: stage.run(who, target, seconds=seconds * 0.7, parallel=16) for who in probers}
        figures["probes_per_second"][target] = {who: each["runs"] / each["took"] for who, each in speed.items()}
    for parallel in PARALLEL:
        figures["error_ms"][f"{parallel} parallel"] = {
            who: _errors(stage.run(who, "slow", seconds=seconds * 0.6, parallel=parallel)) for who in probers
        }
    return figures


def _table(figures: dict[str, Any]) -> str:
    lines = [f"{'':34}{'stormwatch':>20}{'blackbox':>20}{'ratio':>8}"]
    for target, cpu in figures["cpu_ms"].items():
        what = f"CPU ms a probe, {target}, {cpu['rate']}/s"
        lines.append(f"{what:34}{cpu['ours']:20.3f}{cpu['blackbox']:20.3f}{cpu['ratio']:8.2f}")
    for target, speed in figures["probes_per_second"].items():
        ratio = speed["ours"] / speed["blackbox"]
        what = f"probes/s, {target}, 16 parallel"
        lines.append(f"{what:34}{speed['ours']:20.0f}{speed['blackbox']:20.0f}{ratio:8.2f}")
    lines.append("")
    lines.append(f"{'error of a measured 20 ms, in ms':34}{'p50 / p99':>20}{'p50 / p99':>20}")
    for load, error in figures["error_ms"].items():
        ours, theirs = (f"{error[who]['p50']:.2f} / {error[who]['p99']:.2f}" for who in ("ours", "blackbox"))
        lines.append(f"{load:34}{ours:>20}{theirs:>20}")
    return "\n".join(lines)


@contextlib.contextmanager
def _stage(directory: Path) -> Generator[_Stage]:
    """The three servers and the exporter."""
    named, varying, slow, exporter = (_free_port() for _ in range(4))
    (directory / "zone").write_text(
        "$TTL 300\n@ IN SOA ns1 admin 1 3600 600 86400 60\n@ IN NS ns1\nns1 IN A 127.0.0.1\n"
        "www IN A 192.0.2.10\nwww IN A 192.0.2.11\n"
    )
    (directory / "named.conf").write_text(
        f'options {{ directory "{directory}"; listen-on port {named} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};'
        f' pid-file none; session-keyfile "{directory}/session"; recursion no; dnssec-validation no; }};\n'
        f'controls {{ }};\nzone "shop.test" {{ type primary; file "{directory}/zone"; }};\n'
    )
    blackbox = directory / "blackbox.yml"
    blackbox.write_text(
        f"modules: {{dns: {{prober: dns, timeout: 5s, dns: {{query_name: {NAME}, query_type: A, "
        "preferred_ip_protocol: ip4}}}"
    )
    serve = [sys.executable, "-m", "bench.dns", "--serve"]
    commands: list[tuple[Sequence[str], int]] = [
        ([_program("named"), "-g", "-c", f"{directory}/named.conf"], named),
        ([*serve, str(varying)], varying),
        ([*serve, str(slow), "--delay", str(DELAY)], slow),
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
        targets = {"named": named, "varying": varying, "slow": slow}
        yield _Stage(
            {what: f"127.0.0.1:{port}" for what, port in targets.items()},
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
