"""How long a turn may take and an outage may last, by what the resource says."""

from dataclasses import dataclass

from agentmemory_sidecar.resource import AgentMemory

PATIENCE_S = 5.0
"""How long the drill's client waits for an answer before it tries elsewhere: far longer than a step takes."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """All in seconds. Claude's own time is not in them: the longest step before the fault is added when they are used."""

    patience_s: float
    step_s: float
    """What the stores may add to a step: hot and state tier are read, then written, each within its deadline."""
    lock_s: float
    """How long the lock of a killed sidecar stays in its region."""

    def outage_s(self, kind: str, longest_step_s: float) -> float:
        """The longest time without an acknowledged step: one answer that is waited for in vain, and a step. In the same
        region (``pod``, ``drain``) the lock of the sidecar that is gone stands in the way until it ends."""
        lock = self.lock_s if kind in ("pod", "drain") else 0.0
        return self.patience_s + lock + self.step_s + longest_step_s


def budgets(resource: AgentMemory, patience_s: float = PATIENCE_S) -> Budgets:
    """Of a resource's deadlines and lock."""
    hot, state = resource.spec.ephemeral.timeout.seconds, resource.spec.state.timeout.seconds
    return Budgets(patience_s, 2 * (hot + state), resource.spec.session.lock.ttl.seconds)
