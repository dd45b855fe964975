"""The requests of a run as a HAR file (HTTP Archive 1.2), made from its Playwright trace.

Made from the trace, and not recorded beside it, because a HAR of Playwright's own is written when its context is closed: after
the moment of the failure, or never. Specification: https://w3c.github.io/web-performance/specs/HAR/Overview.html
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

LARGEST: Final = 2**20
"""Bytes of a body up to which it is in the file."""
CREDENTIALS: Final = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie"})
"""Headers whose values are left out: they are as good as a password for whoever the file is sent to."""
_MASK: Final = "***"


def har_of(trace: Path) -> bytes:
    """The file, UTF-8. Raises OSError, ValueError or zipfile.BadZipFile for what is no trace."""
    with zipfile.ZipFile(trace) as archive:
        entries = [_entry(snapshot, archive) for snapshot in _snapshots(archive)]
    pages = {entry["pageref"]: entry["startedDateTime"] for entry in reversed(entries) if "pageref" in entry}
    log = {
        "version": "1.2",
        "creator": {"name": "stormwatch", "version": "1"},
        "pages": [
            {"id": page, "startedDateTime": began, "title": "", "pageTimings": {}}
            for page, began in reversed(pages.items())
        ],
        "entries": entries,
    }
    return json.dumps({"log": log}, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _snapshots(archive: zipfile.ZipFile) -> Iterator[Mapping[str, Any]]:
    for name in archive.namelist():
        if name.endswith(".network"):
            for line in archive.read(name).splitlines():
                event = json.loads(line)
                if event.get("type") == "resource-snapshot":
                    yield event["snapshot"]


def _entry(snapshot: Mapping[str, Any], archive: zipfile.ZipFile) -> dict[str, Any]:
    request, response = dict(snapshot["request"]), dict(snapshot["response"])
    for message in (request, response):
        message["headers"] = [_header(header) for header in message["headers"]]
        message["cookies"] = [{**cookie, "value": _MASK} for cookie in message["cookies"]]
    if "postData" in request:
        request["postData"] = _with_text(request["postData"], archive)
    response["content"] = _with_text(response["content"], archive)
    entry = {**snapshot, "request": _official(request), "response": _official(response)}
    return _official(entry)


def _header(header: Mapping[str, str]) -> dict[str, str]:
    return {**header, "value": _MASK if header["name"].lower() in CREDENTIALS else header["value"]}


def _with_text(body: Mapping[str, Any], archive: zipfile.ZipFile) -> dict[str, Any]:
    """A body with its text, where the trace has it and it is one."""
    name = body.get("_file") or (f"resources/{body['_sha1']}" if "_sha1" in body else "")
    found = dict(_official(body))
    if name in archive.namelist() and archive.getinfo(name).file_size <= LARGEST:
        try:
            found["text"] = archive.read(name).decode()
        except UnicodeDecodeError:
            found["comment"] = "not a text: left out"
    return found


def _official(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what Playwright adds for itself."""
    return {name: value for name, value in values.items() if not name.startswith("_")}
