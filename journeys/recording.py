"""A recording of Playwright's as a journey: steps with names, addresses relative to the site, secrets out of the text.

Pure: text in, text out. What `playwright codegen` writes is straight-line code without a word of what belongs together;
where a page was left is not in it. So a step is what leads up to a click on something other than a field, to Enter, or to an
address that was typed, and it is called after that. What was expected thereafter is part of it.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

LONGEST: Final = 50
"""Characters of a step's name: each is a label value of a metric."""

SECRET: Final = re.compile(
    r"pass(?:word|code|phrase|wd)?\b|passwort|kennwort|mot de passe|contrase|senha|wachtwoord|haslo|\bpin\b|secret|token"
    r"|\bcvv|\bcvc|security code|card.?number|kartennummer|one.?time|\botp\b|api.?key",
    re.IGNORECASE,
)
"""Names of fields whose content nobody may read."""

SHORT: Final = 4
"""Characters below which a secret is looked for as a whole text alone: `123` stands in many a number that is none."""

_FIELDS: Final = frozenset({"textbox", "searchbox", "combobox", "checkbox", "radio", "spinbutton", "slider", "switch"})
"""Roles whose click leads nowhere."""
_BY_NAME: Final = ("get_by_label", "get_by_placeholder")
_LOCATORS: Final = (*_BY_NAME, "get_by_text", "get_by_alt_text", "get_by_title", "get_by_test_id", "locator")
_ADDRESSES: Final = frozenset({"goto", "to_have_url", "wait_for_url"})
_TYPED: Final = frozenset({"fill", "type", "press_sequentially"})
_LAUNCH: Final = re.compile(
    r"\b(?:browser|context|page) = |\b(?:browser|context)\.(?:close|new_)|page\.close\(|playwright\.\w+\.launch"
)


class NoRecording(ValueError):
    """The text is not what Playwright's recorder writes; one sentence says what it wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedJourney:
    """A journey made of a recording."""

    text: str
    """A pytest file."""
    base_url: str
    """What its addresses are relative to: scheme, host and port; empty where the recording opens no page."""
    steps: tuple[str, ...]
    secrets: tuple[str, ...]
    """Names of the secrets that it asks for."""
    notes: tuple[str, ...]
    """What a person has to know or to do, a sentence each."""


@dataclass(slots=True)
class _Step:
    name: str = ""
    lines: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class _Target:
    """What an action is done to, as far as the recording names it."""

    kind: str = ""
    """The role, or the method that finds it."""
    name: str = ""
    """Its accessible name, or what else it is found by."""
    described: str = ""
    """Every text by which it is found."""


def journey_of(recording: str, name: str) -> RecordedJourney:
    """The journey `test_<name>` that a recording is. Raises NoRecording."""
    try:
        tree = ast.parse(recording)
    except (SyntaxError, ValueError) as error:
        raise NoRecording(f"it is not Python: {error}") from error
    body, notes = _body(tree, recording)
    if not body:
        raise NoRecording("nothing was recorded in it: open a page and click, and close the window when you are done")
    base_url = _origin(body)
    hidden = _secrets(body)
    writing = _Writing(recording, base_url, hidden)
    steps = list(_steps(body, writing))
    if base_url and urlsplit(_first_address(body)).username:
        notes.append("the first address had a user and a password in it: they are left out")
    if not any(isinstance(node, ast.Name) and node.id == "expect" for each in body for node in ast.walk(each)):
        notes.append("nothing is expected in it: a page that says `sorry` passes too; add `expect(…)` to its steps")
    names = tuple(dict.fromkeys(hidden.values()))
    text = _file(name, base_url, steps, secret=bool(names))
    for value, secret in hidden.items():
        if len(value) >= SHORT and value in text:
            raise NoRecording(
                f"what was typed as {secret} stands elsewhere in it, too, inside of other text; take it out"
            )
    return RecordedJourney(
        text=text,
        base_url=base_url,
        steps=tuple(step.name for step in steps),
        secrets=names,
        notes=tuple(notes),
    )


def _body(tree: ast.Module, text: str) -> tuple[list[ast.stmt], list[str]]:
    """The statements that were recorded, and what was left out."""
    if any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(tree)):
        raise NoRecording("it is asynchronous; record it with `playwright codegen --target python-pytest`")
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    tests = [node for node in functions if node.name.startswith("test")] or [
        node for node in functions if node.name == "run"
    ]
    if not tests:
        raise NoRecording("it has no test; record it with `playwright codegen --target python-pytest`")
    if len(tests) > 1:
        raise NoRecording(f"it has {len(tests)} tests ({', '.join(node.name for node in tests)}); leave one in it")
    notes: list[str] = []
    options = [node for node in functions if node.name == "browser_context_args"]
    if options or re.search(r"\.new_context\(\S", text.replace("new_context()", "")):
        notes.append("it was recorded with options of the browser: write them under `journey: client:`")
    kept: list[ast.stmt] = []
    for node in tests[0].body:
        written = ast.get_source_segment(text, node) or ""
        if (
            isinstance(node, ast.Pass)
            or _LAUNCH.match(written)
            or (isinstance(node, ast.Expr) and _is_text(node.value))
        ):
            continue
        kept.append(node)
    return kept, notes


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """The calls in a statement, the outermost first."""
    return (each for each in ast.walk(node) if isinstance(each, ast.Call))


def _method(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _text(node: ast.expr | None) -> str:
    """A text, also the pattern of `re.compile("…")`; empty for anything else."""
    if isinstance(node, ast.Call) and _method(node) == "compile" and node.args:
        node = node.args[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _first_address(body: Sequence[ast.stmt]) -> str:
    return next(
        (_text(call.args[0]) for each in body for call in _calls(each) if _method(call) == "goto" and call.args), ""
    )


def _origin(body: Sequence[ast.stmt]) -> str:
    url = urlsplit(_first_address(body))
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}" if url.scheme in ("http", "https") else ""


def _target(call: ast.Call) -> _Target:
    """What the locator that an action is called on finds: its last part that has a name."""
    found = _Target()
    texts: list[str] = []
    node: ast.expr = call.func
    while isinstance(node, ast.Attribute | ast.Call):
        if isinstance(node, ast.Call):
            method = _method(node)
            first = _text(node.args[0]) if node.args else ""
            name = next((_text(each.value) for each in node.keywords if each.arg == "name"), "")
            if method == "get_by_role":
                texts += [first, name]
                found = found if found.kind else _Target(first, name)
            elif method in _LOCATORS:
                texts.append(first)
                found = found if found.kind else _Target(method, first)
            node = node.func
        else:
            node = node.value
    return _Target(found.kind, found.name, " ".join(texts))


def _secrets(body: Sequence[ast.stmt]) -> dict[str, str]:
    """What was typed into fields whose content nobody may read: the name of a secret, by its value."""
    names: dict[str, str] = {}
    for each in body:
        for call in _calls(each):
            value = _text(call.args[0]) if call.args else ""
            if _method(call) not in _TYPED or not value or value in names:
                continue
            target = _target(call)
            if SECRET.search(target.described):
                base = _slug(target.name) if target.kind != "locator" else ""
                base = base or (match[0].lower() if (match := SECRET.search(target.described)) else "secret")
                taken = sum(
                    name == base or re.fullmatch(rf"{re.escape(base)}-\d+", name) is not None for name in names.values()
                )
                names[value] = f"{_slug(base)}-{taken + 1}" if taken else _slug(base)
    return names


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]


@dataclass(frozen=True, slots=True)
class _Writing:
    """Statements as text again, with what has to be another."""

    recording: str
    base_url: str
    secrets: dict[str, str]

    def lines(self, node: ast.stmt) -> list[str]:
        """The lines of a statement, without the indentation of the function around it."""
        source = self.recording.encode().splitlines(keepends=True)
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        lines = source[first : last + 1]
        lines[-1] = lines[-1][: node.end_col_offset]
        # The parts of an f-string have no places of their own. The recorder writes none.
        parts = {id(part) for each in ast.walk(node) if isinstance(each, ast.JoinedStr) for part in ast.walk(each)}
        changes = {
            (each.lineno - 1 - first, each.col_offset): (each, changed)
            for each in ast.walk(node)
            if isinstance(each, ast.Constant) and id(each) not in parts and (changed := self._changed(each, node))
        }
        # From behind, so that places before it stay where they are.
        for (line, column), (each, changed) in sorted(changes.items(), reverse=True):
            end = (each.end_lineno or each.lineno) - 1 - first
            tail = lines[end][each.end_col_offset :]
            lines[line : end + 1] = [lines[line][:column] + changed.encode() + tail]
        text = b"".join(lines).decode()
        return [line[node.col_offset :] if number else line.strip() for number, line in enumerate(text.splitlines())]

    def _changed(self, constant: ast.Constant, statement: ast.stmt) -> str:
        value = constant.value
        if not isinstance(value, str):
            return ""
        if value in self.secrets:
            return f'secrets["{self.secrets[value]}"]'
        path = self._path(value) if self._is_address(constant, statement) else None
        value = value if path is None else path
        for secret, name in self.secrets.items():
            if len(secret) >= SHORT and secret in value:
                before, _, after = value.partition(secret)
                pieces = [_quoted(before), f'secrets["{name}"]', _quoted(after)]
                return " + ".join(piece for piece in pieces if piece != '""')
        return "" if path is None else _quoted(path)

    def _is_address(self, constant: ast.Constant, statement: ast.stmt) -> bool:
        return any(constant in call.args for call in _calls(statement) if _method(call) in _ADDRESSES)

    def _path(self, address: str) -> str | None:
        """What of an address is relative to the site; None for another site."""
        try:
            url = urlsplit(address)
        except ValueError:
            return None
        if not self.base_url or f"{url.scheme}://{url.netloc.rpartition('@')[2]}" != self.base_url:
            return None
        return url._replace(scheme="", netloc="").geturl() or "/"


def _quoted(text: str) -> str:
    """A literal in the quotes that formatters want."""
    return json.dumps(text, ensure_ascii=False) if '"' not in text else repr(text)


def _steps(body: Sequence[ast.stmt], writing: _Writing) -> Iterator[_Step]:
    """The statements in steps, in their order."""
    step = _Step()
    done = False
    last = _Target()
    for number, node in enumerate(body):
        calls = list(_calls(node))
        methods = {_method(call) for call in calls}
        opens = "goto" in methods
        checks = any(isinstance(call.func, ast.Name) and call.func.id == "expect" for call in calls)
        if step.lines and (opens or (done and not checks and not _belongs(node))):
            yield _named(step, last, writing.secrets)
            step, last, done = _Step(), _Target(), False
        following = body[number + 1] if number + 1 < len(body) else None
        if not _is_prelude(node, following):
            step.lines += writing.lines(node)
        action = next((call for call in calls if _method(call) in _ACTIONS), None)
        if opens:
            step.name, done = f"open {_page(calls)}", True
        elif action is not None:
            last = _target(action)
            if _leads_on(action, last):
                submitted = _method(action) == "press"
                step.name, done = f"submit {last.name}" if submitted else last.name or f"click {last.kind}", True
    if step.lines:
        yield _named(step, last, writing.secrets)


_ACTIONS: Final = frozenset(
    {"click", "dblclick", "check", "uncheck", "press", "select_option", "set_input_files", "hover", "drag_to"} | _TYPED
)


def _leads_on(action: ast.Call, target: _Target) -> bool:
    """Whether an action ends a step: Enter, or a click on what is no field."""
    method = _method(action)
    if method == "press":
        return bool(action.args) and _text(action.args[0]) == "Enter"
    return method in ("click", "dblclick") and target.kind not in _FIELDS and target.kind not in _BY_NAME


def _belongs(node: ast.stmt) -> bool:
    """Whether a statement only takes what the one before it brought: `page1 = page1_info.value`."""
    return isinstance(node, ast.Assign)


def _is_prelude(node: ast.stmt, following: ast.stmt | None) -> bool:
    """Whether it is a click into the field that is filled next, which filling does anyway."""
    if not isinstance(node, ast.Expr) or not isinstance(following, ast.Expr):
        return False
    click, fill = node.value, following.value
    return (
        isinstance(click, ast.Call)
        and isinstance(fill, ast.Call)
        and (_method(click), _method(fill)) == ("click", "fill")
        and not (click.args or click.keywords)
        and isinstance(click.func, ast.Attribute)
        and isinstance(fill.func, ast.Attribute)
        and ast.dump(click.func.value) == ast.dump(fill.func.value)
    )


def _page(calls: Sequence[ast.Call]) -> str:
    address = next((_text(call.args[0]) for call in calls if _method(call) == "goto" and call.args), "")
    return urlsplit(address).path or "/"


def _named(step: _Step, last: _Target, secrets: Mapping[str, str]) -> _Step:
    name = step.name or (f"fill in {last.name}" if last.name else "look")
    for value, secret in secrets.items():
        name = name.replace(value, secret)
    name = " ".join(re.sub(r"[^\w\s.,:;!?'&/+-]", " ", name).split())
    step.name = name[:LONGEST].rstrip() or "go on"
    return step


def _file(name: str, base_url: str, steps: Sequence[_Step], *, secret: bool) -> str:
    used = "\n".join(line for step in steps for line in step.lines)
    standard = ["import re", ""] if re.search(r"\bre\.", used) else []
    playwright = "Page, expect" if re.search(r"\bexpect\(", used) else "Page"
    given = "page: Page, step: Steps" + (", secrets: SecretValues" if secret else "")
    lines = [
        f'"""Recorded{f" at {base_url}" if base_url else ""}."""',
        "",
        *standard,
        "import pytest",
        f"from playwright.sync_api import {playwright}",
        "",
        *(["from stormwatch.journeys.secret_values import SecretValues"] if secret else []),
        "from stormwatch.journeys.step import Steps",
        "",
        "",
        "@pytest.mark.journey",
        f"def test_{name}({given}) -> None:",
    ]
    for number, step in enumerate(steps):
        lines += [""] if number else []
        lines.append(f"    with step({_quoted(step.name)}):")
        lines += [f"        {line}" if line else "" for line in step.lines]
    return "\n".join(lines) + "\n"
