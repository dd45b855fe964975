"""`RunRecord`: one run as whoever reads CI sees it, whether pytest ran it or `stormwatch check`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stormwatch.journeys.journey import message_of, write_down
from stormwatch.journeys.report import Report
from stormwatch.journeys.step_comparison import StepSeconds
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Phase, Reason, Result
from stormwatch.probes.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run, with the files that were kept of it."""

    key: str
    """What tells it from all others, in this run and the next."""
    name: str
    kind: str = "journey"
    target: str
    file: str = ""
    """The journey's own file; empty for a probe that has none."""
    outcome: Outcome
    reason: Reason = Reason.NONE
    message: str = ""
    started: float
    """Unix time in seconds."""
    seconds: float
    failed_step: str = ""
    steps: tuple[Phase, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """As docs/reference/journeys.md says."""
    artifacts: tuple[Path, ...] = ()

    @property
    def where(self) -> tuple[str, int | None]:
        """File and line where it failed; the journey's file alone where nobody knows the line."""
        file, _, line = str(self.evidence.get("where", "")).rpartition(":")
        return (file, int(line)) if file and line.isdecimal() else (self.file, None)

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "name": self.name,
            "key": self.key,
            "kind": self.kind,
            "target": self.target,
            "outcome": self.outcome.value,
            "reason": self.reason.value,
            "message": self.message,
            "started": self.started,
            "seconds": self.seconds,
            "failed_step": self.failed_step,
            "steps": [
                {"name": step.name, "seconds": step.seconds, "offset": step.offset, "failed": step.failed}
                for step in self.steps
            ],
            "evidence": dict(self.evidence),
            "artifacts": [str(path) for path in self.artifacts if path.is_file()],
        }


def record_of_report(report: Report, *, node: str, file: str, started: float, name: str = "") -> RunRecord:
    """What pytest ran, called `name` or else as its test. The artifacts of the report are whole paths."""
    key = node.removesuffix("[chromium]")
    name = name or key.partition("::")[2].replace("::", ".")
    watch = Watch(clock=SystemClock(), resources=Resources(), timeout=0.0, probe=name, trace_id="")
    write_down(report, watch, "")
    return RunRecord(
        key=key,
        name=name or node,
        target=node,
        file=file,
        outcome=report.outcome,
        reason=report.reason,
        message=message_of(report),
        started=started,
        seconds=report.seconds,
        failed_step=report.step,
        steps=tuple(watch.phases),
        evidence={key: value for key, value in watch.evidence.items() if key != "artifacts"},
        artifacts=tuple(Path(path) for path in report.artifacts),
    )


def record_of_result(result: Result, *, artifacts: Path) -> RunRecord:
    """What `stormwatch check` ran; the files of a journey are below `artifacts`."""
    evidence = dict(result.evidence)
    kept: Sequence[str] = evidence.pop("artifacts", ()) if result.kind == "journey" else ()
    return RunRecord(
        key=result.probe,
        name=result.probe,
        file=result.target.partition("::")[0] if result.kind == "journey" else "",
        kind=result.kind,
        target=result.target,
        outcome=result.outcome,
        reason=result.reason,
        message=result.message,
        started=result.started,
        seconds=result.seconds,
        failed_step=result.failed_phase,
        steps=result.phases,
        evidence=evidence,
        artifacts=tuple(artifacts / name for name in kept),
    )


def step_seconds(records: Sequence[RunRecord]) -> StepSeconds:
    """What is compared with other runs, and kept for them: the steps of the journeys that were up."""
    return {
        record.key: {step.name: step.seconds for step in record.steps}
        for record in records
        if record.kind == "journey" and record.outcome is Outcome.UP and record.steps
    }
