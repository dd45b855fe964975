"""A fault on a route of the fault proxy, held by a lease from here: nothing of it outlives us for longer than that."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Self

from stormwatch.chaos.catalog import write_options
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault import FaultLost, FaultNotInjected, FaultNotReverted, FaultSpec, Step
from stormwatch.chaos.process import ProcessId, identify
from stormwatch.chaos.proxy_control import (
    Absence,
    Gone,
    ProxyControl,
    ProxyRefused,
    ProxyUnreachable,
    UndoFailed,
    take_back,
)
from stormwatch.chaos.shield import to_the_end
from stormwatch.chaos.undo import UndoJournal, UndoRecord
from stormwatch.probes.clock import Clock, SystemClock

log = logging.getLogger(__name__)


class ProxyFault:
    """`async with ProxyFault(spec, control=…, journal=…) as fault:` the fault is in place while the block lasts."""

    def __init__(
        self,
        spec: FaultSpec,
        *,
        control: str,
        journal: UndoJournal,
        lease: float = 15.0,
        patience: float = 10.0,
        drill: str = "",
        clock: Clock | None = None,
        on_step: Callable[[Step], None] = lambda _step: None,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        """`control` is the URL of the control API; `spec.target` the name of a route.

        The fault ends by itself `lease` seconds after the last sign of life from here. Reverting is tried for
        `patience` seconds before it is said to have failed.
        """
        self._spec = spec
        self._url = control
        self._journal = journal
        self._lease = lease
        self._patience = patience
        self._drill = drill
        self._clock = clock or SystemClock()
        self._on_step = on_step
        self._id = f"{spec.kind}-{new_id()}"
        self._control: ProxyControl | None = None
        self._holder: ProcessId | None = None
        self._recorded = False
        self._renewing: asyncio.Task[None] | None = None
        self._seen = Evidence()
        self._alive_until = 0.0
        self._lost = ""

    @property
    def spec(self) -> FaultSpec:
        """What is done to what."""
        return self._spec

    @property
    def id(self) -> str:
        """Its name in the proxy and in the undo journal."""
        return self._id

    async def __aenter__(self) -> Self:
        try:
            await self._inject()
        except BaseException as error:
            # Whatever was cut short may have been in place already: entering fails only after the proof that it is not.
            await to_the_end(self._revert())
            if isinstance(error, ProxyUnreachable | ProxyRefused | OSError):
                raise FaultNotInjected(f"{self._spec.kind} on {self._spec.target}: {error}") from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await to_the_end(self._revert())

    async def evidence(self) -> Evidence:
        """What it touched until now, or until it was taken back. Raises FaultLost when it ended by itself."""
        if self._control and not self._lost:
            try:
                seen = await self._control.evidence(self._spec.target, self._id)
            except (ProxyUnreachable, ProxyRefused) as error:
                if self._clock.monotonic() > self._alive_until:
                    self._lose(str(error))
            else:
                self._take(seen)
        if self._lost:
            raise FaultLost(self._lost, self._seen)
        return self._seen

    async def _inject(self) -> None:
        self._on_step(Step.BEGUN)
        self._control = ProxyControl(self._url)
        self._holder = await self._control.process()
        record = UndoRecord(
            id=self._id,
            method="proxy",
            what=f"{self._spec.kind} on {self._spec.target}",
            arguments={
                "control": self._url,
                "route": self._spec.target,
                "fault": self._id,
                "proxy": self._holder.as_json(),
            },
            owner=identify(),
            at=self._clock.now(),
            drill=self._drill,
        )
        # Not to be cut short: a thread that is left behind could write the record after it was removed.
        self._recorded = True
        await to_the_end(asyncio.to_thread(self._journal.record, record))
        self._on_step(Step.RECORDED)
        body = {
            "kind": self._spec.kind,
            "options": write_options(self._spec.kind, self._spec.options),
            "lease": self._lease,
            "owner": f"{f'drill {self._drill}, ' if self._drill else ''}process {record.owner.pid}",
        }
        await self._control.put(self._spec.target, self._id, body)
        self._alive_until = self._clock.monotonic() + self._lease
        self._on_step(Step.INJECTED)
        self._renewing = asyncio.create_task(self._renew(self._control), name=f"lease of {self._id}")
        seen = await self._control.evidence(self._spec.target, self._id)
        if isinstance(seen, Gone):
            raise ProxyRefused(f"{self._url} took the fault and does not have it: {seen.how or 'it does not say why'}")
        self._on_step(Step.HELD)

    async def _renew(self, control: ProxyControl) -> None:
        while True:
            await self._clock.sleep_until(self._clock.monotonic() + self._lease / 3)
            try:
                gone = await control.renew(self._spec.target, self._id, self._lease)
            except (ProxyUnreachable, ProxyRefused) as error:
                log.warning("the lease of %s on %s was not renewed: %s", self._spec.kind, self._spec.target, error)
                continue
            if gone:
                self._take(gone)
                return
            self._alive_until = self._clock.monotonic() + self._lease

    async def _revert(self) -> None:
        if self._control is None:
            return
        if self._renewing:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        self._on_step(Step.REVERTING)
        control = self._control
        try:
            if self._recorded:
                absence = await self._prove_absence(control)
                if absence.evidence:
                    self._seen = absence.evidence
                if not absence.was_there and not self._lost and self._alive_until:
                    self._lose(absence.why)
                self._on_step(Step.REVERTED)
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(self._journal.forget, self._id)
                self._on_step(Step.FORGOTTEN)
        finally:
            # Idempotent: a second leaving finds nothing to do.
            self._control = None
            with contextlib.suppress(Exception):
                await control.__aexit__(None, None, None)

    async def _prove_absence(self, control: ProxyControl) -> Absence:
        deadline = self._clock.monotonic() + self._patience
        while True:
            try:
                return await take_back(control, route=self._spec.target, fault=self._id, holder=self._holder)
            except (ProxyUnreachable, ProxyRefused, UndoFailed) as error:
                if self._clock.monotonic() > deadline:
                    raise FaultNotReverted(
                        f"{self._spec.kind} on {self._spec.target} may still be in place: {error}; its record is kept in "
                        f"{self._journal.directory}, `stormwatch undo` tries again"
                    ) from error
            await self._clock.sleep_until(self._clock.monotonic() + 0.2)

    def _take(self, seen: Evidence | Gone) -> None:
        if isinstance(seen, Evidence):
            self._seen = seen
            return
        if seen.evidence:
            self._seen = seen.evidence
        self._lose(seen.how or "the proxy has no such fault any more")

    def _lose(self, how: str) -> None:
        self._lost = self._lost or f"{self._spec.kind} on {self._spec.target} ended before it was taken back: {how}"
