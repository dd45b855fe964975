"""Input from outside: refused with one sentence that names the field."""

from collections.abc import Callable
from typing import Any

import pytest

from stormwatch.demo.fields import Fields, Invalid
from stormwatch.demo.money import show_euros


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("", "Name is missing"),
        ("   ", "Name is missing"),
        (None, "Name must be a text"),
        (12, "Name must be a text"),
        ("x" * 101, "Name must have 1 to 100 characters, not 101"),
        ("Ada\x00", "Name must not contain control characters"),
    ],
)
def test_a_text_that_cannot_be_used(value: Any, sentence: str) -> None:
    """The sentence is for the person who typed it."""
    with pytest.raises(Invalid) as refused:
        Fields({"name": value}).text("name", label="Name")

    assert sentence == str(refused.value)


@pytest.mark.parametrize(
    "number", ["4242424242424242", "4242 4242 4242 4242", "4242-4242-4242-4242", "4000000000000002"]
)
def test_a_card_number_with_the_right_check_digit(number: str) -> None:
    """Blanks and hyphens are for people."""
    assert number.replace(" ", "").replace("-", "") == Fields({"card": number}).card("card")


@pytest.mark.parametrize("number", ["4242424242424241", "1234", "4242 4242 4242 424x", "0" * 20])
def test_a_card_number_that_is_none(number: str) -> None:
    """A wrong check digit, too short, a letter, too long."""
    with pytest.raises(Invalid, match="Card number is not a valid card number"):
        Fields({"card": number}).card("card")


@pytest.mark.parametrize("value", ["0", "31", "-1", "1.5", "one", "", True, 1.0, None, "9" * 400])
def test_a_number_that_cannot_be_used(value: Any) -> None:
    """Outside of its limits, or no whole number."""
    with pytest.raises(Invalid, match="Nights must be a whole number from 1 to 30"):
        Fields({"nights": value}).whole("nights", label="Nights", lowest=1, highest=30)


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda fields: fields.text("name", label="Name"), "Ada"),
        (lambda fields: fields.mail("mail"), "ada@example.org"),
        (lambda fields: fields.whole("nights", label="Nights", lowest=1, highest=30), 3),
        (lambda fields: fields.whole("rooms", label="Rooms", lowest=1, highest=9, default=1), 1),
    ],
)
def test_what_is_good_is_tidied(read: Callable[[Fields], object], expected: object) -> None:
    """Blanks around it go, addresses become lower case, digits become numbers."""
    assert expected == read(Fields({"name": " Ada ", "mail": "Ada@Example.org", "nights": "3"}))


@pytest.mark.parametrize("mail", ["ada", "ada@", "@example.org", "ada@example", "a b@example.org", "ada@@example.org"])
def test_an_address_that_is_none(mail: str) -> None:
    """Enough to catch slips; whether mail arrives, only mail can tell."""
    with pytest.raises(Invalid, match=r"E-mail must look like name@example.org"):
        Fields({"mail": mail}).mail("mail")


def test_money_is_shown_with_two_digits() -> None:
    """Cents in, euros out."""
    assert [show_euros(cents) for cents in (5, 1250, 123400)] == ["€0.05", "€12.50", "€1,234.00"]
