"""Drills in a world that does not play along: each ends with the verdict and the exit code that docs/reference/drills.md says.

Real processes throughout: a service, the fault proxy in front of it, `stormwatch drill`, and where it says so a running
`stormwatch run`. The worlds are independent of each other and run at once: most of their time is waiting.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.program import program
from tests.servers.command import Command, begun, invoke, staying
from tests.servers.process import free_port, wait_for

STORMWATCH = Path(sys.executable).with_name("stormwatch")
Drilling = Command | subprocess.Popen[str]
PATIENCE = 280.0
"""Seconds for one story, against hangs: beside other work on two cores the ten of them need more than a minute."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CONFIG = """\
defaults: {every: 1s, timeout: 900ms, confirm: {attempts: 1}}
probes:
  - {name: shop, kind: http, target: "http://127.0.0.1:<route>/", alert: {severity: page, keep_firing_for: <keeps>}}
alerts: {webhook: "http://127.0.0.1:<nobody>/"}
proxies:
  control: 127.0.0.1:<control>
  routes: [{name: <name>, listen: "127.0.0.1:<route>", upstream: "127.0.0.1:<upstream>", http: true}]
drills:
  - name: reset
    fault: {kind: tcp-reset, target: <name>}
    expect: {probe: {name: shop, within: 20s}, alert: {probe: shop, within: 25s}, resolves_within: <resolves>}
  - name: nobody-asks
    fault: {kind: http-status, path: /nobody, target: <name>}
    expect: {probe: {name: shop, within: 2s}}
  - name: slow
    fault: {kind: tcp-latency, delay: 1ms, target: <name>}
    expect: {probe: {name: shop, within: 60s}, resolves_within: 5s}
"""


@dataclass
class Ended:
    """A drill that has ended."""

    code: int
    out: str
    err: str
    left: list[Any]
    """Faults that are in place on the route afterwards."""
    world: "World"

    @property
    def report(self) -> dict[str, Any]:
        """Of its only drill."""
        (report,) = json.loads(self.out)
        return report

    def seen(self, clause: str) -> str:
        """What a clause says was seen."""
        return next(one["seen"] for one in self.report["clauses"] if one["clause"] == clause)


@dataclass
class World:
    """A service behind a route of the fault proxy, with a configuration and a state directory of its own."""

    name: str
    directory: Path
    stack: ExitStack
    ports: dict[str, int]
    proxy: Any = None
    gone_after: float = 0.0
    """Seconds from an interruption until the fault was gone."""

    def write(self) -> None:
        """Its configuration, and for the story whose proxy dies a proxy of its own."""
        keeps, resolves = ("1h", "2h") if self.name == "firing-already" else ("0s", "30s")
        text = CONFIG.replace("<name>", self.name).replace("<keeps>", keeps).replace("<resolves>", resolves)
        for name, port in self.ports.items():
            text = text.replace(f"<{name}>", str(port))
        self.config.write_text(text)

    def own_proxy(self) -> None:
        """One that may die."""
        self.ports |= {"control": free_port(), "route": free_port()}
        self.write()
        log = self.directory / "proxy.log"
        self.proxy = self.stack.enter_context(staying("proxy", "-c", self.config, log=log, port=self.ports["control"]))

    @property
    def config(self) -> Path:
        """Its file."""
        return self.directory / "stormwatch.yaml"

    @property
    def environ(self) -> dict[str, str]:
        """Of what runs in it."""
        return {**os.environ, "STORMWATCH_STATE": str(self.directory / "state")}

    @property
    def journal(self) -> Path:
        """Its audit journal."""
        return self.directory / "state" / "audit.jsonl"

    def watching(self) -> Command:
        """A `stormwatch run` beside it."""
        command = ["run", "-c", self.config, "--listen", f"127.0.0.1:{self.ports['listen']}"]
        return self.stack.enter_context(
            staying(
                *(*command, "--data", self.directory / "data"),
                log=self.directory / "run.log",
                port=self.ports["listen"],
                environ={"STORMWATCH_STATE": str(self.directory / "state")},
            )
        )

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.ports['listen']}"

    def stormwatch(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A command, to its end."""
        return invoke(*arguments, env=self.environ, timeout=PATIENCE)

    def drill(self, name: str, *options: str, meanwhile: Callable[[Drilling], None] | None = None) -> Ended:
        """`stormwatch drill NAME`; `meanwhile` is called when its fault is in place."""
        with begun("drill", name, *self._options, *options, env=self.environ) as child:
            if meanwhile:
                self._injected(child)
                meanwhile(child)
            done = child.ended(PATIENCE)
        return Ended(done.returncode, done.stdout, done.stderr, self.left(), self)

    def drill_installed(self, name: str, meanwhile: Callable[[], None], environ: Mapping[str, str]) -> Ended:
        """The same with the installed program: what is loaded before a program is loaded when it begins."""
        with subprocess.Popen(
            [STORMWATCH, "drill", name, *self._options],
            env={**self.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as child:  # fmt: skip
            self._injected(child)
            meanwhile()
            try:
                out, err = child.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
                raise
        return Ended(child.returncode, out, err, self.left(), self)

    @property
    def _options(self) -> Sequence[str | Path]:
        return "-c", self.config, "--format", "json"

    def _injected(self, child: Drilling) -> None:
        wait_for(
            lambda: child.poll() is not None or '"event":"injected"' in self.written(),
            what="the injection",
            seconds=PATIENCE,
        )

    def written(self) -> str:
        """The journal so far."""
        with contextlib.suppress(FileNotFoundError):
            return self.journal.read_text()
        return ""

    def left(self) -> list[Any]:
        """Faults on the route; none where no proxy is left."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports['control']}/routes/{self.name}", trust_env=False).json()[
                "faults"
            ]
        except httpx.TransportError:
            return []


@contextlib.contextmanager
def service(port: int = 0) -> Generator[int]:
    """It answers 200 to everything; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden method
            return

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def all_is_well(world: World) -> Ended:
    """For comparison. Nobody takes the notifications: of that nothing was asked."""
    return world.drill("reset")


def baseline_red(world: World) -> Ended:
    """The service is down before anything is broken."""
    return world.drill("reset")


def touches_nothing(world: World) -> Ended:
    """The fault is meant for a path that nobody asks for."""
    return world.drill("nobody-asks")


def firing_already(world: World) -> Ended:
    """All is green again, and the alert of an earlier failure fires still."""
    world.watching()
    wait_for(lambda: bool(httpx.get(f"{world.url}/api/v1/alerts").json()["alerts"]), what="the alert", seconds=PATIENCE)
    world.stack.enter_context(service(world.ports["upstream"]))
    wait_for(
        lambda: httpx.get(f"{world.url}/api/v1/probes").json()["probes"][0]["last"]["outcome"] == "up",
        what="the probe to be up", seconds=PATIENCE,
    )  # fmt: skip
    return world.drill("reset", "--watch", world.url)


def detector_killed(world: World) -> Ended:
    """The stormwatch that is watched dies while the fault is in place."""
    detector = world.watching()
    return world.drill("slow", "--watch", world.url, meanwhile=lambda _drill: detector.kill())


def proxy_killed(world: World) -> Ended:
    """What holds the fault dies, and the fault with it."""
    world.own_proxy()
    return world.drill("slow", meanwhile=lambda _drill: world.proxy.kill())


def clock_set(by: str) -> Callable[[World], Ended]:
    """The drill's wall clock is set while the fault is in place; the monotonic one goes on as it must."""

    def story(world: World) -> Ended:
        setting = world.directory / "clock"
        setting.write_text("+0\n")
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        if library is None:
            program("faketime")
        environ = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(setting), "FAKETIME_NO_CACHE": "1"}
        monotonic = {"DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return world.drill_installed("slow", lambda: _write(setting, by), {**environ, **monotonic})

    return story


def _write(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(f"{text}\n")
    path.with_suffix(".new").replace(path)


def interrupted(world: World) -> Ended:
    """Ctrl-C while the fault is in place."""

    def interrupt(drill: Drilling) -> None:
        began = time.monotonic()
        drill.send_signal(signal.SIGINT)
        wait_for(lambda: not world.left(), what="the fault to be gone")
        world.gone_after = time.monotonic() - began

    return world.drill("slow", meanwhile=interrupt)


def killed(world: World) -> Ended:
    """SIGKILL while the fault is in place, and nobody has looked since."""
    return world.drill("slow", meanwhile=lambda drill: drill.kill())


STORIES: dict[str, Callable[[World], Ended]] = {
    # Those that wait longest begin first.
    "baseline-red": baseline_red,
    "firing-already": firing_already,
    "touches-nothing": touches_nothing,
    "detector-killed": detector_killed,
    "well": all_is_well,
    "proxy-killed": proxy_killed,
    "clock-forward": clock_set("+1h"),
    "clock-back": clock_set("-1h"),
    "interrupted": interrupted,
    "killed": killed,
}
DOWN = ("baseline-red", "firing-already")
"""Where the service is not there to begin with."""


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, Future[Ended]]]:
    """Every story, begun; the worlds share a service, and a proxy with a route for each."""
    with ExitStack() as stack, ThreadPoolExecutor(5) as pool:
        served, control = stack.enter_context(service()), free_port()
        worlds: list[World] = []
        for name in STORIES:
            ports = {each: free_port() for each in ("route", "nobody", "listen")}
            upstream = free_port() if name in DOWN else served
            worlds.append(
                World(name, tmp_path_factory.mktemp(name), stack, {**ports, "control": control, "upstream": upstream})
            )
            worlds[-1].write()
        shared = tmp_path_factory.mktemp("proxy") / "stormwatch.yaml"
        routes = "".join(
            f'    - {{name: {one.name}, listen: "127.0.0.1:{one.ports["route"]}", '
            f'upstream: "127.0.0.1:{one.ports["upstream"]}", http: true}}\n'
            for one in worlds
        )
        shared.write_text(
            "probes: [{name: x, kind: tcp, target: '127.0.0.1:9'}]\n"
            f"proxies:\n  control: 127.0.0.1:{control}\n  routes:\n{routes}"
        )
        log = shared.with_name("proxy.log")
        stack.enter_context(staying("proxy", "-c", shared, log=log, port=control))
        yield {one.name: pool.submit(STORIES[one.name], one) for one in worlds}


Told = dict[str, Future[Ended]]


def ended(stories: Told, name: str, code: int, verdict: str) -> Ended:
    """How a story ended."""
    found = stories[name].result(PATIENCE)
    assert found.code == code, found.err
    assert found.report["verdict"] == verdict
    assert found.left == []
    return found


def test_in_a_good_world_it_is_proved_though_nobody_takes_the_notification(stories: Told) -> None:
    """0. Whether a receiver was told is not asked unless `delivered_within` asks for it."""
    found = ended(stories, "well", 0, "proved")
    assert found.report["detection"]["notified"] is None


def test_what_is_red_before_is_not_broken(stories: Told) -> None:
    """3, nothing injected."""
    found = ended(stories, "baseline-red", 3, "inconclusive")
    assert found.seen("baseline").startswith("nothing was injected: ")
    assert "shop is " in found.seen("baseline") or "ProbeDown" in found.seen("baseline")
    assert '"event":"injecting"' not in found.world.written()


def test_a_fault_that_touches_nothing_proves_nothing(stories: Told) -> None:
    """3, and the monitoring is not blamed."""
    found = ended(stories, "touches-nothing", 3, "inconclusive")
    assert found.seen("bites") == "no traffic met it: it proves nothing about the monitoring"


def test_an_alert_that_fires_already_cannot_be_seen_to_fire(stories: Told) -> None:
    """3, nothing injected."""
    found = ended(stories, "firing-already", 3, "inconclusive")
    said = found.seen("baseline")
    assert said.startswith("nothing was injected: ProbeDown{")
    assert said.endswith("} is firing already")


def test_silence_of_a_dead_detector_is_no_silence(stories: Told) -> None:
    """3, and the fault is taken back."""
    found = ended(stories, "detector-killed", 3, "inconclusive")
    assert "does not answer" in found.report["detection"]["observed"]["trouble"]


def test_a_fault_whose_proxy_died_proves_nothing(stories: Told) -> None:
    """3: it ended before it was taken back."""
    found = ended(stories, "proxy-killed", 3, "inconclusive")
    assert found.report["detection"]["observed"]["trouble"].startswith("tcp-latency on proxy-killed ended")


@pytest.mark.parametrize(("name", "said"), [("clock-forward", "forward"), ("clock-back", "back")])
def test_times_of_two_clocks_are_not_compared(stories: Told, name: str, said: str) -> None:
    """3, within a tick of the step, and not late or missed."""
    found = ended(stories, name, 3, "inconclusive")
    assert found.seen("clock").startswith(f"this machine's clock was set {said} by ")


def test_ctrl_c_takes_the_fault_back_at_once(stories: Told) -> None:
    """3 without a report; the journal says that it was interrupted and that nothing is left."""
    found = stories["interrupted"].result(PATIENCE)
    assert (found.code, found.out, found.left) == (3, "", [])
    assert found.err.splitlines()[-1] == "interrupted; everything that was begun is taken back"
    # Some hundredths of a second when the machine has nothing else to do; what is excluded is that anything is waited out.
    assert found.world.gone_after < 5
    replayed = found.world.stormwatch("drill", "--replay", found.world.journal, "--format", "json")
    assert replayed.returncode == 3
    assert json.loads(replayed.stdout)[0]["detection"]["observed"]["trouble"] == "the drill was interrupted"


def test_a_killed_drill_is_unsafe_until_somebody_looked(stories: Told) -> None:
    """By its journal alone: 4, and after `stormwatch undo` 3. The chain is whole all the while."""
    found = stories["killed"].result(PATIENCE)
    assert (found.code, found.out) == (-signal.SIGKILL, "")
    replay = ("drill", "slow", "--replay", found.world.journal, "--format", "json")
    before = found.world.stormwatch(*replay)
    assert (before.returncode, json.loads(before.stdout)[0]["verdict"]) == (4, "unsafe")
    undone = found.world.stormwatch("undo")
    assert undone.returncode == 0, undone.stderr
    assert found.world.left() == []
    after = found.world.stormwatch(*replay)
    assert (after.returncode, json.loads(after.stdout)[0]["verdict"]) == (3, "inconclusive")
    verified = found.world.stormwatch("audit", "verify", found.world.journal)
    assert verified.returncode == 0, verified.stdout
