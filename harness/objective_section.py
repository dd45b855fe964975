"""`objectives:` and `maintenance:` in the configuration: promises about probes, and when they do not count."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stormwatch.harness.document import Place
from stormwatch.harness.draft import Draft
from stormwatch.harness.entry import MaintenanceEntry, ObjectiveEntry
from stormwatch.harness.form import show
from stormwatch.harness.probe_section import ProbeSection
from stormwatch.harness.remedy import did_you_mean
from stormwatch.probes.probe import Probe
from stormwatch.probes.units import show_duration
from stormwatch.slo.maintenance import Maintenance
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import POLICIES, RESULTS_TO_FILL

RESULTS = 3 * RESULTS_TO_FILL
"""Results that the window of an objective must hold: fewer, and no rule can tell a burn from a blip."""

_STANDSTILL = re.compile(r"INTERVAL=0+(?!\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ObjectiveSection:
    """The objectives that are right, and the names of all."""

    objectives: Mapping[str, Objective]
    policies: Mapping[str, str]
    places: Mapping[str, Place]
    """Where each objective stands, by its name, also those with mistakes in them."""


def read_objectives(draft: Draft, data: Any, probes: ProbeSection) -> ObjectiveSection:
    """Read the section; every mistake in it is complained about."""
    named: dict[Place, str] = {}
    places: dict[str, Place] = {}
    objectives: dict[str, Objective] = {}
    policies: dict[str, str] = {}
    for place, item in draft.items(data, ("objectives",)):
        if isinstance(name := item.get("name"), str):
            named[place] = name
            places.setdefault(name, place)
        judged = _judged(draft, item, place, probes)
        entry = draft.read(ObjectiveEntry, item, place)
        if entry is None:
            continue
        sound = _check_policy(draft, entry, place)
        sound &= _check_target(draft, entry, place)
        known = [probes.probes[name] for name in judged if name in probes.probes]
        sound &= _check_slower_than(draft, entry, place, known)
        if len(known) == len(judged):
            sound &= _check_window(draft, entry, place, known)
        if not sound or not judged or entry.name in objectives:
            continue
        policies[entry.name] = entry.policy
        objectives[entry.name] = Objective(
            name=entry.name,
            probes=judged,
            target=entry.target,
            window=entry.window,
            slower_than=entry.slower_than,
            labels=entry.labels,
            runbook=entry.runbook,
        )
    draft.unique(named, "objective")
    return ObjectiveSection(objectives, policies, places)


def read_maintenance(draft: Draft, data: Any, probes: ProbeSection) -> tuple[Maintenance, ...]:
    """Read the section; every mistake in it is complained about."""
    windows: list[Maintenance] = []
    for place, item in draft.items(data, ("maintenance",)):
        if isinstance(match := item.get("match"), dict):
            match_probes(draft, match, (*place, "match"), probes)
        entry = draft.read(MaintenanceEntry, item, place)
        if entry is None:
            continue
        if _STANDSTILL.search(entry.rrule):
            draft.complain((*place, "rrule"), "INTERVAL=0 never comes to an end; write INTERVAL=1, or leave it out")
            continue
        try:
            windows.append(Maintenance(match=entry.match, rrule=entry.rrule, duration=entry.duration))
        except (ValueError, ArithmeticError) as error:
            draft.complain((*place, "rrule"), str(error))
    return tuple(windows)


def match_probes(draft: Draft, match: Mapping[str, Any], place: Place, probes: ProbeSection) -> tuple[str, ...]:
    """Names of the probes that a match selects. Complains when there are none, and says which label is to blame."""
    selected = probes.matching(match)
    if selected or not all(isinstance(value, str) for value in match.values()):
        return selected
    for name, value in match.items():
        values = {str(labels[name]): None for labels in probes.labels.values() if name in labels}
        if value in values:
            continue
        labels = dict.fromkeys(label for labels in probes.labels.values() for label in labels)
        seen = (
            f"no probe has {name}: {value}; {did_you_mean(value, values)}"
            if values
            else f"no probe has a label {name}; {did_you_mean(name, labels)}"
        )
        draft.complain((*place, name), seen)
        return ()
    draft.complain(place, f"no probe has all of {_written(match)}; label one so, or match fewer labels")
    return ()


def _judged(draft: Draft, item: Mapping[str, Any], place: Place, probes: ProbeSection) -> tuple[str, ...]:
    probe, match = item.get("probe"), item.get("match")
    if ("probe" in item) == ("match" in item):
        seen = (
            "probe and match are both given; give one of them"
            if "probe" in item
            else "probe is missing; add `probe:` or `match:`"
        )
        draft.complain((*place, "match") if "probe" in item else place, seen)
        return ()
    if isinstance(probe, str):
        return (probe,) if draft.refer(probe, probes.places, (*place, "probe"), "probe") else ()
    if isinstance(match, dict) and not match:
        draft.complain((*place, "match"), "an empty match is about nothing in particular; name a label")
        return ()
    return match_probes(draft, match, (*place, "match"), probes) if isinstance(match, dict) else ()


def _check_policy(draft: Draft, entry: ObjectiveEntry, place: Place) -> bool:
    if entry.policy not in POLICIES:
        draft.complain(
            (*place, "policy"), f"no policy is called {entry.policy}; {did_you_mean(entry.policy, POLICIES)}"
        )
    return entry.policy in POLICIES


def _check_target(draft: Draft, entry: ObjectiveEntry, place: Place) -> bool:
    if entry.target == 1:
        draft.complain(
            (*place, "target"), "100% leaves no budget, so the first failure ends it; promise less, like 99.9%"
        )
    elif entry.target == 0:
        draft.complain((*place, "target"), "0% promises nothing; promise more, like 99.9%")
    return 0 < entry.target < 1


def _check_slower_than(draft: Draft, entry: ObjectiveEntry, place: Place, judged: list[Probe]) -> bool:
    longest = max((probe.timeout for probe in judged), default=math.inf)
    if entry.slower_than is None or entry.slower_than < longest:
        return True
    draft.complain(
        (*place, "slower_than"),
        f"no run is slower than {show_duration(entry.slower_than)}, because timeout {show_duration(longest)} "
        "ends it; give less",
    )
    return False


def _check_window(draft: Draft, entry: ObjectiveEntry, place: Place, judged: list[Probe]) -> bool:
    """A burn rate is seen in a window of two results and one of three times its length."""
    rate = sum(1 / probe.every for probe in judged)
    if not judged or entry.window * rate >= RESULTS:
        return True
    every = f"one every {show_duration(1 / rate)}"
    draft.complain(
        (*place, "window"),
        f"a window of {show_duration(entry.window)} holds fewer than {RESULTS} results, with {every}; "
        "lengthen it, or run the probe more often",
    )
    return False


def _written(match: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value if isinstance(value, str) else show(value)}" for name, value in match.items())
