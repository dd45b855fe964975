"""One run of the kind `api`: its steps taken within their time, what each of them showed, and what is known after it."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from stormwatch.probes import certificate
from stormwatch.probes.answer import Complaint
from stormwatch.probes.api_step import Step
from stormwatch.probes.capture import CaptureError, Concealer, Source
from stormwatch.probes.client import Client
from stormwatch.probes.endpoint import address_hash, family
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.judgement import AT_ONCE, judge
from stormwatch.probes.probe import Metric
from stormwatch.probes.report import write_certificates, write_evidence
from stormwatch.probes.result import Reason
from stormwatch.probes.session import Session
from stormwatch.probes.template import Missing, as_text
from stormwatch.probes.units import show_duration
from stormwatch.probes.visit import EXCERPT, Visit
from stormwatch.probes.watch import Watch

Failure = ProbeFailed | ProbeBroken

METRICS: Final = (
    Metric("stormwatch_api_step_status_code", "Status code of each step's last answer, 0 for none"),
    Metric("stormwatch_api_step_attempts", "How often each step asked"),
    Metric("stormwatch_api_steps_completed", "How many steps were as expected"),
    Metric("probe_dns_lookup_time_seconds", "Seconds that looking up the target's name took"),
    Metric("probe_ip_protocol", "IP version of the address that was used: 4 or 6, 0 when the name did not resolve"),
    Metric("probe_ip_addr_hash", "FNV-1a hash of the address that was used: changes when the address does"),
    Metric("probe_failed_due_to_regex", "1 when a regular expression did not hold"),
    *certificate.METRICS,
)
"""What `Run.write_down` measures besides the steps' seconds. Addresses and certificates are those of the first step."""


class Record:
    """What one step showed in one run."""

    __slots__ = ("attempts", "captured", "failure", "offset", "seconds", "skipped", "step", "visit", "well")

    def __init__(self, step: Step, offset: float) -> None:
        self.step = step
        self.offset = offset
        """Seconds after the start of the run at which it began."""
        self.seconds = 0.0
        """All its attempts, and the waiting between them."""
        self.attempts = 0
        self.visit: Visit | None = None
        """The last attempt."""
        self.captured: dict[str, int] = {}
        """How long the values are that were taken, by their names: the values themselves are never kept."""
        self.failure: Failure | None = None
        """Of the last attempt that came to its end."""
        self.skipped = ""
        """Why it was left out."""
        self.well = False
        """It was taken, and as expected."""

    def as_evidence(self) -> dict[str, Any]:
        """For people. The URL is shown as it was written: what was put into it may be nobody's business."""
        options, visit = self.step.options, self.visit
        shown: dict[str, Any] = {"name": self.step.name, "request": f"{self.step.method} {options.url or '/'}"}
        if self.skipped:
            return {**shown, "skipped": self.skipped}
        shown["seconds"] = round(self.seconds, 6)
        if visit is not None:
            shown["status"] = visit.status
            shown["phases"] = {name: round(seconds, 6) for name, (_, seconds) in visit.phases.items()}
        if self.attempts > 1:
            shown["attempts"] = self.attempts
        if self.captured:
            shown["captured"] = {name: f"{length} characters" for name, length in self.captured.items()}
        if self.failure is not None:
            shown["failed"] = self.failure.message
        return shown


class Run:
    """The state of one run: never shared, thrown away after it."""

    def __init__(self, client: Client, watch: Watch, values: dict[str, Any]) -> None:
        """`values` are the variables, and get the captured values beside them."""
        self._client = client
        self._watch = watch
        self._values = values
        self.concealer = Concealer()
        self.records: list[Record] = []
        self.first: Visit | None = None
        """The first attempt of the first step."""

    @property
    def seconds(self) -> float:
        """Of all steps together."""
        return sum(record.seconds for record in self.records)

    async def take_all(self, session: Session, steps: Sequence[Step], until: float) -> Failure | None:
        """Take steps until one fails that is not soft, and say what failed first. `until` is a moment of the clock."""
        failure: Failure | None = None
        for step in steps:
            failed = await self._take(session, step, until)
            failure = failure or failed
            if failed is not None and not (step.options.soft and isinstance(failed, ProbeFailed)):
                break
        return failure

    async def clean_up(self, session: Session, steps: Sequence[Step], until: float) -> Failure | None:
        """Take every step, each with its share of the time, and say what failed first."""
        failure: Failure | None = None
        for number, step in enumerate(steps):
            now = self._watch.clock.monotonic()
            share = max(0.0, until - now) / (len(steps) - number)
            failed = await self._take(session, step, now + share, clean_up=True)
            failure = failure or failed
        return failure

    async def _take(self, session: Session, step: Step, until: float, *, clean_up: bool = False) -> Failure | None:
        """Take one step, and say what failed in a sentence that names it."""
        watch = self._watch
        now = watch.clock.monotonic()
        record = Record(step, now - watch.began)
        self.records.append(record)
        seconds = max(0.0, until - now)
        if step.options.within is not None:
            seconds = min(seconds, step.options.within)
        failure: Failure | None = None
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                await self._attempt_all(session, record)
            record.well = True
        except Missing as missing:
            missed = f"{{{{ {missing.name} }}}} was never captured"
            if clean_up:
                record.skipped = missed
            else:
                failure = ProbeFailed(Reason.ASSERTION, missed)
        except (ProbeFailed, ProbeBroken) as error:
            failure = error
        except TimeoutError:
            if not limit.expired():
                raise
            failure = _too_late(record, seconds)
        finally:
            if not record.skipped:
                watch.add_phase(step.name, record.seconds, offset=record.offset, failed=not record.well)
        record.failure = failure and type(failure)(
            failure.reason, f"step {step.name!r}: {failure.message}", phase=step.name
        )
        return record.failure

    async def _attempt_all(self, session: Session, record: Record) -> None:
        retry, clock = record.step.options.retry, self._watch.clock
        while True:
            record.attempts += 1
            try:
                return await self._attempt(session, record)
            except ProbeFailed as failure:
                record.failure = failure
                if retry is None or record.attempts >= retry.attempts:
                    raise
            began = clock.monotonic()
            try:
                await clock.sleep_until(began + retry.after)
            finally:
                record.seconds += clock.monotonic() - began

    async def _attempt(self, session: Session, record: Record) -> None:
        step = record.step
        try:
            request, expected = step.request(self._client, self._values), step.expected(self._values)
        except ValueError as error:
            raise ProbeFailed(Reason.ASSERTION, f"it cannot be asked with what was captured: {error}") from None
        visit = record.visit = Visit(keep=self._client.options.max_body if step.needs_body else EXCERPT)
        self.first = self.first or visit
        try:
            await session.fetch(request, visit)
        finally:
            record.seconds += visit.seconds
            if visit.secret:
                self.concealer.learn([visit.secret])
        await judge(self._watch, expected, visit)
        if step.takers:
            await self._capture(record, visit)

    async def _capture(self, record: Record, visit: Visit) -> None:
        source = Source(bytes(visit.content.kept), visit.head)
        if len(source.body) <= AT_ONCE:
            taken, error = _taken(record.step, source)
        else:
            taken, error = await asyncio.to_thread(_taken, record.step, source)
        self._values |= taken  # also when another is missing: the clean-up may need just these
        record.captured = {name: len(as_text(value)) for name, value in taken.items()}
        self.concealer.learn(taken[taker.name] for taker in record.step.takers if taker.secret and taker.name in taken)
        if error is not None:
            visit.complaints = [Complaint(Reason.ASSERTION, f"could not capture {error}", "transfer")]
            raise visit.complaints[0].as_failure()

    def write_down(self) -> None:
        """Everything that the steps showed, however the run ended. What was captured as secret is masked."""
        watch, first = self._watch, self.first
        watch.took(self.seconds)
        if first is not None:
            self._write_way(first)
        for record in self.records:
            if not record.skipped:
                status = record.visit.status if record.visit is not None else 0
                watch.measure("stormwatch_api_step_status_code", status, step=record.step.name)
                watch.measure("stormwatch_api_step_attempts", record.attempts, step=record.step.name)
        watch.measure("stormwatch_api_steps_completed", sum(record.well for record in self.records))
        complaints = [each for record in self.records if record.visit for each in record.visit.complaints]
        watch.measure("probe_failed_due_to_regex", any(each.regex for each in complaints))
        watch.note("steps", [record.as_evidence() for record in self.records])
        failed = next((record for record in self.records if not record.well and not record.skipped), None)
        if failed is not None and failed.visit is not None:
            watch.note("failed_step", failed.step.name)
            write_evidence(watch, failed.visit)
        for key, value in watch.evidence.items():
            watch.evidence[key] = self.concealer.conceal(value)

    def _write_way(self, first: Visit) -> None:
        watch = self._watch
        if first.lookup is not None:
            watch.measure("probe_dns_lookup_time_seconds", first.lookup)
        if first.address or not first.proxy:
            watch.measure("probe_ip_protocol", family(first.address))
        if first.address:
            watch.measure("probe_ip_addr_hash", address_hash(first.address))
            watch.note("remote", first.remote)
        if first.proxy:
            watch.note("proxy", first.proxy)
        if first.secure:
            write_certificates(watch, first, self._client.trust)


def _taken(step: Step, source: Source) -> tuple[dict[str, Any], CaptureError | None]:
    """All values that are there, and the first thing that is wrong with another."""
    taken: dict[str, Any] = {}
    wrong: CaptureError | None = None
    for taker in step.takers:
        try:
            taken[taker.name] = taker.take(source)
        except CaptureError as error:
            wrong = wrong or error
    return taken, wrong


def _too_late(record: Record, seconds: float) -> ProbeFailed:
    """What a step is told that was given up: what the last whole attempt saw, or where the only one was."""
    allowed = show_duration(seconds)
    if record.failure is not None:
        seen = f"{record.failure.message}, and no other answer in {allowed} and {record.attempts} attempts"
        return ProbeFailed(record.failure.reason, seen) if isinstance(record.failure, ProbeFailed) else _lost(allowed)
    visit = record.visit
    if visit is None or visit.url is None:
        return _lost(allowed)
    return ProbeFailed(Reason.TIMEOUT, f"no answer from {visit.url.origin} within {allowed} in phase {visit.phase}")


def _lost(allowed: str) -> ProbeFailed:
    return ProbeFailed(Reason.TIMEOUT, f"it was not begun within {allowed}: the steps before it took too long")
