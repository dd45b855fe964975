"""How long Playwright waits: a bit less than the run has left, so that the failing step is named before the run is over.

Playwright waits 30 s for an action and 5 s for an `expect`, whatever deadline stands over the whole test. Inside a worker
both are lowered at the beginning of each step to what is left, minus a reserve for picture and trace. They are never
raised: a journey that asks for less keeps it.
"""

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from stormwatch.journeys.step import Step

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

ACTION_MS = 30_000.0
"""Playwright's own default for actions and navigations, in milliseconds."""
EXPECT_MS = 5_000.0
"""Playwright's own default for `expect`, in milliseconds."""
LEAST_MS = 50.0
"""Never zero, which means for ever to Playwright."""


def reserve(seconds: float) -> float:
    """Seconds to keep for the artifacts of a failure, out of all that a run may take: a sixth, 0.5 to 4 s."""
    return min(4.0, max(0.5, seconds / 6))


@dataclass(slots=True)
class _Wishes:
    """What the journey asks of one context, in milliseconds, and the ways to set what it gets."""

    set_action: Callable[[float], None]
    set_navigation: Callable[[float], None]
    action: float = ACTION_MS
    navigation: float | None = None
    """None: as long as an action."""


class Patience:
    """Bounds the waiting of each context while a run is under way. A listener of steps."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._reserve = 0.0
        self._contexts: dict[BrowserContext, _Wishes] = {}
        self._expect_wish = EXPECT_MS
        self._expect_given: float | None = None

    @contextlib.contextmanager
    def until(self, deadline: float) -> Generator[None]:
        """Within, nothing waits longer than until `deadline`, in seconds of `time.monotonic`, minus the reserve."""
        self._until = deadline
        self._reserve = reserve(deadline - time.monotonic())
        try:
            self._apply()
            yield
        finally:
            self._until = None
            self._apply()

    def bound(self, context: "BrowserContext") -> None:
        """Bound a context that was just opened, and remember what the journey itself asks of it later."""
        wishes = _Wishes(context.set_default_timeout, context.set_default_navigation_timeout)
        self._contexts[context] = wishes
        context.on("close", self._closed)

        def action(timeout: float | timedelta) -> None:
            wishes.action = _milliseconds(timeout)
            self._give(wishes)

        def navigation(timeout: float | timedelta) -> None:
            wishes.navigation = _milliseconds(timeout)
            self._give(wishes)

        # On the instance, as the recorder does it: Playwright's class stays as it is.
        context.set_default_timeout = action
        context.set_default_navigation_timeout = navigation
        self._give(wishes)

    def step_began(self, name: str) -> None:
        """Less is left than before."""
        self._apply()

    def step_ended(self, step: Step) -> None:
        """Nothing changes."""

    def _closed(self, context: "BrowserContext") -> None:
        self._contexts.pop(context, None)

    def _apply(self) -> None:
        for wishes in list(self._contexts.values()):
            self._give(wishes)
        from playwright.sync_api import expect

        # Playwright has no way to ask for what was set. What is not from us is from the journey.
        seen: float | None = getattr(expect, "_timeout", None)
        if seen != self._expect_given:
            self._expect_wish = EXPECT_MS if seen is None else seen
        self._expect_given = self._bounded(self._expect_wish)
        expect.set_options(timeout=self._expect_given)

    def _give(self, wishes: _Wishes) -> None:
        wishes.set_action(self._bounded(wishes.action))
        wishes.set_navigation(self._bounded(wishes.action if wishes.navigation is None else wishes.navigation))

    def _bounded(self, asked: float) -> float:
        if self._until is None:
            return asked
        left = max(LEAST_MS, round((self._until - time.monotonic() - self._reserve) * 1000))
        # 0 asks for no limit at all.
        return min(asked, left) if asked else left


def _milliseconds(timeout: float | timedelta) -> float:
    return timeout / timedelta(milliseconds=1) if isinstance(timeout, timedelta) else timeout
