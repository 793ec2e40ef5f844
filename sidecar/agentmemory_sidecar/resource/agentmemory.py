"""The AgentMemory resource as a whole: `apiVersion: agentmemory.io/v1alpha1`, `kind: AgentMemory`."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, PrivateAttr

from agentmemory_sidecar.resource.archive import Archive
from agentmemory_sidecar.resource.base import FREE_FORM, Model, immutable
from agentmemory_sidecar.resource.common import Tls
from agentmemory_sidecar.resource.ephemeral import Ephemeral
from agentmemory_sidecar.resource.memorytool import MemoryTool
from agentmemory_sidecar.resource.prompt import Extraction, Filter, Hydration, Injection
from agentmemory_sidecar.resource.session import Session
from agentmemory_sidecar.resource.state import STRONG_SETS, State
from agentmemory_sidecar.resource.values import Between, Duration, HttpUrl, Labels, ObjectName, RegionName, TenantName
from agentmemory_sidecar.resource.yamltext import Document, Path

API_VERSION = "agentmemory.io/v1alpha1"
KIND = "AgentMemory"
LOCAL_REGION = "local"
"""The one region of a resource that names none."""


class Upstream(Model):
    """Claude, or the gateway that stands for it. A base URL that a container already has wins over `url`."""

    url: HttpUrl = "https://api.anthropic.com"
    """The API's base URL, without `/v1`."""
    connect_timeout: Annotated[Duration, Between("100ms", "2m")] = Duration.parse("10s")
    """The longest a connection may take to open."""
    idle_timeout: Annotated[Duration, Between("1s", "1h")] = Duration.parse("10m")
    """The longest the upstream may be silent within an answer."""
    tls: Tls | None = None
    """TLS settings for `url`."""


class Mode(StrEnum):
    """Whether agents get what is remembered."""

    ACTIVE = "Active"
    SHADOW = "Shadow"


class OnDisconnect(StrEnum):
    """What happens to a step whose client goes away."""

    CANCEL = "Cancel"
    COMPLETE = "Complete"


class DeletionPolicy(StrEnum):
    """What happens to the stores when the resource is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class ManagementPolicy(StrEnum):
    """How far the operator goes."""

    FULL = "Full"
    OBSERVE_ONLY = "ObserveOnly"


_NOT_STRONG = "!has(self.state) || !has(self.state.dynamodb) || self.state.dynamodb.consistency != 'Strong'"
_SETS = "[" + ", ".join(str(sorted(names)) for names in STRONG_SETS) + "]"
_CALLED_OTHERWISE = (
    "has(self.state.dynamodb.awsRegion) || (has(self.state.dynamodb.perRegion) && "
    "self.state.dynamodb.perRegion.exists(e, has(e.awsRegion)))"
)


class Spec(Model):
    """What memory the agents of a namespace have. Every field has a default: `spec: {}` is a laptop's memory."""

    cel = (
        (
            "self.deletionPolicy != 'Delete' || !has(self.archive) || !has(self.archive.s3) || "
            "!has(self.archive.s3.objectLock) || self.archive.s3.objectLock.mode != 'Compliance'",
            "deletionPolicy Delete cannot hold with objectLock.mode Compliance: nobody can delete those records",
        ),
        (
            f"{_NOT_STRONG} || size(self.regions) + (has(self.state.dynamodb.witnessRegion) ? 1 : 0) == 3",
            "consistency Strong needs three regions, or two and a witnessRegion: that is how AWS makes such tables",
        ),
        (
            f"{_NOT_STRONG} || {_CALLED_OTHERWISE} || {_SETS}.exists(s, self.regions.all(r, r in s) && "
            "(!has(self.state.dynamodb.witnessRegion) || self.state.dynamodb.witnessRegion in s))",
            "consistency Strong needs regions of one AWS region set: take all from one of "
            + "; ".join("(" + ", ".join(sorted(names)) + ")" for names in STRONG_SETS),
        ),
        (
            "self.filter.budgetTokens <= self.injection.conversationTokens",
            "filter.budgetTokens is more than injection.conversationTokens allows for a whole conversation: "
            "lower it, or raise that",
        ),
    )

    regions: Annotated[tuple[RegionName, ...], Field(min_length=1, max_length=16)] = Field(
        default=(LOCAL_REGION,), json_schema_extra={"x-kubernetes-list-type": "set"}
    )
    """The regions that hold this memory. A region leaves by being taken out here and named in the annotation
    `agentmemory.io/remove-region`."""
    tenant: TenantName | None = Field(
        default=None, json_schema_extra=immutable("the tenant is part of every key in every store")
    )
    """Whose data this is: part of every key. Without it, the namespace's name. Immutable."""
    mode: Mode = Mode.ACTIVE
    """`Active` gives agents their memory. `Shadow` changes no request and no reply: what a step would have done is computed
    beside it and reported (`agentmemory report`), from a memory that is kept apart and is not used once this is `Active`."""
    upstream: Upstream = Upstream()
    """Claude, or the gateway that stands for it."""
    ephemeral: Ephemeral = Ephemeral()
    """The hot tier: locks and the latest turns. Omitted: embedded."""
    state: State = State()
    """The state tier: what is true. Omitted: embedded."""
    archive: Archive = Archive()
    """Records and blobs, append-only. Omitted: embedded."""
    session: Session = Session()
    """Whose conversation a request belongs to, and how two at once are kept apart."""
    hydration: Hydration = Hydration()
    """What a client without history gets on a session that has some."""
    filter: Filter = Filter()
    """What of the state goes into a prompt."""
    injection: Injection = Injection()
    """How it goes in."""
    extraction: Extraction = Extraction()
    """What of a conversation becomes state."""
    memory_tool: MemoryTool = MemoryTool()
    """Claude's memory tool, run by the sidecar."""
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    """When a client goes away: `Cancel` stops the step and commits nothing; `Complete` finishes and commits it."""
    adopt: bool = False
    """Whether the operator may take over stores that exist already and are nobody's."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """When the resource is deleted: `Retain` leaves all data, `Delete` removes what the operator made."""
    management_policy: ManagementPolicy = ManagementPolicy.FULL
    """`Full` lets the operator make and repair stores; `ObserveOnly` only lets it look and report."""


class Metadata(Model):
    """Kubernetes' object metadata, of which only this is read."""

    model_config = ConfigDict(extra="ignore")

    name: ObjectName
    """The resource's name, unique in its namespace."""
    namespace: Annotated[ObjectName, Field(max_length=63)] = "default"
    """The namespace; the resource serves the pods of this one alone."""
    labels: Labels = Field(default_factory=dict)
    """Kubernetes labels."""
    annotations: Annotated[dict[str, str], Field(max_length=256)] = Field(default_factory=dict)
    """Kubernetes annotations."""
    generation: int = 0
    """Raised by the API server with every change of the spec."""


class AgentMemory(Model):
    """External memory for the Claude agents of one namespace."""

    api_version: Literal["agentmemory.io/v1alpha1"]
    """The API's group and version."""
    kind: Literal["AgentMemory"]
    """The kind of object."""
    metadata: Metadata
    """Name and namespace."""
    spec: Spec = Spec()
    """What memory there is."""
    status: dict[str, Any] | None = Field(default=None, json_schema_extra=FREE_FORM)
    """Written by the operator; never read by the sidecar."""

    _origin: Document = PrivateAttr(default=Document(None, "<object>", {}))

    @property
    def tenant(self) -> str:
        """The tenant in effect: the spec's, else the namespace."""
        return self.spec.tenant or self.metadata.namespace

    @property
    def partition(self) -> str:
        """The tenant under which sidecars keep what they write. A shadow's prompts were never sent, so nothing of it may be
        taken for something that Claude has seen; no tenant's name ends like this."""
        return f"{self.tenant}.shadow_" if self.spec.mode is Mode.SHADOW else self.tenant

    def describe(self, path: Path, text: str) -> str:
        """`file:line: path: text`, as far as it is known where the resource was read from."""
        return self._origin.message(path, text)

    def read_from(self, origin: Document) -> Self:
        """Remember where this resource was read from, for messages."""
        self._origin = origin
        return self
