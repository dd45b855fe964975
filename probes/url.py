"""A URL that can be asked, taken apart once."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from stormwatch.probes.endpoint import Endpoint, check_host


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https URL without credentials and without a fragment; its host in ASCII."""

    text: str
    tls: bool
    place: Endpoint
    """Host and port that it names, the port by default that of its scheme."""

    @property
    def origin(self) -> str:
        """Scheme, host and port: what credentials belong to (RFC 6454)."""
        return f"{'https' if self.tls else 'http'}://{self.place}"

    @classmethod
    def parse(cls, text: str) -> "Url":
        """Raises ValueError, one sentence, for everything that cannot be asked."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"target {text!r} is not a URL: {error}") from None
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"target is a URL like https://shop.example/, not {text!r}")
        if not parts.hostname:
            raise ValueError(f"target {text!r} has no host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("target has a user or password in its URL: give basic_auth instead")
        if port == 0:
            raise ValueError(f"target {text!r}: 0 is not a port")
        if any(ord(sign) <= 32 or ord(sign) == 127 for sign in text):
            raise ValueError(f"target {text!r} has a space or a control character in it")
        host = check_host(parts.hostname, what=f"target {text!r}")
        if host != parts.hostname:
            parts = parts._replace(netloc=str(Endpoint(host, port)) if port else host)
        tls = parts.scheme == "https"
        return cls(
            text=parts._replace(fragment="").geturl(), tls=tls, place=Endpoint(host, port or (443 if tls else 80))
        )
