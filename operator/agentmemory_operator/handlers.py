"""What kopf calls: decorators and one call each. `operating.py` has the calls."""

from typing import Any

import kopf

from agentmemory_operator import names
from agentmemory_operator.operating import Operating

OURS = {names.MANAGED_BY: names.FIELD_MANAGER}


def register(registry: kopf.OperatorRegistry, operating: Operating) -> None:
    """Tie the handlers of one operator to its registry."""

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return operating.login(**kwargs)

    @kopf.daemon(names.PLURAL, group=names.GROUP, registry=registry, cancellation_timeout=30.0)
    async def resource(namespace: str | None, name: str | None, stopped: kopf.DaemonStopped, **_: Any) -> None:
        await operating.attend(namespace or "", name or "", stopped)

    @kopf.on.delete(names.PLURAL, group=names.GROUP, registry=registry, optional=False)
    async def deletion(namespace: str | None, name: str | None, **_: Any) -> None:
        await operating.let_go(namespace or "", name or "")

    @kopf.on.event(names.PLURAL, group=names.GROUP, registry=registry)
    async def change(namespace: str | None, event: kopf.RawEvent, **_: Any) -> None:
        operating.neighbour(namespace or "", event)

    @kopf.on.event("apps", "v1", "statefulsets", registry=registry, labels=OURS)
    @kopf.on.event("", "v1", "pods", registry=registry, labels=OURS)
    async def child(namespace: str | None, labels: kopf.Labels, **_: Any) -> None:
        operating.child(namespace or "", labels)
