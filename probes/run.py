"""The one place where a run becomes a Result: clock, deadline, attempts, and whose fault it was."""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from stormwatch.probes.clock import Clock
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain
from stormwatch.probes.probe import Probe
from stormwatch.probes.reach import ANYWHERE, Reach
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Attempt, Measure, Outcome, Reason, Result
from stormwatch.probes.watch import Watch

OURS = 0.5
"""Share of the time-out that the event loop may run late before a time-out counts as our fault and not the target's."""


def new_trace_id() -> str:
    """A random W3C trace id: 32 hexadecimal digits."""
    return secrets.token_hex(16)


async def run_once(
    probe: Probe,
    *,
    clock: Clock,
    resources: Resources,
    late: float = 0.0,
    queued: float = 0.0,
    worst_lag: Callable[[float], float] = lambda _since: 0.0,
    trace_id: Callable[[], str] = new_trace_id,
    reach: Reach = ANYWHERE,
    mask: Callable[[Any], Any] | None = None,
) -> Result:
    """Run a probe, with its confirming attempts, and decide.

    `late` is how many seconds after its scheduled moment it starts, `queued` how many of them it waited for its turn. `worst_lag(since)` answers by how much the event
    loop ran late since that moment of the monotonic clock, in seconds. `reach` is where it may connect to. `mask` takes secrets out of
    any JSON value: whatever a target echoed leaves here without them.

    Never raises for anything that the target or the check does; cancelling the caller cancels the run.
    """
    began, started, trace = clock.monotonic(), clock.now(), trace_id()
    attempts: list[Attempt] = []
    while True:
        watch = Watch(
            clock=clock, resources=resources, timeout=probe.timeout, probe=probe.name, trace_id=trace, reach=reach
        )
        attempt = await _attempt(probe, watch, worst_lag=worst_lag)
        if mask is not None:
            attempt = replace(attempt, message=mask(attempt.message))
        attempts.append(attempt)
        if attempt.outcome is Outcome.UP or len(attempts) >= probe.confirm.attempts:
            break
        await clock.sleep_until(clock.monotonic() + probe.confirm.after)
    return Result(
        probe=probe.name,
        kind=probe.kind,
        target=probe.target,
        location=probe.location,
        started=started,
        seconds=attempt.seconds,
        outcome=attempt.outcome,
        reason=attempt.reason,
        message=attempt.message,
        failed_phase="" if attempt.outcome is Outcome.UP else watch.failed_phase,
        phases=attempt.phases,
        measures=tuple(watch.measures) if mask is None else tuple(_without_secrets(watch.measures, mask)),
        evidence=watch.evidence if mask is None else mask(watch.evidence),
        trace_id=trace,
        attempts=tuple(attempts),
        timeout=probe.timeout,
        late=late,
        queued=queued,
        loop_lag=worst_lag(began),
    )


def _without_secrets(measures: Iterable[Measure], mask: Callable[[Any], Any]) -> Iterator[Measure]:
    for measure in measures:
        yield replace(measure, labels=mask(measure.labels)) if measure.labels else measure


async def _attempt(probe: Probe, watch: Watch, *, worst_lag: Callable[[float], float]) -> Attempt:
    started = watch.clock.now()
    outcome, reason, message = Outcome.UP, Reason.NONE, ""
    deadline = asyncio.timeout(probe.timeout)
    try:
        async with deadline:
            await probe.check(watch)
    except Exception as error:  # noqa: BLE001 - whatever a check lets through is explained, never lost
        if isinstance(error, TimeoutError) and deadline.expired():
            where = f" in phase {watch.failed_phase}" if watch.failed_phase else ""
            failure = ProbeFailed(Reason.TIMEOUT, f"no answer from {probe.target} within {probe.timeout:g} s{where}")
        else:
            failure = explain(error)
        lag = worst_lag(watch.began)
        if failure.reason is Reason.TIMEOUT and lag > OURS * probe.timeout:
            # The answer may have been there while we were too late to read it: that is no evidence about the target.
            failure = ProbeBroken(
                Reason.RESOURCES,
                f"the prober itself was held up for {lag:.2g} s of the {probe.timeout:g} s that the run may take: "
                "it is overloaded, give it more CPU or fewer probes",
            )
        outcome = Outcome.BROKEN if isinstance(failure, ProbeBroken) else Outcome.DOWN
        reason, message = failure.reason, failure.message
        watch.failed_phase = failure.phase or watch.failed_phase
    return Attempt(
        started=started,
        seconds=watch.seconds(),
        outcome=outcome,
        reason=reason,
        message=message,
        phases=tuple(watch.phases),
    )
