"""The network of an interface: packets dropped by a table of nftables, or sent late or slowly by a queueing discipline of tc.

Both are named by the fault's id, so that the undoing takes away what it made, and nothing else.
"""

import json
import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.breakage import CannotBreak
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.host_program import Ran, end_all, find_program, marked, run_program

if TYPE_CHECKING:
    from stormwatch.chaos.host_options import NetDelay, NetLoss, NetPartition, NetRate

_KERNELS_OWN = "0:"
"""The handle of a queueing discipline that nobody configured: the kernel's default for the interface."""


@dataclass(frozen=True, slots=True)
class Link:
    """An interface in a network namespace; without one, of the machine."""

    namespace: str
    interface: str

    def within(self, *argv: str) -> list[str]:
        """The command, run in the namespace."""
        return ["ip", "netns", "exec", self.namespace, *argv] if self.namespace else list(argv)

    def namespace_is_gone(self) -> bool:
        """Whether the namespace does not exist (any more): its rules went with it."""
        return bool(self.namespace) and not Path("/run/netns", self.namespace).exists()

    def named(self) -> str:
        """For people."""
        return f"{self.interface} in {self.namespace}" if self.namespace else self.interface

    def as_json(self) -> dict[str, Any]:
        """For the undo record."""
        return {"namespace": self.namespace, "interface": self.interface}

    async def check(self) -> None:
        """Raise CannotBreak when it is not there, or not ours to change."""
        find_program("ip", package="iproute2")
        if self.namespace_is_gone():
            raise CannotBreak(f"there is no network namespace {self.namespace}; `ip netns list` shows them")
        ran = await run_program(self.within("ip", "link", "show", "dev", self.interface), fault="")
        if ran.code != 0:
            raise CannotBreak(f"there is no interface {self.named()}: `ip link` {ran.how}")


@dataclass(slots=True)
class Dropping:
    """A table of nftables with a chain at each hook that packets of the interface pass."""

    fault: str
    link: Link
    direction: str
    hosts: tuple[str, ...] = ()
    ten_thousandths: int = 10_000
    """How many packets of ten thousand."""
    method: str = "nft"
    first: float | None = None

    @property
    def table(self) -> str:
        """Its name: letters, digits and underscores."""
        return f"stormwatch_{re.sub(r'[^A-Za-z0-9]', '_', self.fault)}"

    async def prepare(self) -> Mapping[str, Any]:
        find_program("nft", package="nftables")
        await self.link.check()
        # With --check the kernel is asked whether it can, and does nothing.
        ran = await self._nft("--check", "--file", "-", stdin=self.rules())
        if ran.code != 0:
            raise CannotBreak(
                f"nftables cannot drop packets of {self.link.named()}: nft {ran.how}; run the drill as root"
            )
        return {**self.link.as_json(), "fault": self.fault, "table": self.table}

    async def inject(self) -> None:
        ran = await self._nft("--file", "-", stdin=self.rules())
        if ran.code != 0:
            raise CannotBreak(f"nft {ran.how}")

    async def evidence(self) -> Evidence:
        ran = await self._nft("--json", "list", "table", "inet", self.table, whole=True)
        if ran.code != 0:
            raise CannotBreak(f"the table {self.table} is not there any more: nft {ran.how}")
        packets, size = _counted(ran.said)
        now = time.time()
        if packets and self.first is None:
            self.first = now
        what = f"{packets} packets with {size} bytes were dropped at {self.link.named()}"
        return Evidence(bytes=size, first=self.first, last=now if packets else None, what=what)

    def rules(self) -> str:
        """The table, as nft reads it."""
        drawn = "" if self.ten_thousandths >= 10_000 else f"numgen random mod 10000 < {self.ten_thousandths} "
        chains = [
            self._chain(hook, way, key, drawn)
            for hook, way, key in (
                ("input", "in", "saddr"),
                ("output", "out", "daddr"),
                ("forward", "in", "saddr"),
                ("forward", "out", "daddr"),
            )
            if self.direction in (way, "both")
        ]
        return f"table inet {self.table} {{\n{''.join(chains)}}}\n"

    def _chain(self, hook: str, way: str, key: str, drawn: str) -> str:
        met = f'{"iifname" if way == "in" else "oifname"} "{self.link.interface}"'
        whom = [f"{family} {key} {{ {', '.join(hosts)} }} " for family, hosts in self._by_family() if hosts] or [""]
        rules = "".join(f"    {met} {of}{drawn}counter drop\n" for of in whom)
        # Before connection tracking and everybody's filters (-300 is raw), so that no rule of the machine sees them.
        return f"  chain {hook}_{way} {{\n    type filter hook {hook} priority -310; policy accept;\n{rules}  }}\n"

    def _by_family(self) -> tuple[tuple[str, list[str]], tuple[str, list[str]]]:
        networks = [ip_network(host) for host in self.hosts]
        four, six = ([str(one) for one in networks if one.version == version] for version in (4, 6))
        return ("ip", four), ("ip6", six)

    async def _nft(self, *argv: str, stdin: str = "", whole: bool = False) -> Ran:
        return await run_program(self.link.within("nft", *argv), fault=self.fault, stdin=stdin, whole=whole)


@dataclass(slots=True)
class Queueing:
    """A queueing discipline at the root of the interface: netem, or tbf."""

    fault: str
    link: Link
    discipline: tuple[str, ...]
    """As tc takes it: `("tbf", "rate", …)`."""
    method: str = "qdisc"
    first: float | None = None

    @property
    def handle(self) -> str:
        """Ours, and not one that the kernel gives: those begin at 8000."""
        return f"{zlib.crc32(self.fault.encode()) % 0x7FFE + 1:x}:"

    async def prepare(self) -> Mapping[str, Any]:
        find_program("tc", package="iproute2")
        await self.link.check()
        kind = self.discipline[0]
        # In a network of its own that is gone when tc ends: asks the kernel what it has, and changes nothing.
        alone = ("unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", *self.discipline)
        ran = await run_program(alone, fault="")
        if ran.code != 0:
            raise CannotBreak(
                f"this kernel offers no {kind} (tc {ran.how}); load its module sch_{kind}, run the drill as root, or break "
                "a route of the fault proxy with tcp-latency or tcp-bandwidth instead"
            )
        root = await root_of(self.link, self.fault)
        if root is not None and root.get("handle") != _KERNELS_OWN:
            raise CannotBreak(
                f"{self.link.named()} has the queueing discipline {root.get('kind')} {root.get('handle')} of somebody else, "
                "which would be lost; choose an interface without one"
            )
        return {**self.link.as_json(), "fault": self.fault, "handle": self.handle, "kind": kind}

    async def inject(self) -> None:
        argv = self.link.within("tc", "qdisc", "add", "dev", self.link.interface, "root", "handle", self.handle)
        ran = await run_program([*argv, *self.discipline], fault=self.fault)
        if ran.code != 0:
            raise CannotBreak(f"tc {ran.how}")

    async def evidence(self) -> Evidence:
        root = await root_of(self.link, self.fault)
        if root is None or root.get("handle") != self.handle:
            raise CannotBreak(f"the queueing discipline {self.handle} is not on {self.link.named()} any more")
        packets, size = int(root.get("packets", 0)), int(root.get("bytes", 0))
        now = time.time()
        if packets and self.first is None:
            self.first = now
        what = f"{packets} packets with {size} bytes went through {self.discipline[0]} at {self.link.named()}, {root.get('drops', 0)} were dropped"
        return Evidence(bytes=size, first=self.first, last=now if packets else None, what=what)


async def root_of(link: Link, fault: str) -> Mapping[str, Any] | None:
    """The queueing discipline at the root of an interface, as tc shows it. Raises CannotBreak."""
    ran = await run_program(
        link.within("tc", "-s", "-j", "qdisc", "show", "dev", link.interface), fault=fault, whole=True
    )
    try:
        listed: list[dict[str, Any]] = json.loads(ran.said)
    except ValueError as error:
        raise CannotBreak(f"tc {ran.how}") from error
    return next((one for one in listed if one.get("root")), None)


def partition(fault: str, options: "NetPartition", link: Link) -> Dropping:
    """All packets."""
    return Dropping(fault, link, options.direction, options.hosts)


def loss(fault: str, options: "NetLoss", link: Link) -> Dropping:
    """A share of them."""
    return Dropping(fault, link, options.direction, options.hosts, int(options.share * 10_000))


def delay(fault: str, options: "NetDelay", link: Link) -> Queueing:
    """By netem."""
    jitter = (f"{round(options.jitter * 1e6)}us",) if options.jitter else ()
    return Queueing(fault, link, ("netem", "delay", f"{round(options.delay * 1e6)}us", *jitter, "limit", "100000"))


def rate(fault: str, options: "NetRate", link: Link) -> Queueing:
    """By tbf, with a bucket for a hundredth of a second, and for the largest packet that an interface has."""
    burst = max(65_536 + 18, options.rate // 100)
    waits = ("burst", f"{burst}", "latency", f"{round(options.queue * 1e6)}us")
    return Queueing(fault, link, ("tbf", "rate", f"{options.rate}bps", *waits))


async def undo_nft(arguments: Mapping[str, Any]) -> Absence:
    """Delete the table. Idempotent. Raises UndoFailed."""
    link, table = Link(arguments["namespace"], arguments["interface"]), str(arguments["table"])
    await _end_what_injects(str(arguments["fault"]))
    if link.namespace_is_gone():
        return _gone_with(link)
    try:
        was_there = await _lists(link, table)
        if was_there:
            ran = await run_program(link.within("nft", "delete", "table", "inet", table), fault="")
            if await _lists(link, table):
                raise UndoFailed(f"the table {table} of nftables cannot be deleted: nft {ran.how}; undo as root")
    except (CannotBreak, OSError) as error:
        if link.namespace_is_gone():
            return _gone_with(link)
        raise UndoFailed(f"{error}; `nft delete table inet {table}` at {link.named()} takes it away") from error
    return Absence(was_there, f"nftables at {link.named()} has no table {table}")


async def undo_qdisc(arguments: Mapping[str, Any]) -> Absence:
    """Delete the queueing discipline. Idempotent. Raises UndoFailed."""
    link, handle = Link(arguments["namespace"], arguments["interface"]), str(arguments["handle"])
    await _end_what_injects(str(arguments["fault"]))
    if link.namespace_is_gone():
        return _gone_with(link)
    try:
        ran = await run_program(link.within("ip", "link", "show", "dev", link.interface), fault="")
        if ran.code == 1 and "does not exist" in ran.said:
            return Absence(False, f"there is no interface {link.named()}")
        root = await root_of(link, "")
        was_there = root is not None and root.get("handle") == handle
        if was_there:
            ran = await run_program(
                link.within("tc", "qdisc", "del", "dev", link.interface, "root", "handle", handle), fault=""
            )
            root = await root_of(link, "")
            if root is not None and root.get("handle") == handle:
                raise UndoFailed(
                    f"the queueing discipline {handle} stays on {link.named()}: tc {ran.how}; undo as root"
                )
    except (CannotBreak, OSError) as error:
        if link.namespace_is_gone():
            return _gone_with(link)
        raise UndoFailed(f"{error}; `tc qdisc del dev {link.interface} root` takes it away") from error
    return Absence(was_there, f"{link.named()} has no queueing discipline {handle}")


async def _end_what_injects(fault: str) -> None:
    try:
        await end_all(lambda: marked(fault))
    except (TimeoutError, PermissionError) as error:
        raise UndoFailed(f"what injects it is still under way: {error}; undo as root") from error


async def _lists(link: Link, table: str) -> bool:
    ran = await run_program(link.within("nft", "--json", "list", "tables"), fault="", whole=True)
    if ran.code != 0:
        raise CannotBreak(f"nft {ran.how}")
    return any(one.get("table", {}).get("name") == table for one in json.loads(ran.said)["nftables"])


def _gone_with(link: Link) -> Absence:
    return Absence(False, f"the network namespace {link.namespace} is gone, and what was put there with it")


def _counted(listed: str) -> tuple[int, int]:
    """Packets and bytes of all counters of a table, as nft lists it."""
    rules = [one["rule"]["expr"] for one in json.loads(listed)["nftables"] if "rule" in one]
    counters = [part["counter"] for expression in rules for part in expression if "counter" in part]
    return sum(one["packets"] for one in counters), sum(one["bytes"] for one in counters)
