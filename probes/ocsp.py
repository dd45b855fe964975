"""What an OCSP responder says of a certificate (RFC 6960): the question, and the answer with everything that it must prove.

Pure: bytes and a moment in, a `Status` or `NotUsable` out. Answers come stapled to a handshake or from the responder.
"""

import hashlib
import warnings
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from stormwatch.probes.malformed import MALFORMED
from stormwatch.probes.signature import signed_by

SKEW: Final = 300.0
"""Seconds that the clocks of responders and authorities may be ahead of ours."""
LARGEST: Final = 2**16
"""Bytes of the largest answer that is read; with certificates they have some two thousand."""
_SIGNERS: Final = 8
"""Certificates in an answer that are tried as its signer's."""


class NotUsable(Exception):
    """An answer that says nothing: no answer, not signed by whom it must be, too old. One sentence that says why."""


@dataclass(frozen=True, slots=True)
class Status:
    """What an authority says of one certificate. Times are Unix times in seconds."""

    revoked: bool | None
    """None: the responder does not know the certificate."""
    this_update: float
    next_update: float | None
    """When there will be a newer answer; None: there always is."""
    revoked_at: float | None = None
    reason: str = ""
    """The reason of the revocation, like `keyCompromise`; empty when none was given."""


def question(certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """A request in DER. SHA-1 is what all responders know it by, and names no secret (RFC 5019 §2.1.1)."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1())  # noqa: S303 - see above
    return builder.build().public_bytes(serialization.Encoding.DER)


def responders(certificate: x509.Certificate) -> tuple[str, ...]:
    """The addresses at which the certificate says that it can be asked about."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except MALFORMED:
        return ()
    return tuple(
        each.access_location.value
        for each in access
        if each.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(each.access_location, x509.UniformResourceIdentifier)
    )


def read_answer(der: bytes, certificate: x509.Certificate, issuer: x509.Certificate, at: float) -> Status:
    """What a response says of the certificate at that moment. Raises NotUsable.

    RFC 6960 §3.2: it is about this certificate, signed by the issuer or by whom the issuer has delegated it to, and recent.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd serial numbers and times are the responder's own affair
            return _read(der, certificate, issuer, at)
    except MALFORMED as error:
        raise NotUsable(f"the OCSP response ({len(der)} bytes) cannot be read: {error}") from error


def _read(der: bytes, certificate: x509.Certificate, issuer: x509.Certificate, at: float) -> Status:
    if len(der) > LARGEST:
        raise NotUsable(f"the OCSP response has {len(der)} bytes, more than the {LARGEST} that are read")
    response = ocsp.load_der_ocsp_response(der)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise NotUsable(f"the OCSP responder answered {response.response_status.name.lower().replace('_', ' ')}")
    single = next((each for each in response.responses if _is_about(each, certificate, issuer)), None)
    if single is None:
        raise NotUsable("the OCSP response is about another certificate")
    _check_signer(response, issuer, at)
    this_update, next_update = single.this_update_utc, single.next_update_utc
    if this_update.timestamp() > at + SKEW:
        raise NotUsable(f"the OCSP response is not valid before {_show(this_update)}")
    if next_update is not None and next_update.timestamp() < at - SKEW:
        raise NotUsable(f"the OCSP response was good until {_show(next_update)}, and is stale")
    known = single.certificate_status is not ocsp.OCSPCertStatus.UNKNOWN
    revoked_at, reason = single.revocation_time_utc, single.revocation_reason
    return Status(
        revoked=single.certificate_status is ocsp.OCSPCertStatus.REVOKED if known else None,
        this_update=this_update.timestamp(),
        next_update=None if next_update is None else next_update.timestamp(),
        revoked_at=None if revoked_at is None else revoked_at.timestamp(),
        reason="" if reason is None else reason.value,
    )


def _is_about(single: ocsp.OCSPSingleResponse, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if single.serial_number != certificate.serial_number:
        return False
    digest = hashlib.new(single.hash_algorithm.name)
    digest.update(issuer.subject.public_bytes())
    key = hashlib.new(single.hash_algorithm.name, _key_bits(issuer))
    return single.issuer_name_hash == digest.digest() and single.issuer_key_hash == key.digest()


def _key_bits(certificate: x509.Certificate) -> bytes:
    """The public key without its algorithm, as OCSP hashes it."""
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    at, _ = _header(spki, 0)  # a sequence of the algorithm, which is a sequence itself, and a bit string
    inner, size = _header(spki, at)
    start, length = _header(spki, inner + size)
    return spki[start + 1 : start + length]  # the first byte counts the unused bits


def _header(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of a DER element begins, and how long it is."""
    size = der[at + 1]
    if size < 0x80:
        return at + 2, size
    many = size & 0x7F
    return at + 2 + many, int.from_bytes(der[at + 2 : at + 2 + many])


def _check_signer(response: ocsp.OCSPResponse, issuer: x509.Certificate, at: float) -> None:
    algorithm = response.signature_hash_algorithm
    why = "it is not signed by the issuer, nor by whom the issuer has delegated it to"
    for signer in (issuer, *response.certificates[:_SIGNERS]):
        if not _is_named(response, signer):
            continue
        if not signed_by(signer.public_key(), response.signature, response.tbs_response_bytes, algorithm):
            why = "its signature is wrong"
            continue
        if signer is issuer:
            return
        why = _objection(signer, issuer, at)
        if not why:
            return
    raise NotUsable(f"the OCSP response cannot be trusted: {why}")


def _is_named(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    if response.responder_name is not None:
        return response.responder_name == signer.subject
    return response.responder_key_hash == hashlib.sha1(_key_bits(signer)).digest()  # noqa: S324 - RFC 6960 §4.2.1


def _objection(delegate: x509.Certificate, issuer: x509.Certificate, at: float) -> str:
    """Why a delegated responder must not be believed; empty when it may be (RFC 6960 §4.2.2.2)."""
    try:
        delegate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *MALFORMED):
        return "its signer has no certificate from the issuer"
    try:
        usage = delegate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    if ExtendedKeyUsageOID.OCSP_SIGNING not in usage:
        return "its signer's certificate is not for OCSP"
    if not delegate.not_valid_before_utc.timestamp() <= at <= delegate.not_valid_after_utc.timestamp():
        return f"its signer's certificate is valid until {_show(delegate.not_valid_after_utc)}"
    return ""


def _show(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
