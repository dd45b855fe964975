"""The entries of stormwatch.yaml, as users write them.

From these classes come the checks, the JSON Schema and the reference; everything behind `harness.config` gets the frozen
values of the other packages instead.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from stormwatch.chaos.address import parse_address
from stormwatch.chaos.route import Route
from stormwatch.exporters.flapping import USUAL
from stormwatch.exporters.hours import Hours
from stormwatch.exporters.sms_gateway import ANSWER_ID as SMS_ANSWER_ID
from stormwatch.exporters.sms_gateway import FIELDS as SMS_FIELDS
from stormwatch.harness.remedy import did_you_mean
from stormwatch.journeys.retention import KEEP_BYTES, KEEP_SECONDS
from stormwatch.probes.options import File, Secret
from stormwatch.probes.result import BROKEN_REASONS, Reason
from stormwatch.probes.units import Bytes, Ratio, Seconds, parse_duration, show_duration
from stormwatch.slo.alert import Severity
from stormwatch.slo.calendar import NOMINAL
from stormwatch.slo.policy import DEFAULT_POLICY, POLICIES

ENTRY = ConfigDict(extra="forbid")

RESERVED = frozenset(
    {"alertname", "instance", "job", "kind", "le", "location", "objective"}
    | {"outcome", "phase", "probe", "reason", "severity", "step"}
)
"""Labels that our own metrics and alerts carry: a user's label of that name would hide one."""

LOCATION = "local"
"""Where a stormwatch runs that was not told."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"a name is up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit, not {name!r}"
        )
    return name


def _check_label(name: str) -> str:
    if name in RESERVED or name.startswith("__"):
        raise ValueError(f"the label {name} is one that stormwatch sets itself; choose another name")
    if not _LABEL.fullmatch(name):
        raise ValueError(f"a label's name is letters, digits and '_', not beginning with a digit, not {name!r}")
    return name


def _check_value(value: str) -> str:
    if not value:
        raise ValueError("a label without a value is no label; give it one, or leave it out")
    return value


def _check_url(text: str) -> str:
    try:
        url = urlsplit(text)
        whole = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        whole = False
    if not whole or any(ord(sign) <= 32 for sign in text):
        raise ValueError(f"a URL is written like https://host/path, not {text!r}")
    return text


def _check_address(text: str) -> str:
    parse_address(text)
    return text


def _check_positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be more than 0s")
    return seconds


def _read_reason(text: object) -> Reason:
    if isinstance(text, str) and text in _REASONS:
        return Reason(text)
    near = did_you_mean(text, _REASONS) if isinstance(text, str) else did_you_mean("", _REASONS)
    raise ValueError(f"a target fails for one of the reasons that `down` results have, not {text!r}; {near}")


_REASONS = tuple(reason.value for reason in Reason if reason is not Reason.NONE and reason not in BROKEN_REASONS)

Name = Annotated[str, AfterValidator(_check_name), Field(json_schema_extra={"pattern": f"^{_NAME.pattern}$"})]
Label = Annotated[str, AfterValidator(_check_label)]
Labels = Mapping[Label, Annotated[str, AfterValidator(_check_value)]]
Url = Annotated[str, AfterValidator(_check_url), Field(json_schema_extra={"pattern": "^https?://"})]
Address = Annotated[str, AfterValidator(_check_address), Field(examples=["127.0.0.1:8474"])]
Positive = Annotated[Seconds, AfterValidator(_check_positive)]
Quorum = Annotated[int, Field(ge=1, le=100)]
SeverityName = Literal["page", "high", "ticket", "info"]
FailureReason = Annotated[Reason, BeforeValidator(_read_reason), WithJsonSchema({"enum": list(_REASONS)})]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmEntry:
    """What happens when an attempt fails: the run is down only when every attempt failed."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    """How often it is tried in all. 1 does not try again."""
    after: Seconds = 1.0
    """Time between the end of one attempt and the start of the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultsEntry:
    """What probes have that do not say otherwise."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    every: Positive = 30.0
    """Time between the starts of two runs."""
    timeout: Positive = 5.0
    """Time that one attempt may take."""
    confirm: ConfirmEntry = ConfirmEntry()
    """What happens when an attempt fails."""
    quorum: Quorum = 1
    """How many locations must see a probe down for its alert ProbeDown; 1 asks no other location."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerEntry:
    """Another stormwatch that runs the same probes from another location."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    location: Name
    """Its `location`. Results that say another one are not taken."""
    url: Url = field(repr=False)
    """Where it serves its pages and its API. May hold secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeAlertEntry:
    """The alert ProbeDown of a probe: its last run is down."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    severity: Literal["page", "high", "ticket", "info", "none"] = "page"
    """Who is told; `none` makes no alert."""
    lasting: Annotated[Seconds, Field(alias="for")] = 0.0
    """Time that the probe must stay down before the alert fires."""
    keep_firing_for: Seconds = 0.0
    """Time that the alert goes on firing after the probe came up: one good run among bad ones is no recovery."""
    certificate_ticket: Seconds = 21 * 86400.0
    """CertificateExpiring is a ticket when a certificate that the probe sees expires sooner; `0s` for no alert."""
    certificate_page: Seconds = 3 * 86400.0
    """CertificateExpiring pages when a certificate that the probe sees expires sooner; `0s` for no alert."""

    @property
    def told(self) -> Severity | None:
        """The severity, None for no alert."""
        return None if self.severity == "none" else Severity(self.severity)

    @property
    def expiry(self) -> dict[Severity, float]:
        """Whom CertificateExpiring tells how many seconds before."""
        given = {Severity.PAGE: self.certificate_page, Severity.TICKET: self.certificate_ticket}
        return {severity: within for severity, within in given.items() if within}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEntry:
    """One probe. Options of its kind stand in a block under the kind's name."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    name: Name
    """What it is called everywhere. Unique among the probes."""
    kind: str
    """What it checks: the name of a kind."""
    target: Annotated[str, Field(min_length=1)]
    """Where it looks: a URL, `host:port`, a domain name or a journey, as the kind wants it."""
    every: Positive | None = None
    """Time between the starts of two runs; that of `defaults` when not given."""
    timeout: Positive | None = None
    """Time that one attempt may take, less than `every`; that of `defaults` when not given."""
    confirm: ConfirmEntry | None = None
    """What happens when an attempt fails; that of `defaults` when not given."""
    quorum: Quorum | None = None
    """How many locations must see it down for its alert ProbeDown; that of `defaults` when not given."""
    depends_on: tuple[Name, ...] = ()
    """Probes whose failure explains this one's: while one of them is down, this one is measured and its alerts are muted."""
    labels: Labels = field(default_factory=dict[str, str])
    """Labels of its metrics and alerts, like team and service."""
    runbook: Url = ""
    """Where its alerts send people."""
    dashboard: Url = ""
    """Where its numbers are drawn."""
    alert: ProbeAlertEntry = ProbeAlertEntry()
    """The alert ProbeDown."""


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone is called {name!r}; write one like Europe/Berlin, or UTC") from None
    return name


Zone = Annotated[str, AfterValidator(_check_zone)]


def _read_window(text: object) -> float | str:
    if isinstance(text, str) and text in NOMINAL:
        return text
    try:
        return _check_positive(parse_duration(text))
    except ValueError as error:
        raise ValueError(f"{error}; or week, month or quarter, for what the calendar calls so") from None


def _show_window(window: float | str) -> str:
    return window if isinstance(window, str) else show_duration(window)


def _read_factor(number: object) -> Fraction:
    if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number) and number > 0:
        return Fraction(str(number))  # as it was written: 14.4 is 72/5
    raise ValueError(f"a factor is a number above 0, like 14.4, not {number!r}")


Window = Annotated[
    float | str,
    BeforeValidator(_read_window),
    PlainSerializer(_show_window, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^((\d+(\.\d+)?(ms|s|m|h|d|w))+|{'|'.join(NOMINAL)})$",
            "examples": ["30d", "month"],
        }
    ),
]
Factor = Annotated[
    Fraction,
    BeforeValidator(_read_factor),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "examples": [14.4]}),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnEntry:
    """One pair of windows: who is told when the budget burns too fast over both of them."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    severity: SeverityName
    """Who is told."""
    long: Positive
    """The longer window: how much must be lost before it matters."""
    short: Positive | None = None
    """The shorter window, which ends the alert when it is over; a twelfth of the longer one when not given."""
    factor: Factor | None = None
    """How many times faster than sustainable. Give this or `share`."""
    share: Ratio | None = None
    """How much of the whole budget may be lost in the longer window. Give this or `factor`."""
    lasting: Annotated[Seconds, Field(alias="for")] = 0.0
    """Time that it must go on before the alert fires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveEntry:
    """A promise about one probe, or about all probes with some labels."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    name: Name
    """What it is called everywhere. Unique among the objectives."""
    probe: Name | None = None
    """The probe whose runs it judges. Give this or `match`."""
    match: Mapping[str, str] | None = None
    """Labels of the probes whose runs it judges, all of which must be equal; `kind` and `location` count as labels."""
    target: Ratio
    """The share of runs that must be good, less than 100%."""
    window: Window = 30 * 86400.0
    """The time over which the share is counted: rolling, like `30d`, or of the calendar: `week`, `month` or `quarter`."""
    timezone: Zone = "UTC"
    """By whose clocks a window of the calendar begins: a name of the IANA database."""
    slower_than: Positive | None = None
    """A run (or step) that took longer is bad too. Not given: a run is bad when it is down."""
    step: str = ""
    """A step of a journey or of an `api` probe, or a phase of another kind, that is judged instead of the whole run."""
    certificate_expires_within: Positive | None = None
    """The certificate that a run sees is judged instead of the run: bad when it expires sooner."""
    method: Literal["occurrences", "timeslices"] = "occurrences"
    """What is counted: every run, or slices of time, each good or bad as a whole."""
    slice: Positive | None = None
    """Length of a slice, with `method: timeslices`; `1m` when not given."""
    slice_target: Ratio | None = None
    """Share of a slice's runs that makes it good, with `method: timeslices`; `95%` when not given."""
    policy: Annotated[str, Field(json_schema_extra={"enum": list(POLICIES)})] = DEFAULT_POLICY
    """The set of burn-rate rules that guard its budget."""
    burns: tuple[BurnEntry, ...] = ()
    """Burn-rate rules of your own, in the place of those of the policy."""
    labels: Labels = field(default_factory=dict[str, str])
    """Labels of its alerts."""
    runbook: Url = ""
    """Where its alerts send people."""


def _told(text: str) -> Any:
    return Field(description=text)


Clock = Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$", examples=["09:00"])]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoursEntry:
    """When a channel is told of tickets and infos; they wait until then. What is a page or high never waits."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    days: Annotated[tuple[Weekday, ...], Field(min_length=1)] = ("monday", "tuesday", "wednesday", "thursday", "friday")
    """On which days of the week."""
    begin: Clock = "09:00"
    """From when, by the clocks of the time zone."""
    end: Clock = "17:00"
    """Until when, on the same day; `24:00` is its end."""
    timezone: Zone = "UTC"
    """Whose clocks: a name of the IANA database."""

    def effective(self) -> dict[str, Any]:
        """As JSON."""
        return {"days": list(self.days), "begin": self.begin, "end": self.end, "timezone": self.timezone}

    @property
    def hours(self) -> Hours:
        """The value."""
        return Hours(
            days=frozenset(self.days), begin=_minutes(self.begin), end=_minutes(self.end), timezone=self.timezone
        )


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyEntry:
    """A channel: what every one of them has.

    The descriptions stand in the annotations, because pydantic reads those below a field in the class itself only.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    name: Annotated[Name, _told("What it is called. Unique among the channels.")]
    severities: Annotated[tuple[SeverityName, ...], Field(min_length=1, description="Which alerts it is told of.")] = (
        "page",
        "high",
        "ticket",
        "info",
    )
    match: Annotated[
        Mapping[str, str], _told("Labels that an alert must have for this channel; `{}` for every alert.")
    ] = field(default_factory=dict[str, str])
    only_fallback: Annotated[bool, _told("Whether it is told nothing but what other channels could not deliver.")] = (
        False
    )
    fallback: Annotated[
        Name | None,
        _told("The channel that is told as well when this one refuses a message, or does not take it in time."),
    ] = None
    fallback_after: Annotated[Positive, _told("Time that a message may wait before the fallback is told.")] = 60.0
    group_by: Annotated[
        tuple[str, ...],
        _told("Labels by which alerts are told together. PagerDuty has an incident for each alert instead."),
    ] = ("alertname", "objective", "probe")
    group_wait: Annotated[Seconds, _told("Time that the first message of a group waits for further alerts.")] = 2.0
    group_interval: Annotated[Seconds, _told("Time between two messages about one group at the least.")] = 30.0
    repeat_interval: Annotated[
        Seconds,
        _told("Time after which a group that still fires, and that nobody took, is told again; `0s` for never."),
    ] = 4 * 3600.0
    hours: Annotated[
        HoursEntry | None, _told("When it is told of tickets and infos; they wait until then. Not given: always.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WordedEntry(NotifyEntry):
    """A channel whose words can be chosen."""

    title: Annotated[str, _told("Template of the title, in the place of the standard one.")] = ""
    body: Annotated[str, _told("Template of the text below it, in the place of the standard one.")] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagerDutyEntry(WordedEntry):
    """PagerDuty, Events API v2."""

    to: Literal["pagerduty"]
    """The kind of channel."""
    routing_key: Secret = field(repr=False)
    """Integration key of the service."""
    url: Url = "https://events.pagerduty.com/v2/enqueue"
    """Where events go; `https://events.eu.pagerduty.com/v2/enqueue` for accounts in the EU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackEntry(WordedEntry):
    """Slack: a bot's token and a channel (one message for each incident, kept up to date), or an incoming webhook."""

    to: Literal["slack"]
    """The kind of channel."""
    token: Secret = field(default="", repr=False)
    """Token of a bot with the scopes `chat:write` and `channels:history`."""
    channel: str = ""
    """Where the bot posts: the id of a channel, like C0123456789."""
    webhook: Secret = field(default="", repr=False)
    """Address of an incoming webhook, instead of token and channel."""
    url: Url = "https://slack.com/api"
    """Where Slack's methods are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailEntry(WordedEntry):
    """E-mail by SMTP."""

    to: Literal["email"]
    """The kind of channel."""
    server: Annotated[str, Field(min_length=1), Field(examples=["mail.example.com"])]
    """Host that mail is handed over to."""
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    """Its port."""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    """How the way there is encrypted; a server that cannot is refused mail, never sent it in plain text."""
    ca_file: File | None = None
    """Authorities that sign the server's certificate, as PEM; those of the system by default."""
    username: str = ""
    """Who logs in; empty: nobody."""
    password: Secret = field(default="", repr=False)
    """The password to it."""
    sender: Annotated[str, Field(pattern=r"^[^@\r\n]+@[^@\r\n]+$")]
    """Address that the mail is from."""
    recipients: Annotated[tuple[Annotated[str, Field(pattern=r"^[^@\r\n]+@[^@\r\n]+$")], ...], Field(min_length=1)]
    """Addresses that it is sent to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEntry(NotifyEntry):
    """Alertmanager's webhook payload, version 4, posted to an address."""

    to: Literal["webhook"]
    """The kind of channel."""
    url: Url = field(repr=False)
    """Where it is posted to. May hold secrets."""
    secret: Secret = field(default="", repr=False)
    """Key that signs each request; empty: it is not signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamsEntry(WordedEntry):
    """Microsoft Teams: an Adaptive Card, posted to the webhook of a workflow."""

    to: Literal["teams"]
    """The kind of channel."""
    url: Secret = field(repr=False)
    """Address of the workflow `When a Teams webhook request is received`."""


Number = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$", examples=["+4915112345678"])]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsEntry(WordedEntry):
    """SMS by a gateway that speaks HTTP."""

    to: Literal["sms"]
    """The kind of channel."""
    url: Url = field(repr=False)
    """Where the gateway takes messages. May hold secrets."""
    numbers: Annotated[tuple[Number, ...], Field(min_length=1)]
    """Who is told, in the international form."""
    sender: str = ""
    """Who it comes from: a number, or a name that the gateway allows."""
    token: Secret = field(default="", repr=False)
    """Sent as `Authorization: Bearer …`."""
    username: str = ""
    """Who logs in with a password instead; empty: nobody."""
    password: Secret = field(default="", repr=False)
    """The password to it."""
    encoding: Literal["json", "form"] = "json"
    """How the fields are posted."""
    fields: Annotated[Mapping[str, str], Field(min_length=1)] = field(default_factory=lambda: dict(SMS_FIELDS))
    """What is posted: a template for each field, of `number`, `sender`, `text` and `reference`."""
    answer_id: str = SMS_ANSWER_ID
    """Where the gateway says the id of a message, as JMESPath."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppriseEntry(WordedEntry):
    """Whatever Apprise has an address for. Wants the extra `stormwatch[apprise]`."""

    to: Literal["apprise"]
    """The kind of channel."""
    urls: Annotated[tuple[Secret, ...], Field(min_length=1)] = field(repr=False)
    """Addresses, as Apprise writes them."""


AnyNotifyEntry = PagerDutyEntry | SlackEntry | EmailEntry | WebhookEntry | TeamsEntry | SmsEntry | AppriseEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogEntry:
    """A dead man's switch: a service outside that calls when it does not hear from this stormwatch."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    url: Url = field(repr=False)
    """Requested (POST) as long as this stormwatch is well. May hold secrets."""
    every: Positive = 60.0
    """Time between two requests."""
    fail_url: Annotated[Url | None, Field(json_schema_extra={"examples": ["https://hc-ping.com/UUID/fail"]})] = field(
        default=None, repr=False
    )
    """Told the reason in the body, once, when it is not well any more. May hold secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlappingEntry:
    """When an alert that comes and goes is told as one."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    after: Annotated[int, Field(ge=0, le=100)] = USUAL.after
    """How many times it must begin to fire within `within`; 0: never, each beginning and each end is told."""
    within: Positive = USUAL.within
    """The time in which that is counted."""
    stable: Positive = USUAL.stable
    """Time for which a flapping alert must be quiet before its end is told."""
    recovery: Seconds = USUAL.recovery
    """The same for an alert that does not flap: its end is told so much later, and not at all if it fires again before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsEntry:
    """Who is told about alerts."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    alertmanager: Annotated[Url | None, Field(json_schema_extra={"examples": ["http://127.0.0.1:9093"]})] = None
    """Prometheus' Alertmanager: its address without a path. May hold secrets."""
    webhook: Annotated[Url | None, Field(json_schema_extra={"examples": ["http://127.0.0.1:9000/hook"]})] = None
    """Receives Alertmanager's webhook payload, version 4. May hold secrets."""
    flapping: FlappingEntry = FlappingEntry()
    """When an alert that comes and goes is told as one, in the channels of `notify`."""
    notify: tuple[Annotated[AnyNotifyEntry, Field(discriminator="to")], ...] = ()
    """Channels that tell people, with what each is told."""
    watchdog: WatchdogEntry | None = None
    """The dead man's switch that is told that this stormwatch is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceEntry:
    """Planned work: results are no evidence, and alerts are muted."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    match: Mapping[str, str]
    """Labels of the probes that it is about, all of which must be equal; `probe`, `kind` and `location` count as labels.
    `{}` is about every probe."""
    rrule: str
    """When it begins, as a recurrence rule (RFC 5545) in UTC, like `FREQ=WEEKLY;BYDAY=SU;BYHOUR=3;BYMINUTE=0;BYSECOND=0`."""
    duration: Positive
    """How long it lasts each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxiesEntry:
    """The fault proxy: what `stormwatch proxy` serves and where drills put their faults."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    control: Address = "127.0.0.1:8474"
    """Where its control API listens, `host:port`."""
    routes: tuple[Route, ...] = ()
    """What it passes on, and where to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEntry:
    """Something that drills may break and no proxy stands in front of: its name, and one key that says what it is."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    name: Name
    """What it is called. Unique among the targets and routes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedProbeEntry:
    """The probe that must turn red."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    name: Name
    """Its name."""
    reason: FailureReason | None = None
    """The reason that its failure must have; any when not given."""
    within: Positive = 60.0
    """Time from the injection until it is red."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEntry:
    """Whose alerts drills are judged by, where they are not our own."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    prometheus: Annotated[Url | None, Field(json_schema_extra={"examples": ["http://127.0.0.1:9090"]})] = None
    """Prometheus, whose alerts stand in the place of ours: its address without a path. May hold secrets."""
    alertmanager: Annotated[Url | None, Field(json_schema_extra={"examples": ["http://127.0.0.1:9093"]})] = None
    """Alertmanager, which says whether an alert arrived and is not held back: its address without a path. May hold secrets."""
    receiver: Address | None = None
    """Where drills listen for Alertmanager's webhook as long as they run, `host:port`: the last mile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedAlertEntry:
    """The alert that must fire. Name its objective, its probe, or, where Prometheus is watched, only its labels."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    objective: Name | None = None
    """The objective whose alert ErrorBudgetBurn must fire."""
    probe: Name | None = None
    """The probe whose alert ProbeDown must fire."""
    severity: SeverityName | None = None
    """Its severity: `page` when not given, but any of an alert that is known by its labels only."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """More labels that it must have. Without objective and probe they name the alert: `{alertname: HighErrorRate}`."""
    within: Positive = 90.0
    """Time from the injection until it fires."""
    delivered_within: Positive | None = None
    """Time from the injection until `watch.receiver` was told of it; not asked when not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectEntry:
    """What a drill must see."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    probe: ExpectedProbeEntry | None = None
    """The probe that must turn red."""
    alert: ExpectedAlertEntry | None = None
    """The alert that must fire."""
    resolves_within: Positive = 300.0
    """Time from taking the fault back until the probe is green and the alert resolved."""
    allow: tuple[Name, ...] = ()
    """Objectives and probes whose alerts may fire too, and, where Prometheus is watched, names of alerts; every other alert must
    stay silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillEntry:
    """One fault, and what must be seen of it."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    name: Name
    """What it is called. Unique among the drills."""
    expect: ExpectEntry
    """What must be seen."""
    side: Literal["target", "prober"] = "target"
    """Whether the fault is put on a route or target, or on the way of the expected probe alone, which no user notices; then
    `fault.target` is that probe."""
    abort_on_unexpected: bool = False
    """Take the fault back at once when a page fires that is neither expected nor allowed."""
    labels: Labels = field(default_factory=dict[str, str])
    """For people and reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlastRadiusEntry:
    """How much drills may break."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    targets: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """How many different routes and targets the drills of one command may break; any number when not given."""
    share: Ratio = Fraction(1)
    """The largest share of its target's traffic that a fault may be meant for, by its option `share`; without one it is meant for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardEntry:
    """What drills may break, where, when, and with how much budget left. It is asked before each of them."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    environment: Name | None = None
    """Which environment this is; `--environment` says so too."""
    environments: tuple[Name, ...] = ()
    """Where drills may run; anywhere when not given."""
    targets: tuple[Annotated[str, Field(min_length=1)], ...] | None = None
    """The routes and targets that drills may break, as names or patterns with `*`, `?` and `[…]`; all when not given."""
    hours: HoursEntry | None = None
    """When drills may begin; always when not given."""
    budget_floor: Ratio | None = None
    """The share of its error budget that every objective must have left which a drill touches."""
    blast_radius: BlastRadiusEntry = BlastRadiusEntry()
    """How much they may break."""
    abort_on: SeverityName | None = None
    """An alert of this severity or a graver one that is neither expected nor allowed ends a drill at once."""
    protect: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Probes that must stay up, as names or patterns: when one turns red, the drill ends at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactsEntry:
    """How much of what journeys keep is kept, in all. Each journey has limits of its own besides."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    max_size: Bytes = KEEP_BYTES
    """How large the directory may become: the oldest runs go first, those that an alert links to while it fires last."""
    max_age: Positive = KEEP_SECONDS
    """How old a run's artifacts may become; those that an alert links to stay while it fires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadEntry:
    """What stands for itself at the top."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    location: Name = LOCATION
    """Where this stormwatch runs: a label of every metric."""
    external_url: Url = ""
    """Where people reach the status page, as `https://stormwatch.example/`: links in alerts begin with it."""
    concurrency: Mapping[str, Annotated[int, Field(ge=1, le=10_000)]] = field(default_factory=dict[str, int])
    """How many runs of a kind may be under way at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """stormwatch.yaml: what is watched, what is promised, who is told, and how the watching is proved."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    location: Name = LOCATION
    """Where this stormwatch runs: a label of every metric."""
    external_url: Url = ""
    """Where people reach the status page, as `https://stormwatch.example/`: links in alerts begin with it."""
    probes: Annotated[tuple[ProbeEntry, ...], Field(min_length=1)]
    """What is watched."""
    defaults: DefaultsEntry = DefaultsEntry()
    """What probes have that do not say otherwise."""
    concurrency: Mapping[str, Annotated[int, Field(ge=1, le=10_000)]] = field(default_factory=dict[str, int])
    """How many runs of a kind may be under way at once; `shared` is for all kinds without a number of their own."""
    peers: tuple[PeerEntry, ...] = ()
    """The other locations that run the same probes: their results count where a probe has a quorum."""
    objectives: tuple[ObjectiveEntry, ...] = ()
    """What is promised."""
    alerts: AlertsEntry = AlertsEntry()
    """Who is told about alerts."""
    maintenance: tuple[MaintenanceEntry, ...] = ()
    """When it does not count."""
    proxies: ProxiesEntry = ProxiesEntry()
    """The fault proxy."""
    targets: tuple[TargetEntry, ...] = ()
    """What else drills may break."""
    artifacts: ArtifactsEntry = ArtifactsEntry()
    """How much of what journeys keep is kept."""
    watch: WatchEntry = WatchEntry()
    """Whose alerts drills are judged by, where they are not our own."""
    drills: tuple[DrillEntry, ...] = ()
    """How the watching is proved."""
    guard: GuardEntry = GuardEntry()
    """What drills may break, where and when."""
