"""The tables of `docs/reference/configuration.md`, made from the JSON Schema of the configuration.

`python -m tests.docs.configuration` writes them into the page; a test compares them.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stormwatch.harness.catalog import KINDS
from stormwatch.harness.schema import schema

PAGE = Path(__file__).parents[2] / "docs/reference/configuration.md"
TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


KINDS_SECTION = re.compile(r"(<!-- kinds -->\n).*?(<!-- end of kinds -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """The page with each of its tables as it has to be."""
    whole = schema()
    page = KINDS_SECTION.sub(lambda match: f"{match[1]}\n{of_kinds(whole)}\n{match[2]}", page)
    return TABLE.sub(lambda match: f"{match[1]}\n{table(whole, match[2])}\n\n{match[3]}", page)


def of_kinds(whole: Mapping[str, Any]) -> str:
    """A section for each kind of probe: its own table, and those of what stands in it."""
    sections: list[str] = []
    for kind_name in KINDS:
        inner = [name for name in whole["$defs"] if name.startswith(f"{kind_name}.") and _has_keys(whole, name)]
        page_of = "journeys.md" if kind_name == "journey" else f"probes/{kind_name}.md"
        sections.append(f"### {kind_name}\n\nWhat it does, with examples: [{kind_name}]({page_of}).\n")
        for name in (kind_name, *sorted(inner)):
            heading = "" if name == kind_name else f"`{name.partition('.')[2]}`:\n\n"
            sections.append(f"{heading}<!-- table: {name} -->\n<!-- end -->\n")
    return "\n".join(sections)


def _has_keys(whole: Mapping[str, Any], name: str) -> bool:
    return bool(whole["$defs"][name].get("properties"))


def table(whole: Mapping[str, Any], name: str) -> str:
    """A table of the keys of one thing: `ProbeEntry`, `http.ExpectHttp`, `fault:tcp-reset`."""
    definitions = whole["$defs"]
    if name.startswith("fault:"):
        choices = definitions["fault"]["oneOf"]
        found = next(each for each in choices if each["properties"]["kind"]["const"] == name.partition(":")[2])
    else:
        found = whole if name == "FileEntry" else definitions[name]
    rows = [
        f"| `{key}` | {kind(each, definitions)} | {default(key, each, found)} | {description(each, definitions)} |"
        for key, each in found["properties"].items()
    ]
    return "\n".join(["| key | value | default | |", "|---|---|---|---|", *rows])


def kind(value: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What may be written, in a few words."""
    if "$ref" in value:
        found = definitions[value["$ref"].rpartition("/")[2]]
        return kind(found, definitions) if "enum" in found else "mapping"
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(kind(each, definitions) for each in value["anyOf"]))
    if "oneOf" in value:
        return "mapping"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{choice}`" if choice else '`""`' for choice in value["enum"])
    if value.get("type") == "array":
        inner = value["items"]
        return "list of mappings" if kind(inner, definitions) == "mapping" else f"list: {kind(inner, definitions)}"
    if value.get("writeOnly"):
        return "secret"
    pattern = value.get("pattern", "")
    for sign, noun in (("ms|s|m", "duration"), ("KiB", "size"), ("%", "ratio"), ("https?", "URL"), ("{0,99}", "name")):
        if sign in pattern:
            return noun
    if value.get("format") in ("path", "date-time"):
        return {"path": "file", "date-time": "date and time"}[value["format"]]
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    return words.get(value.get("type", ""), "mapping" if value.get("type") == "object" else "anything")


def description(value: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What it means: its own words, or those of what it refers to."""
    referred = definitions.get(value.get("$ref", "").rpartition("/")[2], {})
    return (value.get("description") or referred.get("description", "")).replace("\n", " ").replace("|", "\\|")


def default(key: str, value: Mapping[str, Any], within: Mapping[str, Any]) -> str:
    """What holds when it is not given."""
    if key in within.get("required", ()):
        return "must be given"
    if value.get("default") in (None, "", []):
        return ""
    shown = str(value["default"]).lower() if isinstance(value["default"], bool) else value["default"]
    return f"`{shown}`"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
