"""HTTP as it passes by: bytes are never changed, whatever pieces they come in; requests that are answered end here."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.chaos.conversation import Conversation
from stormwatch.chaos.http_options import HttpStatus

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


def pieces(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """A stream cut at any places."""
    cuts = st.sets(st.integers(1, max(1, len(data) - 1)), max_size=8)
    return cuts.map(lambda at: [data[a:b] for a, b in zip([0, *sorted(at)], [*sorted(at), len(data)], strict=True)])


@given(st.data(), st.lists(st.sampled_from(SERVED), min_size=1, max_size=5), st.booleans())
def test_exchanges_pass_unchanged_in_any_pieces(
    data: st.DataObject, exchanges: list[tuple[bytes, bytes]], armed: bool
) -> None:
    """Whether a fault is in place that wants other requests, or none: what goes out is what came in, and all of it."""
    conversation = Conversation(lambda _method, _target: None)
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
    conversation = Conversation(lambda _method, _target: None)
    assert stream == [conversation.from_client(piece).upstream for piece in stream]


@given(st.binary(min_size=1, max_size=300).flatmap(pieces))
def test_anything_at_all_passes_with_a_fault_when_the_client_ends(stream: list[bytes]) -> None:
    """What is held for a decision is at most held until the last word; nothing is lost, nothing comes twice."""
    conversation = Conversation(lambda _method, _target: None)
    conversation.armed = True
    passed = b"".join(conversation.from_client(piece).upstream for piece in stream) + conversation.release()
    assert b"".join(stream) == passed


@given(st.data(), st.lists(st.tuples(st.sampled_from(REQUESTS), st.booleans()), min_size=1, max_size=6))
def test_answered_requests_never_reach_the_service_and_the_others_always_do(
    data: st.DataObject, requests: list[tuple[bytes, bool]]
) -> None:
    """Pipelined in any pieces: the client gets one response for each request, in order."""
    answers = iter(wanted for _, wanted in requests)
    conversation = Conversation(lambda _m, _t: HttpStatus(status=503, body="no") if next(answers) else None)
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
    conversation = Conversation(lambda _method, _target: None)
    everything = b"".join(requests)
    assert everything == conversation.from_client(everything).upstream
    responses = b"".join(RESPONSES[REQUESTS.index(request)] for request in requests)
    assert responses == conversation.from_upstream(responses).client
    assert not conversation.transparent


def test_a_request_that_was_handed_on_in_part_is_not_answered() -> None:
    """The fault comes between two pieces of one head: the service has the beginning, so it gets the rest."""
    conversation = Conversation(lambda _method, _target: HttpStatus())
    assert conversation.from_client(b"GET / HT").upstream == b"GET / HT"
    conversation.armed = True
    handed = conversation.from_client(b"TP/1.1\r\nHost: x\r\n\r\n")
    assert (handed.upstream, handed.client) == (b"TP/1.1\r\nHost: x\r\n\r\n", b"")


def test_a_client_that_waits_for_100_gets_the_answer_at_once_and_is_hung_up_on() -> None:
    """It has not sent its body, and nobody knows whether it will: RFC 9110, 10.1.1."""
    conversation = Conversation(lambda _method, _target: HttpStatus(status=500))
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
    conversation = Conversation(lambda _method, _target: HttpStatus(body="no"))
    conversation.armed = True
    handed = conversation.from_client(old)
    assert handed.client.endswith(b"\r\n\r\nno")
    assert handed.hang_up


def test_an_answer_to_head_has_no_body() -> None:
    """Its length is that of the body which GET would get; the connection goes on."""
    conversation = Conversation(lambda _method, _target: HttpStatus(body="four"))
    conversation.armed = True
    handed = conversation.from_client(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"Content-Length: 4\r\n" in handed.client
    assert handed.client.endswith(b"\r\n\r\n")
    assert not handed.hang_up


def test_a_tunnel_passes_after_connect() -> None:
    """What goes through an established tunnel is not looked at."""
    conversation = Conversation(lambda method, _target: None if method == "CONNECT" else HttpStatus())
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
