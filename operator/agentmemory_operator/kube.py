"""The Kubernetes API as the operator uses it: raw objects, server-side apply, never on the event loop.

``Kube`` is the seam: seven verbs over plain dictionaries, so that another client can follow later. ``Cluster`` is the
implementation over the official client, of which only the authentication and the connection pool are used: its typed
models drop fields that they do not know.
"""

import asyncio
import functools
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import kubernetes.client
import kubernetes.config
import urllib3.exceptions

from agentmemory_operator.names import FIELD_MANAGER, GROUP, PLURAL, VERSION

Object = dict[str, Any]
"""A Kubernetes object as JSON."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object, and where the API server has it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        parts = [root]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts += [part for part in (self.plural, quote(name, safe=""), subresource) if part]
        return "/".join(parts)


ACCESS_REVIEW = Kind("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", False)
AGENTMEMORY = Kind(f"{GROUP}/{VERSION}", "AgentMemory", PLURAL)
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
EVENT = Kind("events.k8s.io/v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
MUTATING_WEBHOOKS = Kind(
    "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", False
)
NAMESPACE = Kind("v1", "Namespace", "namespaces", False)
NODE = Kind("v1", "Node", "nodes", False)
POD = Kind("v1", "Pod", "pods")
POD_DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
TOKEN_REVIEW = Kind("authentication.k8s.io/v1", "TokenReview", "tokenreviews", False)
VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
SECRET = Kind("v1", "Secret", "secrets")
SERVICE = Kind("v1", "Service", "services")
STATEFUL_SET = Kind("apps/v1", "StatefulSet", "statefulsets")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
DAEMON_SET = Kind("apps/v1", "DaemonSet", "daemonsets")
JOB = Kind("batch/v1", "Job", "jobs")
CRON_JOB = Kind("batch/v1", "CronJob", "cronjobs")

KINDS: Mapping[tuple[str, str], Kind] = {
    (kind.api_version, kind.kind): kind for kind in tuple(globals().values()) if isinstance(kind, Kind)
}
"""By (apiVersion, kind)."""


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """Raises KeyError for a kind that the operator does not deal with."""
    return KINDS[manifest["apiVersion"], manifest["kind"]]


class KubeError(Exception):
    """The API server refused. ``status`` is the HTTP status, ``reason`` Kubernetes' own word for it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Conflict(KubeError):
    """Somebody else wrote in between, or the object exists already (409)."""


class NotFound(KubeError):
    """No such object, or no such kind (404)."""


class KubeUnreachable(Exception):
    """No answer from the API server."""


class Kube(Protocol):
    """All calls raise KubeError where the API server refuses and KubeUnreachable where it does not answer."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        ...

    async def list(self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = "") -> list[Object]:
        """All objects of a kind; in all namespaces without one. Each carries its apiVersion and kind."""
        ...

    async def apply(self, manifest: Mapping[str, Any], *, status: bool = False, manager: str = FIELD_MANAGER) -> Object:
        """Server-side apply, forced. ``status`` writes the status subresource."""
        ...

    async def create(self, manifest: Mapping[str, Any]) -> Object:
        """Raises Conflict if it exists."""
        ...

    async def replace(self, manifest: Mapping[str, Any]) -> Object:
        """Replace the object of ``metadata.resourceVersion``. Raises Conflict if it has moved on."""
        ...

    async def patch(
        self, kind: Kind, namespace: str, name: str, body: Any, *, subresource: str = "", dry_run: bool = False
    ) -> Object:
        """A JSON Patch if ``body`` is a list, else a merge patch. ``dry_run``: it is checked, and nothing changes."""
        ...

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str = "", orphan: bool = False, grace_s: int | None = None
    ) -> None:
        """Delete it if it is there (and is the one of ``uid``)."""
        ...


_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_CONNECT_S, _READ_S = 5.0, 30.0
_PAGE = 500
_THREADS = 8


class Cluster:
    """``Kube`` over the official client."""

    def __init__(self, client: kubernetes.client.ApiClient) -> None:
        self._client = client
        self._threads = ThreadPoolExecutor(_THREADS, "kube")

    @classmethod
    def connect(cls, context: str = "") -> "Cluster":
        """In a pod, as its service account; else, or with ``context``, as the kubeconfig says.

        Raises kubernetes.config.ConfigException where neither is there.
        """
        configuration = kubernetes.client.Configuration()
        if context:
            kubernetes.config.load_kube_config(context=context, client_configuration=configuration)
        else:
            try:
                kubernetes.config.load_incluster_config(client_configuration=configuration)
            except kubernetes.config.ConfigException:
                kubernetes.config.load_kube_config(client_configuration=configuration)
        configuration.retries = False
        configuration.connection_pool_maxsize = _THREADS
        return cls(kubernetes.client.ApiClient(configuration))

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        try:
            return await self._call("GET", kind.path(namespace, name))
        except NotFound:
            return None

    async def list(self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = "") -> list[Object]:
        found: list[Object] = []
        query = {"limit": str(_PAGE)}
        query |= {name: text for name, text in (("labelSelector", labels), ("fieldSelector", fields)) if text}
        while True:
            page = await self._call("GET", kind.path(namespace), query)
            found += ({"apiVersion": kind.api_version, "kind": kind.kind} | item for item in page.get("items") or ())
            token = page.get("metadata", {}).get("continue", "")
            if not token:
                return found
            query["continue"] = token

    async def apply(self, manifest: Mapping[str, Any], *, status: bool = False, manager: str = FIELD_MANAGER) -> Object:
        meta = manifest["metadata"]
        path = kind_of(manifest).path(meta.get("namespace", ""), meta["name"], "status" if status else "")
        return await self._call("PATCH", path, {"fieldManager": manager, "force": "true"}, manifest, _APPLY)

    async def create(self, manifest: Mapping[str, Any]) -> Object:
        path = kind_of(manifest).path(manifest["metadata"].get("namespace", ""))
        return await self._call("POST", path, {"fieldManager": FIELD_MANAGER}, manifest)

    async def replace(self, manifest: Mapping[str, Any]) -> Object:
        meta = manifest["metadata"]
        path = kind_of(manifest).path(meta.get("namespace", ""), meta["name"])
        return await self._call("PUT", path, {"fieldManager": FIELD_MANAGER}, manifest)

    async def patch(
        self, kind: Kind, namespace: str, name: str, body: Any, *, subresource: str = "", dry_run: bool = False
    ) -> Object:
        form = _JSON_PATCH if isinstance(body, list) else _MERGE
        path = kind.path(namespace, name, subresource)
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        return await self._call("PATCH", path, query, body, form)

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str = "", orphan: bool = False, grace_s: int | None = None
    ) -> None:
        body: Object = {"propagationPolicy": "Orphan" if orphan else "Background"}
        body |= {"preconditions": {"uid": uid}} if uid else {}
        body |= {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        try:
            await self._call("DELETE", kind.path(namespace, name), body=body)
        except NotFound:
            return

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Object:
        call: Callable[[], Object] = functools.partial(self._request, method, path, query or {}, body, content_type)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _request(self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str) -> Object:
        client = self._client
        url = client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": content_type, **client.default_headers}
        client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        try:
            response = client.rest_client.pool_manager.request(
                method,
                url,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=_CONNECT_S, read=_READ_S),
                retries=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise KubeUnreachable(f"{method} {path}: no answer from the API server: {type(error).__name__}") from error
        answer = json.loads(response.data) if response.data else {}
        if response.status < 300:
            found: Object = answer
            return found
        raise _refusal(response.status, answer, f"{method} {path}")


def _refusal(status: int, answer: Mapping[str, Any], call: str) -> KubeError:
    reason, message = str(answer.get("reason", "")), str(answer.get("message", "")) or f"HTTP {status}"
    form = {404: NotFound, 409: Conflict}.get(status, KubeError)
    return form(status, reason, f"{call}: {message}")
