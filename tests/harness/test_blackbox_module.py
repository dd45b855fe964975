"""blackbox.yml is read as blackbox_exporter reads it: the same defaults, the same words, and every mistake with its line."""

import re
from pathlib import Path
from typing import Any

import pytest

from stormwatch.harness.blackbox_module import MASKED, Module, Modules, read_modules
from stormwatch.harness.mistake import ConfigError

EXAMPLE = """\
modules:
  http_2xx:
    prober: http
    timeout: 5s
    http:
      valid_http_versions: ["HTTP/1.1", "HTTP/2.0"]
      valid_status_codes: []
      method: GET
      headers:
        Host: vhost.example.com
        Accept-Language: en-US
      fail_if_ssl: no
      fail_if_body_matches_regexp:
        - "Could not connect to database"
      fail_if_header_not_matches:
        - header: Access-Control-Allow-Origin
          regexp: '(\\*|example\\.com)'
          allow_missing: yes
      preferred_ip_protocol: "ip4"
      body_size_limit: 10MB
  smtp_starttls:
    prober: tcp
    tcp:
      query_response:
        - expect: "^220 ([^ ]+) ESMTP (.+)$"
          send: "EHLO prober\\r"
        - send: "STARTTLS\\r"
        - expect: "^220"
        - starttls: true
  postgresql:
    prober: tcp
    tcp:
      query_response:
        - send: !!binary AAAACATSFi8=
        - expect_bytes: "S"
  dns_soa:
    prober: dns
    dns: {query_name: prometheus.io, query_type: SOA, recursion_desired: false}
  icmp_ttl5: {prober: icmp, timeout: 1m30s, icmp: {ttl: 5}}
"""


def modules(directory: Path, text: str) -> Modules:
    """What a file says."""
    path = directory / "blackbox.yml"
    path.write_text(text)
    return read_modules(path)


def module(directory: Path, text: str) -> Module:
    """What the one module says whose body is given."""
    body = "\n".join(f"    {line}" for line in text.strip().splitlines())
    return modules(directory, f"modules:\n  m:\n{body}\n").modules["m"]


def test_an_example_is_read(tmp_path: Path) -> None:
    """Numbers, sizes, durations, YAML 1.1's booleans and bytes arrive as values."""
    read = modules(tmp_path, EXAMPLE).modules
    http = read["http_2xx"].http
    assert (read["http_2xx"].timeout, http.body_size_limit, http.fail_if_ssl) == (5.0, 10 * 2**20, False)
    assert http.fail_if_header_not_matches[0].allow_missing
    assert [step.send for step in read["smtp_starttls"].tcp.query_response] == [
        b"EHLO prober\r",
        b"STARTTLS\r",
        b"",
        b"",
    ]
    assert read["postgresql"].tcp.query_response[0].send == b"\0\0\0\x08\x04\xd2\x16/"
    assert read["postgresql"].tcp.query_response[1].expect_bytes == b"S"
    dns = read["dns_soa"].dns
    assert dns is not None
    assert (dns.query_type, dns.query_class, dns.recursion_desired) == ("SOA", "IN", False)
    assert (read["icmp_ttl5"].timeout, read["icmp_ttl5"].icmp.ttl) == (90.0, 5)


def test_defaults_are_blackbox_exporters(tmp_path: Path) -> None:
    """A module without a block has the defaults of its prober, an empty block is no block, and gRPC is the exception."""
    http = module(tmp_path, "prober: http").http
    assert (http.method, http.follow_redirects, http.enable_http2, http.ip_protocol_fallback) == (
        "GET",
        True,
        True,
        True,
    )
    assert module(tmp_path, "prober: http\nhttp:").http == http
    assert module(tmp_path, "prober: icmp").icmp.ttl == 64
    assert module(tmp_path, "prober: grpc").grpc.ip_protocol_fallback is False
    assert module(tmp_path, "prober: grpc\ngrpc:").grpc.ip_protocol_fallback is False
    assert module(tmp_path, "prober: grpc\ngrpc: {}").grpc.ip_protocol_fallback is True


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5.0), ("1m30s", 90.0), ("500ms", 0.5), ("1.5s", 1.5), ("2h", 7200.0), ("1000000000", 1.0), ("100us", 1e-4)],
)
def test_durations_are_gos(text: str, seconds: float, tmp_path: Path) -> None:
    """With units, several of them, or a whole number of nanoseconds."""
    assert module(tmp_path, f"prober: http\ntimeout: {text}").timeout == pytest.approx(seconds)


def test_what_looks_like_a_number_may_be_a_text(tmp_path: Path) -> None:
    """As Go's decoder has it: the field decides."""
    http = module(tmp_path, "prober: http\nhttp: {body: 010, headers: {X-Version: 1.10, X-Flag: true}}").http
    assert (http.body, dict(http.headers)) == ("010", {"X-Version": "1.10", "X-Flag": "true"})


MISTAKES = [
    ("prober: htp", "prober: there is no prober 'htp'; did you mean http?"),
    ("timeout: 5s", "prober is missing; it is one of http, tcp, icmp, dns, grpc, unix, websocket"),
    ("prober: http\nhttps: {}", "https: unknown key; did you mean http?"),
    ("prober: http\ntimeout: 5", None),
    ("prober: http\ntimeout: 5 s", "timeout: a duration is written like 500ms, 5s or 1m30s, not '5 s'; write 5s"),
    ("prober: http\nhttp: {fail_if_sl: true}", "http.fail_if_sl: unknown key; did you mean fail_if_ssl?"),
    ("prober: http\nhttp: {fail_if_ssl: maybe}", "http.fail_if_ssl: wanted true or false, not 'maybe'"),
    ("prober: http\nhttp: {valid_status_codes: 200}", "http.valid_status_codes: wanted a list, not '200'; write [200]"),
    ("prober: http\nhttp: {valid_status_codes: [2xx]}", "http.valid_status_codes[0]: wanted a whole number, not '2xx'"),
    ("prober: http\nhttp: {body: a, body_file: b}", "http: give body or body_file, not both"),
    ("prober: http\nhttp: {body_size_limit: 10}", "http.body_size_limit: a size is written like 512B, 64KB or 10MB, not '10'; write 10B"),
    (
        "prober: http\nhttp: {fail_if_body_matches_regexp: ['(?=a)']}",
        "http.fail_if_body_matches_regexp[0]: '(?=a)' is not an RE2 expression: invalid perl operator: (?=",
    ),
    (
        "prober: http\nhttp: {fail_if_body_json_matches_cel: 'body ==='}",
        "http.fail_if_body_json_matches_cel: 'body ===' is not a CEL expression: there is a mistake at column 8",
    ),
    (
        "prober: http\nhttp: {fail_if_header_matches: [{header: A}]}",
        "http.fail_if_header_matches[0]: regexp is missing; add `regexp:`",
    ),
    (
        "prober: http\nhttp: {compression: gzip, headers: {accept-encoding: br}}",
        "http.compression: compression gzip is not allowed by the header accept-encoding, 'br'",
    ),
    ("prober: http\nhttp: {headers: {A: b}, http_headers: {a: {values: [c]}}}", "http.headers: headers and http_headers both set a"),
    ("prober: http\nhttp: {enable_http3: true}", "http: enable_http2 must be false with enable_http3"),
    (
        "prober: http\nhttp: {valid_http_versions: [HTTP/3.0]}",
        "http.valid_http_versions: valid_http_versions has HTTP/3.0, which needs enable_http3",
    ),
    (
        "prober: http\nhttp: {enable_http3: true, enable_http2: false, valid_http_versions: [HTTP/1.1]}",
        "http.valid_http_versions: valid_http_versions may only have HTTP/3.0 with enable_http3",
    ),
    (
        "prober: http\nhttp: {bearer_token: a, basic_auth: {username: b}}",
        "http: give one of basic_auth, bearer_token: a request has one Authorization header",
    ),
    ("prober: http\nhttp: {basic_auth: {password: a, password_file: b}}", "http.basic_auth: give password or password_file, not both"),
    (
        "prober: http\nhttp: {basic_auth: {password_ref: vault}}",
        "http.basic_auth.password_ref: password_ref names an entry of a secret manager, and there is none; use password_file",
    ),
    ("prober: http\nhttp: {authorization: {type: Basic}}", 'http.authorization: the type "basic" is written as basic_auth'),
    ("prober: http\nhttp: {oauth2: {client_id: a}}", "http.oauth2: oauth2 token_url must be given"),
    ("prober: http\nhttp: {oauth2: {token_url: a}}", "http.oauth2: oauth2 client_id must be given"),
    ("prober: http\nhttp: {no_proxy: a}", "http.no_proxy: no_proxy is about proxy_url: give that too"),
    (
        "prober: http\nhttp: {proxy_url: 'http://a', proxy_from_environment: true}",
        "http: give proxy_url or proxy_from_environment, not both",
    ),
    ("prober: tcp\ntcp: {tls_config: {cert_file: a}}", "tcp.tls_config: a client certificate needs both cert and key, or cert_file and key_file"),
    ("prober: tcp\ntcp: {tls_config: {min_version: TLS1}}", "tcp.tls_config.min_version: wanted TLS10, TLS11, TLS12 or TLS13, not 'TLS1'; did you mean TLS13?"),
    ("prober: tcp\ntcp: {query_response: [{expect: a, expect_bytes: b}]}", "tcp.query_response[0]: give expect or expect_bytes, not both"),
    ("prober: tcp\ntcp: {query_response: [{send: !!binary '%'}]}", "tcp.query_response[0].send: a !!binary text is written in base64"),
    (
        "prober: tcp\ntcp: {query_response: [{expect: a, labels: [{name: a-b}]}]}",
        "tcp.query_response[0].labels[a-b].name: wanted text that matches ^[a-zA-Z_][a-zA-Z0-9_]*$, not 'a-b'",
    ),
    ("prober: dns", "dns is missing: a module whose prober is dns needs a query_name"),
    ("prober: dns\ndns: {}", "dns: query_name is missing; add `query_name:`"),
    ("prober: dns\ndns: {query_name: a, query_type: B}", "dns.query_type: there is no record type 'B'; write A, AAAA, MX, SOA or another of IANA's list"),
    ("prober: dns\ndns: {query_name: a, query_class: X}", "dns.query_class: there is no class 'X'; the usual one is IN"),
    ("prober: dns\ndns: {query_name: a, transport_protocol: quic}", "dns.transport_protocol: wanted udp or tcp, not 'quic'"),
    ("prober: dns\ndns: {query_name: a, dns_over_tls: true}", "dns: transport_protocol must be tcp with dns_over_tls"),
    ("prober: icmp\nicmp: {ttl: 256}", "icmp.ttl: wanted at most 255, not '256'"),
    ("prober: icmp\nicmp: {payload_size: -1}", "icmp.payload_size: wanted at least 0, not '-1'"),
    ("prober: icmp\nicmp: {preferred_ip_protocol: ipv4}", "icmp.preferred_ip_protocol: wanted ip4 or ip6, not 'ipv4'; did you mean ip4?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[text.replace("\n", " ") for text, _ in MISTAKES])
def test_each_mistake_is_told_with_its_line(text: str, said: str | None, tmp_path: Path) -> None:
    """File, line, where, what, remedy."""
    if said is None:
        module(tmp_path, text)  # five nanoseconds: nobody means it, and blackbox_exporter takes it
        return
    with pytest.raises(ConfigError) as caught:
        module(tmp_path, text)
    (line,) = caught.value.lines
    match = re.fullmatch(rf"{re.escape(str(tmp_path))}/blackbox\.yml:(\d+): modules\.m(\.|: )(.*)", line)
    assert match, line
    assert match[3] == said
    assert 2 <= int(match[1]) <= 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("module: {}", "module: unknown key; did you mean modules?"),
        ("[]", "wanted a mapping that begins with `modules:`, not an empty list"),
        ("modules: []", "modules: wanted a mapping, not an empty list"),
        ("modules: {a: 1}", "modules.a: wanted a mapping that begins with `prober:`, not the number 1"),
    ],
)
def test_mistakes_around_the_modules(text: str, said: str, tmp_path: Path) -> None:
    """The file itself may be wrong too."""
    with pytest.raises(ConfigError) as caught:
        modules(tmp_path, text)
    assert any(line.endswith(f":1: {said}") for line in caught.value.lines), caught.value.lines


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Nobody wants to learn of them one by one."""
    with pytest.raises(ConfigError) as caught:
        modules(tmp_path, "modules:\n  a: {prober: x}\n  b: {prober: http, http: {methd: GET}}\n")
    assert len(caught.value.lines) == 2


SECRETS = """\
modules:
  m:
    prober: http
    http:
      headers: {Authorization: "Bearer topsecret1", X-Plain: visible-value, Cookie: ""}
      http_headers: {X-Both: {values: [topsecret2], secrets: [topsecret3], files: [/etc/file]}}
      basic_auth: {username: probe, password: topsecret4}
      body: topsecret5
      proxy_url: "http://user:topsecret6@proxy.example:3128"
      proxy_connect_header: {Proxy-Authorization: [topsecret7]}
      tls_config: {cert: public, key: topsecret8}
  t:
    prober: tcp
    tcp: {query_response: [{expect: "^220", send: "PASS topsecret9"}]}
  g: {prober: grpc, grpc: {metadata: {authorization: [topsecret10]}}}
  o: {prober: http, http: {oauth2: {client_id: a, client_secret: topsecret11, token_url: b, endpoint_params: {p: topsecret12}}}}
"""


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Also in the places that blackbox_exporter prints: header values, bodies, what is sent."""
    read = modules(tmp_path, SECRETS)
    shown: Any = read.shown
    assert "topsecret" not in str(shown)
    assert shown["m"]["http"]["headers"] == {"Authorization": MASKED, "X-Plain": MASKED, "Cookie": ""}
    assert shown["m"]["http"]["basic_auth"]["username"] == "probe"
    assert shown["m"]["http"]["http_headers"]["X-Both"]["files"] == ["/etc/file"]
    assert shown["m"]["http"]["proxy_url"] == f"http://user:{MASKED}@proxy.example:3128"
    assert shown["t"]["tcp"]["query_response"][0] == {"expect": "^220", "send": MASKED}
    assert "topsecret" not in repr(read.modules)


def test_what_is_a_secret_is_known_for_masking_results(tmp_path: Path) -> None:
    """Credentials, and headers that are named like them; other header values and bodies would mask too much."""
    known = modules(tmp_path, SECRETS).secrets
    assert known["m"] == {"Bearer topsecret1", "topsecret3", "topsecret4", "topsecret6", "topsecret7", "topsecret8"}
    assert known["g"] == {"topsecret10"}
    assert known["o"] == {"topsecret11", "topsecret12"}
