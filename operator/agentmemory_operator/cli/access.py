"""From a person's kubeconfig to the tools service of a cluster: a port-forward and a token.

What is sent through it is the kubeconfig's own bearer token, if it has one. A client certificate proves itself to the API
server alone and cannot be passed on; then, or where one is named, a service account's token is asked for: for ten minutes,
and good for the tools service only. Nobody becomes somebody else by it: the API server signs such a token only for who may
``create serviceaccounts/token``, and its audit log says for whom it did.
"""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import click
import kubernetes.client
import kubernetes.config
import urllib3.exceptions
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward

from agentmemory_operator.names import APP, COMPONENT, SESSIONS_ACCOUNT, TOOLS_AUDIENCE, TOOLS_PORT
from agentmemory_operator.tools.routes import ONLY, REGION_HEADER

TOKEN_S = 600
"""The shortest life that the API server gives a token."""
CALL_S = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose memory, and how it is reached. Texts are empty where nothing was said."""

    namespace: str
    context: str = ""
    memory: str = ""
    region: str = ""
    service_account: str = ""
    """A service account of the namespace, to ask as."""
    tools_namespace: str = ""
    """Where agentmemory is installed."""


@dataclass(frozen=True, slots=True)
class Reached:
    """An admin API: ``connect`` makes a connection, each request has ``headers`` and a path behind ``prefix``."""

    api: kubernetes.client.CoreV1Api
    pod: str
    namespace: str
    headers: dict[str, str]
    prefix: str

    def connect(self) -> http.client.HTTPConnection:
        return Tunnel(self.api, self.namespace, self.pod)


class Tunnel(http.client.HTTPConnection):
    """HTTP through the API server to a port of a pod's loopback."""

    def __init__(self, api: kubernetes.client.CoreV1Api, namespace: str, pod: str) -> None:
        super().__init__("localhost")
        self._api, self._namespace, self._pod = api, namespace, pod

    def connect(self) -> None:
        """Raises ClickException."""
        try:
            forward: Any = portforward(
                self._api.connect_get_namespaced_pod_portforward, self._pod, self._namespace, ports=str(TOOLS_PORT)
            )
        except ApiException as error:
            place = f"pod {self._pod} in namespace {self._namespace}"
            raise click.ClickException(f"no port-forward to {place}: {_reason(error)}") from None
        self.sock = forward.socket(TOOLS_PORT)


@contextmanager
def reach(**wanted: str) -> Iterator[Reached]:
    """The tools service, for as long as the block runs; keywords as :class:`Wanted`. Raises UsageError, ClickException."""
    want = Wanted(**wanted)
    configuration = _configuration(want.context)
    client = kubernetes.client.ApiClient(configuration)
    try:
        api = kubernetes.client.CoreV1Api(client)
        pod = _pod(api, want.tools_namespace)
        headers = {"authorization": f"Bearer {_token(api, configuration, want, pod)}"}
        if want.region:
            headers[REGION_HEADER] = want.region
        prefix = f"/namespaces/{quote(want.namespace, safe='')}/agentmemories/{quote(want.memory, safe='') or ONLY}"
        yield Reached(api, pod.metadata.name, pod.metadata.namespace, headers, prefix)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise click.ClickException(f"the API server does not answer: {type(error).__name__}") from None
    finally:
        client.close()


def _configuration(context: str) -> kubernetes.client.Configuration:
    """As the kubeconfig says, or in a pod as its service account. Raises UsageError."""
    configuration = kubernetes.client.Configuration()
    try:
        kubernetes.config.load_kube_config(context=context or None, client_configuration=configuration)
    except kubernetes.config.ConfigException as error:
        try:
            if context:
                raise
            kubernetes.config.load_incluster_config(client_configuration=configuration)
        except kubernetes.config.ConfigException:
            said = str(error).splitlines()[0]
            raise click.UsageError(f"no cluster: {said}: set KUBECONFIG or --context") from None
    configuration.retries = False
    return configuration


def _pod(api: kubernetes.client.CoreV1Api, namespace: str) -> Any:
    """A ready pod of the tools service. Raises UsageError and ClickException."""
    selector = f"{APP}=agentmemory,{COMPONENT}=tools"
    try:
        found: Any = api.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=CALL_S)
    except ApiException as error:
        raise click.ClickException(
            f"looking for the tools service in namespace {namespace}: {_reason(error)}"
        ) from None
    pods: list[Any] = found.items
    ready = [pod for pod in pods if not pod.metadata.deletion_timestamp and _is_ready(pod)]
    if ready:
        return max(ready, key=lambda pod: pod.metadata.creation_timestamp)
    if pods:
        raise click.ClickException(f"the tools service in namespace {namespace} is not ready: try again in a moment")
    raise click.UsageError(
        f"there is no tools service in namespace {namespace}: say with --tools-namespace where agentmemory is installed, "
        "and see whether its Helm value tools.enabled is true"
    )


def _is_ready(pod: Any) -> bool:
    return any(row.type == "Ready" and row.status == "True" for row in pod.status.conditions or ())


def _token(
    api: kubernetes.client.CoreV1Api, configuration: kubernetes.client.Configuration, want: Wanted, pod: Any
) -> str:
    """Raises ClickException."""
    if not want.service_account:
        own = str(configuration.get_api_key_with_prefix("BearerToken", "authorization") or "")
        if own.lower().startswith("bearer "):
            return own[len("bearer ") :]
    account = (want.namespace, want.service_account)
    if not want.service_account:
        account = (pod.metadata.namespace, (pod.metadata.annotations or {}).get(SESSIONS_ACCOUNT, ""))
    if not account[1]:
        raise click.UsageError(
            "your kubeconfig has no token that can be passed on (a client certificate proves itself to the API server "
            "alone): name a service account of the namespace to ask as, with --service-account"
        )
    body: Any = {"spec": {"audiences": [TOOLS_AUDIENCE], "expirationSeconds": TOKEN_S}}
    try:
        answer: Any = api.create_namespaced_service_account_token(account[1], account[0], body, _request_timeout=CALL_S)
    except ApiException as error:
        raise click.ClickException(
            f"no token of service account {account[0]}/{account[1]}: {_reason(error)}; name one with --service-account "
            "for which you may create serviceaccounts/token"
        ) from None
    return str(answer.status.token)


def _reason(error: ApiException) -> str:
    """One line, in the API server's words where it said any."""
    try:
        said = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        said = error.reason or f"HTTP {error.status}"
    return " ".join(str(said).split())[:400]
