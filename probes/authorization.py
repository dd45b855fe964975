"""How a request proves who it comes from: name and password, a token, a certificate."""

import base64
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

from stormwatch.probes.options import STRICT, File, Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """User name and password."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    username: str
    """The user's name."""
    password: Secret = field(repr=False)
    """Write it as `${env:NAME}` or `${file:PATH}`."""

    def basic(self) -> str:
        """The value of a header that logs in as RFC 7617 says."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """What the probe proves its identity with in the TLS handshake."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    certificate: File
    """A PEM file with the certificate, its intermediates behind it."""
    key: File
    """A PEM file with its private key, not encrypted."""
