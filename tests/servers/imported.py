"""All that commands import, in one go: the server that `command.py` forks them from imports this once, so that they need not."""

import apprise
import httpcore
import pytest
import uvloop
from anyio.lowlevel import checkpoint

from stormwatch.harness import (
    check,
    check_publishing,
    cli,
    drift_command,
    drilling,
    experiment_command,
    meaning,
    rules_command,
    service,
    slo_command,
)
from stormwatch.harness.catalog import FAULTS, KINDS

MODULES = (check, check_publishing, cli, drift_command, drilling, experiment_command, meaning, rules_command, service)
MODULES += (slo_command, httpcore, uvloop, checkpoint)
"""What a command imports when it comes to it."""
KNOWN = (*KINDS.values(), *FAULTS.values())
"""Each of them is imported when somebody asks for it."""
CHANNELS = apprise.Apprise("json://127.0.0.1/")
"""With the first of them it reads all of its plugins."""
RUNNER = pytest
"""A fork looks into the program that the server was started from."""
