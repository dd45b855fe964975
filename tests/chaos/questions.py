"""Bytes as a hostile client or server sends them: rubbish, and messages that are almost right."""

import dns.message
import dns.rdatatype
from hypothesis import strategies as st

LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=3)


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """Any bytes; or a real question or answer, some bytes of which were changed, cut off or put behind."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=300))
    name = b"".join(bytes([len(one)]) + one for one in draw(LABELS)) + b"\x00"
    kind = draw(st.sampled_from(["A", "AAAA", "SOA", "TXT", "AXFR", "ANY", "RRSIG", "OPT", "TSIG"]))
    query = dns.message.make_query(
        "x.test", "A", use_edns=draw(st.sampled_from([0, -1])), want_dnssec=draw(st.booleans())
    )
    wire = query.to_wire().replace(b"\x01x\x04test\x00\x00\x01", name + int(dns.rdatatype.from_text(kind)).to_bytes(2))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(wire) - 1))
        wire = wire[:at] + draw(st.binary(min_size=1, max_size=4)) + wire[at + 1 :]
    return wire[: draw(st.integers(12, 400))] + draw(st.binary(max_size=8))
