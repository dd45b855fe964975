"""The sample journeys' own fixtures: where the sample platform is, and a browser that finds and trusts it.

`stormwatch demo --keep` starts the platform. STORMWATCH_PLATFORM is the path of its platform.json; without it the demo's
own place is taken.
"""

import json
import os
import secrets
from pathlib import Path
from typing import Any

import pytest


def _platform() -> dict[str, Any]:
    state = os.environ.get("STORMWATCH_STATE") or str(Path.home() / ".local" / "state" / "stormwatch")
    path = Path(os.environ.get("STORMWATCH_PLATFORM") or Path(state, "demo", "platform.json"))
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise pytest.UsageError(
            f"no sample platform: there is no {path}. `stormwatch demo --keep` starts one; "
            "STORMWATCH_PLATFORM names the platform.json of another"
        ) from None


@pytest.fixture
def shop() -> str:
    """The address of the shop, read anew for each run: a platform may come back on another port."""
    return _platform()["shop"]


@pytest.fixture(scope="session")
def base_url(pytestconfig: pytest.Config) -> str:
    """pytest-playwright's, as a function: its own is a method, which pytest 9 warns of, and here warnings are errors."""
    return pytestconfig.getoption("--base-url") or _platform()["shop"]


@pytest.fixture
def person() -> dict[str, str]:
    """A customer who was never here before."""
    tag = secrets.token_hex(4)
    return {"name": f"Ada {tag}", "e-mail": f"ada-{tag}@mail.storm.test", "password": secrets.token_urlsafe(12)}


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Names of the platform lead to this machine, and certificates from its authority are good."""
    arguments = [
        *browser_type_launch_args.get("args", ()),
        "--host-resolver-rules=MAP *.storm.test 127.0.0.1",
        f"--ignore-certificate-errors-spki-list={_platform()['spki']}",
    ]
    return {**browser_type_launch_args, "args": arguments}
