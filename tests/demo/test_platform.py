"""The sample platform as a visitor, a program and an operator see it: real processes, behind the fault proxy."""

import asyncio
import json
import os
import secrets
import signal
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from stormwatch.demo.platform import Platform
from tests.demo.visitor import alert_of, register, text_of, visitor
from tests.servers.process import wait_for

GOOD_CARD = "4242 4242 4242 4242"
DECLINED_CARD = "4000 0000 0000 0002"


@pytest.fixture
def client(platform: Platform) -> Generator[httpx.Client]:
    """Somebody with an empty cookie jar."""
    with visitor(platform) as client:
        yield client


@pytest.fixture
def mail() -> str:
    """An address that only one test knows."""
    return f"{secrets.token_hex(6)}@mail.storm.test"


@contextmanager
def stopped(platform: Platform, name: str) -> Generator[None]:
    asyncio.run(platform.stop_service(name))
    try:
        yield
    finally:
        asyncio.run(platform.start_service(name))


@contextmanager
def fault(platform: Platform, route: str, **body: object) -> Generator[None]:
    url = f"{platform.control}/routes/{route}/faults/test"
    httpx.put(url, json={"lease": 60, **body}, trust_env=False).raise_for_status()
    try:
        yield
    finally:
        httpx.delete(url, trust_env=False).raise_for_status()


def answers_again(client: httpx.Client, path: str) -> None:
    wait_for(lambda: client.get(path).status_code == 200, what=f"{path} to answer 200 again")


def bearer(client: httpx.Client, mail: str) -> dict[str, str]:
    account = {"name": "Grace", "email": mail, "password": "correct horse"}
    response = client.post("/api/register", json=account)
    assert response.status_code == 201, response.text
    return {"authorization": f"Bearer {response.json()['token']}"}


def charges(platform: Platform) -> int:
    with sqlite3.connect(f"file:{platform.layout.database('payments')}?mode=ro", uri=True) as database:
        number = database.execute("SELECT count(*) FROM charges").fetchone()[0]
    database.close()
    return number


def test_a_new_customer_registers_finds_buys_and_is_thanked(client: httpx.Client, mail: str) -> None:
    """The whole way through the shop; a cart survives the log-in that is asked for in the middle of it."""
    found = client.get("/shop", params={"q": "storm umbrella"})
    assert [part for part in ("Storm umbrella", "Rain jacket", "€12.50", "Add to cart") if part in text_of(found)] == [
        "Storm umbrella",
        "€12.50",
        "Add to cart",
    ]
    client.post("/cart/items", data={"product": "umbrella"})
    cart = client.post("/cart/items", data={"product": "umbrella"})
    assert "Total €25.00" in text_of(cart)

    asked = client.get("/checkout")
    assert (asked.url.path, asked.url.query.decode()) == ("/login", "next=/checkout")
    checkout = register(client, mail, next="/checkout")
    assert checkout.url.path == "/checkout"
    declined = client.post("/checkout", data={"card": DECLINED_CARD})
    assert (declined.status_code, alert_of(declined)) == (402, "The card was declined")
    thanks = client.post("/checkout", data={"card": GOOD_CARD})

    assert thanks.url.path.startswith("/orders/")
    assert "Thank you" in text_of(thanks)
    assert "Paid €25.00" in text_of(thanks)
    assert "2 × Storm umbrella" in text_of(client.get("/account"))
    assert "It is empty" in text_of(client.get("/cart"))


def test_log_in_log_out_and_a_wrong_password(client: httpx.Client, mail: str) -> None:
    """Which of the two was wrong is not said; a session that was ended is ended in the service, too."""
    assert "Welcome, Ada Lovelace" in text_of(register(client, mail))
    session = client.cookies["session"]
    left = client.post("/logout")
    assert "Log in" in text_of(left)
    assert client.get("/account", headers={"cookie": f"session={session}"}).url.path == "/login"

    wrong = client.post("/login", data={"email": mail, "password": "wrong"})
    nobody = client.post("/login", data={"email": "nobody@mail.storm.test", "password": "correct horse"})
    right = client.post("/login", data={"email": mail.upper(), "password": "correct horse"})

    assert [(page.status_code, alert_of(page)) for page in (wrong, nobody)] == [(401, "Wrong e-mail or password")] * 2
    assert (right.url.path, "Welcome, Ada Lovelace" in text_of(right)) == ("/account", True)


def test_a_hotel_is_booked_and_a_taxi_requested(client: httpx.Client, mail: str) -> None:
    """Both charge the account that is logged in."""
    register(client, mail)
    hotels = client.get("/hotels", params={"city": "lisbon", "nights": "2"})
    assert [part for part in ("Casa do Vento", "Lighthouse Inn", "€188.00") if part in text_of(hotels)] == [
        "Casa do Vento",
        "€188.00",
    ]
    booked = client.post("/bookings", data={"hotel": "casa-do-vento", "nights": "2"})
    ride = client.post("/taxi", data={"from": "Harbour", "to": "Airport"})

    assert booked.url.path.startswith("/bookings/")
    assert "Booking confirmed" in text_of(booked)
    assert "2 nights, €188.00" in text_of(booked)
    assert "Your ride is on its way" in text_of(ride)


def test_the_api_sells_books_and_drives(platform: Platform, client: httpx.Client, mail: str) -> None:
    """And the same request with the same key is one order and one charge."""
    token = bearer(client, mail)
    login = client.post("/api/login", json={"email": mail, "password": "correct horse"})
    products = client.get("/api/products", params={"q": "mug"}).json()["products"]
    order = {"items": [{"product": products[0]["id"], "quantity": 3}], "card": "4242424242424242"}
    before = charges(platform)
    first, second = (
        client.post("/api/orders", json=order, headers={**token, "idempotency-key": "once"}) for _ in range(2)
    )

    assert (login.status_code, first.status_code, second.status_code) == (200, 201, 201)
    assert first.json() == second.json()
    assert (first.json()["total"], first.json()["paid_with"]) == (2850, "card ending in 4242")
    assert before + 1 == charges(platform)
    assert [hotel["city"] for hotel in client.get("/api/hotels", params={"city": "Bergen"}).json()["hotels"]] == [
        "Bergen",
        "Bergen",
    ]
    booking = client.post("/api/bookings", json={"hotel": "pier-house", "nights": 2}, headers=token)
    ride = client.post("/api/rides", json={"from": "A", "to": "B"}, headers=token)
    assert (booking.status_code, booking.json()["paid"]) == (201, 23600)
    assert (ride.status_code, ride.json()["from"], ride.json()["to"]) == (201, "A", "B")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"items": [{"product": "mug"}], "card": "4000000000000002"}, (402, "card_declined", "The card was declined")),
        ({"items": [{"product": "mug"}], "card": "1"}, (422, "invalid", "card is not a valid card number")),
        ({"items": [], "card": "4242424242424242"}, (422, "invalid", "items must be a list of 1 to 50 objects")),
        (
            {"items": [{"product": "x"}], "card": "4242424242424242"},
            (422, "invalid", "items: there is no such product"),
        ),
        ([], (422, "invalid", "the body must be a JSON object, not list")),
    ],
)
def test_the_api_says_why_not(client: httpx.Client, mail: str, body: object, error: tuple[int, str, str]) -> None:
    """One shape for every error."""
    status, code, message = error
    refused = client.post("/api/orders", json=body, headers=bearer(client, mail))

    assert (status, {"error": {"code": code, "message": message}}) == (refused.status_code, refused.json())


def test_the_api_needs_a_token_that_is_one(client: httpx.Client, mail: str) -> None:
    """Without one, and with one that nobody issued; and one account for one address."""
    order = {"items": [{"product": "mug"}], "card": "4242424242424242"}
    without = client.post("/api/orders", json=order)
    wrong = client.post("/api/orders", json=order, headers={"authorization": "Bearer nonsense"})
    bearer(client, mail)
    twice = client.post("/api/register", json={"name": "Eve", "email": mail, "password": "correct horse"})

    assert [(one.status_code, one.json()["error"]["code"]) for one in (without, wrong)] == [(401, "not_logged_in")] * 2
    assert wrong.headers["www-authenticate"] == "Bearer"
    assert (twice.status_code, twice.json()["error"]["code"]) == (409, "email_taken")


def test_a_cart_that_is_paid_twice_is_charged_once(platform: Platform, client: httpx.Client, mail: str) -> None:
    """Two clicks on Pay, or a second try after an answer that never came."""
    register(client, mail)
    client.post("/cart/items", data={"product": "whistle"})
    cart, before = client.cookies["cart"], charges(platform)
    first = client.post("/checkout", data={"card": GOOD_CARD})
    client.cookies.set("cart", cart, domain=first.url.host)
    second = client.post("/checkout", data={"card": GOOD_CARD})

    assert "/orders/" in first.url.path
    assert first.url == second.url
    assert before + 1 == charges(platform)


def test_nobody_sees_the_order_of_somebody_else(platform: Platform, client: httpx.Client, mail: str) -> None:
    """Not found, as if there were none."""
    register(client, mail)
    client.post("/cart/items", data={"product": "mug"})
    order = client.post("/checkout", data={"card": GOOD_CARD})
    with visitor(platform) as other:
        register(other, f"other-{mail}")
        seen = other.get(order.url.path)

    assert seen.status_code == 404
    assert alert_of(seen) == "This page does not exist"


@pytest.mark.parametrize("then", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"])
def test_a_log_in_never_leads_to_another_site(client: httpx.Client, mail: str, then: str) -> None:
    """`next` is a path of this site, or ignored."""
    assert register(client, mail, next=then).url.path == "/account"


def test_a_form_of_another_site_is_refused(client: httpx.Client, mail: str) -> None:
    """Also if a browser sent the cookies along."""
    register(client, mail)
    refused = client.post("/cart/items", data={"product": "mug"}, headers={"origin": "https://evil.example"})
    own = client.post("/cart/items", data={"product": "mug"}, headers={"origin": str(client.base_url).rstrip("/")})

    assert (refused.status_code, own.status_code) == (403, 200)


def test_what_people_type_is_shown_and_never_run(client: httpx.Client, mail: str) -> None:
    """Escaped on the page; and the session's cookie is out of reach of scripts."""
    registered = register(client, mail, name="<script>alert(1)</script>")
    cookie = registered.history[0].headers["set-cookie"].lower()

    assert "Welcome, &lt;script&gt;" in registered.text
    assert sorted({part.strip() for part in cookie.split(";")} & {"httponly", "secure", "samesite=lax"}) == [
        "httponly",
        "samesite=lax",
        "secure",
    ]
    assert "default-src 'self'" in registered.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("send", "status", "alert"),
    [
        (lambda c: c.get("/nowhere"), 404, "This page does not exist"),
        (lambda c: c.get("/cart/items"), 405, "Method Not Allowed"),
        (lambda c: c.get("/hotels?nights=99"), 422, "Nights must be a whole number from 1 to 30"),
        (lambda c: c.post("/cart/items", data={"product": "bread"}), 404, "No such product"),
        (
            lambda c: c.post("/register", data={"name": "x" * 70000}),
            422,
            "the body must not be larger than 65536 bytes",
        ),
        (lambda c: c.post("/login", data={"email": ""}), 422, "E-mail is missing"),
    ],
)
def test_a_mistake_is_answered_with_a_sentence(
    client: httpx.Client, send: Callable[[httpx.Client], httpx.Response], status: int, alert: str
) -> None:
    """On a page that a person can use."""
    page = send(client)

    assert (status, alert) == (page.status_code, alert_of(page))


def test_payments_stopped_nobody_can_pay_and_everybody_can_look(
    platform: Platform, client: httpx.Client, mail: str
) -> None:
    """The page says what is missing, /readyz names it, the other pages stand; and all is well afterwards."""
    register(client, mail)
    client.post("/cart/items", data={"product": "mug"})
    with stopped(platform, "payments"):
        paying = client.post("/checkout", data={"card": GOOD_CARD})
        booking = client.post("/bookings", data={"hotel": "pier-house", "nights": "1"})
        riding = client.post("/taxi", data={"from": "A", "to": "B"})
        api = client.post("/api/rides", json={"from": "A", "to": "B"}, headers=bearer(client, f"api-{mail}"))
        ready = client.get("/readyz")
        taxi = client.get(f"{platform.urls['taxi']}/readyz")
        healthy = [client.get(f"{platform.urls[name]}/healthz").status_code for name in ("shop", "hotel", "taxi")]
        pages = [client.get(path).status_code for path in ("/", "/shop", "/cart", "/hotels", "/taxi", "/account")]

    assert [(page.status_code, alert_of(page)) for page in (paying, booking, riding)] == [
        (502, "Payments are not available")
    ] * 3
    assert (api.status_code, api.json()["error"]["service"]) == (502, "payments")
    assert (ready.status_code, ready.json()["down"]) == (503, ["payments"])
    assert (taxi.status_code, taxi.json()["down"]) == (503, ["payments"])
    assert healthy == [200] * 3
    assert pages == [200] * 6
    assert "Paid €9.50" in text_of(client.post("/checkout", data={"card": GOOD_CARD}))


def test_payments_that_hang_are_given_up_after_three_seconds(
    platform: Platform, client: httpx.Client, mail: str
) -> None:
    """And a service in between gives up sooner, so that the right one is named."""
    register(client, mail)
    client.post("/cart/items", data={"product": "mug"})
    with fault(platform, "payments", kind="tcp-blackhole"):
        began = time.monotonic()
        paying = client.post("/checkout", data={"card": GOOD_CARD})
        took = time.monotonic() - began
        booking = client.post("/bookings", data={"hotel": "pier-house", "nights": "1"})

    assert [(page.status_code, alert_of(page)) for page in (paying, booking)] == [
        (502, "Payments are not available")
    ] * 2
    assert 3 <= took < 6


def test_http_faults_see_what_passes_between_two_services(platform: Platform, client: httpx.Client, mail: str) -> None:
    """The proxy ends the TLS: charging fails, and the health check still says that all is well."""
    token = bearer(client, mail)
    with fault(platform, "payments", kind="http-status", options={"status": 500, "path": "/charges*"}):
        ride = client.post("/api/rides", json={"from": "A", "to": "B"}, headers=token)
        ready = client.get("/readyz")

    assert (ride.status_code, ride.json()["error"]["service"]) == (502, "payments")
    assert ready.status_code == 200


def test_dns_stopped_everything_behind_the_front_page_is_down(platform: Platform, client: httpx.Client) -> None:
    """A visitor who knows the address still sees the front page; every service that needs another one does not find it."""
    with stopped(platform, "dns"), visitor(platform, address="127.0.0.1") as known:
        said: list[dict[str, str]] = []

        def forgotten() -> bool:
            said.append(known.get("/readyz").json()["why"])
            return len(said[-1]) == 5 and "payments.storm.test did not resolve" in said[-1]["payments"]

        # On a busy machine a name is still being looked for when the patience of the look at it ends.
        wait_for(forgotten, what="every name to be forgotten")
        page, front = known.get("/shop"), known.get("/")

    assert (page.status_code, alert_of(page)) == (502, "The catalog is not available")
    assert front.status_code == 200
    assert {"accounts", "catalog", "payments", "hotel", "taxi"} == set(said[-1])
    answers_again(client, "/shop")


def test_a_killed_service_is_reported_and_not_restarted(platform: Platform, client: httpx.Client) -> None:
    """Until somebody starts it again: with its old port and all that it knew."""
    before, log = platform.pids["taxi"], platform.layout.log("supervisor")
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: '"died": "taxi", "exit": -9' in log.read_text(), what="the supervisor to report it")
    down = client.get("/readyz").json()["down"]
    asyncio.run(platform.start_service("taxi"))

    assert down == ["taxi"]
    assert platform.pids["taxi"] != before
    answers_again(client, "/readyz")


def test_every_request_leaves_a_line_with_its_trace(platform: Platform, client: httpx.Client) -> None:
    """Method, path, status, milliseconds; what a person typed is not in it."""
    client.get("/shop?q=umbrella", headers={"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})

    def lines() -> list[str]:
        written = platform.layout.log("shop").read_text().splitlines()
        return [line for line in written if "4bf92f3577b34da6a3ce929d0e0e4736" in line]

    # It is written when the answer is out.
    wait_for(lambda: bool(lines()), what="the line of the request")
    (line,) = lines()
    assert "access: GET /shop 200" in line
    assert "umbrella" not in line


def test_without_the_third_party_everything_stands(platform: Platform, client: httpx.Client) -> None:
    """The shop is ready and hotels are found; browsers may load that script, and no other from elsewhere."""
    with stopped(platform, "ratings"):
        ready, hotels = client.get("/readyz"), client.get("/hotels")

    assert (ready.status_code, hotels.status_code) == (200, 200)
    assert f'<script src="{platform.urls["ratings"]}/widget.js" defer>' in hotels.text
    policy = dict(part.split(" ", 1) for part in hotels.headers["content-security-policy"].split("; "))
    assert policy["script-src"] == f"'self' {platform.urls['ratings']}"


def test_a_customer_is_forgotten_with_the_sessions(platform: Platform, client: httpx.Client, mail: str) -> None:
    """By the company itself: the shop passes no such request on. Who was forgotten is logged out, and may come again."""
    token = bearer(client, mail)
    refused = client.delete(f"/accounts/{mail}")
    forgotten = client.delete(f"{platform.urls['accounts']}/accounts/{mail}")
    again = client.delete(f"{platform.urls['accounts']}/accounts/{mail}")
    gone = client.get(f"{platform.urls['accounts']}/session", headers=token)

    assert [response.status_code for response in (refused, forgotten, again, gone)] == [404, 204, 204, 401]
    assert bearer(client, mail) != token


def test_platform_json_says_how_everything_is_reached(platform: Platform) -> None:
    """And every service stands behind its route."""
    document = json.loads(platform.layout.state.read_text())
    routes = httpx.get(f"{document['control']}/routes", trust_env=False).json()

    assert {"shop", "accounts", "catalog", "payments", "hotel", "taxi", "ratings"} == set(document["services"])
    assert {"supervisor", "dns", "proxy", *document["services"]} == set(document["pids"])
    assert platform.shop == document["shop"] == document["services"]["shop"]["url"]
    assert {route["listen"] for route in routes} == {
        service["url"].replace(f"https://{name}.storm.test", "127.0.0.1")
        for name, service in document["services"].items()
    } | {document["dns"]}
    assert all(
        Path(service[part]).exists() for service in document["services"].values() for part in ("certificate", "key")
    )
    assert document == Platform.load(platform.layout.directory).document
