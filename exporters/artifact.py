"""What a run of a journey kept: files, as its evidence names them, and what each of them is."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from stormwatch.probes.result import Result


class What(StrEnum):
    """What a file shows."""

    PICTURE = "picture"
    """A page at the moment of the failure."""
    STEP_PICTURE = "step-picture"
    """A page after a step."""
    VIDEO = "video"
    """What a page showed while the run went on."""
    TRACE = "trace"
    """Playwright's trace."""
    HAR = "har"
    """The requests as an HTTP Archive."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file."""

    path: str
    """Inside the directory of artifacts: `<probe>/<run>/page.png`."""
    what: What

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def run(self) -> str:
        """The folder of its run: `<probe>/<run>`."""
        return str(PurePosixPath(self.path).parent)


def artifacts_of(result: Result) -> tuple[Artifact, ...]:
    """What a run kept, in the order of its evidence. Whether it is still there is another question."""
    named = result.evidence.get("artifacts", ())
    paths = [each for each in named if isinstance(each, str)] if isinstance(named, list | tuple) else []
    return tuple(Artifact(path, _what(path)) for path in paths)


def _what(path: str) -> What:
    file = PurePosixPath(path)
    if file.suffix == ".png":
        return What.STEP_PICTURE if file.name.startswith("step-") else What.PICTURE
    return {".webm": What.VIDEO, ".zip": What.TRACE, ".har": What.HAR}.get(file.suffix, What.OTHER)
