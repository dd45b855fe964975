"""What a run's pages showed, as a video: of the runs that are kept, never of one that knows a secret."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from itertools import pairwise
from pathlib import Path

import pytest
from starlette.applications import Starlette

from stormwatch.harness.artifact_web import artifact_routes
from stormwatch.harness.server import address_of, bind, serving
from stormwatch.journeys.journey import KIND, JourneyOptions
from stormwatch.journeys.pool import WorkerPool
from stormwatch.journeys.video import Footage, NoVideo, Picture, find_ffmpeg, size_of
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.run import run_once
from tests.program import program
from tests.servers.shop import Shop

Write = Callable[..., Path]
CANARY = "canary-4929420573595709"
JOURNEYS = f"""
            def paint(page, colour, ms=300):
                page.goto("about:blank")
                page.evaluate("colour => document.body.style.background = colour", colour)
                page.wait_for_timeout(ms)

            def test_green(page: Page):
                paint(page, "rgb(0, 200, 0)")

            def test_red_and_blue(page: Page):
                paint(page, "rgb(200, 0, 0)", 700)
                paint(page, "rgb(0, 0, 200)", 700)
                assert False, "the failure"

            def test_two_pages(page: Page, context):
                paint(page, "rgb(0, 200, 0)")
                other = context.new_page()
                other.set_viewport_size({{"width": 333, "height": 777}})
                paint(other, "rgb(200, 0, 0)")

            def test_plays(page: Page):
                page.goto(open(os.environ["TMPDIR"] + "/../address").read())
                # The page of a video may run no scripts: nothing can wait inside it, for an event or for a while.
                video = page.locator("video").element_handle()
                def until(condition):
                    while not video.evaluate(condition):
                        page.wait_for_timeout(50)
                until("video => video.readyState === 4")
                video.evaluate("video => {{ video.currentTime = 1 }}")
                until("video => !video.seeking && video.currentTime === 1 && video.readyState >= 2")
                assert video.evaluate("video => [video.videoWidth, video.videoHeight]") == [960, 540]

            def test_secret(page: Page, secrets):
                page.set_content("<h1>{CANARY}</h1>")
                page.wait_for_timeout(300)
                secrets.hide("{CANARY}")
                assert False
"""


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's, until there is a file `fails` beside it."""
    own = tmp_path / "bin" / "ffmpeg"
    own.parent.mkdir()
    own.write_text(
        f"#!/bin/sh\n[ -e {own.parent}/fails ] || exec {program('ffmpeg')} \"$@\"\necho 'Unknown encoder' >&2\nexit 8\n"
    )
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{own.parent}:{os.environ['PATH']}")
    return own


@pytest.fixture
async def resources(tmp_path: Path, scratch: Path) -> AsyncGenerator[Resources]:
    program("chromium")
    async with Resources() as resources:
        resources.put(WorkerPool, WorkerPool(artifacts=tmp_path / "artifacts"))
        yield resources


async def run(journey: Path, options: JourneyOptions, resources: Resources, test: str) -> Result:
    target = f"{journey}::{test}"
    probe = Probe(name="buy", kind="journey", target=target, check=KIND.build(target, options), timeout=60.0)
    return await run_once(probe, clock=SystemClock(), resources=resources)


def videos(result: Result, resources: Resources) -> list[Path]:
    return [
        resources.get(WorkerPool).artifacts / name
        for name in result.evidence.get("artifacts", ())
        if name.endswith(".webm")
    ]


def colours(video: Path) -> list[tuple[float, str]]:
    """When which colour is seen in a video: seconds, and the strongest of red, green and blue, or none. By ffmpeg, not by us."""
    command = ["ffmpeg", "-loglevel", "error", "-i", str(video), "-vf", "fps=20,scale=1:1", "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], stdout=subprocess.PIPE, check=True, timeout=60).stdout
    pixels = [raw[at : at + 3] for at in range(0, len(raw), 3)]
    # Codecs tint what has no colour: an empty page, and the grey beside a page whose first picture came before its window had its size.
    names = [
        ["red", "green", "blue"][pixel.index(max(pixel))] if max(pixel) - min(pixel) > 40 else "none"
        for pixel in pixels
    ]
    return [(number / 20, name) for number, name in enumerate(names) if number == 0 or names[number - 1] != name]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_what_failed_is_kept_as_a_video_of_what_was_seen_when(
    resources: Resources, write: Write, ffmpeg: Path, scratch: Path
) -> None:
    """All by one warm worker: what one run showed is in no other one's video, and after a secret there is none."""
    file = write(JOURNEYS)
    video = JourneyOptions(keep=("video",))

    passed = await run(file, video, resources, "test_green")
    assert (passed.outcome, passed.evidence.get("artifacts")) == (Outcome.UP, None), passed

    failed = await run(file, video, resources, "test_red_and_blue")
    assert failed.outcome is Outcome.DOWN, failed
    (kept,) = videos(failed, resources)
    assert [path.name for path in kept.parent.iterdir()] == ["video.webm"], "nothing half done is left beside it"
    seen = colours(kept)
    assert [name for _, name in seen if name != "none"] == ["red", "blue"]
    red, blue = (at for at, name in seen if name != "none")
    assert blue - red > 0.5, seen

    bound = bind("127.0.0.1:0")
    async with serving(Starlette(routes=artifact_routes(kept.parents[2])), bound):
        path = kept.relative_to(kept.parents[2])
        (scratch / "address").write_text(f"http://{address_of(bound)}/artifacts/{path}")
        plays = await run(file, JourneyOptions(), resources, "test_plays")
    assert plays.outcome is Outcome.UP, plays

    always = await run(file, JourneyOptions(keep=("video",), artifacts="always"), resources, "test_two_pages")
    assert always.outcome is Outcome.UP, always
    assert [path.name for path in videos(always, resources)] == ["video-1.webm", "video-2.webm"]
    assert [colours(path)[-1][1] for path in videos(always, resources)] == ["green", "red"]

    ffmpeg.with_name("fails").touch()
    without = await run(file, video, resources, "test_red_and_blue")
    assert (without.reason, without.evidence.get("artifacts")) == (Reason.ASSERTION, None), without
    assert without.evidence["no_video"] == "ffmpeg ended with exit code 8: Unknown encoder"
    ffmpeg.with_name("fails").unlink()

    before = {path for path in resources.get(WorkerPool).artifacts.rglob("*") if path.is_file()}
    # Twice: the second run is one whose worker knows a secret from the beginning.
    for number in (1, 2):
        result = await run(file, JourneyOptions(keep=("video", "trace")), resources, "test_secret")
        after = {path for path in resources.get(WorkerPool).artifacts.rglob("*") if path.is_file()} - before
        assert [path.name for path in after] == ["trace.zip"] * number
        assert "secret" in result.evidence["no_video"], result
        assert CANARY not in json.dumps(result.as_json())


def test_without_ffmpeg_the_configuration_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is missing and what to do; a journey that keeps no video needs none."""
    monkeypatch.setenv("PATH", "/nowhere")
    target = f"{write('def test_it(): pass')}::test_it"

    with pytest.raises(ValueError, match=r"keep: a video needs the program ffmpeg.*install Debian's `ffmpeg`"):
        KIND.build(target, JourneyOptions(keep=("page", "video")))
    KIND.build(target, JourneyOptions(keep=("page",)))
    KIND.build(target, JourneyOptions(keep=("video",), artifacts="never"))


def test_secrets_and_a_video_are_refused_together(write: Write) -> None:
    """There would never be one: whoever asks for it learns that before a failure has none."""
    target = f"{write('def test_it(): pass')}::test_it"

    with pytest.raises(ValueError, match=r"keep: a journey that is given secrets has no video"):
        KIND.build(target, JourneyOptions(keep=("video",), secrets={"card": CANARY}))


def test_plain_pytest_keeps_videos_too(write: Write, tmp_path: Path, shop: Shop) -> None:
    """`--stormwatch-keep video`, and without ffmpeg it does not begin."""
    program("chromium")
    program("ffmpeg")
    file = write(f"""
            def test_it(page: Page):
                page.goto("{shop.url}")
                expect(page.locator("h1")).to_have_text("nothing of the kind", timeout=300)
    """)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    command += ["--stormwatch-artifacts", str(tmp_path / "kept"), "--stormwatch-keep", "video"]
    ended = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1, ended.stdout
    assert [path.name for path in (tmp_path / "kept").rglob("*") if path.is_file()] == ["video.webm"], ended.stdout

    ended = subprocess.run(
        command, cwd=file.parent, capture_output=True, text=True, timeout=120, check=False, env={"PATH": "/nowhere"}
    )
    assert (ended.returncode, "install Debian's `ffmpeg`" in ended.stderr) == (4, True), ended.stderr


def test_pictures_are_thinned_and_the_last_one_always_stays() -> None:
    """A page in motion for a minute has as many as a short run, over all of it, and the seconds are those of the clock."""
    footage = Footage(pictures=20, interval=0.1)
    for number in range(3000):
        footage.take(Picture(1000 + number / 50, b"x"))
    moments = [picture.at for picture in footage.pictures]

    assert 10 <= len(moments) <= 20
    assert (moments[0], moments[-1]) == (1000.0, 1059.98)
    gaps = [after - before for before, after in pairwise(moments)]
    assert max(gaps) < 7
    assert sum(seconds for _, seconds in footage.lasting(1070.0)) == pytest.approx(70.0)


def test_pictures_closer_than_the_interval_replace_each_other() -> None:
    """What the page showed at the end of a burst is what it showed from then on."""
    footage = Footage(interval=0.1)
    for at, jpeg in ((0.0, b"a"), (0.02, b"b"), (0.04, b"c"), (0.3, b"d"), (0.32, b"e")):
        footage.take(Picture(at, jpeg))

    assert [each.jpeg for each in footage.pictures] == [b"a", b"c", b"d", b"e"]


def test_large_pictures_are_fewer() -> None:
    """What waits in memory has a limit in bytes as well."""
    footage = Footage(size=1000, interval=0.1)
    for number in range(100):
        footage.take(Picture(float(number), b"x" * 90))

    assert sum(len(each.jpeg) for each in footage.pictures) <= 1000
    assert len(footage.pictures) > 5


@pytest.mark.parametrize(
    ("viewport", "size"),
    [
        (None, (960, 540)),
        ({"width": 1280, "height": 720}, (960, 540)),
        ({"width": 390, "height": 844}, (390, 844)),
        ({"width": 393, "height": 1920}, (196, 960)),
        ({"width": 1, "height": 1}, (2, 2)),
    ],
)
def test_a_video_is_as_large_as_the_window_up_to_a_limit_and_even(viewport: object, size: tuple[int, int]) -> None:
    found = size_of(viewport)  # pyright: ignore[reportArgumentType] - rows of a table

    assert (found["width"], found["height"]) == size


def test_ffmpeg_is_looked_for_on_the_search_path(tmp_path: Path) -> None:
    """Of the environment that the worker will have."""
    (tmp_path / "ffmpeg").write_text("")
    (tmp_path / "ffmpeg").chmod(0o755)

    assert find_ffmpeg({"PATH": str(tmp_path)}) == str(tmp_path / "ffmpeg")
    with pytest.raises(NoVideo):
        find_ffmpeg({"PATH": str(tmp_path.parent)})
