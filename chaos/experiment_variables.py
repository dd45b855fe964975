"""What `${name}` in an experiment stands for: its configuration and its secrets, read from the environment."""

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from string import Template
from typing import Any

from stormwatch.chaos.experiment import Experiment


class VariableMissing(Exception):
    """Something that the experiment reads from its environment is not there. One sentence."""


@dataclass(frozen=True, slots=True)
class Variables:
    """Configuration and secrets with their values."""

    configuration: Mapping[str, Any] = field(default_factory=dict[str, Any])
    secrets: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def fill(self, value: Any) -> Any:
        """The value with references filled in; one that stands alone keeps its type, an unknown one stays as it is."""
        groups = [dict(one) for one in self.secrets.values() if isinstance(one, Mapping)]
        known = ChainMap(dict(self.configuration), *groups)
        return _filled(value, known) if known else value

    def secret_values(self) -> frozenset[str]:
        """Every text that nobody may read."""
        return frozenset(text for text in _texts(self.secrets) if text)


def read_variables(
    experiment: Experiment, *, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Variables:
    """Read configuration and secrets. What a probe finds out is not there yet. Raises VariableMissing."""
    overrides = overrides or {}
    dynamic = {key for key, _ in experiment.dynamic}
    configuration = {
        key: overrides[key] if key in overrides else _configured(key, value, environ)
        for key, value in experiment.configuration.items()
        if key in overrides or key not in dynamic
    }
    return Variables(configuration | dict(overrides), read_secrets(experiment.secrets, environ=environ))


def read_secrets(declared: Mapping[str, Any], *, environ: Mapping[str, str], place: str = "secrets") -> dict[str, Any]:
    """The secrets with their values. Raises VariableMissing."""
    found: dict[str, Any] = {}
    for key, value in declared.items():
        if not isinstance(value, Mapping):
            found[key] = value
        elif value.get("type") == "env":
            name = str(value.get("key"))
            if name not in environ:
                raise VariableMissing(f"{place}.{key}: the environment variable {name} is not set; set it")
            found[key] = environ[name]
        elif value.get("type") == "vault":
            raise VariableMissing(
                f"{place}.{key}: secrets are not read from Vault here; put it into an environment variable, "
                '{"type": "env", "key": "NAME"}'
            )
        else:
            found[key] = read_secrets(value, environ=environ, place=f"{place}.{key}")
    return found


def _configured(key: str, value: Any, environ: Mapping[str, str]) -> Any:
    if not isinstance(value, Mapping) or value.get("type") != "env":
        return value
    name = str(value.get("key"))
    if name not in environ and "default" not in value:
        raise VariableMissing(
            f"configuration.{key}: the environment variable {name} is not set; set it, or give it a default"
        )
    text = environ.get(name, value.get("default"))
    try:
        return _typed(text, value.get("env_var_type"))
    except ValueError as error:
        raise VariableMissing(
            f"configuration.{key}: {value.get('env_var_type')} is asked for, {name} is {text!r}"
        ) from error


def _typed(text: Any, wanted: str | None) -> Any:
    if text is None or wanted in (None, "str"):
        return text
    if wanted == "bool":
        return str(text).lower() in ("1", "true", "yes")
    if wanted in ("int", "float"):
        return int(text) if wanted == "int" else float(text)
    raise ValueError(wanted)


def _filled(value: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        template = Template(value)
        alone = template.pattern.fullmatch(value)
        name = alone and (alone["named"] or alone["braced"])
        return known[name] if name and name in known else template.safe_substitute(known)
    if isinstance(value, Mapping):
        return {key: _filled(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, known) for item in value]
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
