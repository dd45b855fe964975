"""Faults of Kubernetes: put, proved and taken back by its API; what others changed meanwhile is never overwritten."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from stormwatch.chaos.absence import UndoFailed
from stormwatch.chaos.catalog import FAULTS, read_options
from stormwatch.chaos.fault import Fault, FaultLost, FaultNotInjected
from stormwatch.chaos.kubernetes import ClusterRefused, read_kubeconfig
from stormwatch.chaos.undoers import UNDOERS
from stormwatch.chaos.workload_faults import undo_scale
from stormwatch.harness.config import load
from stormwatch.harness.injecting import fault_of
from stormwatch.probes.clock import SystemClock
from tests.servers.cluster import TOKEN, SmallCluster, cluster_running


def fault(directory: Path, cluster: SmallCluster, written: str, *, more: str = "") -> Fault:
    """The fault of a drill, as users write it."""
    cluster.write_kubeconfig(directory / "kubeconfig.yaml")
    path = directory / "stormwatch.yaml"
    path.write_text(
        "probes: [{name: shop, kind: http, target: 'http://127.0.0.1:1/'}]\n"
        f"targets: [{{name: payments, workload: {{name: payments, kubeconfig: kubeconfig.yaml{more}}}}}]\n"
        f"drills: [{{name: gone, fault: {{target: payments, {written}}}, expect: {{probe: {{name: shop}}}}}}]\n"
    )
    config = load(path, environ={})
    return fault_of(config, config.drills[0].fault, state=directory, drill="gone", clock=SystemClock())


async def record_of(directory: Path, cluster: SmallCluster, kind: str) -> Mapping[str, Any]:
    """The arguments of the undoing, known before anything is touched, and without a secret."""
    fault(directory, cluster, f"kind: {kind}")
    target = load(directory / "stormwatch.yaml", environ={}).targets["payments"]
    make = FAULTS[kind].breakage
    assert make is not None
    arguments = await make("f1", read_options(kind, {}), target).prepare()
    assert TOKEN not in str(arguments)
    return arguments


async def test_pods_are_deleted_and_made_again(tmp_path: Path) -> None:
    """The oldest, at once, and no other; the fault is over when as many as are wanted are ready."""
    async with cluster_running() as cluster:
        before = list(cluster.pods)
        async with fault(tmp_path, cluster, "kind: pod-kill") as injected:
            evidence = await injected.evidence()
        assert (cluster.asked, list(cluster.pods)) == ([f"delete {before[0]} 0"], [before[1], "payments-2"])
    assert (evidence.touched, evidence.what) == (True, f"deleted: {before[0]}")


async def test_a_workload_is_scaled_to_nothing_and_back(tmp_path: Path) -> None:
    """To what it was."""
    async with cluster_running() as cluster:
        async with fault(tmp_path, cluster, "kind: workload-scale") as injected:
            during, evidence = len(cluster.pods), await injected.evidence()
        assert (during, len(cluster.pods), cluster.asked) == (0, 2, ["scale 0", "scale 2"])
    assert evidence.what == "deployment payments is scaled from 2 to 0"


async def test_a_workload_is_isolated_by_a_policy_of_ours(tmp_path: Path) -> None:
    """That allows nothing, selects its pods, and is gone afterwards."""
    async with cluster_running() as cluster:
        async with fault(tmp_path, cluster, "kind: workload-isolate, direction: ingress") as injected:
            ((name, policy),) = cluster.policies.items()
            evidence = await injected.evidence()
        assert cluster.policies == {}
    assert policy["spec"] == {"podSelector": {"matchLabels": {"app": "payments"}}, "policyTypes": ["Ingress"]}
    assert evidence.what == f"the network policy {name} selects 2 pods of deployment payments"


async def test_a_change_that_comes_between_is_not_overwritten(tmp_path: Path) -> None:
    """Not by the injection, and not by the undoing; one that changed something else is no reason to give up."""
    async with cluster_running() as cluster:
        cluster.interfering = lambda: cluster.scale_to(5)
        with pytest.raises(FaultNotInjected, match="was scaled by somebody else meanwhile"):
            async with fault(tmp_path, cluster, "kind: workload-scale"):
                pytest.fail("it was injected")
        assert (cluster.replicas, cluster.asked) == (5, [])
        cluster.interfering = lambda: cluster.scale_to(cluster.replicas)
        async with fault(tmp_path, cluster, "kind: workload-scale") as injected:
            cluster.scale_to(1)
            with pytest.raises(FaultLost, match="has 1 replicas again: somebody scaled it"):
                await injected.evidence()
        assert (cluster.replicas, cluster.asked) == (1, ["scale 0"])


@pytest.mark.parametrize("kind", ["workload-scale", "workload-isolate", "pod-kill"])
async def test_undoing_is_idempotent_and_harmless_where_nothing_was_done(tmp_path: Path, kind: str) -> None:
    """By the record alone: also when its owner died before it touched anything."""
    async with cluster_running() as cluster:
        arguments = await record_of(tmp_path, cluster, kind)
        undo = UNDOERS[{"workload-scale": "scale", "workload-isolate": "policy", "pod-kill": "pods"}[kind]]
        for _ in range(2):
            await undo(arguments)
        assert (cluster.replicas, cluster.policies, cluster.asked) == (2, {}, [])


async def test_a_scale_is_given_back_by_the_record_alone(tmp_path: Path) -> None:
    """In another process, after a SIGKILL."""
    async with cluster_running() as cluster:
        arguments = await record_of(tmp_path, cluster, "workload-scale")
        cluster.scale_to(0)
        first, second = await undo_scale(arguments), await undo_scale(arguments)
        assert (first.was_there, second.was_there, cluster.replicas) == (True, False, 2)
    with pytest.raises(UndoFailed, match=r"does not answer: .*; scale deployment payments to 2 by hand"):
        await undo_scale(arguments)


async def test_pods_that_do_not_come_back_are_told(tmp_path: Path) -> None:
    """The fault is not over, and that is unsafe."""
    async with cluster_running() as cluster:
        arguments = dict(await record_of(tmp_path, cluster, "pod-kill"))
        arguments["place"] = {**cast("dict[str, Any]", arguments["place"]), "back": 0.1}
        cluster.makes_pods = False
        cluster.pods.popitem()
        with pytest.raises(UndoFailed, match="1 of 2 pods of deployment payments are ready"):
            await UNDOERS["pods"](arguments)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("pod-kill, count: 3", "has 2 pods, and 3 are to be killed: ask for less"),
        ("workload-isolate", "the network policy others may be about the pods of deployment payments already"),
    ],
)
async def test_what_would_prove_nothing_is_not_done(tmp_path: Path, kind: str, sentence: str) -> None:
    """With the reason."""
    async with cluster_running() as cluster:
        cluster.policies["others"] = {"metadata": {"name": "others"}, "spec": {"podSelector": {}}}
        with pytest.raises(FaultNotInjected, match=sentence):
            async with fault(tmp_path, cluster, f"kind: {kind}"):
                pytest.fail("it was injected")
        assert (cluster.asked, len(cluster.policies)) == ([], 1)


async def test_a_cluster_that_refuses_is_told_with_the_remedy(tmp_path: Path) -> None:
    """No right, no credentials, no such workload, no replicas, nobody there: nothing is broken."""

    async def said(cluster: SmallCluster, *, more: str = "", token: str = TOKEN) -> str:
        injected = fault(tmp_path, cluster, "kind: workload-scale", more=more)
        cluster.write_kubeconfig(tmp_path / "kubeconfig.yaml", token=token)
        with pytest.raises(FaultNotInjected) as caught:
            async with injected:
                pytest.fail("it was injected")
        assert token not in str(caught.value)
        return str(caught.value)

    async with cluster_running() as cluster:
        cluster.refused = "PUT"
        assert (await said(cluster)).endswith("; give its account that right")
        cluster.refused = ""
        assert (await said(cluster, token="an-old-token-of-the-drill")).endswith("; renew its credentials")
        cluster.selector = {"matchExpressions": [{}]}
        assert "selected by more than labels" in await said(cluster)
        cluster.selector = {"matchLabels": {"app": "payments"}}
        cluster.scale_to(0)
        assert (await said(cluster)).endswith("has no replicas; scale it up before it is broken")
    assert "does not answer" in await said(cluster)


OF_A_PROGRAM = """\
current-context: a
contexts: [{name: a, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {exec: {}}}]
"""
WITHOUT_AUTHORITY = OF_A_PROGRAM.replace("exec: {}", "token: t").replace('1"}', '1", certificate-authority: gone.pem}')


@pytest.mark.parametrize(
    ("text", "context", "sentence"),
    [
        ("{", "", "is no kubeconfig with the context that it says"),
        ("current-context: a\ncontexts: []\n", "b", "is no kubeconfig with the context b"),
        (OF_A_PROGRAM, "", "gets credentials from a program, which is not run"),
        (WITHOUT_AUTHORITY, "", "cannot be used: No such file or directory"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_told(tmp_path: Path, text: str, context: str, sentence: str) -> None:
    """With the file."""
    path = tmp_path / "kubeconfig.yaml"
    path.write_text(text)
    with pytest.raises(ClusterRefused, match=sentence):
        read_kubeconfig(path, context)
