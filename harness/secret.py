"""Secrets: `${env:NAME}` and `${file:PATH}` in the configuration, read once, and masked wherever anything is shown."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from stormwatch.harness.document import file_beside
from stormwatch.probes.masking import Secret, masked, pattern_of

_REFERENCE = re.compile(r"\$(\$?)\{([^{}]*)(\}?)")


class Secrets:
    """Reads references, and remembers what they stood for so that it can be masked."""

    def __init__(self, environ: Mapping[str, str], directory: Path) -> None:
        """`directory` is what relative paths in `${file:…}` are relative to."""
        self._environ = environ
        self._directory = directory
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    @classmethod
    def of(cls, values: Iterable[str]) -> "Secrets":
        """For masking only: secrets that were read before."""
        secrets = cls({}, Path())
        secrets._values.update(values)
        return secrets

    @property
    def values(self) -> frozenset[str]:
        """Every secret that was read."""
        return frozenset(self._values)

    def resolve(self, text: str) -> str:
        """Put the secrets in the place of their references; `$${` stands for `${`.

        Raises ValueError, one sentence, for a reference that leads nowhere.
        """
        resolved = _REFERENCE.sub(self._one, text)
        return Secret(resolved) if refers(text) else resolved

    def mask(self, value: Any) -> Any:
        """The same JSON value with `***` in the place of every secret, also of one that was encoded on its way."""
        if not self._values:
            return value
        if self._pattern is None:
            self._pattern = pattern_of(self._values)
        return masked(value, self._pattern) if self._pattern else value

    def _one(self, match: re.Match[str]) -> str:
        escaped, inside, closed = match.groups()
        if escaped:
            return match[0][1:]
        source, colon, name = inside.partition(":")
        if not closed or not colon or source not in ("env", "file") or not name.strip():
            raise ValueError(
                f"{match[0]} is no reference; write ${{env:NAME}} or ${{file:PATH}}, or $${{ for a plain ${{"
            )
        value = self._from_environment(name.strip()) if source == "env" else self._from_file(name.strip())
        if value not in self._values:
            self._values.add(value)
            self._pattern = None
        return value

    def _from_environment(self, name: str) -> str:
        value = self._environ.get(name)
        if not value:
            seen = "is not set" if value is None else "is empty"
            raise ValueError(f"the environment variable {name} {seen}; set it, or use ${{file:PATH}}")
        return value

    def _from_file(self, name: str) -> str:
        try:
            value = file_beside(self._directory, name).read_text(encoding="utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"the secret file {name} is not text in UTF-8") from error
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            raise ValueError(f"the secret file {name!r} cannot be read: {said}") from error
        if not value:
            raise ValueError(f"the secret file {name} is empty; write the secret into it")
        return value


def mask_of(values: frozenset[str]) -> Callable[[Any], Any] | None:
    """What takes these secrets out of a JSON value; None when there are none, so that nothing is done for nothing."""
    return Secrets.of(values).mask if values else None


def refers(text: str) -> bool:
    """Whether a text refers to a secret."""
    return any(not escaped for escaped, _, _ in _REFERENCE.findall(text))
