"""What blackbox_exporter and `/probe` are both asked, and where they may differ: data for the differential test."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """Where we mean to differ. The same list, with the reasons, stands in docs/reference/blackbox.md."""

    name: str
    series: str
    """An expression for the names of the series that differ, or that only one of us has."""
    why: str


FACTS = Difference(
    "facts of a refused certificate",
    "probe_ssl_.*|probe_tls_.*",
    "an alert on an expiry must not go silent at the moment of the expiry",
)
REDIRECT = Difference(
    "a redirect that is not followed",
    "probe_http_redirects|probe_http_uncompressed_body_length",
    "it is not counted as a redirect, and its body is read like any other",
)
ENCODING = Difference(
    "a body that is not compressed as wanted",
    "probe_success|probe_failed_due_to_regex|probe_http_uncompressed_body_length",
    "the Content-Encoding header decides, as in RFC 9110; nothing is decoded blindly",
)
PROXY = Difference(
    "the look-up of a proxy",
    "probe_http_duration_seconds",
    "looking up the proxy's name takes time too, and is told as phase resolve",
)
HEALTH = Difference(
    "the health of a service that nobody could ask",
    "probe_grpc_healthcheck_response",
    "each state has its series from the first moment, so that no rule waits for it",
)
GRPC_FACTS = Difference(
    "what a handshake for gRPC showed",
    "probe_ssl_last_chain_expiry_timestamp_seconds|probe_tls_cipher_info",
    "the same facts of a handshake are exported whatever is spoken behind it",
)
SERIAL = Difference(
    "the serial number of what has none",
    "probe_dns_serial",
    "0 is a serial number like any other, and there was none",
)
DIFFERENCES = (SERIAL, HEALTH, GRPC_FACTS, FACTS, REDIRECT, ENCODING, PROXY)


@dataclass(frozen=True)
class Case:
    """One question to both. `<name>` in texts is the port of a target."""

    name: str
    prober: str
    block: Mapping[str, Any]
    """What stands under the prober's name in the module."""
    target: str
    success: bool
    """What both must say: a case that fails for another reason than the one it is about proves nothing."""
    timeout: str = "3s"
    hostname: str = ""
    differs: tuple[Difference, ...] = ()
    """The intended differences that show here."""
    since: tuple[int, int] = (0, 0)
    """The version of blackbox_exporter that has what is asked."""


def _http(name: str, path: str, success: bool, *, server: str = "http", **more: Any) -> Case:
    scheme = "http" if server in ("http", "closed", "http6") else "https"
    target = more.pop("target", f"{scheme}://127.0.0.1:<{server}>/{path}")
    case = {key: more.pop(key) for key in ("timeout", "hostname", "differs", "since") if key in more}
    if scheme == "https":
        more.setdefault("tls_config", {"ca_file": "<authority>"})
    return Case(f"http {name}", "http", more, target, success, **case)


def _tcp(name: str, target: str, success: bool, *dialogue: Mapping[str, Any], **more: Any) -> Case:
    case = {key: more.pop(key) for key in ("timeout", "hostname", "differs", "since") if key in more}
    block = {"query_response": list(dialogue), **more} if dialogue else more
    return Case(f"tcp {name}", "tcp", block, target, success, **case)


def _dns(name: str, success: bool, *, server: str = "dns", query: str = "one.test", **more: Any) -> Case:
    target = more.pop("target", f"127.0.0.1:<{server}>")
    case = {key: more.pop(key) for key in ("timeout", "hostname", "differs", "since") if key in more}
    return Case(f"dns {name}", "dns", {"query_name": query, "query_type": "A", **more}, target, success, **case)


def _icmp(name: str, target: str, success: bool, **more: Any) -> Case:
    case = {key: more.pop(key) for key in ("timeout", "hostname", "differs", "since") if key in more}
    return Case(f"icmp {name}", "icmp", more, target, success, **case)


def _grpc(name: str, success: bool, *, server: str = "grpc", target: str = "", **more: Any) -> Case:
    case = {key: more.pop(key) for key in ("timeout", "hostname", "differs", "since") if key in more}
    return Case(f"grpc {name}", "grpc", more, target or f"127.0.0.1:<{server}>", success, **case)


QUICK = "400ms"
"""The time-out of cases that end with it."""
REFUSED_RECORD = {"fail_if_matches_regexp": ["192[.]0[.]2[.]1$"]}


def _of_http() -> Iterator[Case]:
    yield _http("ok", "ok", True)
    yield _http("without a scheme", "", True, target="127.0.0.1:<http>/ok")
    yield _http("by name", "", True, target="http://localhost:<http>/ok")
    yield _http("with a query", "ok?a=b&c=d%20e", True)
    yield _http("not found", "nowhere", False)
    yield _http("server error", "status/500", False)
    yield _http("no content", "status/204", True)
    yield _http("a code that is wanted", "status/404", True, valid_status_codes=[404])
    yield _http("a code that is not wanted", "ok", False, valid_status_codes=[301, 404])
    yield _http("nobody listens", "", False, server="closed")
    yield _http("no such name", "", False, target="http://nowhere.invalid/")
    yield _http("a silent server", "slow", False, timeout=QUICK)
    yield _http("a body that stops", "slow-body", False, timeout=QUICK)
    yield _http("hangs up", "close", False)
    yield _http("resets", "reset", False)
    yield _http("not HTTP", "garble", False)
    yield _http("cut short", "cut", False)
    yield _http("chunked", "chunked", True)
    yield _http("HTTP/1.0", "http10", True)
    yield _http("HTTP/1.0 is not wanted", "http10", False, valid_http_versions=["HTTP/1.1", "HTTP/2.0"])
    yield _http("HTTP/1.1 is wanted", "ok", True, valid_http_versions=["HTTP/1.1"])
    yield _http("a redirect", "redirect/1", True)
    yield _http("three redirects", "redirect/3", True)
    yield _http("ten redirects", "redirect/10", True)
    yield _http("eleven redirects", "redirect/11", False, differs=(REDIRECT,))
    yield _http("redirects not followed", "redirect/1", False, follow_redirects=False, differs=(REDIRECT,))
    yield _http(
        "a redirect is wanted",
        "redirect/1",
        True,
        follow_redirects=False,
        valid_status_codes=[302],
        differs=(REDIRECT,),
    )
    yield _http(
        "the old name of that",
        "redirect/1",
        True,
        no_follow_redirects=True,
        valid_status_codes=[302],
        differs=(REDIRECT,),
    )
    yield _http("a redirect to where nobody listens", "to-closed", False)
    yield _http("a redirect to TLS", "to-tls", True, tls_config={"ca_file": "<authority>"})
    yield _http(
        "a redirect to TLS that is not wanted", "to-tls", False, fail_if_ssl=True, tls_config={"ca_file": "<authority>"}
    )
    yield _http("a redirect to plain", "to-plain", True, server="https")
    yield _http("a redirect to plain where TLS is wanted", "to-plain", False, server="https", fail_if_not_ssl=True)
    yield _http("303 after POST", "moved/303/method/GET", True, method="POST")
    yield _http("307 after POST", "moved/307/method/POST", True, method="POST")
    yield _http("cookies are kept", "cookie/set", True)
    yield _http("POST", "method/POST", True, method="POST")
    yield _http("HEAD", "method/HEAD", True, method="HEAD")
    yield _http("PUT where it is not allowed", "method/GET", False, method="PUT")
    yield _http("a body", "body/ping", True, method="POST", body="ping")
    yield _http("a body from a file", "body/from-a-file", True, method="POST", body_file="<body-file>", since=(0, 24))
    yield _http("a header", "header/X-Ask/yes", True, headers={"X-Ask": "yes"})
    yield _http("the Host header", "header/Host/shop.example", True, headers={"Host": "shop.example"})
    yield _http("a host name in the request", "header/Host/shop.example", True, hostname="shop.example")
    yield _http("the user agent", "agent", True)
    yield _http("another user agent", "header/User-Agent/me", True, headers={"User-Agent": "me"})
    yield _http("no Accept-Encoding without compression", "without/Accept-Encoding", True)
    yield _http("basic auth", "login", True, basic_auth={"username": "probe", "password": "hunter22"})
    yield _http("wrong password", "login", False, basic_auth={"username": "probe", "password": "wrong"})
    yield _http(
        "basic auth from a file", "login", True, basic_auth={"username": "probe", "password_file": "<password-file>"}
    )
    yield _http("bearer token", "login", True, bearer_token="s3cr3t-token")
    yield _http("authorization", "login", True, authorization={"credentials": "s3cr3t-token"})
    yield _http(
        "authorization of another type", "login", True, authorization={"type": "Token", "credentials": "s3cr3t-token"}
    )
    yield _http("without a login", "login", False)
    yield _http("body matches", "ok", True, fail_if_body_not_matches_regexp=["hello", "second line"])
    yield _http("body does not match", "ok", False, fail_if_body_not_matches_regexp=["hello", "good-bye"])
    yield _http("body matches and must not", "ok", False, fail_if_body_matches_regexp=["wor.d"])
    yield _http("body does not match and must not", "ok", True, fail_if_body_matches_regexp=["good-bye"])
    yield _http("a wrong code and a wrong body", "status/500", False, fail_if_body_not_matches_regexp=["good-bye"])
    yield _http("(?s) and anchors", "ok", True, fail_if_body_not_matches_regexp=["(?s)^hello.*line\n$"])
    yield _http("header matches", "ok", True, fail_if_header_not_matches=[{"header": "X-Version", "regexp": r"^1\.2"}])
    yield _http(
        "header does not match", "ok", False, fail_if_header_not_matches=[{"header": "X-Version", "regexp": "^2"}]
    )
    yield _http(
        "header matches and must not", "ok", False, fail_if_header_matches=[{"header": "x-one", "regexp": "alpha"}]
    )
    yield _http("header is missing", "ok", False, fail_if_header_matches=[{"header": "X-None", "regexp": "a"}])
    yield _http(
        "header may be missing", "ok", True,
        fail_if_header_matches=[{"header": "X-None", "regexp": "a", "allow_missing": True}],
        fail_if_header_not_matches=[{"header": "X-None", "regexp": "a", "allow_missing": True}],
    )  # fmt: skip
    yield _http(
        "one of several headers", "many", True, fail_if_header_not_matches=[{"header": "X-Many", "regexp": "second"}]
    )
    yield _http("gzip", "gzip", True, compression="gzip", headers={"Accept-Encoding": "gzip"})
    yield _http(
        "gzip is not decoded unasked",
        "gzip",
        False,
        headers={"Accept-Encoding": "gzip"},
        fail_if_body_not_matches_regexp=["squeezed"],
    )
    yield _http("gzip without asking", "gzip", False, fail_if_body_not_matches_regexp=["squeezed"])
    yield _http(
        "gzip that does not say so",
        "gzip-unasked",
        True,
        differs=(ENCODING,),
        compression="gzip",
        fail_if_body_not_matches_regexp=["squeezed"],
    )
    yield _http("gzip that is none", "ok", False, compression="gzip", differs=(ENCODING,))
    yield _http("deflate", "deflate", True, compression="deflate", fail_if_body_not_matches_regexp=["squeezed"])
    yield _http("brotli", "br", True, compression="br", fail_if_body_not_matches_regexp=["squeezed"])
    yield _http("identity", "ok", True, compression="identity", fail_if_body_not_matches_regexp=["hello"])
    yield _http("a body below the limit", "big/1024", True, body_size_limit="1KB")
    yield _http("a body above the limit", "big/1025", False, body_size_limit="1KB")
    yield _http("a large body", "big/3000000", True)
    yield _http("Last-Modified", "modified", True)
    yield _http("a Last-Modified that is none", "modified-badly", True)
    yield _http(
        "CEL holds",
        "json",
        True,
        fail_if_body_json_not_matches_cel='body.status == "green" && body.nodes >= 3',
        since=(0, 26),
    )
    yield _http("CEL does not hold", "json", False, fail_if_body_json_matches_cel="body.nodes == 3", since=(0, 27))
    yield _http("CEL on what is no JSON", "ok", False, fail_if_body_json_matches_cel="body.nodes == 3", since=(0, 27))
    yield _http("TLS", "ok", True, server="https")
    yield _http("TLS by name", "", True, target="https://localhost:<https>/ok", tls_config={"ca_file": "<authority>"})
    yield _http("TLS where plain is wanted", "ok", False, server="https", fail_if_ssl=True)
    yield _http("plain where TLS is wanted", "ok", False, fail_if_not_ssl=True)
    yield _http("TLS 1.2", "ok", True, server="tls12")
    yield _http("TLS 1.3", "ok", True, server="tls13")
    yield _http(
        "at most TLS 1.2", "ok", True, server="https", tls_config={"ca_file": "<authority>", "max_version": "TLS12"}
    )
    yield _http(
        "at least TLS 1.3, and there is none",
        "ok",
        False,
        server="tls12",
        tls_config={"ca_file": "<authority>", "min_version": "TLS13"},
    )
    yield _http("expired", "ok", False, server="expired", differs=(FACTS,))
    yield _http("expired and not verified", "ok", True, server="expired", tls_config={"insecure_skip_verify": True})
    yield _http("the wrong host", "ok", False, server="wrong-host", differs=(FACTS,))
    yield _http(
        "the wrong host with its name",
        "ok",
        True,
        server="wrong-host",
        tls_config={"ca_file": "<authority>", "server_name": "other.example"},
    )
    yield _http("an unknown authority", "ok", False, server="unknown-authority", differs=(FACTS,))
    yield _http(
        "an unknown authority and not verified",
        "ok",
        True,
        server="unknown-authority",
        tls_config={"insecure_skip_verify": True},
    )
    yield _http("short-lived", "ok", True, server="short-lived")
    yield _http("the system's authorities", "ok", False, server="https", tls_config={}, differs=(FACTS,))
    yield _http("a host name for TLS", "header/Host/shop.example", True, server="https", hostname="shop.example")
    yield _http(
        "a host name that the certificate is not for",
        "ok",
        False,
        server="https",
        hostname="nobody.example",
        differs=(FACTS,),
    )
    yield _http(
        "a client certificate",
        "ok",
        True,
        server="mutual",
        tls_config={"ca_file": "<authority>", "cert_file": "<client-cert>", "key_file": "<client-key>"},
    )
    yield _http("no client certificate", "ok", False, server="mutual", differs=(FACTS,))
    yield _http("plain to a TLS port", "", False, target="http://127.0.0.1:<https>/ok")
    yield _http("TLS to a plain port", "", False, target="https://127.0.0.1:<http>/ok")
    yield _http("HTTP/2", "ok", True, server="h2", valid_http_versions=["HTTP/2.0"])
    yield _http("HTTP/2 switched off", "ok", True, server="https", enable_http2=False)
    yield _http("by a proxy", "ok", True, proxy_url="http://127.0.0.1:<proxy>")
    yield _http("TLS by a proxy", "ok", True, server="https", proxy_url="http://127.0.0.1:<proxy>")
    yield _http("by a proxy that is not there", "ok", False, proxy_url="http://127.0.0.1:<closed>")
    yield _http(
        "by a proxy without a look-up",
        "ok",
        True,
        proxy_url="http://127.0.0.1:<proxy>",
        skip_resolve_phase_with_proxy=True,
        differs=(PROXY,),
    )
    yield _http(
        "IPv4 only",
        "",
        True,
        target="http://localhost:<http>/ok",
        preferred_ip_protocol="ip4",
        ip_protocol_fallback=False,
    )
    yield _http("IPv6 only, and there is none", "ok", False, preferred_ip_protocol="ip6", ip_protocol_fallback=False)
    yield _http("IPv6", "", True, target="http://[::1]:<http6>/ok")
    yield _http("IPv6 where IPv4 is preferred", "", True, target="http://[::1]:<http6>/ok", preferred_ip_protocol="ip4")
    yield _http("the target is encoded twice", "", True, target="http%3A%2F%2F127.0.0.1%3A<http>%2Fok", since=(0, 29))


def _of_dns() -> Iterator[Case]:
    yield _dns("ok", True)
    yield _dns("over TCP", True, transport_protocol="tcp")
    yield _dns("by TCP is by TCP", True, query="tcp.test", transport_protocol="tcp")
    yield _dns("by UDP is by UDP", False, query="tcp.test")
    yield _dns("cut off over UDP", True, query="cut.test")
    yield _dns("no such name", False, query="missing.test")
    yield _dns("no such name, as wanted", True, query="missing.test", valid_rcodes=["NXDOMAIN"])
    yield _dns("one of several codes", True, query="missing.test", valid_rcodes=["NOERROR", "NXDOMAIN"])
    yield _dns("refused", False, server="dns-refused")
    yield _dns("servfail", False, server="dns-servfail")
    yield _dns("servfail, as wanted", True, server="dns-servfail", valid_rcodes=["SERVFAIL"])
    yield _dns("no record of the type", True, query="lonely.test")
    yield _dns("any type", True, query_type="ANY")
    yield _dns(
        "TXT",
        True,
        query_type="TXT",
        validate_answer_rrs={"fail_if_not_matches_regexp": [r'^one\.test\.\t3600\tIN\tTXT\t"hello world" "b;c"$']},
    )
    yield _dns(
        "MX", True, query_type="MX", validate_answer_rrs={"fail_if_not_matches_regexp": [r"MX\t10 mail\.one\.test\.$"]}
    )
    yield _dns("SOA", True, query_type="SOA")
    yield _dns("SOA of what has none", True, query="two.test", query_type="SOA", differs=(SERIAL,))
    yield _dns("class CH", False, query_class="CH", server="dns-refused")
    yield _dns("recursion", True, query="rd.test")
    yield _dns("without recursion", False, query="rd.test", recursion_desired=False)
    yield _dns("matches and must not", False, validate_answer_rrs=REFUSED_RECORD)
    yield _dns("does not match and must not", True, validate_answer_rrs={"fail_if_matches_regexp": ["203[.]0"]})
    yield _dns(
        "all match, which is right",
        True,
        query="two.test",
        validate_answer_rrs={"fail_if_all_match_regexp": [r"\d+[.]\d+$"]},
    )
    yield _dns(
        "not all match, which is wrong",
        False,
        query="two.test",
        validate_answer_rrs={"fail_if_all_match_regexp": ["192[.]0"]},
    )
    yield _dns(
        "one does not match", False, query="two.test", validate_answer_rrs={"fail_if_not_matches_regexp": ["192[.]0"]}
    )
    yield _dns("each matches", True, query="two.test", validate_answer_rrs={"fail_if_not_matches_regexp": ["two.test"]})
    yield _dns(
        "one matches",
        True,
        query="two.test",
        validate_answer_rrs={"fail_if_none_matches_regexp": ["198[.]51", "203[.]0"]},
    )
    yield _dns(
        "none matches", False, query="two.test", validate_answer_rrs={"fail_if_none_matches_regexp": ["203[.]0"]}
    )
    yield _dns(
        "nothing there to match", False, query="lonely.test", validate_answer_rrs={"fail_if_not_matches_regexp": ["."]}
    )
    yield _dns(
        "nothing there that could match",
        True,
        query="lonely.test",
        validate_answer_rrs={"fail_if_matches_regexp": ["."]},
    )
    yield _dns(
        "all of nothing match", True, query="lonely.test", validate_answer_rrs={"fail_if_all_match_regexp": ["x"]}
    )
    yield _dns(
        "authority", True, query="full.test", validate_authority_rrs={"fail_if_not_matches_regexp": [r"NS\tns\.full"]}
    )
    yield _dns(
        "authority is wrong", False, query="full.test", validate_authority_rrs={"fail_if_matches_regexp": ["ns[.]full"]}
    )
    yield _dns(
        "additional",
        True,
        query="full.test",
        validate_additional_rrs={"fail_if_none_matches_regexp": ["192[.]0[.]2[.]53"]},
    )
    yield _dns(
        "additional is wrong",
        False,
        query="full.test",
        validate_additional_rrs={"fail_if_not_matches_regexp": ["AAAA"]},
    )
    yield _dns(
        "over TLS",
        True,
        server="dot",
        transport_protocol="tcp",
        dns_over_tls=True,
        tls_config={"ca_file": "<authority>"},
    )
    yield _dns(
        "over TLS, not trusted",
        False,
        server="dot-wrong",
        transport_protocol="tcp",
        dns_over_tls=True,
        tls_config={"ca_file": "<authority>"},
    )
    yield _dns(
        "over TLS, not verified",
        True,
        server="dot-wrong",
        transport_protocol="tcp",
        dns_over_tls=True,
        tls_config={"insecure_skip_verify": True},
    )
    yield _dns("no answer", False, server="dns-mute", timeout=QUICK)
    yield _dns("garbled", False, server="dns-garbled", timeout=QUICK)
    yield _dns("nobody listens", False, server="closed", transport_protocol="tcp")
    yield _dns("a server by name", True, target="localhost:<dns>")
    yield _dns("a server that does not exist", False, target="nowhere.invalid:53")
    yield _dns("from an address", True, source_ip_address="127.0.0.1")
    yield _dns("no server there at IPv6", False, preferred_ip_protocol="ip6", ip_protocol_fallback=False)


def _of_tcp() -> Iterator[Case]:
    banner, smtp = "127.0.0.1:<banner>", "127.0.0.1:<smtp>"
    trusted = {"tls_config": {"ca_file": "<authority>"}}
    starttls = ({"expect": "^220"}, {"send": "EHLO prober\r"}, {"expect": "^250 STARTTLS"}, {"send": "STARTTLS\r"}, {"expect": "^220"}, {"starttls": True})  # fmt: skip
    yield _tcp("a connection", banner, True)
    yield _tcp("by name", "localhost:<banner>", True)
    yield _tcp("nobody listens", "127.0.0.1:<closed>", False)
    yield _tcp("no such name", "nowhere.invalid:25", False)
    yield _tcp("no port", "127.0.0.1", False)
    yield _tcp("a banner", banner, True, {"expect": "^220 ([^ ]+) ESMTP"})
    yield _tcp("another banner", "127.0.0.1:<hang-up>", False, {"expect": "ESMTP"})
    yield _tcp("a banner that never comes", "127.0.0.1:<silent>", False, {"expect": "ESMTP"}, timeout=QUICK)
    yield _tcp(
        "a dialogue",
        banner,
        True,
        {"expect": "^220"},
        {"send": "EHLO prober\r"},
        {"expect": "^250 HELP"},
        {"send": "QUIT\r"},
        {"expect": "^221"},
    )
    yield _tcp("a dialogue that goes wrong", banner, False, {"expect": "^220"}, {"send": "QUIT"}, {"expect": "^999"})
    yield _tcp(
        "what was heard is sent",
        banner,
        True,
        {"expect": "^220 ([^ ]+) ESMTP", "send": "EHLO ${1}\r"},
        {"expect": "greets storm.example"},
    )
    yield _tcp(
        "by the name of a group",
        banner,
        True,
        {"expect": "^220 (?P<host>[^ ]+) ESMTP", "send": "EHLO ${host}\r"},
        {"expect": "greets storm.example"},
    )
    yield _tcp(
        "a group that is not there", banner, True, {"expect": "^220", "send": "EHLO x$1y\r"}, {"expect": "greets x$"}
    )
    yield _tcp(
        "labels",
        "127.0.0.1:<echo>",
        True,
        {
            "expect": r"token=(\w+);version=(.*)",
            "labels": [{"name": "version", "value": "${2}"}, {"name": "fixed", "value": "yes"}],
        },
        since=(0, 26),
    )
    yield _tcp(
        "labels without a match",
        banner,
        False,
        {"expect": "^never", "labels": [{"name": "version", "value": "${1}"}]},
        timeout=QUICK,
        since=(0, 26),
    )
    yield _tcp("only sends", "127.0.0.1:<echo>", True, {"send": "hello"})
    yield _tcp(
        "lines of both kinds",
        "127.0.0.1:<echo>",
        True,
        {"expect": "7.4$"},
        {"send": "hello"},
        {"expect": "^you said hello$"},
    )
    yield _tcp("STARTTLS", smtp, True, *starttls, {"send": "EHLO again\r"}, {"expect": "^250 STARTTLS"}, **trusted)
    yield _tcp("STARTTLS by name", "localhost:<smtp>", True, *starttls, **trusted)
    yield _tcp("STARTTLS, expired", "127.0.0.1:<smtp-expired>", False, *starttls, differs=(FACTS,), **trusted)
    yield _tcp(
        "STARTTLS, not verified", "127.0.0.1:<smtp-expired>", True, *starttls, tls_config={"insecure_skip_verify": True}
    )
    yield _tcp("TLS", "127.0.0.1:<tls-banner>", True, {"expect": "^220"}, tls=True, **trusted)
    yield _tcp("TLS without a dialogue", "127.0.0.1:<tls-banner>", True, tls=True, **trusted)
    yield _tcp(
        "TLS, expired",
        "127.0.0.1:<tls-banner-expired>",
        False,
        {"expect": "^220"},
        tls=True,
        differs=(FACTS,),
        **trusted,
    )
    yield _tcp(
        "TLS, not verified", "127.0.0.1:<tls-banner-expired>", True, tls=True, tls_config={"insecure_skip_verify": True}
    )
    yield _tcp(
        "TLS for another host",
        "127.0.0.1:<tls-banner>",
        False,
        tls=True,
        tls_config={"ca_file": "<authority>", "server_name": "other.example"},
        differs=(FACTS,),
    )
    yield _tcp(
        "TLS for the host of the request",
        "127.0.0.1:<tls-banner>",
        True,
        tls=True,
        hostname="localhost",
        since=(0, 24),
        **trusted,
    )
    yield _tcp("TLS to a plain port", banner, False, tls=True, **trusted)
    yield _tcp(
        "bytes",
        "127.0.0.1:<bytes>",
        True,
        {"send": b"\x00\x00\x00\x08\x04\xd2\x16/"},
        {"expect_bytes": "S"},
        since=(0, 28),
    )
    yield _tcp(
        "other bytes",
        "127.0.0.1:<bytes>",
        False,
        {"send": b"\x00\x00\x00\x08\x04\xd2\x16/"},
        {"expect_bytes": "N"},
        since=(0, 28),
    )
    yield _tcp("from an address", banner, True, source_ip_address="127.0.0.1")
    yield _tcp("IPv6 only, and there is none", banner, False, preferred_ip_protocol="ip6", ip_protocol_fallback=False)


def _of_icmp() -> Iterator[Case]:
    yield _icmp("ok", "127.0.0.1", True)
    yield _icmp("by name", "localhost", True)
    yield _icmp("IPv6", "::1", True)
    yield _icmp("a payload", "127.0.0.1", True, payload_size=512)
    yield _icmp("a time to live", "127.0.0.1", True, ttl=5)
    yield _icmp("not to be fragmented", "127.0.0.1", True, dont_fragment=True)
    yield _icmp("from an address", "127.0.0.1", True, source_ip_address="127.0.0.1")
    yield _icmp("no such name", "nowhere.invalid", False)
    yield _icmp(
        "IPv6 only, and there is none", "127.0.0.1", False, preferred_ip_protocol="ip6", ip_protocol_fallback=False
    )


def _of_grpc() -> Iterator[Case]:
    trusted = {"tls": True, "tls_config": {"ca_file": "<authority>"}}
    yield _grpc("serving", True)
    yield _grpc("by name", True, target="localhost:<grpc>")
    yield _grpc("with a scheme", True, target="http://127.0.0.1:<grpc>")
    yield _grpc("a service", True, service="serving")
    yield _grpc("not serving", False, service="not-serving")
    yield _grpc("in a state that is unknown", False, service="unknown")
    yield _grpc("no such service", False, service="nobody")
    yield _grpc("no health check", False, service="unimplemented")
    yield _grpc("metadata", True, service="meta", metadata={"x-ask": ["yes"]}, since=(0, 28))
    yield _grpc("nobody listens", False, server="closed")
    yield _grpc("no such name", False, target="nowhere.invalid:9000", differs=(HEALTH,))
    yield _grpc("TLS", True, server="grpcs", differs=(GRPC_FACTS,), **trusted)
    yield _grpc("TLS, expired", False, server="grpcs-expired", differs=(FACTS,), **trusted)
    yield _grpc(
        "TLS, not verified",
        True,
        server="grpcs-expired",
        tls=True,
        tls_config={"insecure_skip_verify": True},
        differs=(GRPC_FACTS,),
    )
    yield _grpc("plain to a TLS port", False, server="grpcs", timeout="1s")


CASES = (*_of_http(), *_of_dns(), *_of_tcp(), *_of_icmp(), *_of_grpc())
