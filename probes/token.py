"""Tokens by OAuth 2.0 client credentials (RFC 6749 §4.4): fetched once for all probes that share a client, then kept."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import quote, urlencode

from pydantic import ConfigDict, Field

from stormwatch.probes.authorization import ClientCertificate, Login
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.options import STRICT, File, Secret
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds

EARLY: Final = 30.0
"""Seconds before its end at which a token is renewed, or a fifth of its life when that is shorter."""
KEPT: Final = 1024
"""Tokens that are kept at once, of different clients."""
MARGIN: Final = 0.05
"""Seconds before the deadline of a run at which it gives up waiting for a token: after it, the target would be blamed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2:
    """A client of an authorization server."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    token_url: str
    """Where tokens are had: an https or http URL."""
    client_id: str
    """The client's name."""
    client_secret: Secret = field(repr=False)
    """Write it as `${env:NAME}` or `${file:PATH}`."""
    scopes: tuple[str, ...] = ()
    """Scopes to ask for."""
    audience: str = ""
    """The `audience` parameter, which some servers want."""
    params: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """More parameters of the request for a token."""
    credentials_in: Literal["header", "body"] = "header"
    """Name and secret by HTTP Basic, which every server must understand, or among the parameters (RFC 6749 §2.3.1)."""
    ca_file: File = ""
    """PEM file of the authorities to trust for the token's server; the system's when empty."""
    verify: bool = True
    """Whether the certificate of the token's server must be valid."""
    client_certificate: ClientCertificate | None = None
    """Certificate and key for a token's server that asks for one (RFC 8705)."""
    timeout: Annotated[Seconds, Field(gt=0)] = 10.0
    """How long the token's server may take. A run waits no longer than its own time allows."""

    def check(self) -> None:
        """Raises ValueError for parameters that have an option of their own."""
        taken = {"grant_type", "scope", "audience", "client_id", "client_secret"} & set(self.params)
        if taken:
            raise ValueError(f"oauth2.params: {min(taken)} is not given here: it is an option, or always the same")

    @property
    def identity(self) -> Hashable:
        """Equal for clients that may share a token."""
        return (
            *(self.token_url, self.client_id, str(self.client_secret), self.scopes, self.audience),
            *(tuple(sorted(self.params.items())), self.credentials_in),
            *(self.ca_file, self.verify, self.client_certificate),
        )

    def form(self) -> bytes:
        """The body of the request for a token."""
        fields = {"grant_type": "client_credentials"}
        if self.scopes:
            fields["scope"] = " ".join(self.scopes)
        if self.audience:
            fields["audience"] = self.audience
        if self.credentials_in == "body":
            fields |= {"client_id": self.client_id, "client_secret": self.client_secret}
        return urlencode({**fields, **self.params}).encode()

    def login(self) -> str:
        """The Authorization header's value; empty when the secret is sent in the body."""
        if self.credentials_in == "body":
            return ""
        return Login(username=quote(self.client_id, safe=""), password=quote(self.client_secret, safe="")).basic()


@dataclass(frozen=True, slots=True)
class Token:
    """What may be sent as `Authorization: Bearer …`, and until when. Moments are of the monotonic clock."""

    value: str = field(repr=False)
    renew: float
    """From then on another is fetched."""
    expires: float


def read_token(status: int, body: bytes, now: float) -> Token:
    """The token in a server's answer (RFC 6749 §5.1), which came at `now`. Raises ProbeBroken for any other answer."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _refused(f"it answered with status {status} and no JSON object")
    if status != 200:
        told = ": ".join(str(document[key])[:200] for key in ("error", "error_description") if document.get(key))
        raise _refused(f"it answered with status {status}{f', {told}' if told else ''}")
    value, kind = document.get("access_token"), document.get("token_type", "Bearer")
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable() or " " in value:
        raise _refused("there is no access_token in its answer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise _refused(f"it gave a token of type {str(kind)[:40]!r}, and only bearer tokens can be sent")
    life = _life(document.get("expires_in"))
    return Token(value, renew=now + life - min(EARLY, life / 5) if life < math.inf else math.inf, expires=now + life)


def _life(text: Any) -> float:
    """Seconds; for ever when the server does not say."""
    if text is None:
        return math.inf
    try:
        life = float(text)
    except (TypeError, ValueError, OverflowError):
        life = math.nan
    if not life > 0:
        raise _refused(f"expires_in is {str(text)[:40]!r}, not a number of seconds")
    return life


def _refused(said: str) -> ProbeBroken:
    return ProbeBroken(Reason.CREDENTIALS, said, phase="resolve")


Fetch = Callable[[], Awaitable[Token]]


class Tokens:
    """The tokens of an event loop's probes. One fetch at a time for each client, whoever asks."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Token] = {}
        self._fetches: dict[Hashable, _Shared] = {}

    async def get(self, identity: Hashable, fetch: Fetch, *, now: float, within: float) -> tuple[Token, bool]:
        """A token that is good, and whether it had been kept. Waits at most `within` seconds.

        Raises what `fetch` raises, and ProbeBroken when time is over. When a token cannot be renewed and has not
        expired, it is used on.
        """
        kept = self._kept.get(identity)
        if kept is not None and now < kept.renew:
            return kept, True
        try:
            async with asyncio.timeout(within):
                token = await self._fetch(identity, fetch)
        except (TimeoutError, ProbeBroken, ProbeFailed) as error:
            if kept is not None and now < kept.expires:
                return kept, True
            if isinstance(error, TimeoutError):
                raise _refused(f"there was none within the {max(within, 0):.2g} s that were left of the run") from error
            raise
        return token, False

    def drop(self, identity: Hashable, token: Token) -> None:
        """Forget a token that was refused, unless it has been replaced since."""
        if self._kept.get(identity) is token:
            del self._kept[identity]

    async def _fetch(self, identity: Hashable, fetch: Fetch) -> Token:
        shared = self._fetches.get(identity)
        if shared is None:
            shared = self._fetches[identity] = _Shared(asyncio.ensure_future(self._keep(identity, fetch)))
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if not shared.waiting:  # nobody else wants it: a cancelled run leaves nothing behind
                shared.task.cancel()
                if self._fetches.get(identity) is shared:
                    del self._fetches[identity]

    async def _keep(self, identity: Hashable, fetch: Fetch) -> Token:
        token = await fetch()
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[identity] = token
        return token

    async def aclose(self) -> None:
        """Cancel what is under way."""
        tasks = [shared.task for shared in self._fetches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._kept.clear()


class _Shared:
    """A fetch, and how many runs wait for it."""

    __slots__ = ("task", "waiting")

    def __init__(self, task: "asyncio.Future[Token]") -> None:
        self.task = task
        self.waiting = 0
