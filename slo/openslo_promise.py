"""OpenSLO's SLOs as promises of ours. What our engine cannot keep is refused, with the place and the reason."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Final

from stormwatch.slo.indicator import Indicator, NotOurs, of_error_ratio, of_ratio, of_success_ratio, of_threshold
from stormwatch.slo.openslo import (
    SLI,
    SLO,
    DataSource,
    Metric,
    Objective,
    RatioMetric,
    SLISpec,
    TimeWindow,
    dns_label,
)
from stormwatch.slo.openslo_alerts import burns as burns_of
from stormwatch.slo.openslo_annotation import Ours, annotations_of
from stormwatch.slo.openslo_library import Library, missing
from stormwatch.slo.promise import NotCarried, Place, Promise, Refusal

MONTHS: Final = 24
"""Minutes up to which somebody who wrote `m` may have meant months: OpenSLO's own example did."""
_CALENDARS: Final[Mapping[str, str]] = {"1w": "week", "1M": "month", "1Q": "quarter"}


def promises(slo: SLO, library: Library) -> Iterator[Promise | Refusal]:
    """What an SLO promises, objective by objective."""
    for index, objective in enumerate(slo.spec.objectives):
        name = _name(slo, index)
        place: Place = ("spec", "objectives", index)
        try:
            yield _promise(slo, objective, name, place, library)
        except NotCarried as refused:
            yield Refusal(name=name, place=refused.place, sentence=refused.sentence)


def _promise(slo: SLO, objective: Objective, name: str, place: Place, library: Library) -> Promise:
    spec = slo.spec
    ours = annotations_of(slo.metadata, ("metadata", "annotations"))
    if any(each.indicator or each.indicator_ref for each in spec.objectives):
        raise NotCarried(
            place, "is part of a composite SLO, and an objective of ours has one indicator: write an SLO for each"
        )
    # In the order of what can be mended least: a query about other things, then the way of counting, then the window.
    indicator = _indicator(slo, objective, place, library, ours)
    slice_seconds, slice_target = _slices(slo, objective, place, ours)
    notes = list(indicator.notes)
    window, calendar, timezone = _window(spec.time_window[0], ours, notes)
    target = objective.target if objective.target is not None else (objective.target_percent or Fraction(0)) / 100
    if target == 0:
        raise NotCarried((*place, "target"), "promises nothing; an objective of ours promises more than 0%")
    if spec.description:
        notes.insert(0, spec.description)
    burns = None if ours.policy else burns_of(spec, library, notes)
    return Promise(
        name=ours.name or name,
        place=place,
        indicator=indicator,
        target=target,
        window=window,
        calendar=calendar,
        timezone=timezone,
        slice_seconds=slice_seconds,
        slice_target=slice_target,
        labels=_labels(slo, ours),
        runbook=ours.runbook,
        policy=ours.policy,
        burns=burns,
        notes=tuple(notes),
    )


def _name(slo: SLO, index: int) -> str:
    """That of the SLO; with several objectives, and what sets this one apart behind it."""
    name, objectives = slo.metadata.name, slo.spec.objectives
    if len(objectives) == 1:
        return name
    titles = [dns_label(each.display_name) for each in objectives]
    own = titles[index] if titles[index] and titles.count(titles[index]) == 1 else str(index + 1)
    return f"{name}-{own}"


def _labels(slo: SLO, ours: Ours) -> dict[str, str]:
    given = {key: value if isinstance(value, str) else ",".join(value) for key, value in slo.metadata.labels.items()}
    # What we wrote has a service only because OpenSLO wants one.
    return {**given, **ours.labels} if ours.name else {"service": slo.spec.service, **given}


def _window(window: TimeWindow, ours: Ours, notes: list[str]) -> tuple[float, str, str]:
    duration = window.duration
    place: Place = ("spec", "timeWindow", 0)
    if ours.window is None and duration.unit == "m" and (duration.count <= MONTHS or not window.is_rolling):
        raise NotCarried(
            (*place, "duration"),
            f"{duration} is {duration.count} minute{'s' if duration.count > 1 else ''}; "
            f"for months write {duration.count}M, with a capital letter",
        )
    if window.is_rolling:
        if not duration.steady:
            notes.append(
                f"a rolling window of {duration} is taken as {duration.seconds // 86400}d, as OpenSLO's SDK does"
            )
        return ours.window or float(duration.seconds), "", ""
    assert window.calendar is not None
    calendar = _CALENDARS.get(str(duration))
    if calendar is None:
        raise NotCarried(
            (*place, "duration"),
            f"a calendar window of {duration} is none of ours: week (1w), month (1M), quarter (1Q); or make it rolling",
        )
    _check_start(calendar, window.calendar.start_time, (*place, "calendar", "startTime"))
    return float(duration.seconds), calendar, window.calendar.time_zone


def _check_start(calendar: str, text: str, place: Place) -> None:
    start = datetime.fromisoformat(text)
    sound, usual = {
        "week": (start.weekday() == 0, "on a Monday"),
        "month": (start.day == 1, "on the first of a month"),
        "quarter": (start.day == 1 and start.month % 3 == 1, "on the first of January, April, July or October"),
    }[calendar]
    if not sound or (start.hour, start.minute, start.second) != (0, 0, 0):
        raise NotCarried(
            place, f"begins {start:%A %Y-%m-%d %H:%M:%S}, and a {calendar} of ours begins {usual} at 00:00:00"
        )


def _slices(slo: SLO, objective: Objective, place: Place, ours: Ours) -> tuple[float | None, Fraction | None]:
    method = slo.spec.budgeting_method
    if method == "Occurrences":
        return None, None
    if method == "RatioTimeslices":
        raise NotCarried(
            ("spec", "budgetingMethod"),
            "RatioTimeslices average the shares of slices; ours are Occurrences (all runs count alike), and "
            "Timeslices (slices are good or bad)",
        )
    assert objective.time_slice_window is not None
    assert objective.time_slice_target is not None
    if not objective.time_slice_window.steady:
        raise NotCarried(
            (*place, "timeSliceWindow"), f"a slice of {objective.time_slice_window} has no length of its own"
        )
    return ours.slice_seconds or float(objective.time_slice_window.seconds), objective.time_slice_target


def _indicator(slo: SLO, objective: Objective, place: Place, library: Library, ours: Ours) -> Indicator:
    spec = slo.spec
    if ours.probes:
        return Indicator(
            match={},
            probes=ours.probes,
            slower_than=ours.slower_than,
            step=ours.step,
            expires_within=ours.expires_within,
        )
    at: Place = ("spec", "indicator", "spec")
    if spec.indicator is not None:
        sli = spec.indicator.spec
    else:
        assert spec.indicator_ref is not None
        found = library.objects.get(("SLI", spec.indicator_ref))
        at = ("spec", "indicatorRef")
        if not isinstance(found, SLI):
            raise NotCarried(at, missing("SLI", spec.indicator_ref))
        sli = found.spec
    try:
        return _measured(sli, objective, place, at, library)
    except NotOurs as error:
        raise NotCarried(at, str(error)) from error


def _measured(sli: SLISpec, objective: Objective, place: Place, at: Place, library: Library) -> Indicator:
    if sli.threshold_metric is not None:
        if objective.op is None or objective.value is None:
            raise NotCarried(place, "a thresholdMetric is compared with something; add `op:` and `value:`")
        return of_threshold(_query(sli.threshold_metric, at, library), objective.op, objective.value)
    metric = sli.ratio_metric
    assert metric is not None
    return _of_ratio(metric, at, library)


def _of_ratio(metric: RatioMetric, at: Place, library: Library) -> Indicator:
    if metric.raw is not None:
        query = _query(metric.raw, at, library)
        return of_error_ratio(query) if metric.raw_type == "failure" else of_success_ratio(query)
    assert metric.total is not None
    total = _query(metric.total, at, library)
    if metric.good is not None:
        return of_ratio(good=_query(metric.good, at, library), total=total)
    assert metric.bad is not None
    return of_ratio(bad=_query(metric.bad, at, library), total=total)


def _query(metric: Metric, at: Place, library: Library) -> str:
    source = metric.metric_source
    kind = source.type
    if not kind:
        if not source.metric_source_ref:
            raise NotCarried(at, "the query has neither a type nor a metricSourceRef, so nobody knows whose it is")
        found = library.objects.get(("DataSource", source.metric_source_ref))
        if not isinstance(found, DataSource):
            raise NotCarried(at, missing("DataSource", source.metric_source_ref))
        kind = found.spec.type
    if kind.lower() != "prometheus":
        raise NotCarried(
            at, f"asks a data source of type {kind}; read are queries for Prometheus about runs of our probes"
        )
    query = source.spec.get("query")
    if not isinstance(query, str) or not query.strip():
        raise NotCarried(at, "a query for Prometheus stands under spec.query, and there is none")
    return query
