"""The options of the faults of TLS: what is wrong with the handshake, and nothing else."""

import datetime
import ssl
import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from stormwatch.chaos.option import STRICT, share_is_some
from stormwatch.chaos.tls_mint import Identity, LeafKey, Mint, new_issuer, new_key
from stormwatch.probes.units import Ratio, Seconds

WEAK: Final = "DEFAULT:@SECLEVEL=0"
"""What OpenSSL does without at its usual levels: RSA below 2048 bits, SHA-1, versions before 1.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFault:
    """What all of them share. Without more, the handshake is as it should be.

    Descriptions are arguments here, not docstrings: pydantic does not read the docstrings of inherited fields.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    share: Annotated[
        Ratio, Field(description="The share of new connections that it is drawn for, once for each connection.")
    ] = Fraction(1)
    seed: Annotated[int, Field(description="The same seed draws the same ones again, in the same order.")] = 0

    def __post_init__(self) -> None:
        share_is_some(self.share)

    def acts_on_handshakes(self) -> bool:
        """Of new connections."""
        return True

    def new_key(self) -> LeafKey:
        """The key of the certificates that are shown. May take long: not on the event loop."""
        return new_key()

    def identity(self, mint: Mint, name: str) -> Identity:
        """What a client is shown that asks for this name."""
        return mint.identity(name)

    def adapt(self, context: ssl.SSLContext) -> None:
        """What else the handshake is like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsExpired(TlsFault):
    """The certificate has expired."""

    ago: Seconds = 86400.0
    """How long ago."""

    def __post_init__(self) -> None:
        TlsFault.__post_init__(self)
        _positive("ago", self.ago)

    def identity(self, mint: Mint, name: str) -> Identity:
        """Valid for a while before that."""
        ends = -datetime.timedelta(seconds=self.ago)
        return mint.identity(name, begins=ends - datetime.timedelta(days=30), ends=ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsNotYetValid(TlsFault):
    """The certificate is valid from some time on only."""

    ahead: Seconds = 86400.0
    """From when on, counted from now."""

    def __post_init__(self) -> None:
        TlsFault.__post_init__(self)
        _positive("ahead", self.ahead)

    def identity(self, mint: Mint, name: str) -> Identity:
        """Valid for a while from then on."""
        begins = datetime.timedelta(seconds=self.ahead)
        return mint.identity(name, begins=begins, ends=begins + datetime.timedelta(days=30))


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsExpiresSoon(TlsFault):
    """The certificate is valid, and expires soon: no outage, but what an alert for the expiry is made for."""

    left: Seconds
    """How long it is valid."""

    def __post_init__(self) -> None:
        TlsFault.__post_init__(self)
        _positive("left", self.left)

    def identity(self, mint: Mint, name: str) -> Identity:
        """Valid since a while."""
        ends = datetime.timedelta(seconds=self.left)
        return mint.identity(name, begins=min(ends, datetime.timedelta()) - datetime.timedelta(days=30), ends=ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsWrongHost(TlsFault):
    """The certificate is for another name."""

    name: Annotated[str, Field(min_length=1, max_length=253)] = "wrong-host.stormwatch.invalid"
    """Which one."""

    def identity(self, mint: Mint, name: str) -> Identity:
        """Whatever was asked for."""
        return mint.identity(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSelfSigned(TlsFault):
    """The certificate is signed by itself."""

    def identity(self, mint: Mint, name: str) -> Identity:
        """For the right name."""
        return mint.identity(name, self_signed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsUnknownCa(TlsFault):
    """The certificate is signed by an authority that nobody knows."""

    def identity(self, mint: Mint, name: str) -> Identity:
        """By one that is made for it."""
        return mint.identity(name, issuer=new_issuer("Stormwatch CA that nobody knows", mint.now))


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMissingIntermediate(TlsFault):
    """The certificate is signed by an intermediate authority whose certificate is not sent along."""

    def identity(self, mint: Mint, name: str) -> Identity:
        """The root is the usual one."""
        intermediate = new_issuer("Stormwatch intermediate CA", mint.now, parent=mint.issuer)
        return mint.identity(name, issuer=intermediate, with_intermediates=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsRevoked(TlsFault):
    """The certificate is revoked: whoever asks where it says is told so."""

    def revokes(self) -> bool:
        """By a responder and by lists."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsWeakKey(TlsFault):
    """The certificate is for an RSA key that is too short."""

    bits: Annotated[int, Field(ge=1024, lt=2048)] = 1024
    """How long."""

    def new_key(self) -> LeafKey:
        """RSA."""
        return new_key(self.bits)

    def adapt(self, context: ssl.SSLContext) -> None:
        """Or OpenSSL would not use it."""
        context.set_ciphers(WEAK)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsWeakHash(TlsFault):
    """The certificate is signed with SHA-1."""

    def identity(self, mint: Mint, name: str) -> Identity:
        """For the right name."""
        return mint.identity(name, with_sha1=True)

    def adapt(self, context: ssl.SSLContext) -> None:
        """Or OpenSSL would not use it."""
        context.set_ciphers(WEAK)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOldProtocol(TlsFault):
    """Only an old version of TLS is spoken."""

    version: Literal["1.0", "1.1"] = "1.1"
    """The newest that is."""

    def adapt(self, context: ssl.SSLContext) -> None:
        """From 1.0 to that version, with the suites that belong to them."""
        context.set_ciphers(WEAK)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # old versions are what is asked for
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1 if self.version == "1.0" else ssl.TLSVersion.TLSv1_1


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsStalledHandshake:
    """New connections are accepted, and the handshake is not answered. Standing ones do not notice."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    share: Ratio = Fraction(1)
    """The share of new connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        share_is_some(self.share)

    def acts_on_handshakes(self) -> bool:
        """Of new connections."""
        return True

    def stalls(self) -> bool:
        """Before the first byte is read."""
        return True


def shows_expiry(options: object, *, within: float) -> bool:
    """Whether a probe is shown a certificate that expires within so many seconds, or has expired."""
    return isinstance(options, TlsExpired) or (isinstance(options, TlsExpiresSoon) and options.left < within)


def _positive(key: str, seconds: float) -> None:
    if seconds <= 0:
        raise ValueError(f"{key} must be more than 0s")
