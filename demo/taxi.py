"""Taxis: request a ride. Asks accounts who is riding, and charges payments."""

import secrets
import sqlite3
import time
import zlib

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stormwatch.demo.database import open_database
from stormwatch.demo.dependency import Dependency
from stormwatch.demo.fields import Invalid, read_json
from stormwatch.demo.service import Settings, bearer_of, build, connect

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rides (
    id TEXT PRIMARY KEY, account TEXT NOT NULL, start TEXT NOT NULL, destination TEXT NOT NULL, driver TEXT NOT NULL,
    minutes INTEGER NOT NULL, fare INTEGER NOT NULL, at REAL NOT NULL
);
"""
_DRIVERS = ("Ada", "Grace", "Edsger", "Barbara", "Alan", "Radia")
_BASE_FARE = 400
_FARE_PER_KILOMETRE = 210
_ANSWER_SECONDS = 1.0
"""How long a driver takes to accept a ride."""


class Taxis:
    """The routes of the service."""

    def __init__(self, database: sqlite3.Connection, *, accounts: Dependency, payments: Dependency) -> None:
        self._database = database
        self._accounts = accounts
        self._payments = payments

    async def request_ride(self, request: Request) -> Response:
        """`{from, to}` → 201 the ride, charged to the account of the bearer token."""
        fields, token = await read_json(request), bearer_of(request)
        start, destination = fields.text("from", label="From"), fields.text("to", label="To")
        if start.casefold() == destination.casefold():
            raise Invalid("From and To are the same place")
        account = (await self._accounts.get("/session", bearer=token))["account"]
        ride, fare = secrets.token_hex(5).upper(), fare_of(start, destination)
        await self._payments.post("/charges", {"reference": f"ride-{ride}", "account": account["id"], "amount": fare})
        seed = zlib.crc32(ride.encode())
        self._database.execute(
            "INSERT INTO rides VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (ride, account["id"], start, destination, _DRIVERS[seed % len(_DRIVERS)], 2 + seed % 9, fare, time.time()),
        )
        return JSONResponse(self._ride(ride, account["id"]), status_code=201)

    async def show(self, request: Request) -> Response:
        """A ride of the account of the bearer token."""
        account = (await self._accounts.get("/session", bearer=bearer_of(request)))["account"]
        return JSONResponse(self._ride(request.path_params["ride"], account["id"]))

    def _ride(self, ride: str, account: str) -> dict[str, object]:
        row = self._database.execute(
            "SELECT id, start AS 'from', destination AS 'to', driver, minutes, fare,"
            " CASE WHEN at + ? < ? THEN 'accepted' ELSE 'requested' END AS status FROM rides"
            " WHERE id = ? AND account = ?",
            (_ANSWER_SECONDS, time.time(), ride, account),
        ).fetchone()
        if row is None:
            raise HTTPException(404, "No such ride")
        return dict(row)


def fare_of(start: str, destination: str) -> int:
    """The fare in cents. No map: the distance is a number from 2 to 20 km that is the same for both directions."""
    places = "|".join(sorted((start.casefold(), destination.casefold())))
    return _BASE_FARE + _FARE_PER_KILOMETRE * (2 + zlib.crc32(places.encode()) % 19)


def service(settings: Settings) -> Starlette:
    """The service, from its settings."""
    database = open_database(settings.database, _SCHEMA)
    network, needs = connect(settings)
    taxis = Taxis(database, accounts=needs["accounts"], payments=needs["payments"])
    routes = [
        Route("/rides", taxis.request_ride, methods=["POST"]),
        Route("/rides/{ride}", taxis.show),
    ]
    return build(settings.name, routes, database=database, network=network, dependencies=needs)
