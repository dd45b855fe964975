"""Whatever stands in a file, reading it ends in a configuration or in a ConfigError, and a sound one always loads."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stormwatch.harness.config import Config, ConfigError, effective, load

DOCUMENT = {
    "location": "fra1",
    "defaults": {"every": "30s", "timeout": "5s", "confirm": {"attempts": 2, "after": "1s"}},
    "probes": [
        {
            "name": "front",
            "kind": "http",
            "target": "https://shop.example/",
            "every": "15s",
            "depends_on": ["dns"],
            "labels": {"service": "shop", "team": "web"},
            "runbook": "https://runbooks.example/front",
            "alert": {"severity": "page", "for": "0s"},
            "http": {
                "headers": {"Accept": "text/html", "Authorization": "Bearer ${env:TOKEN}"},
                "max_body": "64KiB",
                "expect": {"status": [200, "3xx"], "body_matches": ["Add to cart"], "slower_than": "800ms"},
            },
        },
        {"name": "dns", "kind": "dns", "target": "shop.example", "dns": {"expect": {"answers": ["192.0.2.10"]}}},
        {"name": "tls", "kind": "tls", "target": "shop.example:443", "tls": {"expires_within": "21d"}},
        {"name": "tcp", "kind": "tcp", "target": "shop.example:25", "tcp": {"dialogue": [{"expect": "^220 "}]}},
    ],
    "objectives": [
        {"name": "front-availability", "probe": "front", "target": "99.9%", "window": "30d"},
        {"name": "shop", "match": {"service": "shop"}, "target": "95%", "slower_than": "500ms", "policy": "fast-slow"},
    ],
    "alerts": {"alertmanager": "http://127.0.0.1:9093", "webhook": "http://127.0.0.1:9000/${env:TOKEN}"},
    "maintenance": [{"match": {"service": "shop"}, "rrule": "FREQ=WEEKLY;BYDAY=SU;BYHOUR=3", "duration": "1h"}],
    "proxies": {
        "control": "127.0.0.1:8474",
        "routes": [{"name": "payments", "listen": "127.0.0.1:18445", "upstream": "127.0.0.1:8445", "http": True}],
    },
    "drills": [
        {
            "name": "slow",
            "fault": {"kind": "tcp-latency", "target": "payments", "delay": "2s", "share": "50%"},
            "expect": {
                "probe": {"name": "front", "reason": "timeout", "within": "60s"},
                "alert": {"probe": "front", "severity": "page", "within": "90s"},
                "resolves_within": "5m",
                "allow": ["shop"],
            },
        }
    ],
}
TOKEN = "s3cret-t0ken"
MISTAKE = re.compile(r".*stormwatch\.yaml(:\d+)?: .+", re.DOTALL)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            "0s",
            "15s",
            "1:30",
            "0%",
            "100%",
            "64KiB",
            "${env:TOKEN}",
            "${env:NOPE}",
            "${file:/}",
            "${",
            "front",
            "dns",
            "http",
            "tcp-reset",
            "payments",
            "FREQ=HOURLY",
            "FREQ=YEARLY;INTERVAL=0",
            "::",
            "~nobody/x",
            "[::1]:99999",
            "https://[",
            "http://h:x/",
            "xn--",
            "(",
            "none",
            "internal",
            "9999999999999w",
            "\x00",
        ]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "kind", "target", "<<", "expect", "x y", ""]) | st.text(max_size=5),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)


def places(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a document, the top first."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, member in members for place in places(member, (*at, key)))]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """The sound document with one to three things in it replaced, removed, renamed, doubled or moved."""
    document: Any = copy.deepcopy(DOCUMENT)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(document)[1:] or [()]))
        if not place:
            return document
        parent = document
        for part in place[:-1]:
            parent = parent[part]
        key = place[-1]
        change = draw(st.sampled_from(["replace", "remove", "rename", "double", "swap"]))
        if change == "remove":
            del parent[key]
        elif change == "rename" and isinstance(parent, dict):
            parent[draw(st.text(max_size=8)) or "x"] = parent.pop(key)
        elif change == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif change == "swap":
            other: Any = document
            for part in draw(st.sampled_from(places(document))):
                other = other[part]
            parent[key] = copy.deepcopy(other)
        else:
            parent[key] = draw(values)
    return document


def outcome(directory: Path, text: str | bytes) -> Config | ConfigError:
    """What comes of a text. Anything else that is raised fails the test."""
    path = directory / "stormwatch.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        return load(path, environ={"TOKEN": TOKEN})
    except ConfigError as error:
        return error


def check(directory: Path, text: str | bytes) -> None:
    """Every mistake is one printable line in order, without the secret; every configuration can be shown."""
    came = outcome(directory, text)
    if isinstance(came, Config):
        assert TOKEN not in json.dumps(effective(came)) + repr(came)
        return
    assert came.mistakes
    assert list(came.mistakes) == sorted(set(came.mistakes))
    assert all(MISTAKE.fullmatch(line) for line in came.lines)
    assert not [line for line in came.lines if TOKEN in line or "\n" in line]


slow_machines = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_the_document_that_is_mutated_is_sound(tmp_path: Path) -> None:
    """Or the mutations would prove nothing."""
    came = outcome(tmp_path, yaml.safe_dump(DOCUMENT))

    assert isinstance(came, Config), came


@slow_machines
@given(document=mutated())
def test_a_mutated_document_is_read_or_refused(tmp_path: Path, document: Any) -> None:
    """As YAML that a library wrote."""
    check(tmp_path, yaml.safe_dump(document, allow_unicode=True))


@slow_machines
@given(data=st.data())
def test_a_mutilated_text_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """A stretch of the text is cut out, doubled, or replaced by what YAML gives a meaning to."""
    text = yaml.safe_dump(DOCUMENT, sort_keys=False)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    sign = data.draw(
        st.sampled_from(
            ["", "\t", "[", "{", "]", ": ", "- ", "&a ", "*a", "<<: ", "!!int ", "|\n", "'", '"', "#", "---\n", "\0"]
        )
    )
    check(tmp_path, text[:start] + sign + text[end:] if data.draw(st.booleans()) else text[:end] + sign + text[start:])


@slow_machines
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_noise_is_refused(tmp_path: Path, content: bytes) -> None:
    """Any bytes."""
    check(tmp_path, content)


@slow_machines
@given(
    every=st.integers(2_000, 10**7),
    share=st.fractions(0, 1),
    attempts=st.integers(1, 10),
    target=st.integers(9_400, 9_999),
    labels=st.dictionaries(
        st.from_regex(r"\A[a-z]{1,3}_[a-z]{1,5}\Z"), st.text("abc äß:#{}[]'\"-~!&*%@`,?|>\\ ", min_size=1), max_size=4
    ),
)
def test_sound_documents_load(  # noqa: PLR0917 - hypothesis passes each by its name
    tmp_path: Path, every: int, share: Any, attempts: int, target: int, labels: dict[str, str]
) -> None:
    """Whatever the numbers and the labels are: attempts that fit into the interval, a target that can be missed."""
    timeout = max(1, int(share * (every - 1) / attempts))
    document = {
        "probes": [
            {
                "name": "front",
                "kind": "http",
                "target": "https://shop.example/",
                "every": f"{every}ms",
                "timeout": f"{timeout}ms",
                "confirm": {"attempts": attempts, "after": "0s"},
                "alert": {"severity": "none"},
                "labels": labels,
            }
        ],
    }
    if attempts > 1:
        document["objectives"] = [{"name": "front", "probe": "front", "target": f"{target / 100}%", "window": "30d"}]
    came = outcome(tmp_path, yaml.safe_dump(document, allow_unicode=True))

    assert isinstance(came, Config), came
    assert came.probes[0].labels == labels
    assert came.probes[0].every == every / 1000
