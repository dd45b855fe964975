"""Sloth's specifications: `prometheus/v1` files, the resource `PrometheusServiceLevel`, and `AlertWindows`.

Source: the types at https://github.com/slok/sloth, `pkg/prometheus/api/v1`, `pkg/kubernetes/api/sloth/v1` and
`pkg/prometheus/alertwindows/v1`. The resource has the same fields as the file, written in camel case.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from stormwatch.probes.units import parse_duration
from stormwatch.slo.openslo import Number

FILE = ConfigDict(extra="forbid")
RESOURCE = ConfigDict(extra="forbid", alias_generator=to_camel)

FILE_VERSION: Final = "prometheus/v1"
RESOURCE_VERSION: Final = "sloth.slok.dev/v1"

Place = tuple[str | int, ...]
Breach = tuple[Place, str]
"""Where, and the sentence that says what is wrong."""

_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"a name is letters, digits, '-', '_' and '.', with a letter or digit at both ends, not {name!r}"
        )
    return name


Name = Annotated[str, AfterValidator(_check_name)]
Labels = Mapping[str, str]
Text = Annotated[str, Field(min_length=1)]
Period = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema({"type": "string"})]


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A query of the share that is bad."""

    __pydantic_config__: ClassVar[ConfigDict] = FILE

    error_ratio_query: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Queries of the bad events and of all."""

    __pydantic_config__: ClassVar[ConfigDict] = FILE

    error_query: Text
    total_query: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A program that makes the queries."""

    __pydantic_config__: ClassVar[ConfigDict] = FILE

    id: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class SLI:
    """How it is measured: one of these."""

    __pydantic_config__: ClassVar[ConfigDict] = FILE

    raw: Raw | None = None
    events: Events | None = None
    plugin: Plugin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One of the two alerts."""

    __pydantic_config__: ClassVar[ConfigDict] = FILE

    disable: bool = False
    labels: Labels = field(default_factory=dict[str, str])
    annotations: Labels = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerting:
    """The alerts of an SLO."""

    __pydantic_config__: ClassVar[ConfigDict] = FILE

    name: str = ""
    labels: Labels = field(default_factory=dict[str, str])
    annotations: Labels = field(default_factory=dict[str, str])
    page_alert: Alert = Alert()
    ticket_alert: Alert = Alert()


@dataclass(frozen=True, slots=True, kw_only=True)
class SLO:
    """A promise."""

    __pydantic_config__: ClassVar[ConfigDict] = FILE

    name: Name
    description: str = ""
    objective: Number
    """Percent."""
    plugins: Any = None
    labels: Labels = field(default_factory=dict[str, str])
    sli: SLI
    alerting: Alerting = Alerting()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A service and its promises."""

    __pydantic_config__: ClassVar[ConfigDict] = FILE

    version: Literal["prometheus/v1"] = "prometheus/v1"
    service: Name
    labels: Labels = field(default_factory=dict[str, str])
    slo_plugins: Any = None
    slos: Annotated[tuple[SLO, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRaw(Raw):
    """`Raw` in camel case."""

    __pydantic_config__: ClassVar[ConfigDict] = RESOURCE


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceEvents(Events):
    """`Events` in camel case."""

    __pydantic_config__: ClassVar[ConfigDict] = RESOURCE


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSLI(SLI):
    """`SLI` in camel case."""

    __pydantic_config__: ClassVar[ConfigDict] = RESOURCE

    raw: ResourceRaw | None = None
    events: ResourceEvents | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceAlerting(Alerting):
    """`Alerting` in camel case."""

    __pydantic_config__: ClassVar[ConfigDict] = RESOURCE


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSLO(SLO):
    """`SLO` in camel case."""

    __pydantic_config__: ClassVar[ConfigDict] = RESOURCE

    sli: ResourceSLI
    alerting: ResourceAlerting = ResourceAlerting()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSpec:
    """`Spec` in camel case; the resource tells the version."""

    __pydantic_config__: ClassVar[ConfigDict] = RESOURCE

    service: Name
    labels: Labels = field(default_factory=dict[str, str])
    slo_plugins: Any = None
    slos: Annotated[tuple[ResourceSLO, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """kind: PrometheusServiceLevel. Metadata and status are Kubernetes' business."""

    __pydantic_config__: ClassVar[ConfigDict] = RESOURCE

    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    spec: ResourceSpec
    status: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One pair of windows, and the share of the budget in percent that it lets go."""

    __pydantic_config__: ClassVar[ConfigDict] = RESOURCE

    error_budget_percent: Number
    short_window: Period
    long_window: Period


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPair:
    """Two pairs for one alert."""

    __pydantic_config__: ClassVar[ConfigDict] = RESOURCE

    quick: Window
    slow: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertWindowsSpec:
    """Which windows are looked at for SLOs of a period."""

    __pydantic_config__: ClassVar[ConfigDict] = RESOURCE

    slo_period: Period
    page: WindowPair
    ticket: WindowPair


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertWindows:
    """kind: AlertWindows."""

    __pydantic_config__: ClassVar[ConfigDict] = RESOURCE

    spec: AlertWindowsSpec


def breaches(spec: Spec | ResourceSpec) -> Iterator[Breach]:
    """What several fields of a specification must be together, as sloth checks it too."""
    seen: set[str] = set()
    for index, slo in enumerate(spec.slos):
        place: Place = ("slos", index)
        if slo.name in seen:
            yield (*place, "name"), f"another SLO of this service is called {slo.name} too; give each its own name"
        seen.add(slo.name)
        if not 0 < slo.objective <= 100:
            yield (*place, "objective"), f"wanted percent above 0 and at most 100, not {float(slo.objective):.12g}"
        elif slo.objective < 1:
            remedy = f"; write {float(slo.objective * 100):g} for {float(slo.objective * 100):g}%"
            yield (*place, "objective"), f"wanted percent like 99.9, not {float(slo.objective):g}{remedy}"
        given = [name for name in ("raw", "events", "plugin") if getattr(slo.sli, name) is not None]
        if len(given) != 1:
            said = f"{' and '.join(given)} are given; give one of them" if given else "add `events:` or `raw:`"
            yield (*place, "sli"), f"an SLO is measured in one way; {said}"
        alerting = slo.alerting
        if not alerting.name and not (alerting.page_alert.disable and alerting.ticket_alert.disable):
            yield (
                (*place, "alerting") if alerting != type(alerting)() else place,
                "its alerts have no name; add `alerting.name:`",
            )


def breaches_of_windows(windows: AlertWindows) -> Iterator[Breach]:
    """What windows must be."""
    spec = windows.spec
    for alert, pair in (("page", spec.page), ("ticket", spec.ticket)):
        for pace, window in (("quick", pair.quick), ("slow", pair.slow)):
            place: Place = ("spec", alert, pace)
            if not 0 < window.error_budget_percent <= 100:
                yield (
                    (*place, "errorBudgetPercent"),
                    f"wanted percent above 0, not {float(window.error_budget_percent):g}",
                )
            if not 0 < window.short_window <= window.long_window <= spec.slo_period:
                yield place, "shortWindow is to be at most longWindow, and that at most sloPeriod"
