"""The kind `heartbeat`: judged in virtual time, kept on disk, and no false alarm when we were away ourselves."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.clock import SystemClock
from stormwatch.probes.heartbeat import KIND
from stormwatch.probes.heartbeat_schedule import Cron, Every
from stormwatch.probes.heartbeat_state import Absence, Ping, Sort, State, Verdict, judge
from stormwatch.probes.heartbeats import ABSENCES, DEAD, Heartbeats, HeartbeatsUnavailable
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.run import run_once
from tests.servers.probing import check_of, measures, note_ending

BERLIN = ZoneInfo("Europe/Berlin")
KEY = "b3f1d6a0-4c2e-4f7b-9a55-0c1d2e3f4a5b"
HOUR, DAY = 3600.0, 86400.0
START = datetime(2026, 3, 2, 12, tzinfo=BERLIN).timestamp()


def at(*when: int, fold: int = 0) -> float:
    """A moment on the wall clock of Berlin."""
    return datetime(*when, tzinfo=BERLIN, fold=fold).timestamp()  # type: ignore[arg-type, misc]


def told(*pings: tuple[float, Sort], since: float = START) -> State:
    """The state of a job after some pings."""
    state = State(since=since)
    for moment, sort in pings:
        state = state.after(Ping(at=moment, sort=sort))
    return state


def verdict(
    state: State, now: float, *, every: float = HOUR, longest: float | None = None, away: Sequence[Absence] = ()
) -> Verdict:
    """How it stands, with a grace of five minutes."""
    return judge(state, Every(every), grace=300, longest=longest, absences=away, now=now).verdict


def test_a_job_is_late_after_its_interval_and_the_grace() -> None:
    """To the second; one that never told anything is waited for from the first time on that we knew of it."""
    state = told((START + 100, Sort.SUCCESS))
    assert verdict(state, START + 100 + HOUR + 300) is Verdict.FINE
    assert verdict(state, START + 100 + HOUR + 300.1) is Verdict.MISSING
    assert verdict(told(), START + HOUR + 300) is Verdict.FINE
    assert verdict(told(), START + HOUR + 301) is Verdict.MISSING
    assert verdict(told((START + 100, Sort.LOG)), START + HOUR + 301) is Verdict.MISSING


def test_a_start_is_no_end_unless_runs_may_take_their_time() -> None:
    """Without `max_runtime` it only measures; with it, what began in time may end late, and what began late is late."""
    began = told((START, Sort.SUCCESS), (START + HOUR, Sort.START))
    assert verdict(began, START + HOUR + 301) is Verdict.MISSING
    longest = 2 * HOUR
    assert verdict(began, START + HOUR + 301, longest=longest) is Verdict.FINE
    assert verdict(began, START + 3 * HOUR, longest=longest) is Verdict.FINE
    assert verdict(began, START + 3 * HOUR + 1, longest=longest) is Verdict.STUCK
    late = told((START, Sort.SUCCESS), (START + HOUR + 400, Sort.START))
    assert verdict(late, START + HOUR + 401, longest=longest) is Verdict.MISSING


def test_a_run_that_died_is_forgotten_when_a_later_one_ends() -> None:
    """Its start stays open until then, under whatever identifier."""
    state = State(since=START)
    for moment, sort, run in [
        (0, Sort.START, "a"),
        (100, Sort.START, "b"),
        (150, Sort.START, "c"),
        (200, Sort.SUCCESS, "b"),
    ]:
        state = state.after(Ping(at=START + moment, sort=sort, run=run))
    assert state.starts == {"c": START + 150}
    assert state.seconds == 100
    assert state.pings == {"start": 3, "success": 1}
    for number in range(60):
        state = state.after(Ping(at=START + 300 + number, sort=Sort.START, run=str(number)))
    assert len(state.starts) == 50


def test_after_our_own_absence_the_time_counts_from_our_start() -> None:
    """The ping may have been sent while nobody listened: no evidence, then a whole interval, and then it is missing."""
    state = told((START, Sort.SUCCESS))
    away = [Absence(START + 1800, START + 2 * HOUR)]  # it was due after one hour
    back = START + 2 * HOUR
    assert verdict(state, back, away=away) is Verdict.UNSURE
    assert verdict(state, back + HOUR + 300, away=away) is Verdict.UNSURE
    assert verdict(state, back + HOUR + 301, away=away) is Verdict.MISSING
    assert verdict(state.after(Ping(at=back + 5, sort=Sort.SUCCESS)), back + 6, away=away) is Verdict.FINE


def test_an_absence_at_another_time_changes_nothing() -> None:
    """Not before the time in which the ping is looked for, and not after its deadline: what was down stays down."""
    state = told((START, Sort.SUCCESS))
    for away in (Absence(START + 60, START + 600), Absence(START + HOUR + 301, START + 9 * HOUR)):
        assert verdict(state, START + HOUR + 300, away=[away]) is Verdict.FINE
        assert verdict(state, START + 10 * HOUR, away=[away]) is Verdict.MISSING
    restarts = [Absence(START + hour * HOUR + 1000, START + hour * HOUR + 1010) for hour in range(24)]
    assert verdict(state, START + HOUR + 301, away=restarts) is Verdict.MISSING


def test_a_restart_each_night_at_the_wrong_moment_hides_nothing_for_ever() -> None:
    """It is broken, which is told, and never up again without a ping."""
    state = told((START, Sort.SUCCESS))
    away = [Absence(START + day * DAY + 100, START + day * DAY + 160) for day in range(1, 30)]
    seen = {verdict(state, START + day * DAY + 12 * HOUR, every=DAY, away=away[:day]) for day in range(1, 29)}
    assert seen == {Verdict.UNSURE}


def test_what_was_stuck_while_we_were_away_may_have_ended() -> None:
    """Then the next moment judges."""
    state = told((START, Sort.SUCCESS), (START + HOUR, Sort.START))
    over = START + 3 * HOUR
    away = [Absence(over - 100, over - 50)]
    assert verdict(state, over + 1, longest=2 * HOUR, away=away) is Verdict.UNSURE
    assert verdict(state, over - 50 + HOUR + 301, longest=2 * HOUR, away=away) is Verdict.MISSING


CRON = Cron.parse("0 3 * * *", "Europe/Berlin")


@pytest.mark.parametrize(
    ("last", "due"),
    [
        (at(2026, 3, 2, 12), at(2026, 3, 3, 3)),
        (at(2026, 3, 3, 3, 20), at(2026, 3, 4, 3)),
        # A host whose clock is fast tells of the run of 3 o'clock before 3 o'clock.
        (at(2026, 3, 3, 2, 59, 30), at(2026, 3, 4, 3)),
        (at(2026, 3, 3, 2, 58, 59), at(2026, 3, 3, 3)),
        # The last Sunday of March has no 2:30, the last Sunday of October has it twice.
        (at(2026, 3, 28, 4), at(2026, 3, 29, 3)),
        (at(2026, 10, 24, 4), at(2026, 10, 25, 3)),
    ],
)
def test_cron_gives_the_next_moment_on_the_wall_clock(last: float, due: float) -> None:
    """In the time zone of the job, a day of 23 or 25 hours included."""
    assert CRON.after(last) == due


def test_days_on_which_clocks_change() -> None:
    """Debian's rules: a skipped hour's job runs right after the gap, a doubled hour's once, a frequent one in both."""
    half_past_two = Cron.parse("30 2 * * *", "Europe/Berlin")
    assert half_past_two.after(at(2026, 3, 28, 12)) == at(2026, 3, 29, 3)
    assert half_past_two.after(at(2026, 3, 29, 4)) == at(2026, 3, 30, 2, 30)
    assert half_past_two.after(at(2026, 10, 24, 12)) == at(2026, 10, 25, 2, 30)
    assert half_past_two.after(at(2026, 10, 25, 2, 31)) == at(2026, 10, 26, 2, 30)
    often = Cron.parse("*/30 * * * *", "Europe/Berlin")
    assert often.after(at(2026, 10, 25, 2, 30)) == at(2026, 10, 25, 2, 0, fold=1)
    # An interval does not care: 24 hours are 24 hours.
    assert Every(DAY).after(at(2026, 10, 24, 12)) == at(2026, 10, 25, 11)


def test_a_job_by_cron_over_a_change_of_clocks() -> None:
    """Neither late by an hour, nor excused by one."""
    grace = {"grace": 1800.0, "longest": None, "absences": ()}
    for day, month in ((29, 3), (25, 10)):
        state = told((at(2026, month, day - 1, 3, 5), Sort.SUCCESS), since=START)
        assert judge(state, CRON, now=at(2026, month, day, 3, 30), **grace).verdict is Verdict.FINE  # type: ignore[arg-type]
        assert judge(state, CRON, now=at(2026, month, day, 3, 31), **grace).verdict is Verdict.MISSING  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["* * * * *", "*/7 1-5 * * 1-5", "0 3 * * *", "30 2 * * 0", "0 0 1 */3 *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Australia/Lord_Howe"]),
    st.floats(1.7e9, 1.9e9),
)
def test_the_next_moment_always_comes_and_is_later(expression: str, zone: str, moment: float) -> None:
    """In zones of halves and quarters of an hour too; the time to look for it begins before it."""
    cron = Cron.parse(expression, zone)
    due = cron.after(moment)
    assert moment < due < moment + 200 * DAY
    assert cron.opens(due) < due


PINGS = st.lists(
    st.tuples(
        st.floats(0, 1e6), st.sampled_from(Sort), st.integers(0, 255) | st.none(), st.sampled_from(["", "a", "b"])
    ),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(
    PINGS,
    st.floats(0, 2e6),
    st.floats(1, 1e5),
    st.none() | st.floats(1, 1e5),
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e4)), max_size=5),
)
def test_any_pings_are_judged_and_kept(
    pings: Any, now: float, every: float, longest: float | None, gaps: list[tuple[float, float]]
) -> None:
    """A state comes back from JSON equal, and who was away never turns good into bad."""
    state = State(since=0)
    for moment, sort, code, run in sorted(pings, key=lambda ping: ping[0]):
        state = state.after(Ping(at=moment, sort=sort, exit_code=code, run=run))
    assert State.from_json(json.loads(json.dumps(state.as_json()))) == state
    away = [Absence(began, began + length) for began, length in gaps]
    alone, judged = (
        verdict(state, now, every=every, longest=longest),
        verdict(state, now, every=every, longest=longest, away=away),
    )
    if alone is Verdict.FINE:
        assert judged is Verdict.FINE
    if judged is Verdict.UNSURE:
        assert alone in {Verdict.MISSING, Verdict.STUCK}


@dataclass
class Hands(SystemClock):
    """A wall clock that is moved by hand."""

    at: float = field(default_factory=time.time)

    def now(self) -> float:
        """Where the hands are."""
        return self.at


async def judged(clock: Hands, heartbeats: Heartbeats | None, target: str = "backup", **options: Any) -> Result:
    """One run of the probe."""
    options = {"key": KEY, **({} if options.get("cron") else {"interval": "1h"}), **options}
    probe = Probe(name="watched", kind="heartbeat", target=target, check=check_of(KIND, target, options), timeout=2.0)
    resources = Resources()
    if heartbeats is not None:
        resources.put(Heartbeats, heartbeats)
    return note_ending(await run_once(probe, clock=clock, resources=resources))


@pytest.mark.shows("heartbeat", "up", "assertion", "timeout", "too-slow")
async def test_a_job_over_a_day(tmp_path: Path) -> None:
    """New, running, well, failed, well again, slow, saying odd things, missing."""
    clock = Hands(START)
    heartbeats = await Heartbeats.listen(tmp_path / "h.sqlite", {"backup": "every 1h"}, now=clock.now())

    async def tell(sort: Sort, *, code: int | None = None, body: str = "") -> None:
        await heartbeats.record("backup", Ping(at=clock.at, sort=sort, exit_code=code, body=body))

    async def wait(seconds: int) -> None:
        for _ in range(seconds // 10):
            clock.at += 10
            await heartbeats.mark(clock.at)

    result = await judged(clock, heartbeats)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert measures(result)["stormwatch_heartbeat_deadline_timestamp_seconds"] == START + HOUR + 300

    await tell(Sort.START)
    await wait(90)
    await tell(Sort.SUCCESS, code=0, body="12 files\nall copied\n")
    await wait(10)
    result = await judged(clock, heartbeats, expect={"body_matches": "all copied", "slower_than": "2m"})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert measures(result) == {
        "stormwatch_heartbeat_success_age_seconds": 10,
        "stormwatch_heartbeat_success_timestamp_seconds": START + 90,
        "stormwatch_heartbeat_run_seconds": 90,
        "stormwatch_heartbeat_exit_code": 0,
        "stormwatch_heartbeat_runs_under_way": 0,
        "stormwatch_heartbeat_deadline_timestamp_seconds": START + 90 + HOUR + 300,
        "stormwatch_heartbeat_pings": 0,
    }
    assert {m.labels["sort"]: m.value for m in result.measures if m.name == "stormwatch_heartbeat_pings"} == {
        "success": 1, "fail": 0, "start": 1, "log": 0,
    }  # fmt: skip
    assert result.evidence["said"] == "12 files\nall copied\n"
    assert result.evidence["job"]["succeeded"] == "2026-03-02 11:01:30 UTC"

    result = await judged(clock, heartbeats, expect={"slower_than": "1m"})
    assert (result.reason, result.message) == (Reason.TOO_SLOW, "backup took 1m30s, wanted at most 1m")
    result = await judged(clock, heartbeats, expect={"body_matches": "^13 files"})
    assert result.reason is Reason.ASSERTION
    assert result.message == "what backup said does not match '^13 files'; it says 'all copied'"

    await tell(Sort.FAIL, code=3, body="no space left\n")
    result = await judged(clock, heartbeats)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.ASSERTION)
    assert result.message == "backup failed with exit code 3 at 2026-03-02 11:01:40 UTC; it says 'no space left'"
    await tell(Sort.SUCCESS)
    assert (await judged(clock, heartbeats)).outcome is Outcome.UP

    await tell(Sort.START)
    result = await judged(Hands(clock.at + 20), heartbeats, max_runtime="10s")
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TIMEOUT)
    assert result.message == "backup began at 2026-03-02 11:01:40 UTC and has not ended within 10s"

    await wait(4000)
    result = await judged(clock, heartbeats)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TIMEOUT)
    assert result.message == (
        "backup should have ended well by 2026-03-02 12:06:40 UTC (every 1h); its last success was at 2026-03-02 11:01:40 UTC"
    )
    await heartbeats.aclose()

    clock.at += 10
    again = await Heartbeats.listen(tmp_path / "h.sqlite", {"backup": "every 1h"}, now=clock.now())
    result = await judged(clock, again)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TIMEOUT), "what was down is down after a restart"
    await again.aclose()


@pytest.mark.shows("heartbeat", "broken")
async def test_after_a_restart_nothing_is_down_that_could_not_be_heard(tmp_path: Path) -> None:
    """The file tells when somebody listened last."""
    path = tmp_path / "h.sqlite"
    first = await Heartbeats.listen(path, {"backup": "every 1h"}, now=START)
    await first.record("backup", Ping(at=START + 5, sort=Sort.SUCCESS))
    await first.aclose()
    clock = Hands(START + 5 * HOUR)
    second = await Heartbeats.listen(path, {"backup": "every 1h"}, now=clock.at)
    result = await judged(clock, second)
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.INTERNAL)
    assert result.message == (
        "backup was due at 2026-03-02 12:00:05 UTC, and stormwatch did not listen from 2026-03-02 11:00:00 UTC to "
        "2026-03-02 16:00:00 UTC: its ping may be lost; it is judged again by 2026-03-02 17:05:00 UTC"
    )
    await second.record("backup", Ping(at=clock.at, sort=Sort.SUCCESS))
    assert (await judged(clock, second)).outcome is Outcome.UP
    await second.aclose()


async def test_a_pause_of_the_machine_is_an_absence_too(tmp_path: Path) -> None:
    """Whoever slept did not listen, though the process was there all the time."""
    heartbeats = await Heartbeats.listen(tmp_path / "h.sqlite", {"backup": "every 1h"}, now=START)
    await heartbeats.mark(START + 10)
    await heartbeats.mark(START + 10 + DEAD)
    assert (await heartbeats.seen()).absences == ()
    await heartbeats.mark(START + 5 * HOUR)
    assert (await heartbeats.seen()).absences == (Absence(START + 10 + DEAD, START + 5 * HOUR),)
    for number in range(ABSENCES + 20):
        await heartbeats.mark(START + (6 + number) * HOUR)
    assert len((await heartbeats.seen()).absences) == ABSENCES
    await heartbeats.aclose()


async def test_a_job_that_was_not_waited_for_begins_anew(tmp_path: Path) -> None:
    """Taken out of the configuration for a month, or given another schedule, it is not down in that moment."""
    path, back = tmp_path / "h.sqlite", START + 30 * DAY
    lives: list[tuple[dict[str, str], float, float]] = [
        ({"backup": "every 1d", "other": "x"}, START, START),
        ({"backup": "every 1d", "other": "x"}, START + 50, START),
        ({"other": "x"}, START + 60, 0),
        ({"backup": "every 1d"}, back, back),
        ({"backup": "every 1h"}, back + 60, back + 60),
    ]
    for jobs, now, since in lives:
        heartbeats = await Heartbeats.listen(path, jobs, now=now)
        if now == START:
            await heartbeats.record("backup", Ping(at=START, sort=Sort.SUCCESS))
        states = (await heartbeats.seen()).states
        await heartbeats.aclose()
        assert states.keys() == jobs.keys()
        if since:
            assert (states["backup"].since, states["backup"].succeeded) == (since, START)


def test_a_ping_that_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """The file is opened by a process that is killed in the middle of writing, again and again."""
    code = """
import asyncio, sys
from pathlib import Path
from stormwatch.probes.heartbeat_state import Ping, Sort
from stormwatch.probes.heartbeats import Heartbeats
async def main():
    heartbeats = await Heartbeats.listen(Path(sys.argv[1]), {"backup": "every 1h"}, now=1.0)
    number = 0
    while True:
        await heartbeats.record("backup", Ping(at=float(number), sort=Sort.LOG))
        number += 1
        print(number, flush=True)
asyncio.run(main())
"""
    total = 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "h.sqlite")], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            told_of = 0
            while told_of < 20:
                told_of = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            told_of = max([told_of, *(int(line) for line in child.stdout.read().splitlines() if line)])
        total += told_of
        with sqlite3.connect(tmp_path / "h.sqlite") as db:
            ((text,),) = db.execute("SELECT state FROM job").fetchall()
        db.close()
        kept = State.from_json(json.loads(text)).pings["log"]
        assert kept >= total, "acknowledged, and lost"
        total = kept


@pytest.mark.shows("heartbeat", "broken")
async def test_where_nobody_listens_it_is_broken_with_the_remedy(tmp_path: Path) -> None:
    """`stormwatch check` without a running service, beside one, and beside one that has stopped."""
    clock = Hands(START)
    result = await judged(clock, None)
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.INTERNAL)
    assert result.message == (
        "nobody listens for pings here: `stormwatch run` judges heartbeats, and `stormwatch check --data DIR` beside it"
    )
    path = tmp_path / "h.sqlite"
    result = await judged(clock, Heartbeats(path))
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.RESOURCES)
    assert result.message == f"{path} cannot be read: unable to open database file"

    service = await Heartbeats.listen(path, {"backup": "every 1h"}, now=clock.at)
    await service.record("backup", Ping(at=clock.at, sort=Sort.SUCCESS))
    assert (await judged(clock, Heartbeats(path))).outcome is Outcome.UP
    result = await judged(clock, Heartbeats(path), target="other")
    assert result.message == "nobody waits for pings of other: restart `stormwatch run` with this configuration"
    result = await judged(Hands(START + 31), Heartbeats(path))
    assert (result.outcome, result.message) == (
        Outcome.BROKEN,
        "nobody has listened for pings since 2026-03-02 11:00:00 UTC: see to `stormwatch run`",
    )
    await service.aclose()
    with pytest.raises(HeartbeatsUnavailable):
        await service.record("backup", Ping(at=clock.at, sort=Sort.SUCCESS))
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(HeartbeatsUnavailable, match="file is not a database"):
        await Heartbeats.listen(path, {"backup": "every 1h"}, now=START)


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("a job", {}, "target is the name of a job in a URL, of a-z, 0-9, '_' and '-', or a UUID, not 'a job'"),
    ("job", {"interval": "1h"}, "key is missing: without it everybody could say that the job is well; `uuidgen` makes one"),
    ("job", {"key": "short"}, "key: it must be a UUID, or 22 to 200 letters, digits, '_' and '-' by chance; `uuidgen` makes one"),
    ("job", {"key": "a" * 40}, "key: it must be a UUID, or 22 to 200 letters, digits, '_' and '-' by chance; `uuidgen` makes one"),
    ("job", {"key": KEY}, "give interval or cron, one of them: when must the job tell of itself?"),
    ("job", {"key": KEY, "interval": "1h", "cron": "* * * * *"}, "give interval or cron, one of them: when must the job tell of itself?"),
    ("job", {"key": KEY, "interval": "1h", "timezone": "Europe/Berlin"}, "timezone is that of `cron`, and there is none"),
    ("job", {"key": KEY, "cron": "61 * * * *"}, "cron: '61 * * * *' is not a cron expression: Bad minute"),
    ("job", {"key": KEY, "cron": "0 0 30 2 *"}, "cron: '0 0 30 2 *' is not a cron expression: Bad day-of-month"),
    ("job", {"key": KEY, "cron": "* * * * *", "timezone": "Berlin"}, "timezone: 'Berlin' is not a time zone like Europe/Berlin"),
    ("job", {"key": KEY, "cron": "* * * * *", "timezone": "../x"}, "timezone: '../x' is not a time zone like Europe/Berlin"),
    ("job", {"key": KEY, "interval": "1h", "expect": {"body_matches": "("}}, "expect.body_matches: '(' is not an RE2 expression: missing ): ("),
]  # fmt: skip


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_mistakes_are_told(target: str, options: dict[str, Any], message: str) -> None:
    """When the configuration is read."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        check_of(KIND, target, options)
    assert str(caught.value) == message


def test_the_key_is_not_shown() -> None:
    """Nor is a UUID that is the target itself kept from anybody: it is shown as the target."""
    assert KEY not in repr(check_of(KIND, "job", {"key": KEY, "interval": "1h"}))
    check_of(KIND, KEY, {"interval": "1h"})
