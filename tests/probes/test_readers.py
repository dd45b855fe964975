"""The readers of what comes from outside: handshake messages, endpoints, URLs, records, cookies of the head."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.probes.answer import header_values, show_head
from stormwatch.probes.endpoint import Endpoint, address_hash, family
from stormwatch.probes.handshake import Handshake, read_certificates, read_hello
from stormwatch.probes.url import Url


@given(st.binary(max_size=400), st.booleans())
def test_no_handshake_message_makes_the_reader_fail(message: bytes, tls13: bool) -> None:
    """Servers send what they like; libcurl passes it on before it is verified."""
    handshake = Handshake(lambda: 0.0)
    for kind in range(7):
        for first in (b"\x02", b"\x0b", b""):
            if first + message:
                handshake.take(kind, first + message)
    assert isinstance(handshake.version + handshake.cipher + handshake.alert, str)
    assert isinstance(handshake.chain, tuple)
    assert isinstance(read_certificates(bytes(4) + message, tls13=tls13), tuple)
    assert isinstance(read_hello(bytes(39) + message), tuple)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.booleans())
def test_the_certificates_of_a_message_come_back_in_their_order(ders: list[bytes], tls13: bool) -> None:
    """RFC 8446 §4.4.2 and RFC 5246 §7.4.2."""
    entries = b"".join(len(der).to_bytes(3) + der + (b"\x00\x02\xab\xcd" if tls13 else b"") for der in ders)
    body = (b"\x00" if tls13 else b"") + len(entries).to_bytes(3) + entries
    assert read_certificates(b"\x0b" + len(body).to_bytes(3) + body, tls13=tls13) == tuple(ders)


def test_a_hello_says_version_and_cipher_by_the_names_that_blackbox_exporter_exports() -> None:
    """TLS 1.3 stands in an extension, TLS 1.2 in the old place; an unknown suite is its number."""
    start = b"\x02\x00\x00\x00\x03\x03" + bytes(32) + b"\x00"
    assert read_hello(start + b"\xc0\x2f\x00") == ("TLS 1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
    extension = b"\x00\x06\x00\x2b\x00\x02\x03\x04"
    assert read_hello(start + b"\x13\x02\x00" + extension) == ("TLS 1.3", "TLS_AES_256_GCM_SHA384")
    assert read_hello(start + b"\xfe\xfe\x00") == ("TLS 1.2", "0xFEFE")


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_endpoint_survives_being_shown_and_read(address: ipaddress.IPv4Address, port: int) -> None:
    """Both families, the sixth in brackets."""
    place = Endpoint(str(address), port)
    assert Endpoint.parse(str(place)) == place
    assert family(place.host) == address.version


@given(st.text(max_size=30))
def test_any_text_is_an_endpoint_or_a_value_error(text: str) -> None:
    """And a URL or a ValueError."""
    for parse in (Endpoint.parse, Url.parse):
        with contextlib.suppress(ValueError):
            assert parse(text) == parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://shop.test", Url("http://shop.test", False, Endpoint("shop.test", 80))),
        ("https://[::1]:8443/a?b#c", Url("https://[::1]:8443/a?b", True, Endpoint("::1", 8443))),
        ("https://bücher.test/", Url("https://xn--bcher-kva.test/", True, Endpoint("xn--bcher-kva.test", 443))),
    ],
)
def test_a_url_is_taken_apart(text: str, expected: Url) -> None:
    """Default ports, addresses, names in other scripts; the fragment stays at home."""
    assert Url.parse(text) == expected


def test_the_hash_of_an_address_is_blackbox_exporters() -> None:
    """32-bit FNV-1a, as seen of blackbox_exporter 0.23 for 127.0.0.1."""
    assert address_hash("127.0.0.1") == 3668918509


@given(
    st.sampled_from(["Set-Cookie", "set-cookie", "AUTHORIZATION", "Cookie"]), st.text("abcdef0123456789", min_size=8)
)
def test_no_secret_of_a_head_is_shown(name: str, secret: str) -> None:
    """Whatever its case."""
    head = [b"HTTP/1.1 200 OK\r\n", f"{name}: token={secret}\r\n".encode(), b"X-Kept: yes\r\n", b"\r\n"]
    shown = show_head(head)
    assert secret not in shown
    assert "X-Kept: yes" in shown
    assert header_values(head, "x-KEPT") == [b"yes"]
