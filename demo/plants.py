"""Failures that are planted in the platform while it runs, for the sample journeys to find.

    python -m stormwatch.demo.plants [--dir DIR] [NAME ...]

plants those that are named, digs out all others, and prints what is planted now. A planted failure is an empty file of that
name in `DIR/planted`, so `touch` and `rm` do the same. The services look when they are asked: nothing is started again.
"""

import argparse
import json
import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

PLANTS: Mapping[str, str] = {
    "slow-payment": "a card payment takes 8 s",
    "wrong-total": "the cart adds up to one euro too much",
    "missing-button": "hotels cannot be booked: the button is not there",
    "script-error": "a script of the product page raises an exception",
    "expired-session": "whoever logs in is logged out after one page",
    "third-party-down": "the guests' ratings, from another company, answer 503",
    "xhr-500": "the page of a ride asks where the driver is, and is answered 500",
}
"""What each of them does to the platform. None is seen by a probe that asks for health."""


@dataclass(frozen=True, slots=True)
class Plants:
    """What is planted now, in a directory that need not exist. None: nothing, ever."""

    directory: Path | None = None

    def has(self, name: str) -> bool:
        """Whether this one is planted. Raises KeyError for a name that nobody knows: a typing error would be silent."""
        _ = PLANTS[name]
        return self.directory is not None and (self.directory / name).exists()

    def all(self) -> list[str]:
        """The names of those that are planted, in the order of `PLANTS`."""
        return [name for name in PLANTS if self.has(name)]

    def plant(self, names: Collection[str]) -> None:
        """Plant these, and dig out all others. Raises ValueError for a name that is none, before anything is changed."""
        if unknown := [name for name in names if name not in PLANTS]:
            raise ValueError(f"there is no planted failure {unknown[0]!r}: there are {', '.join(PLANTS)}")
        assert self.directory is not None, "a platform has a directory"
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in PLANTS:
            if name in names:
                (self.directory / name).touch()
            else:
                (self.directory / name).unlink(missing_ok=True)


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Exit code 0; 2 for a name that is none, and where no platform runs."""
    from stormwatch.demo.command import PlatformFailed
    from stormwatch.demo.platform import Platform

    state = environ.get("STORMWATCH_STATE") or str(Path.home() / ".local" / "state" / "stormwatch")
    parser = argparse.ArgumentParser(
        prog="python -m stormwatch.demo.plants",
        description="Plant failures in the running sample platform, and dig out all others.",
        epilog="  ".join(f"{name}: {what}." for name, what in PLANTS.items()),
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="what to plant; without any name, nothing is left planted"
    )
    parser.add_argument("--dir", type=Path, default=Path(state, "demo"), help="where the platform keeps its files")
    options = parser.parse_args(arguments)
    try:
        platform = Platform.load(options.dir)
        platform.plants.plant(options.names)
    except (PlatformFailed, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a program's complaint
        return 2
    print(json.dumps({"planted": platform.plants.all()}))  # noqa: T201 - a program's output
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
