"""`watch:` in the configuration: whose alerts drills are judged by, where they are not our own."""

from dataclasses import dataclass, field
from typing import Any

from stormwatch.harness.draft import Draft
from stormwatch.harness.entry import WatchEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Where drills see alerts. Each source that is empty is not watched."""

    prometheus: str = field(default="", repr=False)
    """Address; not shown: it may hold a secret."""
    alertmanager: str = field(default="", repr=False)
    receiver: str = ""
    """Where a drill listens for the webhook at the end of the way, `host:port`."""

    def __bool__(self) -> bool:
        """Whether there is any source."""
        return bool(self.prometheus or self.alertmanager or self.receiver)

    def as_json(self) -> dict[str, str]:
        """A JSON object for readers, without credentials."""
        from stormwatch.harness.drift_sources import shown

        return {
            "prometheus": shown(self.prometheus),
            "alertmanager": shown(self.alertmanager),
            "receiver": self.receiver,
        }


def read_watch(draft: Draft, data: Any) -> Watch | None:
    """Read the section; every mistake in it is complained about. None: there are some."""
    entry = draft.read(WatchEntry, data, ("watch",), secret=True)
    if entry is None:
        return None
    return Watch(
        prometheus=entry.prometheus or "", alertmanager=entry.alertmanager or "", receiver=entry.receiver or ""
    )
