"""How soon the alert of one of our rules fires and resolves in a drill, wherever the rule is evaluated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from stormwatch.chaos.drill import Drill
from stormwatch.chaos.plan import Span
from stormwatch.chaos.tls_options import shows_expiry
from stormwatch.harness.config import Config
from stormwatch.probes.probe import Probe
from stormwatch.slo.latency import time_to_fire, time_to_resolve
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import longest_run
from stormwatch.slo.rule import BudgetLeft, BurnRate, Expiring, PeerSilent, Rule


@dataclass(frozen=True, slots=True)
class Subjects:
    """What rules are about, by name."""

    probes: Mapping[str, Probe]
    objectives: Mapping[str, Objective]

    @classmethod
    def of(cls, config: Config) -> Self:
        """Those of a configuration."""
        return cls(
            {probe.name: probe for probe in config.probes},
            {objective.name: objective for objective in config.objectives},
        )

    def firing(self, rule: Rule, drill: Drill, interval: float) -> Span:
        """From the injection to the evaluation that fires; `interval` is in seconds between two of them."""
        expires = isinstance(rule, Expiring) and any(
            shows_expiry(one.options, within=rule.within) for one in drill.faults
        )
        if isinstance(rule, Expiring) and expires:
            # The first run that begins after the injection sees the date; whether it passes does not matter.
            probe = self.probes[rule.probe]
            return Span(rule.lasting, probe.every + longest_run(probe) + interval + rule.lasting)
        return Span(*time_to_fire(rule, self._probe(rule), interval, objective=self._objective(rule)))

    def resolving(self, rule: Rule, drill: Drill, interval: float) -> Span:
        """From the undo to the evaluation that resolves.

        The fault is in place until the alert fires, at the earliest, and for as long as the drill waits, at the latest: a window
        that saw few failures is soon below its threshold again.
        """
        longest = max(one.within for one in (drill.probe, drill.alert) if one)
        shortest = min(longest, self.firing(rule, drill, interval).best)
        probe, objective = self._probe(rule), self._objective(rule)
        soon, late = (
            time_to_resolve(rule, probe, interval, failing=failing, objective=objective)
            for failing in (shortest, longest)
        )
        return Span(soon.best, late.worst)

    def _objective(self, rule: Rule) -> Objective | None:
        return self.objectives[rule.objective] if isinstance(rule, BurnRate | BudgetLeft) else None

    def _probe(self, rule: Rule) -> Probe:
        """The probe whose failures a rule is about; of an objective over several, the slowest."""
        if isinstance(rule, BurnRate | BudgetLeft):
            judged = (self.probes[name] for name in self.objectives[rule.objective].probes)
            return max(judged, key=lambda probe: probe.every)
        # An expected alert names a probe or an objective, and PeerSilent has neither.
        assert not isinstance(rule, PeerSilent)
        return self.probes[rule.probe]
