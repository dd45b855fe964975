"""A real PostgreSQL of the tests' own, as the user that its package made when root runs the tests: it refuses root."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.program import program
from tests.servers.backends import CANARY
from tests.servers.certificates import Issued
from tests.servers.process import free_port, running

USER = "watcher"


@dataclass(frozen=True)
class Postgres:
    """Where it listens."""

    port: int
    pid: int
    directory: Path

    @property
    def target(self) -> str:
        """By TCP."""
        return f"127.0.0.1:{self.port}"

    @property
    def socket(self) -> str:
        """By a Unix socket."""
        return f"unix:{self.directory}/.s.PGSQL.{self.port}"

    def sql(self, statement: str) -> str:
        """What psql prints for a statement."""
        done = subprocess.run(
            [
                _binary("psql"),
                "-XAtq",
                "-h",
                "127.0.0.1",
                "-p",
                str(self.port),
                "-U",
                USER,
                "postgres",
                "-c",
                statement,
            ],
            env={"PGPASSWORD": CANARY},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()


@contextlib.contextmanager
def postgres_server(issued: Issued, ca_file: Path, *, standby: bool = False) -> Generator[Postgres]:
    """With `standby` it replays nobody's log for ever, and knows that it is a replica."""
    with _own_directory() as directory:
        data, password = directory / "data", directory / "password"
        password.write_text(CANARY)
        for source, name in ((issued.chain_file, "server.pem"), (issued.key_file, "server.key"), (ca_file, "ca.pem")):
            shutil.copy(source, directory / name)
        (directory / "server.key").chmod(0o600)
        _give_away(directory)
        initdb = ["-D", str(data), "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync", "-E", "UTF8"]
        subprocess.run(_as_owner([_binary("initdb"), *initdb, "--locale=C"]), check=True, capture_output=True)
        if standby:
            (data / "standby.signal").touch()
            _give_away(data)
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": directory,
            "port": (port := free_port()),
            "fsync": "off",
            "shared_buffers": "1MB",
            "ssl": "on",
            "ssl_cert_file": directory / "server.pem",
            "ssl_key_file": directory / "server.key",
            "ssl_ca_file": directory / "ca.pem",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = _as_owner([_binary("postgres"), "-D", str(data), *options])
        with running(command, log=directory / "postgres.log", port=port) as child:
            server = Postgres(port=port, pid=child.pid, directory=directory)
            _wait_until_it_asks(server)
            yield server


def _wait_until_it_asks(server: Postgres) -> None:
    command = [_binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(server.port), "-t", "10"]
    for _ in range(100):
        if subprocess.run(command, check=False).returncode == 0:
            return
        subprocess.run(["sleep", "0.1"], check=True)
    raise AssertionError((server.directory / "postgres.log").read_text()[-4000:])


def _binary(name: str) -> str:
    """Debian keeps the servers of each version apart; the newest one is taken."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    return str(found[-1]) if found else program(name)


def _as_owner(command: list[str]) -> list[str]:
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--", *command]


def _give_away(path: Path) -> None:
    if os.geteuid() == 0:
        try:
            subprocess.run(["chown", "-R", "postgres:postgres", str(path)], check=True, capture_output=True)
        except subprocess.CalledProcessError:
            if os.environ.get("CI"):
                raise
            pytest.skip("there is no user postgres to run the server as")


@contextlib.contextmanager
def _own_directory() -> Generator[Path]:
    """Beside pytest's own, which nobody but root may enter."""
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        yield Path(name)
