"""Replies of SMTP servers (RFC 5321 §4.2) and the extensions that an EHLO names. Pure."""

import re
from dataclasses import dataclass
from typing import Final

from stormwatch.probes.backend import show_words
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Reason
from stormwatch.probes.starttls import shown

LINE: Final = 8192
"""Bytes of the longest line that is read; RFC 5321 §4.5.3.1.5 allows 512."""
LINES: Final = 256
"""Lines of the longest reply that is read."""

_LINE: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply."""

    code: int
    lines: tuple[str, ...]
    """Without the codes, one for each line."""

    def __str__(self) -> str:
        return f"{self.code} {show_words(' '.join(self.lines))}".rstrip()

    @property
    def good(self) -> bool:
        """2yz: done."""
        return 200 <= self.code < 300

    @property
    def temporary(self) -> bool:
        """4yz: not now."""
        return 400 <= self.code < 500


def read_line(line: bytes) -> tuple[int, str, bool]:
    """Code, text, and whether more lines follow. Raises ProbeFailed for what is no line of a reply."""
    match = _LINE.fullmatch(line.rstrip(b"\r\n"))
    if match is None:
        raise ProbeFailed(Reason.PROTOCOL, f"the server said {shown(line)}, which is no reply of SMTP")
    return int(match[1]), (match[3] or b"").decode("utf-8", "replace"), match[2] == b"-"


def read_reply(lines: list[bytes]) -> Reply:
    """A reply from its lines. Raises ProbeFailed when they do not belong together."""
    codes: set[int] = set()
    texts: list[str] = []
    for line in lines:
        code, text, _ = read_line(line)
        codes.add(code)
        texts.append(text)
    if len(codes) != 1:
        raise ProbeFailed(
            Reason.PROTOCOL, f"the lines of one reply have the codes {', '.join(map(str, sorted(codes))) or 'none'}"
        )
    return Reply(codes.pop(), tuple(texts))


def extensions(reply: Reply) -> tuple[str, ...]:
    """What a reply to EHLO offers: a keyword and its parameters each, in capitals, as `SIZE 1000` or `AUTH PLAIN LOGIN`."""
    offered = [" ".join(line.upper().replace("AUTH=", "AUTH ").split()) for line in reply.lines[1:]]
    return tuple(dict.fromkeys(each for each in offered if each))


def offers(offered: tuple[str, ...], wanted: str) -> bool:
    """Whether an extension is offered, with every parameter that is named: `AUTH PLAIN` is in `AUTH LOGIN PLAIN`."""
    keyword, *parameters = wanted.upper().split()
    return any(each.split()[0] == keyword and set(parameters) <= set(each.split()[1:]) for each in offered)
