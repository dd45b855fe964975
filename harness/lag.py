"""How far the event loop runs late: what every timing taken meanwhile can be off by through us."""

from collections import deque

from stormwatch.probes.clock import Clock

INTERVAL = 0.05
"""Seconds between two looks."""
KEPT = 1200
"""Looks that are remembered: one minute of them, longer than most runs."""


class LoopLag:
    """Sleeps for a moment again and again and writes down by how much it overslept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looks: deque[tuple[float, float]] = deque(maxlen=KEPT)
        self._expected = clock.monotonic() + INTERVAL

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            self._expected = self._clock.monotonic() + INTERVAL
            await self._clock.sleep_until(self._expected)
            now = self._clock.monotonic()
            self._looks.append((now, max(0.0, now - self._expected)))

    def worst(self, since: float) -> float:
        """The longest lag in seconds that was seen since a moment of the monotonic clock, one going on included."""
        worst = max(0.0, self._clock.monotonic() - self._expected)
        for moment, lag in reversed(self._looks):
            if moment < since:
                break
            worst = max(worst, lag)
        return worst
