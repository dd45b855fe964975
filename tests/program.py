"""Programs of Debian that tests start."""

import os
import shutil

import pytest


def program(name: str) -> str:
    """The path of a program that a test needs. In CI a missing one fails the test; elsewhere it is skipped."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path:
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed: `make test` installs what the tests need")
    pytest.skip(f"{name} is not installed")
