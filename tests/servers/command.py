"""The command `stormwatch` in a process of its own that need not import anything first.

Each is forked from a server that has, once for all tests of a session: what a command imports takes longer than what most
of them do. Arguments, environment, directory, streams and exit code are those of a real process. What a test proves about
starting or ending the installed program itself is proved with the installed program.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PRELOADED = ("pytest", "stormwatch.harness.check", "stormwatch.harness.service", __name__)
"""What commands have in common; pytest, since a fork looks into the program that the server was started from."""


def invoke(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `stormwatch` to its end, as `subprocess.run` does with `capture_output` and `text`. Raises TimeoutExpired."""
    argv = ["stormwatch", *map(str, arguments)]
    with tempfile.TemporaryDirectory() as streams:
        out, err = Path(streams, "out"), Path(streams, "err")
        child = _server().Process(
            target=_run, args=(argv, cwd or Path.cwd(), dict(os.environ if env is None else env), out, err)
        )
        child.start()
        child.join(timeout)
        code = child.exitcode
        if code is None:
            child.kill()
            child.join()
        child.close()
        said = [path.read_text() if path.exists() else "" for path in (out, err)]
    if code is None:
        raise subprocess.TimeoutExpired(argv, timeout, *said)
    return subprocess.CompletedProcess(argv, code, *said)


def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _run(argv: list[str], cwd: Path, environ: dict[str, str], out: Path, err: Path) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    for path, stream in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, stream)
        os.close(opened)
    sys.argv = argv
    from stormwatch.harness.cli import main

    main()
