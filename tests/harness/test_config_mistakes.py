"""Each mistake that people make in a configuration is told once, with its line, its path and a remedy.

`mistakes/NAME.yaml` has the mistake, `mistakes/NAME.txt` exactly what is said about it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from stormwatch.harness.config import ConfigError, load

MISTAKES = Path(__file__).with_name("mistakes")
CASES = sorted(MISTAKES.glob("*.yaml"))


def said(path: Path) -> str:
    """Everything that is said about a file, without the directory that it lies in."""
    with pytest.raises(ConfigError) as caught:
        load(path, environ={"PATH": "/usr/bin"})
    return "".join(f"{line}\n" for line in caught.value.lines).replace(f"{path.parent}/", "")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_mistake_is_told_exactly_like_this(path: Path) -> None:
    """One line a mistake: file, line, path, what was asked, what was seen, the remedy."""
    assert path.with_suffix(".txt").read_text() == said(path)


def test_there_are_more_than_twenty_mistakes() -> None:
    """And each has its message beside it."""
    assert len(CASES) > 20
    assert {path.stem for path in MISTAKES.glob("*.txt")} == {path.stem for path in CASES}


def test_mistakes_are_sorted_by_line_and_told_once() -> None:
    """A person works through them from top to bottom."""
    with pytest.raises(ConfigError) as caught:
        load(MISTAKES / "many-at-once.yaml", environ={})

    lines = [mistake.line for mistake in caught.value.mistakes]

    assert sorted(lines) == lines
    assert len(set(caught.value.lines)) == len(caught.value.lines) > 30


def test_the_command_ends_with_2_and_prints_every_mistake(tmp_path: Path) -> None:
    """The exit code for a configuration that cannot be used, the mistakes on stderr, no traceback."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text("probes:\n  - {name: front, kind: htpp, target: 'https://shop.example/', evry: 15s}\n")

    done = subprocess.run(
        [Path(sys.executable).with_name("stormwatch"), "validate", "-c", "stormwatch.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "stormwatch.yaml:2: probes[front].evry: unknown key; did you mean every?",
        "stormwatch.yaml:2: probes[front].kind: there is no kind 'htpp'; did you mean http?",
    ]
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\n", "stormwatch.yaml:1: is not text in UTF-8; save it as UTF-8"),
        (b"probes: []\n", "stormwatch.yaml:1: probes: there are no probes, so nothing is watched; add one"),
        (b"- a\n", "stormwatch.yaml:1: wanted a mapping that begins with `probes:`, not a list"),
        (b"probes: &again [*again]\n", "stormwatch.yaml:1: probes[0]: this alias leads to itself; write the value out"),
        (b"probes:\n  ? [a]\n  : b\n", "stormwatch.yaml:2: probes: a key is a text; write it in one word or in quotes"),
        (b"[" * 200_000, "stormwatch.yaml:1: is nested more than 100 deep"),
        (b"a:\n" + b"- " * 200_000, "stormwatch.yaml:1: is nested more than 100 deep"),
        (b"a: " + b'"[", ' * 101, "stormwatch.yaml:1: is not YAML: did not find expected key"),
        (b"a: \x07\n", "stormwatch.yaml:1: is not YAML: control characters are not allowed"),
    ],
    ids=["not UTF-8", "no probe", "a list", "alias to itself", "complex key", "brackets", "dashes", "texts", "bell"],
)
def test_what_is_hardly_a_document(tmp_path: Path, content: bytes, message: str) -> None:
    """Whatever is in the file, it ends in a sentence."""
    (tmp_path / "stormwatch.yaml").write_bytes(content)

    assert message in said(tmp_path / "stormwatch.yaml").splitlines()


def test_a_few_lines_cannot_fill_the_memory(tmp_path: Path) -> None:
    """Aliases of aliases are counted as often as they stand."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    path = tmp_path / "stormwatch.yaml"
    path.write_text("\n".join(lines))

    assert said(path) == "stormwatch.yaml:1: has more than 1,000,000 values, counting aliases\n"


def test_aliases_cannot_nest_without_end(tmp_path: Path) -> None:
    """Each line is shallow, and the whole is 300 deep."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text("\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 300))]))

    assert "is nested more than 100 deep, counting aliases" in said(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Says how to get one."""
    assert said(tmp_path / "stormwatch.yaml") == (
        "stormwatch.yaml: cannot be read: No such file or directory; name another with -c, or write one with `stormwatch init`\n"
    )


def test_what_depends_on_a_broken_probe_is_not_blamed(tmp_path: Path) -> None:
    """One mistake in a probe is one line, also when objectives and drills refer to it."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text(
        "probes:\n"
        "  - {name: front, kind: http, target: 'https://shop.example/', every: 15}\n"
        "objectives:\n"
        "  - {name: front-availability, probe: front, target: 99.9%}\n"
        "proxies: {routes: [{name: shop, listen: '127.0.0.1:0', upstream: '127.0.0.1:1'}]}\n"
        "drills:\n"
        "  - {name: one, fault: {kind: tcp-reset, target: shop}, expect: {alert: {probe: front, severity: info}}}\n"
    )

    assert said(path) == (
        "stormwatch.yaml:2: probes[front].every: a duration is written like 800ms, 15s, 5m, 1h30m or 30d, "
        "not 15 (int); write 15s\n"
    )
