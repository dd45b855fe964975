"""What a command imports: names, and not seconds, so that it is true on every machine."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest

from stormwatch.chaos.deferred import Deferred
from stormwatch.harness.blackbox_module import Prober
from stormwatch.harness.catalog import KINDS

SMALL = 'probes: [{name: front, kind: http, target: "http://127.0.0.1:1/"}]\n'
DRILLED = f"""\
{SMALL}
proxies: {{routes: [{{name: front, listen: "127.0.0.1:0", upstream: "127.0.0.1:1"}}]}}
drills:
  - {{name: slow, fault: {{kind: tcp-latency, target: front, delay: 9s}}, expect: {{probe: {{name: front, within: 60s}}}}}}
"""
IMPORTED = """\
import atexit, json, pathlib, sys
atexit.register(lambda: pathlib.Path("imported.json").write_text(json.dumps(sorted(sys.modules))))
from stormwatch.harness.cli import main
main()
"""
EXTRAS = {
    "aioquic",
    "aiokafka",
    "aiomysql",
    "apprise",
    "chaoslib",
    "locust",
    "nats",
    "pamqp",
    "psycopg",
    "redis",
    "websockets",
}
SERVING = {"h11", "httpx", "jinja2", "prometheus_client", "rich", "sqlite3", "starlette", "uvicorn", "uvloop"}
PROBING = {
    "celpy",
    "cronsim",
    "cryptography",
    "dns",
    "google",
    "jmespath",
    "jsonschema_rs",
    "playwright",
    "pycurl",
    "pytest",
    "re2",
}
READING = {"dateutil", "pydantic", "yaml"}


def imported(directory: Path, *arguments: str) -> set[str]:
    """The modules that a command has imported when it ends well."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads((directory / "imported.json").read_text()))


def packages(modules: set[str]) -> set[str]:
    """Of which packages these modules are."""
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_who_asks_for_help_waits_for_nothing(tmp_path: Path, option: str) -> None:
    """Neither the configuration's reader nor anything that probes, breaks or serves."""
    modules = imported(tmp_path, option)

    assert "stormwatch.harness.cli" in modules
    assert packages(modules) & (EXTRAS | SERVING | PROBING | READING) == set()
    assert {each for each in modules if each.startswith(("stormwatch.probes.", "stormwatch.chaos."))} == set()


def test_the_version_is_that_of_the_installed_package(tmp_path: Path) -> None:
    """With the name before it."""
    done = subprocess.run(
        [sys.executable, "-m", "stormwatch", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert (done.stdout, done.stderr) == (f"stormwatch {version('stormwatch')}\n", "")


def test_a_configuration_costs_what_stands_in_it(tmp_path: Path) -> None:
    """Of the kinds the one that it names, no fault without a drill, and nothing that only watching needs."""
    (tmp_path / "stormwatch.yaml").write_text(SMALL)

    modules = imported(tmp_path, "validate")

    kinds = {name for name in KINDS if KINDS[name].build.__module__ in modules}
    assert kinds == {"http"}
    assert packages(modules) & (EXTRAS | (SERVING - {"sqlite3"})) == set()
    assert packages(modules) & {"celpy", "cronsim", "playwright", "pytest"} == set()
    assert {each for each in modules if each.startswith("stormwatch.chaos.") and "fault" in each} <= {
        "stormwatch.chaos.fault",
        "stormwatch.chaos.fault_kind",
    }

    (tmp_path / "stormwatch.yaml").write_text(DRILLED)
    assert "stormwatch.chaos.route_faults" in imported(tmp_path, "validate")


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_has_the_name_that_it_is_found_by(name: str) -> None:
    """The table of the catalogue says only where it is."""
    assert KINDS[name].name == name


def test_names_of_kinds_cost_nothing_and_nothing_else_is_one() -> None:
    """A mapping as any other."""
    assert "http" in KINDS
    assert "htp" not in KINDS
    assert KINDS.get("htp") is None
    assert len(KINDS) == len(list(KINDS)) == len({kind.name for kind in KINDS.values()})


def test_what_serves_has_imported_what_it_will_be_asked_for() -> None:
    """An import holds up the loop: neither the first fault nor the first scrape of a kind may bring one."""
    asked = """
import sys
from stormwatch.chaos.proxy import Proxy
from stormwatch.harness import blackbox_checks
from stormwatch.probes.clock import SystemClock
Proxy((), SystemClock())
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=True)

    assert set(done.stdout.split()) >= {
        "stormwatch.chaos.route_faults",
        *(f"stormwatch.probes.{prober}" for prober in get_args(Prober)),
    }


def test_a_deferred_table_is_made_once_with_the_first_look() -> None:
    """And not before."""
    made: list[int] = []

    def rows() -> Mapping[str, int]:
        made.append(1)
        return {"one": 1, "two": 2}

    table = Deferred(rows)
    assert made == []

    assert "one" in table
    assert (dict(table), table.get("three"), len(table)) == ({"one": 1, "two": 2}, None, 2)
    assert made == [1]
