"""From what is mounted, and where the pod is, to the configuration this sidecar works with: values in, a value out."""

from pathlib import Path

from agentmemory_sidecar.pod.environment import Environment
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.resource.errors import ResourceError
from agentmemory_sidecar.resource.mounted import KEY, Mounted


class Unconfigured(Exception):
    """There is no configuration to work with. The text says why, and what to do."""


def configured(content: bytes | None, around: Environment, data: Path | None = None) -> SidecarConfig:
    """The configuration in ``content`` (None: nothing is mounted), made this pod's own. ``data`` is a directory that
    outlives the sidecar, None for none. Raises :class:`Unconfigured`."""
    if around.problems:
        raise Unconfigured("; ".join(around.problems))
    if content is None:
        raise Unconfigured(missing(around))
    try:
        config = Mounted.loads(content).choose(around.region)
    except ResourceError as error:
        raise Unconfigured("; ".join(error.problems)) from None
    if data is None and config.embedded:
        raise Unconfigured(
            "the configuration asks for stores inside the sidecar, and this one has no --data to keep them in: let the "
            "operator run them (agentmemory stores), or name stores of your own in the resource"
        )
    if data is None and not config.key_master.get_secret_value():
        raise Unconfigured(
            "the configuration holds no key_master, and sealing keys that lie in this pod alone would be lost with it: let "
            "the operator write the configuration again"
        )
    place = data or Path("/nonexistent")
    return config.model_copy(
        update={"data_dir": place, "keys_dir": place / "keys", "identity": around.identity(config.identity)}
    )


def missing(around: Environment) -> str:
    """What to say where the Secret is not there (it is mounted ``optional``)."""
    secret = f"the Secret {around.secret}" if around.secret else "the Secret with its configuration"
    where = f" in namespace {around.namespace}" if around.namespace else ""
    resource = f"the AgentMemory {around.memory}" if around.memory else "the namespace's AgentMemory"
    look = f"kubectl{f' -n {around.namespace}' if around.namespace else ''} get agentmemory {around.memory}".strip()
    return (
        f"{secret}{where} is missing, or has no key {KEY}: the operator makes it for {resource}; look at `{look}`, and at "
        "the operator's log"
    )


def same(one: SidecarConfig, other: SidecarConfig) -> bool:
    """Whether they mean the same: the resource's generation also rises with what does not concern a sidecar."""
    return one == other.model_copy(update={"generation": one.generation})


def same_stores(one: SidecarConfig, other: SidecarConfig) -> bool:
    """Whether the stores that are open for one serve the other."""
    return _stores(one) == _stores(other)


def _stores(config: SidecarConfig) -> object:
    # Time-outs, the hot copy's lifetime and the endpoint's region are settings of the opened stores, too.
    return config.hot, config.state, config.archive, config.deadlines, config.window.hot_ttl_s, config.region
