"""The kind `unix`: a connection to a Unix socket, TLS if asked for, and a dialogue."""

import asyncio
import errno
import os
import socket
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict

from stormwatch.probes.backend import judge_speed
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain_connection
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.result import Reason
from stormwatch.probes.stream import METRICS, StreamOptions, Talk, measure_failed
from stormwatch.probes.units import Seconds
from stormwatch.probes.watch import Watch

LONGEST: Final = 107
"""Bytes of a socket's path, by unix(7)."""
AGAIN: Final = 0.01
"""Seconds until a full queue of connections is asked again: the system does not say when there is room in it."""

_TYPES: Final = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET, "datagram": socket.SOCK_DGRAM}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectUnix:
    """What must come of the connection."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    certificate_expires_within: Seconds | None = None
    """Down, with reason certificate, when a certificate of the served chain expires sooner."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixOptions(StreamOptions):
    """How to connect, and what to talk about."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    type: Literal["stream", "seqpacket", "datagram"] = "stream"
    """Type of the socket. Of the others each message is a part of what the dialogue hears."""
    expect: ExpectUnix = field(default_factory=ExpectUnix)
    """What must come of it."""


def build(target: str, options: UnixOptions) -> Check:
    """A check of one socket. Raises ValueError for a target or an option that cannot work."""
    if not target.startswith(("/", "@")) or len(target) < 2 or "\0" in target:
        raise ValueError(
            f"target is the path of a socket like /run/server.sock, or @name of an abstract one, not {target!r}"
        )
    if len(os.fsencode(target)) > LONGEST:
        raise ValueError(f"target has {len(os.fsencode(target))} bytes, and a socket's path at most {LONGEST}")
    talk = Talk.of(options, "", least_left=options.expect.certificate_expires_within)
    if talk.context is not None and options.type != "stream":
        raise ValueError(f"type: TLS goes over a stream, not over {options.type}")
    return UnixCheck(target=target, options=options, talk=talk)


@dataclass(frozen=True, slots=True, eq=False)
class UnixCheck:
    """Connects to one socket and talks to it."""

    target: str
    options: UnixOptions
    talk: Talk

    async def __call__(self, watch: Watch) -> None:
        """Connect, shake hands, talk."""
        watch.reach.check("127.0.0.1")  # a socket of this machine is as near as its loopback
        try:
            with watch.phase("connect"):
                connection = await self._connect()
        except BaseException:
            measure_failed(watch, "")
            raise
        await self.talk.hold(watch, connection)
        judge_speed(watch, self.options.expect.slower_than)

    async def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, _TYPES[self.options.type])
        try:
            connection.setblocking(False)
            if self.options.type == "datagram":
                connection.bind("")  # an abstract name of the system's choice, for answers to come to (unix(7))
            place = b"\0" + os.fsencode(self.target[1:]) if self.target.startswith("@") else self.target
            while True:
                try:
                    connection.connect(place)
                except BlockingIOError:  # its queue is full: EAGAIN, and no word when it is not any more
                    await asyncio.sleep(AGAIN)
                else:
                    return connection
        except OSError as error:
            connection.close()
            raise self._explain(error) from error
        except BaseException:
            connection.close()
            raise

    def _explain(self, error: OSError) -> ProbeFailed | ProbeBroken:
        if error.errno == errno.ENOENT:
            return ProbeFailed(
                Reason.REFUSED, f"there is no socket {self.target}: nobody listens there", phase="connect"
            )
        if error.errno in (errno.EACCES, errno.EPERM):
            return ProbeBroken(
                Reason.CREDENTIALS,
                f"the prober's user may not connect to {self.target}: it needs to write to the socket, and to search the "
                "directories above",
                phase="connect",
            )
        if error.errno == errno.EPROTOTYPE:
            return ProbeBroken(
                Reason.INTERNAL, f"{self.target} is not a {self.options.type} socket: give its `type`", phase="connect"
            )
        if error.errno == errno.ENOTDIR:
            return ProbeFailed(Reason.REFUSED, f"a part of the path {self.target} is not a directory", phase="connect")
        return explain_connection(error, self.target)


KIND: Final = Kind(
    name="unix",
    options=UnixOptions,
    build=build,
    no_detour="connects to a socket of this machine, and a detour passes on connections to addresses",
    phases=("connect", "tls", "dialogue"),
    phase_metric=Metric("stormwatch_unix_duration_seconds", "Seconds of a dialogue over a Unix socket by phase"),
    metrics=METRICS,
    reasons=frozenset(
        {
            Reason.REFUSED,
            Reason.TIMEOUT,
            Reason.RESET,
            Reason.TLS,
            Reason.CERTIFICATE,
            Reason.ASSERTION,
            Reason.PROTOCOL,
            Reason.TOO_SLOW,
        }
    ),
)
