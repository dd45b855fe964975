"""What a load has done, in a file of fixed size that the process that makes it maps: what was counted survives its SIGKILL."""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

_LAYOUT = struct.Struct("=4q2d200s")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCount:
    """Requests that are over."""

    users: int = 0
    """Users that are making requests."""
    answered: int = 0
    """Requests; of journeys the runs that passed."""
    errors: int = 0
    """Of the answered, those with a status of 400 or more."""
    unanswered: int = 0
    """Refused, reset, timed out; of journeys the runs that did not pass."""
    first: float = 0.0
    """Unix time of the first answer; 0 before it."""
    last: float = 0.0
    """Unix time of the last answer."""
    why: str = ""
    """Why the last that was not answered was not."""

    @property
    def requests(self) -> int:
        """All of them."""
        return self.answered + self.unanswered

    def sentence(self, *, journeys: bool = False) -> str:
        """For people; of `journeys`, what is counted are runs: answered are those that passed."""
        users = "1 user" if self.users == 1 else f"{self.users} users"
        if journeys:
            failed = f"; {self.unanswered} did not: {self.why}" if self.unanswered else ""
            return f"{users}, {self.answered} runs of journeys passed{failed}"
        if not self.errors and not self.unanswered:
            return f"{users} whose requests were all answered"
        errors = f", {self.errors} of them with a status of 400 or more" if self.errors else ""
        unanswered = f"; {self.unanswered} not: {self.why}" if self.unanswered else ""
        return f"{users} with {self.answered} requests answered{errors}{unanswered}"


class LoadCountFile:
    """The file, open for whoever counts. One process writes, and any may read."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _LAYOUT.size)

    @staticmethod
    def create(path: Path) -> None:
        """A new one in which nothing is counted yet. Raises OSError, FileExistsError among them."""
        with path.open("xb") as file:
            file.write(bytes(_LAYOUT.size))

    @staticmethod
    def read(path: Path) -> LoadCount:
        """What is counted now; nothing where there is no file."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return LoadCount()
        users, answered, errors, unanswered, first, last, why = _LAYOUT.unpack(data)
        return LoadCount(
            users=users,
            answered=answered,
            errors=errors,
            unanswered=unanswered,
            first=first,
            last=last,
            why=why.rstrip(b"\0").decode(errors="replace"),
        )

    def write(self, count: LoadCount) -> None:
        """Put it into the place of what was there."""
        self._map[:] = _LAYOUT.pack(
            count.users,
            count.answered,
            count.errors,
            count.unanswered,
            count.first,
            count.last,
            count.why.encode()[:200],
        )
