"""What is another tenant's cannot be had, by any key, header or path that a client controls."""

import asyncio
from collections.abc import Callable, Mapping
from urllib.parse import quote

import pytest

from tests.claude import Match, Reply, StrictClaude
from tests.sidecar.agents import Agent, todos
from tests.sidecar.conftest import Start
from tests.sidecar.stand import SESSION_HEADER, Json, Stand

SECRET = "the vault opens with 7301"
SESSION = "s-of-the-victim"


@pytest.fixture
async def victim(start: Start, connect: Callable[..., Agent], claude: StrictClaude) -> Stand:
    """A sidecar of another tenant, on the same servers, with a secret in a session, a user's and a project's state."""
    stand = await start({
        "session": {"identity": {"headers": [SESSION_HEADER], "projectHeaders": ["X-Project"]}},
        "state": {"scopes": [
            {"scope": "Session"}, {"scope": "User", "pointers": ["/preferences"]},
            {"scope": "Project", "pointers": ["/decisions"]},
        ]},
    })  # fmt: skip
    agent = connect(stand, session=SESSION, headers={"X-User": "anna", "X-Project": "apollo"})
    claude.script(Reply(blocks=[todos(SECRET)], match=Match(session=SESSION)))
    await agent.results(await agent.good("Keep this."))
    await stand.remember(SESSION, {"preferences": {"vault": SECRET}, "decisions": [SECRET]})
    await stand.settled()
    return stand


def guesses(stand: Stand) -> list[tuple[str, Mapping[str, str]]]:
    """(path, headers) of requests that name the victim's session in every way there is."""
    tenant = stand.config.tenant
    ids = [
        SESSION, f"{tenant}/{SESSION}", f"../{tenant}/{SESSION}", f"{{{tenant}/{SESSION}}}", f"{SESSION}:agent:root",
        f"{SESSION}@root", f"{SESSION}/local", f"%2e%2e%2f{tenant}%2f{SESSION}", f"head#local/{SESSION}", "*",
        f"{SESSION[:-1]}?",
    ]  # fmt: skip
    found: list[tuple[str, Mapping[str, str]]] = []
    for one in ids:
        found.append(("/v1/messages", {SESSION_HEADER: one}))
        found.append((f"/s/{quote(one, safe='')}/v1/messages", {SESSION_HEADER: ""}))
        found.append(("/v1/messages", {SESSION_HEADER: "", "X-Claude-Code-Session-Id": one}))
    names = ("X-Tenant", "X-Agentmemory-Tenant", "X-Namespace", "Host", "Forwarded", "X-Forwarded-For")
    found += [("/v1/messages", {SESSION_HEADER: SESSION, name: tenant}) for name in names]
    return [
        (path, {**headers, "X-User": "anna", "X-Project": "apollo", "X-Claude-Code-Agent-Id": agent})
        for path, headers in found
        for agent in ("", "root", f"{tenant}/root")
    ]


SEVERAL: Json = {
    "scopes": [
        {"scope": "Session"}, {"scope": "User", "pointers": ["/active_mission"]},
        {"scope": "Project", "pointers": ["/extracted_context"]},
    ],
    "grants": [
        {"scope": "User", "of": ["anna", "dora"], "access": "Write", "to": {"users": ["*"]}},
        {"scope": "Project", "of": ["apollo", "gemini"], "access": "Write", "to": {"agents": ["*"]}},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "state",
    [{"scope": "Session"}, {"scope": "User"}, {"scope": "Project"}, SEVERAL],
    ids=["session", "user", "project", "several"],
)
async def test_no_request_reaches_another_tenants_memory(
    victim: Stand, start: Start, connect: Callable[..., Agent], claude: StrictClaude, state: Json
) -> None:
    identity = {"headers": [SESSION_HEADER], "userHeaders": ["X-User"], "projectHeaders": ["X-Project"]}
    thief = await start({"state": state, "session": {"identity": identity}})
    before = await victim.stored(SESSION)
    for path, headers in guesses(victim):
        agent = connect(thief, headers=headers, stream=False)
        agent.path = path
        asked = len(claude.requests)
        answer = await agent.send(
            messages=[{"role": "user", "content": "What opens the vault? Which sub tasks are left?"}]
        )
        assert SECRET.encode() not in answer.body
        assert all(SECRET.encode() not in request.body for request in claude.requests[asked:]), (path, headers)
    await thief.settled()
    after = await victim.stored(SESSION)
    assert (after.versions, after.body) == (before.versions, before.body)
    assert not await victim.locks(SESSION) or thief.config.tenant not in "".join(await victim.locks(SESSION))


async def test_no_admin_request_reaches_another_tenants_memory(victim: Stand, start: Start) -> None:
    thief = await start()
    tenant = victim.config.tenant
    names = [
        SESSION,
        quote(f"{tenant}/{SESSION}", safe=""),
        quote(f"../{tenant}/{SESSION}", safe=""),
        "%1fproject%1fapollo",
    ]
    paths = [
        f"/v1/sessions/{name}{rest}" for name in names for rest in ("", "/state", "/history", "/export", "/report")
    ]
    paths += ["/v1/projects/apollo/state", "/v1/users/anna/state", f"/v1/sessions?subject=user:anna&after={tenant}"]
    answers = await asyncio.gather(*(thief.admin("GET", path) for path in paths))
    for path, (status, _, body) in zip(paths, answers, strict=True):
        assert SECRET.encode() not in body, path
        assert status == (400 if "after=" in path else 404), (path, status, body)
    refused = await asyncio.gather(*(victim.admin("GET", path, token=thief.sidecar.token) for path in paths))
    assert {status for status, _, _ in refused} == {401}
