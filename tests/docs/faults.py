"""The table of every fault in `docs/reference/faults.md`, made of the catalogue and of what the page's sections say.

`python -m tests.docs.faults` writes it into the page; a test compares it.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from stormwatch.chaos.catalog import FAULTS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/faults.md"
TABLE = re.compile(r"(<!-- table: faults -->\n).*?(<!-- end -->)", re.DOTALL)

SHOWN_IN: Mapping[str, str] = {
    "tcp": "tests/chaos/test_tcp_faults.py",
    "tcp-blackhole": "tests/chaos/test_proxy_fault.py",
    "http": "tests/chaos/test_faults_seen_by_probes.py",
    "tls": "tests/chaos/test_tls_faults.py",
    "dns": "tests/chaos/test_dns_gate.py",
    "dns-bogus": "tests/chaos/test_dns_signed.py",
    "process": "tests/chaos/test_host_process.py",
    "fd": "tests/chaos/test_host_process.py",
    "clock": "tests/chaos/test_host_process.py",
    "disk": "tests/chaos/test_host_disk.py",
    "cpu": "tests/chaos/test_host_stress.py",
    "memory": "tests/chaos/test_host_stress.py",
    "io": "tests/chaos/test_host_stress.py",
    "load": "tests/chaos/test_load_fault.py",
    "net": "tests/chaos/test_host_network.py",
    "command": "tests/chaos/test_host_command.py",
    "container": "tests/chaos/test_container_faults.py",
    "pod": "tests/chaos/test_workload_faults.py",
    "workload": "tests/chaos/test_workload_faults.py",
    "toxiproxy": "tests/chaos/test_toxiproxy_faults.py",
    "browser": "tests/journeys/test_browser_fault.py",
}
"""The tests against a real server or process, by a fault's name, or the first word of it."""


def with_table(page: str) -> str:
    """The page with its table as it has to be."""
    return TABLE.sub(lambda match: f"{match[1]}\n{table(page)}\n\n{match[2]}", page)


def table(page: str) -> str:
    """A row a fault."""
    heads = ("fault", "what happens", "put on", "inject", "proof", "undo", "test")
    rows = [
        (
            f"[`{name}`](#{name})",
            kind.summary,
            kind.on,
            *said(page, name),
            f"[{Path(shown_in(name)).name}](../../{shown_in(name)})",
        )
        for name, kind in FAULTS.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ("---",) * len(heads), *rows))


def shown_in(name: str) -> str:
    """The file with the tests of a fault. Raises KeyError for a family that has none."""
    return SHOWN_IN.get(name) or SHOWN_IN[name.partition("-")[0]]


def said(page: str, name: str) -> tuple[str, str, str]:
    """How it is injected, proved and undone: the first sentence of each, in its section or in that of its family.

    Raises ValueError when neither says it.
    """
    before, heading, rest = page.partition(f"\n## `{name}`\n")
    if not heading:
        raise ValueError(f"{PAGE.name} has no section `{name}`")
    family = re.split(r"^## (?!`)", before, flags=re.MULTILINE)[-1].partition("\n## ")[0]
    section = rest.partition("\n## ")[0]
    found: list[str] = []
    for word in ("Inject", "Proof", "Undo"):
        sentence = _sentence(word, section) or _sentence(word, family)
        if not sentence:
            raise ValueError(f"the section `{name}` of {PAGE.name} does not say **{word}**")
        found.append(sentence)
    return found[0], found[1], found[2]


def _sentence(word: str, text: str) -> str:
    found = re.search(rf"\*\*{word}\*\* (.*?)(?:(?<=[^.…])\.(?=\s|$)|\Z)", text, re.DOTALL)
    return " ".join(found[1].split()).replace("|", "\\|") if found else ""


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
