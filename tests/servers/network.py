"""A network of one's own behind a TUN device: every packet that the kernel sends there is answered by the test, or not.

It lives in a network namespace of the thread that runs the test's code, so that nothing leaves the machine and the machine
stays as it is. Addresses are 10.77.0.0/24 and fd00:77::/64; what each of them does is in `HOSTS`.
"""

import asyncio
import fcntl
import ipaddress
import os
import struct
import subprocess
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from stormwatch.probes.icmp_packet import internet_checksum
from tests.program import program
from tests.servers.island import leave_the_network
from tests.servers.process import wait_for

OWN = {4: "10.77.0.1", 6: "fd00:77::1"}
ROUTER = {4: "10.77.0.254", 6: "fd00:77::fe"}
DELAY = 0.3
"""Seconds that the slow host takes."""

_TUNSETIFF = 0x400454CA
_TUN_WITHOUT_HEADER = 0x1001

T = TypeVar("T")
Sent = list[tuple[float, bytes]]
"""Packets with the seconds after which they are sent."""


class Network:
    """What comes out of the device, and what is put in."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._held: list[bytes] = []
        self._count: dict[int, int] = {}
        self.seen: list[bytes] = []
        """Every packet that came out, its IP header included."""

    def read(self) -> None:
        """Answer one packet."""
        packet = os.read(self._device, 70_000)
        version = packet[0] >> 4
        protocol = packet[9] if version == 4 else packet[6]
        if protocol != (1 if version == 4 else 58):
            return
        message = packet[(packet[0] & 15) * 4 :] if version == 4 else packet[40:]
        if message[0] != (8 if version == 4 else 128):
            return
        self.seen.append(packet)
        loop = asyncio.get_running_loop()
        for delay, answer in self.answers(version, packet, message):
            if delay:
                loop.call_later(delay, os.write, self._device, answer)
            else:
                os.write(self._device, answer)

    def answers(self, version: int, packet: bytes, message: bytes) -> Sent:
        """By the last byte of the address."""
        host = packet[19] if version == 4 else packet[39]
        number = self._count[host] = self._count.get(host, -1) + 1
        reply = echo(version, packet, message)
        if host == LOSSY:
            return [(0, reply)] if number % 2 == 0 else []
        if host == DOUBLE:
            return [(0, reply), (0, reply)]
        if host == SWAPPED:
            self._held.append(reply)
            return [] if number % 2 == 0 else [(0, self._held.pop()), (0, self._held.pop())]
        if host in SAYING:
            kind, code, rest = SAYING[host][version]
            return [(0, refusal(version, packet, kind, code, rest))]
        others = {
            ANSWERS: [(0.0, reply)],
            SILENT: [],
            FOREIGN: [(0, echo(version, packet, message[:8] + bytes(len(message) - 8)))],
            GARBAGE: [(0, packet_of(version, packet, bytes([0 if version == 4 else 129]) + os.urandom(30)))],
            SLOW: [(DELAY, reply)],
        }
        return others.get(host, [])


ANSWERS, LOSSY, DOUBLE, SWAPPED, SILENT, FOREIGN, GARBAGE, SLOW = 2, 3, 4, 5, 8, 9, 10, 11
EXCEEDED, UNREACHABLE, TOO_BIG, FORBIDDEN = 6, 7, 12, 13
SAYING: dict[int, dict[int, tuple[int, int, int]]] = {
    EXCEEDED: {4: (11, 0, 0), 6: (3, 0, 0)},
    UNREACHABLE: {4: (3, 1, 0), 6: (1, 3, 0)},
    TOO_BIG: {4: (3, 4, 576), 6: (2, 0, 1280)},
    FORBIDDEN: {4: (3, 13, 0), 6: (1, 1, 0)},
}
"""Hosts of which a router says something: ICMP type, code, and the four bytes behind the checksum."""


def address(version: int, host: int) -> str:
    """The address of a host."""
    return f"10.77.0.{host}" if version == 4 else f"fd00:77::{host:x}"


def echo(version: int, packet: bytes, message: bytes) -> bytes:
    """A whole packet with the echo reply."""
    return packet_of(version, packet, bytes([0 if version == 4 else 129, 0, 0, 0]) + message[4:])


def refusal(version: int, packet: bytes, kind: int, code: int, rest: int) -> bytes:
    """A router's error about a packet, which it quotes."""
    return packet_of(version, packet, struct.pack("!BBHI", kind, code, 0, rest) + packet[:548], source=ROUTER[version])


def packet_of(version: int, asked: bytes, message: bytes, *, source: str = "") -> bytes:
    """An ICMP message back to where a packet came from, with its checksum in place."""
    if version == 4:
        whence = ipaddress.ip_address(source).packed if source else asked[16:20]
        message = message[:2] + struct.pack("!H", internet_checksum(message[:2] + b"\0\0" + message[4:])) + message[4:]
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 0, 0, 61, 1, 0, whence, asked[12:16])
        return head[:10] + struct.pack("!H", internet_checksum(head)) + head[12:] + message
    whence = ipaddress.ip_address(source).packed if source else asked[24:40]
    pseudo = whence + asked[8:24] + struct.pack("!II", len(message), 58)
    checksum = internet_checksum(pseudo + message[:2] + b"\0\0" + message[4:])
    message = message[:2] + struct.pack("!H", checksum) + message[4:]
    return struct.pack("!IHBB", 0x60000000, len(message), 58, 61) + whence + asked[8:24] + message


def on_a_network(work: Callable[[Network], Coroutine[Any, Any, T]], *, unprivileged: bool = False) -> T:
    """Run a coroutine on a loop of its own, with such a network. Needs root and a TUN device: without, it is skipped.

    `unprivileged` lets every group of the namespace have datagram ICMP sockets, so that these are used.
    """
    ended: list[T | BaseException] = []

    def live() -> None:
        try:
            leave_the_network()
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            try:
                fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22s", b"storm0", _TUN_WITHOUT_HEADER, b""))
                Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647" if unprivileged else "1 0")
                for command in (
                    ["addr", "add", f"{OWN[4]}/24", "dev", "storm0"],
                    ["-6", "addr", "add", f"{OWN[6]}/64", "dev", "storm0", "nodad"],
                    ["link", "set", "storm0", "up"],
                    ["link", "set", "lo", "up"],
                ):
                    subprocess.run([program("ip"), *command], check=True)
                wait_for(_is_ours, what="the kernel to take packets to our address of IPv6")
                ended.append(asyncio.run(_watched(device, work)))
            finally:
                os.close(device)
        except BaseException as error:  # noqa: BLE001 - raised again where the thread was started
            ended.append(error)

    thread = threading.Thread(target=live)
    thread.start()
    thread.join()
    (end,) = ended
    if isinstance(end, PermissionError | FileNotFoundError) and not os.environ.get("CI"):
        pytest.skip(f"a network of one's own needs root and a TUN device: {end}")
    if isinstance(end, BaseException):
        raise end
    return end


def _is_ours() -> bool:
    """Whether the address of IPv6 has its local route. A worker of the kernel makes it; what arrives before that is for nobody."""
    wanted = f"{ipaddress.ip_address(OWN[6]).packed.hex()} 80 "
    return any(line.startswith(wanted) for line in Path("/proc/thread-self/net/ipv6_route").read_text().splitlines())


async def _watched(device: int, work: Callable[[Network], Coroutine[Any, Any, T]]) -> T:
    network = Network(device)
    loop = asyncio.get_running_loop()
    loop.add_reader(device, network.read)
    try:
        return await work(network)
    finally:
        loop.remove_reader(device)
