"""What the documentation shows is true: every configuration in it loads, every command and file in it exists."""

import re
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from stormwatch.harness.cli import app
from stormwatch.harness.config import load

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str, having: str = "") -> list[object]:
    """Every block of a language in the documentation, with a name that says where it stands."""
    return [
        pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, (lang, text) in enumerate(BLOCK.findall(page.read_text()), 1)
        if lang == language and having in text
    ]


@pytest.mark.parametrize("text", blocks("yaml", having="# stormwatch.yaml"))
def test_configurations_load(text: str, tmp_path: Path) -> None:
    """A reader can copy any configuration and it is accepted."""
    for name in re.findall(r"\S+?(?=::)", text):
        journey = tmp_path / name.strip("\"'")
        journey.parent.mkdir(parents=True, exist_ok=True)
        journey.write_text("def test_checkout(): ...\n")
    for name in re.findall(r"target: (\S+/)$", text, re.MULTILINE):
        if "://" not in name:
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / name / "test_shop.py").write_text("import pytest\n@pytest.mark.journey\ndef test_shop(): ...\n")
    for name in re.findall(r"(?:ca_file|certificate|key|ca): *([\w./-]+\.(?:pem|key))", text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(_certificate())
    # A UUID, because keys of heartbeats must be hard to guess.
    secrets = dict.fromkeys(re.findall(r"\$\{env:(\w+)\}", text), "b3f1d6a0-4c2e-4f7b-9a55-0c1d2e3f4a5b")
    path = tmp_path / "stormwatch.yaml"
    path.write_text(text)

    load(path, environ=secrets)


@pytest.mark.parametrize("text", blocks("console") + blocks("sh"))
def test_commands_exist(text: str) -> None:
    """Every `stormwatch …` line names a command and options that are there."""
    known = get_command(app).commands
    for line in text.splitlines():
        match = re.match(r"(?:\$ )?(?:\.venv/bin/)?stormwatch (\S+)(.*)", line)
        if not match:
            continue
        assert match[1] in known, f"no command {match[1]}"
        command = known[match[1]]
        if isinstance(command, TyperGroup):
            inner = match[2].split()[0]
            assert inner in command.commands, f"no command {match[1]} {inner}"
            command = command.commands[inner]
        options = {option for parameter in command.params for option in parameter.opts}
        for option in re.findall(r"(?<=\s)--[a-z-]+", match[2]):
            assert option in options, f"stormwatch {match[1]} has no {option}"


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link and every picture is a file of the repository."""
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (document.parent / target).exists(), f"{target} is linked and is not there"


def test_no_page_names_a_machine() -> None:
    """No path of anybody's machine stands in the documentation."""
    for page in PAGES:
        assert not re.search(r"/(home|root|work|tmp)/\w+", page.read_text()), page


def _certificate() -> bytes:
    """A self-signed certificate with its key, for options that name such a file."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
