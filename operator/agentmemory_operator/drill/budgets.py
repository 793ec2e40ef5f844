"""How long a turn may take and an outage may last, by what the resource says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agentmemory_sidecar.resource import AgentMemory

PATIENCE_S = 5.0
"""How long the drill's client waits for an answer before it tries elsewhere: far longer than a step takes."""

LONGEST_SKEW_S = 240.0
"""AWS refuses what is signed by a clock that is more than five minutes off, so that such a sidecar serves nobody."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """All in seconds. Claude's own time is not in them: the longest step before the fault is added when they are used."""

    patience_s: float
    step_s: float
    """What the stores may add to a step: hot and state tier are read, then written, each within its deadline."""
    lock_s: float
    """How long the lock of a killed sidecar stays in its region."""
    start_s: float = 0.0
    """How long agents and stores may take to start, by their probes, where all of them do."""

    def outage_s(self, kind: str, longest_step_s: float) -> float:
        """The longest time without an acknowledged step: one answer that is waited for in vain, and a step. In the same
        region (``pod``, ``drain``, ``cold``) the lock of the sidecar that is gone stands in the way until it ends; a cold
        start takes its time before that."""
        lock = self.lock_s if kind in ("pod", "drain", "cold") else 0.0
        start = self.start_s if kind == "cold" else 0.0
        return self.patience_s + lock + start + self.step_s + longest_step_s


def budgets(
    resource: AgentMemory, patience_s: float = PATIENCE_S, starting: Iterable[tuple[Mapping[str, Any], ...]] = ()
) -> Budgets:
    """Of a resource's deadlines and lock. ``starting``: pods that start side by side, group after group."""
    hot, state = resource.spec.ephemeral.timeout.seconds, resource.spec.state.timeout.seconds
    start = sum(max((allowance_s(pod) for pod in group), default=0.0) for group in starting)
    return Budgets(patience_s, 2 * (hot + state), resource.spec.session.lock.ttl.seconds, start)


def allowance_s(pod: Mapping[str, Any]) -> float:
    """How long a pod (raw) may take to start, by its containers' probes: those for starting, else those for being ready."""
    spec = pod["spec"]
    sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    return sum(map(_probe_s, sidecars)) + max(map(_probe_s, spec["containers"]), default=0.0)


def _probe_s(container: Mapping[str, Any]) -> float:
    probe = container.get("startupProbe") or container.get("readinessProbe") or {}
    tries = probe.get("failureThreshold", 3) * probe.get("periodSeconds", 10) if probe else 0
    return float(probe.get("initialDelaySeconds", 0) + tries)


def skew_s(resource: AgentMemory) -> float:
    """A clock that is so far off takes every lock that somebody else has just taken for one that has ended."""
    return min(2 * resource.spec.session.lock.ttl.seconds, LONGEST_SKEW_S)
