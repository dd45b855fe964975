"""Faults of workloads of Kubernetes, by its API: pods are deleted, replicas taken away, the network closed."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import ConfigDict, Field

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.breakage import CannotBreak
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault_kind import FaultKind
from stormwatch.chaos.kubernetes import Cluster, ClusterRefused, Conflict
from stormwatch.chaos.option import STRICT, Options
from stormwatch.chaos.target import Target, TargetKind
from stormwatch.probes.options import File
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds

TRIES = 5
"""How often a change is tried again that somebody else's change came between."""
LOOK = 0.5
"""Seconds between two looks at whether pods are ready."""

_Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadTarget:
    """A workload of Kubernetes."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["deployment", "statefulset"] = "deployment"
    """What it is."""
    name: _Name
    """Its name."""
    namespace: _Name | Literal[""] = ""
    """Its namespace; that of the context when empty."""
    kubeconfig: File = ""
    """The file that says where the cluster is and who we are; the service account of the pod that this runs in when empty."""
    context: str = ""
    """The context in it; the current one when empty."""
    back: Seconds = 60.0
    """How long its pods may take to be ready again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodKill:
    """Pods of the workload are deleted; Kubernetes makes others."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    count: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many, the oldest first."""
    grace: Seconds = 0.0
    """How long they have to end by themselves; at 0s they are killed, as when their node died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadScale:
    """The workload has no replicas any more."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadIsolate:
    """A network policy lets nothing in or out of the workload's pods. The cluster's network has to enforce policies."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    direction: Literal["both", "ingress", "egress"] = "both"
    """What is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which workload, and how its cluster is reached: JSON values without secrets, for the undo record."""

    kind: str
    name: str
    namespace: str
    kubeconfig: str
    context: str
    back: float

    @classmethod
    def of(cls, target: WorkloadTarget) -> "Place":
        """As the configuration has it."""
        names = ("kind", "name", "namespace", "kubeconfig", "context", "back")
        return cls(**{name: getattr(target, name) for name in names})

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def path(self) -> str:
        """Of the workload in the API."""
        return f"/apis/apps/v1/namespaces/{self.namespace}/{self.kind}s/{self.name}"

    @property
    def pods(self) -> str:
        """Of the pods of its namespace."""
        return f"/api/v1/namespaces/{self.namespace}/pods"

    @property
    def policies(self) -> str:
        """Of the network policies of its namespace."""
        return f"/apis/networking.k8s.io/v1/namespaces/{self.namespace}/networkpolicies"


@dataclass(slots=True)
class Breaking:
    """What the three have in common: they look at the workload first, and fail in one way."""

    fault: str
    options: Any
    place: Place
    at: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    replicas: int = 0

    async def prepare(self) -> Mapping[str, Any]:
        try:
            async with Cluster.at(self.place.kubeconfig, self.place.context) as cluster:
                if not self.place.namespace:
                    self.place = replace(self.place, namespace=cluster.namespace)
                found = await cluster.get(self.place.path)
                if found is None:
                    raise CannotBreak(
                        f"there is no {self.place} in namespace {self.place.namespace}; correct the target's `name`"
                    )
                selector: dict[str, Any] = found["spec"]["selector"]
                if selector.get("matchExpressions") or not selector.get("matchLabels"):
                    raise CannotBreak(f"the pods of {self.place} are selected by more than labels: break another way")
                self.labels = selector["matchLabels"]
                self.replicas = int(found["spec"].get("replicas", 1))
                if self.replicas < 1:
                    raise CannotBreak(f"{self.place} has no replicas; scale it up before it is broken")
                return {"place": asdict(self.place), "replicas": self.replicas, **await self.look(cluster)}
        except ClusterRefused as error:
            raise CannotBreak(str(error)) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CannotBreak(f"what the cluster says of {self.place} is no {self.place.kind}: {error!r}") from error

    async def look(self, cluster: Cluster) -> Mapping[str, Any]:
        """What else the undoing needs. Raises CannotBreak, ClusterRefused."""
        raise NotImplementedError

    async def inject(self) -> None:
        try:
            async with Cluster.at(self.place.kubeconfig, self.place.context) as cluster:
                await self.do(cluster)
        except ClusterRefused as error:
            raise CannotBreak(str(error)) from error
        self.at = time.time()
        await self.evidence()

    async def do(self, cluster: Cluster) -> None:
        """Break it. Raises CannotBreak, ClusterRefused."""
        raise NotImplementedError

    async def evidence(self) -> Evidence:
        try:
            async with Cluster.at(self.place.kubeconfig, self.place.context) as cluster:
                what = await self.seen(cluster)
        except ClusterRefused as error:
            raise CannotBreak(str(error)) from error
        return Evidence(first=self.at, last=time.time(), what=what)

    async def seen(self, cluster: Cluster) -> str:
        """What is broken, as a sentence. Raises CannotBreak when nothing is any more, ClusterRefused."""
        raise NotImplementedError

    async def pods(self, cluster: Cluster) -> Sequence[dict[str, Any]]:
        """The workload's pods that are not on their way out, the oldest first."""
        selector = ",".join(f"{name}={value}" for name, value in sorted(self.labels.items()))
        found = await cluster.get(self.place.pods, labelSelector=selector) or {"items": []}
        living = [each for each in found["items"] if not each["metadata"].get("deletionTimestamp")]
        return sorted(living, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))


@dataclass(slots=True)
class KillingPods(Breaking):
    """Pods are deleted, each by its own id."""

    method: str = "pods"
    chosen: Sequence[tuple[str, str]] = ()

    async def look(self, cluster: Cluster) -> Mapping[str, Any]:
        pods = await self.pods(cluster)
        if len(pods) < self.options.count:
            raise CannotBreak(
                f"{self.place} has {len(pods)} pods, and {self.options.count} are to be killed: ask for less"
            )
        self.chosen = [(each["metadata"]["name"], each["metadata"]["uid"]) for each in pods[: self.options.count]]
        return {}

    async def do(self, cluster: Cluster) -> None:
        for name, uid in self.chosen:
            # Not another one that has the name by now, as pods of a statefulset do.
            body = {"gracePeriodSeconds": int(self.options.grace), "preconditions": {"uid": uid}}
            await cluster.delete(f"{self.place.pods}/{name}", body)

    async def seen(self, cluster: Cluster) -> str:
        living = {each["metadata"]["uid"] for each in await self.pods(cluster)}
        if left := [name for name, uid in self.chosen if uid in living]:
            raise CannotBreak(f"{', '.join(left)} still run after they were deleted")
        return f"deleted: {', '.join(name for name, _ in self.chosen)}"


@dataclass(slots=True)
class Scaling(Breaking):
    """The workload's scale is set to nothing."""

    method: str = "scale"

    async def look(self, cluster: Cluster) -> Mapping[str, Any]:
        return {}

    async def do(self, cluster: Cluster) -> None:
        await _scale(cluster, self.place, before=self.replicas, after=0)

    async def seen(self, cluster: Cluster) -> str:
        found = await cluster.get(f"{self.place.path}/scale")
        replicas = None if found is None else found["spec"].get("replicas", 0)
        if replicas:
            raise CannotBreak(f"{self.place} has {replicas} replicas again: somebody scaled it")
        return f"{self.place} is scaled from {self.replicas} to 0"


@dataclass(slots=True)
class Isolating(Breaking):
    """A network policy that allows nothing selects the workload's pods."""

    method: str = "policy"

    @property
    def policy(self) -> str:
        """Its name."""
        return f"stormwatch-{self.fault}"

    async def look(self, cluster: Cluster) -> Mapping[str, Any]:
        found = await cluster.get(self.place.policies) or {"items": []}
        for each in found["items"]:
            chosen: dict[str, Any] = each["spec"].get("podSelector") or {}
            # Policies add up: what another one allows stays allowed. One with expressions may be about them, too.
            if (chosen.get("matchLabels") or {}).items() <= self.labels.items():
                name = each["metadata"]["name"]
                raise CannotBreak(
                    f"the network policy {name} may be about the pods of {self.place} already, and what it allows would "
                    "stay allowed: break another way"
                )
        return {"policy": self.policy}

    async def do(self, cluster: Cluster) -> None:
        types = {"both": ["Ingress", "Egress"], "ingress": ["Ingress"], "egress": ["Egress"]}[self.options.direction]
        body = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": self.policy, "labels": {"app.kubernetes.io/managed-by": "stormwatch"}},
            "spec": {"podSelector": {"matchLabels": dict(self.labels)}, "policyTypes": types},
        }
        await cluster.post(self.place.policies, body)

    async def seen(self, cluster: Cluster) -> str:
        if await cluster.get(f"{self.place.policies}/{self.policy}") is None:
            raise CannotBreak(f"the network policy {self.policy} is gone: somebody removed it")
        return f"the network policy {self.policy} selects {len(await self.pods(cluster))} pods of {self.place}"


async def undo_pods(arguments: Mapping[str, Any]) -> Absence:
    """Wait until the workload's pods are ready again: Kubernetes makes them. Raises UndoFailed."""
    place, deadline = Place(**arguments["place"]), time.monotonic() + float(arguments["place"]["back"])
    try:
        async with Cluster.at(place.kubeconfig, place.context) as cluster:
            while True:
                found = await cluster.get(place.path)
                if found is None:
                    return Absence(False, f"{place} was removed")
                wanted = int(found["spec"].get("replicas", 1))
                ready = int(found.get("status", {}).get("readyReplicas") or 0)
                if ready >= wanted:
                    return Absence(True, f"{ready} of {wanted} pods of {place} are ready")
                if time.monotonic() > deadline:
                    raise UndoFailed(f"{ready} of {wanted} pods of {place} are ready; look at what keeps the others")
                await asyncio.sleep(LOOK)
    except ClusterRefused as error:
        raise UndoFailed(f"{error}; undo again") from error


async def undo_scale(arguments: Mapping[str, Any]) -> Absence:
    """Give the workload back the replicas that it had, unless somebody has scaled it meanwhile. Raises UndoFailed."""
    place, replicas = Place(**arguments["place"]), int(arguments["replicas"])
    try:
        async with Cluster.at(place.kubeconfig, place.context) as cluster:
            changed = await _scale(cluster, place, before=0, after=replicas)
    except (ClusterRefused, CannotBreak) as error:
        raise UndoFailed(f"{error}; scale {place} to {replicas} by hand, or undo again") from error
    return Absence(changed, f"{place} is scaled to {replicas}" if changed else f"{place} is not scaled to 0 any more")


async def undo_policy(arguments: Mapping[str, Any]) -> Absence:
    """Remove the network policy, and see that it is gone. Raises UndoFailed."""
    place, path = Place(**arguments["place"]), f"{Place(**arguments['place']).policies}/{arguments['policy']}"
    try:
        async with Cluster.at(place.kubeconfig, place.context) as cluster:
            was_there = await cluster.delete(path)
            if await cluster.get(path) is not None:
                raise UndoFailed(f"the network policy {arguments['policy']} is still there after it was deleted")
    except ClusterRefused as error:
        raise UndoFailed(f"{error}; delete the network policy {arguments['policy']} by hand, or undo again") from error
    return Absence(was_there, f"there is no network policy {arguments['policy']}")


async def _scale(cluster: Cluster, place: Place, *, before: int, after: int) -> bool:
    """Set the scale, if it still is what it was; whether it was. Raises ClusterRefused, CannotBreak."""
    path = f"{place.path}/scale"
    for attempt in range(1, TRIES + 1):
        found = await cluster.get(path)
        if found is None:
            raise CannotBreak(f"{place} is gone: somebody removed it")
        if int(found["spec"].get("replicas") or 0) != before:
            if after == 0:
                raise CannotBreak(f"{place} was scaled by somebody else meanwhile")
            return False
        found["spec"]["replicas"] = after
        try:
            # With its resourceVersion: whoever changed it since is not overwritten.
            await cluster.put(path, found)
        except Conflict:
            if attempt == TRIES:
                raise
        else:
            return True
    raise AssertionError("unreachable: the last attempt returns or raises")


def _place(target: Target) -> Place:
    return Place.of(cast("WorkloadTarget", target.options))


_GONE = frozenset({Reason.REFUSED, Reason.RESET, Reason.TIMEOUT, Reason.UNREACHABLE, Reason.STATUS})

WORKLOAD_TARGETS: tuple[TargetKind, ...] = (TargetKind("workload", WorkloadTarget, "a workload of Kubernetes"),)

WORKLOAD_FAULTS: tuple[FaultKind[Options], ...] = (
    FaultKind(
        "pod-kill",
        PodKill,
        "pods of a workload are deleted",
        _GONE,
        reason_note="none where other replicas answer: then that is what is proved",
        on="workload",
        breakage=lambda fault, options, target: KillingPods(fault, options, _place(target)),
    ),
    FaultKind(
        "workload-scale",
        WorkloadScale,
        "a workload has no replicas",
        _GONE,
        reason_note="status where an ingress answers in its place",
        on="workload",
        breakage=lambda fault, options, target: Scaling(fault, options, _place(target)),
    ),
    FaultKind(
        "workload-isolate",
        WorkloadIsolate,
        "nothing gets into or out of the pods of a workload",
        frozenset({Reason.TIMEOUT, Reason.STATUS}),
        reason_note="status where an ingress answers in its place",
        on="workload",
        breakage=lambda fault, options, target: Isolating(fault, options, _place(target)),
    ),
)
