"""Facts of certificates, and whom they are trusted for at a given moment. Parsed once for each certificate that is seen.

Chains are verified by `cryptography.x509.verification`, with the time as an input.
"""

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509 import verification

from stormwatch.probes.endpoint import is_address
from stormwatch.probes.probe import Metric
from stormwatch.probes.result import Measure
from stormwatch.probes.watch import Watch

_SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
)
NOT_VERIFIED = -62135596800.0
"""What blackbox_exporter exports as the expiry of the verified chain when nothing was verified: Go's zero time."""

METRICS = (
    Metric("probe_ssl_earliest_cert_expiry", "Unix time at which the first certificate of the served chain expires"),
    Metric(
        "probe_ssl_last_chain_expiry_timestamp_seconds",
        "Unix time at which the verified chain expires; -62135596800 when it was not verified",
    ),
    Metric("probe_ssl_last_chain_info", "Always 1; labels describe the certificate of the server"),
    Metric("probe_tls_version_info", "Always 1; the label names the TLS version that was agreed on"),
    Metric("probe_tls_cipher_info", "Always 1; the label names the cipher suite that was agreed on"),
)
"""What `measure` writes down, under blackbox_exporter's names."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What people and alerts ask of a certificate. Times are Unix times in seconds."""

    subject: str
    """RFC 4514: the most specific part first, `CN=shop.example,O=Shop`."""
    issuer: str
    serial: str
    """Lower-case hexadecimal, whole bytes."""
    not_before: float
    not_after: float
    names: tuple[str, ...]
    """DNS names and addresses that it is valid for."""
    fingerprint: str
    """SHA-256 of the DER form, lower-case hexadecimal."""
    key: str
    """Kind and size of the public key, like `EC 256` or `RSA 2048`."""
    signature: str
    """Hash of the signature, like `sha256`; empty when the algorithm has none of its own."""

    def as_evidence(self) -> dict[str, Any]:
        """As a JSON object, with times that people can read."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "serial": self.serial,
            "not_before": show_time(self.not_before),
            "not_after": show_time(self.not_after),
            "names": list(self.names),
            "fingerprint_sha256": self.fingerprint,
            "key": self.key,
            "signature": self.signature,
        }


def show_time(moment: float) -> str:
    """A Unix time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=4096)
def read_certificate(der: bytes) -> Certificate:
    """The facts of a certificate in DER. Raises ValueError when it cannot be read."""
    parsed = _parse(der)
    return Certificate(
        subject=parsed.subject.rfc4514_string(),
        issuer=parsed.issuer.rfc4514_string(),
        serial=_hexadecimal(parsed.serial_number),
        not_before=parsed.not_valid_before_utc.timestamp(),
        not_after=parsed.not_valid_after_utc.timestamp(),
        names=_names(parsed),
        fingerprint=hashlib.sha256(der).hexdigest(),
        key=_key(parsed),
        signature=_signature(parsed),
    )


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain as it was served, leaf first, with everything that is said of it in every run: made once."""

    certificates: tuple[Certificate, ...]
    expires: float
    """Unix time at which the first of them expires; infinite for an empty chain."""
    evidence: Sequence[Mapping[str, Any]]
    measures: tuple[Measure, ...]


@lru_cache(maxsize=4096)
def read_chain(ders: tuple[bytes, ...]) -> Chain:
    """The facts of a chain. A certificate that cannot be read ends it."""
    found: list[Certificate] = []
    for der in ders:
        try:
            found.append(read_certificate(der))
        except ValueError:
            break
    if not found:
        return Chain((), math.inf, [], ())
    expires, leaf = min(each.not_after for each in found), found[0]
    info = {
        "fingerprint_sha256": leaf.fingerprint,
        "issuer": leaf.issuer,
        "serialnumber": leaf.serial,
        "subject": leaf.subject,
        "subjectalternative": ",".join(name for name in leaf.names if not is_address(name)),
    }
    return Chain(
        certificates=tuple(found),
        expires=expires,
        evidence=[each.as_evidence() for each in found],
        measures=(
            Measure("probe_ssl_earliest_cert_expiry", expires),
            Measure("probe_ssl_last_chain_info", 1.0, info),
        ),
    )


class NotTrusted(Exception):
    """A chain was not accepted. The message is one sentence that says why."""


class Trust:
    """A set of certificate authorities, read once."""

    def __init__(self, authorities: Sequence[x509.Certificate]) -> None:
        """Raises ValueError for an empty set."""
        if not authorities:
            raise ValueError("there is no certificate authority to trust")
        self._store = verification.Store(list(authorities))
        self._ders = frozenset(each.public_bytes(serialization.Encoding.DER) for each in authorities)
        self._expiries: dict[tuple[bytes, ...], float] = {}

    def verify(self, chain: Sequence[bytes], name: str, at: float) -> float:
        """Check that `chain` (DER, leaf first) was valid for `name` at the Unix time `at`.

        Returns when the verified chain, its root included, expires. Raises NotTrusted.
        """
        if not chain:
            raise NotTrusted("the server sent no certificate")
        try:
            leaf = read_certificate(chain[0])
        except ValueError as error:
            raise NotTrusted(f"the certificate cannot be read: {error}") from error
        _check_time(leaf, at)
        _check_name(leaf, name)
        if chain[0] in self._ders:  # trusted as itself, not for whom it signs
            return leaf.not_after
        try:
            verified = self._verifier(name, at).verify(_parse(chain[0]), [_parse(der) for der in chain[1:]])
        except (verification.VerificationError, ValueError) as error:
            raise NotTrusted(_explain(chain, at, error)) from error
        return min(each.not_valid_after_utc.timestamp() for each in verified)

    def expiry(self, chain: tuple[bytes, ...], name: str, at: float) -> float:
        """When a chain that TLS has accepted already expires, its root included. Remembered for each chain."""
        known = self._expiries.get(chain)
        if known is None:
            try:
                known = self.verify(chain, name, at)
            except NotTrusted:  # TLS is laxer in places: what was served is the next best answer
                served = read_chain(chain)
                known = served.expires if served.certificates else NOT_VERIFIED
            if len(self._expiries) > 4096:
                self._expiries.clear()
            self._expiries[chain] = known
        return known

    def _verifier(self, name: str, at: float) -> verification.ServerVerifier:
        subject = x509.IPAddress(ip_address(name)) if is_address(name) else x509.DNSName(name.rstrip("."))
        builder = verification.PolicyBuilder().store(self._store).time(datetime.fromtimestamp(at, UTC))
        # The defaults are the CA/Browser Forum's, which few private authorities follow to the letter.
        ca = verification.ExtensionPolicy.permit_all().require_present(
            x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
        )
        server = verification.ExtensionPolicy.permit_all().require_present(
            x509.SubjectAlternativeName, verification.Criticality.AGNOSTIC, None
        )
        return builder.extension_policies(ca_policy=ca, ee_policy=server).build_server_verifier(subject)


def load_trust(ca_file: str = "") -> tuple[str, Trust]:
    """The file of authorities that is used, and what it says; the system's when none is given.

    Raises ValueError for a file that cannot be read or holds no certificate.
    """
    if ca_file:
        return ca_file, _load_trust(ca_file, *_version(ca_file))
    for path in _SYSTEM_FILES:
        if Path(path).is_file():
            return path, _load_trust(path, *_version(path))
    raise ValueError("the system has no file of certificate authorities: give `ca_file`, or install ca-certificates")


def _version(path: str) -> tuple[float, int]:
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise ValueError(f"ca_file {path} cannot be read: {error.strerror}") from error
    return stat.st_mtime, stat.st_size


@lru_cache(maxsize=64)
def _load_trust(path: str, _modified: float, _size: int) -> Trust:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"ca_file {path} cannot be read: {error.strerror}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old authorities have serial numbers that the library warns of
            return Trust(x509.load_pem_x509_certificates(data))
    except ValueError as error:
        raise ValueError(f"ca_file {path} holds no certificates in PEM form: {error}") from error


def check_key_pair(certificate: str, key: str) -> None:
    """Raises ValueError when the files of a client certificate cannot be used: unreadable, or not a pair."""
    try:
        parsed = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
    except OSError as error:
        raise ValueError(f"client certificate {certificate} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"client certificate {certificate} is not a certificate in PEM form: {error}") from error
    try:
        private = serialization.load_pem_private_key(Path(key).read_bytes(), password=None)
    except OSError as error:
        raise ValueError(f"client key {key} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"client key {key} is not an unencrypted private key in PEM form: {error}") from error
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(encoding, form) != parsed.public_key().public_bytes(encoding, form):
        raise ValueError(f"client key {key} does not belong to the certificate {certificate}")


class Shown(Protocol):
    """What a TLS handshake has shown, whoever made it."""

    @property
    def version(self) -> str:
        """The protocol that was agreed on, like `TLS 1.3`; empty when there was no answer."""
        ...

    @property
    def cipher(self) -> str:
        """IANA's name of the cipher suite."""
        ...

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The served certificates, DER, leaf first."""
        ...

    @property
    def alert(self) -> str:
        """The fatal alert that the server sent, by name; empty without one."""
        ...


def measure(watch: Watch, handshake: Shown, *, verified_expiry: float | None) -> Chain:
    """Write down what a handshake showed, as measures and as evidence, and return the served chain.

    `verified_expiry` is None when verification failed: then there is no verified chain, and no word about it.
    """
    chain = read_chain(handshake.chain)
    if chain.certificates:
        watch.measures.extend(chain.measures)
        if verified_expiry is not None:
            watch.measure("probe_ssl_last_chain_expiry_timestamp_seconds", verified_expiry)
        watch.note("certificates", chain.evidence)
    version = handshake.version
    if version:
        cipher = handshake.cipher
        watch.measures.extend(_agreed(version, cipher))
        watch.note("tls", {"version": version, "cipher": cipher})
    if handshake.alert:
        watch.note("tls_alert", handshake.alert)
    return chain


@lru_cache(maxsize=256)
def _agreed(version: str, cipher: str) -> tuple[Measure, Measure]:
    return (
        Measure("probe_tls_version_info", 1.0, {"version": version}),
        Measure("probe_tls_cipher_info", 1.0, {"cipher": cipher}),
    )


def _parse(der: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a server sends may break rules that the library warns of
        return x509.load_der_x509_certificate(der)


def _names(parsed: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    addresses = (str(each) for each in extension.get_values_for_type(x509.IPAddress))
    return (*extension.get_values_for_type(x509.DNSName), *addresses)


def _key(parsed: x509.Certificate) -> str:
    try:
        key = parsed.public_key()
    except (ValueError, TypeError):
        return "unknown"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.key_size}"
    if isinstance(key, dsa.DSAPublicKey):
        return f"DSA {key.key_size}"
    return type(key).__name__.removesuffix("PublicKey")


def _signature(parsed: x509.Certificate) -> str:
    try:
        algorithm = parsed.signature_hash_algorithm
    except ValueError:
        return "unknown"
    return algorithm.name if algorithm else ""


def _hexadecimal(number: int) -> str:
    digits = f"{abs(number):x}"
    return digits.zfill(len(digits) + len(digits) % 2)


def _check_time(certificate: Certificate, at: float) -> None:
    if at > certificate.not_after:
        raise NotTrusted(f"the certificate of {certificate.subject} expired at {show_time(certificate.not_after)}")
    if at < certificate.not_before:
        raise NotTrusted(
            f"the certificate of {certificate.subject} is not valid before {show_time(certificate.not_before)}"
        )


def _check_name(certificate: Certificate, name: str) -> None:
    asked = str(ip_address(name)) if is_address(name) else name.lower().rstrip(".")
    if not any(_covers(known.lower(), asked) for known in certificate.names):
        shown = ", ".join(certificate.names) or "no name at all"
        raise NotTrusted(f"the certificate is for {shown}, not for {asked}")


def _covers(known: str, asked: str) -> bool:
    """RFC 6125 §6.4.3: a star stands for exactly the leftmost label."""
    if known == asked:
        return True
    return known.startswith("*.") and not is_address(asked) and asked.partition(".")[2] == known[2:]


def _explain(chain: Sequence[bytes], at: float, error: Exception) -> str:
    for certificate in read_chain(tuple(chain)).certificates[1:]:
        if at > certificate.not_after:
            return (
                f"no valid chain to a trusted authority: the intermediate {certificate.subject} "
                f"expired at {show_time(certificate.not_after)}"
            )
    leaf = read_certificate(chain[0])
    if leaf.issuer == leaf.subject:
        return f"the certificate of {leaf.subject} is self-signed and not trusted"
    said = str(error).partition(" (encountered processing")[0].removeprefix("validation failed: ")
    return f"no valid chain from {leaf.subject}, issued by {leaf.issuer}, to a trusted authority: {said}"
