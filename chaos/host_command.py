"""A user's own fault: a program that breaks something, one that mends it, and one that tells which it is."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.breakage import CannotBreak
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.host_program import Ran, Setting, end_session, find_program, run_program
from stormwatch.probes.masking import masked, pattern_of

if TYPE_CHECKING:
    from stormwatch.chaos.host_options import CommandFault

IN_PLACE, NOT_IN_PLACE = 0, 1
"""What `check` says, as test(1) and grep(1) do; any other code is a failure of its own."""


@dataclass(slots=True)
class Commanding:
    """The pair, run without a shell."""

    fault: str
    options: "CommandFault"
    env: Mapping[str, str]
    method: str = "command"
    at: float | None = None

    async def prepare(self) -> Mapping[str, Any]:
        for argv in (self.options.inject, self.options.undo, self.options.check):
            if argv:
                find_program(argv[0])
        if self.options.check:
            ran = await self._run(self.options.check)
            if ran.code == IN_PLACE:
                raise CannotBreak(f"`{self.options.check[0]}` says that it is broken already; mend it first")
            if ran.code != NOT_IN_PLACE:
                raise CannotBreak(_cannot_tell(self.options.check[0], ran, self.env))
        return {
            "fault": self.fault,
            "undo": list(self.options.undo),
            "check": list(self.options.check),
            "timeout": self.options.timeout,
            "env": dict(self.env),
        }

    async def inject(self) -> None:
        # A shell waits for it, known by its name: what has to stay when the program is over (a service that it starts)
        # does not carry the mark, and is not ended by the undoing.
        wrapped = ("/bin/sh", "-c", '"$@"; exit "$?"', _name(self.fault), *self.options.inject)
        ran = await self._run(wrapped)
        if ran.code != 0:
            raise CannotBreak(f"`{self.options.inject[0]}` {_how(ran, self.env)}")
        self.at = time.time()
        await self.evidence()

    async def evidence(self) -> Evidence:
        if not self.options.check:
            return Evidence(first=self.at, last=self.at, what=f"`{self.options.inject[0]}` ended with 0")
        ran = await self._run(self.options.check)
        if ran.code == NOT_IN_PLACE:
            raise CannotBreak(f"`{self.options.check[0]}` says that it is not broken (any more)")
        if ran.code != IN_PLACE:
            raise CannotBreak(_cannot_tell(self.options.check[0], ran, self.env))
        said = f": {_masked(ran.said, self.env)}" if ran.said else ""
        return Evidence(first=self.at, last=time.time(), what=f"`{self.options.check[0]}` says that it is broken{said}")

    async def _run(self, argv: tuple[str, ...]) -> Ran:
        return await run_program(argv, fault="", timeout=self.options.timeout, setting=Setting(env=self.env))


async def undo_command(arguments: Mapping[str, Any]) -> Absence:
    """Mend it, and have `check` say so. As idempotent as the program is. Raises UndoFailed."""
    env, timeout = dict(arguments["env"]), float(arguments["timeout"])
    undo, check = tuple(arguments["undo"]), tuple(arguments["check"])
    setting = Setting(env=env)
    try:
        await end_session(_name(str(arguments["fault"])))
        before = await run_program(check, fault="", timeout=timeout, setting=setting) if check else None
        ran = await run_program(undo, fault="", timeout=timeout, setting=setting)
        if ran.code != 0:
            raise UndoFailed(f"`{undo[0]}` {_how(ran, env)}; mend it by hand, then undo again")
        if not check:
            return Absence(True, f"`{undo[0]}` ended with 0; no `check` proves it")
        after = await run_program(check, fault="", timeout=timeout, setting=setting)
    except (CannotBreak, TimeoutError, OSError) as error:
        raise UndoFailed(f"{error}; mend it by hand, then undo again") from error
    if after.code == IN_PLACE:
        raise UndoFailed(
            f"`{check[0]}` says that it is broken still, after `{undo[0]}`; mend it by hand, then undo again"
        )
    if after.code != NOT_IN_PLACE:
        raise UndoFailed(_cannot_tell(check[0], after, env))
    return Absence(before is not None and before.code == IN_PLACE, f"`{check[0]}` says that it is not broken")


def _name(fault: str) -> str:
    return f"stormwatch-inject-{fault}"


def _cannot_tell(program: str, ran: Ran, env: Mapping[str, str]) -> str:
    return f"`{program}` cannot tell whether it is broken: it {_how(ran, env)}; it ends with 0 when it is, with 1 when it is not"


def _how(ran: Ran, env: Mapping[str, str]) -> str:
    return _masked(ran.how, env)


def _masked(text: str, env: Mapping[str, str]) -> str:
    """Without what stands in the environment: whoever undoes has no configuration that says which of it is secret."""
    pattern = pattern_of(value for value in env.values() if len(value) >= 4)
    return str(masked(text, pattern)) if pattern else text
