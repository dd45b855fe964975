"""The last mile: a receiver of Alertmanager's webhook that tells a feed which alerts really came, with which labels.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config, payload version 4.
"""

import json
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stormwatch.chaos.feed import Delivered, Feed
from stormwatch.probes.clock import Clock

VERSION = "4"
"""Of the payload that is understood."""
LARGEST = 16_000_000
"""Bytes of one message: a group may hold thousands of alerts, and nothing is read beyond this."""


def webhook_receiver(feed: Feed, clock: Clock) -> Starlette:
    """An application that takes the webhook at every path and answers 200, or 400 and 413 with what was wrong."""

    async def take(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > LARGEST:
                return JSONResponse({"error": f"a message has at most {LARGEST} bytes"}, status_code=413)
        at = clock.now()
        try:
            delivered = deliveries_of(json.loads(body), at)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return JSONResponse(
                {"error": f"this is not the webhook payload of an Alertmanager, version {VERSION}"}, status_code=400
            )
        for one in delivered:
            feed.delivered(one)
        return JSONResponse({"taken": len(delivered)})

    return Starlette(routes=[Route("/{path:path}", take, methods=["POST"])])


def deliveries_of(payload: Any, at: float) -> list[Delivered]:
    """The alerts of a message that came at this unix time. Raises ValueError, KeyError or TypeError for anything else."""
    if payload["version"] != VERSION:
        raise ValueError(f"version {payload['version']!r}")
    return [
        Delivered(
            labels={str(name): str(value) for name, value in alert["labels"].items()},
            at=at,
            since=datetime.fromisoformat(alert["startsAt"]).timestamp(),
            resolved={"firing": False, "resolved": True}[alert["status"]],
            receiver=str(payload["receiver"]),
        )
        for alert in payload["alerts"]
    ]
