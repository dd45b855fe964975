"""HTTP/1.1 as it passes by: where requests begin and end, and which of them never reach the service. No I/O.

    client ──bytes──▶ h11 (as a server reads) ──the same bytes──▶ service        observed, unchanged, not held up
                          │ a request that is answered here: its bytes end here
    client ◀──answer──────┘

Without a fault every byte goes on the moment it comes. With one, a request's head is held until it is complete, because
only then it is known whether the request goes on. What is not HTTP, or not HTTP any more (an upgrade, CONNECT, HTTP/2),
passes from then on without being looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11

from stormwatch.chaos.http_options import HttpStatus

Decide = Callable[[str, str], HttpStatus | None]
"""From method and request-target to the answer that the request gets instead of the service's; None: let it pass."""

LONGEST_HEAD = 256 * 1024
"""Bytes of a request or response head above which it is not taken for HTTP."""


@dataclass(slots=True)
class Handed:
    """What to do with a piece of the conversation."""

    upstream: bytes = b""
    client: bytes = b""
    hang_up: bool = False
    """Whether the client's connection ends after `client`."""
    swallowed: int = 0
    """Bytes of requests that ended here."""


class Conversation:
    """One client connection with its service connection. Feed what comes from either side; do what comes back."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self.armed = False
        """Whether a fault may want a request: heads are held until they are complete."""
        self.transparent = False
        """Whether it has turned out not to be HTTP/1.x (any more)."""
        self._raw = b""
        """Bytes from the client that h11 has not used up yet."""
        self._ahead = 0
        """How many of them were handed on already."""
        self._request = _new_request()
        self._response: h11.Connection | None = None
        """Reads the answer to the current request; None until that is known, or when it is answered here."""
        self._answer: HttpStatus | None = None
        self._is_head = False
        self._asked = False
        """Whether the head of the current request is known."""
        self._request_done = False
        self._response_done = False

    @property
    def backlog(self) -> int:
        """Bytes from the client that wait for an earlier request, or for the rest of a head."""
        return len(self._raw)

    def from_client(self, data: bytes) -> Handed:
        """Bytes came from the client."""
        if self.transparent:
            return Handed(upstream=data)
        self._raw += data
        self._request.receive_data(data)
        handed = Handed()
        self._read_requests(handed)
        return handed

    def from_upstream(self, data: bytes) -> Handed:
        """Bytes came from the service: they go on as they are, and may end a response that others wait for."""
        handed = Handed(client=data)
        rest = data
        while rest and not self.transparent:
            if self._response is None or self._response_done:
                # The service speaks unasked: this is not HTTP, or the 408 of a server that hangs up.
                self._let_pass(handed)
                break
            try:
                rest = self._read_response(self._response, rest)
            except h11.RemoteProtocolError:
                self._let_pass(handed)
                break
            if self._renew_if_done():
                self._read_requests(handed)
        return handed

    def release(self) -> bytes:
        """Hand on what is held for a decision: nobody wants requests any more, or the client has said its last word."""
        return self._hand_on() if not self.transparent and self._answer is None else b""

    def _read_requests(self, handed: Handed) -> None:
        while not self.transparent and not handed.hang_up:
            try:
                event = self._request.next_event()
            except h11.RemoteProtocolError:
                self._let_pass(handed)
                return
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                break
            self._read(event, handed)
            if isinstance(event, h11.EndOfMessage) and not self._renew_if_done():
                break
        # A head that may still be answered here waits; the rest of a request that goes on does not.
        undecided = self.armed and self._ahead == 0 and (not self._asked or self._request_done)
        if self._answer is None and not undecided and not self.transparent:
            handed.upstream += self._hand_on()

    def _read(self, event: h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED], handed: Handed) -> None:
        if isinstance(event, h11.Request):
            self._asked, self._is_head = True, event.method == b"HEAD"
            if self._ahead == 0:
                self._answer = self._decide(event.method.decode("ascii"), event.target.decode("latin-1"))
            if self._answer is None:
                self._response = _reader_of_response(event)
        part, ahead = self._used_up()
        if self._answer is None:
            handed.upstream += part[ahead:]
            self._request_done |= isinstance(event, h11.EndOfMessage)
            return
        handed.swallowed += len(part)
        if isinstance(event, h11.EndOfMessage):
            handed.client += self._render(self._answer)
            self._request_done = self._response_done = True
            handed.hang_up = self._request.our_state is not h11.DONE
        elif isinstance(event, h11.Request) and self._request.they_are_waiting_for_100_continue:
            # Without the 100 it is unknown whether the body will come: the connection cannot be used again.
            handed.client += self._render(self._answer, ("Connection", "close"))
            handed.hang_up = True

    def _renew_if_done(self) -> bool:
        if not (self._request_done and self._response_done):
            return False
        rest = self._request.trailing_data[0]
        self._request, self._response, self._answer = _new_request(), None, None
        self._asked = self._request_done = self._response_done = False
        if rest:
            self._request.receive_data(rest)
        return True

    def _read_response(self, response: h11.Connection, data: bytes) -> bytes:
        """Note the end of the response; the bytes behind it."""
        response.receive_data(data)
        while True:
            event = response.next_event()
            if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                raise h11.RemoteProtocolError("the protocol was switched: what follows is not HTTP/1.1")
            if event is h11.PAUSED and not self._response_done:
                raise h11.RemoteProtocolError("a tunnel was opened: what follows is not HTTP/1.1")
            if event is h11.PAUSED or event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return response.trailing_data[0] if self._response_done else b""
            if isinstance(event, h11.EndOfMessage):
                self._response_done = True

    def _render(self, answer: HttpStatus, *more: tuple[str, str]) -> bytes:
        body = answer.body.encode()
        headers = [("X-Stormwatch-Fault", "http-status"), *more]
        if answer.status not in (204, 304):
            headers += [("Content-Type", answer.content_type), ("Content-Length", str(len(body)))]
        events: list[h11.Event] = [h11.Response(status_code=answer.status, headers=headers, reason=_phrase(answer))]
        if body and not self._is_head:
            events.append(h11.Data(data=body))
        return b"".join(self._request.send(event) or b"" for event in (*events, h11.EndOfMessage()))

    def _used_up(self) -> tuple[bytes, int]:
        """The bytes that the last event was made of, and how many of them were handed on before."""
        size = len(self._raw) - len(self._request.trailing_data[0])
        part, self._raw = self._raw[:size], self._raw[size:]
        ahead = min(self._ahead, size)
        self._ahead -= ahead
        return part, ahead

    def _hand_on(self) -> bytes:
        rest, self._ahead = self._raw[self._ahead :], len(self._raw)
        return rest

    def _let_pass(self, handed: Handed) -> None:
        """Stop looking, for good."""
        self.transparent = True
        handed.upstream += self._raw[self._ahead :]
        self._raw, self._ahead = b"", 0


def _new_request() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)


def _reader_of_response(request: h11.Request) -> h11.Connection:
    """A reader that knows what it must of the request to find the end of its response: method, upgrade, connection."""
    response = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
    headers = [(name, value) for name, value in request.headers if name in (b"upgrade", b"connection")]
    response.send(h11.Request(method=request.method, target=request.target, headers=[*headers, (b"host", b"-")]))
    response.send(h11.EndOfMessage())
    return response


def _phrase(answer: HttpStatus) -> bytes:
    try:
        return HTTPStatus(answer.status).phrase.encode("ascii")
    except ValueError:
        return b""
