"""What Prometheus scrapes of us and whom it tells of alerts, compared with what it needs for our rules."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from stormwatch.probes.units import show_duration
from stormwatch.slo.drift import MISSED, SHORTEST_STALE, Finding

DISCOVERED = frozenset({"target-missing", "alertmanager-missing"})
"""Findings that are true of every Prometheus for some seconds after it was started or reloaded."""

UNKNOWN = "unknown"
"""Health of a target that was not scraped yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What Prometheus scrapes, and how that goes."""

    url: str
    """Without user and password."""
    job: str
    health: str
    """`up`, `down`, or `unknown` before the first scrape."""
    error: str = ""
    scraped: float | None = None
    """Unix time of the last scrape. None: never."""
    interval: float
    """Seconds between two scrapes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraping:
    """What a Prometheus knows of us, and whom it tells."""

    now: float
    """Unix time by its clock."""
    loaded: float
    """Unix time since when its configuration is in force."""
    reloaded: bool
    """Whether the last reload of its configuration succeeded."""
    targets: Sequence[Target]
    """Of the job."""
    honors_labels: bool | None
    """Whether the job keeps our labels. None: there is no such job in the file, so nothing is known of it."""
    probes: Collection[str]
    """Probes of which it has metrics."""
    has_ours: bool
    """Whether it has `stormwatch_build_info`."""
    alertmanagers: Sequence[str]
    """Addresses that it sends alerts to."""


def drift_of_scraping(
    seen: Scraping, *, job: str, probes: Iterable[str], interval: float, listen: str = "", alertmanager: str = ""
) -> list[Finding]:
    """Every way in which our metrics do not arrive, or alerts go nowhere.

    `interval` is how many seconds there may be between two scrapes. `listen` is the `host:port` that must be among the
    targets, `alertmanager` the address that alerts must be sent to; empty: any.
    """
    return [
        *_of_reload(seen),
        *_of_targets(seen, job, interval, listen),
        *_of_metrics(seen, job, probes),
        *_of_alertmanagers(seen, alertmanager),
    ]


def _of_reload(seen: Scraping) -> Iterable[Finding]:
    if not seen.reloaded:
        yield Finding(
            what="reload-failed",
            subject="Prometheus",
            expected="the last reload succeeded",
            seen=f"it failed; what runs was loaded {show_duration(round(seen.now - seen.loaded))} ago",
            remedy="run `promtool check config` on its configuration, mend what it says, and reload it",
        )


def _of_targets(seen: Scraping, job: str, interval: float, listen: str) -> Iterable[Finding]:
    wanted = f"a target {listen} of the job {job}" if listen else f"a target of the job {job}"
    if not [target for target in seen.targets if not listen or urlsplit(target.url).netloc == listen]:
        yield Finding(
            what="target-missing",
            subject=job,
            expected=wanted,
            seen=", ".join(target.url for target in seen.targets) or "none",
            remedy="add what `stormwatch rules --for scrape` writes to scrape_configs, and reload Prometheus",
        )
    for target in seen.targets:
        if target.health == "down":
            yield Finding(
                what="target-down",
                subject=target.url,
                expected="up",
                seen=target.error or "down, and Prometheus does not say why",
                remedy="start `stormwatch run` there, or correct the address: without its metrics no rule sees anything",
            )
        elif seen.now - (target.scraped or seen.loaded) > max(SHORTEST_STALE, MISSED * target.interval):
            yield Finding(
                what="target-stale",
                subject=target.url,
                expected=f"scraped every {show_duration(target.interval)}",
                seen=f"last scraped {show_duration(round(seen.now - target.scraped))} ago"
                if target.scraped
                else "never scraped",
                remedy="see whether Prometheus is overloaded or stands still",
            )
        if target.interval > interval:
            yield Finding(
                what="scrape-interval",
                subject=target.url,
                expected=f"{show_duration(interval)} or less",
                seen=show_duration(target.interval),
                remedy=f"set scrape_interval of the job {job}: alerts come so much later, and short windows miss results",
            )
    if seen.honors_labels is False:
        yield Finding(
            what="honor-labels",
            subject=job,
            expected="honor_labels: true",
            seen="honor_labels: false",
            remedy=f"set honor_labels of the job {job}, else `instance` is the prober and no longer what was probed",
        )


def _of_metrics(seen: Scraping, job: str, probes: Iterable[str]) -> Iterable[Finding]:
    if not any(target.health == "up" for target in seen.targets):
        return
    if not seen.has_ours:
        yield Finding(
            what="metrics-missing",
            subject=job,
            expected="stormwatch_build_info",
            seen="no such series",
            remedy="see whether another program answers at the target, and whether relabelling drops our series",
        )
        return
    for probe in probes:
        if probe not in seen.probes:
            yield Finding(
                what="probe-missing",
                subject=probe,
                expected=f'stormwatch_maintenance{{probe="{probe}"}}',
                seen="no such series",
                remedy="restart `stormwatch run` with this configuration: it runs with another one",
            )


def _of_alertmanagers(seen: Scraping, wanted: str) -> Iterable[Finding]:
    addresses = [f"{urlsplit(each).scheme}://{urlsplit(each).netloc}" for each in seen.alertmanagers]
    if not addresses:
        yield Finding(
            what="alertmanager-missing",
            subject="Prometheus",
            expected=wanted or "an Alertmanager",
            seen="none: alerts fire and nobody is told",
            remedy="add it under alerting.alertmanagers of Prometheus, and reload it",
        )
    elif wanted and urlsplit(wanted).netloc.rpartition("@")[2] not in [urlsplit(each).netloc for each in addresses]:
        yield Finding(
            what="alertmanager-missing",
            subject="Prometheus",
            expected=wanted,
            seen=", ".join(addresses),
            remedy="add it under alerting.alertmanagers of Prometheus; if it is one of these by another name, give "
            "--alertmanager as Prometheus calls it",
        )
