"""YAML for Prometheus and Alertmanager, written by a dumper: text is never pasted into text."""

import re
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


_BREAKS = re.compile("[\r\x85\u2028\u2029]")
"""What YAML 1.1 takes for the end of a line: outside of double quotes it would be read back as a blank."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _BREAKS.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
