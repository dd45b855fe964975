"""Holding an answer against what is expected, without holding up the loop: large answers are judged in a few threads."""

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from stormwatch.probes import certificate
from stormwatch.probes.answer import Answer, Complaint
from stormwatch.probes.expectation import Expectations
from stormwatch.probes.failure import ProbeBroken
from stormwatch.probes.result import Reason
from stormwatch.probes.visit import Visit
from stormwatch.probes.watch import Watch

AT_ONCE: Final = 64 * 2**10
"""Bytes of a body that are judged on the loop: measured, two milliseconds for JSON, a tenth of one for a pattern."""
THREADS: Final = 2
"""How many answers are judged at once. More would only share the same interpreter."""
MARGIN: Final = 0.02
"""Seconds before the deadline at which a judgement is given up: after it, the target would be blamed."""


class Judges:
    """The threads, shared by all probes of an event loop. RE2 lets go of the interpreter's lock, JSON does not."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="judge")

    async def judge(self, expectations: Expectations, answer: Answer, deadline: float) -> list[Complaint]:
        """What is wrong with an answer. Being cancelled leaves a thread at work until the deadline at most."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, expectations.judge, answer, deadline)

    async def aclose(self) -> None:
        """Wait for no judgement that has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def judge(watch: Watch, expectations: Expectations, visit: Visit) -> None:
    """Write down what is wrong with the answer of a visit, and raise the first of it as ProbeFailed."""
    answer = answer_of(watch, visit, with_body=expectations.needs_body)
    left = watch.remaining() - MARGIN
    deadline = time.monotonic() + left
    if len(answer.body) <= AT_ONCE and not expectations.uses_cel:
        visit.complaints = expectations.judge(answer, deadline)
    else:
        try:
            async with asyncio.timeout(left):
                visit.complaints = await watch.resources.get(Judges).judge(expectations, answer, deadline)
        except (TimeoutError, asyncio.CancelledError) as ended:
            # A judgement holds the interpreter: when the loop comes to itself again, the run's own deadline may be over
            # as well, and would blame the target.
            if isinstance(ended, asyncio.CancelledError) and watch.remaining() > 0:
                raise
            raise ProbeBroken(
                Reason.RESOURCES,
                f"the answer came, and its {answer.size} bytes could not be judged in the {max(left, 0):.2g} s that were "
                "left: expect less of it, or give the probe a longer timeout",
                phase="transfer",
            ) from None
    if visit.complaints:
        failure = visit.complaints[0].as_failure()
        visit.failed_phase = failure.phase
        raise failure


def answer_of(watch: Watch, visit: Visit, *, with_body: bool) -> Answer:
    """The last answer of a visit."""
    now = watch.clock.now()
    expires = certificate.read_chain(visit.handshake.chain).expires if visit.secure else math.inf
    return Answer(
        status=visit.status,
        version=visit.version,
        head=visit.head,
        body=bytes(visit.content.kept) if with_body else b"",
        size=visit.content.size,
        tls=visit.secure,
        seconds=visit.seconds,
        phases=visit.phases,
        expires_in=expires - now,
        age=now - visit.last_modified if visit.last_modified >= 0 else None,
    )
