"""`guard:` in the configuration: what drills may break, where and when."""

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Any

from stormwatch.chaos.guard import Guard
from stormwatch.harness.draft import Draft
from stormwatch.harness.entry import GuardEntry
from stormwatch.harness.form import show
from stormwatch.harness.remedy import did_you_mean
from stormwatch.slo.alert import Severity


def read_guard(draft: Draft, data: Any, *, breakable: Collection[str], probes: Collection[str]) -> Guard:
    """The guard. A pattern that fits nothing is a mistake: whoever wrote it believes that something is guarded."""
    entry = draft.read(GuardEntry, data, ("guard",))
    if entry is None:
        return Guard()
    for key, patterns, known, noun in (
        ("targets", entry.targets or (), breakable, "route or target"),
        ("protect", entry.protect, probes, "probe"),
    ):
        for index, pattern in enumerate(patterns):
            if not any(fnmatchcase(name, pattern) for name in known):
                remedy = did_you_mean(pattern, known) if known else f"there is no {noun} at all"
                draft.complain(("guard", key, index), f"{show(pattern)} fits no {noun}; {remedy}")
    return Guard(
        environment=entry.environment or "",
        environments=entry.environments,
        targets=("*",) if entry.targets is None else entry.targets,
        hours=entry.hours.hours if entry.hours else None,
        budget_floor=entry.budget_floor,
        most_targets=entry.blast_radius.targets,
        most_traffic=entry.blast_radius.share,
        abort_on=Severity(entry.abort_on) if entry.abort_on else None,
        protect=entry.protect,
    )
