"""Playwright's registry of devices, read from its package without a browser."""

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def devices() -> Mapping[str, bool]:
    """Whether each device that Playwright knows is mobile; none where they cannot be read: then the worker finds out."""
    import playwright

    assert playwright.__file__ is not None
    driver = Path(playwright.__file__).with_name("driver")
    # The package's public entry, run by the node that comes with it: the list is not there as a file of its own.
    script = f"console.log(JSON.stringify(require({json.dumps(str(driver / 'package'))}).devices))"
    node = next((path for path in (driver / "node", driver / "node.exe") if path.is_file()), Path("node"))
    try:
        said = subprocess.run([node, "-e", script], capture_output=True, timeout=60, check=True).stdout
        return {name: bool(each["isMobile"]) for name, each in json.loads(said).items()}
    except (OSError, ValueError, LookupError, AttributeError, TypeError, subprocess.SubprocessError):
        return {}


def no_device(name: str, known: Iterable[str]) -> str:
    """The sentence that a device is not known: meant is one that differs in capitals and spaces alone, or the nearest."""
    flat = {re.sub(r"[\W_]", "", each).lower(): each for each in known}
    wanted = re.sub(r"[\W_]", "", name).lower()
    near = [flat[each] for each in ([wanted] if wanted in flat else get_close_matches(wanted, flat, n=3))]
    remedy = (
        f"did you mean {' or '.join(near)}?" if near else f"it knows {', '.join(list(flat.values())[:5])} and others"
    )
    return f"Playwright knows no device {name!r}; {remedy}"
