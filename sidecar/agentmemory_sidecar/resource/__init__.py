"""The AgentMemory resource: models, loading, and the compilation to what one sidecar needs.

Imports nothing but pydantic, PyYAML and the standard library: the operator, the webhook and the CLI import it too.
"""

from agentmemory_sidecar.resource.agentmemory import AgentMemory
from agentmemory_sidecar.resource.compile import Installation, compile_resource
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.resource.errors import NotSupportedYet, ResourceError
from agentmemory_sidecar.resource.load import load, loads, parse
from agentmemory_sidecar.resource.mounted import Mounted
from agentmemory_sidecar.resource.references import LocalValues, Resolver, Unresolved
from agentmemory_sidecar.resource.unsupported import unsupported

__all__ = [
    "AgentMemory",
    "Installation",
    "LocalValues",
    "Mounted",
    "NotSupportedYet",
    "Resolver",
    "ResourceError",
    "SidecarConfig",
    "Unresolved",
    "compile_resource",
    "load",
    "loads",
    "parse",
    "unsupported",
]
