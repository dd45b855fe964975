"""Who visits: each option is seen by a real server or page, in the pool and in plain pytest, and what cannot be is told."""

import base64
import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from stormwatch.journeys.browser_fault import BrowserFault, fault_directory, put
from stormwatch.journeys.client import Client, ClientCertificate, Geolocation, Network, parse
from stormwatch.journeys.devices import devices
from stormwatch.journeys.pool import Journey, WorkerPool
from stormwatch.journeys.trust_store import TrustStoreFailed, make_home
from stormwatch.probes.result import Outcome, Reason
from tests.program import program
from tests.servers import web
from tests.servers.certificates import Authority
from tests.servers.forward import forwarding

Write = Callable[..., Path]

PAGE = b"<!doctype html><title>shop</title><h1>Shop</h1>"


@pytest.fixture
async def pool(scratch: Path, tmp_path: Path) -> AsyncGenerator[WorkerPool]:
    """A pool of workers, of which nothing is left."""
    program("chromium")
    pool = WorkerPool(artifacts=tmp_path / "artifacts")
    yield pool
    await pool.aclose()
    assert list(scratch.iterdir()) == [], "what a client needs on disk goes with its worker"


LOOK = """
SEEN = '''() => new Promise(done => navigator.geolocation.getCurrentPosition(at => done({
    language: navigator.language,
    date: new Date(Date.UTC(2026, 6, 1, 12)).toLocaleString(),
    zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    dark: matchMedia('(prefers-color-scheme: dark)').matches,
    width: screen.width, scale: devicePixelRatio, touch: navigator.maxTouchPoints > 0, agent: navigator.userAgent,
    latitude: at.coords.latitude, longitude: at.coords.longitude,
}), refused => done({refused: refused.message})))'''
"""


async def test_a_page_sees_the_device_its_place_and_its_language(pool: WorkerPool, write: Write) -> None:
    """In a context that pytest-playwright makes, and in one that the journey makes itself; what that says wins."""
    file = write(
        LOOK
        + """
def test_it(page, browser, base_url):
    own = browser.new_context(base_url=base_url, locale="fr-FR").new_page()
    seen = []
    for each in (page, own):
        each.goto("/")
        seen.append(each.evaluate(SEEN))
    assert seen[0]["language"] == "de-DE" and seen[1]["language"] == "fr-FR", seen
    for each in seen:
        assert (each["zone"], each["dark"], each["touch"]) == ("Asia/Tokyo", True, True), each
        assert (each["latitude"], each["longitude"]) == (52.52, 13.405), each
        assert each["width"] == 390 and each["scale"] == 3 and "iPhone" in each["agent"], each
    assert seen[0]["date"].startswith("1.7.2026, 21:00"), seen
"""
    )
    client = Client(
        device="iPhone 13",
        locale="de-DE",
        timezone="Asia/Tokyo",
        geolocation=Geolocation(latitude=52.52, longitude=13.405),
        color_scheme="dark",
    )
    async with web.serving(web.answer(PAGE, headers={"Content-Type": "text/html"})) as server:
        report = await pool.run(
            Journey(file=file, test="test_it", base_url=server.url, client=client.as_text()), seconds=100
        )
        said = [each.header("Accept-Language") for each in server.exchanges]
    assert (report.outcome, report.text) == (Outcome.UP, "")
    assert said[0] == "de-DE", said


@pytest.mark.alone
async def test_a_slow_line_and_a_slow_processor_are_slow(pool: WorkerPool, write: Write) -> None:
    """Bytes a second and seconds a request by the clock, and the processor against itself without a brake."""
    file = write(
        """
def test_it(page):
    began = time.monotonic()
    page.goto("/")
    loaded = time.monotonic() - began
    spent = page.evaluate("() => { const began = performance.now(); let sum = 0; "
                          "for (let i = 0; i < 4e6; i++) sum += i % 7; return performance.now() - began }")
    raise AssertionError(f"loaded in {loaded:.2f} s, spent {spent:.0f} ms")
"""
    )
    slow = Client(network=Network(down=50 * 1024, latency=0.5), cpu=50.0)
    async with web.serving(web.answer(PAGE + b" " * 102400, headers={"Content-Type": "text/html"})) as server:
        reports = [
            await pool.run(
                Journey(file=file, test="test_it", base_url=server.url, client=client.as_text()), seconds=100
            )
            for client in (slow, Client())
        ]
    said = [re.findall(r"[\d.]+(?= m?s)", each.sentence) for each in reports]
    assert float(said[0][0]) > 2.4, "100 KiB at 50 KiB a second, and half a second before"
    assert float(said[0][1]) > 4 * float(said[1][1]), said


async def test_what_a_drill_does_replaces_what_the_client_has(pool: WorkerPool, write: Write) -> None:
    """On a quick line as on a slow one: a fault that a client's own line hides would be a drill of nothing."""
    file = write("""
        def test_it(page):
            began = time.monotonic()
            page.goto("/")
            raise AssertionError(f"loaded in {time.monotonic() - began:.2f} s")
    """)
    fault = BrowserFault(
        id="slow-1", kind="slow-network", file=str(file), latency=3.0, rate=1e6, expires_at=time.time() + 600
    )
    client = Client(network=Network(latency=0.01))
    put(fault, fault_directory())
    async with web.serving(web.answer(PAGE, headers={"Content-Type": "text/html"})) as server:
        journey = Journey(file=file, test="test_it", base_url=server.url, client=client.as_text())
        report = await pool.run(journey, seconds=100)
    assert float(re.findall(r"[\d.]+(?= s)", report.sentence)[0]) >= 3, report.sentence


SECURE = """
URL = "https://shop.example:PORT/"

def test_own(page):
    assert page.goto(URL).text() == "ok"
    assert page.evaluate("location.hostname") == "shop.example"

def test_other(page):
    page.goto(URL.replace("PORT", "OTHER"))
"""


async def test_an_own_authority_is_trusted_and_no_other_and_a_host_leads_where_it_is_told(
    pool: WorkerPool, write: Write, tmp_path: Path
) -> None:
    """The chain is verified: the same name with a certificate of another authority is refused."""
    own, other = Authority(tmp_path, "Own CA"), Authority(tmp_path, "Other CA")
    client = Client(ca_file=str(own.file), hosts={"*.example": "127.0.0.1"})
    issued = own.issue("shop.example")
    async with (
        web.serving(web.answer(), tls=issued.server_context()) as right,
        web.serving(web.answer(), tls=other.issue("shop.example").server_context()) as wrong,
    ):
        file = write(
            SECURE.replace("PORT", str(right.port), 1).replace('"PORT", "OTHER"', f'"{right.port}", "{wrong.port}"')
        )
        reports = [
            await pool.run(Journey(file=file, test=test, client=client.as_text()), seconds=100)
            for test in ("test_own", "test_other")
        ]
    assert (reports[0].outcome, reports[0].text) == (Outcome.UP, "")
    assert reports[1].outcome is Outcome.DOWN
    assert "ERR_CERT_AUTHORITY_INVALID" in reports[1].text
    assert pool.workers == 1


def test_what_is_no_authority_is_told(tmp_path: Path) -> None:
    """By NSS' process, in one line."""
    (tmp_path / "none.pem").write_text("hello")
    with pytest.raises(TrustStoreFailed, match=r"PEM"):
        make_home(tmp_path / "home", tmp_path / "none.pem")


async def test_a_client_certificate_is_shown_to_its_origin_whose_own_is_verified(
    pool: WorkerPool, write: Write, tmp_path: Path
) -> None:
    """Playwright shows it from a proxy of its own, which must trust the own authority as well, and no other."""
    own, other = Authority(tmp_path, "Own CA"), Authority(tmp_path, "Other CA")
    customer = own.issue("customer-7")

    def context(authority: Authority) -> ssl.SSLContext:
        wanted = authority.issue("localhost").server_context()
        wanted.verify_mode = ssl.CERT_REQUIRED
        wanted.load_verify_locations(own.file)
        return wanted

    async def who(exchange: web.Exchange) -> None:
        shown = exchange.writer.get_extra_info("peercert")["subject"]
        await web.send(exchange, str(shown[0][0][1]).encode())

    async with web.serving(who, tls=context(own)) as right, web.serving(who, tls=context(other)) as wrong:
        origins = [f"https://localhost:{server.port}" for server in (right, wrong)]
        file = write(f"""
            def test_right(page):
                assert page.goto("{origins[0]}/").text() == "customer-7"

            def test_wrong(page):
                answer = page.goto("{origins[1]}/")
                assert answer.status == 200, answer.text()
        """)
        certificates = tuple(
            ClientCertificate(origin=origin, certificate=str(customer.chain_file), key=str(customer.key_file))
            for origin in origins
        )
        client = Client(ca_file=str(own.file), certificates=certificates)
        reports = [
            await pool.run(Journey(file=file, test=test, client=client.as_text()), seconds=100)
            for test in ("test_right", "test_wrong")
        ]
    assert (reports[0].outcome, reports[0].text) == (Outcome.UP, "")
    assert reports[1].outcome is Outcome.DOWN
    assert "certificate" in reports[1].text
    assert len(wrong.exchanges) == 0, "nothing was sent to who could not prove who it is"


async def test_pages_come_through_the_proxy_whose_password_nobody_reads(pool: WorkerPool, write: Write) -> None:
    """It wants to know who is there; what it was told is masked, also where the journey prints it."""
    login = "Basic " + base64.b64encode(b"me:pass-9f3a71").decode()
    file = write("""
        def test_it(page):
            page.goto("http://shop.example:PORT/")
            assert False, "pass-9f3a71"
    """)
    async with web.serving(web.answer(PAGE)) as server, forwarding(login=login) as proxy:
        file.write_text(file.read_text().replace("PORT", str(server.port)))
        client = Client(proxy=f"http://127.0.0.1:{proxy.port}", proxy_user="me", proxy_password="pass-9f3a71")
        report = await pool.run(Journey(file=file, test="test_it", client=client.as_text()), seconds=100)
    assert f"GET http://shop.example:{server.port}/" in proxy.asked
    assert len(server.exchanges) > 0
    assert "***" in report.sentence
    assert "pass-9f3a71" not in str(report)


async def test_each_client_has_a_worker_and_equal_ones_share_it(pool: WorkerPool, write: Write) -> None:
    """A browser is launched once, so it is one client's."""
    file = write("""
        def test_it():
            assert False, f"in {os.getpid()}"
    """)
    clients = (Client(locale="de"), Client(locale="en"), Client(locale="de"), Client())
    said = [
        (await pool.run(Journey(file=file, test="test_it", client=client.as_text()), seconds=100)).sentence
        for client in clients
    ]
    assert said[0] == said[2]
    assert len(set(said)) == 3


async def test_a_device_that_this_playwright_does_not_know_is_broken(pool: WorkerPool, write: Write) -> None:
    """Where the configuration was checked with another one."""
    file = write("def test_it(page): ...")
    report = await pool.run(Journey(file=file, test="test_it", client='{"device": "iPhone13"}'), seconds=100)
    assert (report.outcome, report.reason) == (Outcome.BROKEN, Reason.COLLECTION)
    assert "no device 'iPhone13'; did you mean iPhone 13?" in report.sentence


def test_what_a_browser_cannot_be_is_told() -> None:
    """By the option."""
    with pytest.raises(ValueError, match=r"^device: iPhone 13 is mobile, which Firefox cannot be"):
        Client(device="iPhone 13").check("firefox")
    with pytest.raises(ValueError, match=r"^cpu: can be had in chromium alone, not in webkit"):
        Client(cpu=4.0).check("webkit")
    Client(device="Desktop Firefox", locale="de").check("firefox")


def run_pytest(file: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Plain pytest, as in CI."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file), *arguments]
    return subprocess.run(
        command, cwd=file.parent, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ)
    )


def test_plain_pytest_runs_as_the_client_of_a_file(write: Write, scratch: Path) -> None:
    """The same keys as in the configuration; names of files count from the file."""
    program("chromium")
    file = write("""
        def test_it(page):
            assert page.evaluate("[navigator.language, screen.width]") == ["pt-BR", 412]
    """)
    own = Authority(file.parent, "Own CA")
    (file.parent / "phone.yaml").write_text(f"device: Pixel 7\nlocale: pt-BR\nca_file: {own.file.name}\n")
    done = run_pytest(file, "--stormwatch-client", "phone.yaml")
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout + done.stderr
    assert not [each for each in scratch.iterdir() if "home" in each.name], "the browser's home goes with the session"


WRONG = [
    ("device: iPhone13", r"device: Playwright knows no device 'iPhone13'; did you mean iPhone 13"),
    ("devise: iPhone 13", r"there is no devise; did you mean device\?"),
    ("timezone: Europe/Berln", r"timezone: no time zone is called 'Europe/Berln'; did you mean Europe/Berlin\?"),
    ("locale: German", r"locale: a locale is a language tag like de-DE or en, not 'German'"),
    ("proxy: proxy.example", r"proxy: a proxy is written like http://proxy.example:3128, not 'proxy.example'"),
    ("proxy: 'http://me:geheim@p:1'", r"proxy's user and password do not stand in its address; use proxy_user"),
    ("proxy_user: me", r"proxy_user: is of no use without proxy"),
    ("hosts: {shop.example: 'MAP * 1'}", r"a host's address is written like 10\.0\.0\.5"),
    ("{hosts: {a: b}, proxy: 'http://p:1'}", r"hosts: behind a proxy, the browser looks up no names"),
    ("ca_file: nowhere.pem", r"ca_file: cannot read .*nowhere\.pem: No such file"),
    ("certificates: [{origin: 'https://a', certificate: a, key: b}]", r"certificates\[0\]\.certificate: there is no"),
    ("certificates: [{origin: 'a.example', certificate: a, key: b}]", r"an origin is written like https://"),
    ("- device", r"dictionary|mapping|object"),
    ("device: [", r"while parsing"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=lambda value: value[:20])
def test_a_wrong_client_is_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    """With what is meant where it is near."""
    with pytest.raises(ValueError, match=said) as caught:
        parse(text, tmp_path)
    assert "\n" not in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_wrong_file_ends_pytest_with_its_exit_code_4(write: Write) -> None:
    """One line, no traceback."""
    file = write("def test_it(): ...")
    (file.parent / "phone.yaml").write_text("devise: iPhone 13\n")
    done = run_pytest(file, "--stormwatch-client", "phone.yaml")
    assert done.returncode == 4
    assert "phone.yaml: there is no devise; did you mean device?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_client_is_the_same_again_after_it_was_written_down() -> None:
    """Equal clients are written alike, and one that changes nothing as nothing."""
    client = Client(network=Network(down=3 * 1024, latency=0.25), locale="de", cpu=4.0, hosts={"b": "c", "a": "d"})
    assert parse(client.as_text(), Path("/")) == client
    assert Client().as_text() == ""
    assert json.loads(client.as_text())["network"] == {"down": "3KiB", "latency": "250ms"}
    assert (
        client.as_text()
        == Client(
            cpu=4.0, hosts={"a": "d", "b": "c"}, locale="de", network=Network(down=3 * 1024, latency=0.25)
        ).as_text()
    )


def test_playwrights_devices_are_known_without_a_browser() -> None:
    """By the names that its documentation has."""
    assert {"iPhone 13", "Pixel 7", "Desktop Chrome"} <= set(devices())
