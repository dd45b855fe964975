"""Kubernetes' API as far as the faults of workloads go: a real server with state, conflicts, rights, and a controller that makes pods."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stormwatch.chaos.door import bound_socket

TOKEN = "token-of-the-drill"


@dataclass
class SmallCluster:
    """One deployment `payments` in the namespace `shop`, its pods, and the network policies."""

    url: str = ""
    replicas: int = 2
    version: int = 1
    makes_pods: bool = True
    """Whether the controller works."""
    refused: str = ""
    """A verb that the account may not use."""
    interfering: Callable[[], None] | None = None
    """Somebody who changes the scale between a look at it and the change, once."""
    pods: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    policies: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    selector: dict[str, Any] = field(default_factory=lambda: {"matchLabels": {"app": "payments"}})
    asked: list[str] = field(default_factory=list[str])
    """Every change that was asked for."""
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def reconcile(self) -> None:
        """What the controllers do: as many pods as are wanted."""
        while self.makes_pods and len(self.pods) < self.replicas:
            number = next(self._numbers)
            self.pods[f"payments-{number}"] = {
                "metadata": {
                    "name": f"payments-{number}",
                    "uid": f"uid-{number}",
                    "labels": {"app": "payments"},
                    "creationTimestamp": f"2026-11-21T12:00:{number:02}Z",
                }
            }
        while len(self.pods) > self.replicas:
            self.pods.popitem()

    def scale_to(self, replicas: int) -> None:
        """Somebody scales it."""
        self.replicas, self.version = replicas, self.version + 1
        self.reconcile()

    async def deployment(self, request: Request) -> Response:
        """GET a workload."""
        if request.path_params["name"] != "payments":
            return _status(404, f'deployments.apps "{request.path_params["name"]}" not found')
        return JSONResponse(
            {
                "metadata": {"name": "payments"},
                "spec": {"replicas": self.replicas, "selector": self.selector},
                "status": {"readyReplicas": len(self.pods)},
            }
        )

    async def scale(self, request: Request) -> Response:
        """GET and PUT the subresource `scale`."""
        if request.method == "PUT":
            wanted = await request.json()
            if self.interfering is not None:
                interfering, self.interfering = self.interfering, None
                interfering()
            if wanted["metadata"]["resourceVersion"] != str(self.version):
                return _status(409, "the object has been modified; please apply your changes to the latest version")
            self.asked.append(f"scale {wanted['spec']['replicas']}")
            self.scale_to(wanted["spec"]["replicas"])
        # A replica count of 0 is left out, as Go's encoder does.
        spec = {"replicas": self.replicas} if self.replicas else {}
        return JSONResponse({"metadata": {"name": "payments", "resourceVersion": str(self.version)}, "spec": spec})

    async def list_pods(self, request: Request) -> Response:
        """GET pods by their labels."""
        fits = request.query_params.get("labelSelector") == "app=payments"
        return JSONResponse({"items": list(self.pods.values()) if fits else []})

    async def pod(self, request: Request) -> Response:
        """DELETE a pod, if it is the one that is meant."""
        name, body = request.path_params["name"], await request.json()
        if name not in self.pods:
            return _status(404, f'pods "{name}" not found')
        if body["preconditions"]["uid"] != self.pods[name]["metadata"]["uid"]:
            return _status(409, "the UID in the precondition does not match the UID in record")
        self.asked.append(f"delete {name} {body['gracePeriodSeconds']}")
        del self.pods[name]
        self.reconcile()
        return _status(200, "")

    async def list_policies(self, request: Request) -> Response:
        """GET network policies, POST one."""
        if request.method == "GET":
            return JSONResponse({"items": list(self.policies.values())})
        policy = await request.json()
        self.policies[policy["metadata"]["name"]] = policy
        return JSONResponse(policy, 201)

    async def policy(self, request: Request) -> Response:
        """GET and DELETE a network policy."""
        name = request.path_params["name"]
        if name not in self.policies:
            return _status(404, f'networkpolicies.networking.k8s.io "{name}" not found')
        return JSONResponse(self.policies.pop(name) if request.method == "DELETE" else self.policies[name])

    def allowed(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint, for those who may."""

        async def ask(request: Request) -> Response:
            if request.headers.get("Authorization") != f"Bearer {TOKEN}":
                return _status(401, "Unauthorized")
            if request.method == self.refused:
                return _status(403, 'User "drill" cannot do that in the namespace "shop"')
            return await endpoint(request)

        return ask

    def write_kubeconfig(self, path: Path, *, token: str = TOKEN) -> None:
        """A kubeconfig with one context."""
        document = {
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "small", "user": "drill", "namespace": "shop"}}],
            "clusters": [{"name": "small", "cluster": {"server": self.url}}],
            "users": [{"name": "drill", "user": {"token": token}}],
        }
        path.write_text(yaml.safe_dump(document))


def _status(code: int, message: str) -> Response:
    return JSONResponse({"kind": "Status", "code": code, "message": message}, code)


@contextlib.asynccontextmanager
async def cluster_running() -> AsyncGenerator[SmallCluster]:
    """A cluster on a free port of loopback."""
    known = SmallCluster()
    known.reconcile()
    apps, core = "/apis/apps/v1/namespaces/shop/deployments/{name}", "/api/v1/namespaces/shop/pods"
    net = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies"
    app = Starlette(
        routes=[
            Route(f"{apps}/scale", known.allowed(known.scale), methods=["GET", "PUT"]),
            Route(apps, known.allowed(known.deployment), methods=["GET"]),
            Route(core, known.allowed(known.list_pods), methods=["GET"]),
            Route(f"{core}/{{name}}", known.allowed(known.pod), methods=["DELETE"]),
            Route(net, known.allowed(known.list_policies), methods=["GET", "POST"]),
            Route(f"{net}/{{name}}", known.allowed(known.policy), methods=["GET", "DELETE"]),
        ]
    )
    bound = bound_socket("127.0.0.1:0")
    known.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
    server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue]
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
            assert not task.done(), "the cluster ended at once"
        yield known
    finally:
        server.should_exit = True
        await task
