"""`secrets`: what a journey may know and nobody may read. From the configuration, or from the environment in CI."""

import os
import re
from collections.abc import Iterator, Mapping

import pytest

from stormwatch.journeys.masker import Masker
from stormwatch.probes.masking import Secret

PREFIX = "STORMWATCH_SECRET_"
"""Before the name of a secret, in the environment."""


class SecretValues(Mapping[str, str]):
    """What the fixture `secrets` gives. Whatever it hands out is masked in all that is kept of the run.

    page.get_by_label("Card number").fill(secrets["checkout-card"])
    """

    def __init__(self, given: Mapping[str, str], masker: Masker, *, environ: Mapping[str, str] = os.environ) -> None:
        """`given` are those of the configuration; a name that is not among them is looked for in `environ`."""
        self._given = given
        self._masker = masker
        self._environ = environ

    def __getitem__(self, name: str) -> Secret:
        """The text itself, whose `repr` is the mask. Raises pytest.UsageError for a name that nobody gave."""
        value = self._given.get(name) or self._environ.get(variable(name), "")
        if not value:
            known = f"; it has {', '.join(sorted(self._given))}" if self._given else ""
            raise pytest.UsageError(
                f"the journey asks for the secret {name!r}, and nobody gave it{known}; write `journey: secrets: "
                f'{{{name}: "${{env:…}}"}}` into the configuration, or set {variable(name)} where pytest runs alone'
            )
        return self.hide(value)

    def __iter__(self) -> Iterator[str]:
        """The names in the configuration."""
        return iter(self._given)

    def __len__(self) -> int:
        """How many the configuration names."""
        return len(self._given)

    def __repr__(self) -> str:
        """Names only."""
        return f"<secrets: {', '.join(self._given) or 'none in the configuration'}>"

    def hide(self, value: str) -> Secret:
        """Treat a text that the journey made or was told (a new password, a token) as a secret from now on."""
        self._masker.add([value])
        return Secret(value)


def variable(name: str) -> str:
    """The environment variable of a secret: `checkout-card` is STORMWATCH_SECRET_CHECKOUT_CARD."""
    return PREFIX + re.sub(r"[^A-Za-z0-9]", "_", name).upper()
