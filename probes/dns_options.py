"""What users write about a question to name servers, and about the answer that it must get."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from stormwatch.probes.authorization import ClientCertificate
from stormwatch.probes.nameserver import Transport
from stormwatch.probes.options import STRICT, File
from stormwatch.probes.resolve import Family
from stormwatch.probes.units import Seconds

TlsVersion = Literal["1.0", "1.1", "1.2", "1.3"]
Mnemonic = Annotated[str, Field(pattern=r"^[A-Z0-9-]+$")]
"""A name out of IANA's registry of DNS parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Rules for one section of the answer.

    Expressions are RE2, searched in records written as `name. TTL class type data`, with a tab between each two of them.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    types: tuple[Mnemonic, ...] = ()
    """Only records of these types count; all when empty."""
    any_match: tuple[str, ...] = ()
    """At least one record must match at least one of these."""
    all_match: tuple[str, ...] = ()
    """Every record must match every one of these. A section without records passes: give `min` too."""
    none_match: tuple[str, ...] = ()
    """No record may match any of these."""
    min: Annotated[int, Field(ge=0)] | None = None
    """Least number of records."""
    max: Annotated[int, Field(ge=0)] | None = None
    """Largest number of records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectDns:
    """What the answer must be. Records are compared as data, in any order, names with or without their last dot."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    answers: tuple[str, ...] | None = None
    """The records of the asked type: exactly these. An empty list wants none; not given, there must be some."""
    answers_include: tuple[str, ...] = ()
    """Records that must be among them."""
    answers_exclude: tuple[str, ...] = ()
    """Records that must not be among them."""
    answers_match: tuple[str, ...] = ()
    """RE2 expressions, each of which must be found in one of the records."""
    answers_not_match: tuple[str, ...] = ()
    """RE2 expressions, none of which may be found in any of the records."""
    min_answers: Annotated[int, Field(ge=0)] | None = None
    """Least number of records of the asked type; 1 unless something else here says that there may be none."""
    max_answers: Annotated[int, Field(ge=0)] | None = None
    """Largest number of records of the asked type."""
    answer: Section = field(default_factory=Section)
    """Rules for the whole answer section, CNAME records included."""
    authority: Section = field(default_factory=Section)
    """Rules for the authority section."""
    additional: Section = field(default_factory=Section)
    """Rules for the additional section, without OPT."""
    rcode: Mnemonic | Annotated[tuple[Mnemonic, ...], Field(min_length=1)] = "NOERROR"
    """The response code by its name in IANA's registry (NOERROR, NXDOMAIN, REFUSED …), or a list of those that are good."""
    min_ttl: Seconds | None = None
    """The least time for which every answered record may be kept."""
    max_ttl: Seconds | None = None
    """The longest time for which any answered record may be kept."""
    min_serial: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None
    """For type SOA: the zone's serial number must not be before this one (RFC 1982)."""
    authoritative: bool | None = None
    """Whether the server must, or must not, be an authority for the name (the AA flag)."""
    authenticated: bool | None = None
    """Whether the server must, or must not, say that it validated the answer (the AD flag)."""
    truncated: bool | None = None
    """Whether the answer must, or must not, be cut off (the TC flag)."""
    recursion_available: bool | None = None
    """Whether the server must, or must not, ask others for us (the RA flag): `false` for authorities."""
    dnssec: Literal["secure", "insecure", "any"] | None = None
    """With `dnssec`: what the validation must come to, `secure` when not given. Bogus is never good."""
    rrsig_expires_within: Seconds | None = None
    """With `dnssec`: down when the signature that ends first is valid for less than this time."""
    wildcard: Literal["any", "forbidden"] = "any"
    """`forbidden`: a name below the target that nobody made must not be answered with records."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnssecOptions:
    """Validate the answer ourselves, by questions of our own from a trust anchor down (RFC 4035 §5)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    validate: bool = True
    """Whether to."""
    anchor_file: File = ""
    """A file of DS or DNSKEY records as in a zone file; IANA's anchors of the root when neither this nor `anchors` is given."""
    anchors: tuple[str, ...] = ()
    """Such records themselves, like `example. DS 12345 13 2 49FD…`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthoritiesOptions:
    """Ask every name server of the zone that the target is in, and compare."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    agree: bool = True
    """All must have the same serial number."""
    same_as_parent: bool = True
    """The zone and its parent must name the same servers."""
    lame: Literal["any", "forbidden"] = "forbidden"
    """`forbidden`: every server that is named must answer, as an authority."""
    glue: Literal["any", "required"] = "required"
    """`required`: the parent must give an address for each server whose name is within the zone."""
    min_servers: Annotated[int, Field(ge=1)] = 1
    """Least number of servers that the zone must have. RFC 2182 wants two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsOptions:
    """What to ask, whom, and what the answer must be. The target is the name that is asked for."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    type: Mnemonic = "A"
    """Record type, by its name in IANA's registry (A, AAAA, MX, TXT, SOA, HTTPS …) or as TYPE65."""
    rdclass: Annotated[str, Field(pattern=r"^[A-Z0-9]+$", alias="class")] = "IN"
    """Class of the records."""
    server: str = ""
    """Name server to ask, `host` or `host:port`, an https URL for `transport: https`; those of the system when empty, the
    next one when one does not answer."""
    servers: tuple[str, ...] = ()
    """Name servers, all of which are asked at once, and each of which must answer as expected."""
    agree: bool = False
    """All `servers` must give the same records."""
    start: str = ""
    """Ask the authorities of the name instead, found from here by questions of our own: `root` for the root servers, or
    `host` or `host:port` of a server for the zone to begin with; then all are asked on that port."""
    transport: Transport = "udp"
    """`udp`, `tcp`, `tls` (RFC 7858), `https` (RFC 8484), or `quic` (RFC 9250)."""
    method: Literal["POST", "GET"] = "POST"
    """For `https`: GET can be answered from caches."""
    retry_truncated: bool = True
    """For `udp`: fetch an answer that was cut off over TCP."""
    resend: Seconds | None = None
    """For `udp`: ask again every so often while nothing comes; a third of the time allowed when not given, `0s`: never."""
    recursion: bool = True
    """Whether the server may ask others (the RD flag)."""
    checking_disabled: bool = False
    """Ask a validating resolver for the answer even if it is bogus (the CD flag)."""
    edns: bool = True
    """Whether to speak EDNS (RFC 6891)."""
    buffer_size: Annotated[int, Field(ge=512, le=65535)] = 1232
    """Bytes of the largest datagram that may come."""
    dnssec_ok: bool = False
    """Ask for signatures too (the DO flag)."""
    client_subnet: str = ""
    """Ask as if from this network, like 192.0.2.0/24 (RFC 7871)."""
    nsid: bool = False
    """Ask the server for its own name, and keep it as evidence (RFC 5001)."""
    resolver: str = ""
    """Name server to look up names of servers by, `host:port`; the system's resolver when empty."""
    ip: Family = "any"
    """Which address of the server to use, when it is given by name."""
    source: str = ""
    """Own address to ask from; the system chooses when empty."""
    ca_file: File = ""
    """For `tls`, `https` and `quic`: PEM file of the certificate authorities to trust; the system's when empty."""
    server_name: str = ""
    """For these: the name that the server's certificate must be for; the server's host when empty."""
    verify: bool = True
    """For these: whether the server's certificate must be valid."""
    tls_min: TlsVersion = "1.2"
    """For these: oldest version of TLS to offer."""
    tls_max: TlsVersion = "1.3"
    """For these: newest version of TLS to offer."""
    client_certificate: ClientCertificate | None = None
    """For these: certificate and key for servers that ask for one."""
    dnssec: DnssecOptions | None = None
    """Validate the answer from a trust anchor down."""
    authorities: AuthoritiesOptions | None = None
    """Compare all name servers of the zone."""
    expect: ExpectDns = field(default_factory=ExpectDns)
    """What the answer must be."""
