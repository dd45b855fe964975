"""A control for `chaos run`: takes back at the end what is left, and writes down what the monitoring saw meanwhile.

chaoslib swallows what a control raises, so what goes wrong here stands in the journal, under `stormwatch`.
"""

import asyncio
import os
import time
from typing import Any

import httpx

from stormwatch.chaos.audit import AuditJournal
from stormwatch.chaos.experiment_label import label_here
from stormwatch.chaos.experiment_undo import left_behind
from stormwatch.chaos.undo import UndoJournal, state_directory
from stormwatch.probes.clock import SystemClock

_LIMIT = 10_000


def before_experiment_control(context: dict[str, Any], **_: Any) -> None:
    """The run begins: it is in our audit journal as well."""
    _audit("begun", {"experiment": str(context.get("title"))})


def after_activity_control(context: dict[str, Any], state: dict[str, Any], **_: Any) -> None:
    """An activity is over. Not what it returned: that may be a secret."""
    _audit("activity", {"activity": str(context.get("name")), "status": state.get("status")})


def after_experiment_control(context: dict[str, Any], state: dict[str, Any], url: str = "", **_: Any) -> None:
    """The run is over: whatever fault of it is left is taken back; with `url`, what a running stormwatch saw is noted."""
    noted: dict[str, Any] = {"left": _take_back()}
    if url:
        noted["detection"] = _detection(url, _since(state))
    state["stormwatch"] = noted
    _audit("ended", {"experiment": str(context.get("title")), "status": state.get("status"), **noted})


def _take_back() -> list[str]:
    journal = UndoJournal(state_directory(os.environ) / "undo")
    try:
        return list(asyncio.run(left_behind(journal, label_here())))
    except OSError as error:
        return [f"the undo journal cannot be read: {error}; run `stormwatch undo`"]


def _detection(url: str, since: float) -> dict[str, Any]:
    """Which probes turned red and which alerts changed their state since then; the error when nobody could be asked."""
    try:
        with httpx.Client(base_url=url.rstrip("/"), timeout=5) as client:
            results = client.get("/api/v1/results", params={"since": since, "limit": _LIMIT}).raise_for_status().json()
            transitions = client.get("/api/v1/transitions", params={"since": since}).raise_for_status().json()
        return {
            "failed": [one for one in reversed(results["results"]) if one["outcome"] == "down"],
            "transitions": transitions["transitions"],
        }
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return {"error": f"{url}: no running stormwatch answers there ({str(error) or type(error).__name__})"}


def _since(journal: dict[str, Any]) -> float:
    return time.time() - float(journal.get("duration") or 3600.0) - 1.0


def _audit(event: str, data: dict[str, Any]) -> None:
    AuditJournal(state_directory(os.environ) / "audit.jsonl", clock=SystemClock()).append(f"chaostoolkit {event}", data)
