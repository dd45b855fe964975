"""`external_url` and `artifacts` in the configuration: what links begin with, and what is kept."""

import textwrap
from pathlib import Path

import pytest

from stormwatch.harness.artifacts_section import retention_of
from stormwatch.harness.config import ConfigError, effective, load
from stormwatch.journeys.retention import Limits


def test_the_configuration_says_where_people_reach_it(tmp_path: Path) -> None:
    """With or without a slash at its end; limits are in force and shown."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text(
        textwrap.dedent("""
            external_url: https://stormwatch.example/fra1
            artifacts: {max_size: 1GiB, max_age: 7d}
            probes: [{name: front, kind: tcp, target: "127.0.0.1:1"}]
        """)
    )
    shown = effective(load(path, environ={}))

    assert shown["external_url"] == "https://stormwatch.example/fra1/"
    assert shown["artifacts"] == {"max_size": "1GiB", "max_age": "7d"}


def test_each_journey_has_limits_of_its_own(tmp_path: Path) -> None:
    """Those it says, or the usual ones; what is no journey keeps nothing."""
    (tmp_path / "test_it.py").write_text("def test_it(): ...\n")
    path = tmp_path / "stormwatch.yaml"
    path.write_text(
        textwrap.dedent("""
            artifacts: {max_size: 1GiB, max_age: 7d}
            probes:
              - {name: front, kind: tcp, target: "127.0.0.1:1"}
              - name: pay
                kind: journey
                target: test_it.py::test_it
                journey: {artifacts_max_size: 10MiB, artifacts_max_age: 1h}
              - {name: usual, kind: journey, target: "test_it.py::test_it"}
        """)
    )
    config = load(path, environ={})
    retention = retention_of(config.artifacts, config.probes)

    assert retention.total == Limits(seconds=7 * 86400.0, bytes=2**30)
    assert retention.journeys == {
        "pay": Limits(seconds=3600.0, bytes=10 * 2**20),
        "usual": Limits(seconds=14 * 86400.0, bytes=200 * 2**20),
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("external_url: stormwatch.example", r"external_url: .*https?://"),
        ("artifacts: {max_size: 1G}", r"artifacts\.max_size: a size is written like"),
        ("artifacts: {size: 1GiB}", r"artifacts\.size: unknown key"),
        ("artifacts: 1GiB", r"artifacts: "),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, line: str, said: str) -> None:
    """With its place and what to write."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text(f'{line}\nprobes: [{{name: front, kind: tcp, target: "127.0.0.1:1"}}]\n')

    with pytest.raises(ConfigError, match=said) as caught:
        load(path, environ={})
    assert len(caught.value.lines) == 1


def test_a_video_without_ffmpeg_is_a_mistake_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the line that asks for it, with what is missing and what to do: nobody waits for a video that never comes."""
    monkeypatch.setenv("PATH", "/nowhere")
    (tmp_path / "test_it.py").write_text("def test_it(): ...\n")
    path = tmp_path / "stormwatch.yaml"
    path.write_text(
        "probes:\n- name: pay\n  kind: journey\n  target: test_it.py::test_it\n  journey:\n    keep: [page, video]\n"
    )

    with pytest.raises(ConfigError) as caught:
        load(path, environ={})

    (line,) = str(caught.value).splitlines()
    assert line == (
        f"{path}:6: probes[pay].journey.keep: a video needs the program ffmpeg, and there is none on the search path: "
        "install Debian's `ffmpeg`, or take `video` out of `keep`"
    )
