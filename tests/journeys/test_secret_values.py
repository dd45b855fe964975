"""A secret that a journey types is nowhere in what is kept of the run: in no file, no name of one, no report."""

import html
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from urllib.parse import unquote_plus

import pytest

from stormwatch.harness.config import effective, load
from stormwatch.harness.mistake import ConfigError
from stormwatch.journeys.journey import KIND, JourneyCheck, JourneyOptions
from stormwatch.journeys.masker import Masker
from stormwatch.journeys.pool import WorkerPool
from stormwatch.journeys.secret_values import SecretValues
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.masking import forms
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.run import run_once
from tests.program import program
from tests.servers import web

Write = Callable[..., Path]

CARD = "4929420573595709"
PASSWORD = 'canary "q" \\ <&ü'
CANARIES = {"card": CARD, "password": PASSWORD}
KNOWN = {form.encode() for secret in CANARIES.values() for form in forms(secret)} | {
    f"{CARD[:4]}{gap}{CARD[4:8]}".encode() for gap in " -+"
}


@pytest.fixture
async def resources(tmp_path: Path, scratch: Path) -> AsyncGenerator[Resources]:
    program("chromium")
    async with Resources() as resources:
        resources.put(WorkerPool, WorkerPool(artifacts=tmp_path / "artifacts"))
        yield resources


PAGE = b"""<!doctype html><link rel=icon href=data:,><title>Form</title>
<form method=post action=/paid><label>Card <input name=card oninput="this.value = this.value.replace(/(\\d{4})(?=\\d)/g, '$1 ')">
</label><label>Password <input name=password></label><button>Pay</button></form>"""
SCRIPT = """
async (secret) => {
    console.error("declined: " + secret);
    await fetch("/api?card=" + encodeURIComponent(secret), {
        method: "POST", body: JSON.stringify({card: JSON.stringify({inner: secret})}),
        headers: {Authorization: "Basic " + btoa("user:" + encodeURIComponent(secret))},
    });
}
"""


async def echo(exchange: web.Exchange) -> None:
    """The form, and whatever else: the body that came, in the page."""
    sent = unquote_plus((await exchange.reader.readexactly(int(exchange.header("Content-Length") or 0))).decode())
    body = (
        PAGE if exchange.path == "/" else f"<!doctype html><meta charset=utf-8><pre>{html.escape(sent)}</pre>".encode()
    )
    await web.answer(body, headers={"Content-Type": "text/html"})(exchange)


async def run(journey: Path, options: JourneyOptions, resources: Resources) -> Result:
    target = f"{journey}::test_it"
    probe = Probe(name="buy", kind="journey", target=target, check=KIND.build(target, options), timeout=60.0)
    return await run_once(probe, clock=SystemClock(), resources=resources)


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below it, and what is in archives, by name."""
    found: dict[str, bytes] = {}
    for path in directory.rglob("*"):
        if path.is_file():
            found[str(path.relative_to(directory))] = path.read_bytes()
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                found |= {f"{path.name}/{name}": archive.read(name) for name in archive.namelist()}
    return found


async def test_a_secret_is_in_no_file_no_name_and_no_report_of_a_run(resources: Resources, write: Write) -> None:
    async with web.serving(echo) as server:
        file = write(f"""
            def test_it(page: Page, step, secrets):
                page.goto("{server.url}")
                with step("fill " + secrets["card"], picture=True):
                    page.get_by_label("Card").fill(secrets["card"])
                    page.get_by_label("Password").press_sequentially(secrets["password"])
                with step("echo", soft=True):
                    for secret in secrets.values():
                        page.evaluate({SCRIPT!r}, secret)
                    print(secrets["password"])
                    assert secrets["card"] == "another"
                with step("pay"):
                    page.get_by_role("button", name="Pay").click()
                    expect(page.locator("pre")).to_have_text("nothing", timeout=200)
        """)
        options = JourneyOptions(secrets=CANARIES, keep=("page", "trace", "har", "steps"))
        result = await run(file, options, resources)
    told = json.dumps(result.as_json(), ensure_ascii=False)
    assert (result.outcome, result.failed_phase) == (Outcome.DOWN, "pay"), told
    kept = contents(resources.get(WorkerPool).artifacts)
    names = {name.rpartition("/")[2] for name in kept}
    assert {"trace.zip", "requests.har", "trace.trace", "trace.network"} <= names
    assert "page.png" not in names, "the page in front shows the secret: nothing paints over that"
    archive = json.loads(kept[next(name for name in kept if name.endswith(".har"))])
    posts = [entry["request"] for entry in archive["log"]["entries"] if entry["request"]["method"] == "POST"]
    assert [post["postData"]["text"].count("***") for post in posts] == [1, 1, 2], posts
    for name, content in [*kept.items(), ("the report", told.encode())]:
        for known in KNOWN:
            assert known not in name.encode() + content, f"{known!r} in {name}"


@pytest.mark.timeout(300)
async def test_fields_are_painted_over_and_a_page_that_shows_no_secret_is_photographed(
    resources: Resources, write: Write
) -> None:
    async with web.serving(echo) as server:
        file = write(f"""
            from stormwatch.journeys.masker import Masker
            from stormwatch.journeys.picture import photograph

            def test_it(page: Page, secrets, tmp_path):
                masker = Masker()
                taken = lambda: photograph(page, masker, timeout=30_000)
                page.goto("{server.url}")
                empty = taken()
                masker.add([secrets["card"]])
                covered = taken()
                assert covered != empty
                page.get_by_label("Card").fill(secrets["card"])
                page.get_by_label("Card").blur()
                assert taken() == covered, "what is typed cannot be seen"
                for shown in (
                    "document.body.append('4929 4205 7359 5709')",
                    "document.body.title = '4929-4205-7359-5709'",
                    "document.body.innerHTML = '<b>4929</b><i>4205</i><u>73595709</u>'",
                    "document.body.attachShadow({{mode: 'open'}}).innerHTML = '4929420573595709'",
                    "{{ class A extends HTMLElement {{ constructor() {{ super(); this.attachShadow({{mode: 'closed'}}) }} }};"
                    " customElements.define('a-b', A); document.body.append(document.createElement('a-b')) }}",
                    "{{ const f = document.createElement('iframe'); document.body.append(f);"
                    " f.contentDocument.body.append('4929420573595709') }}",
                ):
                    page.goto("{server.url}")
                    assert taken() == covered
                    page.evaluate("() => {{ " + shown + " }}")
                    assert taken() is None, shown
                page.goto("{server.url}")
                page.evaluate("setTimeout(() => {{ while (true); }}, 50)")
                page.wait_for_timeout(100)
                began = time.monotonic()
                assert photograph(page, masker, timeout=300) is None
                assert time.monotonic() - began < 30
        """)
        result = await run(file, JourneyOptions(secrets=CANARIES), resources)
    assert (result.outcome, result.message) == (Outcome.UP, "")


def test_without_a_configuration_secrets_come_from_the_environment_and_pytests_own_report_masks_them(
    write: Write, tmp_path: Path
) -> None:
    file = write("""
        def test_it(step, secrets):
            print("sending", secrets["checkout-card"])
            token = secrets.hide("made-" + "up-token")
            with step("compare"):
                assert f"Bearer {token}" == secrets["checkout-card"]
    """)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-l",
        "--junitxml",
        str(tmp_path / "junit.xml"),
    ]
    environ = {**os.environ, "STORMWATCH_SECRET_CHECKOUT_CARD": PASSWORD}
    done = subprocess.run(
        [*command, str(file)], env=environ, cwd=file.parent, capture_output=True, text=True, check=False, timeout=100
    )
    said = done.stdout + done.stderr + (tmp_path / "junit.xml").read_text()
    assert "1 failed" in done.stdout
    assert "sending ***" in done.stdout
    assert "assert 'Bearer ***' == '***'" in done.stdout
    for known in {*forms(PASSWORD), "made-up-token"}:
        assert known not in said, known


async def test_a_run_without_its_secret_is_broken_and_not_down(resources: Resources, write: Write) -> None:
    file = write("""
        def test_it(step, secrets):
            with step("pay"):
                secrets["card"]
    """)
    result = await run(file, JourneyOptions(), resources)
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.COLLECTION)
    assert result.message.startswith(
        "the journey asks for the secret 'card', and nobody gave it; write `journey: secrets: "
    )


def test_a_secret_that_nobody_gave_is_asked_for_with_both_remedies() -> None:
    values = SecretValues({"checkout-card": CARD}, Masker(), environ={})
    with pytest.raises(pytest.UsageError) as caught:
        values["mail password"]
    assert str(caught.value) == (
        "the journey asks for the secret 'mail password', and nobody gave it; it has checkout-card; write `journey: secrets: "
        '{mail password: "${env:…}"}` into the configuration, or set STORMWATCH_SECRET_MAIL_PASSWORD where pytest runs alone'
    )
    assert repr(values["checkout-card"]) == "'***'"
    assert CARD not in repr(values)


def test_a_file_in_a_trace_that_is_too_large_to_be_searched_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stormwatch.journeys.masker.LARGEST", 100)
    with zipfile.ZipFile(tmp_path / "old.zip", "w") as archive:
        archive.writestr("resources/large.txt", "a" * 101)
        archive.writestr("trace.trace", "a" * 100)
    masker = Masker()
    masker.add([CARD])
    masker.mask_archive(tmp_path / "old.zip", tmp_path / "new.zip")
    assert [name for name in contents(tmp_path) if name.startswith("new.zip/")] == ["new.zip/trace.trace"]


def test_a_secret_is_never_written_inline(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    written = "probes: [{name: buy, kind: journey, target: 'test_it.py::test_it', journey: {secrets: {card: %s}}}]\n"
    (tmp_path / "good.yaml").write_text(written % '"${env:CARD}"')
    (tmp_path / "bad.yaml").write_text(written % "plain")
    config = load(tmp_path / "good.yaml", environ={"CARD": CARD})
    check = config.probes[0].check
    assert isinstance(check, JourneyCheck)
    assert check.journey.secrets == {"card": CARD}
    assert CARD not in repr(config) + json.dumps(effective(config))
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "bad.yaml", environ={})
    assert "probes[buy].journey.secrets.card: a secret is never written inline; write ${env:NAME}" in str(caught.value)
