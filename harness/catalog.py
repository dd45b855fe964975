"""Every kind of probe and every fault, by the name that users write: the one table to add a line to."""

from collections.abc import Mapping, Sequence
from typing import Any

from stormwatch.chaos.catalog import FAULTS as _FAULTS
from stormwatch.chaos.fault_kind import FaultKind
from stormwatch.harness.installed_kinds import installed_kinds
from stormwatch.journeys.journey import KIND as JOURNEY
from stormwatch.probes.api import KIND as API
from stormwatch.probes.certificate_file import KIND as CERTIFICATE_FILE
from stormwatch.probes.dns import KIND as DNS
from stormwatch.probes.domain import KIND as DOMAIN
from stormwatch.probes.exec import KIND as EXEC
from stormwatch.probes.grpc import KIND as GRPC
from stormwatch.probes.heartbeat import KIND as HEARTBEAT
from stormwatch.probes.http import KIND as HTTP
from stormwatch.probes.icmp import KIND as ICMP
from stormwatch.probes.imap import KIND as IMAP
from stormwatch.probes.kafka import KIND as KAFKA
from stormwatch.probes.mysql import KIND as MYSQL
from stormwatch.probes.nats import KIND as NATS
from stormwatch.probes.ntp import KIND as NTP
from stormwatch.probes.postgres import KIND as POSTGRES
from stormwatch.probes.probe import Kind
from stormwatch.probes.rabbitmq import KIND as RABBITMQ
from stormwatch.probes.redis import KIND as REDIS
from stormwatch.probes.smtp import KIND as SMTP
from stormwatch.probes.tcp import KIND as TCP
from stormwatch.probes.tls import KIND as TLS
from stormwatch.probes.udp import KIND as UDP
from stormwatch.probes.unix import KIND as UNIX
from stormwatch.probes.websocket import KIND as WEBSOCKET

_OWN = (
    HTTP,
    DNS,
    TLS,
    CERTIFICATE_FILE,
    TCP,
    ICMP,
    UNIX,
    UDP,
    NTP,
    API,
    GRPC,
    WEBSOCKET,
    REDIS,
    POSTGRES,
    MYSQL,
    NATS,
    RABBITMQ,
    DOMAIN,
    EXEC,
    HEARTBEAT,
    KAFKA,
    SMTP,
    IMAP,
    JOURNEY,
)
_INSTALLED = installed_kinds({kind.name: kind for kind in _OWN})

KINDS: Mapping[str, Kind[Any]] = {**{kind.name: kind for kind in _OWN}, **_INSTALLED.kinds}
"""Kinds of probes: ours, and those of installed packages."""

UNUSABLE: Mapping[str, str] = _INSTALLED.unusable
"""Kinds of installed packages that cannot be used: why, by name."""

REFUSED: Sequence[str] = _INSTALLED.refused
"""What installed packages bring under names of ours, a sentence each."""

FAULTS: Mapping[str, FaultKind[Any]] = _FAULTS
"""Faults for drills."""
