"""Payments: charge a card, or an account that pays later. Needs nothing but its own database."""

import sqlite3
import time
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stormwatch.demo.database import open_database
from stormwatch.demo.dependency import Refused
from stormwatch.demo.fields import read_json
from stormwatch.demo.service import Settings, build

_SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    reference TEXT PRIMARY KEY, account TEXT NOT NULL, amount INTEGER NOT NULL, method TEXT NOT NULL, at REAL NOT NULL
);
"""
_DECLINED = "4000000000000002"
"""The card that is always declined, so that people and journeys can see that."""
_HIGHEST = 10_000_000


class Payments:
    """The routes of the service. A reference is charged once, however often it is sent: callers may always try again."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    async def charge(self, request: Request) -> Response:
        """`{reference, account, amount, card?}` → 201 the charge; 402 when the card is declined.

        `amount` is in cents. Without `card` the account is charged and pays by its monthly invoice. Of a card only the
        last four digits are kept. 409 when the reference was charged with another amount.
        """
        fields = await read_json(request)
        reference, account = fields.text("reference", label="reference"), fields.text("account", label="account")
        amount = fields.whole("amount", label="amount", lowest=1, highest=_HIGHEST)
        card = fields.text("card", label="card", shortest=0)
        if card:
            card = fields.card("card")
        if card == _DECLINED:
            raise Refused(402, "card_declined", "The card was declined")
        self._database.execute(
            "INSERT INTO charges VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (reference, account, amount, f"card ending in {card[-4:]}" if card else "monthly invoice", time.time()),
        )
        charge = self._charge(reference)
        if charge is None or (charge["account"], charge["amount"]) != (account, amount):
            raise Refused(409, "reference_used", f"The reference {reference} was charged before, with another amount")
        return JSONResponse(charge, status_code=201)

    async def show(self, request: Request) -> Response:
        """The charge of a reference."""
        charge = self._charge(request.path_params["reference"])
        if charge is None:
            raise HTTPException(404, "No such charge")
        return JSONResponse(charge)

    def _charge(self, reference: str) -> dict[str, Any] | None:
        row = self._database.execute("SELECT * FROM charges WHERE reference = ?", (reference,)).fetchone()
        return dict(row) if row else None


def service(settings: Settings) -> Starlette:
    """The service, from its settings."""
    database = open_database(settings.database, _SCHEMA)
    payments = Payments(database)
    routes = [
        Route("/charges", payments.charge, methods=["POST"]),
        Route("/charges/{reference}", payments.show),
    ]
    return build(settings.name, routes, database=database)
