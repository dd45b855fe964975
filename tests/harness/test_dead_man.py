"""What counts as being well, and that a service which works shows all of its signs."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stormwatch.harness.config import load
from stormwatch.harness.dead_man import Signs, trouble
from stormwatch.harness.service import Service

WELL = Signs(
    behind=lambda: 60.0,
    evaluated=lambda: 60.0,
    silent=lambda: 95.0,
    patience=95.0,
    history=lambda: "",
    outbox=lambda: "",
)


def test_all_signs_at_their_limits_are_well() -> None:
    """Not a moment more."""
    assert trouble(WELL) == ""


@pytest.mark.parametrize(
    ("sign", "said"),
    [
        ({"behind": lambda: 60.1}, "the schedule stands still: a run has been due for more than 1m"),
        ({"silent": lambda: 95.1}, "no probe gave a result for more than 1m35s"),
        ({"evaluated": lambda: 60.1}, "the rules have not been evaluated for more than 1m"),
        ({"history": lambda: "disk I/O error"}, "the history cannot be written: disk I/O error"),
        ({"outbox": lambda: "disk full"}, "notifications cannot be written to disk: disk full"),
    ],
)
def test_each_sign_alone_is_trouble(sign: dict[str, object], said: str) -> None:
    """And says which."""
    assert trouble(replace(WELL, **sign)) == said  # pyright: ignore[reportArgumentType]


CONFIG = """\
probes:
  - {name: front, kind: tcp, target: "127.0.0.1:9", every: 200ms, timeout: 50ms, confirm: {attempts: 1}}
alerts:
  watchdog: {url: "http://127.0.0.1:9/"}
"""


async def test_every_sign_of_a_service_that_works_is_fresh_again_and_again(tmp_path: Path) -> None:
    """A sign that only ages would stop the requests after a minute."""
    (tmp_path / "stormwatch.yaml").write_text(CONFIG)
    config = load(tmp_path / "stormwatch.yaml", environ={})
    async with Service(config, data=tmp_path / "data") as service:
        signs = service.signs
        assert signs is not None
        began = time.monotonic()
        for sign in (signs.evaluated, signs.silent):
            async with asyncio.timeout(60):
                while time.monotonic() - began < 1.5 or sign() > (time.monotonic() - began) / 2:
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            while signs.behind() > 0.5:
                await asyncio.sleep(0.01)
        assert trouble(signs) == ""


async def test_a_schedule_that_stands_still_shows(tmp_path: Path) -> None:
    """And results that do not come any more."""
    (tmp_path / "stormwatch.yaml").write_text(CONFIG)
    config = load(tmp_path / "stormwatch.yaml", environ={})
    async with Service(config, data=tmp_path / "data") as service:
        signs = service.signs
        assert signs is not None
        async with asyncio.timeout(60):
            while service.latest.result("front") is None:
                await asyncio.sleep(0.01)
        (runner,) = [task for task in asyncio.all_tasks() if task.get_name() == "runner"]
        runner.cancel()
        await asyncio.gather(runner, return_exceptions=True)
        async with asyncio.timeout(60):
            while signs.behind() < 1.0 or signs.silent() < 1.0:
                await asyncio.sleep(0.01)
