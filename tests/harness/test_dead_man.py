"""What counts as being well."""

from dataclasses import replace

import pytest

from stormwatch.harness.dead_man import Signs, trouble

WELL = Signs(
    behind=lambda: 60.0,
    evaluated=lambda: 60.0,
    silent=lambda: 95.0,
    patience=95.0,
    history=lambda: "",
    outbox=lambda: "",
)


def test_all_signs_at_their_limits_are_well() -> None:
    """Not a moment more."""
    assert trouble(WELL) == ""


@pytest.mark.parametrize(
    ("sign", "said"),
    [
        ({"behind": lambda: 60.1}, "the schedule stands still: a run has been due for more than 1m"),
        ({"silent": lambda: 95.1}, "no probe gave a result for more than 1m35s"),
        ({"evaluated": lambda: 60.1}, "the rules have not been evaluated for more than 1m"),
        ({"history": lambda: "disk I/O error"}, "the history cannot be written: disk I/O error"),
        ({"outbox": lambda: "disk full"}, "notifications cannot be written to disk: disk full"),
    ],
)
def test_each_sign_alone_is_trouble(sign: dict[str, object], said: str) -> None:
    """And says which."""
    assert trouble(replace(WELL, **sign)) == said  # pyright: ignore[reportArgumentType]
