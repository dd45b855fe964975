"""`stormwatch load`: journeys run by many users at once, judged by the same objectives as their scheduled runs."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from stormwatch.harness.invocation import DEFAULT_CONFIG, load_config, write
from stormwatch.harness.problem import Exit, Problem

if TYPE_CHECKING:
    from stormwatch.harness.config import Config
    from stormwatch.journeys.journey import JourneyCheck
    from stormwatch.journeys.load_job import LoadJob, LoadJourney
    from stormwatch.probes.probe import Probe
    from stormwatch.slo.objective import Objective

_SPAWNING: Final = 10.0
"""Seconds in which all users have begun, where nobody says how fast."""
_EVERY: Final = 5.0
"""Seconds between two lines of progress in a log; a terminal has one line that changes."""


class Shape(StrEnum):
    """How the answer is printed."""

    TEXT = "text"
    JSON = "json"


def load(
    journeys: Annotated[
        list[str],
        typer.Argument(
            metavar="JOURNEY …", help="Names of journeys in the configuration, or files: FILE, or FILE::TEST."
        ),
    ],
    *,
    config: Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")] = DEFAULT_CONFIG,
    users: Annotated[int, typer.Option(metavar="N", min=1, help="How many users there are at once.")] = 10,
    spawn_rate: Annotated[
        float | None,
        typer.Option(metavar="N", help="Users that begin in a second; by default all have begun after 10 s."),
    ] = None,
    for_: Annotated[
        str,
        typer.Option(
            "--for", metavar="DURATION", help="How long; 60s by default, and until Ctrl-C with --page and --worker."
        ),
    ] = "",
    pause: Annotated[str, typer.Option(metavar="DURATION", help="Between two runs of a user.")] = "0s",
    browser_users: Annotated[
        int, typer.Option(metavar="N", min=0, help="Users of each browser journey, where there are API journeys too.")
    ] = 1,
    master: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Listen there for workers, which make the load.")
    ] = "",
    expect_workers: Annotated[
        int, typer.Option(metavar="N", min=1, help="With --master: begin when so many have come.")
    ] = 1,
    worker: Annotated[str, typer.Option(metavar="HOST:PORT", help="Make load for the master there.")] = "",
    page: Annotated[str, typer.Option(metavar="HOST:PORT", help="Serve locust's page there.")] = "",
    csv: Annotated[str, typer.Option(metavar="PREFIX", help="Also write locust's own CSV files.")] = "",
    metrics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write what was seen in Prometheus' text format.")
    ] = None,
    form: Annotated[Shape, typer.Option("--format")] = Shape.TEXT,
) -> None:
    """Run journeys by many users at once, with locust, and judge their runs and steps by the same objectives.

    Exit code 0: every objective holds, 1: one does not, 3: the load could not be made, or says nothing.
    """
    from stormwatch.journeys.load_job import LoadJob, Role

    if master and worker:
        raise Problem("--master and --worker: a process is one of them; start another `stormwatch load` for the other")
    role = Role.MASTER if master else Role.WORKER if worker else Role.ALONE
    given = {"--page": page, "--csv": csv, "--metrics": metrics, "--for": for_, "--spawn-rate": spawn_rate}
    if worker and (not_for_it := [option for option, value in given.items() if value]):
        raise Problem(f"{', '.join(not_for_it)}: that is for the master to say; leave it out with --worker")
    if spawn_rate is not None and not spawn_rate > 0:
        raise Problem(f"--spawn-rate {spawn_rate:g}: wanted more than 0 users a second")
    plan = _planned(journeys, config)
    host, port = _address("--master" if master else "--worker", master or worker or "127.0.0.1:5557")
    if page:
        _address("--page", page)
    job = LoadJob(
        journeys=plan.journeys,
        role=role,
        users=users,
        spawn_rate=spawn_rate or max(1.0, users / _SPAWNING),
        seconds=_seconds("--for", for_ or "60s") if for_ or not (page or worker) else None,
        pause=_seconds("--pause", pause) if pause not in ("0", "0s") else 0.0,
        browser_users=browser_users,
        host=host,
        port=port,
        workers=expect_workers,
        page=page,
        csv=str(Path(csv).absolute()) if csv else "",
    )
    raise typer.Exit(int(asyncio.run(_make(job, plan, form, metrics))))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What the command line and the configuration come to."""

    journeys: "tuple[LoadJourney, ...]"
    objectives: "tuple[Objective, ...]"
    environment: Mapping[str, str]
    instances: Mapping[str, str]
    """The target of each journey that the configuration knows."""
    location: str
    mask: Callable[[Any], Any]
    """Takes the configuration's secrets out of a JSON value."""


async def _make(job: "LoadJob", plan: _Plan, form: Shape, metrics: Path | None) -> Exit:
    from stormwatch.harness.load_report import as_json, as_table
    from stormwatch.harness.load_verdict import judge
    from stormwatch.journeys.load_job import Role
    from stormwatch.journeys.load_metrics import write_metrics
    from stormwatch.journeys.load_summary import LoadSummary

    seen = await _watched(job, plan.environment)
    if seen.refused:
        raise Problem(plan.mask(seen.refused))
    if job.role is Role.WORKER:
        if seen.not_loaded or seen.stopped:
            raise Problem(_why_none(job, seen), code=Exit.NO_VERDICT)
        if seen.code != 0:
            raise Problem(f"the master at {job.host}:{job.port} was lost: {seen.last_line}", code=Exit.NO_VERDICT)
        _say("the master has ended the load; it has what this worker saw")
        return Exit.GOOD
    if seen.summary is None:
        raise Problem(_why_none(job, seen), code=Exit.NO_VERDICT)
    summary = LoadSummary.from_json(plan.mask(seen.summary))
    early = ""
    if seen.silent:
        early = f"{seen.silent} workers did not say at the end what they had seen"
    elif job.seconds is not None and summary.seconds < job.seconds - 0.5:
        early = f"it was ended after {summary.seconds:.0f} s of {job.seconds:g} s"
    verdict = judge(plan.objectives, summary, ended_early=early)
    if metrics is not None:
        try:
            instances = {**{each.name: f"{each.file}::{each.test}" for each in plan.journeys}, **plan.instances}
            write_metrics(summary, metrics, location=plan.location, instances=instances)
        except OSError as error:
            raise Problem(f"cannot write {metrics}: {error.strerror}") from error
    if form is Shape.JSON:
        write(f"{as_json(summary, verdict)}\n", None)
    else:
        from rich.console import Console

        Console(width=None if sys.stdout.isatty() else 160).print(as_table(summary, verdict))
    if verdict.why:
        _say(verdict.why)
    return verdict.code


@dataclass(slots=True)
class _Seen:
    """What the process that made the load said."""

    summary: Mapping[str, Any] | None = None
    not_loaded: str = ""
    refused: str = ""
    """Why what was asked for can never be."""
    silent: int = 0
    code: int = 0
    said: str = ""
    stopped: bool = False
    began: bool = False

    @property
    def last_line(self) -> str:
        """The last thing that it said to nobody in particular."""
        return self.said.rpartition("\n")[2] or f"it ended with exit code {self.code}"

    def hear(self, event: Mapping[str, Any]) -> None:
        """Keep what an event says."""
        match event["event"]:
            case "refused":
                self.refused = event["why"]
            case "not-collected":
                self.not_loaded = ": ".join(part for part in (event["where"], event["why"]) if part)
            case "began":
                self.began = True
            case "silent":
                self.silent = event["workers"]
            case "over":
                self.summary = event["summary"]
            case "ended":
                self.code, self.said = event["code"], event["said"]
            case _:
                pass


async def _watched(job: "LoadJob", environment: Mapping[str, str]) -> _Seen:
    from stormwatch.harness.stop import stop_on_signals
    from stormwatch.journeys.load import Load, LoadMissing

    seen = _Seen()
    stop = stop_on_signals()

    async def end_on_signal(made: Load) -> None:
        await stop.wait()
        seen.stopped = True
        _say("ending: users come to the end of their runs")
        made.end()

    try:
        async with Load.making(job, environment=environment) as made:
            ending = asyncio.create_task(end_on_signal(made), name="end of the load")
            teller = _Teller(job)
            try:
                async for event in made.events():
                    seen.hear(event)
                    teller.tell(event)
            finally:
                teller.finish()
                ending.cancel()
    except LoadMissing as error:
        raise Problem(str(error)) from error
    except OSError as error:
        raise Problem(f"no process for the load could be started: {error.strerror}", code=Exit.NO_VERDICT) from error
    return seen


def _why_none(job: "LoadJob", seen: _Seen) -> str:
    from stormwatch.journeys.load_job import Role

    if seen.not_loaded:
        return f"the journeys could not be loaded: {seen.not_loaded}"
    if seen.stopped:
        return "interrupted" if job.role is Role.WORKER else "interrupted before the first user began"
    if job.role is Role.MASTER and not seen.began:
        return (
            f"--expect-workers {job.workers}: they did not come to {job.host}:{job.port} within {job.patience:g} s; "
            f"start them with `stormwatch load … --worker HOST:{job.port}` ({seen.last_line})"
        )
    return f"the process that made the load died: {seen.last_line}"


class _Teller:
    """Says how it goes: on a terminal in one line that changes, in a log every few seconds."""

    def __init__(self, job: "LoadJob") -> None:
        self._job = job
        self._terminal = sys.stderr.isatty()
        self._next = 0.0

    def tell(self, event: Mapping[str, Any]) -> None:
        """Say what an event is about, if it is time to."""
        from stormwatch.harness.load_report import progress
        from stormwatch.journeys.load_job import Role

        match event["event"]:
            case "ready" if self._job.role is Role.MASTER:
                _say(f"waiting for {self._job.workers} workers at {self._job.host}:{self._job.port}")
            case "ready" if self._job.role is Role.WORKER:
                _say(f"ready to make load for the master at {self._job.host}:{self._job.port}")
            case "began" if self._job.page:
                _say(f"locust's page: http://{self._job.page}/")
            case "progress" if self._terminal:
                sys.stderr.write(f"\r\x1b[K{progress(event, self._job.seconds)}")
                sys.stderr.flush()
            case "progress" if event["seconds"] >= self._next:
                self._next = event["seconds"] + _EVERY
                _say(progress(event, self._job.seconds))
            case _:
                pass

    def finish(self) -> None:
        """Leave a clean line."""
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _planned(wanted: Sequence[str], path: Path) -> _Plan:
    """What the arguments mean. Without a configuration, files are enough; then there are no objectives."""
    from stormwatch.harness.check import standing_for
    from stormwatch.harness.secret import mask_of
    from stormwatch.journeys.journey import JourneyCheck

    config: Config | None = load_config(path) if path != DEFAULT_CONFIG or path.exists() else None
    objectives = config.objectives if config else ()
    known = {
        probe.name: (probe, probe.check)
        for probe in (config.probes if config else ())
        if isinstance(probe.check, JourneyCheck)
    }
    found: dict[str, LoadJourney] = {}
    environment: dict[str, str] = {}
    for each in wanted:
        file, _, test = each.partition("::")
        several = standing_for(each, [probe for probe, _ in known.values()])
        fitting = [each] if each in known else [probe.name for probe in several]
        fitting = fitting or _of_file(Path(file).absolute(), test, known)
        if not fitting:
            if not Path(file).is_file():
                near = get_close_matches(each, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"the journeys are: {', '.join(known) or 'none'}"
                raise Problem(f"{each} is neither a journey of {path} nor a file; {hint}")
            found[each] = _unknown_to_the_configuration(Path(file).absolute(), test)
        for name in fitting:
            probe, check = known[name]
            for key, value in check.journey.environment.items():
                if environment.setdefault(key, value) != value:
                    raise Problem(
                        f"{name} and another journey want {key} in their environment to be different; "
                        "users of one load share a process: run them one after the other"
                    )
            found[name] = _of_probe(name, probe.timeout, check, objectives)
    return _Plan(
        journeys=tuple(found.values()),
        objectives=objectives,
        environment=environment,
        instances={name: known[name][0].target for name in found if name in known},
        location=config.location if config else "",
        mask=(config and mask_of(config.secrets)) or (lambda value: value),
    )


def _of_file(file: Path, test: str, known: "Mapping[str, tuple[Probe, JourneyCheck]]") -> list[str]:
    return [
        name
        for name, (_, check) in known.items()
        if check.journey.file == file and (not test or check.journey.test == test)
    ]


def _of_probe(name: str, timeout: float, check: "JourneyCheck", objectives: "Sequence[Objective]") -> "LoadJourney":
    from stormwatch.harness.load_verdict import bounds_for
    from stormwatch.journeys.load_job import LoadJourney

    journey = check.journey
    return LoadJourney(
        name=name,
        file=journey.file,
        test=journey.test,
        browser=journey.browser,
        base_url=journey.base_url,
        secrets=journey.secrets,
        client=journey.client,
        timeout=timeout,
        bounds=bounds_for(objectives, name),
    )


def _unknown_to_the_configuration(file: Path, test: str) -> "LoadJourney":
    from stormwatch.journeys.load_job import LoadJourney

    return LoadJourney(name=test, file=file, test=test)


def _address(option: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise Problem(f"{option} {text}: wanted HOST:PORT, as in 127.0.0.1:5557")
    return host.strip("[]"), int(port)


def _seconds(option: str, written: str) -> float:
    from stormwatch.probes.units import parse_duration

    try:
        return parse_duration(written)
    except ValueError as error:
        raise Problem(f"{option}: {error}") from error


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
