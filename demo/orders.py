"""Orders of the shop: priced by the catalog, charged by payments, remembered here."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stormwatch.demo.dependency import Dependency

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY, account TEXT NOT NULL, total INTEGER NOT NULL, items TEXT NOT NULL, method TEXT NOT NULL,
    at REAL NOT NULL
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A paid order. Money in cents."""

    id: str
    total: int
    items: list[dict[str, Any]]
    method: str

    def as_json(self) -> dict[str, Any]:
        """For the API."""
        return {"id": self.id, "total": self.total, "items": self.items, "paid_with": self.method}


class Orders:
    """The orders of all accounts, each visible to its own."""

    def __init__(self, database: sqlite3.Connection, payments: Dependency) -> None:
        self._database = database
        self._payments = payments

    async def place(self, *, key: str, account: str, basket: Mapping[str, Any], card: str) -> Order:
        """Charge a basket (as the catalog prices it) to a card and remember the order. Raises Unavailable, Refused.

        The same basket under the same key is one order, however often it is placed: when nobody knows whether a
        payment that was not answered went through, trying again is safe.
        """
        order = order_id(key, account, basket)
        charge = await self._payments.post(
            "/charges",
            {"reference": f"order-{order}", "account": account, "amount": basket["total"], "card": card},
        )
        self._database.execute(
            "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (order, account, basket["total"], json.dumps(basket["items"]), charge["method"], time.time()),
        )
        found = self.find(order, account)
        assert found is not None, "the row was just written, and its id depends on the account"
        return found

    def find(self, order: str, account: str) -> Order | None:
        """An order of an account."""
        row = self._database.execute("SELECT * FROM orders WHERE id = ? AND account = ?", (order, account)).fetchone()
        return _order(row) if row else None

    def of(self, account: str) -> list[Order]:
        """The latest orders of an account, the newest first."""
        rows = self._database.execute(
            "SELECT * FROM orders WHERE account = ? ORDER BY at DESC LIMIT 20", (account,)
        ).fetchall()
        return [_order(row) for row in rows]


def order_id(key: str, account: str, basket: Mapping[str, Any]) -> str:
    """An id that follows from what is ordered, by whom, and from which cart or request."""
    content = json.dumps([key, account, basket["items"], basket["total"]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:10].upper()


def _order(row: sqlite3.Row) -> Order:
    return Order(id=row["id"], total=row["total"], items=json.loads(row["items"]), method=row["method"])
