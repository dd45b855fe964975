"""Who says that the certificates of a fault are revoked: an OCSP responder (RFC 6960) and lists (RFC 5280) on loopback, as long as it lasts."""

import asyncio
import datetime
import logging
from collections.abc import Sequence
from typing import Final, Self

import h11
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from stormwatch.chaos.tls_mint import LIFETIME, Issuer

log = logging.getLogger(__name__)

MOST: Final = 64 * 1024
"""Bytes of a question that are read."""
REMEMBERED: Final = 1000
"""Certificates of which it is known: whoever asks does so after the handshake, and a client may say any names in it."""
PATIENCE: Final = 5.0
"""Seconds that one who asks may take."""
JUST_BEFORE: Final = datetime.timedelta(minutes=1)
"""By so much answers are older than the fault: what is made in the same second seems to be of the future."""


class Revoker:
    """`begin`, `revoke` each certificate that is shown, `close`. It answers to anybody, and of no other certificate."""

    def __init__(self, issuer: Issuer, now: datetime.datetime) -> None:
        self._issuer = issuer
        self._at = now
        self._revoked: dict[int, x509.Certificate] = {}
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    @classmethod
    async def begin(cls, issuer: Issuer, now: datetime.datetime) -> Self:
        """Listen on a free port of loopback. Raises OSError."""
        revoker = cls(issuer, now)
        revoker._server = await asyncio.start_server(revoker._serve, "127.0.0.1", 0)
        return revoker

    @property
    def url(self) -> str:
        """What the addresses in certificates begin with."""
        assert self._server
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    def revoke(self, certificate: x509.Certificate) -> None:
        """Say so of this one, too."""
        self._revoked[certificate.serial_number] = certificate
        while len(self._revoked) > REMEMBERED:
            del self._revoked[next(iter(self._revoked))]

    def close(self) -> None:
        """Answer nobody any more."""
        if self._server:
            self._server.close()
        for writer in self._clients:
            writer.transport.abort()

    def answer(self, question: bytes) -> bytes:
        """An OCSP response in DER."""
        try:
            serial = ocsp.load_der_ocsp_request(question).serial_number
        except ValueError:
            return _unsuccessful(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
        if serial not in self._revoked:
            return _unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=self._revoked[serial],
            issuer=self._issuer.certificate,
            algorithm=hashes.SHA1(),  # noqa: S303 - names the issuer, and is what clients ask with
            cert_status=ocsp.OCSPCertStatus.REVOKED,
            this_update=self._at - JUST_BEFORE,
            next_update=self._at + LIFETIME,
            revocation_time=self._at - JUST_BEFORE,
            revocation_reason=x509.ReasonFlags.key_compromise,
        )
        signed = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self._issuer.certificate)
        return signed.sign(self._issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def listed(self) -> bytes:
        """The list of all that are revoked, in DER."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._issuer.certificate.subject)
            .last_update(self._at - JUST_BEFORE)
            .next_update(self._at + LIFETIME)
            .add_extension(x509.CRLNumber(len(self._revoked)), critical=False)
        )
        for serial in self._revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(serial)
                .revocation_date(self._at - JUST_BEFORE)
                .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
                .build()
            )
        return builder.sign(self._issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._exchange(reader, writer)
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            log.debug("one who asked for a revocation got no answer: %s", error or "time-out")
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST)
        path, body = "", bytearray()
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(MOST))
            elif isinstance(event, h11.Request):
                path = event.target.decode("ascii", "replace")
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MOST:
                    return
            else:
                return
        if path == "/ocsp":
            status, kind, content = 200, "application/ocsp-response", self.answer(bytes(body))
        elif path.endswith(".crl"):
            status, kind, content = 200, "application/pkix-crl", self.listed()
        else:
            status, kind, content = 404, "text/plain", b"neither /ocsp nor a list\n"
        headers = [("Content-Type", kind), ("Content-Length", str(len(content))), ("Connection", "close")]
        said: Sequence[h11.Event] = (
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=content),
            h11.EndOfMessage(),
        )
        writer.write(b"".join(connection.send(event) or b"" for event in said))
        await writer.drain()


def _unsuccessful(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(serialization.Encoding.DER)
