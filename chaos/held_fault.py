"""A fault that no proxy stands in front of, held by a lease that a process of its own watches over: the reaper."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from stormwatch.chaos.absence import Absence
from stormwatch.chaos.breakage import Breakage, CannotBreak
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault import FaultLost, FaultNotInjected, FaultNotReverted, FaultSpec, Step
from stormwatch.chaos.process import identify
from stormwatch.chaos.reaper import LEASE, ReaperFailed, begin_reaping, renew
from stormwatch.chaos.shield import to_the_end
from stormwatch.chaos.undo import UndoJournal, UndoRecord
from stormwatch.chaos.undoers import UNDOERS
from stormwatch.probes.clock import Clock, SystemClock


class HeldFault:
    """`async with HeldFault(spec, make, journal=…) as fault:` it is in place while the block lasts.

    record synced ▸ reaper stands by ▸ inject ▸ held, the lease renewed ▸ undo ▸ absence proved ▸ record removed
    """

    def __init__(
        self,
        spec: FaultSpec,
        make: Callable[[str], Breakage],
        *,
        journal: UndoJournal,
        lease: float = LEASE,
        patience: float = 10.0,
        drill: str = "",
        clock: Clock | None = None,
        on_step: Callable[[Step], None] = lambda _step: None,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        """`make` gives the breakage for the fault's id.

        The reaper takes the fault back `lease` seconds after the last sign of life from here, and at once when this
        process is dead. Reverting is tried for `patience` seconds before it is said to have failed.
        """
        self._spec = spec
        self._journal = journal
        self._lease = lease
        self._patience = patience
        self._drill = drill
        self._clock = clock or SystemClock()
        self._on_step = on_step
        self._id = f"{spec.kind}-{new_id()}"
        self._breakage = make(self._id)
        self._arguments: dict[str, object] = {}
        self._recorded = False
        self._injected = False
        self._renewing: asyncio.Task[None] | None = None
        self._seen = Evidence()
        self._lost = ""

    @property
    def spec(self) -> FaultSpec:
        """What is done to what."""
        return self._spec

    @property
    def id(self) -> str:
        """Its name in the undo journal."""
        return self._id

    async def __aenter__(self) -> Self:
        try:
            await self._inject()
        except BaseException as error:
            # Whatever was cut short may have been in place already: entering fails only after the proof that it is not.
            await to_the_end(self._revert())
            if isinstance(error, CannotBreak | ReaperFailed | OSError):
                raise FaultNotInjected(f"{self._spec.kind} on {self._spec.target}: {error}") from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await to_the_end(self._revert())

    async def evidence(self) -> Evidence:
        """What it touched until now, or until it was taken back. Raises FaultLost when it ended by itself."""
        if self._recorded and not self._lost:
            if not await asyncio.to_thread(self._journal.holds, self._id):
                self._lose("its lease ran out, or somebody took it back")
            else:
                try:
                    self._seen = await self._breakage.evidence()
                except CannotBreak as error:
                    self._lose(str(error))
        if self._lost:
            raise FaultLost(self._lost, self._seen)
        return self._seen

    async def _inject(self) -> None:
        self._on_step(Step.BEGUN)
        self._arguments = dict(await self._breakage.prepare())
        record = UndoRecord(
            id=self._id,
            method=self._breakage.method,
            what=f"{self._spec.kind} on {self._spec.target}",
            arguments=self._arguments,
            owner=identify(),
            at=self._clock.now(),
            drill=self._drill,
        )
        # Not to be cut short: a thread that is left behind could write the record after it was removed.
        self._recorded = True
        await to_the_end(asyncio.to_thread(self._journal.record, record))
        await to_the_end(asyncio.to_thread(begin_reaping, self._journal.directory, self._id, lease=self._lease))
        self._on_step(Step.RECORDED)
        self._injected = True
        # While it is injected, too: what has to start and be heard of first may take longer than the lease.
        self._renewing = asyncio.create_task(self._renew(), name=f"lease of {self._id}")
        await self._breakage.inject()
        if not await asyncio.to_thread(self._journal.holds, self._id):
            raise CannotBreak(
                "its lease ran out while it was injected: the machine is too slow, or this process was stopped"
            )
        self._on_step(Step.INJECTED)
        self._seen = await self._breakage.evidence()
        self._on_step(Step.HELD)

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.monotonic() + self._lease / 3)
            await asyncio.to_thread(renew, self._journal.directory, self._id)

    async def _revert(self) -> None:
        if not self._recorded:
            return
        if self._renewing:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        self._on_step(Step.REVERTING)
        with contextlib.suppress(FaultLost):
            await self.evidence()
        absence = await self._prove_absence()
        if absence.evidence:
            self._seen = absence.evidence
        self._on_step(Step.REVERTED)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._journal.forget, self._id)
        # Idempotent: a second leaving finds nothing to do.
        self._recorded = False
        self._on_step(Step.FORGOTTEN)

    async def _prove_absence(self) -> Absence:
        deadline = self._clock.monotonic() + self._patience
        while True:
            try:
                async with self._journal.alone(self._id) as recorded:
                    absence = await UNDOERS[self._breakage.method](self._arguments)
                return absence if recorded else replace(absence, was_there=False)
            except Exception as error:  # a defect of ours leaves a fault in place as surely as what was foreseen
                if self._clock.monotonic() > deadline:
                    raise FaultNotReverted(
                        f"{self._spec.kind} on {self._spec.target} may still be in place: {str(error) or type(error).__name__}; its record is kept in "
                        f"{self._journal.directory}, `stormwatch undo` tries again"
                    ) from error
            await self._clock.sleep_until(self._clock.monotonic() + 0.2)

    def _lose(self, how: str) -> None:
        self._lost = self._lost or f"{self._spec.kind} on {self._spec.target} ended before it was taken back: {how}"
