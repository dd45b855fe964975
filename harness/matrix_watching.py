"""A matrix that is judged by the alerts of `watch:`: how long they take there, by which names it knows them, and who was told."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from stormwatch.chaos.drill import Drill, ExpectedAlert
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.feed import Feed
from stormwatch.chaos.matrix_plan import PATIENCE
from stormwatch.harness.config import Config
from stormwatch.harness.live_budget import ask, live_budget
from stormwatch.harness.live_chain import LOOK, Live
from stormwatch.harness.matrix_last_mile import LastMile
from stormwatch.harness.watch_section import Watch
from stormwatch.harness.watching import outside_feed
from stormwatch.probes.clock import Clock
from stormwatch.slo.alert import AlertState, Transition
from stormwatch.slo.policy import longest_run

Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideEvaluator:
    """What evaluates the rules instead of our own evaluator, and what it runs."""

    config: Config
    live: Live

    def __call__(self, labels: Mapping[str, str], fault: FaultSpec) -> tuple[float, float] | None:
        """How long an alert takes there, see `matrix_plan.Elsewhere`."""
        drill = Drill(name="", fault=fault, alert=ExpectedAlert(labels=labels, within=PATIENCE))
        budget = live_budget(self.config, drill, self.live)
        if budget.refusals or budget.firing is None or budget.resolved is None:
            return None
        return budget.firing.worst, budget.resolved.worst

    @property
    def lag(self) -> float:
        """Seconds after the undo of a fault in which an alert about it may still begin, without its `for`."""
        runs = (probe.every + longest_run(probe) for probe in self.config.probes)
        scrapes = max(self.live.intervals.values(), default=0.0)
        return max(runs, default=0.0) + scrapes + max((one.interval for one in self.live.groups), default=0.0) + LOOK


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What a matrix is judged by besides our own evaluator; nothing of it: by that alone."""

    evaluator: OutsideEvaluator | None = None
    last_mile: LastMile | None = None

    @property
    def watch(self) -> Watch:
        """What has to be looked at."""
        mile = self.last_mile.watch if self.last_mile else Watch()
        return replace(mile, prometheus=self.evaluator.config.watch.prometheus if self.evaluator else "")


OURS = Outside()
"""Our own evaluator alone."""


async def outside_evaluator_of(config: Config) -> OutsideEvaluator | None:
    """Ask the Prometheus of `watch:` what it runs; None: our own evaluator decides. Raises Problem when it does not answer."""
    if not config.watch.prometheus:
        return None
    watch = Watch(prometheus=config.watch.prometheus)
    return OutsideEvaluator(config=replace(config, watch=watch), live=await ask(watch))


class KnownAlerts(Feed):
    """A feed on which alerts have the labels by which they are known, and none besides.

    An alert of Prometheus also has the labels of the series that its rule is about. Several of them that are known by the same
    labels are one: it ends with the last.
    """

    def __init__(self, known: Iterable[Mapping[str, str]]) -> None:
        super().__init__()
        # The most exact first: what one says less of may be another alert.
        self._known = sorted(known, key=len, reverse=True)
        self._active: dict[Key, set[Key]] = {}

    def transition(self, transition: Transition) -> None:
        """Under its known labels; under its own where it is not known."""
        alert = transition.alert
        named = next((one for one in self._known if one.items() <= alert.labels.items()), None)
        if named is None:
            super().transition(transition)
            return
        known = replace(transition, alert=replace(alert, labels=named))
        active = self._active.setdefault(known.alert.key, set())
        if transition.after in (AlertState.FIRING, AlertState.PENDING):
            active.add(alert.key)
        else:
            active.discard(alert.key)
        if transition.after is AlertState.FIRING or not active - {alert.key}:
            super().transition(known)


@asynccontextmanager
async def judged_elsewhere(
    watch: Watch, own: Feed, clock: Clock, *, known: Iterable[Mapping[str, str]]
) -> AsyncGenerator[Feed]:
    """The results of `own`, the alerts of Prometheus where it is watched, and who was told, for as long as the block lasts."""
    feed = KnownAlerts(known)
    async with outside_feed(watch, clock) as outside:
        with (
            own.passing_on(feed, transitions=not watch.prometheus, notifications=not watch),
            outside.passing_on(feed, transitions=True, notifications=True),
        ):
            yield feed
