"""How often the rules are evaluated, where we do that ourselves."""

from typing import Final

EVALUATION: Final = 1.0
"""Seconds between two evaluations of the rules. A result that is not up, or the first up after one, is evaluated at once."""
