"""Several faults that are held as one: all of them are in place, or none."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from stormwatch.chaos.fault import Fault, FaultNotReverted


class Together:
    """`async with Together(faults):` injects them one after the other, and takes them back in the reverse order.

    Each has its own record, lease and proof. Entering fails when one of them is not injected, after those before it were taken
    back. Every one is taken back also when another cannot be: then FaultNotReverted names all that may still be in place.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = tuple(faults)
        self._entered: list[Fault] = []

    async def __aenter__(self) -> Self:
        try:
            for fault in self._faults:
                await fault.__aenter__()
                self._entered.append(fault)
        except BaseException as error:
            await self._leave(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(error)

    async def _leave(self, error: BaseException | None) -> None:
        left = [error] if isinstance(error, FaultNotReverted) else []
        interrupted: BaseException | None = None
        while self._entered:
            try:
                await self._entered.pop().__aexit__(type(error) if error else None, error, None)
            except FaultNotReverted as one:
                left.append(one)
            except BaseException as other:  # noqa: BLE001 - it waits until the others are taken back
                interrupted = other
        # That something may still be in place weighs more than that we were told to end.
        if left:
            raise FaultNotReverted("; ".join(str(one) for one in left)) from left[0]
        if interrupted:
            raise interrupted
