"""`peers:` and `quorum:` in the configuration: which other locations there are, and how many must agree."""

from dataclasses import dataclass, field
from typing import Any

from stormwatch.harness.document import Place
from stormwatch.harness.draft import Draft
from stormwatch.harness.entry import PeerEntry
from stormwatch.harness.probe_section import ProbeSection


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another stormwatch that runs the same probes."""

    location: str
    url: str = field(repr=False)
    """Not shown: it may hold a secret."""


def read_peers(draft: Draft, data: Any, *, location: str) -> tuple[Peer, ...]:
    """Read the section; every mistake in it is complained about. `location` is ours."""
    peers: dict[str, Peer] = {}
    named: dict[str, int] = {}
    for place, item in draft.items(data, ("peers",)):
        entry = draft.read(PeerEntry, item, place, secret=True)
        if entry is None:
            continue
        if entry.location == location:
            draft.complain(
                (*place, "location"),
                f"{location} is the location of this stormwatch itself; name the other one's, or give this one another `location`",
            )
        elif entry.location in peers:
            line = draft.document.line(("peers", named[entry.location]))
            draft.complain(
                (*place, "location"),
                f"the peer on line {line} is in {entry.location} too; give each stormwatch a location of its own",
            )
        else:
            number = place[-1]
            assert isinstance(number, int)
            named[entry.location] = number
            peers[entry.location] = Peer(location=entry.location, url=entry.url)
    return tuple(peers.values())


def check_quorums(draft: Draft, data: Any, probes: ProbeSection, peers: tuple[Peer, ...]) -> None:
    """Complain about a quorum of more locations than there are. Without peers nothing is known of the others."""
    if not peers or not isinstance(data, dict):
        return
    there = len(peers) + 1
    complained: set[Place] = set()
    for name, quorum in probes.quorums.items():
        if quorum <= there:
            continue
        place = (*probes.places[name], "quorum")
        if not draft.document.written(place):
            place = ("defaults", "quorum")
        if place not in complained:
            complained.add(place)
            draft.complain(
                place,
                f"{quorum} locations must agree, and there are {there}: this one and {len(peers)} in `peers`; "
                "ask for fewer, or add the others",
            )
