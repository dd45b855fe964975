"""Hotels: search and book. Asks accounts who is booking, and charges payments."""

import secrets
import sqlite3
import time

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stormwatch.demo.database import open_database
from stormwatch.demo.dependency import Dependency
from stormwatch.demo.fields import read_json, read_query
from stormwatch.demo.service import Settings, bearer_of, build, connect

_SCHEMA = """
CREATE TABLE IF NOT EXISTS hotels (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL, about TEXT NOT NULL, price INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS bookings (
    id TEXT PRIMARY KEY, account TEXT NOT NULL, hotel TEXT NOT NULL, nights INTEGER NOT NULL, paid INTEGER NOT NULL,
    at REAL NOT NULL
);
"""
_HOTELS = (
    ("pier-house", "Pier House", "Lisbon", "Rooms above the ferry, coffee from six.", 11800),
    ("casa-do-vento", "Casa do Vento", "Lisbon", "A quiet courtyard on the windy hill.", 9400),
    ("lighthouse-inn", "Lighthouse Inn", "Bergen", "Twelve rooms and one very bright lamp.", 14200),
    ("seven-mountains", "Seven Mountains", "Bergen", "Sauna, drying room, waffles all day.", 16900),
    ("harbour-nine", "Harbour Nine", "Hamburg", "An old warehouse with tall windows.", 12700),
    ("elbe-terrace", "Elbe Terrace", "Hamburg", "Watch the container ships from your bed.", 15300),
    ("the-breakwater", "The Breakwater", "Brighton", "Sea view, whether you like it or not.", 10900),
    ("hotel-bora", "Hotel Bora", "Trieste", "Ropes along the pavement are included.", 9900),
)
_MOST_NIGHTS = 30


class Hotels:
    """The routes of the service."""

    def __init__(self, database: sqlite3.Connection, *, accounts: Dependency, payments: Dependency) -> None:
        self._database = database
        self._accounts = accounts
        self._payments = payments
        database.executemany("INSERT INTO hotels VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", _HOTELS)

    async def search(self, request: Request) -> Response:
        """The hotels in `city`, upper or lower case; all of them without `city`."""
        city = read_query(request).text("city", label="City", shortest=0)
        rows = self._database.execute(
            "SELECT * FROM hotels WHERE ?1 = '' OR lower(city) = lower(?1) ORDER BY city, price", (city,)
        )
        return JSONResponse({"hotels": [dict(row) for row in rows]})

    async def book(self, request: Request) -> Response:
        """`{hotel, nights}` → 201 the booking, charged to the account of the bearer token."""
        fields, token = await read_json(request), bearer_of(request)
        hotel = self._database.execute(
            "SELECT * FROM hotels WHERE id = ?", (fields.text("hotel", label="Hotel"),)
        ).fetchone()
        if hotel is None:
            raise HTTPException(404, "No such hotel")
        nights = fields.whole("nights", label="Nights", lowest=1, highest=_MOST_NIGHTS, default=1)
        account = (await self._accounts.get("/session", bearer=token))["account"]
        booking, price = secrets.token_hex(5).upper(), hotel["price"] * nights
        await self._payments.post(
            "/charges", {"reference": f"booking-{booking}", "account": account["id"], "amount": price}
        )
        self._database.execute(
            "INSERT INTO bookings VALUES (?, ?, ?, ?, ?, ?)",
            (booking, account["id"], hotel["id"], nights, price, time.time()),
        )
        return JSONResponse(self._booking(booking, account["id"]), status_code=201)

    async def show(self, request: Request) -> Response:
        """A booking of the account of the bearer token."""
        account = (await self._accounts.get("/session", bearer=bearer_of(request)))["account"]
        return JSONResponse(self._booking(request.path_params["booking"], account["id"]))

    def _booking(self, booking: str, account: str) -> dict[str, object]:
        row = self._database.execute(
            "SELECT bookings.id, hotel, name, city, nights, paid FROM bookings JOIN hotels ON hotels.id = hotel"
            " WHERE bookings.id = ? AND account = ?",
            (booking, account),
        ).fetchone()
        if row is None:
            raise HTTPException(404, "No such booking")
        return dict(row)


def service(settings: Settings) -> Starlette:
    """The service, from its settings."""
    database = open_database(settings.database, _SCHEMA)
    network, needs = connect(settings)
    hotels = Hotels(database, accounts=needs["accounts"], payments=needs["payments"])
    routes = [
        Route("/hotels", hotels.search),
        Route("/bookings", hotels.book, methods=["POST"]),
        Route("/bookings/{booking}", hotels.show),
    ]
    return build(settings.name, routes, database=database, network=network, dependencies=needs)
