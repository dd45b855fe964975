"""Kafka brokers for tests: librdkafka's mock cluster, and one that answers what a test says.

The mock cluster speaks the real protocol, and shares no code with the client under test. It is made for tests of clients,
runs inside a process (https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka_mock.h), and has no logins and no TLS.
"""

import contextlib
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from aiokafka.protocol.admin import ApiVersionResponse_v0

from tests.servers import web

_PROGRAM = """
import json, sys
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 3, "log_level": 0})
topic = producer.list_topics("watched", timeout=20)
producer.produce("watched", b"not yours", partition=0)
producer.flush(20)
topic = producer.list_topics("watched", timeout=20)
brokers = {node: f"{each.host}:{each.port}" for node, each in topic.brokers.items()}
leaders = {number: each.leader for number, each in topic.topics["watched"].partitions.items()}
print(json.dumps([brokers, leaders]), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Kafka:
    """A cluster with the topic `watched`."""

    brokers: Mapping[str, str]
    """Addresses by node."""
    leaders: Mapping[str, int]
    """Nodes by partition."""
    pid: int

    def leading(self, partition: int) -> str:
        """The address of the partition's leader."""
        return self.brokers[str(self.leaders[str(partition)])]

    def following(self, partition: int) -> str:
        """The address of another broker."""
        return next(each for node, each in self.brokers.items() if node != str(self.leaders[str(partition)]))


@contextlib.contextmanager
def kafka_cluster(directory: Path) -> Generator[Kafka]:
    """Three brokers in a process of their own, which can be held up, and ends when its input does."""
    with (
        (directory / "kafka.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            line = child.stdout.readline()
            assert line, (directory / "kafka.log").read_text()[-2000:]
            brokers, leaders = json.loads(line)
            yield Kafka(brokers=brokers, leaders=leaders, pid=child.pid)
        finally:
            child.stdin.close()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


VERSIONS: list[tuple[int, int, int]] = [(0, 3, 3), (1, 4, 4), (3, 1, 1), (17, 1, 1), (18, 0, 0), (36, 0, 0)]
"""Produce, Fetch, Metadata, SaslHandshake, ApiVersions and SaslAuthenticate, in one version each."""


def scripted(answers: Mapping[int, Callable[[bytes], Any]]) -> web.Behaviour:
    """A broker that answers requests by their key with what a function makes of their body; it is silent to others."""

    async def behave(exchange: web.Exchange) -> None:
        while True:
            (size,) = struct.unpack(">i", await exchange.reader.readexactly(4))
            request = BytesIO(await exchange.reader.readexactly(size))
            key, _, correlation, length = struct.unpack(">hhih", request.read(10))
            request.read(length)
            known = {18: lambda _: ApiVersionResponse_v0(0, VERSIONS), **answers}
            if key in known:
                answer = known[key](request.read())
                said = struct.pack(">i", correlation) + (answer if isinstance(answer, bytes) else answer.encode())
                exchange.writer.write(struct.pack(">i", len(said)) + said)

    return behave
