"""The kind `websocket`: the upgrade, a dialogue of messages, a ping, and how the server closes; RFC 6455."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final

from pydantic import ConfigDict, Field

from stormwatch.probes import certificate
from stormwatch.probes.answer import expiry_message, show_head
from stormwatch.probes.authorization import ClientCertificate, Login
from stormwatch.probes.backend import METRICS as WAY_METRICS
from stormwatch.probes.backend import MOST, Backend, BackendOptions, Streams, judge_speed
from stormwatch.probes.backend import REASONS as WAY_REASONS
from stormwatch.probes.capture import Capture, CaptureError, Concealer, Source, Taker, takers
from stormwatch.probes.detour import Way, connecting, refuse, resolver_of
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.options import STRICT, File, Secret
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.request import USER_AGENT, check_headers
from stormwatch.probes.resolve import Family
from stormwatch.probes.result import Reason
from stormwatch.probes.template import Template, is_name
from stormwatch.probes.units import Bytes, Seconds, show_duration, show_size
from stormwatch.probes.url import Url
from stormwatch.probes.watch import Watch
from stormwatch.probes.websocket_talk import FAREWELL, Talk, read_status, shown

UPGRADED: Final = 101

CloseCode = Annotated[int, Field(ge=1000, le=4999)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a dialogue: say something, wait for a message, or both in this order."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    send: str | None = field(default=None, repr=False)
    """A text message to send; `{{ name }}` is a value that was captured before. It is never kept as evidence."""
    send_hex: str | None = field(default=None, repr=False)
    """A binary message to send, as hexadecimal digits."""
    expect: str | None = None
    """An RE2 expression. Messages are read until one matches; the others are passed over."""
    capture: Mapping[str, Capture] = field(default_factory=dict[str, Capture])
    """Values to take from the message that matched, by `json` or `regex`, for what later steps send."""
    within: Seconds | None = None
    """How long the step may wait; the rest of the probe's time when it is not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectWebsocket:
    """What must come of it. Everything that is given must hold."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    status: tuple[Annotated[int, Field(ge=100, le=599)], ...] = (UPGRADED,)
    """What the upgrade must be answered with, any of them; without 101, it must be refused."""
    subprotocol: str = ""
    """The subprotocol that the server must choose."""
    close_code: tuple[CloseCode, ...] = ()
    """After the dialogue the server must close by itself, with one of these codes."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""
    certificate_expires_within: Seconds | None = None
    """Down, with reason certificate, when the server's certificate expires sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebsocketOptions:
    """How to connect, what to talk about, and what must come of it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    headers: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict[str, "str | tuple[str, ...]"], repr=False)
    """Headers of the upgrade, with one value or several. They are never kept as evidence."""
    origin: str = ""
    """The Origin header, as browsers send it."""
    subprotocols: tuple[str, ...] = ()
    """Subprotocols to offer, the best first."""
    user_agent: str = ""
    """The User-Agent header; Stormwatch and its version when empty."""
    basic_auth: Login | None = None
    """Log in with name and password."""
    bearer: Secret = field(default="", repr=False)
    """Log in with a token: write it as `${env:NAME}` or `${file:PATH}`."""
    ca_file: File = ""
    """PEM file of the certificate authorities to trust; the system's when empty."""
    verify: bool = True
    """Whether the server's certificate must be valid. Its facts are exported either way."""
    server_name: str = ""
    """Name to ask for in the handshake, and that the certificate must be for; the target's host when empty."""
    client_certificate: ClientCertificate | None = None
    """Certificate and key for servers that ask for one."""
    resolver: str = ""
    """Name server to resolve by, `host:port`; the system's resolver when empty."""
    connect_to: str = ""
    """`host` or `host:port` to connect to instead of the target's. Host header and certificate stay the target's."""
    ip: Family = "any"
    """Which addresses to use. They are tried one after the other; `prefer-4` and `prefer-6` use one."""
    ip_fallback: bool = True
    """With `prefer-4` and `prefer-6`, use the other family when the name has none of it."""
    max_message: Bytes = 2**20
    """Largest message that is read, at most 4MiB, which is also what a whole run may receive."""
    ping: bool = False
    """Send a ping after the upgrade, wait for its pong, and measure the time between."""
    dialogue: tuple[Step, ...] = ()
    """What is said and heard, step by step."""
    expect: ExpectWebsocket = field(default_factory=ExpectWebsocket)
    """What must come of it."""


def build(target: str, options: WebsocketOptions) -> Check:
    """A check of one URL. Raises ValueError for a URL or an option that cannot work."""
    url = _parse(target)
    _check(url, options)
    steps: list[_Step] = []
    known: set[str] = set()
    for number, step in enumerate(options.dialogue):
        steps.append(_compile(step, f"dialogue[{number}]", known))
        for name in step.capture:
            if not is_name(name):
                raise ValueError(f"dialogue[{number}].capture: {name!r} is no name that a reference could have")
        known |= step.capture.keys()
    client = options.client_certificate
    backend = Backend.of(
        "websocket",
        str(url.place),
        BackendOptions(
            resolver=options.resolver,
            ip=_family(options),
            connect_to=options.connect_to,
            tls=url.tls,
            ca_file=options.ca_file,
            server_name=options.server_name,
            verify=options.verify or not url.tls,
            certificate=client.certificate if client else "",
            key=client.key if client else "",
        ),
        port=url.place.port,
    )
    return WebsocketCheck(
        uri="ws" + url.text.removeprefix("http"),
        backend=backend,
        options=options,
        headers=tuple(_headers(options)),
        steps=tuple(steps),
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """A step, compiled."""

    step: Step
    text: Template | None
    data: bytes | None
    pattern: Pattern | None
    takers: tuple[Taker, ...]


@dataclass(frozen=True, slots=True, eq=False)
class WebsocketCheck:
    """Opens one websocket and talks on it."""

    uri: str
    backend: Backend
    options: WebsocketOptions
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    steps: tuple[_Step, ...] = field(repr=False)

    async def __call__(self, watch: Watch) -> None:
        """Resolve, connect, shake hands, upgrade, talk, close."""
        seen = _Seen()
        concealer = Concealer()
        try:
            async with self.backend.opened(watch) as streams:
                if self.backend.context is not None:
                    await self.backend.secure(watch, streams)
                talk = await self._upgrade(watch, streams, seen)
                if talk is not None:
                    try:
                        with watch.phase("transfer"):
                            await self._talk(watch, talk, seen, concealer)
                    finally:
                        if talk.heard:
                            watch.note("heard", concealer.conceal(talk.heard))
                    watch.took(watch.seconds())
                    await talk.part(min(FAREWELL, watch.remaining() / 2))
                self._judge(watch, streams)
        except ProbeFailed as failure:
            failure.message = concealer.conceal(failure.message)
            raise
        finally:
            watch.measure("probe_websocket_status_code", seen.status)
            watch.measure("probe_websocket_connection_upgraded", seen.upgraded)
            watch.measure("probe_websocket_failed_due_to_regex", seen.regex_failed)

    async def _upgrade(self, watch: Watch, streams: Streams, seen: "_Seen") -> Talk | None:
        """The open websocket; None when the upgrade was refused as it must be."""
        from websockets.client import ClientProtocol
        from websockets.typing import Origin, Subprotocol
        from websockets.uri import parse_uri

        options, wanted = self.options, self.options.expect.status
        with watch.phase("processing"), self.backend.talking():
            protocol = ClientProtocol(
                parse_uri(self.uri),
                origin=Origin(options.origin) if options.origin else None,
                subprotocols=[Subprotocol(each) for each in options.subprotocols] or None,
                max_size=options.max_message,
            )
            request = protocol.connect()
            for name, value in self.headers:
                if name.lower() == "host":
                    del request.headers["Host"]
                request.headers[name] = value
            protocol.send_request(request)
            talk = Talk(protocol, streams)
            await talk.flush()
            head = await self._read_head(streams)
            seen.status = read_status(head)
            watch.note("response_head", show_head(head.splitlines(keepends=True)))
            if seen.status not in wanted:
                told = " or ".join(str(each) for each in wanted)
                raise ProbeFailed(
                    Reason.STATUS,
                    f"the upgrade was answered with status {seen.status}, wanted {told}",
                    phase="processing",
                )
            if seen.status != UPGRADED:
                return None
            talk.feed(head)
            seen.upgraded = True
            if options.expect.subprotocol and protocol.subprotocol != options.expect.subprotocol:
                chosen = (
                    f"chose the subprotocol {protocol.subprotocol}" if protocol.subprotocol else "chose no subprotocol"
                )
                raise ProbeFailed(
                    Reason.ASSERTION, f"the server {chosen}, wanted {options.expect.subprotocol}", phase="processing"
                )
            return talk

    async def _read_head(self, streams: Streams) -> bytes:
        try:
            return await streams.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise ProbeFailed(
                    Reason.PROTOCOL, f"the upgrade was answered with {shown(error.partial)}, and that is not HTTP"
                ) from None
            raise
        except asyncio.LimitOverrunError:
            raise ProbeFailed(Reason.PROTOCOL, "the head of the answer is longer than 64KiB") from None

    async def _talk(self, watch: Watch, talk: Talk, seen: "_Seen", concealer: Concealer) -> None:
        with self.backend.talking():
            if self.options.ping:
                watch.measure("stormwatch_websocket_ping_seconds", await talk.ping(watch.clock.monotonic))
            values: dict[str, Any] = {}
            for number, step in enumerate(self.steps, start=1):
                try:
                    await self._take_step(talk, step, number, values, concealer)
                except _NoMatch:
                    seen.regex_failed = True
                    raise
            if self.options.expect.close_code:
                await self._wait_for_close(talk)

    async def _take_step(
        self, talk: Talk, step: _Step, number: int, values: dict[str, Any], concealer: Concealer
    ) -> None:
        asked = f"step {number} of the dialogue"
        limit = asyncio.timeout(step.step.within)
        talk.last = b""
        try:
            async with limit:
                await talk.send(asked, step.text.fill(values) if step.text is not None else step.data)
                if step.pattern is None and not step.takers:
                    return
                while True:
                    message = await talk.next_message()
                    if message is None:
                        raise _NoMatch(
                            Reason.ASSERTION, f"{asked} wanted {_wanted(step)}; {talk.farewell} after {_last(talk)}"
                        )
                    if step.pattern is None or step.pattern.search(message):
                        break
        except TimeoutError:
            if not limit.expired():
                raise
            after = show_duration(step.step.within or 0.0)
            if talk.last:
                raise _NoMatch(
                    Reason.ASSERTION, f"{asked} wanted {_wanted(step)} within {after}; last came {_last(talk)}"
                ) from None
            raise ProbeFailed(Reason.TIMEOUT, f"{asked} wanted {_wanted(step)} within {after}; nothing came") from None
        source = Source(message)
        for taker in step.takers:
            try:
                values[taker.name] = taker.take(source)
            except CaptureError as error:
                raise ProbeFailed(Reason.ASSERTION, f"{asked} could not capture {error}") from None
            if taker.secret:
                concealer.learn([values[taker.name]])

    async def _wait_for_close(self, talk: Talk) -> None:
        wanted = self.options.expect.close_code
        while await talk.next_message() is not None:
            pass
        code = talk.close_code
        if code not in wanted:
            told = " or ".join(str(each) for each in wanted)
            raise ProbeFailed(Reason.ASSERTION, f"{talk.farewell}, wanted a close with code {told}", phase="transfer")

    def _judge(self, watch: Watch, streams: Streams) -> None:
        within = self.options.expect.certificate_expires_within
        session = streams.writer.get_extra_info("ssl_object")
        if within is not None and session is not None:
            left = certificate.read_chain((session.getpeercert(binary_form=True),)).expires - watch.clock.now()
            if left < within:
                raise ProbeFailed(Reason.CERTIFICATE, expiry_message(left, within), phase="tls")
        judge_speed(watch, self.options.expect.slower_than)


class _Seen:
    """What the run measures besides its times."""

    __slots__ = ("regex_failed", "status", "upgraded")

    def __init__(self) -> None:
        self.status = 0
        self.upgraded = False
        self.regex_failed = False


class _NoMatch(ProbeFailed):
    """A message was waited for that did not come: `probe_websocket_failed_due_to_regex`."""


def _wanted(step: _Step) -> str:
    return f"a message that matches {step.step.expect!r}" if step.step.expect is not None else "a message"


def _last(talk: Talk) -> str:
    return shown(talk.last) if talk.last else "nothing"


def _parse(target: str) -> Url:
    scheme, _, rest = target.partition("://")
    if scheme.lower() not in ("ws", "wss") or not rest:
        raise ValueError(f"target is a URL like wss://shop.example/feed, not {target!r}")
    asked = f"{'https' if scheme.lower() == 'wss' else 'http'}://{rest}"
    try:
        return Url.parse(asked)
    except ValueError as error:
        raise ValueError(str(error).replace(asked, target)) from None


def _check(url: Url, options: WebsocketOptions) -> None:
    for name in [] if url.tls else _only_for_tls(options):
        raise ValueError(f"{name} is for TLS: the target begins with wss:// then")
    if options.basic_auth is not None and options.bearer:
        raise ValueError("give basic_auth or bearer, not both: a request has one Authorization header")
    client = options.client_certificate
    if client is not None and (client.certificate_pem or client.key_pem):
        raise ValueError("client_certificate: here it stands in files: give certificate and key")
    check_headers(options.headers)
    for name in options.headers:
        if name.lower() in _OURS:
            raise ValueError(f"headers: {name} is of the protocol itself; see origin and subprotocols")
    check_headers({"Origin": options.origin}, "origin")
    check_headers(dict.fromkeys(options.subprotocols, ""), "subprotocols")
    if not 0 < options.max_message <= MOST:
        raise ValueError(f"max_message is at most {show_size(MOST)}, and not zero")
    expect = options.expect
    if not expect.status:
        raise ValueError("expect.status: give at least one status code")
    if UPGRADED not in expect.status and (options.dialogue or options.ping or expect.close_code or expect.subprotocol):
        raise ValueError(
            "expect.status: an upgrade that must be refused has no dialogue, ping, close_code or subprotocol"
        )
    if expect.subprotocol and expect.subprotocol not in options.subprotocols:
        raise ValueError(f"expect.subprotocol: {expect.subprotocol!r} is not offered: put it into subprotocols")


def _only_for_tls(options: WebsocketOptions) -> Iterator[str]:
    for name in ("ca_file", "server_name", "client_certificate"):
        if getattr(options, name):
            yield name
    if not options.verify:
        yield "verify"
    if options.expect.certificate_expires_within is not None:
        yield "expect.certificate_expires_within"


_OURS = frozenset(
    {
        "connection",
        "upgrade",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-extensions",
        "sec-websocket-protocol",
        "origin",
    }
)


def _compile(step: Step, where: str, known: set[str]) -> _Step:
    if step.send is not None and step.send_hex is not None:
        raise ValueError(f"{where}: give send or send_hex, not both: they are two messages")
    if step.send is None and step.send_hex is None and step.expect is None and not step.capture:
        raise ValueError(f"{where}: give send, send_hex, expect or capture")
    try:
        data = None if step.send_hex is None else bytes.fromhex(step.send_hex)
    except ValueError as error:
        raise ValueError(f"{where}.send_hex cannot be read: {error}") from None
    return _Step(
        step=step,
        text=None if step.send is None else Template.parse(step.send, f"{where}.send", known),
        data=data,
        pattern=None if step.expect is None else compile_pattern(step.expect, f"{where}.expect"),
        takers=takers(step.capture, f"{where}.capture", body_only=True),
    )


def _family(options: WebsocketOptions) -> Family:
    if options.ip_fallback or options.ip not in ("prefer-4", "prefer-6"):
        return options.ip
    return "4" if options.ip == "prefer-4" else "6"


def _headers(options: WebsocketOptions) -> list[tuple[str, str]]:
    found = [("User-Agent", options.user_agent or USER_AGENT)]
    for name, values in options.headers.items():
        found += [(name, each) for each in ((values,) if isinstance(values, str) else values)]
    if options.basic_auth is not None:
        found.append(("Authorization", options.basic_auth.basic()))
    elif options.bearer:
        found.append(("Authorization", f"Bearer {options.bearer}"))
    return found


def _way(target: str, options: WebsocketOptions) -> Way:
    refuse(options, "connect_to")
    url = _parse(target)
    return Way(place=url.place, resolver=resolver_of(options.resolver), ip=_family(options), tls=url.tls, http=True)


KIND: Final = Kind(
    name="websocket",
    options=WebsocketOptions,
    build=build,
    detour=connecting(_way),
    phases=("resolve", "connect", "tls", "processing", "transfer"),
    phase_metric=Metric(
        "probe_websocket_duration_seconds", "Seconds of a websocket by phase: transfer is the dialogue"
    ),
    metrics=(
        Metric("probe_websocket_status_code", "Status code that the upgrade was answered with, 0 for none"),
        Metric("probe_websocket_connection_upgraded", "1 when the connection became a websocket"),
        Metric("probe_websocket_failed_due_to_regex", "1 when a regular expression of the dialogue did not hold"),
        Metric("stormwatch_websocket_ping_seconds", "Seconds between our ping and its pong"),
        *WAY_METRICS,
    ),
    reasons=WAY_REASONS | {Reason.STATUS},
    extra="websocket",
    module="websockets",
)
