"""Signed certificate timestamps (RFC 6962): which logs have promised to publish a certificate, and whether they really have.

Those in the certificate itself are read, which is where nearly all are. Their signatures can be checked with the keys of
the logs, from a list in the form of https://www.gstatic.com/ct/log_list/v3/log_list.json.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from stormwatch.probes.malformed import MALFORMED
from stormwatch.probes.signature import signed_by

SHOWN: Final = 16
"""Timestamps of a certificate that are looked at; honest ones have two to five."""


@dataclass(frozen=True, slots=True)
class Log:
    """A log that is known."""

    name: str
    key: PublicKeyTypes


@dataclass(frozen=True, slots=True)
class Timestamp:
    """One promise of a log. `moment` is a Unix time in seconds."""

    log: str
    """The log's id, SHA-256 of its key, in base64 as log lists have it."""
    name: str
    """What the log list calls it; empty without a list, or when it is not in it."""
    moment: float
    problem: str
    """Why it does not count; empty when it does."""

    def as_evidence(self, moment: str) -> dict[str, str]:
        """As a JSON object."""
        told = {"log": self.log, "name": self.name, "timestamp": moment, "problem": self.problem}
        return {key: value for key, value in told.items() if value}


def read_timestamps(
    certificate: x509.Certificate, issuer: x509.Certificate | None, logs: Mapping[str, Log] | None, at: float
) -> tuple[Timestamp, ...]:
    """The timestamps in a certificate. Signatures are checked when `logs` are given. An unreadable list gives none."""
    try:
        listed = certificate.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
    except MALFORMED:
        return ()
    found: list[Timestamp] = []
    for each in list(listed)[:SHOWN]:
        log_id = base64.b64encode(each.log_id).decode()
        milliseconds = round(each.timestamp.replace(tzinfo=UTC).timestamp() * 1000)  # it comes without its zone
        log = logs.get(log_id) if logs is not None else None
        problem = ""
        if milliseconds / 1000 > at:
            problem = "it lies in the future"
        elif logs is not None:
            problem = _objection(each, milliseconds, certificate, issuer, log)
        found.append(Timestamp(log_id, log.name if log else "", milliseconds / 1000, problem))
    return tuple(found)


def logs_that_count(timestamps: tuple[Timestamp, ...]) -> int:
    """How many different logs have made a promise that holds."""
    return len({each.log for each in timestamps if not each.problem})


def _objection(
    each: x509.certificate_transparency.SignedCertificateTimestamp,
    milliseconds: int,
    certificate: x509.Certificate,
    issuer: x509.Certificate | None,
    log: Log | None,
) -> str:
    if log is None:
        return "its log is not in the list"
    if issuer is None:
        return "its signature cannot be checked without the issuer's certificate"
    try:
        signed = _signed(each, milliseconds, certificate, issuer)
        algorithm = each.signature_hash_algorithm
    except MALFORMED as error:
        return f"its signature cannot be checked: {error}"
    return "" if signed_by(log.key, each.signature, signed, algorithm) else "its signature is not that of the log"


def _signed(
    each: x509.certificate_transparency.SignedCertificateTimestamp,
    milliseconds: int,
    certificate: x509.Certificate,
    issuer: x509.Certificate,
) -> bytes:
    """What the log has signed, RFC 6962 §3.2: version 1, a timestamp, of a certificate as it was before the timestamps."""
    key = issuer.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    precertificate = certificate.tbs_precertificate_bytes
    return b"".join(
        (
            b"\x00\x00",
            milliseconds.to_bytes(8),
            b"\x00\x01",
            hashlib.sha256(key).digest(),
            len(precertificate).to_bytes(3),
            precertificate,
            len(each.extension_bytes).to_bytes(2),
            each.extension_bytes,
        )
    )


def load_logs(path: str) -> Mapping[str, Log]:
    """The logs of a list, by their ids. Raises ValueError for a file that cannot be read or is no such list."""
    try:
        document = json.loads(Path(path).read_bytes())
        return read_logs(document)
    except OSError as error:
        raise ValueError(f"log_list {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, UnsupportedAlgorithm, RecursionError) as error:
        raise ValueError(f"log_list {path} is no list of logs (version 3, JSON): {error!r}") from error


def read_logs(document: Any) -> Mapping[str, Log]:
    """The logs in a list, by their ids. Raises for anything that is no such list."""
    found: dict[str, Log] = {}
    for operator in document["operators"]:
        for log in (*operator.get("logs", ()), *operator.get("tiled_logs", ())):
            der = base64.b64decode(log["key"], validate=True)
            key = serialization.load_der_public_key(der)
            found[base64.b64encode(hashlib.sha256(der).digest()).decode()] = Log(str(log.get("description", "")), key)
    if not found:
        raise ValueError("there is no log in it")
    return found
