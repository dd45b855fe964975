"""A video of what a run's pages showed: `video.webm`.

The browser sends a picture (JPEG) whenever a page has changed: Playwright's screencast. Playwright's own video encodes them while the run goes on, also
those of the hundred runs that pass, with an ffmpeg of its own that has to be downloaded, and its file is there before anybody knows what was typed. Here
they wait in memory. A run that passes throws them away, so does one that comes to know a secret, and where they are kept the machine's ffmpeg is asked once.

Tried with ffmpeg 5.1 (Debian 12). The codec is VP9, as in Playwright's videos: every browser of these years plays it, and every build of ffmpeg has libvpx.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stormwatch.journeys.masker import Masker

if TYPE_CHECKING:
    from playwright.sync_api import Page, ScreencastFrame, ScreencastSize, ViewportSize

INTERVAL: Final = 0.1
"""Seconds between two pictures of a video, at least."""
PICTURES: Final = 150
"""How many one video may have; then every other one goes. Encoding takes 15 ms of processor time for each."""
BYTES: Final = 24 * 2**20
"""How many bytes the pictures of one page may take while they wait."""
LONGEST: Final = 960
"""Pixels of the longer side."""
QUALITY: Final = 60
"""Of the JPEG pictures, of 100."""
PAGES: Final = 4
"""How many pages of one run are filmed: the first ones."""
SECONDS: Final = 10.0
"""How long the videos of one run may take to be made: whoever is to be told of the failure waits for that."""
LAST: Final = 1.0
"""Seconds for which the last picture stands, at least."""
REMEDY: Final = "install Debian's `ffmpeg`, or take `video` out of `keep`"


class NoVideo(Exception):
    """There is no video; one sentence says why."""


def find_ffmpeg(environ: Mapping[str, str] = os.environ) -> str:
    """The machine's ffmpeg. Raises NoVideo with the remedy where there is none."""
    found = shutil.which("ffmpeg", path=environ.get("PATH", os.defpath))
    if not found:
        raise NoVideo(f"a video needs the program ffmpeg, and there is none on the search path: {REMEDY}")
    return found


@dataclass(frozen=True, slots=True)
class Picture:
    """What a page showed from a moment on."""

    at: float
    """Unix time in seconds."""
    jpeg: bytes = field(repr=False)


class Footage:
    """The pictures of one page, in their order: never closer than an interval, and never more than are allowed.

    With too many of them every other one goes and the interval doubles, so that a long run has fewer a second and is all
    there. The last one always stays: it is what the page showed from then on.
    """

    def __init__(self, *, pictures: int = PICTURES, size: int = BYTES, interval: float = INTERVAL) -> None:
        self.pictures: list[Picture] = []
        self._most, self._size = pictures, size
        self._interval = interval

    def take(self, picture: Picture) -> None:
        """One more, newer than the others."""
        if len(self.pictures) > 1 and picture.at - self.pictures[-2].at < self._interval:
            self.pictures.pop()
        self.pictures.append(picture)
        while len(self.pictures) > 2 and self._is_too_large():
            del self.pictures[1:-1:2]
            self._interval *= 2

    def lasting(self, until: float) -> Iterator[tuple[Picture, float]]:
        """Each picture with the seconds for which it was to be seen, the last one until `until`."""
        ends = [each.at for each in self.pictures[1:]] + [until]
        for number, (picture, end) in enumerate(zip(self.pictures, ends, strict=True), start=1):
            yield picture, max(end - picture.at, LAST if number == len(ends) else 0.0)

    def _is_too_large(self) -> bool:
        return len(self.pictures) > self._most or sum(len(each.jpeg) for each in self.pictures) > self._size


@dataclass(slots=True)
class _Take:
    """One page that is filmed."""

    page: "Page"
    size: "ScreencastSize"
    footage: Footage = field(default_factory=Footage)
    until: float | None = None
    """Unix time from which on pictures are of no interest."""


class Camera:
    """Films the pages of one run after the other."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._takes: list[_Take] = []
        self.complaint = ""
        """Why there is no video of this run, where one was asked for."""

    def film(self, page: "Page") -> None:
        """Film a page from now on. A run that knows a secret is not filmed: nobody can take it out of the pixels."""
        if self._is_dark() or len(self._takes) >= PAGES or any(page is each.page for each in self._takes):
            return
        if not hasattr(page, "screencast"):
            self.complaint = "the Playwright that is installed has no `page.screencast`: install a newer one"
            return
        take = _Take(page, size_of(page.viewport_size))
        self._takes.append(take)
        page.screencast.start(on_frame=lambda frame: self._shown(take, frame), quality=QUALITY, size=take.size)

    def cut(self, now: float) -> None:
        """Nothing that is shown after this moment, in unix time, is of interest."""
        for take in self._takes:
            take.until = now if take.until is None else take.until

    def discard(self) -> None:
        """Throw everything away, and begin anew."""
        from playwright.sync_api import Error

        takes, self._takes, self.complaint = self._takes, [], ""
        for take in takes:
            if not take.page.is_closed():
                with contextlib.suppress(Error):
                    take.page.screencast.stop()

    def develop(self, folder: Path, *, seconds: float) -> Iterator[Path]:
        """Make a video of each page that was filmed, below `folder` and within `seconds`. What came to nothing is in `complaint`."""
        until = time.monotonic() + min(seconds, SECONDS)
        takes = [] if self._is_dark() else [take for take in self._takes if take.footage.pictures]
        for number, take in enumerate(takes, start=1):
            name = f"video-{number}.webm" if len(takes) > 1 else "video.webm"
            try:
                encode(take, folder / name, seconds=until - time.monotonic())
            except NoVideo as error:
                self.complaint = str(error)
                return
            yield folder / name

    def _shown(self, take: _Take, frame: "ScreencastFrame") -> None:
        at = frame["timestamp"] / 1000
        if not self._is_dark() and (take.until is None or at <= take.until):
            take.footage.take(Picture(at, frame["data"]))

    def _is_dark(self) -> bool:
        if self._masker.values:
            # Also what was shown before anybody said that it was a secret.
            for take in self._takes:
                take.footage = Footage()
            self.complaint = "the run knows a secret, and nobody can take that out of the pixels of a video"
        return bool(self._masker.values)


def size_of(viewport: "ViewportSize | None") -> "ScreencastSize":
    """How large the video of a page is: as its window, but no longer than `LONGEST`, and even, as VP9 wants it."""
    width, height = (viewport["width"], viewport["height"]) if viewport else (1280, 720)
    scale = min(1.0, LONGEST / max(width, height))
    return {"width": max(2, int(width * scale) & ~1), "height": max(2, int(height * scale) & ~1)}


def encode(take: _Take, target: Path, *, seconds: float) -> None:
    """Write the video of a page to `target`, whole or not at all, within `seconds`. Raises NoVideo."""
    ffmpeg = find_ffmpeg()
    now = time.time()
    with tempfile.TemporaryDirectory(prefix="stormwatch-video-") as directory:
        lines = ["ffconcat version 1.0"]
        for number, (picture, lasting) in enumerate(take.footage.lasting(take.until or now)):
            Path(directory, f"{number}.jpg").write_bytes(picture.jpeg)
            lines += [f"file {number}.jpg", f"duration {lasting:.3f}"]
        # Once more, or the last one would not be seen for as long as it stands.
        Path(directory, "pictures").write_text("\n".join([*lines, lines[-2], ""]))
        try:
            ended = subprocess.run(
                [ffmpeg, *_arguments(take.size), "video.webm"],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=max(0.05, seconds),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NoVideo(f"ffmpeg did not make the video within {max(0.0, seconds):.2g} s") from error
        except OSError as error:
            raise NoVideo(f"{ffmpeg} could not be started: {error.strerror}") from error
        if ended.returncode != 0:
            said = ended.stderr.decode(errors="replace").strip().splitlines()
            raise NoVideo(f"ffmpeg ended with exit code {ended.returncode}: {said[-1] if said else 'it said nothing'}")
        try:
            shutil.move(Path(directory, "video.webm"), target)
        except OSError as error:
            raise NoVideo(f"the video could not be written to {target}: {error.strerror}") from error


def _arguments(size: "ScreencastSize") -> list[str]:
    width, height = size["width"], size["height"]
    # A window may change its size, and a video cannot.
    fitting = f"scale={width}:{height}:force_original_aspect_ratio=decrease,pad={width}:{height}:-1:-1:gray"
    return [
        *("-nostdin", "-loglevel", "error", "-f", "concat", "-i", "pictures", "-an"),
        *("-vf", f"{fitting},format=yuv420p"),
        *("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-threads", "1"),
        # Text on a page has to be read: as good as it takes, up to a megabit.
        *("-crf", "12", "-qmax", "45", "-b:v", "1000k"),
    ]
