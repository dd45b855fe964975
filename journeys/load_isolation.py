"""One collected test, many users of it at once in one process: each with a copy of all that pytest remembers between set-up and teardown.

pytest keeps the values of fixtures on their definitions, and what is to be torn down on the session: one test at a time. So
each user gets a test with definitions, session and modules of its own. What is expensive, collecting and importing, was
done once; the test's functions, hooks and plugins are the same.
"""

# ruff: noqa: SLF001 - pytest has no public way to set up and tear down one test while another runs

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from stormwatch.journeys.plugin import GIVEN_SECRETS


def isolated(item: pytest.Function, *, secrets: Mapping[str, str], base_url: str) -> pytest.Function:
    """A test that shares no fixture and no state of a run with `item`, nor with another that was made from it."""
    config = _own_config(item.config, secrets, base_url)
    nodes: dict[object, Any] = {}
    session: Any = None
    parent: Any = None
    for node in item.listchain():
        twin: Any = copy.copy(node)
        session = session or twin
        twin.parent, twin.session, twin.config = parent, session, config
        twin.stash = _own_stash(node.stash)
        nodes[node] = parent = twin
    own: Any = parent
    session.config = config
    session._setupstate = type(session._setupstate)()
    definitions: dict[int, Any] = {}

    def private(definition: Any) -> Any:
        known = definitions.get(id(definition))
        if known is None:
            known = definitions[id(definition)] = copy.copy(definition)
            known.cached_result = None
            known._finalizers = []
            known.node = nodes.get(definition.node, definition.node)
        return known

    session._fixturemanager = _OwnFixtures(session._fixturemanager, item, private)
    known = own._fixtureinfo
    own._fixtureinfo = replace(
        known,
        name2fixturedefs={name: [private(each) for each in found] for name, found in known.name2fixturedefs.items()},
    )
    own._initrequest()
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


def _own_config(config: pytest.Config, secrets: Mapping[str, str], base_url: str) -> pytest.Config:
    """Journeys in one process differ in what `secrets` gives and what relative addresses are relative to."""
    own: Any = copy.copy(config)
    own.option = copy.copy(config.option)
    if base_url:
        own.option.base_url = base_url
    own.stash = _own_stash(config.stash)
    own.stash[GIVEN_SECRETS] = secrets
    return own


def _own_stash(stash: pytest.Stash) -> pytest.Stash:
    own: Any = pytest.Stash()
    own._storage = dict(cast("Any", stash)._storage)
    return own
