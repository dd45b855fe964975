"""What probes share while they run (a curl engine, a pool of journey workers): opened at first use, closed once."""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Protocol, Self, TypeVar, cast


class Closing(Protocol):
    """Something that has to be closed before the loop ends. Closing must not raise, and closes even if parts fail."""

    async def aclose(self) -> None:
        """Let go of everything."""
        ...


T = TypeVar("T", bound=Closing)


class Resources:
    """One of each type, for one event loop. `async with Resources() as resources:` closes them in reverse order."""

    def __init__(self) -> None:
        self._opened: dict[type[Closing], Closing] = {}
        self._stack = AsyncExitStack()

    def get(self, factory: type[T]) -> T:
        """The one instance of `factory`, made with no arguments at first use, on the running loop."""
        if factory not in self._opened:
            self.put(factory, factory())
        return cast("T", self._opened[factory])

    def put(self, factory: type[T], resource: T) -> None:
        """Provide an instance that was made with arguments (a worker pool of a given size)."""
        if factory in self._opened:
            raise ValueError(f"{factory.__name__} is already open: put it before its first use")
        self._opened[factory] = resource
        self._stack.push_async_callback(resource.aclose)

    async def aclose(self) -> None:
        """Close all, the last one opened first."""
        await self._stack.aclose()
        self._opened.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
