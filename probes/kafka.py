"""The kind `kafka`: a login, the state of a cluster and a topic, a message appended and read back.

Brokers name each other, and a message goes to the leader of its partition: the address that is named is asked about at the
reach policy like every other, and connected to as it was resolved.
"""

import secrets
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from stormwatch.probes import backend
from stormwatch.probes.backend import Backend, BackendOptions, detour_of, judge_speed, show_words
from stormwatch.probes.endpoint import Endpoint, check_host
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds
from stormwatch.probes.wanted import ExpectValue, Wanted
from stormwatch.probes.watch import Watch

if TYPE_CHECKING:
    from stormwatch.probes.kafka_session import Cluster, Refused, Session

PORT: Final = 9092
TLS_PORT: Final = 9093

# https://kafka.apache.org/protocol#protocol_error_codes
_CREDENTIALS: Final = frozenset({29, 30, 31, 33, 34, 53, 54, 58})
"""Error codes that speak of who we are, and of what we may do."""
_UNKNOWN_TOPIC: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectKafka:
    """What must come of the run. A topic that is named must be there, and each of its partitions must have a leader."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    brokers: ExpectValue | None = None
    """How many brokers the cluster must have."""
    partitions: ExpectValue | None = None
    """How many partitions the topic must have."""
    in_sync: bool = True
    """Every replica of every partition must be in sync."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaOptions(BackendOptions):
    """How to log in, and what to look at."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """How to log in when there is a username."""
    topic: str = ""
    """Name of a topic to look at; none when empty."""
    round_trip: bool = False
    """Append a message that nobody else has to the topic, and read it back. It stays there as long as the topic keeps any."""
    partition: Annotated[int, Field(ge=0)] = 0
    """The partition that the message goes to."""
    expect: ExpectKafka = field(default_factory=ExpectKafka)
    """What must come of it."""


def build(target: str, options: KafkaOptions) -> Check:
    """A check of one broker, and of the leader of a partition. Raises ValueError for what cannot work."""
    expect = options.expect
    if bool(options.username) != bool(options.password):
        raise ValueError("username and password belong together: give both or none")
    if options.round_trip and not options.topic:
        raise ValueError("round_trip: it needs a place for its message: give `topic` too")
    if expect.partitions is not None and not options.topic:
        raise ValueError("expect.partitions is about a topic: give `topic` too")
    wanted = {
        name: Wanted.of(what, value, where=f"expect.{name}")
        for name, what, value in (
            ("brokers", "the number of brokers", expect.brokers),
            ("partitions", f"the number of partitions of topic {options.topic}", expect.partitions),
        )
        if value is not None
    }
    port = TLS_PORT if options.tls else PORT
    return KafkaCheck(backend=Backend.of("kafka", target, options, port=port), options=options, wanted=wanted)


@dataclass(frozen=True, slots=True, eq=False)
class KafkaCheck:
    """Looks at one cluster through one broker."""

    backend: Backend
    options: KafkaOptions
    wanted: dict[str, Wanted]

    async def __call__(self, watch: Watch) -> None:
        """Connect, log in, look at cluster and topic, append a message and read it back."""
        async with self._session(watch, self.backend) as session:
            with self._told(), watch.phase("metadata"):
                cluster = await session.describe(self.options.topic)
                self._judge(watch, cluster)
                leader = self._leader(cluster) if self.options.round_trip else None
            if leader is not None and leader.place == self.backend.place:
                await self._round_trip(watch, session)
        if leader is not None and leader.place != self.backend.place:
            with _target_told_alone(watch):
                async with self._session(watch, leader) as session:
                    await self._round_trip(watch, session)
        judge_speed(watch, self.options.expect.slower_than)

    @asynccontextmanager
    async def _session(self, watch: Watch, place: Backend) -> "AsyncGenerator[Session]":
        from stormwatch.probes.kafka_session import Session

        async with place.opened(watch) as streams:
            if place.context is not None:
                await place.secure(watch, streams)
            session = Session(streams)
            with self._told():
                with watch.phase("greeting"):
                    await session.greet()
                if place.username:
                    with watch.phase("login"):
                        await session.log_in(self.options.mechanism, place.username, place.password)
            yield session

    def _judge(self, watch: Watch, cluster: "Cluster") -> None:
        partitions = cluster.partitions
        behind = [each for each in partitions if each.in_sync < each.replicas]
        counts = {"brokers": len(cluster.brokers)}
        if self.options.topic:
            counts["partitions"] = len(partitions)
            watch.measure("stormwatch_kafka_topic_under_replicated_partitions", len(behind))
        for name, count in counts.items():
            watch.measure(f"stormwatch_kafka_{name}", count)
        for name, wanted in self.wanted.items():
            if (failure := wanted.judge(counts[name])) is not None:
                raise failure
        for each in partitions:
            if each.leader not in cluster.brokers:
                raise ProbeFailed(
                    Reason.ASSERTION, f"partition {each.number} of topic {self.options.topic} has no leader"
                )
        if behind and self.options.expect.in_sync:
            first = behind[0]
            raise ProbeFailed(
                Reason.ASSERTION,
                f"{len(behind)} of {len(partitions)} partitions of topic {self.options.topic} are under-replicated; "
                f"partition {first.number} has {first.in_sync} of {first.replicas} replicas in sync",
            )

    def _leader(self, cluster: "Cluster") -> Backend:
        found = [each for each in cluster.partitions if each.number == self.options.partition]
        if not found:
            raise ProbeFailed(
                Reason.ASSERTION,
                f"topic {self.options.topic} has {len(cluster.partitions)} partitions, wanted one of number "
                f"{self.options.partition}",
            )
        host, port = cluster.brokers[found[0].leader]
        try:
            place = Endpoint(check_host(host, what="the leader's address"), port)
        except ValueError as error:
            raise self.backend.garbled(error) from error
        if place.port not in range(1, 65536):
            raise self.backend.garbled(f"a leader on port {port}")
        own_name = self.backend.name == self.backend.place.host
        return replace(self.backend, place=place, detour=None, name=place.host if own_name else self.backend.name)

    async def _round_trip(self, watch: Watch, session: "Session") -> None:
        message, topic, partition = secrets.token_hex(16).encode(), self.options.topic, self.options.partition
        with self._told():
            with watch.phase("publish"):
                offset = await session.publish(topic, partition, message, watch.remaining())
            with watch.phase("receive"):
                await session.wait_for(topic, partition, offset, message)

    @contextmanager
    def _told(self) -> Generator[None]:
        """What the broker says as our exceptions."""
        from stormwatch.probes.kafka_session import Garbled, Refused

        try:
            with self.backend.talking():
                yield
        except Garbled as error:
            raise self.backend.garbled(error) from error
        except Refused as error:
            raise self._explain(error) from error

    def _explain(self, error: "Refused") -> ProbeFailed | ProbeBroken:
        if error.code in _CREDENTIALS:
            return self.backend.refused_login(str(error))
        if error.code == _UNKNOWN_TOPIC:
            return ProbeFailed(Reason.ASSERTION, f"{self.backend} has no topic {self.options.topic}")
        return ProbeFailed(Reason.ASSERTION, f"{self.backend} answered with an error: {show_words(str(error))}")


@contextmanager
def _target_told_alone(watch: Watch) -> Generator[None]:
    """Address and certificate are exported of the target, and not of the leader too, which is named in the evidence."""
    measures, remote = len(watch.measures), watch.evidence.get("remote")
    try:
        yield
    finally:
        del watch.measures[measures:]
        watch.note("leader", watch.evidence.get("remote"))
        watch.note("remote", remote)


KIND: Final = Kind(
    name="kafka",
    options=KafkaOptions,
    build=build,
    detour=detour_of(PORT, tls_port=TLS_PORT),
    phases=("resolve", "connect", "tls", "greeting", "login", "metadata", "publish", "receive"),
    phase_metric=Metric("stormwatch_kafka_duration_seconds", "Seconds of a look at Kafka by phase"),
    metrics=(
        *backend.METRICS,
        Metric("stormwatch_kafka_brokers", "Brokers that the cluster has"),
        Metric("stormwatch_kafka_partitions", "Partitions that the topic has"),
        Metric("stormwatch_kafka_topic_under_replicated_partitions", "Partitions of which a replica is not in sync"),
    ),
    reasons=backend.REASONS,
    extra="kafka",
    module="aiokafka",
)
