"""The kind `exec`: a program that looks by itself, ours to start and to end; its exit code or its words are the answer."""

import os
import pwd
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from errno import EAGAIN, EPERM
from pathlib import PurePath
from signal import SIGKILL, Signals
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from stormwatch.probes import exec_report
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain
from stormwatch.probes.nagios import STATES, PluginOutput, read_output
from stormwatch.probes.options import STRICT, File
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.process import KEPT, Command, Ended, Process, Processes
from stormwatch.probes.result import BROKEN_REASONS, Reason
from stormwatch.probes.units import Seconds, show_duration, show_size
from stormwatch.probes.watch import Watch

SHOWN: Final = 2048
"""Bytes of each output that are kept as evidence."""
SAID: Final = 300
"""Characters of a program's own words that stand in a message."""
STDIN: Final = 2**20
"""Bytes of the longest standard input."""
AT_ONCE: Final = 16
"""Runs at once: each of them is a process, and an interpreter that starts keeps a core busy for tens of milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectExec:
    """What must come of the program."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    exit_codes: tuple[Annotated[int, Field(ge=0, le=255)], ...] = (0,)
    """Exit codes that are good, with `protocol: plain`; the other protocols have a meaning for each of their own."""
    stdout_matches: tuple[str, ...] = ()
    """RE2 expressions that must be found in the standard output."""
    stdout_not_matches: tuple[str, ...] = ()
    """RE2 expressions that must not be found in it."""
    stderr_matches: tuple[str, ...] = ()
    """RE2 expressions that must be found in the standard error output."""
    stderr_not_matches: tuple[str, ...] = ()
    """RE2 expressions that must not be found in it."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecOptions:
    """How to start the program, and how to understand it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    protocol: Literal["plain", "nagios", "json"] = "plain"
    """How it answers: by its exit code; as a Nagios plugin; with a JSON object on its standard output."""
    command: tuple[str, ...] = field(default=(), repr=False)
    """The program and its arguments, when they are not read from the target, which is then only the name of what it looks at."""
    args: tuple[str, ...] = field(default=(), repr=False)
    """Further arguments. Everybody on this machine can read them while it runs: secrets belong into `env` or `stdin`."""
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Its environment, besides PATH and HOME, which are stormwatch's, and LANG, which is `C.UTF-8`."""
    directory: File = ""
    """The directory that it starts in; `/` when empty."""
    user: str = ""
    """The user that it runs as; only root may choose."""
    stdin: str = field(default="", repr=False)
    """What it reads on its standard input; nothing when empty. Never kept as evidence."""
    warning: Literal["up", "down"] = "up"
    """What WARNING of a Nagios plugin is."""
    unknown: Literal["broken", "down"] = "broken"
    """What UNKNOWN of a Nagios plugin is."""
    expect: ExpectExec = field(default_factory=ExpectExec)
    """What must come of it."""


@dataclass(frozen=True, slots=True)
class _Expected:
    """One pattern: where it is searched, and whether it must be found."""

    stream: Literal["stdout", "stderr"]
    wanted: bool
    text: str
    pattern: Pattern


def build(target: str, options: ExecOptions) -> Check:
    """A check by one program. Raises ValueError for a target or an option that cannot work."""
    expect = options.expect
    if options.protocol != "plain" and expect.exit_codes != ExpectExec().exit_codes:
        raise ValueError(f"expect.exit_codes: the exit code has its own meaning with protocol {options.protocol}")
    if options.protocol != "nagios" and (options.warning, options.unknown) != ("up", "broken"):
        raise ValueError("warning and unknown are about Nagios plugins: give `protocol: nagios` too")
    if not expect.exit_codes:
        raise ValueError("expect.exit_codes: no exit code would be good")
    argv = (*(options.command or _split(target)), *options.args)
    program = argv[0] if argv else ""
    what = "command" if options.command else "target"
    if not program:
        raise ValueError(f"{what} names no program")
    if "/" in program and not program.startswith("/") and not options.directory:
        raise ValueError(f"{what}: {program} counts from `directory`, which is not given: write the whole path")
    for where, texts in (("command", argv), ("env", (*options.env, *options.env.values()))):
        if any("\0" in text for text in texts):
            raise ValueError(f"{where}: no program can be given a zero byte")
    if any(not name or "=" in name for name in options.env):
        raise ValueError("env: a variable's name is not empty and has no =")
    stdin = options.stdin.encode()
    if len(stdin) > STDIN:
        raise ValueError(f"stdin has {len(stdin)} bytes, and may have {show_size(STDIN)}")
    return ExecCheck(
        command=_command(argv, options, stdin),
        program=PurePath(program).name,
        options=options,
        expected=tuple(_expected(expect)),
    )


def _split(target: str) -> list[str]:
    try:
        return shlex.split(target)
    except ValueError as error:
        raise ValueError(f"target {target!r} is not a command line: {error}") from None


def _command(argv: tuple[str, ...], options: ExecOptions, stdin: bytes) -> Command:
    inherited = {"PATH": os.environ.get("PATH") or os.defpath, "HOME": os.environ.get("HOME") or "/"}
    directory = options.directory or "/"
    if not options.user:
        env = {**inherited, "LANG": "C.UTF-8", **options.env}
        return Command(argv=argv, env=env, directory=directory, stdin=stdin)
    try:
        user = pwd.getpwnam(options.user)
    except KeyError:
        raise ValueError(f"user: there is no user {options.user} on this machine") from None
    return Command(
        argv=argv,
        env={**inherited, "HOME": user.pw_dir, "LANG": "C.UTF-8", **options.env},
        directory=directory,
        stdin=stdin,
        user=user.pw_uid,
        group=user.pw_gid,
        groups=tuple(os.getgrouplist(user.pw_name, user.pw_gid)),
    )


def _expected(expect: ExpectExec) -> list[_Expected]:
    found: list[_Expected] = []
    for stream, wanted, name in _PLACES:
        for number, text in enumerate(getattr(expect, name)):
            found.append(_Expected(stream, wanted, text, compile_pattern(text, f"expect.{name}[{number}]")))
    return found


_PLACES: Final[tuple[tuple[Literal["stdout", "stderr"], bool, str], ...]] = (
    ("stdout", True, "stdout_matches"),
    ("stdout", False, "stdout_not_matches"),
    ("stderr", True, "stderr_matches"),
    ("stderr", False, "stderr_not_matches"),
)


@dataclass(frozen=True, slots=True, eq=False)
class ExecCheck:
    """Starts one program and judges how it ends."""

    command: Command = field(repr=False)
    program: str
    options: ExecOptions = field(repr=False)
    expected: tuple[_Expected, ...]

    async def __call__(self, watch: Watch) -> None:
        """Start it, wait, judge. Whatever happens, nobody of its group survives."""
        processes = watch.resources.get(Processes)
        with watch.phase("start"):
            process = self._start(processes)
        try:
            with watch.phase("run"):
                ended = await process.wait()
        finally:
            process.let_go()
            watch.measure("stormwatch_exec_output_bytes", process.stdout.size, stream="stdout")
            watch.measure("stormwatch_exec_output_bytes", process.stderr.size, stream="stderr")
            for stream, output in (("stdout", process.stdout), ("stderr", process.stderr)):
                if output.kept:
                    watch.note(stream, _text(output.kept[:SHOWN]))
        watch.measure("stormwatch_exec_cpu_seconds", ended.cpu)
        if ended.code < 0:
            raise _ended_by_signal(self.program, -ended.code)
        watch.measure("stormwatch_exec_exit_code", ended.code)
        watch.note("exit_code", ended.code)
        match self.options.protocol:
            case "plain":
                self._judge_code(ended, process)
            case "nagios":
                self._judge_plugin(watch, ended, read_output(_text(process.stdout.kept)), process)
            case "json":
                self._judge_report(watch, ended, process)
        self._judge_rest(watch, process)

    def _start(self, processes: Processes) -> Process:
        try:
            return processes.start(self.command)
        except OSError as error:
            failure = explain(error)
            if isinstance(failure, ProbeBroken) and failure.reason is Reason.RESOURCES:
                raise failure from error
            said = f"{error.strerror or error}; install it, or see to its rights"
            if error.errno == EAGAIN:
                raise ProbeBroken(Reason.RESOURCES, f"{self.program} could not be started: {error.strerror}") from error
            if error.errno == EPERM and self.command.user is not None:
                said = f"only root may run it as {self.options.user}"
            elif isinstance(error, FileNotFoundError) and error.filename == self.command.directory:
                said = f"there is no directory {self.command.directory}"
            message = f"{self.command.argv[0]} could not be started: {said}"
            raise ProbeBroken(Reason.INTERNAL, message) from error

    def _judge_code(self, ended: Ended, process: Process) -> None:
        good = self.options.expect.exit_codes
        if ended.code not in good:
            wanted = " or ".join(map(str, good))
            raise ProbeFailed(
                Reason.ASSERTION, f"{self.program} ended with exit code {ended.code}, wanted {wanted}{_words(process)}"
            )

    def _judge_plugin(self, watch: Watch, ended: Ended, output: PluginOutput, process: Process) -> None:
        for each in output.perfdata:
            watch.measure("stormwatch_exec_perfdata", each.value, label=each.label, unit=each.unit)
            for limit, value in each.limits():
                watch.measure("stormwatch_exec_perfdata_limit", value, label=each.label, unit=each.unit, limit=limit)
        if output.perfdata:
            watch.note("perfdata", [each.as_json() for each in output.perfdata])
        if ended.code >= len(STATES):
            # Nagios' own rule. 126 and 127 are a shell's: the plugin, or what it calls, is not there.
            raise ProbeBroken(
                Reason.INTERNAL,
                f"{self.program} ended with exit code {ended.code}, which no plugin has a meaning for{_words(process)}",
            )
        state = STATES[ended.code]
        watch.measure("stormwatch_exec_nagios_state", ended.code)
        watch.note("state", state)
        said = f"{self.program} says {state}: {output.text[:SAID] or 'nothing'}"
        ending = {"WARNING": self.options.warning, "CRITICAL": "down", "UNKNOWN": self.options.unknown}.get(state, "up")
        if ending == "down":
            raise ProbeFailed(Reason.ASSERTION, said)
        if ending == "broken":
            raise ProbeBroken(Reason.INTERNAL, said)

    def _judge_report(self, watch: Watch, ended: Ended, process: Process) -> None:
        if ended.code:
            raise ProbeBroken(
                Reason.INTERNAL, f"{self.program} ended with exit code {ended.code}, wanted 0{_words(process)}"
            )
        if process.stdout.cut:
            raise ProbeBroken(Reason.INTERNAL, f"{self.program} wrote more than {show_size(KEPT)}")
        try:
            report = exec_report.read(bytes(process.stdout.kept))
        except ValueError as error:
            raise ProbeBroken(Reason.INTERNAL, f"{self.program} did not write a report: {error}") from error
        for name, value in report.measures.items():
            watch.measure("stormwatch_exec_value", value, measure=name)
        if report.evidence:
            watch.note("report", dict(report.evidence))
        said = report.message[:SAID] or f"{self.program} says no more than that"
        if report.reason in BROKEN_REASONS:
            raise ProbeBroken(report.reason, said)
        if report.reason is not Reason.NONE:
            raise ProbeFailed(report.reason, said)

    def _judge_rest(self, watch: Watch, process: Process) -> None:
        for each in self.expected:
            output = process.stdout if each.stream == "stdout" else process.stderr
            if (each.pattern.search(bytes(output.kept)) is not None) is not each.wanted:
                verb = "does not match" if each.wanted else "matches"
                shown = _text(output.kept[:SAID]).strip() or "nothing"
                raise ProbeFailed(Reason.ASSERTION, f"{each.stream} of {self.program} {verb} {each.text!r}: {shown}")
        most, seconds = self.options.expect.slower_than, watch.seconds()
        if most is not None and seconds > most:
            raise ProbeFailed(
                Reason.TOO_SLOW,
                f"took {seconds * 1000:.0f} ms, wanted at most {show_duration(most)}; slowest was phase run",
                phase="run",
            )


def _ended_by_signal(program: str, number: int) -> ProbeBroken:
    try:
        name = Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number == SIGKILL:
        return ProbeBroken(
            Reason.RESOURCES, f"{program} was ended by SIGKILL, and not by us: see whether this machine has memory left"
        )
    return ProbeBroken(Reason.INTERNAL, f"{program} was ended by {name}: it says nothing about what it looks at")


def _words(process: Process) -> str:
    """What it said of it, as the end of a sentence."""
    said = _text(process.stderr.kept).strip() or _text(process.stdout.kept).strip()
    return f"; it says {said[:SAID]!r}" if said else ""


def _text(data: bytes | bytearray) -> str:
    return bytes(data).decode("utf-8", "replace")


KIND: Final = Kind(
    name="exec",
    options=ExecOptions,
    build=build,
    no_detour="runs a program, whose connections are its own",
    phases=("start", "run"),
    phase_metric=Metric("stormwatch_exec_duration_seconds", "Seconds of a program's run by phase"),
    metrics=(
        Metric("stormwatch_exec_exit_code", "Exit code of the program"),
        Metric("stormwatch_exec_cpu_seconds", "Processor time of the program and of the children it waited for"),
        Metric("stormwatch_exec_output_bytes", "Bytes that the program wrote, by stream"),
        Metric("stormwatch_exec_nagios_state", "What a Nagios plugin says: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN"),
        Metric("stormwatch_exec_perfdata", "Performance data of a Nagios plugin, in base units"),
        Metric("stormwatch_exec_perfdata_limit", "Thresholds and bounds of performance data, in base units"),
        Metric("stormwatch_exec_value", "Numbers that the program's report names"),
    ),
    reasons=frozenset(Reason) - BROKEN_REASONS - {Reason.NONE, Reason.STEP},
    concurrency=AT_ONCE,
)
