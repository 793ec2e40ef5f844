"""What the webhook counts. Names are stable; labels never hold a name or a user's text."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """One webhook process' counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "agentmemory_webhook_requests", "Requests of the API server, dry runs too.", registry=self.registry
        )
        self.injected = Counter(
            "agentmemory_webhook_injected", "Pods that were given the sidecar or what they still lacked.",
            registry=self.registry,
        )  # fmt: skip
        self.skipped = Counter(
            "agentmemory_webhook_skipped", "Pods that were let through as they are, by reason.", ("reason",),
            registry=self.registry,
        )  # fmt: skip
        self.refused = Counter(
            "agentmemory_webhook_refused", "Pods that were refused, by reason.", ("reason",), registry=self.registry
        )
        self.failed = Counter(
            "agentmemory_webhook_failed", "Requests answered by an HTTP error, so that the failure policy decides.",
            ("status",), registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "agentmemory_webhook_seconds", "Time from a request's last byte to its answer.", registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
        )  # fmt: skip
        self.certificate_end = Gauge(
            "agentmemory_webhook_certificate_not_after_seconds", "When the certificate in use ends, as a Unix time.",
            registry=self.registry,
        )  # fmt: skip
        self.settings_stale = Gauge(
            "agentmemory_webhook_settings_stale", "1 while the settings file cannot be used and older ones are in force.",
            registry=self.registry,
        )  # fmt: skip
