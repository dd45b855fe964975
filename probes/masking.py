"""What a secret looks like in things that people see, and how it is taken out of them: in every encoding of the web."""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"
_ENOUGH: Final = 8
"""Digits of base64 by which a secret is known: six of its bytes."""
_BETWEEN: Final = " -\u00a0\u202f"
"""What stands between groups of digits."""


class Secret(str):
    """A text with a secret in it: the text itself for whoever sends it, `'***'` for whoever prints what holds it."""

    __slots__ = ()

    def __repr__(self) -> str:
        """The mask, so that a traceback or a dataclass does not show it."""
        return repr(MASK)


def pattern_of(secrets: Iterable[str]) -> re.Pattern[str] | None:
    """What finds these secrets in a text, the longest first; None where there is nothing to find."""
    known: dict[str, int] = {}
    for secret in secrets:
        known.update((re.escape(form), len(form)) for form in forms(secret))
        if digits := _digits(secret):
            known[rf"(?:[{re.escape(_BETWEEN)}+]|%20|&nbsp;)?".join(digits)] = len(digits)
    return re.compile("|".join(sorted(known, key=lambda form: -known[form]))) if known else None


def masked(value: Any, pattern: re.Pattern[str]) -> Any:
    """The same JSON value with the mask in the place of all that `pattern` finds, in keys too."""
    if isinstance(value, str):
        return pattern.sub(MASK, value)
    if isinstance(value, Mapping):
        return {masked(key, pattern): masked(item, pattern) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, pattern) for item in value]
    return value


def forms(secret: str) -> set[str]:
    """How a secret may look in what comes back from a target that echoes it: as it is, and in the encodings of the web."""
    found = _encoded(secret)
    if (target := _request_target(secret)) is not None:
        found |= _encoded(target)
    return found - {""}


def _encoded(secret: str) -> set[str]:
    in_json = {json.dumps(secret, ensure_ascii=escaped)[1:-1] for escaped in (True, False)}
    return {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        quote(secret),
        # A form of a page that does not say it is in UTF-8 (HTML, form submission).
        quote_plus(secret.encode("cp1252", "xmlcharrefreplace")),
        *in_json,
        # JSON in a text of JSON: APIs do that, and a form in JSON is one.
        *(json.dumps(text, ensure_ascii=False)[1:-1] for text in in_json),
        html.escape(secret),
        repr(secret)[1:-1],
        *_in_base64(secret.encode()),
    }


def _digits(secret: str) -> str:
    """Those of a card or account number, which pages show in groups; empty for what is none."""
    digits = "".join(sign for sign in secret if sign not in _BETWEEN)
    return digits if digits.isdecimal() and len(digits) >= _ENOUGH else ""


def _request_target(secret: str) -> str | None:
    """What a request for a secret address asks for: the path and the query are the secret of it, and stand there alone."""
    scheme, colon, rest = secret.partition("://")
    if not colon or scheme.lower() not in ("http", "https"):
        return None
    _, slash, path = rest.partition("#")[0].partition("/")
    return f"/{path}" if slash and len(path) >= _ENOUGH else None


def _in_base64(secret: bytes) -> Iterator[str]:
    """The digits that a secret has inside a longer text in base64 (RFC 4648), wherever it stands in it.

    `Authorization: Basic` holds the password behind the user's name, so in one of three alignments; digits that depend on
    its neighbours are cut off. Of a short secret too little is left to know it by.
    """
    for before in range(3):
        digits = base64.b64encode(bytes(before) + secret).rstrip(b"=")
        known = digits[(before * 8 + 5) // 6 : (before + len(secret)) * 8 // 6].decode()
        if len(known) >= _ENOUGH:
            yield known
            yield known.replace("+", "-").replace("/", "_")
