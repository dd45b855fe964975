"""How a platform begins and ends: with its owner, by a command, by a signal, and never with anything left behind."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from stormwatch.demo.command import PlatformFailed
from stormwatch.demo.layout import Layout
from stormwatch.demo.platform import Platform, start_platform
from tests.servers.process import answers, wait_for


def start(directory: Path, **options: Any) -> Platform:
    return asyncio.run(start_platform(directory, **{"ports": "free", "linger": 0, **options}))


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def none_lives(pids: Mapping[str, int]) -> bool:
    return not any(lives(pid) for pid in pids.values())


@pytest.fixture
def owner() -> Generator[subprocess.Popen[bytes]]:
    """Some process that owns a platform."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """One that runs until a test kills it."""
    platform = start(tmp_path_factory.mktemp("living"))
    yield platform
    asyncio.run(platform.stop())


def test_while_one_lives_a_second_in_its_directory_is_refused(living: Platform) -> None:
    """With a sentence that says what to do; the first one is not disturbed. And wrong commands are refused, too."""
    directory, pids = living.layout.directory, living.pids

    with pytest.raises(
        PlatformFailed,
        match=rf"a sample platform is running in {directory} already \(process {pids['supervisor']}\): stop that one first",
    ):
        start(directory)
    with pytest.raises(PlatformFailed, match="there is no process 'bakery': there are dns, proxy, shop"):
        asyncio.run(living.stop_service("bakery"))
    asyncio.run(living.stop_service("taxi"))
    asyncio.run(living.stop_service("taxi"))
    asyncio.run(living.start_service("taxi"))
    asyncio.run(living.start_service("taxi"))

    assert Platform.load(directory).pids == {**pids, "taxi": living.pids["taxi"]}
    assert all(lives(pid) for pid in living.pids.values())


def test_a_killed_supervisor_takes_everything_with_it_and_its_directory_can_be_used_again(
    living: Platform, owner: subprocess.Popen[bytes]
) -> None:
    """SIGKILL, as by the kernel when memory is short: nobody could clean up, and nothing is left running.

    To stop what has ended is no error. The one that comes after it ends when its owner has gone and the linger is over: not at
    once, because what was broken last can still be seen to heal.
    """
    directory, pids, databases = (
        living.layout.directory,
        living.pids,
        [*living.layout.database("shop").parent.iterdir()],
    )
    os.kill(pids["supervisor"], signal.SIGKILL)
    wait_for(lambda: none_lives(pids), what="all processes to end")
    assert living.layout.state.exists()
    with pytest.raises(PlatformFailed, match=f"no sample platform is running in {directory}"):
        Platform.load(directory)
    asyncio.run(living.stop())

    again = start(directory, owner=owner.pid, linger=1.0)
    fresh = again.pids

    assert databases
    assert fresh["supervisor"] != pids["supervisor"]
    began = time.monotonic()
    owner.kill()
    log = again.layout.log("supervisor")
    wait_for(lambda: "owner-gone" in log.read_text(), what="the supervisor to notice")
    wait_for(lambda: none_lives(fresh), what="the linger to be over")
    assert time.monotonic() - began > 1.0
    assert not again.layout.state.exists()


def test_a_start_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while the demo starts."""
    lines: list[Mapping[str, Any]] = []

    async def give_up() -> None:
        begun = asyncio.Event()

        def progress(line: Mapping[str, Any]) -> None:
            lines.append(line)
            begun.set()

        task = asyncio.create_task(start_platform(tmp_path, ports="free", on_progress=progress))
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(give_up())

    assert lines[0] == {"starting": "dns"}
    supervisor = int((tmp_path / "supervisor.lock").read_text())
    wait_for(lambda: none_lives({"supervisor": supervisor}), what="the supervisor to end", seconds=5)
    assert not any(f"{tmp_path}" in command for command in commands())


def test_a_process_that_cannot_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    """Here: the port of the name server is taken by somebody who came in between."""
    from stormwatch.demo.layout import free_ports
    from stormwatch.demo.supervisor import Supervisor

    layout, ports = Layout.at(tmp_path), free_ports()
    layout.clean()
    with socket.create_server(("127.0.0.1", ports.dns_direct)):
        supervisor = Supervisor(layout, ports, report=lambda _line: None)
        with pytest.raises(PlatformFailed, match=r"dns ended with exit code 1 before it answered: dns: .*in use"):
            asyncio.run(supervisor.run(owner=os.getpid(), linger=0))

    assert not any(f"{tmp_path}" in command for command in commands())


def test_by_hand_it_says_what_it_does_as_json_lines(tmp_path: Path) -> None:
    """One line for each process, one when each answers, one when all is ready; SIGTERM ends it, whatever the linger."""
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "stormwatch.demo.platform",
            "--dir",
            tmp_path,
            "--owner",
            str(os.getpid()),
            "--ports",
            "free",
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines: list[dict[str, Any]] = []
        while not lines or "ready" not in lines[-1]:
            lines.append(json.loads(process.stdout.readline()))
        document = json.loads((tmp_path / "platform.json").read_text())
        port = int(document["dns"].rpartition(":")[2])
        assert answers(("127.0.0.1", port))
        process.terminate()

        assert process.wait(15) == 0

    names = ["dns", "proxy", "shop", "accounts", "catalog", "payments", "hotel", "taxi", "ratings"]
    assert [{"starting": name} for name in names] == lines[:9]
    assert sorted(names[2:]) == sorted(line["answers"] for line in lines[9:-1])
    assert {"ready": str(tmp_path / "platform.json")} == lines[-1]
    assert document["pids"]["supervisor"] == process.pid
    assert none_lives(document["pids"])


def commands() -> list[str]:
    """Environment of every process that runs: the children of a platform are told its directory there."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if lives(int(process.name)):
                found.append((process / "environ").read_bytes().decode(errors="replace"))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found
