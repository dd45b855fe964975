"""The faults that exist: options as users write them, each with its mistakes, its page in the reference, its reasons."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.address import parse_address, show_address
from stormwatch.chaos.catalog import FAULTS, read_options
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.http_options import HttpStatus
from stormwatch.chaos.route import Route, RouteTls, client_context, server_context

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"


@pytest.mark.parametrize(
    "written",
    [
        {"kind": "tcp-latency", "target": "payments", "delay": "2s", "jitter": "100ms", "stream": "both"},
        {"kind": "tcp-blackhole", "target": "payments", "share": "50%", "seed": 7},
        {"kind": "tcp-reset", "target": "payments"},
        {"kind": "http-status", "target": "payments", "status": 503, "path": "/api/*", "method": "GET,POST"},
    ],
)
def test_a_fault_is_read_as_users_write_it_and_written_back(written: dict[str, Any]) -> None:
    """Kind, target and options in one; what is written out is read back equal and holds what was written."""
    spec = FaultSpec.from_json(written)
    assert spec == FaultSpec.from_json(spec.as_json())
    assert written.items() <= spec.as_json().items()


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("tcp-latency", {"delay": "0s"}, "delay must be more than 0s"),
        ("tcp-latency", {"delay": "1s", "jitter": "2s"}, "jitter (2 s) must not be more than delay (1 s)"),
        ("tcp-latency", {"delay": 2}, "a duration is written like 800ms"),
        ("tcp-latency", {"delay": "1s", "stream": "sideways"}, "'upstream', 'downstream' or 'both'"),
        ("tcp-blackhole", {"share": "0%"}, "share must be more than 0%"),
        ("http-status", {"status": 42}, "greater than or equal to 200"),
        ("http-status", {"status": 204, "body": "x"}, "an answer with status 204 has no body"),
        ("http-status", {"method": "GET POST"}, "method is written like *, POST or GET,HEAD, not 'GET POST'"),
        ("http-status", {"content_type": "a\r\nb"}, "content_type is a media type like text/html"),
        ("dns-nxdomains", {}, "there is no fault 'dns-nxdomains'; there are tcp-latency"),
        ("dns-nxdomain", {"name": ""}, "name is a glob like *.shop.example, or * for all names; it is empty"),
        ("dns-servfail", {"type": "A,AAAAA"}, "type: there is no record type 'AAAAA'; write *, A or A,AAAA"),
        ("dns-slow", {"delay": "0s"}, "delay must be more than 0s"),
        ("dns-slow", {"delay": "1s", "jitter": "2s"}, "jitter (2 s) must not be more than delay (1 s)"),
        ("dns-wrong-address", {"ipv4": "::1"}, "ipv4 is an IPv4 address, or empty, not '::1'"),
        ("dns-wrong-address", {"ipv4": "", "ipv6": ""}, "ipv4 and ipv6 are both empty"),
        ("dns-timeout", {"share": "0%"}, "share must be more than 0%"),
        ("dns-stale-soa", {"behind": 0}, "greater than or equal to 1"),
    ],
)
def test_a_mistake_is_named(kind: str, options: dict[str, Any], said: str) -> None:
    """Asked, seen, remedy."""
    with pytest.raises(ValueError, match=re.escape(said)):
        read_options(kind, options)


@pytest.mark.parametrize(
    ("options", "method", "target", "matches"),
    [
        ({}, "GET", "/anything?at=all", True),
        ({"path": "/api/*"}, "GET", "/api/a/b", True),
        ({"path": "/api/*"}, "GET", "/apix", False),
        ({"path": "/api/?"}, "GET", "/api/a", True),
        ({"path": "/a.c"}, "GET", "/abc", False),
        ({"path": "/pay"}, "GET", "/pay?card=1", True),
        ({"path": "/pay"}, "GET", "http://shop.test/pay?card=1", True),
        ({"path": "/"}, "GET", "http://shop.test", True),
        ({"method": "post, PUT"}, "PUT", "/", True),
        ({"method": "POST"}, "GET", "/", False),
    ],
)
def test_requests_are_matched_by_path_and_method(
    options: dict[str, Any], method: str, target: str, matches: bool
) -> None:
    """A glob over the path, without its query."""
    assert matches is HttpStatus(**options).matches(method, target)


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_has_its_section_in_the_reference_with_every_option(kind: str) -> None:
    """One section a kind; in its table one row an option."""
    text = DOCS.read_text(encoding="utf-8")
    section = re.search(rf"^## `{kind}`$(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section, f"docs/reference/faults.md has no section `{kind}`"
    documented = re.findall(r"^\| `(\w+)` \|", section[1], re.MULTILINE)
    assert documented == [field.name for field in fields(FAULTS[kind].options)]
    for reason in FAULTS[kind].reasons:
        assert f"`{reason.value}`" in section[1]


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:443", ("::1", 443)), ("shop.example:0", ("shop.example", 0))],
)
def test_an_address_is_host_and_port(text: str, parsed: tuple[str, int]) -> None:
    """And back."""
    assert parsed == parse_address(text)
    assert text == show_address(*parsed)


@pytest.mark.parametrize("text", ["127.0.0.1", ":80", "host:", "host:http", "host:99999", "::1:80", ""])
def test_what_is_no_address_is_refused(text: str) -> None:
    """With how it is written."""
    with pytest.raises(ValueError, match="an address is written host:port, like"):
        parse_address(text)
    with pytest.raises(ValueError, match="an address is written host:port, like"):
        Route(name="x", listen=text, upstream="127.0.0.1:1")


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Missing, or not one."""
    missing = RouteTls(certificate=tmp_path / "none.pem", key=tmp_path / "none.key", ca=tmp_path / "ca.pem")
    with pytest.raises(ValueError, match=r"cannot use the certificate .*/none\.pem with the key .*: No such file"):
        server_context(missing)
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ValueError, match=r"cannot use the CA file .*/ca\.pem"):
        client_context(missing)
