"""Faults of the host: their options as users write them."""

from dataclasses import dataclass
from fractions import Fraction
from ipaddress import ip_network
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from stormwatch.chaos.option import STRICT, share_is_some
from stormwatch.probes.units import Bytes, Ratio, Seconds

Workers = Annotated[int, Field(ge=0, le=1024)]
Direction = Literal["in", "out", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessKill:
    """The process is ended by a signal, and stays away until the drill is over or its supervisor starts it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    signal: Literal["KILL", "TERM"] = "KILL"
    """`KILL`: as when it crashed, or memory ran out. `TERM`: as when it is told to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPause:
    """The process is stopped (SIGSTOP): its ports are open, and nothing is answered."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRestart:
    """The process is ended and started again at once."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    signal: Literal["KILL", "TERM"] = "TERM"
    """`KILL`: as when it crashed. `TERM`: as when it is deployed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FdExhaust:
    """The process may open no more file descriptors: its limit (RLIMIT_NOFILE) is lowered to what it has open."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    leave: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """How many it may still open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockShift:
    """The process is started again with another clock (libfaketime); that of the machine stays."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    by: Seconds
    """How far its clock is moved."""
    direction: Literal["forward", "back"] = "forward"
    """`forward`: into the future, where certificates have expired. `back`: into the past."""

    def __post_init__(self) -> None:
        if self.by <= 0:
            raise ValueError("by must be more than 0s")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFull:
    """A file takes what is free on the file system of a directory."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    leave: Bytes = 0
    """How much stays free, for those who are not root."""
    limit: Bytes | None = None
    """The size that the file may have at most: when more is free, nothing is broken. Must be given for the root file system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskStress:
    """The disk of a directory is kept busy with writing (stress-ng --hdd)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    workers: Workers = 1
    """How many write at a time; 0 is one for each processor."""
    bytes: Bytes = 2**26
    """How much each of them writes before it begins again."""
    at_most: Seconds = 3600.0
    """When it ends by itself, whoever is still there."""

    def __post_init__(self) -> None:
        if self.bytes < 2**20:
            raise ValueError("bytes must be at least 1MiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuStress:
    """Processors are kept busy (stress-ng --cpu)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    workers: Workers = 0
    """How many processors; 0 is all of them."""
    load: Ratio = Fraction(1)
    """How much of each; in whole percent."""
    at_most: Seconds = 3600.0
    """When it ends by itself, whoever is still there."""

    def __post_init__(self) -> None:
        if self.load <= 0 or (self.load * 100).denominator != 1:
            raise ValueError("load is from 1% to 100%, in whole percent")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStress:
    """Memory is taken, and kept (stress-ng --vm)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    bytes: Bytes
    """How much. When less than that, and `reserve` beside it, is available, nothing is broken."""
    reserve: Bytes = 2**28
    """How much must stay available."""
    at_most: Seconds = 3600.0
    """When it ends by itself, whoever is still there."""

    def __post_init__(self) -> None:
        if self.bytes < 2**20:
            raise ValueError("bytes must be at least 1MiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class IoStress:
    """What is in memory is written to the disks again and again (stress-ng --io, which calls sync)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    workers: Workers = 1
    """How many do it at a time; 0 is one for each processor."""
    at_most: Seconds = 3600.0
    """When it ends by itself, whoever is still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetPartition:
    """Packets are dropped (nftables): nobody is told, connections stall."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    direction: Direction = "both"
    """`in`: what comes in by the interface. `out`: what goes out. What is passed on counts for both."""
    hosts: tuple[str, ...] = ()
    """Addresses or networks at the other end, `192.0.2.0/24`; none: all."""

    def __post_init__(self) -> None:
        _are_networks(self.hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetLoss:
    """A share of the packets is dropped (nftables), each drawn for itself."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    share: Ratio
    """Which share, drawn by the kernel; to a hundredth of a percent."""
    direction: Direction = "both"
    """`in`: what comes in by the interface. `out`: what goes out. What is passed on counts for both."""
    hosts: tuple[str, ...] = ()
    """Addresses or networks at the other end, `192.0.2.0/24`; none: all."""

    def __post_init__(self) -> None:
        share_is_some(self.share)
        if (self.share * 10_000).denominator != 1:
            raise ValueError("share is drawn to a hundredth of a percent: write it with two decimals at most")
        _are_networks(self.hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetDelay:
    """Packets that go out wait (tc netem), if the kernel has netem."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    delay: Seconds
    """How long."""
    jitter: Seconds = 0.0
    """Each packet's delay is drawn from delay - jitter to delay + jitter; packets may overtake each other then."""

    def __post_init__(self) -> None:
        if self.delay <= 0:
            raise ValueError("delay must be more than 0s")
        if self.jitter > self.delay:
            raise ValueError(f"jitter ({self.jitter:g} s) must not be more than delay ({self.delay:g} s)")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetRate:
    """Packets that go out go through a slow line (tc tbf)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    rate: Bytes
    """Bytes a second, `64kB`."""
    queue: Seconds = 0.5
    """How long packets wait at most; those that would wait longer are dropped."""

    def __post_init__(self) -> None:
        if self.rate < 1000:
            raise ValueError("rate must be at least 1kB a second")
        if self.queue <= 0:
            raise ValueError("queue must be more than 0s")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandFault:
    """A pair of programs of your own: one that breaks, one that mends."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    inject: Annotated[tuple[str, ...], Field(min_length=1)]
    """The program, with its arguments, that breaks something. Exit code 0: it did."""
    undo: Annotated[tuple[str, ...], Field(min_length=1)]
    """The one that mends it. It may be called when nothing was broken, and more than once. Exit code 0: it is mended."""
    check: tuple[str, ...] = ()
    """The one that tells: exit code 0 while it is broken, 1 when it is not; any other code: it cannot tell."""
    timeout: Seconds = 30.0
    """How long each of them may take before it is killed."""


def _are_networks(hosts: tuple[str, ...]) -> None:
    for host in hosts:
        try:
            ip_network(host)
        except ValueError as error:
            raise ValueError(f"hosts are addresses or networks like 192.0.2.7 or 192.0.2.0/24: {error}") from error
