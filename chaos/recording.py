"""What one drill left, enough to judge it again with other rules: every result of every probe while it lasted.

    begin    what was asked, how every probe and alert stood, what the windows held already
    result   one run of a probe, as it came, without its evidence (bodies and heads are not needed, and may be large)
    alert    one transition, as it came: when it was evaluated
    end      the report, with the moments of the fault; a control run has none

One file of JSON Lines. It is written beside its name and gets it when it is whole, so that a drill that dies does not take
the recording of the last one with it; what it left can be read all the same, and a torn last line is left out.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stormwatch.chaos.feed import Feed
from stormwatch.chaos.report import Report
from stormwatch.chaos.shield import to_the_end
from stormwatch.exporters.batch import Batches
from stormwatch.probes.clock import Clock
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.slo.alert import Transition

VERSION = 1
"""Of the lines."""
LARGEST = 64 * 2**20
"""Bytes of a recording. What comes after is left out, and the recording is not whole."""
EARLIER = 20_000
"""Results from before the drill that are kept, the newest: what the windows of burn rates held already."""
_TOGETHER = 500
"""Earlier results in one line."""
_PATIENCE = 10.0
"""Seconds that closing waits for the disk."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """A result from before the drill, as much of it as windows count."""

    probe: str
    finished: float
    seconds: float
    outcome: Outcome

    def as_result(self) -> Result:
        """A result with nothing but this."""
        return Result(
            probe=self.probe,
            kind="",
            target="",
            location="",
            started=self.finished - self.seconds,
            seconds=self.seconds,
            outcome=self.outcome,
            reason=Reason.NONE if self.outcome is Outcome.UP else Reason.INTERNAL,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One recording, read back. Unix times in seconds."""

    name: str
    """Of the drill, or of the control run."""
    began: float
    ended: float
    latest: tuple[Result, ...] = ()
    """The last result of each probe when it began."""
    active: tuple[Transition, ...] = ()
    """The alerts that were pending or firing when it began."""
    earlier: tuple[Earlier, ...] = ()
    results: tuple[Result, ...] = ()
    """In the order in which they were decided."""
    transitions: tuple[Transition, ...] = ()
    report: Report | None = None
    """What was asked, seen and judged. None: a control run, in which nothing was broken."""
    gap: str = ""
    """Why it is not whole; empty when it is. What is not whole proves nothing."""

    @property
    def probes(self) -> frozenset[str]:
        """The probes of which it knows something."""
        return frozenset(result.probe for result in (*self.latest, *self.results))


class Recorder:
    """Writes one recording. A sink of results and of transitions that never waits for the disk."""

    def __init__(self, path: Path, *, largest: int = LARGEST) -> None:
        """Raises OSError when nothing can be written there."""
        self.path = path
        self._beside = path.with_name(f"{path.name}.part")
        self._left = largest
        self._gap = ""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._lines: Batches[bytes] = Batches(f"recording {path}", self._write, failures=(OSError,))

    def begin(self, name: str, at: float, feed: Feed, *, earlier: Iterable[Earlier] = ()) -> None:
        """Write down how things stand. `earlier` in the order in which they came; the newest `EARLIER` are to be given."""
        self._put(
            "begin",
            version=VERSION,
            name=name,
            at=at,
            latest=[_light(result) for result in feed.latest.values()],
            active=[one.as_json() for one in (*feed.pending.values(), *feed.firing.values())],
        )
        left = iter(earlier)
        while rows := [[one.probe, one.finished, one.seconds, one.outcome.value] for one in islice(left, _TOGETHER)]:
            self._put("earlier", results=rows)

    def __call__(self, result: Result) -> None:
        """Write down a result. This makes a Recorder a sink."""
        self._put("result", result=_light(result))

    def transition(self, transition: Transition) -> None:
        """Write down an alert's change of state."""
        self._put("alert", transition=transition.as_json())

    def lose(self, why: str) -> None:
        """Say that something is missing from here on."""
        self._gap = self._gap or why

    def close(self, at: float, report: Report | None = None) -> None:
        """Write the end, and give the file its name. Blocks for the disk. Raises OSError, and then there is no recording."""
        self._left = max(self._left, LARGEST)
        self._put("end", at=at, report=report.as_json() if report else None, gap=self._gap)
        lost, said = self._lines.close(_PATIENCE), self._lines.error
        try:
            os.fsync(self._file)
        finally:
            os.close(self._file)
        if lost or self._lines.dropped:
            raise OSError(f"{lost + self._lines.dropped} lines could not be written: {said or 'the disk is too slow'}")
        self._beside.replace(self.path)

    def abandon(self) -> None:
        """End without an end: what was written stays beside the name, for people."""
        self._lines.close(_PATIENCE)
        os.close(self._file)

    def _put(self, line: str, **more: Any) -> None:
        text = json.dumps({"line": line, **more}, separators=(",", ":"), default=str).encode() + b"\n"
        if line in {"result", "alert", "earlier"}:
            if len(text) > self._left:
                self.lose("it grew too large")
                return
            self._left -= len(text)
        self._lines.put(text)

    def _write(self, batch: Sequence[bytes]) -> None:
        text = b"".join(batch)
        size = os.fstat(self._file).st_size
        try:
            while text:
                text = text[os.write(self._file, text) :]
        except OSError:
            os.ftruncate(self._file, size)
            os.lseek(self._file, size, os.SEEK_SET)
            raise


class Tape:
    """A recording that is being made: give it the report when there is one."""

    def __init__(self) -> None:
        self.report: Report | None = None


@asynccontextmanager
async def recorded(
    name: str, path: Path, feed: Feed, *, clock: Clock, earlier: Iterable[Earlier] = ()
) -> AsyncGenerator[Tape]:
    """Record everything that a feed tells for as long as the block lasts; a block that raises leaves no recording.

    Raises OSError when it cannot be written.
    """
    recorder = await asyncio.to_thread(Recorder, path)

    def write(result: Result) -> bool:
        recorder(result)
        return False  # it is on its way to the disk, and need not be kept here too

    with feed.recording(wants=write) as seen:
        recorder.begin(name, clock.now(), feed, earlier=earlier)
        tape = Tape()
        try:
            yield tape
        except BaseException:
            await to_the_end(asyncio.to_thread(recorder.abandon))
            raise
        for transition in seen.transitions:
            recorder.transition(transition)
        if seen.failure:
            recorder.lose(f"the monitoring could not be watched: {seen.failure}")
    await to_the_end(asyncio.to_thread(recorder.close, clock.now(), tape.report))


def path_of(directory: Path, name: str) -> Path:
    """Where the recording of a drill is kept."""
    return directory / f"{quote(name, safe=' ')}.jsonl"


def read_recording(path: Path) -> Recorded:
    """Read a recording. Raises OSError, and ValueError, one sentence, for a file that is none."""
    try:
        return _read(path)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no recording of a drill: {type(error).__name__}: {error}") from error


def read_recordings(directory: Path) -> tuple[Recorded, ...]:
    """All recordings of a directory, by name. Raises OSError, and ValueError for a file that is none."""
    return tuple(read_recording(path) for path in sorted(directory.glob("*.jsonl")))


def _read(path: Path) -> Recorded:
    begin: Mapping[str, Any] = {}
    end: Mapping[str, Any] = {}
    earlier: list[Earlier] = []
    results: list[Result] = []
    transitions: list[Transition] = []
    for line in _lines(path):
        match line["line"]:
            case "begin":
                begin = line
            case "earlier":
                earlier += [Earlier(probe, at, seconds, Outcome(how)) for probe, at, seconds, how in line["results"]]
            case "result":
                results.append(Result.from_json(line["result"]))
            case "alert":
                transitions.append(Transition.from_json(line["transition"]))
            case "end":
                end = line
            case _:
                pass  # of a later version that still says it is this one
    if not begin:
        raise ValueError(f"{path} is no recording of a drill: it has no beginning")
    if begin["version"] != VERSION:
        raise ValueError(f"{path} is a recording of version {begin['version']!r}, wanted {VERSION}; record it anew")
    gap = str(end["gap"]) if end else "the drill died"
    return Recorded(
        name=str(begin["name"]),
        began=float(begin["at"]),
        ended=float(end["at"]) if end else max((one.finished for one in results), default=float(begin["at"])),
        latest=tuple(Result.from_json(one) for one in begin["latest"]),
        active=tuple(Transition.from_json(one) for one in begin["active"]),
        earlier=tuple(earlier),
        results=tuple(sorted(results, key=lambda one: one.finished)),
        transitions=tuple(transitions),
        report=Report.from_json(end["report"]) if end.get("report") else None,
        gap=gap,
    )


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """The lines of a file; without the last one, if it was torn."""
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            try:
                line = json.loads(text)
            except ValueError as error:
                if text.endswith("\n"):
                    raise ValueError(f"{path}:{number} is not JSON: {error}") from error
                return
            if not isinstance(line, dict):
                raise TypeError(f"line {number} is no object")
            yield line


def _light(result: Result) -> dict[str, Any]:
    return replace(result, evidence={}).as_json()
