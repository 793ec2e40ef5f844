"""What a pod's sidecar finds in its mounted Secret: one resource's configuration for each of its regions.

The operator writes it, and the sidecar picks its region. For a pod that names no resource, in a namespace that has none or
several, it holds the names that could be meant instead.
"""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.resource.errors import ResourceError
from agentmemory_sidecar.resource.formats import FORMAT, WRITTEN, Config, Writing, key
from agentmemory_sidecar.resource.yamltext import dotted

KEY = key(FORMAT)
"""The Secret's key that a sidecar of this version reads."""
LIMIT = 1 << 19
"""Bytes of the JSON text. A Secret holds 1 MiB, and during an upgrade of the operator it holds two formats."""
LOCAL = "local"
"""The region of a resource that names none: it is wherever the pod is."""
ANNOTATION = "agentmemory.io/memory"


class Unchosen(ResourceError):
    """The Secret holds no configuration for this pod: it must say which resource or region it means."""


class Mounted(Config):
    """The content of the Secret. Either `resource` with `regions`, or `candidates`."""

    format: Literal[1] = FORMAT
    """The version of this form."""
    resource: str = ""
    """The AgentMemory's name; empty where none is chosen."""
    generation: int = 0
    """The generation of the resource that this was compiled from."""
    regions: Mapping[str, SidecarConfig] = Field(default_factory=dict)
    """The configuration of each region."""
    candidates: tuple[str, ...] = ()
    """Where no resource is chosen: the names of the namespace's AgentMemories."""

    def files(self) -> dict[str, str]:
        """What the Secret holds: the text of each format that is written, by key. Raises as :meth:`dumps`."""
        return {key(version): self.dumps(version) for version in WRITTEN}

    def dumps(self, version: int = FORMAT) -> str:
        """The JSON form **with its secrets**. Raises ResourceError for one that is too large for a Secret."""
        text = self.model_dump_json(context=Writing(version))
        if (size := len(text.encode())) > LIMIT:
            raise ResourceError(
                [
                    f"the configuration of AgentMemory {self.resource} takes {size} bytes, and a Secret has room for "
                    f"{LIMIT}: name fewer regions, extraction rules or certificates"
                ]
            )
        return text

    @classmethod
    def loads(cls, text: str | bytes) -> Self:
        """Read :meth:`dumps`. Raises ResourceError, without quoting any value."""
        if len(text) > LIMIT:
            raise ResourceError([f"mounted configuration: has {len(text)} bytes, at most {LIMIT} are read"])
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ResourceError(
                [
                    f"mounted configuration: {dotted(detail['loc']) or 'as a whole'}: {detail['msg']}"
                    for detail in error.errors(include_url=False, include_input=False)
                ]
            ) from None

    def choose(self, region: str) -> SidecarConfig:
        """The configuration for a pod in ``region`` (empty for unknown). A resource whose only region is ``local`` is served
        wherever the pod is. Raises :class:`Unchosen`, whose text tells the fix."""
        if not self.resource:
            raise Unchosen([_which(self.candidates)])
        if tuple(self.regions) == (LOCAL,):
            return self.regions[LOCAL]
        known = ", ".join(self.regions)
        if not region:
            raise Unchosen(
                [
                    f"the region of this pod is not known, and AgentMemory {self.resource} has the regions {known}: set the "
                    "annotation agentmemory.io/region on the pod, the label topology.kubernetes.io/region on its node "
                    "(Kubernetes 1.35 or newer), or the Helm value region"
                ]
            )
        if region not in self.regions:
            raise Unchosen(
                [
                    f"this pod is in the region {region}, and AgentMemory {self.resource} has the regions {known}: add "
                    f"{region} to spec.regions, or say with the pod's annotation agentmemory.io/region which of these to use"
                ]
            )
        return self.regions[region]

    @model_validator(mode="after")
    def _is_one_of_the_two(self) -> Self:
        if bool(self.resource) != bool(self.regions):
            raise ValueError("resource and regions come together")
        if self.resource and self.candidates:
            raise ValueError("candidates are for when no resource is chosen")
        if strange := [name for name, config in self.regions.items() if config.region != name]:
            raise ValueError(f"regions holds the configuration of another region under {', '.join(strange)}")
        return self


def _which(candidates: tuple[str, ...]) -> str:
    if not candidates:
        return "there is no AgentMemory in this pod's namespace: create one (kubectl apply)"
    return (
        f"this pod's namespace has several AgentMemories ({', '.join(candidates)}): say which one the pod means with the "
        f"annotation {ANNOTATION}"
    )
