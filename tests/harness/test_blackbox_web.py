"""The addresses of blackbox_exporter: what is asked and answered there, what is remembered, and what is not shown."""

import asyncio
import contextlib
import gzip
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from stormwatch.harness.blackbox_checks import BlackboxChecks
from stormwatch.harness.blackbox_history import BlackboxHistory
from stormwatch.harness.blackbox_module import read_modules
from stormwatch.harness.blackbox_prober import BlackboxProber, Terms
from stormwatch.harness.blackbox_translation import Materials
from stormwatch.harness.blackbox_web import blackbox_app, unquote_again
from stormwatch.probes.reach import OWN_HOST, Reach, networks
from stormwatch.probes.result import Outcome, Reason, Result
from tests.servers import web

pytestmark = pytest.mark.anyio

MODULES = """\
modules:
  http_2xx: {prober: http, timeout: 2s}
  never: {prober: http, timeout: 300ms}
  hosted: {prober: http, http: {headers: {Host: shop.example}}}
  picky:
    prober: http
    timeout: 2s
    http:
      basic_auth: {username: probe, password: topsecret1}
      headers: {X-Api-Key: topsecret2}
      method: POST
      body: topsecret3
      fail_if_body_not_matches_regexp: [good-bye]
  talk: {prober: tcp, timeout: 300ms, tcp: {query_response: [{send: topsecret4}, {expect: nothing}]}}
"""
LOOPBACK = Terms(reach=Reach(allow=networks(["127.0.0.0/8", "::1"]), refuse=OWN_HOST))


@dataclass
class Blackbox:
    """A prober and a client of its addresses."""

    prober: BlackboxProber
    client: httpx.AsyncClient
    path: Path

    async def probe(self, **query: str) -> httpx.Response:
        """GET /probe."""
        return await self.client.get("/probe", params=query)


@contextlib.asynccontextmanager
async def blackbox(
    directory: Path, *, terms: Terms = LOOPBACK, modules: str = MODULES, prefix: str = ""
) -> AsyncGenerator[Blackbox]:
    """The application in this process, with targets on loopback allowed."""
    path = directory / "blackbox.yml"
    path.write_text(modules)
    async with BlackboxProber(read_modules(path), terms=terms) as prober:
        transport = httpx.ASGITransport(app=blackbox_app(prober, prefix=prefix))
        async with httpx.AsyncClient(transport=transport, base_url="http://blackbox") as client:
            yield Blackbox(prober, client, path)


def value(text: str, name: str, **labels: str) -> float | None:
    """The one sample of that name and those labels."""
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) <= 1, (name, found)
    return found[0] if found else None


async def test_a_run_is_answered_as_a_whole_exposition(tmp_path: Path) -> None:
    """Status 200, its content type, families in their order, each with HELP and TYPE, no timestamps."""
    async with blackbox(tmp_path) as box, web.serving(web.answer(b"hello")) as server:
        answer = await box.probe(target=server.url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert value(answer.text, "probe_success") == 1
    assert value(answer.text, "probe_timeout_seconds") == 2
    assert value(answer.text, "stormwatch_probe_outcome", outcome="up", reason="none") == 1
    named = re.findall(r"^# HELP (\S+) \S", answer.text, re.MULTILINE)
    assert named == sorted(named)
    assert named == re.findall(r"^# TYPE (\S+) gauge$", answer.text, re.MULTILINE)
    assert all(len(line.split(" ")) >= 2 and not line.endswith(" ") for line in answer.text.splitlines())


async def test_gzip_is_sent_when_it_is_asked_for(tmp_path: Path) -> None:
    """As Prometheus asks for it."""
    async with blackbox(tmp_path) as box:
        request = box.client.build_request("GET", "/probe", params={"target": "127.0.0.1:1"})
        request.headers["accept-encoding"] = "gzip"
        answer = await box.client.send(request, stream=True)
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert b"probe_success 0" in gzip.decompress(raw)


@pytest.mark.parametrize(
    ("query", "headers", "status", "said"),
    [
        ({"module": "nope"}, {}, 400, 'Unknown module "nope"'),
        ({"module": "nope"}, {"X-Prometheus-Scrape-Timeout-Seconds": "soon"}, 400, 'Unknown module "nope"'),
        (
            {},
            {"X-Prometheus-Scrape-Timeout-Seconds": "soon"},
            500,
            "Failed to parse timeout from Prometheus header: 'soon' is not a number of seconds",
        ),
        ({}, {}, 400, "Target parameter is missing"),
        (
            {"module": "hosted", "target": "a", "hostname": "other.example"},
            {},
            400,
            "host header defined both in module configuration (shop.example) and with URL-parameter 'hostname' (other.example)",
        ),
    ],
)
async def test_what_cannot_be_asked(
    query: dict[str, str], headers: dict[str, str], status: int, said: str, tmp_path: Path
) -> None:
    """In blackbox_exporter's order, with its status codes."""
    async with blackbox(tmp_path) as box:
        answer = await box.client.get("/probe", params=query, headers=headers)
        own = (await box.client.get("/metrics")).text
    assert (answer.status_code, answer.text) == (status, f"{said}\n")
    assert value(own, "blackbox_module_unknown_total") == (1 if "module" in query and query["module"] == "nope" else 0)


@pytest.mark.parametrize(
    ("asked", "own", "allowed"),
    [
        (0, 0, 119.5),
        (10, 0, 9.5),
        (10, 2, 2),
        (10, 30, 9.5),
        (0.4, 3, 3),
        (0.4, 0, 0),
        (0, 200, 119.5),
    ],
)
async def test_the_time_out_of_a_run(asked: float, own: float, allowed: float, tmp_path: Path) -> None:
    """The scrape's without the offset, the module's when that is shorter; a scrape shorter than the offset has the module's."""
    text = f"modules: {{http_2xx: {{prober: http, timeout: {own}s}}}}"
    async with blackbox(tmp_path, modules=text) as box:
        module = box.prober.module("http_2xx")
        assert module is not None
        assert box.prober.timeout(module, asked) == pytest.approx(allowed)


def test_a_target_that_is_encoded_twice() -> None:
    """It is decoded once more; what is a URL already is left as it is, and so is a plus."""
    assert unquote_again("http%3A%2F%2Fh%3A80%2Fa") == "http://h:80/a"
    assert unquote_again("127.0.0.1%3A25") == "127.0.0.1:25"
    assert unquote_again("http://h/a%20b?c=%26+d") == "http://h/a%20b?c=%26+d"
    assert unquote_again("h:80/a+b") == "h:80/a+b"


async def test_a_run_of_ours_that_fails_is_told_apart(tmp_path: Path) -> None:
    """`probe_success` knows no third state, the outcome does."""
    async with blackbox(tmp_path, terms=Terms()) as box:
        text = (await box.probe(target="http://127.0.0.1:1/")).text
    assert value(text, "probe_success") == 0
    assert value(text, "stormwatch_probe_outcome", outcome="broken", reason="policy") == 1


async def test_debug_tells_the_run_and_no_secret(tmp_path: Path) -> None:
    """In words, with the metrics and the module; neither password nor header values, bodies and what is sent."""
    async with blackbox(tmp_path) as box, web.serving(web.answer(b"hello")) as server:
        answer = await box.probe(target=server.url, module="picky", debug="true")
        talk = await box.probe(target=f"127.0.0.1:{server.port}", module="talk", debug="true")
        pages = [await box.client.get(path) for path in ("/config", "/", "/logs?id=1", "/logs?id=2", "/metrics")]
    assert answer.headers["content-type"].startswith("text/plain")
    parts = re.fullmatch(
        r"Logs for the probe:\n(.*)\n\n\n\nMetrics that would have been returned:\n(.*)\n\n\nModule configuration:\n(.*)",
        answer.text,
        re.DOTALL,
    )
    assert parts, answer.text
    assert "the body (5 bytes) does not match 'good-bye'" in parts[1]
    assert "processing: " in parts[1]
    assert "probe_failed_due_to_regex 1" in parts[2]
    shown = yaml.safe_load(parts[3])
    assert shown["http"]["basic_auth"] == {"username": "probe", "password": "<secret>"}
    for text in (answer.text, talk.text, *(page.text for page in pages)):
        assert "topsecret" not in text


async def test_logs_are_found_by_number_and_by_target(tmp_path: Path) -> None:
    """The number that the page links to, or the last run of a target, of a module if one is given."""
    async with blackbox(tmp_path) as box, web.serving(web.answer()) as server:
        await box.probe(target=server.url)
        await box.probe(target="127.0.0.1:1", module="never")

        async def logs(**query: str) -> tuple[int, str]:
            answer = await box.client.get("/logs", params=query)
            return answer.status_code, answer.text

        assert (await logs(id="1"))[1].count("probe_success 1") == 1
        assert (await logs(target="127.0.0.1:1"))[1].count("probe_success 0") == 1
        assert (await logs(target="127.0.0.1:1", module="never"))[0] == 200
        assert await logs(target="127.0.0.1:1", module="http_2xx") == (404, "no such run is remembered\n")
        assert await logs(id="7") == (404, "no such run is remembered\n")
        assert await logs(id="x") == (400, "id is the number of a run, not 'x'\n")
        assert await logs() == (400, "give id or target, and not both\n")
        assert await logs(id="1", target="a") == (400, "give id or target, and not both\n")


async def test_reload(tmp_path: Path) -> None:
    """By POST only; a file that cannot be used leaves the modules what they were, and says so."""
    async with blackbox(tmp_path) as box:
        assert (await box.client.get("/-/reload")).status_code == 405
        box.path.write_text("modules: {other: {prober: tcp}}")
        assert (await box.client.post("/-/reload")).status_code == 200
        assert list(yaml.safe_load((await box.client.get("/config")).text)["modules"]) == ["other"]
        good = (await box.client.get("/metrics")).text
        box.path.write_text("modules: {other: {prober: tpc}}")
        answer = await box.client.post("/-/reload")
        assert answer.status_code == 500
        assert "blackbox.yml:1: modules.other.prober: there is no prober 'tpc'" in answer.text
        bad = (await box.client.get("/metrics")).text
        assert list(yaml.safe_load((await box.client.get("/config")).text)["modules"]) == ["other"]
    name = "blackbox_exporter_config_last_reload_successful"
    assert (value(good, name), value(bad, name)) == (1, 0)
    when = "blackbox_exporter_config_last_reload_success_timestamp_seconds"
    assert value(good, when) == value(bad, when)
    assert value(good, "blackbox_exporter_build_info") == 1


async def test_the_other_addresses(tmp_path: Path) -> None:
    """Health and the page of the last runs; no profiles; a prefix goes before all of them."""
    async with blackbox(tmp_path) as box:
        assert (await box.client.get("/-/healthy")).text == "Healthy"
        assert (await box.client.get("/debug/pprof/")).status_code == 404
        assert "Nothing was asked for yet." in (await box.client.get("/")).text
        await box.probe(target="127.0.0.1:1", module="never")
        page = (await box.client.get("/")).text
        assert 'href="logs?id=1"' in page
        assert "<strong>refused</strong>" in page
    async with blackbox(tmp_path, prefix="/black/box/") as box:
        assert (await box.client.get("/black/box/-/healthy")).text == "Healthy"
        assert (await box.client.get("/-/healthy")).status_code == 404


async def test_a_storm_of_scrapes_waits_in_line(tmp_path: Path) -> None:
    """Who has no place within the time-out is broken, not down; the wait is measured, and the places are given back."""
    terms = Terms(reach=LOOPBACK.reach, at_once=2)
    async with blackbox(tmp_path, terms=terms) as box, web.serving(web.silent) as server:
        answers = await asyncio.gather(*(box.probe(target=server.url, module="never") for _ in range(6)))
        ended = [
            value(answer.text, "stormwatch_probe_outcome", outcome="broken", reason="resources") == 1
            for answer in answers
        ]
        assert sum(ended) == 4
        assert server.connections <= 2
        own = (await box.client.get("/metrics")).text
        waited = value(answers[ended.index(True)].text, "stormwatch_probe_queue_wait_seconds")
        assert waited is not None
        assert waited >= 0.14
        assert value(own, "stormwatch_blackbox_queue_wait_seconds_count") == 6
        assert value(own, "stormwatch_blackbox_runs_under_way") == 0
        assert value(own, "stormwatch_blackbox_runs_waiting") == 0
        after = await box.probe(target="127.0.0.1:1", module="never")
        assert value(after.text, "stormwatch_probe_outcome", outcome="down", reason="refused") == 1


def test_checks_are_kept_and_rebuilt_when_a_file_changes(tmp_path: Path) -> None:
    """Nothing is compiled again for the same module, target and host name, until a password file is another."""
    password = tmp_path / "password"
    password.write_text("first")
    path = tmp_path / "blackbox.yml"
    path.write_text(
        f"modules: {{m: {{prober: http, http: {{basic_auth: {{username: a, password_file: {password}}}}}}}}}"
    )
    module = read_modules(path).modules["m"]
    checks = BlackboxChecks(Materials(tmp_path), kept=2)
    first = checks.get("m", module, "http://a/")
    assert checks.get("m", module, "http://a/") is first
    assert first.secrets == {"first"}
    password.write_text("second one")
    assert checks.get("m", module, "http://a/").secrets == {"second one"}
    for host in "bcd":
        checks.get("m", module, f"http://{host}/")
    assert len(checks) == 2


def test_a_secret_that_cannot_be_read_is_broken_not_down(tmp_path: Path) -> None:
    """It is our file."""
    path = tmp_path / "blackbox.yml"
    path.write_text("modules: {m: {prober: http, http: {bearer_token_file: /nowhere/token}}}")
    built = BlackboxChecks(Materials(tmp_path)).get("m", read_modules(path).modules["m"], "http://a/")
    assert "reason=<Reason.CREDENTIALS" in repr(built.check)
    assert "/nowhere/token cannot be read: No such file or directory" in repr(built.check)


def test_failures_outlive_the_runs_after_them() -> None:
    """The last runs, and as many failures beside them."""
    history = BlackboxHistory(3)
    for number in range(1, 11):
        outcome = Outcome.DOWN if number in (1, 2, 3, 4, 9) else Outcome.UP
        reason = Reason.REFUSED if outcome is Outcome.DOWN else Reason.NONE
        result = Result(
            probe="m", kind="tcp", target="t", location="", started=0.0, seconds=0.0, outcome=outcome, reason=reason
        )
        history.add("m", f"t{number}", result, b"")
    assert [each.number for each in history] == [10, 9, 8, 4, 3, 2]
    assert history.by_number(3) is not None
    assert history.by_number(7) is None
    found = history.by_target("t9", "m")
    assert found is not None
    assert not found.success
