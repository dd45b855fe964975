"""Three real stormwatches in three locations: one that is blind pages nobody, two that agree page, and so does a survivor."""

import contextlib
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.servers.command import Command, staying
from tests.servers.process import free_port, wait_for
from tests.servers.receiver import Receiver
from tests.servers.views import Views

FRA1, NYC1, SIN1 = LOCATIONS = ("fra1", "nyc1", "sin1")
CONFIG = """\
location: {location}
defaults: {{every: 2s, timeout: 1500ms, confirm: {{attempts: 1}}, quorum: 2}}
probes:
  - name: front
    kind: http
    target: {target}
    http: {{headers: {{X-From: {location}}}}}
peers:
{peers}
alerts:
  webhook: {webhook}
"""


class Three:
    """The three processes, what they look at, and what each of them tells people."""

    def __init__(self, directory: Path, views: Views, told: dict[str, Receiver]) -> None:
        self.views = views
        self.told = told
        self.children: dict[str, Command] = {}
        self._directory = directory
        self._ports = {location: free_port() for location in LOCATIONS}

    @contextlib.contextmanager
    def run(self) -> Generator[None]:
        """Until the block is left, all of them."""
        with contextlib.ExitStack() as stack:
            for location, port in self._ports.items():
                others = {other: at for other, at in self._ports.items() if other != location}
                config = self._directory / f"{location}.yaml"
                config.write_text(
                    CONFIG.format(
                        location=location,
                        target=self.views.url,
                        peers="\n".join(
                            f"  - {{location: {other}, url: 'http://127.0.0.1:{at}'}}" for other, at in others.items()
                        ),
                        webhook=self.told[location].url,
                    )
                )
                command = ["run", "-c", config, "--listen", f"127.0.0.1:{port}"]
                self.children[location] = stack.enter_context(
                    staying(
                        *(*command, "--data", self._directory / location),
                        log=self._directory / f"{location}.log",
                        port=port,
                    )
                )
            yield

    def count(self, teller: str, status: str, /, **labels: str) -> int:
        """Of how many alerts with these labels a location told people: a message about a group names all that are in it, again."""
        told = self.told[teller].alerts(status, **labels)
        return len({(*sorted(alert["labels"].items()), alert["startsAt"]) for _, alert in told})

    def looks(self, location: str, times: int) -> None:
        """Until a location has looked so often again."""
        until = self.views.looks[location] + times
        wait_for(lambda: self.views.looks[location] >= until, what=f"{times} looks from {location}")


@pytest.mark.slow
def test_one_blind_location_pages_nobody_and_two_page(tmp_path: Path) -> None:
    """And who is left when the others are gone is neither kept from paging, nor pages because they are gone."""
    with contextlib.ExitStack() as stack:
        told = {location: stack.enter_context(Receiver()) for location in LOCATIONS}
        views = stack.enter_context(Views())
        three = Three(tmp_path, views, told)
        stack.enter_context(three.run())
        for location in LOCATIONS:
            three.looks(location, 2)

        views.down_for = {FRA1}
        for location in LOCATIONS:
            wait_for(
                lambda told_at=location: three.count(told_at, "firing", alertname="LocationDown", location=FRA1) == 1,
                what=f"{location} tells that {FRA1} alone is red",
            )
        three.looks(FRA1, 4)
        assert [three.count(location, "firing", alertname="ProbeDown") for location in LOCATIONS] == [0, 0, 0]

        views.down_for = {FRA1, NYC1}
        for location in LOCATIONS:
            wait_for(
                lambda told_at=location: three.count(told_at, "firing", alertname="ProbeDown", severity="page") == 1,
                what=f"{location} pages",
            )
            wait_for(
                lambda told_at=location: three.count(told_at, "resolved", alertname="LocationDown", location=FRA1) == 1,
                what=f"{location} tells that it is no trouble of {FRA1}",
            )

        views.down_for = set()
        for location in LOCATIONS:
            wait_for(
                lambda told_at=location: three.count(told_at, "resolved", alertname="ProbeDown") == 1,
                what=f"{location} tells the end",
            )

        for location in (NYC1, SIN1):
            three.children[location].kill()
            three.children[location].wait(10)
        for name, where in (("PeerSilent", NYC1), ("PeerSilent", SIN1), ("QuorumDegraded", "")):
            labels = {"alertname": name} | ({"location": where} if where else {})
            wait_for(
                lambda wanted=labels: three.count(FRA1, "firing", **wanted) == 1,
                what=f"{name} {where} is told by {FRA1}",
                seconds=90,
            )
        assert three.count(FRA1, "firing", alertname="ProbeDown") == 1, "those that are gone page nobody"

        views.down_for = {FRA1}
        wait_for(lambda: three.count(FRA1, "firing", alertname="ProbeDown") == 2, what=f"{FRA1} pages by itself")
