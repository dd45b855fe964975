"""Every reader of bytes from the network: what it is given, good examples, and how it may end. For `test_fuzz` and `bench/fuzz.py`.

A module of `probes/` stands here, or in `READS_NOTHING` with the reason why it need not: a test compares both with the
package, so that a new one cannot be forgotten.
"""

import base64
import json
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dns.dnssec
import dns.edns
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pycurl
from aiokafka.protocol.fetch import FetchRequest_v4
from aiokafka.protocol.metadata import MetadataRequest_v1, MetadataResponse_v1
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pamqp import commands, frame
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from stormwatch.chaos.conversation import Conversation as ProxiedConversation
from stormwatch.chaos.http_options import HttpBody, HttpHeader, HttpStatus, Patch
from stormwatch.chaos.http_treatment import Treated
from stormwatch.probes import crl, exec_report, nagios, ntp_packet, ocsp, rdap, transparency
from stormwatch.probes.answer import Answer, header_values, show_head
from stormwatch.probes.capture import Capture, CaptureError, Source, Taker
from stormwatch.probes.certificate import NotTrusted, Trust, parse, read_certificate, read_chain
from stormwatch.probes.certificate_store import Locked, Unreadable, read_file
from stormwatch.probes.datagram import stamp
from stormwatch.probes.delegation import referral
from stormwatch.probes.dialogue import Conversation, Dialogue, Listen, Step
from stormwatch.probes.dns_options import ExpectDns
from stormwatch.probes.dns_rules import Rules, extended_error
from stormwatch.probes.dnssec import Bogus, Denial, Keys, Ledger, signed_sets, verify, zone_keys
from stormwatch.probes.expectation import Expectations, ExpectHeader, ExpectHttp
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.grpc_wire import (
    frame as grpc_frame,
)
from stormwatch.probes.grpc_wire import (
    health_request,
    read_health_response,
    split_lines,
)
from stormwatch.probes.grpc_wire import (
    read_message as read_grpc_message,
)
from stormwatch.probes.grpc_wire import (
    read_status as read_grpc_status,
)
from stormwatch.probes.handshake import Handshake, read_certificates, read_hello
from stormwatch.probes.icmp_packet import echo_request, read_packet, without_ip_header
from stormwatch.probes.imap_response import literal_size, numbers, pairs, read_response
from stormwatch.probes.json_value import ExpectJson
from stormwatch.probes.kafka_session import Garbled as KafkaGarbled
from stormwatch.probes.kafka_session import read_answer, read_cluster, read_fetched
from stormwatch.probes.mail_message import read_header
from stormwatch.probes.nameserver import Answered
from stormwatch.probes.nats import read_greeting
from stormwatch.probes.postgres_session import without_channel_binding
from stormwatch.probes.question import counts, is_cut_off, make_question, read_message, show_message
from stormwatch.probes.rabbitmq_session import Garbled as RabbitGarbled
from stormwatch.probes.rabbitmq_session import read_frame, size_of
from stormwatch.probes.records import canonical, lines, text_of
from stormwatch.probes.redis import read_info
from stormwatch.probes.registry import retry_after
from stormwatch.probes.smtp_reply import extensions, offers, read_reply
from stormwatch.probes.starttls import DIALOGUES, Upgrade
from stormwatch.probes.tlsa import Pin, match
from stormwatch.probes.token import read_token
from stormwatch.probes.url import Url
from stormwatch.probes.visit import Content, Head
from stormwatch.probes.websocket_talk import Frames
from stormwatch.probes.websocket_talk import read_status as read_upgrade_status
from tests.servers.certificates import Authority
from tests.servers.revoker import Revoker


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """One reader. `read` may end with a value, or with one of the exceptions that its documentation names."""

    name: str
    modules: tuple[str, ...]
    """The modules of `probes/` whose reading it is."""
    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    allowed: tuple[type[Exception], ...] = (ProbeFailed,)
    weight: int = 4
    """How many inputs it gets, against the others: readers that compute signatures get fewer."""


READS_NOTHING: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("api_step", "client_options", "dns_options", "options", "units", "request", "rows", "template", "wanted"),
        "reads the configuration; what it judges later comes from a reader that stands here",
    ),
    **dict.fromkeys(
        ("api", "api_run", "doh", "domain", "exec", "heartbeat", "http", "icmp", "imap", "kafka", "mysql", "smtp"),
        "a check: passes what comes to the readers that stand here; its sockets are for the second part of the fuzzing",
    ),
    **dict.fromkeys(
        ("dns", "grpc", "ntp", "postgres", "tcp", "tls", "udp", "unix", "websocket", "revocation", "delivery"),
        "a check: passes what comes to the readers that stand here; its sockets are for the second part of the fuzzing",
    ),
    **dict.fromkeys(
        (
            "imap_session",
            "smtp_session",
            "mail_server",
            "mysql_session",
            "nats_session",
            "redis_connection",
            "rabbitmq",
        ),
        "a conversation: what it reads are lines and packets of a driver; the second part of the fuzzing speaks to it",
    ),
    **dict.fromkeys(
        ("authorities", "backend", "channel", "client", "connect", "dns_server", "doq", "echo", "fetch", "proxy"),
        "a way: moves bytes without looking into them, but for what a library reads",
    ),
    **dict.fromkeys(
        ("curl", "judgement", "process", "session", "shake", "stream", "transfer", "resolve", "trust_chain"),
        "a way: moves bytes without looking into them, but for what a library reads",
    ),
    **dict.fromkeys(("procfs", "memory"), "reads what the kernel of our own machine tells, which is in nobody's hands"),
    "masking": "looks for our secrets in what was read already; tests/harness/test_secret_masking.py gives it any text",
    **dict.fromkeys(
        ("__init__", "clock", "endpoint", "failure", "pattern", "probe", "reach", "resources", "result", "root", "run"),
        "values and rules of ours",
    ),
    **dict.fromkeys(
        ("authorization", "detour", "report", "watch", "waiting", "malformed", "heartbeat_schedule"),
        "values and rules of ours",
    ),
    **dict.fromkeys(
        ("heartbeat_state", "heartbeats"), "what was told is text by then, and is kept and not interpreted"
    ),
    "certificate_file": "reads files of this machine; their contents are read by certificate_store",
}
"""Modules without a reader of their own, and why that is right."""


def parsers(directory: Path) -> tuple[Parser, ...]:
    """All of them, with examples that real libraries made just now. `directory` is for certificates."""
    return (
        *_http(),
        *_tls(directory),
        *_dns(),
        *_dialogues(),
        *_protocols(),
        *_programs(),
    )


# HTTP

_HEADS: Final = (
    (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLast-Modified: Sat, 21 Nov 2026 06:00:00 GMT\r\n"
        b"Set-Cookie: session=abc; Path=/\r\nX-Build: 17\r\nRetry-After: 120\r\n\r\n"
    ),
    b"HTTP/1.1 302 Found\r\nLocation: https://shop.test:8443/a%20b?c=d#e\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 503 Busy\r\nRetry-After: Sat, 21 Nov 2026 07:00:00 GMT\r\n\r\n",
    b"HTTP/2 200 \r\ngrpc-status: 0\r\ncontent-type: application/grpc\r\n\r\n",
)
_BODIES: Final = (
    b'{"status": "ok", "queue": {"length": 17, "names": ["a", "b"]}, "at": "2026-11-21T06:00:00Z", "ratio": 1e-3}',
    b'[{"id": 1, "name": "L\xc3\xa4rm"}, {"id": 2, "name": null, "deep": {"er": {"est": [true, false]}}}]',
    b"<html><head><title>Shop</title></head><body>version 1.2.3</body></html>",
)
_TOKENS: Final = (
    b'{"access_token": "abc.def.ghi", "token_type": "Bearer", "expires_in": 3600}',
    b'{"error": "invalid_client", "error_description": "no such client"}',
)


def _http() -> Iterable[Parser]:
    everything = Expectations(
        ExpectHttp(
            status=(200,),
            headers={"X-Build": ExpectHeader(matches=r"^\d+$"), "content-type": ExpectHeader(matches="json")},
            body_matches=(r"status", r"(\w+)=(\d+)"),
            body_not_matches=(r"(?i)error",),
            json=(
                ExpectJson(path="status", equals="ok"),
                ExpectJson(path="queue.length", below=100),
                ExpectJson(path="queue.names[?@ == 'a'] | [0]", exists=True),
                ExpectJson(path="sort(queue.names)", exists=True),
            ),
            json_schema={"type": "object", "properties": {"queue": {"type": "object", "required": ["length"]}}},
            body_sha256="0" * 64,
        )
    )
    with_cel = Expectations(ExpectHttp(cel=("body.queue.length < 20 && body.status == 'ok'", "size(text) > 3")))

    def answer(data: bytes) -> Answer:
        head, _, body = data.partition(b"\r\n\r\n")
        return Answer(
            status=200,
            version=1.1,
            head=[line + b"\r\n" for line in head.split(b"\r\n")],
            body=body,
            size=len(body),
            tls=False,
            seconds=0.1,
            phases={"connect": (0.0, 0.1)},
            expires_in=1e6,
            age=None,
        )

    def judge(data: bytes) -> None:
        told = answer(data)
        for complaint in everything.judge(told, time.monotonic() + 1):
            json.dumps(complaint.message)
            complaint.as_failure()
        show_head(told.head).encode()

    def judge_by_cel(data: bytes) -> None:
        for complaint in with_cel.judge(answer(data), time.monotonic() + 1):
            complaint.message.encode("utf-8", "backslashreplace")

    takers = [
        Taker("by_path", Capture(json="queue.names[0]"), "capture"),
        Taker("all", Capture(json="@"), "capture"),
        Taker("by_pattern", Capture(regex=r"version (\S+)"), "capture"),
        Taker("by_header", Capture(header="X-Build"), "capture"),
        Taker("by_cookie", Capture(cookie="session"), "capture"),
    ]

    def capture(data: bytes) -> None:
        told = answer(data)
        for taker in takers:
            source = Source(told.body, told.head)
            try:
                taker.take(source)
            except CaptureError as error:
                str(error).encode("utf-8", "backslashreplace")

    def read_head(data: bytes) -> None:
        head, content = Head(), Content(limit=1000, keep=100)
        for line in data.splitlines(keepends=True):
            head.take(line)
            content.take(line)
        show_head(head.lines).encode()
        for location in header_values(head.lines, "location"):
            try:
                Url.parse(location.decode("utf-8", "replace"))
            except ValueError as error:
                str(error).encode("utf-8", "backslashreplace")
        retry_after(data, 1.8e9)

    answers = tuple(head + body for head in _HEADS[:1] for body in _BODIES)
    yield Parser(name="http answer", modules=("answer", "expectation", "json_value"), read=judge, seeds=answers)
    yield Parser(name="http answer by CEL", modules=("expression",), read=judge_by_cel, seeds=answers, weight=1)
    yield Parser(name="http captures", modules=("capture",), read=capture, seeds=answers)
    yield Parser(name="http head and location", modules=("visit", "url", "registry"), read=read_head, seeds=_HEADS)
    yield Parser(
        name="oauth2 token",
        modules=("token",),
        read=lambda data: read_token(200 if data[:1] == b"{" else 400, data, 0.0),
        seeds=_TOKENS,
        allowed=(ProbeBroken,),
    )
    conversation = (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PUT /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailer: t\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
    )
    yield Parser(name="fault proxy's http", modules=(), read=_proxied, seeds=conversation, allowed=())
    answers = (*(head + body for head in _HEADS[:2] for body in _BODIES), *conversation[2:])
    yield Parser(name="fault proxy's rewriting", modules=(), read=_rewritten, seeds=answers, allowed=())


def _proxied(data: bytes) -> None:
    """Whatever the client sends, and whatever the service answers, with a fault in place."""
    talk = ProxiedConversation(_treated)
    talk.armed = bool(data[:1] and data[0] & 1)
    for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
        if piece:  # nothing at all is the end of a stream, and the proxy does not pass that here
            talk.from_client(piece)
    talk.from_upstream(data)
    talk.release()


def _rewritten(data: bytes) -> None:
    """Whatever the service answers while a fault changes heads and bodies, in two chunks, to old and new clients."""
    for options in (
        HttpBody(patch=(Patch(pattern="[a-z]+", replacement="x"),)),
        HttpBody(truncate=7),
        HttpHeader(remove=("Server",)),
    ):
        treated = [Treated(options, options.treatment(random.Random(1)))]
        talk = ProxiedConversation(lambda _method, _target, treated=treated: treated)
        talk.armed = True
        talk.from_client(b"GET / HTTP/1.%d\r\nHost: x\r\n\r\n" % (len(data) % 2))
        talk.from_upstream(data[: len(data) // 2])
        talk.from_upstream(data[len(data) // 2 :])
        talk.upstream_ended()


def _treated(method: str, _target: str) -> list[Treated]:
    options = HttpStatus(status=503)
    return [Treated(options, options.treatment(random.Random(1)))] if method == "DELETE" else []


# TLS, certificates and what vouches for them


def _message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3) + body


def _tls(directory: Path) -> Iterable[Parser]:
    authority = Authority(directory, "Fuzzed Authority")
    revoker = Revoker(authority)
    leaf = revoker.issue("http://127.0.0.1/", "shop.test", "127.0.0.1")
    rsa_leaf = authority.issue("*.shop.test", rsa_bits=2048)
    ders = [each.public_bytes(serialization.Encoding.DER) for each in (leaf.certificate, authority.certificate)]
    rsa_der = rsa_leaf.certificate.public_bytes(serialization.Encoding.DER)
    trust, now = Trust([authority.certificate]), time.time()
    random = bytes(range(32))
    hello13 = _message(
        2,
        b"\x03\x03"
        + random
        + b"\x20"
        + random
        + b"\x13\x01\x00\x00\x2e\x00\x2b\x00\x02\x03\x04\x00\x33\x00\x24\x00\x1d\x00\x20"
        + random,
    )
    hello12 = _message(
        2, b"\x03\x03" + random + b"\x00\xc0\x2f\x00\x00\x0c\xff\x01\x00\x01\x00\x00\x10\x00\x05\x00\x03\x02h2"
    )
    staple = revoker.answer(leaf.certificate)
    status = b"\x01" + len(staple).to_bytes(3) + staple
    entries = (
        len(ders[0]).to_bytes(3)
        + ders[0]
        + (len(status) + 4).to_bytes(2)
        + b"\x00\x05"
        + len(status).to_bytes(2)
        + status
    )
    messages = (
        hello13,
        hello12,
        _message(11, b"\x00" + len(entries).to_bytes(3) + entries),
        _message(11, (len(ders[0]) + 3).to_bytes(3) + len(ders[0]).to_bytes(3) + ders[0]),
        _message(22, status),
        _message(12, b"\x03\x00\x1d\x20" + random + b"\x04\x03\x00\x08" + random[:8]),
        _message(8, b"\x00\x09\x00\x10\x00\x05\x00\x03\x02h2"),
        _message(15, b"\x08\x04\x00\x08" + random[:8]),
        b"\x02\x28",
    )

    def shake(data: bytes) -> None:
        handshake = Handshake(lambda: 0.0)
        for hello in (hello13, hello12):
            handshake.take(pycurl.INFOTYPE_SSL_DATA_IN, hello)
            if data:
                handshake.take(pycurl.INFOTYPE_SSL_DATA_IN, data)
            _ = (handshake.version, handshake.cipher, handshake.chain, handshake.alert, handshake.staple)
            _ = (handshake.session, handshake.finished, handshake.ticketed)
        read_hello(data)
        for tls13 in (True, False):
            read_certificates(data, tls13=tls13)

    def certificate(data: bytes) -> None:
        read_chain((data, *ders[1:]))
        try:
            told = read_certificate(data)
            json.dumps(told.as_evidence()).encode()
            trust.path((data, *ders[1:]), "shop.test", now)
        except (ValueError, NotTrusted) as error:
            str(error).encode("utf-8", "backslashreplace")
            return
        parsed = parse(data)
        match(pins, (data, *ders[1:]), None, "shop.test", now)
        ocsp.responders(parsed)
        crl.distribution_points(parsed)
        crl.is_authority(parsed)
        transparency.read_timestamps(parsed, authority.certificate, {}, now)

    pins = [Pin(usage, selector, kind, bytes(32)) for usage in (1, 3) for selector in (0, 1) for kind in (0, 1, 2)]
    listed = [revoker.listed()]
    revoker.revoked.add(leaf.certificate.serial_number)
    answers = (staple, revoker.answer(leaf.certificate))
    listed.append(revoker.listed())
    stamped, place = _stamped(authority)

    def timestamps(data: bytes) -> None:
        """The bytes stand in the extension, and the certificate around them is as it was."""
        filled = (
            stamped[: place.start]
            + data[: place.stop - place.start].ljust(place.stop - place.start, b"\0")
            + stamped[place.stop :]
        )
        for each in transparency.read_timestamps(parse(filled), authority.certificate, {}, now):
            json.dumps(each.as_evidence("")).encode()

    def revocations(data: bytes) -> None:
        crl.read_list(data, authority.certificate, now).status(leaf.certificate)

    pem = tuple(each.public_bytes(serialization.Encoding.PEM) for each in (leaf.certificate, authority.certificate))
    spki = base64.b64encode(
        authority.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    ).decode()
    logs = json.dumps({"operators": [{"name": "O", "logs": [{"description": "L", "key": spki}]}]}).encode()
    yield Parser(name="tls handshake", modules=("handshake",), read=shake, seeds=messages, allowed=())
    yield Parser(
        name="certificate",
        modules=("certificate", "chain", "distinguished", "tls_policy", "tlsa", "transparency"),
        read=certificate,
        seeds=(*ders, rsa_der),
        allowed=(),
        weight=2,
    )
    yield Parser(
        name="certificate timestamps",
        modules=("transparency",),
        read=timestamps,
        seeds=(stamped[place],),
        allowed=(ValueError,),
    )
    yield Parser(
        name="ocsp answer",
        modules=("ocsp", "signature"),
        read=lambda data: ocsp.read_answer(data, leaf.certificate, authority.certificate, now),
        seeds=answers,
        allowed=(ocsp.NotUsable,),
        weight=2,
    )
    yield Parser(
        name="revocation list",
        modules=("crl",),
        read=revocations,
        seeds=tuple(listed),
        allowed=(ocsp.NotUsable,),
        weight=2,
    )
    yield Parser(
        name="certificate file",
        modules=("certificate_store",),
        read=lambda data: read_file(data, "secret"),
        seeds=(*pem, *ders),
        allowed=(Unreadable, Locked),
        weight=2,
    )
    yield Parser(
        name="log list",
        modules=("transparency",),
        read=lambda data: transparency.read_logs(json.loads(data)),
        seeds=(logs,),
        # Its caller, `load_logs`, turns each of these into one sentence.
        allowed=(ValueError, KeyError, TypeError, AttributeError, RecursionError, transparency.UnsupportedAlgorithm),
        weight=1,
    )


def _stamped(authority: Authority) -> tuple[bytes, slice]:
    """A certificate with timestamps of two logs, and where they stand in it."""
    promise = (
        b"\x00"
        + bytes(range(32))
        + (1_800_000_000_000).to_bytes(8)
        + b"\x00\x00\x04\x03\x00\x46"
        + b"\x30\x44"
        + bytes(68)
    )
    listed = (len(promise).to_bytes(2) + promise) * 2
    whole = len(listed).to_bytes(2) + listed
    octets = (
        b"\x04\x81" + bytes([len(whole)]) + whole if len(whole) < 256 else b"\x04\x82" + len(whole).to_bytes(2) + whole
    )
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(authority.certificate.subject)
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(17)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2"), octets), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    start = der.index(whole)
    return der, slice(start, start + len(whole))


# DNS


def _dns() -> Iterable[Parser]:
    zone, name = dns.name.from_text("test."), dns.name.from_text("www.shop.test.")
    now = int(time.time())
    key = ec.generate_private_key(ec.SECP256R1())
    dnskey: Any = dns.dnssec.make_dnskey(key.public_key(), dns.dnssec.Algorithm.ECDSAP256SHA256, flags=257)  # type: ignore[arg-type]
    ds: Any = dns.dnssec.make_ds(zone, dnskey, "SHA256")

    def signed(*texts: str) -> tuple[dns.rrset.RRset, dns.rrset.RRset]:
        owner, kind, *rdata = texts
        records = dns.rrset.from_text(owner, 300, "IN", kind, *rdata)
        signature = dns.dnssec.sign(records, key, zone, dnskey, inception=now - 3600, expiration=now + 86400)  # type: ignore[arg-type]
        return records, dns.rrset.from_rdata(owner, 300, signature)

    keys_set = dns.rrset.from_rdata("test.", 300, dnskey)
    keys_signature = dns.rrset.from_rdata(
        "test.",
        300,
        dns.dnssec.sign(keys_set, key, zone, dnskey, inception=now - 3600, expiration=now + 86400),  # type: ignore[arg-type]
    )

    def message(
        answer: Iterable[dns.rrset.RRset] = (),
        authority: Iterable[dns.rrset.RRset] = (),
        more: Iterable[dns.rrset.RRset] = (),
    ) -> bytes:
        query = dns.message.make_query(name, "A", use_edns=0, want_dnssec=True)
        query.id = 0
        told = dns.message.make_response(query)
        told.use_edns(0, options=list[dns.edns.Option]([dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS, "bogus")]))
        told.answer, told.authority, told.additional = list(answer), list(authority), list(more)
        return told.to_wire(max_size=65535)

    def text(owner: str, kind: str, *rdata: str) -> dns.rrset.RRset:
        return dns.rrset.from_text(owner, 300, "IN", kind, *rdata)

    answers = (
        message(signed("www.shop.test.", "A", "192.0.2.1", "192.0.2.2")),
        message([text("www.shop.test.", "CNAME", "shop.test."), text("shop.test.", "A", "192.0.2.3")]),
        message(
            [],
            [text("shop.test.", "NS", "ns1.shop.test.", "ns.other.example.")],
            [text("ns1.shop.test.", "A", "192.0.2.53")],
        ),
        message([], [text("test.", "SOA", "ns.test. root.test. 7 3600 600 86400 300")]),
        message(
            [
                text("www.shop.test.", "TXT", '"v=spf1 -all"', '"\\195\\164"'),
                text("www.shop.test.", "MX", "10 mail.shop.test."),
                text("www.shop.test.", "SRV", "0 5 443 www.shop.test."),
                text("www.shop.test.", "CAA", '0 issue "ca.test"'),
                text("www.shop.test.", "HTTPS", '1 . alpn="h2,h3" ipv4hint="192.0.2.1"'),
                text("www.shop.test.", "TLSA", "3 1 1 " + "ab" * 32),
                text("www.shop.test.", "LOC", "51 30 12.748 N 0 7 39.611 W 0.00m"),
                text("www.shop.test.", "NAPTR", '100 10 "u" "E2U+sip" "!^.*$!sip:a@shop.test!" .'),
            ]
        ),
    )
    proofs = (
        message(signed("www.shop.test.", "A", "192.0.2.1")),
        message([keys_set, keys_signature]),
        message(
            [], [*signed("shop.test.", "NSEC", "zzz.test. NS SOA RRSIG NSEC"), *signed("a.test.", "NSEC", "z.test. A")]
        ),
        message(
            [],
            signed(
                "2t7b4g4vsa5smi47k61mv5bv1a22bojr.test.",
                "NSEC3",
                "1 0 5 aabbccdd 2vptu5timamqttgl4luu9kg21e0aor3s A RRSIG",
            ),
        ),
    )
    question = make_question(name, dns.rdatatype.A)
    rules = Rules(
        ExpectDns(answers_match=("192",), answers_include=("192.0.2.1",), min_ttl=10, min_answers=1),
        dns.rdatatype.A,
        dns.rdataclass.IN,
    )
    kept = Keys(zone, (dnskey,))

    def read(data: bytes) -> None:
        question.answered_by(data, 0)
        is_cut_off(data)
        counts(data)
        told = read_message(data)
        read_message(data, singly=True)
        json.dumps(show_message(data)).encode()
        extended_error(told).encode("utf-8", "backslashreplace")
        for section in (told.answer, told.authority, told.additional):
            for line in lines(section):
                line.encode()
            for rrset in section:
                for record in list[Any](rrset):
                    canonical(text_of(record), rrset.rdtype, rrset.rdclass)
        rules.records(told)
        referral(told, zone, name)
        rules.judge(Answered(wire=data, message=told, connect=0.0, request=0.0))

    def prove(data: bytes) -> None:
        told = read_message(data)
        ledger = Ledger(now=now)
        for section in (told.answer, told.authority):
            sets = signed_sets(section)
            for each in sets:
                try:
                    verify(each, kept, ledger)
                    if each.rrset.rdtype == dns.rdatatype.DNSKEY:
                        zone_keys(each, [ds], ledger, what="DS")
                except Bogus as error:
                    str(error).encode("utf-8", "backslashreplace")
            denial = Denial(zone, sets)  # its caller has verified them; these may be anything
            denial.prove(name, dns.rdatatype.A)
            denial.delegation(name)
            denial.no_closer(name, 1)

    yield Parser(
        name="dns answer",
        modules=("question", "nameserver", "records", "dns_rules", "delegation"),
        read=read,
        seeds=answers,
        # Text of records that is no such record: `canonical` is for records that were written down.
        allowed=(ProbeFailed,),
        weight=2,
    )
    yield Parser(name="dnssec", modules=("dnssec",), read=prove, seeds=proofs, allowed=(ProbeFailed, Bogus), weight=1)


# Dialogues

_GREETINGS: Final[Mapping[str, bytes]] = {
    "smtp": b"220 mx.test ESMTP\r\n250-mx.test\r\n250-SIZE 1000\r\n250 STARTTLS\r\n220 go\r\n",
    "lmtp": b"220 mx.test LMTP\r\n250-mx.test\r\n250 STARTTLS\r\n220 go\r\n",
    "imap": b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\na OK begin\r\na1 OK begin\r\n",
    "pop3": b"+OK ready\r\n+OK begin\r\n",
    "sieve": b'"IMPLEMENTATION" "x"\r\n"STARTTLS"\r\nOK\r\nOK "begin"\r\n',
    "nntp": b"200 ready\r\n382 go\r\n",
    "ftp": b"220-welcome\r\n220 ready\r\n234 go\r\n",
    "ldap": b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00",
    "postgres": b"S",
    "mysql": b"\x4a\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00abcdefgh\x00\xff\xff\xff\x02\x00\xff\xc7" + bytes(43),
    "xmpp": b"<stream:stream xmlns='jabber:client' id='a'><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    b"</stream:features><proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
}


def _dialogues() -> Iterable[Parser]:
    dialogue = Dialogue.of(
        (
            Step(expect=r"^220 (?P<host>\S+) (.*)$", send="", reject="^5", labels={"host": "{{ host }}"}),
            Step(send="EHLO {{ 1 }}\r\n", expect=r"^250[ -]STARTTLS"),
            Step(expect_raw=r"\x00(\d+)", size=8),
            Step(send="a", expect_hex="0d 0a", exactly=True),
            Step(closed=True),
        )
    )

    def converse(data: bytes) -> None:
        """In pieces, and then the end of the stream."""
        talk = Conversation(dialogue)
        pieces = iter([data[at : at + 7] for at in range(0, len(data), 7)])
        while (action := talk.next()) is not None:
            while isinstance(action, Listen):
                piece = next(pieces, b"")
                if talk.hear(piece) if piece else talk.ended():
                    break
                if not piece:
                    return

    protocols = tuple(DIALOGUES)

    def upgrade(data: bytes) -> None:
        """The first byte says which protocol, the rest is what the server says."""
        going = Upgrade(protocols[data[0] % len(protocols) if data else 0], "shop.test")
        going.hello()
        for at in range(1, len(data), 11):
            going.feed(data[at : at + 11])
            if going.done:
                return
        going.ended()

    greetings = tuple(
        bytes([number]) + _GREETINGS.get(protocol, _GREETINGS["xmpp"]) for number, protocol in enumerate(protocols)
    )
    yield Parser(
        name="dialogue",
        modules=("dialogue",),
        read=converse,
        seeds=(b"220 mx.test ESMTP\r\n250-mx.test\r\n250 STARTTLS\r\n\x001234567\r\n",),
    )
    yield Parser(name="starttls", modules=("starttls",), read=upgrade, seeds=greetings)


# Protocols of backends


def _protocols() -> Iterable[Parser]:
    def grpc(data: bytes) -> None:
        read_health_response(read_grpc_message(data))

    def grpc_status(data: bytes) -> None:
        head, trailers = split_lines(data.splitlines(keepends=True))
        read_grpc_status(200, head, trailers).message.encode()

    yield Parser(
        name="grpc message",
        modules=("grpc_wire",),
        read=grpc,
        seeds=(grpc_frame(b"\x08\x01"), grpc_frame(health_request("shop.Orders")), grpc_frame(b"\x12\x03abc\x08\x02")),
    )
    yield Parser(
        name="grpc status",
        modules=("grpc_wire",),
        read=grpc_status,
        seeds=(
            b"HTTP/2 200 \r\ncontent-type: application/grpc\r\n\r\ngrpc-status: 5\r\ngrpc-message: no%20such%C3%A4\r\n",
            b"HTTP/2 200 \r\ncontent-type: application/grpc\r\ngrpc-status: 0\r\n\r\n",
        ),
    )
    yield _websocket()

    def icmp(data: bytes) -> None:
        for version in (4, 6):
            read_packet(version, data)
        without_ip_header(data)
        stamp([(0, 0, data)])

    asked = echo_request(4, 7, 9, b"payload")
    header = b"\x45\x00\x00\x2b\x00\x00\x00\x00\x40\x01\x00\x00\x7f\x00\x00\x01\x7f\x00\x00\x01"
    yield Parser(
        name="icmp packet",
        modules=("icmp_packet", "datagram"),
        read=icmp,
        seeds=(
            b"\x00" + asked[1:],
            header + asked,
            b"\x03\x04\x00\x00\x00\x00\x05\xdc" + header + asked,
            b"\x81" + asked[1:],
        ),
        allowed=(),
    )
    clock = ntp_packet.ntp_time(1.8e9)
    time_packet = b"\x24\x01\x03\xe7" + bytes(8) + b"GPS\0" + clock + bytes(range(8)) + clock + clock
    yield Parser(
        name="ntp packet",
        modules=("ntp_packet",),
        read=lambda data: ntp_packet.read(data, 1.8e9),
        seeds=(time_packet, b"\x24\x00" + time_packet[2:12] + b"RATE" + time_packet[16:]),
    )
    rabbit = tuple(
        frame.marshal(each, 1)
        for each in (
            commands.Connection.Start(
                0, 9, {"product": "RabbitMQ", "capabilities": {"basic.nack": True}}, "PLAIN", "en_US"
            ),
            commands.Connection.Tune(2047, 131072, 60),
            commands.Queue.DeclareOk("watched", 17, 1),
            commands.Connection.Close(403, "ACCESS_REFUSED", 0, 0),
            commands.Basic.Deliver("tag", 1, False, "", "watched"),
        )
    )

    def amqp(data: bytes) -> None:
        head = data[:7].ljust(7, b"\0")
        size = size_of(head)
        read_frame(head, data[7 : 7 + size] + b"\xce")

    yield Parser(name="amqp frame", modules=("rabbitmq_session",), read=amqp, seeds=rabbit, allowed=(RabbitGarbled,))
    partitions = [(0, 0, 1, [1, 2], [1, 2])]
    described = MetadataResponse_v1([(1, "127.0.0.1", 9092, None)], 1, [(0, "watched", False, partitions)]).encode()

    def fetched(packing: int) -> bytes:
        builder = DefaultRecordBatchBuilder(2, packing, 0, -1, -1, -1, 16384)
        builder.append(0, timestamp=1, key=None, value=b"message" * 20, headers=[])
        batch = bytes(builder.build())
        head = b"\0\0\0\0" + b"\0\0\0\1\0\1t\0\0\0\1" + b"\0\0\0\0\0\0" + b"\0" * 16 + b"\0\0\0\0"
        return head + len(batch).to_bytes(4) + batch

    def metadata(data: bytes) -> None:
        read_cluster(read_answer(MetadataRequest_v1(None), 7, b"\0\0\0\7" + data))

    def fetch(data: bytes) -> None:
        read_fetched(read_answer(FetchRequest_v4(-1, 0, 0, 0, 0, []), 7, b"\0\0\0\7" + data))

    yield Parser(
        name="kafka metadata", modules=("kafka_session",), read=metadata, seeds=(described,), allowed=(KafkaGarbled,)
    )
    yield Parser(
        name="kafka messages",
        modules=("kafka_session",),
        read=fetch,
        seeds=(fetched(0), fetched(1)),
        allowed=(KafkaGarbled,),
    )
    yield Parser(
        name="nats greeting",
        modules=("nats",),
        read=read_greeting,
        seeds=(b'INFO {"server_id":"A","version":"2.10.1","tls_required":true,"max_payload":1048576,"nonce":"x"}\r\n',),
        allowed=(),
    )
    yield Parser(
        name="redis info",
        modules=("redis",),
        read=read_info,
        seeds=(b"# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:17\r\n# Keyspace\r\ndb0:keys=1,expires=0\r\n",),
        allowed=(),
    )
    yield Parser(
        name="postgres login",
        modules=("postgres_session",),
        read=without_channel_binding,
        seeds=(b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", b"R\0\0\0\x08\0\0\0\0"),
        allowed=(),
    )

    def smtp(data: bytes) -> None:
        reply = read_reply(data.splitlines(keepends=True))
        str(reply).encode("utf-8", "backslashreplace")
        offers(extensions(reply), "AUTH PLAIN")

    def imap(data: bytes) -> None:
        literal_size(data)
        response = read_response(data)
        str(response).encode("utf-8", "backslashreplace")
        numbers(response.values)
        pairs(response.values)

    yield Parser(
        name="smtp reply",
        modules=("smtp_reply",),
        read=smtp,
        seeds=(
            b"250-mx.test\r\n250-SIZE 10240000\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n",
            b"550 5.1.1 no such user\r\n",
        ),
    )
    yield Parser(
        name="imap response",
        modules=("imap_response",),
        read=imap,
        seeds=(
            b"* OK [CAPABILITY IMAP4rev1 SASL-IR] ready\r\n",
            b'* 3 FETCH (UID 7 FLAGS (\\Seen) BODY[HEADER] {8}\r\na: b\r\n\r\n ENVELOPE ("x" NIL (("a" NIL "b" "c"))))\r\n',
            b"* SEARCH 1 2 3 40\r\n",
            b'* STATUS "INBOX" (MESSAGES 17 UIDNEXT 44292)\r\n',
        ),
    )
    yield Parser(
        name="mail header",
        modules=("mail_message",),
        read=lambda data: json.dumps(read_header(data).as_evidence()),
        seeds=(
            (
                b"Received: from a.test (a.test [192.0.2.1]) by b.test with ESMTPS id x; Sat, 21 Nov 2026 06:00:01 +0000\r\n"
                b"Received: by a.test; Sat, 21 Nov 2026 06:00:00 +0000\r\nX-Stormwatch: abc\r\n"
                b"Authentication-Results: b.test; spf=pass; dkim=fail\r\nSubject: =?utf-8?b?w6Q=?=\r\n\r\nbody\r\n"
            ),
        ),
        allowed=(),
    )
    registration = {
        "objectClassName": "domain",
        "ldhName": "shop.test",
        "status": ["client transfer prohibited", "active"],
        "events": [{"eventAction": "expiration", "eventDate": "2027-01-01T00:00:00Z"}],
        "nameservers": [{"objectClassName": "nameserver", "ldhName": "ns1.shop.test"}],
        "secureDNS": {"delegationSigned": True},
        "entities": [
            {"roles": ["registrar"], "handle": "1", "vcardArray": ["vcard", [["fn", {}, "text", "Registrar"]]]}
        ],
    }
    services = {"version": "1.0", "services": [[["test", "example"], ["https://rdap.test/", "http://rdap.test/"]]]}

    def rdap_answer(data: bytes) -> None:
        told = rdap.read_domain(data, "shop.test")
        json.dumps([told.statuses, told.nameservers, told.registrar], ensure_ascii=False).encode()

    yield Parser(
        name="rdap answer",
        modules=("rdap",),
        read=rdap_answer,
        seeds=(json.dumps(registration).encode(),),
        allowed=(ValueError,),
    )
    yield Parser(
        name="rdap bootstrap",
        modules=("rdap",),
        read=lambda data: rdap.read_bootstrap(data).service_for("www.shop.test"),
        seeds=(json.dumps(services).encode(),),
        allowed=(ValueError,),
    )


def _websocket() -> Parser:
    """The head of the upgrade has the right key, so that the frames behind it are looked at."""
    client = ClientProtocol(parse_uri("ws://shop.test/"))
    request = client.connect()
    key = request.headers["Sec-WebSocket-Key"]
    client.send_request(request)
    server = ServerProtocol()
    server.receive_data(b"".join(client.data_to_send()))
    (asked,) = server.events_received()
    assert isinstance(asked, Request)
    server.send_response(server.accept(asked))
    head = b"".join(server.data_to_send())
    server.send_text(b"hello")
    server.send_ping(b"stormwatch")
    server.send_binary(bytes(200))
    server.send_close(1000, "bye")
    frames = b"".join(server.data_to_send())

    def read(data: bytes) -> None:
        read_upgrade_status(data)
        protocol = ClientProtocol(parse_uri("ws://shop.test/"), max_size=2**14)
        protocol.key = key
        again = protocol.connect()
        protocol.send_request(again)
        reader = Frames(protocol)
        reader.feed(data)
        reader.feed(b"")

    fragment = Frame(Opcode.TEXT, b"half", fin=False).serialize(mask=False)
    return Parser(
        name="websocket", modules=("websocket_talk",), read=read, seeds=(head + frames, head + fragment + frames, head)
    )


# What programs say that we start


def _programs() -> Iterable[Parser]:
    def plugin(data: bytes) -> None:
        told = nagios.read_output(data.decode("utf-8", "replace"))
        json.dumps([told.text, told.longer, [each.as_json() for each in told.perfdata]], allow_nan=False).encode()

    yield Parser(
        name="nagios output",
        modules=("nagios",),
        read=plugin,
        seeds=(
            b"DISK OK - free space: / 3326 MB (56%); | /=2643MB;5948;5958;0;5968 'a b'=1,5s;@10:20;~:5\n/boot 68 MB\nmore | x=1c\n",
            b"PING WARNING - rta=12.5ms | rta=12.500ms;10;20;0 pl=0%;40;80;;\n",
        ),
        allowed=(),
    )
    yield Parser(
        name="program's report",
        modules=("exec_report",),
        read=exec_report.read,
        seeds=(
            b'{"outcome": "down", "reason": "refused", "message": "no", "measures": {"queue_length": 17}, "evidence": {"a": [1]}}',
            b'{"outcome": "up"}',
        ),
        allowed=(ValueError,),
    )
