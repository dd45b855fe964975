"""A secret that a target echoes leaves nothing of itself, in whichever encoding it comes back."""

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.harness.secret import Secrets, mask_of
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.masking import MASK
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Reason
from stormwatch.probes.run import run_once
from stormwatch.probes.watch import Watch

SECRET = 's3cr&t/"ü+ canary'

ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a URL": lambda text: quote(text, safe=""),
    "in a path": quote,
    "in a form": quote_plus,
    "in JSON": lambda text: json.dumps({"echo": text}),
    "in JSON with its letters": lambda text: json.dumps({"echo": text}, ensure_ascii=False),
    "in HTML": html.escape,
    "in a Python repr": repr,
    "as a password in basic authentication": lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
    "in the middle of base64": lambda text: base64.b64encode(f"ab{text}xyz".encode()).decode(),
    "in base64 for URLs": lambda text: base64.urlsafe_b64encode(f"a{text}".encode()).decode(),
}


@pytest.mark.parametrize("how", ENCODINGS)
def test_every_encoding_of_the_web_is_known(how: str) -> None:
    """A request that is echoed by an error page has the secret in one of these."""
    echoed = ENCODINGS[how](SECRET)
    shown = Secrets.of([SECRET]).mask({"body": [f"you sent {echoed}!"]})["body"][0]
    assert MASK in shown
    for encode in ENCODINGS.values():
        assert encode(SECRET) not in shown
    assert "canary" not in shown


def test_a_secret_address_is_known_by_its_path() -> None:
    """A server that quotes the request, and a log of it, have no scheme and no host."""
    secrets = Secrets.of(["https://hooks.test/services/T0/B0/canary", "http://public.test/", "http://a.test/short"])
    assert secrets.mask("404 for POST /services/T0/B0/canary HTTP/1.1") == "404 for POST *** HTTP/1.1"
    assert secrets.mask("%2Fservices%2FT0%2FB0%2Fcanary") == "***"
    assert secrets.mask("GET / HTTP/1.1, GET /short") == "GET / HTTP/1.1, GET /short"


@given(before=st.binary(max_size=7), after=st.binary(max_size=7), secret=st.text(min_size=8, max_size=40))
def test_base64_hides_a_secret_wherever_it_begins(before: bytes, after: bytes, secret: str) -> None:
    """Of the digits that only the secret decides none is left in a row."""
    whole = base64.b64encode(before + secret.encode() + after).decode()
    assert MASK in Secrets.of([secret]).mask(whole)


def test_without_secrets_nothing_is_looked_through() -> None:
    """The usual case costs nothing."""
    assert mask_of(frozenset()) is None


async def test_a_result_is_made_without_the_secrets() -> None:
    """Messages, attempts, evidence and the labels of measures."""

    async def check(watch: Watch) -> None:
        watch.note("head", [f"X-Echo: {SECRET}"])
        watch.measure("probe_expect_info", 1, banner=f"hello {SECRET}")
        raise ProbeFailed(Reason.ASSERTION, f"the body is {SECRET}")

    probe = Probe(name="echo", kind="tcp", target="nowhere", check=check)
    async with Resources() as resources:
        result = await run_once(probe, clock=SystemClock(), resources=resources, mask=mask_of(frozenset({SECRET})))

    assert result.message == "the body is ***"
    assert SECRET not in json.dumps(result.as_json(), ensure_ascii=False)
    assert result.measures[0].labels == {"banner": "hello ***"}
