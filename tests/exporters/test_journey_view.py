"""The page of a journey: its last runs step by step, what steps usually take, and the last failure with its evidence."""

import re
from dataclasses import replace

import pytest

from stormwatch.exporters.artifact import Artifact, What, artifacts_of
from stormwatch.exporters.journey_view import FAILED_REQUESTS, RATINGS, RECEIVED, REQUESTS, journey_of
from stormwatch.exporters.picture import stairs_of
from stormwatch.exporters.status import render_probe, show_bytes
from stormwatch.journeys.journey import KIND
from stormwatch.probes.result import Measure, Phase, Result
from tests.exporters.sample import NOW, checkout_run, checkout_runs, failed_checkout, journey_page, up
from tests.exporters.test_status import Page

PICTURE = "checkout/20261121T024450Z-4bf92f35/page.png"


def steps(*phases: Phase) -> Result:
    """A run with these steps."""
    return up("checkout", kind="journey", phases=phases, measures=())


def test_a_step_takes_what_it_takes_when_it_comes_to_its_end() -> None:
    """A failed one took as long as somebody was willing to wait, which is no time of the step."""
    runs = [
        steps(Phase("open", 0.2), Phase("pay", 30.0, 0.2, failed=True)),
        steps(Phase("open", 0.4), Phase("pay", 1.0, 0.4)),
        steps(Phase("open", 0.3), Phase("pay", 3.0, 0.3)),
        steps(Phase("open", 9.0, failed=True)),
    ]

    opened, paid = journey_of("checkout", runs, runs[0]).steps

    assert (opened.name, opened.runs, opened.failed, opened.median, opened.slowest) == ("open", 4, 1, 0.3, 0.4)
    assert (paid.name, paid.runs, paid.failed, paid.median, paid.slowest) == ("pay", 3, 1, 2.0, 3.0)


def test_a_step_that_never_ended_has_no_median() -> None:
    """Its place among the others is known, and it is not drawn as if it took no time."""
    view = journey_of("checkout", [failed_checkout()], failed_checkout())

    assert [step.name for step in view.steps][-1] == "pay"
    assert view.steps[-1].median is None
    assert [phase.name for phase in view.typical] == ["open the shop", "log in", "search a product", "add to cart"]
    assert "never ended" in Page(render_probe(replace(journey_page(), journey=view))).text


def test_steps_inside_steps_stand_below_them() -> None:
    """Of two that begin at once the longer one is around the other, whatever order they ended in."""
    view = journey_of("checkout", [steps(Phase("buy / pay", 1.0, 0.5), Phase("buy", 2.0, 0.5))], None)

    assert [step.name for step in view.steps] == ["buy", "buy / pay"]


def test_all_runs_are_drawn_to_one_scale() -> None:
    """That of the longest; each step keeps its lane from run to run."""
    stairs = stairs_of((Phase("pay", 1.0, 0.5), Phase("new", 0.25, 1.5)), ["open", "pay"], 4.0)

    assert [(stair.lane, stair.bar.left, stair.bar.width) for stair in stairs] == [(1, 12.5, 25.0), (2, 37.5, 6.25)]
    assert journey_of("checkout", checkout_runs(), None).longest == pytest.approx(6.42)


def test_the_measures_are_those_of_the_kind() -> None:
    """The page reads what journeys export, by the same names."""
    names = {metric.name for metric in KIND.metrics}

    assert {REQUESTS, RECEIVED, FAILED_REQUESTS, *(rating.metric for rating in RATINGS)} <= names


@pytest.mark.parametrize(("lcp", "verdict"), [(2.5, "good"), (4.0, "needs improvement"), (4.1, "poor")])
def test_a_web_vital_is_judged(lcp: float, verdict: str) -> None:
    """By the thresholds that are usual, both inclusive."""
    run = up("checkout", kind="journey", measures=(Measure(RATINGS[2].metric, lcp),))

    assert [vital.verdict for vital in journey_of("checkout", [run], None).vitals] == [verdict]


def test_an_artifact_says_what_it_is() -> None:
    """By its name; evidence of another shape is none."""
    names = ["page.png", "page-2.png", "step-1-pay.png", "video.webm", "trace-1.zip", "requests.har", "notes.txt"]
    found = artifacts_of(replace(failed_checkout(), evidence={"artifacts": [f"a/b/{name}" for name in names]}))

    assert [each.what.value for each in found] == [
        "picture",
        "picture",
        "step-picture",
        "video",
        "trace",
        "har",
        "other",
    ]
    assert (found[0].name, found[0].run) == ("page.png", "a/b")
    assert artifacts_of(replace(failed_checkout(), evidence={"artifacts": 7})) == ()


def test_the_page_shows_the_last_failure_and_every_run() -> None:
    """While it is down the failure comes first: sentence, picture, trace, console. Each run is a row."""
    html = render_probe(journey_page())
    page = Page(html)

    assert page.text.index("Last failure") < page.text.index("Last 30 runs, step by step")
    assert "Failed to load resource: the server responded with a status of 502" in page.text
    assert f"../artifacts/{PICTURE}" in [a.get("src") for tag, a in page.elements if tag == "img"]
    assert len([tag for tag, a in page.elements if tag == "svg" and a.get("class") == "stairs"]) == 30
    assert "script 6 412 kB ✗ 1" in page.text
    assert "Interaction to next paint 662 ms 626 ms ✗ poor" in page.text
    assert "font" not in page.text


def test_a_failed_step_is_marked_by_more_than_colour() -> None:
    """By a sign and its name in the row, and by a pattern in the picture."""
    html = render_probe(journey_page())

    assert html.count('aria-label="down after 6.42 s, failed in pay"') == 2
    assert "6.42 s ✗ step in pay" in Page(html).text
    assert re.search(r"\.stairs \.failed \{ fill: url\(#torn\)", html)
    assert 'class="failed"' in html
    assert "✗ pay: 5.00 s, from 1.42 s" in html


def test_a_journey_that_is_up_shows_its_runs_first() -> None:
    """Then the last failure, as long as it is remembered."""
    view = journey_page()
    good = checkout_run(NOW - 5)
    page = Page(
        render_probe(
            replace(
                view,
                card=replace(view.card, state="up", last=good),
                journey=journey_of("checkout", [good, failed_checkout()], failed_checkout()),
            )
        )
    )

    assert page.text.index("Last 2 runs, step by step") < page.text.index("Last failure")


def test_what_is_not_kept_any_more_is_not_linked() -> None:
    """Neither shown as a picture nor told to a machine as if it were there."""
    evidence = [each.path for each in artifacts_of(failed_checkout())]
    view = journey_page(gone=frozenset(evidence))
    html = render_probe(view)

    assert "artifacts/" not in html
    assert "Picture and trace are not kept any more" in html
    assert view.journey
    assert view.journey.failure
    assert view.journey.failure.as_json()["artifacts"] == []


def test_a_video_is_played_in_place_and_the_page_leaves_time_for_it() -> None:
    """Loading the page again would end it; without one the page is as fresh as ever."""
    video = PICTURE.replace("page.png", "video.webm")
    failure = replace(failed_checkout(), evidence={"artifacts": [video]})
    view = replace(journey_page(), journey=journey_of("checkout", [failure], failure))
    page = Page(render_probe(view))

    (player,) = [attributes for tag, attributes in page.elements if tag == "video"]
    assert player["src"] == f"../artifacts/{video}"
    assert "controls" in player
    assert f"../artifacts/{video}" in page.links()
    assert {"http-equiv": "refresh", "content": "120"} in [a for tag, a in page.elements if tag == "meta"]
    assert {"http-equiv": "refresh", "content": "15"} in [
        a for tag, a in Page(render_probe(journey_page())).elements if tag == "meta"
    ]


def test_a_failure_without_the_video_that_was_to_be_kept_says_why() -> None:
    """In the place where it would be, and as text: whoever made the reason may be a page."""
    failure = replace(failed_checkout(), evidence={"artifacts": [PICTURE], "no_video": "the run knows a secret <b>"})
    page = Page(render_probe(replace(journey_page(), journey=journey_of("checkout", [failure], failure))))

    assert "No video: the run knows a secret <b>." in page.text


def test_a_machine_reads_the_same() -> None:
    """Runs with their steps, medians, the last failure with where its files are."""
    document = journey_of("checkout", checkout_runs(), failed_checkout()).as_json()

    assert len(document["runs"]) == 30
    assert document["steps"][-1]["name"] == "pay"
    assert document["steps"][-1]["failed"] == 2
    assert document["last_failure"]["failed_phase"] == "pay"
    assert document["last_failure"]["artifacts"][0] == {
        "what": "picture",
        "name": "page.png",
        "path": f"/artifacts/{PICTURE}",
    }
    assert {share["type"]: share["failed"] for share in document["traffic"]} == {
        "document": 0,
        "script": 1,
        "image": 0,
    }


def test_what_a_site_said_is_no_markup() -> None:
    """Names of steps, messages, the console."""
    evil = "<img src=x onerror=alert(1)>"
    failure = replace(
        failed_checkout(),
        message=evil,
        failed_phase=evil,
        phases=(Phase(evil, 1.0, failed=True),),
        evidence={"console_errors": [evil], "artifacts": [f"checkout/run/{evil}.png"]},
    )
    html = render_probe(replace(journey_page(), journey=journey_of("checkout", [failure], failure)))

    assert evil not in html
    assert "&lt;img src=x" in html


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (312, "312 B"), (1000, "1.0 kB"), (18_400, "18 kB"), (3_410_000, "3.4 MB")]
)
def test_bytes_are_rounded(count: float, text: str) -> None:
    """As people say them."""
    assert show_bytes(count) == text


def test_the_run_of_an_artifact_is_its_folder() -> None:
    """What retention removes at once."""
    assert Artifact(PICTURE, What.PICTURE).run == "checkout/20261121T024450Z-4bf92f35"
