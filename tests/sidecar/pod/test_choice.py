"""From what is mounted to a configuration, or to a sentence that tells the fix."""

import base64
from pathlib import Path

import pytest
from pydantic import SecretStr

from agentmemory_sidecar.pod.choice import Unconfigured, configured, same, same_stores
from agentmemory_sidecar.pod.environment import Environment
from agentmemory_sidecar.resource import Installation, LocalValues, Mounted, SidecarConfig, compile_resource
from tests.sidecar.resource.resources import resource

MASTER = base64.b64encode(bytes(32)).decode()
STORES = "ephemeral: {redis: {external: {urls: ['redis://h']}}}\nstate: {postgres: {dsn: 'postgresql://h/d'}}\n" \
    "archive: {postgres: {dsn: 'postgresql://h/d'}}"  # fmt: skip


def config(spec: str = STORES, region: str = "local", master: str = MASTER) -> SidecarConfig:
    installation = Installation(key_master=SecretStr(master))
    values = LocalValues(Path())
    return compile_resource(
        resource(spec), region, values=values, data_dir=Path("/operators"), installation=installation
    )


def mounted(one: SidecarConfig) -> bytes:
    return Mounted(resource="test", generation=1, regions={one.region: one}).dumps().encode()


def test_configuration_becomes_this_pods_own() -> None:
    around = Environment(region="anywhere", user="ann")
    chosen = configured(mounted(config()), around)
    assert chosen.identity.default_user == "ann"
    assert chosen.region == "local"
    assert Path("/operators") not in (chosen.data_dir, *chosen.data_dir.parents)
    assert configured(mounted(config()), around, Path("/data")).keys_dir == Path("/data/keys")


AROUND = Environment(region="us-east-1", namespace="agents", memory="support", secret="agentmemory-config-support")


@pytest.mark.parametrize(
    ("content", "around", "says"),
    [
        (
            None,
            AROUND,
            "the Secret agentmemory-config-support in namespace agents is missing, or has no key v1.json: the operator "
            "makes it for the AgentMemory support; look at `kubectl -n agents get agentmemory support`, and at the "
            "operator's log",
        ),
        (None, Environment(), "the Secret with its configuration is missing, or has no key v1.json: the operator makes it"
            " for the namespace's AgentMemory; look at `kubectl get agentmemory`, and"),
        (b"{}", AROUND, "there is no AgentMemory in this pod's namespace: create one"),
        (Mounted(candidates=("a", "b")).dumps().encode(), AROUND, "several AgentMemories (a, b): say which one"),
        (b"{", AROUND, "mounted configuration: as a whole: Invalid JSON"),
        (mounted(config(f"regions: [r1]\n{STORES}", "r1")), AROUND, "in the region us-east-1, and AgentMemory test has the"),
        (mounted(config(f"regions: [r1]\n{STORES}", "r1")), Environment(), "the region of this pod is not known"),
        (mounted(config("{}")), AROUND, "asks for stores inside the sidecar, and this one has no --data to keep them in"),
        (mounted(config(master="")), AROUND, "holds no key_master"),
        (mounted(config()), Environment(problems=("this is wrong", "and this")), "this is wrong; and this"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_tells_the_fix(content: bytes | None, around: Environment, says: str) -> None:
    with pytest.raises(Unconfigured) as caught:
        configured(content, around)
    assert says in str(caught.value)


def test_sidecar_with_a_place_of_its_own_needs_neither() -> None:
    assert configured(mounted(config("{}", master="")), Environment(), Path("/data")).embedded


def test_resources_generation_alone_is_no_change() -> None:
    one = config()
    assert same(one, one.model_copy(update={"generation": 7}))
    assert not same(one, one.model_copy(update={"schema_version": "7"}))


def test_stores_stay_open_over_what_does_not_concern_them() -> None:
    one = config()
    assert same_stores(one, one.model_copy(update={"filter": one.filter.model_copy(update={"budget_tokens": 1})}))
    for spec in (
        STORES.replace("redis://h", "redis://i"),
        STORES.replace("h/d", "h/e"),
        f"{STORES}\n".replace("ephemeral: {", "ephemeral: {timeout: 1s, "),
        STORES.replace("ephemeral: {", "ephemeral: {ttl: 1m, "),
    ):
        assert not same_stores(one, config(spec))
