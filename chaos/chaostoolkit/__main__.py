"""`python -m stormwatch.chaos.chaostoolkit` writes what `chaos discover` would, if it could find a package inside of another."""

import json

from stormwatch.chaos.chaostoolkit import discover

print(json.dumps(discover(discover_system=False), indent=2))  # noqa: T201 - that is the command
