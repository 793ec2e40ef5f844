"""Scopes and grants that contradict themselves are refused with the resource: where, why, and what to do."""

from typing import Any

import pytest

from agentmemory_sidecar.resource import ResourceError, parse
from agentmemory_sidecar.resource.scopes import Scope, ScopeEntry

Json = dict[str, Any]
SESSION: Json = {"scope": "Session"}
USER: Json = {"scope": "User", "pointers": ["/preferences"]}
PROJECT: Json = {"scope": "Project", "pointers": ["/decisions", "/context/shared"]}
READ: Json = {"to": {"users": ["ben"]}, "access": "Read", "scope": "User", "of": ["anna"]}


def resource(*scopes: Json, grants: list[Json] | None = None, **state: Any) -> Json:
    spec = {"session": {"identity": {"headers": ["X"]}}, "state": {**state, "grants": grants or []}}
    if scopes:
        spec["state"]["scopes"] = list(scopes)
    return {"apiVersion": "agentmemory.io/v1alpha1", "kind": "AgentMemory", "metadata": {"name": "a"}, "spec": spec}


def granted(**changes: Any) -> Json:
    return resource(SESSION, USER, PROJECT, grants=[{**READ, **changes}])


def test_the_short_form_is_a_list_of_one() -> None:
    assert parse(resource()).spec.state.in_order == (ScopeEntry(scope=Scope.SESSION),)
    assert parse(resource(scope="Project")).spec.state.in_order == (ScopeEntry(scope=Scope.PROJECT),)


def test_what_holds_together_is_taken() -> None:
    for scopes in ((SESSION, USER, PROJECT), (SESSION, PROJECT, USER), ({"scope": "User"}, PROJECT), (SESSION,)):
        assert parse(resource(*scopes)).spec.state.in_order[0].pointers == ()
    parse(granted(pointers=["/preferences/team"]))
    parse(granted(of=[f"u{number}" for number in range(16)], scope="Project"))
    parse(resource(SESSION, {**PROJECT, "access": "Granted"}, grants=[
        {"to": {"agents": ["*"]}, "access": "Read", "scope": "Project"}
    ]))  # fmt: skip


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        (resource(SESSION, scope="User"), "spec.state", "at most one of scope and scopes"),
        (resource(SESSION, USER, {**USER, "pointers": ["/x"]}), "scopes[2].scope", "a second time"),
        (resource({"scope": "User"}, {**SESSION, "pointers": ["/x"]}), "scopes[1].scope", "put it first"),
        (resource({**SESSION, "pointers": ["/x"]}, USER), "scopes[0].pointers", "home to all else"),
        (resource(SESSION, {"scope": "User"}), "scopes[1].pointers", "are missing"),
        (resource(SESSION, USER, {**PROJECT, "pointers": ["/preferences"]}), "scopes[2].pointers[0]", "named twice"),
        (resource(SESSION, USER, {**PROJECT, "pointers": ["/preferences/a"]}), "scopes[2].pointers[0]", "overlaps"),
        (resource(SESSION, {**USER, "pointers": ["/a/b", "/a"]}), "scopes[1].pointers[1]", "overlaps /a/b"),
        (resource(SESSION, {**USER, "pointers": [""]}), "scopes[1].pointers[0]", "the whole state"),
        (resource(SESSION, {**USER, "pointers": ["/metadata/v"]}), "scopes[1].pointers[0]", "not to be shared"),
        (resource(SESSION, {**USER, "pointers": ["/shared"]}), "scopes[1].pointers[0]", "than /shared"),
        (resource(SESSION, grants=[READ]), "grants[0].scope", "not among the scopes"),
        (granted(scope="Session"), "grants[0]", "must be User or Project"),
        (granted(to={}), "grants[0].to", "name somebody"),
        (granted(of=[]), "grants[0].of", "access: Granted"),
        (granted(of=["*"]), "grants[0].of[0]", "one by one"),
        (granted(pointers=["/decisions"]), "grants[0].pointers[0]", "not at home in User"),
        (granted(pointers=["/other"]), "grants[0].pointers[0]", "not at home in User"),
        (
            resource({"scope": "User"}, PROJECT, grants=[{**READ, "pointers": ["/memories/a.md"]}]),
            "grants[0].pointers[0]", "memory tool",
        ),
        (
            resource(SESSION, USER, grants=[{**READ, "of": [f"u{n}" for n in range(a, a + 9)]} for a in (0, 9)]),
            "spec.state.grants", "at most 16",
        ),
        (
            resource(SESSION, USER, grants=[READ], schema={"version": "3", "definition": {"properties": {"shared": {}}}}),
            "properties.shared", "name it otherwise",
        ),
    ],
)  # fmt: skip
def test_what_does_not_is_refused(given: Json, field: str, says: str) -> None:
    with pytest.raises(ResourceError) as refused:
        parse(given)
    (line,) = [one for one in str(refused.value).splitlines() if says in one]
    assert field in line, line
