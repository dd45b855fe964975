"""Every fault of the host with something real to put it on, and what has to hold of that when nothing is left of the fault."""

import contextlib
import os
import resource
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.catalog import FAULTS
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.host_faults import HOST_FAULTS
from stormwatch.chaos.host_program import MARK, marked, within_session
from stormwatch.chaos.load_faults import LOAD_FAULTS
from stormwatch.chaos.process import identify
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from stormwatch.probes.procfs import command_line, environment, running
from tests.program import program
from tests.servers import busy

HELD = tuple(kind.name for kind in (*HOST_FAULTS, *LOAD_FAULTS))
"""The faults that processes of the host carry out."""

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "clock-shift": {"by": "1d"},
    "disk-full": {"limit": "4MiB"},
    "disk-stress": {"bytes": "1MiB"},
    "cpu-stress": {"workers": 1, "load": "5%"},
    "memory-stress": {"bytes": "4MiB"},
    "load": {"users": 1, "pause": "100ms"},
    "net-loss": {"share": "50%"},
    "net-delay": {"delay": "10ms"},
    "net-rate": {"rate": "64kB"},
}
"""Options of the faults that cannot do without, or that would be heavy."""


@dataclass(slots=True)
class Victim:
    """One thing that is there to be broken, and one fault for it."""

    kind: str
    directory: Path
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    target: Target = field(init=False)
    _serving: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        on = FAULTS[self.kind].on
        document = {
            "process": self._process,
            "path": self._path,
            "network": self._network,
            "service": self._service,
            "machine": dict,
        }[on]()
        self.target = Target.from_json({"name": self.name, on: document}, TARGETS)

    @property
    def id(self) -> str:
        """The fault's id."""
        return f"{self.kind}-{self.name}"

    @property
    def spec(self) -> FaultSpec:
        """The fault."""
        options = dict(OPTIONS.get(self.kind, {}))
        if self.kind == "command":
            file = str(self.directory / "broken")
            options = {"inject": ["touch", file], "undo": ["rm", "-f", file], "check": ["test", "-e", file]}
        return FaultSpec.from_json({"kind": self.kind, "target": self.name, **options})

    def make(self, identity: str) -> Any:
        """What carries the fault out."""
        breakage = FAULTS[self.kind].breakage
        assert breakage is not None
        return breakage(identity, self.spec.options, self.target)

    @property
    def pid_file(self) -> Path:
        """Of the process, where the victim is one."""
        return self.directory / "pid"

    @property
    def _sleeps(self) -> str:
        """An argument that no other process on this machine has."""
        return f"600.{int(self.name, 16):010d}"

    def _process(self) -> dict[str, Any]:
        script = f'echo $$ > "$0.new"; mv "$0.new" "$0"; exec sleep {self._sleeps}'
        start = ["/bin/sh", "-c", script, str(self.pid_file)]
        subprocess.run([program("setsid"), "--fork", *start], check=True)
        deadline = time.monotonic() + 30
        while not self.pids():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return {"pid_file": str(self.pid_file), "command": r"\bsleep 600\.", "start": start, "grace": "2s"}

    def _path(self) -> dict[str, Any]:
        place = self.directory / "disk"
        place.mkdir()
        done = subprocess.run(
            [program("mount"), "-t", "tmpfs", "-o", "size=2m", "stormwatch-test", str(place)],
            check=False,
            capture_output=True,
            text=True,
        )
        _or_skip(done)
        return {"directory": str(place)}

    def _network(self) -> dict[str, Any]:
        _or_skip(_ip("netns", "add", self.namespace))
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        return {"namespace": self.namespace, "interface": "lo"}

    def _service(self) -> dict[str, Any]:
        return {"url": self._serving.enter_context(busy.serving()).url}

    @property
    def namespace(self) -> str:
        """Of the network."""
        return f"stormwatch-test-{self.name}"

    def pids(self) -> list[int]:
        """The processes that the victim consists of, however often it was started."""
        return [
            pid for pid in running() if command_line(pid)[-1:] == (self._sleeps,) and command_line(pid)[0] == "sleep"
        ]

    def touched(self) -> bool:
        """Make traffic where the fault is about traffic."""
        if FAULTS[self.kind].on == "network":
            _ip("netns", "exec", self.namespace, "ping", "-c", "4", "-i", "0.05", "-W", "0.05", "127.0.0.1")
        return True

    def left(self) -> list[str]:
        """What is left of the fault, in words; nothing when nothing is."""
        found = [f"process {process.pid} of the fault" for process in marked(self.id)]
        found += [f"process {process.pid} that injects" for process in within_session(f"stormwatch-inject-{self.id}")]
        match FAULTS[self.kind].on:
            case "process":
                found += self._of_process()
            case "path":
                found += [f"the file {path}" for path in (self.directory / "disk").iterdir()]
            case "network":
                found += self._of_network()
            case "service":
                found += [str(path) for path in Path(tempfile.gettempdir()).glob(f"stormwatch-{self.id}")]
            case _:
                found += [f"the file {path}" for path in self.directory.glob("broken")]
        return found

    def _of_process(self) -> list[str]:
        pids = self.pids()
        if len(pids) != 1:
            return [f"the process runs {len(pids)} times"]
        (pid,) = pids
        found: list[str] = []
        if identify(pid).stopped():
            found.append(f"process {pid} is stopped")
        if self.pid_file.read_text().strip() != str(pid):
            found.append(f"the pid file does not name {pid}")
        if resource.prlimit(pid, resource.RLIMIT_NOFILE) != resource.getrlimit(resource.RLIMIT_NOFILE):
            found.append(f"process {pid} may have other than before {resource.prlimit(pid, resource.RLIMIT_NOFILE)}")
        if any(one.startswith("FAKETIME=") for one in environment(pid)):
            found.append(f"process {pid} has another clock")
        return found

    def _of_network(self) -> list[str]:
        tables = _ip("netns", "exec", self.namespace, "nft", "list", "tables").stdout
        queues = _ip("netns", "exec", self.namespace, "tc", "qdisc", "show", "dev", "lo").stdout
        return [*tables.split("\n")[:-1], *([] if " 0: root" in queues else [queues])]

    def end(self) -> None:
        """Take the thing itself away."""
        match FAULTS[self.kind].on:
            case "process":
                for pid in self.pids():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            case "path":
                subprocess.run([program("umount"), "--lazy", str(self.directory / "disk")], check=False)
            case "network":
                _ip("netns", "del", self.namespace)
            case _:
                self._serving.close()
        for process in marked(self.id):
            process.send(signal.SIGKILL)


@contextlib.contextmanager
def victim(kind: str, directory: Path) -> Generator[Victim]:
    """Something of its own for a fault of this kind; gone afterwards, with whatever is left of the fault."""
    needed = {"net-partition": "nft", "net-loss": "nft", "net-delay": "tc", "net-rate": "tc"}.get(kind)
    if kind.endswith("-stress"):
        needed = "stress-ng"
    program(needed or {"clock-shift": "faketime"}.get(kind, "sh"))
    directory.mkdir(parents=True, exist_ok=True)
    made = Victim.__new__(Victim)
    try:
        made.__init__(kind, directory)
        yield made
    finally:
        made.end()


def offered(kind: str) -> bool:
    """Whether this kernel can do it: what a machine without netem says of net-delay is tested by itself."""
    if kind != "net-delay":
        return True
    asked = ["unshare", "--net", program("tc"), "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0


def reapers(directory: Path) -> list[int]:
    """The processes that watch over faults with their records in this directory."""
    wanted = ("stormwatch.chaos.reaper", str(directory))
    return [pid for pid in running() if set(wanted) <= set(command_line(pid))]


def all_marked() -> list[int]:
    """Processes of any fault, of whomever."""
    return [pid for pid in running() if any(one.startswith(f"{MARK}=") for one in environment(pid))]


def _ip(*argv: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([program("ip"), *argv], check=False, capture_output=True, text=True)


def _or_skip(done: "subprocess.CompletedProcess[str]") -> None:
    if done.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail(f"{' '.join(done.args)}: {done.stderr}")
        pytest.skip(f"needs root: {done.stderr.strip()}")
