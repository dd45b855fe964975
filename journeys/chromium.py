"""Which Chromium a journey runs in, where Playwright's own download is missing."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""No request that the journey did not make, and no wait for a graphics card that a server does not have."""

SHELL = "chromium-headless-shell"
"""The same engine without the window of a browser around it: what Playwright itself downloads for runs that nobody watches.

Chromium with `--headless` draws tabs and a toolbar in processes of their own for nobody: a run of two pages needs 0.9 s of
processor time in it, and 0.3 s in the shell.
"""

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_WANTS_ALL = ("--headless", "--load-extension", "--disable-extensions-except")
"""Flags of those who want the whole browser, and say so."""

REMEDY = "install Debian's `chromium-headless-shell` or `chromium`, or run `playwright install chromium`, or name one in STORMWATCH_BROWSER"


def launch_args(
    given: Mapping[str, Any], *, downloaded: str, environ: Mapping[str, str] = os.environ, root: bool | None = None
) -> dict[str, Any]:
    """Playwright's launch options, completed with a Chromium of this machine where it has none of its own.

    `given` wins where it names an executable or a channel; `downloaded` is where Playwright would look. Without any
    Chromium the options come back as they were given, and launching says what is missing.
    """
    options = dict(given)
    asked = environ.get("STORMWATCH_BROWSER", "")
    if options.get("executable_path") or options.get("channel") or (not asked and _is_downloaded(Path(downloaded))):
        return options
    wants_all = options.get("headless") is False or any(each.startswith(_WANTS_ALL) for each in options.get("args", ()))
    program = asked or find(environ.get("PATH", os.defpath), shell=not wants_all)
    if not program:
        return options
    as_root = os.geteuid() == 0 if root is None else root
    # Chromium refuses to run as root inside its sandbox.
    flags = [*QUIET, *(["--no-sandbox"] if as_root else [])]
    return {**options, "executable_path": program, "args": [*flags, *options.get("args", ())]}


def find(path: str, *, shell: bool = True) -> str:
    """The Chromium or Chrome found first on a search path, the headless shell before all where it may be; empty if there is none."""
    for name in (*([SHELL] if shell else []), *PROGRAMS):
        if found := shutil.which(name, path=path):
            # Debian's are shell scripts; /usr/bin/chromium prints, and starts other programs, before the browser.
            binary = Path("/usr/lib", "chromium" if name == SHELL else name, name)
            is_script = Path(found).parent == Path("/usr/bin") and binary.is_file() and os.access(binary, os.X_OK)
            return str(binary) if is_script else found
    return ""


def _is_downloaded(executable: Path) -> bool:
    # A headless run uses the shell, which `playwright install --only-shell` puts beside the place of the full browser.
    folder = executable.parents[2] if len(executable.parents) > 2 else executable.parent
    return executable.exists() or any(folder.glob("chromium_headless_shell-*/*/*"))
