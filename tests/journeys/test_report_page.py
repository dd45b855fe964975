"""The page of a CI run as a browser shows it, and what `pytest --stormwatch-…` makes of a session: files, exit codes."""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Generator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from playwright.sync_api import Browser, sync_playwright

from stormwatch.journeys.report_page import page_of, verdict_of
from stormwatch.journeys.run_record import RunRecord
from stormwatch.journeys.step_comparison import compare
from stormwatch.probes.result import Outcome, Phase, Reason
from tests.program import program
from tests.servers.shop import Shop

Write = Callable[..., Path]
CARD = "4929420573595709"

RECORD = RunRecord(
    key="pay",
    name="pay",
    target="test_shop.py::test_pay",
    outcome=Outcome.DOWN,
    reason=Reason.STEP,
    message='step "pay": no button',
    started=1_790_000_000.0,
    seconds=4.0,
    failed_step="pay",
    steps=(Phase("look", 1.0, 0.0), Phase("buy", 3.0, 1.0, failed=True), Phase("buy / pay", 2.0, 2.0, failed=True)),
)


def run_pytest(file: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith("GITHUB_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, file.name],
        cwd=file.parent,
        env=plain | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    """Debian's Chromium."""
    path = program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_a_run_under_xdist_is_one_page_with_picture_trace_and_waterfall_and_without_the_secret(
    write: Write, shop: Shop, tmp_path: Path, scratch: Path, browser: Browser
) -> None:
    shop.faults.add("script-error")
    file = write(f"""
        def test_pay(page: Page, step, secrets):
            with step("open the shop"):
                page.goto("{shop.url}/")
            with step("buy"):
                with step("type the card"):
                    page.goto("{shop.url}/login")
                    page.get_by_role("textbox").first.fill(secrets["card"])
                with step("pay"):
                    page.goto("{shop.url}/nowhere?card=" + secrets["card"])
                    expect(page.get_by_role("heading", name="Thank you")).to_be_visible(timeout=200)

        def test_look(step):
            with step("look"):
                pass
    """)
    out = tmp_path / "out" / "report.html"
    done = run_pytest(
        *(file, "-n", "2", "--stormwatch-report", str(out), "--stormwatch-json", str(tmp_path / "report.json")),
        *("--junitxml", str(tmp_path / "junit.xml")),
        STORMWATCH_SECRET_CARD=CARD,
    )
    assert "1 failed, 1 passed" in done.stdout
    assert f"report of 2 journeys: {out}" in done.stdout
    # What is in the page does not lie beside it.
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]

    asked: list[str] = []
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.goto(out.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.get_by_role("heading", level=1).inner_text() == "Of 2 journeys: 1 down, 1 up."
    card = page.get_by_role("article").filter(has_text="test_pay")
    said = card.inner_text()
    assert 'step "buy / pay": expected get_by_role("heading", name="Thank you") to be visible within 0.2 s' in said
    assert "test_it.py:14, the page was" in said
    assert "nothing is not defined" in said
    assert re.search(rf"404\s+{re.escape(shop.url)}/nowhere\s+\d+ ms", said), "on a phone without method and type"
    assert card.get_by_role("img", name="page.png").evaluate("image => image.naturalWidth") == 1280
    names = [each.strip() for each in card.locator(".name").all_inner_texts()]
    assert names == ["open the shop", "✗ buy", "type the card", "✗ pay"]

    with page.expect_download() as download:
        card.get_by_role("link", name="trace.zip").click()
    with zipfile.ZipFile(download.value.path()) as trace:
        inside = b"".join(trace.read(name) for name in trace.namelist())
        assert trace.testzip() is None
    assert b"type the card" in inside
    everything = out.read_text() + (tmp_path / "report.json").read_text() + (tmp_path / "junit.xml").read_text()
    assert CARD not in everything + done.stdout
    assert CARD.encode() not in inside

    document = json.loads((tmp_path / "report.json").read_text())
    assert document["summary"] == "Of 2 journeys: 1 down, 1 up."
    pay = next(each for each in document["journeys"] if each["name"] == "test_pay")
    assert (pay["outcome"], pay["failed_step"], pay["target"]) == (
        "down",
        "buy / pay",
        "test_it.py::test_pay[chromium]",
    )
    assert pay["artifacts"] == []
    cases = {case.get("name"): case for case in ET.parse(tmp_path / "junit.xml").iter("testcase")}
    steps = [each.get("name", "") for each in cases["test_pay[chromium]"].iter("property")]
    assert [name for name in steps if "step:" in name] == [
        f"stormwatch_step:{name}" for name in ("open the shop", "buy / type the card", "buy / pay", "buy")
    ]


def test_what_is_too_large_is_linked_from_where_it_lies_and_pictures_go_first(tmp_path: Path, browser: Browser) -> None:
    kept = tmp_path / "kept" / "a b"
    kept.mkdir(parents=True)
    for name, size in (("big.zip", 3000), ("trace.zip", 900), ("page.png", 900)):
        (kept / name).write_bytes(b"x" * size)
    record = replace(RECORD, artifacts=tuple(kept / name for name in ("big.zip", "trace.zip", "page.png", "gone.har")))
    made = page_of([record], beside=tmp_path, largest=2000, in_all=1000)
    assert made.embedded == (kept / "page.png",)
    (tmp_path / "report.html").write_text(made.text)
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    with page.expect_download() as download:
        page.get_by_role("link", name="big.zip").click()
    assert BytesIO(Path(download.value.path()).read_bytes()).getvalue() == b"x" * 3000
    said = page.get_by_role("article").inner_text()
    assert re.search(r"big\.zip\s+2 KiB, too large for this page", said)
    assert re.search(r"trace\.zip\s+1 KiB, too large for this page", said)
    assert re.search(r"gone\.har\s+is not there any more", said)
    assert 'href="data:' in made.text


def test_a_video_plays_inside_the_page_and_one_that_is_missing_says_why(tmp_path: Path, browser: Browser) -> None:
    """Made by ffmpeg here; the page has no network, so what plays is in it."""
    video = tmp_path / "video.webm"
    film = ["-f", "lavfi", "-i", "color=c=blue:s=64x36:d=1", "-c:v", "libvpx-vp9", "-deadline", "realtime", str(video)]
    subprocess.run([program("ffmpeg"), "-nostdin", "-loglevel", "error", *film], check=True, timeout=60)
    kept = replace(RECORD, artifacts=(video,))
    without = replace(RECORD, key="other", name="other", evidence={"no_video": "the run knows a secret <b>"})
    (tmp_path / "report.html").write_text(page_of([kept, without]).text)
    video.unlink()

    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    player = page.locator("video")
    assert player.count() == 1
    page.wait_for_function("document.querySelector('video').readyState === 4")
    assert player.evaluate("video => [video.videoWidth, video.duration >= 0.9]") == [64, True]
    assert page.get_by_text("No video: the run knows a secret <b>.").is_visible()
    page.close()


def test_what_a_page_wrote_is_shown_and_not_run(tmp_path: Path, browser: Browser) -> None:
    evil = "<script>document.title='gone'</script><img src=x onerror=\"document.title='gone'\">"
    record = replace(
        RECORD,
        name=evil,
        message=evil,
        steps=(Phase(evil, 1.0),),
        evidence={"url": "javascript:alert(1)", "console_errors": [evil], "text": evil, "more": {evil: evil}},
    )
    (tmp_path / "report.html").write_text(page_of([record]).text)
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert page.title() == "Of 1 journey: 1 down. · journeys"
    assert page.locator("script, article img").count() == 0
    assert page.get_by_role("link").count() == 0
    assert page.get_by_role("heading", level=2).inner_text() == evil


def test_bars_stand_where_the_steps_were_and_a_slower_one_says_by_how_much() -> None:
    up = replace(RECORD, outcome=Outcome.UP, message="", steps=(Phase("look", 1.0, 0.0), Phase("buy", 3.0, 1.0)))
    past = [{"pay": {"look": 1.0, "buy": 1.5}}] * 5
    text = page_of([up], compare({"pay": {"look": 1.0, "buy": 3.0}}, past)).text
    assert re.findall(r'<i class="(\w*)" style="left:([\d.]+)%;width:([\d.]+)%"', text) == [
        ("", "0.00", "25.00"),
        ("slower", "25.00", "75.00"),
    ]
    assert "slower: took 3.000 s, +100%; the median of 5 runs is 1.500 s" in text
    # Open, though the journey is up.
    assert "<summary>2 steps</summary>" not in text
    assert "<summary>2 steps</summary>" in page_of([up]).text


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ((), "No journey was run."),
        ((Outcome.UP,), "The journey is up."),
        ((Outcome.UP, Outcome.UP), "All 2 journeys are up."),
        ((Outcome.UP, Outcome.DOWN, Outcome.BROKEN), "Of 3 journeys: 1 down, 1 could not be run, 1 up."),
    ],
)
def test_the_first_line_says_it_all(outcomes: tuple[Outcome, ...], said: str) -> None:
    assert verdict_of([replace(RECORD, outcome=outcome) for outcome in outcomes]) == said


BROKEN = """
    @pytest.mark.journey
    def test_broken():
        raise pytest.UsageError("no customer")
"""


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (BROKEN, 3),
        (BROKEN + "\n    def test_down(step):\n        assert False\n", 1),
        (BROKEN + "\n    def test_no_journey():\n        assert False\n", 1),
        ("    import nothing_of_that_name\n", 3),
    ],
    ids=["broken", "broken and down", "broken and another test failed", "not loaded"],
)
def test_exit_code_3_says_that_there_is_no_verdict_where_it_is_asked_for(
    write: Write, body: str, code: int, tmp_path: Path
) -> None:
    file = write(body)
    out = tmp_path / "r.json"
    assert run_pytest(file, "--stormwatch-exit-codes", "--stormwatch-json", str(out)).returncode == code
    broken = [each for each in json.loads(out.read_text())["journeys"] if each["outcome"] == "broken"]
    assert [each["reason"] for each in broken] == ["collection"]
    assert broken[0]["message"] in {
        "no customer",
        "the file could not be loaded: ModuleNotFoundError: No module named 'nothing_of_that_name'",
    }
    assert broken[0]["evidence"]["where"].startswith(f"{file}:")


def test_a_step_that_got_slower_fails_the_session_where_it_is_asked_for_and_is_recorded(
    write: Write, tmp_path: Path
) -> None:
    file = write("""
        def test_it(step):
            with step("pay"):
                time.sleep(0.3)
            with step("look"):
                pass
    """)
    baseline = tmp_path / "steps.jsonl"
    options = ("--stormwatch-baseline", str(baseline), "--stormwatch-fail-on-slower")
    first = run_pytest(file, *options, "--stormwatch-record")
    assert first.returncode == 0
    assert "steps: 0 slower, 0 as before, 2 not judged (fewer than 5 runs to compare with)" in first.stdout
    (line,) = baseline.read_text().splitlines()
    recorded = json.loads(line)["journeys"]["test_it.py::test_it"]
    assert list(recorded) == ["pay", "look"]
    assert recorded["pay"] >= 0.3
    # Faster than it can be, and slower than it ever is.
    past = json.dumps({"journeys": {"test_it.py::test_it": {"pay": 0.1, "look": 100.0}}})
    baseline.write_text(f"{past}\n" * 5 + "cut of")
    second = run_pytest(file, *options)
    assert second.returncode == 1
    assert re.search(r'slower: test_it.py::test_it, step "pay" took 0\.\d+ s, \+\d+%; the median of 5', second.stdout)
    assert "steps: 1 slower, 1 as before" in second.stdout
    assert "1 line of the baseline is no run and was left out" in second.stdout
    assert baseline.read_text().endswith("cut of")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--stormwatch-record"], "--stormwatch-record needs --stormwatch-baseline PATH"),
        (
            ["--stormwatch-baseline", "pytest.ini/steps.jsonl"],
            "--stormwatch-baseline: cannot read the runs to compare with in ",
        ),
    ],
)
def test_options_that_cannot_be_followed_end_the_session_before_it_begins(
    write: Write, options: list[str], said: str
) -> None:
    done = run_pytest(write("def test_it(step): raise SystemExit('it ran')"), *options)
    assert done.returncode == 4
    assert said in done.stderr
    assert "it ran" not in done.stdout + done.stderr
