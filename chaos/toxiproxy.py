"""What Toxiproxy's API does, over the routes of the fault proxy, so that every client of Toxiproxy drives it.

A toxic is a fault that nobody holds: it lasts until it is removed, as in Toxiproxy. With a `ttl` in seconds it ends by itself,
and a PATCH with a `ttl` renews that. Its `seed` works, and it shows its `evidence`. The faults of drills are no toxics:
nothing here removes them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stormwatch.chaos.behaviour import Ending
from stormwatch.chaos.injection import Injection
from stormwatch.chaos.option import Options
from stormwatch.chaos.proxy import Gate, Proxy
from stormwatch.chaos.route import Route
from stormwatch.chaos.toxic import BadToxic, Toxic, ToxicFault, changed, read_toxic

VERSION = "2.12.0"
"""Whose API this is; clients look at it."""
_PREFIX = "toxic."
"""What the ids of toxics begin with, among those of other faults."""
_DOWN = "toxiproxy-disabled"


@dataclass(frozen=True, slots=True)
class Disabled:
    """The options of a proxy that is not enabled: nobody listens, and every connection is closed."""

    def refuses(self) -> bool:
        """The port is closed."""
        return True

    def ending(self) -> Ending:
        """Of those that stand."""
        return Ending(reset=False)


class Toxiproxy:
    """Proxies and toxics over a fault proxy, whose gates hold all the state but how the toxics were written."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._toxics: dict[Injection, Toxic | ToxicFault] = {}
        """How each toxic was written. Those that have ended are forgotten when somebody asks."""

    def gates(self) -> dict[str, Gate]:
        """The proxies: all routes but those for DNS."""
        return {name: gate for name, gate in self._proxy.gates.items() if isinstance(gate, Gate)}

    def gate(self, name: str) -> Gate:
        """One of them. Raises BadToxic."""
        if name not in self.gates():
            raise BadToxic("proxy not found", 404)
        return self.gates()[name]

    async def create(self, document: Any, *, populating: bool = False) -> Gate:
        """Open a proxy; with `populating` in the place of one with other addresses. Raises BadToxic, OSError."""
        check_required(document)
        name, listen, upstream = (_text(document, key) for key in ("name", "listen", "upstream"))
        enabled = _flag(document, default=True)
        route = _route(name, listen, upstream)
        there = self.gates().get(name)
        if populating and there and (_same_port(listen, there) and there.route.upstream == upstream):
            return there
        if name in self._proxy.gates and not (populating and there):
            raise BadToxic("proxy already exists", 409)
        if there:
            await self._proxy.close_gate(name)
        self._proxy.open_gate(route)
        gate = self.gate(name)
        if not enabled:
            self._disable(gate)
        return gate

    async def update(self, name: str, document: Any) -> Gate:
        """Other addresses, which ends the connections; enabled or not. Raises BadToxic, OSError."""
        gate = self.gate(name)
        if not isinstance(document, dict):
            raise BadToxic("bad request body: it is not a JSON object")
        listen, upstream = _text(document, "listen"), _text(document, "upstream")
        enabled = _flag(document, default=not _is_down(gate))
        if (listen and not _same_port(listen, gate)) or (upstream and upstream != gate.route.upstream):
            kept = [(injection, self._toxics.get(injection)) for injection in gate.faults.values()]
            route = _route(name, listen or gate.address, upstream or gate.route.upstream)
            route = replace(gate.route, listen=route.listen, upstream=route.upstream)
            old = replace(gate.route, listen=gate.address)
            await self._proxy.close_gate(name)
            try:
                self._proxy.open_gate(route)
            except OSError:
                self._proxy.open_gate(old)
                raise
            finally:
                gate = self.gate(name)
                for injection, toxic in kept:
                    if toxic:
                        self._place(gate, toxic, expires=injection.expires)
        if not enabled:
            self._disable(gate)
        elif _is_down(gate):
            self._proxy.take(name, _DOWN)
        return gate

    async def delete(self, name: str) -> None:
        """Close a proxy."""
        self.gate(name)
        await self._proxy.close_gate(name)

    def reset(self) -> None:
        """Every proxy enabled, no toxics."""
        for name, gate in self.gates().items():
            for fault in [one for one in gate.faults if one == _DOWN or one.startswith(_PREFIX)]:
                self._proxy.take(name, fault)

    def add_toxic(self, name: str, document: Any) -> Injection:
        """Put a toxic. Raises BadToxic."""
        gate = self.gate(name)
        toxic = read_toxic(document)
        if _PREFIX + toxic.name in gate.faults:
            raise BadToxic("toxic already exists", 409)
        return self._place(gate, toxic, expires=self._expires(document, math.inf))

    def change_toxic(self, name: str, toxic: str, document: Any) -> Injection:
        """Give a toxic other attributes, another toxicity or a new `ttl`. Raises BadToxic."""
        gate, there = self.gate(name), self.toxic(name, toxic)
        new = changed(self._toxics[there], document)
        expires = self._expires(document, there.expires)
        if new == self._toxics[there]:
            # A lease that is renewed is no new fault: its evidence goes on, and so does the draw of connections.
            there.expires = expires
            self._proxy.leases_changed()
            return there
        if isinstance(there.options, Toxic):
            there.options = replace(there.options, replaced=True)
        self._proxy.take(name, there.id, "replaced")
        return self._place(gate, new, expires=expires)

    def toxic(self, name: str, toxic: str) -> Injection:
        """A toxic that is in place. Raises BadToxic."""
        there = self.gate(name).faults.get(_PREFIX + toxic)
        if there is None:
            raise BadToxic("toxic not found", 404)
        return there

    def remove_toxic(self, name: str, toxic: str) -> None:
        """Take a toxic away. Raises BadToxic."""
        self._proxy.take(name, self.toxic(name, toxic).id)

    def toxics(self, gate: Gate) -> list[dict[str, Any]]:
        """Those of a proxy, upstream first, each in the order in which they were added."""
        shown = [self.toxic_as_json(one) for one in gate.faults.values() if one.id.startswith(_PREFIX)]
        return sorted(shown, key=lambda one: one["stream"] != "upstream")

    def toxic_as_json(self, injection: Injection) -> dict[str, Any]:
        """As Toxiproxy shows it, and what it does not know."""
        left = injection.expires - self._proxy.clock.monotonic()
        more: dict[str, Any] = {} if math.isinf(left) else {"expires_in": max(0.0, left)}
        seed = getattr(injection.options, "seed", 0)
        return {**self._toxics[injection].as_json(), "seed": seed, **more, "evidence": injection.evidence().as_json()}

    def proxy_as_json(self, gate: Gate) -> dict[str, Any]:
        """As Toxiproxy shows it."""
        return {
            "name": gate.route.name,
            "listen": gate.address,
            "upstream": gate.route.upstream,
            "enabled": not _is_down(gate),
            "toxics": self.toxics(gate),
        }

    def metrics(self) -> str:
        """Bytes by proxy and direction, in Prometheus' text format."""
        lines: list[str] = []
        for what, sentence in (("received", "Bytes that were received"), ("sent", "Bytes that were sent")):
            name = f"toxiproxy_proxy_{what}_bytes_total"
            lines += [f"# HELP {name} {sentence} by a proxy.", f"# TYPE {name} counter"]
            for gate in self.gates().values():
                labels = {"listener": gate.address, "proxy": gate.route.name, "upstream": gate.route.upstream}
                for way, counted in gate.traffic.items():
                    shown = ",".join(
                        f'{key}="{_escaped(value)}"' for key, value in {"direction": way.value, **labels}.items()
                    )
                    lines.append(f"{name}{{{shown}}} {getattr(counted, what)}")
        return "\n".join(lines) + "\n"

    def _place(self, gate: Gate, toxic: Toxic | ToxicFault, *, expires: float) -> Injection:
        self._toxics = {one: written for one, written in self._toxics.items() if one in self._in_place()}
        options: Options = toxic if isinstance(toxic, Toxic) else toxic.options
        clock = self._proxy.clock
        injection = Injection(
            _PREFIX + toxic.name, gate.route.name, toxic.type, options, clock.now(), expires, "toxiproxy"
        )
        # The API has no word for a fault that its route cannot have: it is a mistake in the body.
        if why := self._proxy.unfit(toxic.type, gate.route):
            raise BadToxic(f"bad request body: {why}")
        self._toxics[injection] = toxic
        self._proxy.add(injection)
        return injection

    def _in_place(self) -> set[Injection]:
        return {one for gate in self._proxy.gates.values() for one in gate.faults.values()}

    def _disable(self, gate: Gate) -> None:
        if not _is_down(gate):
            now = self._proxy.clock.now()
            self._proxy.add(Injection(_DOWN, gate.route.name, "disabled", Disabled(), now, math.inf, "toxiproxy"))

    def _expires(self, document: Any, otherwise: float) -> float:
        ttl = document.get("ttl") if isinstance(document, dict) else None
        if ttl is None:
            return otherwise
        if isinstance(ttl, bool) or not isinstance(ttl, int | float) or ttl <= 0:
            raise BadToxic("bad request body: ttl is a number of seconds, more than 0")
        return self._proxy.clock.monotonic() + ttl


def check_required(document: Any, where: str = "") -> None:
    """Raise BadToxic when a document has not what a proxy needs."""
    if not isinstance(document, dict):
        raise BadToxic("bad request body: a proxy is a JSON object")
    for key in ("name", "upstream"):
        if not _text(document, key):
            raise BadToxic(f"missing required field: {key}{where}")


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key) or ""
    if not isinstance(value, str):
        raise BadToxic(f"bad request body: {key} is text")
    return value


def _flag(document: Mapping[str, Any], *, default: bool) -> bool:
    value = document.get("enabled")
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadToxic("bad request body: enabled is true or false")
    return value


def _route(name: str, listen: str, upstream: str) -> Route:
    """A route with Toxiproxy's forms of an address. Raises BadToxic."""
    listen = listen or "127.0.0.1:0"
    if listen.startswith(":"):
        listen = f"0.0.0.0{listen}"  # noqa: S104 - as Toxiproxy, and Go, read it
    try:
        return Route(name=name, listen=listen, upstream=upstream, http=True)
    except ValueError as error:
        raise BadToxic(f"bad request body: {error}") from error


def _same_port(listen: str, gate: Gate) -> bool:
    """Whether an address is the one that the gate has, as it was asked for or as it is."""
    return listen in (gate.address, gate.route.listen) and not (listen.endswith(":0") and listen != gate.route.listen)


def _is_down(gate: Gate) -> bool:
    return _DOWN in gate.faults


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
