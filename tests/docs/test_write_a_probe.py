"""docs/how-to/write-a-probe.md is followed word by word: its files written, its commands run, its output compared."""

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "write-a-probe.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PORT = "11211"
"""The page's. Nobody can be sure that it is free here, so that another stands in its place."""


@contextmanager
def memcached() -> Generator[str]:
    """A server that says its version, as far as the page goes; its port."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    port: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline() == b"version\r\n":
            writer.write(b"VERSION 1.6.29\r\n")
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port.append(server.sockets[0].getsockname()[1])
            ready.set()
            while not ended.is_set():
                await asyncio.sleep(0.02)

    ended = threading.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    ready.wait(10)
    try:
        yield str(port[0])
    finally:
        ended.set()
        thread.join(10)
        loop.close()


def pattern_of(shown: str) -> str:
    """What is shown, with any time and trace in the place of the page's. A line `…` stands for any lines."""
    text = re.escape(shown)
    text = re.sub(r"^…\n", r"(?:.*\n)*", text.replace("\\\n", "\n"), flags=re.MULTILINE)
    text = re.sub(r"\b[0-9a-f]{32}\b", "[0-9a-f]{32}", text)
    text = re.sub(r"(?:\\ )+\d+\\\.\d+\\ ms", r" +[\\d.]+ ms", text)
    return re.sub(r"in\\ \d+\\\.\d+s", r"in [\\d.]+s", text)


def test_the_page_is_true(tmp_path: Path) -> None:
    """From an empty directory to a probe that is up."""
    site, package = tmp_path / "site", tmp_path / "package"
    package.mkdir()
    programs = {
        "pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        "stormwatch": [sys.executable, "-c", "from stormwatch.harness.cli import main; main()"],
    }
    # Without network and beside our own environment: what the page installs is found through PYTHONPATH.
    quiet = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    programs["pip"] = [sys.executable, "-m", "pip", *quiet, "--target", str(site)]
    environ = {**os.environ, "PYTHONPATH": f"{site}", "COLUMNS": "80"}
    commands = 0
    with memcached() as port:
        for language, text in BLOCK.findall(PAGE):
            if language != "console":
                name = re.match(r"# (\S+)\n", text)
                assert name, f"a file without its name: {text[:40]}"
                (package / name[1]).write_text(text.replace(PORT, port))
                continue
            first, _, shown = text.partition("\n")
            program, *words = first.removeprefix("$ ").split()
            command = programs[program]
            if program == "pip":
                command, words = [*command[:3], words[0], *command[3:]], words[1:]
            done = subprocess.run(
                [*command, *words], cwd=package, env=environ, text=True, timeout=100, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            seen = done.stdout.replace(port, PORT)
            assert re.fullmatch(pattern_of(shown), seen), f"{first}\n--- seen\n{seen}\n--- shown\n{shown}"
            commands += 1
    assert commands == 5
    assert len(list(package.glob("*.*"))) >= 5
