"""The sample platform as a whole: started detached, found again by its directory, told to stop a part or everything.

    python -m stormwatch.demo.platform --dir DIR --owner PID [--linger SECONDS] [--ports fixed|free] [--detach]

is the supervisor. It prints progress as JSON lines: `{"starting": NAME}`, `{"answers": NAME}`, `{"ready": "DIR/platform.json"}`,
`{"died": NAME, "exit": CODE, "log": PATH}`, `{"owner-gone": PID, "stopping-in": SECONDS}`, `{"failed": SENTENCE}`.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stormwatch.demo.command import PlatformFailed, command
from stormwatch.demo.layout import Layout, free_ports, remembered_ports
from stormwatch.demo.plants import Plants
from stormwatch.demo.process import end_of

LINGER = 180.0
"""Seconds that a platform outlives its owner: a fault that was left behind can be seen to heal, and be undone."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A running platform, as its `platform.json` describes it."""

    layout: Layout
    document: Mapping[str, Any]

    @classmethod
    def load(cls, directory: Path) -> "Platform":
        """The platform that runs in a directory. Raises PlatformFailed when none does."""
        layout = Layout.at(directory)
        command(layout.directory, layout.socket, {}, seconds=5)
        return cls(layout, _read_state(layout))

    @property
    def shop(self) -> str:
        """The address of the pages, for a browser that maps *.storm.test to 127.0.0.1."""
        return self.document["shop"]

    @property
    def urls(self) -> dict[str, str]:
        """The address of every service, through the fault proxy."""
        return {name: service["url"] for name, service in self.document["services"].items()}

    @property
    def dns(self) -> str:
        """`host:port` of the name server."""
        return self.document["dns"]

    @property
    def control(self) -> str:
        """Base URL of the fault proxy's control API."""
        return self.document["control"]

    @property
    def ca(self) -> Path:
        """The certificate to trust."""
        return Path(self.document["ca"])

    @property
    def plants(self) -> Plants:
        """The failures that are planted in it, and can be."""
        return Plants(self.layout.planted)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name (also `supervisor`, `dns`, `proxy`), as they are now."""
        return dict(_read_state(self.layout)["pids"])

    async def stop(self) -> None:
        """End everything, and return when it has ended. No error when it has ended before."""
        with contextlib.suppress(PlatformFailed, FileNotFoundError):
            # Whoever answers on the socket is the process in the lock file, and no later one of the same id.
            ended = asyncio.create_task(end_of(int(self.layout.lock.read_text())))
            await asyncio.sleep(0)
            try:
                await self._command({"quit": True})
                await ended
            finally:
                ended.cancel()

    async def stop_service(self, name: str) -> None:
        """End one process (a service, `dns` or `proxy`); its port refuses connections afterwards. Raises PlatformFailed."""
        await self._command({"stop": name})

    async def start_service(self, name: str) -> None:
        """Start one process that has ended, and return when it answers. Raises PlatformFailed."""
        await self._command({"start": name})

    async def _command(self, document: Mapping[str, Any]) -> None:
        await asyncio.to_thread(command, self.layout.directory, self.layout.socket, document, seconds=70)


async def start_platform(
    directory: Path,
    *,
    on_progress: Callable[[Mapping[str, Any]], None] = lambda _line: None,
    owner: int | None = None,
    linger: float = LINGER,
    ports: str = "fixed",
) -> Platform:
    """Start a platform that ends `linger` seconds after its owner (this process), and return when all of it answers.

    `ports`: "fixed" are those that people remember, where they are free; "free" are random ones. `on_progress` gets the
    supervisor's JSON lines. Raises PlatformFailed. Cancelling ends what was started.
    """
    layout = Layout.at(directory)
    arguments = ["--dir", str(layout.directory), "--owner", str(owner or os.getpid()), "--linger", str(linger)]
    launch = asyncio.create_task(_launch([*arguments, "--ports", ports, "--detach"]))
    try:
        supervisor = await asyncio.shield(launch)
        async for line in supervisor.lines:
            progress = json.loads(line)
            on_progress(progress)
            if {"failed", "ready"} & progress.keys():
                return _started(layout, progress)
        raise PlatformFailed(f"the supervisor ended without a word (its log: {layout.log('supervisor')})")  # noqa: TRY301 - what was started ends with every failure
    except BaseException:
        supervisor = await launch
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor.pid, signal.SIGTERM)
        await asyncio.shield(end_of(supervisor.pid))
        raise
    finally:
        if launch.done() and not launch.exception():
            launch.result().transport.close()


def _started(layout: Layout, progress: Mapping[str, Any]) -> Platform:
    if "failed" in progress:
        raise PlatformFailed(progress["failed"])
    return Platform(layout, _read_state(layout))


@dataclass(frozen=True, slots=True)
class _Supervisor:
    pid: int
    lines: asyncio.StreamReader
    transport: asyncio.BaseTransport


async def _launch(arguments: list[str]) -> _Supervisor:
    """Start a supervisor that is not our child: it is to outlive us, and leaves nothing to be waited for."""
    reading, writing = os.pipe()
    lines = asyncio.StreamReader()
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(reading, "rb", buffering=0)
        )
        launcher = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "stormwatch.demo.platform",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writing,
        )
    finally:
        os.close(writing)
    await launcher.wait()
    first = await lines.readline()
    if not first:
        transport.close()
        raise PlatformFailed(f"the supervisor could not be started: exit code {launcher.returncode}")
    return _Supervisor(pid=json.loads(first)["supervisor"], lines=lines, transport=transport)


def main(arguments: list[str]) -> int:
    """Be the supervisor. Exit code 0 after a stop, 1 when the platform failed, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m stormwatch.demo.platform", description="Run the sample platform.")
    parser.add_argument("--dir", type=Path, required=True, help="where it keeps its files")
    parser.add_argument("--owner", type=int, required=True, help="the process with which it ends")
    parser.add_argument("--linger", type=float, default=LINGER, help="seconds that it outlives its owner")
    parser.add_argument("--ports", choices=("fixed", "free"), default="fixed", help="ports to remember, or random ones")
    parser.add_argument("--detach", action="store_true", help="return at once, and run in the background")
    options = parser.parse_args(arguments)
    child = os.fork() if options.detach else 0
    if child:
        _say({"supervisor": child})
        return 0
    if os.getpgrp() != os.getpid():  # the leader of a group, as a shell makes one, cannot leave it and need not
        os.setsid()
    return asyncio.run(_supervise(options))


async def _supervise(options: argparse.Namespace) -> int:
    from stormwatch.demo.supervisor import Supervisor, hold

    layout = Layout.at(options.dir)
    try:
        with hold(layout):
            layout.clean()
            with layout.log("supervisor").open("a") as log:
                if options.detach:
                    os.dup2(log.fileno(), sys.stderr.fileno())

                def report(line: Mapping[str, Any]) -> None:
                    log.write(json.dumps(line) + "\n")
                    log.flush()
                    _say(line)

                ports = free_ports() if options.ports == "free" else remembered_ports()
                await Supervisor(layout, ports, report=report).run(owner=options.owner, linger=options.linger)
    except (PlatformFailed, OSError) as error:
        _say({"failed": str(error)})
        return 1
    return 0


def _say(line: Mapping[str, Any]) -> None:
    """To whoever still listens: the owner stops reading when the platform is ready."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(line).encode() + b"\n")


def _read_state(layout: Layout) -> dict[str, Any]:
    try:
        return json.loads(layout.state.read_text())
    except FileNotFoundError as error:
        raise PlatformFailed(
            f"the sample platform in {layout.directory} is not ready: there is no {layout.state}"
        ) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
