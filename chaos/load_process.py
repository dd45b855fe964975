"""The process that puts load on a service for a fault: `python -m stormwatch.chaos.load_process`.

It is told what to do in its environment (`STORMWATCH_LOAD`, JSON), because the headers of requests may be secret and other
users see command lines. It ends by itself, at the latest by the kernel's hand, and counts into a file.
"""

import json
import os
import resource
import signal
from typing import Any

JOB = "STORMWATCH_LOAD"
"""The variable with what it is told."""
BEGIN = 60.0
"""Seconds that the start may take: one or two, more on a busy machine."""
_NICE = 10
"""Probes run on this machine too: what they wait for a processor must not look like a slow service."""


def main() -> None:
    """Make load until it is killed, or its time is over."""
    job: dict[str, Any] = json.loads(os.environ.pop(JOB))
    # By default this signal ends a process, whatever hangs in it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, BEGIN)
    os.nice(_NICE)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection for each user
    # First of all that uses them: it changes sockets, threads and processes.
    import locust  # noqa: F401  # pyright: ignore[reportUnusedImport]

    if job["journey"]:
        from stormwatch.chaos.load_journeys import make_journey_load

        make_journey_load(job)
    else:
        from stormwatch.chaos.load_users import make_load

        make_load(job)


if __name__ == "__main__":
    main()
