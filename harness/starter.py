"""`stormwatch init`: a commented configuration and a first journey, to be edited."""

from importlib.resources import files
from pathlib import Path

from stormwatch.harness.problem import Problem

STARTER = {
    Path("stormwatch.yaml"): "starter.yaml",
    Path("journeys", "test_visit.py"): "starter_journey.txt",
}
"""What is written, and the data file of `stormwatch.config` that it comes from."""


def write_starter(directory: Path) -> list[Path]:
    """Write the starter files and return their paths. Raises Problem when one is there already; then nothing is written."""
    there = [directory / path for path in STARTER if (directory / path).exists()]
    if there:
        raise Problem(
            *(
                f"{path} is there already; nothing is overwritten, remove it or choose another directory"
                for path in there
            )
        )
    data = files("stormwatch.config")
    written: list[Path] = []
    for path, source in STARTER.items():
        target = directory / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(data.joinpath(source).read_text(encoding="utf-8"), encoding="utf-8")
        except OSError as error:
            raise Problem(f"cannot write {target}: {error.strerror}") from error
        written.append(target)
    return written
