"""Programs that faults of the host start: bounded, ended with us or by whoever undoes, and known by the fault's mark.

An injection that is cut short by SIGKILL leaves the program that carries it out running. Every such program has the fault's
id in its environment, or, where it may start what has to stay, in the command line of a shell that waits for it alone: so
that the undoing first ends what is still under way.
"""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from stormwatch.chaos.breakage import CannotBreak
from stormwatch.chaos.process import ProcessId, identify
from stormwatch.probes.procfs import command_line, environment, running

MARK = "STORMWATCH_FAULT"
"""The variable with the id of the fault that a program belongs to."""
_SAID = 300
"""Characters of a program's words that stand in a sentence."""
_READ = 64 * 2**10
"""Bytes of a program's words that are looked at for that."""
_LOOK = 0.02
"""Seconds between two looks at a process."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended."""

    code: int | None
    """Its exit code, negative for a signal; None when it did not end in time and was killed."""
    said: str
    """The beginning of what it wrote on both outputs, in one line."""

    @property
    def how(self) -> str:
        """For a sentence: `ended with 1: no such table`."""
        ended = "did not end in time" if self.code is None else f"ended with {self.code}"
        return f"{ended}: {show_output(self.said)}" if self.said else ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a program finds around it. The same for whoever starts it, so that an undoing elsewhere starts it alike."""

    env: Mapping[str, str]
    directory: str = "/"
    user: str = ""

    def environ(self, **more: str) -> dict[str, str]:
        """PATH, HOME, and what was asked for."""
        home = pwd.getpwnam(self.user).pw_dir if self.user else os.environ.get("HOME", "/")
        return {"PATH": search_path(), "HOME": home, "LANG": "C.UTF-8", **self.env, **more}

    def identity(self) -> dict[str, int | list[int]]:
        """The user and the groups, as subprocess takes them. Raises KeyError for a user that is not there."""
        if not self.user:
            return {}
        found = pwd.getpwnam(self.user)
        groups = os.getgrouplist(self.user, found.pw_gid)
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": groups}


PLAIN = Setting(env={})
"""Nothing of its own, as the user that we are."""


def search_path() -> str:
    """Where programs are looked for: also where those of the administrator stand, which are on nobody else's PATH."""
    return f"{os.environ.get('PATH', '')}:{_PATH}".lstrip(":")


def find_program(name: str, *, package: str = "") -> str:
    """The path of a program. Raises CannotBreak, with the remedy."""
    if path := shutil.which(name, path=search_path()):
        return path
    raise CannotBreak(f"the program {name} is not installed; " + (f"install {package}" if package else "install it"))


async def run_program(
    argv: Sequence[str],
    *,
    fault: str,
    timeout: float = 10.0,
    stdin: str = "",
    setting: Setting = PLAIN,
    whole: bool = False,
) -> Ran:
    """Run a program to its end, in a session of its own that is killed when we are cancelled. Raises OSError, CannotBreak.

    `fault` is the mark that it carries, if any; with `whole`, all that it says is kept as it is.
    """
    # Files in memory and no pipes: what the program leaves running would keep a pipe open, one that reads nothing would
    # close it, and a full disk would keep a file empty.
    given, output = os.memfd_create("input of a program"), os.memfd_create("output of a program")
    try:
        os.pwrite(given, stdin.encode(), 0)
        code = await _to_its_end(
            argv, given, output, mark={MARK: fault} if fault else {}, timeout=timeout, setting=setting
        )
        said = os.pread(output, os.fstat(output).st_size if whole else _READ, 0).decode(errors="replace")
    finally:
        os.close(given)
        os.close(output)
    return Ran(code, said if whole else show_output(said))


async def _to_its_end(
    argv: Sequence[str], given: int, output: int, *, mark: Mapping[str, str], timeout: float, setting: Setting
) -> int | None:
    process = await asyncio.create_subprocess_exec(
        find_program(argv[0]),
        *argv[1:],
        stdin=given,
        stdout=output,
        stderr=output,
        env=setting.environ(**mark),
        cwd=setting.directory,
        start_new_session=True,
        **setting.identity(),  # pyright: ignore[reportArgumentType] - user, group and extra_groups, by their names
    )
    try:
        async with asyncio.timeout(timeout):
            await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode


def leave_running(
    argv: Sequence[str], *, mark: Mapping[str, str], setting: Setting = PLAIN, errors: IO[bytes] | None = None
) -> None:
    """Start a program that is to go on without us: in a session of its own, with nothing on its inputs and outputs.

    Blocking, short. What it writes on its standard error output goes into `errors`. Raises OSError,
    subprocess.SubprocessError, and KeyError for a user that is not there.
    """
    program = shutil.which(argv[0], path=search_path())
    if program is None:
        raise FileNotFoundError(f"the program {argv[0]} is not there")
    subprocess.run(
        # With --fork init is its parent: it is no child of ours that would stay as a zombie.
        [find_program("setsid", package="util-linux"), "--fork", program, *argv[1:]],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors or subprocess.DEVNULL,
        env=setting.environ(**mark),
        cwd=setting.directory,
        **setting.identity(),  # pyright: ignore[reportArgumentType, reportCallIssue] - user, group, extra_groups
    )


def show_output(text: str) -> str:
    """The beginning of a program's words, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= _SAID else f"{line[:_SAID]}…"


def marked(fault: str, variable: str = MARK) -> list[ProcessId]:
    """The processes that belong to a fault."""
    wanted = f"{variable}={fault}"
    return [identify(pid) for pid in running() if wanted in environment(pid)]


def within_session(name: str) -> list[ProcessId]:
    """The processes of the session whose leader has this word in its command line; none when the leader is gone."""
    return _of_sessions(_led_by(name))


async def end_session(name: str) -> int:
    """Kill all processes of that session: how many there were. Raises TimeoutError, PermissionError."""
    # Looked up once: the leader is not the last that ends.
    sessions = await asyncio.to_thread(_led_by, name)
    return await end_all(lambda: _of_sessions(sessions))


async def end_all(find: Callable[[], Iterable[ProcessId]], *, patience: float = 5.0) -> int:
    """Kill what `find` finds until it finds nothing: how many there were. Raises TimeoutError with what is left."""
    deadline = time.monotonic() + patience
    ended: set[ProcessId] = set()
    while left := [process for process in await asyncio.to_thread(lambda: list(find())) if process.alive()]:
        ended.update(left)
        # All are stopped before one is killed: a script whose child is gone would go on with its next line.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in left:
                process.send(number)
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {left[0].pid} does not end by SIGKILL")
        await asyncio.sleep(_LOOK)
    return len(ended)


async def gone(processes: Iterable[ProcessId], seconds: float) -> bool:
    """Whether all of them end within so many seconds."""
    deadline = time.monotonic() + seconds
    while any(process.alive() for process in processes):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK)
    return True


def _led_by(name: str) -> frozenset[int]:
    return frozenset(pid for pid in running() if name in command_line(pid) and _session(pid) == pid)


def _of_sessions(sessions: frozenset[int]) -> list[ProcessId]:
    return [identify(pid) for pid in running() if _session(pid) in sessions]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0
