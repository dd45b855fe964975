"""HTTP/1.1 as it passes by: where requests begin and end, and which of them never reach the service. No I/O.

    client ──bytes──▶ h11 (as a server reads) ──the same bytes──▶ service        observed, unchanged, not held up
                          │ a request that is answered here: its bytes end here
    client ◀──answer──────┘

Without a fault every byte goes on the moment it comes. With one, a request's head is held until it is complete, because
only then it is known whether the request goes on. What is not HTTP, or not HTTP any more (an upgrade, CONNECT, HTTP/2),
passes from then on without being looked at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import h11

from stormwatch.chaos.http_rewrite import Rewrite
from stormwatch.chaos.http_treatment import Answer, Decide, Touch, Treated, waits_of

LONGEST_HEAD = 256 * 1024
"""Bytes of a request or response head above which it is not taken for HTTP."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes that go to one side."""

    data: bytes
    waits: tuple[tuple[Any, float], ...] = ()
    """Who holds them back for how many seconds, and all that follows with them."""


@dataclass(slots=True)
class Handed:
    """What to do with a piece of the conversation."""

    to_service: list[Part] = field(default_factory=list["Part"])
    to_client: list[Part] = field(default_factory=list["Part"])
    hang_up: bool = False
    """Whether the client's connection ends after what is handed to it."""
    touches: list[Touch] = field(default_factory=list[Touch])
    """What faults did."""

    @property
    def upstream(self) -> bytes:
        """All that goes to the service."""
        return b"".join(part.data for part in self.to_service)

    @property
    def client(self) -> bytes:
        """All that goes to the client."""
        return b"".join(part.data for part in self.to_client)


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
        self._treated: Sequence[Treated] = ()
        """All that happens to the current exchange."""
        self._answer: Treated | None = None
        """Who answers it here."""
        self._rewrite: Rewrite | None = None
        """Who changes its answer; None: it passes as it comes."""
        self._unread = b""
        """Of an answer that is to be changed: what came of its head."""
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
            return Handed(to_service=[Part(data)])
        self._raw += data
        self._request.receive_data(data)
        handed = Handed()
        self._read_requests(handed)
        return handed

    def from_upstream(self, data: bytes) -> Handed:
        """Bytes came from the service: they go on as they are or changed, and may end a response that others wait for."""
        handed = Handed()
        rest = data
        while rest:
            if self.transparent or self._response is None or self._response_done:
                # Not HTTP any more; or the service speaks unasked: this is not HTTP, or the 408 of a server that hangs up.
                handed.to_client.append(Part(rest))
                if not self.transparent:
                    self._let_pass(handed)
                break
            rest = self._answered(self._response, rest, handed)
            if self._renew_if_done():
                self._read_requests(handed)
        return handed

    def upstream_ended(self) -> Handed:
        """The service has said its last word: the end of an answer without a length."""
        handed = Handed()
        if not self.transparent and self._response is not None and not self._response_done and self._rewrite:
            self._answered(self._response, b"", handed)
        return handed

    def forget(self, by: Any) -> None:
        """A fault ended: it changes nothing that it has not begun to change."""
        if self._rewrite:
            self._rewrite.forget(by)

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
            handed.to_service.append(Part(self._hand_on()))

    def _read(self, event: h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED], handed: Handed) -> None:
        if isinstance(event, h11.Request):
            self._asked, self._is_head = True, event.method == b"HEAD"
            if self._ahead == 0:
                self._begin(event, handed)
            if self._answer is None:
                self._response = _reader_of_response(event)
        part, ahead = self._used_up()
        if self._answer is None:
            sent = part[ahead:]
            if isinstance(event, h11.Request):
                handed.to_service.append(Part(self._edited(event, sent, handed), waits_of(self._treated)))
            elif sent:
                handed.to_service.append(Part(sent))
            self._request_done |= isinstance(event, h11.EndOfMessage)
            return
        handed.touches.append(Touch(self._answer.by, bytes=len(part)))
        if isinstance(event, h11.EndOfMessage):
            self._give_answer(handed, self._answer)
            self._request_done = self._response_done = True
            handed.hang_up = self._request.our_state is not h11.DONE
        elif isinstance(event, h11.Request) and self._request.they_are_waiting_for_100_continue:
            # Without the 100 it is unknown whether the body will come: the connection cannot be used again.
            self._give_answer(handed, self._answer, ("Connection", "close"))
            handed.hang_up = True

    def _begin(self, event: h11.Request, handed: Handed) -> None:
        """A new exchange: ask what happens to it."""
        self._treated = self._decide(event.method.decode("ascii"), event.target.decode("latin-1"))
        self._answer = next((one for one in self._treated if one.treatment.answer), None)
        handed.touches += [
            Touch(one.by, requests=1) for one in self._treated if one.treatment.later > 0 or one is self._answer
        ]
        if self._answer is None and event.method != b"CONNECT":
            rewrite = Rewrite(self._treated, method=event.method, old_client=event.http_version == b"1.0")
            self._rewrite = None if rewrite.idle else rewrite

    def _edited(self, event: h11.Request, raw: bytes, handed: Handed) -> bytes:
        """A request's head, with its headers as the faults want them."""
        headers = before = list(event.headers.raw_items())
        for one in self._treated:
            if one.treatment.request:
                edited = one.treatment.request.apply(headers)
                if edited != headers:
                    handed.touches.append(Touch(one.by, requests=1))
                headers = edited
        if headers == before:
            return raw
        line = b"%s %s HTTP/%s\r\n" % (event.method, event.target, event.http_version)
        return line + b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n"

    def _give_answer(self, handed: Handed, answer: Treated, *more: tuple[str, str]) -> None:
        if answer.treatment.answer:
            handed.to_client.append(Part(self._render(answer.treatment.answer, *more), waits_of(self._treated)))

    def _renew_if_done(self) -> bool:
        if not (self._request_done and self._response_done):
            return False
        rest = self._request.trailing_data[0]
        self._request, self._response, self._answer = _new_request(), None, None
        self._treated, self._rewrite, self._unread = (), None, b""
        self._asked = self._request_done = self._response_done = False
        if rest:
            self._request.receive_data(rest)
        return True

    def _answered(self, response: h11.Connection, data: bytes, handed: Handed) -> bytes:
        """Hand on what came of the answer; the bytes behind it."""
        rewrite = self._rewrite
        if rewrite is None:
            try:
                rest = self._read_response(response, data)
            except h11.RemoteProtocolError:
                handed.to_client.append(Part(data))
                self._let_pass(handed)
                return b""
            handed.to_client.append(Part(data[: len(data) - len(rest)]))
            return rest
        self._unread += b"" if rewrite.begun else data
        try:
            rest = self._rewritten(response, rewrite, data, handed)
        except h11.ProtocolError:
            if rewrite.begun:
                # What was begun in another framing cannot go on in this one.
                handed.hang_up = True
            else:
                handed.to_client.append(Part(self._unread))
            self._let_pass(handed)
            return b""
        handed.touches += rewrite.touches
        del rewrite.touches[:]
        return rest

    def _read_response(self, response: h11.Connection, data: bytes) -> bytes:
        """Note the end of the response; the bytes behind it."""
        for _ in self._events(response, data):
            pass
        return response.trailing_data[0] if self._response_done else b""

    def _rewritten(self, response: h11.Connection, rewrite: Rewrite, data: bytes, handed: Handed) -> bytes:
        """The same, and send every event as it is to be; h11 frames it as the client understands."""
        for event in self._events(response, data):
            for reply in rewrite.meet(event):
                if sent := self._request.send(reply):
                    handed.to_client.append(Part(sent))
        if self._response_done:
            handed.hang_up |= self._request.our_state is h11.MUST_CLOSE
            return response.trailing_data[0]
        return b""

    def _events(self, response: h11.Connection, data: bytes) -> Iterator[h11.Event]:
        """What came, until more is needed. Raises RemoteProtocolError for what is not HTTP/1.1 (any more)."""
        response.receive_data(data)
        while True:
            event = response.next_event()
            if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                raise h11.RemoteProtocolError("the protocol was switched: what follows is not HTTP/1.1")
            if event is h11.PAUSED and not self._response_done:
                raise h11.RemoteProtocolError("a tunnel was opened: what follows is not HTTP/1.1")
            if event is h11.PAUSED or event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return
            if isinstance(event, h11.EndOfMessage):
                self._response_done = True
            if isinstance(event, h11.Event):
                yield event

    def _render(self, answer: Answer, *more: tuple[str, str]) -> bytes:
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
        handed.to_service.append(Part(self._raw[self._ahead :]))
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


def _phrase(answer: Answer) -> bytes:
    try:
        return HTTPStatus(answer.status).phrase.encode("ascii")
    except ValueError:
        return b""
