"""Making pods anew on a changed template: replicas first, then a failover, then the old primary; one at a time."""

from agentmemory_operator.conditions import Reason
from agentmemory_operator.plan.redis.values import NODE_TIMEOUT_S, Cluster, Decision, Failover, Pod, Shape
from agentmemory_operator.plan.redis.view import View, best, node
from agentmemory_operator.plan.values import Remove

ASK_AGAIN_S = 2 * NODE_TIMEOUT_S
"""A failover that was asked for gets so long before it is asked for again: server and operator must not both push."""


def unstick(cluster: Cluster) -> Decision | None:
    """A pod that cannot start, of a template that is no longer wanted, goes at once: it serves nobody, and its volume
    stays. So a bad image is mended by naming a good one."""
    for pod in cluster.pods:
        if pod.outdated and pod.node is None and pod.trouble and not pod.leaving:
            return Decision(
                Reason.ROLLING, f"{pod.name} does not start ({pod.trouble}) and is made anew", (_delete(cluster, pod),)
            )
    return None


def roll(cluster: Cluster, shape: Shape) -> Decision | None:
    """The next pod to be made anew. Call it only for a cluster for which topology has nothing to do."""
    view = View(cluster, shape)
    outdated = [pod for pod in view.pods if pod.outdated]
    if not outdated:
        return None
    text = f"{len(outdated)} of {len(view.pods)} pods are still to be made anew"
    idle = [pod for pod in outdated if not node(pod).slots]
    if idle:
        return Decision(Reason.ROLLING, text, (_delete(cluster, min(idle, key=lambda pod: (pod.shard, pod.ordinal))),))
    primary = min(outdated, key=lambda pod: (pod.shard, pod.ordinal))
    heirs = view.replicas(node(primary).id)
    return step_down(cluster, primary, heirs, text) or Decision(Reason.ROLLING, text, (_delete(cluster, primary),))


def step_down(cluster: Cluster, primary: Pod, heirs: list[Pod], text: str) -> Decision | None:
    """Have one of ``heirs`` take a primary's place with its consent; None where there is none."""
    heir = best(pod for pod in heirs if node(pod).link_up and node(pod).durable)
    if heir is None:
        return None
    symptom = f"failover:{primary.name}"
    if cluster.waited.get(symptom, ASK_AGAIN_S) < ASK_AGAIN_S:
        return Decision(Reason.ROLLING, text, symptoms=frozenset({symptom}), again_s=0.5)
    action = Failover(cluster.region, heir.name, why=f"{primary.name} steps down")
    return Decision(Reason.ROLLING, text, (action,), begins=frozenset({symptom}), again_s=0.5)


def _delete(cluster: Cluster, pod: Pod) -> Remove:
    return Remove("v1", "Pod", cluster.namespace, pod.name, pod.uid, "made anew with its current template")
