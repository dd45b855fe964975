"""What a process that makes load is asked for: the values that cross to it as JSON, by a pipe, because secrets are among them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Role(StrEnum):
    """What a process is among those that make one load."""

    ALONE = "alone"
    MASTER = "master"
    """Says what the workers do, and adds up what they saw."""
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Bound:
    """What is counted of a journey beside locust's statistics: how many were good, exactly."""

    step: str = ""
    """Empty: the journey as a whole."""
    seconds: float | None = None
    """What passed and took longer is bad. None: only what failed is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadJourney:
    """One journey that users run again and again."""

    name: str
    """As it is called in statistics. Empty with an empty `test`: each is called as its test."""
    file: Path
    test: str = ""
    """Empty: all journeys of the file."""
    browser: str = "chromium"
    base_url: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    client: str = field(default="", repr=False)
    """Who visits, as `Client.as_text` writes it, with its secrets; empty: a browser as it is. A journey without a browser has none."""
    timeout: float = 60.0
    """Seconds that a run in a browser may take."""
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadJob:
    """One process's part of a load."""

    journeys: tuple[LoadJourney, ...]
    role: Role = Role.ALONE
    users: int = 1
    spawn_rate: float = 1.0
    """Users that begin in a second."""
    seconds: float | None = None
    """How long, from the first user's beginning. None: until it is told to stop."""
    pause: float = 0.0
    """Seconds between the end of a user's run and the beginning of the next."""
    browser_users: int = 1
    """How many of the users run each browser journey, where there are API journeys beside them."""
    grace: float = 10.0
    """Seconds that runs which are under way at the end have for coming to theirs."""
    host: str = "127.0.0.1"
    """Where the master listens, or is."""
    port: int = 5557
    workers: int = 1
    """How many workers the master waits for before it begins."""
    patience: float = 60.0
    """Seconds that it waits for them."""
    page: str = ""
    """`host:port` of locust's page; empty for none."""
    csv: str = ""
    """The beginning of the names of locust's own CSV files; empty for none."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back equal."""
        document = asdict(self)
        for journey in document["journeys"]:
            journey["file"] = str(journey["file"])
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "LoadJob":
        """Read what `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        values: dict[str, Any] = dict(document)
        values["role"] = Role(document["role"])
        values["journeys"] = tuple(_journey(journey) for journey in document["journeys"])
        return cls(**values)


def _journey(document: Mapping[str, Any]) -> LoadJourney:
    values: dict[str, Any] = dict(document)
    values["file"] = Path(document["file"])
    values["bounds"] = tuple(Bound(**bound) for bound in document["bounds"])
    return LoadJourney(**values)
