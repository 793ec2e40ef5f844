"""Kubernetes events about a resource."""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from agentmemory_operator.kube import Kube, KubeError, KubeUnreachable

log = logging.getLogger(__name__)

REPORTER = "agentmemory.io/operator"
_NOTE = 1024


def event(about: Mapping[str, Any], kind: str, reason: str, note: str, *, action: str, now: datetime) -> dict[str, Any]:
    """An event about an object; ``kind`` is ``Normal`` or ``Warning``."""
    meta = about["metadata"]
    namespace = meta.get("namespace") or "default"
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name'][:220]}.{uuid4().hex[:16]}", "namespace": namespace},
        "regarding": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": meta["name"],
            "namespace": namespace,
            "uid": meta.get("uid", ""),
        },
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": kind,
        "reason": reason,
        "note": note[:_NOTE],
        "action": action,
        "reportingController": REPORTER,
        "reportingInstance": os.environ.get("HOSTNAME", "operator")[:128],
    }


async def post(kube: Kube, manifest: Mapping[str, Any]) -> None:
    """Post an event. Nothing hangs on it: one that is refused is a line in the log."""
    try:
        await kube.create(manifest)
    except (KubeError, KubeUnreachable) as error:
        log.warning("event %s was not posted: %s", manifest["reason"], error)
