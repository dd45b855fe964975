"""Rules: when an objective or a probe deserves an alert. One rule, two renderings: `Evaluator` and Prometheus YAML."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from stormwatch.slo.alert import Severity


@dataclass(frozen=True, slots=True)
class Windows:
    """A pair of windows: both must burn faster than `factor` times the sustainable rate. Seconds."""

    long: float
    short: float
    factor: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What every rule has. `lasting` is Prometheus' `for`: seconds that the condition must hold before it fires."""

    alertname: str
    severity: Severity
    lasting: float = 0.0
    keep: float = 0.0
    """Prometheus' `keep_firing_for`: seconds that it goes on firing after its condition ceased to be met."""
    muted_by: tuple[str, ...] = ()
    """Probes: while one of them is down, the condition counts as not met."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnRate(Common):
    """The error budget of an objective burns too fast: any of the pairs, both windows of it.

    SRE workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
    """

    objective: str
    pairs: tuple[Windows, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLeft(Common):
    """Less than `below` of an objective's budget is left in its window: deployments freeze."""

    objective: str
    below: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Down(Common):
    """A probe's last decided result is down (all of its confirming attempts failed). Pages in seconds, resolves at once."""

    probe: str
    quorum: int = 1
    """How many locations must see it down; with 1 it is ours alone that is asked."""
    due: float = math.inf
    """Seconds after which the last result of a location counts no more. Only with a quorum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationDown(Common):
    """One location sees a probe down, and too few others do: its own trouble, or that of the way from there."""

    probe: str
    location: str
    quorum: int
    due: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumDegraded(Common):
    """Fewer locations have a result that counts than the quorum asks for; then all that have one decide."""

    probe: str
    quorum: int
    due: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSilent(Common):
    """A location whose results we ask for has not answered for `after` seconds."""

    location: str
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NoEvidence(Common):
    """A probe gave no up or down result for `after` seconds: it is broken, stuck or not run. We would be blind."""

    probe: str
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiring(Common):
    """A certificate that a probe was shown expires in less than `within` seconds, or has expired."""

    probe: str
    within: float


OfProbe = Down | NoEvidence | Expiring | LocationDown | QuorumDegraded
"""Rules about one probe."""
Rule = BurnRate | BudgetLeft | OfProbe | PeerSilent
