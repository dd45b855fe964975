"""Which processes of the browser died, and how: a page's by its own hand, which is its failure, or by another's, which is ours.

Chromium ends the process of a page with a trap when the page's scripts take more memory than a page may have ("Aw, Snap!", for a
visitor, too). Memory that the machine does not have ends in a SIGKILL of the kernel. Playwright says the same of both; the DevTools
protocol tells the signal: https://chromedevtools.github.io/devtools-protocol/tot/Target/#event-targetCrashed
"""

import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from stormwatch.probes.procfs import is_alive
from stormwatch.probes.result import Outcome, Reason

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession

_OWN_HAND: Final = frozenset({signal.SIGTRAP, signal.SIGILL})
"""What Chromium ends itself with on purpose, by the processor it was built for. Any other signal is a fault of the browser or comes from outside."""

_NETWORK: Final = "network.mojom.NetworkService"


def judge(status: str, code: int) -> tuple[Outcome, Reason, str]:
    """What a dead page process makes of a run, from Chromium's words for its end and the number of its signal; 0: not known."""
    try:
        name = signal.Signals(code).name
    except ValueError:
        name = f"code {code}" if code else "nobody says how"
    if status == "oom" or (status == "crashed" and code in _OWN_HAND):
        return (
            Outcome.DOWN,
            Reason.STEP,
            f"the page crashed: its process ended itself ({name}), as Chromium does when scripts take more memory than a page may have",
        )
    if status == "killed":
        return (
            Outcome.BROKEN,
            Reason.BROWSER,
            f"the browser's page process was killed from outside ({name}): by the kernel when the machine's memory is short, or by hand",
        )
    return Outcome.BROKEN, Reason.BROWSER, f"the browser's page process died ({name}): a fault of the browser"


class Crashes:
    """Hears of each page process of a browser that dies."""

    def __init__(self) -> None:
        self._session: CDPSession | None = None
        self._ends: list[tuple[str, int]] = []
        self._network = 0
        """The process that speaks with the network for all pages. Chromium starts another when it died, and says nothing of it."""

    def watch(self, browser: "Browser") -> None:
        """Listen to a browser that was just started. Raises Playwright's Error if it does not let us; others than Chromium tell nothing."""
        self._session, self._network = None, 0
        if browser.browser_type.name == "chromium":
            self._session = browser.new_browser_cdp_session()
            self._session.on("Target.targetCrashed", self._crashed)
            self._session.send("Target.setDiscoverTargets", {"discover": True, "filter": [{"type": "page"}]})

    def look(self) -> None:
        """See which process has the network, now that there is a page: without one there is none. May raise Playwright's Error."""
        if self._session is not None and not self._network:
            processes = self._session.send("SystemInfo.getProcessInfo")["processInfo"]
            self._network = next((each["id"] for each in processes if each["type"] == _NETWORK), 0)

    def forget(self) -> None:
        """Begin a new run."""
        self._ends.clear()
        if self.network_died():
            self._network = 0

    def network_died(self) -> bool:
        """Whether what was on its way in this run was lost because the browser's own part for the network is dead."""
        return self._network != 0 and not is_alive(self._network)

    def heard(self) -> bool:
        """Whether a page's process died in this run. Asks the browser, which may raise Playwright's Error."""
        if self._session is not None and not self._ends:
            # The page's own session is told first. Whatever was told before this answer has been heard then.
            self._session.send("Target.getTargets", {"filter": [{"type": "page"}]})
        return bool(self._ends)

    def judge(self) -> tuple[Outcome, Reason, str]:
        """What to say of a run whose page crashed, as Playwright says. May raise Playwright's Error."""
        self.heard()
        # The first is the one that failed the run, or took the others with it: pages of one site share a process.
        return judge(*(self._ends[0] if self._ends else ("", 0)))

    def _crashed(self, event: Mapping[str, Any]) -> None:
        # The page is hostile, not the browser; but a run may have many pages.
        if len(self._ends) < 10:
            self._ends.append((str(event.get("status", "")), int(event.get("errorCode", 0))))
