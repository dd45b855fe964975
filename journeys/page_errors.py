"""What went wrong in a page that seemed to work: exceptions of its scripts, and requests that failed.

A page whose script died, or whose third party is down, may look as it should. A journey that cares asks.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Error, Page, Request, Response


class PageErrors:
    """Listens to one page from the moment that it is made for it."""

    def __init__(self, page: "Page") -> None:
        self._page = page
        self._sentences: dict[object, str] = {}
        """By the request or the exception that each is about: a request that was refused is told of twice."""
        page.on("pageerror", self._raised)
        page.on("requestfailed", self._unanswered)
        page.on("response", self._answered)

    @property
    def sentences(self) -> list[str]:
        """What went wrong, the first first; what went wrong again on the next page is said once."""
        return list(dict.fromkeys(self._sentences.values()))

    def check(self) -> None:
        """Wait until all that belongs to the page is loaded. Raises AssertionError with the first thing that went wrong."""
        # The event `load` comes when scripts and images are loaded or have failed: what they cause was told before it.
        self._page.wait_for_load_state("load")
        sentences = self.sentences
        more = f" (and {len(sentences) - 1} more)" if len(sentences) > 1 else ""
        assert not sentences, f"{sentences[0]}{more}"

    def _raised(self, error: "Error") -> None:
        self._sentences[error] = f"a script of the page raised {error.name}: {error.message}"

    def _unanswered(self, request: "Request") -> None:
        # What the page gave up itself, by leaving for another one, did not fail.
        if request.failure != "net::ERR_ABORTED":
            self._sentences.setdefault(request, f"{_address(request)} was not answered: {request.failure}")

    def _answered(self, response: "Response") -> None:
        if response.status >= 400:
            self._sentences[response.request] = f"{_address(response.request)} answered {response.status}"


def _address(request: "Request") -> str:
    return request.url.partition("?")[0]
