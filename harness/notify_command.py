"""`stormwatch notify` and `stormwatch silence`: do receivers answer, what were people told, who takes an alert."""

import asyncio
import getpass
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from stormwatch.harness.invocation import DEFAULT_CONFIG
from stormwatch.harness.problem import Exit, Problem

notify = typer.Typer(help="Notifications: try them, read what was told, take an alert.", no_args_is_help=True)
silence = typer.Typer(help="Silences: nobody is told of certain alerts for some time.", no_args_is_help=True)


class Shape(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"


class State(StrEnum):
    """What became of a delivery."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    REFUSED = "refused"


class Severity(StrEnum):
    """How urgent the test alert is."""

    PAGE = "page"
    HIGH = "high"
    TICKET = "ticket"
    INFO = "info"


From = Annotated[str, typer.Option("--from", metavar="URL", help="The running stormwatch that is asked.")]
Form = Annotated[Shape, typer.Option("--format")]
By = Annotated[str, typer.Option("--by", metavar="WHO", help="Who does it; your login by default.")]
HERE: Final = "http://127.0.0.1:9797"


@notify.command("test")
def try_out(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME …]", help="Channels; all by default.")] = None,
    config: Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")] = DEFAULT_CONFIG,
    severity: Annotated[Severity, typer.Option("--severity")] = Severity.PAGE,
    wait: Annotated[float, typer.Option("--wait", metavar="SECONDS", help="Time for each receiver to answer.")] = 30.0,
    form: Form = Shape.TEXT,
) -> None:
    """Send a marked test alert, firing and then resolved. Exit code 1: a receiver refuses it or does not answer."""
    from stormwatch.harness.invocation import load_config
    from stormwatch.harness.notify_trial import trial

    receipts = asyncio.run(trial(load_config(config), names or (), severity=severity.value, wait=wait))
    if form is Shape.JSON:
        typer.echo(json.dumps({"notifications": receipts}, indent=2))
    else:
        for each in receipts:
            typer.echo(f"{each['channel']}: {each['status']}: {each['state']}: {each['said'] or 'no answer'}")
    if any(each["state"] != "delivered" for each in receipts):
        raise typer.Exit(Exit.NOT_GOOD)


@notify.command()
def log(
    source: From = HERE,
    since: Annotated[str, typer.Option("--since", metavar="DURATION", help="How far back.")] = "1d",
    channel: Annotated[str, typer.Option("--channel", metavar="NAME", help="Only this channel.")] = "",
    state: Annotated[
        State | None, typer.Option("--state", help="Only what waits, was delivered, or was refused.")
    ] = None,
    form: Form = Shape.TEXT,
) -> None:
    """Show who was told what and when, and what the receivers said: the newest first."""
    params = {"since": since, "channel": channel, "state": state.value if state else ""}
    found = _ask(source, "GET", "notifications", params=params)["notifications"]
    if form is Shape.JSON:
        typer.echo(json.dumps({"notifications": found}, indent=2))
        return
    from stormwatch.exporters.message import Message
    from stormwatch.exporters.notification import rfc3339

    for each in found:
        message = Message.from_json(each["message"])
        tries = "" if each["attempts"] <= 1 and each["settled"] else f" after {each['attempts']} tries"
        instead = f" instead of {each['instead_of']}" if each["instead_of"] else ""
        passed_on = ", passed on to its fallback" if each["passed_on"] else ""
        known_as = f" (id {each['reference']})" if each.get("reference") else ""
        at = rfc3339(each["settled"] or each["created"])
        said = each["said"] or "nothing was said yet"
        typer.echo(
            f"{at} {each['channel']}{instead}: {each['state']}{tries}{passed_on}: {message.title}: {said}{known_as}"
        )


@notify.command()
def firing(source: From = HERE, form: Form = Shape.TEXT) -> None:
    """Show the alerts that fire, with their fingerprints, who took them, and why nobody is told."""
    found = _ask(source, "GET", "notifications/firing")["alerts"]
    if form is Shape.JSON:
        typer.echo(json.dumps({"alerts": found}, indent=2))
        return
    from stormwatch.exporters.notification import rfc3339

    for each in found:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(each["labels"].items()))
        taken = f", taken by {each['acknowledged']['by']}" if each["acknowledged"] else ""
        muted = f", muted by {each['muted_by']}" if each["muted_by"] else ""
        flapping = each["annotations"].get("flapping", "")
        flaps = f", flapping {flapping}" if flapping else ""
        over = f", over since {rfc3339(each['over_since'])}, held back" if each["over_since"] is not None else ""
        typer.echo(f"{each['fingerprint']} {labels}{taken}{muted}{flaps}{over}")


@notify.command()
def ack(
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="Of the alert; the messages show it.")],
    by: By = "",
    lasting: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="Time until people are told again; 0s gives it back.")
    ] = "4h",
    source: From = HERE,
    form: Form = Shape.TEXT,
) -> None:
    """Take an alert: it is not repeated, and PagerDuty, Slack and mail say who has it."""
    body = {"by": by or _login(), "for": lasting}
    _show(_ask(source, "POST", f"alerts/{fingerprint}/acknowledgement", json=body), form)


@silence.command()
def add(
    *,
    match: Annotated[list[str], typer.Option("--match", metavar="LABEL=VALUE,…", help="Labels of the alerts.")],
    lasting: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long.")],
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="Why.")] = "",
    by: By = "",
    source: From = HERE,
    form: Form = Shape.TEXT,
) -> None:
    """Tell nobody of alerts with these labels. What people know to fire is still told to be over."""
    labels: dict[str, str] = {}
    for part in ",".join(match).split(","):
        name, sign, value = part.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise Problem(f"--match wants LABEL=VALUE, not {part!r}")
        labels[name.strip()] = value.strip()
    body = {"match": labels, "for": lasting, "comment": comment, "created_by": by or _login()}
    _show(_ask(source, "POST", "silences", json=body), form)


@silence.command("list")
def list_(source: From = HERE, form: Form = Shape.TEXT) -> None:
    """Show the silences that hold."""
    from stormwatch.exporters.notification import rfc3339

    found = _ask(source, "GET", "silences")["silences"]
    if form is Shape.JSON:
        typer.echo(json.dumps({"silences": found}, indent=2))
        return
    for each in found:
        labels = ",".join(f"{name}={value}" for name, value in sorted(each["match"].items()))
        typer.echo(f"{each['id']} {labels} until {rfc3339(each['ends_at'])} by {each['created_by']}: {each['comment']}")


@silence.command()
def expire(id_: Annotated[str, typer.Argument(metavar="ID")], source: From = HERE, form: Form = Shape.TEXT) -> None:
    """End a silence now."""
    _show(_ask(source, "POST", f"silences/{id_}/expire", json={}), form)


def _ask(source: str, method: str, path: str, **values: Any) -> Any:
    import httpx

    try:
        answer = httpx.request(method, f"{source.rstrip('/')}/api/v1/{path}", timeout=10.0, **values)
        document = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Problem(
            f"no stormwatch answers at {source}: {error}; start `stormwatch run`, or say where with --from",
            code=Exit.NO_VERDICT,
        ) from error
    if answer.is_success:
        return document
    raise Problem(f"{source}: {document.get('error', answer.status_code)}", code=Exit.USAGE)


def _show(document: dict[str, Any], form: Shape) -> None:
    if form is Shape.JSON:
        typer.echo(json.dumps(document, indent=2))
        return
    for name, value in document.items():
        typer.echo(f"{name}: {value}")


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"
