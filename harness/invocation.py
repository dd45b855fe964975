"""What every command does with its options: read the configuration, find the state, write the answer."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stormwatch.harness.problem import Problem

if TYPE_CHECKING:
    from stormwatch.harness.secret import Secrets

DEFAULT_CONFIG = Path("stormwatch.yaml")


def load_config(path: Path) -> Any:
    """The configuration in a file. Raises Problem with every mistake in it."""
    from stormwatch.harness.config import ConfigError, load
    from stormwatch.harness.secret import Secrets

    try:
        config = load(path, environ=os.environ)
    except ConfigError as error:
        raise Problem(*error.lines) from error
    mask_logs(Secrets.of(config.secrets))
    return config


def mask_logs(secrets: "Secrets") -> None:
    """No log line shows one of these secrets, whoever writes it."""

    def masked(record: logging.LogRecord) -> bool:
        record.msg, record.args = secrets.mask(record.getMessage()), ()
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(masked)


def write(text: str, out: Path | None) -> None:
    """To a file, or to the terminal."""
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text)
    except OSError as error:
        raise Problem(f"cannot write {out}: {error.strerror}") from error


def state() -> Path:
    """The directory of this user's state."""
    from stormwatch.chaos.undo import state_directory

    return state_directory(os.environ)
