"""The tests of a file that have the mark `journey`, read from its text: reading a configuration runs nobody's code."""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stormwatch.journeys.journey_mark import JourneyMark, read_mark

_FILES: Final = ("test_*.py", "*_test.py")
"""Which files have tests, as pytest has it."""
_Mark = ast.expr


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedTest:
    """One test with the mark."""

    file: Path
    test: str
    """As pytest names it behind the file: `test_checkout`, `TestShop::test_checkout`."""
    line: int
    mark: JourneyMark
    parametrized: bool
    """Whether it is several tests, of which the text does not say how they are called."""


class Unreadable(ValueError):
    """A file whose text says nothing: it is not there, or no Python. The message has no name of a file."""


def files_below(directory: Path) -> tuple[Path, ...]:
    """The files with tests in a directory and below, in the order of their names; none of what is hidden or installed."""
    found = {path for pattern in _FILES for path in directory.rglob(pattern) if path.is_file()}
    return tuple(sorted(path for path in found if _is_own(path, directory)))


def marked_tests(file: Path) -> tuple[MarkedTest, ...]:
    """The tests of a file with the mark, in their order. Raises ValueError with the line, Unreadable for the whole file."""
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error
    except SyntaxError as error:
        raise Unreadable(f"is no Python: line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(f"is no Python: {error}") from error
    return tuple(_Reading(file, tree).tests(tree.body))


class _Reading:
    """One file while it is read."""

    def __init__(self, file: Path, tree: ast.Module) -> None:
        self._file = file
        # `journey = pytest.mark.journey(every="2m")`, and then `@journey`
        self._called: Mapping[str, ast.expr] = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and _is_mark(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }

    def tests(self, body: Sequence[ast.stmt], prefix: str = "", around: _Mark | None = None) -> Iterator[MarkedTest]:
        """The tests of a module or class. `around`: the mark of what is around it."""
        around = self._mark(_assigned(body)) or around
        for node in body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
                yield from self.tests(node.body, f"{prefix}{node.name}::", self._mark(node.decorator_list) or around)
            elif (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                and node.name.startswith("test")
                and (mark := self._mark(node.decorator_list) or around) is not None
            ):
                yield MarkedTest(
                    file=self._file,
                    test=f"{prefix}{node.name}",
                    line=node.lineno,
                    mark=self._read(mark),
                    parametrized=any(_ends_with(each, "parametrize") for each in node.decorator_list),
                )

    def _mark(self, expressions: Iterable[ast.expr]) -> _Mark | None:
        """The mark among what stands there; the last is the closest to the test."""
        found: _Mark | None = None
        for each in expressions:
            called = self._called.get(each.id) if isinstance(each, ast.Name) else None
            if called is not None or _is_mark(each):
                found = called or each
        return found

    def _read(self, mark: _Mark) -> JourneyMark:
        where = f"{self._file}:{mark.lineno}: @pytest.mark.journey"
        if not isinstance(mark, ast.Call):
            return JourneyMark()
        try:
            positional = [ast.literal_eval(each) for each in mark.args]
            named = {each.arg or "**": ast.literal_eval(each.value) for each in mark.keywords}
        except (ValueError, TypeError, SyntaxError, RecursionError):
            raise ValueError(
                f"{where} has a value that is known only when the file runs; write it out, like every='2m'"
            ) from None
        try:
            return read_mark(positional, named)
        except ValueError as error:
            raise ValueError(f"{where} {error}") from None


def _assigned(body: Sequence[ast.stmt]) -> Sequence[ast.expr]:
    """What `pytestmark` of a module or class has in it."""
    for node in body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(each, ast.Name) and each.id == "pytestmark" for each in targets):
            value = getattr(node, "value", None)
            return value.elts if isinstance(value, ast.List | ast.Tuple) else [value] if value else []
    return []


def _is_mark(node: ast.expr) -> bool:
    """Whether it is `pytest.mark.journey`, `mark.journey`, or a call of it."""
    called = node.func if isinstance(node, ast.Call) else node
    return _ends_with(called, "journey") and _ends_with(getattr(called, "value", None), "mark")


def _ends_with(node: ast.AST | None, name: str) -> bool:
    node = node.func if isinstance(node, ast.Call) else node
    return (isinstance(node, ast.Attribute) and node.attr == name) or (isinstance(node, ast.Name) and node.id == name)


def _is_own(path: Path, directory: Path) -> bool:
    folders = [folder for folder in path.parents if folder.is_relative_to(directory) and folder != directory]
    return not any(
        folder.name.startswith(".") or folder.name == "node_modules" or (folder / "pyvenv.cfg").is_file()
        for folder in folders
    )
