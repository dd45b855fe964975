"""`stormwatch init journey`: Playwright's recorder is started, and what it recorded becomes a journey."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from stormwatch.harness.problem import Problem
from stormwatch.journeys.chromium import find
from stormwatch.journeys.recording import NoRecording, RecordedJourney, journey_of
from stormwatch.journeys.secret_values import variable

CODEGEN = "playwright codegen --target python-pytest -o recording.py"


@dataclass(frozen=True, slots=True)
class WrittenJourney:
    """A journey that was recorded, and where it is."""

    file: Path
    name: str
    journey: RecordedJourney

    def as_json(self) -> dict[str, object]:
        """For a machine."""
        return {
            "file": str(self.file),
            "test": f"test_{self.name}",
            "base_url": self.journey.base_url,
            "steps": list(self.journey.steps),
            "secrets": list(self.journey.secrets),
            "notes": list(self.journey.notes),
        }

    def lines(self) -> list[str]:
        """For a person: what is there, what is to be done, how it is tried, what goes into the configuration."""
        journey = self.journey
        tried = " ".join(
            [
                *(f"{variable(name)}=…" for name in journey.secrets),
                "pytest",
                *(["--base-url", journey.base_url] if journey.base_url else []),
                str(self.file),
            ]
        )
        options = [f"      base_url: {journey.base_url}"] if journey.base_url else []
        if journey.secrets:
            secrets = ", ".join(f'{name}: "${{env:{_variable(self.name, name)}}}"' for name in journey.secrets)
            options.append(f"      secrets: {{{secrets}}}")
        return [
            f"wrote {self.file}: {len(journey.steps)} steps: {', '.join(journey.steps)}",
            *(f"note: {note}" for note in journey.notes),
            f"next: {tried}",
            "then, under `probes:` in stormwatch.yaml:",
            f"  - name: {self.name.replace('_', '-')}",
            "    kind: journey",
            f"    target: {self.file}::test_{self.name}",
            "    every: 2m",
            "    timeout: 45s",
            *(["    journey:", *options] if options else []),
        ]


def _variable(journey: str, secret: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", f"{journey}_{secret}".upper())


def init_journey(
    url: str, recording: Path | None, name: str, output: Path | None, *, environ: Mapping[str, str] = os.environ
) -> WrittenJourney:
    """Record a journey at `url`, or take a recording that is there, and write it. Raises Problem; then nothing is written."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise Problem(f"a journey's name is small letters, digits and _, as the name of a function is, not {name!r}")
    if bool(url) == bool(recording):
        raise Problem(
            "give the address where the recording begins, or --from with a recording that is there, and not both; "
            "for a starter configuration in a directory called journey, write ./journey"
        )
    file = output or Path("journeys", f"test_{name}.py")
    if file.exists():
        raise Problem(f"{file} is there already; nothing is overwritten, choose another --name or --output")
    if recording:
        try:
            text = recording.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Problem(f"cannot read {recording}: {getattr(error, 'strerror', None) or 'it is no text'}") from error
    else:
        text = record(url, environ)
    try:
        journey = journey_of(text, name)
    except NoRecording as error:
        raise Problem(f"{recording or 'the recording'} cannot be made a journey: {error}") from error
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as opened:
            opened.write(_formatted(journey.text, file))
    except OSError as error:
        raise Problem(f"cannot write {file}: {error.strerror}") from error
    return WrittenJourney(file, name, journey)


def record(url: str, environ: Mapping[str, str]) -> str:
    """What a person does in a browser, as Playwright's recorder writes it when its window is closed. Raises Problem."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise Problem(f"an address to record at is written like https://shop.example/, not {url!r}")
    if sys.platform == "linux" and not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
        raise Problem(
            "there is no display to record on (neither DISPLAY nor WAYLAND_DISPLAY is set); record where there is one "
            f"with `{CODEGEN} {url}`, and bring it here: `stormwatch init journey --from recording.py`"
        )
    with tempfile.TemporaryDirectory(prefix="stormwatch-recording-") as directory:
        # What is typed stands in there as it is.
        written = Path(directory, "recording.py")
        command = [sys.executable, "-m", "playwright", "codegen", "--target", "python-pytest", "-o", str(written), url]
        done = subprocess.run(command, env=_with_browser(environ), stderr=subprocess.PIPE, text=True, check=False)
        if not written.is_file():
            raise Problem(f"the recorder wrote nothing: {_cause(done.stderr)}")
        return written.read_text(encoding="utf-8")


def _cause(said: str) -> str:
    """The line that says it, of many: what Playwright puts into a box, else the error."""
    lines = [line.strip() for line in said.splitlines()]
    boxed = [line.strip("║ ") for line in lines if line.startswith("║")]
    errors = [line for line in lines if "rror" in line]
    return next(filter(None, (*boxed, *errors, *lines)), "it said nothing; did you close its window at once?")


def _with_browser(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which the recorder finds the machine's own browser where Playwright has not downloaded one."""
    own = environ.get("STORMWATCH_BROWSER") or find(environ.get("PATH", os.defpath), shell=False)
    downloads = environ.get("PLAYWRIGHT_BROWSERS_PATH") or str(Path.home() / ".cache" / "ms-playwright")
    there = any(Path(downloads).glob("chromium-*"))
    return {**environ, **({} if there or not own else {"PWTEST_CLI_EXECUTABLE_PATH": own})}


def _formatted(text: str, file: Path) -> str:
    """As ruff formats it, by the project's own rules, where ruff is there: long lines are what a recording has."""
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    if not ruff:
        return text
    command = [ruff, "format", "--stdin-filename", str(file), "-"]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return text
    return done.stdout if done.returncode == 0 and done.stdout else text


def show(written: WrittenJourney, *, as_json: bool) -> str:
    """What the command prints."""
    return json.dumps(written.as_json(), indent=2, ensure_ascii=False) if as_json else "\n".join(written.lines())
