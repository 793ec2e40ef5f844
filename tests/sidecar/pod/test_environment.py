"""What a pod says of itself: the order of regions, identity, base URLs, and what is wrong with them."""

import pytest

from agentmemory_sidecar.pod.environment import Environment
from agentmemory_sidecar.resource.config import IdentityConfig

REGIONS = {
    "AGENTMEMORY_REGION_ANNOTATION": "us-east-1",
    "AGENTMEMORY_REGION_LABEL": "us-west-2",
    "AGENTMEMORY_REGION_DEFAULT": "eu-west-1",
}


@pytest.mark.parametrize(
    ("empty", "region"), [((), "us-east-1"), ((0,), "us-west-2"), ((0, 1), "eu-west-1"), ((0, 1, 2), "")]
)
def test_region_is_the_annotations_then_the_nodes_then_the_installations(empty: tuple[int, ...], region: str) -> None:
    """The downward API gives an empty text for an annotation or label that is not there."""
    names = list(REGIONS)
    assert Environment.read(REGIONS | {names[number]: "" for number in empty}).region == region
    assert Environment.read({name: REGIONS[name] for n, name in enumerate(names) if n not in empty}).region == region


def test_nothing_said_is_nothing_wrong() -> None:
    assert Environment.read({}) == Environment()


def test_pod_comes_before_the_resources_defaults() -> None:
    given = IdentityConfig(default_user="somebody", default_project="something", user_headers=("x-user",))
    assert Environment.read({"AGENTMEMORY_USER": "ann"}).identity(given) == given.model_copy(
        update={"default_user": "ann"}
    )
    assert Environment.read({"AGENTMEMORY_USER": " ", "AGENTMEMORY_PROJECT": ""}).identity(given) == given


def test_base_urls_come_by_container() -> None:
    around = Environment.read({"AGENTMEMORY_UPSTREAMS": '{"agent": "https://gateway/x/", "b": "http://h:1"}'})
    assert around.upstreams == {"agent": "https://gateway/x/", "b": "http://h:1"}
    assert around.problems == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "AGENTMEMORY_UPSTREAMS must be a JSON object"),
        ('["a"]', "AGENTMEMORY_UPSTREAMS must be a JSON object"),
        ('{"agent": "gateway:80"}', "the base URL of container agent must begin with http:// or https://: correct the"),
        ('{"agent": 1}', "container agent"),
    ],
)
def test_base_urls_that_are_none_are_a_problem(text: str, says: str) -> None:
    around = Environment.read({"AGENTMEMORY_UPSTREAMS": text})
    assert around.upstreams == {}
    (problem,) = around.problems
    assert says in problem


@pytest.mark.parametrize(("text", "required"), [("true", True), ("True", True), ("false", False), ("", False)])
def test_backend_may_be_required(text: str, required: bool) -> None:
    assert Environment.read({"AGENTMEMORY_REQUIRE_BACKEND": text}).require_backend is required
