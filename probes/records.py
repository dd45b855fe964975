"""DNS records as text: as they are compared, and as the lines that blackbox_exporter's expressions are written for."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

_STYLE: Final = dns.rdata.RdataStyle(base64_chunk_size=0, hex_chunk_size=0)
"""Long digests and keys in one piece: what is compared does not depend on where a line was broken."""

_UPPER: Final = frozenset({dns.rdatatype.DS, dns.rdatatype.CDS, dns.rdatatype.DLV, dns.rdatatype.SSHFP})
"""Types whose digest miekg/dns, the library of blackbox_exporter, writes in capitals."""
_QUOTED: Final = '"'


def text_of(rdata: dns.rdata.Rdata) -> str:
    """A record's data as in a zone file."""
    return rdata.to_styled_text(_STYLE)


def plain(record: str) -> str:
    """A record's data as it is compared: names in lower case, without their last dot; quoted text as it is."""
    if _QUOTED in record:
        return record
    return " ".join(part.lower().removesuffix(".") or "." for part in record.split())


def canonical(record: str, kind: dns.rdatatype.RdataType, rdclass: dns.rdataclass.RdataClass) -> str:
    """What people wrote, as `plain` of the record that it means: 2001:DB8:0::1 is 2001:db8::1, and TXT may lack quotes.

    What is no record of the type stays as it is, and so is never found: the message then shows it beside what is.
    """
    try:
        return plain(text_of(dns.rdata.from_text(rdclass, kind, record, origin=dns.name.root, relativize=False)))
    except Exception:  # noqa: BLE001 - dnspython's parsers raise whatever their types' readers do
        return plain(record)


def lines(section: Sequence[dns.rrset.RRset], types: frozenset[int] = frozenset()) -> Iterator[str]:
    """The records of a section, one a line: name, TTL, class, type, data, with tabs between, as miekg/dns writes them."""
    for rrset in section:
        if types and rrset.rdtype not in types:
            continue
        head = "\t".join(
            (
                rrset.name.to_text(),
                str(rrset.ttl),
                dns.rdataclass.to_text(rrset.rdclass),
                dns.rdatatype.to_text(rrset.rdtype),
            )
        )
        for rdata in list[Any](rrset):
            yield f"{head}\t{_as_miekg(rdata)}"


def _as_miekg(rdata: dns.rdata.Rdata) -> str:
    text = text_of(rdata)
    if rdata.rdtype in _UPPER:
        front, _, digest = text.rpartition(" ")
        return f"{front} {digest.upper()}"
    return text
