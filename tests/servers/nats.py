"""A real nats-server of the tests' own, with JetStream."""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from tests.program import program
from tests.servers.backends import CANARY
from tests.servers.certificates import Issued
from tests.servers.process import free_port, running

USER = "watcher"


@dataclass(frozen=True)
class Nats:
    """Where it listens."""

    port: int
    pid: int

    @property
    def target(self) -> str:
        """By TCP."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """For a client of the tests."""
        return f"nats://{USER}:{CANARY}@{self.target}"


@contextlib.contextmanager
def nats_server(directory: Path, tls: Issued | None = None, *, token: str = "", more: str = "") -> Generator[Nats]:
    """With `watcher`, who may everything, and `limited`, who may not publish; or with a token."""
    port = free_port()
    secure = f'tls {{ cert_file: "{tls.chain_file}", key_file: "{tls.key_file}" }}' if tls else ""
    users = f"""users: [
        {{user: {USER}, password: "{CANARY}"}}
        {{user: limited, password: "{CANARY}", permissions: {{publish: {{deny: ">"}}}}}}
    ]"""
    known = f'token: "{token}"' if token else users
    config = directory / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{directory}", max_file_store: 10MB }}\n{secure}\n{more}\n'
        f"authorization {{ {known} }}\n"
    )
    with running([program("nats-server"), "-c", config], log=directory / "nats.log", port=port) as child:
        yield Nats(port=port, pid=child.pid)
