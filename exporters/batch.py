"""Hand things to a thread that writes them in batches: the caller never waits, and a failed batch is tried again."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

INTERVAL = 0.25
"""Seconds that the first thing of a batch waits for others: so much is lost when the process is killed."""
LARGEST = 2000
"""Things in one batch."""
KEPT = 100_000
"""Things that wait while nothing can be written. Beyond it the oldest are dropped, and counted."""
LONGEST_PAUSE = 10.0
"""Seconds between two tries of a batch that fails again and again."""


class Batches(Generic[T]):
    """A queue with one writing thread. `write` gets a batch; when it raises one of `failures`, it gets it again.

    `write` must do all or nothing. It is also called with an empty batch every `idle` seconds, for its own chores.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[Sequence[T]], None],
        *,
        failures: tuple[type[Exception], ...],
        interval: float = INTERVAL,
        idle: float = 60.0,
        kept: int = KEPT,
    ) -> None:
        self.errors = 0
        """How often a batch could not be written."""
        self.dropped = 0
        """Things that were given up: too many waited, or no try could have written them."""
        self.written = 0
        """Things that are on disk."""
        self.error = ""
        """What the last try said; empty when it went well."""
        self._name = name
        self._write = write
        self._failures = failures
        self._interval = interval
        self._idle = idle
        self._kept = kept
        self._waiting: deque[T] = deque()
        self._accepted = 0
        self._state = threading.Condition()
        self._pause = 0.0
        self._urgent = 0
        """So many of all things that were ever accepted are wanted on disk at once."""
        self._try_now = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Things that are accepted and not yet on disk."""
        return len(self._waiting)

    @property
    def _done(self) -> int:
        return self.written + self.dropped

    def put(self, thing: T) -> None:
        """Accept a thing. Never waits for the disk."""
        with self._state:
            if len(self._waiting) >= self._kept:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(thing)
            self._accepted += 1
            if len(self._waiting) == 1:
                self._state.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until everything that was accepted before is written or dropped; False when that takes longer."""
        with self._state:
            wanted = self._urgent = self._accepted
            self._try_now = True
            self._state.notify_all()
            return self._state.wait_for(lambda: self._done >= wanted, seconds)

    def close(self, seconds: float) -> int:
        """Write what is left, for at most so many seconds, and end the thread. Returns how many things were lost."""
        self.flush(seconds)
        with self._state:
            self._closed = True
            self._state.notify_all()
        self._thread.join(seconds)
        lost = len(self._waiting)
        if lost:
            log.error("%s: closed with %d results unwritten: %s", self._name, lost, self.error)
        return lost

    def _run(self) -> None:
        singly = 0
        while self._gather(self._pause):
            with self._state:
                batch = [self._waiting[place] for place in range(min(1 if singly else LARGEST, len(self._waiting)))]
                given_up = self.dropped
            pause = 0.0
            try:
                self._write(batch)
            except self._failures as error:
                pause = min(LONGEST_PAUSE, max(self._interval, self._pause * 2))
                self._failed(error)
            except Exception:
                # One thing that no try will ever write must not keep the others from being written.
                if len(batch) > 1:
                    singly = len(batch)
                    continue
                log.exception("%s: given up: %.500r", self._name, batch)
                self._settled(len(batch), given_up, written=False)
            else:
                if self.error:
                    log.warning("%s: writing again after %s", self._name, self.error)
                    self.error = ""
                self._settled(len(batch), given_up, written=True)
            self._pause = pause
            singly = max(0, singly - 1)

    def _gather(self, pause: float) -> bool:
        """Wait until there is a batch worth writing; False when nothing will come any more."""
        with self._state:
            if pause:
                self._state.wait_for(lambda: self._closed or self._try_now, pause)
            else:
                self._state.wait_for(lambda: self._waiting or self._closed, self._idle)
                deadline = time.monotonic() + self._interval
                while (
                    len(self._waiting) < LARGEST and self._waiting and self._done >= self._urgent and not self._closed
                ):
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._state.wait(left):
                        break
            self._try_now = False
            return not self._closed

    def _settled(self, count: int, dropped_before: int, *, written: bool) -> None:
        """Take a batch out of the queue."""
        with self._state:
            # What was dropped meanwhile stood at the front of this batch: it is settled all the same.
            overtaken = min(count, self.dropped - dropped_before)
            self.dropped -= overtaken
            for _ in range(count - overtaken):
                self._waiting.popleft()
            if written:
                self.written += count
            else:
                self.dropped += count
            self._state.notify_all()

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        said = str(error)
        if said != self.error:  # once for each new trouble, not once for each try
            log.error("%s: %s; %d results wait and are tried again", self._name, said, len(self._waiting))
        self.error = said
