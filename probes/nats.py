"""The kind `nats`: a login, a message there and back, the state of a JetStream stream and its consumer.

A cluster's gossip of other servers is not followed: a probe says something about the server that it names.
"""

import json
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import ConfigDict

from stormwatch.probes import backend
from stormwatch.probes.backend import Backend, BackendOptions, Streams, detour_of, judge_speed, show_words
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.options import STRICT, Secret
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds
from stormwatch.probes.wanted import ExpectValue, Wanted
from stormwatch.probes.watch import Watch

if TYPE_CHECKING:
    from stormwatch.probes.nats_session import Session

PORT: Final = 4222
FOREVER: Final = 2**31
"""Seconds that the driver may wait: the run's deadline ends before them."""

_CREDENTIALS: Final = ("authorization violation", "authentication", "permissions violation")
"""What `-ERR` says when it is about who we are, https://docs.nats.io/reference/reference-protocols/nats-protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectNats:
    """What must come of the run."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    messages: ExpectValue | None = None
    """How many messages the stream must hold."""
    consumers: ExpectValue | None = None
    """How many consumers the stream must have."""
    pending: ExpectValue | None = None
    """How many messages may wait for the consumer."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsOptions(BackendOptions):
    """How to log in, and what to look at."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    token: Secret = field(default="", repr=False)
    """Log in with a token instead. Write it as `${env:NAME}` or `${file:PATH}`."""
    round_trip: bool = True
    """Publish a message that nobody else has, and receive it."""
    subject: str = ""
    """Subject of that message; an inbox of the run's own when empty. Whoever else listens there gets it too."""
    stream: str = ""
    """Name of a JetStream stream that must be there."""
    consumer: str = ""
    """Name of a consumer that the stream must have."""
    expect: ExpectNats = field(default_factory=ExpectNats)
    """What must come of it."""


def build(target: str, options: NatsOptions) -> Check:
    """A check of one server. Raises ValueError for a target or an option that cannot work."""
    expect = options.expect
    if options.token and (options.username or options.password):
        raise ValueError("token: give it, or username and password")
    if options.subject and (not options.round_trip or not _is_subject(options.subject)):
        raise ValueError("subject: it is that of a round trip, in words with dots between them, without * and >")
    if options.consumer and not options.stream:
        raise ValueError("consumer: it is one of a stream: give `stream` too")
    if (expect.messages or expect.consumers) and not options.stream:
        raise ValueError("expect.messages and expect.consumers are about a stream: give `stream` too")
    if expect.pending and not options.consumer:
        raise ValueError("expect.pending is about a consumer: give `consumer` too")
    wanted = {
        name: Wanted.of(what, value, where=f"expect.{name}")
        for name, what, value in (
            ("messages", f"the number of messages of stream {options.stream}", expect.messages),
            ("consumers", f"the number of consumers of stream {options.stream}", expect.consumers),
            ("pending", f"the number of messages pending for consumer {options.consumer}", expect.pending),
        )
        if value is not None
    }
    return NatsCheck(backend=Backend.of("nats", target, options, port=PORT), options=options, wanted=wanted)


def _is_subject(text: str) -> bool:
    return all(word and not set(word) & set("*> \t\r\n") for word in text.split("."))


@dataclass(frozen=True, slots=True, eq=False)
class NatsCheck:
    """Looks at one server."""

    backend: Backend
    options: NatsOptions
    wanted: dict[str, Wanted]

    async def __call__(self, watch: Watch) -> None:
        """Connect, shake hands, log in, send a message there and back, look at the stream."""
        from stormwatch.probes.nats_session import Session

        async with self.backend.opened(watch) as streams:
            with watch.phase("greeting"):
                info = await self._greeting(streams)
            watch.note("server", {"version": str(info.get("version"))[:64], "name": str(info.get("server_name"))[:64]})
            await self._settle_tls(watch, streams, info)
            session = Session(self.backend, streams, info)
            try:
                with self._told():
                    with watch.phase("login"):
                        await session.log_in(self.options.token)
                        if not session.is_connected:
                            raise self.backend.garbled("something else than PONG after a login")
                    if self.options.round_trip:
                        await self._round_trip(watch, session)
                    if self.options.stream:
                        with watch.phase("stream"):
                            await session.unless_trouble(self._look_at_stream(watch, session))
            finally:
                await session.let_go()
        judge_speed(watch, self.options.expect.slower_than)

    async def _greeting(self, streams: Streams) -> dict[str, Any]:
        with self.backend.talking():
            try:
                line = await streams.reader.readline()
            except ValueError:  # asyncio's word for a line that is too long
                raise self.backend.garbled("a line without end") from None
        if not line:
            raise self.backend.hung_up()
        info = read_greeting(line)
        if info is None:
            raise self.backend.garbled(f"a first line {line[:60]!r}")
        return info

    async def _settle_tls(self, watch: Watch, streams: Streams, info: dict[str, Any]) -> None:
        """Before the driver has anything to say: it would send the password in clear text if TLS were not offered."""
        if self.backend.context is None:
            if info.get("tls_required"):
                raise ProbeFailed(Reason.TLS, f"{self.backend} demands TLS: give `tls: true`", phase="tls")
            return
        if not (info.get("tls_required") or info.get("tls_available")):
            raise ProbeFailed(Reason.TLS, f"{self.backend} does not offer TLS, wanted it", phase="tls")
        await self.backend.secure(watch, streams, prelude=_read_line)

    async def _round_trip(self, watch: Watch, session: "Session") -> None:
        body = secrets.token_hex(16).encode()
        subject = self.options.subject or session.new_inbox()
        with watch.phase("publish"):
            subscription = await session.subscribe(subject)
            await session.publish(subject, body)
            await session.unless_trouble(session.flush(FOREVER))
        with watch.phase("receive"):
            while True:
                message = await session.unless_trouble(subscription.next_msg(FOREVER))
                if message.data == body:
                    return

    async def _look_at_stream(self, watch: Watch, session: "Session") -> None:
        from nats.js.errors import NoStreamResponseError, NotFoundError, ServiceUnavailableError

        streams = session.jetstream(timeout=FOREVER)
        what = f"stream {self.options.stream}"
        try:
            stream = (await streams.stream_info(self.options.stream)).state
            self._judge(watch, "messages", stream.messages)
            self._judge(watch, "consumers", stream.consumer_count)
            if self.options.consumer:
                what = f"consumer {self.options.consumer} of {what}"
                consumer = await streams.consumer_info(self.options.stream, self.options.consumer)
                self._judge(watch, "pending", consumer.num_pending or 0)
        except NotFoundError as error:
            raise ProbeFailed(Reason.ASSERTION, f"{self.backend} has no {what}") from error
        except (ServiceUnavailableError, NoStreamResponseError) as error:
            raise ProbeFailed(Reason.ASSERTION, f"{self.backend} has no JetStream that answers") from error

    def _judge(self, watch: Watch, name: str, value: int) -> None:
        watch.measure(f"stormwatch_nats_stream_{name}", value)
        wanted = self.wanted.get(name)
        if wanted is not None and (failure := wanted.judge(value)) is not None:
            raise failure

    @contextmanager
    def _told(self) -> Generator[None]:
        """The driver's exceptions and the server's errors as ours."""
        from nats.errors import ConnectionClosedError, Error, ProtocolError, UnexpectedEOF

        try:
            with self.backend.talking():
                yield
        except (ConnectionClosedError, UnexpectedEOF) as error:
            raise self.backend.hung_up(error) from error
        except ProtocolError as error:
            raise self.backend.garbled(error) from error
        except Error as error:
            raise self._explain(str(error).removeprefix("nats: ").strip("'\"\r\n ")) from error
        except (ValueError, KeyError, TypeError) as error:
            raise self.backend.garbled(error) from error

    def _explain(self, said: str) -> ProbeFailed | ProbeBroken:
        if any(each in said.lower() for each in _CREDENTIALS):
            return self.backend.refused_login(said)
        return ProbeFailed(Reason.ASSERTION, f"{self.backend} answered with an error: {show_words(said)}")


def read_greeting(line: bytes) -> dict[str, Any] | None:
    """What INFO says, a JSON object; None for a line that is none."""
    word, _, said = line.partition(b" ")
    if word != b"INFO":
        return None
    try:
        info = json.loads(said)
    except (ValueError, RecursionError):
        return None
    return info if isinstance(info, dict) else None


async def _read_line(streams: Streams) -> None:
    await streams.reader.readline()


KIND: Final = Kind(
    name="nats",
    options=NatsOptions,
    build=build,
    detour=detour_of(PORT),
    phases=("resolve", "connect", "greeting", "tls", "login", "publish", "receive", "stream"),
    phase_metric=Metric("stormwatch_nats_duration_seconds", "Seconds of a look at NATS by phase"),
    metrics=(
        *backend.METRICS,
        Metric("stormwatch_nats_stream_messages", "Messages that the stream holds"),
        Metric("stormwatch_nats_stream_consumers", "Consumers of the stream"),
        Metric("stormwatch_nats_stream_pending", "Messages of the stream that wait for the consumer"),
    ),
    reasons=backend.REASONS,
    extra="nats",
    module="nats",
)
