"""A client of Kubernetes' API: who it is comes from a kubeconfig, or from the service account of the pod that this runs in.

https://kubernetes.io/docs/reference/kubernetes-api/ . Credentials are read whenever they are needed, and never written down.
"""

import base64
import os
import ssl
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds the token of its service account."""
TIMEOUT = 10.0
"""Seconds that one request may take."""


class ClusterRefused(Exception):
    """The API does not answer, or will not. One sentence."""


class Conflict(ClusterRefused):
    """What was to be changed has changed meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a cluster is reached. It holds secrets: never shown, never recorded."""

    server: str
    namespace: str
    headers: Mapping[str, str]
    verify: ssl.SSLContext


class Cluster:
    """A client of one cluster."""

    def __init__(self, client: httpx.AsyncClient, namespace: str) -> None:
        self._client = client
        self.namespace = namespace
        """The namespace of the context; `default` when it names none."""

    @classmethod
    @asynccontextmanager
    async def at(cls, kubeconfig: str, context: str) -> "AsyncGenerator[Cluster]":
        """The cluster of a context; without a file that of the pod that this runs in. Raises ClusterRefused."""
        access = read_kubeconfig(Path(kubeconfig), context) if kubeconfig else read_account(os.environ)
        async with httpx.AsyncClient(
            base_url=access.server, headers=dict(access.headers), verify=access.verify, timeout=TIMEOUT, trust_env=False
        ) as client:
            yield cls(client, access.namespace)

    async def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """An object, or a list of them; None when there is none. Raises ClusterRefused."""
        answer = await self._ask("GET", path, query=query)
        return None if answer.status_code == 404 else _object(self._accepted(answer, "get", path))

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object. Raises ClusterRefused, Conflict when there is one."""
        return _object(self._accepted(await self._ask("POST", path, body=body), "create", path))

    async def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object. Raises ClusterRefused, Conflict when it has another resourceVersion by now."""
        return _object(self._accepted(await self._ask("PUT", path, body=body), "update", path))

    async def delete(self, path: str, body: Mapping[str, Any] | None = None) -> bool:
        """Delete an object; whether it was there. Raises ClusterRefused, Conflict when it is not the one that is meant."""
        answer = await self._ask("DELETE", path, body=body)
        if answer.status_code == 404:
            return False
        self._accepted(answer, "delete", path)
        return True

    async def _ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        try:
            return await self._client.request(method, path, params=query, json=body)
        except httpx.HTTPError as error:
            raise ClusterRefused(
                f"the API of Kubernetes at {self._client.base_url} does not answer: {str(error) or type(error).__name__}"
            ) from error

    def _accepted(self, answer: httpx.Response, verb: str, path: str) -> httpx.Response:
        if answer.status_code < 300:
            return answer
        try:
            said = str(answer.json()["message"])
        except (ValueError, KeyError, TypeError):
            said = f"status {answer.status_code}"
        if answer.status_code == 409:
            raise Conflict(f"Kubernetes did not {verb} {path}: {said}")
        remedy = {401: "; renew its credentials", 403: "; give its account that right"}.get(answer.status_code, "")
        raise ClusterRefused(f"Kubernetes did not {verb} {path}: {said}{remedy}")


def read_account(environ: Mapping[str, str], directory: Path = ACCOUNT) -> Access:
    """The service account of the pod that this runs in. Raises ClusterRefused where there is none."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        token = (directory / "token").read_text().strip()
        verify = ssl.create_default_context(cafile=str(directory / "ca.crt"))
        namespace = (directory / "namespace").read_text().strip()
    except OSError as error:
        raise ClusterRefused(
            f"this does not run in a pod with a service account ({error.strerror}): give the target a `kubeconfig`"
        ) from error
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    return Access(server=server, namespace=namespace, headers={"Authorization": f"Bearer {token}"}, verify=verify)


def read_kubeconfig(path: Path, context: str) -> Access:
    """A context of a kubeconfig, the current one when it is empty. Raises ClusterRefused, with the file in it."""
    try:
        document: dict[str, Any] = yaml.safe_load(path.read_text())
        chosen = context or document["current-context"]
        within = _named(document, "contexts", chosen)["context"]
        cluster = _named(document, "clusters", within["cluster"])["cluster"]
        user = _named(document, "users", within["user"])["user"] or {}
        if "exec" in user or "auth-provider" in user:
            raise ClusterRefused(
                f"{path}: the user of context {chosen} gets credentials from a program, which is not run: "
                "give it a token or a client certificate"
            )
        return Access(
            server=cluster["server"],
            namespace=within.get("namespace") or "default",
            headers=_headers(user, path.parent),
            verify=_verification(cluster, user, path.parent),
        )
    except (OSError, ssl.SSLError) as error:
        raise ClusterRefused(f"{path} cannot be used: {error.strerror or error}") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError, StopIteration) as error:
        raise ClusterRefused(f"{path} is no kubeconfig with the context {context or 'that it says'}") from error


def _named(document: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    return next(each for each in document[section] if each["name"] == name)


def _headers(user: Mapping[str, Any], directory: Path) -> Mapping[str, str]:
    token = user.get("token") or ((directory / user["tokenFile"]).read_text().strip() if user.get("tokenFile") else "")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _verification(cluster: Mapping[str, Any], user: Mapping[str, Any], directory: Path) -> ssl.SSLContext:
    authority = _pem(cluster, "certificate-authority", directory)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate, key = _pem(user, "client-certificate", directory), _pem(user, "client-key", directory)
    if certificate and key:
        # OpenSSL takes them from files only; this one nobody else may read, and it is gone when they are loaded.
        with tempfile.NamedTemporaryFile() as file:
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _pem(section: Mapping[str, Any], name: str, directory: Path) -> bytes:
    if data := section.get(f"{name}-data"):
        return base64.b64decode(data)
    return (directory / section[name]).read_bytes() if section.get(name) else b""


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        return dict(answer.json())
    except (ValueError, TypeError) as error:
        raise ClusterRefused(f"{answer.request.url} is not the API of Kubernetes") from error
