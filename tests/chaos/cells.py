"""Cells of a matrix and what was seen of them, as short as they can be told. Times are seconds after the injection."""

from typing import Any

from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.matrix import Outcome
from stormwatch.chaos.matrix_cell import Alarm, Catcher, Cell, Red, Sight
from stormwatch.probes.result import Reason

ZERO = 1_700_000_000.0


def labels(probe: str, name: str = "ProbeDown", severity: str = "page") -> dict[str, str]:
    """An alert of a probe."""
    return {"alertname": name, "probe": probe, "severity": severity}


def cell(kind: str = "tcp-reset", target: str = "payments", *, probes: tuple[str, ...] = ("pay",), **more: Any) -> Cell:
    """A fault on what these probes depend on; each has an alert that takes at most 10 s."""
    options = more.pop("options", {})
    return Cell(
        **{
            "name": f"{target}/{kind}",
            "fault": FaultSpec.from_json({"kind": kind, "target": target, **options}),
            "probes": probes,
            "subjects": probes,
            "catchers": tuple(Catcher(labels=labels(one), within=10.0, recovers=8.0) for one in probes),
            "limit": 10.0,
            "recovers": 8.0,
            **more,
        }
    )


def alarm(probe: str = "pay", after: float = 3.0, **more: Any) -> Alarm:
    """An alert fired."""
    return Alarm(labels=labels(probe), after=after, **more)


def red(probe: str = "pay", after: float = 2.0) -> Red:
    """A probe was down."""
    return Red(probe=probe, reason=Reason.RESET, message="the connection was reset", after=after)


TOUCHED = Evidence(connections=3, bytes=900, first=ZERO + 0.5, last=ZERO + 9)


def sight(*alarms: Alarm, **more: Any) -> Sight:
    """All went well, but for what is given: touched, watched to the end, well again."""
    return Sight(
        **{
            "started": ZERO,
            "took": 12.0,
            "watched": 10.0,
            "held": 10.0,
            "recovered": 2.0,
            "evidence": TOUCHED,
            "alarms": alarms,
            **more,
        }
    )


def outcome(name: str, *caught: str, target: str = "payments", **more: Any) -> Outcome:
    """A cell that these probes' alerts told of; of none: nobody."""
    known = cell(target=target, probes=("pay", "shop", "front"), name=f"{target}/{name}")
    return Outcome(cell=known, sight=sight(*(alarm(one) for one in caught), **more))
