"""The kind `smtp`: greeting, EHLO, STARTTLS, a login, a message that is really sent and waited for, and what must be refused."""

import re
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from stormwatch.probes import backend
from stormwatch.probes.backend import judge_speed, show_words
from stormwatch.probes.delivery import ArrivesOptions, Delivery, Mailbox
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.mail_message import Template, check_address, new_identity, owner_tag
from stormwatch.probes.mail_server import MailOptions, MailServer, Wire, detour_of, judge_certificate
from stormwatch.probes.options import STRICT
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.result import Reason
from stormwatch.probes.smtp_reply import Reply, offers
from stormwatch.probes.smtp_session import SmtpSession
from stormwatch.probes.units import Seconds
from stormwatch.probes.watch import Watch

PORT: Final = 25
SHOWN: Final = 40
"""Extensions that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A message to send."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    sender: Annotated[str, Field(alias="from")] = ""
    """Who it is from, in the envelope and in the header; nobody (`<>`) when empty."""
    to: str
    """Who it is for."""
    subject: str = "stormwatch"
    """Its subject."""
    body: str = "A probe of stormwatch sent this message. Nobody needs to read it.\n"
    """Its text."""
    arrives: ArrivesOptions | None = None
    """Where it must arrive; it is not looked for when this is not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectSmtp:
    """What must come of the run."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    greeting: str = ""
    """An RE2 expression that is found in the greeting."""
    capabilities: tuple[str, ...] = ()
    """Extensions that must be offered (after TLS began), with parameters where they matter: `PIPELINING`, `AUTH PLAIN`."""
    rejected: tuple[Annotated[int, Field(ge=400, le=599)], ...] = ()
    """The message must be refused with one of these codes: a relay that must not be open, a virus."""
    rejected_at: Literal["recipient", "data"] = "recipient"
    """When: at the recipient at the latest, and nothing is sent; or after the message itself was sent."""
    no_plain_login: bool = False
    """The server must take no login on a connection without TLS. No password is sent to find out."""
    certificate_expires_within: Seconds | None = None
    """Down, with reason certificate, when the server's certificate expires sooner."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpOptions(MailOptions):
    """How to connect and log in, and what to send."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    ehlo: str = "stormwatch.invalid"
    """The name that we say is ours."""
    mail: Mail | None = None
    """A message to send."""
    greylisting: Literal["down", "ok"] = "down"
    """What it is when the server takes the message not yet (4yz for the recipient or the message)."""
    expect: ExpectSmtp = field(default_factory=ExpectSmtp)
    """What must come of it."""


def build(target: str, options: SmtpOptions) -> Check:
    """A check of one server. Raises ValueError for a target or an option that cannot work."""
    expect, mail = options.expect, options.mail
    server = MailServer.of("smtp", target, options, port=PORT)
    if not re.fullmatch(r"[A-Za-z0-9.\[\]:_-]+", options.ehlo):
        raise ValueError(f"ehlo: {options.ehlo!r} is not a host name or an address in brackets")
    if expect.rejected and mail is None:
        raise ValueError("expect.rejected: give the `mail` that must be refused")
    if expect.rejected and mail is not None and mail.arrives is not None:
        raise ValueError("expect.rejected: a message that must be refused arrives nowhere: leave out `mail.arrives`")
    if expect.no_plain_login and server.tls == "implicit":
        raise ValueError("expect.no_plain_login: with implicit TLS there is no connection without TLS to look at")
    if expect.certificate_expires_within is not None and server.tls == "none":
        raise ValueError("expect.certificate_expires_within: there is no certificate with `tls: none`")
    for each in expect.capabilities:
        if not each.split() or not each.isascii():
            raise ValueError(f"expect.capabilities: {each!r} is no extension")
    template = None
    if mail is not None:
        if mail.sender:
            check_address(mail.sender, where="mail.from")
        template = Template.of(mail.sender, check_address(mail.to, where="mail.to"), mail.subject, mail.body)
    return SmtpCheck(
        server=server,
        options=options,
        greeting=compile_pattern(expect.greeting, "expect.greeting") if expect.greeting else None,
        template=template,
        delivery=Delivery.of(mail.arrives) if mail is not None and mail.arrives is not None else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class SmtpCheck:
    """Talks to one server."""

    server: MailServer
    options: SmtpOptions
    greeting: Pattern | None
    template: Template | None
    delivery: Delivery | None

    async def __call__(self, watch: Watch) -> None:
        """Connect, say hello, log in, send, wait, judge."""
        async with self.server.opened(watch) as wire:
            session = SmtpSession(self.server, wire, self.options.ehlo)
            await self._begin(watch, wire, session)
            if self.server.backend.username:
                with watch.phase("login"):
                    await session.log_in()
            if self.template is not None:
                await self._mail(watch, session, self.template)
            await session.leave(watch.remaining() / 2)
        judge_certificate(watch, self.options.expect.certificate_expires_within)
        judge_speed(watch, self.options.expect.slower_than)

    async def _begin(self, watch: Watch, wire: Wire, session: SmtpSession) -> None:
        expect = self.options.expect
        with watch.phase("greeting"):
            said = await session.greeting()
            watch.note("greeting", show_words(said))
            if self.greeting is not None and not self.greeting.search(said.encode()):
                raise ProbeFailed(
                    Reason.ASSERTION, f"the greeting is {show_words(said)!r}, wanted to match {expect.greeting!r}"
                )
            if self.server.tls != "implicit" and (self.server.tls == "starttls" or expect.no_plain_login):
                await session.hello()
                if expect.no_plain_login and (taken := await session.takes_plain_login()):
                    raise ProbeFailed(
                        Reason.ASSERTION,
                        f"{self.server.backend} takes a login without TLS: it {show_words(taken)}",
                    )
            if self.server.tls == "starttls":
                await session.ask_for_tls()
        if self.server.tls == "starttls":
            await self.server.secure(watch, wire)
        with watch.phase("hello"):
            await session.hello()
            watch.note("capabilities", [show_words(each) for each in session.offered[:SHOWN]])
            missing = [each for each in expect.capabilities if not offers(session.offered, each)]
            if missing:
                raise ProbeFailed(
                    Reason.ASSERTION,
                    f"{self.server.backend} does not offer {', '.join(missing)}: "
                    f"it offers {show_words(', '.join(session.offered)) or 'nothing'}",
                )

    async def _mail(self, watch: Watch, session: SmtpSession, template: Template) -> None:
        tag = owner_tag(watch.probe)
        identity = new_identity(tag, watch.clock.now(), secrets.token_hex(8))
        async with AsyncExitStack() as stack:
            mailbox: Mailbox | None = None
            if self.delivery is not None:
                with watch.phase("mailbox"):
                    try:
                        mailbox = await stack.enter_async_context(self.delivery.opened(watch, tag))
                    except Exception as error:
                        raise self.delivery.explain(error, "mailbox") from error
            # Told here what it is, or it would pass for the end of the other connection.
            with watch.phase("mail"), self.server.backend.talking():
                accepted = await self._send(watch, session, template.message(identity, watch.clock.now()))
            if mailbox is None or accepted is None:
                return
            assert self.delivery is not None
            with watch.phase("delivery"):
                try:
                    with self.delivery.server.backend.talking():
                        await self._wait(watch, mailbox, identity, str(accepted))
                except (ProbeFailed, ProbeBroken) as failure:
                    if failure.phase == "delivery":
                        raise
                    raise self.delivery.explain(failure, "delivery") from failure

    async def _send(self, watch: Watch, session: SmtpSession, message: bytes) -> Reply | None:
        """The reply with which the message was taken; None when it was refused and that is well."""
        mail, expect = self.options.mail, self.options.expect
        assert mail is not None
        at_data = expect.rejected_at == "data"
        for command in (f"MAIL FROM:<{mail.sender}>", f"RCPT TO:<{mail.to}>"):
            reply = await session.ask(command)
            if not reply.good:
                if expect.rejected and not at_data:
                    return self._judge_rejection(watch, command, reply)
                return self._refused(watch, session, command, reply, greylists=command.startswith("RCPT"))
        if expect.rejected and not at_data:
            raise ProbeFailed(
                Reason.ASSERTION,
                f"{self.server.backend} takes a message for {mail.to} that it must refuse, and answered {reply}: "
                "is it an open relay?",
            )
        reply, taken, what = await session.ask("DATA"), False, "DATA"
        if reply.code == 354:
            reply, what = await session.body(message), "the message"
            taken = reply.good
        if not taken:
            if expect.rejected and not reply.good:
                return self._judge_rejection(watch, what, reply)
            return self._refused(watch, session, what, reply, greylists=True)
        if expect.rejected:
            raise ProbeFailed(
                Reason.ASSERTION, f"{self.server.backend} took a message that it must refuse, and answered {reply}"
            )
        watch.note("accepted", str(reply))
        return reply

    def _judge_rejection(self, watch: Watch, what: str, reply: Reply) -> None:
        watch.note("rejected", str(reply))
        codes = self.options.expect.rejected
        if reply.code not in codes:
            raise ProbeFailed(
                Reason.ASSERTION,
                f"{self.server.backend} refused {what} with {reply}, wanted {' or '.join(map(str, codes))}",
            )

    def _refused(self, watch: Watch, session: SmtpSession, what: str, reply: Reply, *, greylists: bool) -> None:
        if greylists and reply.temporary:
            watch.note("greylisted", str(reply))
            if self.options.greylisting == "ok":
                return
        raise session.refused(what, reply)

    async def _wait(self, watch: Watch, mailbox: Mailbox, identity: str, accepted: str) -> None:
        began = watch.clock.monotonic()
        uid, header = await mailbox.wait_for(watch, identity, accepted)
        watch.measure("stormwatch_smtp_delivery_seconds", watch.clock.monotonic() - began)
        watch.measure("stormwatch_smtp_hops", len(header.hops))
        if header.seconds is not None:
            watch.measure("stormwatch_smtp_received_seconds", header.seconds)
        watch.note("hops", header.as_evidence())
        if header.authentication:
            watch.note("authentication_results", header.authentication)
        await mailbox.delete(uid)


KIND: Final = Kind(
    name="smtp",
    options=SmtpOptions,
    build=build,
    detour=detour_of("smtp", port=PORT),
    phases=("resolve", "connect", "tls", "greeting", "hello", "login", "mailbox", "mail", "delivery"),
    phase_metric=Metric("stormwatch_smtp_duration_seconds", "Seconds of a look at a mail server by phase"),
    metrics=(
        *backend.METRICS,
        Metric(
            "stormwatch_smtp_delivery_seconds",
            "Seconds from the server's taking a message to its being seen in the mailbox",
        ),
        Metric("stormwatch_smtp_hops", "Hosts that took the message on its way, by its Received fields"),
        Metric("stormwatch_smtp_received_seconds", "Seconds from the first of them to the last, by their own clocks"),
    ),
    reasons=backend.REASONS,
)
