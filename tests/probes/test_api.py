"""The kind `api`: steps, captures, retries and the clean-up; up, down for each reason, and nothing left open."""

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.api import KIND
from stormwatch.probes.capture import Capture, CaptureError, Concealer, Source, Taker
from stormwatch.probes.reach import OWN_HOST, Reach, networks
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.template import Document, Missing, Template
from tests.servers import island, web
from tests.servers.certificates import Authority, Issued
from tests.servers.handshaker import handshaking
from tests.servers.nameserver import naming, zone
from tests.servers.orders import PASSWORD, Desk, Request, answer
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle
from tests.servers.process import free_port

LOGIN = {
    "name": "log in",
    "url": "login",
    "form": {"user": "probe", "password": "{{ password }}"},
    "capture": {
        "token": {"json": "token", "secret": True},
        "user": {"json": "user"},
        "session": {"cookie": "sid"},
    },
}
CREATE = {
    "name": "create",
    "url": "orders",
    "json": {
        "item": "lantern for {{ probe }} {{ random }} {{ braces }}",
        "user": "{{ user }}",
        "run": ["{{ run_id }}", 2, None],
    },
    "expect": {"status": [201]},
    "capture": {"order": {"json": "id"}, "trace": {"header": "x-trace"}},
}
READ = {
    "name": "read",
    "url": "orders/{{ order }}",
    "expect": {"json": [{"path": "id", "equals": "{{ order }}"}, {"path": "state", "equals": "done"}]},
    "retry": {"attempts": 20, "after": "10ms"},
}
DELETE = {"name": "delete", "method": "DELETE", "url": "orders/{{ order }}", "expect": {"status": [204]}}
SHARED = {
    "variables": {"password": PASSWORD, "braces": "{{ now }}"},
    "headers": {"X-Run": "{{ run_id }}", "Accept": "application/json"},
}
AUTHORIZED = {"bearer": "{{ token }}"}


def order(*, pending: int = 0, **changes: dict[str, Any]) -> dict[str, Any]:
    """The whole round: log in, create, read until it is done, delete. `changes` by the name of the step."""
    steps = [
        {**step, **(AUTHORIZED if step is not LOGIN else {}), **changes.get(str(step["name"]).replace(" ", "_"), {})}
        for step in (LOGIN, CREATE, READ)
    ]
    return {**SHARED, "steps": steps, "finally": [{**DELETE, **AUTHORIZED, **changes.get("delete", {})}]}


@contextlib.asynccontextmanager
async def desk(*faults: str, pending: int = 0) -> AsyncGenerator[tuple[Desk, str]]:
    """An order desk, and its base URL."""
    state = Desk(pending=pending, faults=set(faults))
    async with web.serving(state.behave) as server:
        yield state, f"http://127.0.0.1:{server.port}/api"


def step_measures(result: Result, name: str) -> dict[str, float]:
    """A gauge by its label `step`."""
    return {each.labels["step"]: each.value for each in result.measures if each.name == name}


@pytest.mark.shows("api", "up")
async def test_the_whole_round_is_up_and_leaves_nothing_behind() -> None:
    """Captured values go into URLs, JSON and headers; the session's cookie goes along by itself."""
    async with desk(pending=2) as (state, target):
        result = await run(KIND, target, order())
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert state.asked == [
        "POST /api/login",
        "POST /api/orders",
        "GET /api/orders/o%2F1",
        "GET /api/orders/o%2F1",
        "GET /api/orders/o%2F1",
        "DELETE /api/orders/o%2F1",
    ]
    assert state.orders == {}
    login, create, *_ = state.requests
    assert login.body == b"user=probe&password=correct+horse+%26+battery"
    assert login.headers["content-type"] == "application/x-www-form-urlencoded"
    assert create.headers["content-type"] == "application/json"
    assert create.document["user"] == {"id": 7, "name": 'Ann "A" O'}
    assert create.document["run"] == [result.trace_id, 2, None]
    assert re.fullmatch("lantern for watched [0-9a-f]{16} {{ now }}", create.document["item"])
    assert {each.headers["x-run"] for each in state.requests} == {result.trace_id}
    assert phase_names(result) == ["log in", "create", "read", "delete"]
    assert result.seconds == pytest.approx(sum(phase.seconds for phase in result.phases), abs=0.001)
    assert step_measures(result, "stormwatch_api_step_status_code") == {
        "log in": 200,
        "create": 201,
        "read": 200,
        "delete": 204,
    }
    assert step_measures(result, "stormwatch_api_step_attempts") == {"log in": 1, "create": 1, "read": 3, "delete": 1}
    seen = measures(result)
    assert (seen["stormwatch_api_steps_completed"], seen["probe_ip_protocol"]) == (4, 4)
    assert seen["probe_ip_addr_hash"] == 3668918509
    json.dumps(result.as_json())


async def test_captured_values_are_not_kept_only_their_names_and_lengths() -> None:
    """What a target gives out may be anybody's data."""
    async with desk() as (state, target):
        result = await run(KIND, target, order())
    steps = {step["name"]: step for step in result.evidence["steps"]}
    assert steps["log in"]["captured"] == {
        "token": f"{len(state.token)} characters",
        "user": "29 characters",
        "session": "16 characters",
    }
    assert steps["read"]["request"] == "GET orders/{{ order }}"
    assert steps["read"]["status"] == 200
    assert set(steps["read"]["phases"]) == {"resolve", "connect", "processing", "transfer"}
    kept = json.dumps(result.as_json())
    assert not any(each in kept for each in (state.token, state.session, "Ann", "o/1", "o%2F1", PASSWORD))


@pytest.mark.shows("api", "assertion")
async def test_a_step_that_fails_is_named_with_what_was_seen_and_secrets_are_masked() -> None:
    """The answer holds the token, which was captured as a secret before. The order is deleted all the same."""
    change = {"read": {"retry": {"attempts": 2, "after": "1ms"}}}
    async with desk("read-other") as (state, target):
        result = await run(KIND, target, order(**change))
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "read")
    assert result.message == 'step \'read\': json id is "o/other", wanted "o/1"'
    assert result.evidence["failed_step"] == "read"
    assert '"token": "***"' in result.evidence["body"]
    assert result.evidence["complaints"] == ['json id is "o/other", wanted "o/1"']
    assert state.token not in json.dumps(result.as_json())
    assert phase_names(result) == ["log in", "create", "read", "delete"]
    assert [phase.failed for phase in result.phases] == [False, False, True, False]
    assert state.orders == {}


@pytest.mark.shows("api", "status")
async def test_the_first_failure_ends_the_steps_and_what_cannot_be_cleaned_up_is_left_out() -> None:
    """There is no order to delete, and no later step is taken."""
    async with desk("create-fails") as (state, target):
        result = await run(KIND, target, order())
    assert (result.reason, result.failed_phase) == (Reason.STATUS, "create")
    assert result.message == "step 'create': status 500, wanted 201"
    assert state.asked == ["POST /api/login", "POST /api/orders"]
    assert phase_names(result) == ["log in", "create"]
    assert result.evidence["steps"][-1] == {
        "name": "delete",
        "request": "DELETE orders/{{ order }}",
        "skipped": "{{ order }} was never captured",
    }
    assert measures(result)["stormwatch_api_steps_completed"] == 1


async def test_what_cannot_be_captured_is_told_with_the_answer() -> None:
    """The other values of the same answer are taken all the same."""
    async with desk("create-without-id") as (_, target):
        result = await run(KIND, target, order())
    assert result.message == "step 'create': could not capture order: the body has no value at json id"
    assert result.evidence["steps"][1]["captured"] == {"trace": "3 characters"}
    assert '"id": null' in result.evidence["body"]
    async with desk("read-html") as (_, target):
        page = await run(KIND, target, order(read={"capture": {"x": {"json": "x"}}, "expect": {}, "retry": None}))
    assert page.message.startswith("step 'read': could not capture the body (14 bytes) is not JSON: Expecting value")


async def test_the_clean_up_has_the_values_of_an_answer_that_was_not_complete() -> None:
    """The order was made, though the answer lacks something else: it is deleted."""
    capture = {"order": {"json": "id"}, "price": {"json": "price"}}
    async with desk() as (state, target):
        result = await run(KIND, target, order(create={"capture": capture}))
    assert result.message == "step 'create': could not capture price: the body has no value at json price"
    assert state.asked[-1] == "DELETE /api/orders/o%2F1"
    assert state.orders == {}


async def test_a_token_of_oauth_is_shown_nowhere() -> None:
    """It logs in at every step, and the target says it again."""

    async def behave(exchange: web.Exchange) -> None:
        if exchange.path == "/token":
            await answer(exchange, {"access_token": "t0ken-hush", "token_type": "Bearer", "expires_in": 60})
        else:
            await answer(exchange, {"said": exchange.header("Authorization")})

    async with web.serving(behave) as server:
        oauth2 = {"token_url": f"{server.url}token", "client_id": "probe", "client_secret": "hush-hush"}
        step = {"name": "one", "expect": {"json": [{"path": "said", "equals": "nothing"}]}}
        options = {"steps": [step], "finally": [{"name": "two"}], "oauth2": oauth2}
        result = await run(KIND, server.url, options)
    assert result.message == 'step \'one\': json said is "Bearer ***", wanted "nothing"'
    assert result.evidence["body"] == '{"said": "Bearer ***"}'
    assert "hush" not in json.dumps(result.as_json())


@pytest.mark.shows("api", "timeout")
async def test_a_step_that_hangs_leaves_time_for_the_clean_up() -> None:
    """Of 1.2 s, 0.3 are kept; with `within` the step has less. The run ends by its deadline."""
    steps = order()
    steps["steps"].insert(2, {"name": "hang", "url": "hang", **AUTHORIZED, "capture": {}})
    state = Desk()

    async def behave(exchange: web.Exchange) -> None:
        if exchange.path == "/api/hang":
            await exchange.reader.read()
        await state.behave(exchange)

    async with web.serving(behave) as server:
        target = f"http://127.0.0.1:{server.port}/api"
        result = await run(KIND, target, steps, timeout=1.2)
        steps["steps"][2]["within"] = "100ms"
        short = await run(KIND, target, steps, timeout=3)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.TIMEOUT, "hang")
    assert re.fullmatch(
        rf"step 'hang': no answer from {target[:-4]} within [3-8]\d\dms in phase processing", result.message
    )
    assert result.seconds < 1.2
    assert short.message == f"step 'hang': no answer from {target[:-4]} within 100ms in phase processing"
    assert state.asked.count("DELETE /api/orders/o%2F1") == 2
    assert state.orders == {}


async def test_without_a_clean_up_the_steps_have_all_the_time() -> None:
    """And a hang is told by its step, not by the run."""
    async with web.serving(web.silent, before_request=True) as server:
        result = await run(KIND, server.url, {"steps": [{"name": "first"}]}, timeout=0.9)
    assert (result.reason, result.failed_phase) == (Reason.TIMEOUT, "first")
    assert re.fullmatch(r"step 'first': no answer from \S+ within [78]\d\dms in phase processing", result.message)
    assert 0.7 < result.seconds < 10


async def test_a_clean_up_that_fails_makes_the_run_down() -> None:
    """It would leave an order behind at every run."""
    async with desk("delete-fails") as (_, target):
        result = await run(KIND, target, order())
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.STATUS, "delete")
    assert result.message == "step 'delete': status 409, wanted 204"


async def test_each_step_of_the_clean_up_has_its_share_of_the_time() -> None:
    """The first hangs, and the second is taken all the same; what failed before is what is told."""
    last = [{**DELETE, **AUTHORIZED}, {"name": "log out", "url": "logout", **AUTHORIZED, "expect": {"status": [404]}}]
    async with desk("delete-hangs", "read-other") as (state, target):
        options = {**order(read={"retry": None}), "finally": last, "finally_within": "400ms"}
        result = await run(KIND, target, options, timeout=1)
    assert (result.reason, result.failed_phase) == (Reason.ASSERTION, "read")
    assert state.asked[-1] == "GET /api/logout"
    steps = {step["name"]: step for step in result.evidence["steps"]}
    assert steps["delete"]["failed"].startswith("step 'delete': no answer from ")
    assert "failed" not in steps["log out"]


async def test_a_soft_step_does_not_end_the_run_and_is_told_in_the_end() -> None:
    """The steps behind it are taken; one that needs its values says that they are not there."""
    async with desk() as (state, target):
        result = await run(KIND, target, order(create={"soft": True, "expect": {"status": [200]}}))
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.STATUS, "create")
    assert state.asked == ["POST /api/login", "POST /api/orders"]
    steps = {step["name"]: step for step in result.evidence["steps"]}
    assert steps["read"]["failed"] == "step 'read': {{ order }} was never captured"
    change = {"log_in": {"soft": True, "expect": {"slower_than": "0ms"}, "capture": {}}}
    plain = {"read": {"url": "login", "bearer": "", "method": "POST", "expect": {"status": [401]}, "retry": None}}
    options = order(**change, **plain)
    options["steps"] = [options["steps"][0], options["steps"][2]]
    options["finally"] = []
    async with desk() as (state, target):
        result = await run(KIND, target, options)
    assert (result.reason, result.failed_phase) == (Reason.TOO_SLOW, "log in")
    assert state.asked == ["POST /api/login", "POST /api/login"]


async def test_a_retry_that_gets_nowhere_tells_what_it_saw_last() -> None:
    """By attempts, and by time."""
    async with desk(pending=1000) as (state, target):
        few = await run(KIND, target, order(read={"retry": {"attempts": 3, "after": "1ms"}}))
        late = await run(KIND, target, order(read={"retry": {"attempts": 100, "after": "20ms"}, "within": "200ms"}))
    assert few.message == 'step \'read\': json state is "pending", wanted "done"'
    assert step_measures(few, "stormwatch_api_step_attempts")["read"] == 3
    assert late.reason is Reason.ASSERTION
    assert re.fullmatch(
        r"step 'read': json state is \"pending\", wanted \"done\", and no other answer in 200ms and \d+ attempts",
        late.message,
    )
    assert state.orders == {}


async def test_a_retry_waits_for_a_server_that_is_not_there_yet() -> None:
    """A refused connection is a failed attempt like any other."""
    port = free_port()
    step = {"name": "wait", "retry": {"attempts": 100, "after": "20ms"}}
    running = asyncio.create_task(run(KIND, f"http://127.0.0.1:{port}/", {"steps": [step]}))
    await asyncio.sleep(0.1)
    server = await asyncio.start_server(_say_ok, "127.0.0.1", port)
    async with server:
        result = await running
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert step_measures(result, "stormwatch_api_step_attempts")["wait"] > 1


async def _say_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def test_logins_stay_at_home_and_a_whole_url_leads_anywhere() -> None:
    """A captured Location is written as it is; the shared token is for the target's origin only."""
    seen: list[Request] = []
    state = Desk()

    async def elsewhere(exchange: web.Exchange) -> None:
        await state.behave(exchange)

    async with web.serving(elsewhere) as other:

        async def home(exchange: web.Exchange) -> None:
            link = f"{other.url}there?a=b%20c"
            await answer(exchange, {}, headers={"X-Next": link, "X-Auth": exchange.header("Authorization") or ""})

        async with web.serving(home) as server:
            options = {
                "headers": {"Cookie": "shared=hush", "X-Shared": "yes"},
                "bearer": "hush",
                "steps": [
                    {
                        "name": "one",
                        "capture": {"next": {"header": "X-Next"}},
                        "expect": {"headers": {"X-Auth": "hush"}},
                    },
                    {"name": "two", "url": "{{ next | raw }}", "expect": {"status": [401]}},
                ],
            }
            result = await run(KIND, server.url, options)
    seen = state.requests
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert (seen[0].path, seen[0].query) == ("/there", {"a": ["b c"]})
    assert not {"authorization", "cookie"} & seen[0].headers.keys()
    assert seen[0].headers["x-shared"] == "yes"
    assert "hush" not in json.dumps(result.as_json())


async def test_what_was_captured_cannot_break_a_request() -> None:
    """Line breaks in a header, a URL that leads nowhere."""

    async def behave(exchange: web.Exchange) -> None:
        await answer(exchange, {"lines": "a\r\nX-Evil: 1", "link": "ftp://shop.test/"})

    first = {"name": "one", "capture": {"lines": {"json": "lines"}, "link": {"json": "link"}}}
    async with web.serving(behave) as server:
        header = {"steps": [first, {"name": "two", "headers": {"X-A": "{{ lines }}"}}]}
        broken = await run(KIND, server.url, header)
        link = await run(KIND, server.url, {"steps": [first, {"name": "two", "url": "{{ link | raw }}"}]})
        path = {"steps": [first, {"name": "two", "url": "a/{{ lines }}?q={{ link }}", "body": "{{ lines | json }}"}]}
        encoded = await run(KIND, server.url, path)
        count = server.connections
    assert (
        broken.message
        == "step 'two': it cannot be asked with what was captured: headers.X-A: a value has no line breaks"
    )
    assert link.message.startswith("step 'two': it cannot be asked with what was captured: target is a URL like ")
    assert encoded.outcome is Outcome.UP
    assert server.exchanges[-1].path == "/a/a%0D%0AX-Evil%3A%201?q=ftp%3A%2F%2Fshop.test%2F"
    assert count == 4


@pytest.mark.shows("api", "too-slow")
async def test_all_steps_together_may_be_too_slow() -> None:
    """The slowest is named."""
    async with web.serving(web.delayed(0.06)) as server:
        options = {"steps": [{"name": "a"}, {"name": "b"}], "expect": {"slower_than": "80ms"}}
        result = await run(KIND, server.url, options)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TOO_SLOW)
    assert re.fullmatch(r"took \d+ ms, wanted at most 80ms; slowest was step '[ab]'", result.message)


@pytest.mark.shows("api", "dns", "refused", "reset", "protocol", "broken")
async def test_the_reasons_of_http_are_those_of_a_step() -> None:
    """Each with the step's name."""
    step = {"steps": [{"name": "first"}]}
    async with naming(zone({})) as names:
        lost = await run(KIND, "http://shop.test/", {**step, "resolver": names.address})
    refused = await run(KIND, f"http://127.0.0.1:{free_port()}/", step)
    async with web.serving(web.cut_short) as server:
        reset = await run(KIND, server.url, step)
    async with web.serving(web.garble) as server:
        garbled = await run(KIND, server.url, step)
        policy = await run(KIND, server.url, step, reach=Reach(refuse=OWN_HOST))
    assert [each.reason for each in (lost, refused, reset, garbled)] == [
        Reason.DNS,
        Reason.REFUSED,
        Reason.RESET,
        Reason.PROTOCOL,
    ]
    assert (policy.outcome, policy.reason) == (Outcome.BROKEN, Reason.POLICY)
    for each in (lost, refused, reset, garbled, policy):
        assert each.message.startswith("step 'first': ")
        assert each.failed_phase == "first"
    assert measures(lost)["probe_ip_protocol"] == 0


async def test_the_policy_is_asked_at_each_connection() -> None:
    """A step that leads to a place that is refused is broken, and the clean-up is done all the same."""
    async with web.serving(web.answer()) as server:
        steps = [{"name": "one"}, {"name": "two", "url": "http://127.0.0.2:1/"}]
        options = {"steps": steps, "finally": [{"name": "last"}]}
        narrow = Reach(allow=networks(["127.0.0.1"]), refuse=OWN_HOST)
        result = await run(KIND, server.url, options, reach=narrow)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.BROKEN, Reason.POLICY, "two")
    assert phase_names(result) == ["one", "two", "last"]


@pytest.mark.shows("api", "unreachable")
def test_a_host_that_no_way_leads_to_is_unreachable() -> None:
    """A router says so; here, the kernel's own routes."""
    result = island.on_an_island(lambda: run(KIND, f"http://{island.HOST}/", {"steps": [{"name": "first"}]}))
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.UNREACHABLE, "first")


@pytest.mark.shows("api", "certificate", "tls")
async def test_tls_shows_the_certificate_of_the_first_step(issued: Issued, ca_file: Path, tmp_path: Path) -> None:
    """Also when it is not accepted."""
    options = {"ca_file": str(ca_file), "steps": [{"name": "first"}]}
    async with web.serving(web.answer(), tls=issued.server_context()) as server:
        result = await run(KIND, server.url, options)
        near = await run(KIND, server.url, {**options, "expect": {"certificate_expires_within": "91d"}})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert labels(result, "probe_tls_version_info") == {"version": "TLS 1.3"}
    assert (near.reason, near.failed_phase) == (Reason.CERTIFICATE, "first")
    stranger = Authority(tmp_path, "Stranger").issue("127.0.0.1", after=timedelta(days=1))
    async with web.serving(web.answer(), tls=stranger.server_context()) as server:
        refused = await run(KIND, server.url, options)
    assert (refused.outcome, refused.reason) == (Outcome.DOWN, Reason.CERTIFICATE)
    assert measures(refused)["probe_ssl_earliest_cert_expiry"] == stranger.not_after
    context = issued.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in TLS 1.3 a reset may overtake the alert
    with handshaking(context) as port:
        unknown = await run(KIND, f"https://127.0.0.1:{port}/", options)
    assert (unknown.outcome, unknown.reason) == (Outcome.DOWN, Reason.TLS)


async def _leave_nothing() -> tuple[int, int, int]:
    async with desk() as (_, target), web.serving(web.silent, before_request=True) as mute:
        await run(KIND, target, order())
        before, tasks = open_files(), len(asyncio.all_tasks())
        silent = {"steps": [{"name": "first"}], "finally": [{"name": "last"}]}
        await asyncio.gather(
            *(run(KIND, target, order()) for _ in range(5)),
            *(run(KIND, mute.url, silent, timeout=0.2) for _ in range(10)),
        )
        cut = [asyncio.create_task(run(KIND, mute.url, silent, timeout=5)) for _ in range(5)]
        await asyncio.sleep(0.05)
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)
        assert all(task.cancelled() for task in cut)
        after = await settle(before)
        return before, after, len(asyncio.all_tasks()) - tasks


async def test_nothing_stays_open() -> None:
    """After whole rounds, time-outs, and runs that were cancelled; a cancelled run does not clean up."""
    before, after, tasks = await _leave_nothing()
    assert (after <= before, tasks <= 0) == (True, True)


def test_nothing_stays_open_on_uvloop() -> None:
    """The service's loop."""
    before, after, _ = uvloop.run(_leave_nothing())
    assert after <= before


ONE = {"name": "one"}
MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("shop.test", {"steps": [ONE]}, "target is a URL like https://shop.example/, not 'shop.test'"),
    (
        "http://shop.test/?a",
        {"steps": [ONE]},
        "target 'http://shop.test/?a' has a query: it is what the URLs of the steps count from",
    ),
    ("http://shop.test/", {}, "steps: give at least one"),
    ("http://shop.test/", {"steps": [ONE, ONE]}, "steps: two are named 'one', and a name stands for one of them"),
    (
        "http://shop.test/",
        {"steps": [ONE], "finally": [ONE]},
        "steps: two are named 'one', and a name stands for one of them",
    ),
    (
        "http://shop.test/",
        {"steps": [{"name": str(number)} for number in range(51)]},
        "steps: there are 51 with those of finally, and at most 50 are taken",
    ),
    ("http://shop.test/", {"steps": [ONE], "finally_within": "1s"}, "finally_within: there are no steps in finally"),
    (
        "http://shop.test/",
        {"steps": [ONE], "ip": "every"},
        "ip: `every` is for one request; a run of several uses one address of each name",
    ),
    (
        "http://shop.test/",
        {"steps": [{**ONE, "url": "{{ order }}"}]},
        "steps[0].url: {{ order }} refers to nothing; known here: now, probe, random, run_id, timestamp",
    ),
    (
        "http://shop.test/",
        {"steps": [{**ONE, "json": {"a": ["{{ b }}"]}, "capture": {"b": {"json": "b"}}}], "variables": {"v": "1"}},
        "steps[0].json.a[0]: {{ b }} refers to nothing; known here: now, probe, random, run_id, timestamp, v",
    ),
    (
        "http://shop.test/",
        {"steps": [{**ONE, "body": "{{ a b }}"}]},
        "steps[0].body: {{ a b }} is no reference; write {{ name }}, or {{{{ for two plain braces",
    ),
    (
        "http://shop.test/",
        {"steps": [{**ONE, "body": "{{ a"}]},
        "steps[0].body: a reference is written {{ name }}; write {{{{ for two plain braces",
    ),
    (
        "http://shop.test/",
        {"steps": [{**ONE, "form": {"a": "{{ now | html }}"}}]},
        "steps[0].form.a: {{ now | html }}: there is no way 'html' to write a value, only raw, url, json",
    ),
    (
        "http://shop.test/",
        {"steps": [{**ONE, "expect": {"json": [{"path": "id", "equals": "{{ id }}"}]}}]},
        "steps[0].expect.json[0].equals: {{ id }} refers to nothing; known here: now, probe, random, run_id, timestamp",
    ),
    (
        "http://shop.test/",
        {"steps": [{**ONE, "capture": {"now": {"json": "a"}}}]},
        "steps[0].capture: 'now' cannot be captured: it is no name, or taken already",
    ),
    (
        "http://shop.test/",
        {"steps": [{**ONE, "capture": {"a": {"json": "a", "header": "b"}}}]},
        "steps[0].capture.a: give exactly one of json, regex, header and cookie",
    ),
    (
        "http://shop.test/",
        {"steps": [{**ONE, "capture": {"a": {"regex": "a"}}}]},
        "steps[0].capture.a.regex: 'a' has 0 groups, and the value is that of one",
    ),
    (
        "http://shop.test/",
        {"steps": [ONE, {"name": "two", "body": "", "form": {"a": "b"}}]},
        "steps[1]: give one of body, json and form: a request has one body",
    ),
    (
        "http://shop.test/",
        {"steps": [{**ONE, "bearer": "x", "basic_auth": {"username": "a", "password": "b"}}]},
        "steps[0]: give basic_auth or bearer, not both: a request has one Authorization header",
    ),
    (
        "http://shop.test/",
        {"steps": [{**ONE, "url": "ftp://x/"}]},
        "steps[0].url: target is a URL like https://shop.example/, not 'ftp://x/'",
    ),
    (
        "http://shop.test/",
        {"steps": [ONE], "variables": {"now": "1"}},
        "variables: 'now' is no name, or that of a built-in value",
    ),
    (
        "http://shop.test/",
        {"steps": [ONE], "finally": [{"name": "two", "expect": {"refused": True}}]},
        "finally[0].expect.refused: this looks at answers; a probe of kind http can expect it",
    ),
    (
        "http://shop.test/",
        {"steps": [ONE], "finally": [{"name": "x", "bearer": "x"}], "digest_auth": {"username": "a", "password": "b"}},
        "finally[0]: oauth2 and digest_auth log in at every step: give no other login there",
    ),
    (
        "http://shop.test/",
        {"steps": [{**ONE, "headers": {"a b": ""}}]},
        "steps[0].headers: 'a b' is not the name of a header",
    ),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(
    target: str, options: dict[str, Any], message: str
) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)


def test_braces_types_and_ways() -> None:
    """What stands in a template's place."""
    values = {"n": 3, "text": 'a"b/ü', "list": [1, "x"], "none": None}

    def fill(text: str, way: str = "raw") -> str:
        return Template.parse(text, "here", values, way=way).fill(values)

    assert fill("{{{{ n }} }} {{n}}") == "{{ n }} }} 3"
    assert fill("{{ text }}|{{ text | json }}|{{ text|url }}") == 'a"b/ü|a\\"b/\\u00fc|a%22b%2F%C3%BC'
    assert fill("x?{{ text }}&{{ text | raw }}", "url") == 'x?a%22b%2F%C3%BC&a"b/ü'
    assert fill("{{ list }}{{ none }}") == '[1,"x"]null'
    document = {"a": "{{ n }}", "b": ["{{ list }}", "n={{ n }}", None, 1.5], "{{ n }}": "{{{{"}
    filled = Document.parse(document, "here", values).fill(values)
    assert json.loads(filled) == {"a": 3, "b": [[1, "x"], "n=3", None, 1.5], "{{ n }}": "{{"}
    with pytest.raises(Missing, match="n"):
        Template.parse("{{ n }}", "here", {"n"}).fill({})


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["{{", "}}", " a ", "{", "|", "json"]) | st.text(max_size=3), max_size=8).map("".join))
def test_any_text_is_a_template_or_a_value_error(text: str) -> None:
    """And one without braces is itself."""
    if "{{" in text:
        with contextlib.suppress(ValueError):
            Template.parse(text, "here", {"a"}).fill({"a": "x"})
    else:
        assert Template.parse(text, "here", {"a"}).fill({}) == text


@settings(max_examples=300)
@given(st.text(max_size=30).filter(lambda text: len(text) > 2))
def test_a_value_in_a_url_or_in_json_comes_back_as_it_was(value: str) -> None:
    """Nothing that is captured can leave the place that it is written into."""
    from urllib.parse import unquote

    url = Template.parse("/a/{{ v }}?b={{ v }}", "here", {"v"}, way="url").fill({"v": value})
    assert re.fullmatch(r"/a/[\w.~%-]*\?b=[\w.~%-]*", url)
    assert unquote(url.partition("=")[2]) == value
    text = Template.parse('{"a": "{{ v | json }}"}', "here", {"v"}).fill({"v": value})
    assert json.loads(text) == {"a": value}


TAKERS = [
    Taker("a", Capture(json="a.b[0] || keys(@) || length(@)"), "here"),
    Taker("b", Capture(regex="(?s)a(.*)b"), "here"),
    Taker("c", Capture(header="x-c"), "here"),
    Taker("d", Capture(cookie="d"), "here"),
]


@settings(max_examples=400)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        ).map(lambda value: json.dumps(value).encode()),
    ),
    st.lists(
        st.sampled_from([b"X-C: ", b"Set-Cookie: d=", b"Set-Cookie: ", b""]).map(lambda start: start + b"\xff;x\r\n")
    ),
)
def test_any_answer_has_a_value_or_has_none(body: bytes, head: list[bytes]) -> None:
    """A value that is JSON, or CaptureError."""
    for taker in TAKERS:
        with contextlib.suppress(CaptureError):
            json.dumps(taker.take(Source(body, head)))


def test_the_last_of_several_cookies_and_headers_counts() -> None:
    """As in a browser's jar."""
    head = [
        b"HTTP/1.1 200 OK\r\n",
        b"X-C: 1\r\n",
        b"set-cookie: d=1; Path=/\r\n",
        b"x-c: 2\r\n",
        b"Set-Cookie: d=2\r\n",
    ]
    assert [taker.take(Source(b"", head)) for taker in TAKERS[2:]] == ["2", "2"]
    long = Source(b"a" + b"x" * 70_000 + b"b")
    with pytest.raises(CaptureError, match="b has 70000 characters, and at most 65536 are kept"):
        TAKERS[1].take(long)


def test_a_secret_is_concealed_in_each_of_its_forms() -> None:
    """As it is, in a URL, inside JSON; longer ones first."""
    concealer = Concealer()
    concealer.learn(['a/"b', 'a/"bc', 123456, "x"])
    shown = {"text": 'a/"bc a%2F%22b a/\\"b 123456 x', "list": ['a/"b', 1]}
    assert concealer.conceal(shown) == {"text": "*** *** *** *** x", "list": ["***", 1]}
