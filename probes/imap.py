"""The kind `imap`: greeting, capabilities, a login, a mailbox: how many messages, how old the newest, what a search finds."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final

from pydantic import ConfigDict

from stormwatch.probes import backend
from stormwatch.probes.answer import show_rough
from stormwatch.probes.backend import judge_speed, show_words
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.imap_response import Value, mailbox_name, pairs
from stormwatch.probes.imap_session import ImapSession
from stormwatch.probes.mail_server import MailOptions, MailServer, Wire, detour_of, judge_certificate
from stormwatch.probes.options import STRICT
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds, show_duration
from stormwatch.probes.wanted import ExpectValue, Wanted
from stormwatch.probes.watch import Watch

PORT: Final = 143
SHOWN: Final = 80
"""Capabilities that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectImap:
    """What must come of the run."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    greeting: str = ""
    """An RE2 expression that is found in the greeting."""
    capabilities: tuple[str, ...] = ()
    """What must be offered, after the login if there is one: `IDLE`, `AUTH=PLAIN`."""
    no_plain_login: bool = False
    """The server must take no login on a connection without TLS. No password is sent to find out."""
    messages: ExpectValue | None = None
    """How many messages the mailbox must have."""
    unseen: ExpectValue | None = None
    """How many of them nobody has seen."""
    found: ExpectValue | None = None
    """How many `search` must find."""
    newest_within: Seconds | None = None
    """The newest message must not be older; an empty mailbox has none."""
    certificate_expires_within: Seconds | None = None
    """Down, with reason certificate, when the server's certificate expires sooner."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImapOptions(MailOptions):
    """How to connect and log in, and what to look at."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    mailbox: str = ""
    """The mailbox to look into; none when empty. It is opened for reading only."""
    search: str = ""
    """What to search there, in IMAP's words (RFC 9051 §6.4.4): `UNSEEN FROM "shop@"`."""
    expect: ExpectImap = field(default_factory=ExpectImap)
    """What must come of it."""


def build(target: str, options: ImapOptions) -> Check:
    """A check of one server. Raises ValueError for a target or an option that cannot work."""
    expect = options.expect
    server = MailServer.of("imap", target, options, port=PORT)
    asked = [name for name in ("messages", "unseen", "found", "newest_within") if getattr(expect, name) is not None]
    if (asked or options.search) and not options.mailbox:
        raise ValueError(f"{f'expect.{asked[0]}' if asked else 'search'}: give the `mailbox` to look into")
    if options.mailbox and not options.username:
        raise ValueError("mailbox: only who is logged in has one: give `username` and `password`")
    if expect.found is not None and not options.search:
        raise ValueError("expect.found: give the `search`")
    if not options.search.isascii() or not options.search.isprintable() or options.search.endswith("}"):
        raise ValueError("search: IMAP's words are printable ASCII on one line, without literals")
    if expect.no_plain_login and server.tls == "implicit":
        raise ValueError("expect.no_plain_login: with implicit TLS there is no connection without TLS to look at")
    if expect.certificate_expires_within is not None and server.tls == "none":
        raise ValueError("expect.certificate_expires_within: there is no certificate with `tls: none`")
    wanted = {
        name: Wanted.of(what, value, where=f"expect.{name}")
        for name, what in (
            ("messages", "the number of messages"),
            ("unseen", "the number of unseen messages"),
            ("found", "the number of messages found"),
        )
        if (value := getattr(expect, name)) is not None
    }
    try:
        mailbox = mailbox_name(options.mailbox) if options.mailbox else ""
    except ValueError as error:
        raise ValueError(f"mailbox: {error}") from None
    return ImapCheck(
        server=server,
        options=options,
        mailbox=mailbox,
        greeting=compile_pattern(expect.greeting, "expect.greeting") if expect.greeting else None,
        wanted=wanted,
    )


@dataclass(frozen=True, slots=True, eq=False)
class ImapCheck:
    """Talks to one server."""

    server: MailServer
    options: ImapOptions
    mailbox: str
    """As it stands in commands; empty for none."""
    greeting: Pattern | None
    wanted: dict[str, Wanted]

    async def __call__(self, watch: Watch) -> None:
        """Connect, log in, look, judge."""
        async with self.server.opened(watch) as wire:
            session = ImapSession(self.server, wire)
            await self._begin(watch, wire, session)
            if self.server.backend.username:
                with watch.phase("login"):
                    await session.log_in()
                    await session.ask_capabilities()
            self._judge_capabilities(watch, session)
            if self.mailbox:
                with watch.phase("mailbox"):
                    await self._look(watch, session)
            await session.leave(watch.remaining() / 2)
        judge_certificate(watch, self.options.expect.certificate_expires_within)
        judge_speed(watch, self.options.expect.slower_than)

    async def _begin(self, watch: Watch, wire: Wire, session: ImapSession) -> None:
        expect = self.options.expect
        with watch.phase("greeting"):
            await session.greet()
            watch.note("greeting", show_words(session.greeting))
            if self.greeting is not None and not self.greeting.search(session.greeting.encode()):
                raise ProbeFailed(
                    Reason.ASSERTION,
                    f"the greeting is {show_words(session.greeting)!r}, wanted to match {expect.greeting!r}",
                )
            if expect.no_plain_login:
                await session.ask_capabilities()
                if taken := await session.takes_plain_login():
                    raise ProbeFailed(Reason.ASSERTION, f"{self.server.backend} takes a login without TLS: it {taken}")
            if self.server.tls == "starttls":
                await session.ask_for_tls()
        if self.server.tls == "starttls":
            await self.server.secure(watch, wire)
        with watch.phase("capability"):
            await session.ask_capabilities()

    def _judge_capabilities(self, watch: Watch, session: ImapSession) -> None:
        watch.note("capabilities", [show_words(each) for each in sorted(session.capabilities)[:SHOWN]])
        missing = [each for each in self.options.expect.capabilities if each.upper() not in session.capabilities]
        if missing:
            raise ProbeFailed(
                Reason.ASSERTION,
                f"{self.server.backend} does not offer {', '.join(missing)}: "
                f"it offers {show_words(', '.join(sorted(session.capabilities))) or 'nothing'}",
                phase="capability",
            )

    async def _look(self, watch: Watch, session: ImapSession) -> None:
        seen: dict[str, int] = {}
        if "unseen" in self.wanted:
            seen["unseen"] = await self._unseen(session)
        seen["messages"] = await session.open(self.mailbox)
        if self.options.search:
            seen["found"] = await session.count(self.options.search)
        for name, number in seen.items():
            watch.measure(f"stormwatch_imap_{name}", number)
        age = None
        if self.options.expect.newest_within is not None and seen["messages"]:
            age = watch.clock.now() - await self._newest(session)
            watch.measure("stormwatch_imap_newest_age_seconds", age)
        for name, wanted in self.wanted.items():
            if (failure := wanted.judge(seen[name])) is not None:
                raise failure
        within = self.options.expect.newest_within
        if within is not None and (age is None or age > within):
            was = "there is none" if age is None else f"the newest message is {show_rough(max(0.0, age))} old"
            raise ProbeFailed(Reason.ASSERTION, f"{was}, wanted a message of the last {show_duration(within)}")

    async def _unseen(self, session: ImapSession) -> int:
        done, responses = await session.ask(f"STATUS {self.mailbox} (UNSEEN)")
        session.must(done, "the status of the mailbox")
        for each in responses:
            if each.name == "STATUS" and each.values and isinstance(each.values[-1], tuple):
                number = pairs(each.values[-1]).get("UNSEEN")
                if isinstance(number, bytes) and number.isdigit():
                    return int(number[:10])
        raise self.server.backend.garbled("a status without a number of unseen messages")

    async def _newest(self, session: ImapSession) -> float:
        done, responses = await session.ask("FETCH * (INTERNALDATE)")
        session.must(done, "to show the newest message")
        for each in responses:
            if each.name == "FETCH" and each.values and isinstance(each.values[0], tuple):
                moment = read_internal_date(pairs(each.values[0]).get("INTERNALDATE"))
                if moment is not None:
                    return moment
        raise self.server.backend.garbled("a message without INTERNALDATE")


_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def read_internal_date(value: Value) -> float | None:
    """`"17-Jul-1996 02:44:25 -0700"` in Unix time; None for what is none. Not by strptime: its months follow the locale."""
    text = value.decode("ascii", "replace").strip() if isinstance(value, bytes) else ""
    try:
        day, month, rest = text.split("-", 2)
        year, clock, zone = rest.split(" ")
        number = _MONTHS.index(month.lower()) + 1
        return datetime.fromisoformat(f"{year}-{number:02}-{int(day):02}T{clock}{zone[:3]}:{zone[3:]}").timestamp()
    except (ValueError, OverflowError):
        return None


KIND: Final = Kind(
    name="imap",
    options=ImapOptions,
    build=build,
    detour=detour_of("imap", port=PORT),
    phases=("resolve", "connect", "tls", "greeting", "capability", "login", "mailbox"),
    phase_metric=Metric("stormwatch_imap_duration_seconds", "Seconds of a look at a mailbox by phase"),
    metrics=(
        *backend.METRICS,
        Metric("stormwatch_imap_messages", "Messages in the mailbox"),
        Metric("stormwatch_imap_unseen", "Messages in the mailbox that nobody has seen"),
        Metric("stormwatch_imap_found", "Messages that the search found"),
        Metric("stormwatch_imap_newest_age_seconds", "Seconds since the newest message came into the mailbox"),
    ),
    reasons=backend.REASONS,
)
