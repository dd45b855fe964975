"""A drill that waits for the ticket about a certificate: only what changes the date can make it come."""

from pathlib import Path

import pytest

from stormwatch.chaos.plan import Plan
from stormwatch.harness.config import load
from stormwatch.harness.drilling import plan_of

FILE = """\
probes:
  - {name: shop, kind: http, target: "https://shop.example:18443/", every: 10s, timeout: 2s}
proxies:
  routes:
    - {name: shop-tls, listen: "127.0.0.1:18443", upstream: "192.0.2.10:443"}
drills:
  - name: expiry
    fault: {kind: FAULT, target: shop-tls}
    expect:
      alert: {probe: shop, severity: ticket, labels: {alertname: CertificateExpiring}, within: 1m}
"""


def planned(directory: Path, fault: str) -> Plan:
    """The plan of the drill with this fault."""
    path = directory / "stormwatch.yaml"
    path.write_text(FILE.replace("FAULT", fault))
    config = load(path, environ={})
    return plan_of(config, config.drills[0])


@pytest.mark.parametrize("fault", ["tls-expires-soon, left: 5d", "tls-expired"])
def test_a_date_that_comes_near_makes_the_ticket_come_with_the_next_run(tmp_path: Path, fault: str) -> None:
    """Not later than an interval, a run and an evaluation."""
    plan = planned(tmp_path, fault)
    assert (plan.refusals, plan.warnings) == ((), ())
    assert plan.alert is not None
    assert 10 < plan.alert.worst < 30


@pytest.mark.parametrize("fault", ["tls-expires-soon, left: 300d", "tls-wrong-host", "tcp-reset"])
def test_other_faults_never_do_so_the_drill_is_refused(tmp_path: Path, fault: str) -> None:
    """Before anything is broken, with the remedy."""
    (refusal,) = planned(tmp_path, fault).refusals
    assert refusal.startswith("CertificateExpiring{probe=shop, severity=ticket}: ")
    assert refusal.endswith(" does not make it fire: expect another alert, or leave it out")
