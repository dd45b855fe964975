"""The kind `http`: one request on a connection of its own, phases by libcurl's clocks, the answer judged."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from stormwatch.probes.client import Client, ClientOptions, build_client
from stormwatch.probes.expectation import Expectations, ExpectHttp
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.judgement import judge
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Check, Kind
from stormwatch.probes.report import METRICS, PHASE_METRIC, PHASES, write_cel, write_down
from stormwatch.probes.request import Request
from stormwatch.probes.result import Reason
from stormwatch.probes.url import Url
from stormwatch.probes.visit import EXCERPT, Visit
from stormwatch.probes.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions(ClientOptions):
    """How to ask, and what the answer must be."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    method: Annotated[str, Field(pattern=r"^[A-Za-z]+$")] = "GET"
    """The request's method."""
    headers: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict[str, str | tuple[str, ...]], repr=False)
    """Request headers, with one value or several. They are never kept as evidence."""
    body: str | None = None
    """The request's body. Its type is not guessed: give a Content-Type header."""
    expect: ExpectHttp = field(default_factory=ExpectHttp)
    """What the answer must be."""


def build(target: str, options: HttpOptions) -> Check:
    """A check of one URL. Raises ValueError for a URL or an option that cannot work."""
    url = Url.parse(target)
    client = build_client(url, options)
    body = None if options.body is None else options.body.encode()
    return HttpCheck(
        client=client,
        request=client.request(url, method=options.method, headers=options.headers, body=body),
        options=options,
        expectations=Expectations(options.expect),
    )


@dataclass(frozen=True, slots=True, eq=False)
class HttpCheck:
    """Looks at one URL. Everything that does not change between runs is made by `build`."""

    client: Client
    request: Request
    options: HttpOptions
    expectations: Expectations

    async def __call__(self, watch: Watch) -> None:
        """Ask, follow, judge. Whatever was seen is written down, however it ends."""
        visit = Visit(keep=self.options.max_body if self.expectations.needs_body else EXCERPT)
        try:
            if self.options.expect.refused:
                await self._must_be_refused(watch, visit)
            else:
                with self.client.session(watch) as session:
                    await session.fetch(self.request, visit)
                await judge(watch, self.expectations, visit)
        finally:
            write_down(watch, visit, self.client.trust)
            if self.expectations.uses_cel:
                write_cel(watch, visit)

    async def _must_be_refused(self, watch: Watch, visit: Visit) -> None:
        try:
            with self.client.session(watch) as session:
                await session.fetch(self.request, visit)
        except ProbeFailed as failure:
            if failure.reason is Reason.REFUSED:
                return
            if visit.phase in ("resolve", "connect"):
                raise
        visit.failed_phase = "connect"
        raise ProbeFailed(
            Reason.ASSERTION, f"{visit.remote} accepted the connection, wanted it refused", phase="connect"
        )


KIND: Final = Kind(
    name="http",
    options=HttpOptions,
    build=build,
    phases=PHASES,
    phase_metric=PHASE_METRIC,
    metrics=METRICS,
    reasons=frozenset(
        {
            Reason.DNS,
            Reason.REFUSED,
            Reason.UNREACHABLE,
            Reason.TIMEOUT,
            Reason.RESET,
            Reason.TLS,
            Reason.CERTIFICATE,
            Reason.STATUS,
            Reason.ASSERTION,
            Reason.PROTOCOL,
            Reason.TOO_SLOW,
        }
    ),
)
