"""The kind `redis`: a login, PING, commands with expectations, a written key read back, fields of INFO.

Redirects of a cluster (MOVED, ASK) and of Sentinel are never followed: a probe says something about the node it names.
"""

import secrets
import shlex
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from stormwatch.probes import backend
from stormwatch.probes.backend import Backend, BackendOptions, Streams, detour_of, judge_speed, show_words
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds
from stormwatch.probes.wanted import ExpectValue, Wanted, as_number, as_text
from stormwatch.probes.watch import Watch

if TYPE_CHECKING:
    from redis.asyncio.connection import Connection

PORT: Final = 6379
EXPIRES: Final = 60
"""Seconds after which a key of a round trip that was cut off is gone."""
FIELDS: Final = 50
"""Fields of INFO that may be exported."""

_STREAMING: Final = frozenset(
    {"MONITOR", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "SYNC", "PSYNC", "QUIT", "RESET", "SHUTDOWN", "AUTH", "HELLO"}
)
"""Commands that turn the connection into something else than question and answer."""
_CREDENTIALS: Final = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})
"""Error codes that speak of who we are."""
_ROLES: Final = {"master": "master", "slave": "replica"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command, and what its reply must be."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    send: str = field(repr=False)
    """The command with its arguments, quoted as in a shell: `LLEN jobs`, `GET "a key"`. It is never kept as evidence."""
    expect: ExpectValue | None = None
    """What the reply must be; any reply that is no error when it is not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectRedis:
    """What must come of the run."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    role: Literal["master", "replica"] | None = None
    """What the server must be in its replication."""
    info: Mapping[str, ExpectValue] = field(default_factory=dict[str, ExpectValue])
    """What fields of INFO must be, by their names, like `connected_slaves` or `master_link_status`."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions(BackendOptions):
    """How to log in, and what to ask."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    database: Annotated[int, Field(ge=0)] = 0
    """Number of the database to select."""
    commands: tuple[Command, ...] = ()
    """Commands that are sent one after the other."""
    round_trip: bool = False
    """Write a key that nobody else has, read it back, delete it."""
    key_prefix: str = "stormwatch:"
    """What that key begins with. It expires by itself after a minute if the run is cut off."""
    measure: tuple[str, ...] = ()
    """Numeric fields of INFO to export as `stormwatch_redis_info{field}`."""
    expect: ExpectRedis = field(default_factory=ExpectRedis)
    """What must come of it."""


def build(target: str, options: RedisOptions) -> Check:
    """A check of one server. Raises ValueError for a target or an option that cannot work."""
    commands: list[tuple[tuple[str, ...], Wanted | None]] = []
    for number, command in enumerate(options.commands):
        where = f"commands[{number}]"
        words = _words(command.send, where)
        wanted = None
        if command.expect is not None:
            wanted = Wanted.of(f"the reply to {words[0]}", command.expect, where=f"{where}.expect")
        commands.append((words, wanted))
    if options.username and not options.password:
        raise ValueError("username: a user of Redis logs in with a password: give `password` too")
    if len(options.measure) > FIELDS:
        raise ValueError(f"measure: at most {FIELDS} fields of INFO can be exported, not {len(options.measure)}")
    return RedisCheck(
        backend=Backend.of("redis", target, options, port=PORT, unix=True),
        options=options,
        commands=tuple(commands),
        info=tuple(
            (name, Wanted.of(f"field {name} of INFO", expect, where=f"expect.info.{name}"))
            for name, expect in options.expect.info.items()
        ),
    )


def _words(text: str, where: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"{where}.send: the quotes do not close: {error}") from None
    if not words:
        raise ValueError(f"{where}.send: there is no command")
    if words[0].upper() in _STREAMING:
        raise ValueError(f"{where}.send: {words[0].upper()} has no one reply to judge, a probe cannot send it")
    return words


@dataclass(frozen=True, slots=True, eq=False)
class RedisCheck:
    """Talks to one server."""

    backend: Backend
    options: RedisOptions
    commands: tuple[tuple[tuple[str, ...], Wanted | None], ...]
    info: tuple[tuple[str, Wanted], ...]

    async def __call__(self, watch: Watch) -> None:
        """Connect, shake hands, log in, ask, judge."""
        async with self.backend.opened(watch) as streams:
            if self.backend.context is not None:
                await self.backend.secure(watch, streams)
            with self._told(), _speaking(self._client(streams)) as client:
                with watch.phase("login"):
                    await client.connect()
                with watch.phase("ping"):
                    if as_text(_decoded(await _ask(client, "PING"))) != "PONG":
                        raise self.backend.garbled("a reply to PING that is not PONG")
                if self.commands:
                    with watch.phase("commands"):
                        await self._command(client)
                if self.options.round_trip:
                    with watch.phase("round_trip"):
                        await self._round_trip(client)
                if self.options.measure or self.info or self.options.expect.role:
                    with watch.phase("info"):
                        self._read_info(watch, await _ask(client, "INFO"))
        judge_speed(watch, self.options.expect.slower_than)

    def _client(self, streams: Streams) -> "Connection":
        from stormwatch.probes.redis_connection import OpenedConnection

        return OpenedConnection(
            streams,
            host=self.backend.place.host,
            db=self.options.database,
            username=self.backend.username or None,
            password=self.backend.password or None,
            protocol=2,  # every server speaks it, and it logs in by AUTH alone
            socket_timeout=None,
            driver_info=None,  # or it would be announced by CLIENT SETINFO, which older servers refuse
        )

    async def _command(self, client: "Connection") -> None:
        for words, wanted in self.commands:
            reply = _decoded(await _ask(client, *words))
            if wanted is not None and (failure := wanted.judge(reply)) is not None:
                raise failure

    async def _round_trip(self, client: "Connection") -> None:
        key, value = f"{self.options.key_prefix}{secrets.token_hex(16)}", secrets.token_hex(16)
        await _ask(client, "SET", key, value, "EX", EXPIRES)
        read = _decoded(await _ask(client, "GET", key))
        await _ask(client, "DEL", key)
        if read != value:
            seen = "nothing" if read is None else "another value"
            raise ProbeFailed(Reason.ASSERTION, f"a key that was just written has {seen}, wanted the value written")

    def _read_info(self, watch: Watch, reply: Any) -> None:
        if not isinstance(reply, bytes):
            raise self.backend.garbled("a reply to INFO that is no text")
        info = read_info(reply)
        role = _ROLES.get(info.get("role", ""), info.get("role", "unknown"))
        watch.note("server", {"version": info.get("redis_version", "")[:64], "role": role[:64]})
        for name in self.options.measure:
            number = as_number(info.get(name))
            if number is not None:
                watch.measure("stormwatch_redis_info", number, field=name)
        if self.options.expect.role not in (None, role):
            raise ProbeFailed(Reason.ASSERTION, f"the server is a {role}, wanted a {self.options.expect.role}")
        for name, wanted in self.info:
            if (failure := wanted.judge(info.get(name))) is not None:
                raise failure

    @contextmanager
    def _told(self) -> Generator[None]:
        """The driver's exceptions and the server's error replies as ours."""
        from redis import exceptions

        try:
            with self.backend.talking():
                yield
        except exceptions.RedisError as error:
            raise self._explain(error) from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:  # what its parser makes of nonsense
            raise self.backend.garbled(error) from error

    def _explain(self, error: Exception) -> ProbeFailed | ProbeBroken:
        from redis import exceptions

        code = getattr(error, "status_code", None)
        said = f"{code} {error}" if code else str(error)
        if code in _CREDENTIALS or isinstance(
            error,
            exceptions.AuthenticationError
            | exceptions.NoPermissionError
            | exceptions.AuthenticationWrongNumberOfArgsError,
        ):
            return self.backend.refused_login(said)
        if isinstance(error, exceptions.InvalidResponse):
            return self.backend.garbled(said)
        if isinstance(error, exceptions.ConnectionError) and not code:
            return self.backend.hung_up(error)
        return self._own_reason(said)

    def _own_reason(self, said: str) -> ProbeFailed:
        return ProbeFailed(Reason.ASSERTION, f"{self.backend} answered with an error: {show_words(said)}")


def read_info(reply: bytes) -> dict[str, str]:
    """The fields of an answer to INFO: lines `name:value`, sections begin with `#`. Anything else is passed over."""
    fields: dict[str, str] = {}
    for line in reply.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            fields[name] = value.strip()
    return fields


async def _ask(client: "Connection", *words: str | int) -> Any:
    await client.send_command(*words, check_health=False)
    return await client.read_response(disable_decoding=True)


def _decoded(reply: Any) -> Any:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply


@contextmanager
def _speaking(client: "Connection") -> Generator["Connection"]:
    """Afterwards the driver holds no stream any more, and does not complain of one that was closed behind its back."""
    try:
        yield client
    finally:
        client._reader = client._writer = None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


KIND: Final = Kind(
    name="redis",
    options=RedisOptions,
    build=build,
    detour=detour_of(PORT, tls_port=PORT),
    phases=("resolve", "connect", "tls", "login", "ping", "commands", "round_trip", "info"),
    phase_metric=Metric("stormwatch_redis_duration_seconds", "Seconds of a look at Redis by phase"),
    metrics=(*backend.METRICS, Metric("stormwatch_redis_info", "Fields of INFO that `measure` names")),
    reasons=backend.REASONS,
    extra="redis",
    module="redis",
)
