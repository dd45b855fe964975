"""An API with a login, orders and a state, on the raw server of `web`; it can be told what to do wrong."""

import json
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.servers import web

PASSWORD = "correct horse & battery"


@dataclass
class Request:
    """What was asked, whole."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Desk:
    """Takes orders. Give `behave` to `web.serving`."""

    pending: int = 0
    """How often an order is read before it is done."""
    faults: set[str] = field(default_factory=set[str])
    """`create-hangs`, `create-fails`, `create-without-id`, `read-other`, `read-html`, `delete-fails`, `delete-hangs`."""
    requests: list[Request] = field(default_factory=list[Request])
    orders: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    token: str = field(default_factory=lambda: f"{secrets.token_hex(8)}/+=")
    session: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def asked(self) -> list[str]:
        """Method and path of each request, in their order."""
        return [f"{each.method} {each.path}" for each in self.requests]

    async def behave(self, exchange: web.Exchange) -> None:
        """Answer one request."""
        size = int(exchange.header("Content-Length") or 0)
        parts = urlsplit(exchange.path)
        headers = {
            line.partition(":")[0].lower(): line.partition(":")[2].strip()
            for line in exchange.request.decode("latin-1").split("\r\n")[1:]
            if line
        }
        body = await exchange.reader.readexactly(size)
        request = Request(exchange.method, parts.path, parse_qs(parts.query), headers, body)
        self.requests.append(request)
        await self._route(exchange, request)

    async def _route(self, exchange: web.Exchange, request: Request) -> None:
        if request.path == "/api/login":
            await self._log_in(exchange, request)
        elif request.headers.get("authorization") != f"Bearer {self.token}":
            await answer(exchange, {"error": "who are you?"}, status=401)
        elif f"sid={self.session}" not in request.headers.get("cookie", ""):
            await answer(exchange, {"error": "no session"}, status=403)
        elif request.path == "/api/orders":
            await self._create(exchange, request)
        else:
            await self._order(exchange, request, unquote(request.path.removeprefix("/api/orders/")))

    async def _log_in(self, exchange: web.Exchange, request: Request) -> None:
        if parse_qs(request.body.decode()).get("password") != [PASSWORD]:
            await answer(exchange, {"error": "wrong password"}, status=401)
            return
        document = {"token": self.token, "user": {"id": 7, "name": 'Ann "A" O'}}
        await answer(exchange, document, headers={"Set-Cookie": f"sid={self.session}; Path=/; HttpOnly"})

    async def _create(self, exchange: web.Exchange, request: Request) -> None:
        if "create-fails" in self.faults:
            await answer(exchange, {"error": "out of lanterns"}, status=500)
            return
        number = f"o/{len(self.orders) + 1}"
        self.orders[number] = {**request.document, "id": number, "reads": 0}
        if "create-hangs" in self.faults:
            await exchange.reader.read()
        made = {"id": number, "user": request.document.get("user")}
        if "create-without-id" in self.faults:
            made["id"] = None
        await answer(exchange, made, status=201, headers={"Location": f"/api/orders/{number}", "X-Trace": "t-1"})

    async def _order(self, exchange: web.Exchange, request: Request, number: str) -> None:
        order = self.orders.get(number)
        if order is None:
            await answer(exchange, {"error": f"no order {number}"}, status=404)
        elif request.method == "DELETE":
            if "delete-hangs" in self.faults:
                await exchange.reader.read()
            if "delete-fails" in self.faults:
                await answer(exchange, {"error": "locked"}, status=409)
                return
            del self.orders[number]
            await web.send(exchange, b"", status=204)
        else:
            order["reads"] += 1
            state = "done" if order["reads"] > self.pending else "pending"
            shown = {**order, "state": state, "token": self.token}
            if "read-other" in self.faults:
                shown["id"] = "o/other"
            if "read-html" in self.faults:
                await web.send(exchange, b"<h1>hello</h1>")
                return
            await answer(exchange, shown)


async def answer(
    exchange: web.Exchange, document: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> None:
    """A JSON document."""
    said = {"Content-Type": "application/json", **(headers or {})}
    await web.send(exchange, json.dumps(document).encode(), status=status, headers=said)
