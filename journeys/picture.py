"""A picture of a page on which no secret can be read, or none."""

import base64
from typing import TYPE_CHECKING, Final

from stormwatch.journeys.masker import Masker

if TYPE_CHECKING:
    from playwright.sync_api import Page

COVERED: Final = "input, textarea, select, [contenteditable], canvas, video, object, embed"
"""What is painted over where secrets are about: fields hold what was typed, and of a canvas nobody knows what it shows."""
LONGEST: Final = 4 * 2**20
"""Characters of a page up to which it is searched."""

# Texts, attributes (a style sheet may show them) and what is in open shadow roots. An element of the page's own making that
# has no root we can see may have a closed one: of that nobody knows what it shows either.
_READ: Final = """() => {
  const texts = [], attributes = [];
  let length = 0, unknown = false;
  const filter = (node) => node.nodeType === 1 && node.matches("COVERED") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT;
  const walk = (root) => {
    const all = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, filter);
    for (let node = all.currentNode; node && length <= LONGEST; node = all.nextNode()) {
      if (node.nodeType === 3) { texts.push(node.data); length += node.data.length; continue; }
      for (const each of node.attributes || []) { attributes.push(each.value); length += each.value.length; }
      if (node.shadowRoot) walk(node.shadowRoot);
      else if (node.localName && node.localName.includes("-") && customElements.get(node.localName)) unknown = true;
    }
  };
  walk(document.documentElement);
  return { unknown: unknown || length > LONGEST, said: [texts.join(""), attributes.join("\\n")] };
}""".replace("LONGEST", str(LONGEST)).replace("COVERED", COVERED)


def photograph(page: "Page", masker: Masker, *, timeout: float) -> bytes | None:
    """A PNG of what the window shows, taken within `timeout` milliseconds; None where a secret might be read on it.

    Raises Playwright's Error if the browser gives no picture.
    """
    from playwright.sync_api import Error

    if masker.values:
        covered = [frame.locator(COVERED) for frame in page.frames]
        before = _is_clean(page, masker, timeout)
        picture = page.screenshot(timeout=timeout, mask=covered) if before else None
        # What was there before and after the picture was there in it.
        return picture if picture and _is_clean(page, masker, timeout) else None
    try:
        return page.screenshot(timeout=timeout)
    except Error:
        # Playwright waits for the page that is on its way, and that is what failed. Chromium itself does not.
        session = page.context.new_cdp_session(page)
        return base64.b64decode(session.send("Page.captureScreenshot")["data"])


def _is_clean(page: "Page", masker: Masker, timeout: float) -> bool:
    from playwright.sync_api import Error

    try:
        for frame in page.frames:
            # Not `evaluate`, which has no time-out: a page that hangs in a script would never answer.
            found = frame.wait_for_function(_READ, timeout=timeout, polling=100).json_value()
            if found["unknown"] or any(masker.finds(text) for text in found["said"]):
                return False
    except Error:
        return False
    return True
