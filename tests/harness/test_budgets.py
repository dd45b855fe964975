"""Standings in the terminal."""

from fractions import Fraction

import pytest

from stormwatch.harness.budgets import show_burn


@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        ("0", "0x"),
        ("1/3000", "<0.01x"),
        ("3/10", "0.3x"),
        ("1/3", "0.33x"),
        ("1", "1x"),
        ("72/5", "14.4x"),
        ("10", "10x"),
        ("100", "100x"),
        ("180", "180x"),
        ("12345678", "12345678x"),
    ],
)
def test_a_burn_rate_is_written_for_people(rate: str, shown: str) -> None:
    """Never with an exponent, and with no more digits than anybody acts on."""
    assert show_burn(Fraction(rate)) == shown
