"""The options that the kinds that speak HTTP have in common: whom to connect to, and who we are to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from stormwatch.probes.authorization import ClientCertificate, Login
from stormwatch.probes.options import STRICT, File, Secret
from stormwatch.probes.token import OAuth2
from stormwatch.probes.units import Bytes

TlsVersion = Literal["1.0", "1.1", "1.2", "1.3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """How connections are made, with which rights, and where redirects may lead.

    Descriptions are arguments here, not docstrings: pydantic does not read the docstrings of inherited fields.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    user_agent: Annotated[str, Field(description="The User-Agent header; Stormwatch and its version when empty.")] = ""
    basic_auth: Annotated[Login | None, Field(description="Log in with name and password.")] = None
    digest_auth: Annotated[
        Login | None, Field(description="Log in with name and password, which are not sent themselves (RFC 7616).")
    ] = None
    bearer: Annotated[
        Secret, Field(description="Log in with a token: write it as `${env:NAME}` or `${file:PATH}`.")
    ] = field(default="", repr=False)
    oauth2: Annotated[
        OAuth2 | None,
        Field(description="Log in with a token that is fetched by OAuth 2.0 client credentials (RFC 6749 §4.4)."),
    ] = None
    ca_file: Annotated[
        File, Field(description="PEM file of the certificate authorities to trust; the system's when empty.")
    ] = ""
    ca: Annotated[str, Field(description="The certificate authorities to trust themselves, in PEM form.")] = ""
    verify: Annotated[
        bool,
        Field(description="Whether the server's certificate must be valid. Its facts are exported either way."),
    ] = True
    server_name: Annotated[
        str,
        Field(
            description="Name to ask for in the TLS handshake with the target's host, and that its certificate must be "
            "for; the host itself when empty."
        ),
    ] = ""
    tls_min: Annotated[TlsVersion, Field(description="Oldest version of TLS to offer.")] = "1.2"
    tls_max: Annotated[TlsVersion, Field(description="Newest version of TLS to offer.")] = "1.3"
    client_certificate: Annotated[
        ClientCertificate | None, Field(description="Certificate and key for servers that ask for one.")
    ] = None
    resolver: Annotated[
        str, Field(description="Name server to resolve by, `host:port`; the system's resolver when empty.")
    ] = ""
    connect_to: Annotated[
        str,
        Field(
            description="`host` or `host:port` to connect to instead of the target's. "
            "Host header and certificate stay the target's."
        ),
    ] = ""
    source: Annotated[str, Field(description="Own address to connect from; the system chooses when empty.")] = ""
    ip: Annotated[
        Literal["any", "4", "6", "prefer-4", "prefer-6", "every"],
        Field(
            description="Which addresses to use: `any` tries the others when one family does not answer; `prefer-4` and "
            "`prefer-6` use the first one of that family alone; `every` asks each of them."
        ),
    ] = "any"
    ip_fallback: Annotated[
        bool, Field(description="With `prefer-4` and `prefer-6`, use the other family when the name has none of it.")
    ] = True
    proxy: Annotated[
        str, Field(description="`http://`, `https://` or `socks5h://` URL of a proxy to go through; none when empty.")
    ] = ""
    proxy_auth: Annotated[Login | None, Field(description="Name and password for the proxy.")] = None
    proxy_headers: Annotated[
        Mapping[str, str | tuple[str, ...]], Field(description="Headers for the proxy, sent with CONNECT.")
    ] = field(default_factory=dict[str, str | tuple[str, ...]], repr=False)
    proxy_ca_file: Annotated[
        File,
        Field(description="PEM file of the authorities to trust for an `https://` proxy; the system's when empty."),
    ] = ""
    proxy_resolves: Annotated[
        bool, Field(description="Whether the proxy resolves the target's name; otherwise it is resolved here.")
    ] = True
    proxy_from_environment: Annotated[
        bool, Field(description="Take the proxy from http_proxy, https_proxy, all_proxy and no_proxy.")
    ] = False
    no_proxy: Annotated[
        tuple[str, ...],
        Field(
            description="Names (with all below them), addresses and networks that no proxy is used for; `*`: for none."
        ),
    ] = ()
    version: Annotated[
        Literal["any", "1.1", "2", "3"],
        Field(
            description="HTTP version to ask for. `2` on a plain http target means HTTP/2 from the first byte "
            "(RFC 9113 §3.3); `3` means QUIC and nothing else."
        ),
    ] = "any"
    follow_redirects: Annotated[
        bool,
        Field(
            description="Go where a redirect leads, at most `max_redirects` times. "
            "Credentials stay with the target's own origin."
        ),
    ] = True
    max_redirects: Annotated[int, Field(ge=0, le=100, description="One redirect more than this is a failure.")] = 10
    max_body: Annotated[
        Bytes,
        Field(
            description="Largest body that is read, after decompression. "
            "A larger one is a failure, and its rest is not read."
        ),
    ] = 10 * 2**20
    compression: Annotated[
        Literal["", "any", "gzip", "br", "deflate", "identity"],
        Field(
            description="The Accept-Encoding to send; the body is decompressed before it is looked at. "
            "Empty sends none."
        ),
    ] = ""
