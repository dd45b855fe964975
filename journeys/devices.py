"""Playwright's registry of devices, read from its package without a browser."""

import json
import subprocess
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def device_names() -> tuple[str, ...]:
    """The names that Playwright knows; none where they cannot be read: then the worker finds out."""
    import playwright

    assert playwright.__file__ is not None
    driver = Path(playwright.__file__).with_name("driver")
    # The package's public entry, run by the node that comes with it: the list is not there as a file of its own.
    script = f"console.log(JSON.stringify(Object.keys(require({json.dumps(str(driver / 'package'))}).devices)))"
    node = next((path for path in (driver / "node", driver / "node.exe") if path.is_file()), Path("node"))
    try:
        said = subprocess.run([node, "-e", script], capture_output=True, timeout=60, check=True).stdout
        names = json.loads(said)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()
    return tuple(name for name in names if isinstance(name, str))
