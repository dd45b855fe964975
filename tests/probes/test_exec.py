"""The kind `exec`: real programs, good ones and those that will not end; every ending, and nobody left behind."""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes import exec_report, process
from stormwatch.probes.exec import KIND
from stormwatch.probes.nagios import Perfdata, Range, read_output, read_perfdata
from stormwatch.probes.process import GRACE, KEPT, Processes
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import BROKEN_REASONS, Outcome, Reason, Result
from tests.program import program
from tests.servers import web
from tests.servers.probing import check_of, measures, open_files, phase_names, run, settle
from tests.servers.process import free_port


def sh(script: str, **options: Any) -> dict[str, Any]:
    """Options that run a shell script, given as one argument."""
    return {"command": ["/bin/sh", "-c", script], **options}


def ending(result: Result) -> tuple[Outcome, Reason]:
    """How it ended."""
    return result.outcome, result.reason


def plugin(name: str) -> str:
    """The path of one of Debian's monitoring plugins."""
    path = Path("/usr/lib/nagios/plugins") / name
    return str(path) if path.exists() else program(name)


def alive(number: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def members(group: int) -> list[int]:
    """Who of a process group is alive; whoever waits for those that were killed takes their time."""
    return [
        int(each.name)
        for each in Path("/proc").iterdir()
        if each.name.isdigit() and alive(int(each.name)) and _group(int(each.name)) == group
    ]


def _group(number: int) -> int:
    try:
        return os.getpgid(number)
    except ProcessLookupError:
        return -1


async def until_gone(number: int) -> None:
    """Fail when the process is still there after a few seconds."""
    deadline = time.monotonic() + 30
    while alive(number):
        assert time.monotonic() < deadline, f"process {number} was left behind"
        await asyncio.sleep(0.02)


async def number_in(file: Path) -> int:
    """The number of a process that a script has written."""
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return int(file.read_text())


@pytest.mark.shows("exec", "up", "assertion", "too-slow")
async def test_an_exit_code_and_the_output_are_judged() -> None:
    """`plain`, the smallest probe."""
    result = await run(KIND, "/bin/sh -c 'echo fine; echo odd >&2'")
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["start", "run"]
    assert result.evidence == {"stdout": "fine\n", "stderr": "odd\n", "exit_code": 0}
    assert measures(result)["stormwatch_exec_exit_code"] == 0
    assert 0 < measures(result)["stormwatch_exec_cpu_seconds"] < 1
    assert [(m.labels, m.value) for m in result.measures if m.name == "stormwatch_exec_output_bytes"] == [
        ({"stream": "stdout"}, 5),
        ({"stream": "stderr"}, 4),
    ]

    result = await run(KIND, "script", sh("echo no space >&2; exit 3"))
    assert ending(result) == (Outcome.DOWN, Reason.ASSERTION)
    assert result.message == "sh ended with exit code 3, wanted 0; it says 'no space'"
    result = await run(KIND, "script", sh("exit 3", expect={"exit_codes": [0, 3]}))
    assert result.outcome is Outcome.UP

    texts = [
        ({"stdout_matches": ["^ok"]}, "stdout of sh does not match '^ok': fine"),
        ({"stdout_not_matches": ["f.ne"]}, "stdout of sh matches 'f.ne': fine"),
        ({"stderr_matches": ["x"]}, "stderr of sh does not match 'x': nothing"),
        ({"stderr_not_matches": ["^$"]}, "stderr of sh matches '^$': nothing"),
    ]
    for expect, message in texts:
        result = await run(KIND, "script", sh("echo fine", expect=expect))
        assert (ending(result), result.message) == ((Outcome.DOWN, Reason.ASSERTION), message)
    result = await run(KIND, "script", sh("echo fine", expect={"stdout_matches": ["fine"], "slower_than": "1ms"}))
    assert ending(result) == (Outcome.DOWN, Reason.TOO_SLOW)
    assert result.message.endswith("ms, wanted at most 1ms; slowest was phase run")


async def test_no_shell_reads_the_command_line(tmp_path: Path) -> None:
    """What a shell would understand is an argument like any other."""
    result = await run(KIND, f"/bin/echo $HOME '*' ; touch {tmp_path}/x", {"args": ["&& true", "`id`"]})
    assert result.evidence["stdout"] == f"$HOME * ; touch {tmp_path}/x && true `id`\n"
    assert not any(tmp_path.iterdir())


async def test_the_environment_is_small_and_the_rest_as_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of ours but PATH and HOME gets in: not our tokens, not our proxies."""
    monkeypatch.setenv("STORMWATCH_TOKEN", "canary")
    monkeypatch.setenv("HOME", "/nowhere")
    options = {"env": {"TOKEN": "s3cret", "LANG": "de_DE"}, "directory": str(tmp_path), "stdin": "first\nsecond\n"}
    result = await run(
        KIND, "script", sh("env | sort | cut -d= -f1 | tr '\\n' ' '; echo $HOME $LANG; pwd; cat", **options)
    )
    assert result.outcome is Outcome.UP
    assert result.evidence["stdout"] == f"HOME LANG PATH PWD TOKEN /nowhere de_DE\n{tmp_path}\nfirst\nsecond\n"
    assert (await run(KIND, "script", sh("pwd; cat; echo $LANG"))).evidence["stdout"] == "/\nC.UTF-8\n"


async def test_a_program_finds_its_way_by_path_and_may_stand_in_its_directory(tmp_path: Path) -> None:
    """`true` by PATH; a relative name counts from `directory`."""
    assert (await run(KIND, "true")).outcome is Outcome.UP
    script = tmp_path / "look"
    script.write_text("#!/bin/sh\necho looked\n")
    script.chmod(0o755)
    result = await run(KIND, "./look", {"directory": str(tmp_path)})
    assert result.evidence["stdout"] == "looked\n"


@pytest.mark.shows("exec", "broken")
async def test_what_cannot_be_started_is_broken_and_leaves_nothing_open(tmp_path: Path) -> None:
    """Missing, not executable, not a program, in a directory that is not there."""
    plain, odd = tmp_path / "plain", tmp_path / "odd"
    plain.write_text("#!/bin/sh\n")
    odd.write_text("\0\1 no program\n")
    odd.chmod(0o755)
    before = open_files()
    hint = "; install it, or see to its rights"
    cases = [
        ("/nowhere/check_it", {}, f"/nowhere/check_it could not be started: No such file or directory{hint}"),
        ("check_nothing", {"stdin": "x"}, f"check_nothing could not be started: No such file or directory{hint}"),
        (str(plain), {}, f"{plain} could not be started: Permission denied{hint}"),
        (str(odd), {}, f"{odd} could not be started: Exec format error{hint}"),
        ("true", {"directory": "/nowhere"}, "true could not be started: there is no directory /nowhere"),
    ]
    for target, options, message in cases:
        result = await run(KIND, target, options)
        assert (ending(result), result.message) == ((Outcome.BROKEN, Reason.INTERNAL), message)
        assert result.failed_phase == "start"
    assert open_files() <= before


async def test_without_descriptors_it_is_broken() -> None:
    """The prober's own shortage is no word about the target."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    async with Resources() as resources:
        assert (await run(KIND, "true", resources=resources)).outcome is Outcome.UP
        highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, highest + 20), hard))
        try:
            with contextlib.suppress(OSError):  # until there are no more
                while True:
                    taken.append(os.dup(0))
            result = await run(KIND, "true", resources=resources)
        finally:
            for number in taken:
                os.close(number)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ending(result) == (Outcome.BROKEN, Reason.RESOURCES)


@pytest.mark.parametrize(
    ("number", "reason", "message"),
    [
        (signal.SIGSEGV, Reason.INTERNAL, "sh was ended by SIGSEGV: it says nothing about what it looks at"),
        (
            signal.SIGKILL,
            Reason.RESOURCES,
            "sh was ended by SIGKILL, and not by us: see whether this machine has memory left",
        ),
        (34, Reason.INTERNAL, "sh was ended by SIGRTMIN: it says nothing about what it looks at"),
    ],
)
async def test_a_program_that_a_signal_ends_is_broken(number: int, reason: Reason, message: str) -> None:
    """Under each protocol."""
    for protocol in ("plain", "nagios", "json"):
        result = await run(KIND, "script", sh(f"ulimit -c 0; kill -{int(number)} $$", protocol=protocol))
        assert (ending(result), result.message) == ((Outcome.BROKEN, reason), message)


MISBEHAVIOUR = {
    "sleeps": "sleep 60",
    "ignores SIGTERM": "trap '' TERM; while :; do sleep 60; done",
    "closes its outputs": "exec >&- 2>&-; exec sleep 60",
    "floods": "exec cat /dev/zero",
    "drips": "while :; do printf x; sleep 0.01; done",
    "has a child": "(trap '' TERM HUP; echo $$ >/dev/null; exec sleep 60) & wait",
}


@pytest.mark.shows("exec", "timeout")
@pytest.mark.parametrize("script", MISBEHAVIOUR.values(), ids=MISBEHAVIOUR.keys())
async def test_the_deadline_holds_and_the_whole_group_is_ended(script: str, tmp_path: Path) -> None:
    """Whatever the program does, the run ends in time; SIGTERM comes first, SIGKILL after a second."""
    before = open_files()
    number = tmp_path / "number"
    async with Resources() as resources:
        result = await run(KIND, "script", sh(f"echo $$ > {number}; {script}"), timeout=0.6, resources=resources)
        assert ending(result) == (Outcome.DOWN, Reason.TIMEOUT)
        assert result.message == "no answer from script within 0.6 s in phase run"
        assert result.seconds < 0.6 + GRACE
        assert len(result.evidence.get("stdout", "")) <= 2048
        group = int(number.read_text())
        await settle(before)
        deadline = time.monotonic() + GRACE + 30
        while resources.get(Processes).under_way and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        assert members(group) == []
    assert open_files() <= before


async def test_sigterm_comes_first_so_that_a_program_can_tidy_up(tmp_path: Path) -> None:
    """A trap runs to its end."""
    tidied = tmp_path / "tidied"
    script = f"trap 'echo yes > {tidied}; exit 0' TERM; echo $$ > {tmp_path}/number; while :; do sleep 0.02; done"
    async with Resources() as resources:
        task = asyncio.create_task(run(KIND, "script", sh(script), timeout=30, resources=resources))
        number = await number_in(tmp_path / "number")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_gone(number)
    assert tidied.read_text() == "yes\n"


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_closing_the_resources_ends_what_is_under_way(factory: Any, tmp_path: Path) -> None:
    """A service that stops leaves no program behind, on both loops; those that ignore SIGTERM neither."""

    async def start_and_close() -> tuple[int, int]:
        before = open_files()
        async with Resources() as resources:
            script = f"trap '' TERM; echo $$ > {tmp_path}/number; while :; do sleep 60; done"
            task = asyncio.create_task(run(KIND, "script", sh(script), timeout=30, resources=resources))
            number = await number_in(tmp_path / "number")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert open_files() <= before
        return number, resources.get(Processes).under_way

    with asyncio.Runner(loop_factory=factory) as runner:
        number, under_way = runner.run(start_and_close())
    assert not alive(number)
    assert under_way == 0


async def test_what_a_program_leaves_in_the_background_is_killed_and_not_waited_for(tmp_path: Path) -> None:
    """A child that holds the outputs open neither delays the answer nor lives on."""
    result = await run(KIND, "script", sh(f"sleep 60 & echo $! > {tmp_path}/number; echo done"), timeout=50)
    assert (result.outcome, result.evidence["stdout"]) == (Outcome.UP, "done\n")
    assert result.seconds < 30
    await until_gone(int((tmp_path / "number").read_text()))


async def test_all_that_was_written_before_the_end_is_read_and_no_more_than_64_kib_kept() -> None:
    """A megabyte that comes at once, and one byte that is no UTF-8."""
    script = "head -c 1000000 /dev/zero | tr '\\0' 'é'; printf '\\377'; printf end >&2"
    result = await run(KIND, "script", sh(script, expect={"stderr_matches": ["^end$"]}))
    assert result.outcome is Outcome.UP
    assert measures(result)["stormwatch_exec_output_bytes"] == 3
    assert [m.value for m in result.measures if m.labels == {"stream": "stdout"}] == [1000001]
    output = process.Output()
    output.add(b"x" * (KEPT - 1))
    output.add(b"yz")
    assert (len(output.kept), output.size, output.cut) == (KEPT, KEPT + 1, True)
    odd = await run(KIND, "script", sh("printf 'a\\377b\\0c'"))
    assert odd.evidence["stdout"] == "a\ufffdb\0c"


def test_orphans_are_waited_for_where_they_are_given_to_us() -> None:
    """As the first process of a container, which a subreaper (prctl(2)) is like: no zombie is left."""
    code = """
import asyncio, ctypes, os
from pathlib import Path
from stormwatch.probes.process import Command, Processes
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
async def main():
    processes = Processes()
    process = processes.start(Command(argv=("/bin/sh", "-c", "sleep 60 & sleep 60 & exit 0"), env={}))
    assert (await process.wait()).code == 0
    for _ in range(200):
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
        if not children: return
        await asyncio.sleep(0.02)
    raise SystemExit(f"left: {children}")
asyncio.run(main())
"""
    assert ctypes.CDLL(None).prctl is not None
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_without_descriptors_for_processes_the_end_is_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old kernels have none, nor has macOS."""
    monkeypatch.setattr(process, "_descriptor_of", lambda _number: None)
    monkeypatch.delattr(os, "memfd_create")
    result = await run(KIND, "script", sh("sleep 0.05; cat; exit 7", stdin="heard"))
    assert result.message == "sh ended with exit code 7, wanted 0; it says 'heard'"


async def test_another_user_is_for_root_to_choose() -> None:
    """With that user's groups and home."""
    if os.geteuid() == 0:
        result = await run(KIND, "script", sh("id -un; id -Gn; echo $HOME", user="nobody"))
        assert result.evidence["stdout"] == "nobody\nnogroup\n/nonexistent\n"
    with pytest.raises(ValueError, match=r"^user: there is no user nobody-of-that-name on this machine$"):
        check_of(KIND, "true", {"user": "nobody-of-that-name"})
    code = """
import asyncio, os
from stormwatch.probes.exec import KIND, ExecOptions
from stormwatch.probes.failure import ProbeBroken
from stormwatch.probes.process import Processes
async def main():
    check, processes = KIND.build("true", ExecOptions(user="root")), Processes()
    if os.geteuid() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
    try:
        check._start(processes)
    except ProbeBroken as error:
        print(error.message)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "true could not be started: only root may run it as root\n"


@pytest.mark.shows("exec", "up", "assertion", "broken")
async def test_a_nagios_plugin_is_understood_by_its_state() -> None:
    """check_dummy says whatever it is told to. WARNING pages nobody, UNKNOWN is no evidence, but for those who say so."""
    nagios = {"protocol": "nagios"}
    cases: list[tuple[str, dict[str, str], tuple[Outcome, Reason], int]] = [
        ("0", {}, (Outcome.UP, Reason.NONE), 0),
        ("1", {}, (Outcome.UP, Reason.NONE), 1),
        ("1", {"warning": "down"}, (Outcome.DOWN, Reason.ASSERTION), 1),
        ("2", {}, (Outcome.DOWN, Reason.ASSERTION), 2),
        ("3", {}, (Outcome.BROKEN, Reason.INTERNAL), 3),
        ("3", {"unknown": "down"}, (Outcome.DOWN, Reason.ASSERTION), 3),
    ]
    dummy = plugin("check_dummy")
    for state, options, wanted, number in cases:
        result = await run(KIND, f"{dummy} {state} 'the disk'", {**nagios, **options})
        assert ending(result) == wanted
        assert measures(result)["stormwatch_exec_nagios_state"] == number
        name = ("OK", "WARNING", "CRITICAL", "UNKNOWN")[number]
        assert result.evidence["state"] == name
        assert result.message == ("" if wanted[0] is Outcome.UP else f"check_dummy says {name}: {name}: the disk")
    for code in (4, 126, 127, 255):
        result = await run(KIND, "script", sh(f"exit {code}", **nagios))
        assert ending(result) == (Outcome.BROKEN, Reason.INTERNAL)
        assert result.message == f"sh ended with exit code {code}, which no plugin has a meaning for"


async def test_real_plugins_are_up_and_down_with_their_performance_data() -> None:
    """check_tcp and check_http on loopback."""
    options: dict[str, Any] = {"protocol": "nagios"}
    async with web.serving(web.answer(b"hello")) as server:
        result = await run(KIND, f"{plugin('check_tcp')} -H 127.0.0.1 -p {server.port} -w 5 -c 10", options)
        assert (result.outcome, result.message) == (Outcome.UP, "")
        (time_seen,) = [m for m in result.measures if m.name == "stormwatch_exec_perfdata"]
        assert time_seen.labels == {"label": "time", "unit": "seconds"}
        assert 0 < time_seen.value < 5
        limits = {m.labels["limit"]: m.value for m in result.measures if m.name == "stormwatch_exec_perfdata_limit"}
        assert limits == {
            "warning_low": 0, "warning_high": 5, "critical_low": 0, "critical_high": 10, "minimum": 0, "maximum": 10,
        }  # fmt: skip

        result = await run(KIND, f"{plugin('check_http')} -I 127.0.0.1 -p {server.port} -s hello", options)
        assert (result.outcome, result.message) == (Outcome.UP, "")
        sizes = {m.labels["label"]: m for m in result.measures if m.name == "stormwatch_exec_perfdata"}
        assert sizes["size"].labels["unit"] == "bytes"
        assert sizes["size"].value > 5
        result = await run(KIND, f"{plugin('check_http')} -I 127.0.0.1 -p {server.port} -s nothing", options)
        assert ending(result) == (Outcome.DOWN, Reason.ASSERTION)
        assert result.message.startswith("check_http says CRITICAL: HTTP CRITICAL")
    result = await run(KIND, f"{plugin('check_tcp')} -H 127.0.0.1 -p {free_port()}", options)
    assert ending(result) == (Outcome.DOWN, Reason.ASSERTION)
    assert "Connection refused" in result.message


DISK = """\
DISK OK - free space: / 3326 MB (56%); | /=2643MB;5948;5958;0;5968
/ 15272 MB (77%);
/boot 68 MB (69%); | /boot=68MB;88;93;0;98
'/home dir'=69357MB;253404;253409;0;253414 'it''s=odd'=5%;@10:20;~:30
/var/log=818MB;970;975;0;980 lag=0,25ms nothing=U bad =3 rate=1e3c free=-.5 broken=1.2.3 x=3KB;;5:"""


def test_the_output_of_a_plugin_is_read_as_the_guidelines_have_it() -> None:
    """The guidelines' own example, with all that labels, units, ranges and commas may be."""
    read = read_output(DISK)
    assert read.text == "DISK OK - free space: / 3326 MB (56%);"
    assert read.longer == ("/ 15272 MB (77%);", "/boot 68 MB (69%);")
    mega = 2.0**20
    assert read.perfdata[0] == Perfdata(
        "/", 2643 * mega, "bytes", Range(0, 5948 * mega), Range(0, 5958 * mega), 0, 5968 * mega
    )
    found = {each.label: each for each in read.perfdata}
    assert found.keys() == {"/", "/boot", "/home dir", "it's=odd", "/var/log", "lag", "rate", "free", "x"}
    infinite = float("inf")
    odd = found["it's=odd"]
    assert (odd.value, odd.unit) == (0.05, "ratio")
    assert (odd.warning, odd.critical) == (Range(0.1, 0.2, inside=True), Range(-infinite, pytest.approx(0.3)))
    assert dict(odd.limits()) == {"warning_low": 0.1, "warning_high": 0.2, "critical_high": pytest.approx(0.3)}
    assert (found["lag"].value, found["lag"].unit) == (0.00025, "seconds")
    assert (found["rate"].value, found["rate"].unit) == (1000, "total")
    assert (found["free"].value, found["free"].unit) == (-0.5, "")
    assert (found["x"].critical, found["x"].warning) == (Range(5 * 1024, infinite), None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10", Range(0, 10)),
        ("10:", Range(10, float("inf"))),
        ("~:10", Range(float("-inf"), 10)),
        ("@-5:5", Range(-5, 5, inside=True)),
        (":7", Range(0, 7)),
        ("20:10", None),
        ("ten", None),
        ("", None),
        ("@", None),
    ],
)
def test_ranges_of_thresholds(text: str, expected: Range | None) -> None:
    """https://nagios-plugins.org/doc/guidelines.html#THRESHOLDFORMAT."""
    assert Range.parse(text) == expected


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from("a1'=;|.,:@~%sBc\n -e"), max_size=60) | st.text(max_size=60))
def test_any_output_of_a_plugin_can_be_read(text: str) -> None:
    """Every number that comes out is finite, and there are not too many."""
    read = read_output(text)
    assert len(read.perfdata) <= 64
    for each in read.perfdata:
        assert each.label
        json.dumps(each.as_json(), allow_nan=False)


@settings(max_examples=300, deadline=None)
@given(st.text(min_size=1, max_size=20).filter(lambda label: label.strip() and "\n" not in label), st.floats(-1e9, 1e9))
def test_any_quoted_label_comes_back(label: str, value: float) -> None:
    """As it was written, whatever signs it has."""
    quoted = label.replace("'", "''")
    assert [(each.label, each.value) for each in read_perfdata(f"'{quoted}'={value!r}s")] == [(label, value)]


def test_a_flood_of_performance_data_is_bounded_and_quick() -> None:
    """64 series, and time that grows with the length only."""
    began = time.monotonic()
    read = read_output("x|" + " ".join(f"a{number}=1" for number in range(9000)))
    for text in ("a " * 40000 + "=", "'" * 60000, "' " * 30000, "=" * 60000):
        read_output(f"x|{text}")
    assert len(read.perfdata) == 64
    assert time.monotonic() - began < 2


REASONS = sorted(Reason(reason) for reason in frozenset(Reason) - BROKEN_REASONS - {Reason.NONE, Reason.STEP})


@pytest.mark.shows(
    "exec", "dns", "refused", "unreachable", "timeout", "reset", "tls", "certificate", "status", "assertion",
    "protocol", "too-slow", "up", "broken",
)  # fmt: skip
async def test_a_report_says_how_it_ended_and_why(tmp_path: Path) -> None:
    """`json`: every reason that a target can be down for, measures and evidence."""
    script = tmp_path / "report"
    script.write_text("#!/bin/sh\ncat\n")
    script.chmod(0o755)

    async def report(**document: Any) -> Result:
        return await run(KIND, str(script), {"protocol": "json", "stdin": json.dumps(document)})

    result = await report(outcome="up", measures={"queue_length": 17, "age": 0.5}, evidence={"seen": ["a", None]})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert {m.labels["measure"]: m.value for m in result.measures if m.name == "stormwatch_exec_value"} == {
        "queue_length": 17,
        "age": 0.5,
    }
    assert result.evidence["report"] == {"seen": ["a", None]}
    for reason in REASONS:
        result = await report(outcome="down", reason=reason.value, message="that is why")
        assert (ending(result), result.message) == ((Outcome.DOWN, reason), "that is why")
    result = await report(outcome="down")
    assert (ending(result), result.message) == (
        (Outcome.DOWN, Reason.ASSERTION),
        "report says no more than that",
    )
    result = await report(outcome="broken", reason="credentials", message="no token")
    assert ending(result) == (Outcome.BROKEN, Reason.CREDENTIALS)


ONE_OF = "dns, refused, unreachable, timeout, reset, tls, certificate, status, assertion, protocol, too-slow"
BAD_REPORTS = {
    "": "its output is not JSON: Expecting value: line 1 column 1 (char 0)",
    "[]": "its output is not a JSON object",
    "{}": "outcome is one of up, down, broken, not None",
    '{"outcome": "up", "metrics": {}}': "'metrics' is not one of outcome, reason, message, measures, evidence",
    '{"outcome": "up", "reason": "dns"}': "the reason of outcome up is one of none, not 'dns'",
    '{"outcome": "down", "reason": "step"}': f"the reason of outcome down is one of {ONE_OF}, not 'step'",
    '{"outcome": "broken", "reason": {}}': "the reason of outcome broken is one of resources, network, credentials, "
    "policy, internal, not {}",
    '{"outcome": "up", "message": 1}': "message is a text, not 1",
    '{"outcome": "up", "measures": []}': "measures is an object, not []",
    '{"outcome": "up", "measures": {"a": "1"}}': "the measure 'a' is '1'; it is a short name and a finite number",
    '{"outcome": "up", "measures": {"a": 1e999}}': "the measure 'a' is inf; it is a short name and a finite number",
    '{"outcome": "up", "measures": {"a": NaN}}': "its output is not JSON: NaN is no number of JSON",
    json.dumps(
        {"outcome": "up", "measures": dict.fromkeys(map(str, range(51)), 1)}
    ): "it has 51 measures, and may have 50",
    json.dumps(
        {"outcome": "up", "evidence": {"a": "x" * 9000}}
    ): "its evidence has more than 8KiB: keep the files, and name them here",
}


@pytest.mark.parametrize(("text", "message"), BAD_REPORTS.items())
async def test_a_report_that_is_none_is_broken(text: str, message: str) -> None:
    """The program is at fault, not what it looks at."""
    result = await run(KIND, "cat", {"protocol": "json", "stdin": text})
    assert ending(result) == (Outcome.BROKEN, Reason.INTERNAL)
    assert result.message == f"cat did not write a report: {message}"


async def test_a_report_of_a_program_that_failed_or_wrote_too_much_does_not_count() -> None:
    """A half-written one neither."""
    result = await run(KIND, "script", sh('echo \'{"outcome": "up"}\'; echo oops >&2; exit 1', protocol="json"))
    assert ending(result) == (Outcome.BROKEN, Reason.INTERNAL)
    assert result.message == "sh ended with exit code 1, wanted 0; it says 'oops'"
    result = await run(KIND, "script", sh("head -c 70000 /dev/zero", protocol="json"))
    assert result.message == "sh wrote more than 64KiB"


@settings(max_examples=500, deadline=None)
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["outcome", "reason", "message", "measures", "evidence", "x"]), inner)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_report_is_read_or_refused(data: bytes) -> None:
    """Nothing but ValueError comes of bad ones."""
    try:
        report = exec_report.read(data)
    except ValueError:
        return
    json.dumps([report.message, dict(report.measures), dict(report.evidence)], allow_nan=False).encode()


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("'", {}, """target "'" is not a command line: No closing quotation"""),
    ("  ", {}, "target names no program"),
    ("./look", {}, "target: ./look counts from `directory`, which is not given: write the whole path"),
    (
        "x",
        {"command": ["bin/look"]},
        "command: bin/look counts from `directory`, which is not given: write the whole path",
    ),
    ("x", {"command": ["", "y"]}, "command names no program"),
    ("true", {"args": ["a\0b"]}, "command: no program can be given a zero byte"),
    ("true", {"env": {"A": "\0"}}, "env: no program can be given a zero byte"),
    ("true", {"env": {"A=B": "x"}}, "env: a variable's name is not empty and has no ="),
    ("true", {"stdin": "x" * 2**20 + "x"}, "stdin has 1048577 bytes, and may have 1MiB"),
    ("true", {"expect": {"exit_codes": []}}, "expect.exit_codes: no exit code would be good"),
    (
        "true",
        {"protocol": "nagios", "expect": {"exit_codes": [1]}},
        "expect.exit_codes: the exit code has its own meaning with protocol nagios",
    ),
    ("true", {"unknown": "down"}, "warning and unknown are about Nagios plugins: give `protocol: nagios` too"),
    (
        "true",
        {"expect": {"stderr_matches": ["a", "("]}},
        "expect.stderr_matches[1]: '(' is not an RE2 expression: missing ): (",
    ),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_mistakes_are_told(target: str, options: dict[str, Any], message: str) -> None:
    """When the configuration is read."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        check_of(KIND, target, options)
    assert str(caught.value) == message


def test_what_may_be_secret_is_not_shown_by_the_check() -> None:
    """Arguments, environment and standard input, in a traceback for instance."""
    check = check_of(KIND, "true", {"args": ["canary1"], "env": {"A": "canary2"}, "stdin": "canary3"})
    assert "canary" not in repr(check)


async def test_a_cancelled_start_is_let_go_too() -> None:
    """Nothing is under way after many runs that were cut off at any time."""
    before = open_files()
    async with Resources() as resources:
        for delay in (0, 0.001, 0.003, 0.01, 0.02):
            task = asyncio.create_task(run(KIND, "sleep 60", timeout=30, resources=resources))
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await settle(before)
    assert open_files() <= before
