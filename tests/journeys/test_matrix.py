"""A matrix: one entry of the configuration is a probe for each combination, and what refers to it says which."""

from pathlib import Path
from typing import Any

import pytest

from stormwatch.harness.config import Config, ConfigError, load
from stormwatch.journeys.client import Client
from stormwatch.journeys.journey import JourneyCheck
from stormwatch.journeys.matrix import variants

ENTRY = """\
probes:
  - name: checkout
    kind: journey
    target: test_it.py::test_it
    every: 2m
    timeout: 45s
    labels: {team: shop}
    journey: JOURNEY
"""

MATRIX = "{client: {color_scheme: dark}, matrix: {browser: [chromium], device: [iPhone 13, Pixel 7], cpu: [2, 4]}}"


def loaded(tmp_path: Path, journey: str, more: str = "") -> Config:
    """A configuration with one journey."""
    (tmp_path / "test_it.py").write_text("def test_it(): ...\n")
    path = tmp_path / "stormwatch.yaml"
    path.write_text(ENTRY.replace("JOURNEY", journey) + more)
    return load(path, environ={})


def test_an_entry_is_a_probe_for_each_combination(tmp_path: Path) -> None:
    """With a name and labels of its own, and what else the entry says."""
    probes = {probe.name: probe for probe in loaded(tmp_path, MATRIX).probes}
    assert list(probes) == [
        "checkout.chromium.iPhone-13.2",
        "checkout.chromium.iPhone-13.4",
        "checkout.chromium.Pixel-7.2",
        "checkout.chromium.Pixel-7.4",
    ]
    third = probes["checkout.chromium.Pixel-7.2"]
    wanted = {"team": "shop", "matrix": "checkout", "browser": "chromium", "device": "Pixel 7", "cpu": "2"}
    assert (third.labels, third.every, third.target) == (wanted, 120.0, probes[next(iter(probes))].target)
    assert isinstance(third.check, JourneyCheck)
    assert third.check.journey.client == Client(color_scheme="dark", device="Pixel 7", cpu=2.0).as_text()
    assert (
        len({check.journey.worker_key for probe in probes.values() if isinstance(check := probe.check, JourneyCheck)})
        == 4
    )


def test_all_of_them_are_matched_by_the_label_matrix(tmp_path: Path) -> None:
    """And one by its name, or by what it is made of."""
    more = """\
objectives:
  - {name: all, match: {matrix: checkout}, target: 99%, window: 30d}
  - {name: phones, match: {matrix: checkout, device: iPhone 13}, target: 99%, window: 30d}
  - {name: one, probe: checkout.chromium.Pixel-7.4, target: 99%, window: 30d}
"""
    objectives = loaded(tmp_path, MATRIX, more).objectives
    assert [len(each.probes) for each in objectives] == [4, 2, 1]


REFERENCES = [
    ("objectives:\n  - {name: a, probe: checkout, target: 99%, window: 30d}\n", "objectives[a].probe"),
    ("  - {name: b, kind: http, target: 'http://a/', depends_on: [checkout]}\n", "probes[b].depends_on[0]"),
]


@pytest.mark.parametrize(("more", "place"), REFERENCES, ids=["objective", "depends_on"])
def test_the_entrys_own_name_is_no_probes(tmp_path: Path, more: str, place: str) -> None:
    """It would be four of them; which is meant has to be said."""
    said = "checkout stands for the probes checkout.chromium.iPhone-13.2 and 3 more, by its matrix; name one of them"
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, MATRIX, more)
    assert [line.partition(": ")[2] for line in caught.value.lines] == [f"{place}: {said}"]


def test_a_circle_through_a_matrix_is_seen(tmp_path: Path) -> None:
    """Each of its probes depends on what the entry depends on."""
    more = "    depends_on: [b]\n  - {name: b, kind: http, target: 'http://a/', depends_on: [checkout.Pixel-7]}\n"
    with pytest.raises(ConfigError, match=r"circle: checkout → b → checkout"):
        loaded(tmp_path, "{matrix: {device: [Pixel 7]}}", more)


WRONG = [
    (
        "{matrix: {device: [Pixel 7, Pixle 7]}}",
        "journey.matrix.device[1]: Playwright knows no device 'Pixle 7'; did you",
    ),
    ("{matrix: {device: []}}", "journey.matrix.device: "),
    ("{matrix: {device: Pixel 7}}", "journey.matrix.device: wanted a list, not 'Pixel 7'"),
    ("{matrix: {devices: [Pixel 7]}}", "journey.matrix.devices: "),
    ("{matrix: {locale: [de, de]}}", "journey.matrix.locale: has de twice; list it once"),
    ("{client: {locale: de}, matrix: {locale: [en]}}", "journey.matrix.locale: client.locale is given too; give one"),
    ("{browser: firefox, matrix: {browser: [webkit]}}", "journey.matrix.browser: browser is given too; give one"),
    (
        "{matrix: {locale: [aa, ab, ac, ad, ae], cpu: [2, 3, 4, 5, 6]}}",
        "journey.matrix: 5 × 5 are 25 probes, each with a browser of its own; list fewer, 24 at most",
    ),
    (
        "{matrix: {browser: [chromium, firefox], cpu: [4]}}",
        "journey.client.cpu: can be had in chromium alone, not in f",
    ),
]


@pytest.mark.parametrize(("journey", "said"), WRONG, ids=lambda value: value[:30])
def test_a_wrong_matrix_is_told_once(tmp_path: Path, journey: str, said: str) -> None:
    """At the place that is wrong, and not for each of its probes."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, journey)
    (line,) = caught.value.lines
    assert line.partition("probes[checkout].")[2].startswith(said), line


def test_names_and_labels_that_a_matrix_makes_are_nobody_elses(tmp_path: Path) -> None:
    """Neither an entry's nor another matrix's."""
    more = "  - {name: checkout.de, kind: http, target: 'http://a/'}\n"
    with pytest.raises(ConfigError, match=r"its matrix makes a probe checkout\.de, as the entry on line 9 does"):
        loaded(tmp_path, "{matrix: {locale: [de]}}", more)
    with pytest.raises(
        ConfigError, match=r"labels\.matrix: the matrix sets the label matrix itself; choose another name"
    ):
        loaded(
            tmp_path,
            "{matrix: {locale: [de]}}",
            "  - {name: b, kind: journey, target: 'test_it.py::test_it', every: 2m, labels: {matrix: x}, journey: {matrix: {cpu: [2]}}}",
        )


@pytest.mark.parametrize("block", [{}, {"matrix": None}, {"matrix": {}}, {"matrix": [1]}, {"matrix": {"cpu": 4}}])
def test_what_is_no_matrix_stands_for_itself(block: dict[str, Any]) -> None:
    """What is wrong with it is told by who reads the options."""
    assert variants(block) == ()
