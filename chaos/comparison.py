"""Verdicts against those of an earlier run: what got worse. Pure; for drills, and for whatever else has verdicts by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stormwatch.chaos.verdict import Verdict, exit_code

WORSE: Final = (
    Verdict.PROVED,
    Verdict.NOISY,
    Verdict.NOT_RESOLVED,
    Verdict.LATE,
    Verdict.MISATTRIBUTED,
    Verdict.INCONCLUSIVE,
    Verdict.MISSED,
    Verdict.UNSAFE,
)
"""Each worse than the one before: first how well something was noticed, then that it is not known, then that it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A name whose verdict is another one."""

    name: str
    before: Verdict
    after: Verdict

    def __str__(self) -> str:
        return f"{self.name}: {self.before.value}, now {self.after.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is different from the last time."""

    worse: tuple[Change, ...]
    better: tuple[Change, ...]
    new: Mapping[str, Verdict]
    """What the last run did not have."""
    not_run: tuple[str, ...]
    """What the last run had, and this one has not."""
    same: int
    unsafe: bool
    """Whether a fault of this run may still be in place: that is never as it was."""

    @property
    def exit_code(self) -> int:
        """0: nothing got worse. 1: something did. What is new counts by its own verdict, 4 beats everything."""
        codes = [Verdict.MISSED] if self.worse else []
        return exit_code([*codes, *self.new.values(), *([Verdict.UNSAFE] if self.unsafe else [])])

    def lines(self) -> list[str]:
        """For people: what got worse first."""
        told = [
            *(f"✗ worse: {change}" for change in self.worse),
            *(f"✓ better: {change}" for change in self.better),
            *(f"· new: {name}: {verdict.value}" for name, verdict in self.new.items()),
            *(f"· not run this time: {name}" for name in self.not_run),
        ]
        return [*told, f"{'nothing got worse; ' if not self.worse else ''}{self.same} as the last time"]

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "exit_code": self.exit_code,
            **{
                key: [{"name": one.name, "before": one.before.value, "after": one.after.value} for one in changes]
                for key, changes in (("worse", self.worse), ("better", self.better))
            },
            "new": {name: verdict.value for name, verdict in self.new.items()},
            "not_run": list(self.not_run),
            "same": self.same,
        }


def compare(last: Mapping[str, Verdict], now: Mapping[str, Verdict]) -> Comparison:
    """Set the verdicts of this run against those of the last one, each by its name."""
    changes = [
        Change(name=name, before=last[name], after=after)
        for name, after in now.items()
        if name in last and last[name] is not after
    ]
    return Comparison(
        worse=tuple(one for one in changes if WORSE.index(one.after) > WORSE.index(one.before)),
        better=tuple(one for one in changes if WORSE.index(one.after) < WORSE.index(one.before)),
        new={name: after for name, after in now.items() if name not in last},
        not_run=tuple(name for name in last if name not in now),
        same=sum(last.get(name) is after for name, after in now.items()),
        unsafe=Verdict.UNSAFE in now.values(),
    )


def verdicts_of(document: Any) -> dict[str, Verdict]:
    """The verdicts in what `stormwatch drill --format json` printed. Raises KeyError, TypeError or ValueError for others.

    They are taken as they were given then: what is compared is what was said.
    """
    reports = document["drills"] if isinstance(document, dict) else document
    if not isinstance(reports, list):
        raise TypeError("a list of reports is needed")
    return {str(report["drill"]["name"]): Verdict(report["verdict"]) for report in reports}
