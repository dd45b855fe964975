"""One-time passwords by time (TOTP, RFC 6238), as authenticator apps show them."""

import base64
import binascii
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

HASHES = ("SHA1", "SHA256", "SHA512")


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimePasswords:
    """What an authenticator app knows of one account."""

    key: bytes
    digits: int = 6
    period: int = 30
    """Seconds for which a password stands."""
    algorithm: str = "SHA1"

    @classmethod
    def of(cls, seed: str) -> "OneTimePasswords":
        """From what a site shows when it is set up: the seed in base32, or the whole `otpauth://totp/…` of the QR code.

        Raises ValueError, without the seed, for anything else.
        """
        if not seed.startswith("otpauth:"):
            return cls(key=_key(seed))
        parts = urlsplit(seed)
        values = {name: value[0] for name, value in parse_qs(parts.query).items()}
        if parts.netloc != "totp" or "secret" not in values:
            raise ValueError(
                f"only otpauth://totp/…?secret=… is a one-time password by time, not otpauth://{parts.netloc}/…"
            )
        try:
            digits, period = int(values.get("digits", "6")), int(values.get("period", "30"))
        except ValueError:
            raise ValueError(f"digits and period of otpauth://totp/{unquote(parts.path[1:])} must be numbers") from None
        algorithm = values.get("algorithm", "SHA1").upper()
        if algorithm not in HASHES or not 1 <= digits <= 10 or period < 1:
            raise ValueError(
                f"one-time passwords with {digits} digits, a period of {period} s and {algorithm} are not known; "
                f"up to 10 digits, and {', '.join(HASHES)} are"
            )
        return cls(key=_key(values["secret"]), digits=digits, period=period, algorithm=algorithm)

    def at(self, moment: float) -> str:
        """The password that stands at a unix time."""
        counter = int(moment // self.period)
        code = hmac.digest(self.key, counter.to_bytes(8, "big"), self.algorithm.lower())
        offset = code[-1] & 15
        number = int.from_bytes(code[offset : offset + 4], "big") & 0x7FFF_FFFF
        return f"{number % 10**self.digits:0{self.digits}}"


def one_time_password(seed: str, *, clock: Callable[[], float] = time.time) -> str:
    """The password of now. Raises ValueError for a seed that is none."""
    return OneTimePasswords.of(seed).at(clock())


def _key(seed: str) -> bytes:
    digits = "".join(seed.split()).replace("-", "").rstrip("=").upper()
    try:
        key = base64.b32decode(digits + "=" * (-len(digits) % 8))
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError(
            "the seed of a one-time password is text in base32 (A-Z, 2-7), as the site shows it; this is none"
        )
    return key
