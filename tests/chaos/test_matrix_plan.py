"""The cells that follow from a configuration: which faults, on what, who is concerned, and how long an alert may take."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.drill import Drill, ExpectedAlert, ExpectedProbe
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.fault_kind import ROUTE
from stormwatch.chaos.matrix_cell import Cell
from stormwatch.chaos.matrix_plan import (
    ESSENTIAL,
    MARGIN,
    Dependency,
    MatrixPlan,
    dependencies_of,
    in_order,
    plan_matrix,
    sample_options,
)
from stormwatch.chaos.route import Route, RouteIssuer, RouteTls
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from stormwatch.probes.probe import Confirm, Probe
from stormwatch.probes.watch import Watch
from stormwatch.slo.alert import Severity
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.rule import Rule
from tests.chaos.cells import cell, labels

TLS = RouteTls(certificate=Path("shop.pem"), key=Path("shop.key"))
ISSUER = RouteIssuer(certificate=Path("ca.pem"), key=Path("ca.key"))
SHOP = Route(name="shop", listen="127.0.0.1:8443", upstream="127.0.0.1:1", tls=TLS, issuer=ISSUER)
DATABASE = Route(name="database", listen="127.0.0.1:5432", upstream="127.0.0.1:2", serves=("front",))
NAMES = Route(name="names", listen="127.0.0.1:53", upstream="127.0.0.1:3", dns=True)


async def nothing(watch: Watch) -> None:
    """A check that is never run."""


def probe(name: str, target: str = "https://elsewhere.example", kind: str = "http", **more: Any) -> Probe:
    """Every 5 s, two attempts of 2 s, 1 s apart: a failure is decided after 10 s at the latest."""
    options = more.pop("options", {})
    made = Probe(
        name=name, kind=kind, target=target, check=nothing, every=5.0, timeout=2.0, confirm=Confirm(2, 1.0), **more
    )
    object.__setattr__(made, "options", options)
    return made


def objective(name: str, of: str, **more: Any) -> Objective:
    return Objective(
        name=name, probes=(of,), target=more.pop("target", Fraction(999, 1000)), window=30 * 86400.0, **more
    )


FRONT = probe("front", "https://shop.example:8443/", labels={"team": "web"})
LOGIN = probe("login", "journeys/test_login.py::test_login", kind="journey")


def planned(
    *routes: Route,
    probes: tuple[Probe, ...] = (FRONT, LOGIN),
    rules: tuple[Rule, ...] | None = None,
    drills: tuple[Drill, ...] = (),
    objectives: tuple[Objective, ...] = (),
    targets: tuple[Target, ...] = (),
    **more: Any,
) -> MatrixPlan:
    made = tuple(
        rule for one in probes for rule in rules_for_probe(one, expiry={Severity.TICKET: 21 * 86400.0})
    ) + tuple(rule for one in objectives for rule in rules_for_objective(one, probes))
    return plan_matrix(
        dependencies_of(routes, targets, probes, objectives, drills),
        probes=probes,
        objectives=objectives,
        rules=made if rules is None else rules,
        evaluation=1.0,
        drills=drills,
        **more,
    )


def by_name(plan: MatrixPlan) -> dict[str, Cell]:
    return {one.name: one for one in plan.cells}


def catching(found: Cell) -> set[tuple[str, str]]:
    return {(one.labels["alertname"], one.labels.get("probe") or one.labels["objective"]) for one in found.catchers}


@pytest.mark.parametrize(
    ("reaching", "routes"),
    [
        (probe("a", "https://shop.example:8443/"), ["shop"]),
        (probe("a", "https://127.0.0.1:8443/"), ["shop"]),
        (probe("a", "https://192.0.2.1:8443/"), []),
        (probe("a", "https://shop.example/"), []),
        (probe("a", "shop.example:8443", kind="tls"), ["shop"]),
        (probe("a", "postgresql://user@127.0.0.1:5432/x", kind="postgresql"), ["database"]),
        (probe("a", "https://x.example/", options={"resolver": "127.0.0.1:53"}), ["names"]),
        (probe("a", "https://x.example/", options={"connect_to": "127.0.0.1:8443"}), ["shop"]),
        (probe("a", "x.example", kind="dns", options={"server": "127.0.0.1:53"}), ["names"]),
        (probe("a", "x.example:8443", kind="dns", options={"server": "192.0.2.1:53"}), []),
        (probe("a", "journeys/test_a.py::test_a", kind="journey"), []),
        (probe("a", "https://x.example:notaport/"), []),
    ],
)
def test_who_connects_to_a_route_is_known_by_its_address(reaching: Probe, routes: list[str]) -> None:
    """By port, and by address where one is given; by the name server or the proxy that it is told to use, too."""
    found = dependencies_of((SHOP, DATABASE, NAMES), (), (reaching,), ())

    assert [one.name for one in found if one.direct] == routes


def test_who_needs_it_through_something_else_is_declared_or_follows_from_labels_and_drills() -> None:
    """`serves` of the route, the label `service`, and what a drill of it expects and allows."""
    drill = Drill(
        name="d",
        fault=FaultSpec.from_json({"kind": "tcp-reset", "target": "database"}),
        probe=ExpectedProbe(name="drilled"),
        alert=ExpectedAlert(labels={"objective": "promise"}),
        allow=("allowed",),
    )
    probes = (
        FRONT,
        probe("drilled"),
        probe("allowed"),
        probe("labelled", labels={"service": "database"}),
        probe("other", labels={"service": "shop"}),
    )
    (found,) = dependencies_of((DATABASE,), (), probes, (objective("promise", "other"),), (drill,))

    assert found.direct == ()
    assert found.behind == ("front", "drilled", "allowed", "labelled", "promise")


def test_a_drill_of_several_faults_says_of_all_that_it_breaks_who_needs_it() -> None:
    """Not of the first alone; and what it expects of an evaluator elsewhere tells of each of them."""
    alert = {"alertname": "HighErrorRate"}
    drill = Drill(
        name="d",
        fault=FaultSpec.from_json({"kind": "tcp-reset", "target": "database"}),
        beside=(FaultSpec.from_json({"kind": "tcp-reset", "target": "shop"}),),
        probe=ExpectedProbe(name="login"),
        alert=ExpectedAlert(labels=alert),
    )
    found = dependencies_of((SHOP, DATABASE, NAMES), (), (FRONT, LOGIN), (), (drill,))
    assert {one.name: one.behind for one in found} == {"shop": ("login",), "database": ("front", "login"), "names": ()}

    def elsewhere(labels: Mapping[str, str], _fault: FaultSpec) -> tuple[float, float]:
        return 10.0, 10.0

    cells = by_name(planned(SHOP, DATABASE, drills=(drill,), elsewhere=elsewhere))
    for name in ("shop/tcp-reset", "database/tcp-reset"):
        assert alert in [one.labels for one in cells[name].catchers]


def test_every_essential_fault_that_fits_is_put_on_a_route() -> None:
    """Connections and handshakes on one with TLS, connections on a plain one, names on one for names."""
    kinds = {name: {one.fault.kind for one in planned(route).cells} for name, route in
             {"shop": SHOP, "database": DATABASE, "names": NAMES}.items()}  # fmt: skip

    assert kinds["names"] == {one for one in ESSENTIAL if one.startswith("dns-")}
    assert kinds["database"] == {one for one in ESSENTIAL if one.startswith("tcp-")}
    assert kinds["shop"] == {one for one in ESSENTIAL if not one.startswith("dns-")}
    assert {one.fault.kind for one in planned(SHOP, every_fault=True).cells} > kinds["shop"]


def test_a_route_without_an_issuer_says_what_is_left_out() -> None:
    """A forged certificate of nobody's is wrong in more than one way: it would prove nothing about its dates."""
    bare = Route(name="shop", listen="127.0.0.1:8443", upstream="127.0.0.1:1", tls=TLS)
    plan = planned(bare)

    assert {one.name for one in plan.skipped} == {"shop/tls-expired", "shop/tls-expires-soon", "shop/tls-wrong-host"}
    assert all("`issuer`" in one.why for one in plan.skipped)
    assert "shop/tls-unknown-ca" in by_name(plan)


def test_every_option_that_samples_give_is_one_that_faults_take() -> None:
    """All faults of the proxy can be planned, with and without a time-out to go by."""
    every = planned(SHOP, NAMES, DATABASE, every_fault=True)

    assert not every.skipped
    assert sample_options("tcp-latency", slow=0.5) == {"delay": "500ms"}


def test_a_drill_is_a_cell_with_its_own_options_once() -> None:
    """What a sample does anyway is not done twice."""

    def drill(name: str, **fault: Any) -> Drill:
        return Drill(
            name=name,
            fault=FaultSpec.from_json({"target": "shop", **fault}),
            alert=ExpectedAlert(labels=labels("front")),
        )

    plan = planned(SHOP, drills=(drill("same", kind="tcp-reset"), drill("half", kind="tcp-reset", share="50%")))

    assert "shop/half" in by_name(plan)
    assert "shop/same" not in by_name(plan)


def test_load_is_a_cell_where_a_drill_says_how_much_and_several_faults_at_once_are_none() -> None:
    """How many users are too many, only who knows the service can say; of two faults an alert could speak of either."""
    service = Target.from_json({"name": "service", "service": {"url": "http://127.0.0.1:1/"}}, TARGETS)
    spike = FaultSpec.from_json({"kind": "load", "target": "service", "users": 50})
    alone = Drill(name="rush", fault=spike, alert=ExpectedAlert(labels=labels("front")))
    both = Drill(
        name="both",
        fault=FaultSpec.from_json({"kind": "tcp-reset", "target": "shop", "share": "50%"}),
        beside=(spike,),
        alert=ExpectedAlert(labels=labels("front")),
    )

    plan = planned(SHOP, targets=(service,), drills=(alone, both))

    assert by_name(plan)["service/rush"].fault == spike
    assert "shop/both" not in by_name(plan)
    (skipped,) = [one.why for one in plan.skipped if one.name == "service/load"]
    assert "it needs options that only you know: a drill that says them is a cell, too" in skipped


def test_a_target_that_no_proxy_stands_in_front_of_has_the_faults_of_its_kind() -> None:
    """Nobody is known to depend on it, so any alert counts, and nothing else is broken meanwhile."""
    machine = Target(name="here", kind="machine", options=TARGETS["machine"].options())
    (found,) = dependencies_of((), (machine,), (FRONT,), ())

    assert (found.on, found.known) == ("machine", False)
    assert all(one.alone for one in planned(targets=(machine,)).cells)
    assert found.on != ROUTE


def test_an_alert_is_given_the_worst_case_of_the_configuration() -> None:
    """5 s until the next run, two attempts of 2 s and 1 s between, 1 s until the rules are evaluated; and the margin."""
    found = by_name(planned(SHOP))["shop/tcp-reset"]

    assert found.limit == 11.0 + MARGIN
    assert found.probes == ("front",)
    assert catching(found) == {("ProbeDown", "front")}


def test_what_an_objective_judges_is_concerned_too() -> None:
    """And of alerts that see the same failure the quickest decides how long is waited."""
    found = by_name(planned(SHOP, objectives=(objective("promise", "front"), objective("other", "login"))))[
        "shop/tcp-reset"
    ]

    assert found.subjects == ("front", "promise")
    assert ("ErrorBudgetBurn", "promise") in catching(found)
    assert ("ErrorBudgetBurn", "other") not in catching(found)
    assert found.limit == 11.0 + MARGIN


def test_what_takes_longer_than_a_cell_waits_is_listed_and_not_waited_for() -> None:
    """A promise about slowness pages when half of an hour was slow: nothing is said about it."""
    slow = objective("fast", "front", slower_than=0.5, target=Fraction(95, 100))
    plan = planned(SHOP, objectives=(slow,))

    assert {(one["objective"], one["severity"]) for one in plan.untimed} >= {("fast", "page")}
    assert by_name(plan)["shop/tcp-latency"].limit <= 13.0


def test_the_end_of_a_certificate_concerns_who_sees_it() -> None:
    """Whoever sits behind another service sees that one's certificate; and nobody is hurt yet."""
    seen = by_name(planned(SHOP))["shop/tls-expires-soon"]
    behind = by_name(planned(SHOP, probes=(probe("x", labels={"service": "shop"}),)))["shop/tls-expires-soon"]

    assert ("CertificateExpiring", "front") in catching(seen)
    assert catching(behind) == set()


def test_those_who_take_long_to_be_well_again_are_not_waited_for_where_others_can_tell() -> None:
    """A journey every half minute holds up nothing, unless it is the only one."""
    journey = probe("journey", "journeys/test_x.py::test_x", kind="journey", labels={"service": "shop"})
    object.__setattr__(journey, "every", 60.0)

    assert by_name(planned(SHOP, probes=(FRONT, journey)))["shop/tcp-reset"].slow == ("journey",)
    assert by_name(planned(SHOP, probes=(journey,)))["shop/tcp-reset"].slow == ()


def test_alerts_that_nobody_hears_of_catch_nothing() -> None:
    """Severity info, or no alert at all: the cell is run, to show it."""
    quiet = planned(SHOP, rules=rules_for_probe(FRONT, severity=Severity.INFO))
    silent = planned(SHOP, rules=rules_for_probe(FRONT, severity=None))

    assert by_name(quiet)["shop/tcp-reset"].catchers == ()
    assert by_name(silent)["shop/tcp-reset"].catchers == ()
    assert by_name(silent)["shop/tcp-reset"].limit == 10.0 + MARGIN


def test_a_delay_is_one_that_time_outs_still_bear() -> None:
    """Whoever does not say how slow is too slow sees nothing of it."""
    hurried = probe("front", "https://shop.example:8443/")
    object.__setattr__(hurried, "timeout", 0.5)
    (found,) = (one for one in planned(SHOP, probes=(hurried,)).cells if one.fault.kind == "tcp-latency")

    assert found.fault.as_json()["delay"] == "400ms"


def test_neighbours_do_not_disturb_each_other_where_that_can_be() -> None:
    """So that one begins while the other recovers; the dependency with the most left comes first."""
    shop = [cell(kind, "shop", probes=("front",)) for kind in ("tcp-reset", "tcp-refused", "tcp-blackhole")]
    hotel = [cell(kind, "hotel", probes=("hotel",)) for kind in ("tcp-reset", "tcp-refused")]

    ordered = in_order([*shop, *hotel])

    assert [one.dependency for one in ordered] == ["shop", "hotel", "shop", "hotel", "shop"]


def test_a_cell_is_written_down_and_read_again() -> None:
    """Also what is infinite."""
    for one in planned(
        SHOP, NAMES, objectives=(objective("fast", "front", slower_than=0.5, target=Fraction(95, 100)),)
    ).cells:
        assert Cell.from_json(one.as_json()) == one


def test_a_dependency_that_nothing_is_known_of_runs_alone() -> None:
    """Any alert counts, also of probes that have nothing to do with it."""
    (found,) = plan_matrix(
        [Dependency(name="database", on=ROUTE, route=DATABASE)],
        probes=(FRONT, LOGIN),
        objectives=(),
        rules=tuple(rule for one in (FRONT, LOGIN) for rule in rules_for_probe(one)),
        evaluation=1.0,
    ).cells[:1]

    assert found.alone
    assert catching(found) == {("ProbeDown", "front"), ("ProbeDown", "login")}
    assert found.probes == ("front", "login")
