"""The kind `heartbeat`: a job that tells us of itself, judged by what it told and by when it told nothing."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final
from uuid import UUID

from pydantic import AfterValidator, ConfigDict

from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.heartbeat_schedule import Cron, Every, Schedule
from stormwatch.probes.heartbeat_state import Sort, Standing, State, Verdict, judge
from stormwatch.probes.heartbeats import DEAD, Heartbeats, HeartbeatsUnavailable, Seen
from stormwatch.probes.options import STRICT, Secret
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds, show_duration
from stormwatch.probes.watch import Watch

SHOWN: Final = 2048
"""Characters of what a job said that are kept as evidence."""
KEY: Final = 22
"""Characters of the shortest key: of the 64 that a URL may have anywhere they are worth 132 bits."""

_SLUG = re.compile(r"[a-z0-9_-]{1,100}")
_KEY = re.compile(rf"[A-Za-z0-9_-]{{{KEY},200}}")


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be more than 0s")
    return seconds


_Positive = Annotated[Seconds, AfterValidator(_positive)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectHeartbeat:
    """What a job must tell of itself."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    body_matches: str = ""
    """An RE2 expression that must be found in what a successful job sends; the first 10 kB of it are searched."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the last run took longer; the job must tell of its starts too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatOptions:
    """When a job must tell of itself, and what."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    key: Secret = ""
    """The secret of its address: a UUID, or at least 22 letters, digits, `_` and `-`. Needed unless the target is a UUID."""
    interval: _Positive | None = None
    """A success must come at least that often. Give this or `cron`."""
    cron: str = ""
    """A success must come for each moment of this cron expression."""
    timezone: str = "UTC"
    """The time zone of `cron`."""
    grace: Seconds = 300.0
    """How much later than that it may come."""
    max_runtime: _Positive | None = None
    """How long a run may take whose start was told; a run that began in time may then end later than `grace` allows."""
    expect: ExpectHeartbeat = field(default_factory=ExpectHeartbeat)
    """What the job must tell."""


def build(target: str, options: HeartbeatOptions) -> Check:
    """A check of one job. Raises ValueError for a target or an option that cannot work."""
    if not _SLUG.fullmatch(target):
        raise ValueError(f"target is the name of a job in a URL, of a-z, 0-9, '_' and '-', or a UUID, not {target!r}")
    if not options.key and not is_uuid(target):
        raise ValueError("key is missing: without it everybody could say that the job is well; `uuidgen` makes one")
    if (
        options.key
        and not is_uuid(options.key)
        and (not _KEY.fullmatch(options.key) or len(set(options.key)) < KEY // 2)
    ):
        raise ValueError(
            f"key: it must be a UUID, or {KEY} to 200 letters, digits, '_' and '-' by chance; `uuidgen` makes one"
        )
    if (options.interval is None) is not bool(options.cron):
        raise ValueError("give interval or cron, one of them: when must the job tell of itself?")
    if options.interval is not None and options.timezone != "UTC":
        raise ValueError("timezone is that of `cron`, and there is none")
    text = options.expect.body_matches
    return HeartbeatCheck(
        job=target,
        key=options.key or target,
        schedule=Every(options.interval)
        if options.interval is not None
        else Cron.parse(options.cron, options.timezone),
        options=options,
        body=compile_pattern(text, "expect.body_matches") if text else None,
    )


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID as people write it, with its dashes (RFC 9562 §4)."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, eq=False)
class HeartbeatCheck:
    """Judges one job by what is known of it."""

    job: str
    key: str = field(repr=False)
    schedule: Schedule
    options: HeartbeatOptions = field(repr=False)
    body: Pattern | None

    async def __call__(self, watch: Watch) -> None:
        """Read what is known, and judge it. Nothing is asked of anybody."""
        now = watch.clock.now()
        seen = await self._seen(watch, now)
        state = seen.states.get(self.job)
        if state is None:
            raise ProbeBroken(
                Reason.INTERNAL,
                f"nobody waits for pings of {self.job}: restart `stormwatch run` with this configuration",
            )
        standing = judge(
            state,
            self.schedule,
            grace=self.options.grace,
            longest=self.options.max_runtime,
            absences=seen.absences,
            now=now,
        )
        _write_down(watch, state, standing, now)
        self._judge(state, standing)

    async def _seen(self, watch: Watch, now: float) -> Seen:
        heartbeats = watch.resources.get(Heartbeats)
        if heartbeats.path is None:
            raise ProbeBroken(
                Reason.INTERNAL,
                "nobody listens for pings here: `stormwatch run` judges heartbeats, and `stormwatch check --data DIR` beside it",
            )
        try:
            seen = await heartbeats.seen()
        except HeartbeatsUnavailable as error:
            raise ProbeBroken(Reason.RESOURCES, str(error)) from error
        if seen.heard is None or now - seen.heard > DEAD:
            since = "ever" if seen.heard is None else f"since {_shown(seen.heard)}"
            raise ProbeBroken(Reason.INTERNAL, f"nobody has listened for pings {since}: see to `stormwatch run`")
        return seen

    def _judge(self, state: State, standing: Standing) -> None:
        if state.failed and state.ended is not None:
            code = f" with exit code {state.exit_code}" if state.exit_code else ""
            raise ProbeFailed(Reason.ASSERTION, f"{self.job} failed{code} at {_shown(state.ended)}{_said(state.body)}")
        if standing.verdict is Verdict.STUCK:
            most = show_duration(self.options.max_runtime or 0.0)
            raise ProbeFailed(
                Reason.TIMEOUT, f"{self.job} began at {_shown(standing.moment)} and has not ended within {most}"
            )
        if standing.verdict is Verdict.MISSING:
            last = f"its last success was at {_shown(state.succeeded)}" if state.succeeded else "it never succeeded"
            raise ProbeFailed(
                Reason.TIMEOUT,
                f"{self.job} should have ended well by {_shown(standing.deadline)} ({self.schedule}); {last}",
            )
        if standing.verdict is Verdict.UNSURE:
            assert standing.away is not None
            raise ProbeBroken(
                Reason.INTERNAL,
                f"{self.job} was due at {_shown(standing.moment)}, and stormwatch did not listen from "
                f"{_shown(standing.away.began)} to {_shown(standing.away.ended)}: its ping may be lost; "
                f"it is judged again by {_shown(standing.deadline)}",
            )
        if state.ended is None:
            return
        if self.body is not None and not self.body.search(state.body.encode()):
            wanted = self.options.expect.body_matches
            raise ProbeFailed(Reason.ASSERTION, f"what {self.job} said does not match {wanted!r}{_said(state.body)}")
        most = self.options.expect.slower_than
        if most is not None and state.seconds is not None and state.seconds > most:
            raise ProbeFailed(
                Reason.TOO_SLOW, f"{self.job} took {show_duration(state.seconds)}, wanted at most {show_duration(most)}"
            )


def _write_down(watch: Watch, state: State, standing: Standing, now: float) -> None:
    if state.succeeded is not None:
        watch.measure("stormwatch_heartbeat_success_age_seconds", now - state.succeeded)
        watch.measure("stormwatch_heartbeat_success_timestamp_seconds", state.succeeded)
    if state.seconds is not None:
        watch.measure("stormwatch_heartbeat_run_seconds", state.seconds)
    if state.exit_code is not None:
        watch.measure("stormwatch_heartbeat_exit_code", state.exit_code)
    watch.measure("stormwatch_heartbeat_runs_under_way", len(state.starts))
    watch.measure("stormwatch_heartbeat_deadline_timestamp_seconds", standing.deadline)
    for sort in Sort:
        watch.measure("stormwatch_heartbeat_pings", state.pings.get(sort.value, 0), sort=sort.value)
    times = {
        "waited_since": state.since,
        "ended": state.ended,
        "succeeded": state.succeeded,
        "deadline": standing.deadline,
    }
    watch.note("job", {name: _shown(at) for name, at in times.items() if at is not None})
    if state.body:
        watch.note("said", state.body[:SHOWN])


def _said(body: str) -> str:
    lines = body.strip().splitlines()
    return f"; it says {lines[-1].strip()[:200]!r}" if lines else ""


def _shown(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


KIND: Final = Kind(
    name="heartbeat",
    options=HeartbeatOptions,
    build=build,
    no_detour="waits for a job that reports, and connects to nobody",
    metrics=(
        Metric(
            "stormwatch_heartbeat_success_age_seconds", "Seconds since the job's last success, at the time of the run"
        ),
        Metric("stormwatch_heartbeat_success_timestamp_seconds", "Unix time of the job's last success"),
        Metric("stormwatch_heartbeat_run_seconds", "Seconds that the job's last run took"),
        Metric("stormwatch_heartbeat_exit_code", "Exit code of the job's last run, if it told one"),
        Metric("stormwatch_heartbeat_runs_under_way", "Runs that have begun and not ended"),
        Metric("stormwatch_heartbeat_deadline_timestamp_seconds", "Unix time by which the next success must come"),
        Metric("stormwatch_heartbeat_pings", "Pings that came, by sort"),
    ),
    reasons=frozenset({Reason.TIMEOUT, Reason.ASSERTION, Reason.TOO_SLOW}),
)
