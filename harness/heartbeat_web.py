"""Where jobs tell of themselves: the addresses that clients of Healthchecks use, answered when the ping is on disk.

/ping/UUID[/start|/fail|/log|/EXIT-CODE]        /ping/KEY/JOB[/…]          https://healthchecks.io/docs/http_api/
"""

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from stormwatch.probes.clock import Clock
from stormwatch.probes.heartbeat import HeartbeatCheck, is_uuid
from stormwatch.probes.heartbeat_state import Ping, Sort
from stormwatch.probes.heartbeats import SIGN, Heartbeats, HeartbeatsUnavailable
from stormwatch.probes.probe import Probe

log = logging.getLogger(__name__)

BODY: Final = 10_000
"""Bytes of a body that are kept."""
LARGEST: Final = 2**22
"""Bytes of the largest body that is read to its end."""
PATIENCE: Final = 10.0
"""Seconds that a body may take. What came until then is kept, and the ping counts."""
BURST: Final = 60
"""Pings of one job that may come at once."""
PACE: Final = 1.0
"""Pings of one job a second that may come for ever."""

_HEADERS: Final = {"Ping-Body-Limit": str(BODY), "Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"}


@dataclass(frozen=True, slots=True)
class Address:
    """What the path of a ping says."""

    digest: bytes
    """Of what names the job. Looking up a digest tells nobody how much of a key was right."""
    by_uuid: bool
    sort: Sort
    exit_code: int | None = None


def read_path(path: str) -> Address | None:
    """Take the path behind `/ping/` apart; None for one that no ping has."""
    first, *rest = path.split("/")
    by_uuid = is_uuid(first)
    name = first.lower()
    if not by_uuid:
        if not first or not rest or not rest[0]:
            return None
        name = f"{first}/{rest.pop(0)}"
    if len(rest) > 1:
        return None
    action = rest[0] if rest else ""
    digest = hashlib.sha256(name.encode()).digest()
    if action in ("", "start", "fail", "log"):
        return Address(digest, by_uuid, Sort(action) if action else Sort.SUCCESS)
    if not (action.isascii() and action.isdigit() and len(action) <= 3 and int(action) <= 255):
        return None
    return Address(digest, by_uuid, Sort.FAIL if int(action) else Sort.SUCCESS, int(action))


def jobs_of(probes: Iterable[Probe]) -> Mapping[str, HeartbeatCheck]:
    """The jobs that are waited for, by the name of the probe that judges them."""
    return {probe.name: probe.check for probe in probes if isinstance(probe.check, HeartbeatCheck)}


def schedules_of(checks: Iterable[HeartbeatCheck]) -> Mapping[str, str]:
    """The schedules of each job in words, of all the probes that judge it."""
    schedules: dict[str, str] = {}
    for check in checks:
        schedules[check.job] = " ".join(filter(None, (schedules.get(check.job), str(check.schedule))))
    return schedules


def heartbeat_routes(
    jobs: Mapping[str, HeartbeatCheck], heartbeats: Heartbeats, *, clock: Clock, soon: Callable[[str], None]
) -> Sequence[BaseRoute]:
    """The routes of pings. `soon` runs a probe without waiting for its turn in the schedule."""
    pings = _Pings(jobs, heartbeats, clock, soon)
    return [Route("/ping/{path:path}", pings.ping, methods=["GET", "HEAD", "POST"])]


async def keep_marking(heartbeats: Heartbeats, clock: Clock) -> None:
    """Mark that somebody listens, until cancelled."""
    while True:
        await clock.sleep_until(clock.monotonic() + SIGN)
        try:
            await heartbeats.mark(clock.now())
        except HeartbeatsUnavailable as error:
            log.warning("it cannot be kept that pings are listened for: %s", error)


class _Pings:
    def __init__(
        self, jobs: Mapping[str, HeartbeatCheck], heartbeats: Heartbeats, clock: Clock, soon: Callable[[str], None]
    ) -> None:
        self._heartbeats = heartbeats
        self._clock = clock
        self._soon = soon
        self._jobs: dict[bytes, dict[str, list[str]]] = {}
        """By digest: the jobs of that address, and the probes that judge each of them."""
        self._limits: dict[str, _Bucket] = {}
        for probe, check in jobs.items():
            name = check.key.lower() if is_uuid(check.key) else f"{check.key}/{check.job}"
            digest = hashlib.sha256(name.encode()).digest()
            self._jobs.setdefault(digest, {}).setdefault(check.job, []).append(probe)

    async def ping(self, request: Request) -> Response:
        at, run = self._clock.now(), request.query_params.get("rid", "")
        address = read_path(request.path_params["path"])
        if address is None or (run and not is_uuid(run)):
            return _answer("invalid url format" if address is None else "invalid uuid format", 400)
        known = next((jobs for digest, jobs in self._jobs.items() if hmac.compare_digest(digest, address.digest)), None)
        if known is None:
            # Healthchecks' own answers: its clients take the first for good, and people look for the second in logs.
            return _answer("OK (not found)", 200) if address.by_uuid else _answer("not found", 404)
        if len(known) > 1:
            return _answer("ambiguous: several jobs have this key; give each its own, or one that is no UUID", 409)
        ((job, probes),) = known.items()
        if not self._limits.setdefault(job, _Bucket()).take(self._clock.monotonic()):
            return _answer("rate limited", 429, {"Retry-After": "5"})
        body = await _body(request)
        if body is None:
            return _answer("body too large", 413)
        ping = Ping(
            at=at,
            sort=address.sort,
            exit_code=address.exit_code,
            run=run.lower(),
            body=body.decode("utf-8", "replace"),
        )
        try:
            await self._heartbeats.record(job, ping)
        except HeartbeatsUnavailable as error:
            log.warning("a ping of %s is not on disk, and its client was told to try again: %s", job, error)
            return _answer("not stored, try again", 500, {"Retry-After": "5"})
        if address.sort is not Sort.LOG:
            for probe in probes:
                self._soon(probe)
        return _answer("OK", 200)


class _Bucket:
    """So many at once, and so many a second in the long run."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        if self._at is not None:
            self._left = min(float(BURST), self._left + (now - self._at) * PACE)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


async def _body(request: Request) -> bytes | None:
    """The beginning of the body; None when there is no end of it."""
    kept, size = bytearray(), 0
    try:
        async with asyncio.timeout(PATIENCE):
            async for piece in request.stream():
                size += len(piece)
                kept += piece[: max(0, BODY - len(kept))]
                if size > LARGEST:
                    return None
    except (TimeoutError, ClientDisconnect):
        pass  # what a job tells counts, even if it could not say all of it
    return bytes(kept)


def _answer(text: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(text, status_code=status, headers={**_HEADERS, **(headers or {})})
