"""Files and ports of a platform."""

from pathlib import Path

from stormwatch.demo.layout import Layout, free_ports, remembered_ports


def test_the_ports_are_those_that_people_remember() -> None:
    """The shop is at 18443."""
    ports = remembered_ports(lambda _port: True)

    assert ports.url("shop") == "https://shop.storm.test:18443"
    assert (ports.dns, ports.control) == (18453, 18474)


def test_a_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    """And the others stay where people look for them."""
    ports = remembered_ports(lambda port: port != 18443)

    assert ports.front["shop"] in range(20000, 32000)
    assert ports.front["payments"] == 18446


def test_all_ports_differ() -> None:
    """Also when all of them are chosen."""
    ports = free_ports(lambda _port: True)
    taken = [ports.dns, ports.dns_direct, ports.control, *ports.front.values(), *ports.direct.values()]

    assert len(taken) == len(set(taken))


def test_cleaning_removes_what_a_platform_makes_and_nothing_else(tmp_path: Path) -> None:
    """Whoever names a directory with files of their own keeps them."""
    layout = Layout.at(tmp_path)
    layout.clean()
    ours = [layout.state, layout.ca, layout.certificate("shop"), layout.database("shop"), layout.log("dns")]
    theirs = [tmp_path / "notes.txt", tmp_path / "databases" / "mine.sqlite", tmp_path / "logs" / "mine.log"]
    for path in (*ours, *theirs):
        path.write_text("x")

    layout.clean()

    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in theirs)
