"""The process that starts the sample platform, watches over it, and ends it with its owner.

start   clean the directory, issue certificates, start all processes at once, ask each until it answers
watch   a child that ends is reported, not restarted; commands arrive on a socket in the directory
stop    on SIGTERM, or when the owner has gone and the linger is over; a SIGKILL of this process kills the children, too
"""

import asyncio
import contextlib
import datetime
import fcntl
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stormwatch.demo.authority import Authority, new_authority
from stormwatch.demo.command import PlatformFailed, take_commands
from stormwatch.demo.dependency import Dependency, Network, Refused, Unavailable
from stormwatch.demo.estate import SERVICES
from stormwatch.demo.layout import HOST, ISSUER, Layout, Ports
from stormwatch.demo.process import end_of
from stormwatch.demo.resolver import NotResolved, Resolver

STARTING_SECONDS = 60.0
"""Three seconds are enough on two idle cores; a busy machine gets its time, and a process that ended is noticed at once."""
STOPPING_SECONDS = 3.0
_ASK_AGAIN = 0.1

Report = Callable[[Mapping[str, Any]], None]
"""Takes one line of progress: `{"starting": name}`, `{"answers": name}`, `{"ready": path}`, `{"died": name, "exit": code}` …"""


@dataclass(slots=True)
class _Child:
    name: str
    environ: Mapping[str, str]
    process: asyncio.subprocess.Process
    expected: bool = False
    """True from the moment we end it ourselves: its end is no news then."""


class Supervisor:
    """All processes of one platform, in one directory."""

    def __init__(self, layout: Layout, ports: Ports, *, report: Report) -> None:
        self._layout = layout
        self._ports = ports
        self._report = report
        self._children: dict[str, _Child] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._spki = ""
        self._waiting_for: dict[str, str] = {}

    async def run(self, *, owner: int, linger: float) -> None:
        """Start, watch until SIGTERM or until the owner has been gone for `linger` seconds, stop.

        Raises PlatformFailed when something does not answer, or ends, within a minute.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        gone = asyncio.create_task(end_of(owner))
        try:
            async with take_commands(self._layout.directory, self._layout.socket, self._obey):
                await self._unless_stopped(self._start())
                if not self._stop.is_set():
                    self._write_state()
                    self._report({"ready": str(self._layout.state)})
                await self._unless_stopped(gone)
                if not self._stop.is_set():
                    self._report({"owner-gone": owner, "stopping-in": linger})
                    await self._unless_stopped(asyncio.sleep(linger))
        finally:
            gone.cancel()
            await self._end_all()
            self._report({"stopped": str(self._layout.directory)})

    async def _start(self) -> None:
        authority = new_authority("stormwatch sample platform CA", now=datetime.datetime.now(datetime.UTC))
        self._spki = authority.spki
        _write_certificates(authority, self._layout)
        self._layout.routes.write_text(json.dumps(self._ports.routes(self._layout), indent=2))
        environs = self._ports.environs(self._layout, supervisor=os.getpid())
        for name, environ in environs.items():
            self._report({"starting": name})
            await self._spawn(name, environ)
        async with self._within(STARTING_SECONDS):
            await _together(self._ready(name) for name in environs)
            await _together(self._reaches_all(name) for name in SERVICES)

    async def _obey(self, document: Mapping[str, Any]) -> None:
        match document:
            case {"stop": str(name)}:
                await self._end(self._child(name))
            case {"start": str(name)}:
                await self._start_again(self._child(name))
            case {"quit": True}:
                self._stop.set()
            case _:
                raise PlatformFailed('a command is {"stop": NAME}, {"start": NAME} or {"quit": true}')

    def _child(self, name: str) -> _Child:
        if name not in self._children:
            raise PlatformFailed(f"there is no process {name!r}: there are {', '.join(self._children)}")
        return self._children[name]

    async def _start_again(self, child: _Child) -> None:
        """With its old port, certificate and database. No error when it is running."""
        if child.process.returncode is not None:
            await self._spawn(child.name, child.environ)
            async with self._within(STARTING_SECONDS):
                await self._ready(child.name)
            self._write_state()

    async def _spawn(self, name: str, environ: Mapping[str, str]) -> None:
        with self._layout.log(name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "stormwatch.demo.serve",
                name,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environ},
            )
        child = self._children[name] = _Child(name, environ, process)
        watcher = asyncio.create_task(self._watch(child))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, child: _Child) -> None:
        code = await child.process.wait()
        if not child.expected:
            self._report({"died": child.name, "exit": code, "log": str(self._layout.log(child.name))})

    async def _end_all(self) -> None:
        if self._children:
            self._layout.state.unlink(missing_ok=True)
            await asyncio.gather(*(self._end(child) for child in self._children.values()))

    async def _end(self, child: _Child) -> None:
        """SIGTERM, and SIGKILL after three seconds. No error when it has ended before."""
        child.expected = True
        if child.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.process.terminate()
        try:
            await asyncio.wait_for(child.process.wait(), STOPPING_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                child.process.kill()
            await child.process.wait()

    async def _ready(self, name: str) -> None:
        """Ask one process until it answers. Needs no other process, so that each can be started while another is down."""
        network = Network(ca=self._layout.ca, resolver=_Loopback())
        async with contextlib.aclosing(network):
            while True:
                self._still_running(name)
                self._waiting_for[name] = why = await self._asked(name, network)
                if not why:
                    return
                await asyncio.sleep(_ASK_AGAIN)

    async def _asked(self, name: str, network: Network) -> str:
        if name == "dns":
            try:
                await Resolver((HOST, self._ports.dns_direct)).address_of(SERVICES["shop"].host)
            except NotResolved as error:
                return str(error)
            return ""
        if name == "proxy":
            return await _connected([self._ports.control, self._ports.dns, *self._ports.front.values()])
        return await Dependency(name, f"https://{SERVICES[name].host}:{self._ports.direct[name]}", network).check()

    async def _reaches_all(self, name: str) -> None:
        """A service says itself that it reaches what it needs, asked the way that everybody will ask it."""
        network = Network(ca=self._layout.ca, resolver=Resolver((HOST, self._ports.dns)))
        async with contextlib.aclosing(network):
            service = Dependency(name, self._ports.url(name), network)
            while True:
                self._still_running(*self._children)
                try:
                    await service.get("/readyz")
                except (Unavailable, Refused) as error:
                    self._waiting_for[name] = str(error)
                else:
                    self._waiting_for[name] = ""
                    self._report({"answers": name})
                    return
                await asyncio.sleep(_ASK_AGAIN)

    def _still_running(self, *names: str) -> None:
        for name in names:
            child = self._children[name]
            if not child.expected and child.process.returncode is not None:
                lines = self._layout.log(name).read_text(errors="replace").strip().splitlines()
                raise PlatformFailed(
                    f"{name} ended with exit code {child.process.returncode} before it answered: "
                    f"{lines[-1] if lines else 'it said nothing'} ({self._layout.log(name)})"
                )

    async def _unless_stopped(self, work: Coroutine[Any, Any, None] | asyncio.Task[None]) -> None:
        """Wait for some work, or for the order to stop, whichever comes first."""
        task = work if isinstance(work, asyncio.Task) else asyncio.create_task(work)
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
        finally:
            stopped.cancel()
            task.cancel()
            await asyncio.wait({task})

    @contextlib.asynccontextmanager
    async def _within(self, seconds: float) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            silent = "; ".join(f"{name}: {why}" for name, why in self._waiting_for.items() if why)
            raise PlatformFailed(f"not ready within {seconds:g} s: {silent} (logs: {self._layout.logs})") from None

    def _write_state(self) -> None:
        pids = {name: child.process.pid for name, child in self._children.items()}
        document = self._ports.state(self._layout, pids=pids, supervisor=os.getpid(), spki=self._spki)
        fresh = self._layout.state.with_suffix(".new")
        fresh.write_text(json.dumps(document, indent=2) + "\n")
        fresh.replace(self._layout.state)


@contextlib.contextmanager
def hold(layout: Layout) -> Generator[None]:
    """Own the directory until this process ends, however it ends. Raises PlatformFailed when a live platform has it."""
    layout.directory.mkdir(parents=True, exist_ok=True)
    with layout.lock.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise PlatformFailed(
                f"a sample platform is running in {layout.directory} already (process {lock.read().strip() or '?'}): "
                "stop that one first, or take another directory"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


class _Loopback:
    async def address_of(self, name: str) -> str:
        del name
        return HOST


async def _connected(ports: Iterable[int]) -> str:
    for port in ports:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError as error:
            return f"{HOST}:{port}: {error.strerror or error}"
        writer.close()
    return ""


async def _together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first failure ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except* PlatformFailed as failed:
        first = failed.exceptions[0]
        assert isinstance(first, PlatformFailed)
        raise first from None


def _write_certificates(authority: Authority, layout: Layout) -> None:
    layout.ca.write_bytes(authority.pem)
    now = datetime.datetime.now(datetime.UTC)
    identities = {name: authority.issue(spec.host, now=now) for name, spec in SERVICES.items()}
    identities[ISSUER] = authority.delegate("stormwatch sample platform faults", now=now)
    for name, identity in identities.items():
        layout.certificate(name).write_bytes(identity.chain)
        layout.key(name).touch(mode=0o600)
        layout.key(name).write_bytes(identity.key)
