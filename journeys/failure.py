"""From an exception in a journey to a reason and a plain sentence: the locator, what was expected, what was there.

The reason of a journey that failed:

timeout     Playwright's TimeoutError (an action or a page did not come to its end), httpx's time-outs, the deadline
assertion   a plain `assert` of the test
too-slow    a step took longer than its budget
step        everything else: an `expect` that did not come true, a page that could not be opened, any other exception
"""

import re

from stormwatch.journeys.step import OverBudget
from stormwatch.probes.result import Reason

_EXPECT = re.compile(r'Expect "(?P<matcher>\w+)"(?: (?P<locator>.+?))? with timeout (?P<timeout>\d+(?:\.\d+)?)ms')
_ACTION = re.compile(r"(?P<what>[A-Z]\w+)\.(?P<call>\w+): (?P<said>.*)", re.DOTALL)
_TIMEOUT = re.compile(r"Timeout (\d+(?:\.\d+)?)ms exceeded")
_AMBIGUOUS = re.compile(r"strict mode violation: (?P<locator>.+) resolved to (?P<count>\d+) elements")
_NET = re.compile(r"net::(ERR_\w+)(?: at (\S+))?")
_NET_SAYS = {
    "ERR_NAME_NOT_RESOLVED": "its name did not resolve",
    "ERR_CONNECTION_REFUSED": "the connection was refused",
    "ERR_CONNECTION_RESET": "the connection was reset",
    "ERR_CONNECTION_CLOSED": "the connection was closed before an answer",
    "ERR_EMPTY_RESPONSE": "the connection was closed before an answer",
    "ERR_CONNECTION_TIMED_OUT": "the connection was not made in time",
    "ERR_TIMED_OUT": "no answer in time",
    "ERR_ADDRESS_UNREACHABLE": "its address cannot be reached",
    "ERR_TOO_MANY_REDIRECTS": "it redirects without end",
    "ERR_CERT_AUTHORITY_INVALID": "its certificate is not from a trusted authority",
    "ERR_CERT_COMMON_NAME_INVALID": "its certificate is for another name",
    "ERR_CERT_DATE_INVALID": "its certificate is not valid today",
    "ERR_SSL_PROTOCOL_ERROR": "the TLS handshake failed",
}
_OBSTACLES = (
    ("waiting for scheduled navigations to finish", "the page that it leads to did not come"),
    ("intercepts pointer events", "{line}"),
    ("element is not enabled", "it is not enabled"),
    ("element is not editable", "it cannot be edited"),
    ("element is not visible", "it is not visible"),
    ("element is not stable", "it does not stop moving"),
    ("element is outside of the viewport", "it is outside of the window"),
    ("did not find some options", "it has no such option"),
)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
SENTENCE = 1000
"""Characters of a sentence, and of what a page is quoted with in it: an element may hold a book, and a script raise one."""


def explain(error: BaseException) -> tuple[Reason, str]:
    """The reason and one sentence, without the call log, for what a journey raised."""
    reason, sentence = _explain(error)
    return reason, shortened(sentence, 2 * SENTENCE)


def shortened(text: str, characters: int) -> str:
    """The text, or its beginning and how much of it is missing."""
    missing = len(text) - characters
    return text if missing <= 0 else f"{text[:characters]}… ({missing} characters more)"


def _explain(error: BaseException) -> tuple[Reason, str]:
    if isinstance(error, BaseExceptionGroup) and error.exceptions:
        reason, sentence = _explain(error.exceptions[0])
        more = len(error.exceptions) - 1
        return reason, f"{sentence} (and {more} more)" if more else sentence
    said = _ESCAPES.sub("", str(error))
    if type(error).__module__.startswith("playwright."):
        return _of_playwright(error, said)
    if isinstance(error, OverBudget):
        return Reason.TOO_SLOW, said
    if isinstance(error, AssertionError):
        if match := _EXPECT.search(said):
            return Reason.STEP, _of_expect(said, match)
        return Reason.ASSERTION, _first_line(said) or "an assertion failed"
    if _is_timeout(error):
        return Reason.TIMEOUT, _of_any(error, said)
    return Reason.STEP, _of_any(error, said)


def _is_timeout(error: BaseException) -> bool:
    # By name: httpx, requests and aiohttp need not be installed for their time-outs to be known.
    return isinstance(error, TimeoutError) or any(
        kind.__name__ in ("TimeoutException", "Timeout") for kind in type(error).__mro__
    )


def _of_any(error: BaseException, said: str) -> str:
    first = _first_line(said)
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _of_expect(said: str, match: re.Match[str]) -> str:
    head, _, _ = said.partition("Call log:")
    lines = [line.strip() for line in head.splitlines() if line.strip()]
    locator, first = match["locator"], lines[0]
    what = locator or "the page"
    if (rest := first.removeprefix("Locator expected ")) != first:
        sentence = f"expected {what} {rest}"
    elif found := re.fullmatch(r"Page (URL|title) expected (.*)", first):
        sentence = f"expected the page's {found[1]} {found[2]}"
    else:
        wanted = next((f" {line.partition(': ')[2]}" for line in lines if line.startswith("Expected value: ")), "")
        sentence = f"{first}: expected {what} {match['matcher'].replace('_', ' ')}{wanted}"
    if ambiguous := _AMBIGUOUS.search(head):
        seen = f"{ambiguous['count']} elements match it"
    elif "element(s) not found" in head:
        seen = "there was no such element"
    else:
        seen = "saw " + next(
            (line.partition(": ")[2] for line in lines if line.startswith("Actual value: ")), "nothing"
        )
    return f"{sentence} within {_seconds(match['timeout'])}, {shortened(seen, SENTENCE)}"


def _of_playwright(error: BaseException, said: str) -> tuple[Reason, str]:
    reason = Reason.TIMEOUT if "TimeoutError" in {kind.__name__ for kind in type(error).__mro__} else Reason.STEP
    head, _, log = said.partition("Call log:")
    action = _ACTION.match(head)
    if not action:
        return reason, _first_line(said)
    call, first = action["call"].replace("_", " "), _first_line(action["said"])
    locator = _after("waiting for ", log)
    if net := _NET.search(first):
        address = net[2] or _between('navigating to "', '"', log)
        return reason, f"could not open {address}: {_NET_SAYS.get(net[1], net[1])}"
    if ambiguous := _AMBIGUOUS.search(action["said"]):
        return reason, f"{call} {ambiguous['locator']}: {ambiguous['count']} elements match, one was expected"
    if late := _TIMEOUT.search(first):
        within = _seconds(late[1])
        if address := _between('navigating to "', '"', log):
            return reason, f"{address} was not loaded within {within}"
        if action["what"] in {"Locator", "Frame", "ElementHandle"} or locator:
            return reason, f"{call} {locator} was not possible within {within}: {_obstacle(log)}"
        awaited = _after("waiting for ", said)
        return reason, f"{call}: {awaited or 'nothing came'} within {within}"
    return reason, f"{call} {locator}: {first}" if locator else f"{call}: {first}"


def _obstacle(log: str) -> str:
    for line in (line.strip(" -\t") for line in reversed(log.splitlines())):
        for sign, meaning in _OBSTACLES:
            if sign in line:
                return meaning.format(line=line)
    return "it was there, and did not answer" if "locator resolved to" in log else "there was no such element"


def _after(sign: str, text: str) -> str:
    found = re.search(rf"{re.escape(sign)}(?!element to be )(.+)", text)
    return found[1].strip() if found else ""


def _between(sign: str, end: str, text: str) -> str:
    found = re.search(rf"{re.escape(sign)}(.+?){re.escape(end)}", text)
    return found[1] if found else ""


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _seconds(milliseconds: str) -> str:
    return f"{float(milliseconds) / 1000:.3g} s"
