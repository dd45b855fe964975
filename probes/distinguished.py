"""Distinguished names as Go's `crypto/x509/pkix` writes them: the labels of blackbox_exporter, which dashboards join on.

It differs from RFC 4514 in three ways, all seen of blackbox_exporter: the standard attributes come in an order of its
own, several values of one attribute are joined by a plus, and other attributes come last, as an OID and its value in hex.
"""

from typing import Final

from cryptography import x509

_STANDARD: Final = (
    ("2.5.4.6", "C"),
    ("2.5.4.8", "ST"),
    ("2.5.4.7", "L"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.17", "POSTALCODE"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
)
"""From the least specific to the most; the text begins with the last."""
_SINGLE: Final = frozenset({"CN", "SERIALNUMBER"})
"""Of these the last value counts."""
_ESCAPED: Final = frozenset(',+"\\<>;')
_PRINTABLE: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?")
"""X.680 §41.4."""


def distinguished_name(name: x509.Name) -> str:
    """The text, its most specific part first: `CN=shop.example,O=Shop,C=DE`."""
    standard: dict[str, list[str]] = {}
    others: list[str] = []
    known = dict(_STANDARD)
    for attribute in name:
        oid = attribute.oid.dotted_string
        value = attribute.value if isinstance(attribute.value, str) else attribute.value.decode("latin-1")
        if oid in known:
            standard.setdefault(known[oid], []).append(value)
        else:
            others.append(f"{oid}=#{_encode(value).hex()}")
    for short in _SINGLE & standard.keys():
        standard[short] = standard[short][-1:]
    parts = others + [
        "+".join(f"{short}={_escape(value)}" for value in standard[short])
        for _, short in _STANDARD
        if short in standard
    ]
    return ",".join(reversed(parts))


def _escape(value: str) -> str:
    last = len(value.encode()) - 1
    text, at = "", 0
    for sign in value:
        edge = at in (0, last)
        if sign in _ESCAPED or (sign == " " and edge) or (sign == "#" and at == 0):
            text += "\\"
        text += sign
        at += len(sign.encode())
    return text


def _encode(value: str) -> bytes:
    """As ASN.1: PrintableString where it can be, else UTF8String."""
    data = value.encode()
    size = len(data)
    length = (
        bytes([size])
        if size < 128
        else bytes([0x80 + (size.bit_length() + 7) // 8]) + size.to_bytes((size.bit_length() + 7) // 8)
    )
    return (b"\x13" if set(value) <= _PRINTABLE else b"\x0c") + length + data
