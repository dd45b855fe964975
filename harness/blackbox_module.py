"""blackbox.yml: the modules of blackbox_exporter, read strictly into frozen values.

The fields and their defaults are those of blackbox_exporter's CONFIGURATION.md; what it accepts, this accepts, and what
it refuses, this refuses, with the file, the line and the remedy. Nothing of ours is known here: `blackbox_translation`
says what a module means in our terms.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import unquote, urlsplit

import dns.exception
import dns.rdataclass
import dns.rdatatype
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from stormwatch.harness.document import Document, Place, read_document
from stormwatch.harness.draft import CREDENTIAL
from stormwatch.harness.form import form_of, show, unknown_key
from stormwatch.harness.mistake import ConfigError, Mistake
from stormwatch.harness.remedy import did_you_mean
from stormwatch.probes.options import STRICT, Secret
from stormwatch.probes.pattern import compile_pattern

MASKED: Final = "<secret>"
"""What stands in the place of a secret wherever a module is shown, as blackbox_exporter writes it."""

_DURATION = re.compile(r"\+?(?:(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(?:\d+(?:\.\d+)?(?:[KMGTPE]i?)?B)+")
_SIZE_PART = re.compile(r"(\d+(?:\.\d+)?)([KMGTPE]?)i?B")
_HERE: Final = "here"
_BINARY: Final = "\0!!binary "
"""Stands before a text with this tag: bytes in base64. No text that anybody sends begins like this."""
_YES = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"})
_NO = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"})


def _flag(value: object) -> object:
    """YAML 1.1's words for true and false too: Go's decoder takes them where a boolean is wanted."""
    return True if value in _YES else False if value in _NO else value


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) and re.fullmatch(r"[-+]?\d{1,18}", value) else value


def _duration(value: object) -> float:
    """A duration of Go, or a whole number of nanoseconds, as its decoder takes it."""
    if isinstance(value, str):
        if _DURATION.fullmatch(value):
            return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
        if value.isdecimal():
            return int(value) * 1e-9
    raise ValueError(f"a duration is written like 500ms, 5s or 1m30s, not {show(value)}")


def _size(value: object) -> int:
    """A size in powers of 1024, whether it says KB or KiB."""
    if isinstance(value, str) and _SIZE.fullmatch(value):
        parts = _SIZE_PART.findall(value)
        return int(sum(float(number) * 1024 ** " KMGTPE".index(unit or " ") for number, unit in parts))
    raise ValueError(f"a size is written like 512B, 64KB or 10MB, not {show(value)}")


def _expression(text: str) -> str:
    try:
        compile_pattern(text, _HERE)
    except ValueError as error:
        raise ValueError(str(error).removeprefix(f"{_HERE}: ")) from None
    return text


def _cel(text: str) -> str:
    from stormwatch.probes.expression import Expression  # few modules have one, and its library is slow to import

    try:
        Expression(text, _HERE)
    except ValueError as error:
        raise ValueError(str(error).removeprefix(f"{_HERE}: ")) from None
    return text


def _octets(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"wanted text, not {show(value)}")  # noqa: TRY004 - the form tells ValueErrors
    if not value.startswith(_BINARY):
        return value.encode()
    try:
        return base64.b64decode("".join(value.removeprefix(_BINARY).split()), validate=True)
    except binascii.Error:
        raise ValueError("a !!binary text is written in base64") from None


def _choice(text: str, *, choices: Sequence[str]) -> str:
    """One of these, or nothing."""
    if text and text not in choices:
        near = did_you_mean(text, choices)
        remedy = f"; {near}" if near.startswith("did") else ""
        raise ValueError(f"wanted {', '.join(choices[:-1])} or {choices[-1]}, not {text!r}{remedy}")
    return text


def _rdclass(text: str) -> str:
    try:
        dns.rdataclass.from_text(text)
    except (dns.exception.DNSException, ValueError):
        raise ValueError(f"there is no class {text!r}; the usual one is IN") from None
    return text


def _rdtype(text: str) -> str:
    try:
        dns.rdatatype.from_text(text)
    except (dns.exception.DNSException, ValueError):
        raise ValueError(
            f"there is no record type {text!r}; write A, AAAA, MX, SOA or another of IANA's list"
        ) from None
    return text


Flag = Annotated[bool, BeforeValidator(_flag)]
Whole = Annotated[int, BeforeValidator(_whole)]
Duration = Annotated[float, BeforeValidator(_duration)]
Size = Annotated[int, BeforeValidator(_size)]
Expression = Annotated[str, AfterValidator(_expression)]
Cel = Annotated[str, AfterValidator(_cel)]
Family = Annotated[str, AfterValidator(partial(_choice, choices=("ip4", "ip6")))]
Tls = Annotated[str, AfterValidator(partial(_choice, choices=("TLS10", "TLS11", "TLS12", "TLS13")))]
Compression = Annotated[str, AfterValidator(partial(_choice, choices=("gzip", "br", "deflate", "identity")))]
Octets = Annotated[bytes, BeforeValidator(_octets), WithJsonSchema({"type": "string"})]
Hidden = Secret
"""A text that blackbox_exporter prints in /config and in its debug output, and that we mask: it may hold a secret."""


def _refuse_refs(entry: Any) -> None:
    for name in entry.__slots__:
        if name.endswith("_ref") and getattr(entry, name):
            raise ValueError(f"{name} names an entry of a secret manager, and there is none; use {name[:-3]}file")


def _one_of(entry: Any, *names: str) -> None:
    given = [name for name in names if getattr(entry, name)]
    if len(given) > 1:
        raise ValueError(f"give {' or '.join(given)}, not {'both' if len(given) == 2 else 'all of them'}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """`tls_config`: whom to trust, what to show, which versions."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    ca: str = ""
    cert: str = ""
    key: Secret = field(default="", repr=False)
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    ca_ref: str = ""
    cert_ref: str = ""
    key_ref: str = ""
    server_name: str = ""
    insecure_skip_verify: Flag = False
    min_version: Tls = ""
    max_version: Tls = ""

    def __post_init__(self) -> None:
        _refuse_refs(self)
        for name in ("ca", "cert", "key"):
            _one_of(self, name, f"{name}_file")
        if bool(self.cert or self.cert_file) != bool(self.key or self.key_file):
            raise ValueError("a client certificate needs both cert and key, or cert_file and key_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuth:
    """`basic_auth`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    username: str = ""
    username_file: str = ""
    username_ref: str = ""
    password: Secret = field(default="", repr=False)
    password_file: str = ""
    password_ref: str = ""

    def __post_init__(self) -> None:
        _refuse_refs(self)
        _one_of(self, "username", "username_file")
        _one_of(self, "password", "password_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """`authorization`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    type: str = "Bearer"
    credentials: Secret = field(default="", repr=False)
    credentials_file: str = ""
    credentials_ref: str = ""

    def __post_init__(self) -> None:
        _refuse_refs(self)
        _one_of(self, "credentials", "credentials_file")
        if self.type.strip().lower() == "basic":
            raise ValueError('the type "basic" is written as basic_auth')


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderValues:
    """One entry of `http_headers`: each value becomes a header line."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    values: tuple[Hidden, ...] = field(default=(), repr=False)
    secrets: tuple[Secret, ...] = field(default=(), repr=False)
    files: tuple[str, ...] = ()


Headers = Mapping[str, HeaderValues]


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2:
    """`oauth2`: a token by client credentials."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    client_id: str = ""
    client_secret: Secret = field(default="", repr=False)
    client_secret_file: str = ""
    client_secret_ref: str = ""
    client_certificate_key_id: str = ""
    client_certificate_key: Secret = field(default="", repr=False)
    client_certificate_key_file: str = ""
    client_certificate_key_ref: str = ""
    grant_type: str = ""
    signature_algorithm: str = ""
    iss: str = ""
    audience: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any])
    scopes: tuple[str, ...] = ()
    token_url: str = ""
    endpoint_params: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    tls_config: TlsConfig = TlsConfig()
    proxy_url: str = field(default="", repr=False)
    no_proxy: str = ""
    proxy_from_environment: Flag = False
    proxy_connect_header: Mapping[str, tuple[Secret, ...]] = field(default_factory=dict[str, Any], repr=False)

    def __post_init__(self) -> None:
        _refuse_refs(self)
        _one_of(self, "client_secret", "client_secret_file")
        if not self.client_id:
            raise ValueError("oauth2 client_id must be given")
        if not self.token_url:
            raise ValueError("oauth2 token_url must be given")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The client's part of `http`, and `websocket.http_config`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: OAuth2 | None = None
    bearer_token: Secret = field(default="", repr=False)
    bearer_token_file: str = ""
    proxy_url: str = field(default="", repr=False)
    no_proxy: str = ""
    proxy_from_environment: Flag = False
    proxy_connect_header: Mapping[str, tuple[Secret, ...]] = field(default_factory=dict[str, Any], repr=False)
    tls_config: TlsConfig = TlsConfig()
    follow_redirects: Flag = True
    enable_http2: Flag = True
    http_headers: Headers = field(default_factory=dict[str, HeaderValues])

    def __post_init__(self) -> None:
        _one_of(self, "bearer_token", "bearer_token_file")
        logins = ("basic_auth", "authorization", "oauth2")
        given = [name for name in logins if getattr(self, name) is not None]
        given += ["bearer_token"] if self.bearer_token or self.bearer_token_file else []
        if len(given) > 1:
            raise ValueError(f"give one of {', '.join(given)}: a request has one Authorization header")
        if self.no_proxy and not self.proxy_url:
            raise ValueError("no_proxy is about proxy_url: give that too")
        if self.proxy_from_environment and self.proxy_url:
            raise ValueError("give proxy_url or proxy_from_environment, not both")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMatch:
    """One entry of `fail_if_header_matches` and `fail_if_header_not_matches`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    header: Annotated[str, Field(min_length=1)]
    regexp: Annotated[Expression, Field(min_length=1)]
    allow_missing: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpModule(Client):
    """`http`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    valid_status_codes: tuple[Whole, ...] = ()
    valid_http_versions: tuple[str, ...] = ()
    preferred_ip_protocol: Family = ""
    ip_protocol_fallback: Flag = True
    skip_resolve_phase_with_proxy: Flag = False
    no_follow_redirects: Flag | None = None
    fail_if_ssl: Flag = False
    fail_if_not_ssl: Flag = False
    method: str = "GET"
    headers: Mapping[str, Hidden] = field(default_factory=dict[str, str], repr=False)
    fail_if_body_matches_regexp: tuple[Expression, ...] = ()
    fail_if_body_not_matches_regexp: tuple[Expression, ...] = ()
    fail_if_body_json_matches_cel: Cel = ""
    fail_if_body_json_not_matches_cel: Cel = ""
    fail_if_header_matches: tuple[HeaderMatch, ...] = ()
    fail_if_header_not_matches: tuple[HeaderMatch, ...] = ()
    body: Hidden = field(default="", repr=False)
    body_file: str = ""
    compression: Compression = ""
    body_size_limit: Size = 0
    enable_http3: Flag = False
    check_revoked: Flag = False

    def __post_init__(self) -> None:
        Client.__post_init__(self)
        _one_of(self, "body", "body_file")
        for name, value in self.headers.items():
            if name.lower() == "accept-encoding" and not _accepts(value, self.compression):
                raise ValueError(f"compression {self.compression} is not allowed by the header {name}, {value!r}")
        twice = {name.lower() for name in self.headers} & {name.lower() for name in self.http_headers}
        if twice:
            raise ValueError(f"headers and http_headers both set {', '.join(sorted(twice))}")
        if "HTTP/3.0" in self.valid_http_versions and not self.enable_http3:
            raise ValueError("valid_http_versions has HTTP/3.0, which needs enable_http3")
        if self.enable_http3 and {"HTTP/1.1", "HTTP/2.0"} & set(self.valid_http_versions):
            raise ValueError("valid_http_versions may only have HTTP/3.0 with enable_http3")
        if self.enable_http3 and self.enable_http2:
            raise ValueError("enable_http2 must be false with enable_http3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One entry of `labels` of a step."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One entry of `query_response`. In this order: expect or expect_bytes, send, starttls."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    expect: Expression = ""
    expect_bytes: Octets = b""
    labels: tuple[Label, ...] = ()
    send: Octets = field(default=b"", repr=False)
    starttls: Flag = False

    def __post_init__(self) -> None:
        _one_of(self, "expect", "expect_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixModule:
    """`unix`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    query_response: tuple[Step, ...] = ()
    tls: Flag = False
    tls_config: TlsConfig = TlsConfig()
    check_revoked: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpModule(UnixModule):
    """`tcp`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    preferred_ip_protocol: Family = ""
    ip_protocol_fallback: Flag = True
    source_ip_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpModule:
    """`icmp`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    preferred_ip_protocol: Family = ""
    ip_protocol_fallback: Flag = True
    source_ip_address: str = ""
    payload_size: Annotated[Whole, Field(ge=0, le=65507)] = 0
    dont_fragment: Flag = False
    ttl: Annotated[Whole, Field(ge=0, le=255)] = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRules:
    """`validate_answer_rrs` and its like."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    fail_if_matches_regexp: tuple[Expression, ...] = ()
    fail_if_all_match_regexp: tuple[Expression, ...] = ()
    fail_if_not_matches_regexp: tuple[Expression, ...] = ()
    fail_if_none_matches_regexp: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsModule:
    """`dns`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    query_name: Annotated[str, Field(min_length=1)]
    preferred_ip_protocol: Family = ""
    ip_protocol_fallback: Flag = True
    source_ip_address: str = ""
    transport_protocol: Literal["udp", "tcp"] = "udp"
    dns_over_tls: Flag = False
    tls_config: TlsConfig = TlsConfig()
    query_type: Annotated[str, AfterValidator(_rdtype)] = "ANY"
    query_class: Annotated[str, AfterValidator(_rdclass)] = "IN"
    recursion_desired: Flag = True
    valid_rcodes: tuple[str, ...] = ()
    validate_answer_rrs: RecordRules = RecordRules()
    validate_authority_rrs: RecordRules = RecordRules()
    validate_additional_rrs: RecordRules = RecordRules()

    def __post_init__(self) -> None:
        if self.dns_over_tls and self.transport_protocol != "tcp":
            raise ValueError("transport_protocol must be tcp with dns_over_tls")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcModule:
    """`grpc`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    service: str = ""
    preferred_ip_protocol: Family = ""
    ip_protocol_fallback: Flag = True
    tls: Flag = False
    tls_config: TlsConfig = TlsConfig()
    metadata: Mapping[str, tuple[Hidden, ...]] = field(default_factory=dict[str, Any], repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebsocketModule:
    """`websocket`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    http_config: Client = Client()
    headers: Headers = field(default_factory=dict[str, HeaderValues])
    query_response: tuple[Step, ...] = ()
    preferred_ip_protocol: Family = ""
    ip_protocol_fallback: Flag = True


Prober = Literal["http", "tcp", "icmp", "dns", "grpc", "unix", "websocket"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One module. Blocks of other probers than its own may stand in it; they are read, and mean nothing."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    prober: Prober
    timeout: Duration = 0.0
    http: HttpModule = HttpModule()
    tcp: TcpModule = TcpModule()
    icmp: IcmpModule = IcmpModule()
    dns: DnsModule | None = None
    grpc: GrpcModule = GrpcModule(ip_protocol_fallback=False)
    """Without a block its fallback is off, with an empty one it is on: blackbox_exporter's default module lacks it."""
    unix: UnixModule = UnixModule()
    websocket: WebsocketModule = WebsocketModule()

    def __post_init__(self) -> None:
        if self.prober == "dns" and self.dns is None:
            raise ValueError("dns is missing: a module whose prober is dns needs a query_name")


@dataclass(frozen=True, slots=True)
class Modules:
    """One file of modules."""

    path: Path
    modules: Mapping[str, Module]
    """By name."""
    shown: Mapping[str, Any]
    """By name: each as it was written, with `<secret>` in the place of what nobody may read."""
    secrets: Mapping[str, frozenset[str]]
    """By name: what stands in the file in those places."""


def read_modules(path: Path) -> Modules:
    """Read a file. Raises ConfigError with every mistake in it: file, line, where, what, remedy."""
    document, found = read_document(path)
    mistakes = [mistake for mistake in found if not _is_binary(mistake)]
    binary = frozenset(mistake.path for mistake in found if _is_binary(mistake))
    data = document.data
    if not isinstance(data, dict):
        raise ConfigError([document.mistake((), f"wanted a mapping that begins with `modules:`, not {show(data)}")])
    mistakes += [document.mistake((key,), unknown_key(key, ["modules"], data)) for key in data if key != "modules"]
    entries = data.get("modules")
    if not isinstance(entries, dict):
        said = (
            "modules is missing; add `modules:`" if "modules" not in data else f"wanted a mapping, not {show(entries)}"
        )
        raise ConfigError([*mistakes, document.mistake(("modules",), said)])
    modules: dict[str, Module] = {}
    shown: dict[str, Any] = {}
    secrets: dict[str, frozenset[str]] = {}
    form = form_of(Module)
    for name, entry in entries.items():
        place: Place = ("modules", name)
        written = _as_text(entry, document, place, binary)
        if not isinstance(written, dict):
            mistakes.append(document.mistake(place, f"wanted a mapping that begins with `prober:`, not {show(entry)}"))
            continue
        known = _check_prober(written, document, place)
        if known is not None:
            mistakes.append(known)
            continue
        reading = form.read(written, written=partial(_written, document, place))
        mistakes += [document.mistake((*place, *where), sentence) for where, sentence in reading.faults]
        if reading.value is not None:
            modules[name] = reading.value
            seen = set[str]()
            shown[name] = _masked(entry, seen)
            secrets[name] = frozenset(seen)
    if mistakes:
        raise ConfigError(mistakes)
    return Modules(path, modules, shown, secrets)


def _written(document: Document, place: Place, where: Place) -> str:
    return document.written((*place, *where))


def _check_prober(written: Mapping[str, Any], document: Document, place: Place) -> Mistake | None:
    prober = written.get("prober")
    names = list(Prober.__args__)
    if prober is None:
        return document.mistake(place, f"prober is missing; it is one of {', '.join(names)}")
    if prober not in names:
        return document.mistake(
            (*place, "prober"), f"there is no prober {show(prober)}; {did_you_mean(str(prober), names)}"
        )
    return None


def _is_binary(mistake: Mistake) -> bool:
    """Our own configuration refuses all tags; Go's decoder takes this one, and bytes cannot be written otherwise."""
    return mistake.sentence.startswith("the tag !!binary ")


def _as_text(value: Any, document: Document, place: Place, binary: frozenset[str]) -> Any:
    """Every single value as the text that stands in the file, so that 1.10 may be a text; keys without a value go.

    That is how Go's decoder reads it: the field decides what a value is, and one that is empty leaves its default.
    """
    if isinstance(value, dict):
        return {key: _as_text(item, document, (*place, key), binary) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return ["" if item is None else _as_text(item, document, (*place, at), binary) for at, item in enumerate(value)]
    if isinstance(value, bool | int | float):
        return document.written(place) or str(value)
    return f"{_BINARY}{value}" if binary and document.show(place) in binary else value


_SECRET: Final = frozenset(
    {"password", "credentials", "bearer_token", "client_secret", "client_certificate_key", "key", "secrets"}
    | {"proxy_connect_header", "endpoint_params"}
)
"""Keys under which every text is a secret."""
_HIDDEN: Final = frozenset({"values", "headers", "metadata", "body", "send"})
"""Keys under which a text may hold one: shown nowhere, and taken out of results where the name says credentials."""


def _masked(value: Any, secrets: set[str], *, key: str = "", secret: bool = False, hidden: bool = False) -> Any:
    """The same value with its secrets masked, and put into `secrets` where they are nothing else."""
    if isinstance(value, dict):
        return {
            name: _masked(
                item,
                secrets,
                key=name,
                secret=secret or name in _SECRET or (hidden and CREDENTIAL.search(name) is not None),
                hidden=hidden or name in _HIDDEN,
            )
            if name != "files"
            else item
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item, secrets, key=key, secret=secret, hidden=hidden) for item in value]
    if value is None or value == "":
        return value
    if secret:
        secrets.add(str(value))
    if key == "proxy_url":
        return _without_login(str(value), secrets)
    return MASKED if secret or hidden else value


def _without_login(url: str, secrets: set[str]) -> str:
    parts = urlsplit(url)
    if not parts.password:
        return url
    secrets.add(unquote(parts.password))
    return parts._replace(netloc=f"{parts.username}:{MASKED}@{parts.netloc.rpartition('@')[2]}").geturl()


def _accepts(accept_encoding: str, compression: str) -> bool:
    """Whether an Accept-Encoding lets a server compress like this (RFC 9110 §12.5.3)."""
    if not compression or not accept_encoding:
        return True
    weights = sorted(_weights(accept_encoding), key=lambda pair: -pair[1])
    return next((weight > 0 for name, weight in weights if name in (compression, "*")), False)


def _weights(accept_encoding: str) -> Iterator[tuple[str, float]]:
    for part in accept_encoding.split(","):
        name, _, quality = part.partition(";")
        try:
            weight = float(quality.strip().removeprefix("q=") or 1.0)
        except ValueError:
            weight = 0.0
        yield name.strip(), weight
