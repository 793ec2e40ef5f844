"""What the pod tells its sidecar by environment variables: where it is, whose it is, whom its containers asked before."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from agentmemory_sidecar.resource.config import IdentityConfig

REGIONS = ("AGENTMEMORY_REGION_ANNOTATION", "AGENTMEMORY_REGION_LABEL", "AGENTMEMORY_REGION_DEFAULT")
"""Where the pod's region is looked for, in this order: its annotation, its node's label, the installation's default."""
UPSTREAMS = "AGENTMEMORY_UPSTREAMS"


@dataclass(frozen=True, slots=True)
class Environment:
    """Texts are empty where nothing was said."""

    region: str = ""
    pod: str = ""
    namespace: str = ""
    memory: str = ""
    """The AgentMemory that the pod names."""
    secret: str = ""
    """The Secret that is mounted."""
    session: str = ""
    user: str = ""
    project: str = ""
    upstreams: Mapping[str, str] = field(default_factory=dict)
    """Base URLs that containers had of their own, by container."""
    require_backend: bool = False
    problems: tuple[str, ...] = ()
    """What is wrong with the variables, each with its fix."""

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Self:
        """From a process's environment. What cannot be read is a problem, and never an exception: somebody must be there to
        tell it."""

        def of(name: str) -> str:
            return variables.get(name, "").strip()

        upstreams, problem = _upstreams(of(UPSTREAMS))
        return cls(
            region=next((region for name in REGIONS if (region := of(name))), ""),
            pod=of("POD_NAME") or of("HOSTNAME"),
            namespace=of("POD_NAMESPACE"),
            memory=of("AGENTMEMORY_MEMORY"),
            secret=of("AGENTMEMORY_CONFIG_SECRET"),
            session=of("AGENTMEMORY_SESSION"),
            user=of("AGENTMEMORY_USER"),
            project=of("AGENTMEMORY_PROJECT"),
            upstreams=upstreams,
            require_backend=of("AGENTMEMORY_REQUIRE_BACKEND").lower() == "true",
            problems=(problem,) if problem else (),
        )

    def identity(self, given: IdentityConfig) -> IdentityConfig:
        """What the resource says of user and project, where the pod does not say otherwise."""
        own = {"default_user": self.user, "default_project": self.project}
        return given.model_copy(update={name: value for name, value in own.items() if value})


def _upstreams(text: str) -> tuple[Mapping[str, str], str]:
    """The containers' base URLs, and what is wrong with them."""
    if not text:
        return {}, ""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return {}, f"{UPSTREAMS} must be a JSON object of container names and base URLs"
    for container, url in found.items():
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            return {}, (
                f"{UPSTREAMS}: the base URL of container {container} must begin with http:// or https://: correct the "
                "ANTHROPIC_BASE_URL of that container"
            )
    return found, ""
