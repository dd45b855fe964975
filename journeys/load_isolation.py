"""One collected test, many users of it at once in one process: each with a copy of all that pytest remembers between set-up and teardown.

pytest keeps the values of fixtures on their definitions, and what is to be torn down on the session: one test at a time. So
each user gets a test with definitions, session and modules of its own. What is expensive, collecting and importing, was
done once; the test's functions, hooks and plugins are the same.
"""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from stormwatch.journeys.load_pytest import forget_set_up, give_definitions, own_definition, own_stash
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
        twin.stash = own_stash(node.stash)
        nodes[node] = parent = twin
    own: Any = parent
    session.config = config
    forget_set_up(session)
    definitions: dict[int, Any] = {}

    def private(definition: Any) -> Any:
        if id(definition) not in definitions:
            definitions[id(definition)] = own_definition(definition, nodes)
        return definitions[id(definition)]

    give_definitions(own, item, private)
    return own


def _own_config(config: pytest.Config, secrets: Mapping[str, str], base_url: str) -> pytest.Config:
    """Journeys in one process differ in what `secrets` gives and what relative addresses are relative to."""
    own: Any = copy.copy(config)
    own.option = copy.copy(config.option)
    if base_url:
        own.option.base_url = base_url
    own.stash = own_stash(config.stash)
    own.stash[GIVEN_SECRETS] = secrets
    return own
