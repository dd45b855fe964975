"""What recorded runs would have come to with another probe, as far as their records show.

A run is down for the first expectation that does not hold. Without that one it counts as up here: what else was wrong with
the answer was not written down. So a drill that this turns green was seen by that expectation and by no other that is known.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from stormwatch.probes.probe import Probe
from stormwatch.probes.result import Attempt, Outcome, Reason, Result

Place = tuple[str | int, ...]
"""Keys and indices inside a section of the configuration."""

_OPPOSITE = frozenset({"refused", "unresolved", "tls_rejected", "addresses_up"})
"""Expectations that change what a run is, rather than judge it: nothing that was seen tells what it would be without them."""
_ONE_BY_ONE = frozenset({"body_matches", "body_not_matches", "cel", "cel_not", "json", "headers", "phases"})
"""Expectations that are several: each item is one of its own."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """One thing that a probe asks of an answer."""

    probe: str
    place: Place
    """Where it stands in the probe's entry: `("http", "expect", "status")`."""
    name: str
    """For people: `expect.body_matches "Add to cart"`."""
    reasons: frozenset[Reason]
    """Those with which a run is down when it does not hold."""
    told: tuple[str, ...]
    """Texts of which a message has one when it does not hold. Empty: the reason alone says so."""

    def failed(self, attempt: Attempt) -> bool:
        """Whether this is what was wrong."""
        if attempt.outcome is not Outcome.DOWN or attempt.reason not in self.reasons:
            return False
        return not self.told or any(text in attempt.message for text in self.told)


@dataclass(frozen=True, slots=True)
class Without:
    """Runs of a probe that does not ask for something any more."""

    expectation: Expectation

    def __call__(self, result: Result) -> Result:
        """The run as it would have been."""
        if result.probe != self.expectation.probe or result.outcome is not Outcome.DOWN:
            return result
        attempts = _attempts(result)
        fine = [_fine(each) if self.expectation.failed(each) else each for each in attempts]
        return result if fine == attempts else _decided(result, fine)


@dataclass(frozen=True, slots=True)
class SlowerThan:
    """Runs of a probe whose `slower_than` is another."""

    probe: str
    limit: float
    """Seconds."""

    def __call__(self, result: Result) -> Result:
        """The run as it would have been."""
        if result.probe != self.probe:
            return result
        attempts = _attempts(result)
        judged = [self._judge(each) for each in attempts]
        return result if judged == attempts else _decided(result, judged)

    def _judge(self, attempt: Attempt) -> Attempt:
        if attempt.outcome is Outcome.UP and attempt.seconds > self.limit:
            message = f"took {attempt.seconds:g} s, wanted at most {self.limit:g} s"
            return replace(attempt, outcome=Outcome.DOWN, reason=Reason.TOO_SLOW, message=message)
        slow = attempt.outcome is Outcome.DOWN and attempt.reason is Reason.TOO_SLOW
        return _fine(attempt) if slow and attempt.seconds <= self.limit else attempt


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Runs of a probe that looks more or less often before it is down. A further look sees what the last one saw."""

    probe: str
    attempts: int
    after: float
    """Seconds between two attempts."""

    def __call__(self, result: Result) -> Result:
        """The run as it would have been."""
        if result.probe != self.probe or not result.attempts:
            return result
        attempts = list(result.attempts[: self.attempts])
        while len(attempts) < self.attempts and attempts[-1].outcome is not Outcome.UP:
            last = attempts[-1]
            attempts.append(replace(last, started=last.started + last.seconds + self.after))
        return result if attempts == list(result.attempts) else _decided(result, attempts)


def expectations_of(probe: Probe) -> Iterator[Expectation]:
    """What a probe asks of answers, one by one, as far as a record tells which of them did not hold."""
    expect = getattr(probe.settings, "expect", None)
    if expect is None or not is_dataclass(expect):
        return
    written = [(name, place, value) for name, place, value in _written(expect) if name not in _OPPOSITE]
    for name, place, value in written:
        reasons = _reasons(name)
        alone = sum(bool(_reasons(other) & reasons) for other, _, _ in written) == 1
        told = () if alone or name == "status" else tuple(_texts(name, place, value))
        if not (alone or told or name == "status"):
            continue
        yield Expectation(
            probe=probe.name,
            place=(probe.kind, "expect", *place),
            name=_shown(place, value),
            reasons=reasons,
            told=told,
        )


def slower_than_of(probe: Probe) -> float | None:
    """The seconds after which a probe is down for being slow; None: it is not asked."""
    return getattr(getattr(probe.settings, "expect", None), "slower_than", None)


def _written(expect: Any) -> Iterator[tuple[str, Place, Any]]:
    nothing = type(expect)()
    for each in fields(expect):
        value = getattr(expect, each.name)
        if value == getattr(nothing, each.name) and each.name != "status":
            continue
        if each.name in _ONE_BY_ONE and isinstance(value, tuple):
            yield from ((each.name, (each.name, number), one) for number, one in enumerate(value))
        elif each.name in _ONE_BY_ONE and isinstance(value, Mapping):
            yield from ((each.name, (each.name, key), one) for key, one in value.items())
        else:
            yield each.name, (each.name,), value


def _reasons(name: str) -> frozenset[Reason]:
    if name == "status":
        return frozenset({Reason.STATUS})
    if name in {"slower_than", "phases"}:
        return frozenset({Reason.TOO_SLOW})
    if name.endswith("certificate_expires_within"):
        return frozenset({Reason.CERTIFICATE})
    return frozenset({Reason.ASSERTION})


def _texts(name: str, place: Place, value: Any) -> Iterator[str]:
    """What a message has when it does not hold: the value as it was written, the header's or the phase's name."""
    if name == "headers":
        yield f"header {place[-1]}:"
    elif name == "phases":
        yield f"phase {place[-1]} took"
    elif isinstance(value, str):
        yield repr(value)
    elif is_dataclass(value):
        yield from (text for each in fields(value) if isinstance(text := getattr(value, each.name), str) and text)
    elif isinstance(value, tuple):
        yield from (repr(one) for one in value if isinstance(one, str))


def _shown(place: Place, value: Any) -> str:
    told = ".".join(str(part) for part in place if isinstance(part, str))
    return f"expect.{told} {value!r}" if isinstance(value, str) else f"expect.{told}"


def _attempts(result: Result) -> list[Attempt]:
    if result.attempts:
        return list(result.attempts)
    return [
        Attempt(
            started=result.started,
            seconds=result.seconds,
            outcome=result.outcome,
            reason=result.reason,
            message=result.message,
            phases=result.phases,
        )
    ]


def _fine(attempt: Attempt) -> Attempt:
    return replace(attempt, outcome=Outcome.UP, reason=Reason.NONE, message="")


def _decided(result: Result, attempts: Sequence[Attempt]) -> Result:
    """The run with these attempts: the first that is up ends it."""
    first = next((number for number, each in enumerate(attempts) if each.outcome is Outcome.UP), len(attempts) - 1)
    made = tuple(attempts[: first + 1])
    last = made[-1]
    return replace(
        result,
        seconds=last.seconds,
        outcome=last.outcome,
        reason=last.reason,
        message=last.message,
        failed_phase="" if last.outcome is Outcome.UP else result.failed_phase,
        phases=last.phases,
        attempts=made,
    )
