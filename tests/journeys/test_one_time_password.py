"""One-time passwords: the vectors of RFC 6238, appendix B, and what sites show when they are set up."""

import base64

import pytest

from stormwatch.journeys.one_time_password import OneTimePasswords, one_time_password

KEYS = {"SHA1": b"1234567890" * 2, "SHA256": (b"1234567890" * 4)[:32], "SHA512": (b"1234567890" * 7)[:64]}


@pytest.mark.parametrize(
    ("moment", "passwords"),
    [
        (59, ("94287082", "46119246", "90693936")),
        (1111111109, ("07081804", "68084774", "25091201")),
        (1111111111, ("14050471", "67062674", "99943326")),
        (1234567890, ("89005924", "91819424", "93441116")),
        (2000000000, ("69279037", "90698825", "38618901")),
        (20000000000, ("65353130", "77737706", "47863826")),
    ],
)
def test_the_vectors_of_the_standard(moment: int, passwords: tuple[str, ...]) -> None:
    for (algorithm, key), password in zip(KEYS.items(), passwords, strict=True):
        seed = base64.b32encode(key).decode()
        written = f"otpauth://totp/Shop:ada@shop.test?secret={seed}&digits=8&algorithm={algorithm}&issuer=Shop"
        assert OneTimePasswords.of(written).at(moment) == password
        assert OneTimePasswords(key=key, digits=8, algorithm=algorithm).at(moment) == password


@pytest.mark.parametrize("seed", ["GEZD GNBV gy3t QOJQ GEZD GNBV GY3T QOJQ", "gezdgnbvgy3tqojqgezdgnbvgy3tqojq===="])
def test_a_seed_as_people_copy_it(seed: str) -> None:
    assert one_time_password(seed, clock=lambda: 59.9) == "287082"
    assert one_time_password(seed, clock=lambda: 60.0) != "287082"


@pytest.mark.parametrize(
    "seed", ["", "GEZD1", "otpauth://hotp/x?secret=GEZDGNBV&counter=1", "otpauth://totp/x", "otpauth://totp/x?secret=1"]
)
def test_what_is_no_seed_is_refused_without_being_shown(seed: str) -> None:
    with pytest.raises(ValueError, match=r"base32|otpauth://totp/…\?secret=…") as caught:
        one_time_password(seed)
    assert "GEZD" not in str(caught.value)


@pytest.mark.parametrize("rest", ["digits=x", "digits=0", "digits=11", "period=0", "algorithm=MD5"])
def test_parameters_that_are_not_known_are_refused(rest: str) -> None:
    with pytest.raises(ValueError, match=r"one-time passwords with|must be numbers"):
        one_time_password(f"otpauth://totp/x?secret=GEZDGNBV&{rest}")
