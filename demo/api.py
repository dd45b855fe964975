"""The JSON API of the gateway."""

import secrets
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from stormwatch.demo.dependency import Dependency
from stormwatch.demo.fields import Invalid, read_json, read_query
from stormwatch.demo.orders import Orders
from stormwatch.demo.service import bearer_of


class Api:
    """The routes under `/api`. Errors are JSON: `{"error": {"code", "message", "service"?}}`."""

    def __init__(self, needs: Mapping[str, Dependency], orders: Orders) -> None:
        self._needs = needs
        self._orders = orders

    def routes(self) -> list[BaseRoute]:
        """The table of the API."""
        return [
            Route("/api/products", self.products),
            Route("/api/hotels", self.hotels),
            Route("/api/register", self.register, methods=["POST"]),
            Route("/api/login", self.log_in, methods=["POST"]),
            Route("/api/orders", self.order, methods=["POST"]),
            Route("/api/bookings", self.book, methods=["POST"]),
            Route("/api/rides", self.ride, methods=["POST"]),
        ]

    async def products(self, request: Request) -> Response:
        """`?q=` → `{products}`."""
        words = read_query(request).text("q", label="q", shortest=0)
        return JSONResponse(await self._needs["catalog"].get("/products", {"q": words}))

    async def hotels(self, request: Request) -> Response:
        """`?city=` → `{hotels}`."""
        city = read_query(request).text("city", label="city", shortest=0)
        return JSONResponse(await self._needs["hotel"].get("/hotels", {"city": city}))

    async def register(self, request: Request) -> Response:
        """`{name, email, password}` → 201 `{account, token}`."""
        fields = await read_json(request)
        document = {
            "name": fields.text("name", label="name"),
            "email": fields.mail("email", label="email"),
            "password": fields.secret("password", label="password"),
        }
        return JSONResponse(await self._needs["accounts"].post("/accounts", document), status_code=201)

    async def log_in(self, request: Request) -> Response:
        """`{email, password}` → `{account, token}`."""
        fields = await read_json(request)
        document = {
            "email": fields.text("email", label="email", longest=254),
            "password": fields.secret("password", label="password"),
        }
        return JSONResponse(await self._needs["accounts"].post("/sessions", document))

    async def order(self, request: Request) -> Response:
        """`{items: [{product, quantity}], card}` → 201 the paid order. `Idempotency-Key` makes trying again safe."""
        fields, token = await read_json(request), bearer_of(request)
        card = fields.card("card", label="card")
        items = [
            {
                "product": item.text("product", label="product"),
                "quantity": item.whole("quantity", label="quantity", lowest=1, highest=99, default=1),
            }
            for item in fields.rows("items", label="items")
        ]
        key = request.headers.get("idempotency-key") or secrets.token_hex(16)
        if len(key) > 200:
            raise Invalid("Idempotency-Key must not be longer than 200 characters")
        account = (await self._needs["accounts"].get("/session", bearer=token))["account"]
        basket = await self._needs["catalog"].post("/quotes", {"items": items})
        order = await self._orders.place(key=key, account=account["id"], basket=basket, card=card)
        return JSONResponse(order.as_json(), status_code=201)

    async def book(self, request: Request) -> Response:
        """`{hotel, nights}` → 201 the booking."""
        fields, token = await read_json(request), bearer_of(request)
        document = {
            "hotel": fields.text("hotel", label="hotel"),
            "nights": fields.whole("nights", label="nights", lowest=1, highest=30, default=1),
        }
        return JSONResponse(await self._needs["hotel"].post("/bookings", document, bearer=token), status_code=201)

    async def ride(self, request: Request) -> Response:
        """`{from, to}` → 201 the ride."""
        fields, token = await read_json(request), bearer_of(request)
        document = {"from": fields.text("from", label="from"), "to": fields.text("to", label="to")}
        return JSONResponse(await self._needs["taxi"].post("/rides", document, bearer=token), status_code=201)
