"""An HTTP answer that is changed on its way: its head, its body, both. From events to events; framing is h11's. No I/O.

Headers are changed and bodies cut while they stream. A body that is searched for patterns has to be there as a whole: it is
kept until its end, decoded, changed, and sent without a content coding. What is too long for that, or in a coding that is
not known here, passes as it is.
"""

import zlib
from collections.abc import Sequence

import h11

from stormwatch.chaos.http_treatment import BodyEdit, Headers, Touch, Treated

LONGEST_BODY = 8 * 1024 * 1024
"""Bytes of a body, encoded or decoded, above which no patterns are looked for in it."""

Reply = h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage


class Rewrite:
    """One answer under way."""

    def __init__(self, treated: Sequence[Treated], *, method: bytes, old_client: bool) -> None:
        self._headers = [one for one in treated if one.treatment.response]
        self._bodies = [one for one in treated if one.treatment.body]
        self._method = method
        self._old_client = old_client
        """Whether it speaks HTTP/1.0: no chunks, no trailers."""
        self._head: h11.Response | None = None
        self._whole: bytearray | None = None
        """What is kept of a body that must be there as a whole."""
        self._patches = any(one.treatment.body and one.treatment.body.patches for one in treated)
        """Whether it is kept: a body that is replaced is of no use to anybody."""
        self._left: int | None = None
        """How many bytes of the body still pass; None: all."""
        self._cutting: list[Treated] = []
        self._trailers = True
        self.begun = False
        """Whether the head of the answer has come: from here on the answer is finished as it was begun."""
        self.touches: list[Touch] = []
        """What was done since somebody looked last; theirs to empty."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to change: bytes may pass as they are."""
        return not (self._headers or self._bodies)

    def forget(self, by: object) -> None:
        """A fault ended: what has not begun is left alone."""
        if not self.begun:
            self._headers = [one for one in self._headers if one.by is not by]
            self._bodies = [one for one in self._bodies if one.by is not by]

    def meet(self, event: object) -> list[Reply]:
        """What is sent for something that the service sent."""
        if isinstance(event, h11.InformationalResponse):
            return [event]
        if isinstance(event, h11.Response):
            return self._meet_head(event)
        if isinstance(event, h11.Data):
            return self._meet_data(bytes(event.data))
        if isinstance(event, h11.EndOfMessage):
            return self._meet_end(event)
        return []

    def _meet_head(self, event: h11.Response) -> list[Reply]:
        self.begun = True
        headers: Headers = list(event.headers.raw_items())
        for one in self._headers:
            edited = one.treatment.response.apply(headers) if one.treatment.response else headers
            if edited != headers:
                self.touches.append(Touch(one.by, requests=1))
            headers = edited
        head = _with(event, headers)
        if self._method == b"HEAD" or event.status_code in (204, 304):
            self._bodies = []
        edits = [one.treatment.body for one in self._bodies if one.treatment.body]
        if any(edit.patches or edit.replace is not None for edit in edits):
            self._head, self._whole = head, bytearray()
            return []
        if edits:
            self._left = min(edit.truncate for edit in edits if edit.truncate is not None)
            self._cutting = [one for one, edit in zip(self._bodies, edits, strict=True) if edit.truncate == self._left]
            length = _length(headers)
            if length is not None and length > self._left:
                head = _with(head, _framed(headers, self._left))
            self._trailers = False
        self._trailers = self._trailers and _length(headers) is None
        return [head]

    def _meet_data(self, data: bytes) -> list[Reply]:
        if self._whole is not None:
            if self._patches:
                self._whole += data
            return self._give_up() if len(self._whole) > LONGEST_BODY else []
        if self._left is None:
            return [h11.Data(data=data)]
        passed = data[: self._left]
        self._left -= len(passed)
        self._count_cut(len(data) - len(passed))
        return [h11.Data(data=passed)] if passed else []

    def _meet_end(self, event: h11.EndOfMessage) -> list[Reply]:
        if self._whole is not None:
            return self._edited()
        if self._trailers and not self._old_client and event.headers:
            return [event]
        return [h11.EndOfMessage()]

    def _count_cut(self, size: int) -> None:
        if size:
            for one in self._cutting:
                self.touches.append(Touch(one.by, requests=1, bytes=size))
            # Each answer is one request, in however many chunks it is cut.
            self._cutting = []

    def _give_up(self) -> list[Reply]:
        assert self._head is not None
        kept, self._whole = bytes(self._whole or b""), None
        self._trailers = _length(list(self._head.headers.raw_items())) is None
        return [self._head, h11.Data(data=kept)]

    def _edited(self) -> list[Reply]:
        assert self._head is not None
        raw = bytes(self._whole or b"")
        headers: Headers = list(self._head.headers.raw_items())
        decoded, coding_known = _decoded(raw, headers)
        body, changed = decoded if coding_known else raw, False
        for one in self._bodies:
            edit = one.treatment.body
            if edit is None or (edit.patches and not coding_known and not changed):
                continue
            edited = _apply(edit, body)
            if edited != body or edit.replace is not None:
                changed = True
                coding_known = True
                self.touches.append(Touch(one.by, requests=1, bytes=len(edited)))
                if edit.content_type:
                    headers = [(name, value) for name, value in headers if name.lower() != b"content-type"]
                    headers.append((b"Content-Type", edit.content_type.encode()))
            body = edited
        if not changed:
            return [self._head, *([h11.Data(data=raw)] if raw else []), h11.EndOfMessage()]
        headers = [(name, value) for name, value in headers if name.lower() != b"content-encoding"]
        head = _with(self._head, _framed(headers, len(body)))
        return [head, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()]


def _apply(edit: BodyEdit, body: bytes) -> bytes:
    if edit.replace is not None:
        return edit.replace
    for pattern, replacement in edit.patches:
        body = pattern.sub(replacement, body)
    return body if edit.truncate is None else body[: edit.truncate]


def _with(head: h11.Response, headers: Headers) -> h11.Response:
    return h11.Response(status_code=head.status_code, headers=headers, reason=head.reason)


def _framed(headers: Headers, length: int) -> Headers:
    """With a Content-Length and no other framing."""
    rest = [(name, value) for name, value in headers if name.lower() not in (b"content-length", b"transfer-encoding")]
    return [*rest, (b"Content-Length", b"%d" % length)]


def _length(headers: Headers) -> int | None:
    """The Content-Length; None when the body is framed otherwise."""
    if any(name.lower() == b"transfer-encoding" for name, _ in headers):
        return None
    return next((int(value) for name, value in headers if name.lower() == b"content-length"), None)


def _decoded(body: bytes, headers: Headers) -> tuple[bytes, bool]:
    """The body without its content coding, and whether that could be done."""
    codings = [
        coding.strip().lower()
        for name, value in headers
        if name.lower() == b"content-encoding"
        for coding in value.split(b",")
        if coding.strip().lower() not in (b"", b"identity")
    ]
    for coding in reversed(codings):
        if coding not in (b"gzip", b"x-gzip", b"deflate"):
            return body, False
        # 32: gzip or zlib, by its head (zlib's inflateInit2).
        reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        try:
            body = reader.decompress(body, LONGEST_BODY)
        except zlib.error:
            return body, False
        if not reader.eof:
            return body, False
    return body, True
