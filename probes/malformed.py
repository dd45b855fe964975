"""What `cryptography` raises for certificates, lists and answers that are not as they are specified."""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

MALFORMED: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)
"""Not all of them are ValueErrors; every reader of what comes from outside catches all."""
