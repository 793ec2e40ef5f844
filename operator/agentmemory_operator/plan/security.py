"""What every pod of ours is: the profile ``restricted``, with a user that no image chooses."""

from typing import Any


def of_pod(user: int) -> dict[str, Any]:
    """``spec.securityContext`` of a pod whose volumes belong to ``user``."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def of_container() -> dict[str, Any]:
    """``securityContext`` of a container, beside its pod's."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
