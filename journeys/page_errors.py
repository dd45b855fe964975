"""What went wrong in a page that seemed to work: exceptions of its scripts, and requests that failed.

A page whose script died, or whose third party is down, may look as it should. A journey that cares asks.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Error as ScriptError
    from playwright.sync_api import Page, Request, Response


class PageErrors:
    """Listens to one page from the moment that it is made for it."""

    def __init__(self, page: "Page") -> None:
        self._page = page
        self.sentences: list[str] = []
        """What went wrong, the first first."""
        page.on("pageerror", self._raised)
        page.on("requestfailed", self._unanswered)
        page.on("response", self._answered)

    def check(self) -> None:
        """Wait until all that belongs to the page is loaded. Raises AssertionError with the first thing that went wrong."""
        # Scripts and images are loaded, or have failed, before the event `load`: what they cause was told before it.
        self._page.wait_for_load_state("load")
        more = len(self.sentences) - 1
        assert not self.sentences, f"{self.sentences[0]}{f' (and {more} more)' if more else ''}"

    def _raised(self, error: "ScriptError") -> None:
        self.sentences.append(f"a script of the page raised {error.name}: {error.message}")

    def _unanswered(self, request: "Request") -> None:
        # What the page gave up itself, by leaving for another one, did not fail.
        if request.failure != "net::ERR_ABORTED":
            self.sentences.append(f"{_address(request)} was not answered: {request.failure}")

    def _answered(self, response: "Response") -> None:
        if response.status >= 400:
            self.sentences.append(f"{_address(response.request)} answered {response.status}")


def _address(request: "Request") -> str:
    return request.url.partition("?")[0]
