"""One form for expressions of PromQL that differ in their writing only, without a parser.

Prometheus writes the rules that it runs in its own way: other blanks, sorted matchers, `1.8144e+06`. Equal forms mean the same.
Unequal ones may mean the same too, for example by parentheses: about those Prometheus has to be asked.
"""

import re
from itertools import pairwise

_PART = re.compile(
    r"""
      (?P<text> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | `[^`]*` )
    | (?P<number> (?: \d+\.?\d* | \.\d+ ) (?: [eE][+-]?\d+ )? (?![\w.:]) )
    | (?P<other> [\w.:]+ | =~ | !~ | != | == | <= | >= | \S )
    """,
    re.VERBOSE | re.DOTALL,
)


def plain_form(expression: str) -> str:
    """Its parts with one blank between them, matchers sorted, numbers by their value."""
    parts: list[str] = []
    selector = 0
    for match in _PART.finditer(expression):
        part = repr(float(match[0])) if match["number"] else match[0]
        if part == "}":
            parts[selector:] = _sorted(parts[selector:])
        parts.append(part)
        if part == "{":
            selector = len(parts)
    return " ".join(parts)


def _sorted(parts: list[str]) -> list[str]:
    """Matchers in the order of the alphabet, of which there is none in a selector."""
    commas = [-1, *(at for at, part in enumerate(parts) if part == ","), len(parts)]
    matchers = sorted(parts[begin + 1 : end] for begin, end in pairwise(commas))
    return [part for at, matcher in enumerate(matchers) for part in ([","] if at else []) + matcher]
