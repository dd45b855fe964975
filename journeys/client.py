"""Who visits: the device, place, network and certificates that a journey's browser has, from what a user wrote.

A browser has one of them for its whole life: a worker has one browser, so there is a worker for each.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo

from stormwatch.journeys.devices import devices, no_device
from stormwatch.probes.options import STRICT, File, Secret
from stormwatch.probes.units import Bytes, Seconds

ColorScheme = Literal["light", "dark", "no-preference"]
NetworkName = Literal["slow-3g", "fast-3g", "fast-4g"]

LATER: Final = "devices are looked up later"
"""Context of a validation that leaves the registry alone: the browser's own Playwright, once it runs, has it for nothing."""

_LOCALE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
_HOST = re.compile(r"(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?")
_ADDRESS = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")


def _check_device(name: str, info: ValidationInfo) -> str:
    known = {} if info.context == LATER else devices()
    if known and name not in known:
        raise ValueError(no_device(name, known))
    return name


def _check_locale(tag: str) -> str:
    if not _LOCALE.fullmatch(tag):
        raise ValueError(f"a locale is a language tag like de-DE or en, not {tag!r}")
    return tag


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(_no_zone(name)) from None
    return name


def _no_zone(name: str) -> str:
    near = get_close_matches(name, sorted(available_timezones()), n=1)
    return f"no time zone is called {name!r}; " + (
        f"did you mean {near[0]}?" if near else "write it like Europe/Berlin"
    )


def _check_proxy(text: str) -> str:
    try:
        url = urlsplit(text)
        whole = url.scheme in ("http", "https", "socks5") and bool(url.hostname) and bool(url.port)
    except ValueError:
        whole = False
        url = urlsplit("")
    if not whole or url.path not in ("", "/"):
        raise ValueError(f"a proxy is written like http://proxy.example:3128, not {text!r}")
    if "@" in url.netloc:
        raise ValueError("a proxy's user and password do not stand in its address; use proxy_user and proxy_password")
    return text


def _check_origin(text: str) -> str:
    url = urlsplit(text)
    if url.scheme != "https" or not url.hostname or url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError(f"an origin is written like https://shop.example, not {text!r}")
    return text.rstrip("/")


def _check_host(name: str) -> str:
    if not _HOST.fullmatch(name):
        raise ValueError(f"a host is written like shop.example, *.shop.example or shop.example:443, not {name!r}")
    return name


def _check_address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError(f"a host's address is written like 10.0.0.5, 10.0.0.5:8443 or [fd00::5], not {text!r}")
    return text


Device = Annotated[str, AfterValidator(_check_device), Field(examples=["iPhone 13"])]
Locale = Annotated[str, AfterValidator(_check_locale), Field(examples=["de-DE"])]
Zone = Annotated[str, AfterValidator(_check_zone), Field(examples=["Europe/Berlin"])]
Slowness = Annotated[float, Field(gt=1, le=100)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geolocation:
    """Where the device says that it is. Pages may ask without anybody being asked for leave."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    latitude: Annotated[float, Field(ge=-90, le=90)]
    """Degrees north."""
    longitude: Annotated[float, Field(ge=-180, le=180)]
    """Degrees east."""
    accuracy: Annotated[float, Field(ge=0)] = 0.0
    """Metres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A line of a certain speed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    down: Annotated[Bytes, Field(ge=1)] | None = None
    """Bytes a second that arrive; not given: as many as there are."""
    up: Annotated[Bytes, Field(ge=1)] | None = None
    """Bytes a second that leave; not given: as many as there are."""
    latency: Seconds = 0.0
    """Added to each request."""


NETWORKS: Final[Mapping[str, Network]] = {
    "slow-3g": Network(down=50_000, up=50_000, latency=2.0),
    "fast-3g": Network(down=180_000, up=84_375, latency=0.5625),
    "fast-4g": Network(down=1_012_500, up=168_750, latency=0.165),
}
"""The lines of Chromium's developer tools, by the names that those give them: what they set, not what they are called after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """What the browser shows to one origin."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    origin: Annotated[str, AfterValidator(_check_origin)]
    """To whom: scheme, host and port."""
    certificate: File
    """The certificate in PEM form, with the intermediates behind it."""
    key: File
    """Its key in PEM form."""
    passphrase: Secret = ""
    """What the key is encrypted with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who visits. Whatever is not given is as the browser has it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    device: Device | None = None
    """A device of Playwright's registry: viewport, scale, touch and user agent. The engine stays that of `browser`."""
    locale: Locale | None = None
    """Language of the browser: `Accept-Language`, `navigator.language`, how numbers and dates are written."""
    timezone: Zone | None = None
    """Time zone of the browser."""
    geolocation: Geolocation | None = None
    """Where the device says that it is."""
    color_scheme: ColorScheme | None = None
    """What the media feature `prefers-color-scheme` says."""
    network: NetworkName | Network | None = None
    """A slow line, by the name that Chromium's developer tools give it, or by its speed. Chromium only."""
    cpu: Slowness | None = None
    """How many times slower scripts and drawing run. Chromium only."""
    proxy: Annotated[str, AfterValidator(_check_proxy)] | None = None
    """The proxy behind which the browser is: `http://`, `https://` or `socks5://`."""
    proxy_user: str = ""
    """Who the browser is for the proxy."""
    proxy_password: Secret = ""
    """What proves it."""
    certificates: tuple[ClientCertificate, ...] = ()
    """Client certificates. Origins without an entry are then not verified: see the reference."""
    ca_file: File = ""
    """Authorities in PEM form whose certificates the browser accepts besides its own. Chromium on Linux only."""
    hosts: Mapping[Annotated[str, AfterValidator(_check_host)], Annotated[str, AfterValidator(_check_address)]] = field(
        default_factory=dict[str, str]
    )
    """Where the browser goes for a host, whatever DNS says; names in TLS and `Host` stay. Chromium only."""

    @property
    def line(self) -> Network | None:
        """The speed of its network, if it is slowed down."""
        return NETWORKS[self.network] if isinstance(self.network, str) else self.network

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody may read."""
        return tuple(filter(None, (self.proxy_password, *(each.passphrase for each in self.certificates))))

    def as_text(self) -> str:
        """As JSON with its secrets, the same for equal ones; empty for one that changes nothing. `parse` reads it."""
        written = _ADAPTER.dump_python(self, mode="json", exclude_defaults=True)
        return json.dumps(written, sort_keys=True) if written else ""

    def check(self, browser: str) -> None:
        """Raises ValueError, beginning with the option, for what cannot be had in a browser, or not together."""
        if browser != "chromium":
            for name in ("network", "cpu", "ca_file", "hosts"):
                if getattr(self, name):
                    raise ValueError(f"{name}: can be had in chromium alone, not in {browser}; leave it out")
        if browser == "firefox" and self.device and devices().get(self.device):
            raise ValueError(f"device: {self.device} is mobile, which Firefox cannot be; take chromium or webkit")
        for name, needed in (("proxy_user", "proxy"), ("proxy_password", "proxy_user")):
            if getattr(self, name) and not getattr(self, needed):
                raise ValueError(f"{name}: is of no use without {needed}; give both, or none")
        if self.hosts and (self.proxy or self.certificates):
            other = "a proxy" if self.proxy else "client certificates (which Playwright shows from a proxy of its own)"
            raise ValueError(f"hosts: behind {other}, the browser looks up no names; use one of the two")
        if self.ca_file:
            _check_authorities(Path(self.ca_file))
        for number, each in enumerate(self.certificates):
            for name, path in (("certificate", each.certificate), ("key", each.key)):
                if not Path(path).is_file():
                    raise ValueError(f"certificates[{number}].{name}: there is no file {path}")


def _check_authorities(path: Path) -> None:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise ValueError(f"ca_file: cannot read {path}: {error.strerror}") from error
    except ValueError:
        raise ValueError(f"ca_file: {path} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None


_ADAPTER: Final = TypeAdapter(Client)


def parse(text: str, directory: Path, *, context: str = "") -> Client:
    """A client from YAML or JSON; relative names of files count from `directory`. Raises ValueError, one line.

    `context` may be LATER.
    """
    try:
        written = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    try:
        client = _ADAPTER.validate_json(json.dumps(_absolute(written, directory)), strict=True, context=context)
    except ValidationError as error:
        told = [_told(each["loc"], each["msg"]) for each in error.errors(include_url=False)]
        raise ValueError("; ".join(told)) from None
    client.check("chromium")
    return client


def _absolute(written: Any, directory: Path) -> Any:
    """Names of files as absolute ones. What is no client stays what it is: reading it says so."""
    if not isinstance(written, dict):
        return {} if written is None else written
    for holder, keys in (
        (written, ("ca_file",)),
        *((each, ("certificate", "key")) for each in written.get("certificates") or () if isinstance(each, dict)),
    ):
        for key in keys:
            if isinstance(holder.get(key), str):
                holder[key] = str(directory / holder[key])
    return written


def _told(location: tuple[int | str, ...], message: str) -> str:
    place = ".".join(str(part) for part in location)
    known = {each.name for each in fields(Client)}
    if len(location) == 1 and place not in known:
        near = get_close_matches(place, known, n=1)
        return f"there is no {place}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}")
    return f"{place}: {message.removeprefix('Value error, ')}" if place else message
