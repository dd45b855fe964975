"""What the kinds that talk over a stream share: TLS options, the dialogue, and how both are carried out on a connection.

The handshake itself accepts any certificate, so that its facts are seen in every case, with one connection. Trust is
judged at once afterwards, before anything is said.
"""

import asyncio
import socket
import ssl
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from stormwatch.probes import certificate
from stormwatch.probes.answer import expiry_message
from stormwatch.probes.authorization import ClientCertificate
from stormwatch.probes.certificate import NOT_VERIFIED, NotTrusted, Trust, load_trust
from stormwatch.probes.channel import Channel, Session
from stormwatch.probes.dialogue import METRICS as DIALOGUE_METRICS
from stormwatch.probes.dialogue import Conversation, Dialogue, Listen, Mismatch, Send, Step
from stormwatch.probes.endpoint import check_host
from stormwatch.probes.failure import ProbeFailed, explain
from stormwatch.probes.options import STRICT, File
from stormwatch.probes.result import Reason
from stormwatch.probes.watch import Watch

TlsVersion = Literal["1.0", "1.1", "1.2", "1.3"]
_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}

METRICS: Final = (*DIALOGUE_METRICS, *certificate.METRICS)


def _told(description: str) -> Any:
    """A field's description. pydantic does not see the docstrings of inherited fields."""
    return Field(description=description)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """TLS, and what to talk about."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    tls: Annotated[bool, _told("Shake hands before the dialogue.")] = False
    ca_file: Annotated[File, _told("PEM file of the certificate authorities to trust; the system's when empty.")] = ""
    server_name: Annotated[
        str,
        _told("Name to ask for in the handshake, and that the certificate must be for; the target's host when empty."),
    ] = ""
    verify: Annotated[
        bool, _told("Whether the server's certificate must be valid. Its facts are exported either way.")
    ] = True
    tls_min: Annotated[TlsVersion, _told("Oldest version of TLS to offer.")] = "1.2"
    tls_max: Annotated[TlsVersion, _told("Newest version of TLS to offer.")] = "1.3"
    client_certificate: Annotated[
        ClientCertificate | None, _told("Certificate and key for servers that ask for one.")
    ] = None
    dialogue: Annotated[tuple[Step, ...], _told("What is said and heard, step by step.")] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Talk:
    """What is done on a connection once it stands. Made once, for every run."""

    name: str
    """What the certificate must be for."""
    dialogue: Dialogue
    secure: bool
    context: ssl.SSLContext | None
    trust: Trust | None
    least_left: float | None
    """Seconds that every served certificate must be valid for."""

    @classmethod
    def of(cls, options: StreamOptions, host: str, *, least_left: float | None = None) -> "Talk":
        """Raises ValueError for options that cannot work. `host` is the target's, and empty when it has none."""
        dialogue = Dialogue.of(options.dialogue, secure=options.tls)
        tls = options.tls or dialogue.secures
        if not tls and (options.ca_file or options.server_name or not options.verify or options.client_certificate):
            raise ValueError(
                "ca_file, server_name, verify and client_certificate are for TLS: give `tls: true`, or a step `starttls`"
            )
        if not tls and least_left is not None:
            raise ValueError("expect.certificate_expires_within: give `tls: true`, or a step `starttls`")
        name = check_host(options.server_name, what="server_name") if options.server_name else host
        if tls and options.verify and not name:
            raise ValueError("server_name: a Unix socket has no name that a certificate could be for: give one")
        return cls(
            name=name,
            dialogue=dialogue,
            secure=options.tls,
            context=_context(options) if tls else None,
            trust=load_trust(options.ca_file)[1] if tls and options.verify else None,
            least_left=least_left,
        )

    async def hold(self, watch: Watch, connection: socket.socket) -> None:
        """Shake hands and talk, on a connected socket, which is closed in every case.

        Measures the facts of certificates, `probe_failed_due_to_regex`, `probe_failed_due_to_bytes` and `probe_expect_info`.
        """
        channel = Channel(connection)
        talk = Conversation(self.dialogue)
        failed = ""
        try:
            if self.secure:
                await self._shake_hands(watch, channel)
            if self.dialogue.steps:
                await self._converse(watch, channel, talk)
        except Mismatch as mismatch:
            failed = mismatch.metric
            raise
        finally:
            channel.close()
            measure_failed(watch, failed)
            if talk.labels:
                watch.measure("probe_expect_info", 1, **talk.labels)
            if talk.text:
                watch.note("heard", talk.text.decode("utf-8", "replace"))

    async def _converse(self, watch: Watch, channel: Channel, talk: Conversation) -> None:
        while await _stretch(watch, channel, talk):
            await self._shake_hands(watch, channel)

    async def _shake_hands(self, watch: Watch, channel: Channel) -> None:
        assert self.context is not None
        with watch.phase("tls"):
            try:
                session = await channel.secure(self.context, self.name)
            except ssl.SSLError as error:
                raise explain(error) from error
            except (EOFError, ConnectionError) as error:
                said = "the connection was closed during the TLS handshake: does the server speak TLS there?"
                raise ProbeFailed(Reason.TLS, said) from error
            self._judge(watch, session)

    def _judge(self, watch: Watch, session: Session) -> None:
        now, verified, distrust = watch.clock.now(), NOT_VERIFIED, None
        if self.trust is not None:
            try:
                verified = self.trust.verify(session.chain, self.name, now)
            except NotTrusted as error:
                distrust = error
        chain = certificate.measure(watch, session, verified_expiry=None if distrust else verified)
        if distrust is not None:
            raise ProbeFailed(Reason.CERTIFICATE, str(distrust)) from distrust
        left = chain.expires - now
        if self.least_left is not None and left < self.least_left:
            raise ProbeFailed(Reason.CERTIFICATE, expiry_message(left, self.least_left))


async def _stretch(watch: Watch, channel: Channel, talk: Conversation) -> bool:
    """Carry out the steps, in phase `dialogue`, until TLS begins; false when they are over."""
    with watch.phase("dialogue"):
        while (action := talk.next()) is not None:
            if isinstance(action, Send):
                await channel.send(action.data)
            elif isinstance(action, Listen):
                await _listen(channel, talk, action.within)
            else:
                return True
    return False


async def _listen(channel: Channel, talk: Conversation, within: float | None) -> None:
    limit = asyncio.timeout(within)
    try:
        async with limit:
            while True:
                data = await channel.receive()
                if talk.hear(data) if data else talk.ended():
                    return
                await asyncio.sleep(
                    0
                )  # a socket that is never empty would keep the loop, and the deadline, from running
    except TimeoutError:
        if not limit.expired():
            raise
        talk.lapsed()


def measure_failed(watch: Watch, metric: str) -> None:
    """Write down whether it was an expression or bytes that the run failed for; by its metric's name."""
    for name in ("probe_failed_due_to_regex", "probe_failed_due_to_bytes"):
        watch.measure(name, metric == name)


def _context(options: StreamOptions) -> ssl.SSLContext:
    least, most = _VERSIONS[options.tls_min], _VERSIONS[options.tls_max]
    if least > most:
        raise ValueError(f"tls_min {options.tls_min} is newer than tls_max {options.tls_max}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # whoever asks for an old version wants to see it
        context.minimum_version, context.maximum_version = least, most
    if least < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # OpenSSL 3 has old versions only without a level of security
    if options.client_certificate is not None:
        _show_ours(context, options.client_certificate)
    return context


def _show_ours(context: ssl.SSLContext, client: ClientCertificate) -> None:
    client.check("client_certificate")
    with tempfile.TemporaryDirectory(prefix="stormwatch-") as directory:  # only root and we may look into it
        files = [Path(directory, "certificate"), Path(directory, "key")]
        for file, text in zip(files, (client.certificate_pem, client.key_pem), strict=True):
            file.write_text(text)
        context.load_cert_chain(client.certificate or files[0], client.key or files[1])
