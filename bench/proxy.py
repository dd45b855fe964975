"""What a route of the fault proxy costs without a fault: latency, CPU and throughput, beside no proxy at all.

    python -m bench.proxy

One service on loopback, reached directly, through a plain route, through one that looks for HTTP requests, and through
one that ends TLS and opens it again; where they are installed, also through HAProxy as a TCP proxy with one thread and
through nginx as an HTTP proxy with one worker. Service and proxies are processes of their own; the client is a blocking socket.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path

REQUEST = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BULK = 256 * 1024 * 1024


def main() -> None:
    """Print one table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--requests", type=int, default=3000, help="requests over one kept-alive connection")
    options.add_argument("--connections", type=int, default=500, help="requests with a connection of their own")
    chosen = options.parse_args([] if sys.argv[0].endswith("__main__.py") else None)
    with tempfile.TemporaryDirectory() as directory, _started(Path(directory)) as (pids, ports, context):
        heads = ("kept alive p50 / p99", "fresh p50 / p99", "CPU a request", "bulk", "CPU a MB")
        print(f"{'way':<22}{heads[0]:>24}{heads[1]:>22}{heads[2]:>16}{heads[3]:>12}{heads[4]:>11}")
        for way, port in ports.items():
            pid = pids.get(way, pids["ours"])
            secure = context if "TLS" in way else None
            _timed(_kept_alive(port, secure), 200)
            before = _cpu(pid)
            kept = _timed(_kept_alive(port, secure), chosen.requests)
            cpu = (_cpu(pid) - before) / chosen.requests
            fresh = _timed(lambda port=port, secure=secure: _fresh(port, secure), chosen.connections)
            before = _cpu(pid)
            rate = _bulk(port, secure)
            burnt = (_cpu(pid) - before) / (BULK / 1e6)
            through, each = (f"{cpu * 1e6:.0f} µs", f"{burnt * 1e6:.0f} µs") if "direct" not in way else ("-", "-")
            print(
                f"{way:<22}{_show(kept):>24}{_show(fresh):>22}{through:>16}{rate / 1e6:>7.0f} MB/s{each:>11}",
                flush=True,
            )


def serve(directory: Path) -> None:
    """The service: answers requests, and sends a lot for `GET /bulk`. Plain and with TLS."""
    import asyncio

    import uvloop

    async def run() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "shop.pem", directory / "shop.pem")
        servers = [await asyncio.start_server(_answer, "127.0.0.1", 0, ssl=tls) for tls in (None, context)]
        print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
        await asyncio.Event().wait()

    async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b" /bulk " in head:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BULK)
                    chunk = bytes(1024 * 1024)
                    for _ in range(BULK // len(chunk)):
                        writer.write(chunk)
                        await writer.drain()
                else:
                    writer.write(ANSWER)
        writer.close()

    uvloop.run(run())


def proxy(directory: Path, plain: int, secure: int) -> None:
    """The proxy, on uvloop as `stormwatch proxy` runs it."""
    import asyncio

    import uvloop

    from stormwatch.chaos.control import serve_proxy
    from stormwatch.chaos.route import Route, RouteTls

    pem = directory / "shop.pem"
    tls = RouteTls(certificate=pem, key=pem, ca=pem, server_name="shop.test")
    routes = [
        Route(name="plain", listen="127.0.0.1:0", upstream=f"127.0.0.1:{plain}"),
        Route(name="looked into", listen="127.0.0.1:0", upstream=f"127.0.0.1:{plain}", http=True),
        Route(name="TLS, looked into", listen="127.0.0.1:0", upstream=f"127.0.0.1:{secure}", tls=tls),
    ]
    uvloop.run(
        serve_proxy(
            routes,
            "127.0.0.1:0",
            stop=asyncio.Event(),
            ready=lambda at: print(
                json.dumps({name: int(to.split(":")[1]) for name, to in at.routes.items()}), flush=True
            ),
        )
    )


@contextlib.contextmanager
def _started(directory: Path) -> Generator[tuple[dict[str, int], dict[str, int], ssl.SSLContext]]:
    _certificate(directory / "shop.pem")
    children: list[subprocess.Popen[str]] = []

    def child(*arguments: object) -> str:
        command = [sys.executable, "-m", "bench.proxy", *(str(one) for one in arguments)]
        children.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parent.parent)
        )
        assert children[-1].stdout
        return children[-1].stdout.readline()

    try:
        plain, secure = json.loads(child("serve", directory))
        routes = json.loads(child("proxy", directory, plain, secure))
        context = ssl.create_default_context(cafile=str(directory / "shop.pem"))
        ways = {"direct": plain, "plain route": routes["plain"], "looked into": routes["looked into"]}
        pids = {"ours": children[1].pid}
        for name, start in (("haproxy", _haproxy), ("nginx", _nginx)):
            if program := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin"):
                ways[name] = _free_port()
                children.append(start(program, directory, ways[name], plain))
                pids[name] = children[-1].pid
        yield pids, ways | {"direct, TLS": secure, "TLS, looked into": routes["TLS, looked into"]}, context
    finally:
        for one in children:
            one.terminate()
            one.wait()


def _nginx(program: str, directory: Path, port: int, upstream: int) -> "subprocess.Popen[str]":
    """One process that passes HTTP on over connections that it keeps; returns when it listens."""
    (directory / "nginx.conf").write_text(
        f"""daemon off; master_process off; pid {directory}/nginx.pid; error_log {directory}/nginx.log;
events {{}}
http {{
    access_log off;
    proxy_temp_path {directory}; client_body_temp_path {directory}; fastcgi_temp_path {directory};
    uwsgi_temp_path {directory}; scgi_temp_path {directory};
    upstream service {{ server 127.0.0.1:{upstream}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        location / {{ proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""
    )
    return _listening([program, "-p", directory, "-c", directory / "nginx.conf"], port)


def _haproxy(program: str, directory: Path, port: int, upstream: int) -> "subprocess.Popen[str]":
    """One process with one thread that passes TCP on; returns when it listens."""
    (directory / "haproxy.cfg").write_text(
        f"""global
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen plain
    bind 127.0.0.1:{port}
    server service 127.0.0.1:{upstream}
"""
    )
    return _listening([program, "-db", "-f", directory / "haproxy.cfg"], port)


def _listening(command: "list[str | Path]", port: int) -> "subprocess.Popen[str]":
    process = subprocess.Popen(command, text=True)
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return process
        time.sleep(0.05)
    raise RuntimeError(f"{command[0]} does not listen: what it says stands above")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _open(port: int, context: ssl.SSLContext | None) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname="shop.test") if context else plain


def _ask(connection: socket.socket) -> None:
    connection.sendall(REQUEST)
    got = 0
    while got < len(ANSWER):
        got += len(connection.recv(4096))


def _kept_alive(port: int, context: ssl.SSLContext | None) -> Callable[[], None]:
    connection = _open(port, context)
    return lambda: _ask(connection)


def _fresh(port: int, context: ssl.SSLContext | None) -> None:
    with _open(port, context) as connection:
        _ask(connection)


def _timed(once: Callable[[], None], times: int) -> list[float]:
    found: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        once()
        found.append(time.perf_counter() - began)
    return found


def _bulk(port: int, context: ssl.SSLContext | None) -> float:
    with _open(port, context) as connection:
        began, got = time.perf_counter(), 0
        connection.sendall(REQUEST.replace(b" / ", b" /bulk "))
        buffer = bytearray(1024 * 1024)
        while got < BULK:
            got += connection.recv_into(buffer)
        return got / (time.perf_counter() - began)


def _show(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    return f"{cuts[49] * 1e6:.0f} / {cuts[98] * 1e6:.0f} µs"


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _certificate(path: Path) -> None:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["proxy"]:
        proxy(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
