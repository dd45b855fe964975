"""What a module of blackbox_exporter means in our terms: a kind, a target, and the options as a user would write them.

One function per prober. `/probe` builds a check of what comes out, `stormwatch import blackbox` writes it down: so both
mean the same, and there is no second prober.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from stormwatch.harness.blackbox_module import (
    Client,
    HeaderValues,
    HttpModule,
    Module,
    OAuth2,
    RecordRules,
    Step,
    TlsConfig,
    UnixModule,
)
from stormwatch.harness.draft import CREDENTIAL
from stormwatch.probes.endpoint import Endpoint
from stormwatch.probes.pattern import compile_pattern
from stormwatch.probes.units import show_size


@dataclass(frozen=True, slots=True)
class Translation:
    """One module and one target, in our terms."""

    kind: str
    target: str
    options: Mapping[str, Any] = field(repr=False)
    """As they would stand under the kind's name in stormwatch.yaml."""
    files: tuple[str, ...] = ()
    """Files that went into it: when one of them changes, it is to be translated again."""
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    """What must not come out of a run again."""


class Materials:
    """Where certificates and keys that stand inside a module are put, because TLS libraries want files."""

    def __init__(self, directory: Path) -> None:
        """`directory` is one that only we can read."""
        self._directory = directory

    def file(self, text: str, suffix: str) -> str:
        """The name of a file with this text."""
        path = self._directory / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.{suffix}"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(text)
        return str(path)


def translate(module: Module, target: str, hostname: str, draft: "Draft") -> Translation:
    """Say a module in our terms. Raises ValueError for a target it cannot probe, OSError for a file it needs."""
    return _PROBERS[module.prober](module, target, hostname, draft)


def host_header_of(module: Module) -> str:
    """The Host header that an http module sets, if any."""
    return next((value for name, value in module.http.headers.items() if name.lower() == "host"), "")


class Draft:
    """What is found out on the way: files that were read, secrets that came out of them."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials
        self.files: list[str] = []
        self.secrets: set[str] = set()

    def done(self, kind: str, target: str, options: Mapping[str, Any]) -> Translation:
        return Translation(kind, target, _without_defaults(options), tuple(self.files), frozenset(self.secrets))

    def read(self, path: str, *, secret: bool = True, exact: bool = False) -> str:
        """The text of a file, without the white space around it unless it is to be `exact`, as secrets are read."""
        text = Path(path).read_text(encoding="utf-8")
        text = text if exact else text.strip()
        self.files.append(path)
        if secret and text:
            self.secrets.add(text)
        return text

    def header(self, name: str, value: str) -> str:
        """The value of a header: a secret when the name says so."""
        return self.secret(value) if CREDENTIAL.search(name) else value

    def secret(self, text: str, path: str = "") -> str:
        """A secret that stands in the module, or in a file."""
        if path:
            return self.read(path)
        if text:
            self.secrets.add(text)
        return text

    def file(self, text: str, path: str, suffix: str) -> str:
        """The name of a file with certificates or a key that stand in the module, or in a file already."""
        if path:
            self.files.append(path)
        return path or (self.materials.file(text, suffix) if text else "")

    def trust(self, config: TlsConfig) -> dict[str, Any]:
        """Whom to trust, and what to show: the part of `tls_config` that all kinds write alike."""
        found: dict[str, Any] = {
            "ca_file": self.file(config.ca, config.ca_file, "pem"),
            "verify": False if config.insecure_skip_verify else None,
        }
        if config.cert or config.cert_file:
            found["client_certificate"] = {
                "certificate": self.file(config.cert, config.cert_file, "pem"),
                "key": self.file(self.secret(config.key), config.key_file, "key"),
            }
        return found

    def tls(self, config: TlsConfig, server_name: str = "") -> dict[str, Any]:
        """`tls_config` of a kind whose handshake has a name and versions of its own."""
        return {
            **self.trust(config),
            "server_name": config.server_name or server_name,
            "tls_min": _TLS_VERSIONS.get(config.min_version),
            "tls_max": _TLS_VERSIONS.get(config.max_version),
        }


_TLS_VERSIONS: Final[Mapping[str, str]] = {"TLS10": "1.0", "TLS11": "1.1", "TLS12": "1.2", "TLS13": "1.3"}


def _without_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says nothing: empty texts, lists and blocks."""
    kept: dict[str, Any] = {}
    for name, value in options.items():
        each = _without_defaults(value) if isinstance(value, dict) else value
        if each in (None, "", (), [], {}):
            continue
        kept[name] = list(each) if isinstance(each, tuple) else each
    return kept


def _ip(preferred: str, *, fallback: bool) -> dict[str, Any]:
    """One address and no other: of IPv6 where nothing is said, of the other family where there is none of it."""
    return {"ip": "prefer-4" if preferred == "ip4" else "prefer-6", "ip_fallback": fallback}


def _http(module: Module, target: str, hostname: str, draft: Draft) -> Translation:
    http = module.http
    login = _login(http, draft)
    headers: dict[str, Any] = {
        **dict(_header_values(http.http_headers, draft)),
        **{name: draft.header(name, value) for name, value in http.headers.items()},
        **login.headers,
    }
    if hostname:
        headers = {name: value for name, value in headers.items() if name.lower() != "host"} | {"Host": hostname}
    names = {name.lower(): value for name, value in headers.items()}
    url = _http_url(target, http)
    secure = url.startswith("https:")
    tls = draft.tls(http.tls_config, server_name=_host_of(str(names.get("host", ""))))
    options: dict[str, Any] = {
        "method": http.method or "GET",
        "headers": headers,
        "user_agent": "" if "user-agent" in names else USER_AGENT,
        "body": draft.read(http.body_file, secret=False, exact=True) if http.body_file else http.body,
        **_ip(http.preferred_ip_protocol, fallback=http.ip_protocol_fallback),
        "version": "3" if http.enable_http3 else "any" if http.enable_http2 else "1.1",
        "follow_redirects": http.follow_redirects if http.no_follow_redirects is None else not http.no_follow_redirects,
        "compression": http.compression,
        "max_body": show_size(http.body_size_limit or (LARGE if _looks_at_body(http) else UNLIMITED)),
        **_proxy(http, draft),
        **login.options,
        **(tls if secure else {name: value for name, value in tls.items() if name != "server_name"}),
        "expect": _http_expectations(http),
    }
    return draft.done("http", url, options)


USER_AGENT: Final = "Blackbox-Exporter/0.28.0 (stormwatch)"
"""What servers let through, and count, that know blackbox_exporter."""
UNLIMITED: Final = 2**40
"""Bytes of a body where a module sets no limit: it is counted and not kept, and nobody gets there within a scrape."""
LARGE: Final = 64 * 2**20
"""Bytes of a body that is looked at, and so kept, where a module sets no limit."""


def _looks_at_body(http: HttpModule) -> bool:
    return bool(
        http.fail_if_body_matches_regexp
        or http.fail_if_body_not_matches_regexp
        or http.fail_if_body_json_matches_cel
        or http.fail_if_body_json_not_matches_cel
    )


def _proxy(client: Client, draft: Draft) -> dict[str, Any]:
    options: dict[str, Any] = {"proxy_from_environment": client.proxy_from_environment}
    if client.proxy_url:
        url = urlsplit(client.proxy_url)
        scheme = "socks5h" if url.scheme == "socks5" else url.scheme
        options["proxy"] = urlunsplit((scheme, url.netloc.rpartition("@")[2], "", "", ""))
        if url.username is not None:
            password = draft.secret(unquote(url.password or ""))
            options["proxy_auth"] = {"username": unquote(url.username), "password": password}
        options["no_proxy"] = [each.strip() for each in client.no_proxy.split(",") if each.strip()]
    if client.proxy_url or client.proxy_from_environment:
        options["proxy_headers"] = {
            name: [draft.secret(value) for value in values] for name, values in client.proxy_connect_header.items()
        }
        options["proxy_resolves"] = isinstance(client, HttpModule) and client.skip_resolve_phase_with_proxy
    return options


def _http_url(target: str, http: HttpModule) -> str:
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return f"{'https' if http.enable_http3 else 'http'}://{target}"
    return f"https://{rest}" if http.enable_http3 and scheme.lower() == "http" else f"{scheme.lower()}://{rest}"


def _header_values(headers: Mapping[str, HeaderValues], draft: Draft) -> Iterator[tuple[str, list[str]]]:
    for name, given in headers.items():
        secrets = [draft.secret(text) for text in given.secrets]
        values = [draft.header(name, value) for value in given.values]
        yield name, [*values, *secrets, *(draft.secret("", path) for path in given.files)]


@dataclass(frozen=True, slots=True)
class _Login:
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def _login(client: Client, draft: Draft) -> _Login:
    """Who we are, in the one of four ways that a module says it."""
    if client.basic_auth is not None:
        auth = client.basic_auth
        name = draft.read(auth.username_file, secret=False) if auth.username_file else auth.username
        password = draft.secret(auth.password, auth.password_file)
        return _Login({"basic_auth": {"username": name, "password": password}})
    if client.authorization is not None:
        scheme = client.authorization.type or "Bearer"
        token = draft.secret(client.authorization.credentials, client.authorization.credentials_file)
        if scheme == "Bearer" and token:
            return _Login({"bearer": token})
        return _Login(headers={"Authorization": f"{scheme} {token}"}) if token else _Login()
    if client.bearer_token or client.bearer_token_file:
        return _Login({"bearer": draft.secret(client.bearer_token, client.bearer_token_file)})
    return _Login({"oauth2": _oauth2(client.oauth2, draft)}) if client.oauth2 is not None else _Login()


def _oauth2(asked: OAuth2, draft: Draft) -> dict[str, Any]:
    if asked.grant_type or asked.client_certificate_key or asked.client_certificate_key_file:
        raise ValueError("oauth2 by a signed assertion (RFC 7523) cannot be done here: use client_secret")
    if asked.proxy_url or asked.proxy_from_environment:
        raise ValueError("oauth2 through a proxy cannot be done here: the token's server is asked directly")
    trust = draft.trust(asked.tls_config)
    return {
        "token_url": asked.token_url,
        "client_id": asked.client_id,
        "client_secret": draft.secret(asked.client_secret, asked.client_secret_file),
        "scopes": asked.scopes,
        "audience": asked.audience,
        "params": dict(asked.endpoint_params),
        **trust,
    }


def _http_expectations(http: HttpModule) -> dict[str, Any]:
    headers: dict[str, list[dict[str, Any]]] = {}
    for match in http.fail_if_header_matches:
        headers.setdefault(match.header, []).append({"not_matches": match.regexp, "optional": match.allow_missing})
    for match in http.fail_if_header_not_matches:
        headers.setdefault(match.header, []).append({"matches": match.regexp, "optional": match.allow_missing})
    if http.compression in ("gzip", "br", "deflate"):
        headers.setdefault("Content-Encoding", []).append({"matches": f"(?i)^{http.compression}$"})
    return {
        "status": list(http.valid_status_codes),
        "version": [_HTTP_VERSIONS.get(each, each) for each in http.valid_http_versions],
        "tls": False if http.fail_if_ssl else True if http.fail_if_not_ssl else None,
        "headers": headers,
        "body_not_matches": list(http.fail_if_body_matches_regexp),
        "body_matches": list(http.fail_if_body_not_matches_regexp),
        "cel_not": [http.fail_if_body_json_matches_cel] if http.fail_if_body_json_matches_cel else [],
        "cel": [http.fail_if_body_json_not_matches_cel] if http.fail_if_body_json_not_matches_cel else [],
    }


_HTTP_VERSIONS: Final = {"HTTP/1.0": "1.0", "HTTP/1.1": "1.1", "HTTP/2.0": "2", "HTTP/3.0": "3"}


def _host_of(text: str) -> str:
    """The host of a Host header, without its port."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.rpartition(":")[2].isdecimal() and ":" in text else text


def _tcp(module: Module, target: str, hostname: str, draft: Draft) -> Translation:
    tcp = module.tcp
    Endpoint.parse(target)
    options = {
        "ip": _family(tcp.preferred_ip_protocol, tcp.source_ip_address, fallback=tcp.ip_protocol_fallback),
        "source": tcp.source_ip_address,
        **_stream(tcp, draft, hostname),
    }
    return draft.done("tcp", target, options)


def _unix(module: Module, target: str, _hostname: str, draft: Draft) -> Translation:
    return draft.done("unix", target, _stream(module.unix, draft))


def _stream(stream: UnixModule, draft: Draft, hostname: str = "") -> dict[str, Any]:
    secure = stream.tls or any(step.starttls for step in stream.query_response)
    return {
        "tls": stream.tls or None,
        "dialogue": [each for step in stream.query_response for each in _steps(step)],
        **(draft.tls(stream.tls_config, server_name=hostname) if secure else {}),
    }


def _steps(step: Step) -> Iterator[dict[str, Any]]:
    """Ours say something and then listen, theirs the other way round: one of theirs is up to two of ours."""
    heard: dict[str, Any] = {}
    if step.expect:
        heard["expect"] = step.expect
        heard["labels"] = {label.name: _references(label.value, step.expect) for label in step.labels}
    elif step.expect_bytes:
        heard |= {"expect_hex": step.expect_bytes.hex(" "), "exactly": True}
    if heard:
        yield _without_defaults({**heard, "starttls": (step.starttls and not step.send) or None})
    if step.send:
        yield _without_defaults({**_said(step), "starttls": step.starttls or None})
    elif step.starttls and not heard:
        yield {"starttls": True}


def _said(step: Step) -> dict[str, str]:
    """What is sent, a line feed behind it in every case."""
    try:
        text = step.send.decode()
    except UnicodeDecodeError:
        return {"send_hex": (step.send + b"\n").hex(" ")}
    return {"send": (_references(text, step.expect) if step.expect else _literally(text)) + "\n"}


_EXPANSION = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))", re.ASCII)
"""What Go's Regexp.Expand replaces: `$$`, `${name}`, `$name`, where a name is as long as it can be."""


def _references(text: str, expression: str) -> str:
    """A text with Go's references to groups in our way of writing them; those that lead nowhere are empty."""
    pattern = compile_pattern(expression, "expect")
    known = {name.decode() for name in pattern.groupindex} | {str(number) for number in range(pattern.groups + 1)}
    parts: list[str] = []
    end = 0
    for match in _EXPANSION.finditer(text):
        parts.append(_literally(text[end : match.start()]))
        end = match.end()
        name = match[2] or match[3]
        parts.append("$" if match[1] else f"{{{{ {name} }}}}" if name in known else "")
    return "".join([*parts, _literally(text[end:])])


def _literally(text: str) -> str:
    return text.replace("{{", "{{{{")


def _icmp(module: Module, target: str, _hostname: str, draft: Draft) -> Translation:
    """One packet, waited for as long as the run may take."""
    icmp = module.icmp
    options = {
        "count": 1,
        "wait": "120s",
        "size": max(icmp.payload_size or TEXT, 16),
        "ttl": icmp.ttl or 64,
        "dont_fragment": icmp.dont_fragment or None,
        "source": icmp.source_ip_address,
        "ip": _family(icmp.preferred_ip_protocol, icmp.source_ip_address, fallback=icmp.ip_protocol_fallback),
    }
    return draft.done("icmp", target, options)


TEXT: Final = 28
"""Bytes that blackbox_exporter sends where a module says nothing: its name."""


def _dns(module: Module, target: str, _hostname: str, draft: Draft) -> Translation:
    """Their target is the server, ours is the name that is asked for."""
    asked = module.dns
    assert asked is not None
    options = {
        "server": target,
        "type": asked.query_type,
        "class": asked.query_class,
        "transport": "tls" if asked.dns_over_tls else asked.transport_protocol,
        "recursion": asked.recursion_desired,
        "source": asked.source_ip_address,
        "ip": _family(asked.preferred_ip_protocol, asked.source_ip_address, fallback=asked.ip_protocol_fallback),
        "edns": False,
        # One datagram, sent once: one that is cut off is the answer, and one that is lost is none.
        **({"retry_truncated": False, "resend": "0s"} if asked.transport_protocol == "udp" else {}),
        "expect": {
            "min_answers": 0,
            "rcode": list(asked.valid_rcodes) or "NOERROR",
            "answer": _section(asked.validate_answer_rrs),
            "authority": _section(asked.validate_authority_rrs),
            "additional": _section(asked.validate_additional_rrs),
        },
        **(draft.tls(asked.tls_config) if asked.dns_over_tls else {}),
    }
    return draft.done("dns", asked.query_name, options)


def _section(rules: RecordRules) -> dict[str, Any]:
    """The four kinds of rules. `fail_if_all_match_regexp` fails unless all match, and configurations depend on it."""
    return {
        "none_match": list(rules.fail_if_matches_regexp),
        "all_match": [*rules.fail_if_all_match_regexp, *rules.fail_if_not_matches_regexp],
        "any_match": list(rules.fail_if_none_matches_regexp),
        "min": 1 if rules.fail_if_not_matches_regexp or rules.fail_if_none_matches_regexp else None,
    }


def _family(preferred: str, source: str, *, fallback: bool) -> str:
    """Which one address of a server to use. From an address of ours only those of its family can be connected to."""
    family = "4" if preferred == "ip4" else "6"
    if source and fallback:
        return "6" if ":" in source else "4"
    return f"prefer-{family}" if fallback else family


def _grpc(module: Module, target: str, _hostname: str, draft: Draft) -> Translation:
    grpc = module.grpc
    options = {
        "service": grpc.service,
        "metadata": {name: [draft.header(name, value) for value in values] for name, values in grpc.metadata.items()},
        **_ip(grpc.preferred_ip_protocol, fallback=grpc.ip_protocol_fallback),
        "tls": grpc.tls,
        **(draft.tls(grpc.tls_config) if grpc.tls else {}),
    }
    return draft.done("grpc", _grpc_target(target, tls=grpc.tls), options)


def _grpc_target(target: str, *, tls: bool) -> str:
    place = target.removeprefix("http://").removeprefix("https://").partition("/")[0]
    return str(Endpoint.parse(place, default_port=443 if tls else 80))


def _websocket(module: Module, target: str, _hostname: str, draft: Draft) -> Translation:
    websocket = module.websocket
    client = websocket.http_config
    login = _login(replace(client, oauth2=None), draft)
    options = {
        "headers": {**dict(_header_values(websocket.headers, draft)), **login.headers},
        **_ip(websocket.preferred_ip_protocol, fallback=websocket.ip_protocol_fallback),
        **login.options,
        "dialogue": [each for step in websocket.query_response for each in _messages(step)],
    }
    if target.lower().startswith("wss:"):
        options |= {**draft.trust(client.tls_config), "server_name": client.tls_config.server_name}
    return draft.done("websocket", target, options)


def _messages(step: Step) -> Iterator[dict[str, Any]]:
    """One step of a dialogue of messages: no line feed is added to them."""
    if step.expect:
        yield {"expect": step.expect}
    if step.send:
        text = step.send.decode()
        if step.expect and _EXPANSION.search(text):
            raise ValueError("query_response: what a websocket said cannot be sent back here; write it out")
        yield {"send": _literally(text)}


_PROBERS: Final = {
    "http": _http,
    "tcp": _tcp,
    "unix": _unix,
    "icmp": _icmp,
    "dns": _dns,
    "grpc": _grpc,
    "websocket": _websocket,
}
