"""OpenSLO v1: the objects of its documents, and what each of their fields may hold.

Source: the specification at https://github.com/OpenSLO/OpenSLO, and where it leaves room the checks of its SDK,
https://github.com/OpenSLO/go-sdk, so that what passes here passes `oslo validate`. What several fields must be together
stands in `openslo_rules`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

VERSION: Final = "openslo/v1"
ENTRY = ConfigDict(extra="forbid", alias_generator=to_camel)

MINUTE, HOUR, DAY, WEEK = 60, 3600, 86400, 604800
UNITS: Final[Mapping[str, int]] = {"m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
"""Seconds of the units that always have the same length."""
CALENDAR: Final[Mapping[str, int]] = {"M": 30 * DAY, "Q": 90 * DAY, "Y": 365 * DAY}
"""Seconds that OpenSLO's SDK takes months, quarters and years for."""

LONGEST_NAME = 63
LONGEST_DESCRIPTION = 1050

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_KEY = re.compile(r"[a-zA-Z0-9](?:[-._a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")
_START = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_DURATION = re.compile(r"([1-9][0-9]{0,5})([mhdwMQY])")


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration as OpenSLO writes it. `m` is a minute, `M` a month."""

    count: int
    unit: str

    @property
    def seconds(self) -> int:
        """Its length; months count 30 days, quarters 90, years 365, as in OpenSLO's SDK."""
        return self.count * (UNITS | CALENDAR)[self.unit]

    @property
    def steady(self) -> bool:
        """Whether it has the same length at all times."""
        return self.unit in UNITS

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.count}{self.unit}"


def parse_shorthand(text: object) -> Duration:
    """A duration from `5m`, `4w`, `1M`. Raises ValueError for anything else, and says how it is written."""
    if isinstance(text, str) and (match := _DURATION.fullmatch(text)):
        return Duration(int(match[1]), match[2])
    wanted = (
        "a duration of OpenSLO is a whole number above 0 and one of m (minutes), h, d, w, M (months), Q, Y, like 30d"
    )
    seen = f"{text!r}"
    if isinstance(text, str) and re.search(r"\d(?:ms|s)$", text):
        seen += "; it has nothing shorter than a minute"
    elif isinstance(text, str) and len(parts := re.findall(r"(\d+)([mhdw])", text)) > 1:
        total = sum(int(number) * UNITS[unit] for number, unit in parts)
        seen += f"; write {shorthand(total)}"
    raise ValueError(f"{wanted}, not {seen}")


def shorthand(seconds: float) -> str:
    """The shortest way to write so many seconds, rounded up to whole minutes; a minute at the least."""
    minutes = max(1, -(-round(seconds * 1000) // (MINUTE * 1000)))
    size, unit = next((size, unit) for unit, size in reversed(UNITS.items()) if minutes * MINUTE % size == 0)
    return f"{minutes * MINUTE // size}{unit}"


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        near = dns_label(name)
        hint = f"; write {near}" if near else ""
        raise ValueError(
            f"a name is up to {LONGEST_NAME} lower-case letters, digits and '-', with a letter or digit at both ends "
            f"(RFC 1123), not {name!r}{hint}"
        )
    return name


def dns_label(text: str) -> str:
    """A name by RFC 1123 that is near to a text; empty when no letter and no digit is in it."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST_NAME].rstrip("-")


def _check_key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(
            f"the name of a label is up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends, "
            f"not {key!r}"
        )
    return key


def _check_annotation(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    sound = _KEY.fullmatch(name) and len(prefix) <= 253 and all(_NAME.fullmatch(part) for part in prefix.split("."))
    if not (sound if slash else _KEY.fullmatch(name)):
        raise ValueError(f"the name of an annotation is written like key or example.com/key, not {key!r}")
    return key


def _check_start(text: str) -> str:
    try:
        sound = bool(_START.fullmatch(text)) and bool(datetime.fromisoformat(text))
    except ValueError:
        sound = False
    if not sound:
        raise ValueError(f"a start is written like 2026-01-01 00:00:00, without a time zone, not {text!r}")
    return text


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"a time zone is a name of the IANA database like Europe/Berlin or UTC, not {name!r}"
        ) from None
    return name


def _exact(value: object) -> Fraction:
    """The decimal as it was written: YAML's binary number is read back to the shortest decimal that means it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Fraction(repr(value))
    raise ValueError(f"wanted a number, not {value!r}")


def _shorthand_or_minutes(value: object) -> Duration:
    """A slice may also be a bare number of minutes."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return Duration(value, "m")
    return parse_shorthand(value)


_DURATION_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"})

ObjectName = Annotated[str, AfterValidator(_check_name)]
DisplayName = Annotated[str, Field(max_length=LONGEST_NAME)]
Description = Annotated[str, Field(max_length=LONGEST_DESCRIPTION)]
Shorthand = Annotated[Duration, BeforeValidator(parse_shorthand), _DURATION_SCHEMA]
Slice = Annotated[
    Duration,
    BeforeValidator(_shorthand_or_minutes),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
]
Number = Annotated[Fraction, BeforeValidator(_exact), WithJsonSchema({"type": "number"})]
Operator = Literal["lte", "gte", "lt", "gt"]
Text = Annotated[str, Field(min_length=1)]
Budgeting = Literal["Occurrences", "Timeslices", "RatioTimeslices"]


Labels = Mapping[Annotated[str, AfterValidator(_check_key)], str | tuple[str, ...]]
Annotations = Mapping[Annotated[str, AfterValidator(_check_annotation)], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What every object has."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    name: ObjectName
    display_name: DisplayName = ""
    labels: Labels = field(default_factory=dict[str, str | tuple[str, ...]])
    annotations: Annotations = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSource:
    """A query. What it looks like depends on the data source, so anything may stand in `spec`."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    metric_source_ref: ObjectName = ""
    type: str = ""
    spec: Annotated[Mapping[str, Any], Field(min_length=1)] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric of an indicator."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    metric_source: MetricSource


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioMetric:
    """Good or bad events of all events, or a ratio that is there already (`raw`)."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    counter: bool = False
    good: Metric | None = None
    bad: Metric | None = None
    total: Metric | None = None
    raw_type: Literal["success", "failure"] | None = None
    raw: Metric | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SLISpec:
    """How a service level is measured: one of the two metrics."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    description: Description = ""
    threshold_metric: Metric | None = None
    ratio_metric: RatioMetric | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineSLI:
    """An indicator that stands in its SLO."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    metadata: Metadata
    spec: SLISpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A target."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    display_name: str = ""
    op: Operator | None = None
    """How the value of a threshold metric compares with `value` when it is good."""
    value: Number | None = None
    target: Number | None = None
    """Share that must be good, 0 ≤ target < 1."""
    target_percent: Number | None = None
    """The same in percent."""
    time_slice_target: Number | None = None
    time_slice_window: Slice | None = None
    indicator: InlineSLI | None = None
    """Of a composite SLO only."""
    indicator_ref: ObjectName | None = None
    composite_weight: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Where the first window begins."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    start_time: Annotated[str, AfterValidator(_check_start)]
    time_zone: Annotated[str, AfterValidator(_check_zone)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeWindow:
    """The time over which an SLO is counted."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    duration: Shorthand
    is_rolling: bool = False
    calendar: Calendar | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How fast the budget must burn for an alert."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    kind: Literal["burnrate"] = "burnrate"
    op: Operator
    threshold: Number
    lookback_window: Shorthand
    alert_after: Shorthand | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertConditionSpec:
    """A condition and how bad it is."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    description: Description = ""
    severity: Text
    condition: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionItem:
    """A condition of a policy: a reference, or the condition itself."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    condition_ref: ObjectName | None = None
    kind: Literal["AlertCondition"] | None = None
    metadata: Metadata | None = None
    spec: AlertConditionSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationTargetSpec:
    """Who is told."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    target: Text
    description: Description = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetItem:
    """A notification target of a policy: a reference, or the target itself."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    target_ref: ObjectName | None = None
    kind: Literal["AlertNotificationTarget"] | None = None
    metadata: Metadata | None = None
    spec: NotificationTargetSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPolicySpec:
    """When an alert is sent, and to whom. Version 1 has one condition, in a list."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    description: Description = ""
    alert_when_no_data: bool = False
    alert_when_resolved: bool = False
    alert_when_breaching: bool = False
    conditions: tuple[ConditionItem, ...]
    notification_targets: tuple[TargetItem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyItem:
    """An alert policy of an SLO: a reference, or the policy itself."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    alert_policy_ref: ObjectName | None = None
    kind: Literal["AlertPolicy"] | None = None
    metadata: Metadata | None = None
    spec: AlertPolicySpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SLOSpec:
    """A promise."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    description: Description = ""
    service: Text
    indicator: InlineSLI | None = None
    indicator_ref: ObjectName | None = None
    time_window: tuple[TimeWindow, ...] = ()
    budgeting_method: Budgeting
    objectives: tuple[Objective, ...]
    alert_policies: tuple[PolicyItem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSourceSpec:
    """Where queries go. The details may hold secrets and are never shown."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    description: Description = ""
    type: Text
    connection_details: Any = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """A group of SLOs."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    description: Description = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SLO:
    """kind: SLO."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    metadata: Metadata
    spec: SLOSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SLI:
    """kind: SLI."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    metadata: Metadata
    spec: SLISpec


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPolicy:
    """kind: AlertPolicy."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    metadata: Metadata
    spec: AlertPolicySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertCondition:
    """kind: AlertCondition."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    metadata: Metadata
    spec: AlertConditionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertNotificationTarget:
    """kind: AlertNotificationTarget."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    metadata: Metadata
    spec: NotificationTargetSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """kind: DataSource."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    metadata: Metadata
    spec: DataSourceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """kind: Service."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()


Object = DataSource | SLO | SLI | AlertPolicy | AlertCondition | AlertNotificationTarget | Service
KINDS: Final[Mapping[str, type[Object]]] = {
    kind.__name__: kind
    for kind in (DataSource, SLO, SLI, AlertPolicy, AlertCondition, AlertNotificationTarget, Service)
}
"""The kinds of object, by the name that stands under `kind`."""
