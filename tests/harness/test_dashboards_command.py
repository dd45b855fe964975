"""`stormwatch dashboards`, as a user calls it."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.servers.command import invoke

CONFIG = Path(__file__).parents[2] / "config"


def stormwatch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return invoke("dashboards", *arguments)


def test_it_lists_what_there_is() -> None:
    """For a person a line each, for a machine the same and more."""
    listed, told = stormwatch(), stormwatch("--format", "json")
    assert (listed.returncode, told.returncode) == (0, 0)
    dashboards = json.loads(told.stdout)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [each["uid"] for each in dashboards]
    assert {each["file"] for each in dashboards} == {path.name for path in (CONFIG / "dashboards").iterdir()}
    assert all(each["panels"] > 4 and each["title"] and each["description"] for each in dashboards)


def test_it_writes_the_dashboards_and_tells_grafana_where_they_are(tmp_path: Path) -> None:
    """The files are those of the repository; the provisioning names the directory and the Prometheus that were given."""
    boards, grafana = tmp_path / "new" / "boards", tmp_path / "grafana"
    done = stormwatch("-o", boards, "--provisioning", grafana, "--prometheus", "http://prometheus.example:9090")
    assert (done.returncode, done.stdout) == (0, "")
    for path in (CONFIG / "dashboards").iterdir():
        assert (boards / path.name).read_text() == path.read_text()
    (provider,) = yaml.safe_load((grafana / "dashboards" / "stormwatch-dashboards.yaml").read_text())["providers"]
    assert provider["options"]["path"] == str(boards)
    (source,) = yaml.safe_load((grafana / "datasources" / "stormwatch-datasources.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus.example:9090")
    assert done.stderr.splitlines()[-1].endswith("next: restart Grafana")


def test_links_lead_to_the_status_page_that_is_given(tmp_path: Path) -> None:
    """What is provisioned cannot be saved with another address, so the file has it."""
    assert stormwatch("-o", tmp_path, "--status-page", "https://watch.example/").returncode == 0
    for path in tmp_path.iterdir():
        listed = {each["name"]: each for each in json.loads(path.read_text())["templating"]["list"]}
        if "status_page" in listed:
            assert (
                listed["status_page"]["query"] == listed["status_page"]["current"]["value"] == "https://watch.example"
            )
        assert "127.0.0.1" not in path.read_text()


@pytest.mark.parametrize("arguments", [("-o", "{file}/boards"), ("--provisioning", "{file}")])
def test_what_cannot_be_done_is_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A directory below a file; provisioning without dashboards."""
    file = tmp_path / "file"
    file.touch()
    done = stormwatch(*(argument.format(file=file) for argument in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "Not a directory" in line or "-o DIR" in line
