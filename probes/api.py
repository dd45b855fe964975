"""The kind `api`: several HTTP requests in a row, values taken from one answer for the next, and a clean-up that always runs."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final

from pydantic import ConfigDict, Field

from stormwatch.probes import certificate
from stormwatch.probes.answer import expiry_message
from stormwatch.probes.api_run import METRICS, Run
from stormwatch.probes.api_step import BUILT_IN, ApiStep, Step, compile_step
from stormwatch.probes.client import DETOUR, Client, build_client
from stormwatch.probes.client_options import ClientOptions
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.request import check_headers
from stormwatch.probes.result import Reason
from stormwatch.probes.session import Session
from stormwatch.probes.template import is_name
from stormwatch.probes.units import Seconds, show_duration
from stormwatch.probes.url import Url
from stormwatch.probes.watch import Watch

STEPS: Final = 50
"""Steps that a run may have in all."""
RESERVED: Final = 0.25
"""Share of the time-out that is kept for the clean-up where `finally_within` does not say."""
MARGIN: Final = 0.05
"""Seconds before the deadline at which a step is given up: after it, nobody could say what was seen last. With 20 ms a busy
loop came too late now and then, and the run's own deadline named no step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectApi:
    """What must be true of the run as a whole; what a step must be answered stands with the step."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    slower_than: Seconds | None = None
    """Down, with reason too-slow, when all steps together take longer, waiting between attempts included."""
    certificate_expires_within: Seconds | None = None
    """Down, with reason certificate, when a certificate that was served in the first step expires sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions(ClientOptions):
    """Steps that are taken one after the other, and what they share: connections, logins, headers, variables, cookies."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    headers: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict[str, "str | tuple[str, ...]"], repr=False)
    """Headers of every request. They are never kept as evidence."""
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Values by the name that steps refer to them by, taken as they are: the place for secrets."""
    steps: tuple[ApiStep, ...] = ()
    """Requests, one after the other; the first that fails ends the run."""
    finally_: Annotated[
        tuple[ApiStep, ...],
        Field(
            alias="finally",
            description="Requests that are made in the end, also after a failure; each whether or not another fails. "
            "One that refers to a value that was never captured is left out.",
        ),
    ] = ()
    finally_within: Seconds | None = None
    """Time that is kept for `finally`, at most half of the time-out; a quarter of it when it is not given."""
    expect: ExpectApi = field(default_factory=ExpectApi)
    """What must be true of the run as a whole."""


def build(target: str, options: ApiOptions) -> Check:
    """A check of one API. Raises ValueError for a target or an option that cannot work."""
    url = Url.parse(target)
    if "?" in target:
        raise ValueError(f"target {target!r} has a query: it is what the URLs of the steps count from")
    _check(options)
    known = {*BUILT_IN, *options.variables}
    base = url.text if url.text.endswith("/") else url.text + "/"
    compiled: dict[str, list[Step]] = {"steps": [], "finally": []}
    for section, steps in (("steps", options.steps), ("finally", options.finally_)):
        for number, step in enumerate(steps):
            where = f"{section}[{number}]"
            for name in step.capture:
                if not is_name(name) or name in BUILT_IN or name in options.variables:
                    raise ValueError(f"{where}.capture: {name!r} cannot be captured: it is no name, or taken already")
            compiled[section].append(compile_step(step, where, base=base, headers=options.headers, known=known))
            known |= step.capture.keys()
    return ApiCheck(
        client=build_client(url, options),
        options=options,
        steps=tuple(compiled["steps"]),
        last=tuple(compiled["finally"]),
    )


def _check(options: ApiOptions) -> None:
    check_headers(options.headers)
    if not options.steps:
        raise ValueError("steps: give at least one")
    names = [step.name for step in (*options.steps, *options.finally_)]
    if len(names) > STEPS:
        raise ValueError(f"steps: there are {len(names)} with those of finally, and at most {STEPS} are taken")
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise ValueError(f"steps: two are named {twice!r}, and a name stands for one of them")
    if options.finally_within is not None and not options.finally_:
        raise ValueError("finally_within: there are no steps in finally")
    if options.ip == "every":
        raise ValueError("ip: `every` is for one request; a run of several uses one address of each name")
    for name in options.variables:
        if not is_name(name) or name in BUILT_IN:
            raise ValueError(f"variables: {name!r} is no name, or that of a built-in value")
    if options.oauth2 is not None or options.digest_auth is not None:
        for number, step in enumerate((*options.steps, *options.finally_)):
            if step.bearer or step.basic_auth is not None:
                where = f"steps[{number}]" if number < len(options.steps) else f"finally[{number - len(options.steps)}]"
                raise ValueError(f"{where}: oauth2 and digest_auth log in at every step: give no other login there")


@dataclass(frozen=True, slots=True, eq=False)
class ApiCheck:
    """Takes its steps one after the other. Everything that does not change between runs is made by `build`."""

    client: Client
    options: ApiOptions = field(repr=False)
    steps: tuple[Step, ...]
    last: tuple[Step, ...]

    async def __call__(self, watch: Watch) -> None:
        """Take the steps, clean up, judge. Whatever was seen is written down, however it ends."""
        run = Run(self.client, watch, self._values(watch))
        until = watch.deadline - min(MARGIN, watch.timeout / 10)
        try:
            with Session(self.client, watch) as session:
                failed = await run.take_all(session, self.steps, until - self._reserve(watch))
                left_behind = await run.clean_up(session, self.last, until)
            first = failed or left_behind
            if first is not None:
                raise first
            self._judge(watch, run)
        except (ProbeFailed, ProbeBroken) as failure:
            failure.message = run.concealer.conceal(failure.message)
            raise
        finally:
            run.write_down()

    def _values(self, watch: Watch) -> dict[str, Any]:
        now = watch.clock.now()
        built_in = {
            "now": certificate.show_time(now),
            "probe": watch.probe,
            "random": secrets.token_hex(8),
            "run_id": watch.trace_id,
            "timestamp": int(now),
        }
        return {**built_in, **self.options.variables}

    def _reserve(self, watch: Watch) -> float:
        """Seconds that are kept for the clean-up."""
        if not self.last:
            return 0.0
        wanted = self.options.finally_within
        return min(watch.timeout / 2, watch.timeout * RESERVED if wanted is None else wanted)

    def _judge(self, watch: Watch, run: Run) -> None:
        expect, first = self.options.expect, run.first
        if expect.certificate_expires_within is not None and first is not None and first.secure:
            left = certificate.read_chain(first.handshake.chain).expires - watch.clock.now()
            if left < expect.certificate_expires_within:
                raise ProbeFailed(
                    Reason.CERTIFICATE,
                    expiry_message(left, expect.certificate_expires_within),
                    phase=self.steps[0].name,
                )
        if expect.slower_than is not None and run.seconds > expect.slower_than:
            slowest = max(run.records, key=lambda record: record.seconds).step.name
            raise ProbeFailed(
                Reason.TOO_SLOW,
                f"took {run.seconds * 1000:.0f} ms, wanted at most {show_duration(expect.slower_than)}; "
                f"slowest was step {slowest!r}",
                phase=slowest,
            )


KIND: Final = Kind(
    name="api",
    options=ApiOptions,
    build=build,
    detour=DETOUR,
    phase_metric=Metric("stormwatch_api_step_duration_seconds", "Seconds of each step, all its attempts included"),
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
