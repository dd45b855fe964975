"""The inverse of each way to inject: what `stormwatch undo`, the reaper and the fault itself take it back with."""

from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from stormwatch.chaos.absence import Absence

Undoer = Callable[[Mapping[str, Any]], Awaitable[Absence]]
"""Takes a fault back by the arguments of its record: idempotent, proves that it is gone, raises UndoFailed."""


def _in(module: str, name: str) -> Undoer:
    """An undoer that is imported when it is called: a reaper of a fault of the host has no use for an HTTP client."""

    async def undo(arguments: Mapping[str, Any]) -> Absence:
        undoer: Undoer = getattr(import_module(f"stormwatch.chaos.{module}"), name)
        return await undoer(arguments)

    return undo


UNDOERS: Mapping[str, Undoer] = MappingProxyType(
    {
        "proxy": _in("proxy_control", "undo_proxy_fault"),
        "process": _in("host_process", "undo_kill"),
        "pause": _in("host_process", "undo_pause"),
        "descriptors": _in("host_descriptors", "undo_descriptors"),
        "clock": _in("host_clock", "undo_clock"),
        "file": _in("host_disk", "undo_file"),
        "stress": _in("host_stress", "undo_stress"),
        "load": _in("load_faults", "undo_load"),
        "nft": _in("host_network", "undo_nft"),
        "qdisc": _in("host_network", "undo_qdisc"),
        "command": _in("host_command", "undo_command"),
        "container": _in("container_faults", "undo_container"),
        "pods": _in("workload_faults", "undo_pods"),
        "scale": _in("workload_faults", "undo_scale"),
        "policy": _in("workload_faults", "undo_policy"),
        "browser": _in("browser_faults", "undo_browser_fault"),
        "toxiproxy": _in("toxiproxy_faults", "undo_toxiproxy"),
        "experiment": _in("experiment_undo", "undo_experiment"),
    }
)
"""By the name that the records carry. A family of faults adds its own here."""
