"""stormwatch.yaml: read, checked as a whole before anything runs, and turned into frozen values.

file ──document──▶ plain data ──form──▶ entries ──sections──▶ Probe · Objective · Rule · Drill …  ──▶ Config
             every mistake on the way ──────────────────────▶ ConfigError, all of them at once
"""

import gc
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from stormwatch.chaos.drill import Drill
from stormwatch.chaos.guard import Guard
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from stormwatch.harness.alerts_section import Alerts, read_alerts
from stormwatch.harness.catalog import FAULTS, KINDS
from stormwatch.harness.document import read_document
from stormwatch.harness.draft import Draft
from stormwatch.harness.drill_section import Faults, Known, Proxies, check_expected_alerts, read_drills, read_proxies
from stormwatch.harness.entry import ArtifactsEntry, DefaultsEntry, FileEntry, HeadEntry, ProbeAlertEntry
from stormwatch.harness.form import show, unknown_key
from stormwatch.harness.guard_section import read_guard
from stormwatch.harness.mistake import ConfigError
from stormwatch.harness.objective_section import ObjectiveSection, read_maintenance, read_objectives
from stormwatch.harness.peers_section import Peer, check_quorums, read_peers
from stormwatch.harness.probe_section import Kinds, ProbeSection, read_probes
from stormwatch.harness.route_references import check_serves
from stormwatch.harness.schema import schema
from stormwatch.harness.secret import Secrets
from stormwatch.harness.target_section import read_targets
from stormwatch.harness.turns import SHARED, sizes
from stormwatch.harness.watch_section import Watch, read_watch
from stormwatch.probes.probe import Probe
from stormwatch.probes.units import show_duration, show_ratio, show_size
from stormwatch.slo.feasibility import Weight, findings
from stormwatch.slo.maintenance import Maintenance
from stormwatch.slo.objective import EXPIRY, Objective
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.quorum import rules_for_peers, with_quorum
from stormwatch.slo.rule import BurnRate, Rule

__all__ = ["Alerts", "Config", "ConfigError", "Proxies", "effective", "load", "schema"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that one stormwatch.yaml says, checked."""

    path: Path
    location: str
    external_url: str = ""
    """Where people reach the status page; it ends with a slash. Empty: nobody said."""
    probes: tuple[Probe, ...]
    probe_alerts: Mapping[str, ProbeAlertEntry]
    """The settings of each probe's alert ProbeDown, by the probe's name."""
    objectives: tuple[Objective, ...] = ()
    policies: Mapping[str, str] = field(default_factory=dict[str, str])
    """The name of each objective's policy, by the objective's name."""
    concurrency: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many runs of a kind may be under way at once, where it is not the default."""
    rules: tuple[Rule, ...] = ()
    """What makes alerts of results: the rules of all objectives and probes."""
    peers: tuple[Peer, ...] = ()
    """The other locations whose results count where a probe has a quorum."""
    quorums: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many locations must see each probe down, by the probe's name."""
    alerts: Alerts = field(default_factory=Alerts)
    maintenance: tuple[Maintenance, ...] = ()
    proxies: Proxies = field(default_factory=Proxies)
    targets: Mapping[str, Target] = field(default_factory=dict[str, Target])
    """What drills may break that no proxy stands in front of, by name."""
    artifacts: ArtifactsEntry = field(default_factory=ArtifactsEntry)
    """How much of what journeys keep is kept."""
    watch: Watch = field(default_factory=Watch)
    """Whose alerts drills are judged by, where they are not our own."""
    drills: tuple[Drill, ...] = ()
    guard: Guard = field(default_factory=Guard)
    """What drills may break, where and when."""
    secrets: frozenset[str] = field(default=frozenset[str](), repr=False)
    """The values of all secrets that were read, for masking them wherever text leaves the process."""


_HEAD = frozenset(entry.name for entry in fields(HeadEntry))
"""The keys of the file that stand for themselves."""


def load(path: Path | str, *, environ: Mapping[str, str], kinds: Kinds = KINDS, faults: Faults = FAULTS) -> Config:
    """Read a configuration. Raises ConfigError with every mistake in it, and nothing else for what a file can hold."""
    path = Path(path)
    with _uncollected():
        document, mistakes = read_document(path)
        directory = path.absolute().parent
        draft = Draft(document, Secrets(environ, directory), directory, mistakes)
        config = _read(draft, path, kinds, faults)
    if draft.mistakes or config is None:
        raise ConfigError(draft.mistakes)
    return config


@contextmanager
def _uncollected() -> Generator[None]:
    """Without the cyclic collector: of what is read all is kept, and looking it through costs 40 % of a long load."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(draft: Draft, path: Path, kinds: Kinds, faults: Faults) -> Config | None:
    data = draft.document.data
    if not isinstance(data, dict):
        draft.complain((), f"wanted a mapping that begins with `probes:`, not {show(data)}")
        return None
    sections = [section.name for section in fields(FileEntry)]
    for key in data:
        if key not in sections:
            draft.complain((key,), unknown_key(key, sections, data))
    head = draft.read(HeadEntry, {key: data[key] for key in _HEAD if key in data}, ())
    capped = data.get("concurrency")
    for kind in capped if isinstance(capped, dict) else ():
        draft.refer(kind, {SHARED, *kinds}, ("concurrency", kind), "kind")
    defaults = draft.read(DefaultsEntry, data.get("defaults", {}), ("defaults",))
    alerts = read_alerts(draft, data.get("alerts", {}))
    if not data.get("probes", True):
        draft.complain(("probes",), "there are no probes, so nothing is watched; add one")
    elif "probes" not in data:
        draft.complain((), "probes is missing; add `probes:`")
    probes = read_probes(
        draft, data.get("probes", []), defaults=defaults, location=head.location if head else "", kinds=kinds
    )
    peers = read_peers(draft, data.get("peers", []), location=head.location if head else "")
    check_quorums(draft, data, probes, peers)
    objectives = read_objectives(draft, data.get("objectives", []), probes, kinds)
    maintenance = read_maintenance(draft, data.get("maintenance", []), probes)
    proxies, routes = read_proxies(draft, data.get("proxies", {}))
    targets = read_targets(draft, data.get("targets", []), kinds=TARGETS)
    artifacts = draft.read(ArtifactsEntry, data.get("artifacts", {}), ("artifacts",))
    watch = read_watch(draft, data.get("watch", {}))
    known = Known(routes=routes, targets=targets, probes=probes.places, objectives=objectives.places, watch=watch)
    check_serves(draft, proxies.routes, {*probes.places, *objectives.places})
    drills = read_drills(draft, data.get("drills", []), faults=faults, known=known)
    guard = read_guard(draft, data.get("guard", {}), breakable=routes.keys() | targets.keys(), probes=probes.places)
    locations = (head.location if head else "", *(peer.location for peer in peers))
    rules = (
        *_rules_of_objectives(draft, objectives, probes),
        *_rules_of_probes(probes, kinds, locations),
        *rules_for_peers(locations[1:]),
    )
    sound = probes.probes.keys() | objectives.objectives.keys()
    check_expected_alerts(draft, drills, rules, sound=sound, others=watch is None or bool(watch.prometheus))
    return Config(
        path=path,
        location=head.location if head else "",
        external_url=f"{head.external_url.rstrip('/')}/" if head and head.external_url else "",
        probes=tuple(probes.probes.values()),
        probe_alerts=probes.alerts,
        objectives=tuple(objectives.objectives.values()),
        policies=objectives.policies,
        concurrency=head.concurrency if head else {},
        rules=rules,
        peers=peers,
        quorums=probes.quorums,
        alerts=alerts,
        maintenance=maintenance,
        proxies=proxies,
        targets={name: target for name, target in targets.items() if target},
        artifacts=artifacts or ArtifactsEntry(),
        watch=watch or Watch(),
        drills=tuple(drill for _, drill in drills),
        guard=guard,
        secrets=draft.secrets.values,
    )


def _rules_of_objectives(draft: Draft, objectives: ObjectiveSection, probes: ProbeSection) -> tuple[Rule, ...]:
    """The rules of every objective; complains about those that could never fire, or page on nothing."""
    made: list[Rule] = []
    for name, objective in objectives.objectives.items():
        judged = [probes.probes[probe] for probe in objective.probes if probe in probes.probes]
        rules = rules_for_objective(objective, judged, policy=objectives.policies[name], burns=objectives.burns[name])
        made += rules
        if len(judged) < len(objective.probes):
            continue  # what the rules can do depends on probes that have mistakes themselves
        for finding in findings(objective, judged, rules):
            if finding.severity is Weight.ERROR:
                draft.complain(objectives.places[name], finding.text.removeprefix(f"{name}: "))
    return tuple(made)


def _sees_certificates(probe: Probe, kinds: Kinds) -> bool:
    """Whether runs of it can be shown a certificate: its kind can, and it is not told to speak without TLS."""
    exported = {metric.name for metric in kinds[probe.kind].metrics}
    return EXPIRY in exported and bool(probe.options.get("tls", True)) and not probe.target.startswith("http:")


def _rules_of_probes(probes: ProbeSection, kinds: Kinds, locations: Sequence[str]) -> tuple[Rule, ...]:
    made: list[Rule] = []
    for name, probe in probes.probes.items():
        rules = rules_for_probe(
            probe,
            severity=probes.alerts[name].told,
            lasting=probes.alerts[name].lasting,
            keep=probes.alerts[name].keep_firing_for,
            expiry=probes.alerts[name].expiry if _sees_certificates(probe, kinds) else {},
        )
        made += with_quorum(rules, probe, probes.quorums[name], locations)
    return tuple(made)


def effective(config: Config) -> dict[str, Any]:
    """What is in force, as JSON with the units that people write; secrets are masked."""
    mask = Secrets.of(config.secrets).mask
    return mask(
        {
            "location": config.location,
            "external_url": config.external_url,
            "concurrency": sizes(KINDS, config.probes, config.concurrency),
            "probes": [_effective_probe(config, probe) for probe in config.probes],
            "objectives": [
                {
                    "name": objective.name,
                    "probes": list(objective.probes),
                    "target": show_ratio(objective.target),
                    **_effective_window(objective),
                    **_effective_indicator(objective),
                    "policy": config.policies[objective.name],
                    "burns": [
                        {
                            "severity": rule.severity.value,
                            "long": show_duration(pair.long),
                            "short": show_duration(pair.short),
                            "factor": float(pair.factor),
                            "for": show_duration(rule.lasting),
                        }
                        for rule in config.rules
                        if isinstance(rule, BurnRate) and rule.objective == objective.name
                        for pair in rule.pairs
                    ],
                    "labels": dict(objective.labels),
                    "runbook": objective.runbook,
                }
                for objective in config.objectives
            ],
            "peers": [{"location": peer.location, "url": peer.url} for peer in config.peers],
            "alerts": config.alerts.effective(),
            "maintenance": [
                {"match": dict(each.match), "rrule": each.rrule, "duration": show_duration(each.duration)}
                for each in config.maintenance
            ],
            "proxies": {
                "control": config.proxies.control,
                "routes": [route.as_json() for route in config.proxies.routes],
            },
            "targets": [target.as_json() for target in config.targets.values()],
            "artifacts": {
                "max_size": show_size(config.artifacts.max_size),
                "max_age": show_duration(config.artifacts.max_age),
            },
            "watch": config.watch.as_json(),
            "drills": [drill.as_json() for drill in config.drills],
            "guard": config.guard.as_json(),
        }
    )


def _effective_window(objective: Objective) -> dict[str, Any]:
    calendar = objective.calendar
    return (
        {"window": calendar.unit, "timezone": calendar.zone}
        if calendar
        else {"window": show_duration(objective.window)}
    )


def _effective_indicator(objective: Objective) -> dict[str, Any]:
    found: dict[str, Any] = {
        "slower_than": None if objective.slower_than is None else show_duration(objective.slower_than)
    }
    if objective.step:
        found["step"] = objective.step
    if objective.expires_within is not None:
        found["certificate_expires_within"] = show_duration(objective.expires_within)
    if objective.slices is not None:
        found["method"] = "timeslices"
        found["slice"] = show_duration(objective.slices.length)
        found["slice_target"] = show_ratio(objective.slices.target)
    return found


def _effective_probe(config: Config, probe: Probe) -> dict[str, Any]:
    alert = config.probe_alerts[probe.name]
    return {
        "name": probe.name,
        "kind": probe.kind,
        "target": probe.target,
        "every": show_duration(probe.every),
        "timeout": show_duration(probe.timeout),
        "confirm": {"attempts": probe.confirm.attempts, "after": show_duration(probe.confirm.after)},
        "quorum": config.quorums.get(probe.name, 1),
        "depends_on": list(probe.depends_on),
        "labels": dict(probe.labels),
        "runbook": probe.runbook,
        "dashboard": probe.dashboard,
        "alert": {
            "severity": alert.severity,
            "for": show_duration(alert.lasting),
            "keep_firing_for": show_duration(alert.keep_firing_for),
            "certificate_ticket": show_duration(alert.certificate_ticket),
            "certificate_page": show_duration(alert.certificate_page),
        },
        probe.kind: dict(probe.options),
    }
