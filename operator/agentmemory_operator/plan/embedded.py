"""The embedded tiers on a cluster: one StatefulSet of the laptop's own stores, for first tries. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from agentmemory_operator import names
from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.plan import security
from agentmemory_operator.plan.drift import differences
from agentmemory_operator.plan.values import Action, Apply, Condition, Manifest, Plan, Provides, Remove
from agentmemory_operator.settings import Settings
from agentmemory_sidecar.resource.agentmemory import AgentMemory, DeletionPolicy
from agentmemory_sidecar.resource.common import Embedded, PodResources, Storage
from agentmemory_sidecar.resource.store_config import PostgresStore, RedisHot

APP = "agentmemory-stores"
VALKEY_PASSWORD, POSTGRES_PASSWORD = "valkey-password", "postgres-password"
USER = 65532
PROGRESS_S = 2.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is of the embedded tiers."""

    passwords: Mapping[str, str] | None
    """Of the Secret; None while there is none."""
    service: Manifest | None
    stateful_set: Manifest | None
    claims: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()


@dataclass(frozen=True, slots=True)
class MakePasswords(Action):
    """Create the Secret with two random passwords, unless it is there."""

    manifest: Manifest
    """The Secret without its data."""

    def describe(self) -> str:
        meta = self.manifest["metadata"]
        return f"make passwords in Secret {meta['namespace']}/{meta['name']}"


def tiers(resource: AgentMemory) -> dict[ConditionType, Embedded]:
    """The tiers that are embedded, by the condition that speaks of each; an omitted tier is one."""
    spec = resource.spec
    found = {}
    if spec.ephemeral.redis is None:
        found[ConditionType.REDIS_READY] = spec.ephemeral.embedded or Embedded()
    if spec.state.dynamodb is None and spec.state.cosmosdb is None and spec.state.postgres is None:
        found[ConditionType.STATE_READY] = spec.state.embedded or Embedded()
    if spec.archive.s3 is None and spec.archive.postgres is None:
        found[ConditionType.ARCHIVE_READY] = spec.archive.embedded or Embedded()
    return found


def name(resource: AgentMemory) -> str:
    """Of the StatefulSet, its Service and its Secret."""
    return names.child(resource.metadata.name, "stores", longest=names.LONGEST_STATEFULSET)


def plan(resource: AgentMemory, settings: Settings, held: tuple[str, ...], seen: Seen) -> Plan:
    """Make what is missing, repair what differs; provide addresses once there are passwords."""
    actions: list[Action] = []
    drift: list[str] = []
    if seen.passwords is None:
        actions.append(MakePasswords(_meta("v1", "Secret", resource)))
    for wanted, live in (
        (service(resource), seen.service),
        (stateful_set(resource, settings, seen), seen.stateful_set),
    ):
        different = differences(wanted, live) if live else ["/"]
        if live is None or different:
            actions.append(Apply(wanted, "" if live is None else ", ".join(different[:3])))
        if live is not None and different and not _spec_moved(resource, live):
            drift.append(f"{wanted['kind']} {wanted['metadata']['name']}: {', '.join(different[:3])}")
    ready = _ready(seen.stateful_set) and not actions
    status = True if ready else None
    reason = Reason.EMBEDDED if ready else Reason.CREATING
    message = "" if ready else _waiting(seen, resource)
    conditions = [Condition(kind, status, reason, message) for kind in tiers(resource)]
    conditions.append(
        Condition(
            ConditionType.NOT_FOR_PRODUCTION,
            True,
            Reason.EMBEDDED,
            "embedded tiers keep one copy of the data on one volume: declare redis, a state tier and an archive of your "
            "own before you rely on it",
        )
    )
    provides = _provides(resource, seen.passwords) if ready and seen.passwords else None
    return Plan(
        actions=tuple(actions),
        conditions=tuple(conditions),
        again_s=None if ready else PROGRESS_S,
        provides=dict.fromkeys(held, provides) if provides else {},
        drift=tuple(drift),
        notes=dict.fromkeys(held, "embedded stores"),
    )


def plan_leaving(resource: AgentMemory, seen: Seen) -> Plan:
    """Retain: the pod goes, the volume and the passwords stay. Delete: all of it goes."""
    made = (seen.stateful_set, seen.service)
    actions: list[Action] = [_remove(live, "the resource is being deleted") for live in made if live is not None]
    if resource.spec.deletion_policy is DeletionPolicy.DELETE:
        actions += [_remove(claim, "deletionPolicy Delete") for claim in seen.claims]
        if seen.passwords is not None:
            meta = _meta("v1", "Secret", resource)["metadata"]
            actions.append(Remove("v1", "Secret", meta["namespace"], meta["name"], "", "deletionPolicy Delete"))
    waiting = bool(actions or seen.pods)
    message = "waiting for the embedded stores' pod to end" if waiting else ""
    conditions = (Condition(ConditionType.DELETING, None, Reason.WAITING, message),) if waiting else ()
    return Plan(tuple(actions), conditions, PROGRESS_S if waiting else None)


def _remove(live: Manifest, why: str) -> Remove:
    meta = live["metadata"]
    return Remove(live["apiVersion"], live["kind"], meta["namespace"], meta["name"], meta["uid"], why)


def _spec_moved(resource: AgentMemory, live: Manifest) -> bool:
    """Whether the difference is ours: the object was made for another generation of the resource."""
    written = live["metadata"].get("annotations", {}).get(GENERATION, "")
    return bool(written != str(resource.metadata.generation))


GENERATION = "agentmemory.io/generation"
"""Annotation of what is made: for which generation of the resource."""


def _ready(live: Manifest | None) -> bool:
    if live is None:
        return False
    status = live.get("status") or {}
    current = status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0)
    return bool(current and status.get("readyReplicas", 0) >= 1 and status.get("updatedReplicas", 1) >= 1)


def _waiting(seen: Seen, resource: AgentMemory) -> str:
    """Why the pod is not ready yet, as far as it says."""
    for pod in seen.pods:
        status = pod.get("status") or {}
        for row in (*_container_waits(status), *status.get("conditions", ())):
            if row.get("status") != "True" and row.get("message"):
                return f"pod {pod['metadata']['name']}: {row.get('reason', '')}: {row['message']}"
    return f"waiting for the pod {name(resource)}-0"


def _container_waits(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    states = (row.get("state", {}).get("waiting") for row in status.get("containerStatuses", ()))
    return [state for state in states if state]


def _provides(resource: AgentMemory, passwords: Mapping[str, str]) -> Provides:
    host = f"{name(resource)}.{resource.metadata.namespace}.svc"
    dsn = f"postgresql://memory:{passwords[POSTGRES_PASSWORD]}@{host}:5432/memory"
    return Provides(
        embedded_hot=RedisHot(
            urls=(f"redis://{host}:6379",), username="agentmemory", password=SecretStr(passwords[VALKEY_PASSWORD])
        ),
        embedded_postgres=PostgresStore(dsn=SecretStr(dsn)),
    )


# ------------------------------------------------------------------------------------------------------------- manifests


def _meta(api_version: str, kind: str, resource: AgentMemory) -> dict[str, Any]:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name(resource),
            "namespace": resource.metadata.namespace,
            "labels": names.labels(resource.metadata.name, APP),
            "annotations": {GENERATION: str(resource.metadata.generation)},
        },
    }


def _selector(resource: AgentMemory) -> dict[str, str]:
    return {names.APP: APP, names.RESOURCE: names.label(resource.metadata.name)}


def service(resource: AgentMemory) -> dict[str, Any]:
    """Headless: there is one pod, and its address is in its name."""
    ports = [{"name": "valkey", "port": 6379}, {"name": "postgres", "port": 5432}]
    return _meta("v1", "Service", resource) | {
        "spec": {"clusterIP": "None", "selector": _selector(resource), "ports": ports}
    }


def stateful_set(resource: AgentMemory, settings: Settings, seen: Seen) -> dict[str, Any]:
    """One pod, one volume. A volume that is there keeps its size: a claim template cannot change."""
    chosen = tuple(tiers(resource).values())
    image = next((entry.image for entry in chosen if entry.image), settings.images.stores)
    resources = next((entry.resources for entry in chosen if entry.resources), settings.stores.resources)
    storage = next((entry.storage for entry in chosen if entry.storage), settings.stores.storage)
    node_selector = {key: value for entry in reversed(chosen) for key, value in entry.node_selector.items()}
    claim = {"metadata": {"name": "data"}, "spec": _claim(storage, seen.stateful_set)}
    return _meta("apps/v1", "StatefulSet", resource) | {
        "spec": {
            "replicas": 1,
            "serviceName": name(resource),
            "selector": {"matchLabels": _selector(resource)},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "template": {
                "metadata": {
                    "labels": {**names.labels(resource.metadata.name, APP), names.INJECT: "false"},
                },
                "spec": _pod(resource, settings, image, resources, node_selector),
            },
            "volumeClaimTemplates": [claim],
        }
    }


def _claim(storage: Storage, live: Manifest | None) -> dict[str, Any]:
    if live is not None:
        before = live["spec"]["volumeClaimTemplates"][0]["spec"]
        return {key: before[key] for key in ("accessModes", "resources", "storageClassName") if key in before}
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.size or "1Gi"}},
    }
    return spec | ({"storageClassName": storage.storage_class_name} if storage.storage_class_name else {})


def _pod(
    resource: AgentMemory, settings: Settings, image: str, resources: PodResources, node_selector: Mapping[str, str]
) -> dict[str, Any]:
    requests = resources.requests or {"cpu": "100m", "memory": "192Mi"}
    limits = resources.limits or {"memory": "512Mi"}
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 60,
        "securityContext": security.of_pod(USER),
        "containers": [
            {
                "name": "stores",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": ["stores"],
                "ports": [
                    {"name": "valkey", "containerPort": 6379},
                    {"name": "postgres", "containerPort": 5432},
                    {"name": "am-probes", "containerPort": 8378},
                ],
                "resources": {"requests": dict(requests), "limits": dict(limits)},
                "securityContext": security.of_container(),
                "startupProbe": _probe("/readyz", periodSeconds=2, failureThreshold=90, timeoutSeconds=5),
                "readinessProbe": _probe("/readyz", periodSeconds=5, timeoutSeconds=3),
                "livenessProbe": _probe("/livez", periodSeconds=10, timeoutSeconds=5, failureThreshold=6),
                "volumeMounts": [
                    {"name": "data", "mountPath": "/var/lib/agentmemory"},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
                    {"name": "passwords", "mountPath": "/etc/agentmemory/secrets", "readOnly": True},
                ],
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "passwords", "secret": {"secretName": name(resource)}},
        ],
    }
    if node_selector:
        pod["nodeSelector"] = dict(node_selector)
    if settings.images.pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in settings.images.pull_secrets]
    return pod


def _probe(path: str, **timing: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "am-probes"}, **timing}
