"""The kind `unix`: sockets of each type, dialogues, TLS; up, down for each reason, broken, and nothing left open."""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.result import Outcome, Reason
from stormwatch.probes.unix import KIND
from tests.servers.certificates import Authority, Issued
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle


@contextlib.asynccontextmanager
async def serving(path: Path, greeting: bytes = b"hello\n", **more: Any) -> AsyncGenerator[str]:
    """Says a greeting, and then the same as it is told."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(greeting)
            while data := await reader.read(1000):
                writer.write(data)
        writer.transport.abort()

    async with await asyncio.start_unix_server(talk, path, **more):
        yield str(path)


@pytest.mark.shows("unix", "up", "assertion", "timeout", "too-slow")
async def test_a_dialogue_over_a_socket(tmp_path: Path) -> None:
    """As over TCP; there is no address to tell of."""
    async with serving(tmp_path / "socket") as path:
        bare = await run(KIND, path)
        dialogue = [
            {"expect": "^(hello)$", "labels": {"said": "{{ 1 }}"}},
            {"send": "{{ 1 }} again\n", "expect": "^hello again$"},
        ]
        result = await run(KIND, path, {"dialogue": dialogue})
        other = await run(KIND, path, {"dialogue": [{"expect": "^bye", "within": "100ms"}]})
        silent = await run(KIND, path, {"dialogue": [{"expect": "^hello"}, {"expect": "more"}]}, timeout=0.2)
        slow = await run(KIND, path, {"expect": {"slower_than": "0ms"}})
    assert (bare.outcome, phase_names(bare)) == (Outcome.UP, ["connect"])
    assert measures(bare) == {"probe_failed_due_to_regex": 0, "probe_failed_due_to_bytes": 0}
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert labels(result, "probe_expect_info") == {"said": "hello"}
    assert (other.reason, measures(other)["probe_failed_due_to_regex"]) == (Reason.ASSERTION, 1)
    assert (silent.reason, silent.failed_phase) == (Reason.TIMEOUT, "dialogue")
    assert slow.reason is Reason.TOO_SLOW


@pytest.mark.shows("unix", "refused")
async def test_a_service_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """No file, a file that a dead one left behind, a file that is no socket."""
    missing = await run(KIND, str(tmp_path / "none"))
    assert (missing.outcome, missing.reason) == (Outcome.DOWN, Reason.REFUSED)
    assert missing.message == f"there is no socket {tmp_path}/none: nobody listens there"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    left = await run(KIND, str(tmp_path / "dead"))
    assert (left.reason, left.failed_phase) == (Reason.REFUSED, "connect")
    assert left.message == f"no connection to {tmp_path}/dead: Connection refused"
    (tmp_path / "file").touch()
    assert (await run(KIND, str(tmp_path / "file"))).reason is Reason.REFUSED
    below = await run(KIND, str(tmp_path / "file" / "socket"))
    assert below.message == f"a part of the path {tmp_path}/file/socket is not a directory"


@pytest.mark.shows("unix", "broken")
async def test_what_we_may_not_or_cannot_do_is_broken(tmp_path: Path) -> None:
    """It says nothing about the service."""
    async with serving(tmp_path / "socket") as path:
        typed = await run(KIND, path, {"type": "seqpacket"})
        near = await run(KIND, path, reach=Reach(refuse=OWN_HOST))
    assert (typed.outcome, typed.reason) == (Outcome.BROKEN, Reason.INTERNAL)
    assert typed.message == f"{path} is not a seqpacket socket: give its `type`"
    assert (near.outcome, near.reason) == (Outcome.BROKEN, Reason.POLICY)


async def test_a_socket_without_permission_is_broken(tmp_path: Path) -> None:
    """Root may always; for others it is the mode of the socket that counts."""
    async with serving(tmp_path / "socket") as path:
        Path(path).chmod(0)
        if os.geteuid() == 0:
            # The file system asks for the effective user of the thread: for the moment of the run we are somebody else.
            for directory in (tmp_path, *tmp_path.parents):
                if directory.owner() == "root" and not directory.stat().st_mode & 1:
                    directory.chmod(directory.stat().st_mode | 1)
            os.seteuid(65534)
        try:
            result = await run(KIND, path)
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.CREDENTIALS)
    assert result.message.startswith(f"the prober's user may not connect to {path}: it needs to write to the socket")


async def test_a_full_queue_is_a_timeout_and_room_in_it_a_connection(tmp_path: Path) -> None:
    """The system says neither that it is full for good nor when it is not any more."""
    path = str(tmp_path / "socket")
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(path)
        listening.listen(0)
        first = stack.enter_context(socket.socket(socket.AF_UNIX))
        first.connect(path)
        full = await run(KIND, path, timeout=0.1)
        waiting = asyncio.ensure_future(run(KIND, path))
        await asyncio.sleep(0.03)
        stack.enter_context(listening.accept()[0])
        room = await waiting
    assert (full.reason, full.failed_phase) == (Reason.TIMEOUT, "connect")
    assert (room.outcome, room.message) == (Outcome.UP, "")


@pytest.mark.shows("unix", "reset", "protocol")
async def test_a_connection_that_ends_early_or_never(tmp_path: Path) -> None:
    """Closed with bytes unread, and a line without an end."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        listening.settimeout(5)
        running = asyncio.ensure_future(run(KIND, path, {"dialogue": [{"send": "a" * 1000, "expect": "b"}]}))
        accepted = await asyncio.to_thread(listening.accept)
        await asyncio.to_thread(accepted[0].recv, 1)
        accepted[0].close()
        ended = await running
    assert (ended.reason, ended.message) == (Reason.RESET, "Connection reset by peer")
    async with serving(tmp_path / "long", b"x" * 70_000) as long:
        endless = await run(KIND, long, {"dialogue": [{"expect": "b"}]})
    assert (endless.reason, endless.message) == (Reason.PROTOCOL, "a line is longer than 65536 bytes")


@pytest.mark.shows("unix", "tls", "certificate")
async def test_tls_over_a_socket(tmp_path: Path, issued: Issued, ca_file: Path) -> None:
    """It has no name of its own: one is given."""
    options = {"tls": True, "ca_file": str(ca_file), "server_name": "shop.test", "dialogue": [{"expect": "^hello"}]}
    async with serving(tmp_path / "socket", ssl=issued.server_context()) as path:
        result = await run(KIND, path, options)
    stranger = Authority(tmp_path, "Stranger").issue("shop.test")
    async with serving(tmp_path / "stranger", ssl=stranger.server_context()) as path:
        strange = await run(KIND, path, options)
    async with serving(tmp_path / "plain") as path:
        plain = await run(KIND, path, options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["connect", "tls", "dialogue"]
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert (strange.reason, strange.failed_phase) == (Reason.CERTIFICATE, "tls")
    assert measures(strange)["probe_ssl_earliest_cert_expiry"] == stranger.not_after
    assert (plain.reason, plain.failed_phase) == (Reason.TLS, "tls")


@pytest.mark.parametrize(("kind", "number"), [("seqpacket", socket.SOCK_SEQPACKET), ("datagram", socket.SOCK_DGRAM)])
async def test_sockets_of_messages(tmp_path: Path, kind: str, number: int) -> None:
    """A message is answered with a message, at a name that the system chose for us."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, number) as s:
        s.bind(path)
        s.settimeout(5)
        if kind == "seqpacket":
            s.listen()

        def answer() -> None:
            if kind == "seqpacket":
                with s.accept()[0] as accepted:
                    accepted.sendall(accepted.recv(100) + b" indeed")
            else:
                data, place = s.recvfrom(100)
                s.sendto(data + b" indeed", place)

        answering = asyncio.ensure_future(asyncio.to_thread(answer))
        result = await run(KIND, path, {"type": kind, "dialogue": [{"send": "yes", "expect_bytes": "yes indeed"}]})
        await answering
    assert (result.outcome, result.message) == (Outcome.UP, "")


async def test_an_abstract_name() -> None:
    """It has no file."""
    name = f"stormwatch-test-{os.getpid()}"
    async with await asyncio.start_unix_server(lambda _reader, writer: writer.close(), f"\0{name}"):
        result = await run(KIND, f"@{name}")
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert (await run(KIND, f"@{name}")).reason is Reason.REFUSED


async def _leave_nothing(path: Path) -> tuple[int, int]:
    async with serving(path) as place:
        await run(KIND, place)
        before = open_files()
        hello = {"dialogue": [{"expect": "^hello"}]}
        never = {"dialogue": [{"expect": "never"}]}
        await asyncio.gather(
            *(run(KIND, place, hello) for _ in range(10)), *(run(KIND, place, never, timeout=0.1) for _ in range(10))
        )
        return before, await settle(before)


async def test_nothing_stays_open(tmp_path: Path) -> None:
    """After runs that end, and that are cut off."""
    before, after = await _leave_nothing(tmp_path / "socket")
    assert after <= before


def test_nothing_stays_open_on_uvloop(tmp_path: Path) -> None:
    """The service's loop."""
    before, after = uvloop.run(_leave_nothing(tmp_path / "socket"))
    assert after <= before


SHAPE = "target is the path of a socket like /run/server.sock, or @name of an abstract one, not "
MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("run/socket", {}, f"{SHAPE}'run/socket'"),
    ("@", {}, f"{SHAPE}'@'"),
    ("/" + "x" * 107, {}, "target has 108 bytes, and a socket's path at most 107"),
    ("/s", {"tls": True}, "server_name: a Unix socket has no name that a certificate could be for: give one"),
    (
        "/s",
        {"tls": True, "verify": False, "type": "datagram"},
        "type: TLS goes over a stream, not over datagram",
    ),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES, ids=[row[2][:50] for row in MISTAKES])
def test_a_mistake_is_one_clear_sentence(target: str, options: dict[str, Any], message: str) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)
