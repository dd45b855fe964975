"""A real RabbitMQ of the tests' own, with a name server of Erlang's of its own. It takes some seconds to start."""

import base64
import contextlib
import hashlib
import json
import subprocess
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.program import program
from tests.servers.backends import CANARY
from tests.servers.certificates import Issued
from tests.servers.process import free_port, running

USER = "watcher"


@dataclass(frozen=True)
class Rabbitmq:
    """Where it listens."""

    port: int
    tls_port: int
    pid: int
    environ: Mapping[str, str]

    @property
    def target(self) -> str:
        """Without TLS."""
        return f"127.0.0.1:{self.port}"

    @property
    def tls_target(self) -> str:
        """With TLS from the first byte."""
        return f"127.0.0.1:{self.tls_port}"

    def control(self, *words: str) -> str:
        """What rabbitmqctl prints. It takes some seconds too."""
        command = [_script("rabbitmqctl"), "-q", *words]
        return subprocess.run(command, env=dict(self.environ), check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def rabbitmq_server(directory: Path, issued: Issued) -> Generator[Rabbitmq]:
    """With `watcher`, who may everything, `limited`, who may nothing, and the queue `jobs`."""
    port, tls_port, names, distribution = (free_port() for _ in range(4))
    (directory / "definitions.json").write_text(json.dumps(_definitions()))
    (directory / "plugins").write_text("[].")
    (directory / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{port}\nlisteners.ssl.1 = 127.0.0.1:{tls_port}\n"
        f"ssl_options.certfile = {issued.chain_file}\nssl_options.keyfile = {issued.key_file}\n"
        f"load_definitions = {directory}/definitions.json\nloopback_users = none\nlog.console = false\n"
        "disk_free_limit.absolute = 1MB\n"
    )
    environ = {
        "HOME": str(directory),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
        "RUNNING_UNDER_SYSTEMD": "1",  # or a shell stands between us and the server
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    epmd = [program("epmd"), "-port", str(names), "-address", "127.0.0.1"]
    with (
        running(epmd, log=directory / "epmd.log", port=names, environ=environ),
        running([_script("rabbitmq-server")], log=directory / "out.log", port=port, environ=environ) as child,
    ):
        yield Rabbitmq(port=port, tls_port=tls_port, pid=child.pid, environ=environ)


def _script(name: str) -> str:
    """The server's own script: the one in PATH would become another user."""
    own = Path("/usr/lib/rabbitmq/bin", name)
    return str(own) if own.exists() else program(name)


def _definitions() -> dict[str, object]:
    salt = b"salt"
    digest = base64.b64encode(salt + hashlib.sha256(salt + CANARY.encode()).digest()).decode()
    hashed = {"password_hash": digest, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""}
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    nothing = {"configure": "^$", "write": "^$", "read": "^$"}
    return {
        "users": [{"name": USER, **hashed}, {"name": "limited", **hashed}, {"name": "stranger", **hashed}],
        "vhosts": [{"name": "/"}],
        "permissions": [
            {"user": USER, "vhost": "/", **everything},
            {"user": "limited", "vhost": "/", **nothing},
        ],
        "queues": [{"name": "jobs", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}],
        "exchanges": [
            {
                "name": name,
                "vhost": "/",
                "type": kind,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for name, kind in (("orders", "topic"), ("void", "headers"))
        ],
        "bindings": [
            {
                "source": "orders",
                "vhost": "/",
                "destination": "jobs",
                "destination_type": "queue",
                "routing_key": "orders.#",
                "arguments": {},
            }
        ],
    }
