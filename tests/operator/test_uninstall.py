from typing import Any

from agentmemory_operator.names import FINALIZER
from agentmemory_operator.uninstall import refusal, told, without_finalizer


def resource(name: str = "support", finalizers: list[str] | None = None) -> dict[str, Any]:
    return {"metadata": {"namespace": "agents", "name": name, "finalizers": finalizers or []}}


def test_a_refusal_names_what_is_there_and_both_ways_on() -> None:
    said = refusal([resource("b"), resource("a")], "agentmemory-system", "am-operator")
    assert "there are 2 AgentMemory resources (agents/a, agents/b)" in said
    assert "kubectl delete agentmemory --all --all-namespaces" in said
    assert "kubectl -n agentmemory-system annotate deployment am-operator agentmemory.io/uninstall=force" in said
    assert "there is 1 AgentMemory resource (agents/a)" in refusal([resource("a")], "n", "d")


def test_a_refusal_stays_short() -> None:
    said = refusal([resource(f"n{number:03}") for number in range(200)], "n", "d")
    assert "agents/n009 and 190 more" in said
    assert "agents/n010" not in said


def test_only_our_finalizer_goes() -> None:
    assert without_finalizer(resource(finalizers=["other/one", FINALIZER])) == [
        {"op": "test", "path": "/metadata/finalizers/1", "value": FINALIZER},
        {"op": "remove", "path": "/metadata/finalizers/1"},
    ]
    assert without_finalizer(resource(finalizers=["other/one"])) == []
    assert without_finalizer({"metadata": {"name": "a"}}) == []


def test_the_deployment_may_tell_it() -> None:
    assert told({"metadata": {"annotations": {"agentmemory.io/uninstall": "force"}}})
    assert not told({"metadata": {"annotations": {"agentmemory.io/uninstall": "no"}}})
    assert not told({"metadata": {}})
    assert not told(None)
