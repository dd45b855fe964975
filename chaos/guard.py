"""The guard: what drills may break here, how much of it, when, and with how much budget left. Pure, asked before each drill."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

from stormwatch.chaos.drill import Drill, Side
from stormwatch.exporters.hours import Hours
from stormwatch.probes.units import show_ratio
from stormwatch.slo.alert import Severity
from stormwatch.slo.objective import Objective

_GRAVEST_FIRST: Final = tuple(Severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What is allowed. Every default allows everything, so that a guard says only what it is for."""

    environment: str = ""
    """Which environment this is; empty: nobody said."""
    environments: tuple[str, ...] = ()
    """Where drills may run. Empty: anywhere."""
    targets: tuple[str, ...] = ("*",)
    """Patterns (`*`, `?`, `[…]`) of the routes and targets that may be broken."""
    hours: Hours | None = None
    """When drills may begin. None: at any time."""
    budget_floor: Fraction | None = None
    """The share of its error budget that every objective must have left which a drill touches."""
    most_targets: int | None = None
    """How many different targets the drills of one command may break."""
    most_traffic: Fraction = Fraction(1)
    """The largest share of a target's traffic that a fault may be meant for."""
    abort_on: Severity | None = None
    """An unexpected alert of this severity or a graver one ends a drill at once."""
    protect: tuple[str, ...] = ()
    """Patterns of probes that must stay up: when one turns red, the drill ends at once."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object, for readers."""
        return {
            "environment": self.environment,
            "environments": list(self.environments),
            "targets": list(self.targets),
            "hours": dict(self.hours.as_interval()) if self.hours else None,
            "budget_floor": None if self.budget_floor is None else show_ratio(self.budget_floor),
            "blast_radius": {"targets": self.most_targets, "share": show_ratio(self.most_traffic)},
            "abort_on": self.abort_on and self.abort_on.value,
            "protect": list(self.protect),
        }

    def aborts_on(self, severity: str | None) -> bool:
        """Whether an unexpected alert with this label `severity` ends a drill; one without is as bad as any."""
        if self.abort_on is None:
            return False
        known = {one.value: rank for rank, one in enumerate(_GRAVEST_FIRST)}
        return known.get(severity or "", 0) <= known[self.abort_on.value]

    def protects(self, probe: str) -> bool:
        """Whether a probe is one that must stay up."""
        return any(fnmatchcase(probe, pattern) for pattern in self.protect)


Budgets = Mapping[str, Fraction | None]
"""The share of its error budget that each objective has left; None: it has not counted anything."""


def refusals(guard: Guard, drills: Sequence[Drill], *, now: float, budgets: Budgets | None = None) -> tuple[str, ...]:
    """Why these drills may not run, one sentence with its remedy each; empty: they may.

    `now` is in Unix time. `budgets` are those of the objectives that the drills touch; None leaves the floor out of it,
    which is for plans and never for what is going to inject. Faults on the prober's side break nothing that clients use:
    of them it is not asked what and how much they break.
    """
    shared = [drill for drill in drills if drill.side is not Side.PROBER]
    return (
        *_of_environment(guard),
        *_of_hours(guard, now),
        *_of_targets(guard, shared),
        *_of_blast_radius(guard, shared),
        *_of_protected(guard, drills),
        *(_of_budgets(guard, budgets) if budgets is not None else ()),
    )


def touched(drill: Drill, objectives: Iterable[Objective]) -> tuple[str, ...]:
    """The objectives that a drill may cost some of their budget: what it expects, and what it allows to fire."""
    names = {drill.probe.name} if drill.probe else set[str]()
    names |= {drill.alert.labels.get("objective", ""), drill.alert.labels.get("probe", "")} if drill.alert else set()
    names |= set(drill.allow)
    return tuple(one.name for one in objectives if one.name in names or names & set(one.probes))


def _of_environment(guard: Guard) -> Iterable[str]:
    allowed = ", ".join(guard.environments)
    if not guard.environments or guard.environment in guard.environments:
        return
    if not guard.environment:
        yield (
            f"drills may run in {allowed}, and nobody says which environment this is; "
            "write `environment:` under `guard:`, or give --environment"
        )
    else:
        yield f"this is {guard.environment}, and drills may run in {allowed} only; run them there"


def _of_hours(guard: Guard, now: float) -> Iterable[str]:
    hours = guard.hours
    if hours is None or hours.open_at(now):
        return
    zone = ZoneInfo(hours.timezone)
    shown = [datetime.fromtimestamp(at, zone).strftime("%A %H:%M") for at in (now, hours.next_open(now))]
    yield f"it is {shown[0]} ({hours.timezone}), outside the hours of drills; they begin again on {shown[1]}"


def _of_targets(guard: Guard, drills: Sequence[Drill]) -> Iterable[str]:
    for drill in drills:
        for target in dict.fromkeys(fault.target for fault in drill.faults):
            if not any(fnmatchcase(target, pattern) for pattern in guard.targets):
                yield (
                    f"{drill.name}: {target} is none of the targets that may be broken ({', '.join(guard.targets)}); "
                    "choose another one, or add it under `guard: targets:`"
                )


def _of_blast_radius(guard: Guard, drills: Sequence[Drill]) -> Iterable[str]:
    targets = tuple(dict.fromkeys(fault.target for drill in drills for fault in drill.faults))
    if guard.most_targets is not None and len(targets) > guard.most_targets:
        yield (
            f"these drills break {len(targets)} targets ({', '.join(targets)}), and the blast radius allows "
            f"{guard.most_targets}; name fewer drills"
        )
    for drill in drills:
        for fault in drill.faults:
            meant = getattr(fault.options, "share", Fraction(1))
            if isinstance(meant, Fraction) and meant > guard.most_traffic:
                remedy = (
                    f"give it `share: {show_ratio(guard.most_traffic)}`"
                    if hasattr(fault.options, "share")
                    else "choose a fault with an option `share`"
                )
                yield (
                    f"{drill.name}: {fault.kind} is meant for {show_ratio(meant)} of the traffic of "
                    f"{fault.target}, and the blast radius allows {show_ratio(guard.most_traffic)}; {remedy}"
                )


def _of_protected(guard: Guard, drills: Sequence[Drill]) -> Iterable[str]:
    for drill in drills:
        if drill.probe and guard.protects(drill.probe.name):
            yield (
                f"{drill.name}: it wants {drill.probe.name} to turn red, which `guard: protect:` forbids; "
                "expect another probe, or protect fewer"
            )


def _of_budgets(guard: Guard, budgets: Budgets) -> Iterable[str]:
    if guard.budget_floor is None:
        return
    floor = show_ratio(guard.budget_floor)
    for objective, left in budgets.items():
        if left is None:
            yield (
                f"{objective} has no results in its window, so it is not known whether {floor} of its budget is left; "
                "let `stormwatch run` watch it first"
            )
        elif left < guard.budget_floor:
            state = (
                f"{float(left):.1%} of its budget left" if left >= 0 else f"overspent its budget by {float(-left):.1%}"
            )
            yield f"{objective} has {state}, and drills want {floor}; wait until it has recovered"
