"""Debian's named as a small name space of its own: a signed root, a signed `test.`, zones below it in every condition.

All servers are reached on one port, each at a loopback address of its own, as delegations need them (see relay.py):

    ROOT      .
    PARENT    test.
    FIRST     the zones below test.
    SECOND    the same zones, where they have a second server
    RESOLVER  a validating resolver that begins at ROOT
"""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.program import program
from tests.servers.certificates import Issued
from tests.servers.process import answers, free_port, running, wait_for

ROOT, PARENT, FIRST, SECOND = (f"127.53.0.{number}" for number in range(1, 5))
RESOLVER = "127.0.0.1"

SOA = "@ 300 IN SOA ns1 admin {serial} 3600 600 86400 60\n"
NAMES = (
    "ns1 IN A {first}\nns2 IN A {second}\nwww 300 IN A 192.0.2.10\nwww 300 IN A 192.0.2.11\nalias 300 IN CNAME www\n"
)
TWO = "@ IN NS ns1\n@ IN NS ns2\n"
MORE = """\
caa 300 IN CAA 0 issue "ca.example"
https 300 IN HTTPS 1 . alpn="h2,h3" ipv4hint=192.0.2.10
svcb 300 IN SVCB 1 svc.shop.test. port=8443
tlsa 300 IN TLSA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971
ds 300 IN DS 60485 13 2 2BB183AF5F22588179A53B0A98631FAD1A29211800000000000000000000000F
ds 300 IN NS ns1
loc 300 IN LOC 42 21 54 N 71 6 18 W -24m 30m
naptr 300 IN NAPTR 100 10 "S" "SIP+D2U" "" _sip._udp.shop.test.
mx 300 IN MX 10 mail.shop.test.
txt 300 IN TXT "v=spf1 -all" "more"
srv 300 IN SRV 1 2 443 www.shop.test.
sshfp 300 IN SSHFP 1 2 123456789abcdef67890123456789abcdef67890123456789abcdef678901234
aaaa 300 IN AAAA 2001:db8::10
away 300 IN CNAME www.plain.test.
big 300 IN TXT {big}
*.wild 300 IN A 192.0.2.99
under.empty 300 IN A 192.0.2.12
"""


@dataclass(frozen=True)
class Signing:
    """How a zone is signed."""

    start: str = "-3600"
    """As dnssec-signzone takes it, relative to now."""
    end: str = "+864000"
    nsec3: bool = False
    opt_out: bool = False
    algorithm: str = "ECDSAP256SHA256"
    other_key: bool = False
    """The parent's DS records are of another key."""


@dataclass(frozen=True)
class Below:
    """A zone below `test.`."""

    text: str
    """What FIRST serves."""
    signing: Signing | None = None
    delegation: str = "@ IN NS ns1.@\n@ IN NS ns2.@\nns1.@ IN A {first}\nns2.@ IN A {second}\n"
    """What the parent says; `@` stands for the zone's name."""
    second: str | None = ""
    """What SECOND serves: the same when empty, nothing when None."""
    tamper: tuple[str, str] = ("", "")
    """What is replaced after signing."""


def standard(serial: int = 7) -> str:
    """A zone with two servers and a few names."""
    return SOA.format(serial=serial) + TWO + NAMES.format(first=FIRST, second=SECOND)


BIG = " ".join(f'"{"x" * 200}"' for _ in range(12))
ZONES: Mapping[str, Below] = {
    "shop": Below(standard() + MORE.format(big=BIG), Signing()),
    "three": Below(standard() + "*.wild 300 IN A 192.0.2.99\n", Signing(nsec3=True)),
    "rsa": Below(standard(), Signing(algorithm="RSASHA256")),
    "eddsa": Below(standard(), Signing(algorithm="ED25519")),
    "optout": Below(
        standard() + "child IN NS ns1\nsigned IN NS ns1\nsigned IN DS 60485 13 2 " + "ab" * 32 + "\n",
        Signing(nsec3=True, opt_out=True),
    ),
    "plain": Below(standard()),
    "expired": Below(standard(), Signing(start="-864000", end="-3600")),
    "early": Below(standard(), Signing(start="+3600", end="+864000")),
    "soon": Below(standard(), Signing(end="+7200")),
    "stranger": Below(standard(), Signing(other_key=True)),
    "changed": Below(standard(), Signing(), tamper=("192.0.2.10", "192.0.2.66")),
    "unsigned": Below(standard(), None, delegation=Below.delegation + "@ IN DS 60485 13 2 " + "ab" * 32 + "\n"),
    "unknown": Below(standard(), None, delegation=Below.delegation + "@ IN DS 60485 200 2 " + "ab" * 32 + "\n"),
    "lag": Below(standard(8), second=standard(7)),
    "lame": Below(standard(), second=None),
    "glueless": Below(standard(), delegation="@ IN NS ns1.@\n@ IN NS ns2.@\nns1.@ IN A {first}\n"),
    "differ": Below(
        SOA.format(serial=7) + "@ IN NS ns1\n@ IN NS ns2.plain.test.\n" + NAMES.format(first=FIRST, second=SECOND)
    ),
    "dead": Below(standard(), delegation=Below.delegation.replace("{second}", "127.53.0.77")),
    "cached": Below(standard(), delegation=Below.delegation.replace("{second}", RESOLVER)),
    "wild": Below(standard() + "* 300 IN A 192.0.2.98\n"),
}


@dataclass(frozen=True)
class Space:
    """A running name space."""

    port: int
    anchors: tuple[str, ...]
    """DS records of the root, as `dnssec.anchors` takes them."""
    tls_port: int
    """Where FIRST speaks DNS over TLS on 127.0.0.1."""
    https_port: int
    """Where FIRST speaks DNS over HTTPS on 127.0.0.1."""

    @property
    def root(self) -> str:
        """As `start` takes it."""
        return f"{ROOT}:{self.port}"

    @property
    def resolver(self) -> str:
        """As `server` takes it."""
        return f"{RESOLVER}:{self.port}"

    @property
    def first(self) -> str:
        """The authority of the zones below `test.`."""
        return f"{FIRST}:{self.port}"


@contextlib.contextmanager
def name_space(directory: Path, port: int, issued: Issued) -> Generator[Space]:
    """Sign all zones and start all servers; they end with the block. FIRST shows a certificate."""
    keys = directory / "keys"
    keys.mkdir()
    delegations, first, second = "", {}, {}
    for label, zone in ZONES.items():
        name = f"{label}.test."
        text = f"$TTL 300\n$ORIGIN {name}\n{zone.text}"
        delegations += zone.delegation.format(first=FIRST, second=SECOND).replace("@", name)
        if zone.signing is not None:
            text, dsset = _sign(directory, name, text, zone.signing)
            delegations += dsset
        text = text.replace(*zone.tamper) if zone.tamper[0] else text
        first[name] = text
        if zone.second is not None:
            second[name] = f"$TTL 300\n$ORIGIN {name}\n{zone.second}" if zone.second else text
    parent, dsset = _sign(
        directory,
        "test.",
        f"$TTL 300\n$ORIGIN test.\n{SOA.format(serial=3)}@ IN NS ns1\nns1 IN A {PARENT}\n{delegations}",
        Signing(),
    )
    root, anchors = _sign(
        directory,
        ".",
        "$TTL 300\n$ORIGIN .\n"
        + SOA.format(serial=1).replace("ns1 admin", "ns1. admin.")
        + f"@ IN NS ns1.\nns1. IN A {ROOT}\ntest. IN NS ns1.test.\nns1.test. IN A {PARENT}\n{dsset}",
        Signing(),
    )
    tls_port, https_port = free_port(), free_port()
    roles: list[tuple[str, dict[str, str], str]] = [
        (ROOT, {".": root}, ""),
        (PARENT, {"test.": parent}, ""),
        (FIRST, first, ""),
        (SECOND, second, ""),
        (RESOLVER, {}, _resolver(directory, anchors)),
    ]
    # Ubuntu's AppArmor lets /usr/sbin/named read nothing but its own directories; a copy elsewhere is not confined.
    named = shutil.copy(program("named"), directory / "named")
    # Only the resolver is on the common port itself: named asks others on the port that it listens on.
    ports = {address: port if address == RESOLVER else free_port() for address, _, _ in roles}
    with contextlib.ExitStack() as stack:
        for address, zones, extra in roles:
            home = directory / address
            home.mkdir()
            configuration = _configuration(home, address, ports[address], zones, extra)
            if address == FIRST:
                configuration = _encrypted(configuration, issued, tls_port, https_port)
            (home / "named.conf").write_text(configuration)
            command = [named, "-g", "-n", "1", "-c", home / "named.conf"]
            stack.enter_context(running(command, log=home / "log"))
        pairs = [f"{address}={ports[address]}" for address in (ROOT, PARENT, FIRST, SECOND)]
        relay = [sys.executable, "-m", "tests.servers.relay", str(port), *pairs]
        stack.enter_context(running(relay, log=directory / "relay.log"))
        for address, _, _ in roles:
            _wait("127.0.0.1", ports[address], directory / address / "log")
        _wait(SECOND, port, directory / "relay.log")
        _wait("127.0.0.1", https_port, directory / FIRST / "log")
        yield Space(port, tuple(line for line in anchors.splitlines() if line.strip()), tls_port, https_port)


def _encrypted(configuration: str, issued: Issued, tls_port: int, https_port: int) -> str:
    shown = f'tls shown {{ cert-file "{issued.chain_file}"; key-file "{issued.key_file}"; }};\n'
    path = 'http path { endpoints { "/dns-query"; }; };\n'
    listening = (
        f"listen-on port {tls_port} tls shown {{ 127.0.0.1; }};"
        f" listen-on port {https_port} tls shown http path {{ 127.0.0.1; }};"
    )
    return shown + path + configuration.replace("listen-on port", f"{listening} listen-on port", 1)


def _wait(address: str, port: int, log: Path) -> None:
    try:
        wait_for(lambda: answers((address, port)), what=f"named to listen on {address}", seconds=15)
    except AssertionError as error:
        raise AssertionError(f"{error}:\n{log.read_text()[-3000:]}") from None


def _resolver(directory: Path, anchors: str) -> str:
    (directory / "hints").write_text(f". 3600000 IN NS ns1.\nns1. 3600000 IN A {ROOT}\n")
    lines = []
    for line in anchors.splitlines():
        _, _, _, tag, algorithm, digest, *rest = line.split()
        lines.append(f'"." static-ds {tag} {algorithm} {digest} "{"".join(rest)}";')
    return f'zone "." {{ type hint; file "{directory}/hints"; }};\ntrust-anchors {{ {" ".join(lines)} }};\n'


def _configuration(home: Path, address: str, port: int, zones: Mapping[str, str], extra: str) -> str:
    listed = []
    for number, (zone, text) in enumerate(zones.items()):
        (home / f"zone-{number}").write_text(text)
        listed.append(
            f'zone "{zone}" {{ type primary; file "{home}/zone-{number}"; check-integrity no; check-names ignore; }};'
        )
    recursion = "yes" if extra else "no"
    return (
        f'options {{ directory "{home}"; port {port}; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};'
        f' pid-file none; session-keyfile "{home}/session"; recursion {recursion};{" allow-recursion { any; };" if extra else ""} allow-query {{ any; }};'
        f" allow-transfer {{ none; }}; notify no; minimal-responses no; max-udp-size 4096;"
        f' dnssec-validation {recursion}; server-id "{address}";'
        " empty-zones-enable no; };\n"
        f"controls {{ }};\n{extra}" + "\n".join(listed) + "\n"
    )


def _sign(directory: Path, name: str, text: str, signing: Signing) -> tuple[str, str]:
    """The signed zone, and the DS records for its parent."""
    home = directory / f"sign-{name}"
    home.mkdir()
    _run([program("dnssec-keygen"), "-q", "-f", "KSK", "-a", signing.algorithm, *_bits(signing), name], home)
    (home / "zone").write_text(text)
    command = [program("dnssec-signzone"), "-q", "-S", "-z", "-P", "-o", name, "-f", "signed"]
    command += ["-s", f"now{signing.start}", "-e", f"now{signing.end}"]
    if signing.nsec3:
        command += ["-3", "-", *(["-A"] if signing.opt_out else [])]
    _run([*command, "zone"], home)
    dsset = (home / f"dsset-{name}").read_text()
    if signing.other_key:
        other = _run([program("dnssec-keygen"), "-q", "-f", "KSK", "-a", signing.algorithm, name], home).strip()
        dsset = _run([program("dnssec-dsfromkey"), f"{other}.key"], home)
    return (home / "signed").read_text(), dsset


def _bits(signing: Signing) -> Sequence[str]:
    return ("-b", "2048") if signing.algorithm.startswith("RSA") else ()


def _run(command: Sequence[str], home: Path) -> str:
    done = subprocess.run(command, cwd=home, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
