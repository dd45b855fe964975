"""`@pytest.mark.journey(name, every, timeout)`: in pytest, and where a configuration names the test, its file or its directory."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stormwatch.harness.config import Config, ConfigError, load
from stormwatch.journeys.journey_mark import JourneyMark, read_mark
from stormwatch.journeys.marked_tests import marked_tests
from tests.servers.command import invoke

Write = Callable[..., Path]

SUITE = """\
import pytest

@pytest.mark.journey(name="checkout", every="2m", timeout="45s")
def test_buys_something(): ...

class TestAccount:
    pytestmark = [pytest.mark.journey(every=600)]

    def test_log_in(self): ...
    @pytest.mark.journey("reset", timeout=20)
    def test_resets_a_password(self): ...

@pytest.mark.journey
def test_search(): ...

def test_no_journey(): ...
"""


def loaded(tmp_path: Path, entry: str, more: str = "") -> Config:
    """A configuration with one entry for journeys."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text(
        f"defaults: {{every: 5m, timeout: 30s}}\nprobes:\n  - {{name: shop, kind: journey, {entry}}}\n{more}"
    )
    return load(path, environ={})


def suite(tmp_path: Path, text: str = SUITE, name: str = "journeys/test_shop.py") -> Path:
    """A file of journeys."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("target", ["journeys", "journeys/", "journeys/test_shop.py"])
def test_a_file_or_a_directory_stands_for_a_probe_for_each_test_with_the_mark(tmp_path: Path, target: str) -> None:
    """With the rhythm of the mark; what the mark does not say is that of `defaults`."""
    suite(tmp_path)
    suite(tmp_path, "raise SystemExit('not ours')", "journeys/.venv/test_other.py")
    suite(tmp_path, "import pytest\n@pytest.mark.journey\ndef test_x(): ...", "journeys/conftest.py")
    probes = {probe.name: probe for probe in loaded(tmp_path, f"target: {target}").probes}
    rhythm = {name: (probe.every, probe.timeout) for name, probe in probes.items()}
    assert rhythm == {
        "shop.checkout": (120.0, 45.0),
        "shop.TestAccount.log_in": (600.0, 30.0),
        "shop.reset": (300.0, 20.0),
        "shop.search": (300.0, 30.0),
    }
    assert probes["shop.reset"].target == "journeys/test_shop.py::TestAccount::test_resets_a_password"
    assert probes["shop.reset"].labels == {"journeys": "shop"}


def test_what_the_entry_says_goes_before_the_mark_which_goes_before_the_defaults(tmp_path: Path) -> None:
    """Also for one test that is named."""
    suite(tmp_path)
    named = "target: 'journeys/test_shop.py::test_buys_something'"
    (own,) = loaded(tmp_path, named).probes
    (given,) = loaded(tmp_path, f"{named}, every: 1h").probes
    assert (own.name, own.every, own.timeout) == ("shop", 120.0, 45.0)
    assert (given.every, given.timeout) == (3600.0, 45.0)


def test_a_matrix_goes_over_all_of_them_and_labels_match_them(tmp_path: Path) -> None:
    """Each journey for each client."""
    suite(tmp_path)
    more = "objectives:\n  - {name: all, match: {journeys: shop}, target: 99%, window: 30d}\n"
    config = loaded(tmp_path, "target: journeys, journey: {matrix: {locale: [de-DE, en-GB]}}", more)
    assert len(config.probes) == len(config.objectives[0].probes) == 8
    first = config.probes[0]
    assert (first.name, first.every) == ("shop.checkout.de-DE", 120.0)
    assert first.labels == {"journeys": "shop", "matrix": "shop", "locale": "de-DE"}


MARKED = "import pytest\n@pytest.mark.journey({})\ndef test_it(): ...\n"
WRONG = [
    (MARKED.format("evry='2m'"), "test_shop.py:2: @pytest.mark.journey knows no evry; did you mean every?"),
    (
        MARKED.format("every='often'"),
        "test_shop.py:2: @pytest.mark.journey has every 'often'; write a duration above 0",
    ),
    (MARKED.format("timeout=0"), "has timeout 0; write a duration above 0 like '45s' or '2m', or a number of seconds"),
    (MARKED.format("every=True"), "has every True; write a duration above 0"),
    (MARKED.format("'a', name='b'"), "has name twice; give it once"),
    (MARKED.format("name='a b'"), "has the name 'a b'; a name is up to 100 letters"),
    (MARKED.format("'a', '2m', '1m', 4"), "takes name, every, timeout and nothing else, not 4 values"),
    (
        MARKED.format("every='1m', timeout='2m'"),
        "has a timeout of 2m, which is not less than every 1m; shorten timeout",
    ),
    (
        MARKED.format("every=EVERY"),
        "test_shop.py:2: @pytest.mark.journey has a value that is known only when the file runs",
    ),
    (MARKED.format("") + MARKED.format("'it'").replace("_it", "_b"), "two journeys are called it, in "),
    (MARKED.format("").replace("def", "@pytest.mark.parametrize('n', [1])\ndef"), "test_it is parametrized, and only"),
    ("def test_it(): ...\n", "has the mark `@pytest.mark.journey`; give it to the journeys, or name one test"),
    ("def test_it(:\n", "test_shop.py is no Python: line 1: "),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_what_is_wrong_with_a_mark_is_told_in_one_line_at_the_entry(tmp_path: Path, text: str, said: str) -> None:
    """Reading a configuration runs nobody's code, so the line is known and a traceback is not to be had."""
    suite(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "target: journeys")
    (line,) = caught.value.lines
    assert "stormwatch.yaml:3: probes[shop].target: " in line
    assert said in line


def test_the_entrys_own_name_is_no_probes(tmp_path: Path) -> None:
    """Which is meant has to be said."""
    suite(tmp_path)
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "target: journeys", "objectives:\n  - {name: a, probe: shop, target: 99%, window: 30d}\n")
    (line,) = caught.value.lines
    assert line.endswith("shop stands for the probes shop.checkout and 3 more, by its target; name one of them")


def test_a_mark_under_another_name_and_of_a_module_is_read_too(tmp_path: Path) -> None:
    """As pytest reads it."""
    text = "from pytest import mark\njourney = mark.journey(every='9m')\n@journey\nasync def test_a(): ...\n"
    (named,) = marked_tests(suite(tmp_path, text))
    (whole,) = marked_tests(suite(tmp_path, "import pytest\npytestmark = pytest.mark.journey\ndef test_b(): ...\n"))
    assert (named.mark, named.line) == (JourneyMark(every=540.0), 4)
    assert (whole.test, whole.mark) == ("test_b", JourneyMark())
    assert read_mark((), {}) == JourneyMark()


def test_pytest_takes_the_name_and_the_timeout_also_under_xdist(write: Write, tmp_path: Path) -> None:
    """A run that took too long is down when it is over; a wrong mark is broken, and told in a line."""
    file = write("""
        @pytest.mark.journey(name="quick", timeout="20s")
        @pytest.mark.parametrize("size", ["small", "large"])
        def test_a(size, step):
            with step("go"):
                pass

        @pytest.mark.journey(name="late", timeout=0.01)
        def test_b(step):
            with step("wait"):
                time.sleep(0.02)

        @pytest.mark.journey(nmae="x")
        def test_c():
            pass
    """)
    files = ["--stormwatch-metrics", str(tmp_path / "it.prom"), "--stormwatch-json", str(tmp_path / "it.json")]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(file), "-n", "2", *files]
    done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=False, timeout=100)
    assert "1 failed, 2 passed, 1 error" in done.stdout
    assert "INTERNALERROR" not in done.stdout
    told = {each["name"]: each for each in json.loads((tmp_path / "it.json").read_text())["journeys"]}
    assert {name: each["outcome"] for name, each in told.items()} == {
        "quick[small]": "up",
        "quick[large]": "up",
        "late": "down",
        "test_c": "broken",
    }
    assert told["late"]["reason"] == "timeout"
    assert told["late"]["message"].endswith("its timeout is 0.01 s")
    assert told["test_c"]["message"] == "@pytest.mark.journey of test_c knows no nmae; did you mean name?"
    families = text_string_to_metric_families((tmp_path / "it.prom").read_text())
    success = {
        one.labels["probe"]: one.value for each in families for one in each.samples if one.name == "probe_success"
    }
    assert success == {"quick[small]": 1, "quick[large]": 1, "late": 0}


def test_check_runs_all_that_an_entry_stands_for(tmp_path: Path) -> None:
    """By the entry's name, as one by its own."""
    suite(tmp_path, SUITE.replace("def test_resets_a_password(self)", "def test_resets_a_password(self, nothing)"))
    loaded(tmp_path, "target: journeys", "  - {name: other, kind: tcp, target: '127.0.0.1:1'}\n")
    done = invoke("check", "shop", "--format", "json", cwd=tmp_path, timeout=120)
    outcomes = {each["probe"]: each["outcome"] for each in json.loads(done.stdout)["results"]}
    up = {f"shop.{name}": "up" for name in ("checkout", "TestAccount.log_in", "search")}
    assert (done.returncode, outcomes) == (3, {**up, "shop.reset": "broken"})
