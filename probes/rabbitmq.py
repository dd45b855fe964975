"""The kind `rabbitmq`: a login, a message there and back through a queue of its own, the state of queues."""

import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import ConfigDict

from stormwatch.probes import backend
from stormwatch.probes.backend import Backend, BackendOptions, detour_of, judge_speed, show_words
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds
from stormwatch.probes.wanted import ExpectValue, Wanted
from stormwatch.probes.watch import Watch

if TYPE_CHECKING:
    from stormwatch.probes.rabbitmq_session import Refused, Session

PORT: Final = 5672
TLS_PORT: Final = 5671
QUEUES: Final = 50
"""Queues that a probe may look at."""

_ACCESS_REFUSED: Final = 403
_NOT_ALLOWED: Final = 530


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectQueue:
    """What a queue must be like. It must be there in any case."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    messages: ExpectValue | None = None
    """How many messages may wait in it."""
    consumers: ExpectValue | None = None
    """How many consumers it must have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectRabbitmq:
    """What must come of the run."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    queues: Mapping[str, ExpectQueue] = field(default_factory=dict[str, ExpectQueue])
    """Queues that must be there, by their names."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RabbitmqOptions(BackendOptions):
    """How to log in, and what to look at."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    virtual_host: str = "/"
    """Name of the virtual host."""
    round_trip: bool = True
    """Publish a message that nobody else has, and receive it, through a queue of the run's own."""
    exchange: str = ""
    """Exchange to publish to, to which the queue is bound; the default exchange when empty."""
    expect: ExpectRabbitmq = field(default_factory=ExpectRabbitmq)
    """What must come of it."""


def build(target: str, options: RabbitmqOptions) -> Check:
    """A check of one broker. Raises ValueError for a target or an option that cannot work."""
    if not options.username and not options.certificate:
        raise ValueError("username: RabbitMQ wants to know who asks: give the name of a user, or a certificate")
    if options.exchange and not options.round_trip:
        raise ValueError("exchange: it is that of a round trip, which `round_trip: false` leaves out")
    if len(options.expect.queues) > QUEUES:
        raise ValueError(f"expect.queues: at most {QUEUES} can be looked at, not {len(options.expect.queues)}")
    queues: list[tuple[str, Wanted | None, Wanted | None]] = []
    for name, queue in options.expect.queues.items():
        wanted = [
            Wanted.of(f"the number of {what} of queue {name}", value, where=f"expect.queues.{name}.{what}")
            if value is not None
            else None
            for what, value in (("messages", queue.messages), ("consumers", queue.consumers))
        ]
        queues.append((name, wanted[0], wanted[1]))
    port = TLS_PORT if options.tls else PORT
    return RabbitmqCheck(
        backend=Backend.of("rabbitmq", target, options, port=port), options=options, queues=tuple(queues)
    )


@dataclass(frozen=True, slots=True, eq=False)
class RabbitmqCheck:
    """Looks at one broker."""

    backend: Backend
    options: RabbitmqOptions
    queues: tuple[tuple[str, Wanted | None, Wanted | None], ...]

    async def __call__(self, watch: Watch) -> None:
        """Connect, shake hands, log in, look at the queues, send a message there and back."""
        from stormwatch.probes.rabbitmq_session import Session

        async with self.backend.opened(watch) as streams:
            if self.backend.context is not None:
                await self.backend.secure(watch, streams)
            session = Session(streams)
            with self._told():
                with watch.phase("greeting"):
                    mechanisms = await session.greet()
                watch.note("server", session.version[:100])
                with watch.phase("login"):
                    await session.log_in(*self._credentials(mechanisms.split()), self.options.virtual_host)
                if self.queues:
                    with watch.phase("queues"):
                        await self._look_at_queues(watch, session)
                if self.options.round_trip:
                    await self._round_trip(watch, session)
                with watch.phase("close"):
                    await session.close()
        judge_speed(watch, self.options.expect.slower_than)

    def _credentials(self, offered: list[str]) -> tuple[str, str]:
        mechanism = "PLAIN" if self.backend.username else "EXTERNAL"
        if mechanism not in offered:
            raise self.backend.refused_login(f"it offers {', '.join(offered)}, not {mechanism}")
        return mechanism, f"\0{self.backend.username}\0{self.backend.password}" if self.backend.username else ""

    async def _look_at_queues(self, watch: Watch, session: "Session") -> None:
        failure: ProbeFailed | None = None
        for name, *wanted in self.queues:
            counts = await session.look_at_queue(name)
            for what, expected, count in zip(("messages", "consumers"), wanted, counts, strict=True):
                watch.measure(f"stormwatch_rabbitmq_queue_{what}", count, queue=name)
                failure = failure or (expected.judge(count) if expected is not None else None)
        if failure is not None:
            raise failure

    async def _round_trip(self, watch: Watch, session: "Session") -> None:
        message = secrets.token_hex(16)
        with watch.phase("declare"):
            key = await session.listen(self.options.exchange, f"stormwatch.{message}")
        with watch.phase("publish"):
            if not await session.publish(self.options.exchange, key, message.encode()):
                raise ProbeFailed(Reason.ASSERTION, f"{self.backend} did not take a message: it answered with a nack")
        with watch.phase("receive"):
            await session.wait_for(message.encode())

    @contextmanager
    def _told(self) -> Generator[None]:
        """What the broker says as our exceptions."""
        from stormwatch.probes.rabbitmq_session import Blocked, Garbled, Refused

        try:
            with self.backend.talking():
                yield
        except Garbled as error:
            raise self.backend.garbled(error) from error
        except Refused as error:
            raise self._explain(error) from error
        except Blocked as error:
            said = show_words(str(error))
            raise ProbeFailed(Reason.ASSERTION, f"{self.backend} blocks publishers: {said}") from error

    def _explain(self, error: "Refused") -> ProbeFailed | ProbeBroken:
        said = f"{error.text} (code {error.code})"
        ours = error.code == _ACCESS_REFUSED or (error.code == _NOT_ALLOWED and "not found" not in error.text)
        if ours:
            return self.backend.refused_login(said)
        return ProbeFailed(Reason.ASSERTION, f"{self.backend} answered with an error: {show_words(said)}")


KIND: Final = Kind(
    name="rabbitmq",
    options=RabbitmqOptions,
    build=build,
    detour=detour_of(PORT, tls_port=TLS_PORT),
    phases=("resolve", "connect", "tls", "greeting", "login", "queues", "declare", "publish", "receive", "close"),
    phase_metric=Metric("stormwatch_rabbitmq_duration_seconds", "Seconds of a look at RabbitMQ by phase"),
    metrics=(
        *backend.METRICS,
        Metric("stormwatch_rabbitmq_queue_messages", "Messages that wait in a queue that `expect.queues` names"),
        Metric("stormwatch_rabbitmq_queue_consumers", "Consumers of a queue that `expect.queues` names"),
    ),
    reasons=backend.REASONS,
    extra="rabbitmq",
    module="pamqp",
)
