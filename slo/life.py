"""The life of one alert, as Prometheus has it: a pure step from where it stands to where it stands after an evaluation.

             met, for = 0
     ┌────────────────────────────┐
     │                            ▼
inactive ──met──▶ pending ──met for `lasting`──▶ firing ──not met for `keep`──▶ resolved (= inactive from then on)
     ▲               │
     └───not met─────┘
"""

from typing import NamedTuple

from stormwatch.slo.alert import AlertState


class Standing(NamedTuple):
    """Where an alert stands: inactive, pending or firing, and since when its condition holds."""

    state: AlertState = AlertState.INACTIVE
    since: float = 0.0
    kept: float | None = None
    """Since when it only goes on firing because it is kept: the first evaluation that did not find its condition met."""


def advance(standing: Standing, *, met: bool, now: float, lasting: float, keep: float = 0.0) -> Standing:
    """Where it stands after an evaluation at `now`. `resolved` is answered once, after firing; begin anew from inactive.

    `lasting` is Prometheus' `for` in seconds, `keep` its `keep_firing_for`. As there, an alert without a `for` is never seen
    pending, a condition that is met again while it is kept begins the keeping anew, and moments are compared in whole
    milliseconds.
    """
    state, since, kept = standing
    if state in {AlertState.INACTIVE, AlertState.RESOLVED}:
        if not met:
            return Standing()
        return Standing(AlertState.PENDING if lasting > 0 else AlertState.FIRING, now)
    if not met:
        if state is AlertState.PENDING:
            return Standing()
        kept = now if kept is None else kept
        over = round((now - kept) * 1000) >= round(keep * 1000)
        return Standing(AlertState.RESOLVED, since) if over else Standing(state, since, kept)
    if state is AlertState.PENDING and round((now - since) * 1000) >= round(lasting * 1000):
        return Standing(AlertState.FIRING, since)
    return Standing(state, since)
