"""What a sidecar in a pod counts beside its steps."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class PodMetrics:
    """In the registry of the steps' metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.configured = Gauge("agentmemory_configured", "1 while there is a configuration.", registry=registry)
        self.generation = Gauge(
            "agentmemory_config_generation", "The resource's generation that is in use.", registry=registry
        )
        self.reloads = Counter(
            "agentmemory_config_reloads", "Configurations that were read, by what became of them.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self.lag = Gauge("agentmemory_loop_lag_seconds", "How late the event loop was at last.", registry=registry)
