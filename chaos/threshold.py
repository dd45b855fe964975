"""From which size on a fault is noticed, by bisection: "latency is noticed from 870 ms"."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Size(NamedTuple):
    """The option that says how bad a fault is, and between which values it is looked for."""

    option: str
    unit: str
    """`s`, `B` or `%`."""
    mildest: float
    """Seconds, bytes, or a share."""
    worst: float
    """Smaller than `mildest` where less is worse, as with a bandwidth."""

    def written(self, value: float) -> Any:
        """The value as users write it."""
        if self.unit == "s":
            return f"{max(1, round(value * 1000))}ms"
        if self.unit == "B":
            return f"{max(1, round(value))}B"
        return f"{value * 100:.4g}%"

    def shown(self, value: float) -> str:
        """The value for people."""
        if self.unit == "s":
            return f"{value * 1000:.0f} ms" if value < 10 else f"{value:.1f} s"
        return f"{value:.0f} B" if self.unit == "B" else f"{value * 100:.3g} %"


SIZES: Mapping[str, Size] = {
    "tcp-latency": Size("delay", "s", 0.001, 30.0),
    "tcp-slow-close": Size("delay", "s", 0.001, 30.0),
    "tcp-slicer": Size("delay", "s", 0.001, 2.0),
    "tcp-bandwidth": Size("rate", "B", 10_000_000.0, 10.0),
    "tcp-corrupt": Size("flipped", "%", 0.000_001, 1.0),
    "tcp-blackhole": Size("share", "%", 0.001, 1.0),
    "tcp-reset": Size("share", "%", 0.001, 1.0),
    "http-delay": Size("delay", "s", 0.001, 30.0),
    "http-status": Size("share", "%", 0.001, 1.0),
    "dns-slow": Size("delay", "s", 0.001, 10.0),
    "dns-servfail": Size("share", "%", 0.001, 1.0),
    "dns-timeout": Size("share", "%", 0.001, 1.0),
    "tls-expires-soon": Size("left", "s", 90 * 86400.0, 3600.0),
}
"""The size of each fault that has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One size that was tried."""

    size: float
    noticed: bool
    by: str = ""
    """Which alert, after how long."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"size": self.size, "noticed": self.noticed, "by": self.by}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Where the threshold lies: between the worst that was not noticed and the mildest that was."""

    size: Size
    trials: tuple[Trial, ...]
    unnoticed: float | None
    """None: even the mildest is noticed."""
    noticed: float | None
    """None: not even the worst is noticed."""
    consistent: bool
    """Whether no milder fault was noticed where a worse one was not."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "trials": [one.as_json() for one in self.trials],
            "unnoticed": self.unnoticed,
            "noticed": self.noticed,
            "consistent": self.consistent,
            "answer": self.sentence(),
        }

    def sentence(self) -> str:
        """For people."""
        show = self.size.shown
        if self.noticed is None:
            return f"not even {show(self.size.worst)} is noticed"
        if self.unnoticed is None:
            return f"even {show(self.noticed)} is noticed"
        word = "" if self.consistent else "; not always: a milder one was noticed while a worse one was not"
        half = abs(self.noticed - self.unnoticed) / 2
        return f"noticed from {show((self.noticed + self.unnoticed) / 2)} (± {show(half)}){word}"


class Bisection:
    """`while (size := search.next()) is not None: search.tell(size, noticed)`. Pure: what is asked next follows from what was told."""

    def __init__(self, size: Size, *, mildest: float, worst: float, precision: float = 0.05, most: int = 12) -> None:
        """`precision` is relative: it ends when the bounds are closer than this share of the threshold. `most` trials at the most.

        Raises ValueError for bounds that are not a range of this size.
        """
        if mildest <= 0 or worst <= 0 or (worst - mildest) * (size.worst - size.mildest) <= 0:
            raise ValueError(
                f"{size.option} is looked for from mild to bad, as from {size.shown(size.mildest)} to "
                f"{size.shown(size.worst)}, not from {size.shown(mildest)} to {size.shown(worst)}"
            )
        self._size = size
        self._mildest, self._worst = mildest, worst
        self._precision, self._most = precision, most
        self._trials: list[Trial] = []
        self._unnoticed: float | None = None
        self._noticed: float | None = None

    def next(self) -> float | None:
        """The size to try now; None: the answer is known as well as was asked."""
        if len(self._trials) >= self._most:
            return None
        if self._noticed is None:
            return None if any(one.size == self._worst for one in self._trials) else self._worst
        if self._unnoticed is None:
            return None if any(one.size == self._mildest for one in self._trials) else self._mildest
        if abs(self._noticed - self._unnoticed) <= self._precision * max(self._noticed, self._unnoticed):
            return None
        # Sizes span orders of magnitude: the middle of their logarithms halves what is not known.
        return math.sqrt(self._noticed * self._unnoticed)

    def tell(self, trial: Trial) -> None:
        """What was seen."""
        self._trials.append(trial)
        if trial.noticed:
            self._noticed = trial.size if self._noticed is None else self._milder(self._noticed, trial.size)
        else:
            self._unnoticed = trial.size if self._unnoticed is None else self._graver(self._unnoticed, trial.size)

    def answer(self) -> Answer:
        """As far as it is known."""
        noticed = [one.size for one in self._trials if one.noticed]
        unnoticed = [one.size for one in self._trials if not one.noticed]
        consistent = not any(self._milder(a, b) == a and a != b for a in noticed for b in unnoticed)
        return Answer(
            size=self._size,
            trials=tuple(self._trials),
            unnoticed=self._unnoticed,
            noticed=self._noticed,
            consistent=consistent,
        )

    def _milder(self, one: float, other: float) -> float:
        return min(one, other) if self._worst > self._mildest else max(one, other)

    def _graver(self, one: float, other: float) -> float:
        return max(one, other) if self._worst > self._mildest else min(one, other)
