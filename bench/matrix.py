"""The whole matrix of the sample platform: as it is shipped, and repaired. How many cells, how long, and whether it is right.

    python -m bench.matrix                  both
    python -m bench.matrix --shipped        only the configuration with the gaps
    python -m bench.matrix --repaired       only the other
    python -m bench.matrix --report=DIR     with the pages of both, shipped.html and repaired.html

Right is: survivors are exactly the cells of the gaps that `demo/config.py` documents; repaired, there are none; there are no false
alarms; and each of the two ends within a quarter of an hour, from the start of the command to its report. The matrix is that of
`stormwatch drill --matrix`, in a process of its own, with the platform in others, all on this machine.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stormwatch.demo.config import GAPS, REPAIRED, write_config
from stormwatch.demo.platform import start_platform

LIMIT = 900.0
"""Seconds that a matrix may take."""
CELLS = 60
"""Cells that there must be at least."""


def main(given: Sequence[str] = ()) -> int:
    """Start the platform, run both, print. Exit code 1 when something is not as it should be."""
    given = given or sys.argv[1:]
    return asyncio.run(_both([one for one in given if one.startswith("--")]))


async def _both(asked: Sequence[str]) -> int:
    pages = next((Path(one.partition("=")[2]) for one in asked if one.startswith("--report=")), None)
    planted = {cell for cells in GAPS.values() for cell in cells}
    wanted = {"--shipped": ("stormwatch.yaml", planted), "--repaired": (REPAIRED, set[str]())}
    failed = False
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "platform"
        platform = await start_platform(path, ports="free", linger=0)
        try:
            write_config(platform, path / "stormwatch.yaml")
            for name, (file, survivors) in wanted.items():
                if name in asked or not set(asked) & wanted.keys():
                    failed |= await asyncio.to_thread(_one, name.removeprefix("--"), path / file, survivors, pages)
        finally:
            await platform.stop()
    return int(failed)


def _one(name: str, config: Path, survivors: set[str], pages: Path | None) -> bool:
    """Whether it is not as it should be."""
    page = [] if pages is None else ["--report", pages.absolute() / f"{name}.html"]
    began = time.monotonic()
    ended = subprocess.run(
        [Path(sys.executable).with_name("stormwatch"), "drill", "--matrix", "-c", config, "--format", "json", *page],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "STORMWATCH_STATE": str(config.parent / "state")},
        check=False,
    )
    seconds = time.monotonic() - began
    if not ended.stdout:
        print(f"{name}: no report, exit code {ended.returncode}")
        return True
    report: dict[str, Any] = json.loads(ended.stdout)
    survived = {one["cell"] for one in report["survivors"]}
    score, alarms = report["score"], [one for control in report["controls"] for one in control["alarms"]]
    print(
        f"{name}: {len(report['outcomes'])} cells in {seconds:.0f} s; score {score['share']:.1%} "
        f"({score['killed']} of {score['of']}, {score['low']:.1%} to {score['high']:.1%}); states {report['states']}"
    )
    wrong = [
        *(f"not noticed, and no planted gap: {cell}" for cell in sorted(survived - survivors)),
        *(f"a planted gap that was not found: {cell}" for cell in sorted(survivors - survived)),
        *(f"a false alarm: {alarm['labels']}" for alarm in alarms),
        *([f"took {seconds:.0f} s, longer than {LIMIT:.0f} s"] if seconds > LIMIT else []),
        *([f"{len(report['outcomes'])} cells, fewer than {CELLS}"] if len(report["outcomes"]) < CELLS else []),
        *([f"exit code {ended.returncode}"] if ended.returncode != (1 if survivors else 0) else []),
    ]
    right = "exactly the planted gaps" if survivors else "nothing goes unnoticed"
    print("\n".join(f"  WRONG: {line}" for line in wrong) or f"  right: {right}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
