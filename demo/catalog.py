"""The catalog: products, their search, and carts. Needs nothing but its own database."""

import sqlite3
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stormwatch.demo.database import open_database
from stormwatch.demo.fields import Invalid, read_json, read_query
from stormwatch.demo.plants import Plants
from stormwatch.demo.service import Settings, build

_SCHEMA = """
CREATE TABLE IF NOT EXISTS products (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, about TEXT NOT NULL, price INTEGER NOT NULL, icon TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS cart_items (
    cart TEXT NOT NULL, product TEXT NOT NULL REFERENCES products(id), quantity INTEGER NOT NULL,
    PRIMARY KEY (cart, product)
);
"""
_MOST_OF_ONE = 99
_PRODUCTS = (
    ("umbrella", "Storm umbrella", "Turns inside out and back again, and does not mind.", 1250, "umbrella"),
    ("jacket", "Rain jacket", "Three layers, taped seams, a hood that follows your head.", 14900, "jacket"),
    ("lantern", "Hurricane lantern", "Forty hours of warm light from one charge.", 3490, "lantern"),
    ("boots", "Harbour boots", "Natural rubber, lined with wool.", 6900, "boots"),
    ("backpack", "Dry backpack", "Thirty litres that stay dry, even under water.", 8950, "backpack"),
    ("radio", "Weather radio", "Marine band, alarm, a crank for when the power is gone.", 4600, "radio"),
    ("barometer", "Brass barometer", "Tells you in the evening what tomorrow brings.", 11900, "gauge"),
    ("mug", "Enamel mug", "Half a litre of tea, unbreakable.", 950, "mug"),
    ("compass", "Pocket compass", "Liquid filled, steady in the worst sea.", 2875, "compass"),
    ("blanket", "Wool blanket", "Heavy, felted, warm when it is wet.", 5500, "blanket"),
    ("rope", "Braided rope", "Twenty metres, eight millimetres, floats.", 2400, "rope"),
    ("whistle", "Storm whistle", "Heard against the wind at half a mile.", 725, "whistle"),
)


class Catalog:
    """The routes of the service."""

    def __init__(self, database: sqlite3.Connection, plants: Plants) -> None:
        self._database = database
        self._plants = plants
        database.executemany("INSERT INTO products VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", _PRODUCTS)

    async def search(self, request: Request) -> Response:
        """The products that have every word of `q` in their name or description; all of them without `q`."""
        words = read_query(request).text("q", label="q", shortest=0).split()
        where = " AND ".join("(name || ' ' || about) LIKE ? ESCAPE '\\'" for _ in words) or "1"
        rows = self._database.execute(
            f"SELECT * FROM products WHERE {where} ORDER BY rowid", [f"%{_literally(word)}%" for word in words]
        )
        return JSONResponse({"products": [dict(row) for row in rows]})

    async def show(self, request: Request) -> Response:
        """One product."""
        return JSONResponse(self._product(request.path_params["product"]))

    async def add(self, request: Request) -> Response:
        """`{product, quantity}`: put that many more into a cart, which exists from then on."""
        fields = await read_json(request)
        product = self._product(fields.text("product", label="product"))
        quantity = fields.whole("quantity", label="quantity", lowest=1, highest=_MOST_OF_ONE, default=1)
        self._database.execute(
            "INSERT INTO cart_items VALUES (?1, ?2, ?3)"
            " ON CONFLICT DO UPDATE SET quantity = min(cart_items.quantity + ?3, ?4)",
            (request.path_params["cart"], product["id"], quantity, _MOST_OF_ONE),
        )
        return await self.cart(request)

    async def take_out(self, request: Request) -> Response:
        """Take a product out of a cart. It is no error when it is not in it."""
        self._database.execute(
            "DELETE FROM cart_items WHERE cart = ? AND product = ?",
            (request.path_params["cart"], request.path_params["product"]),
        )
        return Response(status_code=204)

    async def cart(self, request: Request) -> Response:
        """The rows of a cart and its total in cents; an unknown cart is an empty one."""
        rows = self._database.execute(
            "SELECT products.*, quantity FROM cart_items JOIN products ON products.id = product WHERE cart = ?"
            " ORDER BY cart_items.rowid",
            (request.path_params["cart"],),
        ).fetchall()
        priced = _priced([(dict(row), row["quantity"]) for row in rows])
        if self._plants.has("wrong-total"):
            priced["total"] += 100
        return JSONResponse(priced)

    async def quote(self, request: Request) -> Response:
        """`{items: [{product, quantity}]}` → the same shape as a cart: what it would cost."""
        fields = await read_json(request)
        rows: list[tuple[dict[str, Any], int]] = []
        for item in fields.rows("items", label="items"):
            product = self._find(item.text("product", label="product"))
            if product is None:
                raise Invalid("items: there is no such product")
            rows.append((product, item.whole("quantity", label="quantity", lowest=1, highest=_MOST_OF_ONE, default=1)))
        return JSONResponse(_priced(rows))

    def _find(self, identifier: str) -> dict[str, Any] | None:
        row = self._database.execute("SELECT * FROM products WHERE id = ?", (identifier,)).fetchone()
        return dict(row) if row else None

    def _product(self, identifier: str) -> dict[str, Any]:
        product = self._find(identifier)
        if product is None:
            raise HTTPException(404, "No such product")
        return product


def service(settings: Settings) -> Starlette:
    """The service, from its settings."""
    database = open_database(settings.database, _SCHEMA)
    catalog = Catalog(database, settings.plants)
    routes = [
        Route("/products", catalog.search),
        Route("/products/{product}", catalog.show),
        Route("/quotes", catalog.quote, methods=["POST"]),
        Route("/carts/{cart}", catalog.cart),
        Route("/carts/{cart}/items", catalog.add, methods=["POST"]),
        Route("/carts/{cart}/items/{product}", catalog.take_out, methods=["DELETE"]),
    ]
    return build(settings.name, routes, database=database)


def _priced(rows: list[tuple[dict[str, Any], int]]) -> dict[str, Any]:
    items = [
        {"product": product["id"], "name": product["name"], "price": product["price"], "icon": product["icon"],
         "quantity": quantity, "cost": product["price"] * quantity}
        for product, quantity in rows
    ]  # fmt: skip
    return {"items": items, "total": sum(item["cost"] for item in items)}


def _literally(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
