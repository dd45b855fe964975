"""What `chaos run` gets wrong comes out right here: what was begun is rolled back, and nothing is proved that was not seen."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from stormwatch.chaos.absence import UndoFailed
from stormwatch.chaos.audit import AuditJournal
from stormwatch.chaos.experiment_played import sweep
from stormwatch.chaos.experiment_reading import read_experiment
from stormwatch.chaos.experiment_undo import undo_arguments, undo_experiment
from stormwatch.chaos.experiment_variables import Variables
from stormwatch.chaos.experiment_verdict import ExperimentVerdict
from stormwatch.chaos.undo import UndoJournal, UndoRecord, UndoState
from stormwatch.probes.clock import SystemClock
from tests.chaos.experiments import breaking, clause, experiment, function, healing, http, program, run, well
from tests.servers.breakable import Breakable


@pytest.fixture
def shop() -> Generator[Breakable]:
    """The service that is broken."""
    with Breakable() as shop:
        yield shop


@pytest.fixture
def undo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> UndoJournal:
    """The records of this test."""
    monkeypatch.setenv("STORMWATCH_STATE", str(tmp_path / "state"))
    return UndoJournal(tmp_path / "state" / "undo")


async def test_what_holds_is_proved(shop: Breakable, undo: UndoJournal) -> None:
    """Baseline, method, hypothesis, rollback, recovery; nothing is left on disk."""
    report = await run(
        experiment(
            hypothesis=well(shop),
            method=[http("knock", f"{shop.url}/knock", method="POST")],
            rollbacks=[healing(shop)],
        )
    )

    assert report.verdict is ExperimentVerdict.PROVED, report.lines()
    assert [path for _, path in shop.requests] == ["/health", "/knock", "/health", "/break", "/health"]
    assert not undo.pending()


async def test_what_breaks_the_hypothesis_deviates_and_is_rolled_back(shop: Breakable) -> None:
    """The look after the method comes before the rollbacks: a service that is healed by them has not withstood."""
    report = await run(experiment(hypothesis=well(shop), method=[breaking(shop)], rollbacks=[healing(shop)]))

    assert report.verdict is ExperimentVerdict.DEVIATED, report.lines()
    assert clause(report, "after") == "health: 503 (asked: 200)"
    assert not shop.broken


async def test_1_any_number_run_at_once_in_any_thread(shop: Breakable) -> None:
    """§ chaoslib sets signal handlers, so that it runs in the main thread alone."""
    found: list[ExperimentVerdict] = []

    def elsewhere() -> None:
        async def three() -> None:
            reports = await asyncio.gather(*(run(experiment(hypothesis=well(shop))) for _ in range(3)))
            found.extend(report.verdict for report in reports)

        asyncio.run(three())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join, 60)

    assert found == [ExperimentVerdict.PROVED] * 3


async def test_2_an_answer_that_is_not_what_it_calls_itself_loses_no_rollback(shop: Breakable) -> None:
    """It calls itself JSON and is none: there, neither a rollback nor a journal comes after it."""
    report = await run(
        experiment(
            hypothesis=well(shop),
            method=[breaking(shop), http("odd", f"{shop.url}/odd", kind="probe")],
            rollbacks=[healing(shop)],
        )
    )

    assert not shop.broken
    assert report.journal()["run"][1]["output"]["body"] == "<html>not JSON</html>"
    assert report.verdict is ExperimentVerdict.DEVIATED


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("how", ["missing", "refused", "raises"])
async def test_2_a_rollback_that_fails_loses_none_after_it(
    shop: Breakable, undo: UndoJournal, how: str, order: str
) -> None:
    """Every rollback is played; what failed is told, is unsafe, and alone is played again by `stormwatch undo`."""
    broken = {
        "missing": program("bad", path="${nowhere}"),
        "refused": http("bad", f"{shop.url}/fail"),
        "raises": function("bad", "os", "unlink", provider={"arguments": {"path": "/nowhere/at/all"}}),
    }[how]
    rollbacks = [broken, healing(shop)] if order == "first" else [healing(shop), broken]

    report = await run(experiment(hypothesis=well(shop), method=[breaking(shop)], rollbacks=rollbacks))

    assert not shop.broken
    assert len(report.journal()["rollbacks"]) == 2
    assert report.verdict is ExperimentVerdict.UNSAFE
    assert report.verdict.exit_code == 4
    (outcome,) = await undo.undo_all()
    assert outcome.state is UndoState.FAILED
    assert outcome.why.startswith("of 1 rollbacks, 1 failed (bad: ")
    assert shop.requests.count(("DELETE", "/break")) == 1


async def test_3_being_stopped_rolls_back_and_says_so(shop: Breakable, undo: UndoJournal) -> None:
    """There, with the default strategy, a signal leaves everything in place."""
    document = experiment(
        hypothesis=well(shop),
        method=[breaking(shop), program("wait", "-c", "import time; time.sleep(60)")],
        rollbacks=[healing(shop)],
    )
    running = asyncio.create_task(run(document))
    while not shop.broken:
        await asyncio.sleep(0.02)
    running.cancel()

    report = await asyncio.wait_for(running, 20)

    assert not shop.broken
    assert report.verdict is ExperimentVerdict.INCONCLUSIVE
    assert report.journal()["status"] == "interrupted"
    assert not undo.pending()


@pytest.mark.parametrize(
    "action",
    [
        function("bad", "os", "unlink", provider={"arguments": {"path": "/nowhere/at/all"}}),
        program("bad", "-c", "raise SystemExit(3)"),
        http("bad", "http://127.0.0.1:1/"),
    ],
    ids=["raises", "exits", "refused"],
)
async def test_4_an_action_that_failed_proves_nothing(shop: Breakable, action: dict[str, object]) -> None:
    """There: completed, exit code 0."""
    report = await run(experiment(hypothesis=well(shop), method=[action], rollbacks=[healing(shop)]))

    assert report.verdict is ExperimentVerdict.INCONCLUSIVE, report.lines()
    assert report.verdict.exit_code == 3
    assert clause(report, "method").startswith("bad: ")
    assert ("DELETE", "/break") in shop.requests


async def test_4_without_a_baseline_nothing_is_done_and_nothing_is_undone(shop: Breakable) -> None:
    """There: exit code 0, and the rollbacks of what was never done run."""
    shop.broken = True
    report = await run(experiment(hypothesis=well(shop), method=[breaking(shop)], rollbacks=[healing(shop)]))

    assert report.verdict is ExperimentVerdict.INCONCLUSIVE
    assert clause(report, "baseline") == "nothing was done: health: 503 (asked: 200)"
    assert shop.requests == [("GET", "/health")]


async def test_5_what_was_broken_meanwhile_has_deviated(shop: Breakable) -> None:
    """Broken during the method and healed before its end. There: completed, not deviated, exit code 0."""
    document = experiment(
        hypothesis=well(shop),
        method=[breaking(shop, pauses={"after": 1}), healing(shop)],
        runtime={"hypothesis": {"strategy": "continously"}},
    )
    read = read_experiment(document)
    assert read.strategy == "continuously"

    report = await run(document)

    assert report.verdict is ExperimentVerdict.DEVIATED, report.lines()
    assert report.journal()["deviated"] is True
    assert clause(report, "after") == "met"


async def test_5_fail_fast_ends_the_method(shop: Breakable) -> None:
    """The rest of the method is not waited for."""
    document = experiment(
        hypothesis=well(shop),
        method=[breaking(shop), program("wait", "-c", "import time; time.sleep(60)")],
        rollbacks=[healing(shop)],
        runtime={"hypothesis": {"strategy": "continuously"}},
    )
    began = time.monotonic()
    report = await run(document, fail_fast=True)

    assert time.monotonic() - began < 30
    assert report.verdict is ExperimentVerdict.DEVIATED
    assert report.journal()["status"] == "aborted"
    assert not shop.broken


async def test_6_a_probe_that_breaks_afterwards_loses_no_rollback(shop: Breakable) -> None:
    """There: failed, and for that reason not rolled back."""
    broken = function("fragile", "tests.chaos.deciding", "nothing_of_that_name", kind="probe", tolerance=True)
    document = experiment(
        hypothesis={"title": "fragile", "probes": [broken]},
        method=[breaking(shop)],
        rollbacks=[healing(shop)],
        runtime={"hypothesis": {"strategy": "after-method-only"}},
    )
    report = await run(document)

    assert report.verdict is ExperimentVerdict.INCONCLUSIVE, report.lines()
    assert not shop.broken
    assert report.journal()["status"] == "failed"


@pytest.mark.parametrize(
    "activity",
    [
        function("slow", "tests.chaos.deciding", "slowly", provider={"arguments": {"seconds": 60}, "timeout": 0.4}),
        program("slow", "-c", "import time; time.sleep(60)", provider={"timeout": 0.4}),
    ],
    ids=["python", "process"],
)
async def test_7_a_time_out_is_kept(shop: Breakable, activity: dict[str, object]) -> None:
    """There, a function of Python runs as long as it likes."""
    report = await run(experiment(hypothesis=well(shop), method=[activity]))

    assert report.verdict is ExperimentVerdict.INCONCLUSIVE
    ran = report.seen.method[0]
    assert ran.why == "no answer within 0.4 s"
    assert ran.end - ran.start < 10


async def test_7_a_probe_that_hangs_does_not_delay_the_end(shop: Breakable) -> None:
    """A look that is still on its way when the method is over is given up."""
    document = experiment(
        hypothesis={"title": "hangs", "probes": [http("hang", f"{shop.url}/hang", kind="probe", tolerance=200)]},
        method=[http("knock", f"{shop.url}/knock", pauses={"after": 0.3})],
        runtime={"hypothesis": {"strategy": "during-method-only"}},
    )
    began = time.monotonic()
    report = await run(document)

    assert time.monotonic() - began < 15
    assert report.verdict is ExperimentVerdict.INCONCLUSIVE
    assert clause(report, "during") == "no look came to an end"


async def test_8_a_safeguard_ends_the_method_at_once(shop: Breakable) -> None:
    """There, `frequency` seconds pass between what it saw and what it does."""
    guard = http("guard", f"{shop.url}/health", kind="probe", tolerance=200, frequency=40)
    control = {
        "name": "safeguard",
        "provider": {"type": "python", "module": "chaosaddons.controls.safeguards", "arguments": {"probes": [guard]}},
    }
    document = experiment(
        hypothesis=well(shop),
        controls=[control],
        method=[program("wait", "-c", "import time; time.sleep(60)")],
        rollbacks=[healing(shop)],
        runtime={"hypothesis": {"strategy": "after-method-only"}},
    )
    shop.broken = True

    report = await run(document)

    assert shop.first_broken_look is not None
    rolled = next(step.at for step in report.steps if step.step == "rollback")
    assert rolled - shop.first_broken_look < 20
    assert report.verdict is ExperimentVerdict.INCONCLUSIVE
    assert clause(report, "whole") == "the safeguard guard: 503 (asked: 200)"
    assert report.journal()["status"] == "aborted"
    assert not shop.broken


async def test_9_secrets_are_nowhere(shop: Breakable, monkeypatch: pytest.MonkeyPatch, undo: UndoJournal) -> None:
    """A target that echoes what it was sent, and an exception that says it: there, both are in the journal."""
    monkeypatch.setenv("TOKEN", "hunter2-and-more")
    document = experiment(
        title="a story of swordfish-9",
        secrets={"shop": {"token": {"type": "env", "key": "TOKEN"}, "plain": "swordfish-9"}},
        hypothesis={
            "title": "echo",
            "probes": [
                http(
                    "echo",
                    f"{shop.url}/echo",
                    kind="probe",
                    tolerance={"type": "regex", "target": "body", "pattern": "hunter2-and-more"},
                    provider={"headers": {"Authorization": "Bearer ${token}"}},
                )
            ],
        },
        method=[function("raises", "builtins", "int", provider={"arguments": {}, "secrets": ["shop"]})],
        rollbacks=[program("says", "-c", "import sys; sys.exit(sys.argv[1])", "${plain}")],
    )
    reports: list[str] = []
    audit = AuditJournal(undo.directory.parent / "audit.jsonl", clock=SystemClock())
    report = await run(document, audit=audit, on_change=lambda one: reports.append(str(one.journal())))

    assert report.journal()["steady_states"]["before"]["steady_state_met"] is True
    shown = "\n".join([str(report.as_json()), str(report.journal()), *report.lines(), *reports, audit.path.read_text()])
    records = "\n".join(path.read_text() for path in undo.directory.iterdir())
    assert "hunter2" not in shown + records
    assert "swordfish" not in shown + records
    assert "you sent Bearer ***" in shown


async def test_a_dead_baseline_is_told_from_a_missing_answer(shop: Breakable) -> None:
    """Nobody who listens is an answer about the target: after the method it is a deviation, and not a broken probe."""
    document = experiment(
        hypothesis={"title": "up", "probes": [http("up", "http://127.0.0.1:1/", kind="probe", tolerance=200)]},
        method=[http("knock", f"{shop.url}/knock")],
        runtime={"hypothesis": {"strategy": "after-method-only"}},
    )
    assert (await run(document)).verdict is ExperimentVerdict.DEVIATED


async def test_a_hypothesis_that_stays_broken_is_not_resolved(shop: Breakable) -> None:
    """A rollback that succeeds and heals nothing."""
    document = experiment(
        hypothesis=well(shop),
        method=[breaking(shop)],
        rollbacks=[http("nothing", f"{shop.url}/nothing")],
        runtime={"hypothesis": {"strategy": "before-method-only"}},
    )
    report = await run(document)

    assert report.verdict is ExperimentVerdict.NOT_RESOLVED, report.lines()


async def test_background_actions_run_beside_the_rest(shop: Breakable) -> None:
    """Two that each need the other's time; the method ends with the last of them."""
    document = experiment(
        hypothesis=well(shop),
        method=[
            program("long", "-c", "import time; time.sleep(0.8)", background=True),
            http("knock", f"{shop.url}/knock"),
        ],
    )
    report = await run(document)

    assert report.verdict is ExperimentVerdict.PROVED, report.lines()
    assert [one.activity.name for one in report.seen.method] == ["knock", "long"]


async def test_the_configuration_is_found_out_in_its_order(shop: Breakable) -> None:
    """A probe of the configuration, used by another activity; references that stand alone keep their type."""
    document = experiment(
        configuration={
            "wanted": 200,
            "where": {"type": "probe", **program("where", "-c", "print('health')", kind="probe")},
        },
        hypothesis={
            "title": "filled",
            "probes": [http("filled", f"{shop.url}/${{where}}", kind="probe", tolerance={"type": "range", "range": [200, 200], "target": "status"})],
        },
    )  # fmt: skip
    report = await run(document)

    assert report.verdict is ExperimentVerdict.PROVED, report.lines()
    assert ("GET", "/health") in shop.requests


async def test_another_probe_may_decide(shop: Breakable) -> None:
    """It is given the value, and the document is not changed by it."""
    decide = function("decide", "tests.chaos.deciding", "is_seven", kind="probe")
    document = experiment(
        hypothesis={
            "title": "seven",
            "probes": [
                http(
                    "queue",
                    f"{shop.url}/json",
                    kind="probe",
                    tolerance={"type": "jsonpath", "target": "body", "path": "$.nodes[*].up", "count": 2},
                ),
                function("asked", "tests.chaos.deciding", "seven", kind="probe", tolerance=decide),
            ],
        }
    )
    before = repr(document)
    report = await run(document)

    assert report.verdict is ExperimentVerdict.PROVED, report.lines()
    assert repr(document) == before


async def test_an_experiment_that_asks_nothing_proves_nothing(shop: Breakable) -> None:
    """There: completed."""
    report = await run(experiment(method=[http("knock", f"{shop.url}/knock")]))

    assert report.verdict is ExperimentVerdict.INCONCLUSIVE
    assert clause(report, "asked") == "it has no hypothesis, and no probe with a tolerance"


async def test_a_probe_of_the_method_is_judged_by_its_tolerance(shop: Breakable) -> None:
    """There, it is ignored."""
    document = experiment(method=[http("knock", f"{shop.url}/fail", kind="probe", tolerance=200)])

    assert (await run(document)).verdict is ExperimentVerdict.DEVIATED


async def test_somebody_else_plays_the_rollbacks_of_a_run_that_goes_on(shop: Breakable, undo: UndoJournal) -> None:
    """`stormwatch undo --force`, or the reaper when the lease was over: each is played once, and the run ends."""
    document = experiment(
        hypothesis=well(shop),
        method=[breaking(shop), program("wait", "-c", "import time; time.sleep(60)")],
        rollbacks=[healing(shop)],
    )
    running = asyncio.create_task(run(document, lease=1.0))
    while not shop.broken:
        await asyncio.sleep(0.02)
    (record,) = undo.pending()
    assert isinstance(record, UndoRecord)
    await undo.undo(record.id)

    report = await asyncio.wait_for(running, 40)

    assert shop.requests.count(("DELETE", "/break")) == 1
    assert report.verdict is ExperimentVerdict.INCONCLUSIVE, report.lines()
    assert clause(report, "whole").startswith("its rollbacks were played by another process")
    assert not undo.pending()


async def test_a_rollback_that_was_played_is_not_played_again(shop: Breakable, tmp_path: Path) -> None:
    """Who undoes tries again and again as long as one fails: the others need not be idempotent."""
    document = experiment(rollbacks=[http("bad", f"{shop.url}/fail"), http("once", f"{shop.url}/once", method="POST")])
    read = read_experiment(document)
    arguments = undo_arguments(read, Variables(), Path("experiment.json"), tmp_path / "x.played")

    for left in (2, 1):
        with pytest.raises(UndoFailed, match=f"of {left} rollbacks, 1 failed .bad: answered 500: no"):
            await undo_experiment(arguments)

    assert shop.requests == [("GET", "/fail"), ("POST", "/once"), ("GET", "/fail")]


async def test_a_rollback_that_cannot_be_called_here_does_not_keep_the_others_back(
    shop: Breakable, tmp_path: Path
) -> None:
    """The undo may be in another place, with other programs: what lies beside the experiment is found from anywhere."""
    script = tmp_path / "heal.sh"
    script.write_text(f"#!{sys.executable}\nimport pathlib; pathlib.Path('healed').touch()\n")
    script.chmod(0o755)
    arguments = {
        "file": "experiment.json",
        "directory": str(tmp_path),
        "played": str(tmp_path / "x.played"),
        "secrets": False,
        "configuration": {},
        "rollbacks": [program("gone", path="no-such-program"), program("beside", path="./heal.sh"), healing(shop)],
    }
    shop.broken = True

    with pytest.raises(UndoFailed, match="gone: there is no program no-such-program"):
        await undo_experiment(arguments)

    assert not shop.broken
    assert (tmp_path / "healed").exists()


def test_what_was_played_is_known_as_long_as_somebody_may_ask(tmp_path: Path) -> None:
    """A day, and as long as there is a record of the run."""
    for name in ("old.played", "young.played", "failed.played", "failed-left.json"):
        (tmp_path / name).touch()
        if name != "young.played":
            os.utime(tmp_path / name, (1, 1))

    sweep(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["failed-left.json", "failed.played", "young.played"]
