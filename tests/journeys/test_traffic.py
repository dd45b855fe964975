"""What is kept of a run's requests: counted all, told apart by bounded sets, without what may be secret."""

import json

import pytest

from stormwatch.journeys.traffic import (
    DOMAINS,
    FAILURES,
    OTHERS,
    SLOWEST,
    Exchange,
    Share,
    Traffic,
    TrafficReport,
    shown,
)


def taken(*exchanges: Exchange) -> TrafficReport:
    traffic = Traffic()
    for exchange in exchanges:
        traffic.take(exchange)
    return traffic.report()


PAGE = Exchange(url="https://www.shop.test/cart", type="document", seconds=0.2, size=1000, status=200)


def test_requests_are_counted_by_type_and_what_browsers_call_otherwise_is_other() -> None:
    beacon = Exchange(url="https://shop.test/b", type="beacon", seconds=0.1, status=204)
    script = Exchange(url="https://shop.test/a.js", type="script", seconds=0.1, size=50, status=404)
    report = taken(PAGE, beacon, script, script)
    assert report.requests == 4
    assert report.by_type["document"] == Share(requests=1, bytes=1000, failed=0, seconds=0.2)
    assert report.by_type["other"] == Share(requests=1, bytes=0, failed=0, seconds=0.1)
    assert report.by_type["script"] == Share(requests=2, bytes=100, failed=2, seconds=0.2)


@pytest.mark.parametrize(
    ("url", "third"),
    [
        ("https://www.shop.test/x", False),
        ("https://shop.test/x", False),
        ("https://img.shop.test:8443/x", False),
        ("https://notshop.test/x", True),
        ("https://shop.test.evil.test/x", True),
        ("data:…", False),
    ],
)
def test_a_third_party_is_whoever_is_not_below_the_first_pages_domain(url: str, *, third: bool) -> None:
    assert bool(taken(PAGE, Exchange(url=url)).third_parties) is third


def test_third_parties_of_a_page_that_names_thousands_stay_few() -> None:
    many = [Exchange(url=f"https://host-{number}.test/x", size=10) for number in range(1000)]
    parties = taken(PAGE, *many).third_parties
    assert len(parties) == DOMAINS
    assert parties[OTHERS].requests == 1000 - (DOMAINS - 1)
    assert sum(share.bytes for share in parties.values()) == 10_000


def test_the_slowest_and_the_first_failures_are_told() -> None:
    slow = [Exchange(url=f"https://shop.test/{number}", seconds=number / 10) for number in range(20)]
    wrong = [Exchange(url=f"https://shop.test/{number}", failure="net::ERR_FAILED") for number in range(100)]
    report = taken(*slow, *wrong)
    assert [each.seconds for each in report.slowest] == [1.9, 1.8, 1.7, 1.6, 1.5]
    assert len(report.slowest) == SLOWEST
    assert [each.url[-2:] for each in report.failures] == [
        "/0",
        "/1",
        "/2",
        "/3",
        "/4",
        "/5",
        "/6",
        "/7",
        "/8",
        "/9",
    ] + [str(number) for number in range(10, FAILURES)]
    assert report.by_type["other"].failed == 100


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("https://ann:secret@shop.test:8443/a/b?token=secret#secret", "https://shop.test:8443/a/b"),
        ("data:text/html,secret", "data:…"),
        ("blob:https://shop.test/secret", "blob:…"),
        ("https://shop.test/" + "a" * 1000, "https://shop.test/" + "a" * 282),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(url: str, seen: str) -> None:
    assert shown(url) == seen


def test_what_is_written_as_json_is_read_back_equal() -> None:
    report = taken(PAGE, Exchange(url="https://cdn.test/a.js", type="script", failure="net::ERR_FAILED"))
    assert TrafficReport.from_json(json.loads(json.dumps(report.as_json()))) == report
