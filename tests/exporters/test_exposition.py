"""The text format: what is written is what Prometheus' own parser reads."""

import math
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from stormwatch.exporters.exposition import (
    Family,
    GzipStream,
    Sample,
    accepts_gzip,
    label_name,
    number,
    render,
)
from stormwatch.exporters.histogram import Histogram

text = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True), text, max_size=4), text)
def test_any_label_value_and_help_read_back(labels: dict[str, str], help_text: str) -> None:
    """Quotes, backslashes, newlines, anything a target may have said comes back as it was."""
    labels = {name: value for name, value in labels.items() if not name.startswith("__")}

    (family,) = text_string_to_metric_families(
        render([Family("seen", help_text, "gauge", [Sample(1.5, labels)])]).decode()
    )

    assert [labels] == [sample.labels for sample in family.samples]
    assert family.samples[0].value == 1.5


@given(st.floats())
def test_any_number_reads_back(value: float) -> None:
    """Also the infinite ones and NaN, without loss."""
    (family,) = text_string_to_metric_families(render([Family("seen", "", "gauge", [Sample(value)])]).decode())

    read = family.samples[0].value
    assert read == value or (math.isnan(read) and math.isnan(value))


def test_special_numbers_are_spelled_as_the_format_wants() -> None:
    """Go reads several spellings; the specification has one."""
    assert [number(value) for value in (math.inf, -math.inf, math.nan, 0, 1797821110.0, 0.001, 1e-9)] == [
        "+Inf",
        "-Inf",
        "NaN",
        "0",
        "1797821110",
        "0.001",
        "1e-09",
    ]


def test_families_are_sorted_and_those_of_one_name_are_one() -> None:
    """A name must not come twice: two sources may add to one family."""
    exposed = render(
        [
            Family("b", "second", "gauge", [Sample(1, {"from": "one"})]),
            Family("a", "first", "counter", []),
            Family("b", "not this", "gauge", [Sample(2, {"from": "two"})]),
        ]
    )

    assert (
        exposed == b"# HELP a first\n# TYPE a counter\n"
        b'# HELP b second\n# TYPE b gauge\nb{from="one"} 1\nb{from="two"} 2\n'
    )


def test_a_lone_surrogate_does_not_break_the_page() -> None:
    """Bytes that were not UTF-8 may hide in what a target said; the page must still be UTF-8."""
    assert b'seen{said="caf?"} 1' in render([Family("seen", "", "gauge", [Sample(1, {"said": "caf\udce9"})])])


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("team", "team"),
        ("team-name", "team_name"),
        ("9lives", "_9lives"),
        ("__name__", "_name__"),
        ("é", "_"),
        ("", "_"),
    ],
)
def test_label_names_become_the_nearest_valid_ones(name: str, valid: str) -> None:
    """Also the empty one; a leading double underscore belongs to Prometheus."""
    assert valid == label_name(name)


def test_a_metric_name_that_is_none_is_refused() -> None:
    """Better at once than a page that no Prometheus reads."""
    with pytest.raises(ValueError, match="metric name 'a-b'"):
        Family("a-b", "", "gauge", [])


@pytest.mark.parametrize(
    ("header", "accepted"),
    [("gzip", True), ("deflate, GZIP;q=0.5", True), ("*", True), ("", False), ("gzip;q=0", False), ("br", False)],
)
def test_gzip_is_used_when_it_is_accepted(header: str, accepted: bool) -> None:
    """RFC 9110: a weight of zero is a refusal."""
    assert accepted == accepts_gzip(header)


def test_a_gzip_stream_is_gzip() -> None:
    """The pieces together are one gzip file."""
    stream = GzipStream()

    assert zlib.decompress(stream.compress(b"ab" * 5000) + stream.flush(), 31) == b"ab" * 5000


def test_a_histogram_counts_what_is_at_or_below_each_bound() -> None:
    """A value on a bound belongs to it; +Inf has all."""
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 3.0):
        histogram.observe(value)

    samples = histogram.samples({"probe": "front"})

    assert [(s.labels["le"], s.value) for s in samples[:3]] == [("0.1", 2), ("1", 3), ("+Inf", 4)]
    assert [(s.suffix, s.value) for s in samples[3:]] == [("_sum", 3.65), ("_count", 4)]
