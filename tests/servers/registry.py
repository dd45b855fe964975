"""An RDAP service on loopback, with answers shaped as registries' are (RFC 9083), and with all that goes wrong at them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.servers import web

CONTENT_TYPE = {"Content-Type": "application/rdap+json"}


def domain(name: str = "shop.example", **changes: Any) -> dict[str, Any]:
    """What a large registry says of a name, shortened in the parts that repeat."""
    return {
        "objectClassName": "domain",
        "handle": "2336799_DOMAIN_COM-VRSN",
        "ldhName": name.upper(),
        "links": [{"value": f"https://rdap.test/domain/{name}", "rel": "self", "type": "application/rdap+json"}],
        "status": ["client delete prohibited", "client transfer prohibited", "server hold date unknown"],
        "entities": [
            {
                "objectClassName": "entity",
                "handle": "376",
                "roles": ["registrar"],
                "publicIds": [{"type": "IANA Registrar ID", "identifier": "376"}],
                "vcardArray": [
                    "vcard",
                    [["version", {}, "text", "4.0"], ["fn", {}, "text", "Example Registrar, Inc."]],
                ],
                "entities": [{"objectClassName": "entity", "roles": ["abuse"], "vcardArray": ["vcard", []]}],
            }
        ],
        "events": [
            {"eventAction": "registration", "eventDate": "1995-08-14T04:00:00Z"},
            {"eventAction": "expiration", "eventDate": "2096-08-13T04:00:00Z"},
            {"eventAction": "last changed", "eventDate": "2025-08-14T07:01:39.123+02:00"},
            {"eventAction": "last update of RDAP database", "eventDate": "2026-03-02T12:00:00Z"},
        ],
        "secureDNS": {"delegationSigned": True, "dsData": [{"keyTag": 370, "algorithm": 13, "digestType": 2}]},
        "nameservers": [
            {"objectClassName": "nameserver", "ldhName": "B.NS.EXAMPLE"},
            {"objectClassName": "nameserver", "ldhName": "A.NS.EXAMPLE."},
        ],
        "rdapConformance": ["rdap_level_0", "icann_rdap_response_profile_1"],
        "notices": [{"title": "Terms of Use", "description": ["…"]}],
        **changes,
    }


def bootstrap(services: Mapping[str, str]) -> dict[str, Any]:
    """IANA's registry (RFC 9224 §3) with these suffixes and services."""
    return {
        "description": "RDAP bootstrap file for Domain Name System registrations",
        "publication": "2026-03-01T00:00:00Z",
        "services": [[[suffix], [url]] for suffix, url in services.items()],
        "version": "1.0",
    }


@dataclass
class Registry:
    """Says what `answers` has for a path: JSON, bytes, a status, or a behaviour of its own."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, exchange: web.Exchange) -> None:
        """Answer one question."""
        self.asked.append(exchange.path)
        found = self.answers.get(exchange.path, 404)
        if callable(found):
            await found(exchange)
        elif isinstance(found, int):
            body = json.dumps({"errorCode": found, "title": "no"}).encode()
            await web.send(exchange, body, status=found, headers=CONTENT_TYPE)
        else:
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            await web.send(exchange, body, headers=CONTENT_TYPE)
