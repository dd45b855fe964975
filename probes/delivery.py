"""Waiting for a message in a mailbox: found by its id over IMAP, its way measured, deleted; old ones are cleaned up."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Final, Self

from pydantic import ConfigDict

from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain
from stormwatch.probes.imap_response import mailbox_name, pairs
from stormwatch.probes.imap_session import ImapSession
from stormwatch.probes.mail_message import ID, Header, read_header, sent_at
from stormwatch.probes.mail_server import MailOptions, MailServer
from stormwatch.probes.options import STRICT
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds, show_duration
from stormwatch.probes.watch import Watch

MARGIN: Final = 0.05
"""Seconds before the deadline at which waiting is given up: after it, nobody could say where the message is missing."""
LEFT_OVER: Final = 3600.0
"""Seconds after which a message of an earlier run is left over. Another prober may still wait for a younger one."""
CLEANED: Final = 100
"""Messages that are cleaned up in one run."""
FIRST_PAUSE: Final = 0.1
"""Seconds between the first two looks at a mailbox whose server has no IDLE; each pause is half as long again."""
LONGEST_PAUSE: Final = 5.0
"""Also between two looks while idling: not every server tells of every message."""

_IDLE: Final = "IDLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivesOptions(MailOptions):
    """Where the message must arrive."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    imap: str
    """The IMAP server with the mailbox, `host:port` or `host` (port 993)."""
    mailbox: str = "INBOX"
    """The mailbox to look into. It is best a probe's own."""
    within: Seconds | None = None
    """Down, with reason timeout, when it is not there so long after the server took it; the probe's `timeout` is the
    limit in any case."""
    delete: bool = True
    """Delete it there, and what runs left there that were cut off more than an hour ago."""


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """Where messages of a probe arrive."""

    server: MailServer
    mailbox: str = field(repr=False)
    options: ArrivesOptions

    @classmethod
    def of(cls, options: ArrivesOptions) -> Self:
        """Raises ValueError for an option that cannot work."""
        if not options.username:
            raise ValueError("mail.arrives.username: nobody has a mailbox without one: give `username` and `password`")
        try:
            return cls(
                server=MailServer.of("imap", options.imap, options, port=993),
                mailbox=mailbox_name(options.mailbox),
                options=options,
            )
        except ValueError as error:
            raise ValueError(f"mail.arrives: {error}") from None

    @asynccontextmanager
    async def opened(self, watch: Watch, tag: str) -> AsyncGenerator["Mailbox"]:
        """The mailbox, logged in to and cleaned up. What goes wrong there is told as such, in phase `mailbox`.

        It is opened before anything is sent: a message that nobody could fetch would stay for ever.
        """
        # Its connection is another one: what it measures must not pass for what is known of the SMTP server's.
        aside = Watch(
            clock=watch.clock,
            resources=watch.resources,
            timeout=watch.remaining(),
            probe=watch.probe,
            trace_id=watch.trace_id,
            reach=watch.reach,
        )
        async with self.server.opened(aside) as wire:
            session = ImapSession(self.server, wire)
            await session.begin(aside)
            await session.log_in()
            await session.ask_capabilities()
            await session.open(self.mailbox, writing=self.options.delete)
            mailbox = Mailbox(session, self)
            if self.options.delete:
                await mailbox.clean(tag, watch.clock.now())
            yield mailbox
            await session.leave(watch.remaining() / 2)

    def explain(self, error: Exception, phase: str) -> ProbeFailed | ProbeBroken:
        """What went wrong there, naming the place."""
        failure = explain(error)
        message = f"the mailbox at {self.server.backend}: {failure.message}"
        return type(failure)(failure.reason, message, phase=phase)


class Mailbox:
    """An open one."""

    def __init__(self, session: ImapSession, delivery: Delivery) -> None:
        self._session = session
        self._delivery = delivery

    async def clean(self, tag: str, now: float) -> None:
        """Delete what earlier runs of this probe left."""
        uids = (await self._session.search(f'UNDELETED HEADER {ID} "{tag}-"'))[:CLEANED]
        old = [
            uid
            for uid in uids
            if (sent := sent_at((await self.header(uid)).identity, tag)) is not None and now - sent > LEFT_OVER
        ]
        if old:
            await self._session.delete(tuple(old))

    async def wait_for(self, watch: Watch, identity: str, accepted: str) -> tuple[int, Header]:
        """The message with that id, when it is there. Raises ProbeFailed when that is not in time."""
        began = watch.clock.monotonic()
        within = self._delivery.options.within
        end = watch.deadline - MARGIN
        if within is not None:
            end = min(end, began + within)
        pause = FIRST_PAUSE
        while True:
            for uid in await self._session.search(f'UNDELETED HEADER {ID} "{identity}"'):
                header = await self.header(uid)
                if header.identity == identity:
                    return uid, header
            left = end - watch.clock.monotonic()
            if left <= 0:
                raise ProbeFailed(
                    Reason.TIMEOUT,
                    f"the message is not in mailbox {self._delivery.options.mailbox} at {self._delivery.server.backend} "
                    f"{show_duration(watch.clock.monotonic() - began)} after the server took it with {accepted!r}",
                    phase="delivery",
                )
            if _IDLE in self._session.capabilities:
                await self._session.idle(min(left, LONGEST_PAUSE))
            else:
                await asyncio.sleep(min(left, pause))
                pause = min(LONGEST_PAUSE, pause * 1.5)
                await self._session.ask("NOOP")

    async def header(self, uid: int) -> Header:
        """The header of a message."""
        done, responses = await self._session.ask(f"UID FETCH {uid} (BODY.PEEK[HEADER])")
        self._session.must(done, "to show a message")
        for each in responses:
            values = each.values[0] if each.name == "FETCH" and each.values else None
            head = pairs(values).get("BODY[HEADER]") if isinstance(values, tuple) else None
            if isinstance(head, bytes):
                return read_header(head)
        return Header("", (), "")

    async def delete(self, uid: int) -> None:
        """Take a message away."""
        if self._delivery.options.delete:
            await self._session.delete((uid,))
