"""The pages of the gateway: what a person sees in a browser."""

import asyncio
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import jinja2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from stormwatch.demo.dependency import Dependency, Refused, Unavailable, segment
from stormwatch.demo.fields import Fields, Invalid, read_form, read_query
from stormwatch.demo.money import show_euros
from stormwatch.demo.orders import Orders
from stormwatch.demo.plants import Plants
from stormwatch.demo.service import problem

_SESSION = "session"
_CART = "cart"
_NOT_AVAILABLE = {
    "payments": "Payments are not available",
    "accounts": "Accounts are not available",
    "catalog": "The catalog is not available",
    "hotel": "Hotels are not available",
    "taxi": "Taxis are not available",
}
_FORMS = {"/bookings": "/hotels", "/cart/items": "/shop"}
"""Where the form is that is sent to a path, when it is not at that path itself."""
_SLOW_PAYMENT = 8.0
"""Seconds that the planted failure `slow-payment` takes. Here and not in payments, where it would be given up after 3 s."""
_CITIES = ("Bergen", "Brighton", "Hamburg", "Lisbon", "Trieste")

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters["euros"] = show_euros


class Pages:
    """The routes for people. Whoever is not logged in is sent to the log-in and comes back."""

    def __init__(
        self, needs: Mapping[str, Dependency], orders: Orders, *, embedded: Mapping[str, str], plants: Plants
    ) -> None:
        self._needs = needs
        self._orders = orders
        self._embedded = embedded
        self._plants = plants

    def routes(self) -> list[BaseRoute]:
        """The table of the pages."""
        return [
            Route("/", self.front),
            Route("/register", self.register, methods=["GET", "POST"]),
            Route("/login", self.log_in, methods=["GET", "POST"]),
            Route("/logout", self.log_out, methods=["POST"]),
            Route("/account", self.account),
            Route("/shop", self.shop),
            Route("/products/{product}", self.product),
            Route("/cart", self.cart),
            Route("/cart/items", self.add_to_cart, methods=["POST"]),
            Route("/cart/items/{product}/remove", self.remove_from_cart, methods=["POST"]),
            Route("/checkout", self.checkout, methods=["GET", "POST"]),
            Route("/orders/{order}", self.order),
            Route("/hotels", self.hotels),
            Route("/bookings", self.book, methods=["POST"]),
            Route("/bookings/{booking}", self.booking),
            Route("/taxi", self.taxi, methods=["GET", "POST"]),
            Route("/rides/{ride}", self.ride),
            Route("/rides/{ride}/status", self.ride_status),
        ]

    async def front(self, request: Request) -> Response:
        """Needs no other service: the last page that still stands."""
        return page(request, "front.html")

    async def register(self, request: Request) -> Response:
        """A new account."""
        then = _local(request.query_params.get("next", ""))
        if request.method == "GET":
            return page(request, "register.html", then=then, kept={})
        fields = await read_form(request)
        try:
            document = {
                "name": fields.text("name", label="Name"),
                "email": fields.mail("email"),
                "password": fields.secret("password", label="Password", shortest=8),
            }
            opened = await self._needs["accounts"].post("/accounts", document)
        except (Invalid, Refused) as error:
            return page(request, "register.html", error, then=then, kept=_kept(fields, "name", "email"))
        return _logged_in(opened["token"], then)

    async def log_in(self, request: Request) -> Response:
        """A known account."""
        then = _local(request.query_params.get("next", ""))
        if request.method == "GET":
            return page(request, "login.html", then=then, kept={})
        fields = await read_form(request)
        try:
            document = {
                "email": fields.text("email", label="E-mail", longest=254),
                "password": fields.secret("password", label="Password"),
            }
            opened = await self._needs["accounts"].post("/sessions", document)
        except (Invalid, Refused) as error:
            return page(request, "login.html", error, then=then, kept=_kept(fields, "email"))
        return _logged_in(opened["token"], then)

    async def log_out(self, request: Request) -> Response:
        """Forget the session here, and there when accounts can be reached."""
        token = request.cookies.get(_SESSION, "")
        if token:
            try:
                await self._needs["accounts"].delete("/session", bearer=token)
            except Unavailable as error:
                logging.getLogger(__name__).warning("a session was only ended in the browser: %s", error)
        response = RedirectResponse("/", status_code=303)
        response.delete_cookie(_SESSION)
        return response

    async def account(self, request: Request) -> Response:
        """Who is logged in, and their orders."""
        account = await self._whoami(request)
        return page(request, "account.html", account=account, orders=self._orders.of(account["id"]))

    async def shop(self, request: Request) -> Response:
        """Search the catalog."""
        words = request.query_params.get("q", "").strip()[:100]
        products = (await self._needs["catalog"].get("/products", {"q": words}))["products"]
        return page(request, "shop.html", words=words, products=products)

    async def product(self, request: Request) -> Response:
        """One product."""
        product = await self._needs["catalog"].get(f"/products/{segment(request.path_params['product'])}")
        return page(request, "product.html", product=product, promoted=self._plants.has("script-error"))

    async def cart(self, request: Request) -> Response:
        """What is in the cart."""
        return page(request, "cart.html", basket=await self._basket(request))

    async def add_to_cart(self, request: Request) -> Response:
        """Put one into the cart; the first one makes it."""
        fields = await read_form(request)
        product, cart = fields.text("product", label="Product"), request.cookies.get(_CART) or secrets.token_urlsafe(16)
        await self._needs["catalog"].post(f"/carts/{segment(cart)}/items", {"product": product})
        response = RedirectResponse("/cart", status_code=303)
        _remember(response, _CART, cart)
        return response

    async def remove_from_cart(self, request: Request) -> Response:
        """Take a product out of the cart."""
        cart, product = request.cookies.get(_CART, ""), request.path_params["product"]
        if cart:
            await self._needs["catalog"].delete(f"/carts/{segment(cart)}/items/{segment(product)}")
        return RedirectResponse("/cart", status_code=303)

    async def checkout(self, request: Request) -> Response:
        """Pay for the cart."""
        account = await self._whoami(request)
        basket = await self._basket(request)
        if not basket["items"]:
            return RedirectResponse("/cart", status_code=303)
        if request.method == "GET":
            return page(request, "checkout.html", basket=basket)
        fields = await read_form(request)
        try:
            order = await self._orders.place(
                key=request.cookies[_CART], account=account["id"], basket=basket, card=fields.card("card")
            )
        except (Invalid, Refused) as error:
            return page(request, "checkout.html", error, basket=basket)
        if self._plants.has("slow-payment"):
            await asyncio.sleep(_SLOW_PAYMENT)
        response = RedirectResponse(f"/orders/{order.id}", status_code=303)
        response.delete_cookie(_CART)
        return response

    async def order(self, request: Request) -> Response:
        """The receipt."""
        account = await self._whoami(request)
        order = self._orders.find(request.path_params["order"], account["id"])
        if order is None:
            raise HTTPException(404)
        return page(request, "order.html", order=order)

    async def hotels(self, request: Request) -> Response:
        """Search hotels."""
        city = request.query_params.get("city", "").strip()[:100]
        shown: dict[str, Any] = {
            "cities": _CITIES,
            "bookable": not self._plants.has("missing-button"),
            "ratings": self._embedded["ratings"],
        }
        try:
            nights = read_query(request).whole("nights", label="Nights", lowest=1, highest=30, default=1)
        except Invalid as error:
            return page(request, "hotels.html", error, city=city, nights=1, hotels=[], **shown)
        hotels = (await self._needs["hotel"].get("/hotels", {"city": city}))["hotels"]
        return page(request, "hotels.html", city=city, nights=nights, hotels=hotels, **shown)

    async def book(self, request: Request) -> Response:
        """Book a hotel."""
        fields = await read_form(request)
        document = {
            "hotel": fields.text("hotel", label="Hotel"),
            "nights": fields.whole("nights", label="Nights", lowest=1, highest=30),
        }
        booking = await self._needs["hotel"].post("/bookings", document, bearer=_token(request, "/hotels"))
        return RedirectResponse(f"/bookings/{segment(booking['id'])}", status_code=303)

    async def booking(self, request: Request) -> Response:
        """The confirmation of a booking."""
        path = f"/bookings/{segment(request.path_params['booking'])}"
        return page(request, "booking.html", booking=await self._needs["hotel"].get(path, bearer=_token(request)))

    async def taxi(self, request: Request) -> Response:
        """Request a ride."""
        if request.method == "GET":
            return page(request, "taxi.html", kept={})
        fields = await read_form(request)
        token = _token(request, "/taxi")
        try:
            document = {"from": fields.text("from", label="From"), "to": fields.text("to", label="To")}
            ride = await self._needs["taxi"].post("/rides", document, bearer=token)
        except (Invalid, Refused) as error:
            if isinstance(error, Refused) and error.status == 401:
                raise
            return page(request, "taxi.html", error, kept=_kept(fields, "from", "to"))
        return RedirectResponse(f"/rides/{segment(ride['id'])}", status_code=303)

    async def ride(self, request: Request) -> Response:
        """A ride that was requested."""
        path = f"/rides/{segment(request.path_params['ride'])}"
        return page(request, "ride.html", ride=await self._needs["taxi"].get(path, bearer=_token(request)))

    async def ride_status(self, request: Request) -> Response:
        """`{driver, status}` for the page of the ride, which asks again and again."""
        if self._plants.has("xhr-500"):
            return problem(500, "internal", "Something went wrong here; the log knows more")
        path = f"/rides/{segment(request.path_params['ride'])}"
        ride = await self._needs["taxi"].get(path, bearer=_token(request))
        return JSONResponse({"driver": ride["driver"], "status": ride["status"]})

    async def _whoami(self, request: Request) -> dict[str, Any]:
        return (await self._needs["accounts"].get("/session", bearer=_token(request)))["account"]

    async def _basket(self, request: Request) -> dict[str, Any]:
        cart = request.cookies.get(_CART, "")
        if not cart:
            return {"items": [], "total": 0}
        return await self._needs["catalog"].get(f"/carts/{segment(cart)}")


class LoginNeeded(Exception):
    """Nobody is logged in. `then` is where to go afterwards."""

    def __init__(self, then: str) -> None:
        super().__init__(then)
        self.then = then


def page(request: Request, template: str, error: Invalid | Refused | None = None, **values: Any) -> Response:
    """A page of the site; with the sentence of an error, and its status, above what it is about."""
    status = (error.status if isinstance(error, Refused) else 422) if error else 200
    return _render(request, template, status, alert=str(error) if error else "", **values)


def error_page(request: Request, status: int, heading: str, advice: str, *, retry: str = "") -> Response:
    """A page that says what is wrong in the words of a person, and where to try again."""
    return _render(request, "error.html", status, heading=heading, advice=advice, retry=retry)


async def unavailable_page(request: Request, error: Exception) -> Response:
    """502: one of the services behind the page is down."""
    assert isinstance(error, Unavailable)
    logging.getLogger(__name__).warning("%s", error)
    heading = _NOT_AVAILABLE.get(error.service, "This page is not available")
    retry = request.url.path if request.method == "GET" else _FORMS.get(request.url.path, request.url.path)
    return error_page(request, 502, heading, "Please try again in a moment.", retry=retry)


async def refused_page(request: Request, error: Exception) -> Response:
    """Off to the log-in when that is what is missing; else what was said."""
    assert isinstance(error, Refused)
    if error.code == "not_logged_in":
        return await login_redirect(request, LoginNeeded(request.url.path if request.method == "GET" else "/account"))
    return error_page(request, error.status, error.message, "Go back and try something else.")


async def login_redirect(request: Request, error: Exception) -> Response:
    """To the log-in, and back from there."""
    del request
    assert isinstance(error, LoginNeeded)
    response = RedirectResponse(f"/login?next={quote(error.then)}", status_code=303)
    response.delete_cookie(_SESSION)
    return response


async def invalid_page(request: Request, error: Exception) -> Response:
    """422 and the sentence."""
    return error_page(request, 422, str(error), "Go back and correct it.")


async def http_error_page(request: Request, error: Exception) -> Response:
    """No such page, no such method."""
    assert isinstance(error, HTTPException)
    heading = "This page does not exist" if error.status_code == 404 else error.detail
    return error_page(request, error.status_code, heading, "The navigation above leads to all that there is.")


async def crash_page(request: Request, _error: Exception) -> Response:
    """500 without a word about why: that is in the service's log."""
    return error_page(request, 500, "Something went wrong here", "It was written down. Please try again.")


def _render(request: Request, template: str, status: int, **values: Any) -> Response:
    context = {"logged_in": bool(request.cookies.get(_SESSION)), "path": request.url.path, **values}
    return HTMLResponse(_templates.get_template(template).render(context), status_code=status)


def _token(request: Request, then: str = "") -> str:
    token = request.cookies.get(_SESSION, "")
    if not token:
        raise LoginNeeded(then or request.url.path)
    return token


def _logged_in(token: str, then: str) -> Response:
    response = RedirectResponse(then or "/account", status_code=303)
    _remember(response, _SESSION, token)
    return response


def _remember(response: Response, name: str, value: str) -> None:
    response.set_cookie(name, value, max_age=12 * 3600, secure=True, httponly=True, samesite="lax")


def _kept(fields: Fields, *names: str) -> dict[str, str]:
    """What was typed into a form, to be shown in it again; nothing of it that is not a plain short text."""
    kept: dict[str, str] = {}
    for name in names:
        try:
            kept[name] = fields.text(name, label=name, longest=254, shortest=0)
        except Invalid:
            kept[name] = ""
    return kept


def _local(then: str) -> str:
    """A path of this site, or nothing: a link to the log-in must not lead away from here afterwards."""
    parts = urlsplit(then)
    safe = then.startswith("/") and not then.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return then if safe and then.isprintable() else ""
