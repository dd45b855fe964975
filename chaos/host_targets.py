"""What faults of the host are put on: a process, a directory, a network; as users write them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from stormwatch.chaos.option import STRICT
from stormwatch.chaos.target import TargetKind
from stormwatch.probes.options import File
from stormwatch.probes.units import Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTarget:
    """A process of a service: by exactly one of `pid_file`, `command` and `unit`, or by `pid_file` and `command`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    pid_file: File = ""
    """The file with its process id."""
    command: str = ""
    """A regular expression that its command line matches somewhere: the arguments, with a space between them."""
    count: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many processes match `command`; when there are more or fewer, nothing is broken."""
    unit: str = ""
    """The systemd unit whose main process it is; `systemctl start` brings it back."""
    start: tuple[str, ...] = ()
    """The program, with its arguments, that brings it back. It is started in a session of its own, with nothing on its standard input and outputs."""
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """The environment of `start`, besides PATH, HOME and LANG. Secrets belong here, and not into the arguments."""
    directory: File = ""
    """The directory that `start` starts in; `/` when empty."""
    user: str = ""
    """The user that `start` runs as; only root may choose."""
    supervised: bool = False
    """Somebody else starts it again when it has ended: a supervisor, a container runtime."""
    grace: Seconds = 5.0
    """How long it may take to end, or to stop, when it is told to."""
    back: Seconds = 10.0
    """How long it may take to be there again when it was started."""

    def __post_init__(self) -> None:
        named = [key for key in ("pid_file", "command", "unit") if getattr(self, key)]
        if named not in (["pid_file"], ["command"], ["unit"], ["pid_file", "command"]):
            raise ValueError(
                f"a process is told by exactly one of pid_file, command and unit, or by pid_file and command; "
                f"written is {' and '.join(named) or 'none of them'}"
            )
        try:
            re.compile(self.command)
        except re.error as error:
            raise ValueError(f"command is no regular expression: {error}") from error
        if self.count != 1 and self.named_by_file:
            raise ValueError("count goes with command; a pid file and a unit name one process")

    @property
    def named_by_file(self) -> bool:
        """Whether it is one process by its nature."""
        return bool(self.pid_file or self.unit)

    @property
    def comes_back(self) -> bool:
        """Whether anything starts it again when it has ended."""
        return bool(self.start or self.unit or self.supervised)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathTarget:
    """A directory, and with it the file system that it is on."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    directory: File
    """Where files of the fault are made. It must be there, and be writable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTarget:
    """A network interface, in a network namespace or of the machine itself."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    interface: Annotated[str, Field(pattern=r"^[^\s/\"]{1,15}$")]
    """Its name: `eth0`, `veth1`."""
    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,200}$")] = ""
    """The network namespace that it is in, as `ip netns list` shows it; empty: the machine's own."""
    allow_host: bool = False
    """Must be `true` for an interface of the machine's own network: a fault there may cut you off, too."""

    def __post_init__(self) -> None:
        if not self.namespace and not self.allow_host:
            raise ValueError(
                f"{self.interface} without a namespace is an interface of the machine itself, and a fault there may cut "
                "you off; give it `namespace`, or `allow_host: true`"
            )


HOST_TARGETS: tuple[TargetKind, ...] = (
    TargetKind("process", ProcessTarget, "a process of a service"),
    TargetKind("path", PathTarget, "a directory, and the file system that it is on"),
    TargetKind("network", NetworkTarget, "a network interface"),
)
