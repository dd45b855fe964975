"""An alert about a journey links to the picture and the trace of the failure that it tells of, and to nothing else."""

from dataclasses import replace

import pytest

from stormwatch.harness.artifact_links import ArtifactLinks
from stormwatch.harness.notifying import notification_of
from stormwatch.probes.result import Result
from stormwatch.slo.alert import Alert, AlertState, Transition
from tests.exporters.sample import failed_checkout

FAILURE = failed_checkout()
RUN = "checkout/20261121T024450Z-4bf92f35"
FIRING = Transition(
    alert=Alert(labels={"alertname": "ProbeDown", "severity": "page", "probe": "checkout"}),
    before=AlertState.PENDING,
    after=AlertState.FIRING,
    at=2.0,
    since=1.0,
    value=1.0,
    reason=FAILURE.reason.value,
    message=FAILURE.message,
    probe="checkout",
)
RESOLVED = replace(FIRING, before=AlertState.FIRING, after=AlertState.RESOLVED)
URL = "https://stormwatch.example/"


def test_an_alert_links_to_picture_and_trace() -> None:
    """As annotations, each an address of its own: receivers show those as links."""
    links = ArtifactLinks(URL).of(FIRING, FAILURE)
    told = notification_of(FIRING, page=URL, links=links)

    assert told
    assert told.annotations["picture"] == f"{URL}artifacts/{RUN}/page.png"
    assert told.annotations["trace"] == f"{URL}artifacts/{RUN}/trace.zip"
    assert told.annotations["last_failure"].startswith("checkout: step: ")


def test_the_first_of_several_pictures_and_videos_is_linked() -> None:
    """And none of a step, which shows how it was before the failure."""
    names = ("step-1-pay.png", "page-1.png", "page-2.png", "video-1.webm", "video-2.webm")
    failure = replace(FAILURE, evidence={"artifacts": [f"{RUN}/{name}" for name in names]})

    assert ArtifactLinks(URL).of(FIRING, failure) == {
        "picture": f"{URL}artifacts/{RUN}/page-1.png",
        "video": f"{URL}artifacts/{RUN}/video-1.webm",
    }


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(None, id="no failure is known"),
        pytest.param(replace(FAILURE, message="another"), id="it tells of another failure"),
        pytest.param(replace(FAILURE, evidence={}), id="nothing was kept"),
    ],
)
def test_without_evidence_there_are_no_links(failure: Result | None) -> None:
    """An objective that judges a slow run, for one, is not about the last failure."""
    links = ArtifactLinks(URL)

    assert links.of(FIRING, failure) == {}
    assert links.runs == frozenset()


def test_without_an_address_nobody_is_sent_a_link() -> None:
    """The status page still leads to the files, so they are held."""
    links = ArtifactLinks("")

    assert links.of(FIRING, FAILURE) == {}
    assert links.runs == {RUN}


def test_what_is_linked_to_is_held_while_the_alert_fires() -> None:
    """Until it is resolved; a pending alert told nobody yet."""
    links = ArtifactLinks(URL)
    links.of(replace(FIRING, after=AlertState.PENDING), FAILURE)
    assert links.runs == frozenset()

    links.of(FIRING, FAILURE)
    assert links.runs == {RUN}

    links.of(RESOLVED, FAILURE)
    assert links.runs == frozenset()
