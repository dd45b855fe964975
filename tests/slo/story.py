"""Probes, objectives and results for the tests of `slo`: a history is written as a string of signs."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from stormwatch.probes.probe import Confirm, Probe
from stormwatch.probes.result import Measure, Outcome, Reason, Result
from stormwatch.probes.watch import Watch
from stormwatch.slo.objective import Objective

START = 1_767_225_600.0
"""2026-01-01T00:00:00Z, at which all tests begin; virtual, like every moment after it."""

MINUTE, HOUR, DAY = 60, 3600, 86400

SIGNS = {
    "+": (Outcome.UP, Reason.NONE),
    "-": (Outcome.DOWN, Reason.TIMEOUT),
    "?": (Outcome.BROKEN, Reason.BROWSER),
    "o": (Outcome.UP, Reason.NONE),
    "n": (Outcome.UP, Reason.NONE),
    "x": (Outcome.DOWN, Reason.CERTIFICATE),
}
EXPIRIES = {"o": 1500.0, "x": 1500.0, "n": 1_000_000.0}
"""Unix time at which the certificate expires that a run saw: `o` and `x` an old one, `n` a new one, the others none."""


async def no_check(_watch: Watch) -> None:
    """These probes are never run."""


def probe(name: str = "front", **fields: Any) -> Probe:
    """A probe every 15 s that confirms a failure once."""
    defaults: dict[str, Any] = {"every": 15.0, "timeout": 5.0, "confirm": Confirm(attempts=2, after=1.0)}
    return Probe(
        **{"name": name, "kind": "http", "target": f"https://{name}.example/", "check": no_check} | defaults | fields
    )


def objective(name: str = "front-availability", **fields: Any) -> Objective:
    """99.9 % over 30 days, about `front`."""
    defaults: dict[str, Any] = {"probes": ("front",), "target": Fraction(999, 1000), "window": 30.0 * DAY}
    return Objective(**{"name": name} | defaults | fields)


def result(sign: str, at: float, *, name: str = "front", seconds: float = 0.125, location: str = "test") -> Result:
    """One result that was decided at `at`: `+` up, `-` down, `?` broken."""
    outcome, reason = SIGNS[sign]
    return Result(
        probe=name,
        kind="http",
        target=f"https://{name}.example/",
        location=location,
        started=at - seconds,
        seconds=seconds,
        outcome=outcome,
        reason=reason,
        message="" if outcome is Outcome.UP else f"{name} {reason.value} at {at:.0f}",
        measures=(Measure("probe_ssl_earliest_cert_expiry", EXPIRIES[sign]),) if sign in EXPIRIES else (),
    )


def results(signs: str, *, every: float = 15.0, first: float = START, name: str = "front") -> Iterator[Result]:
    """A history, one sign for each run; a `.` is a run that did not take place."""
    for number, sign in enumerate(signs):
        if sign != ".":
            yield result(sign, first + number * every, name=name)
