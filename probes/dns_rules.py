"""What an answer must be, compiled once, and held against answers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.serial

from stormwatch.probes.backend import show_words
from stormwatch.probes.dns_options import ExpectDns, Section
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.nameserver import Answered
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.question import rdata_of, read_message
from stormwatch.probes.records import canonical, lines, plain, text_of
from stormwatch.probes.result import Reason
from stormwatch.probes.units import show_duration

SHOWN: Final = 10
"""Records that a message shows at most."""

Expression = tuple[str, Pattern]


class Rules:
    """Everything of `expect` that one answer can be held against."""

    def __init__(self, expect: ExpectDns, kind: dns.rdatatype.RdataType, rdclass: dns.rdataclass.RdataClass) -> None:
        """Raises ValueError for what cannot be expected."""
        self._expect = expect
        self._kind = kind
        wanted = (expect.rcode,) if isinstance(expect.rcode, str) else expect.rcode
        self._rcodes = {_rcode(text): text for text in wanted}
        self._match = _expressions(expect.answers_match, "expect.answers_match")
        self._not_match = _expressions(expect.answers_not_match, "expect.answers_not_match")
        self._wanted = _wanted(expect.answers or (), kind, rdclass)
        self._included = _wanted(expect.answers_include, kind, rdclass)
        self._excluded = _wanted(expect.answers_exclude, kind, rdclass)
        self._sections = tuple(
            (name, number, _SectionRules(getattr(expect, name), f"expect.{name}"))
            for number, name in enumerate(("answer", "authority", "additional"), start=1)
            if getattr(expect, name) != Section()
        )
        if expect.min_serial is not None and kind != dns.rdatatype.SOA:
            raise ValueError("expect.min_serial: only records of type SOA have a serial number")
        for least, most in (("min_answers", "max_answers"), ("min_ttl", "max_ttl")):
            low, high = getattr(expect, least), getattr(expect, most)
            if low is not None and high is not None and low > high:
                raise ValueError(f"expect.{most}: is less than {least}")

    def judge(self, answered: Answered) -> None:
        """Raise ProbeFailed for the first expectation that does not hold."""
        for failure in self._failures(answered):
            raise failure

    def records(self, message: dns.message.Message) -> list[str]:
        """The records of the asked type as text, in order, whatever CNAME records lead to them."""
        if self._kind == dns.rdatatype.ANY:
            found = [record for rrset in message.answer for record in list[Any](rrset)]
        else:
            found = rdata_of(message, self._kind)
        return sorted(text_of(record) for record in found)

    def _failures(self, answered: Answered) -> Iterator[ProbeFailed]:
        message = answered.message
        rcode = message.rcode()
        if rcode not in self._rcodes:
            yield ProbeFailed(
                Reason.DNS,
                f"the server answered {dns.rcode.to_text(rcode)}, wanted {' or '.join(self._rcodes.values())}"
                f"{extended_error(message)}",
                phase="request",
            )
        yield from self._flag_failures(message)
        yield from self._record_failures(self.records(message), rcode)
        expect = self._expect
        if self._sections or expect.min_ttl is not None or expect.max_ttl is not None:
            singly = read_message(answered.wire, singly=True)
            yield from self._ttl_failures(singly.answer)
            for name, number, rules in self._sections:
                yield from rules.failures(name, singly.sections[number])
        if expect.min_serial is not None:
            for record in rdata_of(message, dns.rdatatype.SOA):
                if dns.serial.Serial(record.serial) < dns.serial.Serial(expect.min_serial):
                    yield unlike(f"the serial number is {record.serial}, wanted at least {expect.min_serial}")

    def _flag_failures(self, message: dns.message.Message) -> Iterator[ProbeFailed]:
        for option, (flag, wanted, unwanted) in _FLAGS.items():
            expected, seen = getattr(self._expect, option), bool(message.flags & flag)
            if expected is not None and expected != seen:
                yield unlike(wanted if expected else unwanted)

    def _record_failures(self, records: list[str], rcode: int) -> Iterator[ProbeFailed]:
        expect = self._expect
        shown = show(records)
        seen = {plain(record) for record in records}
        if expect.answers is not None:
            if seen != self._wanted.keys():
                yield unlike(f"the answer is {shown}, wanted {', '.join(expect.answers) or 'no record'}")
        elif not records and expect.min_answers is None and rcode == dns.rcode.NOERROR:
            yield ProbeFailed(Reason.DNS, "the name has no record of this type", phase="request")
        missing = [text for record, text in self._included.items() if record not in seen]
        if missing:
            yield unlike(f"the answer is {shown}, wanted {', '.join(missing)} in it")
        found = [text for record, text in self._excluded.items() if record in seen]
        if found:
            yield unlike(f"the answer is {shown}, wanted it without {', '.join(found)}")
        for text, pattern in self._match:
            if not any(pattern.search(record.encode()) for record in records):
                yield unlike(f"the answer is {shown}, wanted a record that matches {text!r}")
        for text, pattern in self._not_match:
            for record in records:
                if pattern.search(record.encode()):
                    yield unlike(f"the answer has the record {record}, wanted none that matches {text!r}")
        yield from _count_failures("answers", len(records), expect.min_answers, expect.max_answers)

    def _ttl_failures(self, answer: Sequence[dns.rrset.RRset]) -> Iterator[ProbeFailed]:
        expect = self._expect
        ttls = [rrset.ttl for rrset in answer if rrset.rdtype != dns.rdatatype.RRSIG]
        if ttls and expect.min_ttl is not None and min(ttls) < expect.min_ttl:
            yield unlike(f"a record has a TTL of {min(ttls)} s, wanted at least {show_duration(expect.min_ttl)}")
        if ttls and expect.max_ttl is not None and max(ttls) > expect.max_ttl:
            yield unlike(f"a record has a TTL of {max(ttls)} s, wanted at most {show_duration(expect.max_ttl)}")


class _SectionRules:
    """The rules for one section, compiled."""

    def __init__(self, section: Section, where: str) -> None:
        self._types = frozenset(read_type(each, f"{where}.types") for each in section.types)
        self._any = _expressions(section.any_match, f"{where}.any_match")
        self._all = _expressions(section.all_match, f"{where}.all_match")
        self._none = _expressions(section.none_match, f"{where}.none_match")
        self._min, self._max = section.min, section.max
        if section.min is not None and section.max is not None and section.min > section.max:
            raise ValueError(f"{where}.max: is less than min")

    def failures(self, name: str, section: Sequence[dns.rrset.RRset]) -> Iterator[ProbeFailed]:
        """What is wrong with a section whose records stand each for itself."""
        records = sorted(lines(section, self._types))
        yield from _count_failures(f"records in section {name}", len(records), self._min, self._max)
        encoded = [record.encode() for record in records]
        for record, line in zip(records, encoded, strict=True):
            for text, pattern in self._none:
                if pattern.search(line):
                    yield unlike(f"section {name} has the record {_flat(record)}, wanted none that matches {text!r}")
            for text, pattern in self._all:
                if not pattern.search(line):
                    yield unlike(f"section {name} has the record {_flat(record)}, wanted all to match {text!r}")
        if self._any and not any(pattern.search(line) for line in encoded for _, pattern in self._any):
            wanted = " or ".join(repr(text) for text, _ in self._any)
            yield unlike(f"section {name} is {show(records)}, wanted a record that matches {wanted}")


_FLAGS: Final[Mapping[str, tuple[dns.flags.Flag, str, str]]] = {
    "authoritative": (
        dns.flags.AA,
        "the answer is not from an authority for the name",
        "the answer is from an authority for the name, wanted one that is not",
    ),
    "authenticated": (
        dns.flags.AD,
        "the server does not say that it validated the answer (no AD flag)",
        "the server says that it validated the answer (AD flag), wanted one that does not",
    ),
    "truncated": (
        dns.flags.TC,
        "the answer is not cut off (no TC flag), wanted one that is",
        "the answer is cut off (TC flag)",
    ),
    "recursion_available": (
        dns.flags.RA,
        "the server does not ask others (no RA flag)",
        "the server asks others for anybody (RA flag), wanted one that does not",
    ),
}


def unlike(message: str, phase: str = "request") -> ProbeFailed:
    """An answer came, and it is not what was expected."""
    return ProbeFailed(Reason.ASSERTION, message, phase=phase)


def show(records: Sequence[str]) -> str:
    """Records in a sentence: some of them, and how many there are more."""
    shown = ", ".join(_flat(record) for record in records[:SHOWN]) or "no record"
    return f"{shown} and {len(records) - SHOWN} more" if len(records) > SHOWN else shown


def extended_error(message: dns.message.Message) -> str:
    """What the server says about its error (RFC 8914), for the end of a sentence; empty when it says nothing."""
    said = [
        f"{dns.edns.EDECode.to_text(each.code)}{f' ({each.text})' if each.text else ''}"
        for each in message.extended_errors()
    ]
    return f": {show_words(', '.join(said))}" if said else ""


def read_type(text: str, where: str) -> dns.rdatatype.RdataType:
    """Raises ValueError, beginning with `where`, for what is no record type."""
    try:
        return dns.rdatatype.from_text(text)
    except (dns.exception.DNSException, ValueError):
        raise ValueError(f"{where}: there is no record type {text!r}") from None


def _rcode(text: str) -> int:
    try:
        return dns.rcode.from_text(text)
    except (dns.exception.DNSException, ValueError):
        raise ValueError(f"expect.rcode: there is no response code {text!r}") from None


def _expressions(texts: Sequence[str], where: str) -> tuple[Expression, ...]:
    return tuple((text, compile_pattern(text, f"{where}[{number}]")) for number, text in enumerate(texts))


def _wanted(
    records: Sequence[str], kind: dns.rdatatype.RdataType, rdclass: dns.rdataclass.RdataClass
) -> dict[str, str]:
    return {canonical(record, kind, rdclass): record for record in records}


def _count_failures(what: str, count: int, least: int | None, most: int | None) -> Iterator[ProbeFailed]:
    if least is not None and count < least:
        yield unlike(f"there are {count} {what}, wanted at least {least}")
    if most is not None and count > most:
        yield unlike(f"there are {count} {what}, wanted at most {most}")


def _flat(record: str) -> str:
    return record.replace("\t", " ")
