"""An API server as the tools service and its callers see it: who tokens are of, what RBAC allows, Secrets, and a pod that
port-forwards lead to. For the real clients: the operator's, and the command line's over websockets."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import kubernetes.client
from aiohttp import WSMsgType, web

from agentmemory_operator.kube import Cluster
from agentmemory_operator.names import TOOLS_AUDIENCE, TOOLS_PORT

API = "https://kubernetes.default.svc"
"""The audience of tokens for the API server itself."""
SYSTEM = "agentmemory-system"


@dataclass
class ApiServer:
    """What it knows; tests change it."""

    url: str = ""
    tokens: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Token to user and audience."""
    rights: set[tuple[str, str, str, str]] = field(default_factory=set)
    """(user, namespace, verb, name), on ``agentmemories/sessions``; an empty name stands for all."""
    secrets: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    minters: set[str] = field(default_factory=set)
    """Service accounts, as NAMESPACE/NAME, whose tokens may be asked for."""
    pods: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0
    """Where a port-forward to :data:`TOOLS_PORT` of any pod ends."""
    audience_blind: bool = False
    """Its authenticators know nothing of audiences."""
    down: bool = False
    reviews: list[dict[str, Any]] = field(default_factory=list)
    minted: int = 0

    def user(self, name: str, *, audience: str = API) -> str:
        """A token of this user."""
        token = f"token-{len(self.tokens)}"
        self.tokens[token] = (name, audience)
        return token

    def client(self) -> Cluster:
        configuration = kubernetes.client.Configuration()
        configuration.host = self.url
        return Cluster(kubernetes.client.ApiClient(configuration))

    def kubeconfig(self, token: str = "") -> dict[str, Any]:
        """Of a person with this token, or with none."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": token} if token else {}}],
            "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "it",
        }

    def ready_pod(self, name: str = "tools-1") -> None:
        self.pods.append({
            "metadata": {
                "name": name, "namespace": SYSTEM, "creationTimestamp": "2026-11-22T00:00:00Z",
                "labels": {"app.kubernetes.io/name": "agentmemory", "agentmemory.io/component": "tools"},
                "annotations": {"agentmemory.io/sessions-account": "agentmemory-sessions"},
            },
            "spec": {"containers": [{"name": "tools"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        })  # fmt: skip

    def app(self) -> web.Application:
        app = web.Application()
        core = "/api/v1/namespaces/{namespace}"
        app.add_routes([
            web.post("/apis/authentication.k8s.io/v1/tokenreviews", self._who),
            web.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", self._may),
            web.get(core + "/secrets/{name}", self._secret),
            web.get(core + "/pods", self._pods),
            web.post(core + "/serviceaccounts/{name}/token", self._mint),
            web.get(core + "/pods/{name}/portforward", self._forward),
        ])  # fmt: skip
        return app

    async def _who(self, request: web.Request) -> web.Response:
        if self.down:
            return failure(500, "InternalError", "etcd is away")
        review = await request.json()
        wanted = review["spec"].get("audiences") or [API]
        name, audience = self.tokens.get(review["spec"]["token"], ("", ""))
        status: dict[str, Any] = {"error": "invalid bearer token"}
        if name and (audience in wanted or self.audience_blind):
            extra = {"authentication.kubernetes.io/credential-id": [f"JTI={review['spec']['token']}"]}
            user = {"username": name, "groups": ["system:authenticated"], "extra": extra}
            status = {"authenticated": True, "user": user} | ({} if self.audience_blind else {"audiences": [audience]})
        return web.json_response({**review, "status": status}, status=201)

    async def _may(self, request: web.Request) -> web.Response:
        review = await request.json()
        self.reviews.append(review["spec"])
        what = review["spec"]["resourceAttributes"]
        assert (what["group"], what["resource"], what["subresource"]) == (
            "agentmemory.io",
            "agentmemories",
            "sessions",
        )
        right = (review["spec"]["user"], what["namespace"], what["verb"])
        allowed = (*right, "") in self.rights or (*right, what["name"]) in self.rights
        return web.json_response({**review, "status": {"allowed": allowed}}, status=201)

    async def _secret(self, request: web.Request) -> web.Response:
        found = self.secrets.get((request.match_info["namespace"], request.match_info["name"]))
        if found is None:
            return failure(404, "NotFound", "not found")
        data = {key: base64.b64encode(text.encode()).decode() for key, text in found.items()}
        return web.json_response({"apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": data})

    async def _pods(self, request: web.Request) -> web.Response:
        assert request.query["labelSelector"] == "app.kubernetes.io/name=agentmemory,agentmemory.io/component=tools"
        items = [pod for pod in self.pods if pod["metadata"]["namespace"] == request.match_info["namespace"]]
        return web.json_response({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items})

    async def _mint(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        if f"{namespace}/{name}" not in self.minters:
            return failure(403, "Forbidden", f'serviceaccounts "{name}" is forbidden: User "u" cannot create token')
        asked = await request.json()
        assert asked["spec"] == {"audiences": [TOOLS_AUDIENCE], "expirationSeconds": 600}
        self.minted += 1
        token = self.user(f"system:serviceaccount:{namespace}:{name}", audience=TOOLS_AUDIENCE)
        status = {"token": token, "expirationTimestamp": "2026-11-22T00:10:00Z"}
        return web.json_response(
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": asked["spec"], "status": status},
            status=201,
        )

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        """One port over websockets: even channels carry data, odd ones errors, and each begins with the port."""
        assert request.query["ports"] == str(TOOLS_PORT)
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        begin = TOOLS_PORT.to_bytes(2, "little")
        await socket.send_bytes(b"\x00" + begin)
        await socket.send_bytes(b"\x01" + begin)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError as error:
            await socket.send_bytes(b"\x01" + str(error).encode())
            await socket.close()
            return socket

        async def back() -> None:
            while chunk := await reader.read(65536):
                await socket.send_bytes(b"\x00" + chunk)
            await socket.close()

        try:
            async with asyncio.TaskGroup() as group:
                answering = group.create_task(back())
                async for message in socket:
                    if message.type is WSMsgType.BINARY:
                        writer.write(message.data[1:])
                answering.cancel()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return socket


@asynccontextmanager
async def api_server() -> AsyncIterator[ApiServer]:
    server = ApiServer()
    async with listening(server.app()) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[int]:
    """The port of 127.0.0.1 where it is served."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def failure(status: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}
    return web.json_response(body, status=status)
