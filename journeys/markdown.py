"""Text that targets and people wrote, for a place that Markdown is read in: comments on a pull request, summaries of a step."""

import re
from typing import Final

_SIGNS: Final = str.maketrans({sign: f"&#{ord(sign)};" for sign in "\\`*_[]<>&|!~@$#^"})


def inert(said: str) -> str:
    """As it was said, on one line: no sign in it means anything to Markdown or HTML, and no address becomes a link.

    An element around it would not do: Markdown goes on inside of `<code>`, with pictures from wherever a page wants.
    """
    # A page may have said half a character, which is none in UTF-8.
    said = said.encode("utf-8", "replace").decode()
    return re.sub(r"\s+", " ", said).translate(_SIGNS).replace("://", "&#58;//")
