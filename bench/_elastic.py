"""@elastic/synthetics beside us: installed from npm into `build/`, in the Chromium that our journeys run in."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench._two_pages import JOURNEY, ROOT
from stormwatch.journeys.chromium import launch_args

VERSION: Final = "1.26.3"
PACKAGE: Final = "@elastic/synthetics"
_HOME: Final = ROOT / "build" / "bench-node"

RICH: Final = ("--rich-events",)
"""What Elastic's agent runs it with: pictures of each step, requests, the browser's own trace, JSON events."""
PLAIN: Final = ("--screenshots", "off")
"""Nothing but the verdict."""


class ElasticMissing(Exception):
    """It cannot be had; one sentence says why."""


@dataclass(frozen=True, slots=True)
class Elastic:
    """An installation."""

    program: Path

    @classmethod
    def install(cls) -> "Elastic":
        """Install it, unless that was done. Raises ElasticMissing."""
        installed = _HOME / "node_modules" / PACKAGE / "package.json"
        if not installed.is_file() or json.loads(installed.read_text())["version"] != VERSION:
            npm = shutil.which("npm")
            if npm is None:
                raise ElasticMissing(f"{PACKAGE} is left out: there is no npm; on Debian apt-get install npm")
            _HOME.mkdir(parents=True, exist_ok=True)
            # Its scripts would fetch browsers of its own. All are to run in the same.
            command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(_HOME)]
            try:
                done = subprocess.run(
                    [*command, f"{PACKAGE}@{VERSION}"], check=False, capture_output=True, text=True, timeout=600
                )
            except subprocess.TimeoutExpired:
                raise ElasticMissing(f"{PACKAGE} is left out: npm did not install it within 10 min") from None
            if done.returncode or not installed.is_file():
                said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
                raise ElasticMissing(f"{PACKAGE} is left out: npm could not install it: {said}")
        return cls(installed.parent / "dist" / "cli.js")

    def command(self, folder: Path, url: str, options: Sequence[str], *, runs: int = 1) -> list[str]:
        """What runs the journey over both pages so often in one process. `folder` is made, and the directory to run it in."""
        node, chromium = shutil.which("node"), launch_args({}, downloaded=str(folder / "none"))
        if node is None or not chromium:
            raise ElasticMissing(f"{PACKAGE} is left out: there is no {'Chromium of the machine' if node else 'node'}")
        folder.mkdir(parents=True)
        # A project, as it wants to be run in one, and finds its own package from there.
        (folder / "package.json").write_text("{}")
        (folder / "node_modules").symlink_to(_HOME / "node_modules")
        (folder / "two-pages.journey.js").write_text(JOURNEY.format(url=url, runs=runs))
        playwright = {"executablePath": chromium["executable_path"], "args": chromium["args"]}
        return [node, str(self.program), str(folder), "--playwright-options", json.dumps(playwright), *options]
