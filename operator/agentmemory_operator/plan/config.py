"""The Secrets with the sidecars' configuration."""

from collections.abc import Iterable, Mapping
from typing import Any

from agentmemory_operator import names
from agentmemory_operator.plan.values import Apply, Manifest
from agentmemory_operator.secretdata import encoded
from agentmemory_sidecar.resource.mounted import Mounted

APP = "agentmemory-config"


def secret(name: str, namespace: str, resource: str, data: Mapping[str, str]) -> Manifest:
    """A Secret of ours, whole. It has no owner: it must outlive the resource while agents still run."""
    metadata = {"name": name, "namespace": namespace, "labels": names.labels(resource, APP)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": encoded(data)}


def applied(wanted: Manifest, live: Mapping[str, Any] | None) -> tuple[Apply, ...]:
    """Write a Secret where its data or labels are not what is wanted."""
    if live is not None:
        same = live.get("data") == wanted["data"] or (not live.get("data") and not wanted["data"])
        labels = live["metadata"].get("labels", {})
        if same and wanted["metadata"]["labels"].items() <= labels.items():
            return ()
    return (Apply(wanted, "" if live is None else "configuration changed"),)


def shared(namespace: str, contents: Mapping[str, Mapping[str, str]], known: Iterable[str]) -> Manifest:
    """The Secret for pods that name no resource: the namespace's only resource's configuration, or the candidates.

    ``contents`` has the files of the configurations that are written, ``known`` the names of all resources of the namespace.
    """
    candidates = sorted(known)
    only = contents.get(candidates[0]) if len(candidates) == 1 else None
    files = only if only is not None else Mounted(candidates=tuple(candidates)).files()
    return secret(names.DEFAULT_CONFIG_SECRET, namespace, "", files)
