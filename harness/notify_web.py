"""The API of notifications: what was told and what receivers said, silences, and who takes an alert.

Whatever changes something wants a JSON body: a page of another origin cannot send one without being allowed to.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from stormwatch.exporters.outbox import DeliveryState
from stormwatch.exporters.silence import Silence
from stormwatch.probes.units import parse_duration

if TYPE_CHECKING:
    from stormwatch.harness.service import Service

LASTS = 4 * 3600.0
"""Seconds that an alert is taken by default: then people are told again if it fires still."""
LONGEST = 366 * 86400.0
"""Seconds that a silence or an acknowledgement may last."""


class _Wrong(ValueError):
    def __init__(self, said: str, status: int = 400) -> None:
        super().__init__(said)
        self.status = status


def notify_routes(service: "Service") -> Sequence[BaseRoute]:
    """`/api/v1/notifications`, `/api/v1/silences`, `/api/v1/alerts/FINGERPRINT/acknowledgement`."""
    web = _Web(service)
    return [
        Route("/api/v1/notifications", web.notifications),
        Route("/api/v1/notifications/firing", web.firing),
        Route("/api/v1/silences", web.silences, methods=["GET"]),
        Route("/api/v1/silences", web.add_silence, methods=["POST"]),
        Route("/api/v1/silences/{id}/expire", web.expire_silence, methods=["POST"]),
        Route("/api/v1/alerts/{fingerprint}/acknowledgement", web.acknowledge, methods=["POST"]),
    ]


class _Web:
    def __init__(self, service: "Service") -> None:
        self._service = service

    async def notifications(self, request: Request) -> Response:
        query, now = request.query_params, self._service.clock.now()
        try:
            since = now - parse_duration(query.get("since", "1d"))
        except ValueError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        state = query.get("state", "")
        if state and state not in set(DeliveryState):
            said = f"no delivery is {state}; a state is one of {', '.join(DeliveryState)}"
            return JSONResponse({"error": said}, status_code=400)
        found = await self._service.notifying.outbox.recent(since, channel=query.get("channel", ""), state=state)
        return JSONResponse({"notifications": found})

    async def firing(self, _request: Request) -> Response:
        grouping, now = self._service.notifying.dispatcher.grouping, self._service.clock.now()
        return JSONResponse(
            {
                "alerts": [
                    {
                        "fingerprint": key,
                        **grouping.damper.marked(each).as_json(),
                        "over_since": grouping.damper.held_since(key),
                        "muted_by": grouping.muted_by(each, now),
                        "acknowledged": taken.as_json() if (taken := grouping.acknowledged.get(key)) else None,
                    }
                    for key, each in grouping.alerts.items()
                ]
            }
        )

    async def silences(self, _request: Request) -> Response:
        now = self._service.clock.now()
        every = self._service.notifying.dispatcher.grouping.silences.values()
        return JSONResponse({"silences": [each.as_json() for each in every if each.ends_at > now]})

    async def add_silence(self, request: Request) -> Response:
        now = self._service.clock.now()
        try:
            body = await _body(request, {"match", "for", "created_by", "comment"})
            match, lasting = _labels(body), _duration(body, None)
            silence = Silence(
                id=uuid.uuid4().hex[:12],
                match=match,
                starts_at=now,
                ends_at=now + lasting,
                created_by=_text(body, "created_by"),
                comment=_text(body, "comment"),
            )
        except _Wrong as error:
            return JSONResponse({"error": str(error)}, status_code=error.status)
        await self._service.notifying.dispatcher.silence(silence)
        return JSONResponse(silence.as_json(), status_code=201)

    async def expire_silence(self, request: Request) -> Response:
        dispatcher, id_ = self._service.notifying.dispatcher, request.path_params["id"]
        try:
            await _body(request, set())
        except _Wrong as error:
            return JSONResponse({"error": str(error)}, status_code=error.status)
        known = dispatcher.grouping.silences.get(id_)
        if known is None:
            return JSONResponse({"error": f"no silence has the id {id_}; `stormwatch silence list`"}, status_code=404)
        ended = Silence.from_json({**known.as_json(), "ends_at": self._service.clock.now()})
        await dispatcher.silence(ended)
        return JSONResponse(ended.as_json())

    async def acknowledge(self, request: Request) -> Response:
        fingerprint = request.path_params["fingerprint"]
        try:
            body = await _body(request, {"by", "for"})
            by, lasting = _text(body, "by") or "somebody", _duration(body, LASTS)
        except _Wrong as error:
            return JSONResponse({"error": str(error)}, status_code=error.status)
        if not await self._service.notifying.dispatcher.acknowledge(fingerprint, by=by, lasting=lasting):
            said = f"no alert with the fingerprint {fingerprint} fires; `stormwatch notify firing` lists those that do"
            return JSONResponse({"error": said}, status_code=404)
        return JSONResponse({"fingerprint": fingerprint, "by": by, "until": self._service.clock.now() + lasting})


async def _body(request: Request, known: set[str]) -> Mapping[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise _Wrong("the request has no JSON; send Content-Type: application/json", 415)
    try:
        body = await request.json()
    except ValueError as error:
        raise _Wrong(f"the body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise _Wrong("the body is no JSON object")
    if unknown := sorted(set(body) - known):
        raise _Wrong(f"{unknown[0]} is unknown; known are {', '.join(sorted(known)) or 'none'}")
    return body


def _labels(body: Mapping[str, Any]) -> dict[str, str]:
    match = body.get("match")
    if not isinstance(match, dict) or not match or not all(isinstance(value, str) for value in match.values()):
        raise _Wrong('match wants the labels of the alerts, at least one, like {"probe": "shop"}')
    return match


def _duration(body: Mapping[str, Any], default: float | None) -> float:
    if "for" not in body and default is not None:
        return default
    try:
        lasting = parse_duration(body.get("for"))
    except ValueError as error:
        raise _Wrong(f"for: {error}") from error
    if not 0 < lasting <= LONGEST and not (default is not None and lasting == 0):
        raise _Wrong("for: more than 0s, and a year at the most")
    return lasting


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > 1000:
        raise _Wrong(f"{name} wants a text of up to 1,000 characters")
    return value
