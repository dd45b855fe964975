"""What people and programs send: read with a size limit, checked field by field, refused with one sentence."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

_LARGEST_BODY = 64 * 1024
_MAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")
_CARD = re.compile(r"\d{12,19}")


class Invalid(Exception):
    """What was sent cannot be used. The message is a sentence for the person who sent it."""


class Fields:
    """Named values that came from outside. Every reader raises Invalid."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def text(self, name: str, *, label: str, longest: int = 100, shortest: int = 1) -> str:
        """Text without control characters, trimmed, of a length between the two limits."""
        value = self._values.get(name, "")
        if not isinstance(value, str):
            raise Invalid(f"{label} must be a text")
        value = value.strip()
        if not value and shortest > 0:
            raise Invalid(f"{label} is missing")
        if not shortest <= len(value) <= longest:
            raise Invalid(f"{label} must have {shortest} to {longest} characters, not {len(value)}")
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise Invalid(f"{label} must not contain control characters")
        return value

    def secret(self, name: str, *, label: str, shortest: int = 1) -> str:
        """A password: neither trimmed nor ever repeated in a message."""
        value = self._values.get(name, "")
        if not isinstance(value, str) or not shortest <= len(value) <= 200:
            raise Invalid(f"{label} must have {shortest} to 200 characters")
        return value

    def whole(self, name: str, *, label: str, lowest: int, highest: int, default: int | None = None) -> int:
        """A whole number between two limits, as JSON number or as digits."""
        value = self._values.get(name, "" if default is None else default)
        if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise Invalid(f"{label} must be a whole number from {lowest} to {highest}")
        return value

    def mail(self, name: str, *, label: str = "E-mail") -> str:
        """An address, in lower case."""
        value = self.text(name, label=label, longest=254).lower()
        if not _MAIL.fullmatch(value):
            raise Invalid(f"{label} must look like name@example.org")
        return value

    def card(self, name: str, *, label: str = "Card number") -> str:
        """A card number: 12 to 19 digits whose check digit is right (Luhn, ISO/IEC 7812-1); spaces and hyphens may be in it."""
        digits = re.sub(r"[\s-]", "", self.text(name, label=label, longest=40))
        if not _CARD.fullmatch(digits) or not _check_digit_is_right(digits):
            raise Invalid(f"{label} is not a valid card number")
        return digits

    def rows(self, name: str, *, label: str, most: int = 50) -> list["Fields"]:
        """A list of one or more objects."""
        value = self._values.get(name)
        if (
            not isinstance(value, list)
            or not 1 <= len(value) <= most
            or not all(isinstance(row, dict) for row in value)
        ):
            raise Invalid(f"{label} must be a list of 1 to {most} objects")
        return [Fields(row) for row in value]


async def read_form(request: Request) -> Fields:
    """The fields of a form that a browser sent. Raises Invalid."""
    body = await _body(request)
    try:
        return Fields(dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=50)))
    except ValueError as error:
        raise Invalid("the form could not be read") from error


async def read_json(request: Request) -> Fields:
    """The fields of a JSON object. Raises Invalid."""
    body = await _body(request)
    try:
        value = json.loads(body)
    except ValueError as error:
        raise Invalid(f"the body must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise Invalid(f"the body must be a JSON object, not {type(value).__name__}")
    return Fields(value)


def read_query(request: Request) -> Fields:
    """The fields of the URL's query."""
    return Fields(dict(request.query_params))


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY:
            raise Invalid(f"the body must not be larger than {_LARGEST_BODY} bytes")
    return bytes(body)


def _check_digit_is_right(digits: str) -> bool:
    doubled = (int(digit) * (1 + position % 2) for position, digit in enumerate(reversed(digits)))
    return sum(value // 10 + value % 10 for value in doubled) % 10 == 0
