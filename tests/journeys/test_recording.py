"""A recording becomes a journey: one that Playwright's recorder wrote at the shop is made one and run, and each rule is shown.

`recordings/checkout.txt` was written by `playwright codegen` of 1.65 while a person registered and paid.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stormwatch.harness.journey_command import init_journey
from stormwatch.harness.problem import Problem
from stormwatch.journeys.recording import NoRecording, RecordedJourney, journey_of
from tests.program import program
from tests.servers.command import invoke
from tests.servers.shop import Shop

CHECKOUT = Path(__file__).with_name("recordings") / "checkout.txt"
RECORDED_AT = "http://127.0.0.1:38311"

HEAD = "import re\nfrom playwright.sync_api import Page, expect\n\n\ndef test_example(page: Page) -> None:\n"


def made(*lines: str) -> RecordedJourney:
    """The journey of a recording with these lines."""
    return journey_of(HEAD + "".join(f"    {line}\n" for line in lines), "it")


def body(journey: RecordedJourney) -> str:
    """What stands in its test."""
    return journey.text.partition("-> None:\n")[2]


def test_a_recording_of_playwrights_runs_as_a_journey(tmp_path: Path, shop: Shop) -> None:
    """By plain pytest, at another address than it was recorded at, with the secrets from outside."""
    program("chromium")
    recording = tmp_path / "recording.py"
    recording.write_text(CHECKOUT.read_text())
    written = init_journey("", recording, "checkout", tmp_path / "journeys" / "test_checkout.py")
    text = written.file.read_text()
    assert written.journey.base_url == RECORDED_AT
    assert written.journey.secrets == ("password", "card-number")
    assert written.journey.steps == (
        *("open /", "Register", "Create account", "Shop", "submit Search products"),
        *("Add to cart", "Check out", "Pay"),
    )
    assert "hunter" not in text
    assert "4111" not in text
    assert "127.0.0.1" not in text.partition("import")[2]
    ruff = Path(sys.executable).with_name("ruff")
    assert subprocess.run([ruff, "format", "--check", written.file], check=False).returncode == 0

    secrets = {"STORMWATCH_SECRET_PASSWORD": 'hunter-"22"', "STORMWATCH_SECRET_CARD_NUMBER": "4111111111111111"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--base-url", shop.url, written.file]
    done = subprocess.run(
        [*command, "--stormwatch-metrics", "metrics.prom"],
        cwd=tmp_path,
        env={**os.environ, **secrets},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert shop.people["ada@shop.example"]["password"] == 'hunter-"22"'
    assert shop.requests[-1] == "GET /orders/1"
    assert 'step="submit Search products"' in (tmp_path / "metrics.prom").read_text()


def test_a_step_ends_with_what_leads_on_and_has_what_is_expected_then() -> None:
    """And a click into a field that is filled anyway is left out."""
    journey = made(
        'page.goto("https://shop.example/")',
        'page.get_by_label("E-mail").click()',
        'page.get_by_label("E-mail").fill("ada@shop.example")',
        'page.get_by_role("checkbox", name="Remember me").check()',
        'page.get_by_role("button", name="Log in").click()',
        'expect(page.get_by_role("heading")).to_contain_text("Welcome")',
        'expect(page).to_have_url("https://shop.example/account?tab=1")',
        'page.get_by_role("combobox").select_option("de")',
    )
    assert body(journey).splitlines() == [
        '    with step("open /"):',
        '        page.goto("/")',
        "",
        '    with step("Log in"):',
        '        page.get_by_label("E-mail").fill("ada@shop.example")',
        '        page.get_by_role("checkbox", name="Remember me").check()',
        '        page.get_by_role("button", name="Log in").click()',
        '        expect(page.get_by_role("heading")).to_contain_text("Welcome")',
        '        expect(page).to_have_url("/account?tab=1")',
        "",
        '    with step("look"):',
        '        page.get_by_role("combobox").select_option("de")',
    ]
    assert not journey.notes


def test_a_window_that_a_click_opens_stays_with_the_click() -> None:
    """As the recorder writes it: the click inside of a block, and what it brought behind it."""
    journey = made(
        'page.goto("https://shop.example/a")',
        "with page.expect_popup() as page1_info:",
        '    page.get_by_role("link", name="Terms").click()',
        "page1 = page1_info.value",
        'page1.get_by_role("link", name="Print").click()',
        'page1.goto("https://other.example/b")',
    )
    assert journey.steps == ("open /a", "Terms", "Print", "open /b")
    assert (
        '    with step("Terms"):\n        with page.expect_popup() as page1_info:\n'
        '            page.get_by_role("link", name="Terms").click()\n        page1 = page1_info.value\n'
    ) in journey.text
    assert 'page1.goto("https://other.example/b")' in journey.text, "another site's address stays whole"


SECRETS = [
    (('page.get_by_label("Passwort").fill("geheim-1")',), ("passwort",)),
    (("page.locator(\"input[type='password']\").fill('geheim-1')",), ("password",)),
    (('page.get_by_placeholder("CVC").fill("geheim-1")',), ("cvc",)),
    (('page.get_by_test_id("api_key").press_sequentially("geheim-1")',), ("api-key",)),
    (
        (
            'page.get_by_label("Password", exact=True).fill("geheim-1")',
            'page.get_by_label("Repeat").fill("geheim-1")',
            'page.get_by_text("geheim-1").click()',
        ),
        ("password",),
    ),
    (
        ('page.get_by_label("Password").fill("geheim-1")', 'page.get_by_label("Password").fill("geheim-2")'),
        ("password", "password-2"),
    ),
    (
        (
            'page.get_by_label("Token").fill("geheim-1")',
            'expect(page.get_by_role("cell")).to_have_text("is geheim-1.")',
        ),
        ("token",),
    ),
    (
        ('page.get_by_label("Token").fill("geheim-1")', 'page.goto("https://shop.example/?t=geheim-1")'),
        ("token",),
    ),
]


@pytest.mark.parametrize(("lines", "names"), SECRETS, ids=lambda value: str(value)[:40])
def test_what_was_typed_and_nobody_may_read_is_not_in_the_journey(
    lines: tuple[str, ...], names: tuple[str, ...]
) -> None:
    """Wherever it stands; the journey asks for it instead."""
    journey = made('page.goto("https://shop.example/")', *lines)
    assert journey.secrets == names
    assert "geheim" not in journey.text
    for name in names:
        assert f'secrets["{name}"]' in journey.text
    ast.parse(journey.text)


def test_a_short_secret_is_not_looked_for_inside_of_other_text() -> None:
    """Three digits stand in many a text that has nothing to hide."""
    journey = made(
        'page.get_by_label("CVC").fill("123")', 'expect(page.get_by_role("cell")).to_have_text("Order 91234")'
    )
    assert '"Order 91234"' in journey.text
    assert 'fill(secrets["cvc"])' in journey.text


def test_a_recording_of_the_library_is_one_too() -> None:
    """What `playwright codegen` writes when it is not told otherwise: what opens and closes the browser goes."""
    journey = journey_of(
        """
import re
from playwright.sync_api import Playwright, sync_playwright, expect


def run(playwright: Playwright) -> None:
    browser = playwright.chromium.launch(headless=False)
    context = browser.new_context(locale="de-DE")
    page = context.new_page()
    page.goto("https://me:geheim@shop.example:8443/")
    page.get_by_role("link", name="Shop").click()
    page.close()

    # ---------------------
    context.close()
    browser.close()


with sync_playwright() as playwright:
    run(playwright)
""",
        "it",
    )
    assert journey.base_url == "https://shop.example:8443"
    assert journey.steps == ("open /", "Shop")
    assert "geheim" not in journey.text
    assert "launch" not in journey.text
    assert "close()" not in journey.text
    assert [note.partition(":")[0] for note in journey.notes] == [
        "it was recorded with options of the browser",
        "the first address had a user and a password in it",
        "nothing is expected in it",
    ]


NONE = [
    ("def", "it is not Python"),
    ("x = 1", "it has no test"),
    ("async def run(playwright):\n    pass", "it is asynchronous"),
    (HEAD + "    pass\n", "nothing was recorded in it"),
    (HEAD + "    page.reload()\n\n\ndef test_other(page):\n    page.reload()\n", "it has 2 tests"),
    (
        HEAD + '    page.get_by_label("PIN").fill("geheim")\n    page.goto(f"https://a/geheim/{1}")\n',
        "what was typed as pin stands elsewhere",
    ),
]


@pytest.mark.parametrize(("text", "said"), NONE, ids=[said for _, said in NONE])
def test_what_is_no_recording_is_told(text: str, said: str) -> None:
    """In a sentence, which never has a secret in it."""
    with pytest.raises(NoRecording, match=said) as caught:
        journey_of(text, "it")
    assert "geheim" not in str(caught.value)


def command(directory: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`stormwatch init …`, where there is no display."""
    known = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return invoke("init", *arguments, cwd=directory, env={**known, **environment})


def test_the_command_tells_a_machine_what_it_wrote_and_overwrites_nothing(tmp_path: Path) -> None:
    """Exit code 2 and one line where the file is there; then it is as it was."""
    (tmp_path / "recording.py").write_text(CHECKOUT.read_text())
    first = command(tmp_path, "journey", "--from", "recording.py", "--name", "buy", "--format", "json")
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    assert (told["file"], told["test"], told["base_url"]) == ("journeys/test_buy.py", "test_buy", RECORDED_AT)
    before = (tmp_path / told["file"]).read_bytes()
    (tmp_path / "recording.py").write_text(HEAD + "    page.reload()\n")
    second = command(tmp_path, "journey", "--from", "recording.py", "--name", "buy")
    assert (second.returncode, second.stdout, len(second.stderr.splitlines())) == (2, "", 1)
    assert "journeys/test_buy.py is there already" in second.stderr
    assert (tmp_path / told["file"]).read_bytes() == before


def test_a_machine_without_a_display_is_told_how_to_bring_a_recording(tmp_path: Path) -> None:
    """And a display that does not answer is what the recorder says."""
    done = command(tmp_path, "journey", "http://127.0.0.1:1/")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "no display" in done.stderr
    assert "--from recording.py" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_recorder_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The line that Playwright means, and not its stack."""
    done = command(tmp_path, "journey", "http://127.0.0.1:1/", DISPLAY=":4077")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr.startswith("the recorder wrote nothing: ")
    assert list(tmp_path.iterdir()) == []


WRONG = [
    (("", None, "it"), "give the address"),
    (("https://a/", Path("x.py"), "it"), "give the address"),
    (("https://a/", None, "My journey"), "small letters"),
    (("shop.example", None, "it"), "written like https"),
    (("", Path("nowhere.py"), "it"), "cannot read nowhere.py: No such file"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=lambda value: str(value)[:30])
def test_what_cannot_be_is_told(arguments: tuple[str, Path | None, str], said: str) -> None:
    """Before anything is started."""
    with pytest.raises(Problem, match=said):
        init_journey(*arguments, None, environ={"DISPLAY": ":0"})
