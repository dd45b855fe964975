"""Two real stormwatches: one tells the other that it is well; the other pages when it is killed, stopped or cannot write."""

import resource
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.servers.command import Command, staying
from tests.servers.process import free_port, wait_for
from tests.servers.receiver import Receiver

KEY = "a-key-of-twenty-two-letters-or-more"
WATCHER = """\
probes:
  - name: other-stormwatch
    kind: heartbeat
    target: other
    every: 500ms
    timeout: 400ms
    confirm: {{attempts: 1}}
    heartbeat: {{key: "${{env:SWITCH_KEY}}", interval: 1s, grace: 2s}}
alerts:
  webhook: {receiver}
"""
WATCHED = """\
probes:
  - {{name: front, kind: tcp, target: "127.0.0.1:9", every: 500ms, timeout: 200ms, confirm: {{attempts: 1}}}}
alerts:
  watchdog:
    url: http://127.0.0.1:{port}/ping/${{env:SWITCH_KEY}}/other
    fail_url: http://127.0.0.1:{port}/ping/${{env:SWITCH_KEY}}/other/fail
    every: 500ms
"""


def metric(port: int, name: str) -> float:
    """The value of a metric without labels; 0 as long as nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0.0)


@pytest.mark.slow
def test_a_stormwatch_that_is_stopped_or_killed_or_cannot_write_is_paged_by_another(tmp_path: Path) -> None:
    """Each time with a resolve after it; what cannot be written is told with its reason."""
    with Receiver() as receiver:
        port, other = free_port(), free_port()
        (tmp_path / "watcher.yaml").write_text(WATCHER.format(receiver=receiver.url))
        (tmp_path / "watched.yaml").write_text(WATCHED.format(port=port))

        def watching(name: str, listen: int) -> list[str | Path]:
            return [
                "run",
                *("-c", tmp_path / f"{name}.yaml"),
                *("--listen", f"127.0.0.1:{listen}"),
                *("--data", tmp_path / name),
            ]

        def count(status: str) -> int:
            return len(receiver.alerts(status, alertname="ProbeDown", probe="other-stormwatch"))

        def paged(what: str) -> None:
            wait_for(lambda: count("firing") > count("resolved"), what=f"the page that it is {what}")

        def resolved(what: str) -> None:
            wait_for(lambda: count("firing") == count("resolved"), what=f"the resolve when it is {what}")

        def told_of_the_history() -> bool:
            return any(
                "the history cannot be written" in page["annotations"]["last_failure"]
                for _, page in receiver.alerts("firing", alertname="ProbeDown", probe="other-stormwatch")
            )

        def start(name: str) -> Command:
            log = tmp_path / name
            environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SWITCH_KEY": KEY}
            children.append(Command(watching("watched", other), log, log, env=environ))
            return children[-1]

        children: list[Command] = []
        with staying(*watching("watcher", port), log=tmp_path / "log", port=port, environ={"SWITCH_KEY": KEY}):
            try:
                watched = start("first.log")
                wait_for(
                    lambda: metric(other, "stormwatch_watchdog_pings_total") >= 2, what="it to tell that it is well"
                )
                assert metric(other, "stormwatch_well") == 1
                resolved("started")

                watched.send_signal(signal.SIGSTOP)
                paged("stopped")
                watched.send_signal(signal.SIGCONT)
                resolved("continued")

                limits = resource.prlimit(watched.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(watched.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
                wait_for(told_of_the_history, what="the page that says why")
                assert metric(other, "stormwatch_well") == 0
                resource.prlimit(watched.pid, resource.RLIMIT_FSIZE, limits)
                resolved("able to write")

                watched.kill()
                paged("killed")
                start("second.log")
                resolved("started again")
            finally:
                for child in children:
                    child.kill()
                    child.wait(10)
        assert KEY not in (tmp_path / "first.log").read_text()
