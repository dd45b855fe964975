"""The process that makes load: one pytest session that collects journeys, and locust, whose users run them.

    python -m stormwatch.journeys.load_process

locust changes the standard library for itself (gevent), so it is never imported anywhere else. One line of JSON comes
on stdin, a `LoadJob`; events go to stdout, a line each:

    {"event": "not-collected", "where": "file:line", "why": "…"}
    {"event": "refused", "why": "…"}                           what was asked for cannot be, however often it is tried
    {"event": "ready", "journeys": {"checkout": "api", "browse": "browser"}}
    {"event": "began"}                                         the first user begins
    {"event": "progress", "seconds": 8.0, "users": 20, "journeys": {"checkout": 310}, "failures": 2, "per_second": 31.0}
    {"event": "silent", "workers": 1}                          workers did not say at the end what they had seen
    {"event": "over", "summary": {…}}                          a `LoadSummary`; not of a worker

End of stdin means that the owner is gone, and ends it like SIGTERM does: users come to the end of their runs first. What
journeys print goes to stderr.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from locust import User

    from stormwatch.journeys.load_session import Owner

OFFERED: Final[dict[str, "type[User]"]] = {}
"""The users that locust finds, by the names of their classes. Filled once, before locust looks."""


def main() -> int:
    """Make load until it is over. Returns 0, or what pytest or locust ended with."""
    # First of all: it changes sockets, threads and processes of all that is imported after it.
    import locust  # noqa: F401  # pyright: ignore[reportUnusedImport]

    from stormwatch.journeys.load_session import Owner

    return serve(Owner.of_standard_streams())


def serve(owner: "Owner") -> int:
    """Make the load that its owner asks for, until it is over; locust has to be imported. Returns as `main`."""
    import pytest

    from stormwatch.journeys.load_job import LoadJob
    from stormwatch.journeys.load_session import LoadSession

    job = LoadJob.from_json(owner.job())
    session = LoadSession(job, owner)
    code = int(pytest.main(_pytest_arguments([str(journey.file) for journey in job.journeys]), plugins=[session]))
    return session.code if session.ran else code or 1


def _pytest_arguments(files: Sequence[str]) -> list[str]:
    return [
        *dict.fromkeys(files),
        *("-p", "stormwatch", "-p", "playwright", "-p", "no:cacheprovider", "-p", "no:logging", "-p", "no:xdist"),
        *("-W", "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"),
        # A run's tmp_path goes with it: pytest looks through all that are there before it makes the next.
        *("-o", "tmp_path_retention_policy=failed"),
        # pytest keeps output and log records of one test at a time.
        *("-s", "--tb=line", "--browser", "chromium", "-m", "", "-k", ""),
        *("--collect-in-virtualenv", "--color=no", "--no-header", "-q"),
    ]


if __name__ == "__main__":
    # Under its own name as well: locust's file imports it.
    from stormwatch.journeys import load_process

    sys.exit(load_process.main())
