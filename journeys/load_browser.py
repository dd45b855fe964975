"""A user of a load that needs a browser: a warm worker of its own, spoken to with calls that wait."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from stormwatch.journeys.load_job import LoadJourney
from stormwatch.journeys.report import Report
from stormwatch.journeys.tree import MARK, kill_tree
from stormwatch.probes.result import Outcome, Reason


class LoadWorker:
    """One worker process (`stormwatch.journeys.worker`), started at once."""

    def __init__(self, journey: LoadJourney) -> None:
        self._journey = journey
        self._mark = secrets.token_hex(16)
        self._directory = tempfile.mkdtemp(prefix="stormwatch-load-")
        self._ready = False
        client = ()
        if journey.client:
            # Not as an argument, which everybody on the machine can read. The directory is the worker's alone.
            path = Path(self._directory, "client.json")
            path.write_text(journey.client, encoding="utf-8")
            client = ("--client", str(path))
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "stormwatch.journeys.worker", str(journey.file)),
                *("--browser", journey.browser, "--base-url", journey.base_url, "--directory", self._directory),
                *client,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": self._directory, MARK: self._mark},
            cwd=journey.file.parent,
            start_new_session=True,
        )

    def run(self, test: str) -> Report:
        """One run. Waits for its end, however long it takes."""
        request = {
            "run": test,
            "seconds": self._journey.timeout,
            "folder": "",
            "always": False,
            "keep": [],
            "observe": False,
            "journal": f"{self._directory}/made",
            "secrets": dict(self._journey.secrets),
        }
        if not self._ready:
            event = self._heard("ready", "not-collected")
            if event["event"] != "ready":
                return _broken(Reason.COLLECTION, ": ".join(filter(None, (event.get("where"), event["why"]))))
            self._ready = True
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return _broken(Reason.INTERNAL, "the journey worker died")
        event = self._heard("over", "stale")
        if event["event"] == "over":
            return Report.from_json(event["report"])
        return _broken(Reason.INTERNAL, event["why"])

    def end(self) -> None:
        """End it and all that it started. Idempotent."""
        kill_tree(self._process.pid if self._process.returncode is None else 0, self._mark)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:
                continue
        shutil.rmtree(self._directory, ignore_errors=True)

    def _heard(self, *events: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            event: dict[str, Any] = json.loads(line)
            if event["event"] in events:
                return event
        return {"event": "died", "why": "the journey worker died"}


def _broken(reason: Reason, why: str) -> Report:
    return Report(outcome=Outcome.BROKEN, reason=reason, sentence=why, retire=why)
