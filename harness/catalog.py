"""Every kind of probe and every fault, by the name that users write: the one table to add a line to."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from stormwatch.chaos.catalog import FAULTS as _FAULTS
from stormwatch.chaos.fault_kind import FaultKind
from stormwatch.harness.installed_kinds import installed_kinds
from stormwatch.probes.probe import Kind

_OWN: Final[Mapping[str, str]] = {
    "http": "stormwatch.probes.http",
    "dns": "stormwatch.probes.dns",
    "tls": "stormwatch.probes.tls",
    "certificate-file": "stormwatch.probes.certificate_file",
    "tcp": "stormwatch.probes.tcp",
    "icmp": "stormwatch.probes.icmp",
    "unix": "stormwatch.probes.unix",
    "udp": "stormwatch.probes.udp",
    "ntp": "stormwatch.probes.ntp",
    "api": "stormwatch.probes.api",
    "grpc": "stormwatch.probes.grpc",
    "websocket": "stormwatch.probes.websocket",
    "redis": "stormwatch.probes.redis",
    "postgres": "stormwatch.probes.postgres",
    "mysql": "stormwatch.probes.mysql",
    "nats": "stormwatch.probes.nats",
    "rabbitmq": "stormwatch.probes.rabbitmq",
    "domain": "stormwatch.probes.domain",
    "exec": "stormwatch.probes.exec",
    "heartbeat": "stormwatch.probes.heartbeat",
    "kafka": "stormwatch.probes.kafka",
    "smtp": "stormwatch.probes.smtp",
    "imap": "stormwatch.probes.imap",
    "journey": "stormwatch.journeys.journey",
}
"""The modules of our kinds, each with its `KIND`."""


class Catalogue(Mapping[str, Kind[Any]]):
    """Kinds by name. A kind of ours is imported when it is asked for: a configuration names few of them.

    Names cost nothing; who goes through the values imports all.
    """

    def __init__(self, modules: Mapping[str, str], others: Mapping[str, Kind[Any]]) -> None:
        """`modules` by the names of their kinds; `others` are there already."""
        self._modules = modules
        self._names = (*modules, *others)
        self._known = dict(others)

    def __getitem__(self, name: str) -> Kind[Any]:
        if name not in self._known:
            self._known[name] = import_module(self._modules[name]).KIND
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


_INSTALLED = installed_kinds(_OWN)

KINDS: Mapping[str, Kind[Any]] = Catalogue(_OWN, _INSTALLED.kinds)
"""Kinds of probes: ours, and those of installed packages."""

UNUSABLE: Mapping[str, str] = _INSTALLED.unusable
"""Kinds of installed packages that cannot be used: why, by name."""

REFUSED: Sequence[str] = _INSTALLED.refused
"""What installed packages bring under names of ours, a sentence each."""

FAULTS: Mapping[str, FaultKind[Any]] = _FAULTS
"""Faults for drills."""
