"""From what Playwright, httpx and `assert` raise to a reason and one plain sentence.

The messages are Playwright's own, as version 1.65 writes them; `test_sentences.py` compares with a running one.
"""

import httpx
import playwright.sync_api
import pytest

from stormwatch.journeys.failure import explain
from stormwatch.probes.result import Reason

CASES = [
    (
        AssertionError(
            "Locator expected to be visible\nActual value: None\nError: element(s) not found \nCall log:\n"
            '  - Expect "to_be_visible" get_by_role("heading", name="Thank you") with timeout 5000ms\n'
            '  - waiting for get_by_role("heading", name="Thank you")\n'
        ),
        Reason.STEP,
        'expected get_by_role("heading", name="Thank you") to be visible within 5 s, there was no such element',
    ),
    (
        AssertionError(
            "Locator expected to have text 'Total €25.00'\nActual value: Total €25.01 \nCall log:\n"
            '  - Expect "to_have_text" get_by_test_id("total") with timeout 700ms\n'
        ),
        Reason.STEP,
        "expected get_by_test_id(\"total\") to have text 'Total €25.00' within 0.7 s, saw Total €25.01",
    ),
    (
        AssertionError(
            "the sum is right\nExpected value: 'Total 4'\nActual value: Total 3 \nCall log:\n"
            '  - Expect "to_have_text" get_by_test_id("total") with timeout 5000ms\n'
        ),
        Reason.STEP,
        "the sum is right: expected get_by_test_id(\"total\") to have text 'Total 4' within 5 s, saw Total 3",
    ),
    (
        AssertionError(
            "Page URL expected to be 'http://x/'\nActual value: http://y/ \nCall log:\n"
            '  - Expect "to_have_url" with timeout 5000ms\n'
        ),
        Reason.STEP,
        "expected the page's URL to be 'http://x/' within 5 s, saw http://y/",
    ),
    (
        AssertionError(
            "Locator expected to have text 'a'\nActual value: None\n"
            'Error: strict mode violation: locator("p") resolved to 3 elements:\n    1) <p>a</p>\n \nCall log:\n'
            '  - Expect "to_have_text" locator("p") with timeout 700ms\n'
        ),
        Reason.STEP,
        "expected locator(\"p\") to have text 'a' within 0.7 s, 3 elements match it",
    ),
    (
        playwright.sync_api.TimeoutError(
            'Locator.click: Timeout 30000ms exceeded.\nCall log:\n  - waiting for get_by_role("button", name="Pay")\n'
        ),
        Reason.TIMEOUT,
        'click get_by_role("button", name="Pay") was not possible within 30 s: there was no such element',
    ),
    (
        playwright.sync_api.TimeoutError(
            'Locator.click: Timeout 700ms exceeded.\nCall log:\n  - waiting for get_by_role("button", name="Pay")\n'
            "    - locator resolved to <button disabled>Pay</button>\n  - attempting click action\n"
            "    2 × waiting for element to be visible, enabled and stable\n      - element is not enabled\n"
            "    - retrying click action\n    - waiting 20ms\n"
        ),
        Reason.TIMEOUT,
        'click get_by_role("button", name="Pay") was not possible within 0.7 s: it is not enabled',
    ),
    (
        playwright.sync_api.TimeoutError(
            'Locator.click: Timeout 700ms exceeded.\nCall log:\n  - waiting for locator("#buy")\n'
            "    - locator resolved to <button>Buy</button>\n  - attempting click action\n"
            "    - <div>We use cookies</div> intercepts pointer events\n  - retrying click action\n"
        ),
        Reason.TIMEOUT,
        'click locator("#buy") was not possible within 0.7 s: <div>We use cookies</div> intercepts pointer events',
    ),
    (
        playwright.sync_api.TimeoutError(
            'Page.goto: Timeout 700ms exceeded.\nCall log:\n  - navigating to "http://shop/slow", waiting until "load"\n'
        ),
        Reason.TIMEOUT,
        "http://shop/slow was not loaded within 0.7 s",
    ),
    (
        playwright.sync_api.TimeoutError(
            'Page.wait_for_url: Timeout 700ms exceeded.\n=== logs ===\nwaiting for navigation to "**/x" until "load"\n==='
        ),
        Reason.TIMEOUT,
        'wait for url: navigation to "**/x" until "load" within 0.7 s',
    ),
    (
        playwright.sync_api.Error(
            "Page.goto: net::ERR_NAME_NOT_RESOLVED at http://nope.invalid/\nCall log:\n"
            '  - navigating to "http://nope.invalid/", waiting until "load"\n'
        ),
        Reason.STEP,
        "could not open http://nope.invalid/: its name did not resolve",
    ),
    (
        playwright.sync_api.Error(
            'Locator.click: Error: strict mode violation: locator("p") resolved to 3 elements:\n    1) <p>a</p>\n'
            'Call log:\n  - waiting for locator("p")\n'
        ),
        Reason.STEP,
        'click locator("p"): 3 elements match, one was expected',
    ),
    (AssertionError("the cart is empty\nassert []"), Reason.ASSERTION, "the cart is empty"),
    (AssertionError(), Reason.ASSERTION, "an assertion failed"),
    (httpx.ReadTimeout("timed out"), Reason.TIMEOUT, "ReadTimeout: timed out"),
    (httpx.ConnectError("[Errno 111] Connection refused"), Reason.STEP, "ConnectError: [Errno 111] Connection refused"),
    (KeyError("token"), Reason.STEP, "KeyError: 'token'"),
    (
        ExceptionGroup("soft", [AssertionError("first"), AssertionError("second")]),
        Reason.ASSERTION,
        "first (and 1 more)",
    ),
]


@pytest.mark.parametrize(("error", "reason", "sentence"), CASES, ids=[case[2][:40] for case in CASES])
def test_what_was_raised_becomes_a_reason_and_a_sentence(error: Exception, reason: Reason, sentence: str) -> None:
    assert (reason, sentence) == explain(error)
