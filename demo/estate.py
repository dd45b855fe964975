"""What belongs to the sample platform: its zone, its services, what each of them needs, the ports people remember."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ZONE = "storm.test"
"""RFC 6761 keeps `.test` out of the public DNS."""

DNS_PORT = 18453
DNS_DIRECT_PORT = 28453
"""Where the name server itself listens, behind its route of the fault proxy."""
CONTROL_PORT = 18474


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """One service. `needs` are the services that it calls; `port` is where its route of the fault proxy listens."""

    name: str
    port: int
    direct_port: int
    """Where the service itself listens, behind the proxy."""
    needs: tuple[str, ...] = ()
    embeds: tuple[str, ...] = ()
    """Whose scripts its pages embed: it tells browsers their addresses, calls none of them, and is ready without them."""
    patience: float = 3.0
    """Seconds that a call to a service that it needs may take."""
    third_party: bool = False
    """Whether it belongs to another company: nobody here watches it, drills it, or is called when it is down."""

    @property
    def host(self) -> str:
        """Its DNS name, and the name in its certificate."""
        return f"{self.name}.{ZONE}"


_SPECS = (
    ServiceSpec(
        name="shop",
        port=18443,
        direct_port=28443,
        needs=("accounts", "catalog", "payments", "hotel", "taxi"),
        embeds=("ratings",),
    ),
    ServiceSpec(name="accounts", port=18444, direct_port=28444),
    ServiceSpec(name="catalog", port=18445, direct_port=28445),
    ServiceSpec(name="payments", port=18446, direct_port=28446),
    # The inner call gives up first: when payments hang, the gateway hears that from the hotel, instead of blaming the hotel.
    ServiceSpec(name="hotel", port=18447, direct_port=28447, needs=("accounts", "payments"), patience=2.0),
    ServiceSpec(name="taxi", port=18448, direct_port=28448, needs=("accounts", "payments"), patience=2.0),
    ServiceSpec(name="ratings", port=18449, direct_port=28449, third_party=True),
)

SERVICES: Mapping[str, ServiceSpec] = {spec.name: spec for spec in _SPECS}


def read_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:8443` as host and port. Raises ValueError, one sentence."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"an address is written like 127.0.0.1:8443, not {text!r}")
    return host, int(port)


def check_environ(environ: Mapping[str, str], needed: Iterable[str]) -> None:
    """Raises ValueError, naming every variable that is missing or empty."""
    missing = [variable for variable in needed if not environ.get(variable)]
    if missing:
        raise ValueError(f"the environment lacks {', '.join(missing)}")
