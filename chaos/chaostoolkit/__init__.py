"""stormwatch as an extension of the Chaos Toolkit: faults as actions, detections as probes, and a control.

`chaos discover` looks for a module of a distribution's own name, and ours are all inside of `stormwatch`: what it would write
is what `python -m stormwatch.chaos.chaostoolkit` does. Only that needs chaoslib.
"""

from importlib.metadata import version
from typing import Any


def discover(discover_system: bool = True) -> dict[str, Any]:
    """What the extension has to offer, as chaoslib wants to be told."""
    from chaoslib.discovery.discover import discover_actions, discover_probes, initialize_discovery_result

    found: dict[str, Any] = initialize_discovery_result(__name__, version("stormwatch"), "stormwatch")
    found["activities"].extend(discover_actions(f"{__name__}.actions"))
    found["activities"].extend(discover_probes(f"{__name__}.probes"))
    if discover_system:
        found["system"] = None
    return found
