"""The faults of the host, one row a fault: what it is put on, and what carries it out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from stormwatch.chaos import host_network, host_stress
from stormwatch.chaos.breakage import Breakage
from stormwatch.chaos.fault_kind import BEHIND, FaultKind
from stormwatch.chaos.host_clock import Shifting
from stormwatch.chaos.host_command import Commanding
from stormwatch.chaos.host_descriptors import Exhausting
from stormwatch.chaos.host_disk import Filling
from stormwatch.chaos.host_network import Link
from stormwatch.chaos.host_options import (
    ClockShift,
    CommandFault,
    CpuStress,
    DiskFull,
    DiskStress,
    FdExhaust,
    IoStress,
    MemoryStress,
    NetDelay,
    NetLoss,
    NetPartition,
    NetRate,
    ProcessKill,
    ProcessPause,
    ProcessRestart,
)
from stormwatch.chaos.host_process import Daemon, Killing, Pausing
from stormwatch.chaos.host_stress import Load, Stressing
from stormwatch.chaos.host_targets import NetworkTarget, PathTarget, ProcessTarget
from stormwatch.chaos.option import Options
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import Machine
from stormwatch.probes.result import Reason

_SLOWLY = frozenset({Reason.TOO_SLOW, Reason.TIMEOUT})
_ENDED = frozenset({Reason.REFUSED, Reason.RESET, Reason.TIMEOUT, Reason.STATUS})


def _daemon(target: Target) -> Daemon:
    return Daemon.of(cast("ProcessTarget", target.options))


def _link(target: Target) -> Link:
    options = cast("NetworkTarget", target.options)
    return Link(options.namespace, options.interface)


def _directory(target: Target) -> str:
    return cast("PathTarget", target.options).directory


def _load(of: Callable[[Any], Load]) -> Callable[[str, Any, Target], Breakage]:
    return lambda fault, options, _target: Stressing(fault, of(options))


def _stays_away(_options: Any, target: Target) -> str:
    if cast("ProcessTarget", target.options).comes_back:
        return ""
    return f"nothing would bring {target.name} back; give the target `start`, `unit` or `supervised: true`"


def _cannot_be_started(_options: Any, target: Target) -> str:
    if cast("ProcessTarget", target.options).start:
        return ""
    return f"it has to be started by us, and {target.name} has no `start`; give the target one"


HOST_FAULTS: tuple[FaultKind[Options], ...] = (
    FaultKind(
        "process-kill",
        ProcessKill,
        "a process is ended",
        _ENDED,
        reason_note="status or timeout when another process answers in its place",
        on="process",
        breakage=lambda fault, options, target: Killing(fault, options, _daemon(target)),
        refuses=_stays_away,
    ),
    FaultKind(
        "process-pause",
        ProcessPause,
        "a process is stopped, and keeps its ports",
        frozenset({Reason.TIMEOUT}),
        on="process",
        breakage=lambda fault, options, target: Pausing(fault, options, _daemon(target)),
    ),
    FaultKind(
        "process-restart",
        ProcessRestart,
        "a process is ended and started again at once",
        _ENDED,
        reason_note="only of a run that falls into the gap",
        on="process",
        breakage=lambda fault, options, target: Killing(fault, options, _daemon(target), again=True),
        refuses=_stays_away,
    ),
    FaultKind(
        "fd-exhaust",
        FdExhaust,
        "a process may open no more file descriptors",
        frozenset({Reason.TIMEOUT, Reason.RESET, Reason.STATUS, Reason.PROTOCOL}),
        reason_note="by what the service does when it cannot accept or open",
        on="process",
        breakage=lambda fault, options, target: Exhausting(fault, options, _daemon(target)),
    ),
    FaultKind(
        "clock-shift",
        ClockShift,
        "a process runs with another clock",
        frozenset({Reason.CERTIFICATE, Reason.TLS, Reason.STATUS, Reason.ASSERTION}),
        reason_note="by what the service does with the time: certificates, tokens, signatures",
        on="process",
        breakage=lambda fault, options, target: Shifting(fault, options, _daemon(target)),
        refuses=_cannot_be_started,
    ),
    FaultKind(
        "disk-full",
        DiskFull,
        "a file system has no room left",
        frozenset({Reason.STATUS, Reason.ASSERTION, Reason.TIMEOUT}),
        reason_note="by what the service does when it cannot write",
        on="path",
        breakage=lambda fault, options, target: Filling(fault, options, Path(_directory(target))),
    ),
    FaultKind(
        "disk-stress",
        DiskStress,
        "a disk is kept busy with writing",
        _SLOWLY,
        on="path",
        breakage=lambda fault, options, target: Stressing(fault, host_stress.of_disk(options, _directory(target))),
    ),
    FaultKind(
        "cpu-stress", CpuStress, "processors are kept busy", _SLOWLY, on="machine", breakage=_load(host_stress.of_cpu)
    ),
    FaultKind(
        "memory-stress",
        MemoryStress,
        "memory is taken",
        _SLOWLY,
        reason_note="and what process-kill shows, when memory runs out and the kernel ends a process",
        on="machine",
        breakage=_load(host_stress.of_memory),
    ),
    FaultKind(
        "io-stress",
        IoStress,
        "what is in memory is written to the disks again and again",
        _SLOWLY,
        on="machine",
        breakage=_load(host_stress.of_io),
    ),
    FaultKind(
        "net-partition",
        NetPartition,
        "packets of an interface are dropped",
        frozenset({Reason.TIMEOUT}),
        on="network",
        breakage=lambda fault, options, target: host_network.partition(fault, options, _link(target)),
    ),
    FaultKind(
        "net-loss",
        NetLoss,
        "a share of the packets of an interface is dropped",
        _SLOWLY,
        reason_note="TCP sends again what was lost: small shares only make it slower",
        on="network",
        breakage=lambda fault, options, target: host_network.loss(fault, options, _link(target)),
    ),
    FaultKind(
        "net-delay",
        NetDelay,
        "packets go out of an interface later",
        _SLOWLY,
        reason_note="too-slow while the delay is below the probe's timeout, timeout above it",
        on="network",
        breakage=lambda fault, options, target: host_network.delay(fault, options, _link(target)),
    ),
    FaultKind(
        "net-rate",
        NetRate,
        "packets go out of an interface through a slow line",
        _SLOWLY,
        on="network",
        breakage=lambda fault, options, target: host_network.rate(fault, options, _link(target)),
    ),
    FaultKind(
        "command",
        CommandFault,
        "a program of yours breaks something, another mends it",
        BEHIND | _ENDED,
        reason_note="by what the program breaks",
        on="machine",
        breakage=lambda fault, options, target: Commanding(fault, options, cast("Machine", target.options).env),
    ),
)
"""What is broken on the machine itself, or by programs of the user."""
