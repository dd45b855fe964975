"""Faults of a Toxiproxy that runs elsewhere: its toxics, and its proxies disabled, with our leases, proofs and undo records.

Toxiproxy has no leases: a toxic stays until somebody removes it. Ours are kept by the reaper, and a toxic has the name of its fault.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, cast
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.address import parse_address, show_address
from stormwatch.chaos.breakage import Breakage, CannotBreak
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault_kind import FaultKind
from stormwatch.chaos.option import STRICT, Options, share_is_some
from stormwatch.chaos.target import Target, TargetKind
from stormwatch.chaos.toxiproxy_client import ProxySeen, ToxiproxyClient, ToxiproxyFailed
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Bytes, Ratio, Seconds

KNOCK = 2.0
"""Seconds that a knock at a proxy's port may take."""
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - to be replaced, not to be bound

Stream = Literal["upstream", "downstream"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxiproxyTarget:
    """One proxy of a Toxiproxy that runs elsewhere."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    api: str
    """Where its HTTP API is: `http://127.0.0.1:8474`."""
    proxy: Annotated[str, Field(min_length=1)]
    """The name of the proxy in it."""
    address: str = ""
    """Where clients reach the proxy from here, `host:port`. Empty: where it says that it listens; what listens everywhere is looked for on the API's host."""

    def __post_init__(self) -> None:
        there = urlsplit(self.api)
        if there.scheme not in ("http", "https") or not there.hostname:
            raise ValueError(f"api is an address like http://127.0.0.1:8474, not {self.api!r}")
        if there.username or there.password:
            raise ValueError("api: the API of a Toxiproxy knows no passwords; leave it out")
        if self.address:
            parse_address(self.address)

    def reached_at(self, listen: str) -> tuple[str, int]:
        """Host and port where its clients come, of what it says of itself."""
        host, port = parse_address(self.address or listen)
        return (urlsplit(self.api).hostname or host if host in _EVERYWHERE else host), port


def _whole(seconds: float, name: str, *, unit: float = 1000, least: int = 0) -> int:
    """Milliseconds, or another unit. Raises ValueError for what Toxiproxy has no number for."""
    number = round(seconds * unit)
    if number < least or abs(number / unit - seconds) > 1e-9:
        smallest = "1ms" if unit == 1000 else "1µs"
        raise ValueError(f"{name}: Toxiproxy counts in steps of {smallest}, and {seconds:g} s is none")
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxiproxyLatency:
    """Every chunk arrives later."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    delay: Seconds
    """How much later."""
    jitter: Seconds = 0.0
    """Up to so much more or less."""
    stream: Stream = "downstream"
    """`downstream`: answers; `upstream`: requests."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for: the toxicity."""

    def __post_init__(self) -> None:
        _whole(self.delay, "delay", least=1)
        _whole(self.jitter, "jitter")
        share_is_some(self.share)

    def toxic(self) -> tuple[str, Mapping[str, int]]:
        """Its type and attributes."""
        return "latency", {"latency": _whole(self.delay, "delay"), "jitter": _whole(self.jitter, "jitter")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxiproxyBandwidth:
    """Connections are slow."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    rate: Bytes
    """Bytes a second, in steps of 1 kB."""
    stream: Stream = "downstream"
    """`downstream`: answers; `upstream`: requests."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for: the toxicity."""

    def __post_init__(self) -> None:
        if self.rate < 1000 or self.rate % 1000:
            raise ValueError(
                f"rate: Toxiproxy counts in kB a second, like 64kB, and {self.rate} bytes are not whole ones"
            )
        share_is_some(self.share)

    def toxic(self) -> tuple[str, Mapping[str, int]]:
        """Its type and attributes."""
        return "bandwidth", {"rate": self.rate // 1000}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxiproxySlowClose:
    """The end of a connection arrives later."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    delay: Seconds
    """How much later."""
    stream: Stream = "downstream"
    """`downstream`: the service's end; `upstream`: the client's."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for: the toxicity."""

    def __post_init__(self) -> None:
        _whole(self.delay, "delay", least=1)
        share_is_some(self.share)

    def toxic(self) -> tuple[str, Mapping[str, int]]:
        """Its type and attributes."""
        return "slow_close", {"delay": _whole(self.delay, "delay")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxiproxyTimeout:
    """Bytes are swallowed, and the connection is closed after a while."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    after: Seconds = 0.0
    """How long until it is closed. `0s`: not before the fault is undone."""
    stream: Stream = "downstream"
    """`downstream`: answers are swallowed; `upstream`: requests."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for: the toxicity."""

    def __post_init__(self) -> None:
        _whole(self.after, "after")
        share_is_some(self.share)

    def toxic(self) -> tuple[str, Mapping[str, int]]:
        """Its type and attributes."""
        return "timeout", {"timeout": _whole(self.after, "after")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxiproxyReset:
    """Connections end with RST as soon as the client has said something."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    stream: ClassVar[Stream] = "upstream"
    """A reset_peer waits for the first bytes of its direction: a service that speaks only when asked says none to a knock."""

    def toxic(self) -> tuple[str, Mapping[str, int]]:
        """Its type and attributes: at once."""
        return "reset_peer", {"timeout": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxiproxySlicer:
    """Bytes arrive in small pieces."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    average_size: Bytes
    """The size of a piece."""
    variation: Bytes = 0
    """Up to so many bytes more or fewer; less than `average_size`."""
    delay: Seconds = 0.0
    """Between two pieces."""
    stream: Stream = "downstream"
    """`downstream`: answers; `upstream`: requests."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for: the toxicity."""

    def __post_init__(self) -> None:
        if not 0 <= self.variation < self.average_size:
            raise ValueError(f"variation ({self.variation} B) must be less than average_size ({self.average_size} B)")
        _whole(self.delay, "delay", unit=1e6)
        share_is_some(self.share)

    def toxic(self) -> tuple[str, Mapping[str, int]]:
        """Its type and attributes; this delay is in microseconds."""
        delay = _whole(self.delay, "delay", unit=1e6)
        return "slicer", {"average_size": self.average_size, "size_variation": self.variation, "delay": delay}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxiproxyLimitData:
    """Connections are closed after so many bytes."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    bytes: Bytes
    """How many arrive before that."""
    stream: Stream = "downstream"
    """`downstream`: of answers; `upstream`: of requests."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for: the toxicity."""

    def __post_init__(self) -> None:
        share_is_some(self.share)

    def toxic(self) -> tuple[str, Mapping[str, int]]:
        """Its type and attributes."""
        return "limit_data", {"bytes": self.bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxiproxyDown:
    """The proxy is disabled: connections are refused, and those that stand are closed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT


_Toxic = (
    ToxiproxyLatency
    | ToxiproxyBandwidth
    | ToxiproxySlowClose
    | ToxiproxyTimeout
    | ToxiproxyReset
    | ToxiproxySlicer
    | ToxiproxyLimitData
)


@dataclass(slots=True)
class _OfToxiproxy:
    """What all of them do: look at the proxy, and undo by its API."""

    fault: str
    target: ToxiproxyTarget
    method: str = "toxiproxy"
    at: float | None = None

    @property
    def what(self) -> str:
        """The proxy, for people."""
        return f"the proxy {self.target.proxy} of the Toxiproxy at {self.target.api}"

    async def look(self, client: ToxiproxyClient) -> ProxySeen:
        """The proxy as it is. Raises CannotBreak when there is none."""
        seen = await client.proxy(self.target.proxy)
        if seen is None:
            raise CannotBreak(
                f"the Toxiproxy at {self.target.api} has no proxy {self.target.proxy}; correct the target's `proxy`"
            )
        if not seen.enabled and self.at is None:
            raise CannotBreak(f"{self.what} is disabled; enable it before it is broken")
        return seen

    async def used(self, client: ToxiproxyClient) -> Mapping[str, int]:
        """What it has received by now. Raises CannotBreak when that is nothing: then nothing could be proved."""
        received = await client.received(self.target.proxy)
        if not received:
            raise CannotBreak(
                f"the Toxiproxy at {self.target.api} has counted no bytes through {self.target.proxy}: start it with `-proxy-metrics`, "
                "and let its clients come once; without, nobody can tell whether a fault meets traffic"
            )
        return received

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[ToxiproxyClient]:
        """A client whose failures say that it cannot be broken."""
        try:
            async with ToxiproxyClient(self.target.api) as client:
                yield client
        except ToxiproxyFailed as error:
            raise CannotBreak(str(error)) from error


@dataclass(slots=True)
class Poisoning(_OfToxiproxy):
    """A toxic on a proxy, proved by what the proxy receives while it is there."""

    toxic: Mapping[str, Any] = field(default_factory=dict[str, Any])
    before: int = 0
    """Bytes that had come in its direction when it was there."""
    first: float | None = None

    async def prepare(self) -> Mapping[str, Any]:
        async with self.client() as client:
            await self.look(client)
            await self.used(client)
        return {"api": self.target.api, "proxy": self.target.proxy, "toxic": self.fault}

    async def inject(self) -> None:
        async with self.client() as client:
            await client.put(self.target.proxy, {**self.toxic, "name": self.fault})
            # After it: what came a moment before may not have met it.
            self.before = (await client.received(self.target.proxy)).get(self.toxic["stream"], 0)
        self.at = time.time()
        await self.evidence()

    async def evidence(self) -> Evidence:
        async with self.client() as client:
            if self.fault not in (await self.look(client)).toxics:
                raise CannotBreak(f"{self.what} has lost it: somebody removed it, or Toxiproxy was started anew")
            met = (await client.received(self.target.proxy)).get(self.toxic["stream"], 0) - self.before
        now = time.time()
        if met > 0 and self.first is None:
            self.first = now
        return Evidence(
            bytes=max(0, met), first=self.first, last=now if self.first else None, what=f"{self.what} has the toxic"
        )


@dataclass(slots=True)
class Cutting(_OfToxiproxy):
    """Whoever comes is turned away, by a toxic or because nobody listens: proved by a knock of ours at the port."""

    toxic: Mapping[str, Any] | None = None
    """None: the proxy is disabled."""
    place: tuple[str, int] = ("", 0)

    async def prepare(self) -> Mapping[str, Any]:
        async with self.client() as client:
            self.place = self.target.reached_at((await self.look(client)).listen)
            await self.used(client)
        if (how := await knocked(*self.place)) != "open":
            raise CannotBreak(
                f"a connection to {self.what} at {show_address(*self.place)} is {how} already, so that nothing could be proved: "
                "say under the target's `address` where its clients reach it"
            )
        toxic = self.fault if self.toxic else ""
        return {"api": self.target.api, "proxy": self.target.proxy, "toxic": toxic}

    async def inject(self) -> None:
        async with self.client() as client:
            if self.toxic is None:
                await client.enable(self.target.proxy, enabled=False)
            else:
                await client.put(self.target.proxy, {**self.toxic, "name": self.fault})
        self.at = time.time()
        await self.evidence()

    async def evidence(self) -> Evidence:
        async with self.client() as client:
            seen = await self.look(client)
        if self.fault not in seen.toxics if self.toxic else seen.enabled:
            raise CannotBreak(
                f"{self.what} lets connections through: somebody mended it, or Toxiproxy was started anew"
            )
        expected = "reset" if self.toxic else "refused"
        # The toxic drops the bytes that it ends a connection by; of an empty line too many no server of HTTP takes notice.
        if (how := await knocked(*self.place, saying=b"\r\n" if self.toxic else b"")) != expected:
            raise CannotBreak(
                f"a connection to {self.what} at {show_address(*self.place)} is {how}, and not {expected}"
            )
        what = f"a connection to {self.what} is {expected}"
        return Evidence(connections=1, first=self.at, last=time.time(), what=what)


async def knocked(host: str, port: int, *, saying: bytes = b"") -> str:
    """What becomes of a connection of which nothing is asked: `refused`, `reset`, or `open` for as long as this looks."""
    try:
        async with asyncio.timeout(KNOCK):
            reader, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return "refused"
    except ConnectionResetError:
        # An RST that is there before we have looked whether we are connected.
        return "reset"
    except (OSError, TimeoutError) as error:
        return f"not possible ({str(error) or 'time-out'})"
    try:
        writer.write(saying)
        # A toxic that resets does so at once; what is left alone for so long stands.
        async with asyncio.timeout(KNOCK / 4):
            said = await reader.read(1)
    except TimeoutError:
        return "open"
    except ConnectionResetError:
        return "reset"
    else:
        return "open" if said else "closed"
    finally:
        writer.transport.abort()


async def undo_toxiproxy(arguments: Mapping[str, Any]) -> Absence:
    """Take a toxic away, or enable a proxy again, by its record. Idempotent. Raises UndoFailed."""
    api, proxy, toxic = str(arguments["api"]), str(arguments["proxy"]), str(arguments["toxic"])
    try:
        async with ToxiproxyClient(api) as client:
            before = await client.proxy(proxy)
            if before is None:
                return Absence(False, f"the Toxiproxy at {api} has no proxy {proxy} any more")
            was_there = toxic in before.toxics if toxic else not before.enabled
            if was_there and toxic:
                await client.remove(proxy, toxic)
            elif was_there:
                await client.enable(proxy, enabled=True)
            after = await client.proxy(proxy)
    except ToxiproxyFailed as error:
        raise UndoFailed(f"{error}; what it has in memory is lost when it is started anew") from error
    if after and (toxic in after.toxics if toxic else not after.enabled):
        raise UndoFailed(f"the Toxiproxy at {api} still has it on {proxy} after it was told to take it away")
    gone = "has no such toxic" if toxic else "is enabled"
    return Absence(was_there, f"the proxy {proxy} {gone}")


def _poisoning(identity: str, options: Any, target: Target) -> Breakage:
    there = cast("ToxiproxyTarget", target.options)
    toxic = _document(options)
    return Poisoning(fault=identity, target=there, toxic=toxic)


def _document(options: _Toxic) -> Mapping[str, Any]:
    kind, attributes = options.toxic()
    share = getattr(options, "share", Fraction(1))
    stream = getattr(options, "stream", "downstream")
    return {"type": kind, "stream": stream, "toxicity": float(share), "attributes": dict(attributes)}


def _cutting(toxic: Callable[[Any], Mapping[str, Any] | None]) -> Callable[[str, Any, Target], Breakage]:
    return lambda identity, options, target: Cutting(
        fault=identity, target=cast("ToxiproxyTarget", target.options), toxic=toxic(options)
    )


_SLOWLY = frozenset({Reason.TOO_SLOW, Reason.TIMEOUT})

TOXIPROXY_TARGETS: tuple[TargetKind, ...] = (
    TargetKind("toxiproxy", ToxiproxyTarget, "a proxy of a Toxiproxy that runs elsewhere"),
)

TOXIPROXY_FAULTS: tuple[FaultKind[Options], ...] = (
    FaultKind(
        "toxiproxy-latency",
        ToxiproxyLatency,
        "data arrives later, by a Toxiproxy",
        _SLOWLY,
        reason_note="too-slow while the delay is below the probe's timeout, timeout above it",
        on="toxiproxy",
        breakage=_poisoning,
    ),
    FaultKind(
        "toxiproxy-bandwidth",
        ToxiproxyBandwidth,
        "connections are slow, by a Toxiproxy",
        _SLOWLY,
        on="toxiproxy",
        breakage=_poisoning,
    ),
    FaultKind(
        "toxiproxy-slow-close",
        ToxiproxySlowClose,
        "the end of connections arrives later, by a Toxiproxy",
        _SLOWLY,
        reason_note="of a client that waits for the end",
        on="toxiproxy",
        breakage=_poisoning,
    ),
    FaultKind(
        "toxiproxy-timeout",
        ToxiproxyTimeout,
        "data is swallowed, by a Toxiproxy",
        frozenset({Reason.TIMEOUT, Reason.PROTOCOL, Reason.RESET}),
        reason_note="timeout when the probe's own is shorter than after, the others when it is longer",
        on="toxiproxy",
        breakage=_poisoning,
    ),
    FaultKind(
        "toxiproxy-reset",
        ToxiproxyReset,
        "connections end with RST, by a Toxiproxy",
        frozenset({Reason.RESET}),
        on="toxiproxy",
        breakage=_cutting(_document),
    ),
    FaultKind(
        "toxiproxy-slicer",
        ToxiproxySlicer,
        "data arrives in small pieces, by a Toxiproxy",
        _SLOWLY,
        on="toxiproxy",
        breakage=_poisoning,
    ),
    FaultKind(
        "toxiproxy-limit-data",
        ToxiproxyLimitData,
        "connections are closed after so many bytes, by a Toxiproxy",
        frozenset({Reason.PROTOCOL, Reason.RESET, Reason.ASSERTION}),
        reason_note="by what is missing",
        on="toxiproxy",
        breakage=_poisoning,
    ),
    FaultKind(
        "toxiproxy-down",
        ToxiproxyDown,
        "a proxy of a Toxiproxy is disabled",
        frozenset({Reason.REFUSED, Reason.RESET}),
        reason_note="reset of a connection that was in use",
        on="toxiproxy",
        breakage=_cutting(lambda _options: None),
    ),
)
