"""What is said of a Redis that somebody else runs. Nothing is ever done to it."""

from collections.abc import Mapping
from dataclasses import dataclass

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.plan.values import Condition, Plan

PATH = "spec.ephemeral.redis.external"
AGAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What one URL of the resource led to."""

    url: str
    failure: str = ""
    """Why there is no connection; empty if there is one."""
    denied: bool = False
    """The failure is about user, password or rights."""
    cluster: bool = False
    """The server is a node of a Redis Cluster."""
    slots: int = 0
    """How many slots the cluster serves, as this node sees it."""
    policy: str = ""
    """`maxmemory_policy`; empty if the server does not say."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One region's Redis."""

    endpoints: tuple[Endpoint, ...] = ()
    cluster: bool = False
    """What the resource says."""
    unresolved: str = ""
    """A Secret's value that could not be had."""


def judge(regions: Mapping[str, Seen]) -> Plan:
    """The condition, and a look again soon while something is wrong."""
    found = {region: _region(seen) for region, seen in regions.items()}
    wrong = {region: row for region, row in found.items() if row[0] is not Reason.EXTERNAL}
    texts = [f"{region}: {text}" if len(found) > 1 else text for region, (_, text) in found.items() if text]
    reason = next(iter(wrong.values()))[0] if wrong else Reason.EXTERNAL
    condition = Condition(ConditionType.REDIS_READY, not wrong, reason, "; ".join(texts))
    notes = {region: f"redis external{'' if region not in wrong else ': ' + wrong[region][0]}" for region in found}
    return Plan((), (condition,), AGAIN_S if wrong else None, notes=notes)


def _region(seen: Seen) -> tuple[Reason, str]:
    if seen.unresolved:
        return Reason.SECRET_MISSING, seen.unresolved
    failed = [endpoint for endpoint in seen.endpoints if endpoint.failure]
    if failed and (len(failed) == len(seen.endpoints) or any(endpoint.denied for endpoint in failed)):
        first = next((endpoint for endpoint in failed if endpoint.denied), failed[0])
        return (Reason.ACCESS_DENIED if first.denied else Reason.UNREACHABLE), f"{first.url}: {first.failure}"
    for endpoint in seen.endpoints:
        if not endpoint.failure and endpoint.cluster != seen.cluster:
            what = "is a node of a Redis Cluster" if endpoint.cluster else "is no Redis Cluster"
            fix = f"set {PATH}.cluster: {str(endpoint.cluster).lower()}"
            return Reason.INVALID_SPEC, f"{endpoint.url} {what}: {fix}"
        if not endpoint.failure and endpoint.cluster and endpoint.slots < 16384:
            text = f"{endpoint.url}: the cluster serves {endpoint.slots} of 16384 slots: look at its nodes"
            return Reason.DEGRADED, text
    texts = [f"{endpoint.url} does not answer ({endpoint.failure}); the others do" for endpoint in failed]
    policies = {endpoint.policy for endpoint in seen.endpoints} - {"", "noeviction"}
    if policies:
        texts.append(
            f"its maxmemory-policy is {', '.join(sorted(policies))}: with noeviction a full memory costs speed only, "
            "never a lock"
        )
    return Reason.EXTERNAL, "; ".join(texts)
