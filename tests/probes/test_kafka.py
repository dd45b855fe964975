"""The kind `kafka` against librdkafka's mock brokers, and against one that answers what a test says."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import re
import ssl
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from aiokafka.protocol.admin import SaslAuthenticateResponse_v0, SaslHandShakeResponse_v1
from aiokafka.protocol.fetch import FetchRequest_v4, FetchResponse_v4
from aiokafka.protocol.metadata import MetadataRequest_v1, MetadataResponse_v1
from aiokafka.protocol.produce import ProduceResponse_v3
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.kafka import KIND
from stormwatch.probes.kafka_session import Garbled, read_answer, read_cluster, read_fetched
from stormwatch.probes.reach import Reach, networks
from stormwatch.probes.result import Outcome, Reason
from tests.servers import web
from tests.servers.backends import CANARY, check_the_way, ending, is_silent_about_secrets, paused
from tests.servers.certificates import Issued
from tests.servers.kafka import Kafka, kafka_cluster, scripted
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle
from tests.servers.proxied import proxied, route_to

ROUND = {"topic": "watched", "round_trip": True}


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Generator[Kafka]:
    """One for all tests of this file."""
    with kafka_cluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


@pytest.mark.shows("kafka", "up")
async def test_a_cluster_that_describes_itself_is_up(kafka: Kafka) -> None:
    """The smallest probe."""
    result = await run(KIND, kafka.leading(0))
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "greeting", "metadata"]
    assert measures(result)["probe_ip_protocol"] == 4
    assert measures(result)["stormwatch_kafka_brokers"] == 3
    assert result.evidence == {"remote": kafka.leading(0)}


@pytest.mark.shows("kafka", "up")
async def test_a_message_is_appended_and_read_back(kafka: Kafka) -> None:
    """From the leader of its partition, whoever was asked first."""
    direct = await run(KIND, kafka.leading(0), ROUND)
    assert (direct.outcome, direct.message) == (Outcome.UP, "")
    assert phase_names(direct)[-3:] == ["metadata", "publish", "receive"]
    assert measures(direct)["stormwatch_kafka_topic_under_replicated_partitions"] == 0
    asked = kafka.following(0)
    led = await run(KIND, asked, {**ROUND, "expect": {"brokers": {"equals": 3}, "partitions": {"above": 3}}})
    assert (led.outcome, led.message) == (Outcome.UP, "")
    assert led.evidence == {"remote": asked, "leader": kafka.leading(0)}
    assert phase_names(led)[-6:] == ["metadata", "resolve", "connect", "greeting", "publish", "receive"]
    assert [m.name for m in led.measures].count("probe_ip_protocol") == 1


async def test_a_leader_that_is_the_target_itself_is_reached_by_the_way_that_was_given(kafka: Kafka) -> None:
    """All of a run goes by `connect_to`; another leader is connected to where the cluster says."""
    leader = kafka.leading(0)
    async with proxied(route_to(int(leader.rpartition(":")[2]))) as proxy:
        way = f"127.0.0.1:{proxy.port()}"
        itself = await run(KIND, leader, {**ROUND, "connect_to": way})
        # Never looked up: it is not connected to.
        by_name = await run(KIND, "kafka.test:9092", {**ROUND, "connect_to": way})
    assert (itself.outcome, itself.evidence) == (Outcome.UP, {"remote": way}), itself.message
    assert (by_name.outcome, by_name.evidence) == (Outcome.UP, {"remote": way, "leader": leader}), by_name.message


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"topic": "none"}, "has no topic none"),
    ({"expect": {"brokers": {"above": 3}}}, "the number of brokers is 3, wanted above 3"),
    (
        {"topic": "watched", "expect": {"partitions": {"equals": 1}}},
        "the number of partitions of topic watched is 4, wanted equal to 1",
    ),
    ({**ROUND, "partition": 9}, "topic watched has 4 partitions, wanted one of number 9"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
@pytest.mark.shows("kafka", "assertion")
async def test_what_is_not_there_is_down(kafka: Kafka, options: dict[str, Any], message: str) -> None:
    """Topics, brokers, partitions; and no topic is made by asking for it."""
    for _ in range(2):
        result = await run(KIND, kafka.leading(0), options)
        assert ending(result) == (Outcome.DOWN, Reason.ASSERTION, "metadata"), result.message
        assert message in result.message


def cluster(port: int = 1, *, leader: int = 1, in_sync: int = 2, host: str = "127.0.0.1") -> MetadataResponse_v1:
    """One broker that leads, or not, the one partition of a topic with two replicas."""
    partitions = [(0, 0, leader, [1, 2], [1, 2][:in_sync])]
    return MetadataResponse_v1([(1, host, port, None)], 1, [(0, "watched", False, partitions)])


@pytest.mark.shows("kafka", "assertion", "up")
async def test_partitions_without_leader_or_replicas_are_down() -> None:
    """Under-replicated ones can be allowed."""
    async with web.serving(scripted({3: lambda _: cluster(in_sync=1)}), before_request=True) as server:
        behind = await run(KIND, f"127.0.0.1:{server.port}", {"topic": "watched"})
        options = {"topic": "watched", "expect": {"in_sync": False}}
        allowed = await run(KIND, f"127.0.0.1:{server.port}", options)
    assert ending(behind) == (Outcome.DOWN, Reason.ASSERTION, "metadata")
    told = "1 of 1 partitions of topic watched are under-replicated; partition 0 has 1 of 2 replicas in sync"
    assert behind.message == told
    assert measures(behind)["stormwatch_kafka_topic_under_replicated_partitions"] == 1
    assert allowed.outcome is Outcome.UP
    async with web.serving(scripted({3: lambda _: cluster(leader=-1)}), before_request=True) as server:
        headless = await run(KIND, f"127.0.0.1:{server.port}", {"topic": "watched"})
    assert headless.message == "partition 0 of topic watched has no leader"


@pytest.mark.shows("kafka", "broken")
async def test_a_leader_where_probes_may_not_go_is_not_followed() -> None:
    """Nor is one whose name is none."""
    reach = Reach(refuse=networks(["127.0.0.2"]))
    async with web.serving(web.silent, before_request=True, host="127.0.0.2") as elsewhere:
        behaviour = scripted({3: lambda _: cluster(elsewhere.port, host="127.0.0.2")})
        async with web.serving(behaviour, before_request=True) as server:
            result = await run(KIND, f"127.0.0.1:{server.port}", ROUND, reach=reach)
        assert elsewhere.connections == 0
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.POLICY)
    async with web.serving(scripted({3: lambda _: cluster(host="a b")}), before_request=True) as server:
        nonsense = await run(KIND, f"127.0.0.1:{server.port}", ROUND)
    assert ending(nonsense) == (Outcome.DOWN, Reason.PROTOCOL, "metadata")


@contextlib.asynccontextmanager
async def alone(answers: dict[int, Any]) -> AsyncGenerator[web.Server]:
    """A broker that leads the topic itself."""
    found: list[int] = []
    behaviour = scripted({3: lambda _: cluster(found[0]), **answers})
    async with web.serving(behaviour, before_request=True) as server:
        found.append(server.port)
        yield server


@pytest.mark.parametrize(
    ("answers", "reason", "phase", "message"),
    [
        ({}, Reason.TIMEOUT, "publish", "no answer"),
        ({0: lambda _: ProduceResponse_v3([("watched", [(0, 0, 7, -1)])], 0)}, Reason.TIMEOUT, "receive", "no answer"),
        (
            {0: lambda _: ProduceResponse_v3([("watched", [(0, 19, -1, -1)])], 0)},
            Reason.ASSERTION,
            "publish",
            "(code 19)",
        ),
        ({0: lambda _: b""}, Reason.PROTOCOL, "publish", "cannot be read"),
        ({3: lambda _: b"\0"}, Reason.PROTOCOL, "metadata", "cannot be read"),
    ],
)
@pytest.mark.shows("kafka")
async def test_a_broker_that_does_not_bring_a_message_back_is_down_where_it_stopped(
    answers: dict[int, Any], reason: Reason, phase: str, message: str
) -> None:
    """Silence, too few replicas, nonsense."""
    async with alone(answers) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", ROUND, timeout=0.3)
    assert ending(result) == (Outcome.DOWN, reason, phase), result.message
    assert message in result.message


def fetched(messages: bytes) -> Any:
    """Answers of a broker that has stored a message, and brings these instead."""
    return {
        0: lambda _: ProduceResponse_v3([("watched", [(0, 0, 0, -1)])], 0),
        1: lambda _: FetchResponse_v4(0, [("watched", [(0, 0, 1, 1, [], messages)])]),
    }


def batch(offset: int, value: bytes) -> bytes:
    """One message that stands at an offset."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 2**14)
    builder.append(0, timestamp=0, key=None, value=value, headers=[])
    return offset.to_bytes(8, "big") + bytes(builder.build())[8:]


@pytest.mark.shows("kafka", "up")
async def test_messages_of_others_are_passed_over() -> None:
    """Until the very message comes that was sent."""
    sent: list[bytes] = []
    asked: list[int] = []

    def store(body: bytes) -> ProduceResponse_v3:
        found = re.search(rb"[0-9a-f]{32}", body)
        assert found
        sent.append(found[0])
        return ProduceResponse_v3([("watched", [(0, 0, 5, -1)])], 0)

    def bring(body: bytes) -> FetchResponse_v4:
        offset = int.from_bytes(body[-12:-4], "big")
        asked.append(offset)
        message = sent[0] if offset == 7 else b"not yours"
        return FetchResponse_v4(0, [("watched", [(0, 0, 1, 1, [], batch(offset, message))])])

    async with alone({0: store, 1: bring}) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", ROUND, timeout=2)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert asked == [5, 6, 7]


ZSTD = bytes(8) + (49).to_bytes(4, "big") + bytes(4) + b"\2" + bytes(4) + b"\0\4" + bytes(38)
"""A batch whose head says that its messages are packed with zstd."""


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (bytes(2**14 + 1), "16385 bytes of messages, wanted at most 16384"),
        (ZSTD, "messages packed otherwise than with gzip: give the topic `compression.type=producer`"),
    ],
)
@pytest.mark.shows("kafka", "protocol")
async def test_messages_that_could_fill_the_memory_are_not_unpacked(messages: bytes, message: str) -> None:
    """A few bytes can stand for gigabytes."""
    async with alone(fetched(messages)) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", ROUND, timeout=1)
    assert ending(result) == (Outcome.DOWN, Reason.PROTOCOL, "receive"), result.message
    assert message in result.message


class Scram:
    """The broker's part of a SCRAM-SHA-256 login, worked out from RFC 5802."""

    def __init__(self, password: str, *, rounds: int = 4096, knows: bool = True) -> None:
        self._salted = hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", min(rounds, 10_000))
        self._rounds, self._knows = rounds, knows
        self._said: list[str] = []

    def answer(self, body: bytes) -> SaslAuthenticateResponse_v0:
        """To each message in its turn."""
        said = body[4:].decode()
        if not self._said:
            bare = said.removeprefix("n,,")
            nonce = bare.partition("r=")[2]
            salt = base64.b64encode(b"salt").decode()
            self._said = [bare, f"r={nonce}more,s={salt},i={self._rounds}"]
            return SaslAuthenticateResponse_v0(0, None, self._said[1].encode())
        without_proof, _, proof = said.rpartition(",p=")
        message = ",".join([*self._said, without_proof]).encode()
        client_key = hmac.digest(self._salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        right = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        if base64.b64decode(proof) != right:
            return SaslAuthenticateResponse_v0(58, "Authentication failed: Invalid credentials", b"")
        final = hmac.digest(hmac.digest(self._salted, b"Server Key", "sha256"), message, "sha256")
        return SaslAuthenticateResponse_v0(0, None, b"v=" + base64.b64encode(final if self._knows else b"x" * 32))


def offering(*mechanisms: str) -> Any:
    """The answer to SaslHandshake."""
    return lambda _: SaslHandShakeResponse_v1(0, list(mechanisms))


@pytest.mark.shows("kafka", "up", "broken", "protocol")
async def test_scram_proves_that_both_sides_know_the_password() -> None:
    """A wrong password, a broker that does not know it, one that asks for too much work."""
    options = {"username": "watcher", "password": CANARY, "mechanism": "SCRAM-SHA-256"}
    ends = []
    for scram in (Scram(CANARY), Scram("other"), Scram(CANARY, knows=False), Scram(CANARY, rounds=2**31)):
        answers = {3: lambda _: cluster(), 17: offering("SCRAM-SHA-256"), 36: scram.answer}
        async with web.serving(scripted(answers), before_request=True) as server:
            ends.append(await run(KIND, f"127.0.0.1:{server.port}", options))
    right, wrong, false, greedy = ends
    assert (right.outcome, right.message) == (Outcome.UP, "")
    assert phase_names(right) == ["resolve", "connect", "greeting", "login", "metadata"]
    assert ending(wrong) == (Outcome.BROKEN, Reason.CREDENTIALS, "login")
    assert "Authentication failed: Invalid credentials (code 58)" in wrong.message
    assert ending(false) == (Outcome.DOWN, Reason.PROTOCOL, "login")
    assert ending(greedy) == (Outcome.DOWN, Reason.PROTOCOL, "login")
    assert "a SCRAM login of 2147483648 rounds" in greedy.message
    assert all(is_silent_about_secrets(each) for each in ends)


@pytest.mark.shows("kafka", "up", "broken")
async def test_plain_and_a_mechanism_that_is_not_offered() -> None:
    """Both are about credentials."""
    heard: list[bytes] = []

    def take(body: bytes) -> SaslAuthenticateResponse_v0:
        heard.append(body[4:])
        return SaslAuthenticateResponse_v0(0, None, b"")

    options = {"username": "watcher", "password": CANARY}
    answers = {3: lambda _: cluster(), 17: offering("PLAIN"), 36: take}
    async with web.serving(scripted(answers), before_request=True) as server:
        plain = await run(KIND, f"127.0.0.1:{server.port}", options)
    assert (plain.outcome, plain.message) == (Outcome.UP, "")
    assert heard == [f"\0watcher\0{CANARY}".encode()]
    refused = {17: lambda _: SaslHandShakeResponse_v1(33, ["SCRAM-SHA-512"])}
    async with web.serving(scripted(refused), before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", options)
    assert ending(result) == (Outcome.BROKEN, Reason.CREDENTIALS, "login")
    assert "it offers SCRAM-SHA-512, not PLAIN (code 33)" in result.message


@pytest.mark.shows("kafka", "dns", "refused", "unreachable", "timeout", "reset", "protocol", "broken")
async def test_the_ways_on_which_a_run_goes_wrong_before_an_answer() -> None:
    """Each leaves nothing open."""
    await check_the_way(KIND, {"username": "watcher"}, phase="greeting")


@pytest.mark.shows("kafka", "timeout")
async def test_a_broker_that_is_held_up_is_a_timeout(kafka: Kafka) -> None:
    """It accepts and says nothing."""
    with paused(kafka.pid):
        result = await run(KIND, kafka.leading(0), timeout=0.3)
    assert ending(result) == (Outcome.DOWN, Reason.TIMEOUT, "greeting")


@pytest.mark.shows("kafka", "up", "certificate", "tls")
async def test_tls(ca_file: Path, issued: Issued) -> None:
    """Trusted, for another name, not trusted, none at all."""
    tls = {"tls": True, "ca_file": str(ca_file)}
    context: ssl.SSLContext = issued.server_context()
    async with web.serving(scripted({3: lambda _: cluster()}), before_request=True, tls=context) as server:
        target = f"127.0.0.1:{server.port}"
        result = await run(KIND, target, tls)
        named = await run(KIND, target, {**tls, "server_name": "other.test"})
        stranger = await run(KIND, target, {"tls": True})
        trusting = await run(KIND, target, {"tls": True, "verify": False})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "tls", "greeting", "metadata"]
    assert labels(result, "probe_tls_version_info") == {"version": "TLS 1.3"}
    for wrong in (named, stranger):
        assert ending(wrong) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
        assert measures(wrong)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert trusting.outcome is Outcome.UP
    async with web.serving(web.garble, before_request=True) as server:
        garbage = await run(KIND, f"127.0.0.1:{server.port}", tls)
    assert ending(garbage) == (Outcome.DOWN, Reason.TLS, "tls")


@pytest.mark.shows("kafka", "too-slow")
async def test_a_slow_run_is_too_slow(kafka: Kafka) -> None:
    """And says which phase took longest."""
    result = await run(KIND, kafka.leading(0), {"expect": {"slower_than": "0ms"}})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TOO_SLOW)
    assert "wanted at most 0s; slowest was phase" in result.message


async def _leave_nothing(kafka: Kafka) -> tuple[int, int]:
    await run(KIND, kafka.leading(0), ROUND)
    async with alone({}) as silent:
        before = open_files()
        results = await asyncio.gather(
            *(run(KIND, kafka.leading(0), ROUND) for _ in range(5)),
            *(run(KIND, kafka.following(0), ROUND) for _ in range(5)),
            *(run(KIND, f"127.0.0.1:{silent.port}", ROUND, timeout=0.2) for _ in range(5)),
        )
        assert {result.outcome for result in results[:10]} == {Outcome.UP}, [result.message for result in results]
        return before, await settle(before)


async def test_nothing_stays_open(kafka: Kafka) -> None:
    """After good runs and cancelled ones."""
    before, after = await _leave_nothing(kafka)
    assert after <= before


def test_nothing_stays_open_on_uvloop(kafka: Kafka) -> None:
    """The service's loop."""
    before, after = uvloop.run(_leave_nothing(kafka))
    assert after <= before


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"username": "u"}, "username and password belong together: give both or none"),
    ({"round_trip": True}, "round_trip: it needs a place for its message: give `topic` too"),
    ({"expect": {"partitions": {"above": 1}}}, "expect.partitions is about a topic: give `topic` too"),
    ({"expect": {"brokers": {}}}, "expect.brokers: give equals, matches, above or below"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(options: dict[str, Any], message: str) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, "kafka.test", options)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_description_or_garbled(rest: bytes) -> None:
    """Never another exception."""
    with contextlib.suppress(Garbled):
        answer = read_answer(MetadataRequest_v1(None), 7, b"\0\0\0\7" + rest)
        read_cluster(answer)
    whole = cluster().encode()
    with contextlib.suppress(Garbled):
        read_answer(MetadataRequest_v1(None), 7, b"\0\0\0\7" + whole[: len(rest)] + rest)


@settings(max_examples=500)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_messages_or_garbled(rest: bytes, claimed: int) -> None:
    """Around a head that makes them look like some."""
    head = b"\0\0\0\7" + b"\0\0\0\0" + b"\0\0\0\1\0\1t\0\0\0\1" + b"\0\0\0\0\0\0" + b"\0" * 16 + b"\0\0\0\0"
    batch = b"\0" * 8 + claimed.to_bytes(4, "big") + b"\0\0\0\0\2" + rest
    with contextlib.suppress(Garbled):
        answer = read_answer(FetchRequest_v4(-1, 0, 0, 0, 0, []), 7, head + len(batch).to_bytes(4, "big") + batch)
        code, records = read_fetched(answer)
        assert code == 0
        assert isinstance(records, list)


PACKED = bytes(11) + b"\x57" + bytes(4) + b"\x02" + bytes(5) + b"\x01" + bytes(38)
"""The head of a batch of 87 bytes, format 2, packed with gzip."""


@pytest.mark.parametrize(
    "batch",
    [
        PACKED + bytes(38),
        PACKED + b"\x1f\x8b\x08" + bytes(35),
        PACKED[:11] + b"\x47" + PACKED[12:] + b"\x1f\x8b\x08\xc6" + bytes(6) + b"\x37" + bytes(11),
        bytes(11) + b"\x0e" + bytes(9) + b"\x95" + bytes(4),
    ],
    ids=["no gzip", "nothing that gzip packed", "packed and cut off", "a size below zero"],
)
def test_messages_that_the_driver_stumbles_over_are_garbled(batch: bytes) -> None:
    """It raises gzip.BadGzipFile, zlib.error, EOFError, and SystemError in its C code. Found by fuzzing."""
    with pytest.raises(Garbled):
        read_fetched(SimpleNamespace(topics=[("t", [(0, 0, 0, batch)])]))


@pytest.mark.parametrize("partition", [(0, 0, 1, None, [1]), (0, 0, 1, [1], None)])
def test_a_description_whose_lists_are_none_is_garbled(partition: tuple[Any, ...]) -> None:
    """A length of -1 is how Kafka writes that there is no list. Found by fuzzing."""
    with pytest.raises(Garbled):
        read_cluster(SimpleNamespace(topics=[(0, "watched", False, [partition])], brokers=[]))
    with pytest.raises(Garbled):
        read_cluster(SimpleNamespace(topics=[], brokers=None))
