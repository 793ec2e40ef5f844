"""The tools service with the chart's own rights, on a real API server: real tokens, real RBAC."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import kubernetes.client
import kubernetes.config
import pytest

from agentmemory_operator.kube import SECRET, Cluster, KubeError
from agentmemory_operator.names import TOOLS_AUDIENCE
from agentmemory_operator.plan import config
from agentmemory_operator.settings import Settings
from agentmemory_operator.tools.server import Tools
from agentmemory_sidecar.pod.reader import Reader
from tests.charts.helm import CHART, helm, needs_helm
from tests.operator.cluster import Kubectl
from tests.operator.conftest import CONTEXT
from tests.operator.tools.api_server import listening
from tests.operator.tools.conftest import Asking, mounted, shared
from tests.sidecar.conftest import Configure

pytestmark = [pytest.mark.cluster, needs_helm]


@dataclass
class Service:
    """A tools service in this process, with the rights and the token of the chart's service account."""

    kubectl: Kubectl
    name: str
    kube: Cluster
    asking: Asking

    def token(self, account: str, *options: str) -> str:
        return self.kubectl.do("create", "token", account, *options).strip()

    def account(self, name: str, role: str = "") -> str:
        """A service account, bound to one of the chart's roles for people; a token of it for this service."""
        self.kubectl.do("create", "serviceaccount", name)
        if role:
            self.kubectl.do(
                "create", "rolebinding", name, f"--clusterrole={self.name}-{role}",
                f"--serviceaccount={self.kubectl.namespace}:{name}",
            )  # fmt: skip
        return self.token(name, f"--audience={TOOLS_AUDIENCE}")

    async def ask(self, token: str, path: str = "/v1/sessions", **rest: Any) -> tuple[int, Any]:
        return await self.asking.ask(token, path, namespace=self.kubectl.namespace, **rest)


def client(context: str, token: str) -> Cluster:
    """Of the same API server, as the bearer of a token."""
    configuration = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(context=context, client_configuration=configuration)
    configuration.cert_file = configuration.key_file = None
    configuration.api_key = {"BearerToken": f"Bearer {token}"}
    return Cluster(kubernetes.client.ApiClient(configuration))


@pytest.fixture
async def service(namespace: str, reader: Reader, run_dir: Path, configure: Configure) -> AsyncIterator[Service]:
    kubectl = Kubectl(CONTEXT, namespace)
    name = f"test-{uuid4().hex[:8]}"
    done = helm(
        "template", "t", str(CHART), f"--namespace={kubectl.namespace}", f"--set=fullnameOverride={name}",
        f"--set=settings.namespaces={{{kubectl.namespace}}}", "--show-only=templates/tools/rbac.yaml",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rights = run_dir / "rights.yaml"
    rights.write_text(done.stdout)
    kubectl.do("apply", f"--filename={rights}")
    for secret in ("agentmemory-config", "agentmemory-config-test"):
        kubectl.do(
            "apply", "--filename=-",
            manifest=config.secret(secret, kubectl.namespace, "test", mounted(shared(configure()))),
        )  # fmt: skip
    kube = client(kubectl.context, kubectl.do("create", "token", f"{name}-tools").strip())
    tools = Tools(kube, Settings(namespaces=(kubectl.namespace,)), run_dir)
    async with listening(tools.app()) as port, aiohttp.ClientSession() as http:
        yield Service(kubectl, name, kube, Asking(port, http, tools))
    await kube.close()
    kubectl.do("delete", f"--filename={rights}", "--wait=false")


async def test_rbac_decides_for_each_verb_and_each_bearer(service: Service) -> None:
    viewer, editor, nobody = (
        service.account("viewer", "sessions-viewer"),
        service.account("editor", "sessions-editor"),
        service.account("nobody"),
    )
    merge = {"content-type": "application/merge-patch+json", "if-match": "*"}
    patch: dict[str, Any] = {"method": "PATCH", "data": b'{"active_mission":{"goal":"x"}}', "headers": merge}

    assert await service.ask(viewer) == (200, {"sessions": [], "next": ""})
    assert (await service.ask(viewer, "/v1/sessions/s"))[0] == 404
    status, body = await service.ask(viewer, "/v1/sessions/s/state", **patch)
    assert (status, "may not update agentmemories/sessions" in body["error"]["message"]) == (403, True)
    assert (await service.ask(editor, "/v1/sessions/s/state", **patch))[0] == 200
    status, body = await service.ask(nobody)
    assert status == 403
    user = f"system:serviceaccount:{service.kubectl.namespace}:nobody"
    assert f"{user} may not list agentmemories/sessions" in body["error"]["message"]


async def test_a_right_on_one_name_is_a_right_on_that_name(service: Service) -> None:
    token = service.account("one")
    service.kubectl.do(
        "create", "role", "one", "--verb=list", "--resource=agentmemories.agentmemory.io/sessions",
        "--resource-name=test",
    )  # fmt: skip
    service.kubectl.do(
        "create", "rolebinding", "one", "--role=one", f"--serviceaccount={service.kubectl.namespace}:one"
    )
    assert (await service.ask(token, memory="test"))[0] == 200
    assert (await service.ask(token))[0] == 403
    assert (await service.ask(token, memory="tests"))[0] == 403


@pytest.mark.parametrize(
    ("options", "status"),
    [([], 200), (["--audience=sts.amazonaws.com"], 401)],
    ids=["for the API server", "for others"],
)
async def test_tokens_are_for_us_or_for_the_api_server(service: Service, options: list[str], status: int) -> None:
    service.account("viewer", "sessions-viewer")
    assert (await service.ask(service.token("viewer", *options)))[0] == status


async def test_a_token_that_is_no_token_or_of_nobody_any_more_is_refused(service: Service) -> None:
    token = service.account("viewer", "sessions-viewer")
    assert (await service.ask(token))[0] == 200
    for bad in (token[:-4] + "AAAA", "x"):
        assert (await service.ask(bad))[0] == 401
    service.kubectl.do("delete", "serviceaccount", "viewer")
    async with asyncio.timeout(60):  # the API server knows a token for some seconds
        while (await service.ask(token))[0] != 401:  # noqa: ASYNC110
            await asyncio.sleep(1)


async def test_it_can_read_configurations_and_nothing_more(service: Service) -> None:
    namespace = service.kubectl.namespace
    assert await service.kube.get(SECRET, namespace, "agentmemory-config") is not None
    forbidden: list[Callable[[], Any]] = [
        lambda: service.kube.list(SECRET, namespace),
        lambda: service.kube.get(SECRET, "kube-system", "x"),
        lambda: service.kube.delete(SECRET, namespace, "agentmemory-config"),
    ]
    for call in forbidden:
        with pytest.raises(KubeError) as refused:
            await call()
        assert refused.value.status == 403


async def test_people_s_tokens_are_good_for_the_service_alone(service: Service) -> None:
    editor = client(service.kubectl.context, service.account("editor", "sessions-editor"))
    with pytest.raises(KubeError) as refused:
        await editor.get(SECRET, service.kubectl.namespace, "agentmemory-config")
    assert refused.value.status == 401
    await editor.close()
