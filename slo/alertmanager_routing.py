"""Whom an Alertmanager tells of an alert, by its tree of routes: the first that matches, and more as long as they continue.

https://prometheus.io/docs/alerting/latest/configuration/#route
"""

from collections.abc import Mapping
from typing import Any

import re2

from stormwatch.slo.drift_alertmanager import Matchers, matchers_of


def receivers_for(route: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """The receivers of an alert with these labels, in the order of their routes. `route` is the top of the tree."""
    return _receivers(route, labels, above="")


def _receivers(route: Mapping[str, Any], labels: Mapping[str, str], above: str) -> list[str]:
    receiver = route.get("receiver") or above
    found: list[str] = []
    for below in route.get("routes") or ():
        if matches(matchers_of(below), labels):
            found += _receivers(below, labels, receiver)
            if not below.get("continue"):
                break
    return found or [receiver]


def matches(matchers: Matchers, labels: Mapping[str, str]) -> bool:
    """Whether all matchers match; a label that is not there is empty, and a regular expression is about the whole value."""
    return all(_matches(operator, value, labels.get(name, "")) for name, operator, value in matchers)


def _matches(operator: str, wanted: str, seen: str) -> bool:
    if operator in {"=", "!="}:
        return (wanted == seen) is (operator == "=")
    return (re2.fullmatch(wanted, seen) is not None) is (operator == "=~")
