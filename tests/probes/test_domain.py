"""The kind `domain` against an RDAP service of ours: what it says is judged; what it does not say is no evidence."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes import domain as kind
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.domain import KIND
from stormwatch.probes.probe import Probe
from stormwatch.probes.rdap import STATUSES, epp_status, read_bootstrap, read_domain
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.registry import retry_after
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.run import run_once
from tests.servers import web
from tests.servers.certificates import Issued
from tests.servers.nameserver import naming, zone
from tests.servers.probing import check_of, measures, note_ending, open_files, phase_names, run, settle
from tests.servers.process import free_port
from tests.servers.registry import Registry, bootstrap, domain

NAME = "shop.example"
PATH = f"/domain/{NAME}"


def ending(result: Result) -> tuple[Outcome, Reason]:
    """How it ended."""
    return result.outcome, result.reason


@contextlib.asynccontextmanager
async def registry(answer: Any, path: str = PATH) -> AsyncGenerator[tuple[Registry, dict[str, Any]]]:
    """A service that knows one answer, and the options to ask it."""
    known = Registry({path: answer})
    async with web.serving(known) as server:
        yield known, {"rdap": server.url}


def in_days(days: float) -> str:
    """A moment as registries write it."""
    return datetime.fromtimestamp(time.time() + days * 86400, UTC).isoformat()


def expiring(days: float) -> dict[str, Any]:
    """An answer about a name that expires then."""
    return domain(events=[{"eventAction": "expiration", "eventDate": in_days(days)}])


@pytest.mark.shows("domain", "up")
async def test_what_the_registry_says_is_shown_and_judged() -> None:
    """Everything that can be expected, expected."""
    expect = {
        "status": ["clientTransferProhibited", "client delete prohibited"],
        "nameservers": ["a.ns.example", "B.ns.example."],
        "registrar_matches": "^Example Registrar",
        "signed": True,
    }
    async with registry(domain()) as (known, options):
        result = await run(KIND, "Shop.Example", {**options, "expect": expect})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert known.asked == [PATH]
    assert phase_names(result) == ["bootstrap", "ask"]
    assert measures(result) == {
        "stormwatch_domain_expiry_timestamp_seconds": datetime(2096, 8, 13, 4, tzinfo=UTC).timestamp(),
        "stormwatch_domain_registration_timestamp_seconds": datetime(1995, 8, 14, 4, tzinfo=UTC).timestamp(),
        "stormwatch_domain_last_changed_timestamp_seconds": pytest.approx(1755147699.123),
        "stormwatch_domain_status": 1,
        "stormwatch_domain_answer_age_seconds": pytest.approx(0, abs=1),
    }
    assert {m.labels["status"] for m in result.measures if m.name == "stormwatch_domain_status"} == {
        "clientDeleteProhibited",
        "clientTransferProhibited",
        "other",
    }
    assert result.evidence["registration"] == {
        "expires": "2096-08-13",
        "registrar": "Example Registrar, Inc.",
        "statuses": ["clientDeleteProhibited", "clientTransferProhibited", "server hold date unknown"],
        "nameservers": ["a.ns.example", "b.ns.example"],
        "signed": True,
    }


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (404, {}, "shop.example is not registered, says "),
    (expiring(3.01), {}, "shop.example expires on "),
    (expiring(-2), {}, "shop.example expired on "),
    (
        domain(status=["server hold", "active"]),
        {},
        "shop.example has status serverHold, which it must not have; all: ok, serverHold",
    ),
    (domain(status=["pendingDelete"]), {}, "shop.example has status pendingDelete, which it must not have"),
    (
        domain(status=[]),
        {"expect": {"status": ["clientTransferProhibited"]}},
        "shop.example lacks status clientTransferProhibited; it has: none",
    ),
    (
        domain(),
        {"expect": {"nameservers": ["a.ns.example"]}},
        "name servers of shop.example are a.ns.example, b.ns.example, wanted a.ns.example",
    ),
    (
        domain(entities=[{"roles": ["registrar"], "handle": "9999"}]),
        {"expect": {"registrar_matches": "Example"}},
        "registrar of shop.example is '9999', which does not match 'Example'",
    ),
    (
        domain(secureDNS={"delegationSigned": False}),
        {"expect": {"signed": True}},
        "the delegation of shop.example is not signed, wanted signed",
    ),
    (
        domain(secureDNS=None),
        {"expect": {"signed": True}},
        "the delegation of shop.example is not told to be signed or not, wanted signed",
    ),
]


@pytest.mark.shows("domain", "assertion")
@pytest.mark.parametrize(("answer", "options", "message"), WRONG)
async def test_what_is_wrong_with_a_name_is_down(answer: Any, options: dict[str, Any], message: str) -> None:
    """With what was seen, and what was wanted."""
    async with registry(answer) as (_, where):
        result = await run(KIND, NAME, {**where, **options})
    assert ending(result) == (Outcome.DOWN, Reason.ASSERTION)
    assert result.message.startswith(message)


async def test_a_name_that_expires_says_when_and_where_to_renew_it() -> None:
    """The sentence that somebody gets."""
    answer = {**expiring(3.01), "ldhName": NAME}
    async with registry(answer) as (_, options):
        result = await run(KIND, NAME, options)
        assert ", in 3d" in result.message
        assert result.message.endswith(", wanted 30d at least: renew it at Example Registrar, Inc.")
        assert (await run(KIND, NAME, {**options, "expires_within": "3d"})).outcome is Outcome.UP
        assert (await run(KIND, NAME, {**options, "expires_within": "0s"})).outcome is Outcome.UP


async def no_limit(exchange: web.Exchange) -> None:
    """A service that has had enough of us."""
    await web.send(exchange, b"{}", status=429, headers={"Retry-After": "1800"})


NO_EVIDENCE: list[tuple[Any, Reason, str]] = [
    (web.silent, Reason.NETWORK, "no answer from {url}domain/shop.example within 0.4 s"),
    (web.drip_head, Reason.NETWORK, "no answer from {url}domain/shop.example within 0.4 s"),
    (web.close, Reason.NETWORK, "the registry did not answer: the connection was closed without an answer"),
    (500, Reason.NETWORK, "{url}domain/shop.example answered with status 500"),
    (b"<html>", Reason.NETWORK, "{url}domain/shop.example did not answer as RDAP has it: it is not JSON: Expecting value"),
    (b"[]", Reason.NETWORK, "{url}domain/shop.example did not answer as RDAP has it: it is not a JSON object"),
    ({"objectClassName": "entity"}, Reason.NETWORK, "{url}domain/shop.example did not answer as RDAP has it: the answer is about a 'entity'"),
    (domain("other.example"), Reason.NETWORK, "{url}domain/shop.example did not answer as RDAP has it: the answer is about 'OTHER.EXAMPLE', not shop.example"),
    (b" " * (2**20 + 1), Reason.NETWORK, "the registry did not answer: {url}domain/shop.example sent more than 1MiB"),
    (no_limit, Reason.RESOURCES, "{url}domain/shop.example has had enough questions from here: it is asked again in 30m"),
    (503, Reason.RESOURCES, "{url}domain/shop.example has had enough questions from here: it is asked again in 5m"),
    (domain(events=[]), Reason.INTERNAL, "the registry does not tell when shop.example expires: set `expires_within: 0s` to do without"),
    (web.redirect("ftp://x/"), Reason.NETWORK, "the registry did not answer: 'ftp://x/' is not an address to ask"),
    (web.redirect("/domain/shop.example"), Reason.NETWORK, "the registry did not answer: more than 5 redirects, the last one to {url}domain/shop.example"),
]  # fmt: skip


@pytest.mark.shows("domain", "broken")
@pytest.mark.parametrize(("answer", "reason", "message"), NO_EVIDENCE)
async def test_a_registry_that_does_not_answer_is_no_evidence(answer: Any, reason: Reason, message: str) -> None:
    """Broken, never down; and by the deadline, with nothing left open."""
    before = open_files()
    async with registry(answer) as (_, options):
        result = await run(KIND, NAME, options, timeout=0.4 if "within 0.4" in message else 5)
        assert ending(result) == (Outcome.BROKEN, reason), result.message
        assert result.message.startswith(message.format(url=options["rdap"]))
        assert result.failed_phase in ("ask", "")
        assert result.seconds < 10
    assert await settle(before) <= before


async def test_a_registry_that_is_not_there_is_no_evidence_either() -> None:
    """Neither a closed port nor a name that does not resolve."""
    result = await run(KIND, NAME, {"rdap": f"http://127.0.0.1:{free_port()}/"})
    assert ending(result) == (Outcome.BROKEN, Reason.NETWORK)
    async with naming(zone({})) as names:
        result = await run(KIND, NAME, {"rdap": "http://rdap.test/", "resolver": names.address})
    assert ending(result) == (Outcome.BROKEN, Reason.NETWORK)
    assert result.message.startswith("the registry did not answer: rdap.test did not resolve")


@pytest.mark.shows("domain", "broken")
async def test_policy_is_asked_about_each_redirect() -> None:
    """The first hop here, the second where no probe may go."""
    async with registry(domain()) as (known, options):
        result = await run(KIND, NAME, options, reach=Reach(refuse=OWN_HOST))
        assert ending(result) == (Outcome.BROKEN, Reason.POLICY)
        assert known.asked == []
        known.answers[PATH] = web.redirect("http://169.254.169.254/latest/meta-data/")
        from stormwatch.probes.reach import networks

        result = await run(KIND, NAME, options, reach=Reach(allow=networks(["127.0.0.1"]), refuse=OWN_HOST))
        assert ending(result) == (Outcome.BROKEN, Reason.POLICY)
        assert "169.254.169.254" in result.message


async def test_redirects_are_followed_over_tls_but_not_down_from_it(issued: Issued, ca_file: Path) -> None:
    """As registries do when a name has moved to another."""
    plain, secure = Registry({"/domain/shop.example": domain()}), Registry()
    async with web.serving(plain) as http, web.serving(secure, tls=issued.server_context()) as https:
        secure.answers = {PATH: web.redirect("/v2/d"), "/v2/d": domain()}
        result = await run(KIND, NAME, {"rdap": https.url, "ca_file": str(ca_file)})
        assert (result.outcome, result.message) == (Outcome.UP, "")
        assert secure.asked == [PATH, "/v2/d"]
        result = await run(KIND, NAME, {"rdap": https.url})
        assert ending(result) == (Outcome.BROKEN, Reason.NETWORK), "its authority is not known to this system"
        secure.answers = {PATH: web.redirect(f"{http.url}domain/shop.example")}
        result = await run(KIND, NAME, {"rdap": https.url, "ca_file": str(ca_file)})
        assert ending(result) == (Outcome.BROKEN, Reason.NETWORK)
        assert plain.asked == []


async def test_the_bootstrap_registry_says_whom_to_ask_and_is_fetched_once_a_day(tmp_path: Path) -> None:
    """From an address, or from a file."""
    known = Registry()
    async with web.serving(known) as server, Resources() as resources:
        known.answers = {
            "/dns.json": bootstrap(
                {"com": f"{server.url}com", "example": f"{server.url}v1/", "b.example": f"{server.url}b/"}
            ),
            "/v1/domain/shop.example": domain(),
            "/v1/domain/other.example": domain("other.example"),
            "/b/domain/a.b.example": domain("a.b.example"),
        }
        options = {"bootstrap": f"{server.url}dns.json"}
        for name in (NAME, "other.example", "a.b.example", NAME):
            result = await run(KIND, name, options, resources=resources)
            assert (result.outcome, result.message) == (Outcome.UP, "")
        assert known.asked == [
            "/dns.json",
            "/v1/domain/shop.example",
            "/v1/domain/other.example",
            "/b/domain/a.b.example",
        ]
        result = await run(KIND, "shop.test", options, resources=resources)
        assert ending(result) == (Outcome.BROKEN, Reason.INTERNAL)
        assert result.message == "no RDAP service is known for .test: name one with `rdap`, if there is one"
        file = tmp_path / "dns.json"
        file.write_text(json.dumps(known.answers["/dns.json"]))
        assert (await run(KIND, NAME, {"bootstrap_file": str(file)})).outcome is Outcome.UP


class Hands(SystemClock):
    """A monotonic clock that can be moved on."""

    ahead = 0.0

    def monotonic(self) -> float:
        """Ahead of the machine's."""
        return super().monotonic() + self.ahead


async def test_a_name_is_asked_about_once_an_hour_and_an_old_answer_serves_while_there_is_no_new_one() -> None:
    """However often the probe runs, and however long the registry is away."""
    clock = Hands()
    async with registry(domain()) as (known, options), Resources() as resources:
        check = check_of(KIND, NAME, options)

        async def look(seconds: float) -> Result:
            clock.ahead += seconds
            probe = Probe(name="name", kind="domain", target=NAME, check=check, timeout=5)
            return note_ending(await run_once(probe, clock=clock, resources=resources))

        assert [(await look(30)).outcome for _ in range(100)] == [Outcome.UP] * 100
        assert len(known.asked) == 1
        known.answers[PATH] = 500
        result = await look(kind.FRESH)
        assert (result.outcome, len(known.asked)) == (Outcome.UP, 2)
        assert result.evidence["not_answered"].endswith("answered with status 500")
        assert measures(result)["stormwatch_domain_answer_age_seconds"] > kind.FRESH
        assert ((await look(30)).outcome, len(known.asked)) == (Outcome.UP, 2)
        assert ((await look(kind.AGAIN)).outcome, len(known.asked)) == (Outcome.UP, 3)
        assert (await look(kind.STALE)).outcome is Outcome.BROKEN
        known.answers[PATH] = domain(status=["server hold"])
        assert (await look(kind.AGAIN)).outcome is Outcome.DOWN


async def test_who_is_told_to_wait_waits_for_all_names_of_that_service() -> None:
    """429 is about us and not about one name."""
    async with registry(no_limit) as (known, options), Resources() as resources:
        known.answers["/domain/other.example"] = domain("other.example")
        for name in (NAME, "other.example", NAME):
            result = await run(KIND, name, options, resources=resources)
            assert ending(result) == (Outcome.BROKEN, Reason.RESOURCES)
        assert known.asked == [PATH]


async def test_two_probes_of_one_name_ask_once() -> None:
    """At the same time."""
    async with registry(domain()) as (known, options), Resources() as resources:
        results = await asyncio.gather(*(run(KIND, NAME, options, resources=resources) for _ in range(5)))
    assert {result.outcome for result in results} == {Outcome.UP}
    assert len(known.asked) == 1


async def test_a_cancelled_run_leaves_nothing_open() -> None:
    """Not even for those who wait for the same answer."""
    before = open_files()
    async with registry(web.silent) as (_, options), Resources() as resources:
        tasks = [asyncio.create_task(run(KIND, NAME, options, timeout=30, resources=resources)) for _ in range(3)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert await settle(before) <= before


@pytest.mark.parametrize(
    ("head", "seconds"),
    [
        (b"HTTP/1.1 429 No\r\nRetry-After: 1800\r\n", 1800),
        (b"retry-after: 1\r\n", 300),
        (b"Retry-After: 99999999999999999999\r\n", 86400),
        (b"Retry-After: Fri, 02 Jan 1970 00:00:00 GMT\r\n", 86400 - 1000),
        (b"Retry-After: soon\r\n", 300),
        (b"", 300),
    ],
)
def test_how_long_to_wait(head: bytes, seconds: float) -> None:
    """Seconds or a date, within reason."""
    assert retry_after(head, 1000) == seconds


def test_statuses_have_one_name_whoever_writes_them() -> None:
    """RFC 8056's table, from both sides."""
    for written, name in STATUSES.items():
        assert epp_status(written) == epp_status(name) == name
    assert epp_status("ok") == "ok"
    assert epp_status("Client Hold") == "clientHold"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["domain", NAME, "registrar", "fn", "\ud800"]) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["events", "eventAction", "eventDate", "status", "entities", "roles", "vcardArray", "secureDNS", "nameservers", "ldhName", "services"]), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(ANYTHING, st.binary(max_size=30))
def test_any_answer_is_read_or_refused(value: Any, junk: bytes) -> None:
    """Nothing but ValueError comes of bad ones, and what is read can be passed on."""
    documents = [junk, json.dumps(value).encode()]
    if isinstance(value, dict):
        documents.append(json.dumps({**value, "objectClassName": "domain", "ldhName": NAME}).encode())
    for data in documents:
        with contextlib.suppress(ValueError):
            read = read_domain(data, NAME)
            "".join((*read.statuses, *read.nameservers, read.registrar)).encode()
        with contextlib.suppress(ValueError):
            read_bootstrap(data).service_for(NAME)


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("example", {}, "target is a registered domain name like shop.example, not 'example'"),
    ("192.0.2.1", {}, "target is a registered domain name like shop.example, not '192.0.2.1'"),
    ("a b.example", {}, "target: 'a b.example' is not a host name"),
    (NAME, {"rdap": "rdap.test"}, "rdap: is a URL like https://shop.example/, not 'rdap.test/'"),
    (NAME, {"bootstrap_file": "/nowhere"}, "bootstrap_file: /nowhere cannot be used: [Errno 2] No such file or directory: '/nowhere'"),
    (NAME, {"expect": {"registrar_matches": "("}}, "expect.registrar_matches: '(' is not an RE2 expression: missing ): ("),
]  # fmt: skip


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_mistakes_are_told(target: str, options: dict[str, Any], message: str) -> None:
    """When the configuration is read."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        check_of(KIND, target, options)
    assert str(caught.value) == message


def test_a_status_that_nobody_has_is_a_mistake() -> None:
    """With those that there are."""
    with pytest.raises(
        ValueError, match=r"^expect\.status\[1\]: 'locked' is no status of a domain; there are addPeriod, "
    ):
        check_of(KIND, NAME, {"expect": {"status": ["ok", "locked"]}})
