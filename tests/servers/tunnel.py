"""A network behind a tunnel (a TUN device) whose hosts and routers do exactly what a test says, right or wrong.

To be entered on an island (`tests.servers.island`): the packets stay there, and so do its addresses and routes.
"""

import asyncio
import contextlib
import fcntl
import ipaddress
import os
import socket
import struct
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from stormwatch.probes.icmp_message import checksum
from tests.program import program

HOST4, HOST6 = "10.77.0.2", "fd77::2"
"""Somebody behind the tunnel. All others of these networks are there too."""
OURS4, OURS6 = "10.77.0.1", "fd77::1"
ROUTER4, ROUTER6 = "10.77.0.254", "fd77::fe"

_TUNSETIFF, _TUN, _WITHOUT_HEAD = 0x400454CA, 0x0001, 0x1000
"""linux/if_tun.h."""


@dataclass(frozen=True)
class Ping:
    """An echo request as it came out of the tunnel."""

    packet: bytes
    number: int
    """Which one it is, from 0."""

    @property
    def is_v6(self) -> bool:
        """Whether it is of IPv6."""
        return self.packet[0] >> 4 == 6

    @property
    def source(self) -> bytes:
        """Whom to answer."""
        return self.packet[8:24] if self.is_v6 else self.packet[12:16]

    @property
    def destination(self) -> bytes:
        """Who is asked."""
        return self.packet[24:40] if self.is_v6 else self.packet[16:20]

    @property
    def ttl(self) -> int:
        """Hops that it may go."""
        return self.packet[7] if self.is_v6 else self.packet[8]

    @property
    def may_be_divided(self) -> bool:
        """Whether routers may fragment it."""
        return not self.is_v6 and not self.packet[6] & 0x40

    @property
    def message(self) -> bytes:
        """The ICMP message."""
        return self.packet[40:] if self.is_v6 else self.packet[(self.packet[0] & 15) * 4 :]

    def reply(self, *, data: bytes | None = None, ttl: int = 60, origin: str = "") -> bytes:
        """The answer of who was asked."""
        body = self.message[4:8] + (self.message[8:] if data is None else data)
        kind = bytes([129 if self.is_v6 else 0, 0])
        return self._packet(kind + b"\0\0" + body, ttl=ttl, origin=_packed(origin) if origin else self.destination)

    def error(self, kind: int, code: int, *, router: str, rest: int = 0) -> bytes:
        """What a router says about it."""
        about = self.packet[:1232] if self.is_v6 else self.packet[:28]
        return self._packet(struct.pack("!BBHI", kind, code, 0, rest) + about, ttl=64, origin=_packed(router))

    def _packet(self, message: bytes, *, ttl: int, origin: bytes) -> bytes:
        if self.is_v6:
            pseudo = origin + self.source + struct.pack("!II", len(message), socket.IPPROTO_ICMPV6)
            message = message[:2] + checksum(pseudo + message).to_bytes(2) + message[4:]
            return (
                struct.pack("!IHBB", 6 << 28, len(message), socket.IPPROTO_ICMPV6, ttl) + origin + self.source + message
            )
        message = message[:2] + checksum(message).to_bytes(2) + message[4:]
        head = (
            struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, ttl, socket.IPPROTO_ICMP, 0)
            + origin
            + self.source
        )
        return head[:10] + checksum(head).to_bytes(2) + head[12:] + message


Answer = Callable[[Ping], Iterable[bytes | tuple[float, bytes]]]
"""The packets that are sent back for one, those of a pair so many seconds later."""


def whole(ping: Ping) -> Iterable[bytes]:
    """Answer as one should."""
    return [ping.reply()]


@contextlib.asynccontextmanager
async def tunnel(answer: Answer, *, unprivileged: bool = False) -> AsyncGenerator[list[Ping]]:
    """Open one, and list what comes out of it. With `unprivileged` everybody may have ICMP sockets, else only root."""
    seen: list[Ping] = []
    loop = asyncio.get_running_loop()
    _set("ipv4/ping_group_range", "0 2147483647" if unprivileged else "1 0")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"storm", _TUN | _WITHOUT_HEAD))
        for change in (
            ["addr", "add", f"{OURS4}/24", "dev", "storm"],
            ["addr", "add", f"{OURS6}/64", "dev", "storm", "nodad"],
            ["link", "set", "storm", "up"],
        ):
            subprocess.run([program("ip"), *change], check=True)

        def come_out() -> None:
            packet = os.read(device, 65536)
            is_ping = (
                packet[40:41] == b"\x80" and packet[6] == socket.IPPROTO_ICMPV6
                if packet[0] >> 4 == 6
                else packet[9] == socket.IPPROTO_ICMP and packet[20:21] == b"\x08"
            )
            if not is_ping:
                return
            ping = Ping(packet, len(seen))
            seen.append(ping)
            for each in answer(ping):
                if isinstance(each, bytes):
                    os.write(device, each)
                else:
                    loop.call_later(each[0], os.write, device, each[1])

        loop.add_reader(device, come_out)
        try:
            yield seen
        finally:
            loop.remove_reader(device)
    finally:
        os.close(device)


def _set(name: str, value: str) -> None:
    Path("/proc/sys/net", name).write_text(value)


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed
