"""`stormwatch import blackbox`: their modules, and the targets that Prometheus has for them, as a configuration of ours.

Secrets are never written: where one stood there is a reference to the environment or to the file that it came from.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from stormwatch.harness.blackbox_module import Module, Modules
from stormwatch.harness.blackbox_translation import Draft, Materials, Translation, translate
from stormwatch.harness.catalog import KINDS
from stormwatch.harness.document import read_document
from stormwatch.harness.entry import RESERVED
from stormwatch.harness.form import form_of
from stormwatch.harness.mistake import ConfigError
from stormwatch.probes.units import parse_duration, show_duration

EVERY: Final = 60.0
"""Seconds between two scrapes where Prometheus says nothing else."""
TIMEOUT: Final = 10.0
"""Seconds that a scrape may take where Prometheus says nothing else."""
_EXAMPLES: Final[Mapping[str, str]] = {
    "http": "https://example.org/",
    "tcp": "example.org:443",
    "icmp": "example.org",
    "dns": "127.0.0.1:53",
    "grpc": "example.org:443",
    "unix": "/run/example.sock",
    "websocket": "wss://example.org/",
}
"""Stand where a target belongs that nobody named."""


@dataclass(frozen=True, slots=True)
class Job:
    """One target that Prometheus asks for, and how."""

    module: str
    target: str
    every: float = EVERY
    timeout: float = TIMEOUT
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Jobs:
    """What Prometheus asks blackbox_exporter for."""

    jobs: Sequence[Job] = ()
    notes: Sequence[str] = ()
    """What could not be read out of it."""


def imported(modules: Modules, jobs: Jobs) -> str:
    """The configuration as text."""
    asked = {job.module for job in jobs.jobs}
    known = [job for job in jobs.jobs if job.module in modules.modules]
    notes = [*jobs.notes, *(f"no module is called {name}" for name in sorted(asked - modules.modules.keys()))]
    known += [Job(name, _EXAMPLES[module.prober]) for name, module in modules.modules.items() if name not in asked]
    names = _Names()
    head = [
        f"# Modules of {modules.path.name}, as probes of stormwatch. `stormwatch validate` says whether they can be used.",
        "# Secrets come from where `${env:…}` and `${file:…}` say: set those variables before you start.",
        *(f"# Not carried over: {note}." for note in notes),
    ]
    parts = [_probe(job, modules.modules[job.module], names.of(job), example=job.module not in asked) for job in known]
    return "\n".join([*head, "probes:", *parts, ""])


def _probe(job: Job, module: Module, name: str, *, example: bool) -> str:
    draft = _Referring(job.module)
    lines = [f"  # Module {job.module}{', of which no target is known: write yours' if example else ''}."]
    timeout = min(module.timeout or job.timeout, job.timeout)
    try:
        translation = translate(module, job.target, "", draft)
    except (ValueError, OSError) as error:
        return "\n".join([*lines, *_comment(f"It cannot be carried over: {error}")])
    entry: dict[str, Any] = {
        "name": name,
        "kind": translation.kind,
        "target": translation.target,
        "every": show_duration(job.every if job.every > timeout else timeout + 1),
        "timeout": show_duration(timeout),
        "confirm": {"attempts": 1},
    }
    if job.labels:
        entry["labels"] = dict(job.labels)
    entry[translation.kind] = _without_defaults(translation)
    text = draft.with_references(yaml.safe_dump([_escaped(entry)], sort_keys=False, allow_unicode=True, width=10**6))
    lines += [f"  # {note}." for note in _left_out(module)]
    return "\n".join([*lines, *(f"  {line}" for line in text.rstrip().splitlines())])


def _without_defaults(translation: Translation) -> dict[str, Any]:
    """The options that say something else than the kind does by itself."""
    kind = KINDS.get(translation.kind)
    usual = form_of(kind.options).write(kind.options()) if kind else {}
    return {name: value for name, value in translation.options.items() if usual.get(name, _NOTHING) != value}


_NOTHING: Final = object()


def _left_out(module: Module) -> Iterator[str]:
    if (
        module.http if module.prober == "http" else module.tcp if module.prober == "tcp" else module.unix
    ).check_revoked:
        yield "check_revoked is not carried over: a probe of kind tls asks about revocation"


def _comment(text: str) -> list[str]:
    return [f"  # {line}" for line in text.splitlines()]


class _Names:
    """A name of its own for each probe: that of the module, and the target's behind it when there are several."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, job: Job) -> str:
        wanted = _plain(job.module)
        if wanted in self._taken:
            wanted = _plain(f"{job.module}-{job.target}")
        name, number = wanted, 2
        while name in self._taken:
            name, number = f"{wanted[:95]}-{number}", number + 1
        self._taken.add(name)
        return name


def _plain(text: str) -> str:
    """As the names of probes are written."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100].strip("-._") or "probe"


class _Referring(Draft):
    """Puts references in the place of secrets and of files that hold them."""

    def __init__(self, module: str) -> None:
        super().__init__(Materials(Path()))
        self._module = re.sub(r"[^A-Z0-9]+", "_", module.upper()).strip("_")
        self._references: list[str] = []

    def secret(self, text: str, path: str = "") -> str:
        if path:
            return self._refer(f"${{file:{path}}}")
        return self._refer(f"${{env:{self._module}_SECRET_{len(self._references) + 1}}}") if text else ""

    def read(self, path: str, *, secret: bool = True, exact: bool = False) -> str:
        return self._refer(f"${{file:{path}}}")

    def file(self, text: str, path: str, suffix: str) -> str:
        if text and not path:
            raise ValueError("a certificate or key stands in the module itself: write it into a file, and name that")
        return path

    def with_references(self, text: str) -> str:
        """The text with the references in it, which were kept away from escaping."""
        for number, reference in enumerate(self._references):
            text = text.replace(_mark(number), reference)
        return text

    def _refer(self, reference: str) -> str:
        self._references.append(reference)
        return _mark(len(self._references) - 1)


def _mark(number: int) -> str:
    return f"@@reference-{number}@@"


def _escaped(value: Any) -> Any:
    """Texts as they stand in a configuration of ours, where `${` begins a reference."""
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def read_jobs(path: Path) -> Jobs:
    """What a Prometheus asks `/probe` for: the static targets of its scrape configurations. Raises ConfigError."""
    document, _ = read_document(path)
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("scrape_configs", []), list):
        raise ConfigError([document.mistake((), "is not a configuration of Prometheus: there are no scrape_configs")])
    overall = data.get("global") or {}
    jobs: list[Job] = []
    notes: list[str] = []
    for scrape in data.get("scrape_configs", []):
        if isinstance(scrape, dict) and scrape.get("metrics_path") == "/probe":
            _read_scrape(scrape, overall, jobs, notes)
    return Jobs(jobs, notes)


def _read_scrape(scrape: Mapping[str, Any], overall: Mapping[str, Any], jobs: list[Job], notes: list[str]) -> None:
    name = str(scrape.get("job_name", ""))
    params = scrape.get("params") or {}
    module = next(iter(params.get("module") or ["http_2xx"]))
    every = _duration(scrape.get("scrape_interval", overall.get("scrape_interval")), EVERY)
    timeout = _duration(scrape.get("scrape_timeout", overall.get("scrape_timeout")), min(TIMEOUT, every))
    notes += [f"targets of the job {name} that come from {key}" for key in scrape if key.endswith("_sd_configs")]
    relabelled = [rule.get("target_label") for rule in scrape.get("relabel_configs") or [] if isinstance(rule, dict)]
    notes += [f"the relabelling of {label} in the job {name}" for label in relabelled if label not in _USUAL and label]
    for group in scrape.get("static_configs") or []:
        labels = {
            label: str(value)
            for label, value in (group.get("labels") or {}).items()
            if label not in RESERVED and not label.startswith("__") and value
        }
        jobs += [Job(str(module), str(target), every, timeout, labels) for target in group.get("targets") or []]


_USUAL: Final = frozenset({"__param_target", "instance", "__address__"})
"""What the usual relabelling for blackbox_exporter sets: it means nothing to us."""


def _duration(text: Any, default: float) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        return default
