"""Calls an activity of an experiment: a function, a program, a request. Every time-out is kept, whatever is called."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any

import httpx

from stormwatch.chaos.experiment import Activity, Kind, Provider
from stormwatch.chaos.experiment_label import RUN
from stormwatch.chaos.experiment_variables import Variables
from stormwatch.chaos.shield import to_the_end

LIMIT = 8 * 1024 * 1024
"""Bytes of an answer or of a program's output that are kept."""
_CHILD = "stormwatch.chaos.experiment_child"
_BURIED = 5.0
"""Seconds that a killed program may take to be gone."""
_LAST_WORDS = 0.5
"""Seconds that the output of a program may still take after its end: what it left running may hold it open for ever."""


class Ending(StrEnum):
    """How a call ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """What was asked said no: nobody answers, an answer of 400 or more, an exit status that is not 0."""
    BROKEN = "broken"
    """It could not be called, raised, or took too long: nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a call came to."""

    ending: Ending
    output: Any = None
    why: str = ""
    """One sentence, unless it succeeded. It may hold what the target said."""
    trace: tuple[str, ...] = ()
    interrupts: bool = False
    """Whether it asked for the end of the experiment (chaoslib's InterruptExecution)."""


async def call(
    activity: Activity,
    variables: Variables,
    *,
    label: str = "",
    extra: Mapping[str, Any] | None = None,
    directory: str = "",
) -> Answer:
    """Call it, and never longer than its time-out.

    `extra` arguments are added; `label` marks the faults that it injects; `directory` is where it is called, by default here.

    Being cancelled kills what was called. Raises nothing else.
    """
    try:
        timeout = float(variables.fill(activity.timeout))
        filled = dict(variables.fill(dict(activity.call)))
        if extra:
            filled["arguments"] = dict(filled.get("arguments") or {}) | dict(extra)
    except (TypeError, ValueError) as error:
        return Answer(ending=Ending.BROKEN, why=f"its time-out or its arguments are none: {error}")
    try:
        async with asyncio.timeout(timeout):
            return await _called(activity, filled, variables, _Place(label, directory or str(Path.cwd())))
    except TimeoutError:
        # Of a request it is the target that did not answer; of ours, nothing is known.
        ending = Ending.FAILED if activity.provider is Provider.HTTP else Ending.BROKEN
        return Answer(ending=ending, why=f"no answer within {timeout:g} s")
    except Exception as error:  # noqa: BLE001 - rollbacks have to be reached, whatever one activity raises
        return Answer(ending=Ending.BROKEN, why=f"{type(error).__name__}: {error}")


async def mistakes(activities: Iterable[Activity], *, timeout: float = 60.0) -> list[str]:
    """What of the Python activities could never be called: their modules are imported, in a process of its own."""
    calls = [
        {
            "place": one.name,
            "module": one.call["module"],
            "func": one.call["func"],
            "arguments": list(one.call.get("arguments") or {}),
        }
        for one in activities
        if one.provider is Provider.PYTHON and not any("$" in one.call[key] for key in ("module", "func"))
    ]
    if not calls:
        return []
    here = _Place("", str(Path.cwd()))
    try:
        async with asyncio.timeout(timeout):
            answer = await _ask_child({"check": calls, "directory": here.directory}, here)
    except TimeoutError:
        return [f"the modules of the python activities could not be imported within {timeout:g} s"]
    return list(answer.output) if answer.ending is Ending.SUCCEEDED else [answer.why]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a process is called, and for which run."""

    label: str
    directory: str


async def _called(activity: Activity, filled: Mapping[str, Any], variables: Variables, place: _Place) -> Answer:
    match activity.provider:
        case Provider.PYTHON:
            return await _python(filled, variables, place)
        case Provider.PROCESS:
            return _judged(activity, await _process(filled, place), refused=lambda status: status != 0)
        case Provider.HTTP:
            return _judged(activity, await _request(filled), refused=lambda status: status >= 400)


def _judged(activity: Activity, answer: Answer, *, refused: Callable[[int], bool]) -> Answer:
    """An action that was refused is no success; what a probe saw is for its tolerance to judge."""
    if activity.kind is Kind.PROBE or activity.tolerance is not None or answer.ending is not Ending.SUCCEEDED:
        return answer
    status = answer.output["status"]
    if not refused(status):
        return answer
    words = "answered" if activity.provider is Provider.HTTP else "ended with"
    said = str(answer.output.get("stderr") or answer.output.get("body") or "").strip().splitlines()
    why = f"{words} {status}{f': {said[-1][:200]}' if said else ''}"
    return Answer(ending=Ending.FAILED, output=answer.output, why=why)


async def _python(filled: Mapping[str, Any], variables: Variables, place: _Place) -> Answer:
    groups = filled.get("secrets")
    secrets: dict[str, Any] | None = None
    if groups is not None:
        secrets = {}
        for group in groups if isinstance(groups, list) else [groups]:
            found = variables.secrets.get(group, {})
            secrets |= found if isinstance(found, Mapping) else {group: found}
    asked = {
        "module": filled["module"],
        "func": filled["func"],
        "arguments": filled.get("arguments") or {},
        "configuration": dict(variables.configuration),
        "secrets": secrets,
        "directory": place.directory,
    }
    return await _ask_child(asked, place)


async def _ask_child(asked: Mapping[str, Any], place: _Place) -> Answer:
    async with _child((), place, stdin=PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asked, default=str).encode())
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        process.stdin.close()
        said, complained = await _outputs(process)
    try:
        answer = json.loads(said)
    except ValueError:
        if len(said) >= LIMIT:
            return Answer(ending=Ending.BROKEN, why=f"it returned more than {LIMIT // 1024 // 1024} MiB")
        last = complained.strip().splitlines()[-1:] or [f"its process ended with {process.returncode}"]
        return Answer(ending=Ending.BROKEN, why=last[0])
    if "error" in answer:
        return Answer(
            ending=Ending.BROKEN, why=answer["error"], trace=tuple(answer["trace"]), interrupts=answer["interrupts"]
        )
    return Answer(ending=Ending.SUCCEEDED, output=answer["output"])


async def _process(filled: Mapping[str, Any], place: _Place) -> Answer:
    path = _program(str(filled["path"]), place.directory)
    if path is None:
        return Answer(ending=Ending.BROKEN, why=f"there is no program {filled['path']}")
    arguments = filled.get("arguments") or []
    if isinstance(arguments, str):
        # The dialect: one text is a line for the shell.
        command = ("/bin/sh", "-c", f"{path} {arguments}")
    else:
        items = chain.from_iterable(arguments.items()) if isinstance(arguments, Mapping) else arguments
        command = (path, *(str(one) for one in items if one not in (None, "")))
    async with _child(command, place, stdin=DEVNULL) as process:
        stdout, stderr = await _outputs(process)
    return Answer(ending=Ending.SUCCEEDED, output={"status": process.returncode, "stdout": stdout, "stderr": stderr})


def _program(name: str, directory: str) -> str | None:
    """Where it is: a path with a slash is relative to where the experiment was started."""
    path = Path(name).expanduser()
    return shutil.which(str(Path(directory, path)) if "/" in name else name)


@contextlib.asynccontextmanager
async def _child(command: tuple[str, ...], place: _Place, *, stdin: int) -> AsyncGenerator[Process]:
    """A process in a group of its own, of which nothing is left when the block is cut short."""
    process = await create_subprocess_exec(
        *(sys.executable, "-P", "-m", _CHILD, str(os.getpid()), *command),
        stdin=stdin,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
        cwd=place.directory,
        env=os.environ | ({RUN: place.label} if place.label else {}),
    )
    try:
        yield process
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # Heard of before the loop may end: what nobody waited for would be told as still running.
        with contextlib.suppress(TimeoutError):
            await to_the_end(asyncio.wait_for(process.wait(), _BURIED))
        raise
    finally:
        # Pipes that a grandchild keeps open end with us.
        process._transport.close()  # noqa: SLF001 # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def _outputs(process: Process) -> tuple[str, str]:
    assert process.stdout is not None
    assert process.stderr is not None
    kept = bytearray(), bytearray()
    readers = [
        asyncio.create_task(_keep(stream, into))
        for stream, into in zip((process.stdout, process.stderr), kept, strict=True)
    ]
    try:
        await process.wait()
        await asyncio.wait(readers, timeout=_LAST_WORDS)
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    stdout, stderr = (bytes(one).decode(errors="replace") for one in kept)
    return stdout, stderr


async def _keep(stream: asyncio.StreamReader, into: bytearray) -> None:
    while chunk := await stream.read(65536):
        into += chunk[: LIMIT - len(into)]


async def _request(filled: Mapping[str, Any]) -> Answer:
    method = str(filled.get("method", "GET")).upper()
    headers = {str(key): str(value) for key, value in (filled.get("headers") or {}).items()}
    arguments = filled.get("arguments") or None
    url = httpx.URL(str(filled["url"]))
    body: dict[str, Any] = {}
    if method == "GET":
        url = url.copy_merge_params(arguments) if arguments else url
    elif headers.get("Content-Type") == "application/json":
        body = {"json": arguments}
    else:
        body = {"content" if isinstance(arguments, str) else "data": arguments}
    transport = httpx.AsyncHTTPTransport(
        verify=bool(filled.get("verify_tls", True)), retries=int(filled.get("max_retries", 0))
    )
    try:
        async with (
            httpx.AsyncClient(transport=transport, timeout=None, follow_redirects=True) as client,  # noqa: S113 - `call` has one
            client.stream(method, url, headers=headers, **body) as response,
        ):
            return Answer(
                ending=Ending.SUCCEEDED,
                output={
                    "status": response.status_code,
                    "headers": dict(response.headers),
                    "body": _body(response, await _content(response)),
                },
            )
    except (httpx.TransportError, httpx.TooManyRedirects) as error:
        return Answer(ending=Ending.FAILED, why=f"{method} {url}: {str(error) or type(error).__name__}")


async def _content(response: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk[: LIMIT - len(content)]
        if len(content) >= LIMIT:
            break
    return bytes(content)


def _body(response: httpx.Response, content: bytes) -> Any:
    text = content.decode(response.encoding or "utf-8", errors="replace")
    if response.headers.get("Content-Type") == "application/json":
        # An answer that calls itself JSON and is none is an answer: a tolerance may judge it as text.
        with contextlib.suppress(ValueError):
            return json.loads(text)
    return text
