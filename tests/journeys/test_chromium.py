"""Which browser is launched, and with which flags."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from stormwatch.journeys.chromium import QUIET, find, launch_args


@pytest.fixture
def chromium(tmp_path: Path) -> Path:
    program = tmp_path / "bin" / "chromium-browser"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def test_the_machines_chromium_is_used_where_playwright_has_none(chromium: Path) -> None:
    found = launch_args({}, downloaded="/nowhere/a/b/c", environ={"PATH": str(chromium.parent)}, root=False)
    assert found == {"executable_path": str(chromium), "args": list(QUIET)}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "chromium-headless-shell"),
        ({"headless": True, "args": ["--lang=de"]}, "chromium-headless-shell"),
        ({"headless": False}, "chromium-browser"),
        ({"args": ["--headless=new"]}, "chromium-browser"),
        ({"args": ["--load-extension=/opt/mine"]}, "chromium-browser"),
    ],
)
def test_the_headless_shell_is_taken_where_nobody_wants_the_whole_browser(
    chromium: Path, given: dict[str, Any], name: str
) -> None:
    shutil.copy(chromium, chromium.parent / "chromium-headless-shell")
    found = launch_args(given, downloaded="/nowhere/a/b/c", environ={"PATH": str(chromium.parent)}, root=False)
    assert found["executable_path"] == str(chromium.parent / name)


def test_root_runs_it_without_a_sandbox_and_flags_of_the_user_stay_last(chromium: Path) -> None:
    found = launch_args(
        {"args": ["--lang=de"], "slow_mo": 5},
        downloaded="/nowhere/a/b/c",
        environ={"PATH": str(chromium.parent)},
        root=True,
    )
    assert found["args"] == [*QUIET, "--no-sandbox", "--lang=de"]
    assert found["slow_mo"] == 5


@pytest.mark.parametrize("given", [{"executable_path": "/opt/mine"}, {"channel": "chrome"}])
def test_what_the_user_chose_is_left_alone(chromium: Path, given: dict[str, str]) -> None:
    assert launch_args(given, downloaded="/nowhere/a/b/c", environ={"PATH": str(chromium.parent)}) == given


def test_playwrights_own_download_is_left_alone(chromium: Path, tmp_path: Path) -> None:
    downloaded = tmp_path / "cache" / "chromium-1" / "linux" / "chrome"
    downloaded.parent.mkdir(parents=True)
    downloaded.touch()
    assert launch_args({}, downloaded=str(downloaded), environ={"PATH": str(chromium.parent)}) == {}


def test_the_headless_shell_alone_counts_as_a_download(chromium: Path, tmp_path: Path) -> None:
    shell = tmp_path / "cache" / "chromium_headless_shell-1" / "linux" / "headless_shell"
    shell.parent.mkdir(parents=True)
    shell.touch()
    downloaded = str(tmp_path / "cache" / "chromium-1" / "linux" / "chrome")
    assert launch_args({}, downloaded=downloaded, environ={"PATH": str(chromium.parent)}) == {}


def test_the_environment_can_name_one(chromium: Path, tmp_path: Path) -> None:
    downloaded = tmp_path / "a" / "b" / "c"
    downloaded.parent.mkdir(parents=True)
    downloaded.touch()
    found = launch_args({}, downloaded=str(downloaded), environ={"STORMWATCH_BROWSER": "/opt/mine"}, root=False)
    assert found["executable_path"] == "/opt/mine"


def test_a_machine_without_any_leaves_it_to_playwright_to_say_so(tmp_path: Path) -> None:
    assert find(str(tmp_path)) == ""
    assert launch_args({}, downloaded="/nowhere/a/b/c", environ={"PATH": str(tmp_path)}) == {}
