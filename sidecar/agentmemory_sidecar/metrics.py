"""What the sidecar counts. Names are stable; labels never hold an id or a user's text."""

from collections import OrderedDict
from collections.abc import Hashable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

MOST_UNMERGED = 1000
"""Conversations and states whose heads are remembered."""


class Metrics:
    """One sidecar's counters, in a registry of their own."""

    def __init__(self) -> None:
        self._labelled: dict[tuple[Counter, str], Counter] = {}
        self._unmerged: OrderedDict[Hashable, int] = OrderedDict()
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"agentmemory_{name}", text, labels, registry=self.registry)

        self.requests = counter("requests", "Requests by class.", ("request_class",))
        self.turns = counter("steps", "Steps that Claude answered, by what became of them.", ("outcome",))
        self.failed = counter("failed_steps", "Steps that ended in an error of ours.", ("reason",))
        self.refused = counter("refused_steps", "Steps refused because their session was busy.")
        self.fenced = counter("fenced_steps", "Steps whose session was written by another turn meanwhile.")
        self.takeovers = counter("lock_takeovers", "Locks taken over from a holder that had stopped renewing.")
        self.degraded = counter("degraded_steps", "Steps that ran without the hot tier.")
        self.state_unavailable = counter("state_unavailable", "Calls that the state tier did not answer.")
        self.repeated = counter("repeated_replies", "Stored replies told again instead of paid again.")
        self.disconnected = counter("disconnects", "Clients that left before their reply was complete.")
        self.no_identity = counter("requests_without_session", "Turns that no session could be found for.")
        self.ownerless = counter(
            "requests_without_owner", "Steps whose resource has a scope for an owner that they do not name.", ("scope",)
        )
        self.unreadable = counter(
            "unreadable_requests", "Bodies that could not be read and were passed on as they came."
        )
        self.dropped_blocks = counter("thinking_may_drop", "Requests sent with leave to drop thinking blocks.")
        self.injected_tokens = counter("injected_tokens", "Estimated tokens newly put into prompts.")
        self.replayed_tokens = counter("replayed_tokens", "Estimated tokens repeated from the ledger.")
        self.filter_answers = counter("filter_answers", "Choices from a state, by who made them.", ("strategy",))
        self.filter_fallbacks = counter(
            "filter_fallbacks", "Choices made without all of the resource's strategy, by what was missing.", ("reason",)
        )
        self.filter_model_tokens = counter(
            "filter_model_tokens", "Tokens of the model that picks from a state, by kind.", ("kind",)
        )
        self.extractions = counter("extractions", "Attempts to learn from finished turns, by outcome.", ("outcome",))
        self.extracted_turns = counter("extracted_turns", "Turns that a model has read.")
        self.extraction_changes = counter(
            "extraction_changes", "Changes that the model wanted: written, or by which rule refused.", ("outcome",)
        )
        self.extraction_model_tokens = counter(
            "extraction_model_tokens", "Tokens of the model that reads finished turns, by kind.", ("kind",)
        )
        self.extraction_waiting = Gauge(
            "agentmemory_extraction_waiting",
            "Conversations that this sidecar knows to have turns that no model has read.", registry=self.registry,
        )  # fmt: skip
        self.conflicts = counter("state_conflicts", "Patches kept as conflicts.")
        self.clashes = counter("clashes", "Writes of two regions at one place that this region came to know of.")
        self.elsewhere = counter("steps_elsewhere", "Steps whose state was read through another region's endpoint.")
        self.stale = counter("stale_reads", "Steps that went on with an older state than their session has seen.")
        self.memory_commands = counter(
            "memory_tool_commands", "Commands of Claude's memory tool that were run here.", ("command", "outcome")
        )
        self.unmerged_heads = Gauge(
            "agentmemory_unmerged_heads",
            "Heads with something that another region's lacks, of the states seen here last.", registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "agentmemory_step_seconds", "Time of a whole step.", registry=self.registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
        )  # fmt: skip

    def count(self, counter: Counter, label: str) -> None:
        """Add one under a label's value; which child that is, is remembered."""
        child = self._labelled.get((counter, label))
        if child is None:
            child = self._labelled[counter, label] = counter.labels(label)
        child.inc()

    def unmerged(self, state: Hashable, heads: int) -> None:
        """Note how many heads of a state another region's is behind of. The oldest are forgotten."""
        self._unmerged.pop(state, None)
        if heads:
            self._unmerged[state] = heads
            if len(self._unmerged) > MOST_UNMERGED:
                self._unmerged.popitem(last=False)
        self.unmerged_heads.set(sum(self._unmerged.values()))
