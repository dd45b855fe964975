"""The process in which one activity of an experiment is called: it can be killed, and it dies with whoever wanted it.

Asked on standard input, one JSON object; what a Python function returned is answered on standard output. A program takes this
process's place. Nothing of ours is imported but this module: an extension shares no module with stormwatch.
"""

import ctypes
import importlib
import inspect
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

_PR_SET_PDEATHSIG = 1


def _call(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Call one function, as chaoslib does: configuration and secrets are given when its signature has them."""
    function = getattr(importlib.import_module(asked["module"]), asked["func"])
    arguments = dict(asked["arguments"])
    parameters = _signature(function).parameters
    if asked["secrets"] is not None and "secrets" in parameters:
        arguments["secrets"] = asked["secrets"]
    if "configuration" in parameters:
        arguments["configuration"] = asked["configuration"]
    return {"output": function(**arguments)}


def _mistakes(calls: list[Mapping[str, Any]]) -> dict[str, Any]:
    """What of these calls could never work: found before anything is done."""
    found: list[str] = []
    for call in calls:
        what = f"{call['place']}: {call['module']}.{call['func']}"
        try:
            function = getattr(importlib.import_module(call["module"]), call["func"])
            signature = _signature(function)
        except Exception as error:  # noqa: BLE001 - importing runs what others wrote
            found.append(f"{what} cannot be called: {type(error).__name__}: {error}")
            continue
        given = dict.fromkeys(call["arguments"])
        given |= {name: None for name in ("configuration", "secrets") if name in signature.parameters}
        try:
            signature.bind(**given)
        except TypeError as error:
            found.append(f"{what}{signature}: {error}")
    return {"output": found}


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:
        # Some functions in C do not say: whatever they are given may be right.
        return inspect.Signature([inspect.Parameter("arguments", inspect.Parameter.VAR_KEYWORD)])


def _die_with(parent: int) -> None:
    """An action whose experiment is dead must not go on: what it did would come after the undo."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Read what is asked, do it, answer."""
    _die_with(int(sys.argv[1]))
    if len(sys.argv) > 2:
        os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - that it is a program is what was asked for
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What a function prints is no answer.
    os.dup2(2, 1)
    asked = json.load(sys.stdin)
    # As `chaos run` does: an experiment's own modules lie beside where it is started.
    sys.path.append(asked["directory"])
    try:
        answer = _mistakes(asked["check"]) if "check" in asked else _call(asked)
        text = json.dumps(answer, default=str)
    except BaseException as error:  # noqa: BLE001 - also SystemExit of what others wrote
        text = json.dumps(
            {
                "error": f"{type(error).__name__}: {error}",
                "interrupts": any(one.__name__ == "InterruptExecution" for one in type(error).__mro__),
                "trace": traceback.format_exception(error),
            }
        )
    with answers:
        answers.write(text)
    sys.stdout.flush()
    # Threads of an extension that nobody joined do not keep the answer back.
    os._exit(0)


if __name__ == "__main__":
    main()
