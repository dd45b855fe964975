"""From an alert to the picture, video and trace of the failure that it tells of: links for whoever is woken.

What was linked to is remembered while the alert fires, so that retention leaves it for last.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from stormwatch.exporters.artifact import Artifact, What, artifacts_of
from stormwatch.probes.result import Result
from stormwatch.slo.alert import AlertState, Transition

LINKED: Final = (What.PICTURE, What.VIDEO, What.TRACE)
"""What alerts link to; each is an annotation of that name."""


class ArtifactLinks:
    """Which files alerts link to. Without an address that people can reach only the status page does."""

    def __init__(self, external_url: str) -> None:
        """`external_url` is where people reach the status page; it ends with a slash. Empty: nobody said."""
        self._external_url = external_url
        self._linked: dict[tuple[tuple[str, str], ...], str] = {}

    def of(self, transition: Transition, failure: Result | None) -> dict[str, str]:
        """The annotations `picture`, `video` and `trace`, as far as the failed run kept them; `failure` is the probe's last."""
        if transition.after is AlertState.RESOLVED:
            self._linked.pop(transition.alert.key, None)
        kept = evidence_of(transition, failure)
        if kept and transition.after is AlertState.FIRING:
            self._linked[transition.alert.key] = next(iter(kept.values())).run
        if not self._external_url:
            return {}
        return {what.value: f"{self._external_url}artifacts/{quote(each.path)}" for what, each in kept.items()}

    @property
    def runs(self) -> frozenset[str]:
        """The runs that alerts link to which fire, as `<folder of the probe>/<run>`."""
        return frozenset(self._linked.values())


def evidence_of(transition: Transition, failure: Result | None) -> Mapping[What, Artifact]:
    """The first picture, the first video and the trace of the failure that an alert tells of; `failure` is the last one of its probe.

    A failure of which the alert does not tell is none of its evidence: an objective may judge a slow run that was up.
    """
    if failure is None or (failure.reason.value, failure.message) != (transition.reason, transition.message):
        return {}
    # In reverse, so that of several pictures the first one stays.
    first = {each.what: each for each in reversed(artifacts_of(failure))}
    return {what: first[what] for what in LINKED if what in first}
