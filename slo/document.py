"""YAML for Prometheus and Alertmanager, written by a dumper: text is never pasted into text."""

from typing import Any

import yaml


def yaml_text(document: Any) -> str:
    """A document in the order in which it was built, long expressions as blocks of lines."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


def yaml_value(text: str) -> Any:
    """What a document says, read by libyaml: rules of thousands of probes are megabytes. Raises yaml.YAMLError."""
    return yaml.load(text, yaml.CSafeLoader)


class _Dumper(yaml.SafeDumper):
    """Lines stay lines, so that people can read and compare expressions."""

    def ignore_aliases(self, data: Any) -> bool:
        """Labels that stand in many places are written out in each."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
