"""YAML with positions: the plain data of a file, and for each place in it the line and a name that people recognise.

Read as YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema), so that `no` and `on` are text, `1:30` is
not a number and `010` is ten: what YAML 1.1 makes of them has surprised enough people. Duplicate keys are mistakes.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from stormwatch.harness.mistake import ConfigError, Mistake

Place = tuple[str | int, ...]
"""Keys and indices that lead from the top of the document to a value."""

LARGEST = 1_000_000
"""Values that a document may have, aliases counted as often as they stand: a few lines of them can expand without end."""

DEEPEST = 100
"""How far values may be nested. libyaml's composer recurses without a limit, and ends the process when the stack does."""


@dataclass(frozen=True, slots=True)
class Document:
    """One file that was read."""

    file: str
    """As the user named it."""
    data: Any
    """Mappings, lists, texts, numbers, booleans and None. Every key is a text."""
    root: Node = field(repr=False)

    def line(self, place: Place) -> int:
        """The line on which a place stands; of what is not there, the line of what it would belong to."""
        node, line = self.root, self.root.start_mark.line
        for part in place:
            found = _child(node, part)
            if found is None:
                break
            at, node = found
            line = at.start_mark.line
        return line + 1

    def written(self, place: Place) -> str:
        """A single value as it stands in the file: `1.10`, which as a number is 1.1. Empty for what is none."""
        node = self.root
        for part in place:
            found = _child(node, part)
            if found is None:
                return ""
            node = found[1]
        return node.value if isinstance(node, ScalarNode) else ""

    def show(self, place: Place) -> str:
        """A place for people: `probes[front].http.expect`. Items of a list go by their name where they have one."""
        shown, value = "", self.data
        for part in place:
            value = _value(value, part)
            if isinstance(part, int):
                name = value.get("name") if isinstance(value, dict) else None
                shown += f"[{name if isinstance(name, str) and _PLAIN.fullmatch(name) else part}]"
            elif _PLAIN.fullmatch(part):
                shown += f".{part}" if shown else part
            else:
                shown += f"[{part!r}]"
        return shown

    def mistake(self, place: Place, sentence: str) -> Mistake:
        """A mistake that was found in a place."""
        return Mistake(self.file, self.line(place), self.show(place), sentence)


def read_document(path: Path) -> tuple[Document, list[Mistake]]:
    """Read a file. Mistakes that leave the rest readable (a key that stands twice) are returned beside the document.

    Raises ConfigError when nothing can be read: no such file, not YAML, empty.
    """
    hint = "; name another with -c, or write one with `stormwatch init`"
    roots = _roots(path, _compose, hint)
    if not roots:
        raise ConfigError([Mistake(str(path), 1, "", "is empty; write one with `stormwatch init`")])
    return _document(str(path), roots[0])


def read_documents(path: Path) -> tuple[list[Document], list[Mistake]]:
    """Read a file of documents with `---` between them, as other tools have it; empty ones are left out.

    Raises ConfigError when nothing can be read: no such file, not YAML, nothing in it.
    """
    roots = _roots(path, _compose_all, "")
    if not roots:
        raise ConfigError([Mistake(str(path), 1, "", "is empty")])
    read = [_document(str(path), root) for root in roots]
    return [document for document, _ in read], [mistake for _, mistakes in read for mistake in mistakes]


def _roots(path: Path, compose: Callable[[str], list[Node]], hint: str) -> list[Node]:
    """What stands in the documents of a file that are not empty."""
    file = str(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        remedy = hint if not path.exists() else ""
        raise ConfigError([Mistake(file, 0, "", f"cannot be read: {error.strerror}{remedy}")]) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError([Mistake(file, line, "", "is not text in UTF-8; save it as UTF-8")]) from error
    try:
        if _may_be_deep(text) and _depth(text) > DEEPEST:
            raise ConfigError([Mistake(file, 1, "", f"is nested more than {DEEPEST} deep")])
        roots = compose(text)
    except yaml.YAMLError as error:
        raise ConfigError([_syntax(file, text, error)]) from error
    return [root for root in roots if not (isinstance(root, ScalarNode) and root.tag == _NULL)]


def _document(file: str, root: Node) -> tuple[Document, list[Mistake]]:
    reader = _Reader()
    try:
        data = reader.read(root, ())
    except _TooLarge as error:
        raise ConfigError([Mistake(file, 1, "", f"has more than {LARGEST:,} values, counting aliases")]) from error
    document = Document(file=file, data=data, root=root)
    return document, [
        Mistake(file, node.start_mark.line + 1, document.show(place), sentence)
        for node, place, sentence in reader.mistakes
    ]


def file_beside(directory: Path, name: str) -> Path:
    """Where a file is that a document in `directory` names: `~` is a home, relative names count from the directory."""
    try:
        return directory / Path(name).expanduser()
    except RuntimeError:  # ~name, and nobody is called so
        return directory / name


_PLAIN = re.compile(r"[\w@/+-][\w.@/+:-]*")

_STR, _NULL, _BOOL, _INT, _FLOAT, _MERGE, _SEQ, _MAP = (
    f"tag:yaml.org,2002:{name}" for name in ("str", "null", "bool", "int", "float", "merge", "seq", "map")
)


class _Loader(yaml.CSafeLoader):
    """libyaml's parser with the core schema's idea of what a plain scalar is."""

    def resolve(self, kind: type[Node], value: str | None, implicit: Any) -> str:
        """The tag of a node that has none."""
        if kind is ScalarNode:
            if implicit[0] and (not value or value[0] in _NOT_TEXT):
                return next((tag for tag, pattern in _PLAIN_SCALARS if pattern.fullmatch(value or "")), _STR)
            return _STR
        return _SEQ if kind is SequenceNode else _MAP


_NOT_TEXT = frozenset("~nNtTfF-+.0123456789<")
"""What a plain scalar that is not text may begin with."""

_PLAIN_SCALARS = tuple(
    (tag, re.compile(pattern))
    for tag, pattern in (
        (_NULL, r"~|null|Null|NULL|"),
        (_BOOL, r"true|True|TRUE|false|False|FALSE"),
        (_INT, r"[-+]?[0-9]{1,18}|0o[0-7]{1,18}|0x[0-9a-fA-F]{1,15}"),
        (_FLOAT, r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?"),
        (_MERGE, r"<<"),
    )
)

_SCALARS: dict[str, Callable[[str], Any]] = {
    _STR: str,
    _NULL: lambda _text: None,
    _BOOL: lambda text: text.lower() == "true",
    _INT: lambda text: int(text, 0) if text[:2] in ("0o", "0x") else int(text),
    _FLOAT: lambda text: number if math.isfinite(number := float(text)) else text,
}


def _may_be_deep(text: str) -> bool:
    """Whether counting is worth the time: brackets in texts count too, and levels that are only indented are few."""
    depth = deepest = 0
    for sign in re.findall(r"[\[\]{}]", text):
        depth = depth + 1 if sign in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest > DEEPEST or re.search(rf"(?:[-?:]\s+){{{DEEPEST}}}|^ {{{DEEPEST}}}", text, re.MULTILINE) is not None


def _depth(text: str) -> int:
    depth = deepest = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            deepest = max(deepest, depth)
            if depth > DEEPEST:
                break
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return deepest


def _compose(text: str) -> list[Node]:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
    finally:
        loader.dispose()
    return [root] if root else []


def _compose_all(text: str) -> list[Node]:
    loader = _Loader(text)
    roots: list[Node] = []
    try:
        while loader.check_node():
            if root := loader.get_node():
                roots.append(root)
    finally:
        loader.dispose()
    return roots


class _TooLarge(Exception):
    pass


class _Reader:
    """From nodes to plain data; remembers what is wrong and goes on."""

    def __init__(self) -> None:
        self.mistakes: list[tuple[Node, Place, str]] = []
        self._count = 0
        self._open: set[int] = set()

    def read(self, node: Node, place: Place) -> Any:
        self._count += 1
        if self._count > LARGEST:
            raise _TooLarge
        if isinstance(node, ScalarNode):
            return self._scalar(node, place)
        if id(node) in self._open:
            self.mistakes.append((node, place, "this alias leads to itself; write the value out"))
            return None
        if len(self._open) >= DEEPEST:
            self.mistakes.append((node, place, f"is nested more than {DEEPEST} deep, counting aliases"))
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                if node.tag != _MAP:
                    self._refuse_tag(node, place)
                return self._mapping(node, place)
            if node.tag != _SEQ:
                self._refuse_tag(node, place)
            return [self.read(item, (*place, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: ScalarNode, place: Place) -> Any:
        make = _SCALARS.get(node.tag)
        if make is None:
            if node.tag != _MERGE:
                self._refuse_tag(node, place)
            return node.value
        try:
            value = make(node.value)
            if isinstance(value, str):
                value.encode()
        except UnicodeEncodeError:
            self.mistakes.append((node, place, "has a character that is none (half of a surrogate pair); remove it"))
            return ""
        except ValueError:
            self._refuse_tag(node, place)
            return node.value
        return value

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        data: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: list[Node] = []
        for key, value in node.value:
            if key.tag == _MERGE:
                merged.append(value)
                continue
            if not isinstance(key, ScalarNode) or key.tag == _NULL:
                self.mistakes.append((key, place, "a key is a text; write it in one word or in quotes"))
                continue
            name = key.value
            if name in data:
                first = f"the key stands twice, first on line {lines[name]}; keep one of them"
                self.mistakes.append((key, (*place, name), first))
                continue
            lines[name] = key.start_mark.line + 1
            data[name] = self.read(value, (*place, name))
        for other in merged:
            for source in other.value if isinstance(other, SequenceNode) else [other]:
                if not isinstance(source, MappingNode):
                    self.mistakes.append((source, place, "<< takes in a mapping: write `<<: *name`"))
                    continue
                for name, value in self.read(source, place).items():
                    data.setdefault(name, value)
        return data

    def _refuse_tag(self, node: Node, place: Place) -> None:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        self.mistakes.append((node, place, f"the tag {tag} is not read here; write the plain value"))


def _syntax(file: str, text: str, error: yaml.YAMLError) -> Mistake:
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).splitlines()[0]
    if mark is None:
        position = getattr(error, "position", None)
        line = text[:position].count("\n") + 1 if isinstance(position, int) else 1
        return Mistake(file, line, "", f"is not YAML: {problem}")
    lines = text.splitlines()
    here = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in here[: len(here) - len(here.lstrip())]:
        problem = "the line is indented with a tab; indent with spaces"
    elif "expected a single document" in str(error) or problem == "but found another document":
        problem = "a second document begins here; keep one, without ---"
    elif "mapping values are not allowed" in problem:
        problem += "; quote a text that has a colon in it, and mind the indentation"
    elif "cannot start any token" in problem:
        problem += "; quote a text that begins with it"
    return Mistake(file, mark.line + 1, "", f"is not YAML: {problem}")


def _child(node: Node, part: str | int) -> tuple[Node, Node] | None:
    """Where a part of a node stands (for a key: the key itself), and the part."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value == part and key.tag != _MERGE:
                return key, value
        return next((found for source in _merged(node) if (found := _child(source, part))), None)
    if isinstance(node, SequenceNode) and isinstance(part, int) and 0 <= part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _merged(node: MappingNode) -> Iterator[Node]:
    for key, value in node.value:
        if key.tag == _MERGE:
            yield from value.value if isinstance(value, SequenceNode) else [value]


def _value(data: Any, part: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(part)
    if isinstance(data, list) and isinstance(part, int) and 0 <= part < len(data):
        return data[part]
    return None
