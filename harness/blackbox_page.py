"""What people see of `/probe`: one run in words, and the page of the last runs."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from stormwatch.exporters.status import page_environment
from stormwatch.harness.blackbox_history import Entry
from stormwatch.harness.outcomes import lag_text, show_seconds
from stormwatch.probes.result import Outcome

if TYPE_CHECKING:
    from stormwatch.harness.blackbox_prober import BlackboxProber


def debug_text(entry: Entry, shown: Mapping[str, Any]) -> str:
    """Everything about one run, under blackbox_exporter's three headings. `shown` is the module, secrets masked."""
    module = yaml.safe_dump(dict(shown), sort_keys=False, allow_unicode=True, width=120)
    return "\n".join(
        (
            "Logs for the probe:",
            *_story(entry),
            "\n\n\nMetrics that would have been returned:",
            entry.page.decode(),
            "\n\nModule configuration:",
            module,
        )
    )


def _story(entry: Entry) -> list[str]:
    result = entry.result
    began = datetime.fromtimestamp(result.started, UTC).isoformat(timespec="milliseconds")
    lines = [
        f"{began} began: {result.kind} {result.target}, at most {show_seconds(result.timeout)}, trace {result.trace_id}"
    ]
    if result.queued > 0.001:
        lines.append(f"  waited {show_seconds(result.queued)} for other runs before it began")
    lines += [
        f"  {show_seconds(phase.offset):>10}  {phase.name}: {show_seconds(phase.seconds)}"
        f"{', failed here' if phase.failed else ''}"
        for phase in result.phases
    ]
    lines += [
        f"  seen: {key}: {value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)}"
        for key, value in result.evidence.items()
    ]
    if result.lagged:
        lines.append(f"  {lag_text(result)}")
    ended = f"ended after {show_seconds(result.seconds)}: {result.outcome.value}"
    if result.outcome is not Outcome.UP:
        where = f" in {result.failed_phase}" if result.failed_phase else ""
        ended += f", {result.reason.value}{where}: {result.message}"
    if result.outcome is Outcome.BROKEN:
        ended += " (broken: we failed, and it says nothing of the target)"
    return [*lines, ended]


def history_page(prober: "BlackboxProber", *, config: str) -> str:
    """The last runs as HTML. `config` is where the modules are shown, counted from this page."""
    view = {"now": prober.clock.now(), "refresh": 0, "location": ""}
    entries = list(prober.history)
    return (
        page_environment()
        .get_template("blackbox.html")
        .render(
            view=view,
            root="",
            config=config,
            entries=entries,
            modules=list(prober.modules.modules),
            tone="down" if entries and entries[0].result.outcome is Outcome.DOWN else "up",
        )
    )
