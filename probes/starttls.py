"""How a plain connection becomes a TLS one in each protocol that can: dialogues without any I/O.

A dialogue is a generator. It yields what it sends together with what it then waits for, gets just those bytes, and returns
what it sends last; the TLS handshake comes next. `Upgrade` runs one on whatever bytes come, however they are cut.
"""

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Reason

Protocol = Literal[
    "smtp", "lmtp", "imap", "pop3", "sieve", "nntp", "ftp", "ldap", "postgres", "mysql", "xmpp", "xmpp-server"
]
"""The protocols that can be asked for TLS."""

LINE: Final = 8192
"""Bytes of the longest line and of the largest message that is read."""
MOST: Final = 2**16
"""Bytes that a server may send before TLS begins."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What a dialogue sends, and what it then waits for: a line, a number of bytes, or one of some byte strings."""

    send: bytes = b""
    size: int = 0
    until: tuple[bytes, ...] = (b"\n",)
    """Counts when no size is given. What comes is passed on up to the end of the one that was found."""


Dialogue = Generator[Wait, bytes, bytes]


class Upgrade:
    """One dialogue on its way. Sends `hello()` first, and then what `feed` answers, until `done`."""

    def __init__(self, protocol: Protocol, host: str) -> None:
        """`host` is the name by which the server is addressed where the protocol wants one."""
        self.done = False
        self.heard = b""
        """The beginning of what the server said: evidence."""
        self._protocol = protocol
        self._dialogue = DIALOGUES[protocol](host)
        self._buffer = b""
        self._taken = 0
        self._wait = Wait()

    def hello(self) -> bytes:
        """What is sent before anything came."""
        self._wait = next(self._dialogue)
        return self._wait.send

    def feed(self, data: bytes) -> bytes:
        """Take what came, and give back what is to be sent. Raises ProbeFailed: no upgrade, or another protocol."""
        self.heard += data[: max(0, 512 - len(self.heard))]
        self._taken += len(data)
        if self._taken > MOST:
            raise self._broke(f"sent more than {MOST} bytes before TLS began")
        self._buffer += data
        answer = b""
        while not self.done and (part := self._next()) is not None:
            try:
                self._wait = self._dialogue.send(part)
                answer += self._wait.send
            except StopIteration as end:
                self.done = True
                answer += end.value
        if self.done and self._buffer:
            # Bytes that were not protected would be read as if they were: CVE-2011-0411 and its many sisters.
            raise self._broke(f"sent {len(self._buffer)} bytes too many in plain text: {shown(self._buffer)}")
        return answer

    def ended(self) -> ProbeFailed:
        """What to raise when the connection was closed before the upgrade."""
        last = f" after {shown(self.heard)}" if self.heard else " without a word"
        return ProbeFailed(
            Reason.RESET, f"the {self._protocol} server closed the connection{last}, before TLS began", phase="starttls"
        )

    def _next(self) -> bytes | None:
        if self._wait.size:
            end = self._wait.size if len(self._buffer) >= self._wait.size else -1
        else:
            ends = [found + len(each) for each in self._wait.until if (found := self._buffer.find(each)) >= 0]
            end = min(ends, default=-1)
            if end < 0 and len(self._buffer) > LINE:
                raise self._broke(f"sent {len(self._buffer)} bytes that are no {self._protocol}: {shown(self._buffer)}")
        if end < 0:
            return None
        part, self._buffer = self._buffer[:end], self._buffer[end:]
        return part

    def _broke(self, what: str) -> ProbeFailed:
        return ProbeFailed(Reason.PROTOCOL, f"the {self._protocol} server {what}", phase="starttls")


def shown(data: bytes) -> str:
    """The beginning of what came, for people."""
    text = data[:120].rstrip(b"\r\n").decode("utf-8", "backslashreplace")
    return repr(text)


def _not(protocol: str, came: bytes, wanted: str) -> ProbeFailed:
    return ProbeFailed(Reason.PROTOCOL, f"the {protocol} server said {shown(came)}, wanted {wanted}", phase="starttls")


def _refused(protocol: str, came: bytes) -> ProbeFailed:
    return ProbeFailed(Reason.TLS, f"the {protocol} server does not offer TLS: it said {shown(came)}", phase="starttls")


def _smtp(protocol: str, hello: bytes) -> Dialogue:
    """RFC 3207."""
    yield from _reply(protocol, b"", b"220")
    offers = yield from _reply(protocol, hello, b"250")
    if not re.search(rb"(?im)^250[ -]STARTTLS\s*$", offers):
        raise _refused(protocol, offers)
    yield from _upgraded(protocol, b"STARTTLS\r\n", b"220")
    return b""


def _reply(protocol: str, send: bytes, code: bytes) -> Generator[Wait, bytes, bytes]:
    """A reply of one line or several, as SMTP, LMTP and FTP have them: the last line has a space after the code."""
    whole = line = yield Wait(send)
    while line[3:4] == b"-" and line[:3].isdigit():
        line = yield Wait()
        whole += line
    if line[:3] != code:
        raise _not(protocol, line, code.decode())
    return whole


def _upgraded(protocol: str, send: bytes, code: bytes) -> Generator[Wait, bytes, None]:
    """The reply to the request for TLS: any other code is a refusal."""
    line = yield Wait(send)
    while line[3:4] == b"-" and line[:3].isdigit():
        line = yield Wait()
    if not line[:3].isdigit():
        raise _not(protocol, line, code.decode())
    if line[:3] != code:
        raise _refused(protocol, line)


def _imap() -> Dialogue:
    """RFC 9051 §6.2.1."""
    greeting = yield Wait()
    if not greeting.upper().startswith(b"* OK"):
        raise _not("imap", greeting, "* OK")
    line = yield Wait(b"a STARTTLS\r\n")
    while line.startswith(b"* "):
        line = yield Wait()
    if not line.startswith(b"a "):
        raise _not("imap", line, "a OK")
    if not line.upper().startswith(b"A OK"):
        raise _refused("imap", line)
    return b""


def _pop3() -> Dialogue:
    """RFC 2595 §4."""
    greeting = yield Wait()
    if not greeting.startswith(b"+OK"):
        raise _not("pop3", greeting, "+OK")
    line = yield Wait(b"STLS\r\n")
    if line.startswith(b"-ERR"):
        raise _refused("pop3", line)
    if not line.startswith(b"+OK"):
        raise _not("pop3", line, "+OK")
    return b""


def _sieve() -> Dialogue:
    """RFC 5804 §2.2: capabilities until a line OK, then the command, then another OK."""
    offers = line = yield Wait()
    while line.startswith(b'"'):
        line = yield Wait()
        offers += line
    if not line.upper().startswith(b"OK"):
        raise _not("sieve", line, "OK")
    if b'"STARTTLS"' not in offers.upper():
        raise _refused("sieve", offers)
    line = yield Wait(b"STARTTLS\r\n")
    if line.upper().startswith((b"NO", b"BYE")):
        raise _refused("sieve", line)
    if not line.upper().startswith(b"OK"):
        raise _not("sieve", line, "OK")
    return b""


def _nntp() -> Dialogue:
    """RFC 4642 §2.2."""
    greeting = yield Wait()
    if greeting[:3] not in (b"200", b"201"):
        raise _not("nntp", greeting, "200 or 201")
    yield from _upgraded("nntp", b"STARTTLS\r\n", b"382")
    return b""


def _ftp() -> Dialogue:
    """RFC 4217 §4."""
    yield from _reply("ftp", b"", b"220")
    yield from _upgraded("ftp", b"AUTH TLS\r\n", b"234")
    return b""


_LDAP_STARTTLS: Final = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"


def _ldap() -> Dialogue:
    """RFC 4511 §4.14: an extended request by its OID, and a response with the result code 0."""
    head = yield Wait(_LDAP_STARTTLS, size=2)
    if head[0] != 0x30:
        raise _not("ldap", head, "an LDAP message")
    size = head[1]
    if size >= 0x80:
        many = size & 0x7F
        if not 0 < many <= 4:
            raise _not("ldap", head, "an LDAP message")
        size = int.from_bytes((yield Wait(size=many)))
    if not 8 <= size <= LINE:
        raise _not("ldap", head, f"an LDAP message of at most {LINE} bytes")
    body = yield Wait(size=size)
    # messageID 1; the extended response [APPLICATION 24], whose length may be written in several ways; the result code.
    found = re.match(
        rb"\x02\x01[\x00\x01]\x78(?:[\x00-\x7f]|\x81.|\x82..|\x83...|\x84....)\x0a\x01(.)", body, re.DOTALL
    )
    if found is None:
        raise _not("ldap", body, "an extended response")
    code = found[1][0]
    if code:
        raise ProbeFailed(
            Reason.TLS,
            f"the ldap server does not offer TLS: it answered with the result {_LDAP_RESULTS.get(code, code)}",
            phase="starttls",
        )
    return b""


_LDAP_RESULTS: Final = {
    1: "operationsError",
    2: "protocolError",
    8: "strongerAuthRequired",
    10: "referral",
    13: "confidentialityRequired",
    51: "busy",
    52: "unavailable",
    53: "unwillingToPerform",
}
"""RFC 4511 Appendix A."""


def _postgres() -> Dialogue:
    """An SSLRequest, and a single byte: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL."""
    answer = yield Wait((8).to_bytes(4) + (80877103).to_bytes(4), size=1)
    if answer == b"N":
        raise _refused("postgres", answer)
    if answer != b"S":
        raise _not("postgres", answer, "S")
    return b""


_MYSQL_SSL: Final = 0x0800
_MYSQL_PROTOCOL_41: Final = 0x0200
_MYSQL_SECURE_CONNECTION: Final = 0x8000


def _mysql() -> Dialogue:
    """The server's greeting has its capabilities; the client answers with the first half of its own, and TLS begins.

    https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html
    """
    head = yield Wait(size=4)
    size = int.from_bytes(head[:3], "little")
    if not 1 <= size <= LINE:
        raise _not("mysql", head, "a greeting")
    greeting = yield Wait(size=size)
    if greeting[0] == 0xFF:  # an error: the host is blocked, or there are too many connections
        raise _not("mysql", greeting[3:], "a greeting")
    after_version = greeting.find(b"\x00", 1) + 1
    offered = after_version + 4 + 8 + 1  # connection id, the first part of the challenge, a zero
    if greeting[0] != 10 or not after_version or len(greeting) < offered + 2:
        raise _not("mysql", greeting, "a greeting of protocol version 10")
    if not int.from_bytes(greeting[offered : offered + 2], "little") & _MYSQL_SSL:
        raise ProbeFailed(
            Reason.TLS,
            f"the mysql server does not offer TLS: version {shown(greeting[1 : after_version - 1])}",
            phase="starttls",
        )
    flags = _MYSQL_SSL | _MYSQL_PROTOCOL_41 | _MYSQL_SECURE_CONNECTION
    payload = flags.to_bytes(4, "little") + (2**24).to_bytes(4, "little") + b"\x21" + bytes(23)
    return len(payload).to_bytes(3, "little") + b"\x01" + payload


def _xmpp(protocol: str, namespace: str, host: str) -> Dialogue:
    """RFC 6120 §5. Only whole, well-known elements are looked for: there is no XML parser here to be attacked."""
    opening = (
        f"<?xml version='1.0'?><stream:stream to='{host}' version='1.0' xmlns='{namespace}' "
        "xmlns:stream='http://etherx.jabber.org/streams'>"
    )
    ends = (b"</stream:features>", b"<stream:features/>", b"</stream:error>", b"</stream:stream>")
    features = yield Wait(opening.encode(), until=ends)
    if b"<stream:stream" not in features or not features.endswith(ends[:2]):
        raise _not(protocol, features, "the features of a stream")
    if b"urn:ietf:params:xml:ns:xmpp-tls" not in features:
        raise _refused(protocol, features[features.find(b"<stream:features") :])
    answer = yield Wait(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", until=(b">",))
    if b"<proceed" in answer:
        return b""
    if b"<failure" in answer:
        raise _refused(protocol, answer)
    raise _not(protocol, answer, "<proceed/>")


DIALOGUES: Final[Mapping[Protocol, Callable[[str], Dialogue]]] = {
    "smtp": lambda _host: _smtp("smtp", b"EHLO stormwatch.invalid\r\n"),
    "lmtp": lambda _host: _smtp("lmtp", b"LHLO stormwatch.invalid\r\n"),
    "imap": lambda _host: _imap(),
    "pop3": lambda _host: _pop3(),
    "sieve": lambda _host: _sieve(),
    "nntp": lambda _host: _nntp(),
    "ftp": lambda _host: _ftp(),
    "ldap": lambda _host: _ldap(),
    "postgres": lambda _host: _postgres(),
    "mysql": lambda _host: _mysql(),
    "xmpp": lambda host: _xmpp("xmpp", "jabber:client", host),
    "xmpp-server": lambda host: _xmpp("xmpp-server", "jabber:server", host),
}
"""Each protocol's dialogue."""
