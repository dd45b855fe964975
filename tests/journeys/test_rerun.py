"""The same test again and again in one process: each run finds it as it was collected, and nothing of the runs before is kept."""

from collections.abc import Callable
from pathlib import Path

from stormwatch.journeys.pool import Journey, WorkerPool
from stormwatch.probes.result import Outcome


async def test_what_a_run_said_noted_wrote_and_marked_is_gone_in_the_next(
    scratch: Path, write: Callable[..., Path]
) -> None:
    write(
        """
        @pytest.hookimpl
        def pytest_itemcollected(item):
            item.user_properties.append(("team", "web"))
        """,
        name="conftest.py",
    )
    file = write("""
        import logging

        class TestIt:
            def test_it(self, request, record_property, tmp_path, step):
                item = request.node
                directories = [each.name for each in tmp_path.parent.iterdir() if each.is_dir() and not each.is_symlink()]
                with step(f"{len(item._report_sections)} {item.user_properties} {len(item.own_markers)} {vars(self)}"):
                    assert directories == [tmp_path.name]
                    print("said on stdout")
                    logging.warning("logged")
                    record_property("order", 4711)
                    request.node.add_marker(pytest.mark.xfail(False, reason="of this run alone"))
                    self.seen = True
    """)
    pool = WorkerPool(size=1)
    try:
        reports = [await pool.run(Journey(file=file, test="TestIt::test_it"), seconds=60) for _ in range(3)]
    finally:
        await pool.aclose()
    assert [(report.outcome, report.sentence) for report in reports] == [(Outcome.UP, "")] * 3
    assert [[step.name for step in report.steps] for report in reports] == [["0 [('team', 'web')] 0 {}"]] * 3
