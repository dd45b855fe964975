"""The kind `http`: what an answer must be, and servers that mean harm: each ends with a reason, in time, in little memory."""

import asyncio
import contextlib
import gzip
import hashlib
import json
import re
import resource
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.answer import Answer
from stormwatch.probes.expectation import Expectations, ExpectHttp
from stormwatch.probes.expression import Expression, ExpressionError, as_cel
from stormwatch.probes.http import KIND
from stormwatch.probes.json_value import ExpectJson
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason
from tests.servers import web
from tests.servers.certificates import Authority
from tests.servers.probing import check_of, measures, run

BODY = {"id": 7, "price": 12.5, "name": "tea", "tags": ["hot", "green"], "ok": True, "none": None, "size": {"cm": 4}}


def head() -> dict[str, Any]:
    """Of an answer whose content is two hours old, whenever that is asked: tests are collected long before some of them run."""
    modified = (datetime.now(UTC) - timedelta(hours=2)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    return {"Content-Type": "application/json", "X-Many": ["first", "second"], "Last-Modified": modified}


HOLDS: list[dict[str, Any]] = [
    {"version": ["2", "1.1"]},
    {"tls": False},
    {"headers": {"content-TYPE": {"matches": "json$", "not_matches": "xml"}}},
    {"headers": {"X-Many": {"matches": "first"}, "X-Gone": {"absent": True}}},
    {"headers": {"X-Many": [{"matches": "^first$"}, "^second$", {"matches": "^(first|second)$", "every": True}]}},
    {"headers": {"X-Gone": {"matches": "a", "not_matches": "b", "optional": True}}},
    {"last_modified_within": "3h"},
    {"body_at_least": "20B"},
    {"body_sha256": hashlib.sha256(json.dumps(BODY).encode()).hexdigest().upper()},
    {"json": [{"path": "price", "above": 12, "below": 13}, {"path": "id", "above": 6}]},
    {"json": [{"path": "tags", "length": 2}, {"path": "name", "length": 3}, {"path": "size", "length": 1}]},
    {"json": [{"path": "tags", "contains": "hot"}, {"path": "name", "contains": "e"}, {"path": "@", "contains": "ok"}]},
    {"json_schema": {"type": "object", "required": ["id"], "properties": {"name": {"pattern": "^t"}}}},
    {"cel": ["body.id == 7 && body.price > 12", "body.tags.exists(t, t == 'hot')", "status == 200 && seconds < 5"]},
    {"cel": ["headers['content-type'] == 'application/json'", "text.contains('tea')", "body.none == null"]},
    {"cel_not": ["body.id == 8", "has(body.gone)", "7.0 in [1, 2]", "body.name == 7"]},
    {"phases": {"processing": "5s"}},
]


@pytest.mark.parametrize("expect", HOLDS, ids=str)
async def test_what_holds_is_up(expect: dict[str, Any]) -> None:
    """Every expectation, met."""
    async with web.serving(web.answer(json.dumps(BODY).encode(), headers=head())) as server:
        result = await run(KIND, server.url, {"expect": expect})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert ("probe_failed_due_to_cel" in measures(result)) == any(name.startswith("cel") for name in expect)


FAILS: list[tuple[dict[str, Any], str]] = [
    ({"version": ["2", "3"]}, "HTTP version 1.1, wanted 2 or 3"),
    ({"tls": True}, "the answer came without TLS, wanted it over TLS"),
    (
        {"headers": {"X-Many": {"matches": "^f", "every": True}}},
        "header X-Many: 'first', 'second', wanted '^f' in every one",
    ),
    ({"headers": {"X-Many": {"not_matches": "sec"}}}, "header X-Many: 'first', 'second', wanted no match of 'sec'"),
    ({"headers": {"X-Many": {"absent": True}}}, "header X-Many: 'first', 'second', wanted none"),
    ({"headers": {"X-Gone": {"not_matches": "a"}}}, "header X-Gone: no such header, wanted one"),
    ({"last_modified_within": "1h"}, "last modified 2h ago, wanted within 1h"),
    ({"body_at_least": "1KiB"}, "the body has SIZE bytes, wanted at least 1KiB"),
    ({"body_sha256": "0" * 64}, f"the body (SIZE bytes) has the SHA-256 SHA, wanted {'0' * 64}"),
    ({"json": [{"path": "price", "above": 12.5}]}, "json price is 12.5, wanted a number above 12.5"),
    ({"json": [{"path": "ok", "above": 0}]}, "json ok is true, wanted a number above 0"),
    ({"json": [{"path": "tags", "length": 3}]}, 'json tags is ["hot", "green"], wanted the length 3 instead of 2'),
    ({"json": [{"path": "tags", "contains": "cold"}]}, 'json tags is ["hot", "green"], wanted "cold" in it'),
    (
        {"json_schema": {"properties": {"id": {"type": "string"}}}},
        'the body is not as its JSON Schema says: /id is 7, and it is not of type "string"',
    ),
    ({"cel": ["body.id == 8"]}, "the CEL expression 'body.id == 8' is false, wanted true"),
    ({"cel_not": ["body.id == 7"]}, "the CEL expression 'body.id == 7' is true, wanted false"),
    (
        {"cel": ["body.gone == 8"]},
        "the CEL expression 'body.gone == 8' could not be evaluated: no such member in mapping: 'gone'",
    ),
    ({"cel": ["body.id"]}, "the CEL expression 'body.id' could not be evaluated: its value is a double, no boolean"),
]


@pytest.mark.parametrize(("expect", "message"), FAILS, ids=[str(each[0]) for each in FAILS])
async def test_what_does_not_hold_is_an_assertion_and_says_what_was_seen(expect: dict[str, Any], message: str) -> None:
    """In one sentence."""
    body = json.dumps(BODY).encode()
    async with web.serving(web.answer(body, headers=head())) as server:
        result = await run(KIND, server.url, {"expect": expect})
    message = message.replace("SIZE", str(len(body))).replace("SHA,", hashlib.sha256(body).hexdigest() + ",")
    assert (result.outcome, result.reason, result.message) == (Outcome.DOWN, Reason.ASSERTION, message)
    values = measures(result)
    assert values["probe_failed_due_to_regex"] == ("matches" in str(expect))
    assert values.get("probe_failed_due_to_cel", 0) == any(name.startswith("cel") for name in expect)


async def test_a_header_that_is_not_there_has_no_age_and_a_phase_can_be_too_slow() -> None:
    """And a body that is no JSON fails CEL as CEL."""
    async with web.serving(web.answer(b"<html>")) as server:
        aged = await run(KIND, server.url, {"expect": {"last_modified_within": "1h"}})
        slow = await run(KIND, server.url, {"expect": {"phases": {"transfer": "5s", "connect": "0ms"}}})
        cel = await run(KIND, server.url, {"expect": {"cel": ["body.a == 1"]}})
        text = await run(KIND, server.url, {"expect": {"cel": ["text == '<html>'"]}})
    assert aged.message == "there is no Last-Modified header, wanted one within 1h"
    assert (slow.reason, slow.failed_phase) == (Reason.TOO_SLOW, "connect")
    assert re.fullmatch(r"phase connect took \d+ ms, wanted at most 0s", slow.message)
    assert "is not JSON" in cel.message
    assert measures(cel)["probe_failed_due_to_cel"] == 1
    assert text.outcome is Outcome.UP


async def test_measures_are_blackbox_exporters_where_an_answer_is_wrong_in_two_ways() -> None:
    """Seen of its version 0.23: a wrong status hides what patterns say, an unfollowed redirect counts, a limit is a limit."""
    async with web.serving(web.answer(b"hello", status=404)) as server:
        expect = {"body_not_matches": ["hello"], "cel": ["text != 'hello'"]}
        result = await run(KIND, server.url, {"expect": expect})
        assert len(result.evidence["complaints"]) == 3
        values = measures(result)
        assert (values["probe_failed_due_to_regex"], values["probe_failed_due_to_cel"]) == (0, 0)
        small = await run(KIND, server.url, {"max_body": "3B", "expect": {"status": [404]}})
        assert measures(small)["probe_http_uncompressed_body_length"] == 3
    async with web.serving(web.redirect("/there")) as server:
        result = await run(KIND, server.url, {"follow_redirects": False, "expect": {"status": [302]}})
    assert measures(result)["probe_http_redirects"] == 1
    assert "stormwatch_http_hop_duration_seconds" not in measures(result)


async def test_a_body_comes_from_a_file_and_headers_may_have_several_values(tmp_path: Path) -> None:
    """Bytes as they are."""
    file = tmp_path / "body"
    file.write_bytes(b"\x00\xff\r\n")
    seen = b""

    async def behave(exchange: web.Exchange) -> None:
        nonlocal seen
        seen = await exchange.reader.readexactly(int(exchange.header("content-length") or 0))
        await web.send(exchange)

    options = {"method": "POST", "body_file": str(file), "headers": {"X-A": ["1", "2"]}}
    async with web.serving(behave) as server:
        assert (await run(KIND, server.url, options)).outcome is Outcome.UP
    assert seen == b"\x00\xff\r\n"
    assert re.findall(rb"X-A: (.)", server.exchanges[0].request) == [b"1", b"2"]


async def test_a_schema_may_stand_in_a_file(tmp_path: Path) -> None:
    """Read once; one that is none is found before anything runs."""
    file = tmp_path / "schema.json"
    file.write_text('{"required": ["id"]}')
    async with web.serving(web.answer(b"{}")) as server:
        result = await run(KIND, server.url, {"expect": {"json_schema_file": str(file)}})
    assert 'the document is {}, and "id" is a required property' in result.message
    for content, message in (("[]", "holds no JSON Schema"), ("{", "is not JSON")):
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            check_of(KIND, "http://a.test/", {"expect": {"json_schema_file": str(file)}})


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"cel": ["1 +"]}, "expect.cel[0]: '1 +' is not a CEL expression: there is a mistake at column 3"),
    (
        {"cel_not": ["boddy.a"]},
        "expect.cel_not[0]: 'boddy.a' has no variable boddy to look at: there are body, headers, ",
    ),
    ({"cel": ["nope(1) == 2"]}, "expect.cel[0]: 'nope(1) == 2' calls nope, and there is no such function"),
    ({"json_schema": {"pattern": "(?=a)"}}, "expect.json_schema: this is not a JSON Schema that can be used: "),
    ({"json_schema": {"$ref": "http://a.test/"}}, "expect.json_schema: this is not a JSON Schema that can be used: "),
    (
        {"json_schema": {}, "json_schema_file": "/a"},
        "expect.json_schema: give it here or in json_schema_file, not in both",
    ),
    (
        {"headers": {"A": {"absent": True, "matches": "a"}}},
        "expect.headers.A: a header that must be absent has nothing",
    ),
    ({"headers": {"A": {"every": True}}}, "expect.headers.A: every says how matches is meant: give matches"),
    (
        {"headers": {"A": {"optional": True}}},
        "expect.headers.A: give matches or not_matches: an optional header may be",
    ),
    ({"headers": {"A": [{"matches": "("}]}}, "expect.headers.A: '(' is not an RE2 expression: missing ): ("),
    ({"json": [{"path": "a"}]}, "expect.json[0]: give exactly one of equals, matches, exists, length and contains, or"),
    (
        {"json": [{"path": "a", "above": 1, "length": 1}]},
        "expect.json[0]: give exactly one of equals, matches, exists,",
    ),
]


@pytest.mark.parametrize(("expect", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence(expect: dict[str, Any], message: str) -> None:
    """Before anything runs."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        check_of(KIND, "http://a.test/", {"expect": expect})


# Hostile servers


@contextlib.contextmanager
def _little_memory(megabytes: float) -> Any:
    """The peak of this process does not grow by more; a peak that was reached before hides what is below it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < megabytes


OK = b"HTTP/1.1 200 OK\r\n"
HOSTILE: list[tuple[str, web.Behaviour, dict[str, Any], set[Reason]]] = [
    ("a header line without end", web.without_end(OK + b"X: ", b"x"), {}, {Reason.PROTOCOL}),
    ("headers without end", web.without_end(OK, b"X: y\r\n"), {}, {Reason.PROTOCOL}),
    ("informational answers without end", web.without_end(b"", b"HTTP/1.1 103 Hints\r\n\r\n"), {}, {Reason.PROTOCOL}),
    ("redirects without end", web.redirect("/again"), {}, {Reason.STATUS}),
    ("a body without end", web.endless, {"max_body": "1MiB"}, {Reason.ASSERTION}),
    (
        "ten gigabytes",
        web.without_end(OK + b"Content-Length: 10737418240\r\n\r\n", b"x"),
        {"max_body": "1MiB"},
        {Reason.ASSERTION},
    ),
    ("a bomb", web.zipped(bytes(50 * 10**6)), {"compression": "gzip", "max_body": "1MiB"}, {Reason.ASSERTION}),
    (
        "a bomb of many layers",
        web.answer(
            gzip.compress(gzip.compress(gzip.compress(bytes(10**7)))), headers={"Content-Encoding": "gzip, gzip, gzip"}
        ),
        {"compression": "gzip", "max_body": "1MiB"},
        {Reason.ASSERTION},
    ),
    (
        "another encoding than it says",
        web.answer(b"x" * 99, headers={"Content-Encoding": "gzip"}),
        {"compression": "any"},
        {Reason.PROTOCOL},
    ),
    ("less than it promised", web.cut_short, {}, {Reason.RESET}),
    ("a length below zero", web.raw(OK + b"Content-Length: -5\r\n\r\nhello"), {}, {Reason.PROTOCOL}),
    ("two lengths", web.raw(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), {}, {Reason.PROTOCOL}),
    (
        "chunks that are none",
        web.raw(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello"),
        {},
        {Reason.PROTOCOL, Reason.RESET},
    ),
    (
        "a chunk larger than numbers are",
        web.raw(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\nhello"),
        {},
        {Reason.PROTOCOL, Reason.RESET},
    ),
    ("garbage", web.garble, {}, {Reason.PROTOCOL}),
    ("a status of letters", web.raw(b"HTTP/1.1 abc OK\r\n\r\n"), {}, {Reason.PROTOCOL, Reason.STATUS}),
    ("a byte at a time in the head", web.drip_head, {}, {Reason.TIMEOUT}),
    ("a byte at a time in the body", web.drip_body, {}, {Reason.TIMEOUT}),
    (
        "a body that is meant for a backtracking engine",
        web.answer(b"a" * 10**6),
        {"expect": {"body_matches": ["^(a+)+$"], "body_not_matches": ["(a|aa)+b"]}},
        {Reason.NONE},
    ),
    (
        "lists in lists for CEL",
        web.answer(json.dumps({"a": list(range(3000))}).encode()),
        {"expect": {"cel": ["body.a.all(x, body.a.all(y, x + y >= 0.0))"]}},
        {Reason.ASSERTION, Reason.RESOURCES},
    ),
    (
        "JSON too deep",
        web.answer(b"[" * 10**6),
        {"expect": {"json": [{"path": "a", "exists": True}]}},
        {Reason.ASSERTION},
    ),
    (
        "half a character",
        web.answer(b'{"a": "\\ud800"}'),
        {"expect": {"json": [{"path": "a", "equals": "x"}]}},
        {Reason.ASSERTION},
    ),
    (
        "half a character for a pattern",
        web.answer(b'{"a": "\\ud800"}'),
        {"expect": {"json": [{"path": "a", "matches": "x"}], "cel": ["body.a == 'x'"]}},
        {Reason.ASSERTION},
    ),
]


@pytest.mark.parametrize(
    ("behaviour", "options", "reasons"), [each[1:] for each in HOSTILE], ids=[each[0] for each in HOSTILE]
)
async def test_a_hostile_server_gets_a_reason_in_time_and_little_memory(
    behaviour: web.Behaviour, options: dict[str, Any], reasons: set[Reason]
) -> None:
    """Nothing that it sends holds up the prober, or fills it."""
    async with web.serving(behaviour) as server, Resources() as resources:
        began = time.monotonic()
        with _little_memory(60):
            result = await run(KIND, server.url, options, timeout=0.8, resources=resources)
        assert time.monotonic() - began < 10
    assert result.reason in reasons, result.message
    assert len(result.message) < 700
    json.dumps(result.as_json()).encode()
    result.message.encode()


async def test_a_chain_of_a_hundred_certificates_ends_well_or_with_a_reason(tmp_path: Path) -> None:
    """Each is read once, and the run ends in time."""
    root = Authority(tmp_path, "Root")
    issued = root.issue("127.0.0.1")
    issued.chain_file.write_bytes(issued.chain_file.read_bytes() + root.file.read_bytes() * 99)
    async with web.serving(web.answer(), tls=issued.server_context()) as server:
        result = await run(KIND, server.url, {"ca_file": str(root.file)}, timeout=3)
    assert result.outcome is Outcome.UP or result.reason in (Reason.TLS, Reason.CERTIFICATE)


async def test_a_large_answer_is_judged_without_holding_up_the_loop() -> None:
    """Patterns over 8 MiB take a while; meanwhile the loop goes round."""
    worst = 0.0

    async def watch_the_loop() -> None:
        nonlocal worst
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            worst = max(worst, time.monotonic() - began)

    patterns = [f"(?:x|z)+{number}y" for number in range(100)]
    async with web.serving(web.answer(b"x" * 8 * 2**20)) as server, Resources() as resources:
        await run(KIND, server.url, resources=resources)
        watcher = asyncio.create_task(watch_the_loop())
        began = time.monotonic()
        result = await run(
            KIND, server.url, {"expect": {"body_not_matches": patterns}}, timeout=30, resources=resources
        )
        took = time.monotonic() - began
        await asyncio.sleep(0.01)  # or the watcher would not see the last time that it was kept waiting
        watcher.cancel()
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert worst < took / 4, (worst, took)


async def test_a_judgement_that_takes_too_long_is_our_fault() -> None:
    """The answer came in time: it is no evidence against the target."""
    body = json.dumps({"a": ["x" * 10] * 200_000}).encode()
    async with web.serving(web.answer(body)) as server:
        options = {"expect": {"cel": ["body.a.all(x, x != 'y')"] * 20}}
        result = await run(KIND, server.url, options, timeout=2)
    assert (result.outcome, result.reason) in {(Outcome.BROKEN, Reason.RESOURCES), (Outcome.DOWN, Reason.ASSERTION)}


# Any body


_EXPECT = Expectations(
    ExpectHttp(
        json=(
            ExpectJson(path="a[?b > `1`].c | [0]", equals=1),
            ExpectJson(path="sort(keys(@))", contains="a"),
            ExpectJson(path="sum(a)", above=1),
            ExpectJson(path="a", matches="x"),
        ),
        json_schema={"type": "object", "properties": {"a": {"type": "string", "pattern": "^a+$", "format": "email"}}},
        cel=("body.a.b == 1 || body.size() > 2", "body.all(k, k == 'a')", "body[0].matches('a')"),
        cel_not=("1 / body.n > 2", "body.a in body.b"),
        body_matches=("a",),
        headers={"X-A": "a"},
    )
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcn"), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | _JSON.map(lambda each: json.dumps(each).encode()), st.binary(max_size=40))
def test_any_body_and_any_head_are_judged(body: bytes, head: bytes) -> None:
    """A complaint or none; never an exception; every sentence can be written down."""
    answer = Answer(
        status=200,
        version=1.1,
        head=[b"HTTP/1.1 200 OK\r\n", head],
        body=body,
        size=len(body),
        tls=False,
        seconds=0.1,
        phases={},
        expires_in=1.0,
        age=None,
    )
    for complaint in _EXPECT.judge(answer, time.monotonic() + 60):
        complaint.message.encode()


def test_an_expression_stops_at_its_deadline() -> None:
    """In the middle of a loop in a loop, and of reading a document."""
    expression = Expression("body.all(x, body.all(y, x + y >= 0.0))", "cel")
    late = time.monotonic() + 0.1
    variables = {"body": as_cel(list(range(3000)), late + 10)}
    with pytest.raises(ExpressionError, match="the time that is left"):
        expression.holds(variables, late)
    assert time.monotonic() < late + 5
    with pytest.raises(ExpressionError, match="the time that is left"):
        as_cel([[1]], time.monotonic() - 1)
