"""A document is read whole: all of the dialect, and every mistake with its place before anything is done."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.experiment import Asked, AtPath, Exactly, Kind, Matches, OneOf, Strategy, Tolerance, Within
from stormwatch.chaos.experiment_provider import mistakes
from stormwatch.chaos.experiment_reading import ExperimentMistake, is_experiment, read_experiment
from stormwatch.chaos.experiment_undo import load_document
from stormwatch.chaos.experiment_variables import VariableMissing, Variables, read_variables
from tests.chaos.experiments import experiment, function, http, program

EVERYTHING = """\
title: everything
description: of the dialect
tags: [a, b]
contributions: {reliability: high}
configuration:
  plain: 3
  host: {type: env, key: SHOP_HOST, default: 127.0.0.1}
  port: {type: env, key: SHOP_PORT, env_var_type: int}
secrets:
  shop: {token: {type: env, key: SHOP_TOKEN}}
controls:
  - name: tracing
    provider: {type: python, module: chaostracing.oltp}
steady-state-hypothesis:
  title: well
  probes:
    - {type: probe, name: up, tolerance: [200, 204], provider: {type: http, url: "http://${host}:${port}/", timeout: [3, 5]}}
    - {type: probe, name: file, tolerance: true, provider: {type: python, module: os.path, func: exists, arguments: {path: /}}}
method:
  - {type: action, name: go, background: true, provider: {type: process, path: "true", arguments: {--level: 3}, timeout: 2}, pauses: {after: 1}}
  - {ref: up}
rollbacks:
  - {type: action, name: back, provider: {type: process, path: "true"}}
runtime:
  hypothesis: {strategy: continously}
  rollbacks: {strategy: never}
"""


def test_the_whole_dialect(tmp_path: Path) -> None:
    """YAML; references; time-outs of a provider; what is not followed is said."""
    path = tmp_path / "everything.yaml"
    path.write_text(EVERYTHING)
    document = load_document(path)
    assert is_experiment(document)

    read = read_experiment(document)

    assert read.hypothesis is not None
    up = read.hypothesis.probes[0]
    assert (up.tolerance, up.timeout) == (OneOf(values=(200, 204)), 8)
    assert read.method[1] == up
    assert (read.method[0].background, read.method[0].timeout, read.method[0].pause_after) == (True, 2, 1)
    assert read.strategy is Strategy.CONTINUOUSLY
    assert read.warnings == (
        "runtime.rollbacks.strategy: never is not followed; what was begun is always rolled back",
        "control 'tracing' is not run: controls are code inside of `chaos run`",
    )
    known = read_variables(read, environ={"SHOP_PORT": "8080", "SHOP_TOKEN": "hunter2"}, overrides={"plain": 4})
    assert known.configuration == {"plain": 4, "host": "127.0.0.1", "port": 8080}
    assert known.fill(up.call)["url"] == "http://127.0.0.1:8080/"
    assert known.secret_values() == {"hunter2"}
    assert "hunter2" not in repr(known)


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({"title": ""}, "title: a text is needed, there is ''; say what the experiment is for"),
        ({"method": None}, "method: a list of activities is needed, it is missing; an empty list is allowed"),
        (
            {"method": [{"type": "act", "name": "x", "provider": {"type": "http", "url": "http://x"}}]},
            "method[0].type: probe or action is needed, there is 'act'; say which of them it is",
        ),
        (
            {"method": [{"type": "action", "name": "x", "provider": {"type": "grpc"}}]},
            "method[0].provider.type: python, process or http is needed, there is 'grpc'; choose one of them",
        ),
        (
            {"method": [{"type": "action", "name": "x", "provider": {"type": "http"}}]},
            "method[0].provider.url: a text is needed, it is missing; http calls it",
        ),
        (
            {"rollbacks": [program("x", path="/nowhere/tool")]},
            "rollbacks[0].provider.path: a program is needed, there is '/nowhere/tool'; install it, or give its whole path",
        ),
        (
            {"method": [http("x", "http://x", pauses={"before": -1})]},
            "method[0].pauses.before: seconds are needed, there is '-1'; a number that is not negative",
        ),
        (
            {"method": [http("x", "http://x", provider={"timeout": "soon"})]},
            "method[0].timeout: seconds are needed, there is 'soon'; a number that is not negative",
        ),
        (
            {"hypothesis": {"title": "t", "probes": [http("x", "http://x", kind="probe")]}},
            "steady-state-hypothesis.probes[0].tolerance: a tolerance is needed, it is missing; say which value is well",
        ),
        (
            {"method": [http("x", "http://x", tolerance=0.5)]},
            (
                "method[0].tolerance: a whole number or a range is needed, there is '0.5'; two numbers are hardly ever equal; "
                'write {"type": "range", "range": [0.5, 0.5]}'
            ),
        ),
        (
            {"method": [http("x", "http://x", tolerance={"type": "regex", "pattern": "(?=a)"})]},
            "method[0].tolerance.pattern: '(?=a)' is not an RE2 expression: invalid perl operator: (?=",
        ),
        (
            {"method": [http("x", "http://x", tolerance={"type": "range", "range": [1]})]},
            "method[0].tolerance.range: two numbers are needed, there is '[1]'; the lowest and the highest allowed",
        ),
        (
            {"method": [http("x", "http://x", tolerance={"type": "colour"})]},
            "method[0].tolerance.type: probe, range, regex or jsonpath is needed, there is 'colour'; choose one of them",
        ),
        (
            {"method": [{"ref": "x"}, {"name": "x", "ref": "x"}]},
            "method[0].ref: the name of another activity is needed, there is 'x'; there are: x",
        ),
        (
            {"runtime": {"hypothesis": {"strategy": "always"}}},
            (
                "runtime.hypothesis.strategy: one of default, before-method-only, after-method-only, during-method-only, "
                "continuously is needed, there is 'always'; choose one of them"
            ),
        ),
    ],
)
def test_mistakes(parts: dict[str, Any], line: str) -> None:
    """One line each: where, what was asked, what is there, the remedy."""
    with pytest.raises(ExperimentMistake) as caught:
        read_experiment(experiment(**parts))
    assert caught.value.lines[0] == line


@pytest.mark.parametrize(
    ("activity", "line"),
    [
        (function("x", "nowhere.at.all", "f"), "x: nowhere.at.all.f cannot be called: ModuleNotFoundError"),
        (function("x", "os", "getpidd"), "x: os.getpidd cannot be called: AttributeError"),
        (function("x", "shlex", "quote", provider={"arguments": {"t": ""}}), "x: shlex.quote(s): missing a required"),
    ],
    ids=["module", "function", "arguments"],
)
async def test_functions_are_looked_up_before_anything_is_done(activity: dict[str, Any], line: str) -> None:
    """A rollback whose name is misspelt must not be found out when it is needed."""
    (found,) = await mistakes(read_experiment(experiment(rollbacks=[activity])).activities)
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (
            {"secrets": {"a": {"b": {"type": "env", "key": "NO"}}}},
            "secrets.a.b: the environment variable NO is not set",
        ),
        ({"secrets": {"a": {"b": {"type": "vault", "key": "k"}}}}, "secrets.a.b: secrets are not read from Vault here"),
        (
            {"configuration": {"a": {"type": "env", "key": "NO"}}},
            "configuration.a: the environment variable NO is not set",
        ),
        (
            {"configuration": {"a": {"type": "env", "key": "N", "default": "x", "env_var_type": "int"}}},
            "configuration.a: int is asked for, N is 'x'",
        ),
    ],
)
def test_what_the_environment_lacks(document: dict[str, Any], line: str) -> None:
    """Said before anything is done."""
    with pytest.raises(VariableMissing, match=line[:20]) as caught:
        read_variables(read_experiment(experiment(**document)), environ={})
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    ("raw", "tolerance"),
    [
        (True, Exactly(value=True)),
        (200, Exactly(value=200)),
        ("up", Exactly(value="up")),
        ([1, 2, 3], OneOf(values=(1, 2, 3))),
        ({"type": "range", "range": [1, 2.5], "target": "status"}, Within(low=1, high=2.5, target="status")),
        ({"type": "regex", "pattern": "^a", "target": "stdout"}, Matches(pattern="^a", target="stdout")),
        ({"type": "jsonpath", "path": "$.a", "expect": None}, AtPath(path="$.a", has_expect=True)),
    ],
)
def test_tolerances(raw: Any, tolerance: Tolerance) -> None:
    """Each kind."""
    assert read_experiment(experiment(method=[http("x", "http://x", tolerance=raw)])).method[0].tolerance == tolerance


def test_a_probe_as_a_tolerance() -> None:
    """Another activity, which is looked up like all others."""
    asked = function("y", "math", "isfinite", kind="probe")
    read = read_experiment(experiment(method=[http("x", "http://x", tolerance=asked)]))
    tolerance = read.method[0].tolerance
    assert isinstance(tolerance, Asked)
    assert tolerance.probe.kind is Kind.PROBE
    assert tolerance.probe in read.activities


def test_references_keep_types_and_leave_strangers_alone() -> None:
    """As chaoslib's own templates."""
    known = Variables({"port": 80}, {"shop": {"token": "t"}})
    assert known.fill({"a": ["${port}", "p=${port}", "$token", "${unknown}", "$$5"], "b": 1}) == {
        "a": [80, "p=80", "t", "${unknown}", "$5"],
        "b": 1,
    }


async def test_the_experiment_in_the_documentation_is_one() -> None:
    """Its functions are there, with their arguments, and nothing of it is not followed."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "use-chaos-toolkit.md"
    block = re.search(r"^```json\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert block
    read = read_experiment(json.loads(block[1]))

    assert read.warnings == ()
    assert await mistakes(read.activities) == []
