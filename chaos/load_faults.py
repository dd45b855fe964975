"""Load on a service by locust: found again by its mark, counted where it is made, with an end of its own in case that nobody is left.

locust changes sockets, threads and processes of the interpreter that it is imported into, which is therefore never ours.
"""

import asyncio
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.breakage import CannotBreak
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault_kind import FaultKind
from stormwatch.chaos.host_program import MARK, Setting, end_all, leave_running, marked, show_output
from stormwatch.chaos.load_count import LoadCount, LoadCountFile
from stormwatch.chaos.load_options import LoadRequest, LoadSpike, ServiceTarget
from stormwatch.chaos.load_process import BEGIN, JOB
from stormwatch.chaos.option import Options
from stormwatch.chaos.shield import to_the_end
from stormwatch.chaos.target import TargetKind
from stormwatch.probes.result import Reason
from stormwatch.probes.url import Url

_LOST = 1.0
"""Seconds on top of what a user waits for an answer, after which nobody is there."""
_LOOK = 0.05
_PASSED_ON = ("PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables without which the same interpreter might not find our packages, or trust other authorities."""


@dataclass(slots=True)
class Loading:
    """One process of locust's, and the file that it counts into."""

    fault: str
    options: LoadSpike
    target: ServiceTarget
    method: str = "load"

    async def prepare(self) -> Mapping[str, Any]:
        if importlib.util.find_spec("locust") is None:
            raise CannotBreak("load is made by locust, which is not installed: pip install 'stormwatch[load]'")
        if self.target.ca_file and not os.access(self.target.ca_file, os.R_OK):
            raise CannotBreak(f"ca_file {self.target.ca_file} cannot be read; give the certificates in PEM")
        if self.options.journey and not os.access(self.options.journey, os.R_OK):
            raise CannotBreak(f"the file of journeys {self.options.journey} cannot be read")
        return {"fault": self.fault, "directory": str(self._place()), "journeys": bool(self.options.journey)}

    async def inject(self) -> None:
        place = self._place()
        place.mkdir(mode=0o700)
        LoadCountFile.create(place / "count")
        setting = self._setting()
        with tempfile.TemporaryFile() as errors:
            await to_the_end(
                asyncio.to_thread(
                    leave_running,
                    (sys.executable, "-P", "-m", "stormwatch.chaos.load_process"),
                    mark={MARK: self.fault, JOB: json.dumps(self._job())},
                    setting=setting,
                    errors=errors,
                )
            )
            await self._met(errors)

    async def _met(self, errors: IO[bytes]) -> None:
        """Wait for the first answer, once there are users for as long as one of them waits."""
        deadline, began = time.monotonic() + BEGIN, False
        while not (seen := self._count()).first:
            if seen.users and not began:
                deadline, began = time.monotonic() + self.options.timeout + _LOST, True
            if not await asyncio.to_thread(marked, self.fault):
                errors.seek(0)
                raise CannotBreak(f"locust ended: {show_output(errors.read().decode(errors='replace'))}")
            if time.monotonic() > deadline:
                raise CannotBreak(_met_nobody(seen, self.target.url, journeys=bool(self.options.journey)))
            await asyncio.sleep(_LOOK)

    async def evidence(self) -> Evidence:
        if not await asyncio.to_thread(marked, self.fault):
            raise CannotBreak("locust does not run any more; at_most may have been too short, or memory ran out")
        return _evidence(self._count(), journeys=bool(self.options.journey))

    def _setting(self) -> Setting:
        if self.options.journey:
            # As pytest has it where it is called: a journey is somebody's program.
            return Setting(env=os.environ, directory=str(Path(self.options.journey).parent))
        return Setting(env={name: os.environ[name] for name in _PASSED_ON if name in os.environ})

    def _count(self) -> LoadCount:
        return LoadCountFile.read(self._place() / "count")

    def _place(self) -> Path:
        return Path(tempfile.gettempdir()) / f"stormwatch-{self.fault}"

    def _job(self) -> dict[str, Any]:
        url = Url.parse(self.target.url)
        asked = urlsplit(url.text)
        whole = f"{asked.path or '/'}{f'?{asked.query}' if asked.query else ''}"
        return {
            "origin": url.origin,
            "ca_file": self.target.ca_file,
            "count": str(self._place() / "count"),
            "journey": self.options.journey,
            "test": self.options.test,
            "requests": [self._request(one) for one in self.options.requests or (LoadRequest(path=whole),)],
            "users": self.options.users,
            "spawn_rate": self.options.spawn_rate,
            "pause": self.options.pause,
            "timeout": self.options.timeout,
            "at_most": self.options.at_most,
        }

    def _request(self, asked: LoadRequest) -> dict[str, Any]:
        what = {"Content-Type": asked.content_type} if asked.body else {}
        return {
            "method": asked.method,
            "path": asked.path,
            "weight": asked.weight,
            "body": asked.body,
            "headers": {**what, **self.target.headers},
        }


async def undo_load(arguments: Mapping[str, Any]) -> Absence:
    """End the load, and tell what it has done. Idempotent. Raises UndoFailed."""
    fault, directory = str(arguments["fault"]), Path(str(arguments["directory"]))
    try:
        ended = await end_all(lambda: marked(fault))
    except (TimeoutError, PermissionError) as error:
        raise UndoFailed(f"the load goes on: {error}; undo as root, or wait for its own end") from error
    count, there = LoadCountFile.read(directory / "count"), True
    try:
        await asyncio.to_thread(shutil.rmtree, directory)
    except FileNotFoundError:
        there = False
    except OSError as error:
        raise UndoFailed(f"{directory} cannot be removed: {error.strerror}; remove it by hand") from error
    return Absence(
        bool(ended) or there,
        f"{ended} processes of locust are ended" if ended else "no locust of it runs",
        evidence=_evidence(count, journeys=bool(arguments.get("journeys"))) if there else None,
    )


def _evidence(count: LoadCount, *, journeys: bool) -> Evidence:
    # Refusals alone are no touch: whoever is not there has not met the load. How many requests a run makes is not known.
    return Evidence(
        requests=0 if journeys else count.requests,
        first=count.first or None,
        last=count.last or None,
        what=count.sentence(journeys=journeys),
    )


def _met_nobody(seen: LoadCount, url: str, *, journeys: bool) -> str:
    if not seen.users:
        return f"locust did not begin within {BEGIN:g} s: the machine is too slow"
    if journeys:
        why = (
            f"none of {seen.requests} passed: {seen.why}" if seen.requests else "none came to its end within `timeout`"
        )
        return f"no run of the journey came as far as an answer of {url}: {why}; see that it passes by itself"
    tried = f"none of {seen.requests} requests was answered" if seen.requests else "no request was answered"
    why = f": {seen.why}" if seen.why else ""
    return f"{tried} at {url}{why}; see that it is the service's address and that it is up"


LOAD_TARGETS: tuple[TargetKind, ...] = (TargetKind("service", ServiceTarget, "a service that load may be put on"),)

LOAD_FAULTS: tuple[FaultKind[Options], ...] = (
    FaultKind(
        "load",
        LoadSpike,
        "many users ask at once",
        frozenset({Reason.TOO_SLOW, Reason.TIMEOUT, Reason.STATUS, Reason.REFUSED, Reason.RESET}),
        reason_note="by what the service does when more ask than it can answer",
        on="service",
        breakage=lambda fault, options, target: Loading(fault, options, cast("ServiceTarget", target.options)),
    ),
)
"""What is done to a service by asking it."""
