import json
from pathlib import Path

import pytest

from agentmemory_sidecar.resource import LocalValues, ResourceError, SidecarConfig, compile_resource
from tests.sidecar.resource.resources import resource

SECRET = "postgresql://u:hunter2@h/d"


def config() -> SidecarConfig:
    spec = f"state: {{postgres: {{dsn: '{SECRET}'}}}}"
    return compile_resource(resource(spec), "local", values=LocalValues(Path()), data_dir=Path("/data"))


def test_it_survives_the_way_through_a_mounted_secret() -> None:
    assert SidecarConfig.loads(config().dumps()) == config()
    assert SECRET in config().dumps()


def test_secrets_show_nowhere_else() -> None:
    assert "hunter2" not in repr(config())
    assert "hunter2" not in str(config())
    assert "hunter2" not in config().model_dump_json()


def test_it_is_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config().tenant = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "sidecar configuration: format: Input should be 1"),
        ({"region": "elsewhere"}, "region is not one of regions"),
        ({"surprise": "hunter2"}, "sidecar configuration: surprise: Extra inputs are not permitted"),
        ({"state": {"kind": "postgres", "dsn": ["hunter2"]}}, "state.postgres.dsn: Input should be a valid string"),
    ],
)
def test_another_form_is_refused_without_quoting_it(change: dict[str, object], message: str) -> None:
    with pytest.raises(ResourceError, match=message) as caught:
        SidecarConfig.loads(json.dumps({**json.loads(config().dumps()), **change}))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(ResourceError, match="sidecar configuration"):
        SidecarConfig.loads("{")
