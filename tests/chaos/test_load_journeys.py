"""The fault `load` whose users run journeys: the service sees their requests, their runs are counted, and none outlives the fault."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.catalog import read_options
from stormwatch.chaos.fault import FaultNotInjected
from stormwatch.chaos.host_program import marked
from stormwatch.harness.config import load
from tests.chaos.test_load_fault import loaded, service
from tests.servers import busy, held_owner
from tests.servers.process import wait_for

JOURNEYS = """
    import httpx
    import pytest

    pytestmark = pytest.mark.journey


    def test_buy(step, base_url):
        with step("look"):
            httpx.get(f"{base_url}/look").raise_for_status()
        with step("buy"):
            httpx.post(f"{base_url}/buy").raise_for_status()


    def test_see(page):
        page.goto("/")
"""


def file(directory: Path, text: str = JOURNEYS) -> str:
    """A file of journeys in a suite of its own."""
    (directory / "pytest.ini").write_text("[pytest]\n")
    path = directory / "test_shop.py"
    path.write_text(textwrap.dedent(text))
    return str(path)


async def test_users_run_the_journey_until_the_fault_is_taken_back(tmp_path: Path) -> None:
    """Each counted run is two requests that the service has seen; afterwards there is no process and no file of it."""
    with busy.serving() as shop:
        asked: dict[str, Any] = {"users": 3, "pause": "20ms", "journey": file(tmp_path), "test": "test_buy"}
        async with loaded(service(shop.url), tmp_path, **asked) as fault:
            assert (await fault.evidence()).touched
            async with asyncio.timeout(60):
                while len(shop.asked) < 20:
                    await asyncio.sleep(0.05)
            seen = await fault.evidence()
            assert marked(fault.id) != []
        last = await fault.evidence()
        runs = int(last.what.removeprefix("3 users, ").partition(" ")[0])
        assert seen.what.startswith("3 users, ")
        assert last.what == f"3 users, {runs} runs of journeys passed"
        # Killed, each user was in the middle of one run at the most.
        bought = sum(method == "POST" for method, *_ in shop.asked)
        assert 0 <= bought - runs <= 3
        assert {(method, path) for method, path, *_ in shop.asked} == {("GET", "/look"), ("POST", "/buy")}
    assert marked(fault.id) == []
    assert not (Path(tempfile.gettempdir()) / f"stormwatch-{fault.id}").exists()


async def test_a_journey_that_fails_has_met_the_service_when_it_came_past_a_step(tmp_path: Path) -> None:
    """And one that came past none has not: nothing is injected, and why is told."""
    text = JOURNEYS.replace('{base_url}/buy")', '{base_url}/buy", headers={"Host": ""}, timeout=0)')
    with busy.serving() as shop:
        asked: dict[str, Any] = {"journey": file(tmp_path, text), "test": "test_buy"}
        async with loaded(service(shop.url), tmp_path, **asked) as fault:
            seen = await fault.evidence()
        assert seen.touched
        assert "did not: " in seen.what
        gone = shop.url
    with pytest.raises(
        FaultNotInjected, match=r"no run of the journey came as far as an answer of .*: none of \d+ passed"
    ):
        async with loaded(service(gone), tmp_path, **asked, timeout="100ms"):
            pass
    assert list((tmp_path / "undo").iterdir()) == []


async def test_a_journey_in_a_browser_is_not_begun(tmp_path: Path) -> None:
    """Known when pytest has collected the file, before anybody asks for anything: each user would be a browser."""
    with busy.serving() as shop:
        with pytest.raises(FaultNotInjected, match="test_see: it needs a browser"):
            async with loaded(service(shop.url), tmp_path, journey=file(tmp_path)):
                pass
        assert shop.asked == []


def test_a_killed_owner_leaves_no_user(tmp_path: Path) -> None:
    """His reaper ends them: no process, no count and no record is left."""
    name = f"{os.getpid()}-users"
    identity = f"load-{name}"
    with (
        busy.serving() as shop,
        subprocess.Popen(
            [sys.executable, held_owner.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as owners,
    ):
        assert owners.stdin is not None
        assert owners.stdout is not None
        fault = {"kind": "load", "target": "shop", "users": 2, "journey": file(tmp_path), "test": "test_buy"}
        told = {"number": 0, "directory": str(tmp_path / "undo"), "lease": 600, "id": name, "stop": "holding"}
        owners.stdin.write(json.dumps({**told, "fault": fault, "target": service(shop.url).as_json()}) + "\n")
        owners.stdin.flush()
        for line in owners.stdout:
            _, owner, step = line.split()
            assert step != "failed"
            if step == "holding":
                users = marked(identity)
                os.kill(int(owner), signal.SIGKILL)
                assert users != []
                break
        place = Path(tempfile.gettempdir()) / f"stormwatch-{identity}"
        wait_for(
            lambda: not marked(identity) and not place.exists() and not list((tmp_path / "undo").iterdir()),
            what="all of it to be gone",
            seconds=60,
        )
        owners.stdin.close()


async def test_a_file_that_is_not_there_is_known_before_anything_begins(tmp_path: Path) -> None:
    """As `stormwatch drill --dry-run` says, too."""
    with pytest.raises(FaultNotInjected, match="cannot be read"):
        async with loaded(service("http://127.0.0.1:1/"), tmp_path, journey=str(tmp_path / "none.py")):
            pass


def test_the_file_is_found_beside_the_configuration(tmp_path: Path) -> None:
    """As other files are that it names."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text(
        "probes: [{name: shop, kind: http, target: 'http://127.0.0.1:1/'}]\n"
        "targets: [{name: shop, service: {url: 'http://127.0.0.1:1/'}}]\n"
        "drills:\n"
        "  - name: rush\n"
        "    fault: {kind: load, target: shop, users: 5, journey: journeys/test_shop.py}\n"
        "    expect: {probe: {name: shop}}\n"
    )
    (drill,) = load(path, environ={}).drills
    assert getattr(drill.fault.options, "journey") == str(tmp_path / "journeys/test_shop.py")  # noqa: B009


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"journey": "a.py", "requests": [{"path": "/"}]}, "leave one of them out"),
        ({"test": "test_buy"}, "which one of the file `journey`"),
    ],
)
def test_users_do_one_thing(options: dict[str, object], said: str) -> None:
    """Either requests or runs."""
    with pytest.raises(ValueError, match=said):
        read_options("load", {"users": 1, **options})
