"""The life of one alert, as Prometheus has it: a pure step from where it stands to where it stands after an evaluation.

             met, for = 0
     ┌────────────────────────────┐
     │                            ▼
inactive ──met──▶ pending ──met for `lasting`──▶ firing ──not met──▶ resolved (= inactive from then on)
     ▲               │
     └───not met─────┘
"""

from typing import NamedTuple

from stormwatch.slo.alert import AlertState


class Standing(NamedTuple):
    """Where an alert stands: inactive, pending or firing, and since when its condition holds."""

    state: AlertState = AlertState.INACTIVE
    since: float = 0.0


def advance(standing: Standing, *, met: bool, now: float, lasting: float) -> Standing:
    """Where it stands after an evaluation at `now`. `resolved` is answered once, after firing; begin anew from inactive.

    `lasting` is Prometheus' `for` in seconds. As there, an alert without it is never seen pending, and moments are
    compared in whole milliseconds.
    """
    state, since = standing
    if state in {AlertState.INACTIVE, AlertState.RESOLVED}:
        if not met:
            return Standing()
        return Standing(AlertState.PENDING if lasting > 0 else AlertState.FIRING, now)
    if not met:
        return Standing(AlertState.RESOLVED, since) if state is AlertState.FIRING else Standing()
    if state is AlertState.PENDING and round((now - since) * 1000) >= round(lasting * 1000):
        return Standing(AlertState.FIRING, since)
    return standing
