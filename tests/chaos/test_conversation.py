"""HTTP as it passes by: bytes are never changed, whatever pieces they come in; requests that are answered end here."""

import gzip
import random
import zlib
from collections.abc import Sequence

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.chaos.conversation import Conversation
from stormwatch.chaos.http_options import HttpBody, HttpDelay, HttpHeader, HttpStatus, Patch
from stormwatch.chaos.http_rewrite import LONGEST_BODY
from stormwatch.chaos.http_treatment import Treated

REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n",
    b"HEAD /c HTTP/1.1\r\nHost: x\r\n\r\n",
    b"DELETE http://x/d?q=1 HTTP/1.1\r\nhost: x\r\nX-Odd:  spaced  \r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
]
SERVED = list(zip(REQUESTS, RESPONSES, strict=True))


def answered(*options: HttpStatus | HttpDelay | HttpHeader | HttpBody) -> Sequence[Treated]:
    """What these faults do to a request; each is known by its options."""
    return [Treated(one, one.treatment(random.Random(1))) for one in options]


def pieces(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """A stream cut at any places."""
    cuts = st.sets(st.integers(1, max(1, len(data) - 1)), max_size=8)
    return cuts.map(lambda at: [data[a:b] for a, b in zip([0, *sorted(at)], [*sorted(at), len(data)], strict=True)])


@given(st.data(), st.lists(st.sampled_from(SERVED), min_size=1, max_size=5), st.booleans())
def test_exchanges_pass_unchanged_in_any_pieces(
    data: st.DataObject, exchanges: list[tuple[bytes, bytes]], armed: bool
) -> None:
    """Whether a fault is in place that wants other requests, or none: what goes out is what came in, and all of it."""
    conversation = Conversation(lambda _method, _target: ())
    conversation.armed = armed
    for request, response in exchanges:
        passed = b"".join(conversation.from_client(piece).upstream for piece in data.draw(pieces(request)))
        assert request == passed
        back = [conversation.from_upstream(piece) for piece in data.draw(pieces(response))]
        assert response == b"".join(handed.client for handed in back)
        assert not any(handed.upstream or handed.hang_up for handed in back)
    assert not conversation.transparent


@given(st.binary(min_size=1, max_size=300).flatmap(pieces))
def test_anything_at_all_passes_without_a_fault_at_once(stream: list[bytes]) -> None:
    """Each piece of any stream goes on the moment it comes, HTTP or not."""
    conversation = Conversation(lambda _method, _target: ())
    assert stream == [conversation.from_client(piece).upstream for piece in stream]


@given(st.binary(min_size=1, max_size=300).flatmap(pieces))
def test_anything_at_all_passes_with_a_fault_when_the_client_ends(stream: list[bytes]) -> None:
    """What is held for a decision is at most held until the last word; nothing is lost, nothing comes twice."""
    conversation = Conversation(lambda _method, _target: ())
    conversation.armed = True
    passed = b"".join(conversation.from_client(piece).upstream for piece in stream) + conversation.release()
    assert b"".join(stream) == passed


@given(st.data(), st.lists(st.tuples(st.sampled_from(REQUESTS), st.booleans()), min_size=1, max_size=6))
def test_answered_requests_never_reach_the_service_and_the_others_always_do(
    data: st.DataObject, requests: list[tuple[bytes, bool]]
) -> None:
    """Pipelined in any pieces: the client gets one response for each request, in order."""
    answers = iter(wanted for _, wanted in requests)
    conversation = Conversation(lambda _m, _t: answered(HttpStatus(status=503, body="no")) if next(answers) else ())
    conversation.armed = True
    upstream = client = b""
    waiting = [RESPONSES[REQUESTS.index(request)] for request, wanted in requests if not wanted]
    expected = [request for request, wanted in requests if not wanted]
    for piece in data.draw(pieces(b"".join(request for request, _ in requests))):
        handed = conversation.from_client(piece)
        upstream, client = upstream + handed.upstream, client + handed.client
        # The service answers as soon as it has the whole of the next request.
        while waiting and upstream.startswith(b"".join(expected[: len(expected) - len(waiting) + 1])):
            handed = conversation.from_upstream(waiting.pop(0))
            upstream, client = upstream + handed.upstream, client + handed.client
    assert b"".join(expected) == upstream
    assert [503 if wanted else _status(request) for request, wanted in requests] == _statuses(
        client, [request for request, _ in requests]
    )


@given(st.lists(st.sampled_from(REQUESTS), min_size=2, max_size=5))
def test_pipelined_requests_without_a_fault_go_on_at_once(requests: list[bytes]) -> None:
    """They do not wait for the responses before them, and the responses pass in order."""
    conversation = Conversation(lambda _method, _target: ())
    everything = b"".join(requests)
    assert everything == conversation.from_client(everything).upstream
    responses = b"".join(RESPONSES[REQUESTS.index(request)] for request in requests)
    assert responses == conversation.from_upstream(responses).client
    assert not conversation.transparent


def test_a_request_that_was_handed_on_in_part_is_not_answered() -> None:
    """The fault comes between two pieces of one head: the service has the beginning, so it gets the rest."""
    conversation = Conversation(lambda _method, _target: answered(HttpStatus()))
    assert conversation.from_client(b"GET / HT").upstream == b"GET / HT"
    conversation.armed = True
    handed = conversation.from_client(b"TP/1.1\r\nHost: x\r\n\r\n")
    assert (handed.upstream, handed.client) == (b"TP/1.1\r\nHost: x\r\n\r\n", b"")


def test_a_client_that_waits_for_100_gets_the_answer_at_once_and_is_hung_up_on() -> None:
    """It has not sent its body, and nobody knows whether it will: RFC 9110, 10.1.1."""
    conversation = Conversation(lambda _method, _target: answered(HttpStatus(status=500)))
    conversation.armed = True
    handed = conversation.from_client(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    )
    assert handed.client.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"connection: close" in handed.client.lower()
    assert handed.hang_up


@pytest.mark.parametrize("old", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"])
def test_a_client_that_closes_after_one_request_is_hung_up_on_after_the_answer(old: bytes) -> None:
    """HTTP/1.0, and Connection: close."""
    conversation = Conversation(lambda _method, _target: answered(HttpStatus(body="no")))
    conversation.armed = True
    handed = conversation.from_client(old)
    assert handed.client.endswith(b"\r\n\r\nno")
    assert handed.hang_up


def test_an_answer_to_head_has_no_body() -> None:
    """Its length is that of the body which GET would get; the connection goes on."""
    conversation = Conversation(lambda _method, _target: answered(HttpStatus(body="four")))
    conversation.armed = True
    handed = conversation.from_client(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"Content-Length: 4\r\n" in handed.client
    assert handed.client.endswith(b"\r\n\r\n")
    assert not handed.hang_up


def test_a_tunnel_passes_after_connect() -> None:
    """What goes through an established tunnel is not looked at."""
    conversation = Conversation(lambda method, _target: () if method == "CONNECT" else answered(HttpStatus()))
    conversation.armed = True
    conversation.from_client(b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n")
    conversation.from_upstream(b"HTTP/1.1 200 OK\r\n\r\n")
    assert conversation.transparent
    assert conversation.from_client(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").client == b""


def _status(request: bytes) -> int:
    return {0: 200, 1: 201, 2: 200, 3: 200, 4: 204}[REQUESTS.index(request)]


def _statuses(stream: bytes, requests: list[bytes]) -> list[int]:
    """What a client reads: the final status of each response."""
    found: list[int] = []
    for request in requests:
        reader = h11.Connection(h11.CLIENT)
        method = request.lstrip().split(b" ", 1)[0]
        reader.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        reader.send(h11.EndOfMessage())
        reader.receive_data(stream)
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            assert event is not h11.NEED_DATA, "the stream ends in the middle of a response"
            if isinstance(event, h11.Response):
                found.append(event.status_code)
        stream = reader.trailing_data[0]
    assert stream == b""
    return found


# Answers that are changed.


def exchange(
    request: bytes, response: bytes, *options: HttpStatus | HttpDelay | HttpHeader | HttpBody, size: int = 0
) -> tuple[bytes, bytes, bool]:
    """What the service gets, what the client gets, and whether it is hung up on; the answer comes in chunks of `size`."""
    conversation = Conversation(lambda _method, _target: answered(*options))
    conversation.armed = True
    upstream = conversation.from_client(request).upstream
    step = size or len(response)
    handed = [conversation.from_upstream(response[at : at + step]) for at in range(0, len(response), step)]
    handed.append(conversation.upstream_ended())
    return upstream, b"".join(one.client for one in handed), any(one.hang_up for one in handed)


def body_of(answer: bytes, method: str = "GET") -> tuple[h11.Response, bytes]:
    """Read an answer as a client does, to its end: the framing must be right."""
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(answer)
    head, body = None, b""
    while not isinstance(event := reader.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Event), f"the answer does not end: {event}"
        if isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
    assert head is not None
    assert reader.trailing_data[0] == b""
    return head, body


GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\nprice: 42 euros"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nprice: \r\n8\r\n42 euros\r\n0\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nprice: 42 euros"


def compressed(coding: str) -> bytes:
    """The same answer with a content coding."""
    body = gzip.compress(b"price: 42 euros", mtime=0) if coding == "gzip" else zlib.compress(b"price: 42 euros")
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize(
    "response",
    [WITH_LENGTH, CHUNKED, UNTIL_CLOSE, compressed("gzip"), compressed("deflate")],
    ids=["length", "chunked", "until close", "gzip", "deflate"],
)
def test_a_body_is_patched_in_any_framing_and_coding(response: bytes, size: int) -> None:
    """Groups are put in; the length is right; the coding is gone, because the body has none any more."""
    patch = HttpBody(patch=(Patch(pattern=r"(\d+) euros", replacement=r"\1\1 dollars"),))
    _, client, _ = exchange(GET, response, patch, size=size)
    head, body = body_of(client)
    assert body == b"price: 4242 dollars"
    assert dict(head.headers)[b"content-length"] == b"19"
    assert b"content-encoding" not in dict(head.headers)


@pytest.mark.parametrize(
    "response",
    [WITH_LENGTH, CHUNKED, UNTIL_CLOSE, compressed("gzip")],
    ids=["length", "chunked", "until close", "gzip"],
)
def test_a_body_is_replaced_in_any_framing_and_coding(response: bytes) -> None:
    """With a media type of its own."""
    _, client, _ = exchange(GET, response, HttpBody(replace="{}", content_type="application/json"))
    head, body = body_of(client)
    assert body == b"{}"
    assert dict(head.headers)[b"content-type"] == b"application/json"


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("response", [WITH_LENGTH, CHUNKED, UNTIL_CLOSE])
def test_a_body_is_cut_short_and_says_so(response: bytes, size: int) -> None:
    """A client sees a whole answer that is shorter; a body that is shorter than the cut is left alone."""
    _, client, _ = exchange(GET, response, HttpBody(truncate=6), size=size)
    assert body_of(client)[1] == b"price:"
    _, client, _ = exchange(GET, response, HttpBody(truncate=99), size=size)
    assert body_of(client)[1] == b"price: 42 euros"


def test_what_a_fault_did_is_counted_only_when_it_did_something() -> None:
    """A pattern that matches nothing, a header that is not there: no proof, and the answer as it was."""
    for options in (
        HttpBody(patch=(Patch(pattern="pounds"),)),
        HttpBody(truncate=15),
        HttpHeader(remove=("X-Nothing",)),
        HttpHeader(remove=("X-Nothing",), stream="upstream"),
    ):
        conversation = Conversation(lambda _method, _target, options=options: answered(options))
        conversation.armed = True
        handed = [conversation.from_client(GET), conversation.from_upstream(WITH_LENGTH)]
        assert handed[0].upstream == GET
        assert body_of(handed[1].client)[1] == b"price: 42 euros"
        assert [touch for one in handed for touch in one.touches] == []


def test_headers_of_a_request_are_set_and_removed() -> None:
    """The first of a name is replaced where it stands, the others of that name go; the body follows."""
    request = b"POST /a HTTP/1.1\r\nhost: x\r\nCookie: a\r\nCookie: b\r\nX-Old: 1\r\nContent-Length: 2\r\n\r\nhi"
    edit = HttpHeader(set={"Cookie": "none", "X-New": "2"}, remove=("x-old",), stream="upstream")
    upstream, client, _ = exchange(request, WITH_LENGTH, edit)
    assert upstream == b"POST /a HTTP/1.1\r\nhost: x\r\nCookie: none\r\nContent-Length: 2\r\nX-New: 2\r\n\r\nhi"
    assert client == WITH_LENGTH


def test_headers_of_an_answer_are_changed_while_its_body_streams() -> None:
    """Chunk by chunk, trailers too."""
    conversation = Conversation(
        lambda _m, _t: answered(HttpHeader(set={"Cache-Control": "no-store"}, remove=("Server",)))
    )
    conversation.armed = True
    conversation.from_client(GET)
    head = conversation.from_upstream(b"HTTP/1.1 200 OK\r\nServer: s\r\nTransfer-Encoding: chunked\r\n\r\n").client
    assert b"Cache-Control: no-store\r\n" in head
    assert b"server" not in head.lower()
    assert b"abc" in conversation.from_upstream(b"3\r\nabc\r\n").client
    assert b"x-sum: 1" in conversation.from_upstream(b"0\r\nx-sum: 1\r\n\r\n").client.lower()


def test_an_answer_without_an_end_of_its_own_is_ended_for_an_old_client_by_hanging_up() -> None:
    """HTTP/1.0 knows no chunks."""
    _, client, hang_up = exchange(b"GET / HTTP/1.0\r\n\r\n", UNTIL_CLOSE, HttpHeader(set={"X-A": "b"}))
    assert client.endswith(b"price: 42 euros")
    assert b"chunked" not in client
    assert hang_up


@pytest.mark.parametrize("response", [b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", WITH_LENGTH[:-15]])
def test_an_answer_without_a_body_gets_none(response: bytes) -> None:
    """304, and the answer to HEAD, whose length is that of another."""
    method = "GET" if b"304" in response else "HEAD"
    _, client, _ = exchange(GET.replace(b"GET", method.encode()), response, HttpBody(replace="x"))
    assert body_of(client, method)[1] == b""
    assert client == response


def test_what_is_not_http_passes_a_fault_that_changes_answers() -> None:
    """Also half a head that turns out not to be one."""
    _, client, _ = exchange(GET, b"\x00\x01 not at all\r\n\r\n", HttpBody(replace="x"), size=3)
    assert client == b"\x00\x01 not at all\r\n\r\n"
    upgraded = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nraw"
    asked = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"
    assert exchange(asked, upgraded, HttpBody(replace="x"))[1] == upgraded


def test_a_body_that_is_too_long_to_be_searched_passes() -> None:
    """All of it, framed as the client understands."""
    long = b"price" * (LONGEST_BODY // 4)
    response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(long) + long
    _, client, _ = exchange(GET, response, HttpBody(patch=(Patch(pattern="price", replacement="x"),)), size=1 << 18)
    assert body_of(client)[1] == long


def test_a_bomb_is_not_blown_up() -> None:
    """What decompresses to more than is searched passes as it is."""
    bomb = gzip.compress(bytes(2 * LONGEST_BODY))
    response = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb
    _, client, _ = exchange(GET, response, HttpBody(patch=(Patch(pattern="\0", replacement="x"),)))
    assert body_of(client)[1] == bomb


def test_a_service_that_ends_in_the_middle_of_a_changed_answer_ends_the_client() -> None:
    """A client must not take half of an answer for all of it."""
    _, client, hang_up = exchange(GET, CHUNKED[:-9], HttpHeader(set={"X-A": "b"}))
    assert hang_up
    assert not client.endswith(b"0\r\n\r\n")


def test_a_fault_that_ended_changes_no_answer_that_has_not_begun() -> None:
    """The request was drawn, the answer comes after: as the service gives it."""
    edit = HttpHeader(set={"X-A": "b"})
    conversation = Conversation(lambda _method, _target: answered(edit))
    conversation.armed = True
    conversation.from_client(GET)
    conversation.forget(edit)
    assert b"X-A" not in conversation.from_upstream(WITH_LENGTH).client


@given(st.data(), st.lists(st.sampled_from(SERVED), min_size=1, max_size=5))
def test_exchanges_whose_headers_change_stay_exchanges_in_any_pieces(
    data: st.DataObject, exchanges: list[tuple[bytes, bytes]]
) -> None:
    """One after the other on one connection: each answer carries the mark, and is whole."""
    conversation = Conversation(lambda _method, _target: answered(HttpHeader(set={"X-Mark": "m"})))
    conversation.armed = True
    for request, response in exchanges:
        passed = b"".join(conversation.from_client(piece).upstream for piece in data.draw(pieces(request)))
        assert request == passed
        back = b"".join(conversation.from_upstream(piece).client for piece in data.draw(pieces(response)))
        method = request.partition(b" ")[0].decode()
        head, body = body_of(back, method)
        assert dict(head.headers)[b"x-mark"] == b"m"
        assert body == body_of(response, method)[1]


def test_a_delay_holds_the_request_and_what_follows_it() -> None:
    """Said with the part of the request that begins it; the answer that the proxy gives waits as long."""
    conversation = Conversation(lambda _method, _target: answered(HttpDelay(delay=2.0)))
    conversation.armed = True
    (part,) = (part for part in conversation.from_client(GET).to_service if part.data)
    assert [seconds for _, seconds in part.waits] == [2.0]
    conversation = Conversation(lambda _method, _target: answered(HttpDelay(delay=2.0), HttpStatus()))
    conversation.armed = True
    (part,) = (part for part in conversation.from_client(GET).to_client if part.data)
    assert [seconds for _, seconds in part.waits] == [2.0]
