"""`stormwatch drill --matrix` before anything is injected: what is planned, what the guard takes out, what is refused."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from stormwatch.harness.config import Config, ConfigError, load
from stormwatch.harness.drill_guarding import Guarding
from stormwatch.harness.matrix_command import MatrixRequest, command, find_threshold
from stormwatch.harness.problem import Exit, Problem
from stormwatch.harness.publishing import Form

CONFIG = """\
# stormwatch.yaml
defaults: {every: 1s, timeout: 500ms, confirm: {attempts: 1}}
probes:
  - {name: front, kind: http, target: "http://127.0.0.1:18080/"}
  - {name: cart, kind: http, target: "http://127.0.0.1:19999/"}
objectives:
  - {name: promise, probe: front, target: 99%, window: 30d}
proxies:
  routes:
    - {name: shop, listen: "127.0.0.1:18080", upstream: "127.0.0.1:18081", http: true, serves: [cart]}
"""


def configured(path: Path, text: str = CONFIG) -> Config:
    file = path / "stormwatch.yaml"
    file.write_text(text)
    return load(file, environ={})


def guarded(config: Config, path: Path) -> Guarding:
    return Guarding(guard=config.guard, config=config, data=path)


def planned(config: Config, path: Path, capsys: pytest.CaptureFixture[str], **asked: Any) -> dict[str, Any]:
    request = MatrixRequest(plan=True, form=Form.JSON, **asked)
    assert asyncio.run(command(config, request, guarded(config, path))) == Exit.GOOD
    return json.loads(capsys.readouterr().out)


def test_a_plan_lists_every_cell_with_who_is_concerned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who connects is known; who is declared under `serves` too; and what is judged of both."""
    document = planned(configured(tmp_path), tmp_path, capsys)
    cells = {one["name"]: one for one in document["cells"]}

    assert set(cells) == {
        f"shop/{kind}"
        for kind in ("tcp-latency", "tcp-blackhole", "tcp-reset", "tcp-refused", "http-status", "http-body")
    }
    assert cells["shop/tcp-reset"]["subjects"] == ["front", "cart", "promise"]
    assert cells["shop/tcp-reset"]["limit"] == 4.5
    assert not cells["shop/tcp-reset"]["alone"]


def test_cells_are_chosen_by_patterns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of several, any."""
    document = planned(configured(tmp_path), tmp_path, capsys, only=("*/tcp-re*", "shop/http-body"))

    assert sorted(one["name"] for one in document["cells"]) == ["shop/http-body", "shop/tcp-refused", "shop/tcp-reset"]


def test_a_scale_is_declared_with_what_it_could_not_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Windows that would hold no results are as short as they can be."""
    document = planned(configured(tmp_path), tmp_path, capsys, scale="1/600")

    assert document["scale"] == "1/600"
    assert "promise: the window of 0 s is 2 s, or it held no results" in document["held"]


def test_the_guard_takes_out_what_may_not_be_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cell by cell, with its sentence."""
    other = '    - {name: hotel, listen: "127.0.0.1:18090", upstream: "127.0.0.1:18091"}\nguard: {targets: [hotel]}\n'
    document = planned(configured(tmp_path, CONFIG + other), tmp_path, capsys)

    assert {one["name"].partition("/")[0] for one in document["cells"]} == {"hotel"}
    assert all("the guard refuses: " in one["why"] for one in document["skipped"])
    assert len(document["skipped"]) == 6


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"only": ("shop/nothing",)}, "no cell of the matrix is called shop/nothing"),
        ({"scale": "2"}, "--scale: a scale makes windows shorter"),
        ({"scale": "x"}, "--scale: a scale is written like 1/60"),
        ({"scale": "1/2", "watch": "http://127.0.0.1:1"}, "--scale: a running stormwatch has its own rules"),
    ],
)
def test_what_cannot_be_run_is_one_line(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    """With the remedy; nothing is injected."""
    config = configured(tmp_path)
    with pytest.raises(Problem) as refused:
        asyncio.run(command(config, MatrixRequest(**asked), guarded(config, tmp_path)))

    assert refused.value.code is Exit.USAGE
    assert len(refused.value.lines) == 1
    assert refused.value.lines[0].startswith(said)


def test_nothing_to_break_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    """A configuration without routes and targets."""
    config = configured(tmp_path, CONFIG.partition("proxies:")[0])
    with pytest.raises(Problem, match="put routes under `proxies:`"):
        asyncio.run(command(config, MatrixRequest(), guarded(config, tmp_path)))


def test_a_matrix_that_cannot_be_kept_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an interruption would lose is not worth breaking anything."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "matrix.jsonl").mkdir()
    monkeypatch.setenv("STORMWATCH_STATE", str(tmp_path / "state"))
    config = configured(tmp_path)
    with pytest.raises(Problem, match=r"cannot keep what the matrix finds in .*matrix\.jsonl: "):
        asyncio.run(command(config, MatrixRequest(), guarded(config, tmp_path)))


def test_another_matrix_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what it found thrown away."""
    (tmp_path / "state").mkdir()
    kept = tmp_path / "state" / "matrix.jsonl"
    kept.write_text('{"matrix":"of others"}\n')
    monkeypatch.setenv("STORMWATCH_STATE", str(tmp_path / "state"))
    config = configured(tmp_path)
    with pytest.raises(Problem, match=r"--resume: what is kept in .*matrix\.jsonl is of another matrix: give the same"):
        asyncio.run(command(config, MatrixRequest(resume=True), guarded(config, tmp_path)))

    assert kept.read_text() == '{"matrix":"of others"}\n'


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shop/tcp-latncy", "--threshold shop/tcp-latncy: there is no such cell; did you mean shop/tcp-latency?"),
        ("shop/tcp-refused", "--threshold shop/tcp-refused: its fault has no size; "),
    ],
)
def test_a_threshold_is_asked_of_a_fault_with_a_size(tmp_path: Path, name: str, said: str) -> None:
    """By the name of its cell."""
    config = configured(tmp_path)
    with pytest.raises(Problem) as refused:
        asyncio.run(find_threshold(config, name, MatrixRequest(), guarded(config, tmp_path)))

    assert refused.value.lines[0].startswith(said)


def test_a_route_that_serves_nobody_we_know_is_a_mistake_in_the_file(tmp_path: Path) -> None:
    """With its line, and what it may have meant."""
    with pytest.raises(ConfigError) as wrong:
        configured(tmp_path, CONFIG.replace("serves: [cart]", "serves: [crat]"))

    assert str(wrong.value).endswith(
        "stormwatch.yaml:10: proxies.routes[shop].serves[0]: no objective or probe is called crat; did you mean cart?"
    )
