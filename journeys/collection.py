"""Why a file of journeys could not be loaded: where and what, out of pytest's text."""

import re

_FRAME = re.compile(
    r"^(?:E\s+)?(?:File \"(?P<quoted>[^\"]+)\", line (?P<at>\d+)|(?P<file>[^\s:]+\.py):(?P<line>\d+): )", re.MULTILINE
)
_WHAT = re.compile(r"^E\s+(?P<what>[A-Za-z_][\w.]*(?:Error|Exception|Failed|Exit|Warning|Interrupt)\b.*)", re.MULTILINE)
_ANY = re.compile(r"^(?:E\s+|ERROR:? )(?P<what>\S.*)", re.MULTILINE)


def place_and_cause(text: str) -> tuple[str, str]:
    """`file:line` of the innermost frame that pytest shows, and the exception's line; either may be empty."""
    frames = [frame for frame in _FRAME.finditer(text) if "importlib" not in frame[0] and "<frozen" not in frame[0]]
    place = ""
    if frames:
        last = frames[-1]
        place = f"{last['quoted'] or last['file']}:{last['at'] or last['line']}"
    found = _WHAT.findall(text) or _ANY.findall(text)
    return place, found[-1].strip() if found else ""
