"""Ten thousand HTTP probes every 15 s in one `stormwatch run`: start delay, skipped runs, CPU, memory, and the scrape.

    python -m bench.scale [--probes 10000] [--seconds 60] [--json]

The target is nginx on loopback, on the same cores. Everything is on: history, alerts, status page. Figures are read
from the service's own `/metrics` and from /proc, over the seconds after the first round.
"""

import argparse
import gzip
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench._beside import cpu_of, memory_of
from tests.servers.process import free_port, running

BARS = {"start delay p99": "100 ms", "skipped": "0", "CPU": "1 core", "memory": "300 MB"}

NGINX = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "well\\n"; }} }}
}}
"""


def main(given: Sequence[str] = ()) -> int:
    """Print the figures beside their bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probes", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=45)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(list(given))
    with tempfile.TemporaryDirectory() as directory:
        figures = _measure(Path(directory), options.probes, options.seconds)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, figure in figures.items():
            bar = f"   (bar: at most {BARS[name]})" if name in BARS else ""
            print(f"{name:<24}{figure}{bar}")
    return 0


def _measure(directory: Path, probes: int, seconds: float) -> dict[str, Any]:
    target, listen = free_port(), free_port()
    (directory / "nginx.conf").write_text(NGINX.format(directory=directory, port=target))
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if nginx is None:
        raise SystemExit("nginx is not installed")
    lines = ["defaults: {every: 15s, timeout: 5s}", "probes:"]
    lines += [
        f'  - {{name: p{number}, kind: http, target: "http://127.0.0.1:{target}/{number}"}}' for number in range(probes)
    ]
    (directory / "stormwatch.yaml").write_text("\n".join(lines))
    stormwatch = Path(sys.executable).with_name("stormwatch")
    command = [stormwatch, "run", "-c", directory / "stormwatch.yaml", "--listen", f"127.0.0.1:{listen}"]
    with (
        running([nginx, "-p", directory, "-c", directory / "nginx.conf"], log=directory / "nginx.log", port=target),
        running([*command, "--data", directory / "data"], log=directory / "run.log", port=listen) as service,
    ):
        url = f"http://127.0.0.1:{listen}/metrics"
        time.sleep(40)  # the first rounds are a start, not the load that is measured
        used, before = cpu_of(service.pid), _scrape(url)
        time.sleep(seconds)
        spent, after = cpu_of(service.pid) - used, _scrape(url)
        memory = memory_of(service.pid)
        service.send_signal(signal.SIGTERM)
    runs, took = after["runs"] - before["runs"], after["moment"] - before["moment"]
    return {
        "probes": probes,
        "runs a second": f"{runs / took:.0f}",
        "not up": f"{after['failed'] - before['failed']:.0f}",
        "start delay p99": _quantile(before["delays"], after["delays"], 0.99),
        "skipped": f"{after['skipped'] - before['skipped']:.0f}",
        "CPU": f"{spent / took:.2f} cores, {spent / runs * 1000:.2f} ms a run",
        "memory": f"{memory / 1e6:.0f} MB",
        "scrape under load": f"{after['took'] * 1000:.0f} ms",
    }


def _scrape(url: str) -> dict[str, Any]:
    """What the service says of itself; `moment` and `took` are those of the answer, without our reading of it."""
    began = time.monotonic()
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        body = answer.read()
    found: dict[str, Any] = {"moment": began, "took": time.monotonic() - began}
    text = gzip.decompress(body)
    runs = re.findall(rb'^stormwatch_probe_runs_total\{[^}]*outcome="(\w+)"[^}]*\} (\d+)', text, re.MULTILINE)
    found["runs"] = sum(int(count) for _, count in runs)
    found["failed"] = sum(int(count) for outcome, count in runs if outcome != b"up")
    found["skipped"] = sum(
        map(int, re.findall(rb"^stormwatch_schedule_skipped_total\{[^}]*\} (\d+)", text, re.MULTILINE))
    )
    delays = re.findall(rb'^stormwatch_schedule_delay_seconds_bucket\{le="([^"]+)"\} (\d+)', text, re.MULTILINE)
    found["delays"] = {float(bound): int(count) for bound, count in delays}
    return found


def _quantile(before: dict[float, float], after: dict[float, float], share: float) -> str:
    """The bucket that a quantile falls into."""
    counts = {bound: after[bound] - before[bound] for bound in sorted(after)}
    total = counts[float("inf")]
    bound = next(bound for bound, count in counts.items() if count >= share * total)
    return f"at most {bound * 1000:g} ms"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
