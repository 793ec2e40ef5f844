"""Effects on Kubernetes objects."""

from agentmemory_operator.kube import KINDS, Kube, KubeError, kind_of
from agentmemory_operator.plan.drift import differences
from agentmemory_operator.plan.values import Action, Apply, Manifest, Remove


async def act(kube: Kube, action: Action) -> None:
    """Carry out an Apply or a Remove. Raises KubeError and KubeUnreachable; TypeError for another action."""
    match action:
        case Apply(manifest=manifest):
            await _apply(kube, manifest)
        case Remove():
            kind = KINDS[action.api_version, action.kind]
            await kube.delete(kind, action.namespace, action.name, uid=action.uid)
        case _:
            raise TypeError(f"no effect on Kubernetes objects: {type(action).__name__}")


async def _apply(kube: Kube, manifest: Manifest) -> None:
    """Server-side apply; and where that leaves somebody else's entries in our lists, replace the lists.

    Apply merges lists by key: an entry that another manager put in stays, and may even make the whole invalid (two ports
    of one name).
    """
    try:
        if not differences(manifest, await kube.apply(manifest)):
            return
    except KubeError as error:
        if error.status != 422:
            raise
    meta = manifest["metadata"]
    await kube.patch(kind_of(manifest), meta.get("namespace", ""), meta["name"], manifest)
