"""`objectives:` and `maintenance:` in the configuration: promises about probes, and when they do not count."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from stormwatch.harness.document import Place
from stormwatch.harness.draft import Draft
from stormwatch.harness.entry import BurnEntry, MaintenanceEntry, ObjectiveEntry
from stormwatch.harness.form import show
from stormwatch.harness.probe_section import Kinds, ProbeSection
from stormwatch.harness.remedy import did_you_mean
from stormwatch.probes.probe import Probe
from stormwatch.probes.units import show_duration
from stormwatch.slo.alert import Severity
from stormwatch.slo.calendar import NOMINAL, Calendar
from stormwatch.slo.maintenance import Maintenance
from stormwatch.slo.objective import EXPIRY, Objective, Slices
from stormwatch.slo.policy import DEFAULT_POLICY, POLICIES, RESULTS_TO_FILL, STEPS, Burn

RESULTS = 3 * RESULTS_TO_FILL
"""Results that the window of an objective must hold: fewer, and no rule can tell a burn from a blip."""

SLICE = 60.0
"""Seconds of a time slice that does not say how long it is."""
SLICE_TARGET = Fraction(95, 100)
"""Share of its results that makes it good, where nothing is said."""

_STANDSTILL = re.compile(r"INTERVAL=0+(?!\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ObjectiveSection:
    """The objectives that are right, and the names of all."""

    objectives: Mapping[str, Objective]
    policies: Mapping[str, str]
    burns: Mapping[str, tuple[Burn, ...]]
    """Burn-rate rules of their own, of those that have some."""
    places: Mapping[str, Place]
    """Where each objective stands, by its name, also those with mistakes in them."""


def read_objectives(draft: Draft, data: Any, probes: ProbeSection, kinds: Kinds) -> ObjectiveSection:
    """Read the section; every mistake in it is complained about."""
    named: dict[Place, str] = {}
    places: dict[str, Place] = {}
    objectives: dict[str, Objective] = {}
    policies: dict[str, str] = {}
    burns: dict[str, tuple[Burn, ...]] = {}
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
        sound &= _check_indicator(draft, entry, place, known, kinds)
        sound &= _check_slices(draft, entry, place, known)
        sound &= _check_burns(draft, entry, place)
        if entry.timezone != "UTC" and not isinstance(entry.window, str):
            draft.complain(
                (*place, "timezone"), "only a window of the calendar has a time zone: window: week, month or quarter"
            )
            sound = False
        if not sound or not judged or entry.name in objectives:
            continue
        objective = _objective(entry, judged)
        if len(known) == len(judged) and not _check_window(draft, objective, place, known):
            continue
        policies[entry.name] = entry.policy
        burns[entry.name] = tuple(_burn(each) for each in entry.burns)
        objectives[entry.name] = objective
    draft.unique(named, "objective")
    return ObjectiveSection(objectives, policies, burns, places)


def _objective(entry: ObjectiveEntry, judged: tuple[str, ...]) -> Objective:
    calendar = Calendar(entry.window, entry.timezone) if isinstance(entry.window, str) else None
    sliced = entry.method == "timeslices"
    return Objective(
        name=entry.name,
        probes=judged,
        target=entry.target,
        window=NOMINAL[entry.window] if isinstance(entry.window, str) else entry.window,
        calendar=calendar,
        slices=Slices(entry.slice or SLICE, entry.slice_target or SLICE_TARGET) if sliced else None,
        slower_than=entry.slower_than,
        step=entry.step,
        expires_within=entry.certificate_expires_within,
        labels=entry.labels,
        runbook=entry.runbook,
    )


def _burn(entry: BurnEntry) -> Burn:
    return Burn(
        severity=Severity(entry.severity),
        long=entry.long,
        short=_short(entry),
        factor=entry.factor,
        share=entry.share,
        lasting=entry.lasting,
        literal=True,
    )


def _short(entry: BurnEntry) -> float:
    return float(math.ceil(entry.long / 12)) if entry.short is None else entry.short


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


def _check_indicator(draft: Draft, entry: ObjectiveEntry, place: Place, judged: list[Probe], kinds: Kinds) -> bool:
    """Whether what it judges is something that the probes can show."""
    sound = True
    if entry.certificate_expires_within is not None:
        for other in ("slower_than", "step"):
            if getattr(entry, other):
                draft.complain((*place, other), "a certificate has no duration and no steps; leave one of the two out")
                sound = False
        for probe in judged:
            if EXPIRY not in {metric.name for metric in kinds[probe.kind].metrics}:
                draft.complain(
                    (*place, "certificate_expires_within"),
                    f"probe {probe.name} is of kind {probe.kind}, which sees no certificate; judge one that does, like tls",
                )
                sound = False
    for probe in judged if entry.step else ():
        known = _steps_of(probe, kinds)
        if known is not None and entry.step not in known:
            draft.complain(
                (*place, "step"), f"probe {probe.name} has no step {entry.step!r}; {did_you_mean(entry.step, known)}"
            )
            sound = False
    return sound


def _steps_of(probe: Probe, kinds: Kinds) -> tuple[str, ...] | None:
    """The names of its steps or phases; None where only a run shows them."""
    if phases := kinds[probe.kind].phases:
        return tuple(phases)
    steps = getattr(probe.check, "steps", None)
    return tuple(step.name for step in steps) if steps else None


def _check_slices(draft: Draft, entry: ObjectiveEntry, place: Place, judged: list[Probe]) -> bool:
    if entry.method == "occurrences":
        for key in ("slice", "slice_target"):
            if getattr(entry, key) is not None:
                draft.complain((*place, key), "only time slices have one; add method: timeslices, or leave it out")
        return entry.slice is None and entry.slice_target is None
    if entry.slice_target == 0:
        draft.complain((*place, "slice_target"), "0% makes every slice good; promise more, like 95%")
        return False
    length, rate = entry.slice or SLICE, sum(1 / probe.every for probe in judged)
    if judged and length * rate < 1:
        draft.complain(
            (*place, "slice") if entry.slice else place,
            f"a slice of {show_duration(length)} often holds no result, with one every {show_duration(1 / rate)}; "
            "lengthen it, or run the probe more often",
        )
        return False
    return True


def _check_burns(draft: Draft, entry: ObjectiveEntry, place: Place) -> bool:
    complaints: list[tuple[Place, str]] = [
        (("burns", number, *where), sentence)
        for number, burn in enumerate(entry.burns)
        for where, sentence in _about_burn(burn, entry)
    ]
    lasting: dict[str, float] = {}
    for number, burn in enumerate(entry.burns):
        if lasting.setdefault(burn.severity, burn.lasting) != burn.lasting:
            sentence = (
                f"burns of one severity are one alert and have one `for`: {show_duration(lasting[burn.severity])} "
                f"before, and {show_duration(burn.lasting)} here; give both the same, or another severity"
            )
            complaints.append((("burns", number, "for"), sentence))
    if entry.burns and entry.policy != DEFAULT_POLICY:
        complaints.append((("policy",), "burns take the place of a policy; leave one of the two out"))
    for where, sentence in complaints:
        draft.complain((*place, *where), sentence)
    return not complaints


def _about_burn(burn: BurnEntry, entry: ObjectiveEntry) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with one pair of windows: where, and a sentence."""
    short, long = _short(burn), burn.long
    period = NOMINAL[entry.window] if isinstance(entry.window, str) else entry.window
    if (burn.factor is None) == (burn.share is None):
        seen = "factor is missing" if burn.factor is None else "factor and share are both given"
        yield (), f"{seen}; give one of factor (like 14.4) and share (like 2%)"
    if burn.share == 0:
        yield ("share",), "0% of the budget is lost with the first failed run; give more, like 2%"
    if short > long:
        yield (
            ("short",),
            f"the short window, {show_duration(short)}, is longer than the long one, {show_duration(long)}; exchange them",
        )
    elif short < STEPS[0]:
        seen = "" if burn.short else f"a twelfth of {show_duration(long)} is "
        sentence = f"{seen}{show_duration(short)}, and Prometheus, which scrapes every 15s or so, guesses below 1m"
        yield ("short",) if burn.short else ("long",), f"{sentence}; lengthen it"
    if long > period:
        yield (
            ("long",),
            f"a window of {show_duration(long)} looks beyond that of the objective, {show_duration(period)}; shorten it",
        )


def _check_window(draft: Draft, objective: Objective, place: Place, judged: list[Probe]) -> bool:
    """A burn rate is seen in a window of two results and one of three times its length."""
    rate = objective.events_in(1.0, {probe.name: probe.every for probe in judged})
    if not judged or Fraction(objective.window) * rate >= RESULTS:
        return True
    every = f"one every {show_duration(float(1 / rate))}"
    counted = "slices" if objective.slices else "results"
    draft.complain(
        (*place, "window"),
        f"a window of {show_duration(objective.window)} holds fewer than {RESULTS} {counted}, with {every}; "
        + ("lengthen it, or shorten the slices" if objective.slices else "lengthen it, or run the probe more often"),
    )
    return False


def _written(match: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value if isinstance(value, str) else show(value)}" for name, value in match.items())
