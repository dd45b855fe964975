"""An experiment of the Chaos Toolkit as frozen values: what is asked, what is done, how it is taken back.

The dialect is that of chaoslib 1.44 (https://chaostoolkit.org/reference/api/experiment/); `experiment_reading` makes the values of a
document, `experiment_run` carries them out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

TIMEOUT = 300.0
"""Seconds that an activity may take which says nothing of its own: chaoslib would wait for ever."""


class Provider(StrEnum):
    """How an activity is called."""

    PYTHON = "python"
    PROCESS = "process"
    HTTP = "http"


class Kind(StrEnum):
    """What an activity is for."""

    PROBE = "probe"
    ACTION = "action"


class Strategy(StrEnum):
    """When the hypothesis is looked at."""

    DEFAULT = "default"
    BEFORE = "before-method-only"
    AFTER = "after-method-only"
    DURING = "during-method-only"
    CONTINUOUSLY = "continuously"

    @property
    def before(self) -> bool:
        """Whether it must be met before anything is done."""
        return self in (Strategy.DEFAULT, Strategy.BEFORE, Strategy.CONTINUOUSLY)

    @property
    def during(self) -> bool:
        """Whether it is watched while the method runs."""
        return self in (Strategy.DURING, Strategy.CONTINUOUSLY)

    @property
    def after(self) -> bool:
        """Whether it is looked at when the method is over, and nothing has been rolled back yet."""
        return self in (Strategy.DEFAULT, Strategy.AFTER, Strategy.CONTINUOUSLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exactly:
    """Equal to a bool, a text or a whole number; a number is also compared with the status of an answer."""

    value: bool | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """One of these; of exactly two, without a status to compare: between them, both included."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Within:
    """A number from `low` to `high`, both included."""

    low: Any
    high: Any
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """A text in which the regular expression (RE2) is found."""

    pattern: str
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtPath:
    """What a JSONPath finds."""

    path: str
    target: str = ""
    count: int | None = None
    expect: Any = None
    has_expect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Another probe decides; it is given the value as its argument `value`."""

    probe: "Activity"


Tolerance = Exactly | OneOf | Within | Matches | AtPath | Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """A probe or an action. What has `${name}` in it is filled in when it is called."""

    name: str
    kind: Kind
    provider: Provider
    call: Mapping[str, Any]
    """The provider's keys as the document has them."""
    timeout: Any = TIMEOUT
    """Seconds, or a reference to them."""
    pause_before: Any = 0
    pause_after: Any = 0
    background: bool = False
    dry: bool = False
    """Whether the document says that it is not to be called."""
    tolerance: Tolerance | None = None
    document: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """As it was written: what a journal shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """What is so while all is well."""

    title: str
    probes: tuple[Activity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Safeguard:
    """A probe that ends the method at once when it is out of its tolerance."""

    probe: Activity
    frequency: float | None = None
    """Seconds between two looks; None: one look before the method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One experiment."""

    title: str
    description: str
    method: tuple[Activity, ...]
    rollbacks: tuple[Activity, ...] = ()
    hypothesis: Hypothesis | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """As declared: literals, `env`, and probes."""
    dynamic: tuple[tuple[str, Activity], ...] = ()
    """The keys of the configuration that a probe finds out, in their order."""
    secrets: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """As declared."""
    strategy: Strategy = Strategy.DEFAULT
    frequency: float = 1.0
    """Seconds between two looks at the hypothesis while the method runs."""
    fail_fast: bool = False
    """End the method as soon as the hypothesis is not met any more."""
    safeguards: tuple[Safeguard, ...] = ()
    warnings: tuple[str, ...] = ()
    """What of the document is not followed, a sentence each."""
    document: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def activities(self) -> tuple[Activity, ...]:
        """Everything that may be called, also to decide about a value."""
        probes = self.hypothesis.probes if self.hypothesis else ()
        called = (
            *(probe for _, probe in self.dynamic),
            *probes,
            *self.method,
            *self.rollbacks,
            *(one.probe for one in self.safeguards),
        )
        return (*called, *(one.tolerance.probe for one in called if isinstance(one.tolerance, Asked)))
