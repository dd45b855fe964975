"""A drill: which faults, what must be seen of it, what must stay silent, and how soon all must be well again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stormwatch.chaos.fault import FaultSpec
from stormwatch.probes.result import Reason


class Side(StrEnum):
    """Where a fault is put."""

    TARGET = "target"
    """On what clients share: detection and recovery are tested, and users notice."""
    PROBER = "prober"
    """On the way of the expected probe alone: only the detection is tested, and users never notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedProbe:
    """A probe that must turn red."""

    name: str
    reason: Reason | None = None
    """With this reason. None: any."""
    within: float = 60.0
    """Seconds after the injection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedAlert:
    """An alert with these labels must fire."""

    labels: Mapping[str, str]
    """Every label here must be equal; the alert may have more."""
    within: float = 90.0
    """Seconds after the injection."""
    delivered_within: float | None = None
    """Seconds after the injection in which the receiver at the end of the way is told. None: that is not asked."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is the expected one."""
        return all(labels.get(name) == value for name, value in self.labels.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One fault, or several at once, and the whole of what their detection must look like. Frozen: what was seen is a `Detection`."""

    name: str
    fault: FaultSpec
    beside: tuple[FaultSpec, ...] = ()
    """Further faults that are injected after it, and held as long."""
    probe: ExpectedProbe | None = None
    alert: ExpectedAlert | None = None
    resolves_within: float = 300.0
    """Seconds after the fault was taken back in which the probe is green and the alert resolved."""
    allow: tuple[str, ...] = ()
    """Names of objectives and probes whose alerts may fire too, and names of alerts. Every other must stay silent."""
    abort_on_unexpected: bool = False
    """End the drill at once when a page fires that is neither expected nor allowed."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """For people and reports: team, service."""
    side: Side = Side.TARGET
    """With `prober` the fault's target is the expected probe itself."""

    def __post_init__(self) -> None:
        if self.probe is None and self.alert is None:
            raise ValueError(f"drill {self.name} expects nothing: name a probe that must fail, an alert, or both")
        if len(set(map(str, self.faults))) < len(self.faults):
            raise ValueError(f"drill {self.name} puts one fault on one target twice ({self.what}): leave one out")

    @property
    def faults(self) -> tuple[FaultSpec, ...]:
        """All that is done, in the order in which it is."""
        return (self.fault, *self.beside)

    @property
    def what(self) -> str:
        """All that is done, for people."""
        return " beside ".join(map(str, self.faults))

    def expects(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is the expected one."""
        return self.alert is not None and self.alert.matches(labels)

    def tolerates(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert may fire beside the expected one.

        Allowed are the names in `allow`, and the other alerts of the very probe and objective that are expected to
        fail: a probe that must turn red is not noise when its own alert says so.
        """
        names = {labels.get("objective"), labels.get("probe"), labels.get("alertname")} - {None, ""}
        expected = {self.probe.name} if self.probe else set[str]()
        if self.alert:
            expected |= {self.alert.labels.get("objective", ""), self.alert.labels.get("probe", "")} - {""}
        return bool(names & (expected | set(self.allow)))

    def as_json(self) -> dict[str, Any]:
        """A JSON object, seconds as numbers; `from_json` reads it back equal."""
        return {
            "name": self.name,
            "fault": self.fault.as_json(),
            "beside": [one.as_json() for one in self.beside],
            "probe": self.probe
            and {
                "name": self.probe.name,
                "reason": self.probe.reason.value if self.probe.reason else None,
                "within": self.probe.within,
            },
            "alert": self.alert
            and {
                "labels": dict(self.alert.labels),
                "within": self.alert.within,
                "delivered_within": self.alert.delivered_within,
            },
            "resolves_within": self.resolves_within,
            "allow": list(self.allow),
            "abort_on_unexpected": self.abort_on_unexpected,
            "labels": dict(self.labels),
            "side": self.side.value,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Drill":
        """Read what `as_json` wrote. Raises KeyError or ValueError for anything else."""
        probe, alert = document["probe"], document["alert"]
        return cls(
            name=document["name"],
            fault=FaultSpec.from_json(document["fault"]),
            beside=tuple(FaultSpec.from_json(one) for one in document.get("beside", ())),
            probe=ExpectedProbe(
                name=probe["name"],
                reason=Reason(probe["reason"]) if probe["reason"] else None,
                within=probe["within"],
            )
            if probe
            else None,
            alert=ExpectedAlert(
                labels=alert["labels"], within=alert["within"], delivered_within=alert.get("delivered_within")
            )
            if alert
            else None,
            resolves_within=document["resolves_within"],
            allow=tuple(document["allow"]),
            abort_on_unexpected=document["abort_on_unexpected"],
            labels=document["labels"],
            side=Side(document.get("side", Side.TARGET)),
        )
