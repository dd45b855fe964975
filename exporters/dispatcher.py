"""From an alert to its receivers: grouped, on disk, sent, receipted; tried again until it is taken; passed on when it is not.

    notify ▸ Grouping ▸ Outbox (synced) ▸ one task for each channel ▸ receiver ▸ receipt (synced)

Every step may be the last one of this process. What is not on disk is told again by whoever knows the alerts; what is on
disk without a receipt is sent again. So a receiver may get a message twice, never not at all, and each channel gives it
what it needs to notice: a dedup key, the message to update, a message id.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stormwatch.exporters.channel import Channel, Failed, Receipt, Refused, Sending
from stormwatch.exporters.flapping import USUAL, Damping
from stormwatch.exporters.grouping import Acknowledgement, Due, Grouping, Route
from stormwatch.exporters.message import Message, Why
from stormwatch.exporters.notification import Counts, Delivered, Notification
from stormwatch.exporters.outbox import Changes, Delivery, DeliveryState, Outbox
from stormwatch.exporters.silence import Silence
from stormwatch.exporters.step import Reached, Step, unheard
from stormwatch.exporters.template import STANDARD, Templates, Words
from stormwatch.probes.clock import Clock, SystemClock

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
"""Seconds after the first failure, roughly: half of it is random, so that many senders do not come together."""
LONGEST_PAUSE = 60.0
"""Seconds between two tries of one message at the most."""
LONGEST_WAIT = 3600.0
"""Seconds that a receiver can make us wait. What is due later than that is due now: the clock was set back."""
SENDING = 30.0
"""Seconds that one try may take, whatever its channel allows itself."""
GOODBYE = 2.0
"""Seconds that closing tries to deliver what waits. It is on disk: the next life goes on."""
FALLBACK_AFTER = 60.0
"""Seconds after which what a channel did not deliver is told by its fallback, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A channel with what it is told."""

    channel: Channel
    route: Route
    is_told: bool = True
    """Whether alerts are routed to it. Without, it is a fallback only."""
    fallback: str = ""
    """The channel that takes over; empty: none."""
    fallback_after: float = FALLBACK_AFTER
    templates: Templates = STANDARD
    """What it says in other words than the standard ones."""
    leaves_out: frozenset[Why] = frozenset()
    """What this channel is not told of an incident that it was told of."""


@dataclass(slots=True)
class _Worker:
    line: Line
    counts: Counts
    waiting: dict[str, deque[Delivery]] = field(default_factory=dict[str, "deque[Delivery]"])
    """By key, in order; the first of each may be sent."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    not_before: float = 0.0
    """Monotonic time before which nothing is sent: the receiver's limit."""
    trouble: str = ""
    wording: str = ""
    """Why its template could not be used for the last message."""
    trying: "asyncio.Task[None] | None" = None
    """The try that is under way. It is not broken off when the work is cancelled, so that its receipt is not lost."""


class Dispatcher:
    """All channels that stand on the outbox. `run` is a task of its own; then comes `aclose`."""

    def __init__(
        self,
        lines: Iterable[Line],
        outbox: Outbox,
        *,
        page: str = "",
        damping: Damping = USUAL,
        clock: Clock | None = None,
        on_delivered: Delivered = lambda _notification, _at: None,
        jitter: Callable[[], float] = random.random,
        mask: Callable[[Any], Any] | None = None,
        step: Reached = unheard,
    ) -> None:
        """`jitter` gives numbers from 0 to 1; `mask` takes secrets out of what receivers say.

        `step` hears of every step, for tests that stop there for good.
        """
        self.workers = {line.channel.name: _Worker(line, Counts(line.channel.name)) for line in lines}
        self.grouping = Grouping(
            (each.line.route for each in self.workers.values() if each.line.is_told), page=page, damping=damping
        )
        self.fallback_active: dict[str, set[str]] = {name: set() for name in self.workers}
        """Keys of the incidents that a channel's fallback tells, too."""
        self.outbox = outbox
        self.clock = clock or SystemClock()
        self._on_delivered = on_delivered
        self._jitter = jitter
        self._mask = mask or _unmasked
        self._step = step
        self._intake: deque[Notification] = deque()
        self._news = asyncio.Event()
        self._threads: dict[str, Mapping[str, Any]] = {}
        """What a channel keeps of an incident, by channel and incident."""
        self._next_id = 1
        self._changing = asyncio.Lock()

    @property
    def counts(self) -> Sequence[Counts]:
        """What each channel did so far."""
        for worker in self.workers.values():
            worker.counts.waiting = sum(len(each) for each in worker.waiting.values())
            oldest = min((each.created for line in worker.waiting.values() for each in line), default=None)
            worker.counts.oldest = 0.0 if oldest is None else max(0.0, self.clock.now() - oldest)
            worker.counts.fallback_active = bool(self.fallback_active[worker.line.channel.name])
        return [worker.counts for worker in self.workers.values()]

    async def begin(self) -> None:
        """Go on where an earlier life ended."""
        now = self.clock.now()
        alerts, groups, silences = [
            (await self.outbox.records(kind)).values() for kind in ("alert", "group", "silence")
        ]
        self.grouping.restore(alerts, groups, silences, now, flaps=await self.outbox.records("flaps"))
        self._threads = await self.outbox.records("thread")
        self._next_id = await self.outbox.next_id()
        for key, document in (await self.outbox.records("fallback")).items():
            if document["channel"] in self.fallback_active:
                self.fallback_active[document["channel"]].add(key.partition(" ")[2])
        forgotten = Changes()
        for delivery in await self.outbox.waiting():
            if delivery.channel in self.workers:
                self._enqueue(delivery)
                continue
            delivery.state, delivery.settled = DeliveryState.REFUSED, now
            delivery.said = f"no channel is called {delivery.channel} any more"
            log.error("%s is not told: %s", delivery.message.title, delivery.said)
            forgotten.put(delivery)
        await self.outbox.write(forgotten, now=now)

    def notify(self, notification: Notification) -> None:
        """Accept a notification. Never waits and never fails; it is on disk a moment later."""
        self._intake.append(notification)
        self._step(Step.TAKEN)
        self._news.set()

    async def run(self) -> None:
        """Group, write and deliver until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, worker in self.workers.items():
                tasks.create_task(self._work(worker), name=f"channel {name}")
            while True:
                await asyncio.shield(self._advance())
                now = self.clock.now()
                await self._wait(self._news, min(self.grouping.next_at(now), self._next_passing_on()) - now)

    async def aclose(self) -> None:
        """Write what came in the last moment, and try for a moment to deliver what waits."""
        await self._advance()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await asyncio.gather(*(self._say_goodbye(worker) for worker in self.workers.values()))
        for worker in self.workers.values():
            if worker.trying:
                worker.trying.cancel()
                await asyncio.gather(worker.trying, return_exceptions=True)
            await worker.line.channel.aclose()

    async def resolve_all_but(self, active: Sequence[str], *, at: float) -> None:
        """Tell the end of alerts that fire as far as people know and are not among these fingerprints.

        They were resolved, or taken out of the configuration, while this process was dead.
        """
        known = set(active)
        for key, each in list(self.grouping.alerts.items()):
            if key not in known and each.starts_at < at:
                self.notify(replace(each, ends_at=at))
        await self._advance()

    async def acknowledge(self, fingerprint: str, *, by: str, lasting: float) -> bool:
        """Somebody takes an alert for some seconds; 0 gives it back. False: no such alert fires."""
        now = self.clock.now()
        async with self._changing:
            taken = Acknowledgement(by=by, until=now + lasting) if lasting > 0 else None
            if not self.grouping.acknowledge(fingerprint, taken, now):
                return False
            await self._commit(self.grouping.due(now))
        self._news.set()
        return True

    async def silence(self, silence: Silence) -> None:
        """Nobody is told of some alerts for some time. One with the same id is replaced: an end in the past ends it."""
        now = self.clock.now()
        async with self._changing:
            changes = Changes()
            self.grouping.silences[silence.id] = silence
            for each in [each for each in self.grouping.silences.values() if each.ends_at <= now]:
                del self.grouping.silences[each.id]
                changes.records["silence", each.id] = None
            if silence.id in self.grouping.silences:
                changes.records["silence", silence.id] = silence.as_json()
            await self.outbox.write(changes, now=now)
        self._news.set()

    async def _advance(self) -> None:
        """Take what came in, and put on disk what follows from it and from the time."""
        async with self._changing:
            now = self.clock.now()
            due: list[Due] = []
            while self._intake:
                due += self.grouping.take(self._intake.popleft(), now)
            due += self.grouping.due(now)
            await self._commit(due)

    async def _commit(self, due: Sequence[Due]) -> None:
        now, changes, made = self.clock.now(), Changes(), list[Delivery]()
        for each in due:
            made += self._deliveries(each, now, changes)
        made += self._passed_on(now, changes)
        for key in self.grouping.dirty_alerts:
            changes.records["alert", key] = self.grouping.alert_record(key)
        for place in self.grouping.dirty_groups:
            changes.records["group", " ".join(place)] = self.grouping.group_record(place)
        for key in self.grouping.damper.dirty:
            changes.records["flaps", key] = self.grouping.damper.record(key)
        self.grouping.damper.dirty.clear()
        self.grouping.dirty_alerts.clear()
        self.grouping.dirty_groups.clear()
        for each in made:
            changes.put(each)
        if changes.records or changes.deliveries or self.outbox.error:
            self._step(Step.WRITE)
            await self.outbox.write(changes, now=now)
            self._step(Step.WRITTEN)
        for each in made:
            self._enqueue(each)

    def _deliveries(self, due: Due, now: float, changes: Changes) -> list[Delivery]:
        channel, key = due.place
        line, why = self.workers[channel].line, due.message.why
        whole = self._delivery(channel, key, due, now)
        made = [] if why in line.leaves_out else [whole]
        if due.message.incident in self.fallback_active[channel] and line.fallback in self.workers:
            whole.passed_on = True
            if why not in self.workers[line.fallback].line.leaves_out:
                made.append(self._copy(whole, line.fallback, now))
        if due.message.is_resolved:
            self._forget(channel, due.message.incident, changes)
        return made

    def _delivery(self, channel: str, key: str, due: Due, now: float) -> Delivery:
        delivery = Delivery(id=self._next_id, channel=channel, key=key, message=due.message, created=now, due=now)
        self._next_id += 1
        return delivery

    def _copy(self, delivery: Delivery, channel: str, now: float) -> Delivery:
        """The same for another channel, in an order of its own."""
        first = delivery.instead_of or delivery.channel
        made = Delivery(
            id=self._next_id,
            channel=channel,
            key=f"{first} {delivery.key}" if not delivery.instead_of else delivery.key,
            message=delivery.message,
            created=now,
            due=now,
            instead_of=first,
        )
        self._next_id += 1
        return made

    def _passed_on(self, now: float, changes: Changes) -> list[Delivery]:
        """What took too long goes to the fallback as well; the channel itself goes on trying."""
        late = [
            (worker, each)
            for worker in self.workers.values()
            for each in self._not_passed_on(worker)
            if now >= each.created + worker.line.fallback_after
        ]
        return [self._pass_on(worker, each, now, changes) for worker, each in late]

    def _not_passed_on(self, worker: _Worker) -> list[Delivery]:
        """What only this channel tells so far, and another could."""
        if worker.line.fallback not in self.workers:
            return []
        return [
            each
            for waiting in worker.waiting.values()
            for each in waiting
            if not each.passed_on and each.state is DeliveryState.WAITING
        ]

    def _pass_on(self, worker: _Worker, delivery: Delivery, now: float, changes: Changes) -> Delivery:
        name, incident = delivery.channel, delivery.message.incident
        delivery.passed_on = True
        self._step(Step.PASSED_ON)
        changes.put(delivery)
        if not delivery.message.is_resolved:
            self.fallback_active[name].add(incident)
            changes.records["fallback", f"{name} {incident}"] = {"channel": name}
        log.error(
            "%s did not take %r, so %s is told: %s", name, delivery.message.title, worker.line.fallback, delivery.said
        )
        return self._copy(delivery, worker.line.fallback, now)

    def _next_passing_on(self) -> float:
        return min(
            (
                each.created + worker.line.fallback_after
                for worker in self.workers.values()
                for each in self._not_passed_on(worker)
            ),
            default=float("inf"),
        )

    def _enqueue(self, delivery: Delivery) -> None:
        worker = self.workers[delivery.channel]
        worker.waiting.setdefault(delivery.key, deque()).append(delivery)
        worker.news.set()

    async def _work(self, worker: _Worker) -> None:
        while True:
            now = self.clock.now()
            heads = [waiting[0] for waiting in worker.waiting.values()]
            first = min(heads, key=lambda each: (each.due, each.id), default=None)
            limit = worker.not_before - self.clock.monotonic()
            due = 0.0 if first is None or first.due - now > LONGEST_WAIT else first.due - now  # the clock was set back
            pause = float("inf") if first is None else max(due, limit)
            if first is None or pause > 0:
                await self._wait(worker.news, pause)
                continue
            worker.trying = asyncio.create_task(self._try(worker, first), name=f"delivery {first.id}")
            await asyncio.shield(worker.trying)

    async def _try(self, worker: _Worker, delivery: Delivery) -> None:
        """Send once, and write down what came of it."""
        channel, message = worker.line.channel, delivery.message
        delivery.attempts += 1
        changes = Changes()
        changes.put(delivery)
        await self.outbox.write(changes, now=self.clock.now())
        thread_key = f"{channel.name} {message.incident}"
        worker.not_before = self.clock.monotonic() + channel.pause
        words = self._words(worker, message)
        self._step(Step.SEND)
        try:
            async with asyncio.timeout(SENDING):
                receipt = await channel.send(
                    Sending(
                        message=message,
                        thread=self._threads.get(thread_key, {}),
                        in_doubt=delivery.attempts > 1,
                        now=self.clock.now(),
                        title=words.title,
                        body=words.body,
                    )
                )
        except Refused as refusal:
            self._step(Step.REFUSED)
            await self._settle(worker, delivery, refusal=str(refusal))
        except Failed as failure:
            self._failed(worker, delivery, failure)
        except TimeoutError:
            self._failed(worker, delivery, Failed(f"no answer within {SENDING:.0f} s"))
        except Exception as error:  # noqa: BLE001 - a channel's own mistake must not end the task that delivers pages
            self._failed(worker, delivery, Failed(f"{type(error).__name__}: {error}"))
        else:
            self._step(Step.SENT)
            await self._settle(worker, delivery, receipt=receipt)

    async def _settle(
        self, worker: _Worker, delivery: Delivery, *, receipt: Receipt | None = None, refusal: str = ""
    ) -> None:
        """The receiver took it or refused it for good."""
        now, changes, message = self.clock.now(), Changes(), delivery.message
        delivery.settled = now
        made: list[Delivery] = []
        if receipt is None:
            delivery.state, delivery.said = DeliveryState.REFUSED, self._mask(refusal)
            worker.counts.refused += len(message.news)
            log.error("%s refuses %r: %s", delivery.channel, message.title, delivery.said)
            if worker.line.fallback in self.workers and not delivery.passed_on:
                made.append(self._pass_on(worker, delivery, now, changes))
        else:
            delivery.state, delivery.said = DeliveryState.DELIVERED, self._mask(receipt.said)
            delivery.reference = self._mask(receipt.reference)
            worker.counts.sent += len(message.news) or len(message.alerts)
            self._recovered(worker)
            self._keep_thread(f"{delivery.channel} {message.incident}", message.is_resolved, receipt, changes)
        if message.is_resolved and delivery.instead_of:
            self._forget(delivery.channel, message.incident, changes)
        changes.put(delivery)
        for each in made:
            changes.put(each)
        await self.outbox.write(changes, now=now)
        self._step(Step.RECEIPTED)
        for each in made:
            self._enqueue(each)
        waiting = worker.waiting[delivery.key]
        waiting.popleft()
        if not waiting:
            del worker.waiting[delivery.key]
        if receipt is not None:
            for each in message.alerts:
                if each.fingerprint in message.news:
                    self._on_delivered(each, now)

    def _words(self, worker: _Worker, message: Message) -> Words:
        words = worker.line.templates.words(message)
        if words.trouble and words.trouble != worker.wording:  # once for each new trouble, not once for each message
            log.error("%s: %s", worker.line.channel.name, self._mask(words.trouble))
        worker.wording = words.trouble
        return words

    def _keep_thread(self, key: str, is_resolved: bool, receipt: Receipt, changes: Changes) -> None:
        if is_resolved:
            if self._threads.pop(key, None) is not None:
                changes.records["thread", key] = None
        elif receipt.thread is not None:
            self._threads[key] = changes.records["thread", key] = receipt.thread

    def _failed(self, worker: _Worker, delivery: Delivery, failure: Failed) -> None:
        said = self._mask(str(failure))
        worker.counts.failed += 1
        self._step(Step.FAILED)
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(delivery.attempts - 1, 10))
        pause *= (1 + self._jitter()) / 2
        delivery.said = said
        delivery.due = self.clock.now() + max(pause, failure.retry_after)
        # Others may go through where one fails, but a receiver in trouble is not overrun by all that waits.
        worker.not_before = self.clock.monotonic() + max(failure.retry_after, min(pause, FIRST_PAUSE))
        if said != worker.trouble:  # once for each new trouble, not once for each try
            log.error("%s did not take %r: %s", delivery.channel, delivery.message.title, said)
        worker.trouble = said

    def _recovered(self, worker: _Worker) -> None:
        if worker.trouble:
            log.warning("%s answers again after %s", worker.line.channel.name, worker.trouble)
            worker.trouble = ""

    def _forget(self, channel: str, incident: str, changes: Changes) -> None:
        """An incident is over: nothing of it goes to the fallback any more."""
        if incident in self.fallback_active[channel]:
            self.fallback_active[channel].discard(incident)
            changes.records["fallback", f"{channel} {incident}"] = None

    async def _say_goodbye(self, worker: _Worker) -> None:
        """Each key's deliveries in order, until one fails."""
        if worker.trying:
            await asyncio.gather(worker.trying, return_exceptions=True)
        for key in list(worker.waiting):
            while (waiting := worker.waiting.get(key)) and waiting[0].due <= self.clock.now():
                limit = worker.not_before - self.clock.monotonic()
                if limit > 0:
                    await asyncio.sleep(limit)
                await self._try(worker, waiting[0])

    async def _wait(self, news: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == float("inf") else max(0.0, min(seconds, 3600.0))):
                await news.wait()
        news.clear()


def _unmasked(text: Any) -> Any:
    return text
