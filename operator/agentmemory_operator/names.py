"""What things are called: labels, annotations, and the objects that the operator makes."""

import hashlib

GROUP = "agentmemory.io"
VERSION = "v1alpha1"
PLURAL = "agentmemories"
FINALIZER = f"{GROUP}/stores"
FIELD_MANAGER = "agentmemory-operator"

INJECT = f"{GROUP}/inject"
"""Label of a pod or a namespace: ``"true"`` asks for the sidecar, ``"false"`` refuses it."""
RESOURCE = f"{GROUP}/resource"
"""Label of what the operator makes: which AgentMemory it belongs to (shortened where a label must be)."""
REGION = f"{GROUP}/region"
"""Label of what the operator makes, and annotation of a pod: the region."""
REMOVE_REGION = f"{GROUP}/remove-region"
"""Annotation of a resource: the region that leaves, by name."""
COMPONENT = f"{GROUP}/component"
"""Label of the installation's own pods: ``operator``, ``webhook``, ``tools``."""
SESSIONS_ACCOUNT = f"{GROUP}/sessions-account"
"""Annotation of the tools service's pod: the service account that stands for whoever may ask for its tokens."""
TOOLS_AUDIENCE = f"{GROUP}/tools"
"""The audience of tokens that are good for the tools service and for nothing else."""
TOOLS_PORT = 8380
"""Where the tools service listens, on its pod's loopback."""
NODE_REGION = "topology.kubernetes.io/region"
MANAGED_BY = "app.kubernetes.io/managed-by"
APP = "app.kubernetes.io/name"

LONGEST_OBJECT = 253
LONGEST_LABEL = 63
LONGEST_STATEFULSET = 52
"""A StatefulSet's pods carry its name and a revision's hash in a label of 63 characters."""


def shortened(name: str, longest: int) -> str:
    """``name`` itself if it fits, else its beginning and a hash of the whole: stable, and different for different names."""
    if len(name) <= longest:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: longest - 9].rstrip('-.')}-{digest}"


def label(value: str) -> str:
    """``value`` as the value of a label."""
    return shortened(value, LONGEST_LABEL)


def child(resource: str, *parts: str, longest: int = LONGEST_OBJECT) -> str:
    """The name of an object that belongs to ``resource``: ``<resource>-<part>-<part>``. No dots: it may be a DNS label."""
    return shortened("-".join((resource, *parts)).replace(".", "-"), longest)


def config_secret(resource: str) -> str:
    """The Secret with the configuration of the sidecars that use ``resource``."""
    return shortened(f"agentmemory-config-{resource}", LONGEST_OBJECT)


DEFAULT_CONFIG_SECRET = "agentmemory-config"  # noqa: S105
"""The Secret for pods that name no resource: the namespace's only one, or the candidates."""


def keys_secret(resource: str) -> str:
    """The Secret with the master key that wraps the subjects' sealing keys."""
    return shortened(f"agentmemory-keys-{resource}", LONGEST_OBJECT)


def labels(resource: str, app: str, region: str = "") -> dict[str, str]:
    """What every object that the operator makes carries."""
    common = {MANAGED_BY: FIELD_MANAGER, APP: app, RESOURCE: label(resource)}
    return common | ({REGION: label(region)} if region else {})
