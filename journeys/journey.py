"""The kind `journey`: a pytest test, run by a warm worker; its phases are its steps."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from stormwatch.journeys.client import Client
from stormwatch.journeys.matrix import Matrix, variants
from stormwatch.journeys.page_view import PageView
from stormwatch.journeys.pool import Journey, WorkerPool
from stormwatch.journeys.report import Report
from stormwatch.journeys.retention import JOURNEY_BYTES, KEEP_SECONDS, Limits
from stormwatch.journeys.told import told_of
from stormwatch.journeys.traffic import TYPES, Share, TrafficReport
from stormwatch.journeys.video import NoVideo, find_ffmpeg
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.options import Secret
from stormwatch.probes.probe import Kind, Metric
from stormwatch.probes.result import Outcome, Reason
from stormwatch.probes.units import Bytes, Seconds
from stormwatch.probes.watch import Watch

STEP_SECONDS = Metric(
    "stormwatch_journey_step_duration_seconds", "Duration of each step of the journey's last run, in seconds."
)
STEPS_COMPLETED = Metric("stormwatch_journey_steps_completed", "How many steps of the last run came to their end.")
CONSOLE_ERRORS = Metric("stormwatch_journey_console_errors", "Console errors and page exceptions during the last run.")

REQUESTS = Metric("stormwatch_journey_requests", "Requests of the last run's pages, by type.")
RECEIVED = Metric(
    "stormwatch_journey_received_bytes", "Bytes of answers to them, of those answers that tell their length, by type."
)
FAILED_REQUESTS = Metric(
    "stormwatch_journey_failed_requests", "Requests without an answer, or with a status of 400 or more, by type."
)
THIRD_PARTY_REQUESTS = Metric(
    "stormwatch_journey_third_party_requests", "Requests to other domains than that of the first page."
)
THIRD_PARTY_BYTES = Metric("stormwatch_journey_third_party_bytes", "Bytes of the answers to those.")
VITALS: Mapping[str, Metric] = {
    "ttfb": Metric("stormwatch_journey_time_to_first_byte_seconds", "Time to first byte of the run's worst page."),
    "fcp": Metric(
        "stormwatch_journey_first_contentful_paint_seconds", "First contentful paint of the run's worst page."
    ),
    "lcp": Metric(
        "stormwatch_journey_largest_contentful_paint_seconds", "Largest contentful paint of the run's worst page."
    ),
    "inp": Metric(
        "stormwatch_journey_interaction_to_next_paint_seconds", "Interaction to next paint of the run's worst page."
    ),
    "cls": Metric("stormwatch_journey_cumulative_layout_shift", "Cumulative layout shift of the run's worst page."),
    "loaded": Metric(
        "stormwatch_journey_page_load_seconds", "From navigation to the end of the event load, of the run's worst page."
    ),
}
"""Metrics by the field of `PageView` that they tell of."""

TEXT = 4000
"""Characters of Playwright's full message that are kept as evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyOptions:
    """What stands under `journey:`."""

    browser: Literal["chromium", "firefox", "webkit"] = "chromium"
    """Which browser it runs in."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Environment variables for the test, on top of those that stormwatch runs with."""
    secrets: Mapping[str, Secret] = field(default_factory=dict[str, str], repr=False)
    """What the fixture `secrets` gives the test, by name. It is masked in all that is kept of a run."""
    artifacts: Literal["on-failure", "always", "never"] = "on-failure"
    """When what `keep` names is kept."""
    keep: tuple[Literal["page", "trace", "har", "steps", "video"], ...] = ("page", "trace")
    """What is kept: a picture of each page, the Playwright trace, the requests as a HAR file, a picture after each step, a video."""
    artifacts_max_size: Bytes = JOURNEY_BYTES
    """How large the artifacts of all its runs together may become: the oldest runs go first."""
    artifacts_max_age: Seconds = KEEP_SECONDS
    """How old they may become."""
    base_url: str = ""
    """What relative addresses are relative to: pytest's `--base-url`."""
    observe: bool = True
    """Whether requests, Web Vitals and navigation timings are measured. It puts a small script into every page."""
    client: Client = field(default_factory=Client)
    """Who visits: device, language, place, network, certificates."""
    matrix: Matrix | None = None
    """Values of `client` (and of `browser`) to combine: the entry stands for a probe each."""


@dataclass(frozen=True, slots=True)
class JourneyCheck:
    """Runs one journey in a worker of the pool."""

    journey: Journey
    artifacts: Literal["on-failure", "always", "never"] = "on-failure"
    keep: tuple[str, ...] = ("page", "trace")
    observe: bool = True

    async def __call__(self, watch: Watch) -> None:
        """One run. Steps become phases; what is known of a failure becomes evidence."""
        folder = "" if self.artifacts == "never" else _folder(watch)
        report = await watch.resources.get(WorkerPool).run(
            self.journey,
            seconds=_inside(watch.remaining()),
            folder=folder,
            always=self.artifacts == "always",
            observe=self.observe,
            keep=self.keep,
            probe=watch.probe,
        )
        write_down(report, watch, folder)
        if report.outcome is Outcome.DOWN:
            raise ProbeFailed(report.reason, message_of(report), phase=report.step)
        if report.outcome is Outcome.BROKEN:
            raise ProbeBroken(report.reason, report.sentence, phase=report.step)


def message_of(report: Report) -> str:
    """What a run that was not up says in one sentence: the step, unless the sentence names it, and what was seen."""
    named = report.outcome is not Outcome.DOWN or not report.step or f'"{report.step}"' in report.sentence
    return report.sentence if named else f'step "{report.step}": {report.sentence}'


def _inside(remaining: float) -> float:
    # The worker's end comes a bit before ours, so that the run ends with the name of the step and not with a bare time-out.
    return max(0.01, remaining - min(0.25, remaining / 20))


def _folder(watch: Watch) -> str:
    moment = datetime.fromtimestamp(watch.clock.now(), UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    return f"{folder_of(watch.probe)}/{moment}Z-{watch.trace_id[:8]}"


def folder_of(probe: str) -> str:
    """The name of the folder that holds the artifacts of a probe's runs."""
    return "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in probe)


def limits_of(options: JourneyOptions) -> Limits:
    """What the artifacts of a journey are held to."""
    return Limits(seconds=options.artifacts_max_age, bytes=options.artifacts_max_size)


def write_down(report: Report, watch: Watch, folder: str) -> None:
    """Put what a worker said of a run into a watch: steps as phases, measures, evidence. Artifacts are below `folder`."""
    # First, so that it is the innermost step that failed and not the one around it.
    watch.failed_phase = report.step
    for step in report.steps:
        watch.add_phase(step.name, step.seconds, offset=step.offset, failed=step.failed)
    if report.seconds:
        watch.took(report.seconds)
    watch.measure(STEPS_COMPLETED.name, sum(not step.failed for step in report.steps))
    watch.measure(CONSOLE_ERRORS.name, report.console_error_count)
    if report.traffic.requests:
        _measure_traffic(report.traffic, watch)
    _measure_pages(report.pages, watch)
    evidence = {
        "step": report.step,
        "sentence": report.sentence,
        "soft_failures": [asdict(each) for each in report.soft_failures],
        "where": report.where,
        "url": report.url,
        "text": report.text[:TEXT],
        "console_errors": list(report.console_errors),
        "failed_requests": [each.as_json() for each in report.traffic.failures],
        "slowest_requests": [each.as_json() for each in report.traffic.slowest],
        "third_parties": _told(report.traffic.third_parties),
        "pages": [page.as_json() for page in report.pages],
        "artifacts": [f"{folder}/{name}" for name in report.artifacts],
        "no_video": report.no_video,
    }
    for key, value in evidence.items():
        if value:
            watch.note(key, value)


def _measure_traffic(traffic: TrafficReport, watch: Watch) -> None:
    # All types, each time: a series that comes and goes cannot be alerted on.
    for type_ in TYPES:
        share = traffic.by_type.get(type_, Share())
        labels = {"type": type_}
        watch.measure(REQUESTS.name, share.requests, **labels)
        watch.measure(RECEIVED.name, share.bytes, **labels)
        watch.measure(FAILED_REQUESTS.name, share.failed, **labels)
    watch.measure(THIRD_PARTY_REQUESTS.name, sum(share.requests for share in traffic.third_parties.values()))
    watch.measure(THIRD_PARTY_BYTES.name, sum(share.bytes for share in traffic.third_parties.values()))


def _measure_pages(pages: Sequence[PageView], watch: Watch) -> None:
    for name, metric in VITALS.items():
        seen = [value for page in pages if (value := getattr(page, name)) is not None]
        if seen:
            watch.measure(metric.name, max(seen))


def _told(parties: Mapping[str, Share]) -> list[dict[str, object]]:
    """Third parties, the one that took longest first."""
    order = sorted(parties.items(), key=lambda item: -item[1].seconds)
    return [
        {
            "domain": domain,
            "requests": share.requests,
            "bytes": share.bytes,
            "failed": share.failed,
            "seconds": round(share.seconds, 4),
        }
        for domain, share in order
    ]


def build(target: str, options: JourneyOptions) -> JourneyCheck:
    """A check from `path/test_x.py::test_y`. Raises ValueError if that names no file, or no test in it."""
    name, separator, test = target.partition("::")
    if not separator or not test or not name:
        raise ValueError(
            f"a journey is written like journeys/test_checkout.py::test_checkout, and journeys/ stands for all with the mark; "
            f"there is no {target}"
        )
    file = Path(name).absolute()
    if not file.is_file():
        raise ValueError(f"there is no file {file}: a journey is a pytest file, written path::test")
    try:
        options.client.check(options.browser)
    except ValueError as error:
        raise ValueError(f"client.{error}") from error
    if "video" in options.keep and options.artifacts != "never":
        _check_video(options)
    return JourneyCheck(
        Journey(
            file=file,
            test=test,
            browser=options.browser,
            base_url=options.base_url,
            environment=dict(options.environment),
            secrets=dict(options.secrets),
            client=options.client.as_text(),
        ),
        artifacts=options.artifacts,
        keep=options.keep,
        observe=options.observe,
    )


def _check_video(options: JourneyOptions) -> None:
    """Raises ValueError where no run of the journey could ever have a video."""
    if options.secrets or options.client.secrets:
        raise ValueError(
            "keep: a journey that is given secrets has no video, because nobody can take them out of the pixels: take `video` out "
            "of it; screenshots and traces are kept without them"
        )
    try:
        find_ffmpeg({**os.environ, **options.environment})
    except NoVideo as error:
        raise ValueError(f"keep: {error}") from error


KIND = Kind(
    name="journey",
    options=JourneyOptions,
    build=build,
    no_detour="drives a browser, whose connections are its own",
    phase_metric=STEP_SECONDS,
    metrics=(
        *(STEPS_COMPLETED, CONSOLE_ERRORS, REQUESTS, RECEIVED, FAILED_REQUESTS),
        *(THIRD_PARTY_REQUESTS, THIRD_PARTY_BYTES, *VITALS.values()),
    ),
    reasons=frozenset(
        {Reason.TIMEOUT, Reason.ASSERTION, Reason.STEP, Reason.TOO_SLOW, Reason.BROWSER, Reason.COLLECTION}
    ),
    target_is_file=True,
    told=told_of,
    variants=variants,
)
