"""`targets:` in the configuration: what drills may break that no proxy stands in front of."""

from collections.abc import Mapping
from typing import Any

from stormwatch.chaos.target import Target, TargetKind
from stormwatch.harness.document import Place
from stormwatch.harness.draft import Draft
from stormwatch.harness.entry import TargetEntry
from stormwatch.harness.form import show

Targets = Mapping[str, TargetKind]


def read_targets(draft: Draft, data: Any, *, kinds: Targets) -> Mapping[str, Target | None]:
    """The targets by name; None for one with mistakes in it."""
    named: dict[Place, str] = {}
    found: dict[str, Target | None] = {}
    for place, item in draft.items(data, ("targets",)):
        if isinstance(item.get("name"), str):
            named[place] = item["name"]
            found[item["name"]] = None
        said = [key for key in item if key in kinds]
        head = draft.read(
            TargetEntry, {key: value for key, value in item.items() if key not in said}, place, also=tuple(kinds)
        )
        if len(said) != 1:
            written = " and ".join(said) or "none of them"
            draft.complain(place, f"a target is exactly one of {', '.join(kinds)}; written is {show(written)}")
            continue
        options = draft.read(kinds[said[0]].options, item[said[0]], (*place, said[0]), secret=True)
        if head is not None and options is not None:
            found[head.name] = Target(name=head.name, kind=said[0], options=options)
    draft.unique(named, "target")
    return found
