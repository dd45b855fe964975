"""`stormwatch dashboards`: which Grafana dashboards there are, and their files."""

from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

from stormwatch.exporters import dashboard_provisioning as provisioning
from stormwatch.exporters.dashboards import DASHBOARDS, dashboard_json
from stormwatch.harness.invocation import write
from stormwatch.harness.problem import Problem
from stormwatch.slo.document import yaml_text

Say = Callable[[str], None]


def as_json() -> list[dict[str, Any]]:
    """What there is, for a machine."""
    return [
        {
            "file": f"{each.name}.json",
            "uid": each.uid,
            "title": each.title,
            "description": each.description,
            "panels": len(list(each.panels)),
        }
        for each in DASHBOARDS
    ]


def lines() -> list[str]:
    """The same for a person."""
    width = max(len(each.uid) for each in DASHBOARDS)
    return [f"{each.uid:<{width}}  {each.title}: {each.description}" for each in DASHBOARDS]


def write_dashboards(directory: Path, *, status_page: str, say: Say) -> None:
    """A file for each dashboard. `status_page` is where links to evidence lead. Raises Problem when the directory cannot be written."""
    _make(directory)
    for each in DASHBOARDS:
        write(dashboard_json(each, status_page=status_page.rstrip("/")), directory / f"{each.name}.json")
    say(f"wrote {len(DASHBOARDS)} dashboards into {directory}")


def write_provisioning(directory: Path, *, dashboards: PurePath, prometheus: str, say: Say) -> None:
    """Grafana's two provisioning files, in the directories that it expects. Raises Problem as above."""
    files = {"datasources": provisioning.datasource(prometheus), "dashboards": provisioning.provider(dashboards)}
    for name, content in files.items():
        _make(directory / name)
        file = directory / name / f"stormwatch-{name}.yaml"
        write(yaml_text(content), file)
        say(f"wrote {file}")
    say("next: restart Grafana")


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(f"cannot write into {directory}: {error.strerror}") from error
