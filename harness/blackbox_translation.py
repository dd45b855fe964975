"""What a module of blackbox_exporter means in our terms: a kind, a target, and the options as a user would write them.

One function per prober. `/probe` builds a check of what comes out, `stormwatch import blackbox` writes it down: so both
mean the same, and there is no second prober.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stormwatch.harness.blackbox_module import (
    Client,
    HeaderValues,
    HttpModule,
    Module,
    Step,
    TlsConfig,
    UnixModule,
)
from stormwatch.probes.endpoint import Endpoint


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


def translate(module: Module, target: str, hostname: str, materials: Materials) -> Translation:
    """Say a module in our terms. Raises ValueError for a target it cannot probe, OSError for a file it needs."""
    return _PROBERS[module.prober](module, target, hostname, _Draft(materials))


def host_header_of(module: Module) -> str:
    """The Host header that an http module sets, if any."""
    return next((value for name, value in module.http.headers.items() if name.lower() == "host"), "")


class _Draft:
    """What is found out on the way: files that were read, secrets that came out of them."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials
        self.files: list[str] = []
        self.secrets: set[str] = set()

    def done(self, kind: str, target: str, options: Mapping[str, Any]) -> Translation:
        return Translation(kind, target, _without_defaults(options), tuple(self.files), frozenset(self.secrets))

    def read(self, path: str, *, secret: bool = True) -> str:
        """The text of a file, without the white space around it, as blackbox_exporter reads secrets."""
        text = Path(path).read_text(encoding="utf-8").strip()
        self.files.append(path)
        if secret and text:
            self.secrets.add(text)
        return text

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

    def tls(self, config: TlsConfig, server_name: str = "") -> dict[str, Any]:
        """`tls_config` in the options that all kinds with TLS share."""
        key = self.secret(config.key)
        found: dict[str, Any] = {
            "ca_file": self.file(config.ca, config.ca_file, "pem"),
            "verify": not config.insecure_skip_verify,
            "server_name": config.server_name or server_name,
            "minimum_version": _TLS_VERSIONS[config.min_version or "TLS12"],
            "maximum_version": _TLS_VERSIONS[config.max_version or "TLS13"],
        }
        if config.cert or config.cert_file:
            found["client_certificate"] = {
                "certificate": self.file(config.cert, config.cert_file, "pem"),
                "key": self.file(key, config.key_file, "key"),
            }
        return found


_TLS_VERSIONS: Final = {"TLS10": "1.0", "TLS11": "1.1", "TLS12": "1.2", "TLS13": "1.3"}


def _without_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says nothing: empty texts, lists and blocks."""
    kept: dict[str, Any] = {}
    for name, value in options.items():
        each = _without_defaults(value) if isinstance(value, dict) else value
        if each in (None, "", (), [], {}):
            continue
        kept[name] = list(each) if isinstance(each, tuple) else each
    return kept


def _ip(preferred: str, *, fallback: bool) -> str:
    """Which addresses to use. IPv6 is preferred where nothing is said."""
    if not fallback:
        return "4" if preferred == "ip4" else "6"
    return "any"


def _http(module: Module, target: str, hostname: str, draft: _Draft) -> Translation:
    http = module.http
    url = _http_url(target, http)
    headers: dict[str, Any] = {**dict(_header_values(http.http_headers, draft)), **http.headers}
    if hostname:
        headers = {name: value for name, value in headers.items() if name.lower() != "host"} | {"Host": hostname}
    host = next((value for name, value in headers.items() if name.lower() == "host"), "")
    options: dict[str, Any] = {
        "method": http.method or "GET",
        "headers": headers,
        "body": draft.read(http.body_file, secret=False) if http.body_file else http.body,
        "ip": _ip(http.preferred_ip_protocol, fallback=http.ip_protocol_fallback),
        "follow_redirects": http.follow_redirects if http.no_follow_redirects is None else not http.no_follow_redirects,
        "compression": http.compression,
        "max_body": f"{http.body_size_limit or UNLIMITED}B",
        "expect": _http_expectations(http),
        **_login(http, draft),
        **draft.tls(http.tls_config, server_name=_host_of(host)),
    }
    return draft.done("http", url, options)


UNLIMITED: Final = 2**40
"""Bytes of a body where a module sets no limit: nobody gets there within a scrape."""


def _http_url(target: str, http: HttpModule) -> str:
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return f"{'https' if http.enable_http3 else 'http'}://{target}"
    return f"https://{rest}" if http.enable_http3 and scheme.lower() == "http" else f"{scheme.lower()}://{rest}"


def _header_values(headers: Mapping[str, HeaderValues], draft: _Draft) -> Iterator[tuple[str, list[str]]]:
    for name, given in headers.items():
        secrets = [draft.secret(text) for text in given.secrets]
        yield name, [*given.values, *secrets, *(draft.read(path) for path in given.files)]


def _login(client: Client, draft: _Draft) -> dict[str, Any]:
    """Who we are, of the four ways to say it."""
    if client.basic_auth is not None:
        auth = client.basic_auth
        return {
            "basic_auth": {
                "username": draft.read(auth.username_file, secret=False) if auth.username_file else auth.username,
                "password": draft.secret(auth.password, auth.password_file),
            }
        }
    if client.authorization is not None and client.authorization.type.lower() == "bearer":
        return {"bearer": draft.secret(client.authorization.credentials, client.authorization.credentials_file)}
    if client.bearer_token or client.bearer_token_file:
        return {"bearer": draft.secret(client.bearer_token, client.bearer_token_file)}
    return {}


def _http_expectations(http: HttpModule) -> dict[str, Any]:
    headers: dict[str, list[dict[str, Any]]] = {}
    for match in http.fail_if_header_matches:
        headers.setdefault(match.header, []).append({"not_matches": match.regexp, "optional": match.allow_missing})
    for match in http.fail_if_header_not_matches:
        headers.setdefault(match.header, []).append({"matches": match.regexp, "optional": match.allow_missing})
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


def _tcp(module: Module, target: str, hostname: str, draft: _Draft) -> Translation:
    tcp = module.tcp
    Endpoint.parse(target)
    options = {
        "ip": _ip(tcp.preferred_ip_protocol, fallback=tcp.ip_protocol_fallback),
        "source": tcp.source_ip_address,
        **_stream(tcp, draft, hostname),
    }
    return draft.done("tcp", target, options)


def _unix(module: Module, target: str, _hostname: str, draft: _Draft) -> Translation:
    return draft.done("unix", target, _stream(module.unix, draft))


def _stream(stream: UnixModule, draft: _Draft, hostname: str = "") -> dict[str, Any]:
    secure = stream.tls or any(step.starttls for step in stream.query_response)
    return {
        "tls": stream.tls,
        "dialogue": [_step(step) for step in stream.query_response],
        **(draft.tls(stream.tls_config, server_name=hostname) if secure else {}),
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "expect": step.expect,
        "send": f"{step.send.decode()}\n" if step.send else "",
        "starttls": step.starttls,
    }


def _icmp(module: Module, target: str, _hostname: str, draft: _Draft) -> Translation:
    icmp = module.icmp
    options = {
        "ip": _ip(icmp.preferred_ip_protocol, fallback=icmp.ip_protocol_fallback),
        "source": icmp.source_ip_address,
        "payload": icmp.payload_size,
        "dont_fragment": icmp.dont_fragment,
        "ttl": icmp.ttl,
    }
    return draft.done("icmp", target, options)


def _dns(module: Module, target: str, _hostname: str, draft: _Draft) -> Translation:
    asked = module.dns
    assert asked is not None
    options = {
        "server": target,
        "type": asked.query_type,
        "class": asked.query_class,
        "transport": "tls" if asked.dns_over_tls else asked.transport_protocol,
        "recursion": asked.recursion_desired,
        "ip": _ip(asked.preferred_ip_protocol, fallback=asked.ip_protocol_fallback),
    }
    return draft.done("dns", asked.query_name, options)


def _grpc(module: Module, target: str, _hostname: str, draft: _Draft) -> Translation:
    grpc = module.grpc
    options = {
        "service": grpc.service,
        "metadata": {name: list(values) for name, values in grpc.metadata.items()},
        "ip": _ip(grpc.preferred_ip_protocol, fallback=grpc.ip_protocol_fallback),
        "tls": grpc.tls,
        **(draft.tls(grpc.tls_config) if grpc.tls else {}),
    }
    return draft.done("grpc", _grpc_target(target, tls=grpc.tls), options)


def _grpc_target(target: str, *, tls: bool) -> str:
    place = target.removeprefix("http://").removeprefix("https://").partition("/")[0]
    return str(Endpoint.parse(place, default_port=443 if tls else 80))


def _websocket(module: Module, target: str, _hostname: str, draft: _Draft) -> Translation:
    websocket = module.websocket
    options = {
        "headers": dict(_header_values(websocket.headers, draft)),
        "ip": _ip(websocket.preferred_ip_protocol, fallback=websocket.ip_protocol_fallback),
        **_login(websocket.http_config, draft),
    }
    return draft.done("websocket", target, options)


_PROBERS: Final = {
    "http": _http,
    "tcp": _tcp,
    "unix": _unix,
    "icmp": _icmp,
    "dns": _dns,
    "grpc": _grpc,
    "websocket": _websocket,
}
