"""stormwatch as an extension of the Chaos Toolkit: faults as actions, detections as probes, and a control.

Only `discover` needs chaoslib; `chaos discover stormwatch` finds it as `stormwatch.discover`.
"""

from importlib import import_module
from importlib.metadata import version
from inspect import signature
from types import NoneType, UnionType
from typing import Any, get_args, get_origin


def discover(discover_system: bool = True) -> dict[str, Any]:
    """What the extension has to offer, as chaoslib wants to be told. Of the system nothing is told."""
    from chaoslib.discovery.discover import discover_actions, discover_probes, initialize_discovery_result

    found: dict[str, Any] = initialize_discovery_result(__name__, version("stormwatch"), "stormwatch")
    # A list, whatever chaoslib's annotations say.
    activities: list[Any] = [*discover_actions(f"{__name__}.actions"), *discover_probes(f"{__name__}.probes")]
    for activity in activities:
        expected = signature(getattr(import_module(activity["mod"]), activity["name"]))
        activity["return_type"] = _portable(expected.return_annotation)
        for argument in activity["arguments"]:
            argument["type"] = _portable(expected.parameters[argument["name"]].annotation)
    found["activities"] = activities
    if discover_system:
        found["system"] = None
    return found


def _portable(annotation: Any) -> str:
    """What `dict[str, Any] | None` is for chaoslib, which knows `dict` alone.

    It would call it an object, and `chaos init`, which makes one of what is typed in, would end with a traceback
    (chaoslib 1.44, chaostoolkit 1.19).
    """
    from chaoslib.discovery.discover import portable_type_name

    if isinstance(annotation, UnionType):
        annotation = next(each for each in get_args(annotation) if each is not NoneType)
    return portable_type_name(get_origin(annotation) or annotation)
