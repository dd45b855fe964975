"""Facts of certificates, and whom they are trusted for at a given moment. Parsed once for each certificate that is seen.

Chains are verified by `cryptography.x509.verification`, with the time as an input.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509 import verification

from stormwatch.probes.chain import Order, order
from stormwatch.probes.distinguished import distinguished_name
from stormwatch.probes.endpoint import is_address
from stormwatch.probes.malformed import MALFORMED
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

SHOWN: Final = 16
"""Certificates of a chain that are shown; the rest are counted. Honest chains have two to four."""
_SHOWN_NAMES: Final = 50
"""Names of a certificate that are shown: shared hosting has hundreds in one."""
_REMEMBERED: Final = 2**14
"""Bytes of the largest certificate, and of the largest chain, that are remembered: memory stays bounded whatever is served."""

EARLIEST: Final = Metric(
    "probe_ssl_earliest_cert_expiry",
    "Unix time at which the first certificate of the served chain, or of the files, expires",
)
METRICS = (
    EARLIEST,
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
    """Kind of the public key and its bits, like `EC 256` or `RSA 2048`; kinds of one size have the kind alone."""
    signature: str
    """Hash of the signature, like `sha256`; empty when the algorithm has none of its own."""
    algorithm: str
    """The signature's whole algorithm, like `ecdsa-with-SHA256`."""

    @property
    def key_kind(self) -> str:
        """`RSA`, `EC`, `DSA`, `Ed25519` and others."""
        return self.key.partition(" ")[0]

    @property
    def key_bits(self) -> int:
        """Size of the key; 0 for kinds of one size."""
        return int(self.key.partition(" ")[2] or 0)

    def as_evidence(self) -> dict[str, Any]:
        """As a JSON object, with times that people can read."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "serial": self.serial,
            "not_before": show_time(self.not_before),
            "not_after": show_time(self.not_after),
            "names": list(self.names[:_SHOWN_NAMES]),
            **({"names_left_out": len(self.names) - _SHOWN_NAMES} if len(self.names) > _SHOWN_NAMES else {}),
            "fingerprint_sha256": self.fingerprint,
            "key": self.key,
            "signature": self.signature,
            "signature_algorithm": self.algorithm,
        }


def show_time(moment: float) -> str:
    """A Unix time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_certificate(der: bytes) -> Certificate:
    """The facts of a certificate in DER. Raises ValueError when it cannot be read."""
    return _read_known(der) if len(der) <= _REMEMBERED else facts_of(parse(der))


@lru_cache(maxsize=4096)
def _read_known(der: bytes) -> Certificate:
    return facts_of(parse(der))


def facts_of(parsed: x509.Certificate) -> Certificate:
    """The facts of a certificate. Raises ValueError when a part of it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library warns of odd serial numbers when they are looked at, too
            return _facts_of(parsed)
    except MALFORMED as error:
        raise ValueError(str(error)) from error


def _facts_of(parsed: x509.Certificate) -> Certificate:
    return Certificate(
        subject=parsed.subject.rfc4514_string(),
        issuer=parsed.issuer.rfc4514_string(),
        serial=_hexadecimal(parsed.serial_number),
        not_before=parsed.not_valid_before_utc.timestamp(),
        not_after=parsed.not_valid_after_utc.timestamp(),
        names=_names(parsed),
        fingerprint=parsed.fingerprint(hashes.SHA256()).hex(),
        key=_key(parsed),
        signature=_signature(parsed),
        algorithm=_algorithm(parsed),
    )


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain as it was served, leaf first, with everything that is said of it in every run: made once."""

    certificates: tuple[Certificate, ...]
    expires: float
    """Unix time at which the first of them expires; infinite for an empty chain."""
    evidence: Sequence[Mapping[str, Any]]
    measures: tuple[Measure, ...]
    order: Order

    @property
    def soonest(self) -> int:
        """Position of the certificate that expires first; an empty chain has none."""
        return min(range(len(self.certificates)), key=lambda position: self.certificates[position].not_after)


def read_chain(ders: tuple[bytes, ...]) -> Chain:
    """The facts of a chain. A certificate that cannot be read ends it."""
    return _read_known_chain(ders) if sum(map(len, ders)) <= _REMEMBERED else _read_chain(ders)


@lru_cache(maxsize=4096)
def _read_known_chain(ders: tuple[bytes, ...]) -> Chain:
    return _read_chain(ders)


def _read_chain(ders: tuple[bytes, ...]) -> Chain:
    found: list[Certificate] = []
    for der in ders:
        try:
            found.append(read_certificate(der))
        except ValueError:
            break
    if not found:
        return Chain((), math.inf, [], (), order(()))
    expires, leaf = min(each.not_after for each in found), found[0]
    return Chain(
        certificates=tuple(found),
        expires=expires,
        evidence=[each.as_evidence() for each in found[:SHOWN]],
        measures=(
            Measure("probe_ssl_earliest_cert_expiry", expires),
            Measure("probe_ssl_last_chain_info", 1.0, info_labels(parse(ders[0]), leaf)),
        ),
        order=order([(each.subject, each.issuer) for each in found]),
    )


def info_labels(parsed: x509.Certificate, facts: Certificate) -> dict[str, str]:
    """The labels by which blackbox_exporter tells certificates apart, with exactly its values."""
    return {
        "fingerprint_sha256": facts.fingerprint,
        "issuer": distinguished_name(parsed.issuer),
        "serialnumber": facts.serial,
        "subject": distinguished_name(parsed.subject),
        "subjectalternative": ",".join(name for name in facts.names if not is_address(name)),
    }


class NotTrusted(Exception):
    """A chain was not accepted. The message is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A path from the server's certificate to a trusted one, and when every certificate on it is valid."""

    path: tuple[x509.Certificate, ...]
    """The server's first, the trusted one last."""
    begins: float
    expires: float


class Trust:
    """A set of certificate authorities, read once."""

    def __init__(self, authorities: Sequence[x509.Certificate]) -> None:
        """Raises ValueError for an empty set."""
        if not authorities:
            raise ValueError("there is no certificate authority to trust")
        self._store = verification.Store(list(authorities))
        self._ders = frozenset(each.public_bytes(serialization.Encoding.DER) for each in authorities)
        self._names = frozenset(each.subject.rfc4514_string() for each in authorities)
        self._expiries: dict[tuple[bytes, ...], float] = {}
        self._verified: dict[tuple[tuple[bytes, ...], str], Verified] = {}

    def verify(self, chain: Sequence[bytes], name: str, at: float) -> float:
        """Check that `chain` (DER, leaf first) was valid for `name` at the Unix time `at`.

        Returns when the verified chain, its root included, expires. Raises NotTrusted.
        """
        return self.path(tuple(chain), name, at).expires

    def path(self, chain: tuple[bytes, ...], name: str, at: float) -> Verified:
        """As `verify`, and says by which path the chain was accepted.

        A path that was found is good for as long as all its certificates are valid: it is searched for once.
        """
        known = self._verified.get((chain, name))
        if known is not None and known.begins <= at <= known.expires:
            return known
        verified = self._find(chain, name, at)
        if sum(map(len, chain)) <= _REMEMBERED:
            if len(self._verified) >= 4096:
                self._verified.clear()
            self._verified[(chain, name)] = verified
        return verified

    def _find(self, chain: tuple[bytes, ...], name: str, at: float) -> Verified:
        if not chain:
            raise NotTrusted("the server sent no certificate")
        try:
            leaf = read_certificate(chain[0])
            parsed = parse(chain[0])
        except ValueError as error:
            raise NotTrusted(f"the certificate cannot be read: {error}") from error
        _check_time(leaf, at)
        _check_name(leaf, name)
        if chain[0] in self._ders:  # trusted as itself, not for whom it signs
            return Verified((parsed,), leaf.not_before, leaf.not_after)
        try:
            found = self._verifier(name, at).verify(parsed, _issuers(chain[1:]))
        except (verification.VerificationError, ValueError) as error:
            raise NotTrusted(self._explain(chain, at, error)) from error
        return Verified(
            path=tuple(found),
            begins=max(each.not_valid_before_utc.timestamp() for each in found),
            expires=min(each.not_valid_after_utc.timestamp() for each in found),
        )

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

    def _explain(self, chain: tuple[bytes, ...], at: float, error: Exception) -> str:
        served = read_chain(chain)
        for position in served.order.path[1:]:
            each = served.certificates[position]
            if at > each.not_after:
                return (
                    f"no valid chain to a trusted authority: the intermediate {each.subject} "
                    f"expired at {show_time(each.not_after)}"
                )
        leaf, missing = served.certificates[0], served.order.missing
        if leaf.issuer == leaf.subject:
            return f"the certificate of {leaf.subject} is self-signed and not trusted"
        if served.order.looped:
            said = f"the issuers of the served chain name each other in a circle that ends at {missing}"
        elif missing and missing not in self._names:
            said = f"the issuer {missing} is not in the served chain, and not trusted itself"
        else:
            said = str(error).partition(" (encountered processing")[0].removeprefix("validation failed: ")
        return f"no valid chain from {leaf.subject}, issued by {leaf.issuer}, to a trusted authority: {said}"


def _issuers(ders: Sequence[bytes]) -> list[x509.Certificate]:
    """Those that may be needed for a path. How far paths are searched for is limited by `cryptography`."""
    found: list[x509.Certificate] = []
    for der in ders:
        with suppress(ValueError):  # one that nobody needs may be unreadable
            found.append(parse(der))
    return found


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


def read_trust(pem: str) -> Trust:
    """Authorities written down in PEM form. Raises ValueError when there is none."""
    try:
        return Trust(_load_pem(pem.encode()))
    except ValueError as error:
        raise ValueError(f"ca holds no certificates in PEM form: {error}") from error


def _load_pem(data: bytes) -> list[x509.Certificate]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old authorities have serial numbers that the library warns of
        return x509.load_pem_x509_certificates(data)


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
        return Trust(_load_pem(data))
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
        if len(chain.certificates) > SHOWN:
            watch.note("certificates_left_out", len(chain.certificates) - SHOWN)
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


def parse(der: bytes) -> x509.Certificate:
    """Read a certificate in DER. Raises ValueError when it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a server sends may break rules that the library warns of
            return x509.load_der_x509_certificate(der)
    except MALFORMED as error:
        raise ValueError(str(error)) from error


def _names(parsed: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except MALFORMED:
        return ()
    addresses = (str(each) for each in extension.get_values_for_type(x509.IPAddress))
    return (*extension.get_values_for_type(x509.DNSName), *addresses)


def _key(parsed: x509.Certificate) -> str:
    try:
        key = parsed.public_key()
    except MALFORMED:
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
    except MALFORMED:
        return "unknown"
    return algorithm.name if algorithm else ""


def _algorithm(parsed: x509.Certificate) -> str:
    oid = parsed.signature_algorithm_oid
    name = _ALGORITHMS.get(oid.dotted_string, oid.dotted_string)
    return f"{name}, {_signature(parsed)}" if name == "RSASSA-PSS" else name


_ALGORITHMS: Final = {
    "1.2.840.10040.4.3": "dsa-with-SHA1",
    "1.2.840.10045.4.1": "ecdsa-with-SHA1",
    "1.2.840.10045.4.3.1": "ecdsa-with-SHA224",
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256",
    "1.2.840.10045.4.3.3": "ecdsa-with-SHA384",
    "1.2.840.10045.4.3.4": "ecdsa-with-SHA512",
    "1.2.840.113549.1.1.4": "md5WithRSAEncryption",
    "1.2.840.113549.1.1.5": "sha1WithRSAEncryption",
    "1.2.840.113549.1.1.10": "RSASSA-PSS",
    "1.2.840.113549.1.1.11": "sha256WithRSAEncryption",
    "1.2.840.113549.1.1.12": "sha384WithRSAEncryption",
    "1.2.840.113549.1.1.13": "sha512WithRSAEncryption",
    "1.2.840.113549.1.1.14": "sha224WithRSAEncryption",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
    "2.16.840.1.101.3.4.3.2": "dsa-with-SHA256",
    "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
    "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
}
"""The names of RFC 3279, 4055, 5758, 8410 and 9881."""


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
