"""What must hold for TLS whoever is trusted: versions, suites, groups, keys, signatures, validity. Pure, but for the options."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict

from stormwatch.probes.certificate import Certificate, Chain
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.handshake import Session
from stormwatch.probes.options import STRICT
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds, show_duration

Version = Literal["1.0", "1.1", "1.2", "1.3"]
VERSIONS: Final[tuple[Version, ...]] = ("1.0", "1.1", "1.2", "1.3")
"""From the oldest to the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions:
    """What must hold. Everything that is given is checked; nothing is by default."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    supports: tuple[Version, ...] = ()
    """Versions that the server must agree on when they are all it is offered: a handshake more for each."""
    refuses: tuple[Version, ...] = ()
    """Versions that the server must not agree on: a handshake more for each."""
    ciphers: tuple[str, ...] = ()
    """RE2 expressions: one must be found in IANA's name of the suite that is agreed on."""
    forbidden_ciphers: tuple[str, ...] = ()
    """RE2 expressions: none may be found in that name."""
    groups: tuple[str, ...] = ()
    """Groups of the key exchange, like `X25519` or `P-256`, one of which must be agreed on."""
    minimum_key_bits: Mapping[Literal["RSA", "EC", "DSA"], int] = field(
        default_factory=dict[Literal["RSA", "EC", "DSA"], int]
    )
    """The smallest key by its kind, for every certificate that is served: `{RSA: 2048, EC: 256}`."""
    forbidden_hashes: tuple[Literal["md5", "sha1", "sha224"], ...] = ()
    """Hashes that no certificate may be signed with; those of roots do not count, because nobody checks them."""
    maximum_validity: Seconds | None = None
    """The longest time that the server's certificate may be valid in all."""
    tidy_chain: bool = False
    """Each certificate must stand behind the one that it issued, and none may be superfluous."""


class Policy:
    """What must hold, compiled once. Raises ValueError for what can never be judged."""

    def __init__(self, options: PolicyOptions) -> None:
        both = sorted(set(options.supports) & set(options.refuses))
        if both:
            raise ValueError(f"policy: {both[0]} stands in supports and in refuses")
        self.options = options
        self._allowed = _patterns(options.ciphers, "policy.ciphers")
        self._forbidden = _patterns(options.forbidden_ciphers, "policy.forbidden_ciphers")
        self._hashes = frozenset(options.forbidden_hashes)

    def judge(self, version: str, cipher: str, session: Session, chain: Chain) -> None:
        """Raise ProbeFailed for the first thing that is not as it must be."""
        for reason, complaint in (
            *self._session_complaints(cipher, session, version),
            *self._chain_complaints(chain),
        ):
            raise ProbeFailed(reason, complaint, phase="tls")

    def _session_complaints(self, cipher: str, session: Session, version: str) -> Iterator[tuple[Reason, str]]:
        agreed = f"the server agreed on {cipher}"
        if self._allowed and not any(pattern.search(cipher.encode()) for _, pattern in self._allowed):
            wanted = " or ".join(repr(text) for text, _ in self._allowed)
            yield Reason.TLS, f"{agreed}, wanted one that matches {wanted}"
        for text, pattern in self._forbidden:
            if pattern.search(cipher.encode()):
                yield Reason.TLS, f"{agreed}, which matches {text!r} and is forbidden"
        if self.options.groups and session.group not in self.options.groups:
            wanted = " or ".join(self.options.groups)
            yield Reason.TLS, f"the server agreed on {session.group or 'no group'} with {version}, wanted {wanted}"

    def _chain_complaints(self, chain: Chain) -> Iterator[tuple[Reason, str]]:
        options = self.options
        for each in chain.certificates:
            for complaint in self._certificate_complaints(each):
                yield Reason.CERTIFICATE, complaint
        if options.maximum_validity is not None and chain.certificates:
            leaf = chain.certificates[0]
            valid = leaf.not_after - leaf.not_before
            if valid > options.maximum_validity:
                wanted = f"wanted at most {show_duration(options.maximum_validity)}"
                message = f"the certificate of {leaf.subject} is valid for {show_duration(valid)} in all, {wanted}"
                yield Reason.CERTIFICATE, message
        if options.tidy_chain:
            yield from ((Reason.CERTIFICATE, each) for each in _untidy(chain))

    def _certificate_complaints(self, each: Certificate) -> Iterator[str]:
        least = next((bits for kind, bits in self.options.minimum_key_bits.items() if kind == each.key_kind), 0)
        if each.key_bits < least:
            yield f"the key of {each.subject} is {each.key}, wanted at least {least} bits"
        if each.signature in self._hashes and each.subject != each.issuer:
            yield f"the certificate of {each.subject} is signed with {each.algorithm}: {each.signature} is forbidden"


def _untidy(chain: Chain) -> Iterator[str]:
    order = chain.order
    if not order.right:
        places = ", ".join(str(position) for position in order.path)
        yield f"the chain is served in the wrong order: the certificates follow each other as {places}"
    if order.superfluous:
        named = ", ".join(chain.certificates[position].subject for position in order.superfluous[:4])
        yield f"{len(order.superfluous)} certificates of the served chain are superfluous: {named}"


def _patterns(texts: Sequence[str], where: str) -> list[tuple[str, Pattern]]:
    return [(text, compile_pattern(text, f"{where}[{number}]")) for number, text in enumerate(texts)]
