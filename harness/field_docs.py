"""What the fields of a dataclass mean: the docstrings under them, which Python does not keep, read from the source.

pydantic has `use_attribute_docstrings` for that, and parses the whole module again for each class as soon as it is to be
validated: half of what it took to read a small configuration (pydantic 2.12, Python 3.11). Only editors and the
documentation ask for them, so they are read when somebody does.
"""

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise


def field_docs(model: type) -> Mapping[str, str]:
    """By the name of the field, those of the classes that it inherits from among them. None where there is no source."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        found |= _of_module(each.__module__).get(each.__qualname__, {})
    return found


@cache
def _of_module(name: str) -> Mapping[str, Mapping[str, str]]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except (OSError, TypeError, KeyError):
        return {}  # built in, or made without a file
    return {each.name: _of_class(each) for each in tree.body if isinstance(each, ast.ClassDef)}


def _of_class(written: ast.ClassDef) -> dict[str, str]:
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(written.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
