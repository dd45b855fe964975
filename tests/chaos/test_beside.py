"""A drill with several faults at once: each is met, each is taken back, in the reverse order, and only all of them prove anything."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.audit import read
from stormwatch.chaos.drill import Drill, ExpectedProbe
from stormwatch.chaos.fault import FaultSpec, Step
from stormwatch.chaos.http_options import HttpStatus
from stormwatch.chaos.load_options import LoadSpike
from stormwatch.chaos.proxy_fault import ProxyFault
from stormwatch.chaos.replay import replay
from stormwatch.chaos.report import Report
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from stormwatch.chaos.tcp_options import TcpLatency
from stormwatch.chaos.undo import UndoRecord
from stormwatch.chaos.verdict import Answer, Verdict, judge
from stormwatch.probes.result import Reason
from tests.chaos.stories import DRILL, ZERO, observed
from tests.chaos.test_host_process import held_fault
from tests.chaos.test_load_fault import service
from tests.chaos.test_run import World, drill, world
from tests.servers import busy
from tests.servers.proxied import until

SLOW = FaultSpec(kind="tcp-latency", target="shop", options=TcpLatency(delay=0.01))
ERRORS: dict[str, Any] = {
    "kind": "http-status",
    "options": HttpStatus(status=500, path="/health"),
    "reason": Reason.STATUS,
}

BRIEFLY: dict[str, Any] = {"probe": ExpectedProbe(name="checkout", within=2), "alert": None}


def fault(here: World, spec: FaultSpec, on_step: Callable[[Step], None] = lambda _step: None) -> ProxyFault:
    """On the world's proxy."""
    return ProxyFault(spec, control=here.proxy.control, journal=here.undo, lease=3.0, patience=10.0, on_step=on_step)


def recorded(here: World) -> list[str]:
    """What the undo journal holds."""
    return [one.what for one in here.undo.pending() if isinstance(one, UndoRecord)]


def bites(report: Report) -> list[tuple[str, Answer]]:
    """Of which fault it is said whether it was met."""
    return [(one.asked, one.answer) for one in report.judgement.clauses if one.name == "bites"]


async def test_both_are_in_place_and_taken_back_in_the_reverse_order(tmp_path: Path) -> None:
    """Each with its evidence in the report and in the journal, and with an undo record of its own."""
    asked = drill(**ERRORS, beside=(SLOW,))
    held: dict[Step, list[str]] = {}
    async with world(tmp_path) as here:

        def look(step: Step) -> None:
            held[step] = sorted(recorded(here))

        report = await here.run(asked, beside=[fault(here, SLOW, look)])
    assert report.verdict is Verdict.PROVED, "\n".join(report.lines())
    assert bites(report) == [
        ("traffic meets http-status on shop", Answer.YES),
        ("traffic meets tcp-latency on shop", Answer.YES),
    ]
    (seen,) = report.detection.observed.beside
    assert seen.bytes > 0
    assert held[Step.BEGUN] == ["http-status on shop"]
    assert held[Step.HELD] == held[Step.REVERTED] == ["http-status on shop", "tcp-latency on shop"]
    assert held[Step.FORGOTTEN] == ["http-status on shop"]
    assert here.undo.pending() == []
    assert "http-status on shop beside tcp-latency on shop" in report.lines()[0]
    events = {entry["event"]: entry["data"] for entry in read(here.audit.path).entries}
    assert [one["kind"] for one in events["injecting"]["beside"]] == ["tcp-latency"]
    assert events["reverted"]["beside"] == [seen.as_json()]
    assert Report.from_json(report.as_json()) == report


async def test_one_beside_that_nobody_met_proves_nothing(tmp_path: Path) -> None:
    """As little as the fault itself: it was asked what is noticed of both."""
    nobody = FaultSpec(kind="http-status", target="shop", options=HttpStatus(path="/never-asked"))
    async with world(tmp_path) as here:
        report = await here.run(drill(**BRIEFLY, beside=(nobody,)), beside=[fault(here, nobody)])
    assert report.verdict is Verdict.INCONCLUSIVE
    assert bites(report) == [
        ("traffic meets tcp-blackhole on shop", Answer.YES),
        ("traffic meets http-status on shop", Answer.INCONCLUSIVE),
    ]


async def test_where_one_cannot_be_injected_none_is(tmp_path: Path) -> None:
    """The first was in place for a moment: it is gone, and nothing is judged."""
    missing = replace(SLOW, target="shoq")
    async with world(tmp_path) as here:
        report = await here.run(drill(beside=(missing,)), beside=[fault(here, missing)])
        assert await here.left() == []
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "there is no route shoq" in report.judgement.clauses[0].seen
    assert here.undo.pending() == []


async def test_one_that_cannot_be_taken_back_is_unsafe_and_the_others_are_taken_back(tmp_path: Path) -> None:
    """The record of the one is kept, and of no other."""
    here_itself = Target.from_json({"name": "here", "machine": {}}, TARGETS)
    options = {"inject": ["true"], "undo": ["false"]}
    async with world(tmp_path) as here:
        stuck = held_fault(
            "command", here_itself, journal=here.undo.directory, lease=600, patience=0.0, options=options
        )
        try:
            report = await here.run(drill(beside=(stuck.spec,)), beside=[stuck])
            assert report.verdict is Verdict.UNSAFE
            assert await here.left() == []
            assert recorded(here) == ["command on here"]
        finally:
            # The reaper would try again for ever.
            here.undo.forget(stuck.id)


async def test_ctrl_c_takes_both_back(tmp_path: Path) -> None:
    """Cancelled while it watches."""
    async with world(tmp_path, deaf=True) as here:
        running = asyncio.create_task(here.run(drill(beside=(SLOW,)), beside=[fault(here, SLOW)]))
        await until(lambda: here.feed.pending != {}, what="the probe to be red")
        assert len(await here.left()) == 2
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await here.left() == []
    assert here.undo.pending() == []
    assert "interrupted" in here.audit.path.read_text().splitlines()[-1]


async def test_load_beside_another_fault(tmp_path: Path) -> None:
    """A spike while the service answers with errors: faults of different kinds, each held in its own way."""
    with busy.serving() as shop:
        spike = FaultSpec(kind="load", target="shop", options=LoadSpike(users=2, pause=0.02))
        held = held_fault("load", service(shop.url), journal=tmp_path / "undo", options={"users": 2, "pause": "20ms"})
        async with world(tmp_path) as here:
            report = await here.run(drill(**ERRORS, beside=(spike,)), beside=[held])
    assert report.verdict is Verdict.PROVED, "\n".join(report.lines())
    (seen,) = report.detection.observed.beside
    assert seen.requests > 0
    assert any(one.seen.startswith("2 users whose requests") for one in report.judgement.clauses)
    assert here.undo.pending() == []


async def test_a_dead_drill_is_unsafe_until_all_its_faults_are_taken_back(tmp_path: Path) -> None:
    """What `stormwatch undo` says of one says nothing of the other."""
    async with world(tmp_path) as here:
        await here.run(drill(**ERRORS, beside=(SLOW,)), beside=[fault(here, SLOW)])
    entries = list(read(here.audit.path).entries)
    begun = [entry["event"] for entry in entries].index("injected")
    dead = entries[: begun + 1]
    undone = [
        {"event": "undone", "data": {"what": what, "state": "undone", "gone": True}}
        for what in ("http-status on shop", "tcp-latency on shop")
    ]
    verdicts = [replay([*dead, *undone[:count]])[0].report for count in range(3)]
    assert [one.verdict for one in verdicts] == [Verdict.UNSAFE, Verdict.UNSAFE, Verdict.INCONCLUSIVE]
    assert "nothing says that tcp-latency on shop was taken back" in verdicts[1].detection.observed.trouble
    assert "tcp-latency on shop was taken back later: undone" in verdicts[2].detection.observed.trouble


def test_a_record_without_the_evidence_of_one_beside_is_inconclusive() -> None:
    """Cut short before it was looked at, or written by a version that knew of none."""
    asked = replace(DRILL, beside=(SLOW,))
    report = Report.from_json(
        {
            "version": 1,
            "drill": asked.as_json(),
            "detection": {"observed": observed().as_json()},
            "steps": [],
        }
    )
    assert report.verdict is Verdict.INCONCLUSIVE
    document = {key: value for key, value in DRILL.as_json().items() if key != "beside"}
    assert Drill.from_json(document) == DRILL
    told = replace(observed(), beside=(replace(observed().evidence, first=ZERO + 2),))
    again = replace(report.detection, observed=told)
    assert judge(asked, again).verdict is Verdict.PROVED


def test_one_fault_on_one_target_twice_is_refused() -> None:
    """Their records and evidence could not be told apart."""
    with pytest.raises(
        ValueError, match=r"one fault on one target twice .tcp-blackhole on payments beside tcp-blackhole"
    ):
        replace(DRILL, beside=(DRILL.fault,))
