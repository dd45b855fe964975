"""No secret leaves a trace: each field that may hold one holds a canary, every target says everything back, all outputs are searched."""

import base64
import contextlib
import json
import os
import sqlite3
import subprocess
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from stormwatch.harness.schema import schema
from stormwatch.probes.masking import forms
from tests.servers import parrot
from tests.servers.certificates import Authority
from tests.servers.command import invoke, staying
from tests.servers.parrot import Parrot
from tests.servers.process import free_port, wait_for


class Canaries:
    """One secret for each field, each with a middle that is found again however the rest was encoded."""

    def __init__(self, first: int = 0) -> None:
        self._first = first
        self.environ: dict[str, str] = {}
        self.planted: dict[str, str] = {}
        """The canary by the field that holds it."""

    def of(self, field: str, *, plain: bool = False) -> str:
        """A reference to a new canary. `plain`: of letters and digits only, where the field takes nothing else."""
        number = self._first + len(self.planted)
        middle = f"C4nary{number:03d}" + "".join(chr(97 + (number * 7 + step * 11) % 26) for step in range(18))
        value = middle if plain else f'k&"{middle}/+%'
        return self.put(field, value)

    def put(self, field: str, value: str) -> str:
        """A reference to a secret that is made by others."""
        name = f"CANARY_{len(self.planted)}"
        self.environ[name], self.planted[field] = value, value
        return f"${{env:{name}}}"

    def literal(self, field: str, *, plain: bool = False) -> str:
        """A canary that is written into a file as it is."""
        reference = self.of(field, plain=plain)
        return self.environ.pop(reference[6:-1])

    def needles(self) -> dict[str, str]:
        """What is searched for, and the field that it comes from: the secrets in every form, and pieces of them."""
        found: dict[str, str] = {}
        for field, secret in self.planted.items():
            for form in forms(secret):
                found[form] = field
            if "PRIVATE KEY" in secret:
                # Of a P-256 key in PKCS #8, bytes 36 to 67 are secret. The third line of its PEM holds the public key alone,
                # and a certificate whose fields happen to end on the same digit boundary shows that line in full.
                found |= dict.fromkeys(secret.splitlines()[1:3], field)
                continue
            middle = max(secret.replace("/", " ").replace('"', " ").split(), key=len).strip("+%")
            found[middle] = field
            for before in range(3):
                digits = base64.b64encode(bytes(before) + middle.encode()).decode()
                found[digits[4:-4]] = field
            found[middle.encode().hex()] = field
        return found


def key_pem(authority: Authority) -> tuple[str, str]:
    """A certificate and its key, in PEM form."""
    issued = authority.issue("client.test")
    return issued.chain_file.read_text(), issued.key_file.read_text()


def secret_fields(document: Any, path: str = "") -> Iterator[str]:
    """Where a JSON Schema says that a value is written and never shown."""
    if isinstance(document, dict):
        if document.get("writeOnly") is True:
            yield path
        for key, value in document.items():
            if key in ("$defs", "properties", "items", "additionalProperties"):
                yield from secret_fields(value, path)
            else:
                yield from secret_fields(value, f"{path}.{key}" if path else key)
    elif isinstance(document, list):
        for each in document:
            yield from secret_fields(each, path)


@pytest.fixture
def parrots() -> Generator[dict[str, Parrot]]:
    """One for each way of talking."""
    talks = {"http": parrot.http, "raw": parrot.raw, "redis": parrot.redis, "nats": parrot.nats}
    talks |= {"smtp": parrot.smtp, "imap": parrot.imap}
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Parrot(talk)) for name, talk in talks.items()}


def configuration(canaries: Canaries, parrots: dict[str, Parrot], directory: Path) -> dict[str, Any]:
    """Every kind that may hold a secret, with one in each field; requests with some in head, body and address."""
    authority = Authority(directory, "Canary Authority")
    at, of = {name: each.address for name, each in parrots.items()}, canaries.of

    def client(prefix: str) -> dict[str, str]:
        certificate, key = key_pem(authority)
        return {"certificate_pem": certificate, "key_pem": canaries.put(f"{prefix}.ClientCertificate.key_pem", key)}

    probes: list[dict[str, Any]] = []

    def probe(name: str, kind: str, target: str, **options: Any) -> None:
        probes.append({"name": name, "kind": kind, "target": target, "labels": {"service": "parrot"}, kind: options})

    web = parrots["http"].url
    oauth = {"token_url": f"{web}/400/token", "client_id": "watcher", "params": {"extra": of("http.OAuth2.params")}}
    probe("basic", "http", f"{web}/401/", basic_auth={"username": "u", "password": of("http.Login.password")})
    probe("digest", "http", f"{web}/401/", digest_auth={"username": "u", "password": of("digest")})
    probe("bearer", "http", f"{web}/200/", bearer=of("http.bearer", plain=True), expect={"status": [200, 418]})
    probe("oauth", "http", f"{web}/200/", oauth2={**oauth, "client_secret": of("http.OAuth2.client_secret")})
    probe("certificate", "http", "https://" + at["raw"] + "/", client_certificate=client("http"))
    probe(
        "everything",
        "http",
        f"{web}/500/",
        method="POST",
        headers={
            "Authorization": f"Token {of('header')}",
            "X-Api-Key": of("other header"),
            "Cookie": f"a={of('cookie')}",
        },
        body=of("body"),
        expect={"body_matches": [of("pattern", plain=True)], "headers": {"X-Echo-0": of("wanted header", plain=True)}},
    )
    probe(
        "json",
        "http",
        f"{web}/200/",
        body='{"a": "' + of("json body", plain=True) + '"}',
        method="POST",
        expect={"json": [{"path": "you_sent", "equals": of("wanted value", plain=True)}]},
    )
    probe(
        "api",
        "api",
        f"{web}/",
        headers={"X-Everywhere": of("api header")},
        variables={"password": of("api variable", plain=True)},
        bearer=of("api.bearer", plain=True),
        client_certificate=client("api"),
        steps=[
            {
                "name": "log in",
                "url": "200/a",
                "method": "POST",
                "form": {"user": "u", "password": "{{ password }}"},
                "bearer": of("api.ApiStep.bearer", plain=True),
            },
            {
                "name": "use",
                "url": "200/b?x={{ password }}",
                "headers": {"X-One": of("api step header")},
                "capture": {"taken": {"json": "you_sent"}},
                "expect": {"status": [418]},
            },
        ],
    )
    probe(
        "api-basic",
        "api",
        f"{web}/",
        basic_auth={"username": "u", "password": of("api.Login.password")},
        steps=[{"name": "one", "url": "500/"}],
    )
    probe(
        "api-oauth",
        "api",
        f"{web}/",
        oauth2={**oauth, "client_secret": of("api.OAuth2.client_secret")},
        steps=[{"name": "one", "url": "200/"}],
    )
    probe("websocket", "websocket", f"ws://{at['http']}/403/", bearer=of("websocket.bearer", plain=True))
    probe(
        "websocket-basic",
        "websocket",
        f"ws://{at['http']}/403/",
        basic_auth={"username": "u", "password": of("websocket.Login.password")},
    )
    for kind in ("redis", "nats", "mysql", "postgres", "rabbitmq", "kafka"):
        told = {"username": "watcher"} if kind != "redis" else {}
        probe(kind, kind, at.get(kind, at["raw"]), **told, password=of(f"{kind}.password"))
    probe("nats-token", "nats", at["nats"], token=of("nats.token", plain=True))
    probe(
        "grpc",
        "grpc",
        at["raw"],
        tls=True,
        client_certificate=client("grpc"),
        metadata={"x-key": of("metadata", plain=True)},
    )
    probe(
        "dns",
        "dns",
        "shop.test",
        server=f"https://{at['raw']}/dns-query",
        transport="https",
        client_certificate=client("dns"),
    )
    probe("tcp", "tcp", at["raw"], tls=True, client_certificate=client("tcp"))
    probe(
        "tcp-talk",
        "tcp",
        at["raw"],
        dialogue=[
            {"send": f"AUTH {of('dialogue')}\r\n", "expect": "^(?P<all>.*)$", "labels": {"said": "{{ all }}"}},
            {"expect": "never"},
        ],
    )
    probe("unix", "unix", str(directory / "no.sock"), tls=True, server_name="x.test", client_certificate=client("unix"))
    probe(
        "smtp",
        "smtp",
        at["smtp"],
        tls="none",
        username="u",
        password=of("smtp.password"),
        mail={
            "to": "a@b.test",
            "arrives": {
                "imap": at["imap"],
                "tls": "none",
                "username": "u",
                "password": of("smtp.ArrivesOptions.password"),
            },
        },
    )
    probe(
        "smtp-mailbox",
        "smtp",
        at["smtp"],
        tls="none",
        mail={
            "to": "a@b.test",
            "arrives": {"imap": at["imap"], "tls": "none", "username": "u", "password": of("mailbox")},
        },
    )
    probe("imap", "imap", at["imap"], tls="none", username="u", password=of("imap.password"))
    (directory / "client.p12").write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"n", None, authority.issue("p12.test").certificate, None, serialization.BestAvailableEncryption(b"another")
        )
    )
    probe("file", "certificate-file", str(directory / "client.p12"), password=of("certificate-file.password"))
    probe("job", "heartbeat", "backup", key=of("heartbeat.key", plain=True), interval="1s")
    return {
        "defaults": {"every": "1s", "timeout": "900ms", "confirm": {"attempts": 1}},
        "probes": probes,
        "objectives": [{"name": "all", "match": {"service": "parrot"}, "target": "99%", "window": "1d"}],
        "alerts": {
            "alertmanager": f"http://u:{of('alertmanager', plain=True)}@{at['http']}",
            "webhook": f"{web}/400/hook/{of('webhook address', plain=True)}",
            "notify": [
                {
                    "name": "pager",
                    "to": "pagerduty",
                    "routing_key": of("PagerDutyEntry.routing_key", plain=True),
                    "url": f"{web}/400/pd",
                },
                {
                    "name": "chat",
                    "to": "slack",
                    "token": of("SlackEntry.token", plain=True),
                    "channel": "C1",
                    "url": f"{web}/200/slack",
                },
                {
                    "name": "hook",
                    "to": "slack",
                    "webhook": canaries.put("SlackEntry.webhook", f"{web}/404/services/T0/B0/Sl4ckCanarySecret"),
                },
                {
                    "name": "mail",
                    "to": "email",
                    "server": "127.0.0.1",
                    "port": parrots["smtp"].port,
                    "tls": "none",
                    "username": "u",
                    "password": of("EmailEntry.password"),
                    "sender": "a@b.test",
                    "recipients": ["c@d.test"],
                },
                {
                    "name": "signed",
                    "to": "webhook",
                    "url": f"{web}/500/hook?key={of('webhook key', plain=True)}",
                    "secret": of("WebhookEntry.secret"),
                },
                {
                    "name": "room",
                    "to": "teams",
                    "url": canaries.put("TeamsEntry.url", f"{web}/400/workflows/T3amsCanarySecret/run"),
                },
                {
                    "name": "phone",
                    "to": "sms",
                    "url": f"{web}/503/sms",
                    "token": of("SmsEntry.token"),
                    "numbers": ["+4915112345678"],
                },
                {
                    "name": "gateway",
                    "to": "sms",
                    "url": f"{web}/401/sms",
                    "username": "u",
                    "password": of("SmsEntry.password"),
                    "encoding": "form",
                    "numbers": ["+4915112345678"],
                },
                {
                    "name": "fan",
                    "to": "apprise",
                    "urls": [
                        canaries.put(
                            "AppriseEntry.urls", f"{web.replace('http://', 'json://')}/403/Appr1seCanarySecret"
                        )
                    ],
                },
            ],
        },
    }


def get(url: str, *, method: str = "GET") -> str:
    """What an address answers, head and body, whatever its status."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return f"{answer.headers}\n{answer.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.headers}\n{error.read().decode()}"


def kept_in(directory: Path) -> Iterator[tuple[str, str]]:
    """Every file below a directory as text, and what is packed in the history."""
    for path in sorted(directory.rglob("*")):
        if not path.is_file():
            continue
        yield str(path.relative_to(directory)), path.read_bytes().decode("latin-1")
        if path.read_bytes()[:15] == b"SQLite format 3":
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                for table in tables:
                    for row in database.execute(f'SELECT * FROM "{table}"'):
                        yield f"{path.name}:{table}", " ".join(map(_unpacked, row))


def _unpacked(value: Any) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return zlib.decompress(value).decode()
    except zlib.error:
        return value.decode("latin-1")


def leaks(outputs: Iterator[tuple[str, str]] | list[tuple[str, str]], canaries: Canaries) -> list[str]:
    """Where which secret was found."""
    found: list[str] = []
    needles = canaries.needles()
    for place, text in outputs:
        for needle, field in needles.items():
            if needle in text:
                at = text.index(needle)
                found.append(f"{place}: {field}: …{text[max(0, at - 80) : at + len(needle) + 40]!r}…")
    return sorted(set(found))


def refused(canaries: Canaries, directory: Path) -> dict[str, Any]:
    """Secrets where none may stand, or not so: each is a mistake, which must not show it."""
    certificate, key = key_pem(Authority(directory, "Refused Authority"))
    pair = {"certificate_pem": certificate, "key_pem": canaries.put("websocket.ClientCertificate.key_pem", key)}

    def probe(name: str, kind: str, target: str, **options: Any) -> dict[str, Any]:
        return {"name": name, "kind": kind, "target": target, kind: options}

    return {
        "probes": [
            probe("files-only", "websocket", "wss://a.test/", client_certificate=pair),
            probe("no-pair", "tcp", "a.test:1", tls=True, client_certificate={**pair, "certificate_pem": "none"}),
            probe("target", "http", f"http://a.test/?token={canaries.of('target')}"),
            probe("pattern", "http", "http://a.test/", expect={"body_matches": [f"({canaries.of('bad pattern')}"]}),
            probe("method", "http", "http://a.test/", method=canaries.of("method")),
            probe("number", "http", "http://a.test/", max_redirects=canaries.of("number")),
            probe("key", "heartbeat", "job", key=canaries.of("a key that is none"), interval="1s"),
            probe("no-user", "kafka", "a.test", password=canaries.of("no user")),
            # Journeys have canaries of their own, in tests/journeys/test_secret_values.py; here its file is missing.
            probe(
                "no-file",
                "journey",
                "journeys/none.py::test",
                secrets={"card": canaries.of("journey.secrets")},
                client={
                    "proxy": "http://127.0.0.1:9",
                    "proxy_user": "u",
                    "proxy_password": canaries.of("journey.Client.proxy_password"),
                    "certificates": [
                        {
                            "origin": "https://a.test",
                            "certificate": "none.pem",
                            "key": "none.pem",
                            "passphrase": canaries.of("journey.ClientCertificate.passphrase"),
                        }
                    ],
                },
            ),
        ]
    }


def stormwatch(*words: str | Path, canaries: Canaries) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with everything logged."""
    environ = {**os.environ, **canaries.environ, "STORMWATCH_LOG": "DEBUG"}
    return invoke(*words, env=environ, timeout=200)


def test_every_field_for_a_secret_has_a_canary(tmp_path: Path, parrots: dict[str, Parrot]) -> None:
    """By the schema: a new kind or channel with a secret has to be planted too."""
    canaries = Canaries()
    configuration(canaries, parrots, tmp_path)
    refused(canaries, tmp_path)
    assert set(secret_fields(schema())) - set(canaries.planted) == set()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_commands_show_no_secret(tmp_path: Path, parrots: dict[str, Parrot]) -> None:
    """`check` in all its formats, `check --debug` of each probe, `validate`, `rules`."""
    canaries = Canaries()
    config = tmp_path / "stormwatch.yaml"
    document = configuration(canaries, parrots, tmp_path)
    # All look at once, and each has to get as far as to say its secret, on a busy machine too.
    document["defaults"] |= {"every": "3s", "timeout": "2s"}
    config.write_text(yaml.safe_dump(document))
    outputs: list[tuple[str, str]] = []

    def note(*words: str | Path) -> subprocess.CompletedProcess[str]:
        ended = stormwatch(*words, "-c", config, canaries=canaries)
        outputs.append((" ".join(map(str, words)), ended.stdout + ended.stderr))
        return ended

    assert note("validate").returncode == 0
    note("rules")
    for form in ("table", "json", "junit"):
        assert note("check", "--format", form).returncode in (1, 3)
    for name in ("everything", "api", "smtp", "oauth"):
        note("check", "--debug", name)

    assert leaks(outputs, canaries) == []
    ended = json.loads(next(text for place, text in outputs if place.endswith("json")).partition("\n}\n")[0] + "\n}")
    told = json.dumps(ended)
    assert "***" in told, "nothing came back: the parrots did not say what they were told"
    assert all(each.connections for each in parrots.values()), {n: p.connections for n, p in parrots.items()}


def test_mistakes_show_no_secret(tmp_path: Path) -> None:
    """Also where the secret itself is the mistake."""
    canaries = Canaries()
    document = refused(canaries, tmp_path)
    config = tmp_path / "stormwatch.yaml"
    config.write_text(yaml.safe_dump(document))
    for command in ("validate", "check"):
        ended = stormwatch(command, "-c", config, canaries=canaries)
        assert ended.returncode == 2, ended.stdout
        assert "Traceback" not in ended.stderr
        for number, probe in enumerate(document["probes"]):
            assert f"probes[{probe['name']}]" in ended.stderr or f"probes[{number}]" in ended.stderr, probe["name"]
        assert leaks([(command, ended.stdout + ended.stderr)], canaries) == []


def test_a_running_service_shows_and_keeps_no_secret(tmp_path: Path, parrots: dict[str, Parrot]) -> None:
    """Log, pages, API, metrics, JSON lines, history, outbox, messages; and `/probe` with blackbox_exporter's modules."""
    canaries, unshown = Canaries(), Canaries(500)
    config, modules, data = tmp_path / "stormwatch.yaml", tmp_path / "blackbox.yml", tmp_path / "data"
    document = configuration(canaries, parrots, tmp_path)
    config.write_text(yaml.safe_dump(document))
    modules.write_text(yaml.safe_dump(blackbox(canaries, unshown, tmp_path)))
    names = [probe["name"] for probe in document["probes"]]
    port, lines, log = free_port(), tmp_path / "results.jsonl", tmp_path / "log"
    here = f"http://127.0.0.1:{port}"
    command = ["run", "-c", config, "--listen", f"127.0.0.1:{port}", "--data", data, "--jsonl", lines]
    command += ["--blackbox", modules, "--probe-allow", "127.0.0.0/8"]
    seen: list[tuple[str, str]] = []
    with staying(*command, log=log, port=port, environ={**canaries.environ, "STORMWATCH_LOG": "DEBUG"}):

        def done() -> bool:
            told = (
                {json.loads(line)["probe"] for line in lines.read_text().splitlines()[:-1]} if lines.exists() else set()
            )
            return set(names) <= told

        wait_for(done, what="a result of every probe")
        wait_for(lambda: '"firing"' in get(f"{here}/api/v1/alerts"), what="an alert")
        get(f"{here}/ping/{canaries.planted['heartbeat.key']}/backup", method="POST")
        for name in yaml.safe_load(modules.read_text())["modules"]:
            prober = yaml.safe_load(modules.read_text())["modules"][name]["prober"]
            target = parrots["raw"].address if prober in ("tcp", "grpc") else f"{parrots['http'].url}/401/"
            asked = f"module={name}&target={urllib.parse.quote(target, safe='')}"
            seen.append((f"/probe {name}", get(f"{here}/probe?{asked}")))
            seen.append((f"/probe {name} debug", get(f"{here}/probe?{asked}&debug=true")))
        paths = ["/", "/metrics", "/config", "/blackbox", "/blackbox/config", "/-/ready", "/no/such/page"]
        paths += [f"/api/v1/{what}" for what in ("probes", "results", "alerts", "objectives", "transitions")]
        paths += [f"/api/v1/{what}" for what in ("notifications", "notifications/firing", "silences")]
        paths += [f"/probes/{name}" for name in names] + [f"/api/v1/results?probe={name}" for name in names]
        seen += [(path, get(f"{here}{path}")) for path in paths]
        seen += kept_in(data)
    seen += [("log", log.read_text()), ("lines", lines.read_text()), *kept_in(data)]
    found = leaks(seen, canaries)
    assert not found, "\n".join(found)
    shown = dict(seen)
    assert leaks([(path, shown[path]) for path in ("/config", "/blackbox/config")], unshown) == []
    assert shown["lines"].count("***") > len(names), "the parrots did not say what they were told"
    assert "***" in shown["/blackbox/config"] or "<secret>" in shown["/blackbox/config"]
    assert len(shown["log"]) > 1000


def blackbox(canaries: Canaries, unshown: Canaries, directory: Path) -> dict[str, Any]:
    """Modules with a secret in each field that holds one. They stand in the file itself, as blackbox_exporter wants it.

    `unshown` is for texts that may be anything, like a body: the modules are shown without them, but what a target makes of
    them is not searched for each `{}`.
    """
    of = canaries.literal
    certificate, key = key_pem(Authority(directory, "Blackbox Authority"))
    canaries.planted["TlsConfig.key"] = canaries.planted["OAuth2.client_certificate_key"] = key
    pair = {"cert": certificate, "key": key, "insecure_skip_verify": True}

    def http(**options: Any) -> dict[str, Any]:
        return {"prober": "http", "timeout": "2s", "http": options}

    return {
        "modules": {
            "basic": http(basic_auth={"username": "u", "password": of("BasicAuth.password")}),
            "bearer": http(bearer_token=of("HttpModule.bearer_token", plain=True)),
            "credentials": http(
                authorization={"type": "Token", "credentials": of("Authorization.credentials", plain=True)}
            ),
            "oauth": http(
                oauth2={
                    "client_id": "c",
                    "client_secret": of("OAuth2.client_secret"),
                    "token_url": "http://127.0.0.1:9/t",
                }
            ),
            "headers": http(
                headers={"X-Api-Key": of("HttpModule.headers")},
                http_headers={
                    "X-Other": {
                        "values": [unshown.literal("HeaderValues.values")],
                        "secrets": [of("HeaderValues.secrets")],
                    }
                },
                method="POST",
                body=unshown.literal("HttpModule.body"),
                fail_if_body_matches_regexp=["C4nary"],
            ),
            "certificate": http(tls_config=pair),
            "send": {
                "prober": "tcp",
                "timeout": "1s",
                "tcp": {
                    "query_response": [
                        {"send": f"AUTH {unshown.literal('send')}"},
                        {"expect": "^AUTH (.*)$"},
                        {"expect": "never"},
                    ]
                },
            },
            "metadata": {
                "prober": "grpc",
                "timeout": "1s",
                "grpc": {"metadata": {"authorization": [of("GrpcModule.metadata", plain=True)]}},
            },
        }
    }
