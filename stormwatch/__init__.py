"""stormwatch watches services from outside, and proves that its watching works.

Here is only what must have this very name, and nothing is imported for it before somebody asks: every command begins here.
"""

import os
from typing import Any

__version__: str
"""The installed version, as `stormwatch --version` prints it."""

_HERE = os.path.dirname(__file__)  # noqa: PTH120 - pathlib for this alone would be a part of every start
if not os.path.isdir(f"{_HERE}/probes"):  # noqa: PTH112
    # A checkout: whoever stands at its top gets this module and not an installed one, and the others are beside it.
    __path__.append(os.path.dirname(_HERE))  # noqa: PTH120


def discover(discover_system: bool = True) -> dict[str, Any]:
    """What `chaos discover stormwatch` finds: it looks in the module that has the distribution's name."""
    from stormwatch.chaos.chaostoolkit import discover as discovered

    return discovered(discover_system)


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("stormwatch")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
