"""From what the tiers provide to the Secrets that sidecars mount."""

import base64
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from agentmemory_operator import names
from agentmemory_operator.act.kube import act
from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.kube import AGENTMEMORY, NAMESPACE, SECRET, Conflict, Kube, Object
from agentmemory_operator.observe.secrets import secret_data, secret_values
from agentmemory_operator.plan import config
from agentmemory_operator.plan.values import Action, Condition, Plan, Provides, Remove
from agentmemory_operator.tiers import Subject
from agentmemory_sidecar.resource import Installation, NotSupportedYet, ResourceError, SidecarConfig, compile_resource
from agentmemory_sidecar.resource.agentmemory import DeletionPolicy
from agentmemory_sidecar.resource.mounted import Mounted
from agentmemory_sidecar.resource.store_config import EmbeddedStore

DATA_DIR = Path("/var/lib/agentmemory")
"""What a sidecar in a pod may write. Nothing that must outlive the pod is there."""
MASTER_KEY = "master"
RETRY_S = 15.0

Effect = Callable[[Action, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Configured:
    """What became of the configuration."""

    conditions: tuple[Condition, ...]
    regions: tuple[str, ...] = ()
    """The regions whose sidecars have one."""
    again_s: float | None = None


@dataclass(slots=True)
class _Compiled:
    configs: dict[str, SidecarConfig] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)


async def configure(kube: Kube, subject: Subject, plans: Sequence[Plan], effect: Effect) -> Configured:
    """Compile the resource for each region that is held here, and write what sidecars mount, where it differs.

    While a tier cannot be used yet its region is left out, and what was written before stays.
    """
    if not subject.held:
        return Configured(())
    try:
        withheld = frozenset[str]().union(*(plan.withheld for plan in plans))
        compiled = await _compiled(kube, subject, _provided(plans), withheld)
    except NotSupportedYet as error:
        return _failed(Reason.NOT_SUPPORTED_YET, error)
    except ResourceError as error:
        return _failed(Reason.SECRET_MISSING, error)
    if not compiled.configs:
        text = f"waiting for the stores of {', '.join(compiled.waiting)}"
        waiting = Condition(ConditionType.CONFIGURED, None, Reason.WAITING, text)
        return Configured((waiting,), again_s=RETRY_S)
    await _write(kube, subject, compiled.configs, effect)
    if compiled.waiting:
        text = f"waiting for the stores of {', '.join(compiled.waiting)}"
        condition = Condition(ConditionType.CONFIGURED, None, Reason.WAITING, text)
    else:
        condition = Condition(ConditionType.CONFIGURED, True, Reason.WRITTEN)
    return Configured((condition,), tuple(compiled.configs), RETRY_S if compiled.waiting else None)


def _failed(reason: Reason, error: ResourceError) -> Configured:
    return Configured((Condition(ConditionType.CONFIGURED, False, reason, " ".join(error.problems)),), again_s=RETRY_S)


def _provided(plans: Sequence[Plan]) -> dict[str, Provides]:
    """What all tiers together give, by region."""
    merged: dict[str, Provides] = {}
    for plan in plans:
        for region, given in plan.provides.items():
            before = merged.get(region, Provides())
            merged[region] = Provides(
                given.managed_redis or before.managed_redis,
                given.embedded_hot or before.embedded_hot,
                given.embedded_postgres or before.embedded_postgres,
            )
    return merged


async def _compiled(
    kube: Kube, subject: Subject, provided: Mapping[str, Provides], withheld: frozenset[str]
) -> _Compiled:
    """Raises ResourceError where the resource cannot be compiled in any region."""
    values = await secret_values(kube, subject.resource)
    master = await _master_key(kube, subject)
    redis = subject.resource.spec.ephemeral.redis
    managed = redis is not None and redis.managed is not None
    found = _Compiled()
    for region in subject.held:
        given = provided.get(region, Provides())
        if region in withheld or (managed and given.managed_redis is None):
            found.waiting.append(region)
            continue
        aws = subject.settings.aws
        installation = Installation(
            managed_redis=given.managed_redis,
            embedded_hot=given.embedded_hot,
            embedded_postgres=given.embedded_postgres,
            dynamodb_endpoint=aws.dynamodb_endpoint,
            s3_endpoint=aws.s3_endpoint,
            role_arn=aws.sidecar_role_arn,
            key_master=master,
        )
        compiled = compile_resource(
            subject.resource, region, values=values, data_dir=DATA_DIR, installation=installation
        )
        if any(isinstance(store, EmbeddedStore) for store in (compiled.hot, compiled.state, compiled.archive)):
            found.waiting.append(region)  # the embedded tiers' pod is not there yet
            continue
        found.configs[region] = compiled
    return found


async def _master_key(kube: Kube, subject: Subject) -> SecretStr:
    """The key that wraps the subjects' keys: made once, never replaced. Losing it would lose every sealed record."""
    name = names.keys_secret(subject.name)
    data = await secret_data(kube, subject.namespace, name)
    if data is None or MASTER_KEY not in data:
        made = base64.b64encode(os.urandom(32)).decode()
        with contextlib.suppress(Conflict):  # another process was faster: its key is the key
            await kube.create(config.secret(name, subject.namespace, subject.name, {MASTER_KEY: made}))
        data = await secret_data(kube, subject.namespace, name)
    return SecretStr((data or {}).get(MASTER_KEY, b"").decode())


async def _write(kube: Kube, subject: Subject, configs: Mapping[str, SidecarConfig], effect: Effect) -> None:
    namespace, name = subject.namespace, config_name(subject)
    live = await kube.get(SECRET, namespace, name)
    mounted = Mounted(resource=subject.name, generation=subject.resource.metadata.generation, regions=dict(configs))
    files = mounted.files()
    wanted = config.secret(name, namespace, subject.name, files)
    for action in config.applied(wanted, live):
        await effect(action, act(kube, action))
    await _write_default(kube, namespace, {subject.name: files}, effect)


async def _write_default(kube: Kube, namespace: str, contents: Mapping[str, Mapping[str, str]], effect: Effect) -> None:
    """What pods mount that name no resource. ``contents`` has the configuration of the resource at hand."""
    known = [item["metadata"]["name"] for item in await kube.list(AGENTMEMORY, namespace) if not leaving(item)]
    if len(known) == 1 and known[0] not in contents:
        return  # the one that is left writes it itself: the deletion has woken it
    default = config.shared(namespace, contents, known)
    for action in config.applied(default, await kube.get(SECRET, namespace, names.DEFAULT_CONFIG_SECRET)):
        await effect(action, act(kube, action))


async def unconfigure(kube: Kube, subject: Subject, effect: Effect) -> None:
    """The resource goes: its sidecars' configuration with it. The master key stays where the data stays."""
    gone = [config_name(subject)]
    if subject.resource.spec.deletion_policy is DeletionPolicy.DELETE and not subject.observe_only:
        gone.append(names.keys_secret(subject.name))
    for name in gone:
        if (live := await kube.get(SECRET, subject.namespace, name)) is not None:
            action = Remove("v1", "Secret", subject.namespace, name, live["metadata"]["uid"], "the resource is deleted")
            await effect(action, act(kube, action))
    namespace = await kube.get(NAMESPACE, "", subject.namespace)
    if namespace is not None and not leaving(namespace):  # nothing can be written into one that is going itself
        await _write_default(kube, subject.namespace, {}, effect)


def config_name(subject: Subject) -> str:
    return names.config_secret(subject.name)


def leaving(item: Object) -> bool:
    return bool(item["metadata"].get("deletionTimestamp"))
