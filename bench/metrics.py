"""What 10,000 probes cost to expose, how long the event loop stands still meanwhile, and what the history costs."""

import asyncio
import itertools
import resource
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

from stormwatch.exporters.history import History
from stormwatch.exporters.prometheus import PrometheusExporter
from stormwatch.probes.probe import Kind, Metric, Probe
from stormwatch.probes.result import Measure, Outcome, Phase, Result
from stormwatch.probes.watch import Watch

PROBES = 10_000
WRITTEN = 30_000
ROUNDS = 5
PHASES = ("resolve", "connect", "tls", "processing", "transfer")
STARTED = 1_700_000_000.0


async def never(_watch: Watch) -> None:
    """The check of a probe that is only spoken about."""


def http_kind() -> Kind[Any]:
    """The HTTP kind, or one of its shape while that is being built."""
    return Kind(
        name="http",
        options=dict,
        build=lambda _target, _options: never,
        phases=PHASES,
        phase_metric=Metric("probe_http_duration_seconds", "Duration of http request by phase."),
        metrics=tuple(Metric(measure.name, measure.name.replace("_", " ")) for measure in measures(0)),
    )


def measures(number: int) -> tuple[Measure, ...]:
    """What one HTTPS run measures."""
    return (
        Measure("probe_dns_lookup_time_seconds", 0.0012),
        Measure("probe_ip_protocol", 4),
        Measure("probe_ip_addr_hash", 3668918509),
        Measure("probe_http_status_code", 200),
        Measure("probe_http_version", 1.1),
        Measure("probe_http_content_length", 5120),
        Measure("probe_http_uncompressed_body_length", 20480),
        Measure("probe_http_redirects", 0),
        Measure("probe_http_ssl", 1),
        Measure("probe_failed_due_to_regex", 0),
        Measure("probe_ssl_earliest_cert_expiry", 1_790_000_000),
        Measure("probe_ssl_last_chain_expiry_timestamp_seconds", 1_790_000_000),
        Measure(
            "probe_ssl_last_chain_info",
            1,
            {
                "fingerprint_sha256": f"{number:064x}",
                "issuer": "CN=Example CA,O=Example",
                "serialnumber": f"{number:032x}",
                "subject": f"CN=host{number}.example",
                "subjectalternative": f"host{number}.example",
            },
        ),
        Measure("probe_tls_version_info", 1, {"version": "TLS 1.3"}),
        Measure("probe_tls_cipher_info", 1, {"cipher": "TLS_AES_256_GCM_SHA384"}),
    )


def result_of(number: int, *, at: float = STARTED) -> Result:
    """A run of an HTTPS probe as it comes, with the evidence that it keeps."""
    return Result(
        probe=f"front-{number}",
        kind="http",
        target=f"https://host{number}.example/",
        location="fra1",
        started=at,
        seconds=0.021 + number % 97 / 1000,
        outcome=Outcome.UP,
        phases=tuple(Phase(name, 0.0042 + number % 13 / 1000, place / 100) for place, name in enumerate(PHASES)),
        measures=measures(number),
        evidence={
            "status_line": "HTTP/1.1 200 OK",
            "headers": {
                "server": "nginx/1.22.1",
                "date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(at)),
                "content-type": "text/html; charset=utf-8",
                "content-length": "5120",
                "etag": f'"{number:x}-1400"',
            },
            "address": "192.0.2.10:443",
            "certificates": [{"subject": f"CN=host{number}.example", "fingerprint_sha256": f"{number:064x}"}],
            "tls": {"version": "TLS 1.3", "cipher": "TLS_AES_256_GCM_SHA384"},
        },
        trace_id=f"{number:032x}",
        timeout=5.0,
    )


async def scrape(exporter: PrometheusExporter, accept_encoding: str) -> tuple[float, int, float, bytes]:
    """(seconds, bytes, longest stall of the event loop in seconds, the bytes) of one scrape."""
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            worst, before = max(worst, now - before - 0.001), now

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0.01)
    worst = 0.0
    began = time.perf_counter()
    pieces = [piece async for piece in exporter.chunks(accept_encoding)]
    took = time.perf_counter() - began
    watcher.cancel()
    return took, sum(map(len, pieces)), worst, b"".join(pieces)


def expose() -> None:
    """Print what a scrape costs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    probes = [
        Probe(
            name=f"front-{number}",
            kind="http",
            target=f"https://host{number}.example/",
            check=never,
            location="fra1",
            labels={"service": "shop", "team": "web"},
        )
        for number in range(PROBES)
    ]
    exporter = PrometheusExporter(probes, {"http": http_kind()}, started=STARTED)
    results = [result_of(number) for number in range(100)]
    for number in range(100, PROBES):
        exporter(result_of(number))
    began = time.perf_counter()
    for result in itertools.chain.from_iterable([results] * 10):
        exporter(result)
    each = (time.perf_counter() - began) / (len(results) * 10)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{PROBES:,} HTTPS probes; {each * 1e6:.0f} µs to take a result; {memory / 1024:.0f} MiB for all of it")
    for name, encoding in (("plain", ""), ("gzip", "gzip")):
        runs = [asyncio.run(scrape(exporter, encoding)) for _ in range(ROUNDS)]
        took, size, stall, _ = sorted(runs, key=lambda run: run[0])[ROUNDS // 2]
        print(f"  {name:<6} {took * 1000:6.0f} ms  {size / 1e6:7.1f} MB  longest stall {stall * 1000:5.1f} ms")
    text = asyncio.run(scrape(exporter, ""))[3]
    assert zlib.decompress(asyncio.run(scrape(exporter, "gzip"))[3], 31).count(b"\n") == text.count(b"\n")
    series = sum(1 for line in text.splitlines() if not line.startswith(b"#"))
    print(f"  {series:,} series, {series // PROBES} a probe")


def remember() -> None:
    """Print what the history costs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.sqlite"
        history = History(path, now=lambda: STARTED)
        results = [result_of(number % 50, at=STARTED + number / 3) for number in range(WRITTEN)]
        began = time.perf_counter()
        for result in results:
            history(result)
        accepted = time.perf_counter() - began
        asyncio.run(history.flush(120))
        took = time.perf_counter() - began
        began = time.perf_counter()
        history.strip("front-7", STARTED, STARTED + 86400, 96)
        strip = time.perf_counter() - began
        began = time.perf_counter()
        replayed = sum(1 for _ in history.replay())
        replay = time.perf_counter() - began
        asyncio.run(history.aclose())
        size = path.stat().st_size
        assert replayed == WRITTEN == history.written
    print(f"history: {WRITTEN / took:,.0f} results/s written and synced, {size / WRITTEN:.0f} bytes a result")
    print(
        f"  {accepted / WRITTEN * 1e6:.1f} µs to hand one over; a strip of {WRITTEN // 50} runs {strip * 1000:.1f} ms;"
        f" replay {replayed / replay:,.0f} results/s"
    )


def main() -> None:
    """Print both."""
    expose()
    remember()


if __name__ == "__main__":
    main()
