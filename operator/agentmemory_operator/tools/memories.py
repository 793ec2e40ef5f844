"""From the Secret that sidecars mount to an admin API on a unix socket: the reader beside us opens it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from agentmemory_operator import names
from agentmemory_operator.kube import SECRET, Kube
from agentmemory_operator.secretdata import texts
from agentmemory_operator.tools.routes import Asked
from agentmemory_sidecar.resource import ResourceError
from agentmemory_sidecar.resource.mounted import KEY, Mounted

READER = "reader.sock"
OPEN_S = 30.0


class Unavailable(Exception):
    """It cannot be asked. ``status`` is HTTP's, the text says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Memory:
    """The configuration of a resource, and the region to look from."""

    region: str
    files: dict[str, str]

    def body(self) -> bytes:
        return json.dumps({"region": self.region, "files": self.files}, sort_keys=True).encode()

    @property
    def key(self) -> str:
        """Stands for the content: a changed configuration is another memory to the reader."""
        return hashlib.sha256(self.body()).hexdigest()[:32]


async def found(kube: Kube, asked: Asked, region: str, default_region: str) -> Memory:
    """What the sidecars of this AgentMemory are configured with. Raises Unavailable, KubeError, KubeUnreachable."""
    name = names.config_secret(asked.memory) if asked.memory else names.DEFAULT_CONFIG_SECRET
    secret = await kube.get(SECRET, asked.namespace, name)
    files = texts(secret or {})
    if KEY not in files:
        what = f"AgentMemory {asked.memory}" if asked.memory else "AgentMemory"
        raise Unavailable(
            404, f"There is no {what} in namespace {asked.namespace}, or the operator has not configured it yet: "
            f"kubectl -n {asked.namespace} get agentmemory."
        )  # fmt: skip
    try:
        mounted = Mounted.loads(files[KEY])
    except ResourceError as error:
        raise Unavailable(503, f"Secret {name} cannot be read: {' '.join(error.problems)}.") from None
    return Memory(chosen(mounted, asked, region, default_region), files)


def chosen(mounted: Mounted, asked: Asked, region: str, default_region: str) -> str:
    """The region to look from: the one that was named, the installation's, or the resource's first. Raises Unavailable."""
    if not mounted.resource:
        if not mounted.candidates:
            raise Unavailable(404, f"There is no AgentMemory in namespace {asked.namespace}.")
        candidates = ", ".join(mounted.candidates)
        raise Unavailable(400, f"Namespace {asked.namespace} has several AgentMemories: name one ({candidates}).")
    regions = tuple(mounted.regions)
    if region and region not in regions:
        raise Unavailable(400, f"AgentMemory {mounted.resource} has no region {region} here, but {', '.join(regions)}.")
    return region or (default_region if default_region in regions else regions[0])


async def opened(directory: Path, memory: Memory) -> Path:
    """The socket of its admin API. Raises Unavailable."""
    connector = aiohttp.UnixConnector(str(directory / READER), force_close=True)
    timeout = aiohttp.ClientTimeout(total=OPEN_S)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
            http.put(f"http://reader/{memory.key}", data=memory.body()) as answer,
        ):
            if answer.status != 204:
                said = json.loads(await answer.read())["error"]["message"]
                raise Unavailable(answer.status, said)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
        raise Unavailable(503, f"The reader does not answer ({type(error).__name__}): try again.") from None
    return directory / f"{memory.key}.sock"


async def alive(directory: Path) -> bool:
    """Whether the reader answers."""
    connector = aiohttp.UnixConnector(str(directory / READER), force_close=True)
    timeout = aiohttp.ClientTimeout(total=3)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
            http.get("http://reader/healthz") as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
