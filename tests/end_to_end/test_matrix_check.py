"""A scaled matrix whose check at full scale is cut short: what it found is told, and nothing is left of what it broke."""

import json
import os
import signal
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from stormwatch.chaos.matrix import Matrix
from tests.end_to_end.test_matrix import Quiet, states
from tests.servers.command import begun, invoke, staying
from tests.servers.process import free_port, wait_for

CONFIG = """\
# stormwatch.yaml
defaults: {{every: 200ms, timeout: 150ms, confirm: {{attempts: 1}}}}
probes:
  - {{name: front, kind: http, target: "http://127.0.0.1:{shop}/", alert: {{severity: info}}}}
objectives:
  - name: front-works
    probe: front
    target: 90%
    window: 1d
    burns: [{{severity: page, long: 1h, short: 5m, factor: 5}}]
proxies:
  control: 127.0.0.1:{control}
  routes: [{{name: shop, listen: "127.0.0.1:{shop}", upstream: "127.0.0.1:{upstream}"}}]
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_check_that_is_interrupted_leaves_the_scaled_run_and_no_verdict(tmp_path: Path) -> None:
    """The alert needs half an hour at full scale. The cell was repeated and told of each time: that is not lost. Exit code 3."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = {name: free_port() for name in ("shop", "control")}
    config, environ = tmp_path / "stormwatch.yaml", {**os.environ, "STORMWATCH_STATE": str(tmp_path / "state")}
    config.write_text(CONFIG.format(**ports, upstream=server.server_port))
    asked = [
        "drill",
        "--matrix",
        "shop/tcp-refused",
        "--repeat",
        "2",
        "--scale",
        "1/3600",
        "--check-scale",
        "--format",
        "json",
    ]
    journal = tmp_path / "state" / "audit.jsonl"
    try:
        with (
            staying("proxy", "-c", config, log=tmp_path / "proxy.log", port=ports["control"]),
            begun(*asked, "-c", config, env=environ) as matrix,
        ):
            wait_for(
                lambda: (journal.exists() and "at full scale" in journal.read_text()) or matrix.poll() is not None,
                what="the check to break something",
                seconds=90,
            )
            matrix.send_signal(signal.SIGTERM)
            ended = matrix.ended(60)
            undone = invoke("undo", env=environ)
    finally:
        server.shutdown()
        server.server_close()
    assert ended.returncode == 3, ended.stderr
    document = json.loads(ended.stdout)
    assert states(document) == {"shop/tcp-refused": "killed"}
    assert [len(one.repeats) for one in Matrix.from_json(document).outcomes] == [1]
    assert document["checks"] == []
    assert "interrupted after 0 of 1 checks at full scale; every fault is taken back" in ended.stderr
    assert undone.stdout == "nothing to undo: no fault is recorded\n"
