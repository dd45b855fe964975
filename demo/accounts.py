"""Accounts: register, log in, and who a token belongs to. Needs nothing but its own database."""

import asyncio
import hashlib
import hmac
import secrets
import sqlite3
import time
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stormwatch.demo.database import open_database
from stormwatch.demo.dependency import Refused
from stormwatch.demo.fields import read_json
from stormwatch.demo.plants import Plants
from stormwatch.demo.service import Settings, bearer_of, build

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    id TEXT PRIMARY KEY, mail TEXT NOT NULL UNIQUE, name TEXT NOT NULL, salt BLOB NOT NULL, hash BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS sessions (
    token_hash BLOB PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts(id), expires REAL NOT NULL, once INTEGER NOT NULL
);
"""
_SESSION_SECONDS = 12 * 3600
_SHORTEST_PASSWORD = 8


class Accounts:
    """The routes of the service. Tokens are kept as hashes only: who reads the database cannot log in with it."""

    def __init__(self, database: sqlite3.Connection, plants: Plants) -> None:
        self._database = database
        self._plants = plants

    async def register(self, request: Request) -> Response:
        """`{name, email, password}` → 201 `{account, token}`; 409 when the address is taken."""
        fields = await read_json(request)
        name, mail = fields.text("name", label="Name"), fields.mail("email")
        password = fields.secret("password", label="Password", shortest=_SHORTEST_PASSWORD)
        salt = secrets.token_bytes(16)
        hashed = await _hash(password, salt)
        account = {"id": secrets.token_hex(8), "name": name, "email": mail}
        try:
            self._database.execute(
                "INSERT INTO accounts VALUES (?, ?, ?, ?, ?)", (account["id"], mail, name, salt, hashed)
            )
        except sqlite3.IntegrityError as error:
            raise Refused(409, "email_taken", "There is already an account with this e-mail address") from error
        return JSONResponse({"account": account, "token": self._open_session(account["id"])}, status_code=201)

    async def log_in(self, request: Request) -> Response:
        """`{email, password}` → 201 `{account, token}`; 401 when they do not belong together."""
        fields = await read_json(request)
        mail, password = (
            fields.text("email", label="E-mail", longest=254).lower(),
            fields.secret("password", label="Password"),
        )
        row = self._database.execute("SELECT * FROM accounts WHERE mail = ?", (mail,)).fetchone()
        # An unknown address costs the same time as a wrong password: nobody learns which addresses are registered.
        hashed = await _hash(password, row["salt"] if row else b"nobody's salt...")
        if row is None or not hmac.compare_digest(hashed, row["hash"]):
            raise Refused(401, "wrong_credentials", "Wrong e-mail or password")
        token = self._open_session(row["id"], once=self._plants.has("expired-session"))
        return JSONResponse({"account": _account(row), "token": token}, status_code=201)

    async def whoami(self, request: Request) -> Response:
        """The account that the bearer token belongs to; 401 when it belongs to none."""
        row = self._database.execute(
            "SELECT accounts.*, once FROM sessions JOIN accounts ON accounts.id = account WHERE token_hash = ? AND expires > ?",
            (_token_hash(bearer_of(request)), time.time()),
        ).fetchone()
        if row is None:
            raise Refused(401, "not_logged_in", "This session has ended: log in again")
        if row["once"]:
            await self.log_out(request)
        return JSONResponse({"account": _account(row)})

    async def log_out(self, request: Request) -> Response:
        """End the session of the bearer token. It is no error when there is none."""
        self._database.execute("DELETE FROM sessions WHERE token_hash = ?", (_token_hash(bearer_of(request)),))
        return Response(status_code=204)

    async def forget(self, request: Request) -> Response:
        """Remove an account with its sessions. It is no error when there is none.

        Asks for no token: like all that the shop does not pass on, it is for the company itself, and for journeys that tidy up.
        """
        mail = request.path_params["mail"].lower()
        self._database.execute("DELETE FROM sessions WHERE account = (SELECT id FROM accounts WHERE mail = ?)", (mail,))
        self._database.execute("DELETE FROM accounts WHERE mail = ?", (mail,))
        return Response(status_code=204)

    def _open_session(self, account: str, *, once: bool = False) -> str:
        token, now = secrets.token_urlsafe(32), time.time()
        self._database.execute("DELETE FROM sessions WHERE expires <= ?", (now,))
        self._database.execute(
            "INSERT INTO sessions VALUES (?, ?, ?, ?)", (_token_hash(token), account, now + _SESSION_SECONDS, once)
        )
        return token


def service(settings: Settings) -> Starlette:
    """The service, from its settings."""
    database = open_database(settings.database, _SCHEMA)
    accounts = Accounts(database, settings.plants)
    routes = [
        Route("/accounts", accounts.register, methods=["POST"]),
        Route("/accounts/{mail}", accounts.forget, methods=["DELETE"]),
        Route("/sessions", accounts.log_in, methods=["POST"]),
        Route("/session", accounts.whoami, methods=["GET"]),
        Route("/session", accounts.log_out, methods=["DELETE"]),
    ]
    return build(settings.name, routes, database=database)


async def _hash(password: str, salt: bytes) -> bytes:
    # A small cost on purpose (4 MB, some milliseconds): this platform guards nothing, and two cores run all of it.
    return await asyncio.to_thread(hashlib.scrypt, password.encode(), salt=salt, n=2**12, r=8, p=1)


def _token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _account(row: sqlite3.Row) -> dict[str, Any]:
    return {"id": row["id"], "name": row["name"], "email": row["mail"]}
