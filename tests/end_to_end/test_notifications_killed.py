"""Nothing is lost and nothing is doubled: the whole service is killed at every step from a red probe to the last receipt."""

import contextlib
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stormwatch.exporters.step import Step
from tests.end_to_end.mortal import live
from tests.servers.command import Forked
from tests.servers.pagerduty import KEY, PagerDuty
from tests.servers.receiver import Receiver
from tests.servers.service import Answer, AnyService

# A look at a shop that is up has nearly half a second, twice: where a busy machine takes longer, that is an incident of its own.
CONFIG = """\
defaults: {{every: 1s, timeout: 480ms, confirm: {{attempts: 2, after: 10ms}}}}
probes:
  - {{name: shop, kind: tcp, target: "127.0.0.1:{shop}"}}
alerts:
  notify:
    - {{name: pager, to: pagerduty, routing_key: "${{env:KEY}}", url: "{pager}"}}
    - {{name: hook, to: webhook, url: "{hook}", group_wait: 0s, group_interval: 0s}}
    - {{name: dead, to: webhook, url: "{dead}", group_wait: 0s, group_interval: 0s, fallback: desk}}
    - {{name: desk, to: webhook, url: "{desk}", only_fallback: true}}
"""
AT_ONCE = 8
"""Stories that are told beside each other: most of their time is waiting."""


class Story:
    """A shop that is down, and comes up when everybody was told of it; and what the receivers saw."""

    def __init__(self, directory: Path, *, pager_fails_first: bool = True) -> None:
        self.directory = directory
        directory.mkdir()
        self.shop = socket.socket()
        """Bound and not listening, it refuses, and nobody else can take its port."""
        self.shop.bind(("127.0.0.1", 0))
        self.pager, self.hook, self.desk = PagerDuty(), Receiver(), Receiver()
        self.pager.before = [Answer(503, "later")] if pager_fails_first else []

    @contextlib.contextmanager
    def begun(self) -> Generator[None]:
        """The receivers listen; the shop opens when all three know that it is closed."""
        with self.pager, self.hook, self.desk, AnyService(Answer(400, "gone")) as dead:
            self.config = self.directory / "stormwatch.yaml"
            self.config.write_text(
                CONFIG.format(
                    shop=self.shop.getsockname()[1],
                    pager=self.pager.url,
                    hook=self.hook.url,
                    dead=dead.url,
                    desk=self.desk.url,
                )
            )
            ended = threading.Event()
            opening = threading.Thread(target=self._open, args=(ended,), daemon=True)
            opening.start()
            try:
                yield
            finally:
                ended.set()
                opening.join(10)
                self.shop.close()

    def _open(self, ended: threading.Event) -> None:
        while not (self.pager.incidents and self.hook.alerts("firing") and self.desk.alerts("firing")):
            if ended.wait(0.02):
                return
        # Nobody accepts: a life that is slow to end looks often, and must not find the queue full.
        self.shop.listen(4096)

    def life(self, fatal: tuple[Step, int] | None = None) -> int:
        """A life of the service, to the `fatal` step at its n-th time; the exit code of its process."""
        last = (fatal[0].value, fatal[1]) if fatal else None
        told = (self.config, self.directory / "data", last, self.directory / "steps.txt", {"KEY": KEY})
        process = Forked(live, *told)
        try:
            return process.wait(60)
        except subprocess.TimeoutExpired as error:
            process.kill()
            said = f"not over within 60 s after the steps {self.steps}, the last life up to {fatal}"
            raise AssertionError(said) from error

    @property
    def steps(self) -> list[Step]:
        """What all lives so far came to."""
        return [Step(line) for line in (self.directory / "steps.txt").read_text().split()]

    def check(self) -> None:
        """What each receiver made of it: one incident, its beginning and its end, and no other."""
        told = f"after {self.steps}"
        assert [states for _, states in self.pager.incidents] == [["trigger", "resolve"]], told
        for receiver in (self.hook, self.desk):
            known = Counter(
                (body["groupKey"], alert["fingerprint"], alert["status"], alert["startsAt"])
                for _, body in receiver.received
                for alert in body["alerts"]
            )
            assert sorted(status for _, _, status, _ in known) == ["firing", "resolved"], told
            assert len({(fingerprint, start) for _, fingerprint, _, start in known}) == 1, told
            assert max(known.values()) <= 2, told  # one more for the one crash between answer and receipt


def killed_at(directory: Path, fatal: tuple[Step, int]) -> Step | None:
    """Tell the story with a crash at a step, at its n-th time; the step, or None when the story did not come to it so often."""
    story = Story(directory / f"{fatal[0]}-{fatal[1]}")
    with story.begun():
        code = story.life(fatal)
        if code == 0:
            story.check()
            return None
        assert code == -signal.SIGKILL, code
        assert story.steps.count(fatal[0]) == fatal[1]
        assert story.life() == 0
        story.check()
    return fatal[0]


@pytest.mark.slow
@pytest.mark.timeout(400)  # 120 lives: half a minute alone on two cores, minutes on a loaded machine
def test_one_incident_is_one_wherever_the_service_is_killed(tmp_path: Path) -> None:
    """At every step of a story without a crash, each time that it is come to; and that is every step of the code's list."""
    whole = Story(tmp_path / "whole")
    with whole.begun():
        assert whole.life() == 0
        whole.check()
    crashes = [(step, number) for step, times in Counter(whole.steps).items() for number in range(1, times + 1)]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        fatal = Counter(threads.map(lambda crash: killed_at(tmp_path, crash), crashes))

    assert set(fatal) - {None} == set(Step), f"never killed at {set(Step) - set(fatal)}"
    assert fatal[None] <= len(crashes) // 4, "the story is not the same from one time to the next"
