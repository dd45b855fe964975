"""A host and a port, as people write them: `shop.example:443`, `192.0.2.1:53`, `[2001:db8::1]:853`."""

import ipaddress
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where something listens: a name or an address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, *, what: str = "target", default_port: int | None = None) -> "Endpoint":
        """Read `host:port`. Raises ValueError that says what is wrong with `what`; no port means `default_port`."""
        host, port = _split(text)
        if not port:
            if default_port is None:
                raise ValueError(f"{what} is written like host:port, not {text!r}: the port is missing")
            port = str(default_port)
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{what} {text!r}: {port!r} is not a port between 1 and 65535")
        return cls(host=check_host(host, what=f"{what} {text!r}"), port=int(port))


def check_host(host: str, *, what: str) -> str:
    """The host as it will be looked up: an address, or a name in ASCII. Raises ValueError for anything else."""
    if is_address(host):
        return host
    if ":" in host:
        raise ValueError(f"{what}: an IPv6 address with a port is written in brackets, like [2001:db8::1]:443")
    try:
        name = host.encode("ascii").decode() if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise ValueError(f"{what}: {host!r} is not a host name") from None
    labels = name.rstrip(".").split(".")
    if len(name) > 254 or not all(0 < len(label) < 64 and set(label) <= _NAME_SIGNS for label in labels):
        raise ValueError(f"{what}: {host!r} is not a host name")
    return name


_NAME_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def is_address(host: str) -> bool:
    """Whether the host is an IPv4 or IPv6 address and needs no look-up."""
    return _family(host) != 0


def family(address: str) -> int:
    """4 or 6 for an address, 0 for anything else: the value of `probe_ip_protocol`."""
    return _family(address)


@lru_cache(maxsize=4096)
def _family(host: str) -> int:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0


@lru_cache(maxsize=4096)
def address_hash(address: str) -> int:
    """32-bit FNV-1a over the bytes of an address, the value of `probe_ip_addr_hash`."""
    value = 0x811C9DC5
    for byte in ipaddress.ip_address(address).packed:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":")
    if text.count(":") > 1:  # a bare IPv6 address
        return text, ""
    host, _, port = text.partition(":")
    return host, port
