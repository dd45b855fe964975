"""What a page says of its own loading: navigation timings and Web Vitals, pushed by a script of ours inside it.

The page tells of itself whenever something changed, and once more when it is left. Nothing is asked of it at the end of a run:
a page that hangs in a script would not answer, and the run's own failure must be told in time.

Definitions: https://web.dev/articles/vitals. LCP is the last candidate until the page was left; CLS the largest session window
(shifts less than 1 s apart, 5 s at most); INP the longest interaction, one in fifty set aside. Chromium knows all of them,
Firefox not CLS, WebKit only FCP and the timings.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from stormwatch.journeys.traffic import shown

BINDING: Final = "__stormwatch_page"
"""The function that our script calls in the page."""
KEPT: Final = 20
"""How many pages of one run are told of: the first ones."""
_LONGEST: Final = 20_000
"""Characters of what one page says at once: ours are some hundred."""

SCRIPT: Final = """(() => {
  const tell = window.BINDING;
  if (window.top !== window || typeof tell !== "function" || typeof PerformanceObserver !== "function") return;
  const id = Math.random().toString(36).slice(2);
  const seen = {};
  let window_ = 0, first = 0, last = 0, cls = 0, waiting = false;
  const interactions = new Map();
  const push = () => {
    waiting = false;
    const now = performance.getEntriesByType("navigation")[0];
    const known = Object.assign({}, seen);
    if (now) {
      known.ttfb = now.responseStart;
      known.interactive = now.domContentLoadedEventEnd;
      known.loaded = now.loadEventEnd;
    }
    try { tell(JSON.stringify({ id, url: location.href, known })); } catch { /* the page is going away */ }
  };
  const soon = () => { if (!waiting) { waiting = true; setTimeout(push, 0); } };
  const observe = (type, take, more) => {
    try {
      new PerformanceObserver((list) => { list.getEntries().forEach(take); soon(); })
        .observe(Object.assign({ type, buffered: true }, more));
    } catch { /* this browser does not know it */ }
  };
  observe("paint", (e) => { if (e.name === "first-contentful-paint") seen.fcp = e.startTime; });
  observe("largest-contentful-paint", (e) => { seen.lcp = e.startTime; });
  observe("layout-shift", (e) => {
    if (e.hadRecentInput) return;
    if (e.startTime - last > 1000 || e.startTime - first > 5000) { window_ = 0; first = e.startTime; }
    last = e.startTime;
    window_ += e.value;
    cls = Math.max(cls, window_);
    seen.cls = cls;
  });
  observe("event", (e) => {
    if (!e.interactionId) return;
    interactions.set(e.interactionId, Math.max(interactions.get(e.interactionId) || 0, e.duration));
    const longest = [...interactions.values()].sort((a, b) => b - a);
    seen.inp = longest[Math.floor(longest.length / 50)];
  }, { durationThreshold: 16 });
  if (PerformanceObserver.supportedEntryTypes.includes("layout-shift")) seen.cls = 0;
  addEventListener("load", () => setTimeout(push, 0));
  addEventListener("pagehide", push);
})();""".replace("BINDING", BINDING)
"""Runs in every page before its own scripts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageView:
    """One document that was shown. Seconds since its navigation began; None: not seen, or not known by the browser."""

    url: str
    ttfb: float | None = None
    """Time to the first byte."""
    interactive: float | None = None
    """Until the event DOMContentLoaded was over."""
    loaded: float | None = None
    """Until the event load was over."""
    fcp: float | None = None
    """First contentful paint."""
    lcp: float | None = None
    """Largest contentful paint."""
    inp: float | None = None
    """Interaction to next paint."""
    cls: float | None = None
    """Cumulative layout shift, a number without unit."""

    def as_json(self) -> dict[str, Any]:
        """What is known; `PageView(**…)` reads it back equal."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class PageViews:
    """Takes what the pages of a run say of themselves. Whatever a page says is data: it may lie or garble it."""

    def __init__(self) -> None:
        self._seen: dict[str, PageView] = {}

    def take(self, said: object) -> None:
        """What a page pushed: newer news of the same document replace older ones. What cannot be read is left out."""
        if not isinstance(said, str) or len(said) > _LONGEST:
            return
        try:
            document = json.loads(said)
            name, url, known = document["id"], document["url"], document["known"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if not (isinstance(name, str) and isinstance(url, str) and isinstance(known, dict)):
            return
        if url == "about:blank" or (name not in self._seen and len(self._seen) >= KEPT):
            return
        try:
            address = shown(url)
        except ValueError:
            return
        self._seen[name] = PageView(url=address, **_numbers(known))

    def views(self) -> tuple[PageView, ...]:
        """The documents in the order in which they were first told of."""
        return tuple(self._seen.values())


def _numbers(known: Mapping[Any, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in ("ttfb", "interactive", "loaded", "fcp", "lcp", "inp", "cls"):
        value = known.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
            continue
        if name == "cls":
            found[name] = round(float(value), 6)
        elif value > 0:  # 0: it has not happened yet
            found[name] = round(value / 1000, 6)
    return found
