"""`python -m stormwatch.chaos.chaostoolkit.call MODULE.FUNCTION [ARGUMENTS]`: one activity of any extension, as a program.

With it, a drill's `command` fault breaks, mends and checks by what an extension of the Chaos Toolkit can do. ARGUMENTS are a JSON
object, `${NAME}` in it stands for an environment variable. What the function returns is printed. Exit code 0, and 1 when it
returned `false`, as a probe does; 2 when it raised, or cannot be called.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from stormwatch.chaos.experiment import Activity, Kind, Provider
from stormwatch.chaos.experiment_provider import Ending, call
from stormwatch.chaos.experiment_variables import Variables


def main(argv: Sequence[str]) -> int:
    """Call it."""
    name, arguments = _asked(argv)
    if not name:
        sys.stderr.write(f"{' '.join(argv) or 'nothing'}: MODULE.FUNCTION and one JSON object are needed\n")
        return 2
    module, _, function = name.rpartition(".")
    activity = Activity(
        name=name,
        kind=Kind.ACTION,
        provider=Provider.PYTHON,
        call={"module": module, "func": function, "arguments": Variables(dict(os.environ)).fill(arguments)},
        # Who called this program has a time-out of its own, and ends it with all that it started.
        timeout=86_400,
    )
    answer = asyncio.run(call(activity, Variables()))
    if answer.ending is not Ending.SUCCEEDED:
        sys.stderr.write(f"{name}: {answer.why}\n")
        return 2
    sys.stdout.write(f"{json.dumps(answer.output, default=str)}\n")
    return 1 if answer.output is False else 0


def _asked(argv: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The name and the arguments; an empty name when it is not understood."""
    try:
        arguments: Any = json.loads(argv[1]) if len(argv) > 1 else {}
    except ValueError:
        arguments = None
    known = len(argv) in (1, 2) and "." in argv[0] and isinstance(arguments, dict)
    return (argv[0], arguments) if known else ("", {})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
