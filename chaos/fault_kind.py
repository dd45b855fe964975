"""What is known of a kind of fault, before any is injected: a row of the catalogue."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from stormwatch.chaos.option import Options
from stormwatch.probes.result import Reason

if TYPE_CHECKING:
    from stormwatch.chaos.breakage import Breakage
    from stormwatch.chaos.target import Target

O_co = TypeVar("O_co", bound=Options, covariant=True)

ROUTE = "route"
"""The kind of target that is no entry of `targets:`, but a route of `proxies:`."""

BEHIND = frozenset({Reason.STATUS, Reason.ASSERTION, Reason.STEP, Reason.TIMEOUT, Reason.TOO_SLOW})
"""What a probe may see of any fault that hits a dependency of its target, and not the target itself."""


@dataclass(frozen=True, slots=True)
class FaultKind(Generic[O_co]):
    """What is known of a kind of fault."""

    name: str
    """As users write it after `kind:`."""
    options: type[O_co]
    """A frozen dataclass that pydantic can validate: the options that stand beside `kind` and `target`."""
    summary: str
    """One line for people."""
    reasons: frozenset[Reason]
    """What a probe that goes straight through the route normally sees. One behind a service also sees `BEHIND`."""
    looks_inside: bool = False
    """Whether it needs a route that is looked into: one with `tls`, or with `http: true`."""
    reason_note: str = ""
    """When the reasons need a word of explanation."""
    of_names: bool = False
    """Whether it is about questions to a name server: it needs a route with `dns: true`."""
    on: str = ROUTE
    """What it is put on: a route of the fault proxy, or a kind of target (a key of `targets.TARGETS`)."""
    breakage: "Callable[[str, O_co, Target], Breakage] | None" = None
    """Makes what carries it out, of the fault's id, its options and its target; None: the fault proxy does."""
    refuses: "Callable[[O_co, Target], str] | None" = None
    """Why it cannot be put on a target, as far as the configuration tells: one sentence, empty when it can."""
