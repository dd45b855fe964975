"""Secrets reach the check that needs them and nothing that is shown."""

import json
from pathlib import Path

import pytest

from stormwatch.harness.config import Config, ConfigError, effective, load
from stormwatch.harness.secret import Secrets
from stormwatch.probes.http import HttpCheck

TEXT = """\
probes:
  - name: front
    kind: http
    target: https://shop.example/
    http:
      headers: {Authorization: "Token ${env:TOKEN}", X-Literal: "$${env:TOKEN}"}
  - name: api
    kind: http
    target: https://shop.example/api
    http: {basic_auth: {username: watch, password: "${file:secrets/password}"}}
alerts:
  webhook: https://hooks.example/${env:HOOK}
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration with three secrets."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/password").write_text("correct horse\n")
    (tmp_path / "stormwatch.yaml").write_text(TEXT)
    return load(tmp_path / "stormwatch.yaml", environ={"TOKEN": "t0ps3cret", "HOOK": "h00k"})


def test_the_check_has_them_plainly(config: Config) -> None:
    """What is sent is the secret, without the file's last line break."""
    front, api = (probe.check for probe in config.probes)

    assert isinstance(front, HttpCheck)
    assert isinstance(api, HttpCheck)
    assert front.options.headers == {"Authorization": "Token t0ps3cret", "X-Literal": "${env:TOKEN}"}
    assert api.options.basic_auth is not None
    assert api.options.basic_auth.password == "correct horse"
    assert config.alerts.webhook == "https://hooks.example/h00k"


def test_nothing_that_is_shown_has_them(config: Config) -> None:
    """Not the representation, not the effective configuration, not a probe's options."""
    shown = [repr(config), str(config), json.dumps(effective(config))]
    shown += [json.dumps(probe.options) for probe in config.probes]

    for secret in ("t0ps3cret", "correct horse", "h00k"):
        assert not [text for text in shown if secret in text]
    assert config.probes[0].options["headers"]["Authorization"] == "Token ***"
    assert effective(config)["alerts"]["webhook"] == "https://hooks.example/***"


def test_their_values_are_known_for_masking(config: Config) -> None:
    """So that logs can be masked too."""
    assert {"t0ps3cret", "correct horse", "h00k"} == config.secrets


@pytest.mark.parametrize("option", ["method: ${env:TOKEN}", 'expect: {body_matches: ["${env:TOKEN}"]}'])
def test_a_mistake_never_shows_one(tmp_path: Path, option: str) -> None:
    """Also when it is the secret itself that is wrong, and when it is a kind of probe that says so."""
    (tmp_path / "stormwatch.yaml").write_text(TEXT.partition("  - name: api")[0] + f"      {option}\n")

    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "stormwatch.yaml", environ={"TOKEN": "t0p (s3cret"})

    assert "t0p" not in str(caught.value)
    assert "***" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${env:EMPTY}", "the environment variable EMPTY is empty; set it, or use ${file:PATH}"),
        ("${env:NOPE}", "the environment variable NOPE is not set; set it, or use ${file:PATH}"),
        ("${file:nope}", "the secret file 'nope' cannot be read: No such file or directory"),
        ("${file:empty}", "the secret file empty is empty; write the secret into it"),
        ("${file:binary}", "the secret file binary is not text in UTF-8"),
        ("${file:a\0b}", "the secret file 'a\\x00b' cannot be read: embedded null byte"),
        ("${vault:x}", "${vault:x} is no reference; write ${env:NAME} or ${file:PATH}, or $${ for a plain ${"),
        ("${env:NAME", "${env:NAME is no reference; write ${env:NAME} or ${file:PATH}, or $${ for a plain ${"),
    ],
)
def test_a_reference_that_leads_nowhere(tmp_path: Path, text: str, said: str) -> None:
    """One sentence, with the remedy."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")

    with pytest.raises(ValueError, match=r"^") as caught:
        Secrets({"EMPTY": ""}, tmp_path).resolve(text)

    assert said == str(caught.value)


def test_longer_secrets_are_masked_first() -> None:
    """A secret that is part of another one does not leave the rest of it visible."""
    assert Secrets.of(["pass", "password"]).mask({"a": ["password", "x pass"], "b": 3}) == {
        "a": ["***", "x ***"],
        "b": 3,
    }
