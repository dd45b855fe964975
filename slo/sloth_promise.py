"""Sloth's SLOs as promises of ours, with the names, labels and alerts that they have there."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from stormwatch.probes.units import show_duration
from stormwatch.slo.alert import Severity
from stormwatch.slo.indicator import Indicator, NotOurs, of_error_ratio, of_ratio
from stormwatch.slo.policy import DAY, POLICIES, Burn
from stormwatch.slo.promise import NotCarried, Place, Promise, Refusal
from stormwatch.slo.sloth import SLO, AlertWindows, ResourceSpec, Spec

PERIOD: Final = 30.0 * DAY
"""Seconds that sloth counts over when nobody says otherwise."""
BUILT_IN: Final = frozenset({28.0 * DAY, PERIOD})
"""Periods that sloth has windows for: those of the workbook."""
_RUNBOOKS: Final = ("runbook", "runbook_url", "runbookURL")


def promises(
    spec: Spec | ResourceSpec, *, period: float = PERIOD, windows: AlertWindows | None = None
) -> Iterator[Promise | Refusal]:
    """What a specification promises. `windows` are those of the period, if it has other ones than sloth's own."""
    for index, slo in enumerate(spec.slos):
        place: Place = ("slos", index)
        try:
            yield _promise(spec, slo, place, period, windows)
        except NotCarried as refused:
            yield Refusal(name=slo.name, place=refused.place, sentence=refused.sentence)


def _promise(spec: Spec | ResourceSpec, slo: SLO, place: Place, period: float, windows: AlertWindows | None) -> Promise:
    if spec.slo_plugins or slo.plugins:
        raise NotCarried(place, "plugins change its rules by programs of their own, and those cannot be carried over")
    indicator = _indicator(slo, (*place, "sli"))
    if slo.objective == 100:
        raise NotCarried(
            (*place, "objective"), "100% leaves no budget, so the first failure ends it; promise less, like 99.9"
        )
    notes = [*([slo.description] if slo.description else []), *indicator.notes]
    burns = _burns(slo, windows, notes)
    if burns is None and period not in BUILT_IN:
        notes.append(
            f"sloth has no windows for {show_duration(period)}: those of the policy workbook shrink with the period"
        )
    notes += _differences(slo)
    labels = {**spec.labels, **slo.labels, **slo.alerting.labels}
    if labels.get("service", spec.service) != spec.service:
        notes.append(f"the label service is {spec.service}, as sloth_service was, and not {labels['service']}")
    annotations = slo.alerting.annotations
    return Promise(
        name=slo.name,
        or_name=f"{spec.service}-{slo.name}",
        place=place,
        indicator=indicator,
        target=slo.objective / 100,
        window=period,
        labels={**labels, "service": spec.service},
        runbook=next((annotations[key] for key in _RUNBOOKS if annotations.get(key, "").startswith("http")), ""),
        burns=burns,
        notes=tuple(notes),
    )


def _indicator(slo: SLO, place: Place) -> Indicator:
    sli = slo.sli
    if sli.plugin is not None:
        raise NotCarried(place, f"is measured by the plugin {sli.plugin.id}, a program of its own")
    try:
        if sli.events is not None:
            return of_ratio(bad=sli.events.error_query, total=sli.events.total_query)
        assert sli.raw is not None
        return of_error_ratio(sli.raw.error_ratio_query)
    except NotOurs as error:
        raise NotCarried(place, str(error)) from error


def _burns(slo: SLO, windows: AlertWindows | None, notes: list[str]) -> tuple[Burn, ...] | None:
    """The burn rates of its alerts; None when they are those of our default policy."""
    disabled = {Severity.PAGE: slo.alerting.page_alert.disable, Severity.TICKET: slo.alerting.ticket_alert.disable}
    if windows is None and not any(disabled.values()):
        return None
    every = tuple(_of_windows(windows)) if windows else _of_workbook()
    told = tuple(burn for burn in every if not disabled[burn.severity])
    if told:
        return told
    # Ours always has rules: those that tell nobody but who asked for infos are the nearest to none.
    notes.append("its alerts were disabled: what would be a ticket is an info here, and there is no page")
    return tuple(replace(burn, severity=Severity.INFO) for burn in every if burn.severity is Severity.TICKET)


def _of_windows(windows: AlertWindows) -> Iterator[Burn]:
    for severity, pair in ((Severity.PAGE, windows.spec.page), (Severity.TICKET, windows.spec.ticket)):
        for window in (pair.quick, pair.slow):
            yield Burn(
                severity=severity,
                long=window.long_window,
                short=window.short_window,
                share=window.error_budget_percent / 100,
                literal=True,
            )


def _of_workbook() -> tuple[Burn, ...]:
    """Sloth's own windows are the workbook's, with the same share of the budget for 28 days as for 30."""
    return tuple(replace(burn, literal=True) for burn in POLICIES["workbook"].burns)


def _differences(slo: SLO) -> Iterator[str]:
    """What its alerts have in sloth and not here."""
    alerting = slo.alerting
    if alerting.name:
        yield f"its alert {alerting.name} is called ErrorBudgetBurn here, with the label objective: {slo.name}"
    for severity, alert in (("page", alerting.page_alert), ("ticket", alerting.ticket_alert)):
        if alert.labels and not alert.disable:
            yield f"the labels {_shown(alert.labels)} were those of its {severity} alert; here it has severity: {severity}"
        if alert.annotations and not alert.disable:
            yield f"the annotations {', '.join(alert.annotations)} of its {severity} alert are not carried over"
    others = [key for key in alerting.annotations if key not in _RUNBOOKS]
    if others:
        yield f"the annotations {', '.join(others)} of its alerts are not carried over: they say what burns here"


def _shown(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in labels.items())
