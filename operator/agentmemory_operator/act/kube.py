"""Effects on Kubernetes objects."""

from agentmemory_operator.kube import KINDS, Kube
from agentmemory_operator.plan.values import Action, Apply, Remove


async def act(kube: Kube, action: Action) -> None:
    """Carry out an Apply or a Remove. Raises KubeError and KubeUnreachable; TypeError for another action."""
    match action:
        case Apply(manifest=manifest):
            await kube.apply(manifest)
        case Remove():
            kind = KINDS[action.api_version, action.kind]
            await kube.delete(kind, action.namespace, action.name, uid=action.uid)
        case _:
            raise TypeError(f"no effect on Kubernetes objects: {type(action).__name__}")
