"""The fault `load` and what it is put on, as users write them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from stormwatch.chaos.option import STRICT
from stormwatch.probes.options import File
from stormwatch.probes.request import check_headers
from stormwatch.probes.units import Seconds
from stormwatch.probes.url import Url

MOST_USERS = 1000
"""One process makes the load, on one processor: more users than that wait for it, and not for the service."""
FASTEST = 100
"""Users that begin in a second at most: locust warns that it is not reliable above that."""
LONGEST = 3600.0
"""Seconds. A load that nobody takes away is felt by everybody who uses the service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTarget:
    """A service that load may be put on."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    url: str
    """Where it is, with http or https: `https://shop.example/`. Requests go to this scheme, host and port alone; redirects are not followed."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Sent with each request; what is secret as `${env:NAME}` or `${file:PATH}`."""
    ca_file: File = ""
    """Certificates of the authorities that are trusted for https, PEM; those of the system when empty."""

    def __post_init__(self) -> None:
        if "@" in self.url.partition("://")[2].partition("/")[0]:
            raise ValueError("url has a user or password in it; give `headers: {Authorization: …}` instead")
        Url.parse(self.url)
        check_headers(self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """One of the requests that users make in turn."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    path: Annotated[str, Field(pattern=r"^/[!-~]*$")]
    """The path, with its query, of the service's address: `/search?q=hotel`."""
    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    """The method."""
    weight: Annotated[int, Field(ge=1, le=100)] = 1
    """How often it is made, compared with the others."""
    body: str = ""
    """What is sent with it."""
    content_type: Annotated[str, Field(pattern=r"^[ -~]+$")] = "application/json"
    """What the body is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpike:
    """Many users make requests at once, each again and again (locust)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    users: Annotated[int, Field(ge=1, le=MOST_USERS)]
    """Users at once. At most 1000: they share one processor, and more of them would wait for that, and not for the service."""
    spawn_rate: Annotated[int, Field(ge=1, le=FASTEST)] = FASTEST
    """Users that begin in a second. At most 100: above that locust is not reliable."""
    requests: Annotated[tuple[LoadRequest, ...], Field(max_length=100)] = ()
    """What users ask for, by turns; a GET of the target's URL when empty."""
    journey: File = ""
    """A file of journeys without a browser, which users run again and again instead of `requests`."""
    test: str = ""
    """Which test of the file; all of its journeys, among which the users are shared out, when empty."""
    pause: Seconds = 0.0
    """How long a user rests between two requests, or two runs."""
    timeout: Seconds = 30.0
    """How long a user waits for the connection, and for each part of the answer; with `journey`, how long the first run may take."""
    at_most: Seconds = 600.0
    """When it ends by itself, whoever is still there; 1h at most."""

    def __post_init__(self) -> None:
        for name in ("timeout", "at_most"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0s")
        if self.journey and self.requests:
            raise ValueError("users make `requests` or run a `journey`: leave one of them out")
        if self.test and not self.journey:
            raise ValueError("`test` says which one of the file `journey`: give that too")
        if self.at_most > LONGEST:
            raise ValueError(
                f"at_most ({self.at_most:g} s) must not be more than {LONGEST:g} s: nobody may be there to end it sooner"
            )
