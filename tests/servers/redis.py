"""A real redis-server of the tests' own."""

import contextlib
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from tests.program import program
from tests.servers.backends import CANARY
from tests.servers.certificates import Issued
from tests.servers.process import free_port, running


@dataclass(frozen=True)
class Redis:
    """Where it listens."""

    port: int
    tls_port: int
    pid: int

    @property
    def target(self) -> str:
        """Without TLS."""
        return f"127.0.0.1:{self.port}"

    @property
    def tls_target(self) -> str:
        """With TLS from the first byte."""
        return f"127.0.0.1:{self.tls_port}"

    @property
    def socket(self) -> str:
        """By a Unix socket."""
        return f"unix:{self.directory}/redis.sock"

    directory: Path

    def command(self, *words: str) -> str:
        """What redis-cli prints for a command."""
        done = subprocess.run(
            [program("redis-cli"), "-p", str(self.port), *words],
            env={"REDISCLI_AUTH": CANARY},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()


@contextlib.contextmanager
def redis_server(directory: Path, issued: Issued, ca_file: Path, *more: str) -> Generator[Redis]:
    """On two free ports and a Unix socket, nothing written to disk."""
    port, tls_port = free_port(), free_port()
    options = {
        "bind": "127.0.0.1",
        "port": port,
        "tls-port": tls_port,
        "tls-cert-file": issued.chain_file,
        "tls-key-file": issued.key_file,
        "tls-ca-cert-file": ca_file,
        "tls-auth-clients": "optional",
        "unixsocket": directory / "redis.sock",
        "requirepass": CANARY,
        "save": "",
        "appendonly": "no",
        "dir": directory,
    }
    command = [
        program("redis-server"),
        *(str(part) for name, value in options.items() for part in (f"--{name}", value)),
    ]
    with running([*command, *more], log=directory / "redis.log", port=port) as child:
        yield Redis(port=port, tls_port=tls_port, pid=child.pid, directory=directory)
