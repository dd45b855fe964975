"""How a request proves who it comes from: name and password, a token, a certificate."""

import base64
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pycurl
from pydantic import ConfigDict

from stormwatch.probes.certificate import check_key_pair
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
    """What the probe proves its identity with in the TLS handshake: two files, or what would stand in them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    certificate: File = ""
    """A PEM file with the certificate, its intermediates behind it."""
    key: File = ""
    """A PEM file with its private key, not encrypted."""
    certificate_pem: str = ""
    """The certificate itself, and its intermediates, in PEM form."""
    key_pem: Secret = field(default="", repr=False)
    """The private key itself: write it as `${env:NAME}` or `${file:PATH}`."""

    def check(self, where: str) -> None:
        """Raises ValueError, for what cannot be used: unreadable, not a pair, or given twice."""
        if bool(self.certificate) == bool(self.certificate_pem) or bool(self.key) == bool(self.key_pem):
            raise ValueError(f"{where}: give certificate or certificate_pem, and key or key_pem")
        if self.certificate and self.key:
            check_key_pair(self.certificate, self.key)
            return
        with tempfile.TemporaryDirectory(prefix="stormwatch-") as directory:  # only root and we may look into it
            certificate, key = Path(directory, "certificate_pem"), Path(directory, "key_pem")
            certificate.write_text(self.certificate_pem)
            key.write_text(self.key_pem)
            try:
                check_key_pair(self.certificate or str(certificate), self.key or str(key))
            except ValueError as error:
                raise ValueError(f"{where}: {str(error).replace(f'{directory}/', '')}") from None

    def settings(self) -> list[tuple[int, Any]]:
        """As libcurl is told of it."""
        return [
            (pycurl.SSLCERT, self.certificate)
            if self.certificate
            else (pycurl.SSLCERT_BLOB, self.certificate_pem.encode()),
            (pycurl.SSLKEY, self.key) if self.key else (pycurl.SSLKEY_BLOB, self.key_pem.encode()),
        ]
