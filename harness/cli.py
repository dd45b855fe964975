"""The command line: options in, a command's function called, its problem printed, its exit code returned."""

import asyncio
import json
import logging
import os
import socket
import sys
import warnings
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import stormwatch
from stormwatch.harness.audit_command import audit, replay_command
from stormwatch.harness.check_form import Form
from stormwatch.harness.descriptors import allow_many
from stormwatch.harness.gameday_command import gameday
from stormwatch.harness.invocation import DEFAULT_CONFIG, load_config, state, write
from stormwatch.harness.load_command import load
from stormwatch.harness.mutate_command import mutate
from stormwatch.harness.notify_command import notify, silence
from stormwatch.harness.openslo_command import exporting, import_openslo
from stormwatch.harness.problem import Exit, Problem
from stormwatch.harness.slo_command import slo
from stormwatch.harness.sloth_command import import_sloth

if TYPE_CHECKING:
    from stormwatch.harness.blackbox_prober import BlackboxProber

app = typer.Typer(
    name="stormwatch",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

importing = typer.Typer(help="Other tools' configuration as one of ours.", no_args_is_help=True)
app.add_typer(slo, name="slo")
app.add_typer(audit, name="audit")
app.add_typer(gameday, name="gameday")
app.add_typer(notify, name="notify")
app.add_typer(silence, name="silence")
app.add_typer(importing, name="import")
app.add_typer(exporting, name="export")
app.command()(mutate)
app.command()(load)
importing.command("openslo")(import_openslo)
importing.command("sloth")(import_sloth)

BlackboxFile = Annotated[
    Path | None, typer.Option("--blackbox", metavar="FILE", help="Modules of blackbox_exporter to answer /probe with.")
]
Secrets = Annotated[
    str, typer.Option("--secrets", metavar="DIR", help="Where Alertmanager finds the files with its secrets.")
]
AlertmanagerVersion = Annotated[
    str, typer.Option(metavar="VERSION", help="What its Alertmanager must be at least; newer ones know more receivers.")
]
ConfigFile = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")]


def _version(asked: bool) -> None:
    if asked:
        print(f"stormwatch {stormwatch.__version__}")
        raise typer.Exit


@app.callback()
def begin(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and do nothing else."),
    ] = False,
) -> None:
    """Synthetic monitoring that has been proved to notice."""


class DrillForm(StrEnum):
    """How the reports of drills are printed."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"
    MARKDOWN = "markdown"


class Shape(StrEnum):
    """How a report is printed."""

    TEXT = "text"
    JSON = "json"


@app.command()
def check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME …]", help="Probes to run; all by default.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    journeys: Annotated[bool, typer.Option("--journeys", help="Only journeys.")] = False,
    form: Annotated[Form, typer.Option("--format", help="How to print the results.")] = Form.TABLE,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write them as one HTML page, pictures and traces inside it."),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Compare the seconds of journeys' steps with the last runs in this file."),
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Add this run to the file of --baseline.")] = False,
    fail_on_slower: Annotated[
        bool, typer.Option("--fail-on-slower", help="Exit with 1 when a step got slower beyond its noise.")
    ] = False,
    debug: Annotated[
        str, typer.Option("--debug", metavar="NAME", help="Run one probe and show everything about it.")
    ] = "",
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where a `stormwatch run` keeps what it knows of heartbeats.")
    ] = None,
) -> None:
    """Run probes once. Exit code 0: all up, 1: something is down, 3: something is broken, so there is no verdict."""
    from stormwatch.harness import check as checking
    from stormwatch.harness import check_publishing, outcomes
    from stormwatch.harness.secret import mask_of
    from stormwatch.probes import heartbeats
    from stormwatch.probes.resources import Resources

    loaded = load_config(config)
    wanted = [debug] if debug else (names or [])
    called = {probe.name: probe for probe in loaded.probes}
    probes = [
        probe
        for name in wanted
        for probe in (not debug and checking.standing_for(name, loaded.probes)) or [_named(name, called, "probe")]
    ]
    if journeys:
        probes = checking.journeys_among(probes or loaded.probes, named=bool(probes), config=config)
    if debug and (report or baseline):
        raise Problem("--debug shows one probe in the terminal; leave out --report and --baseline, or --debug")
    asked = check_publishing.asked_for(
        form=form, config=config, page=report, baseline=baseline, record=record, fail_on_slower=fail_on_slower
    )

    async def run() -> int:
        async with Resources() as resources:
            if data or (state() / "data" / heartbeats.FILE).exists():
                resources.put(
                    heartbeats.Heartbeats, heartbeats.Heartbeats((data or state() / "data") / heartbeats.FILE)
                )
            results = await checking.check(
                probes or loaded.probes, resources, concurrency=loaded.concurrency, mask=mask_of(loaded.secrets)
            )
        if debug:
            metrics = checking.metrics_of(probes[0], results[0])
            print(outcomes.debug_text(results[0], options=dict(probes[0].options), metrics=metrics))
            return checking.exit_code(results)
        return check_publishing.publish(results, asked)

    _finish(run)


@app.command()
def run(
    config: Annotated[
        Path | None,
        typer.Option(
            "-c",
            "--config",
            metavar="FILE",
            help=f"The configuration; {DEFAULT_CONFIG} when neither it nor --blackbox is given.",
        ),
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where metrics, status page and API are served.")
    ] = "127.0.0.1:9797",
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where history and artifacts are kept.")] = None,
    jsonl: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also append each result to a file, one JSON object a line.")
    ] = None,
    blackbox: BlackboxFile = None,
    probe_allow: Annotated[
        list[str] | None,
        typer.Option(metavar="NET", help="Where targets of /probe may be though it is refused: 127.0.0.0/8, …"),
    ] = None,
    probe_refuse: Annotated[
        list[str] | None,
        typer.Option(metavar="NET", help="Where targets of /probe may not be, besides this host and its link."),
    ] = None,
    probe_concurrency: Annotated[
        int, typer.Option(min=1, metavar="N", help="Runs of /probe under way at once; the others wait.")
    ] = 64,
    timeout_offset: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Kept back from Prometheus' scrape time-out by /probe.")
    ] = 0.5,
    blackbox_history: Annotated[
        int, typer.Option(min=1, metavar="N", help="Runs of /probe, and failures beside them, that are remembered.")
    ] = 100,
    blackbox_prefix: Annotated[
        str, typer.Option(metavar="PATH", help="Stands before each address, when only --blackbox is served.")
    ] = "",
) -> None:
    """Watch: run probes on schedule, serve metrics and the status page, evaluate objectives, send alerts.

    With --blackbox, also answer /probe as blackbox_exporter does; without -c, do nothing else.
    """
    from stormwatch.harness import blackbox_serving
    from stormwatch.harness.server import address_of, bind
    from stormwatch.harness.service import settle
    from stormwatch.harness.stop import stop_on_signals

    loaded = load_config(config or DEFAULT_CONFIG) if config or not blackbox else None
    terms = blackbox_serving.terms_of(
        allow=probe_allow or [],
        refuse=probe_refuse or [],
        timeout_offset=timeout_offset,
        history=blackbox_history,
        at_once=probe_concurrency,
    )

    async def watch() -> int:
        async with AsyncExitStack() as stack:
            prober = await stack.enter_async_context(blackbox_serving.probing(blackbox, terms)) if blackbox else None
            bound = bind(listen)
            stop = stop_on_signals()
            address = address_of(bound)
            if prober:
                _say(f"answering http://{address}/probe with {len(prober.modules.modules)} modules of {blackbox}")
            if loaded is None:
                assert prober is not None
                settle()
                await blackbox_serving.serve_alone(prober, bound, stop, prefix=blackbox_prefix)
            else:
                await _watch(loaded, data or state() / "data", jsonl, bound, stop, prober)
        _say("stopped")
        return Exit.GOOD

    _finish(watch)


async def _watch(
    loaded: Any,
    data: Path,
    jsonl: Path | None,
    bound: socket.socket,
    stop: asyncio.Event,
    prober: "BlackboxProber | None",
) -> None:
    from stormwatch.harness.blackbox_web import blackbox_routes
    from stormwatch.harness.server import address_of
    from stormwatch.harness.service import Service, serve, settle

    page = f"http://{address_of(bound)}/"
    async with Service(loaded, data=data, page=page, jsonl=jsonl) as service:
        _say(f"watching {len(loaded.probes)} probes; status page {page}, metrics {page}metrics")
        if prober:
            service.exporter.sources.append(prober.families)
        settle()
        await serve(service, bound, stop, routes=blackbox_routes(prober) if prober else ())


@app.command()
def validate(
    config: ConfigFile = DEFAULT_CONFIG,
    form: Annotated[Shape, typer.Option("--format")] = Shape.TEXT,
    blackbox: BlackboxFile = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Where `stormwatch run` keeps its data: measure noise in its history."
        ),
    ] = None,
) -> None:
    """Check the configuration, and say what it means: how many failed runs page, how long detection takes.

    With --data, say how often alerts are expected to fire for nothing. With --blackbox, check a file of modules instead.
    """
    from stormwatch.harness import meaning

    if blackbox:
        from stormwatch.harness.blackbox_serving import load_modules

        modules = load_modules(blackbox)
        print(f"{blackbox}: {len(modules.modules)} modules: {', '.join(modules.modules)}")
        return

    loaded = load_config(config)
    found = meaning.meaning(loaded, noise=meaning.measured_noise(loaded, data) if data else None)
    print(json.dumps(found.as_json(), indent=2) if form is Shape.JSON else "\n".join(found.lines()))


class Reader(StrEnum):
    """Whose configuration `rules` writes."""

    PROMETHEUS = "prometheus"
    PROBER = "prober"
    SCRAPE = "scrape"
    ALERTMANAGER = "alertmanager"


@app.command()
def rules(
    config: ConfigFile = DEFAULT_CONFIG,
    reader: Annotated[
        Reader,
        typer.Option("--for", help="Prometheus' rules, those about us, its scrape configuration, Alertmanager's."),
    ] = Reader.PROMETHEUS,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where `stormwatch run` listens, for --for scrape.")
    ] = "127.0.0.1:9797",
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here instead of to the terminal.")
    ] = None,
    watchdog: Annotated[
        str,
        typer.Option(
            metavar="URL", help="Where Alertmanager sends the alert that always fires, for --for alertmanager."
        ),
    ] = "",
    secrets: Secrets = "/etc/alertmanager/secrets",
    alertmanager_version: AlertmanagerVersion = "0.25",
    tests: Annotated[
        bool, typer.Option("--tests", help="Write the rules and unit tests of every alert into the directory of -o.")
    ] = False,
) -> None:
    """Write the objectives and alerts as Prometheus recording and alerting rules, and what goes around them."""
    from stormwatch.harness import meaning, rules_command

    loaded = load_config(config)
    if tests:
        if out is None or reader is not Reader.PROMETHEUS:
            raise Problem("--tests writes Prometheus' rules and their tests into a directory: give one with -o DIR")
        rules_command.write_tests(loaded, out, say=_say)
        return
    text = {
        Reader.PROMETHEUS: lambda: meaning.prometheus_rules(loaded),
        Reader.PROBER: meaning.prober_rules,
        Reader.SCRAPE: lambda: meaning.scrape_config(listen),
        Reader.ALERTMANAGER: lambda: rules_command.alertmanager(
            loaded, watchdog=watchdog, secrets=secrets, version=alertmanager_version, say=_say
        ),
    }[reader]()
    write(text, out)


@app.command()
def dashboards(
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Write a file for each dashboard into it.")
    ] = None,
    provisioning: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write Grafana's provisioning files: mostly /etc/grafana/provisioning."),
    ] = None,
    prometheus: Annotated[
        str, typer.Option(metavar="URL", help="Where Grafana finds Prometheus, for --provisioning.")
    ] = "http://127.0.0.1:9090",
    status_page: Annotated[
        str, typer.Option(metavar="URL", help="Where `stormwatch run` is for a reader's browser, for links.")
    ] = "http://127.0.0.1:9797",
    form: Annotated[Shape, typer.Option("--format")] = Shape.TEXT,
) -> None:
    """List the Grafana dashboards that stormwatch brings along, or write them with -o."""
    from stormwatch.harness import dashboards_command

    if out is None:
        if provisioning:
            raise Problem("--provisioning tells Grafana where the dashboards are: give their directory with -o DIR")
        found = dashboards_command.as_json()
        print(json.dumps(found, indent=2) if form is Shape.JSON else "\n".join(dashboards_command.lines()))
        return
    dashboards_command.write_dashboards(out, status_page=status_page, say=_say)
    if provisioning:
        dashboards_command.write_provisioning(provisioning, dashboards=out.absolute(), prometheus=prometheus, say=_say)


@app.command()
def drift(
    config: ConfigFile = DEFAULT_CONFIG,
    prometheus: Annotated[
        str, typer.Option("--prometheus", metavar="URL", help="The Prometheus that should run our rules.")
    ] = "",
    alertmanager: Annotated[
        str, typer.Option("--alertmanager", metavar="URL", help="The Alertmanager that should tell people.")
    ] = "",
    job: Annotated[str, typer.Option(metavar="NAME", help="The scrape job of `stormwatch run`.")] = "stormwatch",
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="The target that must be in it; any when not given.")
    ] = "",
    interval: Annotated[
        str, typer.Option(metavar="DURATION", help="Time between two scrapes, and two evaluations, at the most.")
    ] = "15s",
    ignore_file: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Rule files of another stormwatch, as Prometheus names them."),
    ] = None,
    watchdog: Annotated[
        str, typer.Option(metavar="URL", help="As it was given to `stormwatch rules --for alertmanager`.")
    ] = "",
    secrets: Secrets = "/etc/alertmanager/secrets",
    alertmanager_version: AlertmanagerVersion = "0.25",
    shared: Annotated[
        bool, typer.Option("--shared", help="The Alertmanager has others' alerts too: what is not ours is no drift.")
    ] = False,
    form: Annotated[Shape, typer.Option("--format")] = Shape.TEXT,
) -> None:
    """Compare what Prometheus and Alertmanager run with the configuration. Exit code 0: no drift, 1: drift, 3: no answer."""
    from stormwatch.harness import drift_command, rules_command
    from stormwatch.probes.units import parse_duration

    try:
        most = parse_duration(interval)
    except ValueError as error:
        raise Problem(f"--interval: {error}") from error
    asked = drift_command.Asked(
        prometheus=prometheus,
        alertmanager=alertmanager,
        job=job,
        listen=listen,
        interval=most,
        ignore_files=tuple(ignore_file or ()),
        watchdog=watchdog,
        secrets=secrets,
        version=rules_command.read_version(alertmanager_version),
        shared=shared,
    )
    found = asyncio.run(drift_command.drift_of(load_config(config), asked))
    print(json.dumps(found.as_json(), indent=2) if form is Shape.JSON else "\n".join(found.lines()))
    raise typer.Exit(found.code)


@app.command()
def schema() -> None:
    """Write the JSON Schema of the configuration, for editors."""
    from stormwatch.harness.config import schema as config_schema

    print(json.dumps(config_schema(), indent=2))


@app.command()
def init(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[DIR | journey URL]", help="Where to write, or what to record.")
    ] = None,
    recording: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="With journey: a recording that is there already.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="With journey: its name.")] = "recorded",
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="With journey: the file; journeys/test_NAME.py by default."
        ),
    ] = None,
    form: Annotated[Shape, typer.Option("--format", help="With journey: how to tell of it.")] = Shape.TEXT,
) -> None:
    """Write a commented starter configuration with a first journey and a first drill.

    `init journey URL` starts Playwright's recorder instead, and makes a journey with steps of what you do in its browser.
    """
    directory, *more = what or ["."]
    if directory == "journey" and len(more) <= 1:
        from stormwatch.harness.journey_command import init_journey, show

        print(show(init_journey("".join(more), recording, name, out), as_json=form is Shape.JSON))
        return
    if more or recording or out:
        raise Problem("init takes a directory alone; to record a journey: stormwatch init journey URL")
    from stormwatch.harness.starter import write_starter

    for path in write_starter(Path(directory)):
        _say(f"wrote {path}")
    _say("next: edit stormwatch.yaml, then `stormwatch check`")


@importing.command("blackbox")
def import_blackbox(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The modules: blackbox.yml.")],
    targets: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Prometheus' configuration, which has the targets.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here instead of to the terminal.")
    ] = None,
) -> None:
    """Write a configuration with a probe for each module of blackbox_exporter, and for each of its targets."""
    from stormwatch.harness.blackbox_import import Jobs, imported, read_jobs
    from stormwatch.harness.blackbox_serving import load_modules
    from stormwatch.harness.mistake import ConfigError

    modules = load_modules(file)
    try:
        jobs = read_jobs(targets) if targets else Jobs()
    except ConfigError as error:
        raise Problem(*error.lines) from error
    write(imported(modules, jobs), out)


@app.command()
def proxy(
    config: ConfigFile = DEFAULT_CONFIG,
    toxiproxy: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Serve Toxiproxy's API there too, for its clients.")
    ] = "",
) -> None:
    """Serve the fault proxy: the routes of `proxies`, passing traffic through until a drill puts a fault on one."""
    from stormwatch.harness import proxying

    loaded = load_config(config)
    _finish(lambda: proxying.command(loaded, _say, toxiproxy=toxiproxy))


@app.command()
def drill(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME …]", help="Drills to run; all by default. Or files with experiments of the Chaos Toolkit."
        ),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    plan: Annotated[bool, typer.Option("--plan", help="Show the time budget of each drill; inject nothing.")] = False,
    watch: Annotated[
        str,
        typer.Option(
            "--watch", metavar="URL", help="Listen to a running `stormwatch run` instead of watching in this process."
        ),
    ] = "",
    form: Annotated[DrillForm, typer.Option("--format", help="JUnit has a case for each clause.")] = DrillForm.TEXT,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the report as HTML.")] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="LAST.json", help="Compare with an earlier --format json: 1 only when a verdict got worse."
        ),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(metavar="JOURNAL", help="Judge the last run of each drill again, from an audit journal alone."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="All but the injection: guard, plan, baseline.")] = False,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="DIR", help="Keep what each drill saw there, for `stormwatch mutate`."),
    ] = None,
    control: Annotated[
        str,
        typer.Option("--control", metavar="DURATION", help="With --record: first so long in which nothing is broken."),
    ] = "",
    environment: Annotated[str, typer.Option(metavar="NAME", help="Which environment this is, for the guard.")] = "",
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where a `stormwatch run` keeps its history, for the guard's budget_floor."),
    ] = None,
    side: Annotated[
        Literal["target", "prober"] | None,
        typer.Option(
            help="`prober`: put the fault on the way of the expected probe alone, which no user notices."
            " By default what each drill says."
        ),
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of an experiment: write a journal like that of `chaos run`.")
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            "--hypothesis-strategy",
            help="Of an experiment: default, before-method-only, after-method-only, during-method-only, continuously.",
        ),
    ] = "",
    frequency: Annotated[
        float,
        typer.Option(
            "--hypothesis-frequency",
            min=0.05,
            help="Of an experiment: seconds between two looks while the method runs.",
        ),
    ] = 1.0,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Of an experiment: end the method when the hypothesis is not met.")
    ] = False,
    var: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of an experiment: a value of its configuration.")
    ] = None,
    matrix: Annotated[
        bool,
        typer.Option(
            "--matrix",
            help="Every fitting fault on every dependency, and the score of what noticed. NAMEs are patterns of cells.",
        ),
    ] = False,
    every_fault: Annotated[
        bool, typer.Option("--every-fault", help="Of a matrix: also faults that are variations of others.")
    ] = False,
    scale: Annotated[
        str, typer.Option(metavar="1/N", help="Of a matrix: the windows of all objectives times this factor.")
    ] = "1",
    to_the_end: Annotated[
        bool,
        typer.Option("--to-the-end", help="Of a matrix: listen in each cell until its time is over, for every alert."),
    ] = False,
    check_scale: Annotated[
        bool,
        typer.Option(
            "--check-scale", help="Of a scaled matrix: then run one cell at full scale for each scaled alert."
        ),
    ] = False,
    repeat: Annotated[int, typer.Option(min=1, help="Of a matrix: how often each cell is run.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Of a matrix: go on with the one that was interrupted.")
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a matrix: also write the report as Markdown.")
    ] = None,
    last_mile: Annotated[
        bool,
        typer.Option(
            "--last-mile/--no-last-mile",
            help="Of a matrix: an alert has to come to the receiver of `watch:`, or it is enough that it fires.",
        ),
    ] = True,
    threshold: Annotated[
        str, typer.Option(metavar="CELL", help="Find by bisection from which size on a fault is noticed.")
    ] = "",
) -> None:
    """Inject a failure, prove that it was noticed and recovered from. Exit code 0 only when every verdict is proved."""
    from stormwatch.harness import drilling, experiment_command

    if record and (replay or matrix or threshold):
        raise Problem("--record keeps what drills see; leave out --replay, --matrix and --threshold")
    if replay:
        raise typer.Exit(replay_command(replay, names or (), form=drilling.Form(form.value), html=report))
    if matrix or threshold:
        from stormwatch.harness.drill_guarding import guarding
        from stormwatch.harness.matrix_command import MatrixRequest, command, find_threshold

        wish = MatrixRequest(
            only=tuple(names or ()),
            every_fault=every_fault,
            scale=scale,
            check_scale=check_scale,
            to_the_end=to_the_end,
            repeat=repeat,
            resume=resume,
            watch=watch,
            plan=plan,
            form=drilling.Form(form.value),
            html=report,
            markdown=markdown,
            last_mile=last_mile,
        )
        loaded = load_config(config)
        guard = guarding(loaded, environment=environment, data=data or state() / "data", watch=watch)
        if threshold:
            _finish(lambda: find_threshold(loaded, threshold, wish, guard))
        _finish(lambda: command(loaded, wish, guard))
    if files := [name for name in names or () if experiment_command.is_file_of_one(name)]:
        # Not passed over: what was meant as a rehearsal must not be done for real.
        others = {
            "drills beside them": len(files) < len(names or ()), "--plan": plan, "--watch": watch, "--report": report,
            "--compare": compare, "--dry-run": dry_run, "--record": record, "--control": control, "--data": data,
            "--environment": environment, "--side": side,
            f"--format {form.value}": form not in (DrillForm.TEXT, DrillForm.JSON),
        }  # fmt: skip
        if given := [name for name, there in others.items() if there]:
            raise Problem(f"experiments of the Chaos Toolkit are run without {' and '.join(given)}")
        paths = [Path(name) for name in files]
        _finish(
            lambda: experiment_command.command(
                paths,
                as_json=form is DrillForm.JSON,
                journal=journal,
                strategy=strategy,
                frequency=frequency,
                fail_fast=fail_fast,
                variables=var or (),
            )
        )
    if journal or strategy or fail_fast or var:
        raise Problem(
            "--journal, --hypothesis-strategy, --fail-fast and --var are of experiments: name the file of one"
        )
    from stormwatch.harness.detour import on_prober_side

    loaded = load_config(config)
    wanted = names or [one.name for one in loaded.drills]
    drills = [_named(name, {one.name: one for one in loaded.drills}, "drill") for name in wanted]
    if not drills:
        raise Problem(f"{config}: there are no drills in it; add one under `drills:`")
    if side == "prober":
        drills = [on_prober_side(each) for each in drills]
    elif side == "target" and (named := [each.name for each in drills if each.side == "prober"]):
        raise Problem(f"{config}: {named[0]} says `side: prober` and names no route; leave `--side target` out")
    wishes = drilling.Wanted(
        plan=plan,
        dry_run=dry_run,
        watch=watch,
        form=drilling.Form(form.value),
        html=report,
        compare=compare,
        environment=environment,
        data=data,
        record=record,
        control=_seconds("--control", control) if control else 0.0,
    )
    if control and (record is None or all(each.side == "prober" for each in drills)):
        raise Problem("--control is recorded: give --record DIR, and a drill that is not on the prober's side")
    _finish(lambda: drilling.command(loaded, drills, wishes))


@app.command()
def undo(
    force: Annotated[
        bool, typer.Option("--force", help="Also take back the faults of a drill that is running now.")
    ] = False,
) -> None:
    """Take back every fault that a dead run left behind, and prove that it is gone."""
    from stormwatch.harness import undoing

    _finish(lambda: undoing.command(force=force, say=print))


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards, for looking around.")] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where the sample platform lives.")
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the status page is served.")
    ] = "127.0.0.1:9797",
    plant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="With --keep: a failure that the sample journeys find, such as wrong-total; again for more.",
        ),
    ] = None,
) -> None:
    """Start the sample platform, watch it, break payments, and prove that it was noticed and recovered from."""
    from stormwatch.harness import demonstration

    _finish(
        lambda: demonstration.command(directory or state() / "demo", keep=keep, listen=listen, plant=tuple(plant or ()))
    )


def main() -> None:
    """Entry point. Ends with an exit code of `Exit`; never with a traceback for what a user did."""
    allow_many()
    # Some authorities of the system's store are older than the rules: a person who runs a command cannot mend them.
    warnings.filterwarnings("ignore", message="Parsed a serial number which wasn't positive")
    logging.basicConfig(
        level=os.environ.get("STORMWATCH_LOG", "WARNING").upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        # Without its standalone mode, click returns the exit code of a command that asked for one.
        sys.exit(app(standalone_mode=False) or Exit.GOOD)
    except Problem as problem:
        for line in problem.lines:
            print(line, file=sys.stderr)
        sys.exit(problem.code)
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        sys.exit(Exit.NO_VERDICT)
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(Exit.USAGE)


def _finish(run: Callable[[], Coroutine[Any, Any, int]]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            code = runner.run(run())
        except asyncio.CancelledError as stopped:
            raise Problem("interrupted; everything that was begun is taken back", code=Exit.NO_VERDICT) from stopped
    raise typer.Exit(int(code))


def _named(name: str, known: dict[str, Any], noun: str) -> Any:
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none'}"
    raise Problem(f"no {noun} is called {name}; {hint}")


def _seconds(option: str, written: str) -> float:
    from stormwatch.probes.units import parse_duration

    try:
        return parse_duration(written)
    except ValueError as error:
        raise Problem(f"{option}: {error}") from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
