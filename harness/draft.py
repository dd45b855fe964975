"""A configuration while it is read: what is valid so far, and every mistake that was found on the way."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from stormwatch.harness.document import Document, Place, file_beside
from stormwatch.harness.form import form_of, show
from stormwatch.harness.mistake import Mistake
from stormwatch.harness.remedy import did_you_mean
from stormwatch.harness.secret import Secrets, refers
from stormwatch.harness.shape import Shape

T = TypeVar("T")

CREDENTIAL = re.compile(
    r"(?:^|[_-])(?:password|passwd|passphrase|token|secret|api[_-]?key|authorization|cookie)$", re.IGNORECASE
)
"""Names of headers and variables whose value is a secret."""
CAPTURED = re.compile(r"\{\{[^{}]+\}\}")
"""A reference to a value that a probe captures while it runs: no secret, wherever it stands."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Reads parts of one document. Nothing here raises for what a user wrote: it is complained about."""

    document: Document
    secrets: Secrets
    directory: Path
    """What relative file names are relative to."""
    mistakes: list[Mistake] = field(default_factory=list[Mistake])
    stands_for: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Names that are of several probes, and so of none."""
    stands_by: dict[str, str] = field(default_factory=dict[str, str])
    """Through which key of the entry each of them is: its matrix, or its target."""

    def complain(self, place: Place, sentence: str) -> None:
        """Note a mistake. A secret in the sentence is masked."""
        self.mistakes.append(self.document.mistake(place, self.secrets.mask(sentence)))

    def read(
        self, model: type[T], data: Any, place: Place, *, also: tuple[str, ...] = (), secret: bool = False
    ) -> T | None:
        """Read a value, or complain and give None.

        `also` are keys that are read elsewhere, and only known for suggestions. `secret` says that texts in it may
        refer to secrets.
        """
        form = form_of(model)
        refused: set[Place] = set()
        # Where nothing is written nothing is referred to, and the shape of a section need not be known.
        prepared = self._prepare(data, form.shape, place, secret=secret, refused=refused) if data else data
        reading = form.read(prepared, also=also, written=lambda where: self.document.written((*place, *where)))
        for where, sentence in reading.faults:
            if (*place, *where) not in refused:
                self.complain((*place, *where), sentence)
        return None if refused else reading.value

    def items(self, data: Any, place: Place) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        """The mappings of a list with their places; complaints about whatever else is there."""
        if data is None:
            self.complain(place, "is empty; write a value, or leave the key out")
        elif not isinstance(data, list):
            self.complain(place, f"wanted a list, not {show(data)}; begin each item with `- `")
        else:
            for index, item in enumerate(data):
                if isinstance(item, dict):
                    yield (*place, index), item
                else:
                    self.complain((*place, index), f"wanted a mapping (key: value), not {show(item)}")

    def unique(self, named: Mapping[Place, str], noun: str) -> None:
        """Complain about every name that was given before."""
        first: dict[str, Place] = {}
        for place, name in named.items():
            if name in first:
                line = self.document.line(first[name])
                self.complain(
                    (*place, "name"), f"another {noun}, on line {line}, is called {name} too; give each its own name"
                )
            first.setdefault(name, place)

    def refer(self, name: str, known: Collection[str], place: Place, noun: str) -> bool:
        """Whether a name is known; complains when it is not."""
        if name in known:
            return True
        if name in self.stands_for:
            one, *others = self.stands_for[name]
            more = f" and {len(others)} more" if others else ""
            self.complain(
                place, f"{name} stands for the probes {one}{more}, by its {self.stands_by[name]}; name one of them"
            )
            return False
        self.complain(
            place, f"no {noun} is called {name}; {did_you_mean(name, known) if known else f'there is no {noun} at all'}"
        )
        return False

    def _prepare(self, data: Any, shape: Shape, place: Place, *, secret: bool, refused: set[Place]) -> Any:
        """Secrets in the place of their references, file names made absolute. Puts into `refused` what cannot be used."""
        if isinstance(data, str):
            sentence, text = self._prepare_text(data, shape, str(place[-1]), secret=secret)
            if sentence:
                self.complain(place, sentence)
                refused.add(place)
            return text
        if isinstance(data, dict):
            return {
                key: self._prepare(value, shape.inside(key), (*place, key), secret=secret, refused=refused)
                for key, value in data.items()
            }
        if isinstance(data, list):
            return [
                self._prepare(value, shape.inside(index), (*place, index), secret=secret, refused=refused)
                for index, value in enumerate(data)
            ]
        if data is None and not shape.free:
            self.complain(place, "is empty; write a value, or leave the key out")
            refused.add(place)
        return data

    def _prepare_text(self, text: str, shape: Shape, key: str, *, secret: bool) -> tuple[str, str]:
        """What is wrong with a text, if anything, and what it stands for."""
        if "${" in text:
            if refers(text) and not secret:
                return "a secret may not stand here, where everybody can read it; write it plainly", text
            try:
                text = self.secrets.resolve(text)
            except ValueError as error:
                return str(error), text
        elif (
            text
            and not CAPTURED.search(text)
            and (shape.secret or (secret and shape.secret is None and CREDENTIAL.search(key)))
        ):
            return "a secret is never written inline; write ${env:NAME} or ${file:PATH}", text
        return "", str(file_beside(self.directory, text)) if text and shape.is_file else text
