"""Why a file of journeys could not be loaded: where and what, out of pytest's text."""

import re

_FRAME = re.compile(
    r"^(?:E\s+)?(?:File \"(?P<quoted>[^\"]+)\", line (?P<at>\d+)|(?P<file>[^\s:]+\.py):(?P<line>\d+): )", re.MULTILINE
)
_WHAT = re.compile(r"^E\s+(?P<what>[A-Za-z_][\w.]*(?:Error|Exception|Failed|Exit|Warning|Interrupt)\b.*)", re.MULTILINE)
_ANY = re.compile(r"^(?:E\s+|ERROR:? )(?P<what>\S.*)", re.MULTILINE)


def place_and_cause(text: str) -> tuple[str, str]:
    """`file:line` of the innermost frame that is not a library's, and the exception's line; either may be empty."""
    frames = [f"{one['quoted'] or one['file']}:{one['at'] or one['line']}" for one in _FRAME.finditer(text)]
    # The journey's own line says more than the line of the library that it called.
    own = [frame for frame in frames if "/lib/python" not in frame and "<frozen" not in frame]
    place = (own or frames or [""])[-1]
    found = _WHAT.findall(text) or _ANY.findall(text)
    return place, found[-1].strip() if found else ""
