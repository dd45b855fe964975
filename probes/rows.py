"""What a query must bring, for every kind that asks a database: options, and the judgement of rows. Pure: no I/O."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field

from stormwatch.probes.backend import BackendOptions
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.options import STRICT
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Ratio, Seconds, show_duration, show_ratio
from stormwatch.probes.wanted import ExpectValue, Wanted, as_json, as_number
from stormwatch.probes.watch import Watch

MOST_ROWS: Final = 10_000
"""Rows that a query may bring."""
MEASURED: Final = 20
"""Columns that may be exported."""
SHOWN: Final = 500
"""Characters of the first row that are kept as evidence."""

Parameter = str | int | float | bool | None
Role = Literal["primary", "replica"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectCount:
    """How many rows there must be."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    exactly: Annotated[int, Field(ge=0)] | None = None
    """As many as this."""
    at_least: Annotated[int, Field(ge=0)] | None = None
    """This many or more."""
    at_most: Annotated[int, Field(ge=0)] | None = None
    """This many or fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectQuery:
    """What must come of the run."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    rows: ExpectCount = field(default_factory=ExpectCount)
    """How many rows the query brings."""
    columns: Mapping[str, ExpectValue] = field(default_factory=dict[str, ExpectValue])
    """What columns of the first row must be, by their names."""
    role: Role | None = None
    """What the server must be in its replication."""
    lag_below: Seconds | None = None
    """How far a replica may be behind; a primary never is."""
    connections_below: Ratio | None = None
    """Share of the server's connections that may be in use."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOptions(BackendOptions):
    """What the options of kinds that ask a database have besides those of every backend."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    query: Annotated[str, Field(description="One statement; `SELECT 1` when empty.")] = ""
    parameters: Annotated[
        tuple[Parameter, ...], Field(description="Values for the statement's placeholders. They are never shown.")
    ] = field(default=(), repr=False)
    read_only: Annotated[
        bool, Field(description="Ask in a transaction that can change nothing. `false` commits what the query does.")
    ] = True
    measure: Annotated[
        tuple[str, ...], Field(description="Numeric columns of the first row to export, 20 at most.")
    ] = ()
    server_facts: Annotated[
        bool, Field(description="Measure role, replication lag and connections, also when nothing is expected of them.")
    ] = False
    expect: Annotated[ExpectQuery, Field(description="What must come of it.")] = field(default_factory=ExpectQuery)


@dataclass(frozen=True, slots=True)
class Rows:
    """What a query brought."""

    columns: tuple[str, ...]
    first: tuple[Any, ...] | None
    """The first row, as the driver gives its values."""
    count: int

    def value(self, column: str) -> Any:
        """A column of the first row; None without a row. Raises KeyError for a column that is not there."""
        if column not in self.columns:
            raise KeyError(column)
        return None if self.first is None else self.first[self.columns.index(column)]


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself."""

    version: str
    role: Role
    lag: float | None
    """Seconds that it is behind, None when it does not know."""
    connections: float
    """Share of its connections that are in use."""


@dataclass(frozen=True, slots=True, eq=False)
class QueryJudge:
    """Expectations on a query and its server, compiled."""

    kind: str
    options: QueryOptions
    columns: tuple[tuple[str, Wanted], ...]

    @classmethod
    def of(cls, kind: str, options: QueryOptions) -> Self:
        """Raises ValueError for what can never be judged."""
        expect, count = options.expect, options.expect.rows
        if options.query and not options.query.strip():
            raise ValueError("query: there is nothing in it")
        if options.parameters and not options.query:
            raise ValueError("parameters: they are for a query: give `query` too")
        if (options.measure or expect.columns or count != ExpectCount()) and not options.query:
            raise ValueError("measure, expect.rows and expect.columns are about a query: give `query` too")
        if count.exactly is not None and (count.at_least is not None or count.at_most is not None):
            raise ValueError("expect.rows: give exactly, or at_least and at_most")
        if len(options.measure) > MEASURED:
            raise ValueError(f"measure: at most {MEASURED} columns can be exported, not {len(options.measure)}")
        columns = tuple(
            (name, Wanted.of(f"column {name}", value, where=f"expect.columns.{name}"))
            for name, value in expect.columns.items()
        )
        return cls(kind=kind, options=options, columns=columns)

    @property
    def about_server(self) -> bool:
        """Whether the server has to be asked about itself."""
        expect = self.options.expect
        return self.options.server_facts or any(
            each is not None for each in (expect.role, expect.lag_below, expect.connections_below)
        )

    def judge_rows(self, watch: Watch, rows: Rows) -> None:
        """Export what is asked for, keep the first row as evidence, and raise ProbeFailed for what is not as expected."""
        watch.note("rows", rows.count)
        for name in self.options.measure:
            number = as_number(rows.value(name)) if name in rows.columns else None
            if number is not None:
                watch.measure(f"stormwatch_{self.kind}_query_value", number, column=name)
        if (failure := self._count_failure(rows.count)) is not None:
            raise failure
        for name, wanted in self.columns:
            self._judge_column(watch, rows, name, wanted)
        for name in self.options.measure:
            if rows.count and name not in rows.columns:
                raise _no_column(rows, name)

    def _judge_column(self, watch: Watch, rows: Rows, name: str, wanted: Wanted) -> None:
        if rows.first is None:
            raise ProbeFailed(Reason.ASSERTION, f"the query brought no row, wanted one with column {name}")
        if name not in rows.columns:
            raise _no_column(rows, name)
        if (failure := wanted.judge(rows.value(name))) is not None:
            watch.note("first_row", _shown(rows))
            raise failure

    def _count_failure(self, count: int) -> ProbeFailed | None:
        wanted = self.options.expect.rows
        for bound, holds, words in (
            (wanted.exactly, count == wanted.exactly, "exactly"),
            (wanted.at_least, count >= (wanted.at_least or 0), "at least"),
            (wanted.at_most, count <= (wanted.at_most or 0), "at most"),
        ):
            if bound is not None and not holds:
                return ProbeFailed(Reason.ASSERTION, f"the query brought {_rows(count)}, wanted {words} {bound}")
        return None

    def judge_server(self, watch: Watch, server: Server) -> None:
        """Export what the server says of itself, and raise ProbeFailed for what is not as expected."""
        prefix, expect = f"stormwatch_{self.kind}", self.options.expect
        watch.note("server", {"version": server.version[:100], "role": server.role})
        watch.measure(f"{prefix}_replica", server.role == "replica")
        watch.measure(f"{prefix}_connections_ratio", server.connections)
        if server.lag is not None:
            watch.measure(f"{prefix}_replication_lag_seconds", server.lag)
        if expect.role not in (None, server.role):
            raise ProbeFailed(Reason.ASSERTION, f"the server is a {server.role}, wanted a {expect.role}")
        if expect.lag_below is not None and server.lag is None:
            raise ProbeFailed(
                Reason.ASSERTION, "the replica does not know how far it is behind: replication has stopped"
            )
        if expect.lag_below is not None and (server.lag or 0.0) >= expect.lag_below:
            raise ProbeFailed(
                Reason.ASSERTION,
                f"the replica is {server.lag:.1f} s behind, wanted less than {show_duration(expect.lag_below)}",
            )
        if expect.connections_below is not None and server.connections >= expect.connections_below:
            raise ProbeFailed(
                Reason.ASSERTION,
                f"{server.connections:.0%} of the server's connections are in use, "
                f"wanted less than {show_ratio(expect.connections_below)}",
            )


def too_many_rows() -> ProbeFailed:
    """The query brings more than a probe reads."""
    return ProbeFailed(Reason.ASSERTION, f"the query brought more than {MOST_ROWS} rows: add a LIMIT, or count them")


def _no_column(rows: Rows, name: str) -> ProbeFailed:
    there = ", ".join(rows.columns[:MEASURED]) or "no column at all"
    return ProbeFailed(Reason.ASSERTION, f"the query brought {there}, wanted a column {name}")


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _shown(rows: Rows) -> str:
    text = json.dumps(dict(zip(rows.columns, map(as_json, rows.first or ()), strict=False)), ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
