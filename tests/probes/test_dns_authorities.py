"""The authorities of a zone compared, and asked themselves, against named with delegations in every condition."""

import re
from typing import Any

import pytest

from stormwatch.probes.dns import KIND
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.result import Outcome, Reason
from tests.servers.named import FIRST, RESOLVER, SECOND, Space
from tests.servers.probing import check_of, measures, phase_names, run


async def test_servers_that_agree_are_up_each_with_its_serial_number(names: Space) -> None:
    """By name and address, from the root down; the question itself is asked of them too."""
    result = await run(KIND, "www.shop.test", {"start": names.root, "authorities": {"min_servers": 2}})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "resolve", "connect", "request", "authorities"]
    serials = {
        (each.labels["server"], each.labels["address"]): each.value
        for each in result.measures
        if each.name == "stormwatch_dns_zone_serial"
    }
    assert serials == {("ns1.shop.test", FIRST): 7, ("ns2.shop.test", SECOND): 7}
    assert measures(result)["stormwatch_dns_zone_servers"] == 2
    assert result.evidence["zone"] == "shop.test."
    assert result.evidence["parent_names"] == result.evidence["zone_names"] == ["ns1.shop.test", "ns2.shop.test"]


WRONG = [
    ("lag", {}, f"zone lag.test.: ns2.lag.test ({SECOND}) has serial number 7, behind 8"),
    ("lame", {}, f"zone lame.test.: ns2.lame.test ({SECOND}) is lame: it answers REFUSED"),
    ("cached", {}, f"zone cached.test.: ns2.cached.test ({RESOLVER}) is lame: it does not answer as an authority"),
    (
        "glueless",
        {},
        "zone glueless.test.: the parent names ns2.glueless.test without its address (glue), and it is within the zone",
    ),
    (
        "differ",
        {},
        "zone differ.test.: only the parent names ns2.differ.test; only the zone itself names ns2.plain.test",
    ),
    ("dead", {}, "zone dead.test.: ns2.dead.test (127.53.0.77): no connection to 127.53.0.77:"),
    ("shop", {"min_servers": 3}, "zone shop.test.: it has 2 name servers, wanted at least 3"),
]


@pytest.mark.shows("dns", "assertion")
@pytest.mark.parametrize(("label", "options", "message"), WRONG, ids=[row[0] for row in WRONG])
async def test_what_is_wrong_with_the_servers_of_a_zone_is_named(
    names: Space, label: str, options: dict[str, Any], message: str
) -> None:
    """Lagging, lame, without glue, unlike the parent's, silent, too few; the answer itself is good."""
    result = await run(KIND, f"www.{label}.test", {"start": names.root, "authorities": options}, timeout=2)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "authorities")
    assert result.message.startswith(message)
    assert measures(result)["probe_dns_answer_rrs"] == 2
    lame = {each.labels["address"]: each.value for each in result.measures if each.name == "stormwatch_dns_zone_lame"}
    assert lame[FIRST] == 0
    assert sum(lame.values()) == (label in {"lame", "dead", "cached"})


TOLERATED = [
    ("lag", {"agree": False}),
    ("lame", {"lame": "any"}),
    ("dead", {"lame": "any"}),
    ("glueless", {"glue": "any"}),
    ("differ", {"same_as_parent": False}),
]


@pytest.mark.parametrize(("label", "options"), TOLERATED, ids=[row[0] for row in TOLERATED])
async def test_what_is_tolerated_is_up(names: Space, label: str, options: dict[str, Any]) -> None:
    """Each rule has its own switch."""
    result = await run(KIND, f"www.{label}.test", {"start": names.root, "authorities": options}, timeout=2)
    assert (result.outcome, result.message) == (Outcome.UP, "")


async def test_the_way_may_begin_anywhere_and_end_nowhere(names: Space) -> None:
    """At a server of the parent; and where nothing is delegated, that says so."""
    parent = names.root.replace("127.53.0.1", "127.53.0.2")
    good = await run(KIND, "www.shop.test", {"start": parent, "expect": {"authoritative": True}})
    nowhere = await run(KIND, "www.example.org", {"start": parent}, timeout=1)
    assert (good.outcome, good.message) == (Outcome.UP, "")
    assert (nowhere.outcome, nowhere.reason) == (Outcome.DOWN, Reason.DNS)
    assert nowhere.message == "127.53.0.2 answered REFUSED to www.example.org."
    assert nowhere.failed_phase == "resolve"
    assert measures(nowhere)["probe_dns_query_succeeded"] == 0


async def test_a_zone_is_compared_although_a_resolver_was_asked(names: Space) -> None:
    """Without `start` the way begins at the real root servers, which this policy does not let anybody reach."""
    options = {"server": names.resolver, "authorities": {}}
    result = await run(KIND, "www.shop.test", options, timeout=1, reach=Reach(refuse=_everything_but_here()))
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.POLICY)
    assert result.message.startswith("probes may not connect to a.root-servers.net (198.41.0.4)")


def _everything_but_here() -> Any:
    from stormwatch.probes.reach import networks

    return networks(("128.0.0.0/1", "::/0"))


@pytest.mark.shows("dns", "broken")
async def test_the_policy_holds_for_every_server_on_the_way(names: Space) -> None:
    """The first is refused already."""
    result = await run(KIND, "www.shop.test", {"start": names.root}, reach=Reach(refuse=OWN_HOST))
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.POLICY)
    assert result.message.startswith(f"probes may not connect to {names.root.partition(':')[0]}")


@pytest.mark.shows("dns", "up", "assertion")
async def test_a_wildcard_can_be_forbidden(names: Space) -> None:
    """One question more, for a name that nobody made."""
    options = {"server": names.first, "expect": {"wildcard": "forbidden", "answers": []}, "type": "A"}
    good = await run(KIND, "plain.test", options)
    bad = await run(KIND, "wild.test", options)
    assert (good.outcome, good.message) == (Outcome.UP, "")
    assert (bad.outcome, bad.reason, bad.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "wildcard")
    assert re.fullmatch(
        r"stormwatch-[0-9a-f]{16}\.wild\.test\. exists, with 192\.0\.2\.98: there is a wildcard, wanted none",
        bad.message,
    )


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"start": "root", "server": "127.0.0.1"}, "start: the authorities of the name are asked then, so give no server"),
    ({"start": "127.0.0.1", "transport": "tls"}, "start: authorities are asked over udp or tcp, not tls"),
    ({"start": "a b"}, "start 'a b': 'a b' is not a host name"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=[row[1][:30] for row in MISTAKES])
def test_a_mistake_in_the_options_is_one_sentence(options: dict[str, Any], message: str) -> None:
    """Before anything runs."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, "shop.test", options)
