"""The reference names every metric, and shows queries of the history that work."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from stormwatch.exporters import notification
from stormwatch.exporters.history import History
from stormwatch.exporters.notification import Counts
from stormwatch.exporters.prometheus import PrometheusExporter
from stormwatch.harness.catalog import KINDS
from tests.exporters.sample import NOW, down, probe

DOCS = Path(__file__).parents[2] / "docs" / "reference"


def test_every_metric_of_every_kind_is_described(tmp_path: Path) -> None:
    """Nobody has to read the code to know what a series means."""
    pages = [DOCS / "metrics.md", *(DOCS / "probes").glob("*.md")]
    described = {
        name for page in pages for name in re.findall(r"`((?:probe|stormwatch)_\w+)(?:\{[\w,]*\})?`", page.read_text())
    }
    history = History(tmp_path / "history.sqlite")
    history._close(5)
    exporter = PrometheusExporter([probe()], {"web": KINDS["http"]}, started=NOW, sources=[history.families])
    exporter.sources.append(lambda: notification.families([Counts("webhook")]))
    exposed = re.findall(r"^# TYPE (\w+) ", exporter.exposition().decode(), re.MULTILINE)
    exported = {name for name in exposed if not name.startswith(("process_", "python_"))} | {"probe_success"}
    for kind in KINDS.values():
        exported |= {metric.name for metric in (*kind.metrics, *([kind.phase_metric] if kind.phase_metric else []))}

    assert set() == exported - described


async def test_the_queries_of_the_history_work(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Every example of the page, on a real file."""
    monkeypatch.chdir(tmp_path)
    history = History(tmp_path / "history.sqlite", now=lambda: NOW)
    history(down("checkout"))
    await history.aclose()
    page = (DOCS / "history.md").read_text()

    with closing(sqlite3.connect(tmp_path / "history.sqlite")) as db:
        (query,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
        assert db.execute(query).fetchall() == [("2026-11-21 02:00", 1)]
        tables = {
            (table, column)
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for column in [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        }
    missing = [(table, column) for table, column in tables if f"`{table}`" not in page or f"`{column}`" not in page]
    assert missing == []

    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    seen: list[object] = []
    names = {"print": lambda *said: seen.append(said)}
    exec(program, names)
    names["db"].close()  # type: ignore[attr-defined]
    assert seen == [(NOW, {"status_line": "HTTP/1.1 502 Bad Gateway"})]
