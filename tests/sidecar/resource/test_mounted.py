"""What a pod finds in its Secret: the way there and back, the choice of a region, and what is said where there is none."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from agentmemory_sidecar.resource import Installation, LocalValues, ResourceError, SidecarConfig, compile_resource
from agentmemory_sidecar.resource.mounted import LIMIT, Mounted, Unchosen
from tests.sidecar.resource.resources import resource

MASTER = base64.b64encode(bytes(range(32))).decode()
DSN = "postgresql://u:hunter2@h/d"


def config(region: str = "local", regions: str = "") -> SidecarConfig:
    spec = f"{regions}\nstate: {{postgres: {{dsn: '{DSN}'}}}}"
    return compile_resource(
        resource(spec),
        region,
        values=LocalValues(Path()),
        data_dir=Path("/data"),
        installation=Installation(key_master=SecretStr(MASTER)),
    )


def two_regions() -> Mounted:
    named = ("us-east-1", "us-west-2")
    regions = "regions: [us-east-1, us-west-2]"
    return Mounted(resource="test", generation=3, regions={name: config(name, regions) for name in named})


def test_it_survives_the_way_through_a_secret() -> None:
    mounted = two_regions()
    text = mounted.dumps()

    assert Mounted.loads(text) == Mounted.loads(text.encode()) == mounted
    assert tuple(Mounted.loads(text).regions) == ("us-east-1", "us-west-2")
    assert DSN in text
    assert MASTER in text
    assert Mounted.loads(text).choose("us-west-2").master == bytes(range(32))


def test_secrets_show_nowhere_else() -> None:
    for shown in (repr(two_regions()), str(two_regions()), two_regions().model_dump_json()):
        assert "hunter2" not in shown
        assert MASTER not in shown


def test_each_region_has_its_own() -> None:
    assert two_regions().choose("us-west-2").region == "us-west-2"


@pytest.mark.parametrize("region", ["", "us-east-1"])
def test_resource_without_regions_serves_everywhere(region: str) -> None:
    assert Mounted(resource="test", regions={"local": config()}).choose(region).region == "local"


@pytest.mark.parametrize(
    ("mounted", "region", "says"),
    [
        (
            two_regions(),
            "",
            "region of this pod is not known, .*us-east-1, us-west-2: set the annotation agentmemory.io/r",
        ),
        (
            two_regions(),
            "eu-west-1",
            "in the region eu-west-1, .*us-east-1, us-west-2: add eu-west-1 to spec.regions, or",
        ),
        (Mounted(candidates=("a", "b")), "us-east-1", r"several AgentMemories \(a, b\): .*agentmemory.io/memory"),
        (Mounted(), "us-east-1", "no AgentMemory in this pod's namespace: create one"),
    ],
)
def test_what_cannot_be_chosen_names_the_fix(mounted: Mounted, region: str, says: str) -> None:
    with pytest.raises(Unchosen, match=says):
        mounted.choose(region)


def changed(**change: Any) -> str:
    return json.dumps({**json.loads(two_regions().dumps()), **change})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (changed(format=2), "mounted configuration: format: Input should be 1"),
        (changed(candidates=["a"]), "candidates are for when no resource is chosen"),
        (changed(resource=""), "resource and regions come together"),
        (changed(regions={}), "resource and regions come together"),
        (
            changed(regions={"us-east-1": {"tenant": ["hunter2"]}}),
            "regions.us-east-1.tenant: Input should be a valid str",
        ),
        (changed(regions={"here": json.loads(config().dumps())}), "another region under here"),
        ("{", "mounted configuration: as a whole: Invalid JSON"),
        ("", "mounted configuration: as a whole: Invalid JSON"),
        (" " * LIMIT + "{", f"has {LIMIT + 1} bytes, at most {LIMIT}"),
    ],
)
def test_what_is_not_of_this_form_is_refused_without_quoting_it(text: str, says: str) -> None:
    with pytest.raises(ResourceError, match=says) as caught:
        Mounted.loads(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("master", ["hunter2", base64.b64encode(b"short").decode(), MASTER + "="])
def test_master_key_of_another_size_is_refused(master: str) -> None:
    text = json.dumps({**json.loads(config().dumps()), "key_master": master})
    with pytest.raises(ResourceError, match="key_master: Value error, must be 32 bytes as base64") as caught:
        SidecarConfig.loads(text)
    assert master not in str(caught.value)


def test_no_master_key_is_none() -> None:
    assert config().model_copy(update={"key_master": SecretStr("")}).master == b""


def test_configuration_that_is_too_large_for_a_secret_is_refused() -> None:
    one = config()
    large = one.model_copy(update={"filter": one.filter.model_copy(update={"pinned": ("/x" * LIMIT,)})})
    with pytest.raises(ResourceError, match="has room for 524288: name fewer"):
        Mounted(resource="test", regions={"local": large}).dumps()
