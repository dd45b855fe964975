"""What a module means in our terms, where the differential test cannot ask the exporter that is installed."""

from pathlib import Path
from typing import Any

import pytest

from stormwatch.harness.blackbox_checks import Impossible, build
from stormwatch.harness.blackbox_module import Module, read_modules
from stormwatch.harness.blackbox_translation import Draft, Materials, Translation, translate
from tests.servers.certificates import Authority


def module(directory: Path, text: str) -> Module:
    """A module from its YAML in one line."""
    path = directory / "blackbox.yml"
    path.write_text(f"modules: {{m: {text}}}")
    return read_modules(path).modules["m"]


def translated(directory: Path, text: str, target: str, hostname: str = "") -> Translation:
    """The translation, and that a check can be built of it."""
    read = module(directory, text)
    built = build(read, target, hostname, Materials(directory))
    assert not isinstance(built.check, Impossible), built.check
    return translate(read, target, hostname, Draft(Materials(directory)))


def options(directory: Path, text: str, target: str, *names: str, hostname: str = "") -> dict[str, Any]:
    """Some of the options, those that are not there as None."""
    found = translated(directory, text, target, hostname).options
    return {name: found.get(name) for name in names}


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("h", "http://h"),
        ("h:80/a", "http://h:80/a"),
        ("HTTP://h/", "http://h/"),
        ("https://h/?a=b", "https://h/?a=b"),
        ("[::1]:80", "http://[::1]:80"),
    ],
)
def test_a_target_without_a_scheme_is_http(target: str, url: str, tmp_path: Path) -> None:
    """Whatever the case of the scheme."""
    assert translated(tmp_path, "{prober: http}", target).target == url


def test_http3_needs_tls(tmp_path: Path) -> None:
    """A plain target becomes an https one."""
    read = module(tmp_path, "{prober: http, http: {enable_http3: true, enable_http2: false}}")
    found = translate(read, "http://h/", "", Draft(Materials(tmp_path)))
    assert (found.target, found.options["version"]) == ("https://h/", "3")


def test_a_proxy(tmp_path: Path) -> None:
    """Its login apart from its address; names are resolved here unless the module leaves that to it."""
    text = (
        "{prober: http, http: {proxy_url: 'http://me:se%20cret@proxy:3128', no_proxy: 'a, b', "
        "proxy_connect_header: {X-A: [secret-b]}}}"
    )
    found = translated(tmp_path, text, "http://h/")
    assert {name: value for name, value in found.options.items() if "proxy" in name} == {
        "proxy": "http://proxy:3128",
        "proxy_auth": {"username": "me", "password": "se cret"},
        "no_proxy": ["a", "b"],
        "proxy_headers": {"X-A": ["secret-b"]},
        "proxy_resolves": False,
        "proxy_from_environment": False,
    }
    assert found.secrets == {"se cret", "secret-b"}
    text = "{prober: http, http: {proxy_url: 'socks5://proxy:1080', skip_resolve_phase_with_proxy: true}}"
    assert options(tmp_path, text, "http://h/", "proxy", "proxy_resolves") == {
        "proxy": "socks5h://proxy:1080",
        "proxy_resolves": True,
    }


def test_oauth2(tmp_path: Path) -> None:
    """Client credentials, from a file too; what cannot be done is said in every run."""
    (tmp_path / "secret").write_text("topsecret\n")
    text = (
        f"{{prober: http, http: {{oauth2: {{client_id: me, client_secret_file: {tmp_path}/secret, "
        "token_url: 'https://t/', scopes: [a, b], endpoint_params: {x: y}}}}"
    )
    found = translated(tmp_path, text, "http://h/")
    assert found.options["oauth2"] == {
        "token_url": "https://t/",
        "client_id": "me",
        "client_secret": "topsecret",
        "scopes": ["a", "b"],
        "params": {"x": "y"},
    }
    assert found.files == (f"{tmp_path}/secret",)
    read = module(tmp_path, "{prober: http, http: {oauth2: {client_id: a, token_url: 'http://t/', grant_type: jwt}}}")
    check = build(read, "http://h/", "", Materials(tmp_path)).check
    assert isinstance(check, Impossible)
    assert check.sentence == "oauth2 by a signed assertion (RFC 7523) cannot be done here: use client_secret"


@pytest.mark.parametrize(
    ("http", "wanted"),
    [
        ("bearer_token: tokentoken", {"bearer": "tokentoken", "headers": None}),
        ("authorization: {credentials: tokentoken}", {"bearer": "tokentoken", "headers": None}),
        ("authorization: {type: Key, credentials: tokentoken}", {"bearer": None, "headers": {"Authorization": "Key tokentoken"}}),
        ("authorization: {}", {"bearer": None, "headers": None}),
    ],
)  # fmt: skip
def test_who_we_are(http: str, wanted: dict[str, Any], tmp_path: Path) -> None:
    """Of the ways to say it, each becomes one of ours."""
    assert options(tmp_path, f"{{prober: http, http: {{{http}}}}}", "http://h/", *wanted) == wanted


def test_the_host_name_of_a_request(tmp_path: Path) -> None:
    """It is the Host header and the name for TLS; a server_name of the module wins there."""
    wanted = ("headers", "server_name")
    found = options(tmp_path, "{prober: http}", "https://192.0.2.1/", *wanted, hostname="h:8443")
    assert found == {"headers": {"Host": "h:8443"}, "server_name": "h"}
    text = "{prober: http, http: {headers: {host: a}, tls_config: {server_name: b}}}"
    assert options(tmp_path, text, "https://192.0.2.1/", *wanted) == {"headers": {"host": "a"}, "server_name": "b"}


def test_certificates_that_stand_in_the_module(tmp_path: Path) -> None:
    """They are put into files that only we can read, once."""
    authority = Authority(tmp_path, "authority")
    client = authority.issue("me")
    path = tmp_path / "blackbox.yml"
    pem = {
        "ca": authority.file.read_text(),
        "cert": client.chain_file.read_text(),
        "key": client.key_file.read_text(),
    }
    lines = "".join(
        f"        {name}: |\n" + "".join(f"          {line}\n" for line in text.splitlines())
        for name, text in pem.items()
    )
    path.write_text(f"modules:\n  m:\n    prober: http\n    http:\n      tls_config:\n{lines}")
    own = tmp_path / "own"
    own.mkdir()
    read = read_modules(path)
    built = build(read.modules["m"], "https://h/", "", Materials(own))
    assert not isinstance(built.check, Impossible), built.check
    assert len(list(own.iterdir())) == 3
    assert {file.stat().st_mode & 0o777 for file in own.iterdir()} == {0o600}
    assert "PRIVATE KEY" not in str(read.shown)


def test_websocket(tmp_path: Path) -> None:
    """Headers, logins, TLS, and a dialogue of messages without line feeds."""
    text = (
        "{prober: websocket, websocket: {http_config: {bearer_token: tokentoken, tls_config: {insecure_skip_verify: true}}, "
        "headers: {X-A: {values: [b]}}, query_response: [{send: 'hi {{x'}, {expect: 'ok', send: bye}], "
        "preferred_ip_protocol: ip4, ip_protocol_fallback: false}}"
    )
    found = translated(tmp_path, text, "wss://h/chat")
    assert (found.kind, found.target) == ("websocket", "wss://h/chat")
    assert dict(found.options) == {
        "headers": {"X-A": ["b"]},
        "ip": "prefer-4",
        "ip_fallback": False,
        "bearer": "tokentoken",
        "dialogue": [{"send": "hi {{{{x"}, {"expect": "ok"}, {"send": "bye"}],
        "verify": False,
    }
    check = build(
        module(tmp_path, "{prober: websocket, websocket: {query_response: [{expect: '(a)', send: '${1}'}]}}"),
        "ws://h/",
        "",
        Materials(tmp_path),
    ).check
    assert isinstance(check, Impossible)
    assert "cannot be sent back" in check.sentence


def test_rules_for_records(tmp_path: Path) -> None:
    """`fail_if_all_match_regexp` fails unless all match: the name says the opposite."""
    text = (
        "{prober: dns, dns: {query_name: a, validate_answer_rrs: {fail_if_matches_regexp: [n], "
        "fail_if_all_match_regexp: [a1], fail_if_not_matches_regexp: [a2], fail_if_none_matches_regexp: [o]}}}"
    )
    assert options(tmp_path, text, "192.0.2.53", "expect")["expect"] == {
        "min_answers": 0,
        "rcode": "NOERROR",
        "answer": {"none_match": ["n"], "all_match": ["a1", "a2"], "any_match": ["o"], "min": 1},
    }
