"""The two ways a probe says that it did not see what it should, and the one border where foreign errors become ours.

ProbeFailed   the target is at fault: the run is `down`
ProbeBroken   we are at fault: the run is `broken`, no evidence about the target
"""

import errno
import os
import socket
import ssl

from stormwatch.probes.result import BROKEN_REASONS, Reason


class ProbeFailed(Exception):
    """The target did not do what was expected. `message` is one sentence: what was asked, what was seen."""

    def __init__(self, reason: Reason, message: str, *, phase: str = "") -> None:
        if reason in BROKEN_REASONS or reason is Reason.NONE:
            raise ValueError(f"reason {reason!r} does not speak of the target: raise ProbeBroken")
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.phase = phase


class ProbeBroken(Exception):
    """The prober itself failed. `message` is one sentence: what was needed, what was missing, the remedy."""

    def __init__(self, reason: Reason, message: str, *, phase: str = "") -> None:
        if reason not in BROKEN_REASONS:
            raise ValueError(f"reason {reason!r} speaks of the target: raise ProbeFailed")
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.phase = phase


_OURS = {
    errno.EMFILE: Reason.RESOURCES,
    errno.ENFILE: Reason.RESOURCES,
    errno.ENOMEM: Reason.RESOURCES,
    errno.ENOBUFS: Reason.RESOURCES,
    errno.EADDRNOTAVAIL: Reason.RESOURCES,
    errno.ENETUNREACH: Reason.NETWORK,
    errno.ENETDOWN: Reason.NETWORK,
    errno.EAFNOSUPPORT: Reason.NETWORK,
    errno.EACCES: Reason.INTERNAL,
    errno.EPERM: Reason.INTERNAL,
}

_THEIRS = {
    errno.ECONNREFUSED: Reason.REFUSED,
    errno.ECONNRESET: Reason.RESET,
    errno.ECONNABORTED: Reason.RESET,
    errno.EPIPE: Reason.RESET,
    errno.EHOSTUNREACH: Reason.UNREACHABLE,
    errno.EHOSTDOWN: Reason.UNREACHABLE,
    errno.ETIMEDOUT: Reason.TIMEOUT,
}


def explain(error: Exception) -> ProbeFailed | ProbeBroken:
    """Say whose fault an exception is that a probe let through. Most specific first."""
    if isinstance(error, ProbeFailed | ProbeBroken):
        return error
    if isinstance(error, socket.gaierror):
        return ProbeFailed(Reason.DNS, f"the name did not resolve: {error.strerror or error}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return ProbeFailed(
            Reason.CERTIFICATE, f"the certificate was not accepted: {getattr(error, 'verify_message', '') or error}"
        )
    if isinstance(error, ssl.SSLError):
        return ProbeFailed(Reason.TLS, f"the TLS handshake failed: {getattr(error, 'reason', '') or error}")
    if isinstance(error, TimeoutError):
        return ProbeFailed(Reason.TIMEOUT, str(error) or "no answer in time")
    if isinstance(error, OSError):
        said = error.strerror or str(error) or type(error).__name__
        number = error.errno or 0
        if number in _OURS:
            return ProbeBroken(_OURS[number], f"{said} (errno {number}) on our side")
        return ProbeFailed(_THEIRS.get(number, Reason.UNREACHABLE), said)
    return ProbeBroken(Reason.INTERNAL, f"{type(error).__name__}: {error}")


def explain_connection(error: OSError, place: object) -> ProbeFailed | ProbeBroken:
    """As `explain`, for a connection that did not come about: names the place, and the error as the system does."""
    if type(error).__module__ == "builtins" and error.errno:  # asyncio has words of its own, with the address in them
        error = OSError(error.errno, os.strerror(error.errno))
    failure = explain(error)
    message = f"no connection to {place}: {failure.message}"
    if isinstance(failure, ProbeBroken):
        return ProbeBroken(failure.reason, message, phase="connect")
    return ProbeFailed(failure.reason, message, phase="connect")
