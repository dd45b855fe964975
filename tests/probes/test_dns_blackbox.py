"""Whatever blackbox_exporter's dns module can say, options of ours can say too, and the values are the same."""

import re
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import dns.message
import dns.query
import pytest
import yaml

from stormwatch.probes.dns import KIND
from stormwatch.probes.records import lines
from stormwatch.probes.result import Outcome
from tests.program import program
from tests.servers.named import Space
from tests.servers.probing import measures, run
from tests.servers.process import free_port, running

PLAIN: dict[str, Any] = {"edns": False, "retry_truncated": False, "resend": "0s"}
"""How blackbox_exporter asks: without EDNS, once, and content with what fits."""
RULES = {
    "fail_if_matches_regexp": lambda texts: {"none_match": texts},
    "fail_if_not_matches_regexp": lambda texts: {"all_match": texts, "min": 1},
    "fail_if_none_matches_regexp": lambda texts: {"any_match": texts},
    "fail_if_all_match_regexp": lambda texts: {"all_match": texts},  # it does the opposite of its name
}
"""Its rules for a section, and ours."""

ROWS: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    ("a", "www.shop.test", "A", {}, {}),
    ("no-such-name", "nope.shop.test", "A", {}, {}),
    (
        "no-such-name-wanted",
        "nope.shop.test",
        "A",
        {"valid_rcodes": ["NXDOMAIN", "SERVFAIL"]},
        {"rcode": ["NXDOMAIN", "SERVFAIL"]},
    ),
    ("no-records", "www.shop.test", "MX", {}, {}),
    ("soa", "shop.test", "SOA", {}, {}),
    ("ns", "shop.test", "NS", {}, {}),
    ("any", "www.shop.test", "ANY", {}, {}),
    ("alias", "alias.shop.test", "A", {}, {}),
    ("cut-off", "big.shop.test", "TXT", {}, {}),
    ("delegation", "deeper.shop.root-has-no-such.", "A", {}, {}),
]
for _name, _kind in (("www.shop.test", "A"), ("www.shop.test", "MX"), ("txt.shop.test", "TXT"), ("shop.test", "NS")):
    for _section in ("answer", "authority", "additional"):
        for _rule, _ours in RULES.items():
            for _number, _texts in enumerate(
                (
                    [r"^www\.shop\.test\.\t300\tIN\tA\t192\.0\.2\.1[01]$"],
                    [r"192\.0\.2\.10"],
                    [r"shop\.test\.\t300\tIN\t", r"\t"],
                    [r'TXT\t"v=spf1 -all" "more"$', r"127\.53\.0\.3"],
                    [r"never"],
                )
            ):
                ROWS.append(
                    (
                        f"{_name}-{_kind}-{_section}-{_rule}-{_number}",
                        _name,
                        _kind,
                        {f"validate_{_section}_rrs": {_rule: _texts}},
                        {_section: _ours(_texts)},
                    )
                )
TYPES = ("aaaa AAAA", "caa CAA", "tlsa TLSA", "ds DS", "naptr NAPTR", "mx MX", "srv SRV", "sshfp SSHFP")
for _row in TYPES:
    _label, _, _kind = _row.partition(" ")
    ROWS.append((f"text-{_kind}", f"{_label}.shop.test", _kind, {}, {}))


def modules() -> dict[str, Any]:
    """One for each row, and those over other transports."""
    found: dict[str, Any] = {}
    for key, name, kind, theirs, _ in ROWS:
        asked = {"query_name": name, "query_type": kind, "preferred_ip_protocol": "ip4", **theirs}
        found[key] = {"prober": "dns", "timeout": "2s", "dns": asked}
    found["tcp"] = {
        "prober": "dns",
        "timeout": "2s",
        "dns": {"query_name": "big.shop.test", "query_type": "TXT", "transport_protocol": "tcp"},
    }
    return found


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Debian's blackbox_exporter with all the modules."""
    directory: Path = tmp_path_factory.mktemp("blackbox")
    configuration = directory / "blackbox.yml"
    configuration.write_text(yaml.safe_dump({"modules": modules()}))
    port = free_port()
    command = [
        program("prometheus-blackbox-exporter"),
        f"--config.file={configuration}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(command, log=directory / "log", port=port):
        yield f"http://127.0.0.1:{port}"


def probe(exporter: str, module: str, target: str, *, debug: bool = False) -> str:
    """Its page for one probe."""
    asked = {"module": module, "target": target} | ({"debug": "true"} if debug else {})
    with urllib.request.urlopen(f"{exporter}/probe?{urlencode(asked)}", timeout=10) as answer:
        return str(answer.read().decode())


def values(page: str) -> dict[str, float]:
    """Its values without labels, but for those that are times."""
    found = {name: float(value) for name, value in re.findall(r"^(probe_\w+) (\S+)$", page, re.MULTILINE)}
    return {name: value for name, value in found.items() if "seconds" not in name}


SAME = (
    "probe_dns_answer_rrs",
    "probe_dns_authority_rrs",
    "probe_dns_additional_rrs",
    "probe_dns_query_succeeded",
    "probe_dns_serial",
    "probe_ip_protocol",
    "probe_ip_addr_hash",
)


async def test_every_row_ends_the_same_with_the_same_values(names: Space, exporter: str) -> None:
    """More than two hundred questions, each asked by both; every kind of ending is among them."""
    endings = set()
    for key, name, kind, _, expect in ROWS:
        theirs = values(probe(exporter, key, names.first))
        options = {**PLAIN, "server": names.first, "type": kind, "ip": "prefer-4"}
        result = await run(KIND, name, {**options, "expect": {"min_answers": 0, **expect}})
        assert theirs.pop("probe_success") == (result.outcome is Outcome.UP), f"{key}: {result.message}"
        seen = measures(result)
        assert {each: seen[each] for each in SAME if each in seen} == theirs, key
        endings.add((key.rpartition("-")[0].rpartition("-")[2], result.outcome))
    assert {(rule, outcome) for rule in RULES for outcome in (Outcome.UP, Outcome.DOWN)} <= endings


async def test_over_tcp_the_values_are_the_same_too(names: Space, exporter: str) -> None:
    """A long answer in one piece."""
    theirs = values(probe(exporter, "tcp", names.first))
    options = {"edns": False, "server": names.first, "type": "TXT", "transport": "tcp"}
    result = await run(KIND, "big.shop.test", options)
    assert theirs.pop("probe_success") == 1
    assert {each: measures(result)[each] for each in theirs} == theirs


async def test_records_are_written_as_it_writes_them(names: Space, exporter: str, tmp_path: Path) -> None:
    """An expression of the whole line, made of our text, matches its text: for every type that is served."""
    made: dict[str, Any] = {}
    for row in (*TYPES, "www A", "txt TXT", "alias CNAME"):
        label, _, kind = row.partition(" ")
        answer = dns.query.udp(
            dns.message.make_query(f"{label}.shop.test", kind, use_edns=False), "127.53.0.3", port=names.port, timeout=3
        )
        texts = [f"^{re.escape(line)}$".replace("\\\t", "\t") for line in lines(answer.answer)]
        assert texts
        asked = {
            "query_name": f"{label}.shop.test",
            "query_type": kind,
            "preferred_ip_protocol": "ip4",
            "validate_answer_rrs": {"fail_if_not_matches_regexp": ["|".join(texts)]},
        }
        made[kind] = {"prober": "dns", "timeout": "2s", "dns": asked}
    configuration = tmp_path / "blackbox.yml"
    configuration.write_text(yaml.safe_dump({"modules": made}))
    port = free_port()
    command = [
        program("prometheus-blackbox-exporter"),
        f"--config.file={configuration}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(command, log=tmp_path / "log", port=port):
        for kind in made:
            page = probe(f"http://127.0.0.1:{port}", kind, names.first, debug=True)
            assert "\nprobe_success 1" in page, page[:3000]
