"""What an experiment of a test calls."""

import time


def seven() -> int:
    """A value."""
    return 7


def is_seven(value: int) -> bool:
    """Whether it is well."""
    return value == 7


def slowly(seconds: float) -> None:
    """Take so long."""
    time.sleep(seconds)
