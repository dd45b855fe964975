"""The central type: a check is an async callable; a probe is a check with a name, a target and a rhythm."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stormwatch.probes.result import Reason
from stormwatch.probes.watch import Watch

if TYPE_CHECKING:
    from stormwatch.probes.detour import Detour

Check = Callable[[Watch], Awaitable[None]]
"""Looks once at its target. Writes what it saw into the Watch; raises ProbeFailed (down) or ProbeBroken (broken).

A check is stateless and re-entrant: no scheduling, no metrics, no logging of outcomes, no retry. Cancelling it must
leave nothing open. Anything shared between runs comes from `watch.resources`.
"""

Options = TypeVar("Options")


@dataclass(frozen=True, slots=True)
class Metric:
    """A gauge that a kind exports from its measures. `buckets` of labels are closed sets wherever they can be."""

    name: str
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One of several probes that an entry of the configuration stands for."""

    suffix: str
    """Comes behind the entry's name and a dot: `iPhone-13.de-DE`."""
    labels: Mapping[str, str]
    """What it has besides the entry's labels."""
    options: Mapping[str, Any]
    """Its options, as a user would write them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a target says of a probe: the entry's own, or one of several that it stands for."""

    behind: str = ""
    """Comes behind the target as it was written: `/test_checkout.py::test_checkout`."""
    suffix: str = ""
    """Comes behind the entry's name and a dot. Empty: it is the entry's own."""
    every: float | None = None
    """Seconds between the starts of two runs, where the entry does not say."""
    timeout: float | None = None
    """Seconds that one attempt may take, where the entry does not say."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[Options]):
    """What the catalogue knows of a kind of probe: everything that is needed to read, build, export and explain it."""

    name: str
    """As users write it after `kind:`."""
    options: type[Options]
    """A frozen dataclass that pydantic can validate: the options that stand under the kind's name."""
    build: Callable[[str, Options], Check]
    """From target and options to a check. Raises ValueError, one sentence, for a target that cannot be probed."""
    phases: tuple[str, ...] = ()
    """Names of the phases in their order, exported as zero before they were ever seen. Empty: not known before."""
    phase_metric: Metric | None = None
    """The gauge with the label `phase` under which the phases are exported; None: the kind has no phases."""
    metrics: tuple[Metric, ...] = ()
    """Every other gauge that its runs may export."""
    reasons: frozenset[Reason] = frozenset()
    """Every reason for which a run can be down, and those for which only runs of this kind can be broken (no browser).

    The documentation and the tests are compared with it; the counters of runs have a series for each.
    """
    extra: str = ""
    """The optional dependency that it needs: `stormwatch[extra]`."""
    module: str = ""
    """The driver's module that comes with the extra. The kind's own module imports it where it is used, not at its top."""
    concurrency: int = 0
    """How many of its runs may be under way at once where the configuration does not say; 0: it is light, and shares."""
    target_is_file: bool = False
    """Whether the target begins with the name of a file: a relative one counts from the configuration's directory."""
    detour: "Detour[Options] | None" = None
    """How its probes are led another way, for drills on the prober's side; None: they are not."""
    no_detour: str = ""
    """Why not, as the rest of a sentence that begins with the kind: "sends nothing"."""
    told: Callable[[str], Sequence[Told]] | None = None
    """What a target, whose file is absolute, says of the probe, or of the probes that it stands for; none: nothing.

    Raises ValueError, one sentence.
    """
    variants: Callable[[Mapping[str, Any]], Sequence[Variant]] | None = None
    """The probes that an entry with these options, as they were written, stands for; none: it is one itself.

    Raises ValueError, one sentence that begins with the option.
    """


@dataclass(frozen=True, slots=True)
class Confirm:
    """On a failure, try again at once: `attempts` in all, `after` seconds between the end of one and the next."""

    attempts: int = 2
    after: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The specification of one probe. Frozen: run-time state lives elsewhere."""

    name: str
    kind: str
    target: str
    check: Check = field(repr=False)
    """Not shown: it may hold secrets."""
    every: float = 30.0
    """Seconds between the starts of two runs."""
    timeout: float = 5.0
    """Seconds that one attempt may take."""
    location: str = ""
    confirm: Confirm = Confirm(attempts=1, after=0.0)
    depends_on: tuple[str, ...] = ()
    """Names of probes: while one of them is down, this one is measured and its alerts are muted."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    runbook: str = ""
    dashboard: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The kind's effective options as JSON values, secrets masked: for `--debug` and for people, not for running."""
    settings: object = field(default=None, repr=False, compare=False)
    """The kind's options as `check` was built of them, for building one that differs. Not shown: they may hold secrets."""
