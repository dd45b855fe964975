"""What a load needs of pytest that pytest promises to nobody: all of it is here, and looked for before anything is loaded.

One test at a time is what pytest's public interface can set up and tear down. Many users at once need copies of what it
remembers in between, and that has no public name. Known to be there: pytest 8.4 to 9.2.
"""

# ruff: noqa: SLF001 - that is what this module is for

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any, Final, cast

import pytest

KNOWN: Final = "8.4 to 9.2"
"""The versions of pytest that loads were tried with."""


def missing(item: pytest.Function) -> Sequence[str]:
    """What this pytest has not, by its names in pytest. `item`: any test that was collected."""
    from _pytest import runner

    session, own = cast("Any", item.session), cast("Any", item)
    state = getattr(session, "_setupstate", None)
    info = getattr(own, "_fixtureinfo", None)
    definitions = getattr(info, "name2fixturedefs", None) or {}
    # There is always one: `request` itself is none, but `step` or the user's client is.
    definition = next((found[-1] for found in definitions.values() if found), None)
    there = {
        "_pytest.runner.runtestprotocol": callable(getattr(runner, "runtestprotocol", None)),
        "Session._setupstate.teardown_exact": callable(getattr(state, "teardown_exact", None)),
        "Session._fixturemanager.getfixturedefs": callable(
            getattr(getattr(session, "_fixturemanager", None), "getfixturedefs", None)
        ),
        "Function._fixtureinfo.name2fixturedefs": is_dataclass(info) and hasattr(info, "name2fixturedefs"),
        "Function._initrequest": callable(getattr(own, "_initrequest", None)),
        "Stash._storage": isinstance(getattr(item.stash, "_storage", None), dict),
    }
    if definition is not None:
        there |= {f"FixtureDef.{name}": hasattr(definition, name) for name in ("cached_result", "_finalizers")}
    return tuple(name for name, is_there in there.items() if not is_there)


def run_protocol(item: pytest.Function, *, nextitem: pytest.Item | pytest.Collector | None) -> list[pytest.TestReport]:
    """Set-up, call and teardown of what `nextitem` does not need, without a word to the terminal."""
    from _pytest.runner import runtestprotocol

    return runtestprotocol(item, log=False, nextitem=cast("Any", nextitem))


def tear_down_all(session: pytest.Session) -> None:
    """Let go of every fixture that a session has set up."""
    cast("Any", session)._setupstate.teardown_exact(None)


def forget_set_up(session: pytest.Session) -> None:
    """A copy of a session has set up nothing yet."""
    own = cast("Any", session)
    own._setupstate = type(own._setupstate)()


def own_definition(definition: Any, nodes: Mapping[object, object]) -> Any:
    """A copy of a fixture's definition without a value. `nodes`: whose copy takes the place of which node."""
    own = copy.copy(definition)
    own.cached_result = None
    own._finalizers = []
    # pytest 9.1 and later: by which it is found. Before, there is a name in its place, which copies share.
    if hasattr(own, "node"):
        own.node = nodes.get(definition.node, definition.node)
    return own


def give_definitions(own: pytest.Function, item: pytest.Function, private: Callable[[Any], Any]) -> None:
    """Let a copy of a test have `private` definitions in place of all that `item`, of which it was made, can see."""
    copied: Any = own
    known = copied._fixtureinfo
    copied.session._fixturemanager = _OwnFixtures(copied.session._fixturemanager, item, private)
    copied._fixtureinfo = replace(
        known,
        name2fixturedefs={name: [private(each) for each in found] for name, found in known.name2fixturedefs.items()},
    )
    copied._initrequest()


def own_stash(stash: pytest.Stash) -> pytest.Stash:
    """A copy: what is put into one is not in the other."""
    own: Any = pytest.Stash()
    own._storage = dict(cast("Any", stash)._storage)
    return own


class _OwnFixtures:
    """pytest's manager of fixtures, as far as a run needs it: `request.getfixturevalue` finds the user's own definitions."""

    def __init__(self, manager: Any, item: pytest.Function, private: Callable[[Any], Any]) -> None:
        self._manager = manager
        self._item = item
        self._private = private

    def getfixturedefs(self, argname: str, node: object) -> Sequence[Any] | None:
        """What is visible to the test."""
        found = self._manager.getfixturedefs(argname, self._item)
        return found and [self._private(each) for each in found]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)
