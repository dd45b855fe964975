"""`/metrics`: the latest result of each probe under blackbox_exporter's names, and what that exporter lacks.

    Result ▸ lines of each family, rendered when the result arrives ▸ one tuple a probe
    scrape ▸ the tuples as they are now ▸ family by family, in slices, other tasks running in between

Rendering on arrival spreads the work over the interval; a scrape only joins. A tuple is replaced and never changed, so
a scrape shows one moment although others run during it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stormwatch.exporters import exposition
from stormwatch.exporters.exposition import Family, FamilyKind, label_name, label_pairs, number
from stormwatch.exporters.histogram import SECONDS, Histogram
from stormwatch.exporters.process import ProcessMetrics
from stormwatch.probes.probe import Kind, Probe
from stormwatch.probes.result import BROKEN_REASONS, Measure, Outcome, Phase, Reason, Result

Source = Callable[[], Iterable[Family]]
"""Asked for its families at each scrape, on the event loop."""

SLICE = 500
"""Probes whose lines of one family are joined at once: a few milliseconds at most."""
RENDERED_COUNTS = 1000
"""Lines of counts of one kind that are kept to be shared."""
PIECE = 1 << 20
"""Bytes that are sent, or compressed in a thread, at once."""
PREFIX = "label_"
"""Stands before a probe's own label whose name we need ourselves."""

_RESERVED = frozenset({"instance", "probe", "kind", "location", "phase", "step", "outcome", "reason", "le"})
_CERTIFICATE = frozenset(
    {
        "probe_ssl_earliest_cert_expiry",
        "probe_ssl_last_chain_expiry_timestamp_seconds",
        "probe_ssl_last_chain_info",
        "stormwatch_tls_certificate_expiry_timestamp_seconds",
    }
)
_BROKEN_ANYWHERE = BROKEN_REASONS - {Reason.BROWSER, Reason.COLLECTION}
"""What can be wrong with us whatever is probed."""


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    help: str
    kind: FamilyKind = "gauge"
    folded: bool = False
    """Whether `_HERE` stands in its lines for the labels of the probe."""


_SUCCESS = _Column("probe_success", "Displays whether or not the probe was a success")
_DURATION = _Column("probe_duration_seconds", "Returns how long the probe took to complete in seconds")
_TIMEOUT = _Column("probe_timeout_seconds", "Returns how long the probe timeout is in seconds")
_BROKEN = _Column("stormwatch_probe_broken", "Whether the last run failed through us and says nothing of the target.")
_EVIDENCE = _Column(
    "stormwatch_probe_evidence_timestamp_seconds",
    "Unix time of the last run that was up or down; of the start of the process before the first.",
)
_DELAY = _Column(
    "stormwatch_probe_start_delay_seconds", "Seconds between the moment that the last run was due and its start."
)
_WAIT = _Column(
    "stormwatch_probe_queue_wait_seconds", "Seconds of its start delay that the last run waited for others to end."
)
_LAG = _Column(
    "stormwatch_probe_loop_lag_seconds",
    "Worst lag of the event loop during the last run: how far its timings can be off through the prober.",
)
_LAGGED = _Column(
    "stormwatch_probe_lagged_runs_total",
    "Runs that are marked: the prober lagged so much that their timings may be its own.",
    "counter",
)
_RUNS = _Column("stormwatch_probe_runs_total", "Runs by how they ended and why.", "counter", folded=True)
_SECONDS = _Column(
    "stormwatch_probe_duration_seconds", "Duration of the runs that were up or down.", "histogram", folded=True
)
_EVERY_PROBE = (
    *(_SUCCESS, _DURATION, _TIMEOUT, _BROKEN, _EVIDENCE),
    *(_DELAY, _WAIT, _LAG, _LAGGED, _RUNS, _SECONDS),
)

_HERE = b"\x00"
"""Stands for the labels of the probe in families with many lines: written in at the scrape, they are held once."""

_SECONDS_LINES = "".join(
    [
        *(
            f'{_SECONDS.name}_bucket{{{{{_HERE.decode()},le="{number(bound)}"}}}} {{{at}}}\n'
            for at, bound in enumerate((*SECONDS, float("inf")), 1)
        ),
        f"{_SECONDS.name}_sum{{{{{_HERE.decode()}}}}} {{0}}\n",
        f"{_SECONDS.name}_count{{{{{_HERE.decode()}}}}} {{{len(SECONDS) + 1}}}\n",
    ]
)
"""All lines of one histogram as one format string: sum, cumulative counts."""


@dataclass(slots=True)
class _Columns:
    """The families that probes of one kind export. It grows when a run measures what its kind did not announce."""

    kind: Kind[Any]
    phase_label: str
    endings: tuple[str, ...]
    """Each way in which runs of the kind can end, as rendered labels."""
    order: list[_Column]
    index: dict[str, int]
    blocks: dict[str, tuple[bytes, ...]] = field(default_factory=dict[str, tuple[bytes, ...]])
    """By probe: its labels, then the lines of each column. Shorter where columns came later."""
    runs: dict[tuple[Sequence[str], Sequence[int]], bytes] = field(
        default_factory=dict[tuple[Sequence[str], Sequence[int]], bytes]
    )
    """The lines of counts that were rendered already: thousands of probes that are up have the same ones."""

    @classmethod
    def of(cls, kind: Kind[Any]) -> "_Columns":
        order = list(_EVERY_PROBE)
        if kind.phase_metric:
            order.append(_Column(kind.phase_metric.name, kind.phase_metric.help))
        order += [_Column(metric.name, metric.help) for metric in kind.metrics]
        columns = cls(kind, "step" if _is_scripted(kind) else "phase", _endings(kind), [], {})
        for column in order:
            columns.add(column)
        return columns

    def add(self, column: _Column) -> None:
        if column.name not in self.index:
            self.index[column.name] = len(self.order)
            self.order.append(column)


@dataclass(slots=True)
class _Series:
    """What is counted and remembered of one probe between its results."""

    probe: Probe
    own: Mapping[str, str]
    """The probe's own labels under the names they are exported with."""
    pairs: str
    """All labels that each of its series has, rendered."""
    folded: bytes
    """The same for the lines in which they are written at the scrape."""
    endings: tuple[str, ...]
    """Each way in which its runs can end, as rendered labels: they are all there from the start, at zero."""
    runs: list[int]
    """How many ended in each of these ways."""
    evidence: float
    """Unix time of the last run that was up or down."""
    lagged: int = 0
    """How many runs were marked."""
    histogram: Histogram = field(default_factory=Histogram)
    certificate: tuple[Measure, ...] = ()
    """What the last run that saw a certificate said of it."""
    measured: dict[str, tuple[tuple[Measure, ...], bytes]] = field(
        default_factory=dict[str, tuple[tuple[Measure, ...], bytes]]
    )
    """By metric name: what was measured last, and its lines."""


class PrometheusExporter:
    """A sink that serves the latest results. All calls on one event loop."""

    def __init__(
        self,
        probes: Iterable[Probe],
        kinds: Mapping[str, Kind[Any]],
        *,
        started: float,
        sources: Sequence[Source] = (),
    ) -> None:
        """`started` is the Unix time since when there could have been evidence; `sources` give further families.

        Raises ValueError when two labels of a probe become one name in Prometheus.
        """
        self.sources = [ProcessMetrics(), *sources]
        """May be appended to until the first scrape."""
        self._columns: dict[str, _Columns] = {}
        self._series: dict[str, _Series] = {}
        for probe in probes:
            if probe.kind not in self._columns:
                self._columns[probe.kind] = _Columns.of(kinds[probe.kind])
            columns = self._columns[probe.kind]
            series = self._series[probe.name] = _new_series(probe, columns.endings, started)
            columns.blocks[probe.name] = _rendered(series, columns, None)

    def __call__(self, result: Result) -> None:
        """Count a result and render its lines. Raises KeyError for a probe that was not announced."""
        series = self._series[result.probe]
        columns = self._columns[series.probe.kind]
        _count(series, result)
        columns.blocks[result.probe] = _rendered(series, columns, result)

    def exposition(self) -> bytes:
        """The whole text at once: for a few probes, for debugging. The server streams `chunks`."""
        return b"".join(self._pieces())

    async def chunks(self, accept_encoding: str = "") -> AsyncIterator[bytes]:
        """The text in pieces of about a MiB, compressed with gzip if `accept_encoding` allows it.

        Between pieces others run; compressing is left to a thread.
        """
        if not exposition.accepts_gzip(accept_encoding):
            async for text in _gathered(self._pieces()):
                yield text
            return
        stream = exposition.GzipStream()
        compressed = _completed(b"")
        async for text in _gathered(self._pieces()):
            # One piece is compressed in a thread while the next one is joined here.
            if ready := await compressed:
                yield ready
            compressed = asyncio.get_running_loop().run_in_executor(None, stream.compress, text)
        yield await compressed + stream.flush()

    @staticmethod
    def headers(accept_encoding: str = "") -> dict[str, str]:
        """The headers that go with `chunks`."""
        headers = {"Content-Type": exposition.CONTENT_TYPE, "Vary": "Accept-Encoding"}
        if exposition.accepts_gzip(accept_encoding):
            headers["Content-Encoding"] = "gzip"
        return headers

    def of(self, result: Result) -> bytes:
        """What this one result exports, as `stormwatch check --debug` shows it. Nothing is counted."""
        series = self._series[result.probe]
        columns = self._columns[series.probe.kind]
        block = _rendered(series, columns, result)
        named = sorted(zip(columns.order, block[1:], strict=False), key=lambda pair: pair[0].name)
        return b"".join(
            exposition.heading(c.name, c.help, c.kind) + (text.replace(_HERE, block[0]) if c.folded else text)
            for c, text in named
            if text
        )

    def _pieces(self) -> Iterator[bytes]:
        """The text, a family or a slice of one at a time, of the moment of the first `next`."""
        ours: dict[str, list[_Slot]] = {}
        for columns in self._columns.values():
            blocks = list(columns.blocks.values())
            for index, column in enumerate(columns.order, 1):
                ours.setdefault(column.name, []).append((column, index, blocks))
        theirs = {family.name: family for family in exposition.merged(f for source in self.sources for f in source())}
        for name in sorted({*ours, *theirs}):
            texts = _slices(ours.get(name, ()))
            if name in theirs:
                family = theirs[name]
                yield exposition.heading(name, family.help, family.kind) + exposition.lines(family)
            elif first := next(texts, b""):
                column = ours[name][0][0]
                yield exposition.heading(name, column.help, column.kind) + first
            yield from texts


_Slot = tuple[_Column, int, list[tuple[bytes, ...]]]
"""One column of one kind: its place in the blocks, and the blocks of all probes of that kind."""


async def _gathered(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of at least `PIECE`; others run between two of the given ones."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
        await asyncio.sleep(0)
    yield b"".join(waiting)


def _completed(value: bytes) -> asyncio.Future[bytes]:
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


def _slices(slots: Iterable[_Slot]) -> Iterator[bytes]:
    """The lines of one family, `SLICE` probes at a time; nothing where there are none."""
    for column, index, blocks in slots:
        for start in range(0, len(blocks), SLICE):
            those = blocks[start : start + SLICE]
            if column.folded:
                text = b"".join([block[index].replace(_HERE, block[0]) for block in those])
            else:
                text = b"".join([block[index] for block in those if index < len(block)])
            if text:
                yield text


def own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """A probe's own labels under the names that Prometheus gets.

    Characters that a label name may not have become `_`; a name that we need ourselves (`instance`, `phase` …) gets
    the prefix `label_`. Raises ValueError when two labels end up with one name.
    """
    result: dict[str, str] = {}
    origin: dict[str, str] = {}
    for name, value in labels.items():
        cleaned = label_name(name)
        cleaned = PREFIX + cleaned if cleaned in _RESERVED else cleaned
        if cleaned in result:
            raise ValueError(
                f"the labels {origin[cleaned]!r} and {name!r} are both {cleaned} in Prometheus: rename one of them"
            )
        result[cleaned], origin[cleaned] = value, name
    return result


def _new_series(probe: Probe, endings: tuple[str, ...], started: float) -> _Series:
    own = own_labels(probe.labels)
    pairs = label_pairs({**_fixed_labels(probe), **own})
    return _Series(
        probe=probe,
        own=own,
        pairs=pairs,
        folded=pairs.encode(errors="replace"),
        endings=endings,
        runs=[0] * len(endings),
        evidence=started,
    )


def _endings(kind: Kind[Any]) -> tuple[str, ...]:
    """Every way in which runs of a kind can end, as rendered labels."""
    return tuple(
        f'outcome="{"up" if r is Reason.NONE else "broken" if r in BROKEN_REASONS else "down"}",reason="{r.value}"'
        for r in Reason
        if r is Reason.NONE or r in _BROKEN_ANYWHERE or r in kind.reasons
    )


def _is_scripted(kind: Kind[Any]) -> bool:
    """Whether its phases are steps that somebody wrote, so that they are not known before a run."""
    return kind.phase_metric is not None and not kind.phases


def _count(series: _Series, result: Result) -> None:
    ending = f'outcome="{result.outcome.value}",reason="{result.reason.value}"'
    if ending not in series.endings:
        series.endings += (ending,)
        series.runs.append(0)
    series.runs[series.endings.index(ending)] += 1
    series.lagged += result.lagged
    if result.outcome is Outcome.BROKEN:
        return
    series.histogram.observe(result.seconds)
    series.evidence = result.finished
    seen = tuple(measure for measure in result.measures if measure.name in _CERTIFICATE)
    if seen or result.outcome is Outcome.UP:
        series.certificate = seen


def _rendered(series: _Series, columns: _Columns, result: Result | None) -> tuple[bytes, ...]:
    """The lines of each column after `result`; before the first result, those that exist from the start."""
    pairs = series.pairs
    seconds = _SECONDS_LINES.format(number(series.histogram.total), *series.histogram.cumulative())
    texts = {
        _TIMEOUT.name: f"{_TIMEOUT.name}{{{pairs}}} {number(series.probe.timeout)}\n".encode(errors="replace"),
        _BROKEN.name: _gauge(_BROKEN, pairs, result is not None and result.outcome is Outcome.BROKEN),
        _EVIDENCE.name: _gauge(_EVIDENCE, pairs, series.evidence),
        _LAGGED.name: _gauge(_LAGGED, pairs, series.lagged),
        _RUNS.name: _runs(series, columns),
        _SECONDS.name: seconds.encode(errors="replace"),
    }
    measures = series.certificate
    if result is not None:
        texts[_DELAY.name] = _gauge(_DELAY, pairs, result.late)
        texts[_WAIT.name] = _gauge(_WAIT, pairs, result.queued)
        texts[_LAG.name] = _gauge(_LAG, pairs, result.loop_lag)
    if result is None:
        _render_phases(texts, series, columns, ())
    elif result.outcome is not Outcome.BROKEN:
        # A broken run says nothing about the target: 0 would be a false page, and how long it took is our own failure.
        texts[_SUCCESS.name] = _gauge(_SUCCESS, pairs, result.outcome is Outcome.UP)
        texts[_DURATION.name] = _gauge(_DURATION, pairs, result.seconds)
        _render_phases(texts, series, columns, result.phases)
        # The alert on an expiry must not go silent because the server does: its facts stay until newer ones come.
        seen = any(measure.name in _CERTIFICATE for measure in result.measures)
        measures = result.measures if seen else (*result.measures, *series.certificate)
    _render_measures(texts, series, columns, measures)
    return (series.folded, *[texts.get(column.name, b"") for column in columns.order])


def _runs(series: _Series, columns: _Columns) -> bytes:
    counted = series.endings, tuple(series.runs)
    text = columns.runs.get(counted)
    if text is None:
        lines = [
            f"{_RUNS.name}{{{_HERE.decode()},{ending}}} {count}\n"
            for ending, count in zip(series.endings, series.runs, strict=True)
        ]
        if len(columns.runs) >= RENDERED_COUNTS:
            columns.runs.clear()
        text = columns.runs[counted] = "".join(lines).encode(errors="replace")
    return text


def _gauge(column: _Column, pairs: str, value: float) -> bytes:
    return f"{column.name}{{{pairs}}} {number(value)}\n".encode(errors="replace")


def _render_phases(texts: dict[str, bytes], series: _Series, columns: _Columns, phases: Sequence[Phase]) -> None:
    metric = columns.kind.phase_metric
    if metric is None:
        return
    seconds = dict.fromkeys(columns.kind.phases, 0.0)
    for phase in phases:
        seconds[phase.name] = seconds.get(phase.name, 0.0) + phase.seconds
    head, label = f"{metric.name}{{{series.pairs}", columns.phase_label
    texts[metric.name] = "".join(
        [f'{head},{label}="{exposition.escaped(name)}"}} {number(value)}\n' for name, value in seconds.items()]
    ).encode(errors="replace")


def _render_measures(texts: dict[str, bytes], series: _Series, columns: _Columns, measures: Sequence[Measure]) -> None:
    grouped: dict[str, tuple[Measure, ...]] = {}
    for measure in measures:
        grouped[measure.name] = (*grouped.get(measure.name, ()), measure)
    for name, those in grouped.items():
        before, text = series.measured.get(name, ((), b""))
        if before != those:  # most of what is measured is what was measured the last time
            if name not in columns.index:
                columns.add(_Column(name, f"Measured by probes of kind {columns.kind.name}."))
            values = {_measure_pairs(series, measure): number(measure.value) for measure in those}
            text = "".join([f"{name}{{{pairs}}} {value}\n" for pairs, value in values.items()]).encode(errors="replace")
            series.measured[name] = those, text
        texts[name] = text


def _measure_pairs(series: _Series, measure: Measure) -> str:
    """The probe's labels and the measure's. Where both use a name, the probe's own one gets the prefix."""
    if not measure.labels:
        return series.pairs
    labels = {label_name(name): value for name, value in measure.labels.items()}
    if not labels.keys() & series.own.keys():
        return f"{series.pairs},{label_pairs(labels)}"
    own = {PREFIX + name if name in labels else name: value for name, value in series.own.items()}
    return label_pairs({**_fixed_labels(series.probe), **own, **labels})


def _fixed_labels(probe: Probe) -> dict[str, str]:
    return {"instance": probe.target, "probe": probe.name, "kind": probe.kind, "location": probe.location}
