"""What a certificate revocation list says of a certificate (RFC 5280 §5): where it stands, whose it is, how old it may be.

Pure: bytes and a moment in, a `RevocationList` or `NotUsable` out.
"""

import warnings
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509

from stormwatch.probes.malformed import MALFORMED
from stormwatch.probes.ocsp import SKEW, NotUsable, Status

_KNOWN: Final = 4096
"""Serial numbers that are remembered with a list."""
_KNOWN_CRITICAL: Final = frozenset({x509.IssuingDistributionPoint.oid})
"""Critical extensions of a list that are understood; one with others must not be used (RFC 5280 §5.2)."""


@dataclass(frozen=True, slots=True, eq=False)
class RevocationList:
    """A list whose signature has been checked. Times are Unix times in seconds."""

    parsed: x509.CertificateRevocationList
    this_update: float
    next_update: float | None
    only_users: bool
    only_authorities: bool
    _known: dict[int, Status] = field(default_factory=dict[int, Status])
    """What was found for a serial number: a list is searched from end to end, and large ones have 100,000 entries."""

    def stale(self, at: float) -> bool:
        """Whether there should be a newer one."""
        return self.next_update is not None and self.next_update < at - SKEW

    def status(self, certificate: x509.Certificate) -> Status:
        """What it says of a certificate of its issuer. Raises NotUsable when it is not about such certificates."""
        authority = is_authority(certificate)
        if (authority and self.only_users) or (not authority and self.only_authorities):
            raise NotUsable(f"the CRL is only about {'servers' if authority else 'authorities'}")
        known = self._known.get(certificate.serial_number)
        if known is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            known = self._known[certificate.serial_number] = self._search(certificate)
        return known

    def _search(self, certificate: x509.Certificate) -> Status:
        entry = self.parsed.get_revoked_certificate_by_serial_number(certificate.serial_number)
        if entry is None:
            return Status(revoked=False, this_update=self.this_update, next_update=self.next_update)
        try:
            reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
        except MALFORMED:
            reason = ""
        return Status(
            revoked=reason != x509.ReasonFlags.remove_from_crl.value,
            this_update=self.this_update,
            next_update=self.next_update,
            revoked_at=entry.revocation_date_utc.timestamp(),
            reason=reason,
        )


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign other certificates."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except MALFORMED:
        return False


def distribution_points(certificate: x509.Certificate) -> tuple[str, ...]:
    """The addresses at which the certificate says that its issuer's lists are. Lists of other issuers are left out."""
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except MALFORMED:
        return ()
    return tuple(
        name.value
        for point in points
        if point.crl_issuer is None and point.reasons is None
        for name in point.full_name or ()
        if isinstance(name, x509.UniformResourceIdentifier)
    )


def read_list(data: bytes, issuer: x509.Certificate, at: float) -> RevocationList:
    """A list in DER or PEM that the issuer has signed and that has begun. It may be stale. Raises NotUsable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lists of old authorities have odd serial numbers
            return _read(data, issuer, at)
    except MALFORMED as error:
        raise NotUsable(f"the CRL ({len(data)} bytes) cannot be read: {error}") from error


def _read(data: bytes, issuer: x509.Certificate, at: float) -> RevocationList:
    load = x509.load_pem_x509_crl if data.lstrip().startswith(b"-----BEGIN") else x509.load_der_x509_crl
    parsed = load(data)
    if parsed.issuer != issuer.subject:
        raise NotUsable(
            f"the CRL is that of {parsed.issuer.rfc4514_string()}, not of {issuer.subject.rfc4514_string()}"
        )
    if not parsed.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]  # of no other kind: TypeError
        raise NotUsable("the CRL's signature is not that of the issuer")
    if not _may_sign_lists(issuer):
        raise NotUsable(f"the key of {issuer.subject.rfc4514_string()} is not for signing CRLs")
    this_update = parsed.last_update_utc.timestamp()
    if this_update > at + SKEW:
        raise NotUsable("the CRL is not valid yet")
    unknown = [
        each.oid.dotted_string for each in parsed.extensions if each.critical and each.oid not in _KNOWN_CRITICAL
    ]
    if unknown:
        raise NotUsable(f"the CRL has the critical extension {unknown[0]}, which is not understood")
    only_users = only_authorities = False
    try:
        scope = parsed.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        scope = None
    if scope is not None:
        if scope.indirect_crl or scope.only_some_reasons or scope.only_contains_attribute_certs:
            raise NotUsable("the CRL is indirect, or only about some reasons, which is not understood")
        only_users, only_authorities = scope.only_contains_user_certs, scope.only_contains_ca_certs
    next_update = parsed.next_update_utc
    return RevocationList(
        parsed=parsed,
        this_update=this_update,
        next_update=None if next_update is None else next_update.timestamp(),
        only_users=only_users,
        only_authorities=only_authorities,
    )


def _may_sign_lists(issuer: x509.Certificate) -> bool:
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True
