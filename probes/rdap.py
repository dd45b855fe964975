"""What registries say of domain names, by RDAP: answers (RFC 9083) and who is to be asked (RFC 9224). Pure: bytes in, values out."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

MOST: Final = 1000
"""Items of any list of an answer that are looked at."""

STATUSES: Final[Mapping[str, str]] = {
    # RFC 8056 §2: as registries' databases (EPP) name them, and so do people
    "active": "ok",
    "pending create": "pendingCreate",
    "pending delete": "pendingDelete",
    "pending renew": "pendingRenew",
    "pending restore": "pendingRestore",
    "pending transfer": "pendingTransfer",
    "pending update": "pendingUpdate",
    "add period": "addPeriod",
    "auto renew period": "autoRenewPeriod",
    "renew period": "renewPeriod",
    "transfer period": "transferPeriod",
    "redemption period": "redemptionPeriod",
    "inactive": "inactive",
    "linked": "linked",
    **{
        f"{who} {what}": who + "".join(word.capitalize() for word in what.split())
        for who in ("client", "server")
        for what in ("delete prohibited", "hold", "renew prohibited", "transfer prohibited", "update prohibited")
    },
}
OTHER: Final = "other"
"""The label of a status that is none of those."""

_WORDS = re.compile(r"[a-z]+|[A-Z][a-z]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a registry says of one domain name."""

    name: str
    expires: float | None = None
    """Unix time."""
    registered: float | None = None
    changed: float | None = None
    statuses: tuple[str, ...] = ()
    """As EPP names them, `clientTransferProhibited`; others as the registry writes them."""
    nameservers: tuple[str, ...] = ()
    registrar: str = ""
    signed: bool | None = None
    """Whether the delegation is signed (DNSSEC), if the registry says."""


def read_domain(data: bytes, name: str) -> Registration:
    """Read an answer about a name in lower-case ASCII. Raises ValueError, one sentence, for anything else."""
    document = _object(data)
    if document.get("objectClassName") != "domain":
        raise ValueError(f"the answer is about a {_shown(document.get('objectClassName'))}, not a domain")
    answered = document.get("ldhName")
    if not isinstance(answered, str) or _host(answered) != name:
        raise ValueError(f"the answer is about {_shown(answered)}, not {name}")
    events: dict[str, float] = {}
    for event in _objects(document.get("events")):
        action, moment = event.get("eventAction"), _moment(event.get("eventDate"))
        if isinstance(action, str) and moment is not None:
            events.setdefault(action.lower(), moment)
    secure = document.get("secureDNS")
    signed = secure.get("delegationSigned") if isinstance(secure, dict) else None
    return Registration(
        name=name,
        expires=events.get("expiration"),
        registered=events.get("registration"),
        changed=events.get("last changed"),
        statuses=tuple(sorted({epp_status(each) for each in _texts(document.get("status"))})),
        nameservers=tuple(
            sorted(
                {
                    _host(each["ldhName"])
                    for each in _objects(document.get("nameservers"))
                    if isinstance(each.get("ldhName"), str)
                }
            )
        ),
        registrar=next(_registrars(document), ""),
        signed=signed if isinstance(signed, bool) else None,
    )


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Which RDAP service is to be asked about which names."""

    services: Mapping[str, str]
    """The base URL, with its slash at the end, by suffix."""

    def service_for(self, name: str) -> str | None:
        """The service of the longest suffix, label by label (RFC 9224 §4)."""
        labels = name.split(".")
        for number in range(len(labels)):
            if (found := self.services.get(".".join(labels[number:]))) is not None:
                return found
        return None


def read_bootstrap(data: bytes) -> Bootstrap:
    """Read a file of IANA's registry of services. Raises ValueError, one sentence, for anything else."""
    services: dict[str, str] = {}
    listed = _object(data).get("services")
    if not isinstance(listed, list):
        raise ValueError("it has no list of services")  # noqa: TRY004
    for entry in listed:
        if not isinstance(entry, list) or len(entry) < 2:
            continue
        urls = [each for each in _texts(entry[1]) if each.startswith(("https://", "http://"))]
        urls.sort(key=lambda url: not url.startswith("https://"))  # RFC 9224 §3: HTTPS where there is a choice
        for suffix in _texts(entry[0]) if urls else ():
            services[_host(suffix)] = urls[0] if urls[0].endswith("/") else f"{urls[0]}/"
    if not services:
        raise ValueError("it names no service")
    return Bootstrap(services)


def epp_status(text: str) -> str:
    """A status as EPP names it, from either way of writing: `client hold`, `clientHold`."""
    words = " ".join(_WORDS.findall(text)).lower() if " " not in text else text.lower()
    return STATUSES.get(words, STATUSES.get(text.lower(), text[:64]))


def _registrars(document: Mapping[str, Any]) -> Iterator[str]:
    """Names of entities with that role: `fn` of their vCard (RFC 7095), else their handle."""
    for entity in _objects(document.get("entities")):
        if "registrar" not in _texts(entity.get("roles")):
            continue
        card = entity.get("vcardArray")
        for field in card[1] if isinstance(card, list) and len(card) > 1 and isinstance(card[1], list) else ():
            if isinstance(field, list) and len(field) > 3 and field[0] == "fn" and isinstance(field[3], str):
                yield _passable(field[3])
        if isinstance(entity.get("handle"), str):
            yield _passable(entity["handle"])


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - it is what a server sent
    return document


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value[:MOST] if isinstance(each, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    """Those of a list; all that RDAP has in lists of texts is ASCII."""
    return (
        [each for each in value[:MOST] if isinstance(each, str) and each.isascii()] if isinstance(value, list) else []
    )


def _passable(text: str) -> str:
    """Short, and without halves of surrogate pairs, which JSON can have and nobody else takes."""
    return text[:200].encode("utf-8", "replace").decode()


def _host(text: str) -> str:
    return text.encode("ascii", "replace").decode().lower().rstrip(".")[:255]


def _moment(text: Any) -> float | None:
    """RFC 3339; a time without a zone is taken for UTC."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text.strip().upper())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _shown(value: Any) -> str:
    return ascii(value)[:100]
