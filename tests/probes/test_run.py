"""`run_once`: outcomes, attempts, deadlines, and whose fault it was, in virtual time wherever time matters."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain
from stormwatch.probes.probe import Check, Confirm, Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import BROKEN_REASONS, Outcome, Reason, Result
from stormwatch.probes.run import run_once
from stormwatch.probes.watch import Watch


class HandClock:
    """Time that only moves when a test moves it, or when somebody sleeps on it."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        """Unix time, a billion ahead of the other."""
        return 1_000_000_000 + self.time

    def monotonic(self) -> float:
        """The hand's position."""
        return self.time

    async def sleep_until(self, moment: float) -> None:
        """At once, and the hand is there."""
        self.time = max(self.time, moment)


async def decide(check: Check, **given: Any) -> tuple[Result, HandClock]:
    """One run of a check that a test wrote."""
    clock = HandClock()
    probe = Probe(name="p", kind="test", target="shop.test", check=check, **given)
    async with Resources() as resources:
        return await run_once(probe, clock=clock, resources=resources, trace_id=lambda: "f" * 32), clock


def failing(times: int, error: Callable[[], Exception]) -> Check:
    """A check that fails so many times, each taking two seconds of the clock, and is up from then on."""
    left = times

    async def check(watch: Watch) -> None:
        nonlocal left
        with watch.phase("connect"):
            await watch.clock.sleep_until(watch.clock.monotonic() + 2)
            left -= 1
            if left >= 0:
                raise error()
        watch.measure("seen", 1)

    return check


async def test_an_up_run_has_one_attempt_its_phases_and_its_trace() -> None:
    """What a result is made of."""
    result, _ = await decide(failing(0, Exception), location="fra1")
    assert (result.outcome, result.reason, result.message, result.failed_phase) == (Outcome.UP, Reason.NONE, "", "")
    assert (result.seconds, result.started, result.trace_id, result.location) == (2, 1_000_001_000, "f" * 32, "fra1")
    assert [(phase.name, phase.seconds, phase.failed) for phase in result.phases] == [("connect", 2, False)]
    assert len(result.attempts) == 1


@pytest.mark.parametrize(
    ("failures", "attempts", "outcomes"),
    [
        (0, 3, [Outcome.UP]),
        (1, 3, [Outcome.DOWN, Outcome.UP]),
        (2, 3, [Outcome.DOWN, Outcome.DOWN, Outcome.UP]),
        (9, 3, [Outcome.DOWN, Outcome.DOWN, Outcome.DOWN]),
        (9, 1, [Outcome.DOWN]),
    ],
)
async def test_a_failure_is_confirmed_and_no_attempt_is_hidden(
    failures: int, attempts: int, outcomes: list[Outcome]
) -> None:
    """The last attempt decides; between the end of one and the start of the next lies `after`."""
    check = failing(failures, lambda: ProbeFailed(Reason.REFUSED, "no"))
    result, _ = await decide(check, confirm=Confirm(attempts=attempts, after=0.5))
    assert [attempt.outcome for attempt in result.attempts] == outcomes
    assert result.outcome is outcomes[-1]
    assert [attempt.started for attempt in result.attempts] == [1_000_001_000 + 2.5 * n for n in range(len(outcomes))]
    assert result.seconds == 2
    assert result.failed_phase == ("connect" if result.outcome is Outcome.DOWN else "")
    assert bool(result.measures) == (result.outcome is Outcome.UP)


async def test_a_broken_run_is_not_down() -> None:
    """We failed: no evidence about the target."""
    result, _ = await decide(failing(1, lambda: ProbeBroken(Reason.CREDENTIALS, "no token")))
    assert (result.outcome, result.reason, result.message) == (Outcome.BROKEN, Reason.CREDENTIALS, "no token")


async def test_the_deadline_is_down_as_timeout_and_names_the_phase() -> None:
    """The check is cancelled; what it had seen is kept."""
    cancelled = False

    async def check(watch: Watch) -> None:
        nonlocal cancelled
        watch.measure("seen", 1)
        with watch.phase("processing"):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled = True
                raise

    result, _ = await decide(check, timeout=0.05)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.TIMEOUT, "processing")
    assert result.message == "no answer from shop.test within 0.05 s in phase processing"
    assert cancelled
    assert [measure.name for measure in result.measures] == ["seen"]


@pytest.mark.parametrize(
    ("lag", "outcome", "reason"),
    [(0.4, Outcome.DOWN, Reason.TIMEOUT), (0.6, Outcome.BROKEN, Reason.RESOURCES)],
)
async def test_a_time_out_while_we_were_held_up_is_no_evidence(lag: float, outcome: Outcome, reason: Reason) -> None:
    """The answer may have been there, and nobody of us read it: no page for that, and it is told as our fault."""

    async def check(_watch: Watch) -> None:
        raise ProbeFailed(Reason.TIMEOUT, "no answer")

    probe = Probe(name="p", kind="test", target="shop.test", check=check, timeout=1.0)
    async with Resources() as resources:
        result = await run_once(probe, clock=HandClock(), resources=resources, worst_lag=lambda _since: lag)

    assert (outcome, reason) == (result.outcome, result.reason)


async def test_a_time_out_of_the_check_itself_is_not_taken_for_the_deadline() -> None:
    """Its own sentence stays."""
    result, _ = await decide(failing(1, lambda: TimeoutError("the greeting did not come")))
    assert (result.reason, result.message) == (Reason.TIMEOUT, "the greeting did not come")


async def test_cancelling_the_caller_cancels_the_run() -> None:
    """No result is made up."""
    began = asyncio.Event()

    async def check(_watch: Watch) -> None:
        began.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(decide(check))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_a_better_clock_says_is_believed() -> None:
    """`took` replaces our own measurement."""

    async def check(watch: Watch) -> None:
        await watch.clock.sleep_until(watch.clock.monotonic() + 3)
        watch.took(0.25)

    result, _ = await decide(check)
    assert (result.seconds, result.attempts[0].seconds) == (0.25, 0.25)


async def test_a_result_survives_being_written_and_read() -> None:
    """`as_json` and `from_json` are each other's inverse."""
    result, _ = await decide(failing(1, lambda: ProbeFailed(Reason.STATUS, "no")), confirm=Confirm(2, 1))
    assert Result.from_json(result.as_json()) == result


EXPLAINED: list[tuple[Exception, Outcome, Reason]] = [
    (ProbeFailed(Reason.STATUS, "x"), Outcome.DOWN, Reason.STATUS),
    (ProbeBroken(Reason.BROWSER, "x"), Outcome.BROKEN, Reason.BROWSER),
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Outcome.DOWN, Reason.DNS),
    (ssl.SSLCertVerificationError("x"), Outcome.DOWN, Reason.CERTIFICATE),
    (ssl.SSLError("x"), Outcome.DOWN, Reason.TLS),
    (TimeoutError(), Outcome.DOWN, Reason.TIMEOUT),
    (ConnectionRefusedError(errno.ECONNREFUSED, "x"), Outcome.DOWN, Reason.REFUSED),
    (ConnectionResetError(errno.ECONNRESET, "x"), Outcome.DOWN, Reason.RESET),
    (ConnectionAbortedError(errno.ECONNABORTED, "x"), Outcome.DOWN, Reason.RESET),
    (BrokenPipeError(errno.EPIPE, "x"), Outcome.DOWN, Reason.RESET),
    (OSError(errno.EHOSTUNREACH, "x"), Outcome.DOWN, Reason.UNREACHABLE),
    (OSError(errno.ETIMEDOUT, "x"), Outcome.DOWN, Reason.TIMEOUT),
    (OSError("something else"), Outcome.DOWN, Reason.UNREACHABLE),
    (OSError(errno.EMFILE, "x"), Outcome.BROKEN, Reason.RESOURCES),
    (OSError(errno.ENFILE, "x"), Outcome.BROKEN, Reason.RESOURCES),
    (OSError(errno.EADDRNOTAVAIL, "x"), Outcome.BROKEN, Reason.RESOURCES),
    (OSError(errno.ENETUNREACH, "x"), Outcome.BROKEN, Reason.NETWORK),
    (PermissionError(errno.EACCES, "x"), Outcome.BROKEN, Reason.INTERNAL),
    (KeyError("x"), Outcome.BROKEN, Reason.INTERNAL),
    (RecursionError(), Outcome.BROKEN, Reason.INTERNAL),
]


@pytest.mark.parametrize(("error", "outcome", "reason"), EXPLAINED, ids=repr)
async def test_every_exception_has_somebody_whose_fault_it_is(
    error: Exception, outcome: Outcome, reason: Reason
) -> None:
    """Errors about the target are down, errors about us are broken."""

    async def check(_watch: Watch) -> None:
        raise error

    result, _ = await decide(check)
    assert (result.outcome, result.reason) == (outcome, reason)
    assert result.message


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_no_error_of_the_system_is_left_without_an_explanation(number: int) -> None:
    """And its reason fits its outcome."""
    failure = explain(OSError(number, os.strerror(number)))
    assert isinstance(failure, ProbeBroken) == (failure.reason in BROKEN_REASONS)


def test_a_failure_cannot_be_given_a_reason_of_the_other_side() -> None:
    """Neither way."""
    with pytest.raises(ValueError, match="raise ProbeBroken"):
        ProbeFailed(Reason.RESOURCES, "x")
    with pytest.raises(ValueError, match="raise ProbeFailed"):
        ProbeBroken(Reason.TIMEOUT, "x")
