"""A database of trusted authorities as Chromium on Linux reads it, made of a PEM file.

    python -m stormwatch.journeys.trust_store DIR FILE

Chromium takes no PEM file. On Linux it reads, besides its own roots, the user's NSS database in `~/.pki/nssdb`; written is
one with NSS itself, which is there wherever Chromium is. In a process of its own: NSS keeps state, and is C without a net.
"""

import ctypes
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

AUTHORITY = b"C,,"
"""NSS' trust flags: an authority for servers, and for nothing else."""


class TrustStoreFailed(Exception):
    """The database could not be made; one sentence says why."""


class _Trust(ctypes.Structure):
    """NSS' CERTCertTrust: flags for servers, mail and code."""

    _fields_ = (("servers", ctypes.c_uint), ("mail", ctypes.c_uint), ("code", ctypes.c_uint))


def make_home(home: Path, authorities: Path) -> None:
    """Make `home` a home directory whose Chromium trusts the authorities in a PEM file. Raises TrustStoreFailed."""
    directory = home / ".pki" / "nssdb"
    directory.mkdir(parents=True, mode=0o700)
    command = [sys.executable, "-P", "-m", "stormwatch.journeys.trust_store", str(directory), str(authorities)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired as error:
        raise TrustStoreFailed(f"NSS made no database of {authorities} within 30 s") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise TrustStoreFailed(said[-1] if said else f"NSS ended with exit code {done.returncode}")


def write(directory: Path, certificates: Sequence[bytes]) -> None:
    """Write certificates (DER) as trusted authorities. Raises TrustStoreFailed."""
    try:
        nss, smime = ctypes.CDLL("libnss3.so"), ctypes.CDLL("libsmime3.so")
    except OSError as error:
        raise TrustStoreFailed(
            f"an own ca_file needs NSS (Debian's libnss3), which Chromium brings: {error}"
        ) from error
    _declare(nss, smime)

    def must(done: bool, what: str) -> None:
        if not done:
            raise TrustStoreFailed(f"NSS could not {what} (error {nss.PORT_GetError()})")

    must(nss.NSS_InitReadWrite(f"sql:{directory}".encode()) == 0, f"open a database in {directory}")
    slot = nss.PK11_GetInternalKeySlot()
    # Without this the database has no key to sign its trust with, and refuses it.
    must(nss.PK11_InitPin(slot, None, b"") == 0, "prepare the database")
    trust = _Trust()
    must(nss.CERT_DecodeTrustString(ctypes.byref(trust), AUTHORITY) == 0, "read the flags of an authority")
    for number, data in enumerate(certificates, start=1):
        certificate = smime.CERT_DecodeCertFromPackage(data, len(data))
        must(bool(certificate), f"read certificate {number}")
        must(nss.PK11_ImportCert(slot, certificate, 0, b"authority %d" % number, 0) == 0, f"keep certificate {number}")
        database = nss.CERT_GetDefaultCertDB()
        changed = nss.CERT_ChangeCertTrust(database, certificate, ctypes.byref(trust))
        must(changed == 0, f"trust certificate {number}")
        nss.CERT_DestroyCertificate(certificate)
    nss.PK11_FreeSlot(slot)
    must(nss.NSS_Shutdown() == 0, "close the database")


def _declare(nss: Any, smime: Any) -> None:
    """Pointers are wider than the int that ctypes takes for granted."""
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for function, result, arguments in (
        (nss.NSS_InitReadWrite, ctypes.c_int, [text]),
        (nss.NSS_Shutdown, ctypes.c_int, []),
        (nss.PORT_GetError, ctypes.c_int, []),
        (nss.PK11_GetInternalKeySlot, pointer, []),
        (nss.PK11_FreeSlot, None, [pointer]),
        (nss.PK11_InitPin, ctypes.c_int, [pointer, text, text]),
        (nss.PK11_ImportCert, ctypes.c_int, [pointer, pointer, ctypes.c_ulong, text, ctypes.c_int]),
        (nss.CERT_GetDefaultCertDB, pointer, []),
        (nss.CERT_DecodeTrustString, ctypes.c_int, [ctypes.POINTER(_Trust), text]),
        (nss.CERT_ChangeCertTrust, ctypes.c_int, [pointer, pointer, ctypes.POINTER(_Trust)]),
        (nss.CERT_DestroyCertificate, None, [pointer]),
        (smime.CERT_DecodeCertFromPackage, pointer, [text, ctypes.c_int]),
    ):
        function.restype, function.argtypes = result, arguments


def main(directory: Path, authorities: Path) -> int:
    """Make the database; what went wrong goes to stderr in one line."""
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_pem_x509_certificates

    try:
        certificates = load_pem_x509_certificates(authorities.read_bytes())
        write(directory, [each.public_bytes(Encoding.DER) for each in certificates])
    except (OSError, ValueError, TrustStoreFailed) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
