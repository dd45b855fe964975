"""The kind `certificate-file`: when the certificates in files expire, and whether their keys belong to them.

A certificate that nobody connects to (a client's, an authority's, one that a server has not loaded yet) expires as well.
Files are read in a thread, because they may lie on a file system that does not answer.
"""

import asyncio
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, TypeVar

from cryptography import x509
from pydantic import AwareDatetime, ConfigDict, Field

from stormwatch.probes.answer import show_rough
from stormwatch.probes.certificate import EARLIEST, Certificate, facts_of, show_time
from stormwatch.probes.certificate_store import Locked, Unreadable, belongs, read_file
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.options import STRICT, File, Secret
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds, show_duration, show_size
from stormwatch.probes.watch import Watch

LARGEST: Final = 2**20
"""Bytes of the largest file that is read. The authorities of a whole system have a quarter of it."""
SERIES: Final = 256
"""Certificates that have a series of their own. All are looked at."""
SHOWN: Final = 16
"""Certificates in the evidence: those that expire first."""
READS: Final = 16
"""Runs whose files are being read at once. Only a file system that does not answer can get there."""
SUFFIXES: Final = frozenset({".pem", ".crt", ".cer", ".cert", ".der", ".p12", ".pfx"})
"""Names of files that are looked at in a directory."""
_DAY: Final = 86400.0
_SIGNS: Final = frozenset("*?[")

_reads = threading.Semaphore(READS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectCertificateFile:
    """What must hold for the files."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    slower_than: Seconds | None = None
    """Down, with reason too-slow, when finding and reading the files takes longer."""
    certificates_at_least: Annotated[int, Field(ge=1)] = 1
    """How many certificates there must be in all."""
    names: tuple[str, ...] = ()
    """DNS names and addresses that the first certificate of every file must be for, as they stand in it."""
    private_key: bool = False
    """Files with a private key must not be readable or writable by group or others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFileOptions:
    """Which files, and when to say that a certificate is near its end."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    password: Secret = field(default="", repr=False)
    """Opens PKCS#12 files and encrypted keys: write it as `${env:NAME}` or `${file:PATH}`."""
    key: File = ""
    """File of the private key, PEM or DER, that must belong to the first certificate of the target."""
    key_beside: str = ""
    """The same, by its name in the directory of each file, like `privkey.pem`."""
    recursive: bool = False
    """Look into the directories of a directory too."""
    expires_within: Seconds | None = None
    """Down, with reason certificate, when a certificate expires sooner. One that has expired is down in any case."""
    at: AwareDatetime | None = None
    """The moment to judge the certificates for, with its time zone; now when it is not given."""
    expect: ExpectCertificateFile = field(default_factory=ExpectCertificateFile)
    """What must hold for them."""


def build(target: str, options: CertificateFileOptions) -> Check:
    """A check of a file, of a directory, or of a pattern of files. Raises ValueError for what cannot be looked at."""
    if not target.startswith("/") or "\x00" in target:
        raise ValueError(f"target is the absolute path of a file or directory, or a pattern of them, not {target!r}")
    if options.key and options.key_beside:
        raise ValueError("key and key_beside: give only one of them")
    if options.key and (_is_pattern(target) or target.endswith("/")):
        raise ValueError("key is for a single file: give key_beside for several")
    if "/" in options.key_beside or options.key_beside in (".", ".."):
        raise ValueError(f"key_beside is the name of a file without a directory, not {options.key_beside!r}")
    return CertificateFileCheck(target=target, options=options)


def _is_pattern(target: str) -> bool:
    return bool(_SIGNS & set(target))


@dataclass(frozen=True, slots=True)
class Seen:
    """One certificate in a file."""

    file: str
    position: int
    facts: Certificate


@dataclass(slots=True)
class Found:
    """What the files held, as far as they were looked at."""

    files: int = 0
    seen: list[Seen] = field(default_factory=list[Seen])
    failures: list[ProbeFailed] = field(default_factory=list[ProbeFailed])


@dataclass(frozen=True, slots=True, eq=False)
class CertificateFileCheck:
    """Reads one file, or several."""

    target: str
    options: CertificateFileOptions

    async def __call__(self, watch: Watch) -> None:
        """Find the files, read them, judge. What was found is written down whatever is wrong with it."""
        watch.reach.check("127.0.0.1")  # who may not connect to this machine may not look at its files
        given_up = threading.Event()
        found = Found()
        try:
            with watch.phase("read"):
                await _in_thread(lambda: self.look(found, given_up))
        finally:
            given_up.set()
            at = self.options.at.timestamp() if self.options.at is not None else watch.clock.now()
            self._write_down(watch, found, at)
        self._judge(watch, found, at)

    def look(self, found: Found, given_up: threading.Event) -> None:
        """In a thread: everything that touches the file system."""
        for path in self._paths():
            if given_up.is_set():
                return
            found.files += 1
            try:
                certificates = self._read(path)
                facts = [facts_of(each) for each in certificates]
            except FileNotFoundError:  # it went away after it was listed, or is a link to nothing
                found.files -= 1
                continue
            except (Unreadable, Locked) as error:
                found.failures.append(_complaint(path, error))
                continue
            except ValueError as error:
                found.failures.append(
                    ProbeFailed(Reason.PROTOCOL, f"{path} holds a certificate that cannot be read: {error}")
                )
                continue
            except ProbeFailed as failure:
                found.failures.append(failure)
                continue
            found.seen.extend(Seen(str(path), position, each) for position, each in enumerate(facts))
            if certificates:
                found.failures.extend(self._objections(path, certificates))

    def _paths(self) -> Iterator[Path]:
        if _is_pattern(self.target):
            matching = Path("/").glob(self.target.lstrip("/"))
            yield from sorted(each for each in matching if not each.is_dir())
            return
        path = Path(self.target)
        if not path.is_dir():
            if path.exists() or path.is_symlink():
                yield path
            return
        listed = path.rglob("*") if self.options.recursive else path.iterdir()
        yield from sorted(each for each in listed if each.suffix.lower() in SUFFIXES and not each.is_dir())

    def _read(self, path: Path) -> tuple[x509.Certificate, ...]:
        data, mode = _contents(path)
        certificates = read_file(data, self.options.password)
        alone = str(path) == self.target
        if not certificates and alone:
            raise Unreadable("holds no certificate")
        if self.options.expect.private_key and b"PRIVATE KEY-----" in data:
            _check_mode(path, mode)
        return certificates

    def _objections(self, path: Path, certificates: tuple[x509.Certificate, ...]) -> Iterator[ProbeFailed]:
        facts = facts_of(certificates[0])
        missing = [name for name in self.options.expect.names if name not in facts.names]
        if missing:
            known = ", ".join(facts.names) or "no name at all"
            yield ProbeFailed(
                Reason.CERTIFICATE, f"the certificate in {path} is for {known}, wanted it to be for {missing[0]} too"
            )
        key = Path(self.options.key) if self.options.key else path.with_name(self.options.key_beside or path.name)
        if not self.options.key and not self.options.key_beside:
            return
        try:
            data, mode = _contents(key)
            if self.options.expect.private_key:
                _check_mode(key, mode)
            if not belongs(data, self.options.password, certificates[0]):
                yield ProbeFailed(
                    Reason.CERTIFICATE, f"the key {key} does not belong to the certificate of {facts.subject} in {path}"
                )
        except FileNotFoundError:
            yield ProbeFailed(Reason.ASSERTION, f"there is no key {key} for the certificate in {path}")
        except (Unreadable, Locked) as error:
            yield _complaint(key, error)
        except ProbeFailed as failure:
            yield failure

    def _write_down(self, watch: Watch, found: Found, at: float) -> None:
        watch.measure("stormwatch_certificate_file_files", found.files)
        watch.measure("stormwatch_certificate_file_certificates", len(found.seen))
        if not found.seen:
            return
        soonest = sorted(found.seen, key=lambda each: each.facts.not_after)
        watch.measure("probe_ssl_earliest_cert_expiry", soonest[0].facts.not_after)
        watch.measure("stormwatch_certificate_file_days_left", (soonest[0].facts.not_after - at) / _DAY)
        for each in soonest[:SERIES]:
            watch.measure(
                "stormwatch_certificate_file_expiry_timestamp_seconds",
                each.facts.not_after,
                file=each.file,
                position=str(each.position),
            )
        watch.note(
            "certificates",
            [
                {
                    "file": each.file,
                    "position": each.position,
                    **each.facts.as_evidence(),
                    "days_left": round((each.facts.not_after - at) / _DAY, 1),
                }
                for each in soonest[:SHOWN]
            ],
        )
        if len(soonest) > SHOWN:
            watch.note("certificates_left_out", len(soonest) - SHOWN)
        if self.options.at is not None:
            watch.note("judged_at", show_time(at))

    def _judge(self, watch: Watch, found: Found, at: float) -> None:
        if not found.files:
            what = "no file matches" if _is_pattern(self.target) else "there is no certificate file"
            raise ProbeFailed(Reason.ASSERTION, f"{what} {self.target}")
        if found.failures:
            first, more = found.failures[0], len(found.failures) - 1
            raise ProbeFailed(first.reason, first.message + (f"; and {more} more failures" if more else ""))
        for each in sorted(found.seen, key=lambda each: each.facts.not_after):
            _judge_dates(each, at, self.options.expires_within)
        least = self.options.expect.certificates_at_least
        if len(found.seen) < least:
            raise ProbeFailed(
                Reason.ASSERTION, f"{self.target} has {len(found.seen)} certificates, wanted at least {least}"
            )
        most, seconds = self.options.expect.slower_than, watch.seconds()
        if most is not None and seconds > most:
            raise ProbeFailed(
                Reason.TOO_SLOW,
                f"took {seconds * 1000:.0f} ms, wanted at most {show_duration(most)}; slowest was phase read",
                phase="read",
            )


def _judge_dates(seen: Seen, at: float, within: float | None) -> None:
    facts, left = seen.facts, seen.facts.not_after - at
    which = f"the certificate of {facts.subject} in {seen.file}"
    if seen.position:
        which += f", at position {seen.position},"
    if left < 0:
        raise ProbeFailed(Reason.CERTIFICATE, f"{which} expired {show_rough(-left)} ago")
    if at < facts.not_before:
        raise ProbeFailed(Reason.CERTIFICATE, f"{which} is not valid before {show_time(facts.not_before)}")
    if within is not None and left < within:
        raise ProbeFailed(
            Reason.CERTIFICATE, f"{which} expires in {show_rough(left)}, wanted more than {show_duration(within)}"
        )


def _complaint(path: Path, error: Unreadable | Locked) -> ProbeFailed:
    """What is wrong with a file. A password that does not open it is our mistake, and ends the run."""
    if isinstance(error, Locked):
        raise ProbeBroken(Reason.CREDENTIALS, f"{path} {error}") from error
    return ProbeFailed(Reason.PROTOCOL, f"{path} {error}")


def _contents(path: Path) -> tuple[bytes, int]:
    """A file and its mode. Raises FileNotFoundError, Unreadable, and ProbeBroken for what we may not read."""
    try:
        # A pipe or a device would keep us waiting for ever: not even opening one may block.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(number, "rb") as file:
            mode = os.fstat(number).st_mode
            if not stat.S_ISREG(mode):
                raise Unreadable("is not a regular file")
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ProbeBroken(Reason.INTERNAL, f"{path} cannot be read: {error.strerror or error}", phase="read") from error
    if len(data) > LARGEST:
        raise Unreadable(f"is larger than {show_size(LARGEST)}")
    return data, mode


def _check_mode(path: Path, mode: int) -> None:
    if stat.S_IMODE(mode) & 0o077:
        raise ProbeFailed(
            Reason.ASSERTION,
            f"the private key in {path} may be used by others than its owner (mode {stat.S_IMODE(mode):04o}): chmod 600",
        )


T = TypeVar("T")


async def _in_thread(work: Callable[[], T]) -> T:
    """As `asyncio.to_thread`, in a daemon thread: one that waits for a dead file system blocks no other, nor the exit."""
    if not _reads.acquire(blocking=False):
        raise ProbeBroken(
            Reason.RESOURCES, f"{READS} runs wait for files: see which file system does not answer", phase="read"
        )
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]  # it is a T when there was no error

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001 - handed to who waits for it
            error = raised
        finally:
            _reads.release()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="certificate files", daemon=True).start()
    return await answer


KIND: Final[Kind[Any]] = Kind(
    name="certificate-file",
    options=CertificateFileOptions,
    build=build,
    no_detour="reads a file, and connects to nobody",
    phases=("read",),
    phase_metric=Metric(
        "stormwatch_certificate_file_duration_seconds", "Seconds of reading certificate files by phase"
    ),
    metrics=(
        EARLIEST,
        Metric(
            "stormwatch_certificate_file_expiry_timestamp_seconds",
            "Unix time at which each certificate expires, by its file and its position there; the 256 that expire first",
        ),
        Metric(
            "stormwatch_certificate_file_days_left", "Days until the first certificate expires; negative afterwards"
        ),
        Metric("stormwatch_certificate_file_files", "Files that were looked at"),
        Metric("stormwatch_certificate_file_certificates", "Certificates that were found in them"),
    ),
    reasons=frozenset({Reason.TIMEOUT, Reason.CERTIFICATE, Reason.ASSERTION, Reason.PROTOCOL, Reason.TOO_SLOW}),
    target_is_file=True,
)
