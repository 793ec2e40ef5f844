"""The Kubernetes objects of one region's Redis Cluster. None has an owner reference: what goes with the resource is
decided by its `deletionPolicy`, and a new installation takes over what it finds by labels."""

import hashlib
import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from agentmemory_operator import names
from agentmemory_operator.plan import security
from agentmemory_operator.plan.drift import quantity
from agentmemory_operator.plan.values import Manifest
from agentmemory_operator.settings import Settings
from agentmemory_sidecar.resource import AgentMemory
from agentmemory_sidecar.resource.base import at
from agentmemory_sidecar.resource.common import PodResources, Storage

APP = "agentmemory-redis"
SHARD = f"{names.GROUP}/shard"
"""Label: a shard's number."""
TEMPLATE = f"{names.GROUP}/template"
"""Annotation of a pod: the hash of the template that it was made from, files included."""
INTENT = f"{names.GROUP}/intent"
"""Annotation of what the operator makes: the hash of what it wanted. Where that is unchanged and the object is not,
somebody else was at work."""
PORT = 6379
USER = 999
FILES = ("redis.conf", "start.sh", "node.sh")
_DATA, _CONFIG, _SECRETS, _RUN = "/data", "/etc/agentmemory/redis", "/etc/agentmemory/redis-secrets", "/run/agentmemory"
GRACE_S = 60
"""Longer than a failover and the server's own end together."""
MEMORY_SHARE = Decimal("0.7")
"""Of a pod's memory limit, what data may take: the rest is for copies to replicas and for rewriting the file."""


@dataclass(frozen=True, slots=True)
class Place:
    """One region's Redis of one resource: what its objects are called, and what they should be."""

    resource: AgentMemory
    settings: Settings
    region: str
    on_labelled_nodes: bool
    """Whether pods must run on nodes that carry the region's label."""

    @property
    def namespace(self) -> str:
        return self.resource.metadata.namespace

    @property
    def service(self) -> str:
        return names.child(self.resource.metadata.name, "redis", self.region, longest=names.LONGEST_STATEFULSET)

    @property
    def node_secret(self) -> str:
        return self.service

    @property
    def keys_secret(self) -> str:
        return names.child(self.service, "keys")

    def stateful_set(self, shard: int) -> str:
        return names.child(
            self.resource.metadata.name, "redis", self.region, str(shard), longest=names.LONGEST_STATEFULSET
        )

    @property
    def domain(self) -> str:
        """Without the cluster's domain, which every pod's resolver adds."""
        return f"{self.service}.{self.namespace}.svc"

    @property
    def hostnames(self) -> tuple[str, ...]:
        """What the servers' certificate names."""
        return (self.domain, f"*.{self.domain}")

    @property
    def labels(self) -> dict[str, str]:
        return names.labels(self.resource.metadata.name, APP, self.region)

    @property
    def selector(self) -> str:
        return selector(self.resource, self.region)

    @property
    def redis(self) -> Any:
        """The resource's `managed` block, as it holds in this region."""
        assert self.resource.spec.ephemeral.redis is not None
        assert self.resource.spec.ephemeral.redis.managed is not None
        return at(self.resource.spec.ephemeral.redis.managed, self.region)

    @property
    def resources(self) -> PodResources:
        found: PodResources = self.redis.resources or self.settings.redis.resources
        return found

    @property
    def storage(self) -> Storage:
        found: Storage = self.redis.storage or self.settings.redis.storage
        return found

    # ------------------------------------------------------------------------------------------------------- objects

    def object(self, api_version: str, kind: str, name: str, **content: Any) -> dict[str, Any]:
        """An object with our labels, and the hash of its content."""
        shard = content.pop("shard", None)
        labels = self.labels | ({SHARD: str(shard)} if shard is not None else {})
        meta = {"name": name, "namespace": self.namespace, "labels": labels, "annotations": {INTENT: digest(content)}}
        return {"apiVersion": api_version, "kind": kind, "metadata": meta, **content}

    def secret(self, name: str) -> dict[str, Any]:
        """Without data. Its hash would tell of what is in it, so there is none."""
        meta = {"name": name, "namespace": self.namespace, "labels": self.labels}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque"}

    def config_map(self) -> dict[str, Any]:
        """The configuration file and the scripts."""
        return self.object("v1", "ConfigMap", self.service, data=files())

    def headless_service(self) -> dict[str, Any]:
        """Names for the pods, from the moment they have an address: they must find one another before they are ready."""
        ports = [
            {"name": "redis", "port": PORT, "targetPort": "redis"},
            {"name": "redis-bus", "port": PORT + 10000, "targetPort": "redis-bus"},
        ]
        spec = {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": self._chosen(),
            "ports": ports,
        }
        return self.object("v1", "Service", self.service, spec=spec)

    def disruption_budget(self, shard: int) -> dict[str, Any]:
        """One pod of a shard at a time, and no broken pod in the way of a drain."""
        spec = {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": self._chosen(shard)},
        }
        return self.object("policy/v1", "PodDisruptionBudget", self.stateful_set(shard), shard=shard, spec=spec)

    def shard_set(self, shard: int, pods: int, live: Manifest | None) -> dict[str, Any]:
        """A shard's pods. Its claim template stays as it was made: Kubernetes lets nobody change it."""
        spec = {
            "replicas": pods,
            "serviceName": self.service,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            "revisionHistoryLimit": 2,
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "selector": {"matchLabels": self._chosen(shard)},
            "template": self.template(shard),
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": self._claim(live)}],
        }
        return self.object("apps/v1", "StatefulSet", self.stateful_set(shard), shard=shard, spec=spec)

    def claim_size(self) -> str:
        return self.storage.size or "1Gi"

    def _chosen(self, shard: int | None = None) -> dict[str, str]:
        chosen = {key: value for key, value in self.labels.items() if key != names.MANAGED_BY}
        return chosen | ({SHARD: str(shard)} if shard is not None else {})

    def _claim(self, live: Manifest | None) -> dict[str, Any]:
        if live is not None:
            before = live["spec"]["volumeClaimTemplates"][0]["spec"]
            return {key: before[key] for key in ("accessModes", "resources", "storageClassName") if key in before}
        spec: dict[str, Any] = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": self.claim_size()}},
        }
        return spec | ({"storageClassName": self.storage.storage_class_name} if self.storage.storage_class_name else {})

    # ----------------------------------------------------------------------------------------------------------- pod

    def template(self, shard: int) -> dict[str, Any]:
        """A shard's pod template, with its hash. What changes the hash rolls the pods."""
        labels = self.labels | {SHARD: str(shard), names.INJECT: "false"}
        spec = self._pod(shard)
        return {
            "metadata": {"labels": labels, "annotations": {TEMPLATE: digest([spec, self._config()])}},
            "spec": spec,
        }

    def _config(self) -> Mapping[str, str]:
        return files()

    def _pod(self, shard: int) -> dict[str, Any]:
        selector = {names.NODE_REGION: self.region} if self.on_labelled_nodes else {}
        selector |= dict(self.redis.node_selector)
        pod: dict[str, Any] = {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_S,
            "securityContext": security.of_pod(USER),
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": self._apart(shard)}},
            "containers": [self._container()],
            "volumes": [
                {"name": "config", "configMap": {"name": self.service}},
                {"name": "secrets", "secret": {"secretName": self.node_secret, "defaultMode": 0o440}},
                {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            ],
        }
        if selector:
            pod["nodeSelector"] = selector
        if self.settings.images.pull_secrets:
            pod["imagePullSecrets"] = [{"name": secret} for secret in self.settings.images.pull_secrets]
        return pod

    def _apart(self, shard: int) -> list[dict[str, Any]]:
        """A shard's pods on different nodes, and in different zones, where there are some; then the cluster's pods."""
        terms = ((100, "kubernetes.io/hostname", shard), (90, "topology.kubernetes.io/zone", shard))
        return [
            {
                "weight": weight,
                "podAffinityTerm": {"labelSelector": {"matchLabels": self._chosen(only)}, "topologyKey": key},
            }
            for weight, key, only in (*terms, (10, "kubernetes.io/hostname", None))
        ]

    def _container(self) -> dict[str, Any]:
        requests = dict(self.resources.requests) or {"cpu": "100m", "memory": "128Mi"}
        limits = dict(self.resources.limits)
        environment: list[dict[str, Any]] = [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
            {"name": "POD_HOSTNAME", "value": f"$(POD_NAME).{self.domain}"},
            {"name": "MAXMEMORY", "value": str(max_memory(limits))},
        ]
        return {
            "name": "redis",
            "image": self.redis.image or self.settings.images.redis,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/sh", f"{_CONFIG}/start.sh"],
            "workingDir": _DATA,
            "env": environment,
            "ports": [
                {"name": "redis", "containerPort": PORT},
                {"name": "redis-bus", "containerPort": PORT + 10000},
            ],
            "resources": {"requests": requests} | ({"limits": limits} if limits else {}),
            "securityContext": security.of_container(),
            # Probes are programs that a node has to start, so they are few, and patient: the operator asks the servers
            # itself, and a primary that hangs is replaced by its replica long before it would be killed here. A busy
            # machine must not lose its caches. Starting includes reading the append-only file, however long that takes.
            "startupProbe": _probe("alive", periodSeconds=3, timeoutSeconds=10, failureThreshold=200),
            "readinessProbe": _probe("ready", periodSeconds=15, timeoutSeconds=10, failureThreshold=3),
            "livenessProbe": _probe("alive", periodSeconds=60, timeoutSeconds=30, failureThreshold=5),
            "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", f"{_CONFIG}/node.sh", "stop"]}}},
            "volumeMounts": [
                {"name": "data", "mountPath": _DATA},
                {"name": "config", "mountPath": _CONFIG, "readOnly": True},
                {"name": "secrets", "mountPath": _SECRETS, "readOnly": True},
                {"name": "run", "mountPath": _RUN},
            ],
        }


def selector(resource: AgentMemory, region: str = "") -> str:
    """Of everything that belongs to a resource's managed Redis, volumes too; in all regions without one."""
    labels = names.labels(resource.metadata.name, APP, region)
    return ",".join(f"{key}={value}" for key, value in labels.items() if key != names.MANAGED_BY)


def _probe(what: str, **timing: int) -> dict[str, Any]:
    return {"exec": {"command": ["/bin/sh", f"{_CONFIG}/node.sh", what]}, **timing}


def max_memory(limits: Mapping[str, str]) -> int:
    """Bytes that data may take; 0, which is Redis's word for no bound, without a memory limit."""
    limit = quantity(limits.get("memory", "0"))
    return int((limit or 0) * MEMORY_SHARE)


def files() -> dict[str, str]:
    """The configuration file and the scripts that every pod mounts."""
    folder = importlib.resources.files("agentmemory_operator.plan.redis") / "files"
    return {name: (folder / name).read_text() for name in FILES}


def digest(content: Any) -> str:
    """A short hash of anything that is JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
