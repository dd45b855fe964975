"""What is installed: a wheel that claims one name, has every module, and starts from anywhere."""

import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from sysconfig import get_path
from zipfile import ZipFile

import pytest

HERE = Path(__file__).parents[2]
SETTINGS = tomllib.loads((HERE / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = list(SETTINGS["package-dir"].values())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the backend that pyproject.toml names, in a copy of the tree, and unpacked."""
    there = tmp_path_factory.mktemp("wheel")
    tree = there / "tree"
    for folder in FOLDERS:
        shutil.copytree(HERE / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(HERE / file, tree)
    built = subprocess.run(
        [sys.executable, "-c", f"from setuptools import build_meta as it; it.build_wheel({str(there)!r})"],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-2000:]
    (packed,) = there.glob("stormwatch-*.whl")
    ZipFile(packed).extractall(there / "installed")
    return there / "installed"


def test_it_claims_one_name_and_has_every_module(wheel: Path) -> None:
    """A folder that pyproject.toml does not know would be missing from what others install, and here nobody would notice."""
    assert {each.name for each in wheel.iterdir()} == {"stormwatch", f"stormwatch-{version('stormwatch')}.dist-info"}
    assert next(wheel.glob("*.dist-info/top_level.txt")).read_text().split() == ["stormwatch"]

    for folder in FOLDERS:
        inside = wheel / "stormwatch" / ("" if folder == "stormwatch" else folder)
        modules = {path.relative_to(HERE / folder) for path in (HERE / folder).rglob("*.py")}
        assert {each for each in modules if not (inside / each).is_file()} == set()


@pytest.mark.parametrize("where", [HERE, HERE / "tests", Path("/")], ids=["the repository", "its tests", "elsewhere"])
def test_it_starts_from_anywhere(wheel: Path, where: Path) -> None:
    """Also beside folders with names like ours. At the top of the repository it is the repository's, all of it."""
    # Without its site module, Python knows of no editable installation that would help out.
    python = [sys.executable, "-S"]
    environ = {"PYTHONPATH": f"{wheel}:{get_path('platlib')}:{get_path('purelib')}"}
    asked = "import stormwatch, stormwatch.harness.problem as one; print(stormwatch.__file__); print(one.__file__)"

    found, said = (
        subprocess.run(
            [*python, *command], cwd=where, env=environ, capture_output=True, text=True, timeout=60, check=True
        ).stdout
        for command in (["-c", asked], ["-m", "stormwatch", "--version"])
    )

    top = (HERE / "stormwatch", HERE) if where == HERE else (wheel / "stormwatch", wheel / "stormwatch")
    assert found.split() == [str(top[0] / "__init__.py"), str(top[1] / "harness" / "problem.py")]
    assert said == f"stormwatch {version('stormwatch')}\n"
