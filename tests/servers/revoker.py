"""An OCSP responder and a publisher of revocation lists, right or wrong as a test says: behaviours for `web.serving`."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from tests.servers import web
from tests.servers.certificates import Authority, Issued

Mode = str
"""What an answer is like: `right`, or what is wrong with it."""


@dataclass
class Revoker:
    """Speaks for an authority."""

    authority: Authority
    revoked: set[int] = field(default_factory=set[int])
    """Serial numbers."""
    mode: Mode = "right"
    asked: list[str] = field(default_factory=list[str])
    """Method and path of each request."""
    certificates: dict[int, x509.Certificate] = field(default_factory=dict[int, x509.Certificate])

    def issue(self, url: str, *names: str, must_staple: bool = False, lists: bool = True) -> Issued:
        """A certificate that names this responder, at the address of its server, and its list."""
        extensions: list[x509.ExtensionType] = [access(f"{url}ocsp")]
        if lists:
            extensions.append(distribution(f"{url}crl"))
        if must_staple:
            extensions.append(x509.TLSFeature([x509.TLSFeatureType.status_request]))
        issued = self.authority.issue(*names, extensions=extensions)
        self.certificates[issued.certificate.serial_number] = issued.certificate
        return issued

    async def behave(self, exchange: web.Exchange) -> None:
        """Answer one request."""
        self.asked.append(f"{exchange.method} {exchange.path}")
        if self.mode == "silent":
            await web.silent(exchange)
        elif self.mode == "drip":
            await web.drip_body(exchange)
        elif self.mode == "redirect":
            await web.redirect("/elsewhere")(exchange)
        elif self.mode == "huge":
            await web.endless(exchange)
        elif self.mode == "garbage":
            await web.send(exchange, b"\x30\x03\x0a\x01\x07")
        elif exchange.path == "/ocsp":
            body = await exchange.reader.readexactly(int(exchange.header("Content-Length") or 0))
            asked = ocsp.load_der_ocsp_request(body)
            await web.send(exchange, self.answer(self.certificates[asked.serial_number]))
        else:
            await web.send(exchange, self.listed())

    def answer(self, certificate: x509.Certificate) -> bytes:
        """An OCSP response in DER."""
        if self.mode == "try-later":
            unsuccessful = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
            return unsuccessful.public_bytes(serialization.Encoding.DER)
        now = datetime.now(UTC)
        this_update = now + {"stale": timedelta(days=-9), "future": timedelta(days=1)}.get(
            self.mode, timedelta(minutes=-1)
        )
        status = ocsp.OCSPCertStatus.GOOD
        if self.mode == "unknown":
            status = ocsp.OCSPCertStatus.UNKNOWN
        elif certificate.serial_number in self.revoked:
            status = ocsp.OCSPCertStatus.REVOKED
        revoked = status is ocsp.OCSPCertStatus.REVOKED
        about = self.authority.issue("other.test").certificate if self.mode == "other" else certificate
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=about,
            issuer=self.authority.certificate,
            algorithm=hashes.SHA1(),  # what responders answer with
            cert_status=status,
            this_update=this_update,
            next_update=this_update + timedelta(days=7),
            revocation_time=REVOKED_AT if revoked else None,
            revocation_reason=x509.ReasonFlags.key_compromise if revoked else None,
        )
        key, signer = self.authority.key, self.authority.certificate
        if self.mode in ("delegate", "delegate-without-usage", "delegate-expired", "stranger"):
            key = ec.generate_private_key(ec.SECP256R1())
            signer = self._delegate(key)
            builder = builder.certificates([signer])
        by = ocsp.OCSPResponderEncoding.NAME if self.mode == "delegate" else ocsp.OCSPResponderEncoding.HASH
        response = builder.responder_id(by, signer).sign(key, hashes.SHA256())
        der = response.public_bytes(serialization.Encoding.DER)
        return der.replace(response.signature, bytes(len(response.signature))) if self.mode == "forged" else der

    def _delegate(self, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        now = datetime.now(UTC)
        usage = (
            ExtendedKeyUsageOID.CLIENT_AUTH
            if self.mode == "delegate-without-usage"
            else ExtendedKeyUsageOID.OCSP_SIGNING
        )
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Responder")]))
            .issuer_name(self.authority.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=-1 if self.mode == "delegate-expired" else 30))
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(key if self.mode == "stranger" else self.authority.key, hashes.SHA256())
        )

    def listed(self) -> bytes:
        """A CRL in DER, or in PEM."""
        now = datetime.now(UTC)
        this_update = now + {"stale": timedelta(days=-9), "future": timedelta(days=1)}.get(
            self.mode, timedelta(minutes=-1)
        )
        signer = self.authority.key if self.mode != "stranger" else ec.generate_private_key(ec.SECP256R1())
        issuer = self.authority.certificate.subject
        if self.mode == "other":
            issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Other")])
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer)
            .last_update(this_update)
            .next_update(this_update + timedelta(days=7))
        )
        for serial in sorted(self.revoked):
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(serial)
                .revocation_date(REVOKED_AT)
                .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
                .build()
            )
        if self.mode in ("only-authorities", "indirect"):
            builder = builder.add_extension(
                x509.IssuingDistributionPoint(
                    full_name=None,
                    relative_name=None,
                    only_contains_user_certs=False,
                    only_contains_ca_certs=self.mode == "only-authorities",
                    only_some_reasons=None,
                    indirect_crl=self.mode == "indirect",
                    only_contains_attribute_certs=False,
                ),
                critical=True,
            )
        encoding = serialization.Encoding.PEM if self.mode == "pem" else serialization.Encoding.DER
        return builder.sign(signer, hashes.SHA256()).public_bytes(encoding)


REVOKED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
"""When everything that is revoked was."""


def access(url: str) -> x509.AuthorityInformationAccess:
    """The extension that names an OCSP responder."""
    return x509.AuthorityInformationAccess(
        [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))]
    )


def distribution(url: str) -> x509.CRLDistributionPoints:
    """The extension that names a list."""
    return x509.CRLDistributionPoints([x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)])


def nginx_config(directory: Path, port: int, issued: Issued, staple: bytes) -> Path:
    """A configuration of nginx that sends a stapled response along, on TLS 1.2 and 1.3."""
    (directory / "staple.der").write_bytes(staple)
    temporary = "".join(
        f"{each}_temp_path {directory}/{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = directory / "nginx.conf"
    config.write_text(
        f"daemon off; pid {directory}/nginx.pid; error_log stderr; worker_processes 1; events {{}}\n"
        f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port} ssl; "
        f"ssl_certificate {issued.chain_file}; ssl_certificate_key {issued.key_file}; "
        f"ssl_protocols TLSv1.2 TLSv1.3; ssl_stapling on; ssl_stapling_file {directory}/staple.der; }} }}\n"
    )
    return config
