"""Where a probe may connect to: networks that are allowed and refused, asked about the address really connected to.

Names are no use here: what a name resolves to is its owner's choice, and may change between two look-ups. A check asks
after it has resolved, and then connects to just the addresses that were permitted, also after a redirect.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from stormwatch.probes.failure import ProbeBroken
from stormwatch.probes.result import Reason

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052: an IPv4 address in the last 32 bits."""


@dataclass(frozen=True)
class Reach:
    """What is allowed beats what is refused; what neither names is permitted."""

    allow: tuple[Network, ...] = ()
    refuse: tuple[Network, ...] = ()

    def permits(self, address: str) -> bool:
        """Whether a probe may connect to an address. One that carries an IPv4 address inside counts as that one too."""
        if not self.refuse:
            return True
        forms = _forms(address)
        return any(_within(each, self.allow) for each in forms) or not any(_within(each, self.refuse) for each in forms)

    def permitted(self, addresses: Sequence[str], host: str) -> tuple[str, ...]:
        """Those addresses of a host that may be connected to, in their order. Raises ProbeBroken when there is none."""
        kept = tuple(address for address in addresses if self.permits(address))
        if addresses and not kept:
            told = host if host in addresses else f"{host} ({', '.join(addresses)})"
            raise ProbeBroken(
                Reason.POLICY,
                f"probes may not connect to {told}: the policy refuses {self._refusing(addresses[0])}; "
                "allow that network if it is meant",
                phase="connect",
            )
        return kept

    def check(self, address: str) -> None:
        """Raise ProbeBroken for an address that may not be connected to."""
        self.permitted((address,), address)

    def _refusing(self, address: str) -> Network:
        return next(network for network in self.refuse for form in _forms(address) if _within(form, (network,)))

    @cached_property
    def as_json(self) -> dict[str, list[str]]:
        """Both lists, as they are written."""
        return {"allow": [str(each) for each in self.allow], "refuse": [str(each) for each in self.refuse]}


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read networks like `10.0.0.0/8`, and single addresses. Raises ValueError that names the one that is none."""
    read: list[Network] = []
    for text in texts:
        try:
            read.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise ValueError(f"{text!r} is not a network like 10.0.0.0/8 or fd00::/8") from None
    return tuple(read)


ANYWHERE: Final = Reach()
"""For targets that the configuration names: whoever may write it may also probe."""

OWN_HOST: Final = networks(
    (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, and where clouds serve metadata and credentials
        "100.100.100.200/32",  # metadata of Alibaba Cloud
        "168.63.129.16/32",  # wire server of Azure
        "192.0.0.192/32",  # metadata of Oracle Cloud
        "::/128",
        "::1/128",
        "fe80::/10",
        "fd00:ec2::254/128",  # metadata of AWS
        "fd20:ce::254/128",  # metadata of Google Cloud
    )
)
"""What targets that come with a request may not be: this machine, its link, and the services that hand out credentials."""


@lru_cache(maxsize=4096)
def _forms(text: str) -> tuple[Address, ...]:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    inside = address.ipv4_mapped or address.sixtofour
    if inside is None and address in _NAT64:
        inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inside is None and int(address) >> 32 == 0 and int(address) > 1:  # RFC 4291 §2.5.5.1, deprecated
        inside = ipaddress.IPv4Address(int(address))
    return (address,) if inside is None else (address, inside)


def _within(address: Address, among: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in among)
