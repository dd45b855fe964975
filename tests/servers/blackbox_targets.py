"""Everything that blackbox_exporter can be pointed at, right and wrong, in one thread: for comparing two probers.

Nothing here counts or changes between two requests, so that both see the same.
"""

import asyncio
import base64
import gzip
import socket
import ssl
import threading
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from tests.servers import http2, nameserver, web
from tests.servers.certificates import Authority, Issued
from tests.servers.web import Exchange, send

Lines = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Targets:
    """`with Targets(directory) as targets:` serves; `targets.at` fills the names of ports into a text."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory, "authority")
        self.elsewhere = Authority(directory, "elsewhere")
        self.client = self.authority.issue("client.example")
        self.ports: dict[str, int] = {}
        self.files: dict[str, Path] = {
            "authority": self.authority.file,
            "client-cert": self.client.chain_file,
            "client-key": self.client.key_file,
            "body-file": directory / "body",
            "password-file": directory / "password",
        }
        self.files["body-file"].write_text("from-a-file")
        self.files["password-file"].write_text("hunter22\n")
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="targets", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30), "the targets did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    def at(self, text: str) -> str:
        """The text with each `<name>` replaced by the port or the file that goes by it."""
        for name, known in {**self.ports, **self.files}.items():
            text = text.replace(f"<{name}>", str(known))
        return text

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with AsyncExitStack() as stack:
            await self._open_web(stack)
            await self._open_names(stack)
            await self._open_streams(stack)
            await self._open_grpc(stack)
            self._ready.set()
            await self._stop.wait()

    async def _open_web(self, stack: AsyncExitStack) -> None:
        async def serve(name: str, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
            server = await stack.enter_async_context(web.serving(self._answer, tls=tls, host=host))
            self.ports[name] = server.port

        good = self.authority.issue("localhost", "shop.example", "127.0.0.1")
        await serve("http")
        await serve("http6", host="::1")
        await serve("https", good.server_context())
        await serve("expired", _expired(self.authority).server_context())
        await serve("wrong-host", self.authority.issue("other.example").server_context())
        await serve("unknown-authority", self.elsewhere.issue("localhost", "127.0.0.1").server_context())
        await serve("short-lived", _expiring(self.authority).server_context())
        old = good.server_context()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        await serve("tls12", old)
        new = good.server_context()
        new.minimum_version = ssl.TLSVersion.TLSv1_3
        await serve("tls13", new)
        mutual = good.server_context()
        mutual.verify_mode = ssl.CERT_REQUIRED
        mutual.load_verify_locations(self.authority.file)
        await serve("mutual", mutual)
        two = await stack.enter_async_context(http2.serving(_answer_http2, tls=good.server_context()))
        self.ports["h2"] = two.port
        proxy = await asyncio.start_server(_proxy, "127.0.0.1", 0)
        stack.callback(proxy.close)
        self.ports["proxy"] = proxy.sockets[0].getsockname()[1]
        self.ports["closed"] = _closed_port()

    async def _open_names(self, stack: AsyncExitStack) -> None:
        good = self.authority.issue("localhost", "127.0.0.1")
        for name, behaviour, tls in (
            ("dns", _zone, None),
            ("dot", _zone, good.server_context()),
            ("dot-wrong", _zone, self.elsewhere.issue("localhost", "127.0.0.1").server_context()),
            ("dns-mute", nameserver.mute, None),
            ("dns-garbled", nameserver.garbled, None),
            ("dns-refused", nameserver.only("REFUSED"), None),
            ("dns-servfail", nameserver.only("SERVFAIL"), None),
        ):
            server = await stack.enter_async_context(nameserver.naming(behaviour, tls=tls))
            self.ports[name] = server.port

    async def _open_streams(self, stack: AsyncExitStack) -> None:
        good = self.authority.issue("localhost", "127.0.0.1").server_context()
        bad = _expired(self.authority).server_context()
        streams: Mapping[str, tuple[Lines, ssl.SSLContext | None]] = {
            "banner": (_banner, None),
            "smtp": (_smtp(good), None),
            "smtp-expired": (_smtp(bad), None),
            "silent": (_silent, None),
            "hang-up": (_hang_up, None),
            "bytes": (_bytes, None),
            "echo": (_echo, None),
            "tls-banner": (_banner, good),
            "tls-banner-expired": (_banner, bad),
        }
        for name, (behaviour, tls) in streams.items():
            server = await asyncio.start_server(_kept_quiet(behaviour), "127.0.0.1", 0, ssl=tls)
            stack.callback(server.close)
            self.ports[name] = server.sockets[0].getsockname()[1]

    async def _open_grpc(self, stack: AsyncExitStack) -> None:
        good = self.authority.issue("localhost", "127.0.0.1").server_context()
        bad = _expired(self.authority).server_context()
        for name, tls in (("grpc", None), ("grpcs", good), ("grpcs-expired", bad)):
            server = await stack.enter_async_context(http2.serving(_health, tls=tls))
            self.ports[name] = server.port

    async def _answer(self, exchange: Exchange) -> None:
        """A page for each behaviour, by its path."""
        path, _, rest = exchange.path.lstrip("/").partition("/")
        path = path.partition("?")[0]
        if exchange.method == "CONNECT" or path not in _PAGES:
            await send(exchange, b"no such page", status=404)
            return
        await _PAGES[path](self, exchange, rest)


Page = Callable[[Targets, Exchange, str], Awaitable[None]]
_PAGES: dict[str, Page] = {}


def _page(name: str) -> Callable[[Page], Page]:
    def register(page: Page) -> Page:
        _PAGES[name] = page
        return page

    return register


@_page("ok")
async def _ok(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    headers = {"X-One": "alpha", "X-Version": "1.2.3", "Content-Type": "text/plain"}
    await send(exchange, b"hello world\nsecond line\n", headers=headers)


@_page("status")
async def _status(_targets: Targets, exchange: Exchange, rest: str) -> None:
    await send(exchange, b"" if rest in ("204", "304") else b"said", status=int(rest))


@_page("redirect")
async def _redirect(_targets: Targets, exchange: Exchange, rest: str) -> None:
    count = int(rest)
    await send(exchange, b"go", status=302, headers={"Location": f"/redirect/{count - 1}" if count > 1 else "/ok"})


@_page("moved")
async def _moved(_targets: Targets, exchange: Exchange, rest: str) -> None:
    code, _, to = rest.partition("/")
    await send(exchange, b"", status=int(code), headers={"Location": f"/{to}"})


@_page("to-tls")
async def _to_tls(targets: Targets, exchange: Exchange, _rest: str) -> None:
    await send(exchange, b"", status=301, headers={"Location": f"https://localhost:{targets.ports['https']}/ok"})


@_page("to-plain")
async def _to_plain(targets: Targets, exchange: Exchange, _rest: str) -> None:
    await send(exchange, b"", status=302, headers={"Location": f"http://localhost:{targets.ports['http']}/ok"})


@_page("to-closed")
async def _to_closed(targets: Targets, exchange: Exchange, _rest: str) -> None:
    await send(exchange, b"", status=302, headers={"Location": f"http://127.0.0.1:{targets.ports['closed']}/"})


@_page("gzip")
async def _gzip(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    await send(exchange, gzip.compress(b"squeezed body" * 20, mtime=0), headers={"Content-Encoding": "gzip"})


@_page("gzip-unasked")
async def _gzip_unnamed(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    await send(exchange, gzip.compress(b"squeezed body" * 20, mtime=0))


@_page("deflate")
async def _deflate(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    squeeze = zlib.compressobj(wbits=-15)
    body = squeeze.compress(b"squeezed body" * 20) + squeeze.flush()
    await send(exchange, body, headers={"Content-Encoding": "deflate"})


@_page("br")
async def _br(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    body = b"squeezed body" * 20
    head = (((len(body) - 1) << 4) | 1 << 20).to_bytes(3, "little")  # RFC 7932 §9.2: one uncompressed block
    await send(exchange, head + body + b"\x03", headers={"Content-Encoding": "br"})


@_page("big")
async def _big(_targets: Targets, exchange: Exchange, rest: str) -> None:
    await send(exchange, b"x" * int(rest))


@_page("chunked")
async def _chunked(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    exchange.writer.write(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    )
    await exchange.writer.drain()


@_page("http10")
async def _http10(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    exchange.writer.write(b"HTTP/1.0 200 OK\r\n\r\nold but good")
    await exchange.writer.drain()
    exchange.writer.close()
    await exchange.writer.wait_closed()


@_page("modified")
async def _modified(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    await send(exchange, b"ok", headers={"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})


@_page("modified-badly")
async def _modified_badly(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    await send(exchange, b"ok", headers={"Last-Modified": "some time ago"})


@_page("json")
async def _json(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    await send(exchange, b'{"status": "green", "nodes": 3, "load": [0.5, 1.5]}')


@_page("method")
async def _method(_targets: Targets, exchange: Exchange, rest: str) -> None:
    await send(exchange, b"", status=200 if exchange.method == rest else 405)


@_page("body")
async def _body(_targets: Targets, exchange: Exchange, rest: str) -> None:
    size = int(exchange.header("Content-Length") or 0)
    body = (await exchange.reader.readexactly(size)).decode()
    await send(exchange, b"", status=200 if body == rest else 400)


@_page("header")
async def _header(_targets: Targets, exchange: Exchange, rest: str) -> None:
    """`/header/NAME/VALUE`: whether the request has it."""
    name, _, value = rest.partition("/")
    await send(exchange, b"", status=200 if exchange.header(name) == value else 400)


@_page("without")
async def _without(_targets: Targets, exchange: Exchange, rest: str) -> None:
    await send(exchange, b"", status=200 if exchange.header(rest) is None else 400)


@_page("agent")
async def _agent(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    known = (exchange.header("User-Agent") or "").startswith(("Blackbox-Exporter/", "Blackbox Exporter/"))
    await send(exchange, b"", status=200 if known else 400)


@_page("login")
async def _login(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    basic = "Basic " + base64.b64encode(b"probe:hunter22").decode()
    right = exchange.header("Authorization") in (basic, "Bearer s3cr3t-token", "Token s3cr3t-token")
    await send(exchange, b"", status=200 if right else 401)


@_page("cookie")
async def _cookie(_targets: Targets, exchange: Exchange, rest: str) -> None:
    if rest == "set":
        await send(exchange, b"", status=302, headers={"Location": "/cookie/get", "Set-Cookie": "seen=1; Path=/"})
    else:
        await send(exchange, b"", status=200 if exchange.header("Cookie") == "seen=1" else 400)


@_page("slow")
async def _slow(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    await web.silent(exchange)


@_page("slow-body")
async def _slow_body(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3600\r\nConnection: close\r\n\r\nxyz")
    await exchange.writer.drain()
    await exchange.reader.read()


@_page("close")
async def _close(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    exchange.writer.close()


@_page("reset")
async def _reset(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    await web.reset(exchange)


@_page("garble")
async def _garble(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    await web.garble(exchange)


@_page("cut")
async def _cut(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    await web.cut_short(exchange)


@_page("many")
async def _many(_targets: Targets, exchange: Exchange, _rest: str) -> None:
    exchange.writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Many: first\r\nX-Many: second\r\nConnection: close\r\n\r\nok"
    )
    await exchange.writer.drain()
    exchange.writer.close()


async def _answer_http2(call: http2.Call) -> None:
    call.head([("content-length", "5"), ("content-type", "text/plain")])
    call.data(b"hello", end=True)


async def _proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A forward proxy of loopback: requests with a whole URL, and CONNECT."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        url = urlsplit(target if method != "CONNECT" else f"//{target}")
        there, away = await asyncio.open_connection("127.0.0.1", url.port or 80)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            path = url.path + (f"?{url.query}" if url.query else "")
            away.write(f"{method} {path or '/'} HTTP/1.1\r\n".encode() + head.split(b"\r\n", 1)[1])
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, away))
            group.create_task(_pump(there, writer))
    except* (OSError, asyncio.IncompleteReadError, ValueError):
        pass
    finally:
        writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def _closed_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _expired(authority: Authority) -> Issued:
    return authority.issue("localhost", "127.0.0.1", before=timedelta(days=30), after=timedelta(days=-1))


def _expiring(authority: Authority) -> Issued:
    return authority.issue("localhost", "127.0.0.1", after=timedelta(days=2))


_RECORDS: nameserver.Zone = {
    ("one.test.", "A"): ["192.0.2.1"],
    ("one.test.", "TXT"): ['"hello world" "b;c"'],
    ("one.test.", "MX"): ["10 mail.one.test."],
    ("one.test.", "SOA"): ["ns.one.test. admin.one.test. 2026112101 7200 3600 1209600 3600"],
    ("two.test.", "A"): ["192.0.2.1", "198.51.100.7"],
    ("full.test.", "A"): ["192.0.2.9"],
    ("lonely.test.", "TXT"): ['"x"'],
}


def _zone(query: dns.message.Message, transport: str) -> bytes:
    """One zone; `full.test` also has something to say in the other sections, `tcp.test` says whether it came by TCP."""
    answer = nameserver.answer_from(query, _RECORDS, ttl=3600)
    name = query.question[0].name.to_text().lower()
    if name == "full.test.":
        answer.authority.append(dns.rrset.from_text("full.test.", 3600, "IN", "NS", "ns.full.test."))
        answer.additional.append(dns.rrset.from_text("ns.full.test.", 3600, "IN", "A", "192.0.2.53"))
    if name == "rd.test.":
        answer.set_rcode(dns.rcode.NOERROR if query.flags & dns.flags.RD else dns.rcode.REFUSED)
    if name == "tcp.test.":
        answer.set_rcode(dns.rcode.NOERROR if transport == "tcp" else dns.rcode.REFUSED)
    if name == "cut.test." and transport == "udp":
        answer.set_rcode(dns.rcode.NOERROR)
        answer.flags |= dns.flags.TC
    elif name == "cut.test.":
        answer.set_rcode(dns.rcode.NOERROR)
        answer.answer.append(dns.rrset.from_text("cut.test.", 60, "IN", "A", "192.0.2.2"))
    return answer.to_wire()


def _kept_quiet(behaviour: Lines) -> Lines:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behaviour(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    return serve


async def _banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 storm.example ESMTP ready\r\n")
    while line := await reader.readline():
        word = line.strip()
        if word.startswith(b"EHLO "):
            writer.write(b"250-storm.example greets " + word[5:] + b"\r\n250 HELP\r\n")
        elif word == b"QUIT":
            writer.write(b"221 bye\r\n")
            await writer.drain()
            return
        else:
            writer.write(b"502 what is " + word + b"\r\n")


def _smtp(context: ssl.SSLContext) -> Lines:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 storm.example ESMTP\r\n")
        while line := await reader.readline():
            if line.startswith(b"EHLO"):
                writer.write(b"250-storm.example\r\n250 STARTTLS\r\n")
            elif line.startswith(b"STARTTLS"):
                writer.write(b"220 go ahead\r\n")
                await writer.drain()
                await writer.start_tls(context)
            elif line.startswith(b"QUIT"):
                writer.write(b"221 bye\r\n")

    return serve


async def _silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 not now\r\n")
    await writer.drain()


async def _bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Eight bytes are answered with one, as PostgreSQL does when it is asked for TLS."""
    asked = await reader.readexactly(8)
    writer.write(b"S" if asked == bytes.fromhex("0000000804d2162f") else b"N")
    await reader.read()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"token=a1b2;version=7.4\n")
    while line := await reader.readline():
        writer.write(b"you said " + line)


async def _health(call: http2.Call) -> None:
    """The standard health check: each service has the state it is named for."""
    asked = call.body[5:]
    service = asked[2:].decode() if asked else ""
    states = {"": 1, "serving": 1, "not-serving": 2, "unknown": 0}
    trailers = [("grpc-status", "0")]
    if service == "slow":
        await call.reader.read()
        return
    call.head([("content-type", "application/grpc")])
    if call.header(":path") != "/grpc.health.v1.Health/Check" or service == "unimplemented":
        trailers = [("grpc-status", "12"), ("grpc-message", "unknown service")]
    elif service == "meta" and call.header("x-ask") != "yes":
        trailers = [("grpc-status", "16")]
    elif service != "meta" and service not in states:
        trailers = [("grpc-status", "5"), ("grpc-message", "unknown service")]
    else:
        state = states.get(service, 1)
        message = bytes((8, state)) if state else b""
        call.data(b"\0" + len(message).to_bytes(4) + message)
    call.trailers(trailers)
