"""A real MariaDB of the tests' own."""

import contextlib
import os
import pwd
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from tests.program import program
from tests.servers.backends import CANARY
from tests.servers.certificates import Issued
from tests.servers.process import free_port, running

USER = "watcher"


@dataclass(frozen=True)
class Mysql:
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
        return f"unix:{self.directory}/mysql.sock"

    def sql(self, statements: str) -> str:
        """What the client prints for statements of its administrator."""
        client = [program("mariadb"), "--no-defaults", "-S", f"{self.directory}/mysql.sock", "-u", "root", "-NB"]
        done = subprocess.run([*client, "-e", statements], check=True, capture_output=True, text=True)
        return done.stdout.strip()


@contextlib.contextmanager
def mysql_server(directory: Path, issued: Issued, ca_file: Path, *more: str) -> Generator[Mysql]:
    """With `watcher`, who may everything, and `limited`, who may nothing."""
    data, owner = directory / "data", pwd.getpwuid(os.geteuid()).pw_name
    server, install = program("mariadbd"), program("mariadb-install-db")
    files = ["--no-defaults", f"--datadir={data}", f"--user={owner}"]
    fast = ["--innodb-flush-log-at-trx-commit=0", "--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M"]
    made = [install, *files, *fast, "--auth-root-authentication-method=normal", "--skip-test-db"]
    subprocess.run(made, check=True, capture_output=True)
    port = free_port()
    command = [
        server,
        *files,
        *fast,
        "--bind-address=127.0.0.1",
        f"--port={port}",
        f"--socket={directory}/mysql.sock",
        f"--pid-file={directory}/mysql.pid",
        f"--ssl-cert={issued.chain_file}",
        f"--ssl-key={issued.key_file}",
        f"--ssl-ca={ca_file}",
        *more,
    ]
    with running(command, log=directory / "mysql.log", port=port) as child:
        found = Mysql(port=port, pid=child.pid, directory=directory)
        found.sql(
            f"CREATE USER {USER}@'%' IDENTIFIED BY '{CANARY}'; GRANT ALL ON *.* TO {USER}@'%';"
            f"CREATE USER limited@'%' IDENTIFIED BY '{CANARY}';"
        )
        yield found
