"""The values that a resource takes from Secrets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from agentmemory_operator.kube import SECRET, Kube
from agentmemory_operator.secretdata import decoded
from agentmemory_sidecar.resource import AgentMemory, Unresolved, cloudnativepg
from agentmemory_sidecar.resource.common import ValueFrom
from agentmemory_sidecar.resource.state import ClusterRef

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class SecretValues:
    """A cluster's resolver: the Secrets that a resource names, as they were when they were read."""

    namespace: str
    secrets: Mapping[str, Mapping[str, bytes] | None]
    """By name; None for one that is not there."""

    def resolve(self, source: ValueFrom) -> str:
        """The value. Raises Unresolved."""
        ref = source.secret_key_ref
        if ref is None:
            raise Unresolved("env and file work on a laptop only: on a cluster use secretKeyRef")
        data = self.secrets.get(ref.name)
        if data is None:
            raise Unresolved(f"there is no Secret {ref.name} in namespace {self.namespace}: create it")
        if ref.key not in data:
            keys = ", ".join(sorted(data)) or "none"
            raise Unresolved(f"the Secret {ref.name} has no key {ref.key} (it has {keys}): add it")
        try:
            value = data[ref.key].decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise Unresolved(f"the key {ref.key} of Secret {ref.name} is not UTF-8 text") from None
        if not value:
            raise Unresolved(f"the key {ref.key} of Secret {ref.name} is empty")
        return value


async def secret_values(kube: Kube, resource: AgentMemory) -> SecretValues:
    """Read every Secret that the resource names."""
    namespace = resource.metadata.namespace
    names = {ref.secret_key_ref.name for ref in references(resource.spec) if ref.secret_key_ref}
    names |= {name for ref in clusters(resource.spec) for name in cloudnativepg.secret_names(ref)}
    return SecretValues(namespace, {name: await secret_data(kube, namespace, name) for name in sorted(names)})


async def secret_data(kube: Kube, namespace: str, name: str) -> dict[str, bytes] | None:
    """A Secret's data, decoded; None if it is not there."""
    found = await kube.get(SECRET, namespace, name)
    if found is None:
        return None
    return decoded(found)


def references(model: BaseModel) -> Iterator[ValueFrom]:
    """Every reference below a model."""
    return _below(model, ValueFrom)


def clusters(model: BaseModel) -> Iterator[ClusterRef]:
    """Every CloudNativePG Cluster that is named below a model."""
    return _below(model, ClusterRef)


def _below(model: BaseModel, kind: type[M]) -> Iterator[M]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, kind):
                yield item
            elif isinstance(item, BaseModel):
                yield from _below(item, kind)
