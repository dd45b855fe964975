"""Where probes may connect to is decided by the address, however it is written."""

import pytest

from stormwatch.probes.failure import ProbeBroken
from stormwatch.probes.reach import ANYWHERE, OWN_HOST, Reach, networks
from stormwatch.probes.result import Reason


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",
        "::1",
        "::",
        "169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "fd00:ec2::254",
        "168.63.129.16",
    ],
)
def test_this_machine_and_the_metadata_services_are_refused(address: str) -> None:
    """Also as IPv4 inside IPv6."""
    reach = Reach(refuse=OWN_HOST)
    assert not reach.permits(address)
    with pytest.raises(ProbeBroken, match="policy refuses") as caught:
        reach.check(address)
    assert caught.value.reason is Reason.POLICY


@pytest.mark.parametrize("address", ["192.0.2.1", "10.1.2.3", "2001:db8::1", "::ffff:192.0.2.1", "64:ff9b::c000:201"])
def test_everything_else_is_permitted(address: str) -> None:
    """Private networks too: they are what one probes."""
    assert Reach(refuse=OWN_HOST).permits(address)
    assert ANYWHERE.permits(address)


def test_what_is_allowed_beats_what_is_refused() -> None:
    """For tests and for a service on the same machine."""
    reach = Reach(allow=networks(["127.0.0.1"]), refuse=OWN_HOST)
    assert reach.permits("127.0.0.1")
    assert reach.permits("::ffff:127.0.0.1")
    assert not reach.permits("127.0.0.2")


def test_of_several_addresses_the_permitted_ones_are_kept() -> None:
    """A name that resolves to both is connected to where it may be."""
    assert Reach(refuse=OWN_HOST).permitted(("127.0.0.1", "192.0.2.1"), "shop.test") == ("192.0.2.1",)
    with pytest.raises(ProbeBroken, match=r"shop\.test \(127\.0\.0\.1\): the policy refuses 127\.0\.0\.0/8"):
        Reach(refuse=OWN_HOST).permitted(("127.0.0.1",), "shop.test")


def test_what_is_no_network_is_named() -> None:
    """With a remedy."""
    with pytest.raises(ValueError, match=r"'shop' is not a network like 10\.0\.0\.0/8"):
        networks(["10.0.0.0/8", "shop"])
