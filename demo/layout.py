"""Where a running platform keeps its files, which ports it took, and what each of its processes is told."""

import random
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stormwatch.demo.estate import CONTROL_PORT, DNS_DIRECT_PORT, DNS_PORT, SERVICES, ZONE
from stormwatch.demo.plants import PLANTS

HOST = "127.0.0.1"
ISSUER = "faults"
"""The authority that signs what faults of TLS show: its certificate and key stand beside those of the services."""
_FREE = range(20000, 32000)
"""Below the range from which the kernel takes ports of outgoing connections (32768 and up): a service that is stopped for
a while finds its port still free."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The files in the directory of a platform, which is absolute: other processes are told of them."""

    directory: Path

    @classmethod
    def at(cls, directory: Path) -> "Layout":
        """The files in a directory that may be given relative to the current one."""
        return cls(directory.absolute())

    @property
    def state(self) -> Path:
        """Says to everybody how the platform is reached. Exists while it is ready."""
        return self.directory / "platform.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor for as long as it lives."""
        return self.directory / "supervisor.lock"

    @property
    def socket(self) -> str:
        """Name of the socket on which the supervisor takes orders."""
        return "supervisor.sock"

    @property
    def ca(self) -> Path:
        """The certificate that clients must trust."""
        return self.directory / "ca.pem"

    @property
    def routes(self) -> Path:
        """The routes of the fault proxy."""
        return self.directory / "routes.json"

    @property
    def logs(self) -> Path:
        """One log a process: access lines, and what it had to complain about."""
        return self.directory / "logs"

    @property
    def planted(self) -> Path:
        """An empty file for each failure that is planted now: see `plants`."""
        return self.directory / "planted"

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"

    def certificate(self, name: str) -> Path:
        """The chain of a service."""
        return self.directory / "certificates" / f"{name}.pem"

    def key(self, name: str) -> Path:
        """The private key of a service."""
        return self.directory / "certificates" / f"{name}.key"

    def database(self, name: str) -> Path:
        """The state of a service."""
        return self.directory / "databases" / f"{name}.sqlite"

    def clean(self) -> None:
        """Remove what an earlier platform left behind: exactly the files that one makes, and nothing else."""
        for folder in (self.logs, self.certificate("").parent, self.database("").parent):
            folder.mkdir(parents=True, exist_ok=True)
        left = [self.state, self.ca, self.routes, self.directory / self.socket]
        left += [self.log(name) for name in ("supervisor", "dns", "proxy", *SERVICES)]
        left += [self.certificate(ISSUER), self.key(ISSUER), *(self.planted / name for name in PLANTS)]
        for name in SERVICES:
            database = self.database(name)
            left += [self.certificate(name), self.key(name), database]
            left += [database.with_name(database.name + suffix) for suffix in ("-wal", "-shm")]
        for path in left:
            path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Every port of a platform. `front` are the routes of the fault proxy, `direct` the services behind them."""

    dns: int
    dns_direct: int
    control: int
    front: Mapping[str, int]
    direct: Mapping[str, int]

    def url(self, name: str) -> str:
        """How a service is reached by everybody: through its route of the proxy."""
        return f"https://{SERVICES[name].host}:{self.front[name]}"

    def environs(self, layout: Layout, *, supervisor: int) -> dict[str, dict[str, str]]:
        """The environment of each process, by its name; the processes that others wait for come first."""
        shared = {"SUPERVISOR": str(supervisor), "DNS_SERVER": f"{HOST}:{self.dns}", "CA": str(layout.ca)}
        environs = {
            "dns": {**shared, "LISTEN": f"{HOST}:{self.dns_direct}"},
            "proxy": {**shared, "ROUTES": str(layout.routes), "CONTROL": f"{HOST}:{self.control}"},
        }
        for name, spec in SERVICES.items():
            environs[name] = {
                **shared,
                "LISTEN": f"{HOST}:{self.direct[name]}",
                "CERTIFICATE": str(layout.certificate(name)),
                "KEY": str(layout.key(name)),
                "DATABASE": str(layout.database(name)),
                "PLANTED": str(layout.planted),
                **{f"{other.upper()}_URL": self.url(other) for other in (*spec.needs, *spec.embeds)},
            }
        return environs

    def routes(self, layout: Layout) -> list[dict[str, Any]]:
        """The routes of the fault proxy, in the words of the configuration file."""
        return [
            {
                "name": name,
                "listen": f"{HOST}:{self.front[name]}",
                "upstream": f"{HOST}:{self.direct[name]}",
                "tls": {
                    "certificate": str(layout.certificate(name)),
                    "key": str(layout.key(name)),
                    "ca": str(layout.ca),
                    "server_name": spec.host,
                },
                "issuer": {"certificate": str(layout.certificate(ISSUER)), "key": str(layout.key(ISSUER))},
            }
            for name, spec in SERVICES.items()
        ] + [
            {
                "name": "dns",
                "listen": f"{HOST}:{self.dns}",
                "upstream": f"{HOST}:{self.dns_direct}",
                "dns": True,
            }
        ]

    def state(self, layout: Layout, *, pids: Mapping[str, int], supervisor: int, spki: str) -> dict[str, Any]:
        """What `platform.json` says."""
        return {
            "directory": str(layout.directory),
            "zone": ZONE,
            "dns": f"{HOST}:{self.dns}",
            "dns_direct": f"{HOST}:{self.dns_direct}",
            "issuer": {"certificate": str(layout.certificate(ISSUER)), "key": str(layout.key(ISSUER))},
            "ca": str(layout.ca),
            "spki": spki,
            "shop": self.url("shop"),
            "control": f"http://{HOST}:{self.control}",
            "services": {
                name: {
                    "url": self.url(name),
                    "direct": f"https://{spec.host}:{self.direct[name]}",
                    "pid": pids[name],
                    "certificate": str(layout.certificate(name)),
                    "key": str(layout.key(name)),
                }
                for name, spec in SERVICES.items()
            },
            "pids": {"supervisor": supervisor, **pids},
        }


def remembered_ports(is_free: Callable[[int], bool] | None = None) -> Ports:
    """The ports that people can remember (the shop at 18443); another one for each that is taken."""
    return _ports(is_free or _is_free, lambda port: port)


def free_ports(is_free: Callable[[int], bool] | None = None) -> Ports:
    """Ports that nobody can foresee, so that many platforms can live on one machine."""
    return _ports(is_free or _is_free, lambda _port: 0)


def _ports(is_free: Callable[[int], bool], wanted: Callable[[int], int]) -> Ports:
    taken: set[int] = set()

    def take(port: int) -> int:
        for candidate in (wanted(port), *_shuffled(_FREE)):
            if candidate and candidate not in taken and is_free(candidate):
                taken.add(candidate)
                return candidate
        raise OSError(f"no free port from {_FREE.start} to {_FREE.stop}")

    return Ports(
        dns=take(DNS_PORT),
        dns_direct=take(DNS_DIRECT_PORT),
        control=take(CONTROL_PORT),
        front={name: take(spec.port) for name, spec in SERVICES.items()},
        direct={name: take(spec.direct_port) for name, spec in SERVICES.items()},
    )


def _shuffled(ports: range) -> Iterable[int]:
    return random.SystemRandom().sample(ports, k=500)


def _is_free(port: int) -> bool:
    """Whether both TCP and UDP can be had."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as trial:
            if kind == socket.SOCK_STREAM:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((HOST, port))
            except OSError:
                return False
    return True
