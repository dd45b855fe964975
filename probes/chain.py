"""The order of a served chain: which certificate each one names as its issuer, and what is missing. Names only: no keys.

A server must send its own certificate first and each issuer after what it has issued (RFC 5246 §7.4.2); clients of TLS 1.3
should bear with any order (RFC 8446 §4.4.2), and not all do.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """How the certificates of a chain follow each other."""

    path: tuple[int, ...]
    """Positions from the server's certificate to the last issuer that was served."""
    missing: str
    """Subject of the issuer that the path ends without; empty when it ends with a root, which names itself."""
    looped: bool
    """The issuer that the path ends without stands on the path already: the certificates name each other in a circle."""
    superfluous: tuple[int, ...]
    """Positions that are not on the path."""

    @property
    def right(self) -> bool:
        """Whether every certificate stands behind the one that it issued."""
        return all(before < after for before, after in zip(self.path, self.path[1:], strict=False))


def order(names: Sequence[tuple[str, str]]) -> Order:
    """Follow the issuers of a chain, given as subject and issuer of each certificate. Ends for every input."""
    if not names:
        return Order((), "", False, ())
    places: dict[str, list[int]] = {}
    for position in range(len(names) - 1, 0, -1):
        places.setdefault(names[position][0], []).append(position)
    path, taken = [0], {names[0][0]}
    while True:
        subject, issuer = names[path[-1]]
        if issuer == subject:
            missing = ""
            break
        if issuer in taken or not places.get(issuer):
            missing = issuer
            break
        path.append(places[issuer].pop())
        taken.add(issuer)
    return Order(
        path=tuple(path),
        missing=missing,
        looped=missing in taken,
        superfluous=tuple(sorted(set(range(len(names))) - set(path))),
    )
