"""Gives readers bad bytes, and writes down what ended otherwise than it may."""

import time
import traceback
from dataclasses import dataclass, field
from itertools import islice

from tests.probes.mutation import Mutator
from tests.probes.parsers import Parser


@dataclass(slots=True)
class Finding:
    """An input that made a reader end as it must not."""

    data: bytes
    trace: str

    def __str__(self) -> str:
        shown = self.data[:400].hex()
        return f"{self.trace.strip().splitlines()[-1]}\n  bytes.fromhex({shown!r})\n{self.trace}"


@dataclass(slots=True)
class Fuzzed:
    """What came of one reader's inputs."""

    name: str
    inputs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    """Seconds that the input took that took longest."""
    slowest_input: bytes = b""
    accepted: int = 0
    """Inputs that were read: with none, the reader refuses what comes before anything of interest."""
    findings: dict[str, Finding] = field(default_factory=dict[str, Finding])
    """One for each place in the code that an exception came from."""


def fuzz(parser: Parser, count: int, number: int) -> Fuzzed:
    """Give a reader so many inputs, those of that number."""
    came = Fuzzed(parser.name)
    began = time.perf_counter()
    for data in islice(Mutator(parser.seeds, number), count):
        # This thread's own time: what else the machine does is not the reader's fault.
        started = time.thread_time()
        try:
            parser.read(data)
            came.accepted += 1
        except parser.allowed:
            pass
        except Exception as error:  # noqa: BLE001 - that there is none is what is looked for
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{type(error).__name__} at {last.filename}:{last.lineno}"
            came.findings.setdefault(place, Finding(data, traceback.format_exc()))
        took = time.thread_time() - started
        if took > came.slowest:
            came.slowest, came.slowest_input = took, data
    came.inputs, came.seconds = count, time.perf_counter() - began
    return came


def shares(parsers: tuple[Parser, ...], total: int) -> dict[str, int]:
    """How many inputs each reader gets of so many in all."""
    weights = sum(parser.weight for parser in parsers)
    return {parser.name: max(1, round(total * parser.weight / weights)) for parser in parsers}
