"""A small shop with the pages of the sample platform, in memory, that can be told what to do wrong."""

import html
import secrets
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PRODUCTS = {"Storm lantern": 1250, "Rain coat": 4900, "Weather radio": 2999}


class Shop(ThreadingHTTPServer):
    """Listens on a port of loopback that is free."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.faults: set[str] = set()
        """What it does wrong: `slow-payment`, `wrong-total`, `no-pay-button`, `script-error`."""
        self.people: dict[str, dict[str, str]] = {}
        self.sessions: dict[str, str] = {}
        self.carts: dict[str, list[str]] = {}
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that is killed leaves broken connections behind."""


@contextmanager
def shop_running() -> Generator[Shop]:
    """A shop that is open as long as the block runs."""
    shop = Shop()
    thread = threading.Thread(target=shop.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield shop
    finally:
        shop.shutdown()
        thread.join()
        shop.server_close()


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Shop

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the standard library's
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        form = parse_qs(self.rfile.read(length).decode())
        self._answer({name: values[0] for name, values in form.items()})

    def _answer(self, form: dict[str, str]) -> None:
        parts = urlsplit(self.path)
        self.server.requests.append(f"{self.command} {parts.path}")
        cookie = SimpleCookie(self.headers.get("Cookie", ""))
        self.session = cookie["session"].value if "session" in cookie else secrets.token_hex(8)
        self.fresh = "session" not in cookie
        self.person = self.server.people.get(self.server.sessions.get(self.session, ""))
        name = "page_" + (parts.path.strip("/").split("/")[0] or "home")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        page = getattr(self, name, None)
        if page is None:
            self._send(404, "<h1>Not found</h1>")
        else:
            page(query, form)

    def _send(self, status: int, body: str, **headers: str) -> None:
        inside = '<a href="/account">Account</a> <a href="/logout">Log out</a>'
        outside = '<a href="/register">Register</a> <a href="/login">Log in</a>'
        script = "<script>nothing.here()</script>" if "script-error" in self.server.faults else ""
        data = (
            "<!doctype html><html lang=en><title>Storm shop</title><link rel=icon href=data:,>"
            f"<nav><a href=/shop>Shop</a> {inside if self.person else outside}</nav>{body}{script}"
        ).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        if self.fresh:
            self.send_header("Set-Cookie", f"session={self.session}; Path=/; HttpOnly")
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def _go(self, to: str) -> None:
        self._send(303, "", Location=to)

    def page_home(self, query: dict[str, str], form: dict[str, str]) -> None:
        self._send(200, "<h1>Storm shop</h1>")

    def page_register(self, query: dict[str, str], form: dict[str, str]) -> None:
        if form:
            self.server.people[form["email"]] = form
            self.server.sessions[self.session] = form["email"]
            return self._go("/account")
        return self._send(200, _form("Create account", name="Name", email="E-mail", password="Password"))

    def page_login(self, query: dict[str, str], form: dict[str, str]) -> None:
        if form and self.server.people.get(form["email"], {}).get("password") == form["password"]:
            self.server.sessions[self.session] = form["email"]
            return self._go("/account")
        wrong = "<p role=alert>Wrong e-mail or password</p>" if form else ""
        return self._send(200, wrong + _form("Log in", email="E-mail", password="Password"))

    def page_logout(self, query: dict[str, str], form: dict[str, str]) -> None:
        self.server.sessions.pop(self.session, None)
        self._go("/")

    def page_account(self, query: dict[str, str], form: dict[str, str]) -> None:
        self._send(200, f"<h1>Welcome, {html.escape(self.person['name']) if self.person else 'stranger'}</h1>")

    def page_shop(self, query: dict[str, str], form: dict[str, str]) -> None:
        if form:
            self.server.carts.setdefault(self.session, []).append(form["product"])
            return self._go("/cart")
        wanted = query.get("q", "").lower()
        articles = "".join(
            f"<article><h2>{name}</h2><p>€{cents / 100:.2f}</p><form method=post>"
            f"<input type=hidden name=product value='{name}'><button>Add to cart</button></form></article>"
            for name, cents in PRODUCTS.items()
            if wanted in name.lower()
        )
        search = (
            "<form role=search><input type=search name=q aria-label='Search products'><button>Search</button></form>"
        )
        return self._send(200, search + articles)

    def page_cart(self, query: dict[str, str], form: dict[str, str]) -> None:
        cart = self.server.carts.get(self.session, [])
        rows = "".join(f"<tr><td>{name}<td>€{PRODUCTS[name] / 100:.2f}" for name in cart)
        self._send(
            200,
            f"<h1>Cart</h1><table>{rows}</table><p data-testid=total>Total {self._total()}</p>"
            "<a href=/checkout>Check out</a>",
        )

    def page_checkout(self, query: dict[str, str], form: dict[str, str]) -> None:
        if form:
            if "slow-payment" in self.server.faults:
                time.sleep(8)
            return self._go("/orders/1")
        page = _form("Pay", card="Card number")
        return self._send(
            200, page.replace("<button>Pay</button>", "") if "no-pay-button" in self.server.faults else page
        )

    def page_orders(self, query: dict[str, str], form: dict[str, str]) -> None:
        self._send(200, f"<h1>Thank you</h1><p>Paid {self._total()}</p>")

    def _total(self) -> str:
        cents = sum(PRODUCTS[name] for name in self.server.carts.get(self.session, []))
        return f"€{(cents + (1 if 'wrong-total' in self.server.faults else 0)) / 100:.2f}"


def _form(button: str, **fields: str) -> str:
    inputs = "".join(f"<p><label>{label} <input name={name}></label>" for name, label in fields.items())
    return f"<form method=post>{inputs}<button>{button}</button></form>"
