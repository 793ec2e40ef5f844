"""Which requests are passed on, and the verb that each needs."""

import pytest

from agentmemory_operator.tools.routes import Asked, NoRoute, asked
from agentmemory_sidecar.admin.server import Admin

AT = "/namespaces/agents/agentmemories/support"


@pytest.mark.parametrize(
    ("method", "path", "verb", "session"),
    [
        ("GET", "/v1/sessions", "list", ""),
        ("GET", "/v1/sessions/a%2Fb", "get", "a%2Fb"),
        ("GET", "/v1/sessions/s/state", "get", "s"),
        ("GET", "/v1/sessions/s/conflicts", "get", "s"),
        ("GET", "/v1/sessions/s/history", "get", "s"),
        ("GET", "/v1/sessions/s/export", "get", "s"),
        ("GET", "/v1/sessions/s/explain/last", "get", "s"),
        ("PATCH", "/v1/sessions/s/state", "update", "s"),
        ("POST", "/v1/sessions/s/conflicts", "update", "s"),
        ("POST", "/v1/sessions/s/move", "update", "s"),
        ("GET", "/v1/projects/p/state", "get", "p"),
        ("PATCH", "/v1/users/u/state", "update", "u"),
        ("PATCH", "/v1/projects/p/state", "update", "p"),
        ("POST", "/v1/projects/p/conflicts", "update", "p"),
    ],
)
def test_each_request_needs_its_verb(method: str, path: str, verb: str, session: str) -> None:
    assert asked(method, AT + path) == Asked("agents", "support", verb, path, session, (path.split("/") + [""] * 4)[4])


def test_every_route_of_the_admin_api_is_one_of_ours() -> None:
    routes = [
        (route.method, str(route.resource.canonical))
        for route in Admin("").app().router.routes()
        if route.resource is not None and route.resource.canonical.startswith("/v1/") and route.method != "HEAD"
    ]
    for method, pattern in routes:
        for of in ("sessions", "projects", "users") if "{of}" in pattern else ("sessions",):
            path = pattern.replace("{of}", of).replace("{id}", "s").replace("{turn}", "2")
            assert asked(method, AT + path).path == path
    assert len(routes) > 9


def test_a_dash_is_the_only_one_of_the_namespace() -> None:
    found = asked("GET", "/namespaces/agents/agentmemories/-/v1/sessions")
    assert (found.memory, found.named) == ("", "agents/-")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics"),
        ("GET", "/v1/sessions"),
        ("GET", AT),
        ("GET", f"{AT}/metrics"),
        ("GET", f"{AT}/v1/"),
        ("GET", f"{AT}/v1/sessions/"),
        ("GET", f"{AT}/v1/sessions/.."),
        ("GET", f"{AT}/v1/sessions/%2E%2e/state"),
        ("GET", f"{AT}/v1/sessions/s/state/more"),
        ("GET", f"{AT}/v1/sessions/s/explain"),
        ("GET", f"{AT}/v1/sessions/s/explain/.."),
        ("GET", f"{AT}/v1/sessions/s/secrets"),
        ("GET", f"{AT}/v1/projects/p"),
        ("DELETE", f"{AT}/v1/sessions/s"),
        ("POST", f"{AT}/v1/sessions"),
        ("HEAD", f"{AT}/v1/sessions"),
        ("POST", f"{AT}/v1/projects/p/move"),
        ("GET", "/namespaces/Agents/agentmemories/support/v1/sessions"),
        ("GET", "/namespaces/a%2Fb/agentmemories/support/v1/sessions"),
        ("GET", "/namespaces/agents/agentmemories/../v1/sessions"),
        ("GET", "/namespaces//agentmemories/support/v1/sessions"),
    ],
)
def test_nothing_else_is_passed_on(method: str, path: str) -> None:
    with pytest.raises(NoRoute):
        asked(method, path)
